from pathlib import Path

import numpy as np
import pytest

from mmagn.tensors.scaling import FeatureScaling


def sample(count: int = 400, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Fluxes over decades with noise below zero, log ratios, fractions; some undefined."""
    rng = np.random.default_rng(seed)
    flux = 10 ** rng.normal(1.5, 1, count) + rng.normal(0, 5, count)
    values = np.stack((flux, rng.normal(0, 0.5, count), rng.uniform(0.1, 0.9, count)), axis=1)
    valid = rng.random(values.shape) > 0.1
    return np.where(valid, values, np.nan), valid


def test_scaled_training_data_has_mean_0_and_spread_1() -> None:
    values, valid = sample()
    scaled = FeatureScaling.fit(values, valid).transform(values, valid)
    assert scaled.dtype == np.float32
    np.testing.assert_allclose(scaled.mean(axis=0), 0, atol=1e-5)
    np.testing.assert_allclose(scaled.std(axis=0), 1, atol=1e-5)


def test_fluxes_over_decades_lose_their_tail_but_not_their_order() -> None:
    values, valid = sample()
    scaled = FeatureScaling.fit(values, valid).transform(values, valid)
    assert np.abs(scaled).max() < 5
    known = valid[:, 0]
    np.testing.assert_array_equal(np.argsort(values[known, 0]), np.argsort(scaled[known, 0], kind="stable"))


def test_an_undefined_value_becomes_the_median_of_the_training_split() -> None:
    values, valid = sample()
    scaling = FeatureScaling.fit(values, valid)
    median = np.nanmedian(values, axis=0)[None]
    undefined = scaling.transform(np.full((1, 3), np.nan), np.zeros((1, 3), dtype=bool))
    np.testing.assert_allclose(undefined, scaling.transform(median, np.ones((1, 3), dtype=bool)), atol=1e-6)


def test_values_that_are_not_valid_are_never_used() -> None:
    values, valid = sample()
    expected = FeatureScaling.fit(values, valid)
    for poison in (1e30, -np.inf, 0.0):
        poisoned = np.where(valid, values, poison)
        assert FeatureScaling.fit(poisoned, valid) == expected
        np.testing.assert_array_equal(expected.transform(poisoned, valid), expected.transform(values, valid))


def test_a_value_that_is_not_finite_is_not_valid_whatever_its_flag_says() -> None:
    values, valid = sample()
    assert FeatureScaling.fit(values, np.ones_like(valid)) == FeatureScaling.fit(values, valid)


def test_a_feature_without_spread_or_without_values_says_nothing() -> None:
    values, valid = sample()
    values[:, 0], values[:, 1], valid[:, 0], valid[:, 1] = 7.0, np.nan, True, False
    scaling = FeatureScaling.fit(values, valid)
    new = np.array([[1e6, -4.0, 0.5], [np.nan, np.nan, 0.2]])
    scaled = scaling.transform(new, np.isfinite(new))
    assert np.isfinite(scaled).all()
    assert not scaled[:, :2].any() and scaled[:, 2].any()


def test_one_training_object_and_none_are_survived() -> None:
    for count in (0, 1):
        values, valid = sample()
        scaling = FeatureScaling.fit(values[:count], valid[:count])
        assert np.isfinite(scaling.transform(values, valid)).all()


def test_json_round_trip_is_exact(tmp_path: Path) -> None:
    scaling = FeatureScaling.fit(*sample())
    scaling.save(tmp_path / "scaling.json")
    assert FeatureScaling.load(tmp_path / "scaling.json") == scaling
    assert FeatureScaling.from_dict(scaling.as_dict()) == scaling


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"softening": [1], "median": [0], "mean": [0], "gain": [1, 2]}'])
def test_a_file_that_is_no_scaling_is_named(tmp_path: Path, text: str) -> None:
    path = tmp_path / "scaling.json"
    path.write_text(text)
    with pytest.raises(ValueError, match=r"scaling.json does not hold a feature scaling"):
        FeatureScaling.load(path)


def test_shapes_that_do_not_fit_are_refused() -> None:
    values, valid = sample()
    scaling = FeatureScaling.fit(values, valid)
    with pytest.raises(ValueError, match="2 features were given to a scaling of 3"):
        scaling.transform(values[:, :2], valid[:, :2])
    with pytest.raises(ValueError, match=r"must both be \(object, feature\)"):
        FeatureScaling.fit(values, valid[:, 0])
