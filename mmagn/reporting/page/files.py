"""What a run folder holds, read for its report: tables, JSON, the curves of the training, where it comes from."""

import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from astropy.table import Table
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from mmagn.storage.run_folder import RunFolder

Curves = dict[str, dict[str, list[tuple[float, float]]]]
"""(epoch, value) pairs by quantity and by ``train`` or ``validation``."""
QUANTITIES = ("loss", "average_precision")
EPOCH_TAG = "epoch"


def read_json(path: Path) -> dict[str, Any]:
    """Return the JSON object of a file, an empty one where there is no such file."""
    if not path.is_file():
        return {}
    found = json.loads(path.read_text(encoding="utf-8"))
    return dict(found)


def read_table(path: Path) -> Table | None:
    """Return the table of a Parquet or CSV file, None where there is no such file."""
    if not path.is_file():
        return None
    return Table.read(path, format="parquet" if path.suffix == ".parquet" else "ascii.csv")


def training_curves(folder: Path) -> Curves:
    """Return loss and average precision of training and validation by epoch, as TensorBoard events tell them."""
    found: Curves = {}
    if not folder.is_dir():
        return found
    logging.getLogger("tensorboard").setLevel(logging.WARNING)  # else it tells of every file that it opens
    events = EventAccumulator(str(folder), size_guidance={"scalars": 0, "images": 1, "histograms": 1})
    events.Reload()
    tags = events.Tags()["scalars"]
    epoch_at = {event.step: event.value for event in events.Scalars(EPOCH_TAG)} if EPOCH_TAG in tags else {}
    for quantity in QUANTITIES:
        for which in ("train", "validation"):
            if (tag := f"{which}/{quantity}") in tags:
                curve = {epoch_at.get(event.step, event.step): event.value for event in events.Scalars(tag)}
                found.setdefault(quantity, {})[which] = sorted(curve.items())
    return found


def rows_of(table: Table, object_id: np.ndarray[Any, np.dtype[np.str_]]) -> Table:
    """Return the rows of a table of measurements in the order of some ids.

    Raises
    ------
    ValueError
        Where an id is not in the table.
    """
    place = {name: row for row, name in enumerate(np.asarray(table["object_id"], dtype=np.str_).tolist())}
    if missing := [name for name in object_id.tolist() if name not in place]:
        raise ValueError(f"measurements.parquet has no object {missing[0]}, which predictions were made of")
    return table[[place[name] for name in object_id.tolist()]]


def origin(run: RunFolder) -> list[tuple[str, str]]:
    """Return name and value of what ``run.json`` says: command, commit, machine, versions."""
    told = read_json(run.provenance)
    commit = told.get("commit", "unknown")
    if told.get("uncommitted_changes"):
        commit += " with uncommitted changes"
    machine: Mapping[str, Any] = told.get("machine", {})
    gpus = ", ".join(machine.get("cuda_devices", [])) or "none"
    rows = [
        ("command", told.get("command", "unknown")),
        ("commit", commit),
        ("started", told.get("started", "unknown")),
        ("machine", f"{machine.get('platform', 'unknown')}, {machine.get('cpus', '?')} processors, GPUs: {gpus}"),
        ("Python", told.get("python", "unknown")),
    ]
    versions: Mapping[str, str] = told.get("versions", {})
    return [*rows, ("versions", ", ".join(f"{name} {version}" for name, version in versions.items()))]
