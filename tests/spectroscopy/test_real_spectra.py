"""Fluxes of 29 real spectra against the SDSS pipeline's own fits."""

from collections import Counter

import numpy as np
import pytest
from astropy.table import Table

from mmagn.spectroscopy.config import SpectroscopyConfig
from mmagn.spectroscopy.emission import line_table
from mmagn.surveys.config import DataConfig
from mmagn.surveys.reader import iter_spectra
from mmagn.surveys.readers import survey_reader

EXPLAINED = {
    (
        "1146264831163131904",
        "hbeta",
    ): "Seyfert on strong starlight: the pipeline fits a wider line, less absorption",
    (
        "1146264831163131904",
        "halpha",
    ): "the same galaxy: [N II] agrees, the wings of the blend are shared differently",
    (
        "299518814033307648",
        "hbeta",
    ): "EW 3 to 5 A: the local model takes 2 A more absorption than the pipeline",
    ("299518814033307648", "oiii_5007"): "S/N 7: a difference of one standard deviation",
    ("299489676975171584", "halpha"): "EW 5 A on old stars: the absorption of the local model is 1 A deeper",
    (
        "299489676975171584",
        "oiii_5007",
    ): "EW 0.7 A: Fe 5015 of old stars under the line, unknown to a polynomial",
    ("299548501317019648", "hbeta"): "S/N 7, EW 2 A: pPXF measures 1.39 of the pipeline",
    ("2947691243863304192", "hbeta"): "pPXF measures 1.23 of the pipeline",
    ("2947691243863304192", "oiii_5007"): "EW 1.4 A: pPXF measures 1.17 of the pipeline",
}
"""Outliers beyond 15 per cent and why."""
HBETA_OF_FULL_STARS = 1.06
"""H-beta over the pipeline as pPXF measures it on the same spectra with E-MILES stars: the pipeline's have too little
absorption."""


@pytest.fixture(scope="module")
def compared(real_tree):
    reference = Table.read(real_tree / "spzline.csv", format="ascii.csv", converters={"object_id": str})
    spectra = list(iter_spectra(survey_reader(DataConfig(source="hdf5", root=str(real_tree))), Counter()))
    lines = line_table(spectra, SpectroscopyConfig(device="cpu"))
    place = {name: row for row, name in enumerate(reference["object_id"])}
    return lines, reference[[place[name] for name in lines["object_id"]]]


def narrow_galaxies(lines, reference):
    subclass = np.asarray(reference["subclass"].filled(""))
    # One galaxy has broad H-alpha under narrow lines, which the pipeline's single Gaussians take into the narrow flux.
    return (np.asarray(reference["class"]) == "GALAXY") & (subclass != "BROADLINE") & ~np.asarray(lines["broad_line"])


@pytest.mark.parametrize("line", ["hbeta", "oiii_5007", "halpha", "nii_6584"])
def test_fluxes_agree_with_the_pipeline(compared, line):
    lines, reference = compared
    theirs, their_error = np.asarray(reference[f"{line}_flux"]), np.asarray(reference[f"{line}_flux_err"])
    ours, our_error = np.asarray(lines[f"flux_{line}"]), np.asarray(lines[f"flux_{line}_err"])
    both = narrow_galaxies(lines, reference) & (their_error > 0) & (theirs > 5 * their_error) & (ours > 5 * our_error)
    ratio = ours[both] / theirs[both]
    assert both.sum() >= 8
    assert 0.95 < np.median(ratio) / (HBETA_OF_FULL_STARS if line == "hbeta" else 1) < 1.05
    assert 1.4826 * np.median(np.abs(ratio - np.median(ratio))) < 0.15
    outliers = {(str(name), line) for name in np.asarray(lines["object_id"])[both][np.abs(ratio - 1) > 0.15]}
    assert outliers <= set(EXPLAINED)


def test_quasars_are_flagged_broad_and_ordinary_galaxies_are_not(compared):
    lines, reference = compared
    quasar = np.asarray(reference["class"]) == "QSO"
    broad = np.asarray(lines["broad_line"])
    assert broad[quasar].all()
    assert broad[~quasar].sum() <= 1


def test_passive_galaxies_show_no_bright_balmer_lines(compared):
    lines, reference = compared
    subclass = np.asarray(reference["subclass"].filled(""))
    passive = (np.asarray(reference["class"]) == "GALAXY") & (subclass == "")
    width = np.asarray(lines["ew_halpha"])[passive]
    assert np.nanmedian(width) < 2.0
