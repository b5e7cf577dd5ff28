"""DESI spectra of the embedded survey are read as published ones are, and have the lines of their galaxies."""

from collections import Counter
from dataclasses import replace

import h5py
import numpy as np
import pytest
from astropy.table import Table

from mmagn.matching.config import MatchingConfig
from mmagn.matching.index import pair_index
from mmagn.spectroscopy.config import SpectroscopyConfig
from mmagn.spectroscopy.emission import line_table
from mmagn.surveys.config import DataConfig, SimulateConfig
from mmagn.surveys.desi import GRID_ANGSTROM
from mmagn.surveys.reader import iter_spectra
from mmagn.surveys.readers import survey_reader
from mmagn.surveys.simulate.survey import write_survey

CONFIG = SimulateConfig(pairs=40, unmatched=0.1, cells=2, seed=5, desi=0.5)


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    out = tmp_path_factory.mktemp("survey") / "tree"
    write_survey(out, CONFIG)
    return out


@pytest.fixture(scope="module")
def truth(tree):
    return Table.read(tree / "truth.parquet")


def settings_of(tree, *spectra):
    return DataConfig(source="hdf5", root=str(tree), spectra=spectra)


def test_files_are_laid_out_as_published(tree):
    with h5py.File(next((tree / "desi" / "edr_sv3").rglob("*.hdf5"))) as file:
        expected = {"object_id": "<i8", "ra": "<f8", "Z": "<f8", "ZERR": "<f8", "ZWARN": "<i8", "SPECTYPE": "|S6"}
        expected |= {f"spectrum_{name}": "<f4" for name in ("flux", "ivar", "lambda", "lsf_sigma")}
        assert {name: file[name].dtype.str for name in expected} == expected
        np.testing.assert_allclose(file["spectrum_lambda"][0], GRID_ANGSTROM, rtol=1e-6)
        assert 0.84 < np.median(file["spectrum_lsf_sigma"]) < 0.9
        assert 0.001 < np.mean(file["spectrum_mask"]) < 0.05


def test_lines_of_desi_are_those_of_the_truth(tree, truth):
    drops = Counter()
    spectra = list(iter_spectra(survey_reader(settings_of(tree, "desi")), drops))
    assert (len(spectra), sum(drops.values())) == (20, 0)
    lines = line_table(spectra, SpectroscopyConfig(device="cpu"))
    row = {name: number for number, name in enumerate(truth["object_id"])}
    of_truth = truth[[row[spectrum.object_id] for spectrum in spectra]]
    assert set(of_truth["survey"]) == {"desi"}
    narrow = np.asarray(of_truth["bpt_class"]) != "broad-line"
    for name in ("halpha", "oiii_5007", "hbeta", "nii_6584"):
        flux, error, expected = (
            np.asarray(each) for each in (lines[f"flux_{name}"], lines[f"flux_{name}_err"], of_truth[f"flux_{name}"])
        )
        strong = narrow & (expected > 5 * error)
        assert np.count_nonzero(strong) > 10
        assert np.median(flux[strong] / expected[strong]) == pytest.approx(1, abs=0.05)
        assert np.median(np.abs(flux - expected)[strong] / error[strong]) < 1.2


def test_the_same_galaxy_in_two_surveys_is_one_pair(tree, truth):
    index = pair_index(settings_of(tree, "sdss", "boss", "desi"), MatchingConfig())
    assert len(index.report.repeats) == 20
    assert len(set(index.hsc.object_id[index.matches.right_index])) == len(index.matches) == 40
    galaxy = dict(zip(truth["object_id"], truth["hsc_object_id"], strict=True))
    for kept, others in index.report.repeats.items():
        assert [galaxy[name] for name in others] == [galaxy[kept]]


def test_the_other_surveys_do_not_change_with_desi(tree, tmp_path):
    write_survey(tmp_path / "without", replace(CONFIG, desi=0.0))
    assert not (tmp_path / "without" / "desi").exists()
    for path in (tmp_path / "without" / "sdss").rglob("*.hdf5"):
        with h5py.File(path) as ours, h5py.File(tree / path.relative_to(tmp_path / "without")) as theirs:
            np.testing.assert_array_equal(ours["spectrum_flux"][()], theirs["spectrum_flux"][()])
