"""The content of a run folder, read for its report: tables, JSON, training curves, provenance."""

import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from astropy.table import Table
from numpy.typing import NDArray
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

Curves = dict[str, dict[str, list[tuple[float, float]]]]
"""(epoch, value) pairs by quantity and by ``train`` or ``validation``; epochs count from 1."""
QUANTITIES = ("loss", "average_precision")
EPOCH_TAG = "epoch"


def read_json(path: Path) -> dict[str, Any]:
    """Return the JSON object of a file, an empty one where there is no such file."""
    return dict(json.loads(path.read_text(encoding="utf-8"))) if path.is_file() else {}


def read_table(path: Path) -> Table | None:
    """Return the table of a Parquet or CSV file, None where there is no such file."""
    if not path.is_file():
        return None
    return Table.read(path, format="parquet" if path.suffix == ".parquet" else "ascii.csv")


def training_curves(folder: Path) -> Curves:
    """Return loss and average precision of training and validation by epoch, from TensorBoard events."""
    curves: Curves = {}
    if not folder.is_dir():
        return curves
    logging.getLogger("tensorboard").setLevel(logging.WARNING)  # else it logs every file that it opens
    events = EventAccumulator(str(folder), size_guidance={"scalars": 0, "images": 1, "histograms": 1})
    events.Reload()
    tags = events.Tags()["scalars"]
    epoch_at = {event.step: event.value for event in events.Scalars(EPOCH_TAG)} if EPOCH_TAG in tags else {}
    for quantity in QUANTITIES:
        for split in ("train", "validation"):
            if (tag := f"{split}/{quantity}") in tags:
                curve = {epoch_at.get(event.step, event.step + 1): event.value for event in events.Scalars(tag)}
                curves.setdefault(quantity, {})[split] = sorted(curve.items())
    return curves


def rows_of(table: Table, object_id: NDArray[np.str_]) -> Table:
    """Return the rows of a table of measurements in the order of some ids; ``ValueError`` where one is not there."""
    place = {name: row for row, name in enumerate(np.asarray(table["object_id"], dtype=np.str_).tolist())}
    if missing := [name for name in object_id.tolist() if name not in place]:
        raise ValueError(f"measurements.parquet lacks object {missing[0]}, which has a prediction")
    return table[[place[name] for name in object_id.tolist()]]


def provenance_rows(recorded: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return name and value of what ``run.json`` records: commit, machine, versions."""
    commit = recorded.get("commit", "unknown")
    if recorded.get("uncommitted_changes"):
        commit += " with uncommitted changes"
    machine: Mapping[str, Any] = recorded.get("machine", {})
    gpus = ", ".join(machine.get("cuda_devices", [])) or "none"
    versions: Mapping[str, str] = recorded.get("versions", {})
    return [
        ("commit", commit),
        ("started", recorded.get("started", "unknown")),
        ("machine", f"{machine.get('platform', 'unknown')}, {machine.get('cpus', '?')} processors, GPUs: {gpus}"),
        ("Python", recorded.get("python", "unknown")),
        ("versions", ", ".join(f"{name} {version}" for name, version in versions.items())),
    ]
