"""Pairs on disk: memory-mapped Arrow files that mmagn and ``datasets.load_from_disk`` both open.

A store is a folder with ``pairs-00000.arrow`` and so on, the two descriptions that ``datasets`` reads, the positions
of both surveys, and ``mmagn.json`` with settings, source files, match report and a checksum of every file.
"""

import hashlib
import json
import logging
import multiprocessing
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import astropy.units as u
import datasets
import numpy as np
import pyarrow as pa
from astropy.table import Table
from filelock import FileLock, Timeout
from numpy.typing import NDArray

from mmagn.matching.config import MatchingConfig
from mmagn.matching.index import NoPairsError, pair_index
from mmagn.matching.index_file import read_index
from mmagn.matching.provenance import (
    PROVENANCE_FILE,
    Provenance,
    read_provenance,
    refuse_other_settings,
    refuse_other_sources,
    store_settings,
)
from mmagn.matching.report import MatchReport
from mmagn.matching.rows import column_views, pair_from_row
from mmagn.matching.save import POSITIONS_FILE, STATE_FILE, save_store
from mmagn.matching.selection import unselected_pairs
from mmagn.records import BANDS, INDEX_COLUMNS, Cutout, Floats, Pair, Spectrum
from mmagn.storage.checksums import check_file, damaged_files
from mmagn.surveys.config import DataConfig
from mmagn.surveys.pair_rows import IMAGE_SHAPE, cutout_from_row, spectrum_from_row
from mmagn.surveys.readers import survey_reader

LOSSES_NAMED = 10
"""Lost pairs that the text of the report names; the report itself names all."""
_UNITS = {"ra_deg": u.deg, "dec_deg": u.deg, "separation_arcsec": u.arcsec, "i_magnitude": u.ABmag}
_CLASS_COLUMNS = ("survey", "zwarning", "spectral_class", "spectral_subclass")
_log = logging.getLogger(__name__)


