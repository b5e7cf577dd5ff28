"""Labels of a table from outside, joined with mmagn's objects: positive, negative or unknown, each with its reason."""

import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
from astropy.table import Table
from numpy.typing import NDArray

from mmagn.labels.config import LISTED, NO_CUT, REST, CatalogConfig
from mmagn.labels.joins import Objects, joinable, joined, nothing_joined
from mmagn.labels.presets import Preset, desi_bits, presets, published_name
from mmagn.labels.rules import Rule, column_names, parsed_rule
from mmagn.labels.truth import Truth
from mmagn.matching.moc import SkyRegion, read_moc
from mmagn.records import Floats
from mmagn.storage.table_reading import read_table
from mmagn.storage.texts import column_texts

POSITIVE, NEGATIVE, UNKNOWN = "positive", "negative", "unknown"
ABSENT, ABSENT_COVERED = "not in the catalogue", "not in the catalogue, which covers the place"
UNMEASURED, NEITHER = "the rules need a value that is missing", "neither the positive nor the negative rule holds"
BOTH, DISAGREE = "both rules hold", "rows of the catalogue disagree"
UNJOINABLE = "it has no id or position that rows are joined by"
WITHOUT_ROW = (ABSENT, ABSENT_COVERED, UNJOINABLE)
"""Reasons of objects that have no row of the table."""
TEXTS_NAMED = 8

Labels = NDArray[np.str_]

logger = logging.getLogger(__name__)


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
    absent_cuts
        Quality cuts of the preset that the table has no columns for.
    """

    label: Labels
    reason: Labels
    rows: int
    joined: int
    absent_cuts: tuple[str, ...] = ()

    @property
    def target(self) -> Floats:
        """(object,) 1 positive, 0 negative, NaN unknown."""
        return np.select([self.label == POSITIVE, self.label == NEGATIVE], [1.0, 0.0], default=np.nan)

    @property
    def covered(self) -> bool:
        """Whether the catalogue covers the place of an object that it does not list."""
        return bool((self.reason == ABSENT_COVERED).any())

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
    absent_cuts
        Quality cuts of the preset that the table has no columns for.
    """

    file: Path
    table: Table
    config: CatalogConfig
    region: SkyRegion | None
    label: Labels
    reason: Labels
    absent_cuts: tuple[str, ...]

    @classmethod
    def read(cls, config: CatalogConfig, file: Path, moc: Path | None = None) -> Self:
        """Return the catalogue in a file, and the region in another one.

        Raises
        ------
        ValueError
            Where one of them cannot be read, or a rule does not fit the table: one sentence.
        """
        resolved, table = config.resolved, read_table(file)
        preset = presets().get(config.preset)
        try:
            columns = rule_columns(table, preset)
            label, reason = _row_labels(columns, len(table), resolved)
            cuts, absent_cuts = _cuts(resolved, preset, columns)
            for name, rule in cuts.items():
                failed = (reason == "") & ~_truth("quality", rule, columns, resolved).true
                label, reason = np.where(failed, UNKNOWN, label), np.where(failed, f"quality cut: {name}", reason)
        except ValueError as error:
            raise ValueError(f"{file}: {error}") from None
        if absent_cuts:
            logger.warning(
                "%s has no column for the quality cuts of %s: %s", file, config.preset, "; ".join(absent_cuts)
            )
        for name in ("positive", "negative", "quality"):
            _warn_of_texts(file, name, getattr(config, name), columns)
        return cls(
            file=file,
            table=table,
            config=resolved,
            region=None if moc is None else read_moc(moc),
            label=label,
            reason=reason,
            absent_cuts=absent_cuts,
        )

    def labels(self, objects: Objects) -> CatalogLabels:
        """Return the labels of some objects; ``ValueError`` where the columns of the ids are missing or of no use."""
        has_id = joinable(objects, self.config.join)
        try:
            pairs = joined(objects, self.table, self.config)
        except ValueError as error:
            raise ValueError(f"{self.file}: {error}") from None
        covered = has_id & _covered(objects, self.config, self.region)
        label = np.where(covered, NEGATIVE, UNKNOWN).astype("U8")
        reason = np.select([covered, has_id], [ABSENT_COVERED, ABSENT], UNJOINABLE)
        reason = reason.astype(np.result_type("U64", self.reason.dtype))
        order = np.argsort(pairs[:, 0], kind="stable")
        places, starts = np.unique(pairs[order, 0], return_index=True)
        groups = np.split(pairs[order, 1], starts[1:]) if len(places) else []
        for place, rows in zip(places.tolist(), groups, strict=True):
            names = np.unique(self.label[rows][self.label[rows] != UNKNOWN])
            label[place] = names[0] if len(names) == 1 else UNKNOWN
            reason[place] = "" if len(names) == 1 else DISAGREE if len(names) else self.reason[rows[0]]
        return CatalogLabels(
            label=label, reason=reason, rows=len(self.table), joined=len(places), absent_cuts=self.absent_cuts
        )

    def check(self, objects: Objects, joined_objects: int, covered: bool) -> None:
        """Raise where no row belongs to one of the objects; warn instead where the catalogue covers their places."""
        if joined_objects:
            return
        sentence = nothing_joined(objects, self.table, self.config, self.file)
        if not covered:
            raise ValueError(sentence)
        logger.warning("%s; what the catalogue covers is negative", sentence)


