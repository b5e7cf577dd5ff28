"""Labels of a table from outside, joined with mmagn's objects: positive, negative or unknown, each with its reason."""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
from astropy import units as u
from astropy.table import Table
from numpy.typing import NDArray

from mmagn.labels.config import LISTED, REST, CatalogConfig
from mmagn.labels.presets import desi_bits, presets
from mmagn.labels.rules import EXACT_FLOAT, Truth, column_names, parsed_rule, plain_text
from mmagn.matching.moc import SkyRegion, read_moc
from mmagn.matching.sky import TIE_DECIMALS, Positions, neighbours
from mmagn.records import Floats
from mmagn.storage.table_reading import column_numbers, read_table
from mmagn.surveys.config import DESI
from mmagn.surveys.files.other_spectra import OWN_SURVEY

POSITIVE, NEGATIVE, UNKNOWN = "positive", "negative", "unknown"
ABSENT, ABSENT_COVERED = "not in the catalogue", "not in the catalogue, which covers the place"
UNMEASURED, NEITHER = "the rules need a value that is missing", "neither the positive nor the negative rule holds"
BOTH, DISAGREE = "both rules hold", "rows of the catalogue disagree"
UNJOINABLE = "it has no id or position that rows are joined by"
_FORMS = {
    "specobjid": "whole numbers or texts of digits such as 299489677444933632, not plate, mjd and fiber",
    "plate-mjd-fiber": "three columns such as plate 266, mjd 51630, fiberid 1, or one text such as 266-51630-1",
    "targetid": "whole numbers or texts of digits such as 39627902966927364",
    "hsc": "whole numbers or texts of digits such as 36411448540264457",
}

Labels = NDArray[np.str_]


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

    object_id: Labels
    hsc_object_id: Labels
    ra_deg: Floats
    dec_deg: Floats
    columns: Mapping[str, Any]


@dataclass(frozen=True, kw_only=True, eq=False)
class CatalogLabels:
    """Labels of the objects.

    Attributes
    ----------
    label
        (object,) ``positive``, ``negative`` or ``unknown``.
    reason
        (object,) why, where the label is unknown or comes from the coverage; else "".
    rows, joined
        Rows of the table, and objects that have one.
    """

    label: Labels
    reason: Labels
    rows: int
    joined: int

    @property
    def target(self) -> Floats:
        """(object,) 1 positive, 0 negative, NaN unknown."""
        return np.select([self.label == POSITIVE, self.label == NEGATIVE], [1.0, 0.0], default=np.nan)

    def counts(self) -> dict[str, int]:
        """Return the number of objects of each label."""
        return {name: int(np.sum(self.label == name)) for name in (POSITIVE, NEGATIVE, UNKNOWN)}

    def reasons(self) -> dict[str, int]:
        """Return the number of objects by reason, the most frequent first."""
        return dict(Counter(text for text in self.reason.tolist() if text).most_common())


@dataclass(frozen=True, kw_only=True, eq=False)
class LabelCatalog:
    """A table of labels, read once.

    Attributes
    ----------
    file, table, config
        Where it is, what it holds, and how it is used, the settings of its preset included.
    region
        Part of the sky that it covers; None where that is not stated.
    label, reason
        (row,) of the table.
    """

    file: Path
    table: Table
    config: CatalogConfig
    region: SkyRegion | None
    label: Labels
    reason: Labels

    @classmethod
    def read(cls, config: CatalogConfig, file: Path, moc: Path | None = None) -> Self:
        """Return the catalogue in a file, and the region in another one.

        Raises
        ------
        ValueError
            Where one of them cannot be read, or a rule does not fit the table: one sentence.
        """
        resolved, table = config.resolved, read_table(file)
        try:
            label, reason = _row_labels(table, resolved)
        except ValueError as error:
            raise ValueError(f"{file}: {error}") from None
        region = None if moc is None else read_moc(moc)
        return cls(file=file, table=table, config=resolved, region=region, label=label, reason=reason)

    def labels(self, objects: Objects) -> CatalogLabels:
        """Return the labels of some objects; ``ValueError`` where the columns of the ids are missing or of no use."""
        joinable = _joinable(objects, self.config.join)
        try:
            pairs = _joined(objects, self.table, self.config)
        except ValueError as error:
            raise ValueError(f"{self.file}: {error}") from None
        covered = joinable & _covered(objects, self.config, self.region)
        label = np.where(covered, NEGATIVE, UNKNOWN).astype("U8")
        reason = np.select([covered, joinable], [ABSENT_COVERED, ABSENT], UNJOINABLE).astype("U64")
        order = np.argsort(pairs[:, 0], kind="stable")
        places, starts = np.unique(pairs[order, 0], return_index=True)
        groups = np.split(pairs[order, 1], starts[1:]) if len(places) else []
        for place, rows in zip(places.tolist(), groups, strict=True):
            names = np.unique(self.label[rows][self.label[rows] != UNKNOWN])
            label[place] = names[0] if len(names) == 1 else UNKNOWN
            reason[place] = "" if len(names) == 1 else DISAGREE if len(names) else self.reason[rows[0]]
        return CatalogLabels(label=label, reason=reason, rows=len(self.table), joined=len(places))

    def check(self, objects: Objects, labels: CatalogLabels) -> None:
        """Raise where no row belongs to one of the objects, and the catalogue covers none of their places."""
        if not labels.joined and not (labels.reason == ABSENT_COVERED).any():
            raise ValueError(_nothing_joined(objects, self.table, self.config, self.file))


