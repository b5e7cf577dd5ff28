"""Spectra of the embedded survey: starlight, emission lines, instrument, noise, bad pixels; many at once."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from astropy.table import Table
from numpy.typing import NDArray

from mmagn.lines import LINE_BY_NAME, LINES, REPORTED_LINES
from mmagn.records import LIGHT_SPEED_KMS, LOG10_STEP, Floats, Spectrum
from mmagn.surveys.simulate.galaxies import CLASSES, OTHER_LINES, drawn_classes, galaxies
from mmagn.surveys.simulate.spectrograph import FIBRES, SPECTROGRAPHS, Spectrograph, fibre_lsf, sky_noise
from mmagn.surveys.simulate.stars import GRID_LOG10, GRID_STEP, stellar_basis

Singles = NDArray[np.float32]
Stars = Callable[[Table, str], Singles]

BLOCK = 512
"""Spectra rendered at once; bounds the memory."""
TRUTH_LINES = tuple(f"flux_{name}" for name in REPORTED_LINES)
TRUTH_COLUMNS = (
    "bpt_class",
    "redshift",
    *TRUTH_LINES,
    "ew_absorption_hbeta",
    "ew_absorption_halpha",
    "sigma_kms_balmer",
    "sigma_kms_forbidden",
    "velocity_kms",
)
KMS_PER_PIXEL = LIGHT_SPEED_KMS * np.log(10) * LOG10_STEP
_HALF_WINDOW = 48
_WEAKEST_OF = ("hbeta", "oiii_5007", "halpha", "nii_6584")
PHOTON_VARIANCE = 0.035
"""Variance of a pixel over the flux density of the object in it."""
BROAD_LINES = (("halpha", 6564.614, 1.0), ("hbeta", 4862.683, 0.3), ("hgamma", 4341.684, 0.12))


@dataclass(frozen=True, kw_only=True)
class SpectrumBlock:
    """Rendered spectra on the full grid of one spectrograph, (object, pixel) each unless said.

    Attributes
    ----------
    flux, ivar
        1e-17 erg/s/cm2/A and its inverse variance, 0 at some bad pixels.
    bad
        True where the pipeline flags the pixel.
    lsf_sigma
        Dispersion in pixels.
    first, stop
        (object,) range of pixels that the object has.
    """

    flux: Singles
    ivar: Singles
    bad: NDArray[np.bool_]
    lsf_sigma: Singles
    first: NDArray[np.int64]
    stop: NDArray[np.int64]


def stellar_flux(table: Table, survey: str) -> Singles:
    """Return the starlight of each galaxy, (object, pixel), observed frame, 1e-17 erg/s/cm2/A."""
    grid = SPECTROGRAPHS[survey]
    fractions = np.asarray(table["light_fractions"])
    weights = np.hstack([fractions, -np.asarray(table["metals"])[:, None] * fractions])
    weights *= np.asarray(table["continuum_scale"])[:, None]
    levels = np.asarray(table["sigma_level"])
    position = (grid.start_log10 - np.log10(1 + np.asarray(table["redshift"])) - GRID_LOG10[0]) / GRID_STEP
    steps = round(LOG10_STEP / GRID_STEP)
    flux = np.empty((len(table), grid.pixels), dtype=np.float32)
    for level in np.unique(levels):
        members = np.flatnonzero(levels == level)
        rest = weights[members].astype(np.float32) @ stellar_basis()[level]
        for row, spectrum in zip(members, rest, strict=True):
            start = int(position[row])
            part = np.float32(position[row] - start)
            ends = start + steps * grid.pixels
            flux[row] = (1 - part) * spectrum[start:ends:steps] + part * spectrum[start + 1 : ends + 1 : steps]
    tau = np.asarray(table["dust_tau"]) * (1 + np.asarray(table["redshift"])) ** 0.7
    shape = (10**grid.log10_angstrom / 5500.0) ** -0.7
    flux *= np.exp(-tau.astype(np.float32)[:, None] * shape.astype(np.float32))
    return flux


def emission_flux(table: Table, survey: str, lsf_sigma: Singles) -> Singles:
    """Return the emission lines of each galaxy, (object, pixel), observed frame, 1e-17 erg/s/cm2/A.

    A line is a Gaussian in log wavelength, taken at the pixel centres. Its width is at least one pixel, so the sum over
    pixels equals its flux to 1e-8, and ``lsf_sigma``, (object, pixel) in pixels, which includes the pixel as for arc
    lines, adds in quadrature.
    """
    grid = SPECTROGRAPHS[survey]
    margin = 2 * _HALF_WINDOW
    padded = np.zeros((len(table), grid.pixels + 2 * margin))
    rows = np.arange(len(table))[:, None]
    doppler = (1 + np.asarray(table["redshift"])) * (1 + np.asarray(table["velocity_kms"]) / LIGHT_SPEED_KMS)
    lines = [(line.name, line.wavelength_angstrom, line.group) for line in LINES]
    for name, wavelength, group in (*lines, *OTHER_LINES):
        centre = (np.log10(wavelength * doppler) - grid.start_log10) / LOG10_STEP
        nearest = np.clip(np.rint(centre).astype(np.int64), -_HALF_WINDOW, grid.pixels + _HALF_WINDOW - 1)
        instrument = lsf_sigma[rows[:, 0], np.clip(nearest, 0, grid.pixels - 1)]
        sigma = np.hypot(np.asarray(table[f"sigma_kms_{group}"]) / KMS_PER_PIXEL, instrument)
        pixel = nearest[:, None] + np.arange(-_HALF_WINDOW, _HALF_WINDOW + 1)
        padded[rows, pixel + margin] += log_gaussian(np.asarray(table[f"flux_{name}"]), centre, sigma, pixel, grid)
    flux = padded[:, margin : margin + grid.pixels]
    for row in np.flatnonzero(np.asarray(table["sigma_kms_broad"]) > 0):
        sigma = np.array([table["sigma_kms_broad"][row] / KMS_PER_PIXEL])
        for _, wavelength, ratio in BROAD_LINES:
            centre = (np.log10(wavelength * doppler[[row]]) - grid.start_log10) / LOG10_STEP
            total = np.array([ratio * table["flux_broad_halpha"][row]])
            flux[row] += log_gaussian(total, centre, sigma, np.arange(grid.pixels)[None], grid)[0]
    return flux.astype(np.float32)


def log_gaussian(
    total: Floats, centre: Floats, sigma: Floats, pixel: NDArray[np.number[Any]], grid: Spectrograph
) -> Floats:
    """Return Gaussians (object, pixel) of a total flux at pixels, which may lie between those of the grid."""
    per_pixel = np.exp(-0.5 * ((pixel - centre[:, None]) / sigma[:, None]) ** 2) / (sigma[:, None] * np.sqrt(2 * np.pi))
    angstrom_per_pixel = 10 ** (grid.start_log10 + LOG10_STEP * pixel) * np.log(10) * LOG10_STEP
    return np.asarray(total[:, None] * per_pixel / angstrom_per_pixel)


def spectrum_block(table: Table, survey: str, rng: np.random.Generator, stars: Stars = stellar_flux) -> SpectrumBlock:
    """Return the observed spectra of a few hundred galaxies, of which ``stars`` returns the starlight."""
    count, pixels = len(table), SPECTROGRAPHS[survey].pixels
    lsf = fibre_lsf(survey)[rng.integers(0, FIBRES, count)]
    flux = stars(table, survey) + emission_flux(table, survey, lsf)
    exposure = np.exp(0.1 * rng.standard_normal(count, dtype=np.float32))[:, None]
    variance = (exposure * sky_noise(survey).astype(np.float32)) ** 2 + np.float32(PHOTON_VARIANCE) * np.maximum(
        flux, 0
    )
    flux += np.sqrt(variance) * rng.standard_normal((count, pixels), dtype=np.float32)
    ivar = 1 / variance
    bad = bad_pixels(count, pixels, rng)
    where = np.nonzero(bad)
    without_weight = rng.random(where[0].size) < 0.4
    ivar[where[0][without_weight], where[1][without_weight]] = 0
    wild = rng.random(where[0].size) < 0.15
    flux[where[0][wild], where[1][wild]] += rng.normal(0, 300, int(wild.sum())).astype(np.float32)
    ivar[rng.random((count, pixels), dtype=np.float32) < 3e-4] = 0
    return SpectrumBlock(
        flux=flux,
        ivar=ivar,
        bad=bad,
        lsf_sigma=lsf,
        first=rng.integers(0, 20, count),
        stop=pixels - rng.integers(0, 12, count),
    )


def bad_pixels(count: int, pixels: int, rng: np.random.Generator) -> NDArray[np.bool_]:
    """Return flagged pixels: about 0.5 % of single ones, and up to three runs of 3 to 12 pixels a spectrum."""
    bad = rng.random((count, pixels), dtype=np.float32) < 0.005
    runs = rng.integers(0, 4, count)
    owner = np.repeat(np.arange(count), runs)
    start, length = rng.integers(0, pixels - 12, owner.size), rng.integers(3, 13, owner.size)
    for offset in range(12):
        bad[owner[length > offset], start[length > offset] + offset] = True
    return np.asarray(bad)


def weakest_snr(table: Table, survey: str) -> Floats:
    """Return the expected signal-to-noise of the weakest of the four BPT lines of each galaxy, (object,)."""
    grid = SPECTROGRAPHS[survey]
    noise = sky_noise(survey)
    lowest = np.full(len(table), np.inf)
    scale = np.asarray(table["continuum_scale"]) * np.exp(-np.asarray(table["dust_tau"]))
    for name in _WEAKEST_OF:
        line = LINE_BY_NAME[name]
        observed = line.wavelength_angstrom * (1 + np.asarray(table["redshift"]))
        pixel = np.clip(np.rint((np.log10(observed) - grid.start_log10) / LOG10_STEP).astype(int), 0, grid.pixels - 1)
        sigma = np.hypot(np.asarray(table[f"sigma_kms_{line.group}"]) / KMS_PER_PIXEL, 0.9)
        spread = np.sqrt(2 * np.sqrt(np.pi) * sigma) * observed * np.log(10) * LOG10_STEP
        flux = np.asarray(table[f"flux_{name}"])
        variance = noise[pixel] ** 2 + PHOTON_VARIANCE * (scale + 0.5 * flux / spread)
        lowest = np.minimum(lowest, flux / (np.sqrt(variance) * spread))
    return lowest


def pipeline_class(table: Table) -> tuple[NDArray[np.str_], NDArray[np.str_]]:
    """Return CLASS and SUBCLASS as the SDSS pipeline would name them, (object,) each."""
    kind = np.asarray(table["bpt_class"])
    broad = kind == "broad-line"
    wide = np.asarray(table["flux_halpha"]) / np.asarray(table["continuum_scale"])
    agn = np.asarray(table["log_oiii_hbeta"]) > 0.7 - 1.2 * (np.asarray(table["log_nii_halpha"]) + 0.4)
    forming = np.where(wide > 50, "STARBURST", "STARFORMING")
    subclass = np.where(agn, "AGN", forming)
    subclass = np.where((wide < 3) | (kind == "passive"), "", subclass)
    return np.where(broad, "QSO", "GALAXY"), np.where(broad, "BROADLINE", subclass)


def simulated_spectra(
    count: int,
    rng: np.random.Generator,
    *,
    redshift_max: float = 0.3,
    classes: Sequence[str] | None = None,
    stars: Stars = stellar_flux,
) -> tuple[list[Spectrum], Table]:
    """Return spectra of the ``sdss`` kind with their truth.

    Parameters
    ----------
    count, rng
        Number of spectra, and source of every draw.
    redshift_max
        Largest redshift, above 0.01.
    classes
        Draw evenly from these true classes; None takes the mixture of the embedded survey.
    stars
        Starlight of a table of galaxies, as ``stellar_flux``.

    Returns
    -------
    The spectra, and a table with one row each: ``bpt_class``, ``redshift``, ``flux_LINE`` (1e-17 erg/s/cm2),
    absorption equivalent widths (Angstrom, positive), widths and velocity (km/s).

    Raises
    ------
    ValueError
        A class is unknown or the redshift range is empty.
    """
    if count < 0:
        raise ValueError(f"count of simulated spectra is {count}; allowed: 0 or more")
    if classes is None:
        names = drawn_classes(count, 0.2, rng)
    elif len(classes):
        names = rng.choice(np.asarray(classes, dtype=np.str_), count)
    else:
        raise ValueError(f"classes is empty; name one or more of {', '.join(CLASSES)}")
    table = galaxies(names, rng, redshift_max)
    angstrom = (10 ** SPECTROGRAPHS["sdss"].log10_angstrom).astype(np.float32)
    spectra: list[Spectrum] = []
    for start in range(0, count, BLOCK):
        part = table[start : start + BLOCK]
        spectra += _records(part, spectrum_block(part, "sdss", rng, stars), angstrom, start)
    return spectra, table[list(TRUTH_COLUMNS)]


def _records(table: Table, block: SpectrumBlock, angstrom: Singles, number: int) -> list[Spectrum]:
    classes, subclasses = pipeline_class(table)
    ivar = np.where(block.bad, np.float32(0), block.ivar)
    records = []
    for row in range(len(table)):
        kept = slice(int(block.first[row]), int(block.stop[row]))
        records.append(
            Spectrum(
                object_id=str(number + row),
                survey="sdss",
                ra_deg=float((0.001 * (number + row)) % 360),
                dec_deg=0.0,
                redshift=float(table["redshift"][row]),
                redshift_err=1e-5,
                zwarning=0,
                spectral_class=str(classes[row]),
                spectral_subclass=str(subclasses[row]),
                wavelength_angstrom=angstrom[kept],
                flux=block.flux[row, kept],
                ivar=ivar[row, kept],
                lsf_sigma=block.lsf_sigma[row, kept],
            )
        )
    return records
