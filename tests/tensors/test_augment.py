import itertools
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from mmagn.tensors.augment import (
    DIHEDRAL_ELEMENTS,
    augment_batch,
    augmentation_draws,
    dihedral,
    dihedral_gathered,
    noisy_image,
    shifted,
    without_bands,
)
from mmagn.tensors.config import AugmentConfig
from mmagn.tensors.spectrum import SPECTRUM_HALF_SNR

BOTH = AugmentConfig()
NOTHING = replace(BOTH, dihedral=False, image_noise=0.0, spectrum_noise=0.0)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def batch(count: int = 6) -> dict[str, Tensor]:
    drawn = generator(9)
    information = torch.full((count, 50), 0.5)
    information[:, 40:] = 0
    excess = torch.randn((count, 50), generator=drawn) * (information > 0)
    return {
        "image": torch.randn((count, 5, 16, 16), generator=drawn),
        "spectrum": torch.stack((excess, information), dim=1),
        "features": torch.randn((count, 10), generator=drawn),
        "target": torch.zeros(count),
        "index": torch.arange(count),
    }


def moved(image: Tensor, element: int) -> Tensor:
    return dihedral(image, torch.full((len(image),), element))


def test_the_symmetries_of_the_square_are_a_group_of_eight() -> None:
    image = torch.arange(9.0).reshape(1, 1, 3, 3)
    views = {tuple(moved(image, element).flatten().tolist()) for element in range(DIHEDRAL_ELEMENTS)}
    assert len(views) == DIHEDRAL_ELEMENTS
    for one, two in itertools.product(range(DIHEDRAL_ELEMENTS), repeat=2):
        assert tuple(moved(moved(image, one), two).flatten().tolist()) in views
    assert torch.equal(moved(image, 0), image)
    assert any(torch.equal(moved(image, element), image.rot90(1, (-2, -1))) for element in range(DIHEDRAL_ELEMENTS))


def test_each_object_is_moved_on_its_own_and_bands_together() -> None:
    image = batch(8)["image"]
    turned = dihedral(image, torch.arange(8))
    for element in range(8):
        assert torch.equal(turned[element], moved(image[element : element + 1], element)[0])


def test_a_generator_in_the_same_state_gives_the_same_batch() -> None:
    config = BOTH
    one, same, other = (augment_batch(batch(), config, generator(seed)) for seed in (1, 1, 2))
    for name in ("image", "spectrum"):
        assert torch.equal(one[name], same[name])
        assert not torch.equal(one[name], other[name])


def test_the_batch_that_came_in_is_left_as_it_was() -> None:
    before = batch()
    after = augment_batch(before, BOTH, generator())
    assert all(torch.equal(before[name], value) for name, value in batch().items())
    assert all(torch.equal(after[name], before[name]) for name in ("features", "target", "index"))


def test_everything_off_changes_nothing() -> None:
    after = augment_batch(batch(), NOTHING, generator())
    assert all(torch.equal(after[name], value) for name, value in batch().items())


@pytest.mark.parametrize("absent", ["image", "spectrum"])
def test_an_absent_branch_stays_absent(absent: str) -> None:
    given = {name: value for name, value in batch().items() if name != absent}
    assert augment_batch(given, AugmentConfig(), generator()).keys() == given.keys()


@pytest.mark.parametrize("level", [0.0, 2.0, 6.0])
def test_image_noise_is_gaussian_in_flux_at_any_brightness(level: float) -> None:
    image = torch.full((1, 5, 128, 128), level, dtype=torch.float64)
    drawn = torch.randn(image.shape, generator=generator(), dtype=image.dtype)
    added = torch.sinh(noisy_image(image, 0.2, drawn)) - torch.sinh(image)
    assert added.std().item() == pytest.approx(0.2, rel=0.03)
    assert added.mean().item() == pytest.approx(0.0, abs=0.005)


