"""The run folder to resume: a stopped or killed run with the same settings and a readable checkpoint."""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mmagn.config.run_config import RunConfig, differing_settings, load_config
from mmagn.storage.checksums import check_archive
from mmagn.storage.run_folder import RunFolder
from mmagn.storage.settings import Effect
from mmagn.training.checkpoints import good_checkpoint

AUTO = "auto"
NEEDS = ("config.yaml", "split.parquet", "scaling.json", "measurements.parquet")
DECIDING: tuple[Effect, ...] = ("pairs", "measurements", "labels", "tensors", "fit")
"""Stages that a resumed run continues with unchanged settings."""

logger = logging.getLogger(__name__)


def run_to_resume(config: RunConfig, resume: str) -> RunFolder | None:
    """Return the run folder to resume; None where a new run is to be started.

    ``resume`` is a run folder; ``auto`` for the latest one of that name with the same settings and a readable
    checkpoint; "" for none. ``FileNotFoundError`` or ``ValueError`` where the named one does not exist, is not
    complete, or has other settings.
    """
    if resume == AUTO:
        return _latest_run(config)
    if not resume:
        return None
    run = RunFolder.open(resume, needs=NEEDS)
    for name, (now, then) in disagreements(config, load_config(run.config)).items():
        raise ValueError(
            f"{run.path} was started with {name} {then}, not {now}; resume it with that setting, or start a new run"
        )
    _check_checkpoints(run)
    return run


def disagreements(config: RunConfig, started: RunConfig) -> dict[str, tuple[Any, Any]]:
    """Return the settings, with both values, that prevent a run from being resumed."""
    differing = differing_settings(config, started)
    deciding = {name for each in (config, started) for name in each.fit_settings(*DECIDING, resumable=False)}
    return {name: values for name, values in differing.items() if name in deciding}


def first_difference(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> tuple[str, Any, Any] | None:
    """Return the first name whose values differ, in alphabetical order, and both values; a missing one is None."""
    for name in sorted({*ours, *theirs}):
        if ours.get(name) != theirs.get(name):
            return name, ours.get(name), theirs.get(name)
    return None


def _runs_named(config: RunConfig) -> list[Path]:
    """Run folders whose name begins with that of a config, the latest first."""
    return sorted(Path(config.runs_dir).glob(f"*-{config.name}*"), reverse=True)


def unfinished_run(config: RunConfig) -> RunFolder | None:
    """Return the latest run folder of the same settings that a killed process left before its results were sealed."""
    for path in _runs_named(config):
        run = RunFolder(path)
        if run.config.is_file() and not run.in_use():
            try:
                if not run.sealed() and not differing_settings(config, load_config(run.config)):
                    logger.info("continuing in %s, which was not completed", path)
                    return run
            except ValueError:
                continue
    return None


def _check_checkpoints(run: RunFolder) -> None:
    """Raise where there is no checkpoint to resume, or the best one so far, which a resumed run keeps, is damaged."""
    good_checkpoint(run)
    if run.best.is_file():
        check_archive(run.best)


def _latest_run(config: RunConfig) -> RunFolder | None:
    for path in _runs_named(config):
        try:
            run = RunFolder.open(path, needs=NEEDS)
            started = load_config(run.config)
            if started.name != config.name:
                continue
            if differing := disagreements(config, started):
                logger.info("%s is not resumed: it was started with another %s", path, ", ".join(differing))
                continue
            _check_checkpoints(run)
        except (FileNotFoundError, ValueError) as error:
            logger.warning("%s is not resumed: %s", path, error)
            continue
        logger.info("resuming %s", path)
        return run
    logger.info("no run %s in %s to resume: starting a new one", config.name, config.runs_dir)
    return None
