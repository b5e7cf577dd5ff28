"""A v1 tree of noise in the published layout, as large as asked for, made in the time of one file."""

import shutil
from pathlib import Path

import h5py
import healpy
import numpy as np
from numpy.typing import NDArray

from mmagn.records import BANDS, CELL_NSIDE, CUTOUT_PIXELS

SPECTRUM_PIXELS = 3860
HSC_FOLDER, SDSS_FOLDER = "hsc/pdr3_dud_22.5", "sdss/sdss"


def write_survey(root: Path, *, files: int, rows: int, matched: float, seed: int) -> int:
    """Write ``files`` cells of ``rows`` images and as many spectra; return how many of the objects are in both.

    Pixels are drawn once and copied; every file has its own ids and positions. Images are noise over a galaxy, in
    gzip chunks of the shape that h5py chooses, as in the published files.
    """
    rng = np.random.default_rng(seed)
    cells = healpy.ang2pix(CELL_NSIDE, np.linspace(100, 250, files), 10.0, nest=True, lonlat=True)
    first: list[Path] = []
    pairs = 0
    for number, cell in enumerate(cells.tolist()):
        folders = [root / folder / f"healpix={cell}" for folder in (HSC_FOLDER, SDSS_FOLDER)]
        for folder in folders:
            folder.mkdir(parents=True, exist_ok=True)
        paths = [folder / "001-of-001.hdf5" for folder in folders]
        ra_deg, dec_deg = healpy.pix2ang(CELL_NSIDE, cell, nest=True, lonlat=True)
        place = np.arange(rows)
        ra, dec = ra_deg + 0.01 * (place // 20), np.full(rows, dec_deg) + 0.01 * (place % 20)
        both = np.sort(rng.choice(rows, round(matched * rows), replace=False))
        spectra_dec = np.where(np.isin(place, both), dec + 0.1 / 3600, dec + 18 / 3600)
        pairs += len(both)
        if not first:
            _write_images(paths[0], rows, rng)
            _write_spectra(paths[1], rows, rng)
            first = paths
        else:
            for source, target in zip(first, paths, strict=True):
                shutil.copyfile(source, target)
        for path, declination in zip(paths, (dec, spectra_dec), strict=True):
            _set_objects(path, rows * number + place, ra, declination)
    return pairs


def _write_images(path: Path, rows: int, rng: np.random.Generator) -> None:
    y, x = np.mgrid[:CUTOUT_PIXELS, :CUTOUT_PIXELS] - CUTOUT_PIXELS / 2
    galaxy = (40 * np.exp(-np.hypot(x, y) / 9)).astype(np.float32)
    shape = (rows, len(BANDS), CUTOUT_PIXELS, CUTOUT_PIXELS)
    with h5py.File(path, "w") as file:
        options = {"compression": "gzip", "chunks": True}
        flux = file.create_dataset("image_array", shape, "f4", **options)
        ivar = file.create_dataset("image_ivar", shape, "f4", **options)
        clean = file.create_dataset("image_mask", shape, "?", **options)
        for band in range(len(BANDS)):
            part = (rows, CUTOUT_PIXELS, CUTOUT_PIXELS)
            flux[:, band] = galaxy + rng.standard_normal(part, dtype=np.float32)
            ivar[:, band] = 1 / (1 + 0.02 * galaxy + 0.01 * rng.standard_normal(part, dtype=np.float32))
            clean[:, band] = rng.random(part, dtype=np.float32) > 0.01
        file["image_band"] = np.tile(np.array([f"hsc-{band}" for band in BANDS], dtype="S5"), (rows, 1))
        file["image_psf_fwhm"] = np.full((rows, len(BANDS)), 0.7, dtype=np.float32)
        file["image_scale"] = np.full((rows, len(BANDS)), 0.168, dtype=np.float32)
        file["object_id"] = np.zeros(rows, dtype=">i8")
        for name in ("ra", "dec"):
            file[name] = np.zeros(rows, dtype=">f8")


def _write_spectra(path: Path, rows: int, rng: np.random.Generator) -> None:
    shape = (rows, SPECTRUM_PIXELS)
    wavelength = np.float32(10) ** (3.5788 + 1e-4 * np.arange(SPECTRUM_PIXELS)).astype(np.float32)
    with h5py.File(path, "w") as file:
        file["spectrum_flux"] = 10 + rng.standard_normal(shape, dtype=np.float32)
        file["spectrum_ivar"] = np.ones(shape, dtype=np.float32)
        file["spectrum_lambda"] = np.broadcast_to(wavelength, shape)
        file["spectrum_lsf_sigma"] = np.ones(shape, dtype=np.float32)
        file["spectrum_mask"] = rng.random(shape) < 0.01
        file["Z"] = np.full(rows, 0.1, dtype=">f4")
        file["object_id"] = np.zeros(rows, dtype="S22")
        for name in ("ra", "dec"):
            file[name] = np.zeros(rows, dtype=">f8")


def _set_objects(path: Path, ids: NDArray[np.int64], ra: NDArray[np.float64], dec: NDArray[np.float64]) -> None:
    with h5py.File(path, "r+") as file:
        file["object_id"][:] = ids.astype(file["object_id"].dtype)
        file["ra"][:] = ra
        file["dec"][:] = dec
