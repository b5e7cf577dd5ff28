"""The row of a pair in a store: its columns and types, the way from a Pair to a row, and rows as views of a batch."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from datasets import Features, List, Value
from numpy.typing import NDArray

from mmagn.records import BANDS, INDEX_COLUMNS, Pair
from mmagn.surveys.pair_rows import (
    BAND_COLUMNS,
    CLASS_COLUMNS,
    IMAGE_COLUMNS,
    IMAGE_SHAPE,
    SPECTRUM_COLUMNS,
    cutout_from_row,
    spectrum_from_row,
)

IMAGE_VALUES = int(np.prod(IMAGE_SHAPE))
_TYPES = dict.fromkeys(("sdss_object_id", "hsc_object_id", "survey", "spectral_class", "spectral_subclass"), "string")
_TYPES |= dict.fromkeys(("healpix", "zwarning"), "int64")


def pair_features(image_dtype: str = "float32") -> Features:
    """Return the columns of a row of pairs with image flux and ivar in the given number type."""
    scalars = (*INDEX_COLUMNS, *CLASS_COLUMNS)
    columns: dict[str, Any] = {name: Value(_TYPES.get(name, "float64")) for name in scalars}
    columns |= {name: List(Value(image_dtype), length=IMAGE_VALUES) for name in IMAGE_COLUMNS}
    columns |= {name: List(Value("float32"), length=len(BANDS)) for name in BAND_COLUMNS}
    columns |= {name: List(Value("float32")) for name in SPECTRUM_COLUMNS}
    return Features(columns)


def half_precision(
    values: NDArray[np.float32], *, positive: bool, changed: Counter[str], what: str
) -> NDArray[np.float16]:
    """Return values as float16, held inside its range; the pixels that had to be moved are counted in ``changed``.

    With ``positive`` a value above 0 stays above 0, so that an inverse variance never loses its validity.
    """
    limits = np.finfo(np.float16)
    if values.max() > limits.max or values.min() < limits.min:
        changed[f"{what}: pixels clipped to the float16 range"] += int(np.count_nonzero(np.abs(values) > limits.max))
        values = np.clip(values, limits.min, limits.max)
    halves = values.astype(np.float16)
    if positive:
        # A float16 of 0 has no bit set; comparing bits is many times faster than comparing halves.
        vanished = (halves.view(np.uint16) == 0) & (values > 0)
        if count := int(np.count_nonzero(vanished)):
            changed[f"{what}: pixels raised to the smallest float16 above 0"] += count
            halves[vanished] = limits.smallest_subnormal
    return halves


def pair_row(pair: Pair, image_dtype: str = "float32", changed: Counter[str] | None = None) -> dict[str, Any]:
    """Return a pair as a flat row with the columns of ``pair_features(image_dtype)``; arrays stay NumPy arrays.

    ``changed`` counts the pixels that float16 could not hold, see ``half_precision``.
    """
    cutout, spectrum = pair.cutout, pair.spectrum
    flux: NDArray[Any] = cutout.flux.reshape(-1)
    ivar: NDArray[Any] = cutout.ivar.reshape(-1)
    if image_dtype == "float16":
        counts = Counter() if changed is None else changed
        flux = half_precision(flux, positive=False, changed=counts, what="image flux")
        ivar = half_precision(ivar, positive=True, changed=counts, what="image ivar")
    return {
        "sdss_object_id": spectrum.object_id,
        "hsc_object_id": cutout.object_id,
        "sdss_ra_deg": spectrum.ra_deg,
        "sdss_dec_deg": spectrum.dec_deg,
        "hsc_ra_deg": cutout.ra_deg,
        "hsc_dec_deg": cutout.dec_deg,
        "separation_arcsec": pair.separation_arcsec,
        "healpix": pair.healpix,
        "redshift": spectrum.redshift,
        "survey": spectrum.survey,
        "redshift_err": spectrum.redshift_err,
        "zwarning": spectrum.zwarning,
        "spectral_class": spectrum.spectral_class,
        "spectral_subclass": spectrum.spectral_subclass,
        "image_flux": flux,
        "image_ivar": ivar,
        "psf_fwhm_arcsec": cutout.psf_fwhm_arcsec,
        "magnitude": cutout.magnitude,
        "spectrum_wavelength_angstrom": spectrum.wavelength_angstrom,
        "spectrum_flux": spectrum.flux,
        "spectrum_ivar": spectrum.ivar,
        "spectrum_lsf_sigma": spectrum.lsf_sigma,
    }


def pair_from_row(row: Mapping[str, Any]) -> Pair:
    """Return the pair of a row, whatever the number type of its images."""
    return Pair(
        cutout=cutout_from_row(row),
        spectrum=spectrum_from_row(row),
        separation_arcsec=float(row["separation_arcsec"]),
        healpix=int(row["healpix"]),
    )


def rows_batch(rows: Sequence[Mapping[str, Any]], features: Features) -> pa.RecordBatch:
    """Return rows as one Arrow record batch."""
    schema = features.arrow_schema
    arrays = [pa.array([row[column.name] for row in rows], column.type) for column in schema]
    return pa.RecordBatch.from_arrays(arrays, schema=schema)


class _Ragged:
    """Rows of a variable-length list column as views."""

    def __init__(self, column: pa.ListArray) -> None:
        self._offsets = column.offsets.to_numpy()
        self._values = column.values.to_numpy()

    def __getitem__(self, row: int) -> NDArray[np.float32]:
        values: NDArray[np.float32] = self._values[self._offsets[row] : self._offsets[row + 1]]
        return values


class _Plain:
    """Rows of a text or number column as Python values."""

    def __init__(self, column: pa.Array) -> None:
        self._column = column

    def __getitem__(self, row: int) -> Any:
        return self._column[row].as_py()


def column_views(batch: pa.RecordBatch) -> dict[str, Any]:
    """Return what gives each column's value of a row by ``view[row]``: arrays as views of the batch's buffers."""
    views: dict[str, Any] = {}
    for name in batch.schema.names:
        column = batch.column(name)
        if name in IMAGE_COLUMNS or name in BAND_COLUMNS:
            views[name] = column.values.to_numpy().reshape(batch.num_rows, -1)
        else:
            views[name] = _Ragged(column) if name in SPECTRUM_COLUMNS else _Plain(column)
    return views
