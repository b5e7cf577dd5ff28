"""Pairs on disk: memory-mapped Arrow files that mmagn and ``datasets.load_from_disk`` both open.

A store is a folder with ``pairs-00000.arrow`` and so on, the two descriptions that ``datasets`` wants, and
``mmagn.json`` with the settings, the source files and the match report.
"""

import hashlib
import json
import multiprocessing
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import astropy.units as u
import numpy as np
import pyarrow as pa
from astropy.table import Table
from filelock import FileLock
from numpy.typing import NDArray

from mmagn.matching.config import MatchingConfig
from mmagn.matching.index import pair_index
from mmagn.matching.provenance import (
    PROVENANCE_FILE,
    Provenance,
    read_provenance,
    refuse_other_settings,
    refuse_other_sources,
    store_settings,
)
from mmagn.matching.rows import IMAGE_SHAPE, column_views, cutout_from_row, pair_from_row, spectrum_from_row
from mmagn.matching.save import POSITIONS_FILE, STATE_FILE, save_store
from mmagn.matching.sky import MatchReport
from mmagn.records import BANDS, INDEX_COLUMNS, Cutout, Pair, Spectrum
from mmagn.surveys.config import DataConfig
from mmagn.surveys.readers import survey_reader

LOSSES_TOLD = 10
"""Lost pairs that the text of the report names; the report itself names all."""
_UNITS = {"ra_deg": u.deg, "dec_deg": u.deg, "separation_arcsec": u.arcsec, "i_magnitude": u.ABmag}
_CLASS_COLUMNS = ("survey", "zwarning", "spectral_class", "spectral_subclass")


class PairStore:
    """Pairs of a store by number, read as views of its memory-mapped files.

    Arrays that come out are read-only and stay valid as long as they are held. The object can be sent to
    DataLoader workers: it opens the files anew there.

    Parameters
    ----------
    path
        Folder of the store.

    Raises
    ------
    FileNotFoundError
        Where the folder is missing.
    ValueError
        Where it is no store, or a file of it cannot be read.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._provenance = read_provenance(path)
        self._batches = [batch for file in _arrow_files(path) for batch in _mapped_batches(file)]
        self._starts = np.cumsum([0, *(batch.num_rows for batch in self._batches)])
        self._views = [column_views(batch) for batch in self._batches]
        if len(self) != self._provenance.report["pairs_stored"]:
            raise ValueError(
                f"{path} holds {len(self)} pairs of the {self._provenance.report['pairs_stored']} "
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
        lost = report["pairs_lost"]
        losses += [f"lost: {sentence}" for sentence in lost[:LOSSES_TOLD]]
        if len(lost) > LOSSES_TOLD:
            losses.append(f"lost: {len(lost) - LOSSES_TOLD} more, named in {self.path / PROVENANCE_FILE}")
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
    _refuse_unguarded_script()
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
        save_store(path, pair_index(data, matching), reader, asked, matching.workers)
        return PairStore(path)


def _refuse_unguarded_script() -> None:
    """Raise RuntimeError in a process that runs a script only because it starts to work for that script's store."""
    if getattr(multiprocessing.current_process(), "_inheriting", False):
        raise RuntimeError(
            "pairs are stored by several processes, each of which begins by importing the script that asked for it: "
            "put the script's calls under if __name__ == '__main__', or set matching.workers to 1"
        )


def _arrow_files(path: Path) -> list[Path]:
    """Return the files of a store in their order."""
    file = path / STATE_FILE
    try:
        return [path / entry["filename"] for entry in json.loads(file.read_text(encoding="utf-8"))["_data_files"]]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{file} cannot be read as the list of a store's files: {error}") from error


def _mapped_batches(file: Path) -> list[pa.RecordBatch]:
    try:
        with pa.memory_map(str(file)) as mapped, pa.ipc.open_stream(mapped) as reader:
            return list(reader)
    except (pa.ArrowInvalid, OSError) as error:
        raise ValueError(f"{file} cannot be read: {error}") from error


def _occupied(path: Path) -> bool:
    return path.exists() and not (path.is_dir() and not any(path.iterdir()))


def _writing(path: Path, stores: Path) -> FileLock:
    """Return a lock that lets one process at a time make the store in ``path``; the others then find it made."""
    locks = stores / "locks"
    locks.mkdir(parents=True, exist_ok=True)
    return FileLock(locks / f"{hashlib.sha256(str(path.resolve()).encode()).hexdigest()[:16]}.lock")
