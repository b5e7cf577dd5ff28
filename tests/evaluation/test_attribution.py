"""Maps say true things: what a network looks at is found, and what it cannot see is worth nothing."""

import numpy as np
import pytest
import torch
from torch import Tensor

from mmagn.evaluation.attribution import (
    image_occlusion,
    integrated_gradients,
    line_windows,
    sliding_windows,
    spectrum_occlusion,
)
from mmagn.models.config import SpectrumBranchConfig
from mmagn.models.spectrum_branch import SpectrumBranch
from mmagn.tensors.batches import Batch
from mmagn.tensors.config import TensorsConfig
from mmagn.tensors.spectrum import spectrum_grid_angstrom

GRID = spectrum_grid_angstrom(TensorsConfig())
LINE = line_windows(GRID)
PATCH = (slice(16, 24), slice(40, 48))


@pytest.fixture
def galaxy() -> dict[str, Tensor]:
    """A bright blob, a spectrum with excess everywhere, three features."""
    generator = torch.Generator().manual_seed(0)
    return {
        "image": torch.rand(1, 5, 64, 64, generator=generator) + 0.5,
        "spectrum": torch.rand(1, 2, len(GRID), generator=generator) + 0.1,
        "features": torch.tensor([[1.0, -2.0, 0.5]]),
    }


IMPUTED = torch.tensor([0.0, 0.0, 0.5])


def looks_at_one_line_and_one_patch(batch: Batch) -> Tensor:
    first, stop = LINE["halpha"]
    return batch["spectrum"][:, 0, first:stop].mean(1).square() + batch["image"][:, 2, *PATCH].mean((1, 2)).tanh()


def test_gradients_lie_on_the_line_and_the_patch_that_the_network_looks_at(galaxy) -> None:
    result = integrated_gradients(looks_at_one_line_and_one_patch, galaxy, IMPUTED)
    first, stop = LINE["halpha"]
    spectrum, image = result.parts["spectrum"], result.parts["image"]
    assert (spectrum[first:stop] > 0).all()
    assert not spectrum[:first].any()
    assert not spectrum[stop:].any()
    assert (image[2, *PATCH] > 0).all()
    assert np.count_nonzero(image) == 64
    assert not result.parts["features"].any()


def test_shares_add_up_to_the_difference_of_the_logits(galaxy) -> None:
    def network(batch: Batch) -> Tensor:
        return looks_at_one_line_and_one_patch(batch) + torch.sin(batch["features"]).sum(1)

    result = integrated_gradients(network, galaxy, IMPUTED)
    assert result.logit - result.baseline_logit == pytest.approx(sum(p.sum() for p in result.parts.values()), abs=1e-3)
    assert abs(result.gap) < 1e-3
    assert result.parts["features"][2] == 0  # it has its imputed value


def test_a_logit_that_goes_up_and_down_along_the_path_gets_more_points(galaxy) -> None:
    def network(batch: Batch) -> Tensor:
        return torch.sin(300 * batch["features"][:, 0])

    assert abs(integrated_gradients(network, galaxy, IMPUTED).gap) < 0.05  # 64 points see each of its 48 periods once


def test_occlusion_finds_the_same_line_and_patch_and_nothing_else(galaxy) -> None:
    image = image_occlusion(looks_at_one_line_and_one_patch, galaxy)
    assert np.argwhere(image != 0).tolist() == [[2, 5]]
    assert image[2, 5] > 0.1
    names = list(LINE)
    falls = dict(
        zip(names, spectrum_occlusion(looks_at_one_line_and_one_patch, galaxy, list(LINE.values())), strict=True)
    )
    assert falls["halpha"] == max(falls.values()) > 0
    assert falls["hbeta"] == falls["oiii_5007"] == falls["oi_6302"] == 0
    assert 0 < falls["nii_6584"] < falls["halpha"]  # its window shares pixels with that of H-alpha


def test_windows_cover_the_whole_grid_and_each_line_is_inside_its_own() -> None:
    covered = np.zeros(len(GRID), dtype=int)
    for first, stop in sliding_windows(len(GRID)):
        covered[first:stop] += 1
    assert covered.min() >= 1
    first, stop = LINE["oiii_5007"]
    assert GRID[first] < 5008.24 < GRID[stop - 1]
    assert (GRID[stop - 1] / GRID[first] - 1) * 3e5 == pytest.approx(2000, rel=0.1)


def test_occluding_blanked_pixels_does_nothing_to_a_real_branch(galaxy) -> None:
    torch.manual_seed(0)
    branch = SpectrumBranch(SpectrumBranchConfig(widths=(4, 8)), len(GRID)).eval()
    galaxy["spectrum"][:, :, 200:400] = 0  # not observed
    inside, beside = spectrum_occlusion(lambda batch: branch(batch["spectrum"])[:, 0], galaxy, [(220, 380), (420, 580)])
    assert inside == pytest.approx(0, abs=2e-6)  # rounding of single precision
    assert abs(beside) > 1e-4
    blank = {**galaxy, "image": galaxy["image"].clone()}
    blank["image"][:, :, *PATCH] = 0
    assert not image_occlusion(looks_at_one_line_and_one_patch, blank).any()
