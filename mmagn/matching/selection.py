"""Which pairs of a store the settings select."""

import numpy as np
from astropy.table import Table
from numpy.typing import NDArray

from mmagn.records import CELL_NSIDE
from mmagn.surveys.config import DataConfig
from mmagn.surveys.screen import redshift_reasons


def unselected_pairs(index: Table, data: DataConfig) -> list[tuple[NDArray[np.bool_], str]]:
    """Return which pairs of a store are not selected, and why."""
    import healpy  # only here: a process that only reads a store starts sooner without it

    reasons = list(redshift_reasons(np.asarray(index["redshift"], dtype=np.float64), data))
    surveys = ", ".join(data.spectra)
    reasons.append((~np.isin(index["survey"], data.spectra), f"survey is not in data.spectra {surveys}"))
    for survey in ("sdss", "hsc") if data.cells else ():
        ra_deg, dec_deg = (np.asarray(index[f"{survey}_{axis}_deg"]) for axis in ("ra", "dec"))
        cell = healpy.ang2pix(CELL_NSIDE, ra_deg, dec_deg, nest=True, lonlat=True)
        reasons.append((~np.isin(cell, data.cells), f"{survey} position is not in data.cells"))
    return reasons
