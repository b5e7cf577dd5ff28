"""Baselines without a network: logistic regression and the two-ratio rule."""

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import SplineTransformer

from mmagn.labels.bpt import SeyfertLiner, bpt_class
from mmagn.labels.scheme import POSITIVE_CLASSES
from mmagn.records import Floats
from mmagn.tensors.scaling import FeatureScaling

SPLINE_KNOTS = 5
"""Knots of the cubic splines of a nuisance quantity: a class may be frequent at middle values only."""
RULE_LOGIT = 4.0
"""Logit of a positive answer of the two-ratio rule; minus this for a negative one."""


def logistic_logits(
    values: Floats,
    valid: NDArray[np.bool_],
    target: Floats,
    train: NDArray[np.int64],
    *,
    pos_weight: float,
    splines: bool = False,
) -> Floats:
    """Return the logits (object,) of logistic regression, for all objects; scaling and imputation see ``train`` only.

    Parameters
    ----------
    values, valid
        (object, feature) raw values and where they are defined.
    target, train
        (object,) 1 positive, 0 negative; rows to fit, whose targets alone are used.
    pos_weight
        Weight of the positives, as in the loss of the networks.
    splines
        Use cubic splines of each feature, so that the logit need not be monotonic.
    """
    scaled = FeatureScaling.fit(values[train], valid[train]).transform(values, valid).astype(np.float64)
    regression = LogisticRegression(class_weight={0.0: 1.0, 1.0: pos_weight}, max_iter=1000)
    curved = SplineTransformer(n_knots=SPLINE_KNOTS, knots="quantile", include_bias=False)
    model = make_pipeline(curved, regression) if splines else regression
    model.fit(scaled[train], target[train])
    return np.asarray(model.decision_function(scaled), dtype=np.float64)


def rule_logits(log_nii_halpha: ArrayLike, log_oiii_hbeta: ArrayLike, seyfert_liner: SeyfertLiner) -> Floats:
    """Return ``RULE_LOGIT`` (object,) where the two measured ratios make a Seyfert or composite, else minus that.

    The labels are made by the same rule from the same ratios: this checks the bookkeeping and nothing else.
    """
    positive = np.isin(bpt_class(log_nii_halpha, log_oiii_hbeta, seyfert_liner), POSITIVE_CLASSES)
    return np.where(positive, RULE_LOGIT, -RULE_LOGIT)
