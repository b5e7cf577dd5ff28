"""The labels that a catalogue gives to the pairs of a run, the targets, and what the report states of them."""

import logging
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
from astropy.table import Column, Table

from mmagn.config.run_config import RunConfig
from mmagn.evaluation.agreement import label_agreement
from mmagn.labels.catalog import (
    ABSENT_COVERED,
    NEGATIVE,
    POSITIVE,
    UNKNOWN,
    WITHOUT_ROW,
    CatalogLabels,
    LabelCatalog,
)
from mmagn.labels.config import CatalogConfig
from mmagn.labels.joins import Objects
from mmagn.labels.presets import presets
from mmagn.labels.rules import parsed_rule
from mmagn.labels.scheme import target
from mmagn.records import Floats
from mmagn.surveys.http_index import local_file, plain_name

LABEL_COLUMN, REASON_COLUMN = "catalog_label", "catalog_reason"
"""Columns of tables of measurements and of predictions that hold the label of the catalogue, and why it is that."""
IMAGE_MAGNITUDE = "i_magnitude"
"""Quantity of the image that a depth rule may name."""

OF_PRESET = ("join", "columns", "positive", "negative", "quality", "made_of")
"""Settings of ``labels.catalog`` that a preset has too."""

logger = logging.getLogger(__name__)


def label_catalog(config: RunConfig) -> LabelCatalog:
    """Return the catalogue of ``labels.catalog``, downloaded into ``data.cache_dir`` where it is an address."""
    catalog, folder = config.labels.catalog, Path(config.data.cache_dir).expanduser() / "catalogs"
    named = {name: getattr(catalog, name) for name in ("table", "moc")}
    local: dict[str, Any] = {name: str(local_file(place, folder).absolute()) for name, place in named.items() if place}
    return read_catalog(replace(catalog, **local))


def read_catalog(catalog: CatalogConfig) -> LabelCatalog:
    """Return the catalogue of some settings whose files are on this machine."""
    return LabelCatalog.read(catalog, Path(catalog.table), Path(catalog.moc) if catalog.moc else None)


def catalog_settings(labels: Mapping[str, Any]) -> dict[str, Any]:
    """Return settings of ``labels.catalog`` by dotted name; with a table, the defaults of those that are not given."""
    defaults: dict[str, Any] = {each.name: each.default for each in fields(CatalogConfig)} | {"use": "score"}
    settings = {**(defaults if "table" in labels else {}), **labels}
    return {f"labels.catalog.{name}": value for name, value in settings.items()}


def prediction_catalog(config: RunConfig, trained: RunConfig) -> LabelCatalog | None:
    """Return the catalogue whose labels a table of predictions carries; None without one.

    That of the training is left out with a warning where it cannot be read here, since no prediction needs it.

    Parameters
    ----------
    config, trained
        Settings of the prediction, and of the training.

    Raises
    ------
    ValueError
        Where another catalogue than that of the training cannot be read.
    """
    catalog, other = config.labels.catalog, trained.labels.catalog
    if not catalog.table:
        return None
    for each in fields(CatalogConfig) if catalog.preset not in ("", other.preset) else ():
        value = getattr(catalog, each.name)
        if each.name in OF_PRESET and value != each.default and value == getattr(other, each.name):
            logger.warning(
                "labels.catalog.%s %s of the training stands above the preset %s; give it to change that",
                each.name,
                value,
                catalog.preset,
            )
    try:
        return label_catalog(config)
    except ValueError as error:
        if catalog != other:
            raise
        logger.warning("predictions have no column %s: %s", LABEL_COLUMN, error)
        return None


def outside_labels(config: RunConfig, table: Table, i_magnitude: Floats | None = None) -> CatalogLabels | None:
    """Return the labels that ``labels.catalog`` gives to measured objects; None without such a table.

    The two columns of the labels are added to the table; ``i_magnitude`` (object,) is for a depth rule, AB.
    """
    if not config.labels.catalog.table:
        return None
    catalog, objects = label_catalog(config), _measured_objects(table, i_magnitude)
    labels = add_labels(table, objects, catalog)
    catalog.check(objects, labels.joined, labels.covered)
    _log(catalog, labels.joined, Counter(labels.label.tolist()), Counter(labels.reasons()))
    return labels


def check_depth(config: RunConfig) -> None:
    """Raise where ``labels.catalog.depth`` asks for what a table without images does not have."""
    depth = config.labels.catalog.depth
    if depth and IMAGE_MAGNITUDE in [name.lower() for name in parsed_rule(depth).names]:
        raise ValueError(
            f"labels.catalog.depth is {depth}, but spectra alone have no {IMAGE_MAGNITUDE}; allowed: --pairs, or "
            "another rule"
        )


def labelled_tables(config: RunConfig, tables: Iterable[Table], i_magnitude: Floats | None = None) -> Iterator[Table]:
    """Yield tables of measurements with the two columns of the labels, where there is a catalogue.

    ``i_magnitude`` (object,) of all their rows is for a depth rule, AB. After the last table ``ValueError`` where not
    one object has a row in the catalogue or lies where it covers the sky.
    """
    if not config.labels.catalog.table:
        yield from tables
        return
    catalog = label_catalog(config)
    joined, counts, reasons, start = 0, Counter[str](), Counter[str](), 0
    for table in tables:
        objects = _measured_objects(table, None if i_magnitude is None else i_magnitude[start : start + len(table)])
        start += len(table)
        labels = add_labels(table, objects, catalog)
        joined += labels.joined
        counts.update(labels.label.tolist())
        reasons.update(labels.reasons())
        yield table
    if counts:
        catalog.check(objects, joined, bool(reasons[ABSENT_COVERED]))
    _log(catalog, joined, counts, reasons)


