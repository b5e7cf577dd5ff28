"""Average precision of many score lists at once, on their device."""

import torch
from torch import Tensor


def average_precisions(scores: Tensor, target: Tensor, counts: Tensor) -> Tensor:
    """(list,) average precision of each row, NaN where it has no positive.

    The sum over thresholds of precision times rise in recall, objects of equal scores counted together, as in
    ``sklearn.metrics.average_precision_score``. All inputs are (list, object): scores, finite where they count;
    targets, 1 or 0; and how often an object counts, such as 0 or False where a row is padded.
    """
    ranked, order = scores.masked_fill(counts == 0, -torch.inf).sort(dim=1, descending=True)
    counted = counts.gather(1, order).double()
    hits = (target.gather(1, order) * counted).cumsum(1)
    precision = hits / counted.cumsum(1).clamp(min=1)
    last = torch.ones_like(ranked, dtype=torch.bool)
    last[:, :-1] = ranked[:, :-1] != ranked[:, 1:]
    recalled = torch.where(last, hits, 0.0).cummax(1).values
    rise = recalled.diff(dim=1, prepend=torch.zeros_like(recalled[:, :1]))
    return (precision * rise).sum(1) / hits[:, -1]
