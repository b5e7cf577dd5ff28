"""Each row of a table and each file of a folder is one galaxy under its own name, with the numbers that are stated."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from astropy import units as u
from astropy.io import fits
from astropy.table import Column, Table
from fits_images import DEC_DEG, RA_DEG, write_bands, write_cutout

from mmagn.surveys import desi_files
from mmagn.surveys.config import DataConfig
from mmagn.surveys.files.objects import object_files
from mmagn.surveys.files.spectra import path_and_member, read_spectrum
from mmagn.surveys.reader import iter_spectra
from mmagn.surveys.readers import survey_reader


def reader_of(place: Path, **settings):
    return survey_reader(DataConfig(source="files", table=str(place), **settings))


def images_of(place: Path, drops: Counter | None = None, **settings):
    return reader_of(place, **settings).read_hsc_catalog(Counter() if drops is None else drops)


@pytest.mark.parametrize("unit", ["deg", "hourangle", "rad"])
def test_positions_in_a_unit_are_degrees(tmp_path, unit):
    write_cutout(tmp_path / "a.fits")
    ra, dec = (Column([(value * u.deg).to_value(unit)], unit=unit) for value in (RA_DEG, DEC_DEG))
    Table({"ra": ra, "dec": dec, "image": ["a.fits"]}).write(tmp_path / "objects.ecsv")
    catalog = images_of(tmp_path / "objects.ecsv")
    np.testing.assert_allclose((catalog.ra_deg, catalog.dec_deg), [[RA_DEG], [DEC_DEG]], rtol=1e-12)


@pytest.mark.parametrize(
    ("columns", "sentence"),
    [
        ({"ra": ["150.1", "10:00:28.6"], "dec": [2.2, 2.2]}, r"csv row 2, column ra has 10:00:28\.6; .*numbers in deg"),
        ({"redshift": ["0.1", "z=0.2"]}, r"csv row 2, column redshift has z=0\.2; allowed: numbers$"),
        ({"image": ["a.fits", ""]}, r"csv row 2 names no file; allowed: a spectrum, an image, or both"),
    ],
)
def test_a_row_that_cannot_be_read_is_named(tmp_path, columns, sentence):
    write_cutout(tmp_path / "a.fits")
    Table({"image": ["a.fits", "a.fits"], **columns}).write(tmp_path / "objects.csv")
    with pytest.raises(ValueError, match=sentence):
        object_files(tmp_path / "objects.csv")


def test_a_redshift_in_another_unit_is_refused(tmp_path):
    write_cutout(tmp_path / "a.fits")
    Table({"image": ["a.fits"], "redshift": Column([3000.0], unit="km/s")}).write(tmp_path / "objects.ecsv")
    with pytest.raises(ValueError, match=r"objects\.ecsv column redshift has the unit km / s; allowed: numbers"):
        object_files(tmp_path / "objects.ecsv")


def test_images_of_one_name_in_several_folders_are_several_galaxies(tmp_path):
    for number in range(2):
        position = (RA_DEG + number, DEC_DEG)
        write_bands(tmp_path / f"gal{number}", "cutout-HSC-{}.fits", "gi", position=position)
        write_cutout(tmp_path / f"other-cutout-HSC-I-{number}.fits", position=(RA_DEG + number, 1.0))
    drops = Counter()
    names = ["gal0/cutout-HSC-G", "gal1/cutout-HSC-G", "other-cutout-HSC-I-0", "other-cutout-HSC-I-1"]
    assert sorted(images_of(tmp_path, drops).object_id) == names
    paths = [f"gal{number}/cutout-HSC-I.fits" for number in range(2)]
    Table({"image": paths}).write(tmp_path / "objects.csv")
    assert images_of(tmp_path / "objects.csv", drops).object_id.tolist() == [path[:-5] for path in paths]
    assert not drops


def test_bands_of_one_galaxy_under_several_names_are_warned_of(tmp_path, caplog):
    for number, band in enumerate("gri", start=2):
        write_cutout(tmp_path / f"{number}-cutout-HSC-{band.upper()}-9813.fits", band)
    write_cutout(tmp_path / "8-cutout-HSC-Z-9813.fits", "z", position=(RA_DEG, DEC_DEG + 2 / 3600))
    assert len(images_of(tmp_path)) == 4
    assert "3 images of one band each have the centre of one in another band, such as 2-cutout-HSC-G" in caplog.text
    for path in tmp_path.glob("[34]-*"):
        path.rename(path.with_name(f"2{path.name[1:]}"))
    caplog.clear()
    assert len(images_of(tmp_path)) == 2
    assert not caplog.records


def test_objects_without_a_position_are_counted_in_chosen_cells_too(tmp_path):
    write_cutout(tmp_path / "a.fits")
    table = Table({"image": ["a.fits"] * 2, "object_id": ["a", "b"], "ra": [RA_DEG, RA_DEG], "dec": [DEC_DEG, 95.0]})
    table.write(tmp_path / "objects.csv")
    everywhere, drops = images_of(tmp_path / "objects.csv"), Counter()
    chosen = images_of(tmp_path / "objects.csv", drops, cells=(int(everywhere.healpix[0]),))
    assert chosen.object_id.tolist() == ["a"]
    assert drops == {"hsc: position is not finite or off the sphere": 1}


def test_a_number_sign_in_a_folder_is_part_of_the_path(tmp_path):
    folder = tmp_path / "run#1"
    write_cutout(folder / "a#b.fits")
    assert path_and_member(str(folder / "a#b.fits")) == (str(folder / "a#b.fits"), "")
    assert path_and_member(str(folder / "plate.fits#12")) == (str(folder / "plate.fits"), "12")
    assert path_and_member(str(folder / "missing.fits")) == (str(folder / "missing.fits"), "")


def test_a_member_that_is_not_there_is_refused(real_tree):
    spec = real_tree / "spec_fits" / "spec-0295-51585-0596.fits"
    with pytest.raises(ValueError, match=r"spec-0295-51585-0596\.fits holds one spectrum, none of which is #999"):
        read_spectrum(f"{spec}#999")


@pytest.fixture
def coadd(real_tree, tmp_path) -> Path:
    """A folder with a DESI coadd of five targets, all with the same real spectrum, and its redshifts."""
    for kind in ("coadd", "redrock"):
        with fits.open(real_tree / "desi_fits" / f"{kind}-special-dark-27247.fits") as hdus:
            for hdu in hdus[1:]:
                if hdu.data is not None and hdu.data.shape[0] == 1:
                    hdu.data = np.repeat(hdu.data, 5, axis=0)
                    if "TARGETID" in (getattr(hdu, "columns", None) or fits.ColDefs([])).names:
                        hdu.data["TARGETID"] += np.arange(5)
            hdus.writeto(tmp_path / f"{kind}-five.fits")
    return tmp_path


def test_a_coadd_of_many_targets_is_resampled_once_for_each_view_of_a_target(coadd, monkeypatch):
    made = []
    whole = desi_files.grid_spectrum
    monkeypatch.setattr(desi_files, "grid_spectrum", lambda **parts: made.append(1) or whole(**parts))
    first = int(read_spectrum(str(coadd / "coadd-five.fits#39089837499744649")).object_id)
    assert len(made) == 1
    spectra = list(iter_spectra(reader_of(coadd), Counter()))
    assert [int(spectrum.object_id) - first for spectrum in spectra] == [0, 1, 2, 3, 4]
    assert len(made) == 1 + 2 * 5


def test_a_coadd_is_opened_once_for_all_of_its_targets_and_again_where_it_has_changed(coadd, monkeypatch):
    opened = []
    read = desi_files.DesiCoadd.read
    monkeypatch.setattr(desi_files.DesiCoadd, "read", lambda *files: opened.append(files) or read(*files))
    path = coadd / "coadd-five.fits"
    alone = read(path, coadd / "redrock-five.fits")
    spectra = list(iter_spectra(reader_of(coadd), Counter()))
    assert len(opened) == 1
    for row, spectrum in enumerate(spectra):
        assert spectrum.object_id == alone.targets[row]
        np.testing.assert_array_equal(spectrum.flux, alone.spectrum(alone.targets[row]).flux)
    with fits.open(coadd / "redrock-five.fits", mode="update") as hdus:
        hdus["REDSHIFTS"].data["Z"] += 0.1
    (again,) = (read_spectrum(f"{path}#{each.object_id}") for each in spectra[3:4])
    assert again.redshift == pytest.approx(spectra[3].redshift + 0.1)
    assert len(opened) == 2


def test_a_changed_file_of_redshifts_is_another_source(coadd):
    before = reader_of(coadd).sources()
    assert [source.name for source in before] == ["coadd-five.fits", "redrock-five.fits"]
    (coadd / "redrock-five.fits").touch()
    assert reader_of(coadd).sources() != before


def test_files_of_one_name_outside_of_the_folder_are_two_sources(tmp_path):
    paths = [write_cutout(tmp_path / place / "a.fits") for place in ("x", "y")]
    (tmp_path / "tables").mkdir()
    Table({"image": [str(path) for path in paths]}).write(tmp_path / "tables" / "objects.csv")
    names = [source.name for source in reader_of(tmp_path / "tables" / "objects.csv").sources()]
    assert names == ["objects.csv", *map(str, paths)]
