"""The catalogue that prediction writes: its columns with units, UCDs and descriptions, ready for TOPCAT and astropy."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from astropy import units as u
from astropy.table import Column, Table
from numpy.typing import NDArray

from mmagn.lines import REPORTED_LINES

Columns = Mapping[str, NDArray[Any]]
_COLUMNS: tuple[tuple[str, u.UnitBase | None, str, str], ...] = (
    ("sdss_object_id", None, "meta.id", "SDSS SPECOBJID, empty without a spectrum"),
    ("hsc_object_id", None, "meta.id", "HSC object id, empty without an image"),
    ("ra_deg", u.deg, "pos.eq.ra;meta.main", "Right ascension (ICRS), of the spectrum where there is one"),
    ("dec_deg", u.deg, "pos.eq.dec;meta.main", "Declination (ICRS), of the spectrum where there is one"),
    ("separation_arcsec", u.arcsec, "pos.angDistance", "Angle between the SDSS and the HSC position"),
    ("redshift", None, "src.redshift", "Heliocentric redshift of the spectrum"),
    (
        "modalities",
        None,
        "meta.code",
        "What it is made from: image+spectrum, image, spectrum; empty: nothing",
    ),
    ("logit", None, "stat.value", "Output of the network, mean over members"),
    ("probability", None, "stat.probability", "P(AGN) with the prior shift of the loss undone, mean over members"),
    (
        "calibrated_probability",
        None,
        "stat.probability;meta.main",
        "P(AGN) calibrated for these modalities, mean over members",
    ),
    (
        "probability_spread",
        None,
        "stat.stdev;stat.probability",
        "Standard deviation of calibrated_probability over members, undefined for one member",
    ),
    ("votes", None, "stat.probability", "Fraction of members that call it an AGN at their own threshold"),
    ("agn", None, "meta.code", "True where at least half of the members call it an AGN"),
    ("training_distance", None, "stat.value", "Distance from the training set; 1 is the given quantile of validation"),
    ("unlike_training", None, "meta.code", "True where training_distance is above 1: do not trust the probability"),
)
_LINE_COLUMNS = tuple(
    (
        f"flags_{name}",
        None,
        "meta.code.qual",
        f"Flags of the measurement of {name}, empty where good",
    )
    for name in REPORTED_LINES
)
CATALOG_COLUMNS = tuple(name for name, *_ in (*_COLUMNS, *_LINE_COLUMNS))
"""Names of all columns, in order."""


def catalog_table(columns: Columns, meta: Mapping[str, Any]) -> Table:
    """Return one row per galaxy with units, descriptions and UCDs (IVOA UCD1+).

    Parameters
    ----------
    columns
        (object,) values by name, all of ``CATALOG_COLUMNS``.
    meta
        Where the predictions come from; keys of at most eight letters, as FITS knows them.

    Raises
    ------
    ValueError
        Where a column is missing.
    """
    if missing := [name for name in CATALOG_COLUMNS if name not in columns]:
        raise ValueError(f"the catalogue of predictions has no column {missing[0]}")
    table = Table(meta=dict(meta))
    for name, unit, ucd, description in (*_COLUMNS, *_LINE_COLUMNS):
        values = np.asarray(columns[name])
        table[name] = Column(values, unit=unit, description=description, meta={"ucd": ucd})
    return table
