"""Tables and folders of files are a source as any other: positions, spectra, cutouts, and a reason for each loss."""

import pickle
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from astropy.table import MaskedColumn, Table
from fits_images import write_bands, write_cutout

from mmagn.labels.config import LabelsConfig
from mmagn.matching.config import MatchingConfig
from mmagn.matching.objects import object_parts
from mmagn.matching.store import pair_store
from mmagn.measurement.stream import measured_tables
from mmagn.measurement.table import MeasurementSettings
from mmagn.spectroscopy.config import SpectroscopyConfig
from mmagn.storage.tables import SUFFIXES, table_file
from mmagn.surveys.config import DataConfig
from mmagn.surveys.reader import iter_spectra, usable
from mmagn.surveys.readers import survey_reader

SPECS = ("spec-0295-51585-0596", "spec-0403-51871-0462", "spec-1014-52707-0584")


@pytest.fixture
def galaxies(real_tree: Path, tmp_path: Path) -> Path:
    """A folder with real spectra and drawn images of the same galaxies: all bands, two bands, none."""
    for name in SPECS:
        (tmp_path / f"{name}.fits").write_bytes((real_tree / "spec_fits" / f"{name}.fits").read_bytes())
    for number, (name, bands) in enumerate(zip(SPECS, ("grizy", "gi"), strict=False)):
        with fits.open(tmp_path / f"{name}.fits") as hdus:
            about = hdus["SPECOBJ"].data[0]
            position = float(about["PLUG_RA"]), float(about["PLUG_DEC"])
        write_bands(tmp_path, f"{number}-cutout-HSC-{{}}-9813.fits", bands, position=position)
    return tmp_path


def a_table(folder: Path) -> Table:
    names = [f"{name}.fits" for name in SPECS]
    columns = {"object_id": ["a", "b", "c"], "spectrum": names}
    for band in "grizy":
        paths = [f"{number}-cutout-HSC-{band.upper()}-9813.fits" for number in range(3)]
        columns[f"image_{band}"] = [path if (folder / path).is_file() else "" for path in paths]
    return Table(columns)


def written(table: Table, path: Path) -> DataConfig:
    with table_file(path) as append:
        append(table)
    return DataConfig(source="files", table=str(path))


def records(data: DataConfig, drops: Counter) -> tuple[dict, dict]:
    reader = pickle.loads(pickle.dumps(survey_reader(data)))
    views = []
    for read, catalog in (
        (reader.read_spectra, reader.read_sdss_catalog(drops)),
        (reader.read_cutouts, reader.read_hsc_catalog(drops)),
    ):
        views.append({record.object_id: record for _, record in usable(read(catalog.files[0], catalog.row), drops)})
    return views[0], views[1]


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_table_of_any_format_names_the_views_of_each_galaxy(galaxies, suffix):
    drops = Counter()
    spectra, cutouts = records(written(a_table(galaxies), galaxies / f"objects{suffix}"), drops)
    assert (sorted(spectra), sorted(cutouts), drops) == (["a", "b", "c"], ["a", "b"], Counter())
    assert [band.any() for band in cutouts["b"].valid] == [True, False, True, False, False]
    assert cutouts["a"].ra_deg == spectra["a"].ra_deg


def test_the_table_goes_before_the_files(galaxies):
    table = a_table(galaxies)["spectrum", "image_g"]
    table["redshift"] = MaskedColumn([0.2, 0.0, 0.3], mask=[False, True, False])
    table["ra"], table["dec"] = [199.256, np.nan, 174.69], [0.7527, np.nan, 54.99]
    spectra, cutouts = records(written(table, galaxies / "objects.ecsv"), Counter())
    by_redshift = sorted(spectra.values(), key=lambda spectrum: spectrum.redshift)
    assert [round(spectrum.redshift, 4) for spectrum in by_redshift] == [0.137, 0.2, 0.3]
    assert by_redshift[1].ra_deg == 199.256
    assert by_redshift[0].object_id == "453864687440783360"
    assert {cutout.ra_deg for cutout in cutouts.values()} == {199.256, by_redshift[0].ra_deg}


def test_a_folder_and_a_table_give_the_same_pairs(galaxies, tmp_path):
    matching = MatchingConfig()
    table = a_table(galaxies)
    del table["object_id"]
    stores = []
    for data in (written(table, galaxies / "objects.csv"), DataConfig(source="files", table=str(galaxies))):
        out = tmp_path / f"store-{len(stores)}"
        stores.append(pair_store(data, matching, out))
        again = pair_store(DataConfig(source="store", root=str(out)), matching)
        assert len(again) == 2
    ours, theirs = ({store.pair(n).spectrum.object_id: store.pair(n) for n in range(2)} for store in stores)
    assert ours.keys() == theirs.keys()
    for name, pair in ours.items():
        np.testing.assert_array_equal(pair.spectrum.flux, theirs[name].spectrum.flux)
        # a folder knows the middle of an image alone, a table the position of the spectrum
        bright = [int(np.argmax(each.cutout.flux[2])) for each in (pair, theirs[name])]
        assert abs(bright[0] - bright[1]) in (0, 1, 160, 161)
        assert theirs[name].separation_arcsec < 0.2
        assert pair.separation_arcsec == 0


