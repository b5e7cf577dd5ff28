"""Calibrated probabilities from logits: correction of the class weight, temperature, Platt, isotonic."""

import logging
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike
from scipy.optimize import minimize
from scipy.special import betaincinv, expit, logit

from mmagn.evaluation.bootstrap import probability_bins, scored_objects
from mmagn.records import Floats

Kind = Literal["none", "temperature", "platt", "isotonic"]
ISOTONIC_MIN_OBJECTS = 1000
"""Objects below which an isotonic map overfits (Niculescu-Mizil & Caruana 2005)."""
_LOG_SLOPE_RANGE = (-4.0, 4.0)

logger = logging.getLogger(__name__)


def unshifted_logits(logits: ArrayLike, pos_weight: float) -> Floats:
    """Return logits of a plain loss from those of one whose positives weigh ``pos_weight``, (object,).

    The weighted cross entropy is smallest at logit(p) + log(pos_weight) (Elkan 2001, theorem 2). ``ValueError`` where
    ``pos_weight`` is not above 0.
    """
    if not pos_weight > 0:
        raise ValueError(f"pos_weight is {pos_weight}; allowed: above 0")
    return np.asarray(np.asarray(logits, dtype=np.float64) - np.log(pos_weight))


def with_prevalence(probability: ArrayLike, prevalence: float, target_prevalence: float) -> Floats:
    """Return probabilities (object,) for a population with another fraction of positives than they are calibrated for.

    Bayes' rule where only the class fractions differ (Saerens+2002, eq. 2.4). ``ValueError`` where one is not between
    0 and 1.
    """
    for name, value in (("prevalence", prevalence), ("target_prevalence", target_prevalence)):
        if not 0 < value < 1:
            raise ValueError(f"{name} is {value}; allowed: between 0 and 1")
    shifted = logit(np.asarray(probability, dtype=np.float64)) + logit(target_prevalence) - logit(prevalence)
    return np.asarray(expit(shifted), dtype=np.float64)


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """A monotonic map from the logits of a network to probabilities.

    Attributes
    ----------
    kind
        ``none``: correction of the class weight only; ``temperature``: one slope; ``platt``: slope and intercept;
        ``isotonic``: steps between ``knots``.
    pos_weight
        Weight of the positives in the loss that made the logits.
    prevalence
        Fraction of positives among the objects that the map was fitted on, NaN where there were none.
    slope, intercept
        probability = expit(slope * unshifted logit + intercept).
    knots
        (unshifted logit, probability) pairs of the isotonic map.
    reason
        Why the map is ``none`` although another was requested, else "".
    """

    kind: Kind = "none"
    pos_weight: float = 1.0
    prevalence: float = float("nan")
    slope: float = 1.0
    intercept: float = 0.0
    knots: tuple[tuple[float, float], ...] = ()
    reason: str = ""

    def probability(self, logits: ArrayLike, *, target_prevalence: float | None = None) -> Floats:
        """Return calibrated probabilities (object,), for another population where its prevalence is given."""
        plain = unshifted_logits(logits, self.pos_weight)
        if self.kind == "isotonic":
            x, y = np.array(self.knots).T
            probability = np.asarray(np.interp(plain, x, y), dtype=np.float64)
        else:
            probability = np.asarray(expit(self.slope * plain + self.intercept), dtype=np.float64)
        if target_prevalence is None:
            return probability
        return with_prevalence(probability, self.prevalence, target_prevalence)

    def as_dict(self) -> dict[str, Any]:
        """Return the fields as plain values for JSON; a NaN prevalence becomes null."""
        values = asdict(self) | {"knots": [list(knot) for knot in self.knots]}
        return values | {"prevalence": None if np.isnan(self.prevalence) else self.prevalence}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "Calibration":
        """Return the map that :meth:`as_dict` gave."""
        knots = tuple((float(x), float(y)) for x, y in values["knots"])
        prevalence = float("nan") if values["prevalence"] is None else float(values["prevalence"])
        return cls(**{**values, "knots": knots, "prevalence": prevalence})


