"""The stream gives every pair once, whole and true, over any number of readers and after any interruption."""

import itertools
from collections import Counter

import datasets
import numpy as np
import pytest
from datasets.distributed import split_dataset_by_node
from torch.utils.data import DataLoader

from mmagn.matching.config import MatchingConfig
from mmagn.matching.index import NoPairsError, pair_index
from mmagn.matching.pairs import iter_pairs, open_pairs
from mmagn.matching.repeats import REPEAT
from mmagn.matching.rows import half_precision, pair_features, pair_from_row, pair_row
from mmagn.matching.shards import pair_shards, shard_pairs
from mmagn.records import INDEX_COLUMNS
from mmagn.surveys.config import DataConfig
from mmagn.surveys.pair_rows import widened
from mmagn.surveys.readers import survey_reader

ARCSEC = 1 / 3600
PAIRS = 20


def config_of(root, **settings):
    return DataConfig(source="hdf5", root=str(root), **settings)


def test_the_index_finds_every_pair_and_reports_the_strangers(data):
    index = pair_index(data, MatchingConfig())
    assert len(index.matches) == PAIRS
    sdss = index.sdss.object_id[index.matches.left_index].astype(int)
    hsc = index.hsc.object_id[index.matches.right_index].astype(int)
    np.testing.assert_array_equal(sdss - 1000, hsc - 5000)
    assert (index.report.left_objects, index.report.right_objects) == (24, 24)


def test_pairs_carry_the_right_image_and_spectrum(data):
    for row in open_pairs(data, MatchingConfig()):
        pair = pair_from_row(row)
        number = int(pair.spectrum.object_id) - 1000
        assert pair.cutout.object_id == str(5000 + number)
        assert pair.spectrum.survey == ("boss" if number % 2 else "sdss")
        assert pair.spectrum.redshift == pytest.approx(0.01 * (1 + number))
        assert len(pair.spectrum.flux) == 150 + 10 * (number % 3)
        assert pair.spectrum.flux[0] == pytest.approx(number)
        counts_to_njy = 57.54399
        np.testing.assert_allclose(pair.cutout.flux[:, 80, 80], (number + np.arange(5)) * counts_to_njy, rtol=1e-5)
        np.testing.assert_allclose(pair.cutout.flux[:, 0, 0], number * counts_to_njy, rtol=1e-5)
        assert pair.separation_arcsec == pytest.approx(0.1 * (1 + number % 5), abs=1e-6)


def test_the_stream_has_one_shard_per_hsc_file_and_index_columns_first(data):
    stream = open_pairs(data, MatchingConfig())
    assert isinstance(stream, datasets.IterableDataset)
    assert stream.num_shards == 4
    assert tuple(stream.features) == tuple(pair_features())
    assert tuple(stream.features)[: len(INDEX_COLUMNS)] == INDEX_COLUMNS


def test_rows_are_arrays_and_positions_keep_their_precision(data):
    row = next(iter(open_pairs(data, MatchingConfig())))
    assert isinstance(row["image_flux"], np.ndarray)
    assert (row["image_flux"].shape, row["image_flux"].dtype) == ((5 * 160 * 160,), np.float32)
    assert row["spectrum_flux"].dtype == np.float32
    assert row["sdss_ra_deg"].dtype == np.float64
    assert row["sdss_object_id"].isdigit()
    table = next(iter(open_pairs(data, MatchingConfig()).with_format("arrow")))
    assert table.schema.field("image_flux").type.list_size == 5 * 160 * 160


def test_a_row_and_back_is_the_same_pair(data):
    pair = next(shard_pairs(pair_shards(pair_index(data, MatchingConfig()))[0], survey_reader(data), Counter()))
    again = pair_from_row(pair_row(pair))
    np.testing.assert_array_equal(again.cutout.flux, pair.cutout.flux)
    np.testing.assert_array_equal(again.spectrum.ivar, pair.spectrum.ivar)
    assert (again.separation_arcsec, again.healpix) == (pair.separation_arcsec, pair.healpix)


