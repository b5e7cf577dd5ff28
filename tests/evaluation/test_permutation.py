"""The importance of a feature is what a model loses without it."""

import numpy as np
import pytest

from mmagn.evaluation.permutation import permutation_importance


def test_the_one_feature_that_tells_is_found_and_the_others_are_worth_nothing() -> None:
    rng = np.random.default_rng(0)
    target = (rng.random(200) < 0.3).astype(np.float64)
    features = rng.normal(size=(200, 3)).astype(np.float32)
    features[:, 1] += 3 * target
    told, unused = (lambda x: x[:, 1].astype(np.float64)), ("a", "c")
    found = {each.name: each for each in permutation_importance(told, features, target, "abc", draws=50)}
    assert found["b"].low > 0.2
    assert found["b"].low < found["b"].value < found["b"].high
    for name in unused:
        assert (found[name].value, found[name].low, found[name].high) == (0, 0, 0)


def test_one_class_alone_tells_no_importance() -> None:
    with pytest.raises(ValueError, match="both classes; 0 of 5"):
        permutation_importance(lambda x: x[:, 0], np.zeros((5, 1), np.float32), np.zeros(5), "a")
