"""Faults of a hub: passing ones change nothing, lasting ones and foreign answers end in one sentence."""

import shutil
import threading
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mmagn.surveys.config import HubConfig
from mmagn.surveys.hub import client as hub_client
from mmagn.surveys.hub.reader import HubReader
from mmagn.surveys.reader import iter_spectra, usable


def fault_once(kind, times=1, only=""):
    """A fault that happens to the first downloads and no more."""
    lock, left = threading.Lock(), [times]

    def fault(path):
        with lock:
            if left[0] and only in path:
                left[0] -= 1
                return kind
        return None

    return fault


def fault_always(kind):
    """A fault that does not pass."""
    return fault_once(kind, times=-1)


@pytest.mark.parametrize("kind", ["429", "500", "cut", "stall"])
def test_a_passing_fault_changes_nothing(hub, hub_data, kind):
    if kind == "stall":
        hub_data = replace(hub_data, hub=replace(hub_data.hub, timeout_s=1.0, retries=20))
    hub.fault = fault_once(kind, times=2)
    hub.api_fault = fault_once("429", times=2)
    reader = HubReader(data=hub_data)
    drops = Counter()
    catalog = reader.read_hsc_catalog(drops)
    hub.fault = fault_once(kind, times=1)
    rows = catalog.row[catalog.file_index == 0]
    assert len(list(usable(reader.read_cutouts(catalog.files[0], rows), drops))) == len(rows)
    assert not drops


def test_a_cut_download_goes_on_where_it_stopped(hub, hub_data):
    reader = HubReader(data=hub_data)
    catalog = reader.read_hsc_catalog(Counter())
    rows = catalog.row[catalog.file_index == 0][:1]
    hub.forget()
    hub.fault = fault_once("cut", times=1)
    list(reader.read_cutouts(catalog.files[0], rows))
    (_, start, stop), (_, resumed, end) = hub.ranges[:2]
    cut = start + (stop - start) // 2
    assert start < resumed <= cut
    assert end == stop


def test_retry_after_is_heeded(hub, hub_data, monkeypatch):
    waits = []
    monkeypatch.setattr(hub_client, "_paused", lambda _, wait_s: waits.append(wait_s))
    monkeypatch.setattr("hub_server.RETRY_AFTER_S", 7)
    hub.api_fault = fault_once("429", times=2)
    HubReader(data=hub_data).sources()
    assert waits == [7, 7]


def test_waits_grow_without_retry_after(hub, hub_data, monkeypatch):
    waits = []
    monkeypatch.setattr(hub_client, "_paused", lambda _, wait_s: waits.append(wait_s))
    hub.api_fault = fault_once("500", times=3)
    HubReader(data=hub_data).sources()
    assert waits == sorted(waits)
    assert waits[-1] > 2 * waits[0]


def test_a_fault_that_stays_ends_in_one_sentence(hub, hub_data):
    hub.fault = fault_always("429")
    with pytest.raises(ValueError, match=r"gave no answer for .* after 4 attempts .*429"):
        HubReader(data=hub_data).read_sdss_catalog(Counter())


def test_a_hub_that_stays_silent_ends_in_one_sentence(hub, hub_data, monkeypatch):
    data = replace(hub_data, hub=replace(hub_data.hub, timeout_s=0.1, retries=1))
    monkeypatch.setattr(hub, "api_fault", lambda _: hub.released.wait() and None)
    with pytest.raises(ValueError, match=r"gave no answer .* silent for longer than data.hub.timeout_s"):
        HubReader(data=data).sources()


def test_an_unreachable_hub_is_named(hub_data, monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(ValueError, match=r"the hub http://127.0.0.1:9 gave no answer .*refused"):
        HubReader(data=hub_data).sources()


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"sdss": "Nobody/nothing"}, "has no dataset repository Nobody/nothing"),
        ({"sdss_revision": "deadbeef"}, "UniverseTBD/mmu_sdss_sdss .* has no revision deadbeef"),
    ],
)
def test_unknown_repository_and_revision_are_named(hub_data, settings, sentence):
    with pytest.raises(ValueError, match=sentence):
        HubReader(data=replace(hub_data, hub=replace(hub_data.hub, **settings))).sources()


