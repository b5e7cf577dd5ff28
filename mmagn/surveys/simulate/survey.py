"""The embedded survey: a small Multimodal Universe v1 tree with known truth, drawn from a seed, written once."""

import logging
import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from astropy.table import Table, vstack
from numpy.typing import NDArray

from mmagn.records import BANDS, CUTOUT_PIXELS, PIXEL_SCALE_ARCSEC
from mmagn.storage.files import json_digest, naming, remove_abandoned
from mmagn.surveys.config import DataConfig, SimulateConfig
from mmagn.surveys.simulate.desi import DESI_SURVEY, desi_targets, write_desi_file
from mmagn.surveys.simulate.images import image_pixels
from mmagn.surveys.simulate.sky import Sky, drawn_sky, stream
from mmagn.surveys.simulate.spectra import BLOCK, TRUTH_COLUMNS, pipeline_class, spectrum_block, weakest_snr
from mmagn.surveys.simulate.spectrograph import SPECTROGRAPHS

SIMULATOR_VERSION = 2
"""Raised when the same settings would give other pixels, so that old copies are not used."""
HSC_SURVEY = "pdr3_dud_22.5"
ROWS_PER_IMAGE_FILE = 192
Indices = NDArray[np.int64]

logger = logging.getLogger(__name__)


def embedded_root(config: DataConfig) -> Path:
    """Return the root of the embedded survey's tree, making it first where these settings have none yet.

    The folder lies in ``cache_dir`` and is named by a hash of the settings and of the simulator's version. Makers that
    run at the same time do not disturb each other: the first to finish provides the tree.
    """
    digest = json_digest({"version": SIMULATOR_VERSION, **asdict(config.simulate)})
    root = Path(config.cache_dir).expanduser() / f"embedded-{digest[:16]}"
    if not root.is_dir():
        logger.warning("Making the embedded survey of %d pairs once, in %s", config.simulate.pairs, root)
        try:
            _make_tree(root, config.simulate)
        except OSError:
            if not root.is_dir():
                raise
    return root


def write_survey(out: Path, config: SimulateConfig) -> None:
    """Write a simulated survey as a Multimodal Universe v1 tree, with ``truth.parquet`` at its root.

    It appears whole or not at all. Raises ``ValueError`` where the folder holds something already.
    """
    if out.exists() and not (out.is_dir() and not any(out.iterdir())):
        raise ValueError(f"{out} exists and is not an empty folder; name a new one for the simulated survey")
    _make_tree(out, config)


def _make_tree(out: Path, config: SimulateConfig) -> None:
    out.parent.mkdir(parents=True, exist_ok=True)
    remove_abandoned(out.parent, rf"\.{re.escape(out.name)}-(\d{{1,9}})-.*")
    prefix = f".{out.name}-{os.getpid()}-"
    with tempfile.TemporaryDirectory(prefix=prefix, dir=out.parent, ignore_cleanup_errors=True) as private:
        making = Path(private) / "tree"
        making.mkdir()
        with naming(making):
            sky = drawn_sky(config)
            write_spectra(making, sky.sdss, config.seed)
            _write_images(making, sky, config.seed)
            targets = desi_targets(sky, config.pairs, config.desi, stream(config.seed, 7))
            _write_desi(making, targets, config.seed)
            _truth(sky, targets, config.pairs).write(making / "truth.parquet", format="parquet")
            making.rename(out)


def _write_desi(root: Path, targets: Table, seed: int) -> None:
    for cell in np.unique(targets["healpix"]):
        with _hdf5_file(root / "desi" / DESI_SURVEY / f"healpix={cell}" / "001-of-001.hdf5") as file:
            write_desi_file(file, targets[targets["healpix"] == cell], stream(seed, 8, int(cell)))


def _truth(sky: Sky, targets: Table, pairs: int) -> Table:
    """Return the truth of every spectrum, keyed by its id as text; fluxes in 1e-17 erg/s/cm2."""
    sdss = sky.sdss
    matched = sky.hsc["object_id"][:pairs].astype(str).tolist() + [""] * (len(sdss) - pairs)
    truth = Table({"object_id": sdss["object_id"].astype(str), "hsc_object_id": np.array(matched, dtype=np.str_)})
    structure = ("log_mass", "r_mag", "dust_tau", "bulge_fraction", "disc_radius_arcsec", "nucleus_fraction")
    ratios = ("log_nii_halpha", "log_oiii_hbeta", "sigma_kms_broad")
    for column in ("survey", "ra_deg", "dec_deg", "healpix", *TRUTH_COLUMNS, *ratios, *structure):
        truth[column] = np.asarray(sdss[column])
    truth["weakest_snr"] = np.where(sdss["survey"] == "boss", weakest_snr(sdss, "boss"), weakest_snr(sdss, "sdss"))
    of_desi = truth[np.asarray(targets["row"])]
    of_desi["object_id"], of_desi["weakest_snr"] = targets["object_id"].astype(str), weakest_snr(targets, "desi")
    for column in ("survey", "ra_deg", "dec_deg", "healpix"):
        of_desi[column] = targets[column]
    return vstack([truth, of_desi]) if len(of_desi) else truth


