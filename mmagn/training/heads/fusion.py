"""The heads of networks with several modalities, fitted to the embeddings of their finished branches."""

import logging
import math
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from mmagn.models.config import Branch
from mmagn.models.fusion import FusionModel
from mmagn.models.heads import HEAD, FusionHeads
from mmagn.records import Floats
from mmagn.tensors.missing import FeatureOrigin
from mmagn.tensors.sources import BatchSource
from mmagn.training.config import TrainingConfig
from mmagn.training.device import device_name
from mmagn.training.heads.fit import Member, many_fits
from mmagn.training.heads.late_fusion import late_fusion_weights

_BATCH = 64

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, eq=False)
class HeadsSettings:
    """How the heads of a network are fitted; ``origin`` is that of its features, None where it has none."""

    config: TrainingConfig
    origin: FeatureOrigin | None
    pos_weight: float
    seed: int


@dataclass(frozen=True, kw_only=True, eq=False)
class HeadsTask:
    """What the heads of one network are fitted to, in place.

    Attributes
    ----------
    heads, settings
        The heads, and how they are fitted.
    embedding
        (object, embedding), 0 in place of modalities that an object lacks.
    target
        (object,) 1, 0 or the probability of 1.
    train, validation
        (object,) rows to fit the MLPs on, and rows that choose their epochs and fit the late fusion.
    present
        (object, modality) bool: an object of those rows has this modality; None where all have every one.
    """

    heads: FusionHeads
    embedding: Tensor
    target: Tensor
    train: NDArray[np.int64]
    validation: NDArray[np.int64]
    settings: HeadsSettings
    present: Tensor | None = None

    def having(self, rows: NDArray[np.int64], modalities: Collection[str]) -> NDArray[np.int64]:
        """Those of some rows that have all the named modalities."""
        if self.present is None:
            return rows
        columns = [number for number, name in enumerate(self.heads.widths) if name in modalities]
        there = self.present[torch.from_numpy(rows).to(self.present.device)][:, columns].all(dim=1)
        return np.asarray(rows[there.cpu().numpy()])


def fit_model_heads(
    model: FusionModel, source: BatchSource, rows: tuple[NDArray[np.int64], NDArray[np.int64]], settings: HeadsSettings
) -> None:
    """Fit the heads of a network whose branches have their best weights; see :func:`fit_heads`.

    The source has scaled features and targets; ``rows`` are those for training and for validation. The network is in
    evaluation mode afterwards; one with a single modality stays as it is.
    """
    if (task := heads_task(model, source, rows, settings)) is not None:
        fit_heads([task])
    model.eval()


def heads_task(
    model: FusionModel, source: BatchSource, rows: tuple[NDArray[np.int64], NDArray[np.int64]], settings: HeadsSettings
) -> HeadsTask | None:
    """What the heads of a network are fitted to; None for one with a single modality. Parameters as above."""
    model.eval()
    if model.heads.late_fusion is None:
        return None
    train, validation = rows
    device = device_name(settings.config)
    model.to(device)
    embedding = torch.zeros((len(source), sum(model.heads.widths.values())), device=device)
    present = torch.zeros((len(source), len(model.heads.widths)), dtype=torch.bool, device=device)
    with torch.no_grad():
        for part in source.batches(np.concatenate(rows), _BATCH):
            batch = {name: values.to(device) for name, values in part.items()}
            embedding[batch["index"]] = model.embedding(batch).float()
            present[batch["index"]] = model.present(batch)
    return HeadsTask(
        heads=model.heads,
        embedding=embedding,
        present=present,
        target=source.target.to(device),
        train=train,
        validation=validation,
        settings=settings,
    )


def fit_heads(tasks: Sequence[HeadsTask]) -> None:
    """Fit the heads of networks with more than one modality to the embeddings of their branches, which do not change.

    The networks have one architecture, one number of objects, and the same settings of the optimisation. The auxiliary
    head of the features learns from the features alone. The MLP head learns from all embeddings and features, each
    object once whole and once without each of its modalities, where the features stay when the spectrum they were
    measured on is left out: branches of a few hundred objects remember them, and a head that can rely on any one of the
    modalities does not. The weights of the late fusion come from the validation rows, for each subset of modalities as
    it looks without the others.
    """
    whole = [task for task in tasks if "features" in task.heads.auxiliary]
    having = [
        replace(
            task,
            train=task.having(task.train, ["features"]),
            validation=task.having(task.validation, ["features"]),
        )
        for task in whole
    ]
    _fit_mlps([task.heads.auxiliary["features"] for task in having], having, _features_alone)
    _fit_mlps([task.heads.head for task in tasks], tasks, _with_each_left_out)
    for task in tasks:
        _fit_late_fusion(task)


