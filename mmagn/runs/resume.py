"""Which run is gone on with: one that was stopped or killed, whose settings and checkpoint are still good."""

import logging
from pathlib import Path
from typing import Any

from mmagn.config.run_config import RunConfig, differing_settings, load_config
from mmagn.storage.run_folder import RunFolder
from mmagn.training.checkpoints import good_checkpoint

AUTO = "auto"
NEEDS = ("config.yaml", "split.parquet", "scaling.json", "measurements.parquet")
MAY_DIFFER = (
    "runs_dir",
    "data.cache_dir",
    "data.root",
    "dask.",
    "spectroscopy.device",
    "spectroscopy.batch_size",
    "tensors.residency",
    "tensors.workers",
    "training.epochs",
    "training.patience",
    "training.device",
    "training.nodes",
    "training.precision",
    "training.compile",
    "training.log_every",
    "training.figures_every",
    "training.checkpoint_every_minutes",
    "evaluation.",
    "ablation.",
    "search.",
)
"""Settings, or beginnings of their names, that a run may be gone on with in another way: where things are, how fast,
for how long, and what is said of it. The pairs themselves are known by the fingerprint of their store."""

logger = logging.getLogger(__name__)


def run_to_resume(config: RunConfig, resume: str) -> RunFolder | None:
    """Run folder to go on with; None starts a new run.

    Parameters
    ----------
    config
        Settings of the run.
    resume
        A run folder; ``auto`` for the latest of that name whose settings agree and that has a good checkpoint; "" for
        none.

    Raises
    ------
    FileNotFoundError, ValueError
        Where a run folder is named that is not there, not complete, or was made with other settings.
    """
    if resume == AUTO:
        return _latest_run(config)
    if not resume:
        return None
    run = RunFolder.open(resume, needs=NEEDS)
    for name, (now, then) in disagreements(config, load_config(run.config)).items():
        raise ValueError(f"{run.path} was begun with {name} {then}, not {now}; go on as it was, or start a new run")
    good_checkpoint(run)
    return run


def disagreements(config: RunConfig, begun: RunConfig) -> dict[str, tuple[Any, Any]]:
    """Settings, with both values, that keep a run from being gone on with."""
    differing = differing_settings(config, begun)
    return {name: values for name, values in differing.items() if not name.startswith(MAY_DIFFER)}


def _latest_run(config: RunConfig) -> RunFolder | None:
    for path in sorted(Path(config.runs_dir).glob(f"*-{config.name}*"), reverse=True):
        try:
            run = RunFolder.open(path, needs=NEEDS)
            if differing := disagreements(config, load_config(run.config)):
                logger.info("%s is not gone on with: it was begun with another %s", path, ", ".join(differing))
                continue
            good_checkpoint(run)
        except (FileNotFoundError, ValueError) as error:
            logger.warning("%s is not gone on with: %s", path, error)
            continue
        logger.info("going on with %s", path)
        return run
    logger.info("no run %s in %s to go on with: a new one begins", config.name, config.runs_dir)
    return None
