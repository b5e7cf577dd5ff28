"""Tables on disk, written batch by batch: Parquet, CSV, FITS, ECSV or VOTable by suffix, whole or not at all."""

import contextlib
import io
import json
import logging
import os
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet as pq
from astropy import units as u
from astropy.io import fits
from astropy.io.votable.tree import Info, Resource, TableElement, VOTableFile
from astropy.table import MaskedColumn, Table, meta
from astropy.table.serialize import represent_mixins_as_columns
from astropy.utils.data_info import serialize_context_as

from mmagn.storage.files import naming, remove_abandoned, whole_file

SUFFIXES = (".parquet", ".fits", ".ecsv", ".csv", ".votable")
ROW_GROUP_ROWS = 65536
MASK = ".mask"
"""End of the name of a column that holds the mask of another one, as astropy names it."""
PROVENANCE = "provenance"
"""Column of a CSV file with the metadata of the table as JSON, since CSV has no other place for it."""
_ABOUT = ("unit", "description", "meta")
_EXACT = 2**53
"""Largest integer up to which programs that read numbers as doubles tell all of them apart."""
_log = logging.getLogger(__name__)


def checked_suffix(out: Path) -> str:
    """Return the suffix of ``out``; raises ``ValueError`` where no table is written under it."""
    if out.suffix not in SUFFIXES:
        raise ValueError(f"{out.name} is no name of a table; allowed suffixes: {', '.join(SUFFIXES)}")
    return out.suffix


def write_table(path: Path, table: Table) -> None:
    """Write a table of a run folder, Parquet or CSV by its suffix, atomically and as astropy writes it."""
    with whole_file(path) as part:
        table.write(part, format="parquet" if path.suffix == ".parquet" else "ascii.csv", overwrite=True)


@contextlib.contextmanager
def table_file(out: Path) -> Iterator[Callable[[Table], None]]:
    """Give a function that appends a batch of rows to the table file ``out``.

    Batches have the same columns in the same order. Parquet and CSV are written with bounded memory, however many
    batches come; in Parquet units are in each field's metadata under ``unit`` and, with descriptions and the table's
    ``meta``, where ``astropy.table.Table.read`` looks for them, and where STILTS and TOPCAT do (VOParquet); in CSV
    ``meta`` is a column. FITS, ECSV and VOTable go through astropy, which holds the whole table in memory once at the
    end; units, descriptions and UCDs (``ucd`` in the ``meta`` of a column) are where TOPCAT looks for them. A logical
    column with nulls is an integer one in FITS.

    The file appears under its name when the block ends well and at least one batch came; otherwise nothing is left.
    What a killed process left behind of the same table is removed first. Raises ``ValueError`` if the suffix of ``out``
    is not one of ``SUFFIXES``.
    """
    suffix = checked_suffix(out)
    out.parent.mkdir(parents=True, exist_ok=True)
    remove_abandoned(out.parent, rf"\.{re.escape(out.stem)}\.(\d{{1,9}})\.(?:spool|parquet|part)")
    spool, whole, converted = (
        out.with_name(f".{out.stem}.{os.getpid()}.{part}") for part in ("spool", "parquet", "part")
    )
    writer = _SpoolWriter(spool)
    try:
        with naming(out):
            yield writer.append
            writer.close()
            if writer.header is not None:
                _write_whole(spool, whole, writer)
                if suffix == ".parquet":
                    whole.replace(out)
                else:
                    _convert(whole, converted, suffix, writer.header.meta)
                    converted.replace(out)
    finally:
        writer.close()
        for leftover in (spool, whole, converted):
            leftover.unlink(missing_ok=True)


