"""The one screen of what a source holds: the columns of a file, and the rows of its index.

A source first checks the columns of each file (``check_columns``): a file that fails is left out by name. Then it
gives the index rows of all files, as they are stored, to ``screened_catalog``, which drops and counts the unusable
ones. No source checks positions, ids or redshifts itself.
"""

import logging
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mmagn.records import CELL_NSIDE, Catalog, Floats
from mmagn.surveys.config import DataConfig
from mmagn.surveys.text import plain_text

_KINDS = {
    "id": ("iuSUTO", "integer or text"),
    "number": ("biuf", "a number"),
    "text": ("SUTO", "text"),
    "mask": ("biu", "bool, or integer with values 0 and 1"),
}
"""Codes of the allowed NumPy types by kind of column, and how a message names them."""
_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, slots=True)
class Column:
    """What a column of a survey file must be.

    Attributes
    ----------
    purpose, kind
        What the column is needed for, and the type of its values.
    axes
        Axes after the row: a length, or a name; axes of one name have one length throughout a file.
    required
        Whether the file is useless without it. An optional column may hold values of any type: one that cannot be
        read as ``kind`` is missing.
    """

    purpose: str
    kind: Literal["id", "number", "text", "mask"]
    axes: tuple[int | str, ...] = ()
    required: bool = True


SPECTRUM_COLUMNS: Mapping[str, Column] = {
    "object_id": Column(purpose="identity", kind="id"),
    "ra": Column(purpose="position", kind="number"),
    "dec": Column(purpose="position", kind="number"),
    "Z": Column(purpose="redshift", kind="number"),
    "spectrum_flux": Column(purpose="flux", kind="number", axes=("pixel",)),
    "spectrum_ivar": Column(purpose="noise", kind="number", axes=("pixel",)),
    "spectrum_lambda": Column(purpose="wavelength", kind="number", axes=("pixel",)),
    "spectrum_mask": Column(purpose="bad pixels", kind="mask", axes=("pixel",)),
    "spectrum_lsf_sigma": Column(purpose="instrumental width", kind="number", axes=("pixel",)),
}
"""Columns of a row of spectra without which there is none, whatever the survey."""
PIXEL_COLUMNS = tuple(name for name, column in SPECTRUM_COLUMNS.items() if column.axes)


class Stored(NamedTuple):
    """Type and shape of a stored column, (row, ...); a length is None where the format does not state it."""

    dtype: np.dtype[Any]
    shape: tuple[int | None, ...]


def check_columns(stored: Mapping[str, Stored], columns: Mapping[str, Column]) -> None:
    """Check rank, lengths and type of the columns of one file.

    Raises ``ValueError`` for the first column that is missing or differs; the message continues "file NAME is left out,
    ".
    """
    lengths: dict[str, tuple[int, str]] = {}
    for name, column in columns.items():
        if name not in stored:
            if column.required:
                raise ValueError(f"it has no column {name}, which is needed for the {column.purpose}")
            continue
        dtype, shape = stored[name]
        codes, allowed = _KINDS[column.kind]
        if column.required and dtype.kind not in codes:
            raise ValueError(f"its column {name} is of type {dtype}; allowed: {allowed}")
        axes = ("row", *column.axes)
        if len(shape) != len(axes):
            raise ValueError(f"its column {name} has {len(shape)} axes; expected {_shape_text(axes)}")
        for axis, length in zip(axes, shape, strict=True):
            if isinstance(axis, int) and length not in (axis, None):
                raise ValueError(f"its column {name} has shape {_shape_text(shape)}; expected {_shape_text(axes)}")
            if isinstance(axis, str) and length is not None:
                expected, first = lengths.setdefault(axis, (length, name))
                if length != expected:
                    raise ValueError(f"it has {length} {axis}s of {name} but {expected} of {first}")


