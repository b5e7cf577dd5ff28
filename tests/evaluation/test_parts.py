"""What each modality alone states: two that contradict each other are flagged, weak ones contradict nothing."""

import numpy as np
import pytest
from scipy.special import expit, logit
from sklearn.metrics import average_precision_score

from mmagn.evaluation.parts import BAYES_FACTOR, input_scores, part_columns, parts_text
from mmagn.evaluation.permutation import Importance


@pytest.mark.parametrize("prevalence", [0.25, 0.02])
def test_modalities_disagree_where_their_odds_leave_the_prevalence_in_opposite_ways(prevalence: float) -> None:
    factors = np.array([[1.01, 1.01], [1.01, 0.99], [1.01, -1.01], [0.2, -5.0]]) * np.log(BAYES_FACTOR)
    image, spectrum = expit(logit(prevalence) + factors).T
    columns = part_columns({"image": image, "spectrum": spectrum}, prevalence)
    assert columns["modalities_disagree"].tolist() == [False, False, True, False]
    np.testing.assert_array_equal(columns["p_image"], image)
    assert np.isnan(columns["p_features"]).all()


def test_an_absent_modality_and_an_unknown_prevalence_contradict_nothing() -> None:
    image, spectrum = np.array([0.99, 0.99]), np.array([np.nan, 0.01])
    columns = part_columns({"image": image, "spectrum": spectrum}, np.array([0.2, np.nan]))
    assert columns["modalities_disagree"].tolist() == [False, False]
    row = {name: values[1] for name, values in columns.items()}
    assert parts_text(row) == "alone: image 0.99, spectrum 0.01"
    assert parts_text({**row, "modalities_disagree": True}) == "alone: image 0.99, spectrum 0.01 (they disagree)"
    assert parts_text({name: values[0] for name, values in columns.items()}) == ""


def test_an_input_is_scored_on_the_objects_that_have_it() -> None:
    target = np.array([1.0, 0.0, 1.0, 0.0, 0.0])
    image = np.array([0.9, 0.8, 0.3, 0.2, np.nan])
    importance = Importance(name="image", value=0.1, low=0.0, high=0.2, share=0.7)
    scored, other = input_scores({"image": image, "spectrum": np.full(5, np.nan)}, target, [importance])
    assert scored["average_precision_alone"] == pytest.approx(average_precision_score(target[:4], image[:4]))
    assert scored["share"] == 0.7
    assert other == {"name": "spectrum", "average_precision_alone": None}
