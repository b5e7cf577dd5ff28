"""The ten handcrafted features: names, order, units, and the matrix a network reads."""

import numpy as np
from astropy import units as u
from astropy.table import MaskedColumn, Table
from numpy.typing import NDArray

from mmagn.features.names import FEATURE_NAMES

LINE_FLUX_UNIT = u.Unit("1e-17 erg / (s cm2)")
FLUX_DENSITY_UNIT = u.Unit("1e-17 erg / (s cm2 Angstrom)")

FEATURE_UNITS: dict[str, u.UnitBase] = {
    "flux_oiii_5007": LINE_FLUX_UNIT,
    "flux_halpha": LINE_FLUX_UNIT,
    "flux_hbeta": LINE_FLUX_UNIT,
    "flux_nii_6584": LINE_FLUX_UNIT,
    "continuum_level": FLUX_DENSITY_UNIT,
    "ew_halpha": u.AA,
    "ew_oiii_5007": u.AA,
    "log_oiii_hbeta": u.dex,
    "concentration": u.dimensionless_unscaled,
    "contrast": u.dimensionless_unscaled,
}
"""Unit of each of ``FEATURE_NAMES``, in their order."""


def feature_matrix(table: Table) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Return the ten features of each row and which of them are defined.

    Parameters
    ----------
    table
        One row per object with a column for each of ``FEATURE_NAMES``; masked entries count as undefined.

    Returns
    -------
    values
        (object, feature) float64 in the units of ``FEATURE_UNITS``, NaN where undefined.
    valid
        (object, feature) True where the value is defined.

    Raises
    ------
    ValueError
        If a feature has no column.
    """
    missing = [name for name in FEATURE_NAMES if name not in table.colnames]
    if missing:
        raise ValueError(f"the table has no column {', '.join(missing)}; needed: {', '.join(FEATURE_NAMES)}")
    values = np.stack([_filled(table, name) for name in FEATURE_NAMES], axis=1)
    valid = np.isfinite(values)
    return np.where(valid, values, np.nan), valid


def _filled(table: Table, name: str) -> NDArray[np.float64]:
    column = table[name]
    if isinstance(column, MaskedColumn):
        column = column.astype(np.float64).filled(np.nan)
    return np.asarray(column, dtype=np.float64)
