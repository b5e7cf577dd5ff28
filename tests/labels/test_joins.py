"""Rows of a table belong to objects whatever the table writes ids and positions as, or it is refused."""

from decimal import Decimal
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from astropy.table import Column, Table

from mmagn.labels.catalog import CatalogLabels, LabelCatalog
from mmagn.labels.config import CatalogConfig
from mmagn.labels.joins import Objects

IDS = ["299489677444933632", "1309501900785215488", "444874804017784832"]
"""Of SDSS spectra 266-51630-1, 1163-52669-292, 395-51783-525."""


def joined(file: Path, **settings: object) -> CatalogLabels:
    config = CatalogConfig(
        table=str(file), **{"join": "specobjid", "positive": "agn == 1", "negative": "rest"} | settings
    )
    catalog = LabelCatalog.read(config, file)
    objects = Objects(
        object_id=np.array(IDS),
        hsc_object_id=np.full(3, ""),
        ra_deg=np.array([10.0, 10.1, 10.2]),
        dec_deg=np.zeros(3),
        columns={"redshift": np.full(3, 0.1)},
    )
    labels = catalog.labels(objects)
    catalog.check(objects, labels.joined, labels.covered)
    return labels


@pytest.mark.parametrize(
    ("kind", "encode"),
    [(pa.large_string(), str), (pa.large_binary(), str.encode), (pa.binary(22), lambda text: text.rjust(22).encode())],
)
def test_ids_of_every_text_of_parquet_join(tmp_path: Path, kind: pa.DataType, encode: object) -> None:
    ids = pa.array([encode(text) for text in IDS[:2]], kind)
    pq.write_table(pa.table({"specobjid": ids, "agn": pa.array([1, 0], pa.int8())}), tmp_path / "ids.parquet")
    assert joined(tmp_path / "ids.parquet").label.tolist() == ["positive", "negative", "unknown"]


def test_a_category_of_pandas_is_a_text(tmp_path: Path) -> None:
    frame = pd.DataFrame({"specobjid": pd.array([int(IDS[0]), None], "Int64"), "kind": pd.Categorical(["Sy2", "SF"])})
    frame.to_parquet(tmp_path / "kinds.parquet")
    assert joined(tmp_path / "kinds.parquet", positive="kind == 'Sy2'").label.tolist()[0] == "positive"


def test_a_spreadsheet_begins_with_a_byte_order_mark(tmp_path: Path) -> None:
    (tmp_path / "excel.csv").write_text(f"\ufeffspecobjid,agn\n{IDS[0]},1\n{IDS[1]},0\n", encoding="utf-8")
    assert joined(tmp_path / "excel.csv").label.tolist() == ["positive", "negative", "unknown"]


def test_decimals_of_a_database_are_numbers(tmp_path: Path) -> None:
    ids = pa.array([Decimal(text) for text in [*IDS[:2], str(2**64 - 1)]], pa.decimal128(20, 0))
    flux = pa.array([Decimal("14.90"), Decimal("-0.10"), None], pa.decimal128(10, 2))
    pq.write_table(pa.table({"specobjid": ids, "agn": flux}), tmp_path / "decimals.parquet")
    labels = joined(tmp_path / "decimals.parquet", positive="agn == 14.9")
    assert labels.label.tolist() == ["positive", "negative", "unknown"]


@pytest.mark.parametrize("title", ["", "#Table1\n"])
def test_of_two_columns_of_one_name_neither_is_taken(tmp_path: Path, title: str) -> None:
    (tmp_path / "two.csv").write_text(f'{title}specobjid,agn,"agn"\n{IDS[0]},1,0\n')
    with pytest.raises(ValueError, match=r"two\.csv cannot be read .*: several columns are named agn; allowed: a name"):
        joined(tmp_path / "two.csv")


def test_an_id_with_a_fraction_is_refused(tmp_path: Path) -> None:
    Table({"plate": [266.5], "mjd": [51630.0], "fiberid": [1.0], "agn": [1]}).write(tmp_path / "plates.fits")
    with pytest.raises(ValueError, match=r"the column plate holds the id 266\.5; allowed: whole numbers or text"):
        joined(tmp_path / "plates.fits", join="plate-mjd-fiber")


def test_a_row_without_a_position_is_no_row_of_an_object(tmp_path: Path) -> None:
    Table({"ra": [10.0, -99.0], "dec": [0.0, -99.0], "agn": [1, 1]}).write(tmp_path / "places.fits")
    assert joined(tmp_path / "places.fits", join="position").label.tolist() == ["positive", "unknown", "unknown"]


def test_a_table_that_joins_nothing_warns_where_it_covers_the_objects(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    hours = Table({"ra": Column([10 / 15]), "dec": [0.0], "agn": [1]})
    hours.write(tmp_path / "hours.fits")
    with pytest.raises(ValueError, match=r"none of 1 rows belongs to one of 3 objects"):
        joined(tmp_path / "hours.fits", join="position")
    covered = joined(tmp_path / "hours.fits", join="position", depth="redshift < 9")
    assert covered.label.tolist() == ["negative"] * 3
    assert "none of 1 rows belongs to one of 3 objects" in caplog.text
    assert "what the catalogue covers is negative" in caplog.text


def test_a_text_of_a_rule_that_no_row_has_is_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    Table({"specobjid": [int(each) for each in IDS], "kind": ["Sy2", "SF", "SF"]}).write(tmp_path / "kinds.fits")
    labels = joined(tmp_path / "kinds.fits", positive="kind in ['sy2', 'SF']")
    assert labels.label.tolist() == ["negative", "positive", "positive"]
    (record,) = caplog.records
    assert record.message.endswith("labels.catalog.positive: no row of kind has 'sy2'; it has SF, Sy2")
