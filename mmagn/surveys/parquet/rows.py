"""Rows of the HATS spelling as records: shared by every source whose rows are Arrow batches of that schema (hats, hub).

Where a v1 file has ``image_array`` and ``spectrum_flux``, a HATS row has a struct ``image`` (band, flux, ivar, mask,
psf_fwhm, scale) or ``spectrum`` (flux, ivar, lsf_sigma, lambda, mask) of lists. The v1 spelling is given back, so that
the quirks of the pixels stay in ``hsc``, ``sdss`` and ``desi``. Numbers go from Arrow buffer to NumPy array, never
through Python lists.
"""

from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache, partial
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from mmagn.records import BANDS, Cutout, Spectrum
from mmagn.surveys import desi, hsc, sdss
from mmagn.surveys.config import DESI
from mmagn.surveys.parquet.row_groups import ParquetFile, Payload, read_columns
from mmagn.surveys.screen import PIXEL_COLUMNS

IMAGE_FIELDS = {
    "image_band": "band",
    "image_array": "flux",
    "image_ivar": "ivar",
    "image_mask": "mask",
    "image_psf_fwhm": "psf_fwhm",
    "image_scale": "scale",
}
"""v1 column and the field of the struct ``image`` that holds it."""
SPECTRUM_FIELDS = {name: name.removeprefix("spectrum_") for name in PIXEL_COLUMNS}
"""v1 column and the field of the struct ``spectrum`` that holds it."""
POSITION_COLUMNS = ("object_id", "ra", "dec")
_IMAGE = tuple(f"image.{field}" for field in IMAGE_FIELDS.values())
_SPECTRUM = tuple(f"spectrum.{field}" for field in SPECTRUM_FIELDS.values())
HSC_PAYLOAD = (*POSITION_COLUMNS, *(f"{band}_cmodel_mag" for band in BANDS), *_IMAGE)
SDSS_PAYLOAD = (*POSITION_COLUMNS, "Z", "Z_ERR", "ZWARNING", *_SPECTRUM)
DESI_PAYLOAD = (*POSITION_COLUMNS, "Z", "ZERR", "ZWARN", "SPECTYPE", *_SPECTRUM)
"""Columns of a row that a record is made from, field by field: the others of a file are never read. These sources have
no CLASS of SDSS, and the published files no SPECTYPE."""
_NEEDED = {"object_id": "identity", "ra": "position", "dec": "position"}
HSC_NEEDED = _NEEDED | {name: "image" for name in _IMAGE if name != "image.scale"}
SPECTRA_NEEDED = _NEEDED | {"Z": "redshift"} | dict.fromkeys(_SPECTRUM, "spectrum")
"""Columns without which there is no record, and what each is needed for."""
CUTOUTS_AT_ONCE = 16
SPECTRA_AT_ONCE = 256
"""Rows of a file that are decoded together."""


def cutouts_payload(*, noise: bool) -> Payload[Cutout]:
    """Return what is read of a row of HSC; without ``noise`` as little of it as says which pixels are valid."""
    return Payload(
        survey="hsc",
        columns=HSC_PAYLOAD,
        from_row=partial(cutout_from_hats, noise=noise),
        rows_at_once=CUTOUTS_AT_ONCE,
        needless=None if noise else ("image.ivar", hsc.all_usable),
    )


def cutout_from_hats(rows: pa.RecordBatch, row: int, *, noise: bool = True) -> Cutout:
    """Return the cutout of one row; without ``noise`` its ivar is 1 where valid, and all of it is usable if not read.

    Raises ``ValueError`` if the row is no usable image; the sentence gives the reason.
    """
    optional = ("image_scale",) if noise else ("image_scale", "image_ivar")
    raw = _raw_row(rows, row, HSC_PAYLOAD) | _struct_values(rows, row, "image", IMAGE_FIELDS, optional)
    if not noise:
        raw.setdefault("image_ivar", np.broadcast_to(np.float32(1), hsc.CUTOUT_SHAPE))
    cutout = hsc.cutout_from_row(raw)
    return cutout if noise else replace(cutout, ivar=cutout.valid.astype(np.float32))


def spectra_payload(survey: str) -> Payload[Spectrum]:
    """Return what is read of a row of a catalogue of spectra of one survey, ``desi`` or one of SDSS."""
    if survey == DESI:
        return Payload(
            survey=DESI,
            columns=DESI_PAYLOAD,
            from_row=desi_from_hats,
            rows_at_once=SPECTRA_AT_ONCE,
            of_file=desi_rows_of,
        )
    from_row = partial(spectrum_from_hats, survey=survey)
    return Payload(survey="sdss", columns=SDSS_PAYLOAD, from_row=from_row, rows_at_once=SPECTRA_AT_ONCE)


