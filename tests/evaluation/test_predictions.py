"""A table of predictions keeps ids and units."""

from pathlib import Path

import numpy as np
import pyarrow.parquet as parquet
from astropy import units
from astropy.table import Table

from mmagn.evaluation.parts import part_columns
from mmagn.evaluation.predictions import predictions_table
from mmagn.records import INDEX_COLUMNS
from mmagn.storage.tables import write_table


def objects() -> Table:
    table = Table({name: np.arange(3.0) for name in INDEX_COLUMNS})
    table["sdss_object_id"] = ["299489677444933632", "1", "2"]
    table["hsc_object_id"] = ["43158322433201459", "8", "7"]
    table["healpix"] = [1175, 1175, 1176]
    table["i_magnitude"] = [18.0, 19.0, np.nan]
    return table


def predictions() -> Table:
    columns: dict[str, object] = {
        "bpt_class": ["seyfert", "star-forming", "unclassified"],
        "truth": [1, 0, np.nan],
        "logit": [1.0, -1.0, 0.0],
        "probability": [0.7, 0.3, 0.5],
        "calibrated_probability": [0.6, 0.2, 0.4],
        **part_columns({"image": np.array([0.9, 0.2, 0.3]), "spectrum": np.array([0.01, 0.2, np.nan])}, 0.2),
        "split": ["train", "test", "test"],
    }
    return predictions_table(objects(), **columns)


def test_predictions_survive_parquet_with_text_ids_and_units(tmp_path: Path) -> None:
    path = tmp_path / "predictions.parquet"
    write_table(path, predictions())
    again = Table.read(path)
    assert again["sdss_object_id"][0] == "299489677444933632"
    assert again["sdss_ra_deg"].unit == units.deg
    assert again["separation_arcsec"].unit == units.arcsec
    assert np.isnan(again["truth"][2])
    assert again["modalities_disagree"].tolist() == [True, False, False]
    schema = parquet.read_schema(path)
    assert str(schema.field("hsc_object_id").type) == "string"
    assert str(schema.field("healpix").type) == "int64"
    assert list(tmp_path.iterdir()) == [path]
