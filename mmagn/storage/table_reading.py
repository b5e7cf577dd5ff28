"""Tables that others wrote: FITS, VOTable, CSV, ECSV and Parquet by suffix, or a folder of Parquet files."""

import csv
import warnings
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.dataset as ds
from astropy import units as u
from astropy.io import fits
from astropy.table import MaskedColumn, Table
from astropy.utils.data import get_readable_fileobj
from numpy.typing import NDArray

from mmagn.records import Floats
from mmagn.storage.tables import MASK

FORMATS = {
    ".fits": "fits",
    ".fit": "fits",
    ".vot": "votable",
    ".votable": "votable",
    ".xml": "votable",
    ".csv": "ascii.csv",
    ".ecsv": "ascii.ecsv",
    ".parquet": "parquet",
    ".pq": "parquet",
}
"""Format of a table by the suffix of its name; ``.gz`` may follow, other than with Parquet."""

_OPTIONS: dict[str, dict[str, Any]] = {
    "votable": {"table_id": 0},
    "ascii.csv": {
        "converters": dict.fromkeys(("*_id", "id", "cc_flags", "CC_FLAGS", "ccf"), str),
        "encoding": "utf-8-sig",
    },
}


def read_table(path: Path) -> Table:
    """Return the table in a file or in a folder of Parquet files, such as a HATS catalogue.

    Missing values are masked, texts may be bytes, a list of numbers in each row is a two-dimensional column. Of several
    tables in a FITS file or a VOTable the first one is read. In CSV the columns ``id`` and ``*_id`` are text, and so
    are the flags of WISE, ``cc_flags``. Raises ``ValueError`` where there is no such file, its suffix is not known, or
    it cannot be read: one sentence with the path.
    """
    suffixes = [suffix.lower() for suffix in path.suffixes]
    suffix = "".join(suffixes[-2:-1] if suffixes[-1:] == [".gz"] else suffixes[-1:])
    if not path.exists():
        raise ValueError(f"{path}: there is no such file")
    if not path.is_dir() and suffix not in FORMATS:
        raise ValueError(
            f"{path} has no suffix of a table; allowed: {', '.join(FORMATS)}, or a folder of Parquet files"
        )
    kind = "parquet" if path.is_dir() else FORMATS[suffix]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # units and numbers that astropy does not know are of no concern here
            return _parquet_table(path) if kind == "parquet" else _astropy_table(path, kind)
    except (OSError, ValueError, KeyError, TypeError, IndexError, pa.ArrowException) as error:
        reason = str(error).strip().partition("\n")[0] or type(error).__name__
        raise ValueError(f"{path} cannot be read as a table ({kind}): {reason}") from error


def column_numbers(column: Any, unit: u.UnitBase) -> Floats:
    """Return a column (row,) of numbers, or of texts that are numbers, in a unit; a column without one is in that unit.

    A missing value is NaN; hours are those of right ascension. Raises ``ValueError`` where a value is no number, or the
    column has another kind of unit; the message begins with row or column.
    """
    name, own = column.name, column_unit(column, unit)
    wanted = f"numbers in {unit}" if unit != u.one else "numbers"
    values: Any = np.ma.asarray(column)
    numbers: Floats = np.full(len(values), np.nan)
    if values.dtype.kind in "biuf" and values.ndim == 1:
        numbers[:] = values.astype(np.float64).filled(np.nan)
        return np.asarray(numbers * own.to(unit))
    for row, value in enumerate(values.tolist()):
        text = (value.decode("ascii", "replace") if isinstance(value, bytes) else str(value)).strip()
        try:
            numbers[row] = float(text) if value is not None and text else np.nan
        except ValueError:
            raise ValueError(f"row {row + 1}, column {name} has {text}; allowed: {wanted}") from None
    return np.asarray(numbers * own.to(unit))


def column_unit(column: Any, unit: u.UnitBase) -> u.UnitBase:
    """Return the unit of a column, ``unit`` where it has none; hours are those of right ascension.

    Raises ``ValueError`` where it does not convert to ``unit``; the message begins with column.
    """
    own = column.unit if column.unit is not None else unit
    if isinstance(own, u.UnrecognizedUnit):  # FITS knows deg alone; tables have degree, degrees and DEG too
        text = str(own).strip().strip('"').lower().removesuffix("s").removesuffix(":")
        own = u.Unit({"h:m": "hourangle", "d:m": "deg"}.get(text, text), parse_strict="silent")  # VizieR has "h:m:s"
    own = u.hourangle if own == u.hour else u.Unit(own)
    if not own.is_equivalent(unit):
        wanted = f"numbers in {unit}" if unit != u.one else "numbers"
        raise ValueError(
            f"column {column.name} has the unit {own}; allowed: {wanted}, or in a unit that converts to it"
        )
    return own


