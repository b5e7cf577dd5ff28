"""The mean of several networks, how far they are apart, and how they vote."""

import numpy as np
import pytest

from mmagn.evaluation.calibration import Calibration
from mmagn.evaluation.ensemble import MemberPrediction, ensemble_columns
from mmagn.evaluation.subsets import SubsetCalibration

PLATT = Calibration(kind="platt", pos_weight=4.0, prevalence=0.2)
USED = SubsetCalibration(calibration=PLATT, threshold=0.4, parts={"image": PLATT, "features": PLATT})
ROWS = np.array([0, 2])


def member(logits: list[float], prevalence: float | None = None) -> MemberPrediction:
    prediction = MemberPrediction.empty(3)
    parts = {"image": np.array([9.0, np.nan]), "features": np.array(logits)}
    prediction.fill(ROWS, np.array(logits), parts, USED, prevalence)
    return prediction


def test_mean_and_spread_are_those_of_the_calibrated_probabilities() -> None:
    members = [member([0.0, 2.0]), member([1.0, 3.0]), member([-1.0, 0.5])]
    columns = ensemble_columns(members)
    probability = np.stack([each.calibrated_probability[ROWS] for each in members])
    np.testing.assert_allclose(columns["calibrated_probability"][ROWS], probability.mean(axis=0))
    np.testing.assert_allclose(columns["probability_spread"][ROWS], probability.std(axis=0, ddof=1))
    np.testing.assert_allclose(columns["votes"][ROWS], (probability >= 0.4).mean(axis=0))


def test_what_each_modality_alone_states_is_averaged_and_then_compared() -> None:
    members = [member([-9.0, 2.0]), member([-5.0, 3.0])]
    columns = ensemble_columns(members)
    alone = np.stack([PLATT.probability([first, second]) for first, second in ((-9.0, 2.0), (-5.0, 3.0))])
    np.testing.assert_allclose(columns["p_features"][ROWS], alone.mean(axis=0))
    np.testing.assert_allclose(columns["p_image"][0], PLATT.probability(9.0))
    assert np.isnan(columns["p_image"][1:]).all()
    assert np.isnan(columns["p_spectrum"]).all()
    assert columns["modalities_disagree"].tolist() == [True, False, False]


def test_an_object_without_usable_input_has_no_number_and_no_call() -> None:
    columns = ensemble_columns([member([9.0, 9.0]), member([9.0, 9.0])])
    assert np.isnan([columns[name][1] for name in ("logit", "probability", "calibrated_probability", "votes")]).all()
    assert columns["agn"].tolist() == [True, False, True]
    assert not columns["unlike_training"].any()


def test_another_prevalence_moves_probabilities_by_bayes_and_no_vote() -> None:
    usual, rare = member([0.5, 2.0]), member([0.5, 2.0], prevalence=0.02)
    odds = [each.calibrated_probability[ROWS] / (1 - each.calibrated_probability[ROWS]) for each in (usual, rare)]
    np.testing.assert_allclose(odds[1] / odds[0], (0.02 / 0.98) / (0.2 / 0.8))
    np.testing.assert_array_equal(usual.vote, rare.vote)
    with pytest.raises(ValueError, match=r"target_prevalence is 1\.5"):
        member([0.0, 0.0], prevalence=1.5)
