"""Damaged inputs and killed processes: how every command ends on them, counted."""

import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from itertools import accumulate
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any

from benchmarks.kills import failed_kills, failed_worker_kills

sys.path.append(str(Path(__file__).parents[2] / "tests"))  # the damages of the tests

if TYPE_CHECKING:
    from sound_inputs import Outcome

LIMIT_S = 900.0
"""A command that has not ended by then hangs."""
SHARES = {
    "HDF5 tree": 25,
    "HATS catalogue": 10,
    "match index": 10,
    "store": 15,
    "run folder": 10,
    "run folder without checksums": 8,
    "config file": 12,
    "command line": 10,
}
"""Per cent of the inputs."""


def fault_benchmark(*, inputs: int, kills: int, worker_kills: int, seed: int) -> None:
    """Print how commands end on damaged inputs and after kills; exit with 1 where one ends as none may.

    Parameters
    ----------
    inputs
        Damaged inputs, of all kinds together.
    kills, worker_kills
        Kills of the main process and of a worker, at random moments.
    seed
        Seed of the damages and the moments.
    """
    with tempfile.TemporaryDirectory() as name:
        failures = _failed_inputs(Path(name), inputs, seed) if inputs else 0
        failures += failed_kills(Path(name), kills, seed)
        failures += failed_worker_kills(Path(name), worker_kills, seed)
    raise SystemExit(1 if failures else 0)


def _failed_inputs(base: Path, inputs: int, seed: int) -> int:
    """Number of inputs that ended as none may; prints a line for each, and the counts."""
    counts: Counter[tuple[str, str]] = Counter()
    failures = 0
    for kind, number, outcome in _outcomes(base, inputs, seed):
        counts[kind, outcome.state] += 1
        if counts.total() % 100 == 0:
            print(f"{counts.total()} inputs, {failures} of which ended as none may", flush=True)
        if not outcome.allowed:
            failures += 1
            print(
                f"{kind} {number}: {outcome.state} on {outcome.damage}\n  {outcome.command}\n  {outcome.message}",
                flush=True,
            )
    states = ["0", "2", "1", *sorted({state for _, state in counts} - {"0", "2", "1"})]
    print("\ninput".ljust(31) + "".join(f"{'exit ' * (len(state) == 1) + state:>16}" for state in states))
    for kind in SHARES:
        print(kind.ljust(30) + "".join(f"{counts[kind, state]:16d}" for state in states))
    print(f"{inputs} inputs, {failures} of which ended as none may (1 is what verify returns where it finds damage)")
    return failures


def _outcomes(base: Path, inputs: int, seed: int) -> Iterator[tuple[str, int, "Outcome"]]:
    """Kind, number and outcome of each input; the process that runs the commands is replaced where it dies or hangs."""
    from sound_inputs import Outcome

    last = [round(inputs * share / 100) for share in accumulate(SHARES.values())]
    kinds = [kind for kind, first, end in zip(SHARES, [0, *last], last, strict=False) for _ in range(first, end)]
    connection: Connection | None = None
    for number, kind in enumerate(kinds):
        if connection is None:
            connection, process = _server(base)
        connection.send((kind, f"{seed} {number}"))
        try:
            answer = connection.recv() if connection.poll(LIMIT_S) else Outcome("hang", "unknown", kind, "")
        except EOFError:
            answer = Outcome("crash", "unknown", kind, "the process died")
        if answer.state in ("hang", "crash"):
            process.kill()
            process.join()
            connection = None
        yield kind, number, answer
    if connection is not None:
        connection.close()


def _server(base: Path) -> tuple[Connection, Any]:
    context = get_context("spawn")
    connection, child = context.Pipe()
    process = context.Process(target=_serve, args=(base, child), daemon=False)
    process.start()
    child.close()
    return connection, process


def _serve(base: Path, connection: Connection) -> None:
    """Answer with the outcome of each damage that is requested."""
    from fault_inputs import attempt
    from sound_inputs import World

    world = World(base / "sound")
    while True:
        try:
            kind, seed = connection.recv()
        except EOFError:
            return
        with tempfile.TemporaryDirectory(dir=base) as folder:
            connection.send(attempt(world, kind, Random(seed), Path(folder) / "input"))