class _SpoolWriter:
    """Writes batches to a Parquet file and learns on the way how long the texts of each column are."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: pq.ParquetWriter | None = None
        self.header: Table | None = None
        self.text_length: dict[str, int] = {}

    def append(self, table: Table) -> None:
        table = _with_logical_columns(table)
        if self._file is None:
            self.header = table[:0]
            self._file = pq.ParquetWriter(self._path, _schema(table, {}))
        arrays = []
        for name in table.colnames:
            values = np.asarray(table[name])
            if values.dtype.kind == "U":
                length = int(np.char.str_len(values).max(initial=1))
                self.text_length[name] = max(self.text_length.get(name, 1), length)
            arrays.append(pa.array(values, mask=getattr(table[name], "mask", None)))
        self._file.write_table(pa.Table.from_arrays(arrays, schema=self._file.schema))

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None


def _schema(table: Table, metadata: dict[str, str]) -> pa.Schema:
    fields = []
    for name in table.colnames:
        dtype = table[name].dtype
        arrow_type = pa.string() if dtype.kind == "U" else pa.from_numpy_dtype(dtype)
        unit = table[name].unit
        fields.append(pa.field(name, arrow_type, metadata=None if unit is None else {"unit": unit.to_string()}))
    return pa.schema(fields, metadata=metadata)


def _write_whole(spool: Path, out: Path, writer: _SpoolWriter) -> None:
    """Copy the spooled rows in large row groups under the metadata that astropy reads units and text lengths from.

    A masked column has nulls, and a column ``NAME.mask`` behind it, without which astropy reads nulls as False.
    """
    assert writer.header is not None
    header = _with_mask_columns(writer.header)
    metadata = {f"table::len::{name}": str(length) for name, length in writer.text_length.items()}
    metadata["table_meta_yaml"] = "\n".join(meta.get_yaml_from_table(header))
    metadata |= _voparquet(header, writer.text_length)
    schema = _schema(header, metadata)
    with pq.ParquetFile(spool) as source, pq.ParquetWriter(out, schema) as target:
        for batch in source.iter_batches(batch_size=ROW_GROUP_ROWS):
            columns = {name: batch.column(name.removesuffix(MASK)) for name in header.colnames}
            arrays = [column.is_null() if name.endswith(MASK) else column for name, column in columns.items()]
            target.write_table(pa.Table.from_arrays(arrays, schema=schema))


def _with_logical_columns(table: Table) -> Table:
    """Table whose columns of True, False and None, as astropy reads nulls of Parquet, are masked logical ones."""
    objects = [column for column in table.itercols() if column.dtype == object]
    if not objects:
        return table
    table = table.copy(copy_data=False)
    for column in objects:
        about = {key: getattr(column, key) for key in _ABOUT}
        table[column.name] = MaskedColumn(column.filled(False).astype(bool), mask=column.mask, **about)
    return table


def _with_mask_columns(header: Table) -> Table:
    """Empty table with the columns that astropy stores a table with masked columns in."""
    row = Table(meta=header.meta)
    for column in header.itercols():
        filled = type(column)(np.zeros(1, column.dtype), **{key: getattr(column, key) for key in _ABOUT})
        if isinstance(column, MaskedColumn):
            filled.mask = True  # astropy stores the mask of a column that has one
        row[column.name] = filled
    with serialize_context_as("parquet"):
        return represent_mixins_as_columns(row)[:0]


def _convert(parquet: Path, out: Path, suffix: str, provenance: Mapping[str, Any]) -> None:
    if suffix == ".csv":
        _write_csv(parquet, out, provenance)
        return
    table = Table.read(parquet, format="parquet")
    table = _with_logical_columns(table)
    if suffix == ".ecsv":
        table.write(out, format="ascii.ecsv")
        return
    _describe_dex(table)
    if suffix == ".votable":
        _votable(table).to_xml(str(out))
    else:
        for column in list(table.itercols()):
            if isinstance(column, MaskedColumn) and column.dtype.kind == "b":
                table[column.name] = column.astype(np.int16)  # astropy writes no nulls of logical values to FITS
                table[column.name].fill_value = -1
        table.write(out, format="fits")
        _describe_columns(out, table)


def _write_csv(parquet: Path, out: Path, provenance: Mapping[str, Any]) -> None:
    """Write CSV without the columns of masks, and with the metadata in a column."""
    with pq.ParquetFile(parquet) as source:
        names = [name for name in source.schema_arrow.names if not name.endswith(MASK)]
        schema = pa.schema([source.schema_arrow.field(name) for name in names])
        constant = pa.scalar(json.dumps(dict(provenance), default=str)) if provenance else None
        if constant is not None:
            schema = schema.append(pa.field(PROVENANCE, pa.string()))
        inexact: set[str] = set()
        with pyarrow.csv.CSVWriter(out, schema) as target:
            for batch in source.iter_batches(batch_size=ROW_GROUP_ROWS, columns=names):
                inexact |= {name for name in names if name not in inexact and _is_inexact(batch.column(name))}
                arrays = [_defused(column) for column in batch.columns]
                if constant is not None:
                    arrays.append(pa.repeat(constant, len(batch)))
                target.write_batch(pa.record_batch(arrays, schema=schema))
    if inexact:
        _log.warning(
            "CSV has no types: spreadsheets and STILTS read %s as floating point and lose digits above 2^53; "
            ".parquet, .fits, .ecsv and .votable keep them",
            ", ".join(name for name in names if name in inexact),
        )


def _is_inexact(column: pa.Array) -> bool:
    """Return whether a column holds whole numbers, such as ids as text, that a double cannot hold."""
    if pa.types.is_string(column.type):
        numbers = column.filter(pc.fill_null(pc.match_substring_regex(column, r"^[0-9]{16,}$"), False))
        return any(int(text) > _EXACT for text in numbers.to_pylist())
    return pa.types.is_integer(column.type) and any(
        abs(value or 0) > _EXACT for value in pc.min_max(column).as_py().values()
    )


def _defused(column: pa.Array) -> pa.Array:
    """Put an apostrophe before texts that a spreadsheet would take for a formula."""
    if not pa.types.is_string(column.type):
        return column
    formula = pc.match_substring_regex(column, r"^[=+\-@\t\r]")
    return pc.if_else(pc.fill_null(formula, False), pc.binary_join_element_wise("'", column, ""), column)


def _describe_dex(table: Table) -> None:
    """Move the unit dex, which neither FITS nor VOTable knows, to the descriptions of the columns."""
    for column in table.itercols():
        if column.unit == u.dex:
            column.unit = None
            column.description = ", ".join(filter(None, [column.description, "dex"]))


def _votable(table: Table) -> VOTableFile:
    """Return a VOTable of version 1.3: its CDS units know the erg, which later versions call deprecated."""
    whole, resource = VOTableFile(version="1.3"), Resource()
    whole.resources.append(resource)
    resource.infos.extend(Info(name=name, value=str(value)) for name, value in table.meta.items())
    resource.tables.append(TableElement.from_table(whole, table))
    return whole


def _voparquet(header: Table, text_length: Mapping[str, int]) -> dict[str, str]:
    """Metadata of a Parquet file by the VOParquet convention: a VOTable without rows, a FIELD for each column."""
    described = header.copy()
    described.meta.pop("__serialized_columns__", None)
    _describe_dex(described)
    votable = _votable(described)
    for field in votable.resources[0].tables[0].fields:
        if field.datatype == "unicodeChar":
            field.arraysize = str(text_length.get(field.name, 1))
        elif field.datatype == "bit":
            field.datatype = "boolean"
    text = io.BytesIO()
    votable.to_xml(text)
    return {"IVOA.VOTable-Parquet.version": "1.0", "IVOA.VOTable-Parquet.content": text.getvalue().decode("utf-8")}


def _describe_columns(out: Path, table: Table) -> None:
    """Write descriptions and UCDs of the columns to the header of a FITS table, as TOPCAT reads them."""
    with fits.open(out, mode="update") as opened:
        header = opened[1].header
        for number, column in enumerate(table.itercols(), start=1):
            if column.description:
                header[f"TCOMM{number}"] = column.description
            if ucd := (column.meta or {}).get("ucd"):
                header[f"TUCD{number}"] = ucd
