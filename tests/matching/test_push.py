"""A pushed store: what the hub gets, what its card says, and that hub-pairs reads the very same pairs back."""

from dataclasses import replace

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from datasets.distributed import split_dataset_by_node
from hub_server import hub_server

import mmagn
from mmagn.config.run_config import RunConfig
from mmagn.matching.card import card_text
from mmagn.matching.config import MatchingConfig
from mmagn.matching.index import pair_index
from mmagn.matching.pairs import open_pairs
from mmagn.matching.push import push_store
from mmagn.matching.rows import pair_row
from mmagn.matching.store import pair_store
from mmagn.surveys.config import DataConfig, HubConfig
from mmagn.surveys.hub.files import HubFile

HUB = HubConfig(pairs="someone/pairs", backoff_s=0.01, retries=1, timeout_s=60.0)


@pytest.fixture
def pairs_hub(tmp_path, monkeypatch):
    """An empty hub that takes pushes."""
    monkeypatch.setenv("no_proxy", "127.0.0.1,localhost")
    monkeypatch.setenv("HF_TOKEN", "hf_of_the_tests")
    with hub_server(tmp_path / "hub") as server:
        monkeypatch.setenv("HF_ENDPOINT", server.url)
        yield server


@pytest.fixture(scope="module")
def stores(survey, tmp_path_factory):
    """The same pairs in both number types."""
    data = DataConfig(source="hdf5", root=str(survey), cache_dir=str(tmp_path_factory.mktemp("cache")))
    out = tmp_path_factory.mktemp("stores")
    kinds = ("float32", "float16")
    return {kind: pair_store(data, MatchingConfig(image_dtype=kind), out / kind) for kind in kinds}


@pytest.fixture
def ready(tmp_path):
    return DataConfig(source="hub-pairs", cache_dir=str(tmp_path / "cache"), hub=HUB)


def as_bytes(pair):
    return {name: np.asarray(value).tobytes() for name, value in pair_row(pair).items()}


@pytest.mark.parametrize("kind", ["float32", "float16"])
def test_pushed_pairs_come_back_bit_for_bit(pairs_hub, stores, ready, tmp_path, kind):
    push_store(stores[kind], HUB.pairs, HUB)
    back = pair_store(ready, MatchingConfig(image_dtype=kind), tmp_path / "back")
    assert len(back) == len(stores[kind])
    place = {object_id: number for number, object_id in enumerate(stores[kind].index["sdss_object_id"])}
    for number, object_id in enumerate(back.index["sdss_object_id"]):
        pair, pushed = as_bytes(back.pair(number)), as_bytes(stores[kind].pair(place[object_id]))
        assert {name: value for name, value in pair.items() if name != "separation_arcsec"} == {
            name: value for name, value in pushed.items() if name != "separation_arcsec"
        }
    assert np.allclose(np.sort(back.index["separation_arcsec"]), np.sort(stores[kind].index["separation_arcsec"]))


@pytest.mark.parametrize("selection", ["cells", "redshift_max", "spectra"])
def test_pushed_pairs_are_selected_as_those_of_a_store(pairs_hub, stores, ready, tmp_path, selection):
    push_store(stores["float32"], HUB.pairs, HUB)
    cell = int(stores["float32"].index["healpix"][0])
    settings = {"cells": {"cells": (cell,)}, "redshift_max": {"redshift_max": 0.105}}
    settings["spectra"] = {"spectra": ("boss",)}
    of_store = DataConfig(source="store", root=str(stores["float32"].path), **settings[selection])
    expected = set(pair_store(of_store, MatchingConfig()).index["sdss_object_id"])
    back = pair_store(replace(ready, **settings[selection]), MatchingConfig(), tmp_path / "back")
    assert set(back.index["sdss_object_id"]) == expected
    assert 0 < len(expected) < len(stores["float32"])


def test_a_push_is_one_commit_with_card_and_account(pairs_hub, stores):
    address = push_store(stores["float32"], HUB.pairs, HUB)
    assert address.startswith(pairs_hub.url)
    assert pairs_hub.calls["create"] == pairs_hub.calls["commit"] == 1
    folder = pairs_hub.folder / HUB.pairs
    stored = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    assert stored == ["README.md", "data/train-00000-of-00001.parquet", "mmagn.json"]
    assert not list(stores["float32"].path.parent.glob(".*push*")), "nothing staged is left"


