"""Models on vectors that were computed elsewhere: a linear probe, and its late fusion with a network."""

import logging
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import average_precision_score

from mmagn.evaluation.folds import Fold
from mmagn.records import Floats
from mmagn.tensors.scaling import FeatureScaling
from mmagn.training.heads.late_fusion import late_fusion_weights

STRENGTHS = (1e-4, 1e-3, 1e-2, 0.1, 1.0)
"""Inverse strengths of the penalty of the probe; the validation rows choose."""

logger = logging.getLogger(__name__)


def probe_logits(vectors: Floats, target: Floats, fold: Fold, *, pos_weight: float) -> Floats:
    """Return the logits (object,) of a linear probe: penalised logistic regression on standardised vectors.

    Scaling and imputation of missing vectors see the training rows alone. The strength of the penalty is that with the
    highest average precision on the validation rows.

    Parameters
    ----------
    vectors
        (object, length), NaN where an object has none.
    target
        (object,) 1 positive, 0 negative.
    fold
        Training and validation rows.
    pos_weight
        Weight of the positives, as in the loss of the networks.
    """
    valid = np.isfinite(vectors)
    train, validation = fold.train, fold.validation
    scaling = FeatureScaling.fit(vectors[train], valid[train])
    scaled = scaling.transform(vectors, valid).astype(np.float64)
    best, best_score = np.zeros(len(target)), -1.0
    for strength in STRENGTHS:
        model = LogisticRegression(C=strength, class_weight={0.0: 1.0, 1.0: pos_weight}, max_iter=2000)
        model.fit(scaled[train], target[train])
        logits = np.asarray(model.decision_function(scaled), dtype=np.float64)
        score = float(average_precision_score(target[validation], logits[validation]))
        if score > best_score:
            best, best_score = logits, score
    return best


def late_fusion_logits(parts: Mapping[str, Floats], target: Floats, validation: NDArray[np.int64]) -> Floats:
    """Return the fused logits (object,): a weight for each part and a bias, fitted to the validation rows.

    Rows that the parts were trained on would trust the part that remembers them best.

    Parameters
    ----------
    parts
        (object,) logits by name of models that were fitted without the validation rows; NaN in training rows.
    target
        (object,) 1 positive, 0 negative.
    validation
        Rows of both.
    """
    seen = {name: logits[validation] for name, logits in parts.items()}
    weights, bias = late_fusion_weights(seen, target[validation])
    return np.asarray(bias + sum(weights[name] * logits for name, logits in parts.items()))