def fitted_calibration(target: ArrayLike, logits: ArrayLike, *, pos_weight: float, kind: Kind = "platt") -> Calibration:
    """Return the map from logits to probabilities fitted to (object,) targets and logits that were not trained on.

    Where a class is missing the map is ``none``; the reason is kept and logged. ``ValueError`` for an isotonic map of
    fewer than ``ISOTONIC_MIN_OBJECTS`` objects.
    """
    plain = unshifted_logits(logits, pos_weight)
    y = scored_objects(target, expit(plain), 0.5, 1).target
    count, positives = len(y), int(y.sum())
    uncalibrated = Calibration(pos_weight=float(pos_weight), prevalence=positives / count if count else float("nan"))
    if kind == "none":
        return uncalibrated
    if not 0 < positives < count:
        reason = f"not calibrated: the {count} objects to fit {kind} on have one class only"
        logger.warning(reason)
        return replace(uncalibrated, reason=reason)
    if kind == "isotonic":
        return replace(uncalibrated, kind=kind, knots=_isotonic_knots(y, plain))
    slope, intercept = _sigmoid(y, plain, free_intercept=kind == "platt")
    return replace(uncalibrated, kind=kind, slope=slope, intercept=intercept)


def _sigmoid(y: Floats, plain: Floats, *, free_intercept: bool) -> tuple[float, float]:
    """Slope and intercept of largest likelihood, with Platt's (1999) softened targets so that both stay finite.

    The slope is kept positive: calibration never changes the order of objects.
    """
    positives, negatives = y.sum(), (1 - y).sum()
    soft = np.where(y > 0, (positives + 1) / (positives + 2), 1 / (negatives + 2))

    def loss_and_gradient(parameters: Floats) -> tuple[float, Floats]:
        slope = np.exp(parameters[0])
        z = slope * plain + parameters[1]
        residual = expit(z) - soft
        gradient = np.array([np.mean(residual * plain) * slope, np.mean(residual)])
        return float(np.mean(np.logaddexp(0, z) - soft * z)), gradient

    bounds = [_LOG_SLOPE_RANGE, (None, None) if free_intercept else (0.0, 0.0)]
    fit = minimize(loss_and_gradient, np.zeros(2), jac=True, bounds=bounds, method="L-BFGS-B", tol=1e-12)
    return float(np.exp(fit.x[0])), float(fit.x[1])


def _isotonic_knots(y: Floats, plain: Floats) -> tuple[tuple[float, float], ...]:
    """Corners of the isotonic map, at least 1 / (objects + 2) away from 0 and 1."""
    count = len(y)
    if count < ISOTONIC_MIN_OBJECTS:
        raise ValueError(f"isotonic calibration has {count} objects; allowed: {ISOTONIC_MIN_OBJECTS} or more")
    edge = 1 / (count + 2)
    from sklearn.isotonic import IsotonicRegression  # where used: the first training step does not wait for it

    steps = IsotonicRegression(y_min=edge, y_max=1 - edge).fit(plain, y)
    return tuple((float(x), float(p)) for x, p in zip(steps.X_thresholds_, steps.y_thresholds_, strict=True))


@dataclass(frozen=True, kw_only=True, eq=False)
class Reliability:
    """Numbers of a reliability diagram, (bin,) each.

    Mean probability, fraction of positives with its exact binomial interval (Clopper & Pearson 1934), and objects.
    """

    forecast: Floats
    observed: Floats
    low: Floats
    high: Floats
    count: Floats


def reliability(target: ArrayLike, probability: ArrayLike, *, bins: int = 10, confidence: float = 0.95) -> Reliability:
    """Return mean probability and fraction of positives in bins of about equal counts.

    ``ValueError`` as of :func:`mmagn.evaluation.bootstrap.scored_objects`.
    """
    objects = scored_objects(target, probability, 0.5, bins)
    index = probability_bins(objects.score, bins)
    count = np.bincount(index).astype(np.float64)
    hits = np.bincount(index, weights=objects.target)
    tail = (1 - confidence) / 2
    with np.errstate(invalid="ignore"):
        low = np.where(hits > 0, betaincinv(hits, count - hits + 1, tail), 0.0)
        high = np.where(hits < count, betaincinv(hits + 1, count - hits, 1 - tail), 1.0)
    forecast = np.bincount(index, weights=objects.score) / count
    return Reliability(forecast=forecast, observed=hits / count, low=low, high=high, count=count)
