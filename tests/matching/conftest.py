"""A small survey with everything that can happen to a pair, built once."""

from pathlib import Path

import numpy as np
import pytest

from mmagn.surveys.config import DataConfig

ARCSEC = 1 / 3600
CENTRES = ((10.0, 1.0), (20.0, 1.0), (30.0, 1.0), (0.0, 20.0))
"""One per HEALPix cell; the last one straddles RA 0/360."""
PER_CELL = 5
PAIRS = len(CENTRES) * PER_CELL


def sdss_row(number, ra, dec, **columns):
    length = 150 + 10 * (number % 3)
    wavelength = 10 ** (3.7 + 1e-4 * np.arange(length))
    spectrum = {
        "spectrum_lambda": wavelength,
        "spectrum_flux": number + np.arange(length) / 1000,
        "spectrum_ivar": np.full(length, 2.0),
        "spectrum_mask": np.zeros(length, dtype=bool),
        "spectrum_lsf_sigma": np.full(length, 1.1),
    }
    return {"object_id": 1000 + number, "ra": ra % 360, "dec": dec, "Z": 0.01 * (1 + number), **spectrum, **columns}


def hsc_row(number, ra, dec, **columns):
    image = np.full((5, 160, 160), float(number))
    image[:, 80, 80] += np.arange(5)
    return {"object_id": 5000 + number, "ra": ra % 360, "dec": dec, "image_array": image, **columns}


@pytest.fixture(scope="session")
def survey(v1_tree, tmp_path_factory) -> Path:
    """Twenty pairs in four cells, odd ones in the boss survey, and a stranger per cell on each side."""
    sdss, boss, hsc = [], [], []
    for cell, (ra, dec) in enumerate(CENTRES):
        for member in range(PER_CELL):
            number = cell * PER_CELL + member
            offset = (member - 2) * 30 * ARCSEC
            (boss if number % 2 else sdss).append(sdss_row(number, ra + offset, dec))
            hsc.append(hsc_row(number, ra + offset, dec + 0.1 * (1 + member) * ARCSEC))
        sdss.append(sdss_row(100 + cell, ra, dec + 0.05))
        hsc.append(hsc_row(100 + cell, ra, dec - 0.05))
    root = tmp_path_factory.mktemp("survey")
    v1_tree(root, sdss=sdss, hsc=hsc[::-1])
    return v1_tree(root, sdss=boss, sdss_survey="boss")


@pytest.fixture
def data(survey, tmp_path) -> DataConfig:
    return DataConfig(source="hdf5", root=str(survey), cache_dir=str(tmp_path / "cache"))
