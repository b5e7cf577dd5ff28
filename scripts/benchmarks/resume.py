"""Kill a training process at random moments, resume it, and compare its weights with those of an undisturbed run."""

import dataclasses
import logging
import os
import random
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any, Literal

import torch

from mmagn.config.run_config import RunConfig, load_config
from mmagn.pipeline import train
from mmagn.runs import scoring
from mmagn.storage.run_folder import RunFolder
from mmagn.training.checkpoints import good_checkpoint, read_checkpoint
from mmagn.training.module import AgnModule

GOAL = "same final weights at every kill point"
EPOCHS = 4
COMPARED = ("state_dict", "optimizer_states", "global_step")
"""Entries of a last checkpoint that must agree, with the moving average of the weights."""
GPU_TOLERANCE = 1e-3
"""Largest difference of any number in them on a GPU, some of whose kernels add in no fixed order."""


def resume_benchmark(kills: int, pairs: int, device: Literal["cpu", "cuda"], seed: int) -> None:
    """Print, for each kill, its moment, the step from which the run was resumed, and whether the weights agree.

    Parameters
    ----------
    kills
        Random moments: a step, and a time within it that may fall into a step, a checkpoint or a validation.
    pairs
        Pairs of the embedded survey.
    device
        Where it trains; on a GPU the weights may differ by ``GPU_TOLERANCE``.
    seed
        Seed of the moments.
    """
    torch.set_num_threads(1)  # a forked process has none of its parent's threads, and sums depend on their number
    draws = random.Random(seed)
    with tempfile.TemporaryDirectory() as folder:
        base = Path(folder)
        config = _config(base, pairs, device)
        tolerance = GPU_TOLERANCE if device == "cuda" else 0.0
        _ended(lambda: train(config))  # the first run makes the store and what was measured; the second is timed
        started_s = time.monotonic()
        _ended(lambda: train(_in(config, base / "whole")))
        whole = _only_run(base / "whole")
        steps = int(read_checkpoint(whole.last)["global_step"])
        print(f"undisturbed run on {device}: {steps} steps, {time.monotonic() - started_s:.0f} s", flush=True)
        same = 0
        for number in range(1, kills + 1):
            here = _in(config, base / f"kill-{number}")
            step, delay_s = draws.randint(1, steps), draws.uniform(0, 0.1)
            killed = _ended(lambda here=here, step=step, delay_s=delay_s: _killed_training(here, step, delay_s))
            run = _only_run(base / f"kill-{number}")
            resumed = int(read_checkpoint(good_checkpoint(run))["global_step"])
            _ended(lambda here=here: train(here, resume="auto"))
            agree = _same_end(run, whole, tolerance)
            same += agree
            event = "killed" if killed == signal.SIGKILL else "ended before the kill"
            print(
                f"{number:3d}  {event} {1000 * delay_s:3.0f} ms into step {step:3d}, resumed after step {resumed:3d}: "
                + ("same weights" if agree else "DIFFERENT"),
                flush=True,
            )
    print(f"{GOAL}: {same} of {kills}")


def _config(base: Path, pairs: int, device: Literal["cpu", "cuda"]) -> RunConfig:
    """A fused network with average, schedule and accumulation, and a checkpoint after every step."""
    config = load_config("fused.yaml")
    replace = dataclasses.replace
    return replace(
        config,
        runs_dir=str(base / "first"),
        data=replace(config.data, cache_dir=str(base / "cache"), simulate=replace(config.data.simulate, pairs=pairs)),
        tensors=replace(config.tensors, image_size=32),
        training=replace(
            config.training,
            epochs=EPOCHS,
            batch_size=8,
            accumulate=2,
            ema=0.9,
            schedule="cosine",
            warmup_epochs=0.5,
            device=device,
            checkpoint_every_minutes=0.0,
        ),
        evaluation=replace(config.evaluation, bootstrap_draws=50),
    )


def _in(config: RunConfig, runs_dir: Path) -> RunConfig:
    return dataclasses.replace(config, runs_dir=str(runs_dir))


def _only_run(runs_dir: Path) -> RunFolder:
    (path,) = runs_dir.iterdir()
    return RunFolder(path)


def _killed_training(config: RunConfig, step: int, delay_s: float) -> None:
    """Train, and be killed some time after that optimiser step starts."""
    original = AgnModule.training_step
    seen: list[int] = []

    def training_step(module: AgnModule, batch: Any, batch_idx: int) -> torch.Tensor:
        if module.global_step + 1 == step and not seen:
            seen.append(step)
            threading.Timer(delay_s, os.kill, (os.getpid(), signal.SIGKILL)).start()
        return original(module, batch, batch_idx)

    AgnModule.training_step = training_step  # type: ignore[method-assign]
    train(config)


def _ended(action: Callable[[], object]) -> int:
    """Run something in a silent process of its own and return the signal that ended it, 0 where none did."""
    child = os.fork()
    if child == 0:
        logging.disable(logging.WARNING)
        scoring.scored_run = lambda *_: None  # type: ignore[assignment] # scores and figures affect no weights
        try:
            with Path(os.devnull).open("w", encoding="utf-8") as nowhere, redirect_stdout(nowhere):
                action()
        except BaseException as error:
            sys.stderr.write(f"{type(error).__name__}: {error}\n")
            os._exit(1)
        os._exit(0)
    status = os.waitpid(child, 0)[1]
    if os.WIFEXITED(status) and os.WEXITSTATUS(status):
        raise SystemExit(1)
    return os.WTERMSIG(status)


def _same_end(run: RunFolder, whole: RunFolder, tolerance: float) -> bool:
    states = [read_checkpoint(folder.last) for folder in (run, whole)]
    ours, theirs = ([*(state[name] for name in COMPARED), state["callbacks"]["MovingAverage"]] for state in states)
    return _equal(ours, theirs, tolerance)


def _equal(left: Any, right: Any, tolerance: float) -> bool:
    """Return whether nested plain values and tensors agree within a tolerance."""
    if isinstance(left, torch.Tensor):
        return torch.equal(left, right) or bool((left.double() - right.double()).abs().max() <= tolerance)
    if isinstance(left, dict):
        counts = {"updates"} if tolerance else set()  # on a GPU only 0 or more matters
        return left.keys() == right.keys() and all(
            _equal(left[name], right[name], tolerance) for name in left.keys() - counts
        )
    if isinstance(left, list | tuple):
        pairs = zip(left, right, strict=True)
        return len(left) == len(right) and all(_equal(one, other, tolerance) for one, other in pairs)
    return bool(left == right)