def test_two_workers_lose_and_double_nothing(data):
    stream = open_pairs(data, MatchingConfig()).select_columns(["sdss_object_id", "image_flux"])
    loader = DataLoader(stream, batch_size=None, num_workers=2)
    assert sorted(int(row["sdss_object_id"]) for row in loader) == list(range(1000, 1000 + PAIRS))


@pytest.mark.parametrize("nodes", [2, 3])
def test_nodes_lose_and_double_nothing(data, nodes):
    stream = open_pairs(data, MatchingConfig())
    parts = [split_dataset_by_node(stream, rank=rank, world_size=nodes) for rank in range(nodes)]
    object_ids = [int(row["sdss_object_id"]) for part in parts for row in part]
    assert sorted(object_ids) == list(range(1000, 1000 + PAIRS))


@pytest.mark.parametrize("ranks", [2, 3, 4, 6])
def test_ranks_and_workers_of_a_stream_differ_by_one_shard_of_pairs_at_most(v1_tree, tmp_path, ranks):
    counts = [1, 7, 1, 1, 6, 1, 1, 5, 1, 1, 1, 4]  # cells in the order of the sky, as uneven as a survey has them
    places = [[{"ra": 10.0 + 15 * cell, "dec": 1 + n / 60} for n in range(count)] for cell, count in enumerate(counts)]
    rows = [{"object_id": 100 + n, **place} for n, place in enumerate(itertools.chain(*places))]
    v1_tree(tmp_path, sdss=rows, hsc=rows)
    stream = open_pairs(config_of(tmp_path), MatchingConfig()).select_columns(["sdss_object_id"])
    assert stream.num_shards == len(counts)
    parts = [split_dataset_by_node(stream, rank, ranks, strategy="shards") for rank in range(ranks)]
    ids = [[row["sdss_object_id"] for row in part] for part in parts]
    assert sorted(map(int, itertools.chain(*ids))) == [row["object_id"] for row in rows]
    assert max(map(len, ids)) - min(map(len, ids)) <= max(counts)


@pytest.mark.parametrize("read", [0, 3, 5, 13])
def test_an_interrupted_stream_goes_on_where_it_stopped(data, read):
    whole = [row["sdss_object_id"] for row in open_pairs(data, MatchingConfig())]
    stream = open_pairs(data, MatchingConfig())
    first = [row["sdss_object_id"] for row in itertools.islice(stream, read)]
    state = stream.state_dict()
    resumed = open_pairs(data, MatchingConfig())
    resumed.load_state_dict(state)
    assert first + [row["sdss_object_id"] for row in resumed] == whole


def test_the_order_of_files_and_surveys_does_not_decide_ties(v1_tree, tmp_path):
    """One galaxy observed twice at the very same position: the lower id wins wherever it is stored."""
    same = {"ra": 10.0, "dec": 1.0}
    object_ids = set()
    for name, surveys in (("first", ("sdss", "boss")), ("second", ("boss", "sdss"))):
        root = tmp_path / name
        v1_tree(root, sdss=[{"object_id": 1002, **same}], hsc=[{"object_id": 1, **same}], sdss_survey=surveys[0])
        v1_tree(root, sdss=[{"object_id": 1001, **same}], sdss_survey=surveys[1])
        index = pair_index(config_of(root), MatchingConfig())
        assert (len(index.matches), index.report.drops) == (1, {REPEAT: 1})
        object_ids.add(str(index.sdss.object_id[index.matches.left_index[0]]))
    assert object_ids == {"1001"}


def test_duplicate_ids_are_counted_and_paired_once(v1_tree, tmp_path):
    twice = [{"object_id": 7, "ra": 10.0, "dec": 1.0}, {"object_id": 7, "ra": 10.0, "dec": 1.0}]
    v1_tree(tmp_path, sdss=twice, hsc=[{"object_id": 8, "ra": 10.0, "dec": 1.0}])
    index = pair_index(config_of(tmp_path), MatchingConfig())
    assert len(index.matches) == 1
    assert sum(index.report.drops.values()) == 1


