"""Average precision of many score lists at once, on their device."""

import torch
from torch import Tensor


def average_precisions(logits: Tensor, target: Tensor, valid: Tensor) -> Tensor:
    """(member,) average precision of each row, NaN where it has no positive.

    The sum over thresholds of precision times rise in recall, objects of equal logits counted together, as in
    ``sklearn.metrics.average_precision_score``. All inputs are (member, object): logits, finite where valid; targets,
    1 or 0; and ``valid``, False where a row is padded.
    """
    ranked, order = logits.masked_fill(~valid, -torch.inf).sort(dim=1, descending=True)
    counted = valid.gather(1, order).double()
    hits = (target.gather(1, order) * counted).cumsum(1)
    precision = hits / counted.cumsum(1).clamp(min=1)
    last = torch.ones_like(valid)
    last[:, :-1] = ranked[:, :-1] != ranked[:, 1:]
    recalled = torch.where(last, hits, 0.0).cummax(1).values
    rise = recalled.diff(dim=1, prepend=torch.zeros_like(recalled[:, :1]))
    return (precision * rise).sum(1) / hits[:, -1]
