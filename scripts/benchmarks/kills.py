"""Commands whose main process or one of whose workers is killed, and whether they end like undisturbed ones."""

import json
import os
import random
import shutil
import signal
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

import psutil
import torch

sys.path.append(str(Path(__file__).parents[2] / "tests"))  # the sound inputs of the tests

SMALL_ABLATION = {
    "ablation.folds": "2",
    "ablation.repeats": "1",
    "ablation.features_epochs": "2",
    "ablation.members": "[]",
    "ablation.variants": "handcrafted,masked-spectrum",
    "ablation.questions": "[handcrafted - masked-spectrum]",
    "models.spectrum.widths": "4,8",
}


TOO_LATE = "ended before"
"""Instead of an exit code, where a command ended before it could be killed."""


@dataclass(frozen=True)
class Command:
    """A command that is killed.

    Attributes
    ----------
    arguments
        Its command line for a folder of results.
    result
        What an undisturbed one and a resumed one must agree in.
    workers
        Options with which it does its work in other processes; none where it has no workers.
    """

    arguments: Callable[[Path], list[str]]
    result: Callable[[Path], Any]
    workers: tuple[str, ...] = ()


def failed_kills(base: Path, kills: int, seed: int) -> int:
    """Return after how many kills of the main process the same command does not end like an undisturbed one."""
    return _failures(base, kills, seed, "main process", killed=_killed_after)


def failed_worker_kills(base: Path, kills: int, seed: int) -> int:
    """Return after how many kills of a worker the command does not end like an undisturbed one."""
    return _failures(base, kills, seed, "worker", killed=_worker_killed_after)


def _failures(base: Path, kills: int, seed: int, victim: str, killed: Callable[[Sequence[str], float], str]) -> int:
    if not kills:
        return 0
    torch.set_num_threads(1)  # a forked process has none of its parent's threads, and sums depend on their number
    draws, same = random.Random(seed), 0
    of_workers = victim == "worker"
    commands = {name: each for name, each in _commands(base).items() if each.workers or not of_workers}
    wholes: dict[str, tuple[Any, float]] = {}
    for number in range(kills):
        name = list(commands)[number % len(commands)]
        command, extra = commands[name], commands[name].workers if of_workers else ()
        if name not in wholes:
            _ended(
                [*command.arguments(base / "warm" / victim / name), *extra]
            )  # caches are filled; the second run is timed
            started_s = time.monotonic()
            assert _ended([*command.arguments(base / "whole" / victim / name), *extra]) == "0", name
            wholes[name] = command.result(base / "whole" / victim / name), time.monotonic() - started_s
        whole, seconds = wholes[name]
        folder, moment_s = base / "killed" / f"{victim} {number}", draws.uniform(0, seconds)
        arguments = [*command.arguments(folder), *extra]
        while (end := killed(arguments, moment_s)) == TOO_LATE:
            shutil.rmtree(folder, ignore_errors=True)
            moment_s /= 2
            assert moment_s > 1e-4, f"no {victim} of {name} can be killed"
        if not of_workers:
            end = f"{end}, run again: {_ended(arguments)}"
        agree = end.endswith("0") and command.result(folder) == whole and not _leftovers(folder)
        same += agree
        print(
            f"{number + 1:3d}  {name}: {victim} killed after {moment_s:.2f} of {seconds:.2f} s ({end}): "
            + ("same result" if agree else f"DIFFERENT {_leftovers(folder)}"),
            flush=True,
        )
        shutil.rmtree(folder, ignore_errors=True)
    print(f"{victim} killed: same result as without a kill in {same} of {kills}")
    return kills - same


def _commands(base: Path) -> dict[str, Command]:
    from sound_inputs import World, content_of

    world = World(base / "sound")
    tree, store = world.source("hdf5", world.tree), world.source("store", world.store)
    ablation = [text for name, value in SMALL_ABLATION.items() for text in (f"--{name}", value)]

    def table(folder: Path) -> Any:
        return content_of(folder / "table.csv")

    def runs(folder: Path) -> list[str]:
        return ["--runs_dir", str(folder / "runs")]

    def fits(folder: Path) -> list[str]:
        return [*store, *runs(folder), "--ablation.fits_dir", str(folder / "fits")]

    train = ["train", "--config", "handcrafted.yaml", *store, "--training.epochs", "4", "--resume", "auto"]
    often = ["--training.checkpoint_every_minutes", "0"]
    predict = ["predict", "--run", str(world.run), *store]
    return {
        "match": Command(
            lambda folder: ["match", *tree, "--out", str(folder / "store")],
            lambda folder: json.loads((folder / "store" / "mmagn.json").read_text(encoding="utf-8"))["files"],
            ("--matching.workers", "2"),
        ),
        "measure": Command(
            lambda folder: ["measure", *tree, "--out", str(folder / "table.csv")], table, ("--workers", "2")
        ),
        "train": Command(
            lambda folder: [*train, *often, *runs(folder)],
            lambda folder: [_only(folder, name).read_bytes() for name in ("weights.safetensors", "scores.json")],
        ),
        "ablate": Command(
            lambda folder: ["ablate", "--config", "ablation.yaml", *fits(folder), *ablation],
            lambda folder: json.loads(_only(folder, "ablation.json").read_text(encoding="utf-8")),
            ("--ablation.workers", "2"),
        ),
        "predict": Command(
            lambda folder: [*predict, "--out", str(folder / "table.csv"), "--workers", "0"], table, ("--workers", "2")
        ),
    }


def _only(folder: Path, name: str) -> Path:
    """The file of that name in a run folder, of which there must be one; a run without a checkpoint has none."""
    (path,) = (folder / "runs").glob(f"*/{name}")
    return path


def _leftovers(folder: Path) -> list[str]:
    """Names of what a killed process left behind and nobody removed."""
    names = (path.name for path in folder.rglob(".*"))
    return sorted(name for name in names if not name.endswith("lock"))


def _started(arguments: Sequence[str]) -> int:
    """Process number of a command that runs in a silent process with all modules loaded."""
    from sound_inputs import run_command, undrawn

    process = os.fork()
    if process:
        return process
    try:
        os.setsid()
        with undrawn(), patch("mmagn.matching.shard_files.PAIRS_PER_PROCESS", 1):
            state, message = run_command(arguments)
        if state != "0":
            sys.stderr.write(message)
        os._exit(int(state) if state.isdigit() else 1)
    except BaseException:
        os._exit(1)


def _end_of(process: int) -> str:
    """Exit code or signal of a process as text."""
    return str(os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]))


def _ended(arguments: Sequence[str]) -> str:
    return _end_of(_started(arguments))


def _killed_after(arguments: Sequence[str], moment_s: float) -> str:
    process = _started(arguments)
    time.sleep(moment_s)
    os.kill(process, signal.SIGKILL)  # a process that has ended waits for its parent, which is this one
    end = _end_of(process)
    return TOO_LATE if end == "0" else end


def _worker_killed_after(arguments: Sequence[str], moment_s: float) -> str:
    """Kill a worker at that moment or, where there is none then, the first one that is seen."""
    process = _started(arguments)
    time.sleep(moment_s)
    while True:
        try:
            children = psutil.Process(process).children(recursive=True)
            workers = [child for child in children if "spawn_main" in " ".join(child.cmdline())]
            if workers:
                random.choice(workers).kill()
                return _end_of(process)
            if psutil.Process(process).status() == psutil.STATUS_ZOMBIE:
                _end_of(process)
                return TOO_LATE
        except psutil.NoSuchProcess:
            pass
        time.sleep(0.05)
