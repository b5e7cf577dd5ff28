"""The stellar continuum, learned from the survey itself: eigenspectra that carry Balmer absorption.

Factor analysis on the rest grid (``eigenspectra.py``). Emission lines are the difficulty: their cores cover the Balmer
absorption cores. Lines are therefore fitted first, with the best continuum known so far, and masked as far as each
galaxy's own line width asks for. H-beta cores are shown by galaxies with weak H-alpha, less the emission that H-alpha
implies; other cores by galaxies next to free of emission. Under the lines the eigenspectra are kept smooth, so that
the absorption wings of galaxies with emission carry on where few galaxies show the core. Fit and analysis are repeated
with the new basis.
"""

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import islice

import numpy as np
import torch

from mmagn.lines import LINES
from mmagn.records import Spectrum
from mmagn.spectroscopy.basis import (
    OTHER_LINE_RADIUS,
    ContinuumBasis,
    local_basis,
    other_line_distance,
    other_lines,
    window_polynomials,
)
from mmagn.spectroscopy.batch import (
    LINE_SLOT,
    PIXEL_ANGSTROM,
    SLOTS,
    SpectrumBatch,
    slots_between,
    spectrum_batch,
)
from mmagn.spectroscopy.config import SpectroscopyConfig
from mmagn.spectroscopy.eigenspectra import LEVEL_ANGSTROM, eigenspectra
from mmagn.spectroscopy.measures import Measures, coverage, line_model, measures
from mmagn.spectroscopy.profiles import AMPLITUDES, LINE_GROUP, SEGMENT_SLOTS, SEGMENTS, total_sigma
from mmagn.spectroscopy.system import Grids, continuum_system, grids
from mmagn.spectroscopy.varpro import fitted, problem, settled, start_kinematics

__all__ = ["ContinuumBasis", "learned_basis"]

ROUNDS = 2
"""Times that lines are fitted and the basis learned from the rest."""
SPECTRA_PER_TERM = 30
"""Fewer spectra than this per eigenspectrum learn fewer eigenspectra."""
MASK_LEVEL = 0.0005
"""Emission above this fraction of the level is masked, what is left of the wings is subtracted."""
QUIET_EW_ANGSTROM = 0.6
"""A galaxy with less H-alpha + [N II] emission shows the stars under its lines."""
SHOWN_LINES = ("oiii_5007", "sii_6718", "sii_6733")
"""Lines where it does: their pixels hold metal features that cannot be guessed from beside them."""
WEAK_HALPHA_ANGSTROM = 8.0
"""A galaxy with less H-alpha shows its H-beta core, less the H-beta emission that its H-alpha implies: an error of 20 %
in the decrement is 0.4 A at most, and an average one of 5 % far less than the depth it settles."""
QUIET_DECREMENT = 3.4
"""H-alpha over H-beta of such galaxies (2.86 to 3.1 and a little dust)."""
OTHER_MASK_SIGMAS = 3.5
"""The same for lines that are not fitted."""
UNSEEN_SIGMA_KMS = 220.0
"""Width taken for lines too weak to show theirs: galaxies without bright lines are massive."""
MASK_SIGMAS = 2.2
"""Cores of this many line widths are masked in every galaxy, whatever the flux."""
PRIOR_SCATTER = 1.0
"""Prior of the coefficients in units of their scatter over galaxies."""
WINDOW_SCATTER = 0.03
"""Prior of the low-order corrections in the two line windows, relative to the level."""
_CHUNK = 256