def _astropy_table(path: Path, kind: str) -> Table:
    if kind == "fits":
        with fits.open(path) as opened:
            numbers = [
                number for number, each in enumerate(opened) if isinstance(each, fits.BinTableHDU | fits.TableHDU)
            ]
        if not numbers:
            raise ValueError("it holds no table")
        return Table.read(path, format="fits", hdu=numbers[0])
    options = _OPTIONS.get(kind, {})
    if kind == "ascii.csv":
        with get_readable_fileobj(path, encoding="utf-8-sig") as file:
            header = file.readline()
            titled = header.startswith("#Table")  # as SkyServer, the database of SDSS, writes it
            names = Counter(name.strip() for name in next(csv.reader([file.readline() if titled else header]), []))
        if repeated := [name for name, count in names.items() if name and count > 1]:
            raise ValueError(f"several columns are named {repeated[0]}; allowed: a name for each")
        options = options | ({"header_start": 1, "data_start": 2} if titled else {})
    return Table.read(path, format=kind, **options)


def _parquet_table(path: Path) -> Table:
    """Table of Parquet files; whole numbers stay whole where some are missing."""
    files = [str(each) for each in sorted(path.rglob("*.parquet")) if not each.name.startswith(("_", "."))]
    if path.is_dir() and not files:
        raise ValueError("the folder holds no Parquet file")
    whole = ds.dataset(files or str(path), format="parquet").to_table()
    columns = {name: _column(whole.column(name).combine_chunks()) for name in whole.column_names}
    for name in [each for each in columns if each.removesuffix(MASK) in columns.keys() - {each}]:
        mask, column = columns.pop(name), columns[name.removesuffix(MASK)]  # astropy writes masks as columns
        if mask is not None and column is not None:
            column.mask |= np.asarray(mask.filled(False), dtype=bool)
    return Table({name: column for name, column in columns.items() if column is not None})


def _column(values: Any) -> MaskedColumn | None:
    """Column of an Arrow array; None for structures and lists of different lengths."""
    if isinstance(values, pa.ChunkedArray):
        values = pa.concat_arrays(values.chunks) if values.num_chunks else pa.array([], values.type)
    if pa.types.is_dictionary(values.type):  # as pandas writes categories
        values = values.dictionary_decode()
    if pa.types.is_decimal(values.type):  # as databases write numbers
        values = _of_decimals(values.to_pylist(), whole=values.type.scale <= 0)
    kind, missing = values.type, np.asarray(values.is_null())
    binary = pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_fixed_size_binary(kind)
    if pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind):
        return _vectors(values, missing)
    if pa.types.is_string(kind) or pa.types.is_large_string(kind) or binary:
        empty = b"" if binary else ""
        return MaskedColumn(np.asarray([empty if v is None else v for v in values.to_pylist()]), mask=missing)
    if pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind):
        zero = pa.scalar(False if pa.types.is_boolean(kind) else 0, kind)
        return MaskedColumn(values.fill_null(zero).to_numpy(zero_copy_only=False), mask=missing)
    return None


def _of_decimals(values: Sequence[Any], *, whole: bool) -> pa.Array:
    """Arrow array of decimals, as whole numbers or in double precision."""
    if not whole:
        return pa.array([None if value is None else float(value) for value in values], pa.float64())
    numbers = [None if value is None else int(value) for value in values]
    signed = any(number < 0 for number in numbers if number is not None)
    return pa.array(numbers, pa.int64() if signed else pa.uint64())


def _vectors(values: Any, missing: NDArray[np.bool_]) -> MaskedColumn | None:
    rows: Sequence[Any] = values.to_pylist()
    lengths = {len(row) for row in rows if row is not None}
    if len(lengths) != 1:
        return None
    (length,) = lengths
    matrix = np.array([np.full(length, np.nan) if row is None else row for row in rows], dtype=np.float64)
    return MaskedColumn(matrix, mask=np.repeat(missing[:, None], length, axis=1))
