"""Weights of the late fusion: few numbers, fitted to objects that the heads were not trained on."""

from collections.abc import Collection, Mapping

import numpy as np
from scipy.optimize import minimize
from scipy.special import expit, log_expit

from mmagn.records import Floats

RIDGE = 20.0
"""Penalty of the squared distance of the weights from 1 for the best single logit and 0 for the others, in units of a
log-likelihood: with a hundred objects only a clear gain moves them, with a thousand a small one."""
SLOPE_RIDGE = 0.01
"""Penalty of the squared slope of a standardised logit, so that classes which are separated give a finite one."""


def late_fusion_weights(
    logits: Mapping[str, Floats], target: Floats, chosen_on: Collection[str] = ()
) -> tuple[dict[str, float], float]:
    """Weights, none of them negative, and bias of a sum of logits that is the logit of a probability.

    Each logit is first calibrated by itself (Platt 1999). The sum of the calibrated ones is then fitted with a ridge
    penalty towards the one that is best alone, so that fusion costs little where it has nothing to add.

    Parameters
    ----------
    logits, target
        (object,) by name; (object,) 1 positive, 0 negative, both occur.
    chosen_on
        Names of logits that the same objects have chosen in some way, such as by an early stop: they look better here
        than they are, so the fit is not drawn towards one of them.
    """
    names = list(logits)
    scaled = {name: _calibrated(values, target) for name, values in logits.items()}
    matrix = np.stack([slope * logits[name] + bias for name, (slope, bias) in scaled.items()], axis=1)
    prior = np.zeros(len(names))
    losses = _losses(matrix, target[:, None])
    prior[np.argmin(np.where(np.isin(names, list(chosen_on)), np.inf, losses))] = 1.0
    weights, bias = _penalised_fit(matrix, target, prior, RIDGE) if len(names) > 1 else (prior, 0.0)
    folded = {name: float(weight * scaled[name][0]) for name, weight in zip(names, weights, strict=True)}
    return folded, bias + float(sum(w * scaled[name][1] for name, w in zip(names, weights, strict=True)))


def _calibrated(logits: Floats, target: Floats) -> tuple[float, float]:
    """Slope, not negative, and bias that make the logits of one head those of a probability."""
    centre, spread = float(logits.mean()), max(float(logits.std()), 1e-6)
    slope, bias = _penalised_fit(((logits - centre) / spread)[:, None], target, np.zeros(1), SLOPE_RIDGE)
    return float(slope[0]) / spread, bias - float(slope[0]) * centre / spread


def _penalised_fit(matrix: Floats, target: Floats, prior: Floats, ridge: float) -> tuple[Floats, float]:
    """(logit,) weights, none negative, and bias of a logistic regression that is drawn towards ``prior``."""

    def loss(parameters: Floats) -> tuple[float, Floats]:
        weights = parameters[:-1]
        sums = matrix @ weights + parameters[-1]
        error = expit(sums) - target
        value = _losses(sums[:, None], target[:, None]).sum() + ridge * np.square(weights - prior).sum()
        return float(value), np.append(matrix.T @ error + 2 * ridge * (weights - prior), error.sum())

    bounds = [(0.0, None)] * matrix.shape[1] + [(None, None)]
    fitted = minimize(loss, np.append(prior, 0.0), jac=True, method="L-BFGS-B", bounds=bounds)
    return fitted.x[:-1], float(fitted.x[-1])


def _losses(logits: Floats, target: Floats) -> Floats:
    """(logit,) binary cross-entropy of each column, summed over the objects."""
    losses: Floats = -(target * log_expit(logits) + (1 - target) * log_expit(-logits)).sum(axis=0)
    return losses
