"""HATS catalogues give the pairs that other sources give: the same ids, separations and pixels, over every border."""

import os
import signal
import sys
from collections import Counter
from dataclasses import replace
from functools import partial
from itertools import chain

import numpy as np
import pytest

from mmagn.matching.config import MatchingConfig
from mmagn.matching.index import NoPairsError, pair_index
from mmagn.matching.pairs import open_pairs
from mmagn.matching.rows import pair_from_row
from mmagn.matching.store import pair_store
from mmagn.surveys.config import DaskConfig, DataConfig, HatsConfig, HubConfig
from mmagn.surveys.hats.dask_client import dask_client, optional_module
from mmagn.surveys.hats.reader import HatsReader
from mmagn.surveys.reader import iter_spectra
from mmagn.surveys.text import plain_text

# nested_pandas 0.7 still says inplace= to pandas 3.1
pytestmark = pytest.mark.filterwarnings("ignore::pandas.errors.Pandas4Warning")

ARCSEC = 1 / 3600
BORDER_PAIRS = {
    "1": ((45.0, 0.3 * ARCSEC), (45.0, -0.3 * ARCSEC)),  # where four base pixels meet on the equator
    "2": ((360 - 0.2 * ARCSEC, 60.0), (0.2 * ARCSEC, 60.0)),  # RA 0 and the border of two base pixels
    "3": ((10.0, 90 - 0.4 * ARCSEC), (190.0, 90 - 0.4 * ARCSEC)),  # over the pole
}
STRANGERS = {"4": ((100.0, 30.0), (100.0, 30.1)), "5": ((45.0, 0.1), (45.0, -0.1)), "6": ((0.5, 60.0), (359.5, 60.0))}
RIVALS = {"7": (30.0, 1.0 - 0.55 * ARCSEC), "8": (30.0, 1.0 + 0.55 * ARCSEC), "9": (30.0 + 0.95 * ARCSEC, 1.0)}
"""Spectra of three galaxies, more than 1 arcsec apart, around one image at (30, 1): two equally near, one farther."""


@pytest.fixture(scope="module")
def tree(v1_tree, tmp_path_factory):
    both = BORDER_PAIRS | STRANGERS
    sdss = [{"object_id": name, "ra": ra, "dec": dec} for name, ((ra, dec), _) in both.items()]
    sdss += [{"object_id": name, "ra": ra, "dec": dec} for name, (ra, dec) in RIVALS.items()]
    hsc = [{"object_id": 10 * int(name), "ra": ra, "dec": dec} for name, (_, (ra, dec)) in both.items()]
    hsc.append({"object_id": 70, "ra": 30.0, "dec": 1.0})
    return v1_tree(tmp_path_factory.mktemp("tree"), sdss=sdss, hsc=hsc)


@pytest.fixture(scope="module")
def data(tree, hats_collections, tmp_path_factory) -> DataConfig:
    return hats_collections(tree, tmp_path_factory.mktemp("hats"), partition_rows=4)


def ids_and_separations(data, **matching):
    index = pair_index(data, MatchingConfig(**matching))
    matches = index.matches
    sdss, hsc = index.sdss.object_id[matches.left_index], index.hsc.object_id[matches.right_index]
    matched = zip(sdss.tolist(), hsc.tolist(), matches.separation_arcsec.tolist(), strict=True)
    return {(left, right): separation for left, right, separation in matched}, index


def test_pairs_over_partition_borders_are_found(data):
    matched, index = ids_and_separations(data)
    for name in BORDER_PAIRS:
        assert (name, f"{name}0") in matched
    sdss, hsc = index.sdss, index.hsc
    partitions = [
        (sdss.files[left].split("dataset/")[1], hsc.files[right].split("dataset/")[1])
        for left, right in zip(
            sdss.file_index[index.matches.left_index], hsc.file_index[index.matches.right_index], strict=True
        )
    ]
    assert sum(left != right for left, right in partitions) >= len(BORDER_PAIRS)