def rule_columns(table: Table, names: Mapping[str, Sequence[str]]) -> dict[str, Any]:
    """Return the columns of a table by name, and by those names of a preset that the table has another word for."""
    columns: dict[str, Any] = {name: table[name] for name in table.colnames}
    for name in names:
        present = _published_name(table, names, name)
        if present in table.colnames:
            columns = {key: value for key, value in columns.items() if key.lower() != name.lower()}
            columns[name] = table[present]
    return columns


def _published_name(table: Table, names: Mapping[str, Sequence[str]], name: str) -> str:
    """Return the first of the columns that a name of a preset may have; the name itself where there is none."""
    lower = {each.lower(): each for each in table.colnames}
    return next((lower[each.lower()] for each in names.get(name, ()) if each.lower() in lower), name)


def _id_columns(table: Table, config: CatalogConfig) -> list[str]:
    """Return the columns that rows are joined by."""
    names = presets()[config.preset].names if config.preset else {}
    return column_names([_published_name(table, names, name) for name in config.columns], table.colnames)


def _row_labels(table: Table, config: CatalogConfig) -> tuple[Labels, Labels]:
    """Label and reason of each row of the table."""
    columns = rule_columns(table, presets()[config.preset].names if config.preset else {})
    every = np.ones(len(table), dtype=bool)
    positive = Truth(every, every) if config.positive == LISTED else _rule_truth("positive", columns, config)
    if config.negative == REST:
        negative = Truth(positive.false, positive.known)
    elif config.negative:
        negative = _rule_truth("negative", columns, config)
    else:
        negative = Truth(~every, every)
    label = np.select([positive.true & negative.false, negative.true & positive.false], [POSITIVE, NEGATIVE], UNKNOWN)
    reason = np.select(
        [label != UNKNOWN, positive.true & negative.true, positive.known & negative.known],
        ["", BOTH, NEITHER],
        UNMEASURED,
    )
    return label, reason


def _rule_truth(name: str, columns: Mapping[str, Any], config: CatalogConfig) -> Truth:
    try:
        return parsed_rule(getattr(config, name)).truth(columns, config.missing, desi_bits())
    except ValueError as error:
        raise ValueError(f"labels.catalog.{name}: {error}") from None


def _joinable(objects: Objects, join: str) -> NDArray[np.bool_]:
    """(object,) True where an object has what rows are joined by: the others are not absent from the table."""
    if join == "position":
        return np.isfinite(objects.ra_deg) & np.isfinite(objects.dec_deg)
    if join == "hsc":
        return np.asarray(objects.hsc_object_id != "")
    ids = _plate_mjd_fiber(objects.object_id) if join == "plate-mjd-fiber" else objects.object_id
    survey = objects.columns.get("survey")
    if survey is None:
        return np.asarray(ids != "")
    survey = np.asarray(survey, dtype=np.str_)
    of_survey = survey == DESI if join == "targetid" else ~np.isin(survey, (DESI, OWN_SURVEY))
    return np.asarray((ids != "") & of_survey)


def _joined(objects: Objects, table: Table, config: CatalogConfig) -> NDArray[np.int64]:
    """(pair, 2) rows of objects and of the table that belong together."""
    try:
        names = _id_columns(table, config)
    except ValueError as error:
        raise ValueError(f"labels.catalog.columns: {error}") from None
    columns = [table[name] for name in names]
    if config.join == "position":
        return _near(objects, columns, config)
    if config.join == "plate-mjd-fiber":
        ours, theirs = _plate_mjd_fiber(objects.object_id), _spectrum_names(columns, names)
    else:
        ours = objects.hsc_object_id if config.join == "hsc" else objects.object_id
        if len(columns) != 1:
            raise ValueError(f"labels.catalog.columns names {len(columns)} columns; allowed for {config.join}: one")
        theirs = _id_texts(columns[0], names[0])
    place: dict[str, list[int]] = {}
    for row in np.flatnonzero(np.isin(theirs, ours)).tolist():
        place.setdefault(str(theirs[row]), []).append(row)
    pairs = [(number, row) for number, text in enumerate(ours.tolist()) if text for row in place.get(text, ())]
    return np.array(pairs, dtype=np.int64).reshape(-1, 2)


