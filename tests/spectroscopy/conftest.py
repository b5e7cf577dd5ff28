"""Spectra with known lines on a known continuum, written down from closed forms."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest
from scipy.special import erf

from mmagn.lines import LINES
from mmagn.records import LIGHT_SPEED_KMS, LOG10_STEP, Spectrum

PIXEL_KMS = LIGHT_SPEED_KMS * np.log(10) * LOG10_STEP
FLUXES = {
    "hbeta": 100.0,
    "oiii_5007": 150.0,
    "oi_6302": 30.0,
    "halpha": 300.0,
    "nii_6584": 120.0,
    "sii_6718": 60.0,
    "sii_6733": 50.0,
}


def spectrum_of(
    fluxes: Mapping[str, float] | None = None,
    *,
    redshift: float = 0.1,
    sigma_kms: float = 130.0,
    velocity_kms: float = 0.0,
    lsf_sigma: float = 0.95,
    continuum: float = 10.0,
    absorption_angstrom: float = 3.5,
    noise: float = 0.0,
    assumed_noise: float = 0.5,
    pixels: int = 3850,
    start_log10: float = 3.5800,
    seed: int = 0,
    broad_halpha: float = 0.0,
    broad_sigma_kms: float = 2000.0,
    **changes: Any,
) -> Spectrum:
    log10 = start_log10 + LOG10_STEP * np.arange(pixels)
    angstrom = 10**log10
    width = angstrom * np.log(10) * LOG10_STEP
    rest = angstrom / (1 + redshift)
    flux = continuum * (1 - 0.1 * (rest - 5500) / 1500)
    for centre, share in ((4862.683, 1.0), (6564.614, 0.65)):
        for sigma, part in ((4.5, 0.6), (11.0, 0.4)):
            depth = share * part * absorption_angstrom / (sigma * np.sqrt(2 * np.pi))
            flux *= 1 - depth * np.exp(-0.5 * ((rest - centre) / sigma) ** 2)
    fluxes = FLUXES if fluxes is None else fluxes
    total = np.sqrt((sigma_kms / PIXEL_KMS) ** 2 + lsf_sigma**2 - 1 / 12)
    for line in LINES:
        amount = fluxes.get(line.tied_to or line.name, 0.0) * (line.tied_ratio if line.tied_to else 1.0)
        offset = (log10 - np.log10(line.wavelength_angstrom * (1 + redshift))) / LOG10_STEP - velocity_kms / PIXEL_KMS
        ends = [erf((offset + side) / (total * np.sqrt(2))) for side in (-0.5, 0.5)]
        flux += amount * 0.5 * (ends[1] - ends[0]) / width
        if line.group == "balmer" and broad_halpha:
            wide = broad_sigma_kms / PIXEL_KMS
            share = 1.0 if line.name == "halpha" else 0.3
            flux += share * broad_halpha * np.exp(-0.5 * (offset / wide) ** 2) / (wide * np.sqrt(2 * np.pi)) / width
    flux += noise * np.random.default_rng(seed).standard_normal(pixels)
    record: dict[str, Any] = {
        "object_id": "1",
        "survey": "sdss",
        "ra_deg": 10.0,
        "dec_deg": 1.0,
        "redshift": redshift,
        "redshift_err": 1e-5,
        "zwarning": 0,
        "spectral_class": "GALAXY",
        "spectral_subclass": "",
        "wavelength_angstrom": angstrom.astype(np.float32),
        "flux": flux.astype(np.float32),
        "ivar": np.full(pixels, (noise or assumed_noise) ** -2, np.float32),
        "lsf_sigma": np.full(pixels, lsf_sigma, np.float32),
    }
    return Spectrum(**{**record, **changes})


@pytest.fixture(scope="session")
def spectrum() -> Callable[..., Spectrum]:
    """Builder of one spectrum: line fluxes by name, then redshift, widths, continuum, noise and record fields."""
    return spectrum_of


@pytest.fixture(scope="session")
def line_fluxes() -> dict[str, float]:
    """The fluxes of the default spectrum."""
    return dict(FLUXES)