@dataclass(frozen=True, kw_only=True, eq=False)
class _Sample:
    """Spectra to learn from: (object, pixel) flux over level, and its inverse variance with emission masked."""

    flux: torch.Tensor
    weight: torch.Tensor


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
        Mean, eigenspectra and low-order corrections around the lines with their priors; None where fewer than
        ``config.basis_minimum`` usable galaxies came.
    """
    galaxies = list(islice(_galaxies(spectra), config.basis_maximum))
    if len(galaxies) < config.basis_minimum:
        return None
    batch = spectrum_batch(galaxies)
    terms = max(1, min(config.basis_terms, len(galaxies) // SPECTRA_PER_TERM))
    basis = local_basis()
    columns: torch.Tensor | None = None
    for _ in range(ROUNDS):
        sample = _line_masked(batch, basis)
        if len(sample.flux) < config.basis_minimum:
            return None
        columns = eigenspectra(sample.flux, sample.weight, terms, columns)
        basis = _basis(columns)
    return basis


def _galaxies(spectra: Iterable[Spectrum]) -> Iterator[Spectrum]:
    for spectrum in spectra:
        broad = "BROADLINE" in spectrum.spectral_subclass
        if spectrum.spectral_class in ("", "GALAXY") and not broad and spectrum.redshift > 0:
            yield spectrum


def _line_masked(batch: SpectrumBatch, basis: ContinuumBasis) -> _Sample:
    """Return the spectra divided by their level, with emission cores masked where there is emission."""
    tables = grids(basis, batch.flux.device)
    parts = [
        _chunk_masked(batch.rows(torch.arange(start, min(start + _CHUNK, len(batch)))), tables)
        for start in range(0, len(batch), _CHUNK)
    ]
    return _Sample(flux=torch.cat([part.flux for part in parts]), weight=torch.cat([part.weight for part in parts]))


def _chunk_masked(batch: SpectrumBatch, tables: Grids) -> _Sample:
    system = continuum_system(batch, tables)
    constrained, _, _ = coverage(batch)
    task = problem(system, batch.phase, batch.lsf_sigma, constrained)
    state = settled(task, fitted(task, start_kinematics(task)))
    result = measures(batch, task, state)
    shown = _shown(result)
    seen = torch.stack([shown[AMPLITUDES[a]] for a in range(len(AMPLITUDES))], 1)
    state = replace(state, flux=torch.where(seen, _expected_flux(state.flux), state.flux))
    emission = line_model(task, state) * system.scale[:, None] / torch.from_numpy(PIXEL_ANGSTROM[SEGMENT_SLOTS])
    flux = batch.flux.double()
    flux[:, SEGMENT_SLOTS] -= emission
    weight = batch.ivar.double()
    covered = emission.abs() > MASK_LEVEL * result.level.abs()[:, None]
    for segment in SEGMENTS:
        covered[:, segment.pixels] &= ~seen[:, list(segment.amplitudes)].all(1)[:, None]
    weight[:, SEGMENT_SLOTS] *= ~covered
    told = ~result.sigma_kms.isnan()
    log_sigma = torch.where(told, state.kinematics[:, :, 1], math.log(UNSEEN_SIGMA_KMS))
    sigma = total_sigma(log_sigma, batch.lsf_sigma)
    centre = torch.from_numpy(LINE_SLOT) - batch.phase[:, None] + state.kinematics[:, LINE_GROUP, 0]
    # Lines that are not fitted cannot be subtracted: their wings are masked as far as this galaxy's width reaches.
    reach = (OTHER_MASK_SIGMAS * sigma.amax(1)).clamp_min(OTHER_LINE_RADIUS)
    weight *= torch.from_numpy(other_line_distance()) > reach[:, None]
    slot = torch.arange(SLOTS)
    for index, line in enumerate(LINES):
        core = (slot - centre[:, index, None]).abs() <= MASK_SIGMAS * sigma[:, index, None]
        weight *= ~(core & ~shown[line.tied_to or line.name][:, None])
    level_slots = slots_between(*LEVEL_ANGSTROM)
    ivar = weight[:, level_slots]
    level = (ivar * flux[:, level_slots]).sum(1) / ivar.sum(1).clamp_min(1e-30)
    snr = level * ivar.sum(1).sqrt() / (ivar > 0).sum(1).clamp_min(1).sqrt()
    usable = (snr > 2.0) & (result.chi2_dof < 4.0) & ~batch.constant
    return _Sample(flux=(flux / level[:, None])[usable], weight=(weight * level[:, None].square())[usable])


def _expected_flux(flux: torch.Tensor) -> torch.Tensor:
    """Return (batch, amplitude) the emission of quiet galaxies: H-beta after the Balmer decrement, else nothing."""
    expected = torch.zeros_like(flux)
    expected[:, AMPLITUDES.index("hbeta")] = flux[:, AMPLITUDES.index("halpha")] / QUIET_DECREMENT
    return expected


def _shown(result: Measures) -> dict[str, torch.Tensor]:
    """Return for every free flux (batch,) True where the galaxy shows the stars under that line."""
    pair = [AMPLITUDES.index("halpha"), AMPLITUDES.index("nii_6584")]
    width, error = result.ew[:, pair].sum(1), result.ew_err[:, pair].square().sum(1).sqrt()
    quiet = (width < QUIET_EW_ANGSTROM) & (error < QUIET_EW_ANGSTROM)
    halpha, halpha_err = result.ew[:, pair[0]], result.ew_err[:, pair[0]]
    weak = (halpha < WEAK_HALPHA_ANGSTROM) & (halpha_err < QUIET_EW_ANGSTROM)
    nothing = torch.zeros_like(quiet)
    groups = {name: quiet if name in SHOWN_LINES else nothing for name in AMPLITUDES}
    return {**groups, "hbeta": weak}


def _basis(columns: torch.Tensor) -> ContinuumBasis:
    """Return the model: eigenspectra and low-order corrections around H-beta and around H-alpha."""
    mean = columns[0].numpy()
    windows = np.concatenate(
        [window_polynomials(4750.0, 5100.0, 1) * mean, window_polynomials(6220.0, 6850.0, 2) * mean]
    )
    diagonal = np.concatenate(
        [[0.0], np.full(len(columns) - 1, PRIOR_SCATTER**-2), np.full(len(windows), WINDOW_SCATTER**-2)]
    )
    count = len(diagonal)
    return ContinuumBasis(
        kind="basis",
        columns=np.concatenate([columns.numpy(), windows]),
        prior_mean=np.zeros(count),
        prior_precision=np.diag(diagonal),
        references=mean[None],
        reference_of=np.zeros(count, np.int64),
        fitted=~other_lines(),
    )
