"""What a reader of both surveys is: catalogues of positions, and the records of chosen rows."""

import logging
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from mmagn.records import Catalog, Cutout, Spectrum
from mmagn.storage.checksums import stored_file
from mmagn.storage.settings import settings_affecting
from mmagn.surveys.config import DEFAULT_SPECTRA, DataConfig
from mmagn.surveys.damage import DAMAGE, damage_text
from mmagn.surveys.screen import file_name

Record = TypeVar("Record", Cutout, Spectrum)
Raw = TypeVar("Raw")
Stream = TypeVar("Stream")
_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class SourceFile:
    """A file that pairs are read from.

    Attributes
    ----------
    name
        Path below the root of its survey, or repository and path, so that a moved survey is still the same survey.
    size_bytes
        Its size.
    version
        What changes with its content: time of the last change in ns, or a revision.
    """

    name: str
    size_bytes: int
    version: str


class SurveyReader(Protocol):
    """A source of both surveys; a frozen object that can be sent to other processes.

    ``Catalog.files`` are texts that the same reader takes as ``path``, ``Catalog.row`` are rows of those files.
    """

    def settings(self) -> dict[str, Any]:
        """Return the settings that shape what is read, by dotted name, as plain values that JSON knows."""

    def sources(self) -> tuple[SourceFile, ...]:
        """Return the files that are read, by name; empty where ``settings`` describe the source completely."""

    def read_sdss_catalog(self, drops: Counter[str]) -> Catalog:
        """Return ids and positions of the spectra, every id once; those left out are counted in ``drops`` by reason."""

    def read_hsc_catalog(self, drops: Counter[str]) -> Catalog:
        """Return ids and positions of HSC, every id once; objects left out are counted in ``drops`` by reason."""

    def read_spectra(self, path: str, rows: NDArray[np.int64]) -> Iterator[tuple[int, Spectrum | str]]:
        """Yield (row, spectrum, or the reason why there is none) of each wanted row of one file, ascending."""

    def read_cutouts(self, path: str, rows: NDArray[np.int64]) -> Iterator[tuple[int, Cutout | str]]:
        """Yield (row, cutout, or the reason why there is none) of each wanted row of one file, ascending."""


def usable(records: Iterator[tuple[int, Record | str]], drops: Counter[str]) -> Iterator[tuple[int, Record]]:
    """Yield the rows that have a record; the others are counted in ``drops`` by reason."""
    for row, record in records:
        if isinstance(record, str):
            drops[record] += 1
        else:
            yield row, record


def in_advance(streams: Iterable[Stream]) -> Iterator[Stream]:
    """Yield streams one after the other, the next one taken before: it is fetched while the caller works on one."""
    iterator = iter(streams)
    present = next(iterator, None)
    while present is not None:
        following = next(iterator, None)
        yield present
        present = following


def iter_spectra(
    reader: SurveyReader, drops: Counter[str], select: Callable[[Catalog], Catalog] | None = None
) -> Iterator[Spectrum]:
    """Yield every usable spectrum of a source, file by file, each object once; the others are counted in ``drops``.

    ``select`` returns the part of the catalogue that is read.
    """
    catalog = reader.read_sdss_catalog(drops)
    catalog = catalog if select is None else select(catalog)
    rows_of_files = ((path, catalog.row[catalog.file_index == number]) for number, path in enumerate(catalog.files))
    for records in in_advance(reader.read_spectra(path, rows) for path, rows in rows_of_files):
        for _, spectrum in usable(records, drops):
            yield spectrum


def row_records(
    survey: str,
    path: str,
    wanted: NDArray[np.int64],
    raw_rows: Iterator[Raw],
    from_row: Callable[[Raw], Record],
    damage: tuple[type[Exception], ...] = DAMAGE,
) -> Iterator[tuple[int, Record | str]]:
    """Yield (row, record, or the reason why there is none) of each wanted row.

    Parameters
    ----------
    survey, path
        What is read, for the reasons.
    wanted
        (wanted,) rows, ascending, without repetition.
    raw_rows
        Yields the raw values of each wanted row, in this order.
    from_row
        Record of the raw values of one row; raises ``ValueError`` with the reason where there is none.
    damage
        Exceptions of ``raw_rows`` that cost the remaining rows of the file.

    Raises
    ------
    Exception
        Where the file cannot be read now, see ``damage_text``.
    """
    left = iter(wanted.tolist())
    try:
        for raw in raw_rows:
            try:
                record: Record | str = from_row(raw)
            except ValueError as error:
                record = f"{survey}: {error}"
            row = next(left)
            if isinstance(record, str):
                _log.info("%s row %d dropped: %s", path, row, record)
            yield row, record
    except damage as error:
        reason = f"{survey}: file {file_name(path)} is left out, {damage_text(error)}"
        _log.warning(reason)
        for row in left:
            yield row, reason


def check_surveys(data: DataConfig, present: Sequence[str], place: str, hint: str = "") -> None:
    """Raise ValueError where a place holds no survey of ``data.spectra``; warn, once in a process, of those it lacks.

    The default of ``data.spectra`` takes what is there, without a warning.
    """
    absent = [name for name in data.spectra if name not in present]
    if len(absent) == len(data.spectra):
        known = " and ".join(present)
        raise ValueError(f"data.spectra is {', '.join(data.spectra)}; {place} has only {known}{hint}")
    if absent and data.spectra != DEFAULT_SPECTRA:
        warn_once(f"data.spectra has {', '.join(absent)}; {place} has only {', '.join(present)}")


@cache
def warn_once(sentence: str) -> None:
    """Log a warning that holds for many files, once in a process."""
    _log.warning(sentence)


def reading_settings(data: DataConfig) -> dict[str, Any]:
    """Return the settings in effect that shape what is read, by dotted name, as plain values that JSON knows.

    Those of where it is read from are left out, since ``SurveyReader.sources`` describes what is there; a list of
    objects is there by its content.
    """
    objects = None
    if data.objects is not None:
        path = Path(data.objects).expanduser()
        if not path.is_file():
            raise FileNotFoundError(f"data.objects {path} is missing")
        objects = stored_file(path).sha256[:16]
    return settings_affecting(data, "pairs", resumable=False) | {"data.objects": objects}
