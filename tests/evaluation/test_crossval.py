"""Folds share no group of sky and no object, and every object is tested once per repeat."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from mmagn.evaluation.crossval import leave_one_group_out, sky_folds
from mmagn.evaluation.folds import Fold


def survey(count: int = 400, groups: int = 40, seed: int = 0) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    rng = np.random.default_rng(seed)
    return rng.integers(groups, size=count) * 17, (rng.random(count) < 0.2).astype(float)


def assert_apart(fold: Fold, key: NDArray[np.int64]) -> None:
    sets = [set(key[rows].tolist()) for rows in (fold.train, fold.validation, fold.test)]
    assert all(sets)
    assert not sets[0] & sets[1]
    assert not sets[0] & sets[2]
    assert not sets[1] & sets[2]


@settings(deadline=None, max_examples=15)
@given(seed=st.integers(0, 10_000), folds=st.integers(2, 6))
def test_no_group_is_in_two_sets_and_every_row_is_tested_once_per_repeat(seed: int, folds: int) -> None:
    group, target = survey(seed=seed)
    result = sky_folds(group, target, folds, 2, seed)
    assert len(result) == 2 * folds
    for fold in result:
        assert_apart(fold, group)
        rows = np.concatenate([fold.train, fold.validation, fold.test])
        assert sorted(rows) == list(range(len(group)))
    for repeat in (0, 1):
        tested = np.concatenate([fold.test for fold in result if fold.repeat == repeat])
        assert sorted(tested) == list(range(len(group)))


def test_repeats_differ_and_a_seed_repeats() -> None:
    group, target = survey()
    one, again = sky_folds(group, target, 5, 2, 3), sky_folds(group, target, 5, 2, 3)
    assert all(np.array_equal(a.test, b.test) for a, b in zip(one, again, strict=True))
    assert not np.array_equal(one[0].test, one[5].test)


def test_classes_are_spread_evenly() -> None:
    group, target = survey(2000, 200)
    for fold in sky_folds(group, target, 5, 1, 0):
        assert abs(target[fold.test].mean() - target.mean()) < 0.03
        assert abs(target[fold.validation].mean() - target.mean()) < 0.05


def test_an_object_seen_in_two_groups_keeps_them_together() -> None:
    group, target = survey()
    object_id = np.arange(400)
    object_id[300:320] = object_id[:20]
    for fold in sky_folds(group, target, 4, 1, 0, object_id=object_id.astype(str)):
        assert_apart(fold, group)
        assert_apart(fold, object_id)


def test_leaving_one_group_out_tests_each_group_alone() -> None:
    group, target = survey(120, 8)
    result = list(leave_one_group_out(group, target, 0))
    assert [set(group[fold.test].tolist()) for fold in result] == [{value} for value in np.unique(group)]
    for fold in result:
        assert_apart(fold, group)


def test_three_groups_are_enough_for_three_sets() -> None:
    group = np.repeat([1, 2, 3], 10)
    target = np.tile([0.0, 1.0], 15)
    for fold in [*sky_folds(group, target, 3, 1, 0), *leave_one_group_out(group, target, 0)]:
        assert_apart(fold, group)


@pytest.mark.parametrize(
    ("group", "target", "folds", "sentence"),
    [
        ([1, 1, 2, 2], [0, 1, 0, 1], 2, "there are 2 groups of sky; 2 folds with a validation set need 4 or more"),
        (list(range(20)), [1] * 2 + [0] * 18, 5, "the rarer class has 2 objects"),
        ([1, 2], [0, np.nan], 2, "target of object 1 is nan"),
    ],
)
def test_too_few_groups_or_objects_are_one_clear_sentence(
    group: list[int], target: list[float], folds: int, sentence: str
) -> None:
    with pytest.raises(ValueError, match=sentence):
        sky_folds(group, target, folds, 1, 0)
