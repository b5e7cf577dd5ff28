"""HATS catalogues hold what the v1 tree holds, and come out of the reader as the same records, on any cluster."""

import pickle
import shutil
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mmagn.surveys.config import DaskConfig, DataConfig, HatsConfig
from mmagn.surveys.damage import UnavailableError
from mmagn.surveys.hats.dask_client import dask_client, optional_module
from mmagn.surveys.hats.reader import HatsReader
from mmagn.surveys.parquet.row_groups import LocalParquet, parquet_records
from mmagn.surveys.parquet.rows import cutout_from_hats, cutouts_payload, spectrum_from_hats
from mmagn.surveys.reader import iter_spectra, usable
from mmagn.surveys.readers import survey_reader

# nested_pandas 0.7 still says inplace= to pandas 3.1
pytestmark = pytest.mark.filterwarnings("ignore::pandas.errors.Pandas4Warning")


@pytest.fixture(scope="module")
def tree(v1_tree, tmp_path_factory):
    """Nine objects of each survey in three cells; the last three spectra are longer."""
    places = [(ra + 0.01 * number, 1.0) for ra in (10.0, 20.0, 30.0) for number in range(3)]
    sdss = [
        {"object_id": 100 + number, "ra": ra, "dec": dec, "Z": 0.1 * number, "ZWARNING": 4 * (number % 2)}
        for number, (ra, dec) in enumerate(places)
    ]
    hsc = [{"object_id": 500 + number, "ra": ra, "dec": dec} for number, (ra, dec) in enumerate(places)]
    return v1_tree(tmp_path_factory.mktemp("tree"), sdss=sdss, hsc=hsc)


@pytest.fixture(scope="module")
def data(tree, hats_collections, tmp_path_factory) -> DataConfig:
    return hats_collections(tree, tmp_path_factory.mktemp("hats"), partition_rows=3)


def spectra_of(data):
    return {spectrum.object_id: spectrum for spectrum in iter_spectra(survey_reader(data), Counter())}


def cutouts_of(data):
    reader, drops = survey_reader(data), Counter()
    catalog = reader.read_hsc_catalog(drops)
    return {
        cutout.object_id: cutout
        for index, path in enumerate(catalog.files)
        for _, cutout in usable(reader.read_cutouts(path, catalog.row[catalog.file_index == index]), drops)
    }


def test_without_noise_the_same_pixels_are_valid(data):
    with_noise, without = cutouts_of(data), cutouts_of(replace(data, image_noise=False))
    assert without.keys() == with_noise.keys()
    for object_id, cutout in without.items():
        assert cutout.flux.tobytes() == with_noise[object_id].flux.tobytes()
        assert np.array_equal(cutout.valid, with_noise[object_id].valid)


def test_images_whose_file_has_no_noise_are_left_out_even_where_it_is_not_needed(tmp_path):
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"object_id": ["1"], "image": [{"flux": [1.0]}]}), path)
    records = parquet_records(LocalParquet(str(path)), np.array([0]), cutouts_payload(noise=False))
    assert "it has no column image.ivar" in dict(records)[0]


def test_the_reader_of_hats_is_one_of_the_readers_and_can_be_sent_away(data):
    reader = survey_reader(data)
    assert isinstance(reader, HatsReader)
    assert pickle.loads(pickle.dumps(reader)) == reader


def test_spectra_are_those_of_the_tree_but_for_class_and_kind_of_warning(data, tree):
    found, published = spectra_of(data), spectra_of(DataConfig(source="hdf5", root=str(tree)))
    assert found.keys() == published.keys()
    for name, spectrum in found.items():
        same = published[name]
        assert (spectrum.redshift, spectrum.redshift_err) == (same.redshift, same.redshift_err)
        assert (spectrum.survey, spectrum.spectral_class) == ("sdss", "")
        assert spectrum.zwarning == (same.zwarning != 0)
        for values in ("wavelength_angstrom", "flux", "ivar", "lsf_sigma"):
            np.testing.assert_array_equal(getattr(spectrum, values), getattr(same, values))


def test_cutouts_are_those_of_the_tree_to_the_bit(data, tree):
    found, published = cutouts_of(data), cutouts_of(DataConfig(source="hdf5", root=str(tree)))
    assert found.keys() == published.keys()
    for name, cutout in found.items():
        for values in ("flux", "ivar", "psf_fwhm_arcsec", "magnitude"):
            np.testing.assert_array_equal(getattr(cutout, values), getattr(published[name], values))


