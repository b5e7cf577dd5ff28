"""The stellar continuum, learned from the survey itself: eigenspectra that carry Balmer absorption.

Factor analysis on the rest grid (``eigenspectra.py``). Emission lines are the difficulty: they cover the cores of the
Balmer absorption. They are fitted first, with the best continuum known so far, and then marginalised (``learning.py``);
fit and analysis are repeated with the new basis. What galaxies scatter in Balmer absorption beyond the few
eigenspectra that a spectrum can tell apart joins the basis as two columns of its own, so that the errors of the lines
know about it.
"""

from collections.abc import Iterable, Iterator
from itertools import islice

import numpy as np
import torch

from mmagn.records import Spectrum
from mmagn.spectroscopy.basis import ContinuumBasis, local_basis, other_lines, window_polynomials
from mmagn.spectroscopy.batch import PIXEL_ANGSTROM, SLOTS, spectrum_batch
from mmagn.spectroscopy.config import SpectroscopyConfig
from mmagn.spectroscopy.eigenspectra import SCATTER_ITERATIONS, constrained_columns, eigenspectra, scatter_along
from mmagn.spectroscopy.learning import learning_sample
from mmagn.spectroscopy.smoothness import balmer_shapes, density_near, line_slot
from mmagn.spectroscopy.templates import template_columns

__all__ = ["ContinuumBasis", "continuum_basis", "learned_basis"]

ROUNDS = 5
"""Times that lines are fitted and the basis learned from the rest; after fewer the local model, the first, shows."""
FIRST_ITERATIONS = 20
"""Steps of the scatter of Balmer absorption in all rounds but the last; each round starts from the one before."""
SPECTRA_PER_TERM = 30
"""Fewer spectra than this per eigenspectrum learn fewer eigenspectra."""
PRIOR_SCATTER = 1.0
"""Prior of the coefficients in units of their scatter over galaxies."""
WINDOW_SCATTER = 0.03
"""Prior of the low-order corrections in the two line windows, relative to the level."""

BALMER_ERROR_ANGSTROM = (0.18, 0.12)
"""How wrong the learned absorption of H-beta and H-alpha may be: as much as for galaxies of E-MILES populations, whose
stars are known."""
ERROR_SPECTRA = 150
"""Spectra from which a basis is learned with twice the variance of that error."""
TEMPLATE_ERROR_ANGSTROM = 0.12
"""The same error with templates."""


def learned_basis(spectra: Iterable[Spectrum], config: SpectroscopyConfig) -> ContinuumBasis | None:
    """Return the continuum basis learned from the survey's own galaxies.

    Parameters
    ----------
    spectra
        Spectra of the survey; QSOs, stars and broad-line objects are passed over, and no more than
        ``config.basis_maximum`` galaxies are read.
    config
        Settings; learning runs on the CPU.

    Returns
    -------
    ContinuumBasis or None
        Mean, eigenspectra, low-order corrections around the lines and further Balmer absorption with their priors;
        None where fewer than ``config.basis_minimum`` usable galaxies came.
    """
    galaxies = list(islice(_galaxies(spectra), config.basis_maximum))
    if len(galaxies) < config.basis_minimum:
        return None
    batch = spectrum_batch(galaxies)
    terms = max(1, min(config.basis_terms, len(galaxies) // SPECTRA_PER_TERM))
    basis = local_basis()
    columns: torch.Tensor | None = None
    scatter: torch.Tensor | None = None
    for iterations in (*[FIRST_ITERATIONS] * (ROUNDS - 1), SCATTER_ITERATIONS):
        sample = learning_sample(batch, basis)
        if len(sample) < config.basis_minimum:
            return None
        columns = eigenspectra(sample, terms, columns)
        constrained = constrained_columns(sample, columns)
        error = torch.tensor(BALMER_ERROR_ANGSTROM, dtype=columns.dtype).square() * (1 + ERROR_SPECTRA / len(sample))
        scatter = scatter_along(sample, constrained, _cores(constrained[0]), scatter, iterations)
        basis = _basis(constrained, (scatter.square() + error).sqrt(), "basis")
    return basis


def continuum_basis(spectra: Iterable[Spectrum], config: SpectroscopyConfig) -> ContinuumBasis | None:
    """Return the basis that the settings ask for, None where the continuum is local.

    ``basis`` is learned from the spectra; where they are too few it comes from the user's templates, if there are any.
    """
    if config.continuum == "local":
        return None
    basis = learned_basis(spectra, config) if config.continuum == "basis" else None
    if basis is None and config.templates:
        return template_basis(config)
    return basis


def template_basis(config: SpectroscopyConfig) -> ContinuumBasis:
    """Return the basis from the user's templates."""
    columns = torch.from_numpy(template_columns(config.templates, config.templates_medium, config.basis_terms))
    return _basis(columns, columns.new_full((2,), TEMPLATE_ERROR_ANGSTROM), "templates")


def _galaxies(spectra: Iterable[Spectrum]) -> Iterator[Spectrum]:
    for spectrum in spectra:
        broad = "BROADLINE" in spectrum.spectral_subclass
        if spectrum.spectral_class in ("", "GALAXY") and not broad and spectrum.redshift > 0:
            yield spectrum


def _basis(columns: torch.Tensor, core_scatter: torch.Tensor, kind: str) -> ContinuumBasis:
    """Return the model: eigenspectra, low-order corrections around H-beta and H-alpha, further Balmer absorption.

    ``core_scatter`` (2,) is how much of that H-beta and H-alpha may have, Angstrom.
    """
    mean = columns[0].numpy()
    windows = np.concatenate(
        [window_polynomials(4750.0, 5100.0, 1) * mean, window_polynomials(6220.0, 6850.0, 2) * mean]
    )
    cores = _cores(columns[0]) * core_scatter[:, None]
    precision = [[0.0], np.full(len(columns) - 1, PRIOR_SCATTER**-2), np.full(len(windows), WINDOW_SCATTER**-2)]
    diagonal = np.concatenate([*precision, np.ones(len(cores))])
    count = len(diagonal)
    return ContinuumBasis(
        kind=kind,
        columns=np.concatenate([columns.numpy(), windows, cores.numpy()]),
        prior_mean=np.zeros(count),
        prior_precision=np.diag(diagonal),
        references=mean[None],
        reference_of=np.zeros(count, np.int64),
        fitted=~other_lines(),
    )


def _cores(mean: torch.Tensor) -> torch.Tensor:
    """Return (2, pixel) the cores of H-beta and H-alpha absorption of 1 A on the mean spectrum, negative."""
    rows = []
    for line in ("hbeta", "halpha"):
        core = balmer_shapes(line, np.arange(SLOTS))[0]
        rows.append(-core * density_near(mean, line) / PIXEL_ANGSTROM[line_slot(line)])
    return torch.from_numpy(np.stack(rows))