def test_galaxies_with_one_view_are_there_for_prediction(galaxies):
    drops = Counter()
    parts = object_parts(written(a_table(galaxies), galaxies / "objects.csv"), MatchingConfig(), "all", drops)
    galaxy = [galaxy for part in parts for galaxy in part.galaxies(drops)]
    assert [each.missing for each in galaxy] == [(), ("band r", "band z", "band y"), ("image",)]
    images = a_table(galaxies)["object_id", "image_g", "image_i"][:2]
    parts = object_parts(written(images, galaxies / "images.csv"), MatchingConfig(), "all", drops)
    assert [galaxy.spectrum for part in parts for galaxy in part.galaxies(drops)] == [None, None]


def test_spectra_of_a_folder_are_measured(galaxies):
    spectra = iter_spectra(survey_reader(DataConfig(source="files", table=str(galaxies))), Counter())
    settings = MeasurementSettings(spectroscopy=SpectroscopyConfig(device="cpu"), labels=LabelsConfig())
    (table,) = measured_tables(spectra, settings)
    assert table["bpt_class"].tolist()[-1] != ""
    assert len(table) == 3


def test_desi_coadds_of_a_folder_are_read_by_target(real_tree):
    data = DataConfig(source="files", table=str(real_tree / "desi_fits"))
    spectra = {spectrum.object_id: spectrum for spectrum in iter_spectra(survey_reader(data), Counter())}
    assert {name: round(spectrum.redshift, 5) for name, spectrum in spectra.items()} == {
        "39633345008634465": 0.36874,
        "39089837499744649": 0.00727,
    }


def test_pairs_of_any_survey_are_read_back_from_their_store(real_tree, tmp_path):
    for kind in ("coadd", "redrock"):
        path = real_tree / "desi_fits" / f"{kind}-4-80613-thru20210324.fits"
        (tmp_path / path.name).write_bytes(path.read_bytes())
    data = DataConfig(source="files", table=str(tmp_path))
    (spectrum,) = iter_spectra(survey_reader(data), Counter())
    write_bands(tmp_path, bands="i", position=(spectrum.ra_deg, spectrum.dec_deg))
    pair_store(data, MatchingConfig(), tmp_path / "store")
    stored = pair_store(DataConfig(source="store", root=str(tmp_path / "store")), MatchingConfig())
    assert [stored.pair(number).spectrum.survey for number in range(len(stored))] == ["desi"]


def test_rows_that_cannot_be_used_are_counted_and_the_others_read(galaxies):
    table = a_table(galaxies)
    (galaxies / f"{SPECS[1]}.fits").write_bytes(b"SIMPLE  =                    T")
    with fits.open(galaxies / f"{SPECS[2]}.fits", mode="update") as hdus:
        hdus["SPECOBJ"].data["Z"] = np.nan
    write_cutout(galaxies / "9-cutout-HSC-I-9813.fits", "i", position=(10.0, 10.0))
    table["image_i"][0] = "9-cutout-HSC-I-9813.fits"
    drops = Counter()
    spectra, cutouts = records(written(table, galaxies / "objects.csv"), drops)
    assert (list(spectra), list(cutouts)) == (["a"], ["b"])
    reasons = "\n".join(drops)
    assert f"sdss: {SPECS[1]}.fits cannot be read as FITS" in reasons
    assert f"sdss: {SPECS[2]}.fits has no redshift, without which no line can be measured" in reasons
    assert "hsc: the position 199.255920 0.752694 lies outside of the image 9-cutout-HSC-I-9813.fits" in reasons
    assert sum(drops.values()) == 3


def test_a_table_that_names_nothing_or_missing_files_is_refused(galaxies):
    table = a_table(galaxies)
    nameless = written(table["object_id",], galaxies / "ids.csv")
    with pytest.raises(ValueError, match=r"ids\.csv names no file: its columns are object_id; allowed: spectrum"):
        survey_reader(nameless).read_sdss_catalog(Counter())
    (galaxies / f"{SPECS[1]}.fits").unlink()
    missing = written(table, galaxies / "objects.csv")
    with pytest.raises(FileNotFoundError, match=rf"objects\.csv row 2: .*{SPECS[1]}\.fits is missing"):
        survey_reader(missing).sources()
    with pytest.raises(ValueError, match=r"data\.source files needs data\.table"):
        DataConfig(source="files")
    with pytest.raises(FileNotFoundError, match=r"nowhere\.csv is missing; allowed: a table or a folder"):
        survey_reader(DataConfig(source="files", table=str(galaxies / "nowhere.csv"))).read_hsc_catalog(Counter())
    (galaxies / "empty").mkdir()
    with pytest.raises(ValueError, match=r"empty holds no file of a known name; allowed: spec-\*\.fits"):
        survey_reader(DataConfig(source="files", table=str(galaxies / "empty"))).read_sdss_catalog(Counter())
    (galaxies / "bad.ecsv").write_text("no table\n")
    with pytest.raises(ValueError, match=r"bad\.ecsv cannot be read as a table"):
        survey_reader(DataConfig(source="files", table=str(galaxies / "bad.ecsv"))).read_sdss_catalog(Counter())


def test_a_changed_file_makes_another_store(galaxies, tmp_path):
    data = DataConfig(source="files", table=str(galaxies), cache_dir=str(tmp_path / "cache"))
    before = pair_store(data, MatchingConfig()).fingerprint
    path = galaxies / f"{SPECS[0]}.fits"
    path.write_bytes(path.read_bytes())
    assert pair_store(data, MatchingConfig()).fingerprint != before