def rule_columns(table: Table, preset: Preset | None) -> dict[str, Any]:
    """Return the columns of a table by name, and by those names of a preset that the table has another word for.

    Raises
    ------
    ValueError
        Where magnitudes of a preset that takes Vega magnitudes are stated to be AB.
    """
    columns: dict[str, Any] = {name: table[name] for name in table.colnames}
    names: Mapping[str, Sequence[str]] = preset.names if preset else {}
    for name in names:
        present = published_name(table.colnames, names, name)
        if present in table.colnames:
            columns = {key: value for key, value in columns.items() if key.lower() != name.lower()}
            columns[name] = table[present]
    for name in preset.vega if preset else ():
        if name in columns and "AB" in str(columns[name].unit):
            raise ValueError(f"column {columns[name].name} has the unit {columns[name].unit}; allowed: Vega magnitudes")
    return columns


def _row_labels(columns: Mapping[str, Any], rows: int, config: CatalogConfig) -> tuple[Labels, Labels]:
    """Label and reason of each row of the table."""
    every = np.ones(rows, dtype=bool)
    positive = Truth(every, every)
    if config.positive != LISTED:
        positive = _truth("positive", config.positive, columns, config)
    if config.negative == REST:
        negative = positive.negated()
    elif config.negative:
        negative = _truth("negative", config.negative, columns, config)
    else:
        negative = Truth(~every, every)
    label = np.select([positive.true & negative.false, negative.true & positive.false], [POSITIVE, NEGATIVE], UNKNOWN)
    reason = np.select(
        [label != UNKNOWN, positive.true & negative.true, positive.known & negative.known],
        ["", BOTH, NEITHER],
        UNMEASURED,
    )
    return label, reason


def _truth(name: str, rule: str, columns: Mapping[str, Any], config: CatalogConfig) -> Truth:
    try:
        return parsed_rule(rule).truth(columns, config.missing, desi_bits())
    except ValueError as error:
        of_preset = name == "quality" and not config.quality
        hint = f" (a cut of the preset {config.preset}; quality none makes no cut)" if of_preset else ""
        raise ValueError(f"labels.catalog.{name}: {error}{hint}") from None


def _cuts(
    config: CatalogConfig, preset: Preset | None, columns: Mapping[str, Any]
) -> tuple[dict[str, str], tuple[str, ...]]:
    """Rules of the quality cuts by name, and names of those for which the table has no column."""
    if config.quality or not preset:
        return ({} if config.quality in ("", NO_CUT) else {config.quality: config.quality}), ()
    lower = {name.lower() for name in columns}
    fitting = {
        name: next((rule for rule in rules if {each.lower() for each in parsed_rule(rule).names} <= lower), "")
        for name, rules in preset.cuts.items()
    }
    return {name: rule for name, rule in fitting.items() if rule}, tuple(
        name for name, rule in fitting.items() if not rule
    )


def _warn_of_texts(file: Path, name: str, rule: str, columns: Mapping[str, Any]) -> None:
    """Name the texts of a rule of the user that no row has."""
    parsed: Rule | None = None if rule in ("", LISTED, REST, NO_CUT) else parsed_rule(rule)
    for column, text in parsed.texts if parsed else ():
        present = np.unique(column_texts(columns[column_names([column], list(columns))[0]]))
        if text not in present:
            some = ", ".join(present[:TEXTS_NAMED].tolist()) + (", ..." if len(present) > TEXTS_NAMED else "")
            logger.warning("%s: labels.catalog.%s: no row of %s has %r; it has %s", file, name, column, text, some)


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
