"""The gallery shows the colours of a galaxy and its spectrum in the rest frame, with id, position and outcome."""

import numpy as np
import pytest
from matplotlib.figure import Figure
from pair_records import cutout_of, spectrum_of

from mmagn.lines import LINE_BY_NAME
from mmagn.records import Cutout, Pair, Spectrum
from mmagn.reporting.figures.gallery import gallery_figure, image_rows_figure, rgb_image


def cutout(colour: tuple[float, ...] = (1, 1, 1, 1, 1), size: int = 32) -> Cutout:
    y, x = np.mgrid[:size, :size] - size / 2
    blob = 50 * np.exp(-0.5 * (x**2 + y**2) / 4**2)
    noise = np.random.default_rng(0).normal(size=(5, size, size))
    return cutout_of(np.array(colour)[:, None, None] * blob + noise, size=size, object_id="8")


def spectrum(redshift: float = 0.1) -> Spectrum:
    wavelength = 10 ** np.arange(np.log10(3800), np.log10(9200), 1e-4)
    line = LINE_BY_NAME["halpha"].wavelength_angstrom * (1 + redshift)
    ivar = np.ones_like(wavelength)
    ivar[100:120] = 0
    flux = np.where(ivar > 0, 10 + 30 * np.exp(-0.5 * ((wavelength - line) / 3) ** 2), 0)
    place = {"object_id": "9", "ra_deg": 1.0, "dec_deg": 2.0, "redshift": redshift}
    return spectrum_of(flux, ivar, wavelength_angstrom=wavelength.astype(np.float32), **place)


def pair(redshift: float = 0.1) -> Pair:
    return Pair(cutout=cutout(), spectrum=spectrum(redshift), separation_arcsec=0.1, healpix=1)


def titles(figure: Figure) -> list[str]:
    return [str(panel.get_suptitle()) for panel in figure.subfigs if panel.get_suptitle()]


def test_a_galaxy_bright_in_i_is_red_and_one_bright_in_g_is_blue() -> None:
    red, blue = rgb_image(cutout((0.2, 0.5, 1, 1, 1))), rgb_image(cutout((1, 0.5, 0.2, 0.2, 0.2)))
    assert red[16, 16, 0] > red[16, 16, 1] > red[16, 16, 2]
    assert blue[16, 16, 2] > blue[16, 16, 1] > blue[16, 16, 0]


def test_the_sky_is_dark_the_galaxy_bright_and_an_invalid_pixel_grey() -> None:
    whole = cutout()
    whole.ivar[0, 3:6, 3:6] = 0
    picture = rgb_image(whole)
    assert np.median(picture[-6:, -6:]) < 60 < 100 < picture[16, 16].min()
    assert (picture[3:6, 3:6] == 110).all()


@pytest.mark.parametrize("flux", [0.0, 7.0])
def test_a_flat_or_wholly_invalid_cutout_is_still_a_picture(flux: float) -> None:
    flat = cutout()
    flat.flux[:] = flux
    assert rgb_image(flat).shape == (32, 32, 3)
    flat.ivar[:] = 0
    assert (rgb_image(flat) == 110).all()


@pytest.mark.parametrize("redshift", [0.0, 0.2])
def test_the_line_peaks_at_its_rest_wavelength_whatever_the_redshift(redshift: float) -> None:
    figure = gallery_figure([pair(redshift)], ["seyfert"])
    panel = figure.axes[1]
    smooth = panel.lines[1]
    x, y = np.asarray(smooth.get_xdata(), dtype=float), np.asarray(smooth.get_ydata(), dtype=float)
    halpha = LINE_BY_NAME["halpha"].wavelength_angstrom
    assert x[np.nanargmax(y)] == pytest.approx(halpha, abs=2)
    marks = [np.asarray(each.get_xdata(), dtype=float)[0] for each in panel.lines[2:]]
    assert min(abs(mark - halpha) for mark in marks) == 0
    assert "Hα [N II]" in [text.get_text() for text in panel.texts]


def test_invalid_pixels_leave_a_gap() -> None:
    raw = gallery_figure([pair(0.0)], ["liner"]).axes[1].lines[0]
    assert np.isnan(np.asarray(raw.get_ydata(), dtype=float)).sum() == 20


def test_each_class_has_a_row_of_images_and_spectra_with_captions() -> None:
    classes = ["seyfert", "liner", "seyfert", "seyfert"]
    figure = gallery_figure([pair()] * 4, classes, captions=["P = 0.9", "P = 0.1", "P = 0.8", "P = 0.7"], columns=2)
    where = "9 · RA 1.00000°, Dec +2.00000°"
    assert titles(figure) == [
        f"Seyfert · z = 0.100 · P = 0.9\n{where}",
        f"Seyfert · z = 0.100 · P = 0.8\n{where}",
        f"LINER · z = 0.100 · P = 0.1\n{where}",
    ]
    assert sum(bool(axes.images) for axes in figure.axes) == 3
    assert "rest-frame vacuum wavelength" in figure.axes[-1].get_xlabel()
    assert figure.axes[1].get_ylabel() == "[10⁻¹⁷ erg/s/cm²/Å]"


def test_labels_of_lines_do_not_overlap() -> None:
    figure = gallery_figure([pair(), pair()], ["seyfert", "seyfert"])
    figure.draw_without_rendering()
    for axes in figure.axes[1::2]:
        boxes = [text.get_window_extent() for text in axes.texts]
        for number, box in enumerate(boxes):
            assert not any(box.overlaps(other) for other in boxes[number + 1 :])


def test_no_galaxies_and_no_valid_pixels_are_said() -> None:
    assert gallery_figure([], []).texts[0].get_text() == "no galaxies"
    dark = pair()
    dark.spectrum.ivar[:] = 0
    assert gallery_figure([dark], ["liner"]).axes[1].texts[0].get_text() == "no valid pixels here"


def test_images_of_agn_stand_above_images_of_other_galaxies() -> None:
    figure = image_rows_figure([cutout(), cutout()], [])
    above, _, below, _ = figure.axes
    assert above.get_ylabel() == "AGN" and above.images
    assert below.get_ylabel() == "not AGN" and below.texts[0].get_text() == "none in this sample"