def _fit_mlps(mlps: Sequence[Any], tasks: Sequence[HeadsTask], views: Callable[[HeadsTask], Tensor]) -> None:
    """Fit one MLP of each task, all as one batch, to the (view, object, width) inputs of the task."""
    if not tasks:
        return
    inputs = [views(task) for task in tasks]
    copies, count = inputs[0].shape[:2]
    training = tasks[0].settings.config
    config = replace(
        training,
        epochs=training.head_epochs,
        patience=training.head_patience,
        batch_size=training.batch_size * copies,
        schedule="constant",
        warmup_epochs=0.0,
    )
    members = [
        Member(
            train=np.concatenate([task.train + copy * count for copy in range(copies)]),
            validation=task.validation if len(task.validation) else task.train,
            pos_weight=task.settings.pos_weight,
            seed=task.settings.seed,
            view=number,
        )
        for number, task in enumerate(tasks)
    ]
    for mlp, task in zip(mlps, tasks, strict=True):
        _initialise(mlp.cpu(), task.settings.seed)  # there, so that no device starts from other weights
        mlp.to(inputs[0].device)
    target = torch.stack([task.target.float().repeat(copies) for task in tasks])
    many_fits(mlps, torch.stack([each.flatten(0, 1) for each in inputs]), target, members, config)


def _initialise(mlp: nn.Module, seed: int) -> None:
    """Draw the first weights of an MLP from a seed, so that a fit does not depend on an earlier one."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for layer in mlp.modules():
            if isinstance(layer, nn.Linear):
                layer.reset_parameters()


def _features_alone(task: HeadsTask) -> Tensor:
    return task.heads.split(task.embedding)["features"][None]


def _with_each_left_out(task: HeadsTask) -> Tensor:
    """(view, object, embedding) embeddings with all modalities, and without each of them in turn."""
    names = list(task.heads.widths)
    subsets = [names, *([name for name in names if name != left_out] for left_out in names if len(names) > 1)]
    return torch.stack([_restricted(task, subset) for subset in subsets])


def _restricted(task: HeadsTask, subset: Collection[str]) -> Tensor:
    """(object, embedding) embeddings with 0 in place of the modalities outside a subset."""
    parts = task.heads.split(task.embedding)
    return torch.cat([part if name in subset else torch.zeros_like(part) for name, part in parts.items()], dim=1)


def _fit_late_fusion(task: HeadsTask) -> None:
    """Fit the weights of every subset of modalities to the validation rows."""
    late_fusion, names = task.heads.late_fusion, list(task.heads.widths)
    if late_fusion is None:
        return
    for subset in range(1, 2 ** len(names)):
        members = [name for bit, name in enumerate(names) if subset >> bit & 1]
        rows = task.having(task.validation if len(task.validation) else task.train, members)
        target = task.target[torch.from_numpy(rows)].double().cpu().numpy()
        if not len(rows) or target.min() == target.max():
            continue
        logits = _subset_logits(task, rows, members)
        weights, bias = late_fusion_weights(logits, np.round(target), chosen_on=[HEAD])
        row = torch.tensor([weights.get(name, 0.0) for name in late_fusion.names])
        late_fusion.weight[subset] = row.to(late_fusion.weight)
        shift = math.log(task.settings.pos_weight)  # that the weighted loss gives every logit
        late_fusion.bias[subset] = bias + shift
        logger.debug("late fusion of %s: %s, bias %.2f", ", ".join(members), weights, bias)


@torch.no_grad()
def _subset_logits(task: HeadsTask, rows: NDArray[np.int64], members: Sequence[Branch]) -> dict[str, Floats]:
    """(object,) logits of the given rows by name, as they are for objects with no other modalities.

    A modality alone keeps what it has: the features of a catalogue are measured, whether or not the data are there.
    """
    embedding = task.embedding
    if len(members) > 1 and "features" in members and task.settings.origin is not None:
        parts = task.heads.split(embedding)
        every = torch.ones(len(embedding), dtype=torch.bool, device=embedding.device)
        valid = {name: every & (name in members or name not in parts) for name in ("image", "spectrum")}
        parts["features"] = task.settings.origin.to(embedding.device).with_imputed(
            parts["features"], valid["image"], valid["spectrum"]
        )
        embedding = torch.cat(list(parts.values()), dim=1)
    chosen = torch.from_numpy(rows).to(embedding.device)
    restricted = _restricted(replace(task, embedding=embedding[chosen]), members)
    task.heads.eval()
    present = torch.ones((len(rows), len(task.heads.widths)), dtype=torch.bool, device=embedding.device)
    parts = task.heads(restricted, present).parts
    return {name: parts[name].double().cpu().numpy() for name in ([HEAD] if len(members) > 1 else []) + list(members)}
