"""Writing a store: shards into a hidden folder beside the store, which is renamed once it is complete.

A run that is stopped, by whatever, leaves its finished shards in the hidden folder. The name of that folder holds the
fingerprint of settings and sources, and the next run with the same fingerprint resumes from there.
"""

import errno
import shutil
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import astropy.units as u
import numpy as np
from astropy.table import Table, vstack
from datasets import DatasetInfo
from datasets.config import DATASET_INFO_FILENAME
from tqdm import tqdm

from mmagn.matching.index import NoPairsError, PairIndex
from mmagn.matching.provenance import Provenance, write_provenance
from mmagn.matching.rows import IMAGE_VALUES, pair_features
from mmagn.matching.shard_files import ShardRecord, ShardTask, remove_records, remove_unfinished, write_shards
from mmagn.matching.shards import pair_shards
from mmagn.storage.checksums import assume_sound, stored_file
from mmagn.storage.files import write_json
from mmagn.surveys.reader import SurveyReader

STATE_FILE = "state.json"
POSITIONS_FILE = "positions.parquet"
POSITIONS_KEPT = 50_000
"""Positions of each survey that a store keeps for maps; of a larger survey every n-th."""
SPECTRUM_BYTES = 4 * 4 * 4700
"""Bytes of the four columns of a spectrum, for the estimate of a store's size."""


def save_store(path: Path, index: PairIndex, reader: SurveyReader, made_from: Provenance, workers: int = 1) -> None:
    """Write the pairs of an index into a new store.

    A store must have one writer at a time, which ``pair_store`` ensures with a lock: hidden folders that a stopped
    writer with other settings or sources left behind are removed first.

    Parameters
    ----------
    path
        Folder of the store, missing or empty.
    index, reader
        The matches, and the source of their pixels.
    made_from
        Settings and sources of both; its report is not used.
    workers
        Most processes that write at the same time.

    Raises
    ------
    NoPairsError
        Where no pair has a usable cutout and spectrum.
    ValueError
        Where the disk is too small; the message states how much is needed.
    """
    partial = _partial_folder(path, made_from)
    image_dtype = str(made_from.settings["matching.image_dtype"])
    tasks = [
        ShardTask(folder=partial, number=number, shard=shard, reader=reader, image_dtype=image_dtype)
        for number, shard in enumerate(pair_shards(index))
    ]
    try:
        if shutil.disk_usage(partial).free < _needed_bytes(tasks):
            raise ValueError(_disk_sentence(partial, path, tasks))
        records = _records(tasks, workers)
        if not any(record.pairs for record in records):
            raise NoPairsError(_nothing_usable(len(index.matches), records))
        _describe(partial, index, records, made_from, image_dtype)
        remove_records(partial)
        partial.rename(path)
        for record in records:
            if record.written is not None:
                assume_sound(path / record.file)
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise ValueError(_disk_sentence(partial, path, tasks)) from error
    except NoPairsError:
        remove_records(partial)
        raise
    finally:
        if partial.is_dir() and not remove_unfinished(partial):
            shutil.rmtree(partial)


def _partial_folder(path: Path, made_from: Provenance) -> Path:
    """Return the hidden folder to write into, with what an earlier run of the same has finished."""
    prefix = f".{path.name}.partial-"
    partial = path.parent / f"{prefix}{made_from.fingerprint[:16]}"
    path.parent.mkdir(parents=True, exist_ok=True)
    for other in path.parent.iterdir():
        if other.name.startswith(prefix) and other != partial:
            shutil.rmtree(other)
    partial.mkdir(exist_ok=True)
    remove_unfinished(partial)
    return partial


def _records(tasks: Sequence[ShardTask], workers: int) -> list[ShardRecord]:
    """Write all shards and return their records in the order of the shards."""
    records = []
    total = sum(len(task.shard) for task in tasks)
    with tqdm(total=total, desc="storing pairs", unit="pair", disable=None) as progress:
        for record in write_shards(tasks, workers):
            records.append(record)
            progress.update(record.pairs + len(record.lost))
    return sorted(records, key=lambda record: record.file)


def _nothing_usable(matched: int, records: Sequence[ShardRecord]) -> str:
    drops = _total(record.drops for record in records)
    reasons = ", ".join(f"{count} x {reason}" for reason, count in drops.items())
    return f"none of the {matched} matched pairs is usable: {reasons}"


def _describe(
    folder: Path, index: PairIndex, records: Sequence[ShardRecord], made_from: Provenance, image_dtype: str
) -> None:
    """Write the descriptions of the Arrow files that ``datasets`` and mmagn read."""
    DatasetInfo(features=pair_features(image_dtype)).write_to_directory(str(folder))
    state: dict[str, Any] = {
        "_data_files": [{"filename": record.file} for record in records if record.pairs],
        "_fingerprint": made_from.fingerprint[:16],
        "_format_columns": None,
        "_format_kwargs": {},
        "_format_type": None,
        "_output_all_columns": False,
        "_split": None,
    }
    write_json(folder / STATE_FILE, state)
    _write_positions(folder / POSITIONS_FILE, index)
    report = {
        **index.report.as_dict(),
        "pairs_stored": sum(record.pairs for record in records),
        "pair_drops": _total(record.drops for record in records),
        "pairs_lost": [sentence for record in records for sentence in record.lost],
        "pixels_changed": _total(record.changed for record in records),
    }
    files = {record.file: record.written for record in records if record.written is not None}
    files |= {name: stored_file(folder / name) for name in (DATASET_INFO_FILENAME, STATE_FILE, POSITIONS_FILE)}
    write_provenance(folder, replace(made_from, report=report, files=files))


def _total(counts: Iterable[Mapping[str, int]]) -> dict[str, int]:
    total: Counter[str] = Counter()
    for each in counts:
        total.update(each)
    return dict(sorted(total.items()))


def _write_positions(path: Path, index: PairIndex) -> None:
    tables = []
    for survey, catalog in (("sdss", index.sdss), ("hsc", index.hsc)):
        kept = slice(None, None, -(-len(catalog) // POSITIONS_KEPT))
        ra_deg, dec_deg = catalog.ra_deg[kept] * u.deg, catalog.dec_deg[kept] * u.deg
        tables.append(Table({"survey": [survey] * len(ra_deg), "ra_deg": ra_deg, "dec_deg": dec_deg}))
    vstack(tables).write(path, format="parquet", overwrite=True)


def _needed_bytes(tasks: Sequence[ShardTask]) -> int:
    """Return about how many bytes the shards will take that have no file yet."""
    pairs = sum(len(task.shard) for task in tasks if not task.path.exists())
    return pairs * (2 * IMAGE_VALUES * np.dtype(tasks[0].image_dtype).itemsize + SPECTRUM_BYTES)


def _disk_sentence(partial: Path, path: Path, tasks: Sequence[ShardTask]) -> str:
    needed, free = _needed_bytes(tasks), shutil.disk_usage(partial).free
    stored = [task.path for task in tasks if task.path.exists()]
    kept = f"; what is stored already waits in {partial}" if stored else ""
    return (
        f"the store {path} needs about {needed / 1e9:.3g} GB {'more ' if stored else ''}and the disk has "
        f"{free / 1e9:.3g} GB free; make room, choose another folder, or set matching.image_dtype to float16{kept}"
    )