def test_image_noise_is_in_units_of_the_reference_noise() -> None:
    sky = {"image": torch.zeros((1, 5, 128, 128)), "target": torch.zeros(1)}
    config = AugmentConfig(dihedral=False, image_noise=0.5)
    noisy = augment_batch(sky, config, generator(), softening=4.0)["image"]
    assert (4.0 * torch.sinh(noisy)).std().item() == pytest.approx(0.5, rel=0.03)


def test_spectrum_noise_follows_each_pixels_own_noise_and_spares_the_unobserved() -> None:
    information = torch.tensor([0.2, 0.9]).repeat_interleave(20000)
    information = torch.cat((information, torch.zeros(100)))
    spectrum = torch.stack((torch.zeros_like(information), information))[None]
    config = AugmentConfig(spectrum_noise=0.5)
    noisy = augment_batch({"spectrum": spectrum, "target": torch.zeros(1)}, config, generator())["spectrum"]
    assert torch.equal(noisy[:, 1], spectrum[:, 1])
    assert not noisy[0, 0, 40000:].any()
    for start, weight in ((0, 0.2), (20000, 0.9)):
        own = ((1 - weight) / weight) ** 0.5 / SPECTRUM_HALF_SNR
        assert torch.sinh(noisy[0, 0, start : start + 20000]).std().item() == pytest.approx(0.5 * own, rel=0.03)


EVERYTHING = AugmentConfig(shift_pixels=1.5, band_dropout=0.4)


def test_a_shift_by_whole_pixels_moves_every_pixel_and_one_by_a_fraction_the_centroid() -> None:
    grid = torch.arange(16.0, dtype=torch.float64)
    blob = torch.exp(-((grid - 6)[:, None] ** 2 + (grid - 7)[None, :] ** 2) / 8).expand(2, 5, 16, 16)
    shift = torch.tensor([[2.0, -1.0], [0.4, 0.25]], dtype=torch.float64)
    moved_ = shifted(blob, shift)
    torch.testing.assert_close(moved_[0, :, 1:14, 3:14], blob[0, :, 2:15, 1:12])
    light = moved_[1, 0] / moved_[1, 0].sum()
    assert float((light.sum(0) * grid).sum()) == pytest.approx(7.4, abs=0.05)
    assert float((light.sum(1) * grid).sum()) == pytest.approx(6.25, abs=0.05)


def test_no_shift_changes_nothing() -> None:
    image = batch()["image"]
    torch.testing.assert_close(shifted(image, torch.zeros((len(image), 2))), image)


def test_a_dropped_band_looks_like_its_nearest_neighbour_the_redder_of_two() -> None:
    image = torch.arange(5.0)[None, :, None, None].expand(4, 5, 2, 2)
    dropped = torch.tensor([[0, 0, 1, 0, 0], [1, 1, 0, 0, 1], [1, 1, 1, 1, 0], [1, 1, 1, 1, 1]]).bool()
    kept = without_bands(image, dropped)[:, :, 0, 0].tolist()
    assert kept == [[0, 1, 3, 3, 4], [2, 2, 2, 3, 3], [4, 4, 4, 4, 4], [0, 1, 2, 3, 4]]


def test_each_object_gets_its_own_shift_and_bands() -> None:
    draws = augmentation_draws(batch(64), EVERYTHING, generator())
    assert len({tuple(row) for row in draws["shift"].tolist()}) == 64
    assert draws["shift"].abs().max() <= 1.5 and draws["shift"].std() == pytest.approx(1.5 / 3**0.5, rel=0.2)
    assert draws["dropped"].float().mean() == pytest.approx(0.4, abs=0.1)


@pytest.mark.parametrize("wrong", [{"shift_pixels": -1.0}, {"band_dropout": 1.0}])
def test_changes_beyond_reason_are_refused_by_name(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=f"tensors.augment.{next(iter(wrong))} is"):
        AugmentConfig(**wrong)


def test_symmetries_by_gathering_are_those_by_flips() -> None:
    image = torch.randn((16, 5, 12, 12), generator=torch.Generator().manual_seed(0))
    element = torch.arange(16) % 8
    assert torch.equal(dihedral_gathered(image, element), dihedral(image, element))
