"""What the hub reader promises: the records of the tree, few bytes, few calls, patience, one sentence for a fault."""

import pickle
import shutil
import threading
import time
from collections import Counter
from dataclasses import replace

import numpy as np
import pyarrow.parquet as pq
import pytest

from mmagn.surveys.config import DataConfig, HubConfig
from mmagn.surveys.hub import client as hub_client
from mmagn.surveys.hub.files import HubFile
from mmagn.surveys.hub.reader import HubReader
from mmagn.surveys.parquet.row_groups import TAIL_BYTES
from mmagn.surveys.reader import in_advance, iter_spectra, usable
from mmagn.surveys.readers import survey_reader


@pytest.fixture
def tree_data(hub_tree):
    return DataConfig(source="hdf5", root=str(hub_tree), spectra=("sdss",))


def by_id(catalog):
    return {
        object_id: values
        for object_id, *values in zip(
            catalog.object_id.tolist(),
            catalog.ra_deg.tolist(),
            catalog.dec_deg.tolist(),
            catalog.healpix.tolist(),
            strict=True,
        )
    }


def all_records(reader, catalog, read, drops):
    found = {}
    for number, path in enumerate(catalog.files):
        rows = catalog.row[catalog.file_index == number]
        for row, record in usable(read(path, rows), drops):
            member = (catalog.file_index == number) & (catalog.row == row)
            assert record.object_id == catalog.object_id[member][0]
            found[record.object_id] = record
    return found


def test_catalogues_of_hub_and_tree_agree(hub_data, tree_data):
    drops, tree_drops = Counter(), Counter()
    reader = survey_reader(hub_data)
    assert by_id(reader.read_sdss_catalog(drops)) == by_id(survey_reader(tree_data).read_sdss_catalog(tree_drops))
    assert by_id(reader.read_hsc_catalog(drops)) == by_id(survey_reader(tree_data).read_hsc_catalog(tree_drops))
    assert drops == tree_drops


def test_a_redshift_range_drops_and_counts_the_same_objects(hub_data, tree_data):
    drops, tree_drops = Counter(), Counter()
    sides = (hub_data, drops), (tree_data, tree_drops)
    near, tree_near = (survey_reader(replace(data, redshift_max=0.1)).read_sdss_catalog(lost) for data, lost in sides)
    assert by_id(near) == by_id(tree_near)
    assert drops == tree_drops
    assert drops.total() > 0


def test_pixels_of_hub_and_tree_are_bit_equal(hub_data, tree_data):
    drops = Counter()
    reader, tree = survey_reader(hub_data), survey_reader(tree_data)
    catalogs = [(each, each.read_sdss_catalog(drops), each.read_hsc_catalog(drops)) for each in (reader, tree)]
    spectra, tree_spectra = (all_records(each, sdss, each.read_spectra, drops) for each, sdss, _ in catalogs)
    assert spectra.keys() == tree_spectra.keys()
    for object_id, spectrum in spectra.items():
        for name in ("wavelength_angstrom", "flux", "ivar", "lsf_sigma"):
            assert getattr(spectrum, name).tobytes() == getattr(tree_spectra[object_id], name).tobytes()
        assert spectrum.redshift == tree_spectra[object_id].redshift
        assert bool(spectrum.zwarning) == bool(tree_spectra[object_id].zwarning)
    cutouts, tree_cutouts = (all_records(each, hsc, each.read_cutouts, drops) for each, _, hsc in catalogs)
    assert cutouts.keys() == tree_cutouts.keys()
    for object_id, cutout in cutouts.items():
        for name in ("flux", "ivar", "psf_fwhm_arcsec", "magnitude"):
            assert getattr(cutout, name).tobytes() == getattr(tree_cutouts[object_id], name).tobytes()


def test_every_spectrum_comes_once(hub_data):
    drops = Counter()
    reader = HubReader(data=hub_data)
    ids = [spectrum.object_id for spectrum in iter_spectra(reader, drops)]
    assert sorted(ids) == sorted(reader.read_sdss_catalog(drops).object_id.tolist())


