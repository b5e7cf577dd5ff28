"""A match index in a file stands for the positions of both surveys, and for nothing else than what it was made of."""

from dataclasses import replace
from random import Random

import numpy as np
import pytest
from damages import damage_file

from mmagn.matching.config import MatchingConfig
from mmagn.matching.index import pair_index
from mmagn.matching.index_file import read_index, write_index
from mmagn.matching.provenance import Provenance, store_settings
from mmagn.matching.store import pair_store
from mmagn.surveys.readers import survey_reader


def provenance_of(data, matching) -> Provenance:
    reader = survey_reader(data)
    return Provenance(settings=store_settings(matching, reader), sources=reader.sources())


@pytest.fixture
def index_file(data, tmp_path):
    path = tmp_path / "pairs.parquet"
    write_index(path, pair_index(data, MatchingConfig()), provenance_of(data, MatchingConfig()))
    return path


def test_a_store_from_an_index_reads_no_positions_and_is_the_store_without_one(data, index_file, tmp_path, monkeypatch):
    expected = pair_store(data, MatchingConfig(workers=1), tmp_path / "expected")

    def read(*_):
        raise AssertionError("positions were read")

    monkeypatch.setattr("mmagn.matching.store.pair_index", read)
    store = pair_store(data, MatchingConfig(workers=1), tmp_path / "store", index_file)
    assert [str(name) for name in store.index["sdss_object_id"]] == [
        str(name) for name in expected.index["sdss_object_id"]
    ]
    for number in range(len(store)):
        np.testing.assert_array_equal(store.pair(number).cutout.flux, expected.pair(number).cutout.flux)
        np.testing.assert_array_equal(store.pair(number).spectrum.flux, expected.pair(number).spectrum.flux)
    assert store.report["pairs"] == expected.report["pairs"]


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"radius_arcsec": 2.0}, r"index .* was made with matching\.radius_arcsec 1\.0, and 2\.0 is requested"),
        ({"image_dtype": "float16"}, ""),
    ],
)
def test_an_index_of_other_settings_is_refused_where_they_shape_it(data, index_file, changes, sentence):
    matching = replace(MatchingConfig(), **changes)
    if sentence:
        with pytest.raises(ValueError, match=sentence):
            read_index(index_file, provenance_of(data, matching))
    else:
        assert len(read_index(index_file, provenance_of(data, matching)).matches)


def test_an_index_of_other_files_is_refused_by_name(data, index_file):
    wanted = provenance_of(data, MatchingConfig())
    changed = (replace(wanted.sources[0], version="other"), *wanted.sources[1:])
    with pytest.raises(ValueError, match=f"{wanted.sources[0].name} has another size or version since the match index"):
        read_index(index_file, replace(wanted, sources=changed))


def test_a_file_that_is_no_index_is_refused(data, tmp_path):
    wanted = provenance_of(data, MatchingConfig())
    with pytest.raises(FileNotFoundError, match="match --plan writes one"):
        read_index(tmp_path / "none.parquet", wanted)
    (tmp_path / "text.parquet").write_text("no")
    with pytest.raises(ValueError, match="cannot be read as a match index"):
        read_index(tmp_path / "text.parquet", wanted)


def test_a_damaged_index_is_refused_or_the_same(data, index_file):
    wanted, sound = provenance_of(data, MatchingConfig()), index_file.read_bytes()
    expected, refused = read_index(index_file, wanted), 0
    for seed in range(200):
        index_file.write_bytes(sound)
        damage_file(index_file, Random(seed))
        try:
            index = read_index(index_file, wanted)
        except ValueError as error:
            assert "cannot be read as a match index" in str(error)
            refused += 1
            continue
        np.testing.assert_array_equal(index.sdss.object_id, expected.sdss.object_id)
        np.testing.assert_array_equal(index.hsc.row, expected.hsc.row)
        assert index.report == expected.report
    assert refused > 100
