"""The figure of an explanation shows contributions, maps on a common scale, and what is missing."""

from dataclasses import replace

import numpy as np
import pytest

from mmagn.evaluation.attribution import Gradients
from mmagn.evaluation.permutation import Importance
from mmagn.reporting.figures.explanation import Explanation, explanation_figure

GRID = 3800 * 10 ** (2e-4 * np.arange(1300))


@pytest.fixture
def explanation() -> Explanation:
    """An explanation without an image: only [O III] speaks."""
    shares = np.zeros(len(GRID))
    shares[np.abs(GRID - 5008.24) < 10] = 0.5
    spectrum = np.stack([shares, np.full(len(GRID), 0.5)])
    return Explanation(
        title="42",
        cutout=None,
        gradients=Gradients(parts={"spectrum": shares, "features": np.array([0.3, -0.2])}, logit=1, baseline_logit=0),
        image_occlusion=None,
        wavelength_angstrom=GRID,
        spectrum=spectrum,
        spectrum_occlusion=shares,
        line_falls={"hbeta": -0.1, "oiii_5007": 0.8},
        features=("ew_halpha", "contrast"),
        importance=[Importance(name="contrast", value=0.1, low=0.05, high=0.2, share=0.5)],
        importance_split="test",
    )


def panel(figure, title: str):
    (match,) = [axes for axes in figure.axes if axes.get_title(loc="left").startswith(title)]
    return match


def test_lines_are_named_and_bars_are_as_long_as_what_they_stand_for(explanation) -> None:
    figure = explanation_figure(explanation)
    lines = panel(figure, "Spectrum: one line blanked")
    assert [label.get_text() for label in lines.get_yticklabels()] == ["Hβ", "[O III] 5007"]
    assert [bar.get_width() for bar in lines.patches] == [-0.1, 0.8]
    assert [bar.get_width() for bar in panel(figure, "Features of this galaxy").patches] == [0.3, -0.2]
    assert "[O III]" in {text.get_text() for axes in figure.axes for text in axes.texts}
    assert "no image" in {text.get_text() for axes in figure.axes for text in axes.texts}


def test_a_network_without_spectrum_and_features_says_so(explanation) -> None:
    parts = {"image": np.random.default_rng(0).normal(size=(5, 32, 32))}
    figure = explanation_figure(
        replace(
            explanation,
            gradients=Gradients(parts=parts, logit=1, baseline_logit=0),
            image_occlusion=np.eye(4),
            spectrum=None,
            spectrum_occlusion=None,
            line_falls={},
            importance=[],
        )
    )
    texts = {text.get_text() for axes in figure.axes for text in axes.texts}
    assert {"no spectrum", "no features branch", "no importance"} <= texts
    np.testing.assert_array_equal(panel(figure, "Image: occlusion").images[0].get_array(), np.eye(4))


def test_the_contribution_of_each_input_is_the_sum_of_its_shares(explanation) -> None:
    bars = panel(explanation_figure(explanation), "Contributions")
    assert [label.get_text() for label in bars.get_yticklabels()] == ["spectrum", "features"]
    expected = [explanation.gradients.parts["spectrum"].sum(), 0.1]
    np.testing.assert_allclose([bar.get_width() for bar in bars.patches], expected)
    assert [text.get_text() for text in bars.texts] == [f"{value:+.2f}" for value in expected]


def test_a_weak_map_is_not_stretched_to_full_colour(explanation) -> None:
    parts = {**explanation.gradients.parts, "image": np.full((5, 32, 32), 1e-6)}
    gradients = Gradients(parts=parts, logit=1, baseline_logit=0)
    figure = explanation_figure(replace(explanation, gradients=gradients, image_occlusion=np.full((4, 4), 0.01)))
    assert panel(figure, "Image: shares").images[0].get_clim()[1] == pytest.approx(0.5)
    assert panel(figure, "Image: occlusion").images[0].get_clim()[1] == pytest.approx(0.8)