def add_labels(table: Table, objects: Objects, catalog: LabelCatalog) -> CatalogLabels:
    """Return the labels of the objects of a table, a row each, and add the two columns of the labels to it."""
    labels = catalog.labels(objects)
    about = f"Label of the catalogue {catalog.file.name}: positive, negative or unknown"
    table[LABEL_COLUMN] = Column(labels.label, description=about, meta={"ucd": "meta.code"})
    about = f"Why {LABEL_COLUMN} is unknown, or negative without a row in the catalogue"
    table[REASON_COLUMN] = Column(labels.reason, description=about, meta={"ucd": "meta.note"})
    return labels


def warn_without_rows(catalog: LabelCatalog, reasons: Counter[str]) -> None:
    """Warn where not one of some objects, counted by reason of their label, has a row in the catalogue."""
    if reasons.total() and reasons.total() == sum(reasons[name] for name in WITHOUT_ROW):
        logger.warning(
            "not one of %d galaxies has a row in %s (labels.catalog.join %s): check labels.catalog.columns and join",
            reasons.total(),
            catalog.file,
            catalog.config.join,
        )


def _measured_objects(table: Table, i_magnitude: Floats | None) -> Objects:
    columns = {name: table[name] for name in table.colnames} | {"sdss_object_id": table["object_id"]}
    columns |= {} if "hsc_object_id" in columns else {"hsc_object_id": np.full(len(table), "")}
    return label_objects(columns | ({} if i_magnitude is None else {IMAGE_MAGNITUDE: i_magnitude}))


def label_objects(columns: Mapping[str, Any]) -> Objects:
    """Return objects with some columns (object,), among them the ids of both surveys and the position."""
    return Objects(
        object_id=np.asarray(columns["sdss_object_id"], dtype=np.str_),
        hsc_object_id=np.asarray(columns["hsc_object_id"], dtype=np.str_),
        ra_deg=np.asarray(columns["ra_deg"], dtype=np.float64),
        dec_deg=np.asarray(columns["dec_deg"], dtype=np.float64),
        columns=columns,
    )


def _log(catalog: LabelCatalog, joined: int, counts: Counter[str], reasons: Counter[str]) -> None:
    text = ", ".join(f"{name} {counts[name]}" for name in (POSITIVE, NEGATIVE, UNKNOWN))
    logger.info("labels of %s: %d of %d objects joined; %s", catalog.file.name, joined, counts.total(), text)
    for reason, count in reasons.most_common():
        logger.info("labels of %s: %d x %s", catalog.file.name, count, reason)


def targets(config: RunConfig, table: Table, labels: CatalogLabels | None) -> Floats:
    """Return the targets (pair,) of the BPT class or of a catalogue: 1, 0, or NaN where a pair is left out.

    ``ValueError`` where the catalogue has no positive object among the pairs, or no negative one and no background is
    wanted.
    """
    if labels is None or not config.labels.catalog_trains:
        return target(table["bpt_class"])
    value, counts, catalog = labels.target, labels.counts(), config.labels.catalog
    counted = f"{catalog.table}: {counts[POSITIVE]} objects are positive, {counts[NEGATIVE]} negative, "
    counted += f"{counts[UNKNOWN]} unknown"
    if not counts[POSITIVE]:
        raise ValueError(f"{counted}; a label needs positive objects: check labels.catalog.positive")
    if catalog.unknown == "background":
        logger.warning(
            "positive-unlabelled data: %d objects of unknown label are trained and scored against as background; they "
            "hold positives, so precision and calibration are undefined",
            counts[UNKNOWN],
        )
        return np.nan_to_num(value, nan=0.0)
    if not counts[NEGATIVE]:
        raise ValueError(
            f"{counted}; allowed: a rule labels.catalog.negative, a region labels.catalog.moc or labels.catalog.depth "
            "where absent objects are negative, or labels.catalog.unknown background"
        )
    return value


def labels_summary(config: RunConfig, table: Table, labels: CatalogLabels | None) -> dict[str, Any]:
    """Return what the targets are made of, and how the BPT label and the catalogue agree, as plain values for JSON."""
    catalog = config.labels.catalog
    if labels is None:
        return {"source": "BPT", "independent": False}
    names = ("BPT", catalog.preset or plain_name(catalog.table))
    agreement = label_agreement(target(table["bpt_class"]), labels.target, names, config.evaluation)
    return {
        "source": "catalogue" if config.labels.catalog_trains else "BPT",
        "catalogue": plain_name(catalog.table),
        "publication": presets()[catalog.preset].source if catalog.preset else "",
        "made_of": catalog.resolved.made_of,
        "independent": catalog.independent,
        "unknown": catalog.unknown,
        "rows": labels.rows,
        "joined": labels.joined,
        "counts": labels.counts(),
        "reasons": labels.reasons(),
        "absent_cuts": list(labels.absent_cuts),
        "against_bpt": agreement.as_dict(),
    }
