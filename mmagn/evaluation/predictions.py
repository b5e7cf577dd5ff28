"""The table of predictions of a trained model."""

from pathlib import Path

import numpy as np
from astropy import units
from astropy.table import Table
from numpy.typing import ArrayLike

from mmagn.records import INDEX_COLUMNS
from mmagn.storage.files import whole_file

_UNITS = {
    "sdss_ra_deg": units.deg,
    "sdss_dec_deg": units.deg,
    "hsc_ra_deg": units.deg,
    "hsc_dec_deg": units.deg,
    "separation_arcsec": units.arcsec,
}


def predictions_table(
    objects: Table,
    *,
    bpt_class: ArrayLike,
    truth: ArrayLike,
    logit: ArrayLike,
    probability: ArrayLike,
    calibrated_probability: ArrayLike,
    split: ArrayLike,
) -> Table:
    """Return one row per object: ids, positions, class, truth, output of the model, and split.

    Parameters
    ----------
    objects
        Index of the store, one row per object of the table, with ``INDEX_COLUMNS``.
    bpt_class
        (object,) name of the class.
    truth
        (object,) 1 positive, 0 negative, NaN where the class is neither.
    logit
        (object,) output of the network.
    probability
        (object,) with the prior shift of the loss undone.
    calibrated_probability
        (object,) after calibration on the validation split.
    split
        (object,) ``train``, ``validation`` or ``test``.

    Raises
    ------
    ValueError
        Where a column of ``objects`` is missing or lengths differ.
    """
    if missing := [name for name in INDEX_COLUMNS if name not in objects.colnames]:
        raise ValueError(f"the index of the pairs has no column {missing[0]}; needed: {', '.join(INDEX_COLUMNS)}")
    table = Table({name: np.asarray(objects[name]) for name in INDEX_COLUMNS})
    added = {
        "bpt_class": np.asarray(bpt_class, dtype=np.str_),
        "truth": np.asarray(truth, dtype=np.float64),
        "logit": np.asarray(logit, dtype=np.float64),
        "probability": np.asarray(probability, dtype=np.float64),
        "calibrated_probability": np.asarray(calibrated_probability, dtype=np.float64),
        "split": np.asarray(split, dtype=np.str_),
    }
    for name, values in added.items():
        if values.shape != (len(objects),):
            raise ValueError(f"{name} has shape {values.shape} for {len(objects)} objects; allowed: one per object")
        table[name] = values
    for name, unit in _UNITS.items():
        table[name].unit = unit
    return table


def save_predictions(table: Table, path: Path) -> None:
    """Write predictions as Parquet, atomically."""
    with whole_file(path) as part:
        table.write(part, format="parquet", overwrite=True)
