"""The eight features of the spectrum, out of a line table."""

import numpy as np
from astropy.table import Column, Table

from mmagn.features.names import FEATURE_NAMES
from mmagn.features.vector import FEATURE_UNITS

SPECTRAL_NAMES: tuple[str, ...] = FEATURE_NAMES[:8]


def spectral_features(lines: Table) -> Table:
    """Return the eight spectral features of each row of a line table.

    Fluxes, equivalent widths and the continuum level are the columns of the line table under the same names, in its
    units. The logarithm of [O III] 5007 / H-beta is NaN unless both fluxes are positive.

    Parameters
    ----------
    lines
        As of ``spectroscopy.emission.line_table``.

    Returns
    -------
    Table
        (object) rows and the first eight of ``FEATURE_NAMES`` as float64 columns with units; NaN where undefined.
    """
    oiii = np.asarray(lines["flux_oiii_5007"], dtype=np.float64)
    hbeta = np.asarray(lines["flux_hbeta"], dtype=np.float64)
    defined = (oiii > 0) & (hbeta > 0)
    ratio = np.divide(oiii, hbeta, out=np.full(len(lines), np.nan), where=defined)
    values = {name: lines[name] for name in SPECTRAL_NAMES if name != "log_oiii_hbeta"}
    values["log_oiii_hbeta"] = np.log10(ratio)
    return Table(
        [Column(np.asarray(values[name], dtype=np.float64), name, unit=FEATURE_UNITS[name]) for name in SPECTRAL_NAMES]
    )
