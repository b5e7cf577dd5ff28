"""Figures of the report: the plane of line ratios to click in, precision-recall, reliability, training history."""

from collections.abc import Mapping, Sequence

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray
from sklearn.metrics import precision_recall_curve

from mmagn.evaluation.calibration import reliability
from mmagn.evaluation.ceiling import ceiling_curve
from mmagn.evaluation.config import EvaluationConfig
from mmagn.evaluation.intervals import precision_recall_band
from mmagn.evaluation.strata import bpt_ratios
from mmagn.labels.bpt import (
    KAUFFMANN2003_POLE,
    KEWLEY2001_POLE,
    SeyfertLiner,
    kauffmann2003_nii,
    kewley2001_nii,
    seyfert_liner_nii,
)
from mmagn.reporting.page.cards import Verdicts
from mmagn.reporting.page.svg import Plane, probability_color, stepped

PLANE_X, PLANE_Y = (-1.7, 0.7), (-1.2, 1.4)
MAX_POINTS = 3000
"""Objects drawn into the plane at most, evenly spaced in the order of the table."""
BAND_DRAWS = 500
"""Bootstrap draws behind the band of the precision-recall curve, at most."""


def bpt_plane(verdicts: Verdicts, seyfert_liner: SeyfertLiner, shown: NDArray[np.int64]) -> Markup:
    """Return the [N II] plane: an object each, coloured by its probability, a triangle where the label is AGN.

    Objects of ``shown`` carry ``data-card`` with their number, all carry ``data-tip``.
    """
    x, y = bpt_ratios(verdicts.measured)
    plane = Plane(
        name="bpt",
        x_range=PLANE_X,
        y_range=PLANE_Y,
        x_label="log [N II] 6584 / Hα",
        y_label="log [O III] 5007 / Hβ",
        alt=f"BPT plane of {len(verdicts)} objects coloured by probability; the cards below list the same objects",
        width=640,
        height=520,
    )
    _draw_curves(plane, seyfert_liner)
    with_card = set(shown.tolist())
    places = np.linspace(0, len(verdicts) - 1, min(len(verdicts), MAX_POINTS)).astype(int)
    for number in np.unique(places).tolist():
        if not (np.isfinite(x[number]) and np.isfinite(y[number])):
            continue
        across = float(plane.x(np.clip(x[number], *PLANE_X)))
        up = float(plane.y(np.clip(y[number], *PLANE_Y)))
        plane.add(_object(verdicts, number, across, up, number in with_card))
    return plane.svg()


def _object(verdicts: Verdicts, number: int, across: float, up: float, has_card: bool) -> Markup:
    probability = float(verdicts.probability[number])
    tip = (
        f"{verdicts.measured['object_id'][number]}: P(AGN) {probability:.2f}, "
        f"{verdicts.measured['bpt_class'][number]}, z {float(verdicts.measured['redshift'][number]):.3f}"
    )
    card = Markup(' data-card="{}"').format(number) if has_card else Markup("")
    color = probability_color(probability)
    if verdicts.truth[number] > 0:
        corners = f"M{across:.1f} {up - 6:.1f}l5.5 9.5h-11z"
        return Markup('<path class="object" d="{}" fill="{}" data-tip="{}"{}/>').format(corners, color, tip, card)
    return Markup('<circle class="object" cx="{:.1f}" cy="{:.1f}" r="4.5" fill="{}" data-tip="{}"{}/>').format(
        across, up, color, tip, card
    )


def _draw_curves(plane: Plane, seyfert_liner: SeyfertLiner) -> None:
    for function, pole, css in (
        (kauffmann2003_nii, KAUFFMANN2003_POLE, "ink dashed"),
        (kewley2001_nii, KEWLEY2001_POLE, "ink"),
    ):
        x = np.linspace(PLANE_X[0], pole - 0.02, 200)
        y = np.asarray(function(x))
        plane.line(np.where(y >= PLANE_Y[0] - 0.3, x, np.nan), y, css)
    x = np.linspace(-0.4, PLANE_X[1], 100)
    y = np.asarray(seyfert_liner_nii(x, seyfert_liner))
    above = (x >= KEWLEY2001_POLE) | (y >= np.asarray(kewley2001_nii(np.minimum(x, KEWLEY2001_POLE - 1e-3))))
    plane.line(np.where(above, x, np.nan), y, "ink dotted")
    for across, up, words in ((-1.55, -0.4, "star-forming"), (-0.8, 1.25, "Seyfert"), (0.25, 0.1, "LINER")):
        plane.text(across, up, words, "faint")
    plane.text(-0.13, -1.05, "composite", "faint")


