"""Spectra and images with given pixels, for tests of what is made of them."""

from typing import Any

import numpy as np

from mmagn.records import LOG10_STEP, Cutout, Spectrum


def spectrum_of(flux: Any, ivar: Any = 4.0, *, first_native: float = 36000.0, **fields: Any) -> Spectrum:
    """Spectrum on the SDSS grid of 1e-4 dex.

    ``first_native`` is log10 of the first observed wavelength in steps of the grid; ``fields`` are those of the record
    that differ.
    """
    flux = np.asarray(flux, dtype=np.float32)
    record: dict[str, Any] = {
        "object_id": "1",
        "survey": "sdss",
        "ra_deg": 10.0,
        "dec_deg": 0.0,
        "redshift": 0.0,
        "redshift_err": 1e-5,
        "zwarning": 0,
        "spectral_class": "GALAXY",
        "spectral_subclass": "",
        "wavelength_angstrom": (10 ** ((first_native + np.arange(len(flux))) * LOG10_STEP)).astype(np.float32),
        "flux": flux,
        "ivar": np.broadcast_to(np.asarray(ivar, dtype=np.float32), flux.shape).copy(),
        "lsf_sigma": np.ones(len(flux), dtype=np.float32),
    }
    return Spectrum(**{**record, **fields})


def cutout_of(flux: Any, ivar: Any = 1.0, *, size: int = 160, **fields: Any) -> Cutout:
    """Cutout with pixels that are broadcast to all bands; ``fields`` are those of the record that differ."""
    shape = (5, size, size)
    record: dict[str, Any] = {
        "object_id": "2",
        "ra_deg": 10.0,
        "dec_deg": 0.0,
        "flux": np.broadcast_to(np.asarray(flux, dtype=np.float32), shape).copy(),
        "ivar": np.broadcast_to(np.asarray(ivar, dtype=np.float32), shape).copy(),
        "psf_fwhm_arcsec": np.full(5, 0.7, dtype=np.float32),
        "magnitude": np.full(5, 20.0, dtype=np.float32),
    }
    return Cutout(**{**record, **fields})
