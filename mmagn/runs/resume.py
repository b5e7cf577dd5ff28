"""Which run is gone on with: one that was stopped or killed, whose settings and checkpoint are still good."""

import logging
from pathlib import Path
from typing import Any

from mmagn.config.run_config import RunConfig, differing_settings, load_config
from mmagn.storage.run_folder import RunFolder
from mmagn.storage.settings import Effect, settings_affecting
from mmagn.training.checkpoints import good_checkpoint

AUTO = "auto"
NEEDS = ("config.yaml", "split.parquet", "scaling.json", "measurements.parquet")
DECIDING: tuple[Effect, ...] = ("pairs", "measurements", "labels", "tensors", "fit")
"""Stages that a resumed run takes over as they were; where their settings differ it would be another run."""

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
    deciding = {name for each in (config, begun) for name in settings_affecting(each, *DECIDING, resumable=False)}
    return {name: values for name, values in differing.items() if name in deciding}


def _latest_run(config: RunConfig) -> RunFolder | None:
    for path in sorted(Path(config.runs_dir).glob(f"*-{config.name}*"), reverse=True):
        try:
            run = RunFolder.open(path, needs=NEEDS)
            begun = load_config(run.config)
            if begun.name != config.name:
                continue
            if differing := disagreements(config, begun):
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