def precision_recall_plane(verdicts: Verdicts, config: EvaluationConfig, p_agn: NDArray[np.float64]) -> Markup:
    """Return precision against recall with its band, the prevalence and the noise ceiling; "" for one class only."""
    y = verdicts.truth
    if len(np.unique(y)) < 2:
        return Markup("")
    plane = Plane(
        name="precision-recall",
        x_range=(0, 1),
        y_range=(0, 1.02),
        x_label="recall (AGN found / all AGN)",
        y_label="precision (AGN / called AGN)",
        alt="precision against recall with bootstrap band, prevalence and noise ceiling",
    )
    quick = EvaluationConfig(
        bootstrap_draws=min(config.bootstrap_draws, BAND_DRAWS), confidence=config.confidence, seed=config.seed
    )
    if (ceiling := ceiling_curve(p_agn, config=quick)) is not None:
        plane.band(ceiling.recall, ceiling.low, ceiling.high, "green")
        plane.line(ceiling.recall, ceiling.precision, "green dashed")
    band = precision_recall_band(y, verdicts.probability, config=quick)
    plane.band(band.x, band.low, band.high, "blue")
    precision, recall, _ = precision_recall_curve(y, verdicts.probability)
    plane.line(*stepped(recall, precision), "blue")
    plane.line([0, 1], [y.mean(), y.mean()], "ink dashed")
    called = verdicts.called
    if called.any():
        plane.points([y[called].sum() / y.sum()], [y[called].mean()], "vermilion", radius=5)
    return plane.svg()


def reliability_plane(verdicts: Verdicts, config: EvaluationConfig) -> Markup:
    """Return the observed fraction of AGN against the mean probability in bins of about equal counts."""
    plane = Plane(
        name="reliability",
        x_range=(0, 1),
        y_range=(0, 1.02),
        x_label="predicted probability of AGN",
        y_label="observed fraction of AGN",
        alt="reliability diagram: observed fraction against predicted probability",
    )
    plane.line([0, 1], [0, 1], "ink dashed")
    if len(verdicts):
        found = reliability(
            verdicts.truth, verdicts.probability, bins=config.calibration_bins, confidence=config.confidence
        )
        for forecast, low, high in zip(found.forecast, found.low, found.high, strict=True):
            plane.line([forecast, forecast], [low, high], "blue")
        plane.line(found.forecast, found.observed, "blue thin")
        plane.points(found.forecast, found.observed, "blue")
    return plane.svg()


def sky_plane(ra_deg: NDArray[np.float64], dec_deg: NDArray[np.float64], css: Sequence[str]) -> Markup:
    """Return a map of objects (object,), RA rising to the left also across RA 0, each in its colour class."""
    ordered = np.sort(np.mod(ra_deg, 360))
    gaps = np.diff(ordered, append=ordered[0] + 360)
    middle = ordered[np.argmax(gaps)] + gaps.max() / 2 + 180
    offset = (ra_deg - middle + 180) % 360 - 180
    pad_x, pad_y = 0.05 * np.ptp(offset) + 0.1, 0.05 * np.ptp(dec_deg) + 0.1
    start = middle % 360
    plane = Plane(
        name="sky",
        x_range=(float(start + offset.max() + pad_x), float(start + offset.min() - pad_x)),
        y_range=(float(dec_deg.min() - pad_y), float(dec_deg.max() + pad_y)),
        x_label="RA [deg]",
        y_label="Dec [deg]",
        alt=f"map of {len(ra_deg)} pairs on the sky",
        height=320,
    )
    for number in np.unique(np.linspace(0, len(ra_deg) - 1, min(len(ra_deg), MAX_POINTS)).astype(int)).tolist():
        plane.points([start + offset[number]], [dec_deg[number]], css[number], radius=2)
    return plane.svg()


Curve = Sequence[tuple[float, float]]
"""(epoch, value) pairs."""


def history_plane(curves: Mapping[str, Curve], *, name: str, y_label: str, best_epoch: float | None) -> Markup:
    """Return curves of training and validation against the epoch, with the epoch that was kept.

    Parameters
    ----------
    curves
        By ``train`` and ``validation``.
    name, y_label
        Of the figure and of its ordinate.
    best_epoch
        Epoch that was kept.
    """
    points = np.array([point for curve in curves.values() for point in curve], dtype=float).reshape(-1, 2)
    points = points[np.isfinite(points).all(axis=1)]
    if not len(points):
        return Markup("")
    low, high = points[:, 1].min(), points[:, 1].max()
    margin = 0.06 * (high - low) or 0.1
    plane = Plane(
        name=name,
        x_range=(0, max(float(points[:, 0].max()), 1.0)),
        y_range=(float(low - margin), float(high + margin)),
        x_label="epoch",
        y_label=y_label,
        alt=f"{y_label} of training and validation against the epoch",
        height=300,
    )
    if best_epoch is not None:
        plane.line([best_epoch] * 2, [low - margin, high + margin], "ink dotted")
    for which, css in (("train", "orange dashed"), ("validation", "blue")):
        if curve := curves.get(which):
            epoch, value = np.array(curve, dtype=float).T
            plane.line(epoch, value, css)
            plane.points([curve[-1][0]], [curve[-1][1]], css.split()[0], radius=3)
    return plane.svg()