class PairStore:
    """Pairs of a store by number, read as views of its memory-mapped files.

    Arrays that are returned are read-only and stay valid as long as they are held. The object can be sent to
    DataLoader workers: it opens the files anew there. A file is compared with its checksum when its first pair is
    read; a process does so once for each file.

    Parameters
    ----------
    path
        Folder of the store.
    selection
        Rows of the store that make up the pairs, ascending; None takes all.

    Raises
    ------
    FileNotFoundError
        Where the folder is missing.
    ValueError
        Where it is no store, or a file of it cannot be read.
    """

    def __init__(self, path: Path, selection: tuple[int, ...] | None = None) -> None:
        self.path = path
        self._selection = selection
        self._rows = None if selection is None else np.array(selection, dtype=np.int64)
        self._provenance = read_provenance(path)
        self._batches: list[pa.RecordBatch] = []
        self._file_of_batch: list[str] = []
        for name in self._arrow_files():
            batches = _mapped_batches(path / name)
            self._batches += batches
            self._file_of_batch += [name] * len(batches)
        self._unverified = set(self._file_of_batch)
        self._starts = np.cumsum([0, *(batch.num_rows for batch in self._batches)])
        self._views = [column_views(batch) for batch in self._batches]
        stored = self._provenance.report["pairs_stored"]
        if self._starts[-1] != stored:
            raise ValueError(f"{path} holds {self._starts[-1]} pairs of the {stored} that were stored: it is cut short")

    def __reduce__(self) -> tuple[type["PairStore"], tuple[Path, tuple[int, ...] | None]]:
        return PairStore, (self.path, self._selection)

    def __len__(self) -> int:
        return int(self._starts[-1]) if self._rows is None else len(self._rows)

    @property
    def fingerprint(self) -> str:
        """Hexadecimal sha256 of the settings and source files behind the pairs, and of the selection."""
        whole = self._provenance.fingerprint
        return whole if self._rows is None else hashlib.sha256(whole.encode() + self._rows.tobytes()).hexdigest()

    @property
    def settings(self) -> Mapping[str, Any]:
        """Settings that shaped the pairs, by dotted name."""
        return self._provenance.settings

    @property
    def simulated(self) -> bool:
        """Whether the pairs are known to be those of the embedded survey."""
        return bool(self.settings.get("data.source") == "embedded")

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
        lost = report["pairs_lost"]
        losses += [f"lost: {sentence}" for sentence in lost[:LOSSES_NAMED]]
        if len(lost) > LOSSES_NAMED:
            losses.append(f"lost: {len(lost) - LOSSES_NAMED} more, named in {self.path / PROVENANCE_FILE}")
        losses.append(f"pairs stored: {report['pairs_stored']} in {self.path}")
        if self._rows is not None:
            losses.append(f"pairs selected: {len(self)}")
        return "\n".join([str(MatchReport.from_dict(report)), *losses])

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
        self.verify()
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
        return table if self._rows is None else table[self._rows]

    def positions(self, of: Literal["sdss", "hsc", "pairs"]) -> tuple[Floats, Floats]:
        """Return RA and Dec (object,) in degrees of a survey, matched or not (at most 50,000), or of the pairs."""
        if of == "pairs":
            index = self.index
            return np.asarray(index["sdss_ra_deg"]), np.asarray(index["sdss_dec_deg"])
        self._verify(POSITIONS_FILE)
        table = Table.read(self.path / POSITIONS_FILE, format="parquet")
        members = np.asarray(table["survey"]) == of
        return np.asarray(table["ra_deg"][members]), np.asarray(table["dec_deg"][members])

    def dataset(self) -> datasets.Dataset:
        """Return the pairs as a dataset of the ``datasets`` library, with the columns of ``pair_features``."""
        self.verify()
        whole = datasets.load_from_disk(str(self.path))
        return whole if self._rows is None else whole.select(self._rows)

    def selected(self, data: DataConfig, matching: MatchingConfig) -> "PairStore":
        """Return the pairs that ``data`` selects by cell, redshift, survey and list; the log counts the others.

        Raises ``NoPairsError`` where none is left.
        """
        index = self.index
        kept = np.ones(len(index), dtype=np.bool_)
        lost: Counter[str] = Counter()
        own_files = self.settings.get("data.source") == "files"
        for unusable, reason in unselected_pairs(index, data, matching, own_files=own_files):
            if count := int((kept & unusable).sum()):
                lost[reason] += count
                kept &= ~unusable
        if kept.all():
            return self
        reasons = ", ".join(f"{count} x {reason}" for reason, count in lost.items())
        if not kept.any():
            raise NoPairsError(f"the store {self.path} has no pair that is selected among {len(self)}: {reasons}")
        level = logging.WARNING if "data.spectra" in reasons else logging.INFO  # matched for a sample, and not used
        _log.log(level, "%d of %d pairs of %s are selected; left out: %s", kept.sum(), len(self), self.path, reasons)
        rows = np.flatnonzero(kept) if self._rows is None else self._rows[kept]
        return PairStore(self.path, tuple(rows.tolist()))

    def verify(self) -> None:
        """Compare every file that this process has not verified yet with its checksum.

        Raises ``ValueError`` for the first file that is damaged.
        """
        for name in sorted(self._unverified | self._provenance.files.keys()):
            self._verify(name)

    def _verify(self, name: str) -> None:
        if name not in self._provenance.files:
            raise ValueError(f"{self.path / PROVENANCE_FILE} has no checksum of {name}")
        check_file(self.path / name, self._provenance.files[name])
        self._unverified.discard(name)

    def _arrow_files(self) -> list[str]:
        """Return the Arrow files of the store in their order."""
        file = self.path / STATE_FILE
        self._unverified = {STATE_FILE}
        self._verify(STATE_FILE)
        return [entry["filename"] for entry in json.loads(file.read_text(encoding="utf-8"))["_data_files"]]

    def _place(self, number: int) -> tuple[Mapping[str, Any], int]:
        if not 0 <= number < len(self):
            raise IndexError(f"pair {number} of the store {self.path}; allowed: 0 to {len(self) - 1}")
        if self._rows is not None:
            number = int(self._rows[number])
        batch = int(np.searchsorted(self._starts, number, side="right")) - 1
        if self._unverified and self._file_of_batch[batch] in self._unverified:
            self._verify(self._file_of_batch[batch])
        return self._views[batch], int(number - self._starts[batch])

    def _row(self, number: int) -> dict[str, Any]:
        views, row = self._place(number)
        return {name: view[row] for name, view in views.items()}