@pytest.mark.parametrize(("kind", "sentence"), [("401", "HF_TOKEN may not see it"), ("403", "is gated")])
def test_a_closed_repository_asks_for_the_token(hub, hub_data, kind, sentence):
    hub.api_fault = fault_always(kind)
    with pytest.raises(ValueError, match=sentence):
        HubReader(data=hub_data).sources()


def test_a_server_without_ranges_is_refused(hub, hub_data):
    hub.fault = fault_always("whole")
    with pytest.raises(ValueError, match="does not answer byte ranges"):
        HubReader(data=hub_data).read_sdss_catalog(Counter())


@pytest.mark.parametrize(("column", "purpose"), [("ra", "position"), ("Z", "redshift"), ("object_id", "identity")])
def test_a_missing_column_is_named_with_its_purpose(other_hub, hub_data, hub_folder, column, purpose):
    repository = shutil.copytree(hub_folder / hub_data.hub.sdss, other_hub.folder / hub_data.hub.sdss)
    for path in repository.rglob("Npix=*.parquet"):
        pq.write_table(pq.read_table(path).drop_columns(column), path)
    sentence = f"{hub_data.hub.sdss} .data.hub.sdss. has no column {column}, which is needed for the {purpose}"
    with pytest.raises(ValueError, match=sentence):
        HubReader(data=hub_data).read_sdss_catalog(Counter())


def test_the_previews_without_positions_are_refused_in_one_sentence(other_hub, hub_data):
    folder = other_hub.folder / "MultimodalUniverse/hsc/data"
    folder.mkdir(parents=True)
    pq.write_table(pa.table({"object_id": ["1"], "image": [{"flux": [1.0]}]}), folder / "train-0.parquet")
    data = replace(hub_data, hub=replace(hub_data.hub, hsc="MultimodalUniverse/hsc"))
    with pytest.raises(ValueError, match=r"MultimodalUniverse/hsc .*no column ra.*positions cannot be matched"):
        HubReader(data=data).read_hsc_catalog(Counter())
    assert not list(Path(hub_data.cache_dir).rglob("*.parquet"))


def test_a_damaged_row_group_is_counted_and_named_and_the_rest_goes_on(other_hub, hub_data, hub_folder):
    repository = other_hub.folder / hub_data.hub.sdss
    shutil.copytree(hub_folder / hub_data.hub.sdss, repository)
    path = sorted(repository.glob("mmu_sdss_sdss/dataset/**/*.parquet"))[0]
    group = pq.read_metadata(path).row_group(0)
    start = next(
        group.column(number).data_page_offset
        for number in range(group.num_columns)
        if group.column(number).path_in_schema.startswith("spectrum.flux")
    )
    content = bytearray(path.read_bytes())
    content[start : start + 2000] = bytes(2000)
    path.write_bytes(content)
    drops = Counter()
    reader = HubReader(data=hub_data)
    whole = len(reader.read_sdss_catalog(Counter()))
    found = len(list(iter_spectra(reader, drops)))
    ((reason, lost),) = drops.items()
    assert "is left out" in reason and path.name in reason
    assert found + lost == whole


def test_a_file_cut_short_is_named(other_hub, hub_data, hub_folder):
    repository = other_hub.folder / hub_data.hub.sdss
    shutil.copytree(hub_folder / hub_data.hub.sdss, repository)
    path = sorted(repository.glob("mmu_sdss_sdss/dataset/**/*.parquet"))[0]
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(ValueError, match=rf"{path.name}: it is no whole Parquet file"):
        HubReader(data=hub_data).read_sdss_catalog(Counter())