def check_mask(name: str, values: NDArray[Any]) -> NDArray[np.bool_]:
    """Return a mask as bool.

    Raises ``ValueError`` where it holds anything but bool, 0 and 1, such as bit planes, whose polarity nobody knows.
    """
    if values.dtype.kind != "b" and ((values != 0) & (values != 1)).any():
        strange = values[(values != 0) & (values != 1)].flat[0]
        raise ValueError(f"{name} holds {strange}; allowed: bool, or 0 and 1")
    return values.astype(bool, copy=False)


def pixel_arrays(row: Mapping[str, Any]) -> tuple[NDArray[Any], ...]:
    """Return the values (pixel,) of ``PIXEL_COLUMNS`` of a row, in this order.

    Raises ``ValueError`` if their lengths differ.
    """
    arrays = tuple(np.asarray(row[name]) for name in PIXEL_COLUMNS)
    wavelength = arrays[PIXEL_COLUMNS.index("spectrum_lambda")]
    for name, values in zip(PIXEL_COLUMNS, arrays, strict=True):
        if values.shape != wavelength.shape:
            raise ValueError(f"{name} has {values.size} pixels but spectrum_lambda {wavelength.size}")
    return arrays


def id_texts(values: NDArray[Any]) -> NDArray[np.str_]:
    """Return ids (row,) as text without padding, "" where one is missing.

    Raises ``ValueError`` where they are neither integers nor text: a float cannot hold an id of 18 digits.
    """
    codes, allowed = _KINDS["id"]
    if values.dtype.kind in "iu":
        return values.astype(np.str_)
    plain = values.tolist()
    if values.dtype.kind not in codes or any(isinstance(value, float) for value in plain):
        raise ValueError(f"its column object_id is of type {values.dtype}; allowed: {allowed}")
    return np.array(["" if value is None else plain_text(value) for value in plain], dtype=np.str_)


def usable_objects(survey: str, catalog: Catalog, data: DataConfig, drops: Counter[str]) -> Catalog:
    """Return the usable objects of a catalogue as it is stored, in its order, each id once (the first).

    Objects in other cells than those of ``data.cells`` are passed over; all others that are left out are counted in
    ``drops`` by reason: position not finite or out of range, files whose positions lie elsewhere than their HEALPix
    cell, id missing, redshift not finite or outside of the limits, id seen before. ``catalog.healpix`` is the cell that
    the folder, the file or a column states, -1 where none does.
    """
    kept = np.isin(catalog.healpix, [*data.cells, -1]) if data.cells else np.ones(len(catalog), dtype=np.bool_)
    for unusable, reason in _reasons(catalog, data):
        if count := int((kept & unusable).sum()):
            drops[f"{survey}: {reason}"] += count
            kept &= ~unusable
    return _each_once(catalog.chosen(kept), drops, f"{survey}: object_id seen before")


def screened_catalog(survey: str, place: str, catalog: Catalog, data: DataConfig, drops: Counter[str]) -> Catalog:
    """Return the usable objects of a source, see ``usable_objects``; ``place`` is its folder, repository or catalogue.

    Raises ``ValueError`` where no object is usable, with the reasons, those counted in ``drops`` before included.
    """
    usable = usable_objects(survey, catalog, data, drops)
    if not len(usable):
        raise ValueError(nothing_usable(survey, place, drops))
    return usable


def joined(catalogs: Sequence[Catalog]) -> Catalog:
    """Return several catalogues as one, with the files of all."""
    starts = np.cumsum([0, *(len(catalog.files) for catalog in catalogs)])
    columns = {
        name: np.concatenate([getattr(catalog, name) for catalog in catalogs])
        for name in ("object_id", "ra_deg", "dec_deg", "healpix", "row", "redshift")
        if getattr(catalogs[0], name) is not None
    }
    numbers = [catalog.file_index + start for catalog, start in zip(catalogs, starts[:-1], strict=True)]
    files = tuple(file for catalog in catalogs for file in catalog.files)
    return Catalog(**columns, file_index=np.concatenate(numbers).astype(np.int32), files=files)


