"""Continuum models: columns on the rest grid with a prior, either learned from the survey or a local fallback.

A continuum model is linear: columns on the rest grid times coefficients, fitted with ivar weights in the same matrix
as the emission lines. Its prior is stated relative to the level of the spectrum, so that scaling a spectrum scales
its continuum. The ``basis`` kind holds eigenspectra of the survey (see ``continuum.py``) and carries stellar Balmer
absorption; the ``local`` kind holds polynomials around the lines and what stars absorb there.
"""

import hashlib
from dataclasses import dataclass
from functools import cache, cached_property, partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from mmagn.records import LOG10_STEP
from mmagn.spectroscopy.absorption import (
    BOTH,
    NARROW_SIGMA_KMS,
    OLD,
    WIDE_SIGMA_KMS,
    YOUNG,
    balmer_core,
    hot_absorption,
    stellar_absorption,
)
from mmagn.spectroscopy.batch import FIRST_SLOT, SLOTS, slots_between

BLUE_WINDOW_ANGSTROM = (4730.0, 5140.0)
"""Continuum around H-beta and [O III] that the local model describes."""
RED_WINDOW_ANGSTROM = (6190.0, 6880.0)
"""Continuum around [O I], H-alpha, [N II] and [S II] that the local model describes."""
OTHER_LINES_ANGSTROM = (
    3727.09, 3729.88, 3869.86, 3889.75, 3968.59, 3971.20, 4069.75, 4102.89, 4341.68, 4364.44, 4472.73, 4687.02,
    4741.45, 5201.06, 5756.19, 5877.25, 5891.58, 5897.56,
)  # fmt: skip
"""Emission lines (and interstellar Na D) that no free flux describes; their cores are left out of the continuum fit."""
OTHER_LINE_RADIUS = 7
"""Half-width of those cores in pixels (480 km/s)."""
POPULATION_MEAN = (0.45, 0.25)
POPULATION_COVARIANCE = ((0.13, -0.05), (-0.05, 0.13))
POPULATION_CORRELATION = 0.9
"""Prior of the local model: shares of young and of old stars, wide enough for light without absorption, and how closely
those in both windows agree."""
SHAPE_MEAN = (0.5, 2.0, 0.0)
SHAPE_SCATTER = (1.2, 3.0, 0.25)
"""Prior of what both windows share: how narrow the features are, H-beta absorption of hot stars (Angstrom), and Balmer
cores that no mixture of these has (Angstrom)."""
_FLAT = 0.0
_ARRAYS = ("columns", "prior_mean", "prior_precision", "references", "reference_of", "fitted")


@dataclass(frozen=True, kw_only=True, eq=False)
class ContinuumBasis:
    """Columns that make a continuum, and what is known about their coefficients beforehand.

    Attributes
    ----------
    kind
        ``basis`` or ``local``.
    columns
        (term, pixel) on the rest grid, flux density.
    prior_mean
        (term,) expected coefficients for a spectrum of level 1.
    prior_precision
        (term, term) inverse covariance of the coefficients for a spectrum of level 1; 0 is flat.
    references
        (reference, pixel) shapes that measure the level: level = sum(w y r) / sum(w r r).
    reference_of
        (term,) which reference sets the level of each term.
    fitted
        (pixel,) True where pixels enter the fit.
    """

    kind: str
    columns: NDArray[np.float64]
    prior_mean: NDArray[np.float64]
    prior_precision: NDArray[np.float64]
    references: NDArray[np.float64]
    reference_of: NDArray[np.int64]
    fitted: NDArray[np.bool_]

    @cached_property
    def fingerprint(self) -> str:
        """Digest of the content: equal for copies in other processes."""
        digest = hashlib.blake2b(self.kind.encode(), digest_size=16)
        for name in _ARRAYS:
            digest.update(np.ascontiguousarray(getattr(self, name)).tobytes())
        return digest.hexdigest()

    def __hash__(self) -> int:
        """Return the hash of the content."""
        return hash(self.fingerprint)

    def __eq__(self, other: object) -> bool:
        """Return True for the same content."""
        return isinstance(other, ContinuumBasis) and self.fingerprint == other.fingerprint

    def save(self, path: str | Path) -> None:
        """Write the basis as safetensors."""
        arrays = {name: np.ascontiguousarray(getattr(self, name)) for name in _ARRAYS}
        save_file(arrays | {"grid": np.array([FIRST_SLOT, SLOTS])}, path, metadata={"kind": self.kind})

    @classmethod
    def load(cls, path: str | Path) -> "ContinuumBasis":
        """Return the basis that ``save`` wrote.

        Raises
        ------
        ValueError
            The file is damaged, or holds another rest grid.
        """
        try:
            with safe_open(path, framework="numpy") as stored:
                arrays = {name: stored.get_tensor(name) for name in (*_ARRAYS, "grid")}
                kind = stored.metadata()["kind"]
        except (SafetensorError, TypeError, KeyError) as error:
            raise ValueError(f"{path} does not hold a continuum basis: {error}") from error
        if arrays.pop("grid").tolist() != [FIRST_SLOT, SLOTS]:
            raise ValueError(f"{path} holds a continuum basis on another rest grid; learn it again")
        return cls(kind=kind, **arrays)


