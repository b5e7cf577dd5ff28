"""The table of predictions of a trained model."""

import numpy as np
from astropy import units
from astropy.table import Table
from numpy.typing import ArrayLike

from mmagn.evaluation.parts import DISAGREE_COLUMN, PART_COLUMNS
from mmagn.records import INDEX_COLUMNS

_UNITS = {
    "sdss_ra_deg": units.deg,
    "sdss_dec_deg": units.deg,
    "hsc_ra_deg": units.deg,
    "hsc_dec_deg": units.deg,
    "separation_arcsec": units.arcsec,
}
_COLUMN_TYPES = {
    "bpt_class": np.str_,
    "truth": np.float64,
    "logit": np.float64,
    "probability": np.float64,
    "calibrated_probability": np.float64,
    **dict.fromkeys(PART_COLUMNS.values(), np.float64),
    DISAGREE_COLUMN: np.bool_,
    "split": np.str_,
}


def predictions_table(objects: Table, **columns: ArrayLike) -> Table:
    """Return one row per object of a part of the index of a store: ids, positions, class, truth, output, and split.

    Columns are (object,) each: ``bpt_class``; ``truth``, 1 positive, 0 negative, NaN where the class is neither;
    ``logit``, output of the network; ``probability``, with the prior shift of the loss undone;
    ``calibrated_probability``, after calibration on the validation split; those of
    :func:`mmagn.evaluation.parts.part_columns`; ``split``.
    """
    table = Table({name: np.asarray(objects[name]) for name in INDEX_COLUMNS})
    for name, kind in _COLUMN_TYPES.items():
        table[name] = np.asarray(columns[name], dtype=kind)
    for name, unit in _UNITS.items():
        table[name].unit = unit
    return table
