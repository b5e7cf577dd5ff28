"""DESI beside SDSS in a Multimodal Universe v1 tree."""

from collections import Counter

import numpy as np
import pytest
from astropy.io import fits

from mmagn.spectroscopy.config import SpectroscopyConfig
from mmagn.spectroscopy.emission import line_table
from mmagn.surveys.config import DataConfig
from mmagn.surveys.desi_files import DesiCoadd
from mmagn.surveys.reader import iter_spectra, warn_once
from mmagn.surveys.readers import survey_reader

PLACE = {"ra": 150.1, "dec": 2.2}
GRID = 3600 + 0.8 * np.arange(7781)


def spectra_of(root, drops=None, **settings):
    reader = survey_reader(DataConfig(source="hdf5", root=str(root), spectra=("sdss", "boss", "desi"), **settings))
    return list(iter_spectra(reader, Counter() if drops is None else drops))


def test_spectra_of_all_surveys_are_one_catalogue(tmp_path, v1_tree):
    sdss = [{"object_id": 1, **PLACE}, {"object_id": 2, "ra": 150.2, "dec": 2.2}]
    v1_tree(tmp_path, sdss=sdss, desi=[{"object_id": 39627, "ra": 150.3, "dec": 2.2, "ZWARN": 4}])
    spectra = spectra_of(tmp_path)
    assert [(each.object_id, each.survey, each.zwarning) for each in spectra] == [
        ("1", "sdss", 0),
        ("2", "sdss", 0),
        ("39627", "desi", 4),
    ]
    assert (spectra[2].spectral_class, spectra[2].redshift, len(spectra[2].flux)) == ("GALAXY", 0.1, 4359)
    peak = spectra[2].wavelength_angstrom[np.argmax(spectra[2].flux)]
    assert peak == pytest.approx(7221, abs=1)


def test_a_folder_of_desi_alone_is_enough_and_a_missing_one_is_named(tmp_path, v1_tree):
    v1_tree(tmp_path, desi=[{"object_id": 39627, **PLACE}])
    assert [each.object_id for each in spectra_of(tmp_path)] == ["39627"]
    with pytest.raises(FileNotFoundError, match=r"no folder sdss/sdss or .*desi/dr1_main .data.spectra.*holds edr_sv3"):
        spectra_of(tmp_path, desi_survey="dr1_main")


def test_a_missing_folder_that_was_asked_for_is_a_warning_with_its_setting(tmp_path, v1_tree, caplog):
    v1_tree(tmp_path, sdss=[{"object_id": 1, **PLACE}], desi=[{"object_id": 39627, **PLACE}])
    warn_once.cache_clear()
    spectra_of(tmp_path, desi_survey="edr_sv33")
    assert [record.levelname for record in caplog.records] == ["WARNING", "WARNING"]
    assert "no folder sdss/boss (data.spectra); sdss/ holds sdss" in caplog.text
    assert "no folder desi/edr_sv33 (data.spectra, data.desi_survey); desi/ holds edr_sv3" in caplog.text


def test_the_default_surveys_are_those_that_are_there(tmp_path, v1_tree, caplog):
    caplog.set_level("INFO")
    v1_tree(tmp_path, sdss=[{"object_id": 1, **PLACE}])
    assert len(list(iter_spectra(survey_reader(DataConfig(source="hdf5", root=str(tmp_path))), Counter()))) == 1
    assert "no folder" not in caplog.text


def test_losses_of_desi_are_counted_under_its_name(tmp_path, v1_tree):
    rows = [{"object_id": 1, **PLACE}, {"object_id": 2, **PLACE, "Z": 2.5}, {"object_id": 3, **PLACE, "Z": np.nan}]
    rows += [{"object_id": 4, **PLACE, "spectrum_lambda": GRID / 10}]
    drops = Counter()
    assert [each.object_id for each in spectra_of(v1_tree(tmp_path, desi=rows), drops)] == ["1"]
    assert sorted(name.partition(": ")[2][:40] for name in drops if name.startswith("desi: ")) == [
        "redshift is not finite",
        "redshift is outside data.redshift_min 0.",
        "spectrum_lambda has 7781 pixels with val",
    ]


@pytest.mark.parametrize("good", [True, False])
def test_bool_warnings_mean_what_most_rows_say(tmp_path, v1_tree, good):
    rows = [{"object_id": number, **PLACE, "ZWARN": good != (number == 5)} for number in range(1, 8)]
    warnings = {each.object_id: each.zwarning for each in spectra_of(v1_tree(tmp_path, desi=rows))}
    assert [int(number) for number, warning in warnings.items() if warning] == [5]


def test_a_file_whose_warnings_tell_nothing_is_left_out_with_the_reason(tmp_path, v1_tree):
    rows = [{"object_id": number, **PLACE, "ZWARN": number < 3} for number in range(1, 5)]
    drops = Counter()
    assert spectra_of(v1_tree(tmp_path, desi=rows), drops) == []
    assert "ZWARN is True in 2 of 4 rows, which does not tell whether True or False is good" in " ".join(drops)


def test_a_real_spectrum_has_one_set_of_lines_as_a_row_and_as_a_file(tmp_path, v1_tree, real_tree):
    names = [real_tree / "desi_fits" / f"{kind}-4-80613-thru20210324.fits" for kind in ("coadd", "redrock")]
    with fits.open(names[0]) as opened:
        arms = {kind: [opened[f"{arm}_{kind}"].data[0] for arm in "BRZ"] for kind in ("FLUX", "IVAR")}
        waves = [opened[f"{arm}_WAVELENGTH"].data for arm in "BRZ"]
    parts = [(3599, 5780), (5780, 7570), (7570, 9825)]  # without the overlaps of the arms
    used = [(wave > low) & (wave < high) for wave, (low, high) in zip(waves, parts, strict=True)]
    flux, ivar = (np.concatenate([a[u] for a, u in zip(arms[kind], used, strict=True)]) for kind in ("FLUX", "IVAR"))
    single = DesiCoadd.read(*names).spectrum()
    place = {"ra": single.ra_deg, "dec": single.dec_deg, "Z": single.redshift}
    row = {"object_id": int(single.object_id), **place, "spectrum_flux": flux, "spectrum_ivar": ivar}
    of_tree = spectra_of(v1_tree(tmp_path, desi=[row]))
    assert [each.object_id for each in of_tree] == [single.object_id]
    config = SpectroscopyConfig(device="cpu", continuum="local")
    table = line_table([single, *of_tree], config)
    for line in ("hbeta", "oiii_5007", "halpha", "nii_6584", "sii_6718"):
        assert table[f"flux_{line}"][1] == pytest.approx(table[f"flux_{line}"][0], rel=0.01)
        assert table[f"flux_{line}"][1] > 50 * table[f"flux_{line}_err"][1]