def spectrum_from_hats(rows: pa.RecordBatch, row: int, *, survey: str) -> Spectrum:
    """Return the spectrum of one row.

    Raises ``ValueError`` if the row is no usable spectrum; the sentence gives the reason.
    """
    raw = _raw_row(rows, row, SDSS_PAYLOAD) | _struct_values(rows, row, "spectrum", SPECTRUM_FIELDS)
    return sdss.spectrum_from_row(raw, survey=survey)


def desi_from_hats(rows: pa.RecordBatch, row: int, *, true_is_good: bool = False) -> Spectrum:
    """Return the spectrum of one row of DESI; ``true_is_good`` is what a bool ``ZWARN`` means.

    Raises ``ValueError`` if the row is no usable spectrum; the sentence gives the reason.
    """
    raw = _raw_row(rows, row, DESI_PAYLOAD) | _struct_values(rows, row, "spectrum", SPECTRUM_FIELDS)
    if isinstance(raw.get("ZWARN"), bool):
        raw["ZWARN"] = int(raw["ZWARN"] != true_is_good)
    return desi.spectrum_from_row(raw)


def desi_rows_of(file: ParquetFile, zwarn: str = "ZWARN") -> Callable[[pa.RecordBatch, int], Spectrum]:
    """Return how the rows of a file of DESI become spectra, with what most of its rows say that ``ZWARN`` means.

    ``zwarn`` is the name that this column has in the file; the rows have the published one. Raises ``ValueError`` if a
    bool ``ZWARN`` does not tell which value is good; the message continues "file NAME is left out, ".
    """
    footer = file.footer()
    schema = footer.schema.to_arrow_schema()
    if zwarn not in schema.names or not pa.types.is_boolean(schema.field(zwarn).type):
        return desi_from_hats
    return partial(desi_from_hats, true_is_good=_true_is_good(file, zwarn))


@lru_cache(maxsize=2048)
def _true_is_good(file: ParquetFile, zwarn: str) -> bool:
    column = read_columns(file, range(file.footer().num_row_groups), [zwarn]).column(zwarn).drop_null()
    return desi.true_means_good(column.to_numpy(), file.name)


def _raw_row(rows: pa.RecordBatch, row: int, payload: tuple[str, ...]) -> dict[str, Any]:
    """Return the numbers and texts of one row."""
    raw = {name: rows.column(name)[row].as_py() for name in payload if name in rows.schema.names}
    if raw["object_id"] is None:
        raise ValueError("object_id is missing")
    return raw | {name: np.nan for name in ("ra", "dec", "Z") if raw.get(name, 0) is None}


def _struct_values(
    rows: pa.RecordBatch, row: int, column: str, fields: dict[str, str], optional: tuple[str, ...] = ()
) -> dict[str, NDArray[Any]]:
    """Return the fields of the struct of one row as NumPy arrays under their v1 names."""
    struct = rows.column(column)[row]
    if not struct.is_valid:
        raise ValueError(f"{column} is missing")
    present = {field.name for field in struct.type}
    values = {}
    for name, field in fields.items():
        if field in present:
            if not struct[field].is_valid:
                raise ValueError(f"{column}.{field} is missing")
            values[name] = _dense(rows.column(column).field(field).slice(row, 1), f"{column}.{field}")[0]
        elif name not in optional:
            raise ValueError(f"{column} has no field {field}")
    return values


def _dense(values: pa.Array, name: str) -> NDArray[Any]:
    """Return nested lists, arrays typed by ``datasets`` at any level among them, with an axis for each level."""
    shape = [len(values)]
    while isinstance(values, pa.ExtensionArray) or pa.types.is_nested(values.type):
        if isinstance(values, pa.ExtensionArray):
            values = values.storage
            continue
        lengths = pc.fill_null(pc.list_value_length(values), 0).to_numpy()
        least, most = (int(lengths.min()), int(lengths.max())) if len(lengths) else (0, 0)
        if least < most:
            raise ValueError(f"{name} is not rectangular: its rows have {least} to {most} values")
        shape.append(most)
        values = values.flatten()
    array: NDArray[Any] = values.to_numpy(zero_copy_only=False)
    return array.reshape(shape)