def test_files_of_an_earlier_push_that_do_not_belong_are_removed(pairs_hub, stores):
    stale = pairs_hub.folder / HUB.pairs / "data" / "train-00001-of-00002.parquet"
    stale.parent.mkdir(parents=True)
    stale.write_bytes(b"old")
    push_store(stores["float32"], HUB.pairs, HUB)
    assert not stale.exists()


def test_the_card_says_what_how_and_whom_to_credit(pairs_hub, stores):
    store = stores["float32"]
    push_store(store, HUB.pairs, HUB)
    _, head, body = (pairs_hub.folder / HUB.pairs / "README.md").read_text().split("---\n", 2)
    assert yaml.safe_load(head)["configs"][0]["data_files"][0]["path"] == "data/*.parquet"
    for said in (f"{len(store)} galaxies", "within 1 arcsec", store.fingerprint, "| mmagn | ", "SDSS", "NAOJ"):
        assert said in body


def test_the_card_names_the_surveys_of_the_spectra(v1_tree, tmp_path):
    place = {"ra": 150.1, "dec": 2.2}
    root = v1_tree(tmp_path / "tree", desi=[{"object_id": 39627, **place}], hsc=[{"object_id": 7, **place}])
    data = DataConfig(source="hdf5", root=str(root), spectra=("sdss", "desi"), cache_dir=str(tmp_path))
    card = card_text(pair_store(data, MatchingConfig(), tmp_path / "store"), HUB.pairs, {})
    described = yaml.safe_load(card.split("---\n", 2)[1])
    assert described["pretty_name"] == "Pairs of DESI spectra and HSC images"
    assert described["tags"][-2:] == ["desi", "hsc"]
    text = card.partition("# someone/pairs")[2].partition("## Credits")[0]
    assert "1 galaxies, each with its spectrum (DESI) and its HSC image" in text
    assert "SDSS" not in text


def test_the_card_of_simulated_pairs_says_so_and_credits_nobody(stores, monkeypatch):
    monkeypatch.setitem(stores["float32"].settings, "data.source", "embedded")
    card = card_text(stores["float32"], HUB.pairs, {})
    assert "The survey is simulated" in card and "NAOJ" not in card


def test_datasets_opens_what_was_pushed(pairs_hub, stores):
    push_store(stores["float32"], HUB.pairs, HUB)
    folder = pairs_hub.folder / HUB.pairs / "data"
    rows = datasets.load_dataset("parquet", data_dir=str(folder), split="train", streaming=True)
    assert sorted(row["sdss_object_id"] for row in rows) == sorted(stores["float32"].index["sdss_object_id"])


def test_a_hub_that_refuses_and_one_that_is_not_there_are_named(pairs_hub, stores, monkeypatch):
    pairs_hub.api_fault = lambda path: "403" if "create" in path else None
    with pytest.raises(ValueError, match=r"refused the push to someone/pairs: .*403"):
        push_store(stores["float32"], HUB.pairs, HUB)
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(ValueError, match=r"the hub http://127\.0\.0\.1:9 gave no answer"):
        push_store(stores["float32"], HUB.pairs, HUB)
    with pytest.raises(ValueError, match="ORG/NAME"):
        push_store(stores["float32"], "no-slash", HUB)


def test_a_push_that_breaks_off_is_one_sentence_and_changes_nothing(pairs_hub, stores, monkeypatch):
    monkeypatch.setattr("huggingface_hub.utils._http.time.sleep", lambda _: None)
    pairs_hub.api_fault = lambda path: "hang up" if "/commit/" in path else None
    with pytest.raises(ValueError, match="refused the push to someone/pairs: "):
        push_store(stores["float32"], HUB.pairs, HUB)
    assert not list((pairs_hub.folder / HUB.pairs).iterdir())
    assert not list(stores["float32"].path.parent.glob(".*push*"))


def crossmatched(hub_folder, index):
    """Matched rows of two HATS repositories side by side, both structs whole, as a cross-match of them gives them."""
    sides = []
    for name, catalog, members in (
        ("sdss", index.sdss, index.matches.left_index),
        ("hsc", index.hsc, index.matches.right_index),
    ):
        rows = []
        for member in members:
            file = HubFile.from_text(catalog.files[catalog.file_index[member]])
            table = pq.read_table(hub_folder / file.repository / file.path, partitioning=None)
            rows.append(table.slice(int(catalog.row[member]), 1))
        table = pa.concat_tables(rows)
        whole = ("image", "spectrum")
        sides.append(
            {column if column in whole else f"{column}_{name}": table[column] for column in table.column_names}
        )
    return pa.table({**sides[0], **sides[1]})