@pytest.mark.parametrize("radius_arcsec", [0.45, 0.6, 1.0, 10.0])
def test_matches_are_those_of_the_tree_at_any_radius_up_to_the_margin(data, tree, radius_arcsec):
    matched, index = ids_and_separations(data, radius_arcsec=radius_arcsec)
    published = DataConfig(source="hdf5", root=str(tree), spectra=("sdss",))
    expected, expected_index = ids_and_separations(published, radius_arcsec=radius_arcsec)
    assert matched.keys() == expected.keys()
    for pair, separation in matched.items():
        assert separation == pytest.approx(expected[pair], abs=1e-6)
    assert index.report == expected_index.report


def test_a_tie_goes_to_the_lower_id_and_the_losers_are_counted(data):
    matched, index = ids_and_separations(data)
    assert ("7", "70") in matched
    assert len(matched) == len(BORDER_PAIRS) + 1
    assert (index.report.many_to_one_left, index.report.many_to_one_right) == (2, 0)


def test_crowded_objects_are_all_seen(data, monkeypatch):
    wide, _ = ids_and_separations(data, radius_arcsec=10.0)
    monkeypatch.setattr("mmagn.matching.hats_matching.NEIGHBORS", 1)
    assert ids_and_separations(data, radius_arcsec=10.0)[0] == wide


def test_a_radius_beyond_the_margin_is_refused(data):
    with pytest.raises(ValueError, match=r"margin of the HATS catalogue mmu_hsc is 10 arcsec wide, less than .* 10\.5"):
        pair_index(data, MatchingConfig(radius_arcsec=10.5))


def test_a_catalogue_without_a_margin_is_refused(data):
    bare = replace(data, hats=replace(data.hats, hsc=f"{data.hats.hsc}/mmu_hsc"))
    with pytest.raises(ValueError, match=r"mmu_hsc has no margin, .* data\.hats\.margin names one"):
        pair_index(bare, MatchingConfig())
    named = replace(bare, hats=replace(bare.hats, margin=f"{data.hats.hsc}/mmu_hsc_10arcs"))
    assert len(pair_index(named, MatchingConfig()).matches) == len(BORDER_PAIRS) + 1


def test_a_missing_margin_is_named(data):
    lost = replace(data, hats=replace(data.hats, margin="mmu_hsc_99arcs"))
    with pytest.raises(FileNotFoundError, match=r"with its margin: .*mmu_hsc_99arcs"):
        pair_index(lost, MatchingConfig())


def test_disjoint_catalogues_are_said_to_be_disjoint(data, v1_tree, hats_collections, tmp_path):
    places = {"object_id": 1, "ra": 200.0, "dec": -50.0}
    far = hats_collections(v1_tree(tmp_path / "far", sdss=[places], hsc=[places]), tmp_path / "hats")
    apart = replace(data, hats=replace(data.hats, sdss=far.hats.sdss))
    with pytest.raises(NoPairsError, match="no spectrum has an HSC image within 1 arcsec: 1 spectra and 7 images"):
        pair_index(apart, MatchingConfig())


def test_a_cell_without_a_pair_has_no_pairs_either(data):
    index = pair_index(data, MatchingConfig())
    cell = int(index.sdss.healpix[list(index.sdss.object_id).index("4")])
    with pytest.raises(NoPairsError, match="1 spectra and 1 images"):
        pair_index(replace(data, cells=(cell,)), MatchingConfig())


def kill_once(flag, spectra):
    """Ids of the spectra; whoever is called first dies of it."""
    try:
        os.close(os.open(flag, os.O_CREAT | os.O_EXCL))
    except FileExistsError:
        return [spectrum.object_id for spectrum in spectra]
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError("not reached")


def test_a_killed_worker_costs_time_and_no_object_and_no_pair(data, tmp_path):
    optional_module("cloudpickle").register_pickle_by_value(sys.modules[__name__])
    drops: Counter[str] = Counter()
    reader = HatsReader(data=data)
    expected = ids_and_separations(data)[0]
    flag = tmp_path / "killed"
    with dask_client(DaskConfig(workers=2, memory_gb=2)) as client:
        assert len(client.scheduler_info()["workers"]) == 2
        names = list(chain.from_iterable(reader.mapped_spectra(partial(kill_once, str(flag)), drops)))
        matched = ids_and_separations(data)[0]
    assert flag.exists()
    assert names == [spectrum.object_id for spectrum in iter_spectra(reader, drops)]
    assert sorted(names) == sorted(BORDER_PAIRS | STRANGERS | RIVALS)
    assert matched == expected
    assert not drops


