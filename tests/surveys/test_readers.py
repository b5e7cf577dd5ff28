"""Every source is read through the same door."""

import pickle
from collections import Counter
from types import SimpleNamespace

import numpy as np
import pytest

from mmagn.surveys.config import DataConfig, SimulateConfig
from mmagn.surveys.hdf5.reader import Hdf5Reader
from mmagn.surveys.reader import iter_spectra, reading_settings
from mmagn.surveys.readers import survey_reader

SDSS = [{"object_id": 1, "ra": 10.0, "dec": 1.0}, {"object_id": 2, "ra": 10.01, "dec": 1.0}]
HSC = [{"object_id": 8, "ra": 10.0, "dec": 1.0}]


def test_a_reader_sent_to_another_process_reads_the_same(v1_tree, tmp_path):
    v1_tree(tmp_path, sdss=SDSS, hsc=HSC)
    reader = pickle.loads(pickle.dumps(survey_reader(DataConfig(source="hdf5", root=str(tmp_path)))))
    drops: Counter[str] = Counter()
    catalog = reader.read_sdss_catalog(drops)
    ((row, spectrum),) = reader.read_spectra(catalog.files[0], catalog.row[1:])
    assert (row, spectrum.object_id) == (1, "2")
    (images,) = reader.read_hsc_catalog(drops).files
    ((_, cutout),) = reader.read_cutouts(images, np.array([0]))
    assert cutout.object_id == "8"
    assert [spectrum.object_id for spectrum in iter_spectra(reader, drops)] == ["1", "2"]


def test_sources_are_named_below_the_root_and_change_with_the_files(v1_tree, tmp_path):
    v1_tree(tmp_path, sdss=SDSS, hsc=HSC)
    reader = survey_reader(DataConfig(source="hdf5", root=str(tmp_path)))
    before = reader.sources()
    assert [source.name.split("/")[0] for source in before] == ["hsc", "sdss"]
    (tmp_path / before[0].name).touch()
    assert reader.sources()[0] != before[0]
    assert reader.sources()[1:] == before[1:]


def test_the_embedded_survey_is_described_by_its_settings_alone():
    reader = survey_reader(DataConfig(simulate=SimulateConfig(seed=7)))
    assert reader.sources() == ()
    assert reader.settings()["data.simulate.seed"] == 7
    assert isinstance(reader, Hdf5Reader)


def test_a_source_of_pairs_has_no_surveys():
    with pytest.raises(ValueError, match=r"data\.source store holds pairs already"):
        survey_reader(SimpleNamespace(source="store"))


def test_the_settings_of_a_source_are_those_in_effect_that_affect_its_pairs_apart_from_where_they_are(tmp_path) -> None:
    listed = tmp_path / "objects.csv"
    listed.write_text("object_id\n1\n", encoding="utf-8")

    def names(source: str, **settings) -> set[str]:
        return {name.removeprefix("data.") for name in reading_settings(DataConfig(source=source, **settings))}

    every = {"source", "objects", "cells", "redshift_min", "redshift_max"}
    assert names("files", table="t.csv") == every | {"wavelengths"}
    assert names("hdf5", root="tree") == every | {"spectra", "desi_survey", "hsc_survey"}
    rows = every | {"spectra", "image_noise"}
    assert names("hub") == rows | {"hub.sdss", "hub.desi", "hub.hsc"}, "the commits are among the sources"
    assert names("hats") == rows | {"hats.sdss_survey"}
    assert {"simulate.seed", "simulate.pairs"} < names("embedded")
    ours = [reading_settings(DataConfig(objects=str(listed)))["data.objects"]]
    listed.write_text("object_id\n2\n", encoding="utf-8")
    ours.append(reading_settings(DataConfig(objects=str(listed)))["data.objects"])
    assert len({*ours, None}) == 3, "a list of objects is its content"