def test_the_token_goes_to_the_hub_and_to_no_other_host(hub, hub_data):
    reader = HubReader(data=hub_data)
    catalog = reader.read_sdss_catalog(Counter())
    assert len(list(reader.read_spectra(catalog.files[0], catalog.row[catalog.file_index == 0][:1]))) == 1
    assert hub.calls["download"]
    assert hub.hosts_with_token == {"127.0.0.1"}


def test_a_renamed_repository_is_followed_and_its_new_name_recorded(hub, hub_data):
    hub.renamed = {"Old/name": hub_data.hub.sdss}
    data = replace(hub_data, hub=replace(hub_data.hub, sdss="Old/name"))
    reader = HubReader(data=data)
    catalog = reader.read_sdss_catalog(Counter())
    rows = catalog.row[catalog.file_index == 0]
    assert len(list(usable(reader.read_spectra(catalog.files[0], rows), Counter()))) == len(rows)
    assert reader.sources()[0] == HubReader(data=hub_data).sources()[0]


def test_a_repository_elsewhere_is_named_with_its_setting_and_the_known_places(hub, hub_data):
    data = replace(hub_data, hub=replace(hub_data.hub, sdss="LSDB/mmu_sdss_sdss"))
    sentence = (
        r"no dataset repository LSDB/mmu_sdss_sdss, .*; data\.hub\.sdss names it, other known places: "
        r"UniverseTBD/mmu_sdss_sdss, hugging-science/mmu_sdss_sdss"
    )
    with pytest.raises(ValueError, match=sentence):
        HubReader(data=data).sources()


def test_an_empty_endpoint_is_the_public_hub(monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", "")
    assert hub_client.hub_endpoint() == "https://huggingface.co"


@pytest.mark.parametrize(
    "following", ["{url}/api/datasets/{name}/tree/{commit}?recursive=true&expand=false", "http://x.org/"]
)
def test_a_listing_neither_turns_in_circles_nor_leaves_its_host(hub, hub_data, following):
    name = hub_data.hub.sdss
    hub.next_page = following.format(url=hub.url, name=name, commit=hub.commit(name))
    with pytest.raises(ValueError, match=r"does not answer like a Hugging Face hub: the listing of .* continues at"):
        HubReader(data=hub_data).sources()
    assert hub.calls["tree"] == 1


@pytest.mark.parametrize(
    "answers",
    [
        {"revision": []},
        {"revision": {"id": "x"}},
        {"tree": {"error": 1}},
        {"tree": [{"type": "file", "path": "a.parquet"}]},
        {"tree": ["a.parquet"]},
    ],
)
def test_an_answer_of_another_shape_is_told_in_one_sentence(hub, hub_data, answers):
    hub.answers = answers
    with pytest.raises(ValueError, match="does not answer like a Hugging Face hub"):
        HubReader(data=hub_data).sources()


def test_answers_of_a_few_bytes_are_no_progress(hub, hub_data):
    reader = HubReader(data=hub_data)
    catalog = reader.read_hsc_catalog(Counter())
    hub.fault = fault_always("drip")
    with pytest.raises(ValueError, match=r"after 4 attempts .*bytes early|peer closed"):
        list(reader.read_cutouts(catalog.files[0], catalog.row[catalog.file_index == 0]))


def test_only_the_legacy_survey_is_on_the_hub(hub_data):
    with pytest.raises(ValueError, match=r"data\.source hub has only sdss"):
        HubReader(data=replace(hub_data, spectra=("boss",)))


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"sdss": "no-slash"}, "allowed: ORG/NAME"),
        ({"hsc_revision": ""}, "allowed: a commit, or a branch"),
        ({"workers": 0}, "allowed: 1 to 64"),
        ({"retries": -1}, "allowed: 0 to 100"),
        ({"backoff_s": -1.0}, "allowed: 0 or more"),
        ({"timeout_s": 0.0}, "allowed: above 0"),
    ],
)
def test_settings_out_of_range_are_refused(settings, sentence):
    with pytest.raises(ValueError, match=sentence):
        HubConfig(**settings)
