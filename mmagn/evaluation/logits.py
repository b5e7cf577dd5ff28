"""What a trained model says about objects: logits, and the table of predictions."""

from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
import torch
from astropy import units
from astropy.table import Table
from numpy.typing import ArrayLike, NDArray
from torch import Tensor, nn

from mmagn.records import INDEX_COLUMNS

_UNITS = {
    "sdss_ra_deg": units.deg,
    "sdss_dec_deg": units.deg,
    "hsc_ra_deg": units.deg,
    "hsc_dec_deg": units.deg,
    "separation_arcsec": units.arcsec,
}
_WITHHELD = ("target", "index")


def predicted_logits(
    model: nn.Module, loader: Iterable[Mapping[str, Tensor]], device: torch.device | str
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Return the index of each object and its logit, in the order of the loader.

    The model is put into evaluation mode for the time of the call and sees neither ``target`` nor ``index``.

    Parameters
    ----------
    model
        Maps a batch to logits (batch,).
    loader
        Batches as dicts of tensors, with ``index`` (batch,) int64.
    device
        Where the model runs; it is moved there.

    Returns
    -------
    index
        (object,) int64.
    logits
        (object,) float64.

    Raises
    ------
    ValueError
        Where a logit is not finite.
    """
    was_training = model.training
    model.to(device).eval()
    indices, logits = [np.zeros(0, dtype=np.int64)], [np.zeros(0)]
    try:
        with torch.inference_mode():
            for batch in loader:
                shown = {
                    name: value.to(device, non_blocking=True) for name, value in batch.items() if name not in _WITHHELD
                }
                logits.append(model(shown).float().cpu().numpy().astype(np.float64))
                indices.append(batch["index"].cpu().numpy())
    finally:
        model.train(was_training)
    index, values = np.concatenate(indices), np.concatenate(logits)
    return index, checked_logits(index, values)


def checked_logits(index: NDArray[np.int64], logits: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the logits (object,) of the objects numbered ``index``; ``ValueError`` where one is not finite."""
    if wrong := np.flatnonzero(~np.isfinite(logits)).tolist():
        raise ValueError(f"the logit of object {index[wrong[0]]} is {logits[wrong[0]]}; the network has diverged")
    return logits


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
    """Return one row per object: who and where it is, its class, the truth, what the model says, and its split.

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
    """Write predictions as Parquet; the file appears whole or not at all."""
    unfinished = path.with_name(f".{path.name}.part")
    table.write(unfinished, format="parquet", overwrite=True)
    unfinished.replace(path)