def test_the_index_is_a_small_part_of_the_files_and_is_read_once(hub, hub_data, hub_folder):
    for survey, repository in (("sdss", HubConfig.sdss), ("hsc", HubConfig.hsc)):
        hub.forget()
        files = [path for path in (hub_folder / repository).rglob("Npix=*.parquet") if "10arcs" not in str(path)]
        stored = sum(path.stat().st_size for path in files)
        reader = HubReader(data=hub_data)
        getattr(reader, f"read_{survey}_catalog")(Counter())
        assert hub.bytes_sent < 0.1 * stored + len(files) * TAIL_BYTES
        moved = hub.bytes_sent
        getattr(HubReader(data=hub_data), f"read_{survey}_catalog")(Counter())
        assert hub.bytes_sent == moved
        assert hub.calls["tree"] == 1
        assert hub.calls["revision"] <= 2


def test_a_listing_of_many_pages_is_followed_to_its_end(hub, hub_data):
    hub.page_size = 3
    whole = HubReader(data=hub_data).read_hsc_catalog(Counter())
    assert hub.calls["tree"] > 1
    assert len(whole.files) == 4


def test_margin_catalogues_are_left_alone(hub_data):
    files = HubReader(data=hub_data).read_sdss_catalog(Counter()).files
    assert not [path for path in files if "10arcs" in path]


@pytest.mark.parametrize(("main", "margin"), [("", "sdss_10arcs"), ("sdss", "sdss_10arcs")])
def test_a_catalogue_is_told_from_its_margin_without_a_description(other_hub, hub_data, hub_folder, main, margin):
    source = hub_folder / hub_data.hub.sdss / "mmu_sdss_sdss/dataset"
    for name in (main, margin):
        shutil.copytree(source, other_hub.folder / hub_data.hub.sdss / name / "dataset")
    files = HubReader(data=hub_data).read_sdss_catalog(Counter()).files
    assert len(files) == 4
    assert not [path for path in files if margin in path]


def test_two_catalogues_in_one_repository_are_refused_by_name(other_hub, hub_data, hub_folder):
    source = hub_folder / hub_data.hub.sdss / "mmu_sdss_sdss/dataset"
    for name in ("one", "two"):
        shutil.copytree(source, other_hub.folder / hub_data.hub.sdss / name / "dataset")
    with pytest.raises(ValueError, match=r"holds 2 catalogues \(one, two\)"):
        HubReader(data=hub_data).read_sdss_catalog(Counter())


def test_cells_choose_files_and_rows(hub, hub_data):
    reader = HubReader(data=hub_data)
    whole = reader.read_hsc_catalog(Counter())
    cell = int(whole.healpix[0])
    chosen = HubReader(data=replace(hub_data, cells=(cell,))).read_hsc_catalog(Counter())
    assert sorted(chosen.object_id) == sorted(whole.object_id[whole.healpix == cell])
    with pytest.raises(ValueError, match="no hsc object"):
        HubReader(data=replace(hub_data, cells=(3071,))).read_hsc_catalog(Counter())


def test_only_row_groups_with_wanted_rows_move_and_only_once(hub, hub_data):
    reader = HubReader(data=hub_data)
    catalog = reader.read_hsc_catalog(Counter())
    path = catalog.files[0]
    rows = np.sort(catalog.row[catalog.file_index == 0])
    hub.forget()
    for row in (rows[-1], rows[-1] - 1):
        assert [found for found, _ in reader.read_cutouts(path, np.array([row]))] == [row]
    group_bytes = pq.read_metadata(next(hub.folder.rglob("mmu_hsc*22.5/dataset/**/Npix=*.parquet"))).row_group(0)
    assert 0 < hub.bytes_sent < 1.1 * group_bytes.total_byte_size


def noise_bytes(folder):
    """Bytes of the noise of all row groups, and of those whose statistics state that all of it is usable."""
    total = usable_bytes = 0
    for path in (folder / HubConfig.hsc).glob("mmu_hsc_pdr3_dud_22.5/dataset/Norder=*/Dir=*/Npix=*.parquet"):
        footer = pq.read_metadata(path)
        for group in range(footer.num_row_groups):
            chunks = map(footer.row_group(group).column, range(footer.num_columns))
            (ivar,) = (chunk for chunk in chunks if chunk.path_in_schema.startswith("image.ivar."))
            total += ivar.total_compressed_size
            if ivar.statistics.min > 0 and ivar.statistics.max < 1e30:
                usable_bytes += ivar.total_compressed_size
    return total, usable_bytes


