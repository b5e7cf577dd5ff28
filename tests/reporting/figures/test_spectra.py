import numpy as np
from pair_records import spectrum_of

from mmagn.lines import REPORTED_LINES
from mmagn.reporting.figures.spectra import spectrum_figure


def observed(redshift=0.05):
    ivar = np.ones(3800)
    ivar[1500:1520] = 0
    flux = np.random.default_rng(0).normal(20, 1, 3800)
    return spectrum_of(flux, ivar, first_native=35800, redshift=redshift, object_id="42")


def line_of(axes, label):
    (line,) = [line for line in axes.lines if line.get_label() == label]
    return line


def test_the_fit_and_its_residuals_are_drawn_over_the_data_in_the_rest_frame():
    spectrum = observed()
    model = np.full(3800, 20.0)
    figure = spectrum_figure(spectrum, {"continuum": model - 1, "model": model})
    overview, hbeta, _ = figure.axes[:3]
    np.testing.assert_array_equal(line_of(overview, "model").get_ydata(), 20.0)
    np.testing.assert_array_equal(line_of(overview, "continuum").get_ydata(), 19.0)
    residual = figure.axes[2].lines[1]
    shown = residual.get_xdata()
    assert shown.min() >= 4780
    assert shown.max() <= 5080
    rest = spectrum.wavelength_angstrom.astype(np.float64) / 1.05
    inside = (rest >= 4780) & (rest <= 5080)
    expected = np.where(spectrum.valid, spectrum.flux - 20.0, np.nan)[inside]
    np.testing.assert_allclose(residual.get_ydata(), expected, rtol=1e-5)
    assert "[O III] 5008" in [text.get_text() for text in hbeta.texts]  # in vacuum, as the axis


def test_invalid_pixels_are_shaded_and_not_drawn():
    figure = spectrum_figure(observed())
    assert len(figure.axes[0].patches) == 1
    assert np.isnan(line_of(figure.axes[0], "data").get_ydata()).sum() == 20


def test_a_window_outside_the_spectrum_says_so(tmp_path):
    figure = spectrum_figure(observed(redshift=0.5))
    figure.savefig(tmp_path / "spectrum.png", dpi=40)
    texts = [text.get_text() for axes in figure.axes for text in axes.texts]
    assert texts.count("no valid pixels here") == 2  # [O I] and Ha beyond the red end


def legend_texts(figure):
    return [text.get_text() for legend in figure.legends for text in legend.get_texts()]


def test_residuals_beyond_their_panel_are_marked_at_its_edge():
    spectrum, model = observed(), np.full(3800, 20.0)
    assert not any("residual" in text for text in legend_texts(spectrum_figure(spectrum, {"model": model})))
    rest = spectrum.wavelength_angstrom / 1.05
    spike = int(np.argmin(np.abs(rest - 4900)))
    spectrum.flux[spike] += 50
    figure = spectrum_figure(spectrum, {"model": model})
    assert "residual above +5.5" in legend_texts(figure)
    (marks,) = [line for axes in figure.axes for line in axes.lines if line.get_marker() == "^"]
    np.testing.assert_allclose(marks.get_xdata(), rest[spike])


def test_broad_lines_and_masked_pixels_are_named_in_the_legend():
    curves = {"model": np.full(3800, 20.0), "continuum + broad lines": np.full(3800, 19.5)}
    texts = legend_texts(spectrum_figure(observed(), curves))
    assert {"data", "model", "continuum + broad lines", "masked pixels", "±1 error"} <= set(texts)


def test_flux_snr_class_and_flags_are_written_on_the_picture():
    measured = {"bpt_class": "seyfert", "reason": "", "fit_flags": "broad", "broad_line": True}
    for line in REPORTED_LINES:
        measured |= {f"flux_{line}": 12.34, f"flux_{line}_err": 1.2, f"snr_{line}": 10.3, f"flags_{line}": ""}
    measured["flags_hbeta"] = "masked"
    panel = spectrum_figure(observed(), measured=measured).axes[-1]
    texts = [cell.get_text().get_text() for table in panel.tables for cell in table.get_celld().values()]
    assert {"12.3 ± 1.2", "10.3", "masked", "Hα 6565"} <= set(texts)
    assert panel.texts[0].get_text() == "BPT class: Seyfert · fit flags: broad · broad Balmer component"