def open_store(path: Path, settings: Mapping[str, Any] | None = None) -> PairStore:
    """Return the store in a folder; with ``settings`` it is refused where it was made with others.

    Raises ``FileNotFoundError`` or ``ValueError`` where the folder is no store, or by the name of the setting that
    differs.
    """
    store = PairStore(path)
    if settings is not None:
        refuse_other_settings(f"store {path}", store._provenance, settings)
    return store


def source_store(data: DataConfig, matching: MatchingConfig) -> PairStore:
    """Return the pairs of the store in ``data.root`` that ``data`` selects.

    Raises ``FileNotFoundError`` or ``ValueError`` as ``open_store``; ``NoPairsError`` where no pair is selected.
    """
    return open_store(Path(str(data.root)).expanduser(), store_settings(matching, None)).selected(data, matching)


def verify_store(folder: Path) -> list[str]:
    """Return a sentence for each file of a store that is missing or no longer what was written; empty if all is well.

    Every file is read completely. Raises as ``read_provenance`` where ``mmagn.json`` itself cannot be used.
    """
    return damaged_files(folder, read_provenance(folder).files)


def pair_store(
    data: DataConfig, matching: MatchingConfig, out: Path | None = None, index: Path | None = None
) -> PairStore:
    """Return the store of pairs behind the settings, made now where it is not there yet.

    ``data.source`` store opens ``data.root``. The other sources make the store in ``out`` or, without it, in a folder
    of ``data.cache_dir`` whose name follows from settings and source files. With the file ``index``, which
    ``match --plan`` writes, no positions are read.

    Raises
    ------
    NoPairsError
        Where nothing matches.
    ValueError
        Where ``out`` holds a store of other settings or sources (named), or something else; where the disk is full.
    """
    if data.source == "store":
        return source_store(data, matching)
    _refuse_unguarded_script()
    if out is None:
        data = replace(data, image_noise=False)  # mmagn itself only asks which pixels are valid
    reader = survey_reader(data)
    wanted = Provenance(settings=store_settings(matching, reader), sources=reader.sources())
    cached = Path(data.cache_dir) / "stores" / wanted.fingerprint[:16]
    path = (cached if out is None else out).expanduser()
    if not _occupied(path):
        with _write_lock(path):
            if not _occupied(path):
                pairs = read_index(index, wanted) if index is not None else pair_index(data, matching)
                save_store(path, pairs, reader, wanted, matching.workers)
    store = open_store(path, wanted.settings)
    refuse_other_sources(f"store {path}", store._provenance, wanted.sources)
    return store


def _refuse_unguarded_script() -> None:
    """Raise RuntimeError in a process that runs a script only because it starts to work for that script's store."""
    if getattr(multiprocessing.current_process(), "_inheriting", False):
        raise RuntimeError(
            "pairs are stored by several processes, each of which begins by importing the script that asked for it: "
            "put the script's calls under if __name__ == '__main__', or set matching.workers to 1"
        )


def _mapped_batches(file: Path) -> list[pa.RecordBatch]:
    try:
        with pa.memory_map(str(file)) as mapped, pa.ipc.open_stream(mapped) as reader:
            return list(reader)
    except (pa.ArrowException, OSError) as error:
        raise ValueError(f"{file} cannot be read: {error}") from error


def _occupied(path: Path) -> bool:
    return path.exists() and not (path.is_dir() and not any(path.iterdir()))


def _write_lock(path: Path) -> FileLock:
    """Return the lock that lets one process at a time make the store in ``path``, held beside it; wait where needed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(path.with_name(f".{path.name}.lock"))
    try:
        lock.acquire(blocking=False)
    except Timeout:
        _log.info("waiting for another process that writes %s", path)
        return lock
    lock.release()
    return lock
