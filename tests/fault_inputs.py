"""Damaged inputs of every kind, given to the commands that read them.

Shared by the tests and by ``scripts/benchmark.py faults``.
"""

import json
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from random import Random

import yaml
from damages import damage_file, strange_options
from sound_inputs import Outcome, World

from mmagn.config.run_config import RunConfig, config_dict
from mmagn.matching.index_file import INDEX_FILE
from mmagn.storage.run_folder import SEALED, RunFolder


def attempt(world: World, kind: str, rng: Random, folder: Path) -> Outcome:
    """Return how a command ends on a damaged copy, in a new folder, of an input of that kind."""
    (folder / "out").mkdir(parents=True)
    return KINDS[kind](world, rng, folder)


def linked(source: Path, target: Path) -> Path:
    """Return a copy of a folder whose files are those of the original until they are written anew."""
    shutil.copytree(source, target, copy_function=os.link)
    return target


def damaged_member(
    folder: Path, rng: Random, pattern: str = "*", damage: Callable[[Path, Random], str] = damage_file
) -> str:
    """Damage one file of a folder of links."""
    files = sorted(path for path in folder.rglob(pattern) if path.is_file() and path.name != ".lock")
    path = rng.choice(files)
    content = path.read_bytes()
    path.unlink()
    if rng.random() < 0.03:
        return f"{path.name} missing"
    path.write_bytes(content)
    return damage(path, rng)


def _hdf5(world: World, rng: Random, folder: Path) -> Outcome:
    tree = linked(world.tree, folder / "tree")
    damage = damaged_member(tree / rng.choice(("sdss", "hsc")), rng, "*.hdf5")
    source = world.source("hdf5", tree)
    return _of_pairs(world, rng, folder, source, damage)


def _hats(world: World, rng: Random, folder: Path) -> Outcome:
    tree = linked(world.hats, folder / "hats")
    damage = damaged_member(tree / rng.choice(("sdss", "hsc")), rng)
    return _of_pairs(world, rng, folder, world.source("hats", tree), damage)


def _of_pairs(world: World, rng: Random, folder: Path, source: list[str], damage: str) -> Outcome:
    """Match, plan or measure a damaged source."""
    command = rng.choice((["match"], ["match", "--plan"], ["measure"], ["measure"]))
    out = folder / "out" / ("table.csv" if command == ["measure"] else "folder")
    return world.outcome([*command, *source, "--out", str(out)], damage, out)


def _index(world: World, rng: Random, folder: Path) -> Outcome:
    index = folder / INDEX_FILE
    shutil.copyfile(world.index, index)
    damage, out = damage_file(index, rng), folder / "store"
    source = world.source("hdf5", world.tree)
    return world.outcome(["match", *source, "--index", str(index), "--out", str(out)], damage, out)


def _store(world: World, rng: Random, folder: Path) -> Outcome:
    store = linked(world.store, folder / "store")
    damage = damaged_member(store, rng)
    if rng.random() < 0.3:
        return _verified(world, store, world.store, damage)
    command = rng.choice((["measure"], ["predict", "--run", str(world.run), "--workers", "0"]))
    place = world.base / f"{command[0]}.csv"
    sound = world.sound([*command, *world.source("store", world.store), "--out", str(place)], place)
    out = folder / "out" / "table.csv"
    return world.outcome([*command, *world.source("store", store), "--out", str(out)], damage, out, sound)


def _verified(world: World, folder: Path, original: Path, damage: str) -> Outcome:
    """Verify a folder; to find nothing is silent where it holds something else than the original."""
    outcome = world.outcome(["verify", str(folder)], damage, folder / "nothing")
    return replace(outcome, state="silent change") if outcome.state == "0" and not _same(folder, original) else outcome


def _same(left: Path, right: Path) -> bool:
    """Return whether two folders hold the same files."""
    names = {path.relative_to(folder) for folder in (left, right) for path in folder.rglob("*") if path.is_file()}
    return all(
        (left / name).is_file()
        and (right / name).is_file()
        and (left / name).read_bytes() == (right / name).read_bytes()
        for name in names
    )


def _sealed(world: World, rng: Random, folder: Path) -> Outcome:
    """Damage a result of a run that has checksums."""
    run = linked(world.run, folder / world.run.name)
    names = json.loads(RunFolder(run).provenance.read_text(encoding="utf-8"))["files"]
    damage = damaged_member(run, rng, rng.choice(sorted(names)))
    if rng.random() < 0.3:
        return _verified(world, run, world.run, damage)
    return _of_run(world, rng, run, damage, checked=True)


def _unsealed(world: World, rng: Random, folder: Path) -> Outcome:
    """Damage a file of a run without checksums, or the record of the run."""
    run = RunFolder(linked(world.run, folder / world.run.name))
    record = json.loads(run.provenance.read_text(encoding="utf-8"))
    run.provenance.unlink()
    run.provenance.write_text(json.dumps({**record, "files": {}}), encoding="utf-8")
    files = [each.name for each in run.path.iterdir() if each.suffix in SEALED]
    return _of_run(world, rng, run.path, damaged_member(run.path, rng, rng.choice(sorted(files))), checked=False)


def _of_run(world: World, rng: Random, run: Path, damage: str, *, checked: bool) -> Outcome:
    """Give a damaged run folder to a command that reads it; with ``checked`` its result is that of the sound folder."""
    command = rng.choices(list(READERS), [weight for weight, _ in READERS.values()])[0]
    arguments_and_result = READERS[command][1]
    sound = None
    if checked:
        original = world.base / "sound" / command / world.run.name
        if not original.is_dir():
            linked(world.run, original)
        sound = world.sound(*arguments_and_result(original))
    arguments, out = arguments_and_result(run)
    return world.outcome(arguments, damage, out, sound)


def _prediction(run: Path) -> tuple[list[str], Path]:
    out = run.parent / "table.csv"
    return ["predict", "--run", str(run), "--workers", "0", "--out", str(out)], out


READERS: dict[str, tuple[int, Callable[[Path], tuple[list[str], Path]]]] = {
    "predict": (10, _prediction),
    "report": (6, lambda run: (["report", "--run", str(run)], run / "report.html")),
    "evaluate": (3, lambda run: (["evaluate", "--run", str(run)], run / "scores.json")),
    "train": (1, lambda run: (["train", "--resume", str(run)], run / "scores.json")),
}
"""Commands that read a run: how often they are drawn, and arguments and result of each."""


def _yaml(world: World, rng: Random, folder: Path) -> Outcome:
    path = folder / "settings.yaml"
    path.write_text(yaml.safe_dump(json.loads(json.dumps(config_dict(RunConfig())))), encoding="utf-8")
    damage = damage_file(path, rng)
    return world.outcome(["train", "--config", str(path), "--print_config"], damage, folder / "nothing")


def _options(world: World, rng: Random, folder: Path) -> Outcome:
    options = strange_options(rng)
    if rng.random() < 0.8:
        return world.outcome(["train", *options, "--print_config"], "options", folder / "nothing")
    out = folder / "out" / "table.csv"
    return world.outcome(["measure", *options, *world.source("hdf5", world.tree), "--out", str(out)], "options", out)


KINDS: dict[str, Callable[[World, Random, Path], Outcome]] = {
    "HDF5 tree": _hdf5,
    "HATS catalogue": _hats,
    "match index": _index,
    "store": _store,
    "run folder": _sealed,
    "run folder without checksums": _unsealed,
    "config file": _yaml,
    "command line": _options,
}
"""Kinds of damaged input."""
