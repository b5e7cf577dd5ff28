"""DESI spectra of galaxies of the embedded survey, as a file of ``desi/edr_sv3``: one linear grid, sharper lines."""

from collections.abc import Iterator
from typing import Any

import h5py
import numpy as np
from astropy.table import Table
from numpy.typing import NDArray
from scipy.interpolate import CubicSpline

from mmagn.lines import LINES
from mmagn.records import LIGHT_SPEED_KMS, LOG10_STEP, Floats
from mmagn.surveys.desi import GRID_ANGSTROM, PIXELS, STEP_ANGSTROM
from mmagn.surveys.screen import cells_of
from mmagn.surveys.simulate.galaxies import OTHER_LINES
from mmagn.surveys.simulate.sky import Sky, shifted
from mmagn.surveys.simulate.spectra import (
    BROAD_LINES,
    KMS_PER_PIXEL,
    PHOTON_VARIANCE,
    bad_pixels,
    log_gaussian,
    stellar_flux,
)
from mmagn.surveys.simulate.spectrograph import SPECTROGRAPHS, sky_noise

DESI_SURVEY = "edr_sv3"
DESI_BLOCK = 64
"""Spectra rendered at once: each line of each is taken at all pixels."""
FIRST_TARGETID = 39_627_000_000_000_000
_LSF_PIXELS = (0.845, 0.899)
"""Range of the dispersion in pixels of 0.8 A in published files, the same along a spectrum."""
_POSITION_ERROR_ARCSEC = 0.1
_GRID = SPECTROGRAPHS["desi"]
_POSITION: Floats = (np.log10(GRID_ANGSTROM) - _GRID.start_log10) / LOG10_STEP
"""(pixel,) of ``GRID_ANGSTROM`` in pixels of 1e-4 dex."""


def desi_targets(sky: Sky, pairs: int, fraction: float, rng: np.random.Generator) -> Table:
    """Return the galaxies that DESI has observed, a fraction of the pairs, under their TARGETID and its position.

    ``row`` is their row in ``sky.sdss``.
    """
    rows = np.sort(rng.permutation(pairs)[: round(fraction * pairs)])
    targets = sky.sdss[rows]
    targets["row"] = rows
    offsets = rng.normal(0, _POSITION_ERROR_ARCSEC, (2, len(rows)))
    targets["ra_deg"], targets["dec_deg"] = shifted(targets["ra_deg"], targets["dec_deg"], *offsets)
    targets["healpix"] = cells_of(targets["ra_deg"], targets["dec_deg"])
    targets["object_id"], targets["survey"] = FIRST_TARGETID + rows, "desi"
    return targets


def write_desi_file(file: h5py.File, table: Table, rng: np.random.Generator) -> None:
    """Write the spectra of one cell in the published layout."""
    count = len(table)
    values: dict[str, Any] = {
        "object_id": np.asarray(table["object_id"], dtype=np.int64),
        "ra": np.asarray(table["ra_deg"], dtype=np.float64),
        "dec": np.asarray(table["dec_deg"], dtype=np.float64),
        "healpix": np.asarray(table["healpix"], dtype=np.int64),
        "Z": np.asarray(table["redshift"], dtype=np.float64),
        "ZERR": 1e-5 * np.exp(0.4 * rng.standard_normal(count)),
        "ZWARN": np.where(rng.random(count) < 0.02, 4, 0).astype(np.int64),
        "SPECTYPE": np.where(np.asarray(table["bpt_class"]) == "broad-line", "QSO", "GALAXY").astype("S6"),
        "spectrum_lambda": np.tile(GRID_ANGSTROM.astype(np.float32), (count, 1)),
    }
    blocks = [desi_pixels(table[start : start + DESI_BLOCK], rng) for start in range(0, count, DESI_BLOCK)]
    values |= {f"spectrum_{name}": np.concatenate([block[name] for block in blocks]) for name in blocks[0]}
    for name, column in values.items():
        file[name] = column


def desi_pixels(table: Table, rng: np.random.Generator) -> dict[str, NDArray[Any]]:
    """Return flux, ivar, mask and lsf_sigma (object, pixel) of some galaxies as DESI publishes them."""
    count = len(table)
    width = rng.uniform(*_LSF_PIXELS, count)
    flux = CubicSpline(np.arange(_GRID.pixels), stellar_flux(table, "desi"), axis=1)(_POSITION)
    for line in emission(table, width * STEP_ANGSTROM):
        flux += line
    per_pixel = np.sqrt(GRID_ANGSTROM * np.log(10) * LOG10_STEP / STEP_ANGSTROM)
    sky = np.interp(_POSITION, np.arange(_GRID.pixels), sky_noise("desi")) * per_pixel
    exposure = np.exp(0.1 * rng.standard_normal(count))[:, None]
    variance = (exposure * sky) ** 2 + PHOTON_VARIANCE * np.maximum(flux, 0)
    flux += np.sqrt(variance) * rng.standard_normal(flux.shape)
    bad = bad_pixels(count, PIXELS, rng)
    without_weight = bad & (rng.random(bad.shape) < 0.4)
    return {
        "flux": flux.astype(np.float32),
        "ivar": np.where(without_weight, 0, 1 / variance).astype(np.float32),
        "mask": bad,
        "lsf_sigma": np.repeat(width[:, None], PIXELS, axis=1).astype(np.float32),
    }


def emission(table: Table, lsf_sigma_angstrom: Floats) -> Iterator[Floats]:
    """Yield each emission line (object, pixel) on DESI's grid, 1e-17 erg/s/cm2/A, see ``spectra.emission_flux``."""
    doppler = (1 + np.asarray(table["redshift"])) * (1 + np.asarray(table["velocity_kms"]) / LIGHT_SPEED_KMS)
    lines = [(f"flux_{line.name}", line.wavelength_angstrom, line.group, 1.0) for line in LINES]
    lines += [(f"flux_{name}", angstrom, group, 1.0) for name, angstrom, group in OTHER_LINES]
    lines += [("flux_broad_halpha", angstrom, "broad", ratio) for _, angstrom, ratio in BROAD_LINES]
    for column, angstrom, group, ratio in lines:
        observed = angstrom * doppler
        instrument = lsf_sigma_angstrom / (observed * np.log(10) * LOG10_STEP)
        sigma = np.hypot(np.asarray(table[f"sigma_kms_{group}"]) / KMS_PER_PIXEL, instrument)
        total = np.where(np.asarray(table[f"sigma_kms_{group}"]) > 0, ratio * np.asarray(table[column]), 0)
        centre = (np.log10(observed) - _GRID.start_log10) / LOG10_STEP
        yield log_gaussian(total, centre, sigma, _POSITION[None], _GRID)