def write_spectra(root: Path, sdss: Table, seed: int) -> None:
    """Write the spectra of a simulated sky, a file for each survey and cell, below ``root/sdss``."""
    for number, survey in enumerate(SPECTROGRAPHS):
        for cell in np.unique(sdss["healpix"]):
            rows = np.flatnonzero((sdss["survey"] == survey) & (sdss["healpix"] == cell))
            if rows.size:
                rng = stream(seed, 3, number, int(cell))
                with _hdf5_file(root / "sdss" / survey / f"healpix={cell}" / "001-of-001.hdf5") as file:
                    _write_spectrum_file(file, sdss[rng.permutation(rows)], survey, rng)


@contextmanager
def _hdf5_file(path: Path) -> Iterator[h5py.File]:
    """Give a file that is composed in memory and then written: HDF5 itself crashes on a disk that is full."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path.name, "w", driver="core", backing_store=False) as file:
        yield file
        file.flush()
        content = file.id.get_file_image()
    with naming(path):
        path.write_bytes(content)


def _write_spectrum_file(file: h5py.File, table: Table, survey: str, rng: np.random.Generator) -> None:
    """Write one file of spectra, contiguous and uncompressed, padded at the end as the published ones are."""
    grid = SPECTROGRAPHS[survey]
    length = grid.pixels - 2 - int(table["healpix"][0]) % 9
    for name, values in _sdss_columns(table, survey, rng).items():
        file[name] = values
    sizes = {"flux": "f4", "ivar": "f4", "lambda": "f4", "lsf_sigma": "f4", "mask": "?"}
    for name, dtype in sizes.items():
        file.create_dataset(f"spectrum_{name}", (len(table), length), dtype)
    angstrom = (10**grid.log10_angstrom).astype(np.float32)
    for start in range(0, len(table), BLOCK):
        part = table[start : start + BLOCK]
        block = spectrum_block(part, survey, rng)
        kept = np.minimum(block.stop - block.first, length)[:, None]
        pixel = block.first[:, None] + np.minimum(np.arange(length), kept - 1)
        row, padding = np.arange(len(part))[:, None], np.arange(length) >= kept
        target = slice(start, start + len(part))
        file["spectrum_flux"][target] = block.flux[row, pixel]
        file["spectrum_ivar"][target] = np.where(padding, np.float32(0), block.ivar[row, pixel])
        file["spectrum_lambda"][target] = np.where(padding, np.float32(-1), angstrom[pixel])
        file["spectrum_lsf_sigma"][target] = block.lsf_sigma[row, pixel]
        file["spectrum_mask"][target] = padding | block.bad[row, pixel]


def _sdss_columns(table: Table, survey: str, rng: np.random.Generator) -> dict[str, Any]:
    count = len(table)
    spectral_class, subclass = pipeline_class(table)
    warned = rng.random(count) < 0.02
    error = np.where(rng.random(count) < 0.01, -1.0, 1e-5 * np.exp(0.4 * rng.standard_normal(count)))
    dispersion = np.asarray(table["sigma_kms_balmer"])
    nanomaggies = 10 ** (0.4 * (22.5 - np.asarray(table["fibre_mag"])[:, None])) * np.ones(5)
    return {
        "object_id": np.char.rjust(table["object_id"].astype(str), 22).astype("S22"),
        "ra": np.asarray(table["ra_deg"], dtype=">f8"),
        "dec": np.asarray(table["dec_deg"], dtype=">f8"),
        "healpix": np.asarray(table["healpix"], dtype=np.int64),
        "Z": np.asarray(table["redshift"], dtype=">f4"),
        "Z_ERR": error.astype(">f4"),
        "VDISP": dispersion.astype(">f4"),
        "VDISP_ERR": (0.1 * dispersion).astype(">f4"),
        "ZWARNING": np.where(warned, rng.choice([4, 16, 32], count), 0).astype(">i4"),
        "CLASS": np.char.ljust(spectral_class, 6).astype("S6"),
        "SUBCLASS": np.char.ljust(subclass, 21).astype("S21"),
        "SURVEY": np.full(count, survey.ljust(6), dtype="S6"),
        "PLATE": np.asarray(table["plate"], dtype=">i4"),
        "MJD": np.asarray(table["mjd"], dtype=">i4"),
        "FIBERID": np.asarray(table["fiber"], dtype=">i4"),
        "SPECTROFLUX": nanomaggies.astype(">f4"),
        "SPECTROFLUX_IVAR": (400 / nanomaggies**2).astype(">f4"),
        "SPECTROSYNFLUX": nanomaggies.astype(">f4"),
        "SPECTROSYNFLUX_IVAR": (400 / nanomaggies**2).astype(">f4"),
    }


def _write_images(root: Path, sky: Sky, seed: int) -> None:
    for cell in np.unique(sky.hsc["healpix"]):
        rows = stream(seed, 4, int(cell)).permutation(np.flatnonzero(sky.hsc["healpix"] == cell))
        folder = root / "hsc" / HSC_SURVEY / f"healpix={cell}"
        parts = np.array_split(rows, -(-rows.size // ROWS_PER_IMAGE_FILE))
        for number, part in enumerate(parts, start=1):
            with _hdf5_file(folder / f"{number:03d}-of-{len(parts):03d}.hdf5") as file:
                _write_image_file(file, sky, part, seed)


def _write_image_file(file: h5py.File, sky: Sky, rows: Indices, seed: int) -> None:
    """Write one file of cutouts, gzip with automatic chunks as the published ones are."""
    shape = (rows.size, len(BANDS), CUTOUT_PIXELS, CUTOUT_PIXELS)
    flux, ivar = np.empty(shape, dtype=np.float32), np.empty(shape, dtype=np.float32)
    clean, psf = np.empty(shape, dtype=np.bool_), np.empty(shape[:2], dtype=np.float32)
    for place, row in enumerate(rows):
        other = int(sky.neighbour[row])
        offset = (float(sky.neighbour_offset_arcsec[row, 0]), float(sky.neighbour_offset_arcsec[row, 1]))
        neighbour = sky.hsc[other] if other >= 0 else None
        pixels = image_pixels(sky.hsc[int(row)], neighbour, offset, stream(seed, 5, int(row)))
        flux[place], ivar[place], clean[place] = pixels.flux, pixels.ivar, pixels.clean
        psf[place] = pixels.psf_fwhm_arcsec
    columns = _hsc_columns(sky.hsc[rows], psf, stream(seed, 6, int(rows[0])))
    columns |= {"image_array": flux, "image_ivar": ivar, "image_mask": clean}
    for name, values in columns.items():
        file.create_dataset(name, data=values, chunks=True, compression="gzip", compression_opts=1)


def _hsc_columns(table: Table, psf_fwhm_arcsec: NDArray[np.float32], rng: np.random.Generator) -> dict[str, Any]:
    count = len(table)
    patch = rng.integers(0, 81, count)
    columns: dict[str, Any] = {
        "object_id": np.asarray(table["object_id"], dtype=">i8"),
        "ra": np.asarray(table["ra_deg"], dtype=">f8"),
        "dec": np.asarray(table["dec_deg"], dtype=">f8"),
        "healpix": np.asarray(table["healpix"], dtype=np.int64),
        "tract": np.asarray(table["healpix"], dtype=">i4"),
        "patch": (patch // 9 * 100 + patch % 9).astype(">i4"),
        "image_band": np.tile(np.array([f"hsc-{band}" for band in BANDS], dtype="S5"), (count, 1)),
        "image_psf_fwhm": psf_fwhm_arcsec,
        "image_scale": np.full((count, len(BANDS)), PIXEL_SCALE_ARCSEC, dtype=np.float32),
    }
    size = np.asarray(table["disc_radius_arcsec"]) ** 2 / 2
    for index, band in enumerate(BANDS):
        error = 0.002 + 0.05 * rng.random(count) ** 4
        magnitude = np.asarray(table["magnitude"])[:, index] + error * rng.standard_normal(count)
        failed = rng.random(count) < 0.01
        psf = (psf_fwhm_arcsec[:, index] / 2.3548) ** 2
        columns[f"a_{band}"] = np.full(count, (0.07, 0.05, 0.036, 0.027, 0.023)[index], dtype=np.float32)
        columns[f"{band}_cmodel_mag"] = np.where(failed, np.inf, magnitude).astype(np.float32)
        columns[f"{band}_cmodel_magerr"] = np.where(failed, np.nan, error).astype(np.float32)
        columns[f"{band}_extendedness_value"] = np.ones(count, dtype=np.float32)
        for name, value in (("shape11", 1.0), ("shape22", np.asarray(table["disc_axis_ratio"])), ("shape12", 0.0)):
            columns[f"{band}_sdssshape_{name}"] = (value * size + (0 if name == "shape12" else psf)).astype(np.float32)
            columns[f"{band}_sdssshape_psf_{name}"] = ((name != "shape12") * psf).astype(np.float32)
    return columns
