"""One galaxy in files of its own, or a table of them, is predicted, explained and drawn; what is missing is said."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from astropy.table import Table
from fits_images import NAME, write_bands

import mmagn
from mmagn.cli.data import measure, plot_spectrum
from mmagn.cli.prediction import explain, predict
from mmagn.surveys.readers import survey_reader

SPEC = "spec-0295-51585-0596.fits"
POSITION = (199.25592, 0.75269357)


@pytest.fixture(scope="module")
def files(real_tree: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a real spectrum and drawn images around its position."""
    folder = tmp_path_factory.mktemp("files")
    (folder / SPEC).write_bytes((real_tree / "spec_fits" / SPEC).read_bytes())
    return write_bands(folder, position=POSITION, size=170)


def output(capsys: pytest.CaptureFixture[str]) -> str:
    captured = capsys.readouterr()
    return captured.out + captured.err


def test_one_galaxy_is_predicted_from_its_files(world, files, capsys, tmp_path):
    command = ["--run", str(world["run"]), "--spectrum", str(files / SPEC)]
    assert predict([*command, "--image", str(files / NAME.format("*"))]) == 0
    text = output(capsys)
    assert "332304326343026688: P(AGN) = " in text
    assert "from image+spectrum" in text
    assert "without" not in text
    galaxy = mmagn.read_galaxy(files / SPEC, files / NAME.format("*"))
    assert galaxy.missing == ()
    table = mmagn.load(world["run"]).predict(galaxy)
    assert f"P(AGN) = {table['calibrated_probability'][0]:.3f}" in text
    assert predict([*command, "--out", str(tmp_path / "one.ecsv")]) == 0
    assert "without image" in output(capsys)
    assert Table.read(tmp_path / "one.ecsv")["modalities"].tolist() == ["spectrum"]


def test_missing_bands_and_a_missing_spectrum_are_said(world, files, capsys):
    command = ["--run", str(world["run"]), "--image", str(files / NAME.format("I"))]
    assert predict([*command, "--position", f"{POSITION[0]},{POSITION[1]}"]) == 0
    text = output(capsys)
    assert "without band g, band r, band z, band y, spectrum" in text
    assert "from image, " in text


def test_a_spectrum_without_a_redshift_is_refused_until_one_is_given(world, files, capsys, tmp_path):
    with fits.open(files / SPEC) as hdus:
        hdus["SPECOBJ"].data["Z"] = np.nan
        hdus.writeto(tmp_path / "spec.fits")
    command = ["--run", str(world["run"]), "--spectrum", str(tmp_path / "spec.fits")]
    assert predict(command) == 2
    assert "spec.fits has no redshift, without which no line can be measured; state it (--redshift" in output(capsys)
    assert predict([*command, "--redshift", "0.1379"]) == 0
    assert "from spectrum" in output(capsys)
    assert mmagn.read_galaxy(tmp_path / "spec.fits", redshift=0.1379).spectrum.redshift == 0.1379


def test_a_galaxy_in_files_is_explained_and_drawn(world, files, capsys, tmp_path):
    out = ["--out", str(tmp_path)]
    assert explain(["--run", str(world["run"]), "--spectrum", str(files / SPEC), *out]) == 0
    assert {path.name for path in tmp_path.iterdir()} == {"332304326343026688.png", "332304326343026688.json"}
    assert plot_spectrum(["--spectrum", str(files / SPEC), "--out", str(tmp_path / "drawn")]) == 0
    assert (tmp_path / "drawn" / "332304326343026688.png").is_file()


def test_a_table_of_files_is_predicted_and_measured_as_any_source(world, files, capsys, tmp_path):
    table = Table({"object_id": ["both", "image"], "spectrum": [SPEC, ""]})
    for band in "gi":
        table[f"image_{band}"] = NAME.format(band.upper())
    table.write(files / "objects.csv")
    data = ["--data.source", "files", "--data.table", str(files / "objects.csv")]
    out = tmp_path / "scores.parquet"
    assert predict(["--run", str(world["run"]), *data, "--out", str(out)]) == 0, output(capsys)
    scores = Table.read(out)
    assert scores["modalities"].tolist() == ["image+spectrum", "image"]
    assert scores["hsc_object_id"].tolist() == ["both", "image"]
    assert explain(["both", "--run", str(world["run"]), *data, "--out", str(tmp_path)]) == 0, output(capsys)
    assert measure([*data, "--out", str(tmp_path / "lines.ecsv")]) == 0, output(capsys)
    assert Table.read(tmp_path / "lines.ecsv")["object_id"].tolist() == ["both"]


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ([], "--out is needed, or --spectrum or --image of one galaxy"),
        (["--redshift", "0.1"], "--redshift and --position need --spectrum or --image"),
        (["--image", "a.fits", "--redshift", "0.1"], "redshift 0.1 needs a spectrum, whose redshift it is"),
        (["--spectrum", "none.fits"], "none.fits is missing"),
        (["--image", "none-*.fits"], "none-*.fits is missing"),
        (["--image", "a.fits", "--position", "12"], "--position is 12; allowed: RA,DEC in degrees"),
        (["--spectrum", "a.fits", "--objects", "all"], "--objects chooses among many galaxies"),
        (
            ["--objects", "galaxies", "--out", "a.csv"],
            "--objects is galaxies; allowed: pairs, images, spectra, all, or",
        ),
        (["--objects", "none.csv", "--out", "a.csv"], "--objects none.csv is missing"),
    ],
)
def test_options_that_do_not_fit_are_refused(world, capsys, options, sentence):
    assert predict(["--run", str(world["run"]), *options]) == 2
    assert sentence in output(capsys)


def test_a_galaxy_named_twice_is_refused(world, files, capsys):
    command = ["123", "--run", str(world["run"]), "--spectrum", str(files / SPEC)]
    assert explain(command) == 2
    assert "the object_id 123 and --spectrum or --image name two galaxies" in output(capsys)
    assert explain(["--run", str(world["run"])]) == 2
    assert "the object_id of a galaxy is needed, or --spectrum or --image" in output(capsys)
    assert plot_spectrum([]) == 2


def test_a_list_of_objects_chooses_what_is_predicted(world, capsys, caplog, tmp_path):
    sdss = survey_reader(world["config"].data).read_sdss_catalog(Counter())
    listed = Table({"object_id": [sdss.object_id[3], "77"], "ra": [np.nan, 1.0], "dec": [np.nan, 2.0]})
    listed.write(tmp_path / "list.csv")
    out = tmp_path / "scores.csv"
    assert predict(["--run", str(world["run"]), "--objects", str(tmp_path / "list.csv"), "--out", str(out)]) == 0
    assert Table.read(out, converters={"*_id": str})["sdss_object_id"].tolist() == [sdss.object_id[3]]
    assert "list.csv: 1 of 2 rows match nothing: 77" in caplog.text
    assert "dropped: 1 x list.csv: row matches nothing" in output(capsys)