@pytest.fixture
def nested_data(hub, hub_folder, hub_data, tmp_path, monkeypatch):
    """Settings of a repository with nested rows, and the way to write it."""
    table = crossmatched(hub_folder, pair_index(hub_data, MatchingConfig()))
    with hub_server(tmp_path / "nested") as server:
        monkeypatch.setenv("HF_ENDPOINT", server.url)
        folder = server.folder / HUB.pairs
        folder.mkdir(parents=True)

        def written(without=(), sizes=()):
            kept = table.drop_columns(list(without))
            for number, rows in enumerate((*sizes, len(table) - sum(sizes))):
                pq.write_table(kept.slice(sum(sizes[:number]), rows), folder / f"{number}.parquet", row_group_size=5)
            return DataConfig(source="hub-pairs", cache_dir=str(tmp_path / "cache"), hub=HUB)

        yield written


def test_ranks_share_ready_pairs_evenly_whatever_number_each_file_has(nested_data):
    sizes = (6, 1, 4, 1, 3)
    data = nested_data(sizes=sizes)
    stream = open_pairs(data, MatchingConfig()).select_columns(["sdss_object_id"])
    streams = [split_dataset_by_node(stream, rank, 2) for rank in range(2)]
    loaders = [mmagn.open_pairs(RunConfig(data=data)).torch(2, of=(rank, 2)) for rank in range(2)]
    of_streams = [[row["sdss_object_id"] for row in part] for part in streams]
    of_loaders = [[name for batch in loader for name in batch["sdss_object_id"]] for loader in loaders]
    for shares, most in ((of_streams, max(sizes)), (of_loaders, 2)):
        assert len({*shares[0], *shares[1]}) == sum(map(len, shares)) > sum(sizes)
        assert abs(len(shares[0]) - len(shares[1])) <= most


def test_nested_rows_give_the_pairs_of_the_tree(nested_data, hub_tree, tmp_path):
    tree = DataConfig(source="hdf5", root=str(hub_tree), spectra=("sdss",), cache_dir=str(tmp_path / "cache"))
    ready_rows, expected = (
        {str(row["sdss_object_id"]): row for row in open_pairs(data, MatchingConfig())}
        for data in (nested_data(), tree)
    )
    assert ready_rows.keys() == expected.keys()
    for object_id, row in ready_rows.items():
        assert abs(row["separation_arcsec"] - expected[object_id]["separation_arcsec"]) < 1e-6
        for name, value in expected[object_id].items():
            if name not in ("separation_arcsec", "spectral_class", "spectral_subclass", "zwarning"):
                assert np.asarray(row[name]).tobytes() == np.asarray(value).tobytes(), name


@pytest.mark.parametrize(
    ("columns", "sentence"),
    [
        (["ra_sdss"], r"data\.hub\.pairs. has no column ra, which is needed for the position"),
        (["image"], r"no column image\.flux, which is needed for the image|no column image\.band"),
        (["Z_sdss"], "no column Z, which is needed for the redshift"),
    ],
)
def test_nested_rows_without_a_needed_column_are_refused(nested_data, columns, sentence):
    with pytest.raises(ValueError, match=sentence):
        open_pairs(nested_data(columns), MatchingConfig())


def test_pairs_beyond_the_radius_are_no_pairs(pairs_hub, stores, ready):
    push_store(stores["float32"], HUB.pairs, HUB)
    separation = stores["float32"].index["separation_arcsec"]
    near = list(open_pairs(ready, MatchingConfig(radius_arcsec=float(np.median(separation)))))
    assert 0 < len(near) < len(separation)


def test_a_stored_row_without_a_column_is_refused(pairs_hub, stores, ready):
    push_store(stores["float32"], HUB.pairs, HUB)
    (path,) = (pairs_hub.folder / HUB.pairs / "data").iterdir()
    pq.write_table(pq.read_table(path).drop_columns(["image_ivar"]), path)
    with pytest.raises(ValueError, match="has no column image_ivar, which is needed for the image"):
        open_pairs(ready, MatchingConfig())
