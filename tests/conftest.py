"""Fixtures that several rooms share: builders of tiny v1 trees and HATS catalogues, and the tree with real spectra."""

import importlib.util
import os
import signal
import warnings
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import h5py
import healpy
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hats_files import hats_table
from hub_fixtures import hub, hub_data, hub_folder, hub_tree  # noqa: F401 - fixtures
from numpy.typing import NDArray
from untrained_runs import world  # noqa: F401 - fixture

from mmagn.surveys.config import DataConfig, HatsConfig

signal.signal(signal.SIGINT, signal.default_int_handler)  # the background jobs of a shell ignore it

Row = Mapping[str, Any]

BAND_NAMES = ("hsc-g", "hsc-r", "hsc-i", "hsc-z", "hsc-y")
PAD_VALUES = {"spectrum_ivar": 0.0, "spectrum_lambda": -1.0, "spectrum_mask": True}
"""What fills short spectra; flux and lsf repeat their last value instead."""


def cell_of(row: Row) -> int:
    if "healpix" in row:
        return int(row["healpix"])
    return int(healpy.ang2pix(16, row["ra"], row["dec"], nest=True, lonlat=True))


def sdss_columns(row: Row) -> dict[str, Any]:
    """One row under the published column names: a galaxy with one emission line, 200 pixels."""
    wavelength = 10 ** (3.8 + 1e-4 * np.arange(200))
    defaults: dict[str, Any] = {
        "healpix": cell_of(row),
        "Z": 0.1,
        "Z_ERR": 1e-5,
        "ZWARNING": 0,
        "VDISP": 150.0,
        "VDISP_ERR": 8.0,
        "CLASS": "GALAXY",
        "SUBCLASS": "STARFORMING",
        "spectrum_flux": 10 + 5 * np.exp(-0.5 * ((wavelength - wavelength[100]) / 3.0) ** 2),
        "spectrum_ivar": np.full(200, 4.0),
        "spectrum_lambda": wavelength,
        "spectrum_mask": np.zeros(200, dtype=bool),
        "spectrum_lsf_sigma": np.full(200, 1.1),
    }
    columns = {**defaults, **row}
    if not isinstance(columns["object_id"], bytes):
        columns["object_id"] = str(columns["object_id"]).rjust(22).encode()
    return columns


def hsc_columns(row: Row) -> dict[str, Any]:
    """One row under the published column names: a round blob, the same in every band, 160 x 160 pixels."""
    y, x = np.mgrid[:160, :160]
    blob = np.floor(64 * np.exp(-0.5 * ((y - 80) ** 2 + (x - 80) ** 2) / 8.0**2)) / 4
    defaults: dict[str, Any] = {
        "healpix": cell_of(row),
        "image_band": BAND_NAMES,
        "image_array": np.broadcast_to(blob, (5, 160, 160)),
        "image_ivar": np.full((5, 160, 160), 100.0),
        "image_mask": np.ones((5, 160, 160), dtype=bool),
        "image_psf_fwhm": np.full(5, 0.7),
        "image_scale": np.full(5, 0.168),
    }
    for band in "grizy":
        defaults[f"{band}_cmodel_mag"] = 20.0
        defaults[f"{band}_cmodel_magerr"] = 0.01
        defaults[f"{band}_extendedness_value"] = 1.0
        defaults[f"a_{band}"] = 0.05
    return {**defaults, **row, "object_id": int(row["object_id"])}


def desi_columns(row: Row) -> dict[str, Any]:
    """One row under the published column names: a galaxy with one emission line on the grid of 0.8 A."""
    wavelength = 3600 + 0.8 * np.arange(7781)
    defaults: dict[str, Any] = {
        "TARGETID": int(row["object_id"]),
        "HEALPIX": 27245,
        "healpix": cell_of(row),
        "Z": 0.1,
        "ZERR": 1e-5,
        "ZWARN": 0,
        "SPECTYPE": "GALAXY",
        "EBV": 0.02,
        "spectrum_flux": 10 + 5 * np.exp(-0.5 * ((wavelength - 7221) / 3.0) ** 2),
        "spectrum_ivar": np.full(7781, 4.0),
        "spectrum_lambda": wavelength,
        "spectrum_mask": np.zeros(7781, dtype=bool),
        "spectrum_lsf_sigma": np.full(7781, 0.87),
    }
    return {**defaults, **row, "object_id": int(row["object_id"])}


COLUMNS = {"sdss": sdss_columns, "desi": desi_columns, "hsc": hsc_columns}
DESI_DTYPES = {
    **dict.fromkeys(("object_id", "TARGETID", "HEALPIX", "healpix", "ZWARN"), "i8"),
    **dict.fromkeys(("ra", "dec", "Z", "ZERR"), "f8"),
    "SPECTYPE": "S6",
    "spectrum_mask": "?",
}
SDSS_DTYPES = {
    "object_id": "S22",
    "ra": ">f8",
    "dec": ">f8",
    "healpix": "i8",
    "ZWARNING": ">i4",
    "CLASS": "S6",
    "SUBCLASS": "S21",
    "spectrum_mask": "?",
}
HSC_DTYPES = {"object_id": ">i8", "ra": ">f8", "dec": ">f8", "healpix": "i8", "image_band": "S5", "image_mask": "?"}


def padded(name: str, values: Sequence[NDArray[Any]]) -> NDArray[Any]:
    """Spectra of different length as one array, filled up the way the published files are."""
    length = max(len(value) for value in values)
    rows = []
    for value in values:
        fill = PAD_VALUES.get(name, value[-1])
        rows.append(np.concatenate([value, np.full(length - len(value), fill, dtype=value.dtype)]))
    return np.stack(rows)


