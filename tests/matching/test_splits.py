"""A split keeps neighbours together, classes balanced, and is the same on every machine."""

import logging

import numpy as np
import pytest

from mmagn.matching.config import SplitsConfig
from mmagn.matching.sky import sky_group
from mmagn.matching.splits import sky_split
from mmagn.records import SPLITS


def field(count, seed=0, positive=0.15, unknown=0.3, side_deg=8.0):
    rng = np.random.default_rng(seed)
    ra, dec = rng.uniform(150, 150 + side_deg, count), rng.uniform(-side_deg / 2, side_deg / 2, count)
    target = np.where(rng.random(count) < positive, 1.0, 0.0)
    target[rng.random(count) < unknown] = np.nan
    return ra, dec, target


def test_no_group_of_sky_is_in_two_splits():
    ra, dec, target = field(800)
    config = SplitsConfig()
    split = sky_split(ra, dec, target, config)
    group = sky_group(ra, dec, config.nside)
    assert set(split) == set(SPLITS)
    for number in np.unique(group):
        assert len(set(split[group == number])) == 1


def test_the_same_object_twice_is_in_one_split():
    ra, dec, target = field(300)
    split = sky_split(np.tile(ra, 2), np.tile(dec, 2), np.tile(target, 2), SplitsConfig())
    np.testing.assert_array_equal(split[:300], split[300:])


@pytest.mark.parametrize("seed", range(4))
def test_size_and_class_shares_are_as_asked(seed):
    ra, dec, target = field(800, seed)
    split = sky_split(ra, dec, target, SplitsConfig(seed=seed))
    for name, fraction in zip(SPLITS, (0.6, 0.2, 0.2), strict=True):
        inside = split == name
        assert np.mean(inside) == pytest.approx(fraction, abs=0.03)
        for members in (target == 1, target == 0, np.isnan(target)):
            assert np.sum(inside & members) / np.sum(members) == pytest.approx(fraction, abs=0.04)


EXPECTED_GROUPS = [108953, 108950, 108906, 108905, 108901, 108890, 108889, 108885, 108202, 108198]
EXPECTED_SEED_0 = "rearrarrre"
EXPECTED_SEED_1 = "arraerrerr"
"""Second letters: tRain, vAlidation, tEst."""


def test_the_split_is_known_by_heart():
    """Ten groups of one object each: the order is that of sha256("seed:group"), whatever the machine."""
    ra, dec = 150 + np.arange(10.0), np.zeros(10)
    target = np.zeros(10)
    assert sky_group(ra, dec, 128).tolist() == EXPECTED_GROUPS
    split = sky_split(ra, dec, target, SplitsConfig(seed=0))
    assert "".join(name[1] for name in split) == EXPECTED_SEED_0
    split = sky_split(ra, dec, target, SplitsConfig(seed=1))
    assert "".join(name[1] for name in split) == EXPECTED_SEED_1


def test_the_order_of_the_objects_does_not_matter():
    ra, dec, target = field(500)
    shuffled = np.random.default_rng(1).permutation(500)
    split = sky_split(ra, dec, target, SplitsConfig())
    np.testing.assert_array_equal(
        sky_split(ra[shuffled], dec[shuffled], target[shuffled], SplitsConfig()), split[shuffled]
    )


def test_the_seed_changes_the_split():
    ra, dec, target = field(500)
    first, second = (sky_split(ra, dec, target, SplitsConfig(seed=seed)) for seed in (0, 1))
    assert np.any(first != second)


def test_three_groups_give_three_splits_whatever_their_size():
    ra = np.concatenate([np.full(90, 10.0), np.full(5, 20.0), np.full(5, 30.0)])
    split = sky_split(ra, np.zeros(100), np.zeros(100), SplitsConfig())
    assert np.sum(split == "train") == 90
    assert set(split) == set(SPLITS)


def test_fewer_than_three_groups_are_refused_with_the_way_out():
    with pytest.raises(ValueError, match=r"lie in 2 sky groups of splits\.nside 128; allowed: at least 3, so raise"):
        sky_split(np.array([10.0, 20.0]), np.zeros(2), np.zeros(2), SplitsConfig())


def test_a_class_missing_from_a_split_is_said(caplog):
    ra, dec, target = field(300, positive=0.0)
    with caplog.at_level(logging.WARNING):
        sky_split(ra, dec, target, SplitsConfig())
    assert "the validation split has no positive object" in caplog.text
    assert "negative" not in caplog.text
