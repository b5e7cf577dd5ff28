"""An embedding is unlike the training set where it lies farther out than validation objects do."""

from pathlib import Path

import numpy as np
import pytest

from mmagn.evaluation.novelty import fitted_novelty, load_novelty, save_novelty


@pytest.fixture
def cloud() -> tuple[np.ndarray, np.ndarray]:
    """Correlated embeddings of training and validation objects, with one direction that never varies."""
    rng = np.random.default_rng(0)
    mixing = rng.normal(size=(6, 6)) * np.array([10, 1, 1, 0.1, 0.1, 0.0])
    training, validation = (rng.normal(size=(count, 6)) @ mixing.T + 3 for count in (500, 1000))
    return training, validation


def test_the_stated_fraction_of_validation_objects_is_within_the_limit(cloud) -> None:
    training, validation = cloud
    for quantile in (0.9, 0.99):
        result = fitted_novelty(training, validation, quantile)
        assert np.mean(result.distance(validation) <= 1) == pytest.approx(quantile, abs=0.002)
        assert np.mean(result.distance(training) <= 1) == pytest.approx(quantile, abs=0.03)


def test_distance_is_the_same_in_any_units_of_the_embedding(cloud) -> None:
    training, validation = cloud
    plain = fitted_novelty(training, validation, 0.99).distance(validation)
    scaled = fitted_novelty(7 * training, 7 * validation, 0.99).distance(7 * validation)
    np.testing.assert_allclose(plain, scaled, rtol=1e-3)


def test_an_object_off_the_correlation_is_found_although_each_of_its_numbers_is_usual(cloud) -> None:
    rng = np.random.default_rng(1)
    first = rng.normal(size=(500, 1))
    training = np.hstack([first, first + 0.05 * rng.normal(size=(500, 1))])
    result = fitted_novelty(training[:300], training[300:], 0.99)
    assert result.distance(np.array([[1.0, -1.0]]))[0] > 3
    assert result.distance(np.array([[1.0, 1.0]]))[0] < 1


def test_clouds_come_back_and_their_file_is_small(cloud, tmp_path: Path) -> None:
    result = fitted_novelty(*cloud, 0.99)
    save_novelty(tmp_path / "novelty.safetensors", {"image": result})
    (again,) = load_novelty(tmp_path / "novelty.safetensors").values()
    np.testing.assert_allclose(again.distance(cloud[1]), result.distance(cloud[1]), rtol=1e-3)
    assert again.quantile == 0.99
    assert (tmp_path / "novelty.safetensors").stat().st_size < 5000
    assert load_novelty(tmp_path / "none.safetensors") == {}
    (tmp_path / "novelty.safetensors").write_bytes(b"no tensors")
    with pytest.raises(ValueError, match="does not hold training embeddings"):
        load_novelty(tmp_path / "novelty.safetensors")


def test_novelty_needs_two_training_objects() -> None:
    with pytest.raises(ValueError, match="novelty needs 2 or more training objects; there are 1"):
        fitted_novelty(np.zeros((1, 2)), np.zeros((0, 2)), 0.99)
