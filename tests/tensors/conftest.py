"""Builders of spectra and cutouts that the tensor tests share."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from mmagn.records import LOG10_STEP, Cutout, Spectrum


@pytest.fixture(scope="session")
def spectrum_of() -> Callable[..., Spectrum]:
    """Builder ``spectrum_of(flux, ivar, redshift=, first_native=)`` on the SDSS grid of 1e-4 dex.

    ``first_native`` is log10 of the first observed wavelength in steps of the grid.
    """

    def build(flux: Any, ivar: Any = 4.0, *, redshift: float = 0.0, first_native: float = 36000.0) -> Spectrum:
        flux = np.asarray(flux, dtype=np.float32)
        native = first_native + np.arange(len(flux))
        return Spectrum(
            object_id="1",
            survey="sdss",
            ra_deg=10.0,
            dec_deg=0.0,
            redshift=redshift,
            redshift_err=1e-5,
            zwarning=0,
            spectral_class="GALAXY",
            spectral_subclass="",
            wavelength_angstrom=(10 ** (native * LOG10_STEP)).astype(np.float32),
            flux=flux,
            ivar=np.broadcast_to(np.asarray(ivar, dtype=np.float32), flux.shape).copy(),
            lsf_sigma=np.ones(len(flux), dtype=np.float32),
        )

    return build


@pytest.fixture(scope="session")
def cutout_of() -> Callable[..., Cutout]:
    """Builder ``cutout_of(flux, ivar)`` of a cutout with given pixels."""

    def build(flux: Any, ivar: Any = 1.0) -> Cutout:
        flux = np.broadcast_to(np.asarray(flux, dtype=np.float32), (5, 160, 160)).copy()
        return Cutout(
            object_id="2",
            ra_deg=10.0,
            dec_deg=0.0,
            flux=flux,
            ivar=np.broadcast_to(np.asarray(ivar, dtype=np.float32), flux.shape).copy(),
            psf_fwhm_arcsec=np.full(5, 0.7, dtype=np.float32),
            magnitude=np.full(5, 20.0, dtype=np.float32),
        )

    return build