def test_the_catalogue_says_in_which_row_of_which_partition_an_object_is(data):
    reader = HatsReader(data=data)
    catalog = reader.read_sdss_catalog(Counter())
    assert len(catalog.files) == 3
    for number in (8, 0, 4):
        path = catalog.files[catalog.file_index[number]]
        ((row, spectrum),) = reader.read_spectra(path, catalog.row[[number]])
        assert (row, spectrum.object_id) == (catalog.row[number], catalog.object_id[number])


def test_only_the_row_groups_of_wanted_rows_are_read(data, tmp_path):
    reader = HatsReader(data=data)
    catalog = reader.read_sdss_catalog(Counter())
    table = pq.read_table(catalog.files[0])
    path = tmp_path / "Npix=1.parquet"
    pq.write_table(table, path, row_group_size=1, compression="none")
    content = bytearray(path.read_bytes())
    group = pq.ParquetFile(path).metadata.row_group(0)
    start = group.column(0).data_page_offset
    content[start : start + group.total_byte_size // 2] = bytes(group.total_byte_size // 2)
    path.write_bytes(content)
    drops: Counter[str] = Counter()
    assert [row for row, _ in usable(reader.read_spectra(str(path), np.array([2, 1])), drops)] == [1, 2]
    assert not drops
    assert list(usable(reader.read_spectra(str(path), np.array([0])), drops)) == []
    assert drops.total() == 1


def test_redshift_limits_and_cells_are_those_of_the_other_sources(data, tree):
    for changes in ({"redshift_max": 0.35}, {"cells": (1113,)}):
        drops, tree_drops = Counter(), Counter()
        found = survey_reader(replace(data, **changes)).read_sdss_catalog(drops)
        published = DataConfig(source="hdf5", root=str(tree), **changes)
        expected = survey_reader(published).read_sdss_catalog(tree_drops)
        assert sorted(found.object_id) == sorted(expected.object_id)
        assert drops == tree_drops


def test_sources_change_when_a_catalogue_is_written_anew(data, tmp_path):
    sources = HatsReader(data=data).sources()
    assert [source.name for source in sources] == ["mmu_sdss/hats.properties", "mmu_hsc/hats.properties"]
    moved = shutil.copytree(data.hats.sdss, tmp_path / "elsewhere")
    again = replace(data, hats=replace(data.hats, sdss=str(moved)))
    assert HatsReader(data=again).sources() == sources
    properties = moved / "mmu_sdss" / "hats.properties"
    properties.write_text(properties.read_text().replace("hats_nrows=9", "hats_nrows=10"))
    assert HatsReader(data=again).sources() != sources


def test_without_a_cluster_the_same_comes_out_and_losses_are_counted(data):
    drops: Counter[str] = Counter()
    limited = HatsReader(data=replace(data, redshift_min=0.05))
    with dask_client(DaskConfig(workers=0)):
        counts = list(limited.mapped_spectra(len, drops, batch_spectra=2))
    assert counts == [2, 1, 2, 1, 2]
    assert drops.total() == 1


@pytest.fixture
def on_hub(hub, hub_data) -> DataConfig:
    """Settings that read the collections of the loopback hub through LSDB."""
    places = HatsConfig(sdss=f"hf://datasets/{hub_data.hub.sdss}@main", hsc=f"hf://datasets/{hub_data.hub.hsc}@main")
    return replace(hub_data, source="hats", hats=places)


def test_a_hub_is_read_through_lsdb_as_without_it(on_hub, hub_data):
    assert sorted(cutouts_of(on_hub)) == sorted(cutouts_of(hub_data))
    assert sorted(spectra_of(on_hub)) == sorted(spectra_of(hub_data))


@pytest.mark.parametrize(("kind", "sentence"), [("500", "the same command resumes"), ("404", "has no")])
def test_a_partition_that_cannot_be_read_stops_the_run_and_costs_no_row(hub, on_hub, kind, sentence):
    reader = HatsReader(data=replace(on_hub, hub=replace(on_hub.hub, retries=1)))
    catalog = reader.read_hsc_catalog(Counter())
    hub.fault = lambda path: kind if "Npix" in path else None
    with pytest.raises(UnavailableError, match=sentence):
        list(reader.read_cutouts(catalog.files[0], catalog.row[catalog.file_index == 0]))


def test_a_partition_file_that_may_not_be_read_stops_the_run(data, monkeypatch):
    reader = HatsReader(data=data)
    catalog = reader.read_hsc_catalog(Counter())

    def refused(self, *args, **options):
        raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setattr(Path, "open", refused)
    with pytest.raises(PermissionError):
        list(reader.read_cutouts(catalog.files[0], catalog.row[catalog.file_index == 0]))


def test_positions_that_a_hub_does_not_give_end_in_one_sentence(hub, on_hub):
    hub.fault = lambda path: "404" if "Npix" in path else None
    with pytest.raises(ValueError, match=r"hf://datasets/.* cannot be read: .*; the same command resumes"):
        HatsReader(data=on_hub).read_hsc_catalog(Counter())


def test_a_missing_extra_is_said_in_one_sentence(monkeypatch):
    monkeypatch.setitem(sys.modules, "lsdb", None)
    with pytest.raises(ValueError, match=r"data\.source hats needs: pip install 'mmagn\[hats\]'"):
        optional_module("lsdb")


def test_a_path_without_a_catalogue_is_named(tmp_path):
    reader = HatsReader(data=DataConfig(source="hats", hats=HatsConfig(sdss=str(tmp_path / "none"))))
    with pytest.raises(FileNotFoundError, match="none is no HATS catalogue or collection"):
        reader.read_sdss_catalog(Counter())


def test_cells_outside_the_catalogue_are_named(data):
    with pytest.raises(FileNotFoundError, match=r"none of data\.cells 5 is in the HATS catalogue"):
        HatsReader(data=replace(data, cells=(5,))).read_sdss_catalog(Counter())


@pytest.mark.parametrize("column", ["ra", "Z", "spectrum"])
def test_a_missing_column_is_named_before_anything_is_read(data, tmp_path, column):
    bare = shutil.copytree(data.hats.sdss, tmp_path / "bare")
    metadata = bare / "mmu_sdss" / "dataset" / "_common_metadata"
    schema = pq.read_schema(metadata)
    pq.write_metadata(schema.remove(schema.get_field_index(column)), metadata)
    with pytest.raises(ValueError, match=rf"bare has no column {column}[., ].*; its columns: .*object_id"):
        HatsReader(data=replace(data, hats=replace(data.hats, sdss=str(bare)))).read_sdss_catalog(Counter())


def test_a_scheduler_that_does_not_answer_is_named(monkeypatch, data):
    monkeypatch.setattr("mmagn.surveys.hats.dask_client.CONNECT_SECONDS", 0.5)
    with (
        pytest.raises(ValueError, match=r"dask\.scheduler tcp://127\.0\.0\.1:9 does not answer"),
        dask_client(DaskConfig(scheduler="tcp://127.0.0.1:9")),
    ):
        pass


def test_settings_outside_their_range_are_refused():
    with pytest.raises(ValueError, match=r"data\.hats\.hsc is ''; allowed: text that is not empty"):
        HatsConfig(hsc="")
    with pytest.raises(ValueError, match=r"dask\.workers is -1; allowed: 0 or more"):
        DaskConfig(workers=-1)
    with pytest.raises(ValueError, match=r"dask\.memory_gb is 0; allowed: above 0"):
        DaskConfig(memory_gb=0)


def batch_of(**columns) -> pa.RecordBatch:
    return pa.RecordBatch.from_pydict({"object_id": ["b'  12'"], "ra": [1.0], "dec": [2.0], **columns})


def test_a_row_that_is_no_image_says_why():
    with pytest.raises(ValueError, match="image is missing"):
        cutout_from_hats(batch_of(image=pa.array([None], pa.struct({"flux": pa.list_(pa.float32())}))), 0)
    with pytest.raises(ValueError, match="image has no field band"):
        cutout_from_hats(batch_of(image=[{"flux": [1.0]}]), 0)
    image = {"band": ["hsc-g"], "flux": [[[1.0, 2.0], [3.0]]], "ivar": [[[1.0]]], "mask": [[[True]]], "psf_fwhm": [0.7]}
    with pytest.raises(ValueError, match=r"image\.flux is not rectangular: its rows have 1 to 2 values"):
        cutout_from_hats(batch_of(image=[image]), 0)


def test_a_row_that_is_no_spectrum_says_why():
    good = {name: [1.0, 2.0] for name in ("flux", "ivar", "lsf_sigma")} | {"mask": [False, False]}
    good["lambda"] = [5000.0, 5000.0 * 10**1e-4]
    assert spectrum_from_hats(batch_of(Z=[0.1], spectrum=[good]), 0, survey="sdss").object_id == "12"
    with pytest.raises(ValueError, match=r"spectrum\.lambda is missing"):
        spectrum_from_hats(batch_of(Z=[0.1], spectrum=[good | {"lambda": None}]), 0, survey="sdss")