def stacked(name: str, values: Sequence[Any], survey_kind: str) -> NDArray[Any]:
    if survey_kind == "hsc":
        return np.stack([np.asarray(value) for value in values]).astype(HSC_DTYPES.get(name, "f4"))
    if survey_kind == "desi":
        kept = isinstance(values[0], bool | np.bool_)  # as the converter writes ZWARN
        return np.stack([np.asarray(value) for value in values]).astype("?" if kept else DESI_DTYPES.get(name, "f4"))
    if name.startswith("spectrum_"):
        dtype = SDSS_DTYPES.get(name, "f4")
        return padded(name, [np.asarray(value).astype(dtype) for value in values])
    if name == "ZWARNING" and isinstance(values[0], bool | np.bool_):
        return np.asarray(values, dtype=bool)
    text = SDSS_DTYPES.get(name, ">f4")
    if text.startswith("S"):
        longest = max(len(value) for value in values)
        text = f"S{max(longest, int(text[1:]))}"
        values = [value if isinstance(value, bytes) else str(value).ljust(int(text[1:])).encode() for value in values]
    return np.asarray(values).astype(text)


def write_files(directory: Path, kind: str, rows: Sequence[Row], without: Sequence[str], files_per_cell: int) -> None:
    """Write the rows of one survey; the column names of the first row of a file are those of the file."""
    cells: dict[int, list[dict[str, Any]]] = defaultdict(list)
    for row in rows:
        cells[cell_of(row)].append(COLUMNS[kind](row))
    for cell, members in cells.items():
        folder = directory / f"healpix={cell}"
        folder.mkdir(parents=True, exist_ok=True)
        parts = [part for part in np.array_split(np.arange(len(members)), files_per_cell) if len(part)]
        for number, part in enumerate(parts, start=1):
            with h5py.File(folder / f"{number:03d}-of-{len(parts):03d}.hdf5", "w") as file:
                for name in members[part[0]]:
                    if name not in without:
                        data = stacked(name, [members[index][name] for index in part], kind)
                        options = {"chunks": True, "compression": "gzip"} if kind == "hsc" else {}
                        file.create_dataset(name, data=data, **options)


@pytest.fixture(scope="session")
def v1_tree() -> Callable[..., Path]:
    """Builder of a Multimodal Universe v1 tree: ``v1_tree(root, sdss=[...], desi=[...], hsc=[...]) -> root``.

    Each row is a mapping with at least ``object_id``, ``ra``, ``dec`` and any published column to override
    (``Z``, ``spectrum_flux``, ``image_mask``, ...; ``healpix`` moves the row to that cell). Spectra of one file may
    differ in length: they are padded as the published ones. ``without`` names columns to leave out of every
    file. Calling it again on the same root adds another survey (``sdss_survey="boss"``).
    """

    def build(
        root: Path,
        *,
        sdss: Sequence[Row] = (),
        desi: Sequence[Row] = (),
        hsc: Sequence[Row] = (),
        sdss_survey: str = "sdss",
        hsc_survey: str = "pdr3_dud_22.5",
        without: Sequence[str] = (),
        files_per_cell: int = 1,
    ) -> Path:
        write_files(root / "sdss" / sdss_survey, "sdss", sdss, without, files_per_cell)
        write_files(root / "desi" / "edr_sv3", "desi", desi, without, files_per_cell)
        write_files(root / "hsc" / hsc_survey, "hsc", hsc, without, files_per_cell)
        return root

    return build


@pytest.fixture(scope="session")
def real_tree() -> Path:
    """The tree with 29 real spectra in published layout; skips where it is not at hand."""
    folder = os.environ.get("MMAGN_REAL_TREE")
    if not folder or not Path(folder).is_dir():
        pytest.skip("MMAGN_REAL_TREE does not name the folder of the tree with real spectra")
    return Path(folder)


@pytest.fixture(scope="session")
def hats_collections() -> Callable[..., DataConfig]:
    """Writer, through LSDB, of a v1 tree as two HATS collections: ``hats_collections(tree, out)`` gives settings.

    They lie in out/sdss (legacy survey alone) and out/hsc. ``margin_arcsec`` (None for no margin) is that
    of both, ``partition_rows`` bounds the rows of a partition (HEALPix order 4 to 6).
    """
    for name in ("lsdb", "distributed"):
        if importlib.util.find_spec(name) is None:
            pytest.skip(f"{name} is not installed; it comes with the optional extra: pip install 'mmagn[hats]'")

    def build(
        tree: Path,
        out: Path,
        *,
        margin_arcsec: float | None = 10.0,
        partition_rows: int = 1000,
    ) -> DataConfig:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            import lsdb

            for kind in ("sdss", "hsc"):
                files = sorted((tree / kind).glob(f"{'sdss' if kind == 'sdss' else '*'}/healpix=*/*.hdf5"))
                table = pa.concat_tables([hats_table(path, kind, typed=False) for path in files])
                catalog = lsdb.from_dataframe(
                    table.to_pandas(types_mapper=pd.ArrowDtype),
                    catalog_name=f"mmu_{kind}",
                    margin_threshold=margin_arcsec,
                    lowest_order=4,
                    highest_order=6,
                    moc_max_order=6,
                    partition_rows=partition_rows,
                )
                catalog.write_catalog(out / kind, progress_bar=False, should_write_skymap=False)
        return DataConfig(source="hats", hats=HatsConfig(sdss=str(out / "sdss"), hsc=str(out / "hsc")))

    return build
