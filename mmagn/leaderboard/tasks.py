"""The frozen tasks and their rows: ids, split and label of everyone who has the same pairs."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from functools import cache
from pathlib import Path

import numpy as np
import yaml
from astropy.table import Table

from mmagn.config.run_config import RunConfig
from mmagn.labels.config import NO_CUT, CatalogConfig, LabelsConfig
from mmagn.matching.config import SplitsConfig
from mmagn.matching.sky import sky_group
from mmagn.matching.splits import PUBLISHED_NSIDE
from mmagn.records import SPLITS
from mmagn.runs.sample import labelled_sample
from mmagn.storage.table_reading import read_table
from mmagn.storage.tables import checked_suffix, table_file

ROW_COLUMNS = ("object_id", "ra_deg", "dec_deg", "cell", "split", "target", "task")
BPT = "bpt"


@dataclass(frozen=True, kw_only=True)
class Task:
    """A frozen question.

    Attributes
    ----------
    name, title
        Its name, and what it asks.
    label
        ``bpt``, or the preset of a catalogue.
    inputs
        What an entry may look at.
    """

    name: str
    title: str
    label: str
    inputs: str


@cache
def tasks() -> Mapping[str, Task]:
    """Return the tasks by name."""
    content = yaml.safe_load((Path(__file__).resolve().parent / "tasks.yaml").read_text(encoding="utf-8"))
    return {name: Task(name=name, **each) for name, each in content.items()}


def task_of(name: str) -> Task:
    """Return the task of a name; ``ValueError`` where there is none."""
    if name not in tasks():
        raise ValueError(f"--task is {name}; allowed: {', '.join(tasks())}")
    return tasks()[name]


def write_rows(config: RunConfig, task: Task, out: Path) -> str:
    """Write the rows of a task to a table, and return what was written in words."""
    checked_suffix(out)
    rows = task_rows(config, task)
    with table_file(out) as append:
        append(rows)
    counts = ", ".join(f"{name} {int(np.sum(rows['split'] == name))}" for name in SPLITS)
    return f"{out}: {len(rows)} rows of the task {task.name} ({counts}), fingerprint {rows_fingerprint(rows)}"


def task_rows(config: RunConfig, task: Task) -> Table:
    """Return the rows of a task (object): ``ROW_COLUMNS``, ascending in ``object_id``.

    Parameters
    ----------
    config
        Where the pairs come from; label scheme and split are those of the task, whatever the settings say.
    task
        Which task.

    Raises
    ------
    ValueError
        Where the task needs a table of labels that ``labels.catalog.table`` does not name, or settings of
        ``labels.catalog`` would make it another task.
    """
    labels = LabelsConfig(catalog=_task_catalog(config.labels.catalog, task))
    sample = labelled_sample(replace(config, labels=labels, splits=SplitsConfig(scheme="published")))
    ra_deg, dec_deg = sample.column("ra_deg"), sample.column("dec_deg")
    columns = (
        sample.object_id,
        ra_deg,
        dec_deg,
        sky_group(ra_deg, dec_deg, PUBLISHED_NSIDE),
        sample.split,
        sample.target.astype(np.int64),
        np.full(len(ra_deg), task.name),
    )
    table = Table(dict(zip(ROW_COLUMNS, columns, strict=True)))
    table.sort("object_id")
    table.meta = {"TASK": task.name, "ROWS": rows_fingerprint(table)}
    return table


def _task_catalog(settings: CatalogConfig, task: Task) -> CatalogConfig:
    """Settings of the labels of a task: of those of a run, where the table is and how it is written."""
    kept = {} if task.label == BPT else {name: getattr(settings, name) for name in ("table", "columns", "missing")}
    if task.label != BPT and not settings.table:
        raise ValueError(
            f"the task {task.name} needs a table of labels; name it by labels.catalog.table (preset {task.label})"
        )
    catalog = CatalogConfig() if task.label == BPT else CatalogConfig(**kept, preset=task.label, quality=NO_CUT)
    for each in fields(CatalogConfig):
        value = getattr(settings, each.name)
        if value not in (each.default, getattr(catalog, each.name)):
            raise ValueError(
                f"labels.catalog.{each.name} is {value}, but the task {task.name} has its own labels; allowed: "
                f"{'labels.catalog.' + ', labels.catalog.'.join(kept) if kept else 'no setting of labels.catalog'}"
            )
    return catalog


def read_rows(path: Path, task: Task) -> Table:
    """Return the rows of a task from a file; ``ValueError`` where it is none, or has those of another label."""
    table = read_table(path)
    if missing := [name for name in ROW_COLUMNS if name not in table.colnames]:
        raise ValueError(f"{path} has no column {missing[0]}; rows of a task have {', '.join(ROW_COLUMNS)}")
    for name in ("object_id", "split", "task"):
        table[name] = np.asarray(table[name]).astype(np.str_)
    for name in np.unique(table["task"]).tolist():
        if name not in tasks() or tasks()[name].label != task.label:
            raise ValueError(f"{path} has rows of the task {name}, whose labels are not those of {task.name}")
    ids, counts = np.unique(table["object_id"], return_counts=True)
    if (counts > 1).any():
        raise ValueError(f"{path} has the object {ids[counts > 1][0]} more than once")
    if wrong := [value for value in np.asarray(table["target"]).tolist() if value not in (0, 1)]:
        raise ValueError(f"{path} has the target {wrong[0]}; allowed: 0 and 1")
    if unknown := sorted(set(table["split"].tolist()) - set(SPLITS)):
        raise ValueError(f"{path} has the split {unknown[0]}; allowed: {', '.join(SPLITS)}")
    return table


def rows_fingerprint(rows: Table) -> str:
    """Return a digest of ids, splits and labels: equal exactly where two people have the same rows."""
    lines = sorted(
        f"{name} {split} {int(label)}"
        for name, split, label in zip(*(rows[each].tolist() for each in ("object_id", "split", "target")), strict=True)
    )
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16]
