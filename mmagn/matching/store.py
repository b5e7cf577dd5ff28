"""Pairs on disk: one memory-mapped Arrow file that mmagn and ``datasets.load_from_disk`` both open.

A store is a folder with ``pairs.arrow``, the two descriptions that ``datasets`` wants, and ``mmagn.json`` with the
settings, the source files and the match report. It is written beside its final place and moved there whole.
"""

import errno
import hashlib
import json
import os
import shutil
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

import astropy.units as u
import numpy as np
import pyarrow as pa
from astropy.table import Table, vstack
from datasets import DatasetInfo
from filelock import FileLock
from numpy.typing import NDArray
from tqdm import tqdm

from mmagn.matching.config import MatchingConfig
from mmagn.matching.index import NoPairsError, PairIndex, pair_index
from mmagn.matching.provenance import (
    Provenance,
    read_provenance,
    refuse_other_settings,
    refuse_other_sources,
    store_settings,
    write_provenance,
)
from mmagn.matching.rows import (
    IMAGE_SHAPE,
    IMAGE_VALUES,
    INDEX_COLUMNS,
    column_views,
    cutout_from_row,
    pair_features,
    pair_from_row,
    pair_row,
    rows_batch,
    spectrum_from_row,
)
from mmagn.matching.shards import pair_shards, shard_pairs
from mmagn.matching.sky import MatchReport
from mmagn.records import BANDS, Cutout, Pair, Spectrum
from mmagn.surveys.config import DataConfig
from mmagn.surveys.readers import SurveyReader, survey_reader

ARROW_FILE = "pairs.arrow"
POSITIONS_FILE = "positions.parquet"
POSITIONS_KEPT = 50_000
"""Positions of each survey that a store keeps for maps; of a larger survey every n-th."""
ROWS_PER_BATCH = 32
SPECTRUM_BYTES = 4 * 4 * 4700
"""Bytes of the four columns of a spectrum, for the estimate of a store's size."""
_UNITS = {"ra_deg": u.deg, "dec_deg": u.deg, "separation_arcsec": u.arcsec, "i_magnitude": u.ABmag}
_CLASS_COLUMNS = ("survey", "zwarning", "spectral_class", "spectral_subclass")