@pytest.fixture(scope="module")
def simulated(hub_folder) -> DataConfig:
    """Collections that the published converter has made."""
    hats = HatsConfig(sdss=str(hub_folder / HubConfig.sdss), hsc=str(hub_folder / HubConfig.hsc))
    return DataConfig(source="hats", hats=hats)


def test_a_store_from_hats_equals_the_store_from_hdf5_to_the_bit(simulated, hub_tree, tmp_path):
    published = DataConfig(source="hdf5", root=str(hub_tree), spectra=("sdss",), cache_dir=str(tmp_path))
    expected = pair_store(published, MatchingConfig(workers=1), tmp_path / "hdf5")
    matched = pair_store(replace(simulated, cache_dir=str(tmp_path)), MatchingConfig(workers=1), tmp_path / "hats")
    assert len(matched) == len(expected) > 5
    numbers = {str(name): number for number, name in enumerate(expected.index["sdss_object_id"])}
    for number in range(len(matched)):
        pair = matched.pair(number)
        same = expected.pair(numbers[pair.spectrum.object_id])
        assert pair.cutout.object_id == same.cutout.object_id
        assert pair.separation_arcsec == pytest.approx(same.separation_arcsec, abs=1e-6)
        assert pair.healpix == same.healpix
        for name in ("flux", "ivar", "psf_fwhm_arcsec", "magnitude"):
            np.testing.assert_array_equal(getattr(pair.cutout, name), getattr(same.cutout, name))
        for name in ("wavelength_angstrom", "flux", "ivar", "lsf_sigma"):
            np.testing.assert_array_equal(getattr(pair.spectrum, name), getattr(same.spectrum, name))
    assert (
        pair_store(replace(simulated, cache_dir=str(tmp_path)), MatchingConfig(), tmp_path / "hats").path
        == matched.path
    )


def test_the_stream_has_the_pairs_of_the_index(simulated):
    stream = open_pairs(simulated, MatchingConfig())
    ids = [pair_from_row(row).spectrum.object_id for row in stream]
    index = pair_index(simulated, MatchingConfig())
    assert sorted(ids) == sorted(index.sdss.object_id[index.matches.left_index])


def test_pairs_are_those_of_lsdb_that_are_nearest_both_ways(simulated, data):
    """LSDB is the referee: its crossmatch in either direction, and the pairs that both directions have."""
    import lsdb  # an optional extra

    for collections, radius_arcsec in ((simulated, 1.0), (data, 1.0), (data, 10.0)):
        reader = HatsReader(data=collections)
        options = {"radius_arcsec": radius_arcsec, "n_neighbors": 1, "suffix_method": "all_columns"}
        sdss = lsdb.from_dataframe(reader.open_spectra("sdss").compute(progress_bar=False), margin_threshold=10.0)
        hsc = lsdb.from_dataframe(reader.open_hsc().compute(progress_bar=False), margin_threshold=10.0)
        names = ["object_id_sdss", "object_id_hsc"]
        there = sdss.crossmatch(hsc, suffixes=("_sdss", "_hsc"), **options)[names].compute(progress_bar=False)
        back = hsc.crossmatch(sdss, suffixes=("_hsc", "_sdss"), **options)[names].compute(progress_bar=False)
        mutual = {tuple(map(plain_text, pair)) for pair in there.to_numpy()} & {
            tuple(map(plain_text, pair)) for pair in back.to_numpy()
        }
        pairs = set(ids_and_separations(collections, radius_arcsec=radius_arcsec)[0])
        assert len(pairs) > 3
        if collections is data:  # two spectra are as near as each other to one image: LSDB may take either
            mutual, pairs = ({pair for pair in each if pair[1] != "70"} for each in (mutual, pairs))
        assert pairs == mutual
