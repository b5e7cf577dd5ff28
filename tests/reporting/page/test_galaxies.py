"""The page takes the pairs of a run from its store, and draws the curves of any number of galaxies."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from astropy.table import Table

from mmagn.evaluation.config import EvaluationConfig
from mmagn.reporting.page.cards import Predictions
from mmagn.reporting.page.galaxies import Payload, score_charts


def test_an_object_that_is_not_in_the_store_is_named() -> None:
    store = SimpleNamespace(path=Path("stores/a"), index=Table({"sdss_object_id": ["7", "8"]}), pair=lambda row: row)
    pair_of = Payload(store=store).pair_of()  # type: ignore[arg-type]
    assert pair_of is not None
    assert pair_of("8") == 1
    with pytest.raises(ValueError, match=r"stores/a has no pair with SDSS id 9: it is not the store of this run"):
        pair_of("9")
    assert Payload(store=None).pair_of() is None


@pytest.mark.parametrize(("truth", "counts"), [([], "0000"), ([0, 1, 1, 1, 0, 0], "1212"), ([1, 1], "0011")])
def test_the_confusion_matrix_counts_truth_by_rows_and_a_split_without_objects_has_figures_too(
    truth: list[float], counts: str
) -> None:
    positive = np.array([True, False, True, True, True, False])[: len(truth)]
    measured = Table({"object_id": np.arange(len(truth)), "p_agn": np.array(truth, dtype=float)})
    probability = np.where(positive, 0.8, 0.2)
    predictions = Predictions(measured=measured, truth=np.array(truth), probability=probability, positive=positive)
    charts = {chart.name: chart for chart in score_charts(predictions, EvaluationConfig(bootstrap_draws=20))}
    texts = [text.get_text() for text in charts["confusion"].figure.axes[0].texts]
    assert "".join(text.split()[0] for text in texts[::2]) == counts
