"""The mean of several networks, how far they are apart, and how they vote."""

import numpy as np
import pytest

from mmagn.evaluation.calibration import Calibration
from mmagn.evaluation.ensemble import MemberSays, averaged
from mmagn.evaluation.subsets import SubsetCalibration

USED = SubsetCalibration(calibration=Calibration(kind="platt", pos_weight=4.0, prevalence=0.2), threshold=0.4)
ROWS = np.array([0, 2])


def says(logits: list[float], prevalence: float | None = None) -> MemberSays:
    told = MemberSays.empty(3)
    told.tell(ROWS, np.array(logits), USED, prevalence)
    return told


def test_mean_and_spread_are_those_of_the_calibrated_probabilities() -> None:
    members = [says([0.0, 2.0]), says([1.0, 3.0]), says([-1.0, 0.5])]
    columns = averaged(members)
    probability = np.stack([member.calibrated_probability[ROWS] for member in members])
    np.testing.assert_allclose(columns["calibrated_probability"][ROWS], probability.mean(axis=0))
    np.testing.assert_allclose(columns["probability_spread"][ROWS], probability.std(axis=0, ddof=1))
    np.testing.assert_allclose(columns["votes"][ROWS], (probability >= 0.4).mean(axis=0))


def test_an_object_that_nobody_was_asked_about_has_no_number_and_no_call() -> None:
    columns = averaged([says([9.0, 9.0]), says([9.0, 9.0])])
    assert np.isnan([columns[name][1] for name in ("logit", "probability", "calibrated_probability", "votes")]).all()
    assert columns["agn"].tolist() == [True, False, True]
    assert not columns["unlike_training"].any()


def test_another_prevalence_moves_probabilities_by_bayes_and_no_vote() -> None:
    usual, rare = says([0.5, 2.0]), says([0.5, 2.0], prevalence=0.02)
    odds = [member.calibrated_probability[ROWS] / (1 - member.calibrated_probability[ROWS]) for member in (usual, rare)]
    np.testing.assert_allclose(odds[1] / odds[0], (0.02 / 0.98) / (0.2 / 0.8))
    np.testing.assert_array_equal(usual.vote, rare.vote)
    with pytest.raises(ValueError, match=r"target_prevalence is 1\.5"):
        says([0.0, 0.0], prevalence=1.5)
