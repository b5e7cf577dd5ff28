import pytest
import torch
from torch import Tensor

from mmagn.models.config import SpectrumBranchConfig
from mmagn.models.spectrum_branch import SpectrumBranch, valid_pooling

CONFIG = SpectrumBranchConfig(widths=(8, 8, 12), kernel_size=5, embedding_dim=6)


def branch(pixels: int = 101) -> SpectrumBranch:
    torch.manual_seed(0)
    return SpectrumBranch(CONFIG, pixels).eval()


def spectra(pixels: int = 101, count: int = 4) -> Tensor:
    drawn = torch.Generator().manual_seed(1)
    spectrum = torch.stack((torch.randn((count, pixels), generator=drawn), torch.full((count, pixels), 0.7)), dim=1)
    spectrum[:, 1, :20] = 0
    spectrum[0, 1, 60:] = 0
    return spectrum


@pytest.mark.parametrize("pixels", [9, 100, 101, 1326])
def test_any_length_of_grid_gives_one_embedding_each(pixels: int) -> None:
    assert branch(pixels)(spectra(pixels)).shape == (4, 6)


@pytest.mark.parametrize("poison", [1e30, -1e30, float("nan"), float("inf")])
def test_values_of_invalid_pixels_are_never_used(poison: float) -> None:
    network, spectrum = branch(), spectra()
    poisoned = spectrum.clone()
    poisoned[:, 0][spectrum[:, 1] == 0] = poison
    assert torch.equal(network(poisoned), network(spectrum))


def test_pooling_sees_only_valid_pixels() -> None:
    hidden = torch.tensor([[[-3.0, -1.0, 7.0, 9.0]], [[2.0, 4.0, 6.0, 8.0]], [[5.0, 5.0, 5.0, 5.0]]])
    valid = torch.tensor([[[1.0, 1.0, 0.0, 0.0]], [[1.0, 1.0, 1.0, 1.0]], [[0.0, 0.0, 0.0, 0.0]]])
    assert valid_pooling(hidden, valid).tolist() == [[-2.0, -1.0], [5.0, 8.0], [0.0, 0.0]]


def test_padding_with_invalid_pixels_does_not_bias_the_pooling() -> None:
    hidden = torch.randn((2, 3, 10), generator=torch.Generator().manual_seed(0))
    valid = torch.ones((2, 1, 10))
    padded = torch.nn.functional.pad(hidden, (0, 30), value=4.0), torch.nn.functional.pad(valid, (0, 30))
    torch.testing.assert_close(valid_pooling(*padded), valid_pooling(hidden, valid))


def test_uncovered_pixels_around_a_spectrum_change_nothing() -> None:
    spectrum = spectra(96)
    spectrum[:, 1] = 0.7
    wide = torch.nn.functional.pad(spectrum, (32, 64))
    narrow_network, wide_network = branch(96), branch(192)
    wide_network.load_state_dict(narrow_network.state_dict())
    torch.testing.assert_close(wide_network(wide), narrow_network(spectrum), rtol=1e-4, atol=1e-5)


def test_a_spectrum_without_valid_pixels_is_finite() -> None:
    assert torch.isfinite(branch()(torch.zeros((2, 2, 101)))).all()


def test_a_spectrum_from_another_grid_is_refused() -> None:
    with pytest.raises(ValueError, match="a spectrum of 100 pixels was given to a network of 101"):
        branch(101)(spectra(100))


def test_a_spectrum_does_not_depend_on_its_neighbours_in_the_batch() -> None:
    network, spectrum = branch(), spectra()
    torch.testing.assert_close(network(spectrum)[1:2], network(spectrum[1:2]), rtol=1e-5, atol=1e-6)