def _near(objects: Objects, columns: Sequence[Any], config: CatalogConfig) -> NDArray[np.int64]:
    """(pair, 2) each object with its nearest row within the radius, with all of those that are equally near."""
    if len(columns) != 2:
        raise ValueError(f"labels.catalog.columns names {len(columns)} columns; allowed for position: RA and Dec")
    ra_deg, dec_deg = (column_numbers(column, u.deg) for column in columns)
    theirs = np.flatnonzero(np.isfinite(ra_deg) & np.isfinite(dec_deg))
    ours = np.flatnonzero(_joinable(objects, "position"))
    left = Positions.checked(objects.ra_deg[ours], objects.dec_deg[ours], "object")
    right = Positions.checked(ra_deg[theirs], dec_deg[theirs], "catalogue")
    pairs = [np.empty((0, 2), dtype=np.int64)]
    for left_rows, right_rows, separation in neighbours(left, right, config.radius_arcsec):
        nearest, rounded = np.full(len(ours), np.inf), np.round(separation, TIE_DECIMALS)
        np.minimum.at(nearest, left_rows, rounded)
        near = rounded == nearest[left_rows]
        pairs.append(np.stack([ours[left_rows[near]], theirs[right_rows[near]]], axis=1))
    return np.concatenate(pairs)


def _id_texts(column: Any, name: str) -> Labels:
    """(row,) ids as text of digits without leading zeros, "" where missing."""
    raw = np.ma.asarray(column)
    mask = np.ma.getmaskarray(raw)
    if raw.dtype.kind in "iu":
        return np.where(mask, "", np.asarray(raw.filled(0)).astype(np.str_))
    if raw.dtype.kind == "f":
        values = raw.filled(np.nan)
        finite = np.isfinite(values)
        if np.any(np.abs(values[finite]) >= EXACT_FLOAT):
            raise ValueError(
                f"the column {name} holds ids as floating-point numbers, whose last digits are lost; allowed: whole "
                "numbers or text"
            )
        whole = np.where(finite, values, 0).astype(np.int64)
        return np.where(mask | ~finite, "", whole.astype(np.str_))
    text = plain_text(raw.filled(b"" if raw.dtype.kind == "S" else ""))
    return np.array([each.lstrip("0") or each for each in text.tolist()], dtype=np.str_)


def _spectrum_names(columns: Sequence[Any], names: Sequence[str]) -> Labels:
    """(row,) plate-mjd-fiber of three columns of numbers, or of one of text."""
    if len(columns) == 3:
        numbers = [_id_texts(column, name) for column, name in zip(columns, names, strict=True)]
        whole = np.logical_and.reduce([each != "" for each in numbers])
        joined = np.char.add(np.char.add(np.char.add(numbers[0], "-"), np.char.add(numbers[1], "-")), numbers[2])
        return np.where(whole, joined, "")
    if len(columns) != 1:
        raise ValueError(
            f"labels.catalog.columns names {len(columns)} columns; allowed for plate-mjd-fiber: three, or one of text"
        )
    matches = [re.search(r"(\d+)-(\d+)-(\d+)", text) for text in _id_texts(columns[0], names[0]).tolist()]
    return np.array(["-".join(str(int(part)) for part in each.groups()) if each else "" for each in matches], np.str_)


def _plate_mjd_fiber(object_id: Labels) -> Labels:
    """(object,) plate-mjd-fiber that specobjid is made of (SDSS DR8 and later), "" where an id is no number."""
    names = []
    for text in object_id.tolist():
        number = int(text) if text.isdigit() else 0
        plate, mjd, fiber = number >> 50, ((number >> 24) & 0x3FFF) + 50000, (number >> 38) & 0xFFF
        names.append(f"{plate}-{mjd}-{fiber}" if plate else "")
    return np.array(names, dtype=np.str_)


def _covered(objects: Objects, config: CatalogConfig, region: SkyRegion | None) -> NDArray[np.bool_]:
    """(object,) True where the catalogue would list a positive object."""
    if region is None and not config.depth:
        return np.zeros(len(objects.ra_deg), dtype=bool)
    covered: NDArray[np.bool_] = np.ones(len(objects.ra_deg), dtype=bool)
    if region is not None:
        covered &= region.contains(objects.ra_deg, objects.dec_deg)
    if config.depth:
        try:
            covered &= parsed_rule(config.depth).truth(objects.columns).true
        except ValueError as error:
            raise ValueError(f"labels.catalog.depth: {error}") from None
    return covered


def _nothing_joined(objects: Objects, table: Table, config: CatalogConfig, file: Path) -> str:
    names = _id_columns(table, config)
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
