"""What the published converter writes equals its v1 input to the bit, whatever source reads it."""

import shutil
from collections import Counter
from pathlib import Path

import datasets
import h5py
import pytest
from hub_server import hub_server

from mmagn.records import BANDS, CUTOUT_PIXELS
from mmagn.surveys.config import DataConfig, HatsConfig, HubConfig
from mmagn.surveys.reader import usable
from mmagn.surveys.readers import survey_reader

# nested_pandas 0.7 still says inplace= to pandas 3.1
pytestmark = pytest.mark.filterwarnings("ignore::pandas.errors.Pandas4Warning")

PIXELS = {
    "hsc": ("flux", "ivar", "psf_fwhm_arcsec", "magnitude"),
    "sdss": ("wavelength_angstrom", "flux", "ivar", "lsf_sigma"),
}


def records_of(data: DataConfig) -> tuple[dict, Counter]:
    reader, drops = survey_reader(data), Counter()
    records = {}
    for survey, read in (("hsc", reader.read_cutouts), ("sdss", reader.read_spectra)):
        catalog = getattr(reader, f"read_{survey}_catalog")(drops)
        for number, path in enumerate(catalog.files):
            for _, record in usable(read(path, catalog.row[catalog.file_index == number]), drops):
                records[survey, record.object_id] = record
    return records, drops


def assert_same(records: dict, published: dict) -> None:
    for (survey, object_id), record in records.items():
        for name in PIXELS[survey]:
            assert getattr(record, name).tobytes() == getattr(published[survey, object_id], name).tobytes()


@pytest.fixture(scope="module")
def published(real_tree: Path) -> dict:
    return records_of(DataConfig(source="hdf5", root=str(real_tree), spectra=("sdss",)))[0]


@pytest.fixture
def served(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    with hub_server(tmp_path / "hub") as server:
        monkeypatch.setenv("no_proxy", "127.0.0.1,localhost")
        monkeypatch.setenv("HF_ENDPOINT", server.url)
        yield server


def test_hats_collections_of_the_converter_equal_their_v1_files(real_tree, published):
    folder = real_tree / "hats"
    hats = HatsConfig(sdss=str(folder / "mmu_sdss_sdss"), hsc=str(folder / "mmu_hsc_pdr3_dud_22.5"))
    records, drops = records_of(DataConfig(source="hats", hats=hats))
    assert len(records) == 30
    assert not drops
    assert_same(records, published)


def test_a_hub_that_serves_them_gives_the_same(real_tree, published, served, tmp_path):
    shutil.copytree(real_tree / "hats", served.folder / "UniverseTBD")
    records, drops = records_of(DataConfig(source="hub", cache_dir=str(tmp_path / "cache")))
    assert len(records) == 30
    assert not drops
    assert_same(records, published)


PLANE = datasets.Array2D(shape=(CUTOUT_PIXELS, CUTOUT_PIXELS), dtype="float32")
CLEAN = datasets.Array2D(shape=(CUTOUT_PIXELS, CUTOUT_PIXELS), dtype="bool")
CUBE = datasets.Array3D(shape=(len(BANDS), CUTOUT_PIXELS, CUTOUT_PIXELS), dtype="float32")
PLAIN = datasets.List(datasets.List(datasets.List(datasets.Value("float32"))))
PLAIN_CLEAN = datasets.List(datasets.List(datasets.List(datasets.Value("bool"))))
LAYOUTS = {
    "lists of typed planes": (datasets.List(PLANE), datasets.List(CLEAN)),
    "typed cubes": (CUBE, datasets.List(CLEAN)),
    "plain lists": (PLAIN, PLAIN_CLEAN),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_ready_made_pairs_written_by_datasets_give_the_same(real_tree, published, served, tmp_path, layout):
    pairs = write_pairs(real_tree, served.folder / "Any" / "pairs" / "data" / "train.parquet", *LAYOUTS[layout])
    data = DataConfig(source="hub-pairs", hub=HubConfig(pairs="Any/pairs"), cache_dir=str(tmp_path / "cache"))
    records, drops = records_of(data)
    assert len(records) == 2 * pairs
    assert not drops
    assert_same(records, published)


def write_pairs(tree: Path, path: Path, pixels, clean) -> int:
    """Have ``datasets`` write pairs of rows of the tree, and return how many."""
    rows = []
    for sdss_path in sorted(tree.glob("sdss/sdss/healpix=*/001-of-001.hdf5")):
        with h5py.File(sdss_path) as sdss, h5py.File(next(tree.glob(f"hsc/*/{sdss_path.parent.name}/*.hdf5"))) as hsc:
            for row in range(len(sdss["ra"])):
                image = {name: hsc[f"image_{name}"][row] for name in ("ivar", "mask", "psf_fwhm", "scale")}
                band = [name.decode() for name in hsc["image_band"][row]]
                spectrum = ("flux", "ivar", "lsf_sigma", "lambda", "mask")
                rows.append(
                    {
                        "sdss_object_id": str(sdss["object_id"][row]),
                        "hsc_object_id": str(hsc["object_id"][row]),
                        **{f"sdss_{name}": float(sdss[name][row]) for name in ("ra", "dec")},
                        **{f"hsc_{name}": float(hsc[name][row]) for name in ("ra", "dec")},
                        "Z": float(sdss["Z"][row]),
                        **{f"{name}_cmodel_mag": float(hsc[f"{name}_cmodel_mag"][row]) for name in BANDS},
                        "image": {**image, "band": band, "flux": hsc["image_array"][row]},
                        "spectrum": {name: sdss[f"spectrum_{name}"][row] for name in spectrum},
                    }
                )
    numbers = datasets.List(datasets.Value("float32"))
    names = datasets.List(datasets.Value("string"))
    structs = {
        "image": {"band": names, "flux": pixels, "ivar": pixels, "mask": clean, "psf_fwhm": numbers, "scale": numbers},
        "spectrum": dict.fromkeys(("flux", "ivar", "lsf_sigma", "lambda"), numbers)
        | {"mask": datasets.List(datasets.Value("bool"))},
    }
    plain = {
        name: datasets.Value("string" if name.endswith("id") else "float64") for name in rows[0] if name not in structs
    }
    path.parent.mkdir(parents=True)
    datasets.Dataset.from_list(rows, features=datasets.Features(plain | structs)).to_parquet(path)
    return len(rows)