def test_without_noise_the_same_pixels_are_valid_and_usable_noise_does_not_move(hub, hub_data, hub_folder):
    records, moved = [], []
    for image_noise in (True, False):
        reader = HubReader(data=replace(hub_data, image_noise=image_noise))
        catalog = reader.read_hsc_catalog(Counter())
        hub_client._client.cache_clear()
        hub.forget()
        records.append(all_records(reader, catalog, reader.read_cutouts, Counter()))
        moved.append(hub.bytes_sent)
    total, usable_noise = noise_bytes(hub_folder)
    assert 0 < usable_noise < total
    assert moved[0] - moved[1] == usable_noise
    with_noise, without = records
    assert without.keys() == with_noise.keys()
    for object_id, cutout in without.items():
        assert cutout.flux.tobytes() == with_noise[object_id].flux.tobytes()
        assert np.array_equal(cutout.valid, with_noise[object_id].valid)
        assert np.array_equal(cutout.ivar, cutout.valid)


def test_the_next_file_is_fetched_before_the_present_one_is_read(hub, hub_data):
    reader = HubReader(data=hub_data)
    catalog = reader.read_hsc_catalog(Counter())
    hub.forget()
    rows = [catalog.row[catalog.file_index == number] for number in (0, 1)]
    streams = in_advance(map(reader.read_cutouts, catalog.files[:2], rows))
    stream = next(streams)
    paths = {HubFile.from_text(path).path for path in catalog.files[:2]}
    wait_until(lambda: {path for path, _, _ in hub.ranges} == paths)
    moved = hub.bytes_sent
    assert [row for row, _ in stream] == sorted(rows[0])
    assert [row for row, _ in next(streams)] == sorted(rows[1])
    assert moved > 0


def test_streams_together_have_no_more_downloads_at_the_same_time_than_one(hub, hub_data):
    reader = HubReader(data=replace(hub_data, hub=replace(hub_data.hub, workers=2)))
    catalog = reader.read_hsc_catalog(Counter())
    under_way, most, lock = Counter(), [], threading.Lock()

    def counted(path):
        with lock:
            under_way[""] += 1
            most.append(under_way[""])
        time.sleep(0.02)
        with lock:
            under_way[""] -= 1

    hub.fault = counted
    rows = [catalog.row[catalog.file_index == number] for number in range(3)]
    streams = [reader.read_cutouts(path, of_file) for path, of_file in zip(catalog.files, rows, strict=False)]
    assert [len(list(stream)) for stream in streams] == [len(of_file) for of_file in rows]
    assert max(most) == 2


def test_a_stream_that_nobody_reads_on_ends_its_waits(hub, hub_data):
    patient = replace(hub_data, hub=replace(hub_data.hub, backoff_s=1000.0))
    catalog = HubReader(data=patient).read_hsc_catalog(Counter())
    hub.forget()
    hub.fault = lambda _: "500"
    stream = HubReader(data=patient).read_cutouts(catalog.files[0], catalog.row[catalog.file_index == 0])
    wait_until(lambda: hub.calls["download"] > 0)
    del stream
    wait_until(lambda: not [thread for thread in threading.enumerate() if thread.name.startswith("row-groups")])


def wait_until(true):
    """Poll, far longer than it takes on a busy machine."""
    deadline = time.monotonic() + 100
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_another_process_needs_no_listing(hub, hub_data):
    reader = HubReader(data=hub_data)
    catalog = reader.read_sdss_catalog(Counter())
    again = pickle.loads(pickle.dumps(reader))
    hub_client._client.cache_clear()
    hub.forget()
    assert len(list(again.read_spectra(catalog.files[0], catalog.row[catalog.file_index == 0]))) > 0
    assert not hub.calls["tree"]


def test_sources_record_the_commit(hub, hub_data):
    commits = [hub.commit(repository) for repository in (hub_data.hub.sdss, hub_data.hub.hsc)]
    assert [source.version for source in HubReader(data=hub_data).sources()] == commits
    pinned = replace(hub_data, hub=replace(hub_data.hub, sdss_revision=commits[0], hsc_revision=commits[1]))
    assert HubReader(data=pinned).sources() == HubReader(data=hub_data).sources()
    assert HubReader(data=pinned).settings() == HubReader(data=hub_data).settings()


def test_a_session_of_a_class_that_a_user_derived_is_read_through(hub, hub_data, monkeypatch):
    own = type("Session", (type(hub_client.get_session()),), {"__module__": "own"})
    with own() as session:
        monkeypatch.setattr(hub_client, "get_session", lambda: session)
        hub_client._client.cache_clear()
        assert len(HubReader(data=hub_data).read_hsc_catalog(Counter())) > 0
