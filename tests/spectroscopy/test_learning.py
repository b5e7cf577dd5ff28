"""The continuum is learned from what emission lines cannot explain, and from nothing that they can."""

import numpy as np
import pytest
import torch

from mmagn.spectroscopy.basis import local_basis
from mmagn.spectroscopy.batch import LINE_SLOT, PIXEL_ANGSTROM, spectrum_batch
from mmagn.spectroscopy.eigenspectra import constrained_columns, eigenspectra, scatter_along
from mmagn.spectroscopy.learning import LearningSample, learning_sample
from mmagn.spectroscopy.profiles import AMPLITUDES, SEGMENTS, line_patches, segment_rows
from mmagn.spectroscopy.smoothness import balmer_shapes, halpha_prior, line_slot, roughness, segment_shapes

HALPHA_SEGMENT = next(k for k, shapes in enumerate(segment_shapes()) if shapes.balmer == "halpha")


def information(sample: LearningSample, segment: int, shape: torch.Tensor) -> torch.Tensor:
    """Return (object,) what spectra say about a shape of the continuum, with and without emission marginalised."""
    slots = SEGMENTS[segment].slots
    alone = (sample.weight[:, slots] * shape.square()).sum(1)
    return alone - (sample.emission[segment] @ shape).square().sum(1), alone


@pytest.fixture(scope="module")
def sample(request):
    spectrum = request.getfixturevalue("spectrum")
    galaxies = [spectrum(noise=0.3, seed=seed, redshift=0.05 + 0.003 * seed, sigma_kms=150.0) for seed in range(40)]
    return learning_sample(spectrum_batch(galaxies), local_basis())


def test_a_bump_of_the_shape_of_a_line_says_nothing_and_one_beside_it_everything(sample):
    segment = SEGMENTS[HALPHA_SEGMENT]
    kinematics = torch.tensor([[[0.0, np.log(150.0)], [0.0, np.log(150.0)]]], dtype=torch.float64)
    patches = line_patches(kinematics, torch.zeros(1, dtype=torch.float64), torch.full((1, len(LINE_SLOT)), 0.9))
    row = segment.amplitudes.index(AMPLITUDES.index("halpha"))
    line = segment_rows(patches.double(), segment)[0, 3 * row]
    left, alone = information(sample, HALPHA_SEGMENT, line)
    assert float((left / alone).median()) < 0.02
    edge = torch.zeros_like(line)
    edge[:6] = 1.0
    left, alone = information(sample, HALPHA_SEGMENT, edge)
    assert float((left / alone).median()) > 0.95


def test_marginalising_never_adds_information(sample):
    generator = torch.Generator().manual_seed(3)
    for segment, part in enumerate(SEGMENTS):
        width = part.slots.stop - part.slots.start
        left, alone = information(sample, segment, torch.randn(width, generator=generator, dtype=torch.float64))
        assert bool((left > -1e-6 * alone).all())
        assert bool((left <= alone).all())


def test_a_spectrum_without_data_teaches_nothing_and_spoils_nothing(spectrum):
    galaxies = [spectrum(noise=0.3, seed=seed, redshift=0.1) for seed in range(3)]
    empty = spectrum(ivar=np.zeros(3850, np.float32))
    alone = learning_sample(spectrum_batch(galaxies), local_basis())
    together = learning_sample(spectrum_batch([empty, *galaxies]), local_basis())
    assert len(alone) == len(together) == 3
    torch.testing.assert_close(alone.flux, together.flux, rtol=1e-9, atol=1e-9)


def test_an_eigenspectrum_under_lines_is_found_from_spectra_that_all_have_emission_there():
    """Two kinds of stars that differ by a feature under [O III], every spectrum with a line of unknown flux on it."""
    rng = np.random.default_rng(4)
    k = next(
        i for i, segment in enumerate(SEGMENTS) if segment.slots.start < line_slot("oiii_5007") < segment.slots.stop
    )
    slots = SEGMENTS[k].slots
    pixel = np.arange(len(PIXEL_ANGSTROM))
    feature = 0.2 * np.sin(2 * np.pi * pixel / 25.0)
    strength = rng.standard_normal(300)
    flux = 1.0 + strength[:, None] * feature + 0.05 * rng.standard_normal((300, len(pixel)))
    sigma = rng.uniform(1.5, 3.0, 300)
    line = np.exp(-0.5 * ((pixel[slots] - line_slot("oiii_5007")) / sigma[:, None]) ** 2)
    flux[:, slots] += rng.uniform(0, 5, 300)[:, None] * line
    weight = torch.full(flux.shape, 400.0, dtype=torch.float64)
    emission = [torch.zeros(300, 1, part.slots.stop - part.slots.start, dtype=torch.float64) for part in SEGMENTS]
    emission[k] = torch.from_numpy(line * np.sqrt(400.0 / (line**2).sum(1, keepdims=True)))[:, None]
    learned = LearningSample(flux=torch.from_numpy(flux), weight=weight, emission=tuple(emission))
    columns = constrained_columns(learned, eigenspectra(learned, 1, None)).numpy()
    assert len(columns) == 2
    np.testing.assert_allclose(columns[0], 1.0, atol=0.05)
    sign = np.sign(columns[1] @ feature)
    scatter = strength.std()
    np.testing.assert_allclose(sign * columns[1, slots], scatter * feature[slots], atol=0.03)


def test_scatter_along_a_further_column_is_measured_without_its_noise():
    rng = np.random.default_rng(5)
    pixel = np.arange(len(PIXEL_ANGSTROM))
    mean = np.ones(len(pixel))
    core = -balmer_shapes("hbeta", pixel)[0]
    strengths = 0.3 * rng.standard_normal(400)
    flux = mean + strengths[:, None] * core + 0.04 * rng.standard_normal((400, len(pixel)))
    learned = LearningSample(
        flux=torch.from_numpy(flux),
        weight=torch.full(flux.shape, 625.0, dtype=torch.float64),
        emission=tuple(
            torch.zeros(400, 1, part.slots.stop - part.slots.start, dtype=torch.float64) for part in SEGMENTS
        ),
    )
    scatter = scatter_along(learned, torch.from_numpy(mean)[None], torch.from_numpy(core)[None])
    assert float(scatter[0]) == pytest.approx(0.3, rel=0.15)


def test_columns_are_allowed_the_roughness_that_they_show_elsewhere():
    rng = np.random.default_rng(6)
    columns = torch.from_numpy(rng.standard_normal((2, len(PIXEL_ANGSTROM))) * np.array([[1.0], [0.1]]))
    covariance = roughness(columns, SEGMENTS[0].slots)
    assert float(covariance[0, 0]) == pytest.approx(1.0, rel=0.25)
    assert float(covariance[1, 1]) == pytest.approx(0.01, rel=0.25)
    assert float(covariance[0, 1].abs()) < 0.03


def test_halpha_absorption_is_expected_at_two_thirds_of_hbeta_in_equivalent_width():
    mean = torch.ones(len(PIXEL_ANGSTROM), dtype=torch.float64)
    hbeta = torch.tensor([[-1.0], [-0.5]], dtype=torch.float64)
    expected, precision = halpha_prior(mean, hbeta)
    widths = [
        float(
            (
                part[:, 0]
                @ torch.from_numpy(balmer_shapes(line, np.arange(len(mean))))
                * torch.from_numpy(PIXEL_ANGSTROM)
            ).sum()
        )
        for line, part in (("hbeta", hbeta), ("halpha", expected))
    ]
    assert widths[1] / widths[0] == pytest.approx(0.65, rel=0.01)
    assert bool((precision > 0).all())
