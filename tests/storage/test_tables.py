"""Tables appear whole, and a killed process leaves nothing that stays."""

import io
import os
import subprocess
import sys

import numpy as np
import pyarrow.parquet as pq
import pytest
from astropy import units as u
from astropy.io import votable
from astropy.table import Column, MaskedColumn, Table

from mmagn.storage.tables import table_file


def test_what_a_killed_process_left_is_removed_and_the_parts_of_others_stay(tmp_path):
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    abandoned = [tmp_path / f".lines.{ended.pid}.{part}" for part in ("spool", "parquet", "part")]
    others = [
        tmp_path / f".lines.{os.getppid()}.spool",
        tmp_path / f".more.{ended.pid}.spool",
        tmp_path / ".lines.x.spool",
    ]
    for path in (*abandoned, *others):
        path.touch()
    with table_file(tmp_path / "lines.parquet") as append:
        append(Table({"flux": [1.0]}))
    assert not any(path.exists() for path in abandoned)
    assert all(path.exists() for path in others)


def test_texts_that_a_spreadsheet_would_run_as_formulas_are_defused_in_csv(tmp_path):
    texts = ["=1+1", "+1", "-1", "@SUM(A1)", "J1234+5678", ""]
    with table_file(tmp_path / "names.csv") as append:
        append(Table({"name": texts, "flux": np.full(6, -1.0)}))
    table = Table.read(tmp_path / "names.csv", format="ascii.csv")
    assert table["name"].filled("").tolist() == ["'=1+1", "'+1", "'-1", "'@SUM(A1)", "J1234+5678", ""]
    assert (table["flux"] == -1).all()


def catalogue(mask):
    """Two galaxies with an id, a flux, a ratio and a logical column with nulls where the mask is True."""
    table = Table({"object_id": ["299489677444933632", "7"]}, meta={"MMAGN": "0.3.0", "PREVAL": 0.2})
    table["flux"] = Column([1.5, 2.5], unit="1e-17 erg / (s cm2)", description="of [N II]", meta={"ucd": "phot.flux"})
    table["ratio"] = Column([0.1, 0.2], unit=u.dex, description="log [N II] / Ha")
    table["agn"] = MaskedColumn([True, False], mask=mask, meta={"ucd": "meta.code"})
    return table


def test_parquet_is_voparquet_with_a_field_for_each_column_and_its_provenance(tmp_path):
    with table_file(tmp_path / "scores.parquet") as append:
        append(catalogue([False, True]))
    file = pq.ParquetFile(tmp_path / "scores.parquet")
    assert file.metadata.metadata[b"IVOA.VOTable-Parquet.version"] == b"1.0"
    text = file.metadata.metadata[b"IVOA.VOTable-Parquet.content"]
    described = votable.parse(io.BytesIO(text), verify="exception")
    fields = described.get_first_table().fields
    assert [field.name for field in fields] == file.schema_arrow.names, "one for one, in the same order"
    assert b"<DATA" not in text
    ids, flux, ratio, agn = fields[:4]
    assert (ids.datatype, ids.arraysize) == ("unicodeChar", "18")
    assert (flux.datatype, flux.ucd, flux.description) == ("double", "phot.flux", "of [N II]")
    assert flux.unit.is_equivalent(u.Unit("1e-17 erg / (s cm2)"))
    assert (ratio.unit, ratio.description) == (None, "log [N II] / Ha, dex")
    assert (agn.datatype, agn.ucd) == ("boolean", "meta.code")
    assert {info.name: info.value for info in described.resources[0].infos} == {"MMAGN": "0.3.0", "PREVAL": "0.2"}


@pytest.mark.filterwarnings("ignore:In merged column 'ratio'")  # its unit is part of the description in a VOTable
def test_astropy_reads_units_and_ucds_from_the_votable_within_parquet(tmp_path):
    with table_file(tmp_path / "scores.parquet") as append:
        append(catalogue([False, False]))
    table = Table.read(tmp_path / "scores.parquet", format="parquet.votable")
    assert table["object_id"].tolist() == ["299489677444933632", "7"]
    assert table["flux"].tolist() == [1.5, 2.5] and table["flux"].unit == u.Unit("1e-17 erg / (s cm2)")
    assert table["flux"].meta["ucd"] == "phot.flux"
    assert table["agn"].tolist() == [True, False]


@pytest.mark.parametrize(
    ("ids", "warned"),
    [
        (["299489677444933632", "7"], True),
        ([str(2**53 + 1)], True),
        ([str(2**53), "J123456789012345678"], False),
        (np.array([2**53 + 1, 0]), True),
        (np.array([-(2**53), 2**53]), False),
        (np.array([2.99489677444933632e17]), False),
    ],
)
def test_csv_warns_once_of_ids_that_other_programs_round(tmp_path, caplog, ids, warned):
    table = Table({"object_id": ids, "flux": np.ones(len(ids))})
    for suffix in (".csv", ".parquet"):
        with table_file(tmp_path / f"ids{suffix}") as append:
            append(table)
            append(table)
    assert [record.getMessage().count("read object_id as floating point") for record in caplog.records] == [1] * warned
