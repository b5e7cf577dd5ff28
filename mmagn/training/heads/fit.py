"""Many fits of a small head at once: folds, seeds and trials side by side, as one batch of networks.

Each member is optimised as :func:`mmagn.training.fold_fit.fold_fit` would do it alone: its own rows, order,
dropout, Adam, clipping, patience and best epoch. What else is in the batch changes nothing for it.
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn

from mmagn.training.fold_fit import FoldFit
from mmagn.training.heads.batch import Member, MemberBatch
from mmagn.training.heads.stacked import Architecture, StackedHeads, architecture

__all__ = ["Member", "many_fits", "many_logits"]

_PREDICTED_AT_ONCE = 4096


def many_fits(
    heads: Sequence[nn.Sequential], inputs: Tensor, target: Tensor, members: Sequence[Member]
) -> list[FoldFit]:
    """Train all heads in place, leave each with the weights of its best epoch, in evaluation mode, and return results.

    All arithmetic is float32. Heads of equal widths are trained together.

    Parameters
    ----------
    heads, members
        (member,) networks with their first weights, of Linear layers, Dropout, and layers without weights between them,
        such as ``FusionHeads.head``; and how each is fitted.
    inputs
        (view, object, feature) float32 on the device of the training; (object, feature) is one view.
    target
        (object,) float32: 1, 0 or the probability of 1; or (view, object) where it differs from view to view.

    Raises
    ------
    NonFiniteLossError
        Where a loss or a validation logit is not finite; names the members.
    ValueError
        Where numbers do not match, or a head has a layer that is none of the above.
    """
    views = inputs if inputs.ndim == 3 else inputs[None]
    _check(heads, views, target, members)
    results: dict[int, FoldFit] = {}
    for numbers in _alike(heads):
        batch = MemberBatch([heads[n] for n in numbers], views, target, [members[n] for n in numbers], numbers)
        results |= batch.fitted()
    return [results[number] for number in range(len(heads))]


@torch.inference_mode()
def many_logits(heads: Sequence[nn.Sequential], inputs: Tensor, views: Sequence[int] | None = None) -> Tensor:
    """(member, object) logits of all objects from every head, without dropout.

    Heads and inputs are as for :func:`many_fits`; ``views`` (member,) what each head sees, the first one by default.
    """
    layers = inputs if inputs.ndim == 3 else inputs[None]
    chosen = torch.zeros(len(heads), dtype=torch.int64) if views is None else torch.tensor(list(views))
    logits = torch.empty((len(heads), layers.shape[1]), device=inputs.device)
    for numbers in _alike(heads):
        stacked = StackedHeads([heads[number] for number in numbers], inputs.device)
        parts, view = stacked.parts(stacked.weights), chosen[numbers].to(inputs.device)
        for first in range(0, layers.shape[1], _PREDICTED_AT_ONCE):
            last = first + _PREDICTED_AT_ONCE
            logits[numbers, first:last] = stacked.logits(parts, layers[:, first:last][view])
    return logits


def _alike(heads: Sequence[nn.Sequential]) -> Iterator[list[int]]:
    """Numbers of the heads of each architecture."""
    groups: dict[Architecture, list[int]] = defaultdict(list)
    for number, head in enumerate(heads):
        groups[architecture(head)].append(number)
    yield from groups.values()


def _check(heads: Sequence[nn.Sequential], views: Tensor, target: Tensor, members: Sequence[Member]) -> None:
    if len(heads) != len(members):
        raise ValueError(f"{len(heads)} heads came with {len(members)} members; needed: one head for each")
    if target.shape not in (views.shape[1:2], views.shape[:2]):
        raise ValueError(f"inputs {tuple(views.shape)} (view, object, feature) came with targets {tuple(target.shape)}")
    for number, member in enumerate(members):
        if not 0 <= member.view < len(views):
            raise ValueError(f"member {number} wants view {member.view} of the inputs; there are {len(views)}")
        if len(member.train) < 2 or not len(member.validation):
            raise ValueError(
                f"member {number} has {len(member.train)} rows to train and {len(member.validation)} to validate on; "
                "needed: 2 and 1 or more"
            )
