"""The catalogue of predictions: its columns with units, UCDs and descriptions, for TOPCAT and astropy."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from astropy import units as u
from astropy.table import Column, MaskedColumn, Table
from numpy.typing import NDArray

from mmagn.evaluation.parts import DISAGREE_COLUMN, PART_COLUMNS
from mmagn.lines import REPORTED_LINES

NOT_APPLICABLE = ("quasar", "star", "broad line")
"""Reasons for which a spectrum is not classified; ``agn`` is null there, since training had no such objects."""
_COLUMNS: tuple[tuple[str, str, str], ...] = (
    ("sdss_object_id", "meta.id", "SDSS SPECOBJID, empty without a spectrum"),
    ("hsc_object_id", "meta.id", "HSC object id, empty without an image"),
    ("ra_deg", "pos.eq.ra;meta.main", "Right ascension (ICRS), of the spectrum where there is one"),
    ("dec_deg", "pos.eq.dec;meta.main", "Declination (ICRS), of the spectrum where there is one"),
    ("separation_arcsec", "pos.angDistance", "Angle between the SDSS and the HSC position"),
    ("redshift", "src.redshift", "Heliocentric redshift of the spectrum"),
    ("modalities", "meta.code", "Input of the prediction: image+spectrum, image, spectrum; empty: none"),
    ("logit", "stat.value", "Output of the network, mean over members"),
    ("probability", "stat.probability", "P(AGN) corrected for the class weight of the loss, mean over members"),
    ("calibrated_probability", "stat.probability;meta.main", "P(AGN) calibrated for the modalities, mean over members"),
    (
        "probability_spread",
        "stat.stdev;stat.probability",
        "Standard deviation of calibrated_probability over members, undefined for one member",
    ),
    ("votes", "stat.probability", "Fraction of members whose calibrated probability reaches their own threshold"),
    ("agn", "meta.code", "True where votes is 0.5 or more; null for quasars, stars and broad lines, see reason"),
    *(
        (column, "stat.probability", f"P(AGN) from the {name} alone, calibrated, mean over members; NaN without it")
        for name, column in PART_COLUMNS.items()
    ),
    (
        DISAGREE_COLUMN,
        "meta.code",
        "True where one modality alone raises the odds of an AGN by a factor of 3.2 and another lowers them as much",
    ),
    ("training_distance", "stat.value", "Distance from the training set; 1 is the given quantile of validation"),
    ("unlike_training", "meta.code", "True where training_distance is above 1: the probability is not reliable"),
    ("bpt_class", "src.class", "BPT class of the spectrum, unclassified where reason is not empty"),
    ("reason", "meta.note", "Why there is no BPT class; empty where there is one"),
    *(
        (f"flags_{name}", "meta.code.qual", f"Flags of the measurement of {name}, empty: good")
        for name in REPORTED_LINES
    ),
)
_UNITS = {"ra_deg": u.deg, "dec_deg": u.deg, "separation_arcsec": u.arcsec}
CATALOG_COLUMNS = tuple(name for name, *_ in _COLUMNS)
"""Names of all columns, in order."""


def catalog_table(columns: Mapping[str, NDArray[Any]], meta: Mapping[str, Any]) -> Table:
    """Return one row per galaxy with units, descriptions and UCDs (IVOA UCD1+); ``agn`` may be masked.

    ``columns`` are (object,) values by name, all of ``CATALOG_COLUMNS``, else ``ValueError``; keys of ``meta``, the
    provenance, have at most eight letters, as FITS requires.
    """
    if missing := [name for name in CATALOG_COLUMNS if name not in columns]:
        raise ValueError(f"the catalogue of predictions has no column {missing[0]}")
    table = Table(meta=dict(meta))
    for name, ucd, description in _COLUMNS:
        values = np.asarray(columns[name])
        about: dict[str, Any] = {"unit": _UNITS.get(name), "description": description, "meta": {"ucd": ucd}}
        if name == "agn":
            table[name] = MaskedColumn(values, mask=np.isin(columns["reason"], NOT_APPLICABLE), **about)
        else:
            table[name] = Column(values, **about)
    return table