def joined_catalogs(catalogs: Sequence[Catalog], drops: Counter[str]) -> Catalog:
    """Return the catalogues of several surveys as one, every id once (the first); others are counted in ``drops``."""
    return _each_once(joined(catalogs), drops, "spectra: object_id seen before in another survey")


def _each_once(catalog: Catalog, drops: Counter[str], reason: str) -> Catalog:
    first = np.sort(np.unique(catalog.object_id, return_index=True)[1])
    if repeated := len(catalog) - len(first):
        drops[reason] += repeated
    return catalog.chosen(first)


def nothing_usable(survey: str, place: str, drops: Counter[str]) -> str:
    """Return the sentence that a source has no usable object of a survey, and why."""
    reasons = [f"{reason} ({count})" for reason, count in drops.items() if reason.startswith(f"{survey}: ")]
    return f"no {survey} object of {place} can be used: {'; '.join(reasons) or 'it has none in the cells to read'}"


def redshift_reasons(redshift: Floats, data: DataConfig) -> Iterator[tuple[NDArray[np.bool_], str]]:
    """Yield which redshifts are not to be used, and why."""
    limits = f"data.redshift_min {data.redshift_min} to data.redshift_max {data.redshift_max}"
    yield ~np.isfinite(redshift), "redshift is not finite"
    yield (redshift < data.redshift_min) | (redshift > data.redshift_max), f"redshift is outside {limits}"


def file_name(path: str) -> str:
    """Return the last folders and the name of a file, as messages give it."""
    return "/".join(path.split("/")[-4:])


def _reasons(catalog: Catalog, data: DataConfig) -> Iterator[tuple[NDArray[np.bool_], str]]:
    """Yield which objects of a catalogue are unusable, and why."""
    on_sphere = (catalog.ra_deg >= -180) & (catalog.ra_deg <= 360) & (np.abs(catalog.dec_deg) <= 90)
    yield ~on_sphere, "position is not finite or off the sphere"
    yield from _elsewhere(catalog, on_sphere)
    yield catalog.object_id == "", "object_id is missing"
    if catalog.redshift is not None:
        yield from redshift_reasons(catalog.redshift, data)


def _elsewhere(catalog: Catalog, on_sphere: NDArray[np.bool_]) -> Iterator[tuple[NDArray[np.bool_], str]]:
    """Yield the objects of files most of whose positions lie outside their HEALPix cells, such as radians."""
    placed = on_sphere & (catalog.healpix >= 0)
    outside = placed & (cells_of(catalog.ra_deg, catalog.dec_deg) != catalog.healpix)
    outside_of_file, total = (
        np.bincount(catalog.file_index[members], minlength=len(catalog.files)) for members in (outside, placed)
    )
    for number in np.flatnonzero(outside_of_file).tolist():
        file = file_name(catalog.files[number])
        share = f"{outside_of_file[number]} of {total[number]}"
        what = f"{share} positions lie outside the HEALPix cell that is stated for them"
        if 2 * outside_of_file[number] > total[number]:
            yield catalog.file_index == number, f"file {file} is left out, {what}; ra and dec must be ICRS degrees"
        else:
            _log.warning("%s: %s", file, what)


def cells_of(ra_deg: Floats, dec_deg: Floats) -> NDArray[np.int64]:
    """Return the HEALPix cell (``CELL_NSIDE``, NESTED) of every position (object,), -1 off the sphere."""
    import healpy  # only here: a process that reads records starts sooner without it

    cells = np.full(len(ra_deg), -1, dtype=np.int64)
    on_sphere = np.isfinite(ra_deg) & (np.abs(dec_deg) <= 90)
    cells[on_sphere] = healpy.ang2pix(CELL_NSIDE, ra_deg[on_sphere] % 360, dec_deg[on_sphere], nest=True, lonlat=True)
    return cells


def _shape_text(shape: Sequence[int | str | None]) -> str:
    return f"({', '.join('?' if length is None else str(length) for length in shape)})"