def test_a_pair_with_an_unusable_member_is_left_out_and_counted(v1_tree, tmp_path, caplog):
    sdss = [{"object_id": 100 + n, "ra": 10.0 + n / 60, "dec": 1.0} for n in range(3)]
    hsc = [{"object_id": 200 + n, "ra": 10.0 + n / 60, "dec": 1.0} for n in range(3)]
    hsc[0]["image_mask"] = np.zeros((5, 160, 160), dtype=bool)
    sdss[1]["spectrum_ivar"] = np.zeros(200)
    v1_tree(tmp_path, sdss=sdss, hsc=hsc)
    drops: Counter[str] = Counter()
    config = config_of(tmp_path)
    (shard,) = pair_shards(pair_index(config, MatchingConfig()))
    pairs = list(shard_pairs(shard, survey_reader(config), drops))
    assert [pair.spectrum.object_id for pair in pairs] == ["102"]
    assert sorted(drops.values()) == [1, 1]
    assert [row["sdss_object_id"] for row in open_pairs(config_of(tmp_path), MatchingConfig())] == ["102"]
    assert caplog.text.count("pair left out") == 2
    assert "SDSS 100 with HSC 200, row 0 of hsc/pdr3_dud_22.5/" in caplog.text
    assert "SDSS 101 with HSC 201, row 1 of sdss/sdss/" in caplog.text


def test_pairs_that_are_left_out_are_named_before_the_last_one_is_read(v1_tree, tmp_path, caplog):
    places = [{"ra": ra + n / 60, "dec": 1.0} for ra in (10.0, 40.0) for n in range(2)]
    hsc = [{"object_id": 200 + n, **place} for n, place in enumerate(places)]
    for n in (0, 2):
        hsc[n]["image_mask"] = np.zeros((5, 160, 160), dtype=bool)
    v1_tree(tmp_path, sdss=[{"object_id": 100 + n, **place} for n, place in enumerate(places)], hsc=hsc)
    pairs = iter_pairs(config_of(tmp_path), MatchingConfig())
    assert {next(pairs).spectrum.object_id for _ in range(2)} == {"101", "103"}
    assert caplog.text.count("pair left out") == 1


def test_no_pairs_says_what_was_compared(v1_tree, tmp_path):
    v1_tree(
        tmp_path,
        sdss=[{"object_id": 1, "ra": 10.0, "dec": 1.0}],
        hsc=[{"object_id": 2, "ra": 10.0, "dec": 1.0 + 5 * ARCSEC}],
    )
    expected = r"within 1 arcsec: 1 spectra and 1 images with 1 HEALPix cells in common, the nearest 5 arcsec apart"
    with pytest.raises(NoPairsError, match=expected):
        open_pairs(config_of(tmp_path), MatchingConfig())


def test_a_store_has_no_surveys_to_match(tmp_path):
    with pytest.raises(ValueError, match=r"data\.source store holds pairs already"):
        pair_index(DataConfig(source="store", root=str(tmp_path)), MatchingConfig())


def test_half_precision_keeps_validity_and_counts_what_it_moves():
    changed: Counter[str] = Counter()
    flux = half_precision(np.array([1e6, -1e6, 1.5], dtype=np.float32), positive=False, changed=changed, what="flux")
    ivar = half_precision(np.array([1e-12, 0.0, 4.0], dtype=np.float32), positive=True, changed=changed, what="ivar")
    assert flux.tolist() == [65504.0, -65504.0, 1.5]
    assert (ivar > 0).tolist() == [True, False, True]
    assert changed == {
        "flux: pixels clipped to the float16 range": 2,
        "ivar: pixels raised to the smallest float16 above 0": 1,
    }


def test_every_finite_half_widens_exactly():
    halves = np.arange(2**16, dtype=np.uint16).view(np.float16)
    halves = halves[np.isfinite(halves)]
    np.testing.assert_array_equal(widened(halves), halves.astype(np.float32))