class PairStore:
    """Pairs of a store by number, read as views of its memory-mapped file.

    Arrays that come out are read-only and stay valid as long as they are held. The object can be sent to
    DataLoader workers: it opens the file anew there.

    Parameters
    ----------
    path
        Folder of the store.

    Raises
    ------
    FileNotFoundError
        Where the folder is missing.
    ValueError
        Where it is no store, or its file cannot be read.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._provenance = read_provenance(path)
        try:
            with pa.memory_map(str(path / ARROW_FILE)) as mapped, pa.ipc.open_stream(mapped) as reader:
                self._batches = list(reader)
        except (pa.ArrowInvalid, OSError) as error:
            raise ValueError(f"{path / ARROW_FILE} cannot be read: {error}") from error
        self._starts = np.cumsum([0, *(batch.num_rows for batch in self._batches)])
        self._views = [column_views(batch) for batch in self._batches]
        if len(self) != self._provenance.report["pairs_stored"]:
            raise ValueError(
                f"{path / ARROW_FILE} holds {len(self)} pairs of the {self._provenance.report['pairs_stored']} "
                "that were stored: it is cut short"
            )

    def __reduce__(self) -> tuple[type["PairStore"], tuple[Path]]:
        return PairStore, (self.path,)

    def __len__(self) -> int:
        """Return the number of pairs."""
        return int(self._starts[-1])

    @property
    def fingerprint(self) -> str:
        """Hexadecimal sha256 of the settings and source files behind the pairs."""
        return self._provenance.fingerprint

    @property
    def settings(self) -> Mapping[str, Any]:
        """Settings that shaped the pairs, by dotted name."""
        return self._provenance.settings

    @property
    def report(self) -> dict[str, Any]:
        """Match report, and what was left out or changed while writing."""
        return dict(self._provenance.report)

    @property
    def report_text(self) -> str:
        """The report as a short text for people."""
        report = self._provenance.report
        losses = [f"dropped: {count} x {reason}" for reason, count in sorted(report["pair_drops"].items())]
        losses += [f"changed: {count} x {what}" for what, count in sorted(report["pixels_changed"].items())]
        stored = f"pairs stored: {report['pairs_stored']} in {self.path}"
        return "\n".join([str(MatchReport.from_dict(report)), *losses, stored])

    def pair(self, number: int) -> Pair:
        """Return one pair."""
        return pair_from_row(self._row(number))

    def cutout(self, number: int) -> Cutout:
        """Return the cutout of one pair; its images are float32, widened where the store holds float16."""
        return cutout_from_row(self._row(number))

    def spectrum(self, number: int) -> Spectrum:
        """Return the spectrum of one pair."""
        return spectrum_from_row(self._row(number))

    def image(self, number: int) -> tuple[NDArray[np.floating[Any]], NDArray[np.floating[Any]]]:
        """Return flux and ivar of one cutout, each (band, height, width), as stored, without a copy."""
        views, row = self._place(number)
        return views["image_flux"][row].reshape(IMAGE_SHAPE), views["image_ivar"][row].reshape(IMAGE_SHAPE)

    @property
    def index(self) -> Table:
        """Table of all pairs without pixels: the index columns, survey, warning and class, i magnitude."""
        columns = {}
        for name in (*INDEX_COLUMNS, *_CLASS_COLUMNS):
            values = np.concatenate([batch.column(name).to_numpy(zero_copy_only=False) for batch in self._batches])
            columns[name] = values.astype(np.str_) if values.dtype == object else values
        magnitude = np.concatenate([views["magnitude"] for views in self._views])
        table = Table({**columns, "i_magnitude": magnitude[:, BANDS.index("i")]})
        for name in table.colnames:
            unit = _UNITS.get(name.removeprefix("sdss_").removeprefix("hsc_"))
            if unit is not None:
                table[name].unit = unit
        return table

    def positions(self, of: Literal["sdss", "hsc", "pairs"]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return RA and Dec (object,) in degrees of a survey, matched or not (at most 50,000), or of the pairs."""
        if of == "pairs":
            index = self.index
            return np.asarray(index["sdss_ra_deg"]), np.asarray(index["sdss_dec_deg"])
        table = Table.read(self.path / POSITIONS_FILE, format="parquet")
        members = np.asarray(table["survey"]) == of
        return np.asarray(table["ra_deg"][members]), np.asarray(table["dec_deg"][members])

    def _place(self, number: int) -> tuple[Mapping[str, Any], int]:
        if not 0 <= number < len(self):
            raise IndexError(f"pair {number} of the store {self.path}; allowed: 0 to {len(self) - 1}")
        batch = int(np.searchsorted(self._starts, number, side="right")) - 1
        return self._views[batch], int(number - self._starts[batch])

    def _row(self, number: int) -> dict[str, Any]:
        views, row = self._place(number)
        return {name: view[row] for name, view in views.items()}


def open_store(path: Path, settings: Mapping[str, Any] | None = None) -> PairStore:
    """Return the store in a folder; with ``settings`` it is refused where it was made with others.

    Raises
    ------
    FileNotFoundError, ValueError
        Where the folder is no store, or by the name of the setting that differs.
    """
    store = PairStore(path)
    if settings is not None:
        refuse_other_settings(path, store._provenance, settings)
    return store


def pair_store(data: DataConfig, matching: MatchingConfig, out: Path | None = None) -> PairStore:
    """Return the store of pairs behind the settings, made now where it is not there yet.

    ``data.source`` store opens ``data.root``. The other sources make the store in ``out`` or, without it, in a folder
    of ``data.cache_dir`` whose name follows from settings and source files, so that other settings make another one.

    Raises
    ------
    NoPairsError
        Where nothing matches.
    ValueError
        Where ``out`` holds a store of other settings or sources (named), or something else; where the disk is full.
    """
    if data.source == "store":
        return open_store(Path(str(data.root)).expanduser(), store_settings(matching, None))
    reader = survey_reader(data)
    settings, sources = store_settings(matching, reader), reader.sources()
    asked = Provenance(settings=settings, sources=sources, report={})
    stores = Path(data.cache_dir).expanduser() / "stores"
    path = out.expanduser() if out is not None else stores / asked.fingerprint[:16]
    with _writing(path, stores):
        if _occupied(path):
            store = open_store(path, settings)
            refuse_other_sources(path, store._provenance, sources)
            return store
        return save_store(path, pair_index(data, matching), reader, asked)


def _occupied(path: Path) -> bool:
    return path.exists() and not (path.is_dir() and not any(path.iterdir()))


def _writing(path: Path, stores: Path) -> FileLock:
    """Return a lock that lets one process at a time make the store in ``path``; the others then find it made."""
    locks = stores / "locks"
    locks.mkdir(parents=True, exist_ok=True)
    return FileLock(locks / f"{hashlib.sha256(str(path.resolve()).encode()).hexdigest()[:16]}.lock")