def other_line_distance() -> NDArray[np.float64]:
    """Return (pixel,) how many pixels away the nearest emission line is that is not fitted."""
    centre = np.log10(np.array(OTHER_LINES_ANGSTROM)) / LOG10_STEP - FIRST_SLOT
    return np.asarray(np.abs(np.arange(SLOTS) - centre[:, None]).min(0))


def other_lines() -> NDArray[np.bool_]:
    """Return (pixel,) True in the cores of emission lines that are not fitted."""
    return np.asarray(other_line_distance() <= OTHER_LINE_RADIUS)


def window_polynomials(low_angstrom: float, high_angstrom: float, degree: int) -> NDArray[np.float64]:
    """Return (degree + 1, pixel) Legendre polynomials inside a rest window, 0 outside."""
    slots = slots_between(low_angstrom, high_angstrom)
    columns = np.zeros((degree + 1, SLOTS))
    x = np.linspace(-1, 1, slots.stop - slots.start)
    columns[:, slots] = np.polynomial.legendre.legvander(x, degree).T
    return columns


@cache
def local_basis() -> ContinuumBasis:
    """Return the fallback: polynomials in two windows around the lines, and young, old and hot stars in both."""
    windows = {"hbeta": BLUE_WINDOW_ANGSTROM, "halpha": RED_WINDOW_ANGSTROM}
    stars = [stellar_absorption(line, window, shares) for shares in (YOUNG, OLD) for line, window in windows.items()]
    narrow, wide, hot, cores = (
        sum(profile(line, window) for line, window in windows.items())
        for profile in (
            partial(stellar_absorption, shares=BOTH, sigma_kms=NARROW_SIGMA_KMS),
            partial(stellar_absorption, shares=BOTH, sigma_kms=WIDE_SIGMA_KMS),
            hot_absorption,
            balmer_core,
        )
    )
    blue, red = window_polynomials(*BLUE_WINDOW_ANGSTROM, 3), window_polynomials(*RED_WINDOW_ANGSTROM, 4)
    columns = np.concatenate([blue, red, stars, [narrow - wide, hot, cores]])
    linked = [[1.0, POPULATION_CORRELATION], [POPULATION_CORRELATION, 1.0]]
    precision = np.zeros((16, 16))
    precision[9:13, 9:13] = np.linalg.inv(np.kron(POPULATION_COVARIANCE, linked))
    precision[13:, 13:] = np.diag(np.square(SHAPE_SCATTER) ** -1.0)
    references = np.stack([blue[0], red[0], blue[0] + red[0]])
    return ContinuumBasis(
        kind="local",
        columns=columns,
        prior_mean=np.concatenate([[_FLAT] * 9, np.repeat(POPULATION_MEAN, 2), SHAPE_MEAN]),
        prior_precision=precision,
        references=references,
        reference_of=np.array([0] * 4 + [1] * 5 + [0, 1] * 2 + [2] * 3),
        fitted=(references.sum(0) > 0) & ~other_lines(),
    )
