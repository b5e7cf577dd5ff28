"""The importance of a feature is the loss of average precision without it."""

from pathlib import Path

import numpy as np
import pytest

from mmagn.evaluation.permutation import (
    Importance,
    load_importances,
    mean_importances,
    permutation_importance,
    save_importances,
)


def test_importances_come_back_as_they_were_written(tmp_path: Path) -> None:
    path, written = tmp_path / "importance.json", [Importance(name="a", value=0.1, low=0.0, high=0.2, share=0.5)]
    save_importances(path, written)
    assert load_importances(path) == written
    assert load_importances(tmp_path / "none.json") == []
    path.write_text("{}", encoding="utf-8")
    with pytest.raises(ValueError, match="does not hold importances"):
        load_importances(path)


def test_the_informative_feature_is_important_and_the_others_are_not() -> None:
    rng = np.random.default_rng(0)
    target = (rng.random(200) < 0.3).astype(np.float64)
    features = rng.normal(size=(200, 3)).astype(np.float32)
    features[:, 1] += 3 * target
    importances = permutation_importance(lambda x: x[:, 1].astype(np.float64), features, target, "abc", draws=50)
    one, informative, other = importances
    assert 0.2 < informative.low < informative.value < informative.high
    for each in (one, other):
        assert (each.value, each.low, each.high, each.share) == (0, 0, 0, 0)
    assert informative.share == pytest.approx(np.sqrt(2), rel=0.05)  # of two independent draws


def test_shares_are_those_of_independent_terms_of_the_logit_and_their_mean_is_that_of_the_networks() -> None:
    rng = np.random.default_rng(1)
    features, target = rng.normal(size=(2000, 2)).astype(np.float32), (rng.random(2000) < 0.3).astype(np.float64)
    shares = permutation_importance(lambda x: x @ np.array([3.0, 4.0]), features, target, "ab", draws=20)
    np.testing.assert_allclose([each.share for each in shares], np.sqrt(2) * np.array([0.6, 0.8]), rtol=0.05)
    one, other = [Importance(name="a", value=v, low=0.0, high=1.0, share=2 * v) for v in (0.1, 0.3)]
    (mean,) = mean_importances([[one], [], [other]])
    assert (mean.value, mean.share) == pytest.approx((0.2, 0.4))
