"""Predictions keep who is who, and the model that makes them cannot see the truth."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pyarrow.parquet as parquet
import pytest
import torch
from astropy import units
from astropy.table import Table
from torch import Tensor, nn

from mmagn.evaluation.logits import predicted_logits, predictions_table, save_predictions
from mmagn.records import INDEX_COLUMNS


class SumOfFeatures(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.dropout = nn.Dropout(0.5)
        self.seen: list[set[str]] = []

    def forward(self, batch: Mapping[str, Tensor]) -> Tensor:
        self.seen.append(set(batch))
        return self.dropout(batch["features"]).sum(dim=1)


def batches(values: Tensor) -> list[dict[str, Tensor]]:
    index = torch.arange(len(values)).flip(0)
    target = torch.zeros(len(values))
    return [
        {"features": values[rows], "target": target[rows], "index": index[rows]}
        for rows in torch.arange(len(values)).split(4)
    ]


def test_logits_come_with_their_index_without_dropout_or_sight_of_the_truth() -> None:
    values = torch.randn(10, 3, generator=torch.Generator().manual_seed(0))
    model = SumOfFeatures().train()
    index, logits = predicted_logits(model, batches(values), "cpu")
    assert index.tolist() == list(range(9, -1, -1))
    np.testing.assert_allclose(logits, values.sum(dim=1).numpy(), rtol=1e-6)
    assert model.seen == [{"features"}] * 3
    assert model.training


def test_an_empty_loader_gives_no_logits() -> None:
    index, logits = predicted_logits(SumOfFeatures(), [], "cpu")
    assert index.shape == logits.shape == (0,)


def test_a_diverged_network_is_named() -> None:
    with pytest.raises(ValueError, match="the logit of object 3 is nan; the network has diverged"):
        predicted_logits(SumOfFeatures(), batches(torch.full((4, 3), torch.nan)), "cpu")


def objects() -> Table:
    table = Table({name: np.arange(3.0) for name in INDEX_COLUMNS})
    table["sdss_object_id"] = ["299489677444933632", "1", "2"]
    table["hsc_object_id"] = ["43158322433201459", "8", "7"]
    table["healpix"] = [1175, 1175, 1176]
    table["i_magnitude"] = [18.0, 19.0, np.nan]
    return table


def predictions(**changed: object) -> Table:
    columns: dict[str, object] = {
        "bpt_class": ["seyfert", "star-forming", "unclassified"],
        "truth": [1, 0, np.nan],
        "logit": [1.0, -1.0, 0.0],
        "probability": [0.7, 0.3, 0.5],
        "calibrated_probability": [0.6, 0.2, 0.4],
        "split": ["train", "test", "test"],
    }
    return predictions_table(objects(), **(columns | changed))  # type: ignore[arg-type]


def test_predictions_survive_parquet_with_text_ids_and_units(tmp_path: Path) -> None:
    path = tmp_path / "predictions.parquet"
    save_predictions(predictions(), path)
    again = Table.read(path)
    assert again["sdss_object_id"][0] == "299489677444933632"
    assert again["sdss_ra_deg"].unit == units.deg
    assert again["separation_arcsec"].unit == units.arcsec
    assert np.isnan(again["truth"][2])
    schema = parquet.read_schema(path)
    assert str(schema.field("hsc_object_id").type) == "string"
    assert str(schema.field("healpix").type) == "int64"
    assert list(tmp_path.iterdir()) == [path]


def test_a_column_of_another_length_or_a_missing_one_is_named() -> None:
    with pytest.raises(ValueError, match=r"logit has shape \(2,\) for 3 objects"):
        predictions(logit=[1.0, 2.0])
    short = objects()
    short.remove_column("redshift")
    with pytest.raises(ValueError, match="no column redshift"):
        predictions_table(short, bpt_class=[], truth=[], logit=[], probability=[], calibrated_probability=[], split=[])