def save_store(path: Path, index: PairIndex, reader: SurveyReader, made_from: Provenance) -> PairStore:
    """Write the pairs of an index into a new store and return it.

    Everything is written into a hidden folder beside ``path`` and renamed at the end; on any error that folder is
    removed. Folders that a killed writer of the same store left behind are removed first, so a store must have one
    writer at a time, as ``pair_store`` sees to.

    Raises
    ------
    NoPairsError
        Where no pair has a usable cutout and spectrum.
    ValueError
        Where the disk is too small; the sentence says how much is needed.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    for leftover in path.parent.glob(f".{path.name}.partial-*"):
        shutil.rmtree(leftover)
    image_dtype = str(made_from.settings["matching.image_dtype"])
    needed = _needed_bytes(len(index.matches), image_dtype)
    if shutil.disk_usage(path.parent).free < needed:
        raise ValueError(_disk_sentence(path, needed))
    partial = Path(tempfile.mkdtemp(prefix=f".{path.name}.partial-", dir=path.parent))
    try:
        report = _write_pairs(partial, index, reader, image_dtype)
        _write_positions(partial / POSITIONS_FILE, index)
        write_provenance(partial, Provenance(settings=made_from.settings, sources=made_from.sources, report=report))
        partial.chmod(0o755)
        partial.rename(path)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise ValueError(_disk_sentence(path, needed)) from error
        raise
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return PairStore(path)


def _needed_bytes(pairs: int, image_dtype: str) -> int:
    return pairs * (2 * IMAGE_VALUES * np.dtype(image_dtype).itemsize + SPECTRUM_BYTES)


def _disk_sentence(path: Path, needed: int) -> str:
    free = shutil.disk_usage(path.parent).free
    return (
        f"the store {path} needs about {needed / 1e9:.3g} GB and the disk has {free / 1e9:.3g} GB free; "
        "make room, choose another folder, or set matching.image_dtype to float16"
    )


def _write_pairs(folder: Path, index: PairIndex, reader: SurveyReader, image_dtype: str) -> dict[str, Any]:
    """Write the Arrow file and what ``datasets`` wants beside it; return the report."""
    drops: Counter[str] = Counter()
    changed: Counter[str] = Counter()
    features = pair_features(image_dtype)
    shards = pair_shards(index)
    pairs = (pair for shard in shards for pair in shard_pairs(shard, reader, drops))
    rows = (pair_row(pair, image_dtype, changed) for pair in pairs)
    stored = 0
    progress = tqdm(total=len(index.matches), desc="storing pairs", unit="pair", disable=None)
    with progress, (folder / ARROW_FILE).open("wb") as file, pa.ipc.new_stream(file, features.arrow_schema) as stream:
        for chunk in _chunks(rows, ROWS_PER_BATCH):
            stream.write_batch(rows_batch(chunk, features))
            stored += len(chunk)
            progress.update(len(chunk))
        stream.close()
        file.flush()
        os.fsync(file.fileno())
    if not stored:
        reasons = ", ".join(f"{count} x {reason}" for reason, count in sorted(drops.items()))
        raise NoPairsError(f"none of the {len(index.matches)} matched pairs is usable: {reasons}")
    DatasetInfo(features=features).write_to_directory(str(folder))
    state: dict[str, Any] = {
        "_data_files": [{"filename": ARROW_FILE}],
        "_fingerprint": hashlib.sha256(str(folder).encode()).hexdigest()[:16],
        "_format_columns": None,
        "_format_kwargs": {},
        "_format_type": None,
        "_output_all_columns": False,
        "_split": None,
    }
    (folder / "state.json").write_text(json.dumps(state, indent=1), encoding="utf-8")
    return {
        **index.report.as_dict(),
        "pairs_stored": stored,
        "pair_drops": dict(drops),
        "pixels_changed": dict(changed),
    }


def _write_positions(path: Path, index: PairIndex) -> None:
    tables = []
    for survey, catalog in (("sdss", index.sdss), ("hsc", index.hsc)):
        kept = slice(None, None, -(-len(catalog) // POSITIONS_KEPT))
        ra_deg, dec_deg = catalog.ra_deg[kept] * u.deg, catalog.dec_deg[kept] * u.deg
        tables.append(Table({"survey": [survey] * len(ra_deg), "ra_deg": ra_deg, "dec_deg": dec_deg}))
    vstack(tables).write(path, format="parquet")


def _chunks(rows: Iterable[dict[str, Any]], size: int) -> Iterator[list[dict[str, Any]]]:
    chunk: list[dict[str, Any]] = []
    for row in rows:
        chunk.append(row)
        if len(chunk) == size:
            yield chunk
            chunk = []
    if chunk:
        yield chunk
