"""Which rows of a table from outside belong to which objects: by id or by position."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from astropy.table import Table
from numpy.typing import NDArray

from mmagn.labels.config import CatalogConfig
from mmagn.labels.presets import presets, published_name
from mmagn.labels.rules import EXACT_FLOAT, column_names
from mmagn.matching.position_columns import position_columns
from mmagn.matching.sky import TIE_DECIMALS, Positions, neighbours
from mmagn.records import Floats
from mmagn.storage.texts import column_texts
from mmagn.surveys.config import DESI
from mmagn.surveys.files.other_spectra import OWN_SURVEY

_FORMS = {
    "specobjid": "whole numbers or texts of digits such as 299489677444933632, not plate, mjd and fiber",
    "plate-mjd-fiber": "three columns such as plate 266, mjd 51630, fiberid 1, or one text such as 266-51630-1",
    "targetid": "whole numbers or texts of digits such as 39627902966927364",
    "hsc": "whole numbers or texts of digits such as 36411448540264457",
}
_COUNTS = {"position": ((2,), "RA and Dec"), "plate-mjd-fiber": ((3, 1), "three, or one of text")}
"""How many columns each form of ids has, where it is not one."""

Ids = NDArray[np.str_]


@dataclass(frozen=True, kw_only=True, eq=False)
class Objects:
    """The objects that are to be labelled.

    Attributes
    ----------
    object_id, hsc_object_id
        (object,) ids of the spectra (SDSS specobjid or DESI TARGETID) and of the images; "" where there is none.
    ra_deg, dec_deg
        (object,) positions.
    columns
        (object,) quantities that a depth rule may name; where ``survey`` is among them, it says which objects have an
        id of the kind that rows are joined by.
    """

    object_id: Ids
    hsc_object_id: Ids
    ra_deg: Floats
    dec_deg: Floats
    columns: Mapping[str, Any]


def joinable(objects: Objects, join: str) -> NDArray[np.bool_]:
    """Return (object,) True where an object has what rows are joined by: the others are not absent from the table."""
    if join == "position":
        return np.isfinite(objects.ra_deg) & np.isfinite(objects.dec_deg)
    return np.asarray(_object_ids(objects, join) != "")


def joined(objects: Objects, table: Table, config: CatalogConfig) -> NDArray[np.int64]:
    """Return (pair, 2) rows of objects and of the table that belong together.

    Raises
    ------
    ValueError
        Where the columns are missing, are not as many as the form of the ids has, or hold no ids or angles.
    """
    try:
        names = _columns(table, config)
    except ValueError as error:
        raise ValueError(f"labels.catalog.columns: {error}") from None
    counts, allowed = _COUNTS.get(config.join, ((1,), "one"))
    if len(names) not in counts:
        raise ValueError(f"labels.catalog.columns names {len(names)} columns; allowed for {config.join}: {allowed}")
    columns = [table[name] for name in names]
    if config.join == "position":
        ra_deg, dec_deg = position_columns(columns[0], columns[1], config.missing)
        return _near(objects, ra_deg, dec_deg, config.radius_arcsec)
    ours = _object_ids(objects, config.join)
    theirs = _spectrum_names(columns) if config.join == "plate-mjd-fiber" else _id_texts(columns[0])
    place: dict[str, list[int]] = {}
    for row in np.flatnonzero(np.isin(theirs, ours)).tolist():
        place.setdefault(str(theirs[row]), []).append(row)
    pairs = [(number, row) for number, text in enumerate(ours.tolist()) if text for row in place.get(text, ())]
    return np.array(pairs, dtype=np.int64).reshape(-1, 2)


def nothing_joined(objects: Objects, table: Table, config: CatalogConfig, file: Path) -> str:
    """Return the sentence that no row belongs to an object, with the ids of the first of each."""
    names = _columns(table, config)
    first = ", ".join(f"{name} {table[name][0]}" for name in names) if len(table) else "no row"
    ours = {
        "hsc": f"HSC object id {objects.hsc_object_id[0]}",
        "position": f"{objects.ra_deg[0]:.5f}, {objects.dec_deg[0]:.5f} deg",
        "plate-mjd-fiber": _plate_mjd_fiber(objects.object_id[:1])[0] or f"no plate in the id {objects.object_id[0]}",
    }.get(config.join, f"id {objects.object_id[0]}")
    hint = _FORMS.get(config.join, f"degrees (ICRS), within {config.radius_arcsec:g} arcsec of an object")
    return (
        f"{file}: none of {len(table)} rows belongs to one of {len(objects.object_id)} objects (labels.catalog.join "
        f"{config.join}): its first row has {first}, the first object {ours}; allowed: {hint}"
    )


def _columns(table: Table, config: CatalogConfig) -> list[str]:
    """Return the columns that rows are joined by."""
    names = presets()[config.preset].names if config.preset else {}
    return column_names([published_name(table.colnames, names, name) for name in config.columns], table.colnames)


def _object_ids(objects: Objects, join: str) -> Ids:
    """(object,) ids of the kind that rows are joined by, "" where an object has none."""
    if join == "hsc":
        return objects.hsc_object_id
    ids = _plate_mjd_fiber(objects.object_id) if join == "plate-mjd-fiber" else objects.object_id
    if (survey := objects.columns.get("survey")) is None:
        return ids
    survey = np.asarray(survey, dtype=np.str_)
    return np.where(survey == DESI if join == "targetid" else ~np.isin(survey, (DESI, OWN_SURVEY)), ids, "")


def _near(objects: Objects, ra_deg: Floats, dec_deg: Floats, radius_arcsec: float) -> NDArray[np.int64]:
    """(pair, 2) each object with its nearest row within the radius, with all of those that are equally near."""
    theirs = np.flatnonzero(np.isfinite(ra_deg) & np.isfinite(dec_deg))
    ours = np.flatnonzero(joinable(objects, "position"))
    left = Positions.checked(objects.ra_deg[ours], objects.dec_deg[ours], "object")
    right = Positions.checked(ra_deg[theirs], dec_deg[theirs], "catalogue")
    pairs = [np.empty((0, 2), dtype=np.int64)]
    for left_rows, right_rows, separation in neighbours(left, right, radius_arcsec):
        nearest, rounded = np.full(len(ours), np.inf), np.round(separation, TIE_DECIMALS)
        np.minimum.at(nearest, left_rows, rounded)
        near = rounded == nearest[left_rows]
        pairs.append(np.stack([ours[left_rows[near]], theirs[right_rows[near]]], axis=1))
    return np.concatenate(pairs)


def _id_texts(column: Any) -> Ids:
    """(row,) ids as text of digits without leading zeros, "" where missing."""
    raw = np.ma.asarray(column)
    if raw.dtype.kind not in "iuf":
        return np.array([each.lstrip("0") or each for each in column_texts(column).tolist()], dtype=np.str_)
    mask, values = np.ma.getmaskarray(raw), raw.filled(0)
    if raw.dtype.kind == "f":
        mask, values = mask | ~np.isfinite(values), np.where(np.isfinite(values), values, 0).astype(np.float64)
        if np.any(np.abs(values) >= EXACT_FLOAT):
            raise ValueError(
                f"the column {column.name} holds ids as floating-point numbers, whose last digits are lost; allowed: "
                "whole numbers or text"
            )
        if fractions := values[values % 1 != 0].tolist():
            raise ValueError(f"the column {column.name} holds the id {fractions[0]:g}; allowed: whole numbers or text")
        values = values.astype(np.int64)
    return np.where(mask, "", np.asarray(values).astype(np.str_))


def _spectrum_names(columns: Sequence[Any]) -> Ids:
    """(row,) plate-mjd-fiber of three columns of numbers, or of one of text."""
    texts = ["-".join(parts) for parts in zip(*(_id_texts(column).tolist() for column in columns), strict=True)]
    matches = [re.search(r"(\d+)-(\d+)-(\d+)", text) for text in texts]
    return np.array(["-".join(str(int(part)) for part in each.groups()) if each else "" for each in matches], np.str_)


def _plate_mjd_fiber(object_id: Ids) -> Ids:
    """(object,) plate-mjd-fiber that specobjid is made of (SDSS DR8 and later), "" where an id is no number."""
    names = []
    for text in object_id.tolist():
        number = int(text) if text.isdigit() else 0
        plate, mjd, fiber = number >> 50, ((number >> 24) & 0x3FFF) + 50000, (number >> 38) & 0xFFF
        names.append(f"{plate}-{mjd}-{fiber}" if plate else "")
    return np.array(names, dtype=np.str_)
