"""HATS collections as the published ones are made: by ``hats-import`` from v1 files, images typed by ``datasets``."""

import logging
import os
import warnings
from collections.abc import Iterator
from pathlib import Path

import h5py
import numpy as np
import pyarrow as pa
from datasets.features.features import Array2DExtensionType
from numpy.typing import NDArray

# hats compiles its tree search for 10 s in every process; a tree of ten pixels is searched faster without.
os.environ.setdefault("NUMBA_DISABLE_JIT", "1")

SURVEYS = {"sdss": "sdss/sdss", "desi": "desi/edr_sv3", "hsc": "hsc/pdr3_dud_22.5"}
NAMES = {"sdss": "mmu_sdss_sdss", "desi": "mmu_desi_edr_sv3", "hsc": "mmu_hsc_pdr3_dud_22.5"}
BANDS = "grizy"
ROWS_PER_GROUP = {"sdss": None, "desi": None, "hsc": 50}
"""Of the published files: one row group per partition, and groups of 50 rows with the rest in the last."""


def write_hats(
    tree: Path,
    kind: str,
    out: Path,
    *,
    margin_arcsec: float | None = 10.0,
    partition_rows: int = 8192,
    rows_per_group: int | None = None,
    without: str = "",
    typed: bool = True,
) -> Path:
    """Write the ``sdss``, ``desi`` or ``hsc`` survey of a v1 tree as a HATS collection in the folder ``out``.

    Partitions are of HEALPix order 4 to 6 with at most ``partition_rows`` rows; ``without`` names a column to leave
    out; images are nested lists where ``typed`` is false, as in files that were converted before 2026.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from dask.distributed import Client
        from hats_import.collection.arguments import CollectionArguments
        from hats_import.pipeline import pipeline_with_client

        files = sorted((tree / SURVEYS[kind]).glob("healpix=*/*.hdf5"))
        rows = rows_per_group or ROWS_PER_GROUP[kind]
        common = {"output_path": out.parent, "output_artifact_name": out.name, "progress_bar": False}
        arguments = CollectionArguments(**common, tmp_dir=out.parent / f".{out.name}", dask_n_workers=1)
        arguments.catalog(
            input_file_list=files,
            file_reader=v1_reader(kind, without, typed),
            output_artifact_name=NAMES[kind],
            lowest_healpix_order=4,
            highest_healpix_order=6,
            pixel_threshold=partition_rows,
            row_group_kwargs=None if rows is None else {"num_rows": rows},
        )
        if margin_arcsec is not None:
            arguments.add_margin(margin_threshold=margin_arcsec, is_default=True)
        logging.getLogger("distributed").setLevel(logging.ERROR)
        with Client(processes=False, n_workers=1, threads_per_worker=1, dashboard_address=None) as client:
            pipeline_with_client(arguments, client)
    return out


def v1_reader(kind: str, without: str, typed: bool) -> object:
    """Reader of v1 files for ``hats-import``."""
    from hats_import.catalog.file_readers import InputReader

    class V1Reader(InputReader):
        def read(self, input_file: object, read_columns: list[str] | None = None) -> Iterator[pa.Table]:
            table = hats_table(Path(str(input_file)), kind, typed=typed)
            if without:
                table = table.drop_columns(without)
            yield table.select(read_columns) if read_columns else table

    return V1Reader()


def hats_table(path: Path, kind: str, *, typed: bool) -> pa.Table:
    """Rows of one v1 file in the published schema: ids as the text of bytes, no class, ZWARNING and ZWARN bool.

    The code behind the published DESI files negates ZWARN: True is good.
    """
    with h5py.File(path) as file:
        raw = {name: file[name][:] for name in file}
    plain = {name: raw[name].astype("f8") for name in ("ra", "dec")}
    if kind != "hsc":
        fields = {name: f"spectrum_{name}" for name in ("flux", "ivar", "lsf_sigma", "lambda", "mask")}
        struct = {name: nested_lists(raw[column]) for name, column in fields.items()}
        plain |= {
            name: raw[name].astype("f4") for name in ("VDISP", "VDISP_ERR", "Z", "Z_ERR", "ZERR", "EBV") if name in raw
        }
        plain |= {"healpix": raw["healpix"].astype("i8")} if "healpix" in raw else {}
        plain |= {"ZWARNING": raw["ZWARNING"] != 0} if "ZWARNING" in raw else {}
        plain |= {"ZWARN": raw["ZWARN"] == 0} if "ZWARN" in raw else {}
    else:
        fields = {"flux": "image_array", "ivar": "image_ivar", "mask": "image_mask"}
        struct = {"band": nested_lists(raw["image_band"].astype(str).astype(object))}
        struct |= {name: (planes if typed else nested_lists)(raw[column]) for name, column in fields.items()}
        struct |= {name: nested_lists(raw[f"image_{name}"]) for name in ("psf_fwhm", "scale")}
        magnitudes = [f"{band}_cmodel_mag" for band in BANDS]
        plain |= {name: raw[name].astype("f4") for name in magnitudes if name in raw}
    pixels = pa.StructArray.from_arrays(list(struct.values()), list(struct))
    ids = [str(value) for value in raw["object_id"].tolist()]
    return pa.table({"image" if kind == "hsc" else "spectrum": pixels, **plain, "object_id": ids})


def nested_lists(values: NDArray[np.generic]) -> pa.Array:
    """An array as Arrow lists of lists, one level for every axis after the first."""
    array = pa.array(values.reshape(-1))
    for length in values.shape[:0:-1]:
        array = pa.ListArray.from_arrays(pa.array(np.arange(0, len(array) + 1, length), pa.int32()), array)
    return array


def planes(values: NDArray[np.generic]) -> pa.Array:
    """Images (row, band, height, width) as Arrow lists of the array type of ``datasets``."""
    rows, bands, height, width = values.shape
    storage = nested_lists(values.reshape(rows * bands, height, width))
    typed = Array2DExtensionType((height, width), "bool" if values.dtype == bool else "float32")
    images = pa.ExtensionArray.from_storage(typed, storage)
    return pa.ListArray.from_arrays(pa.array(np.arange(0, rows * bands + 1, bands), pa.int32()), images)
