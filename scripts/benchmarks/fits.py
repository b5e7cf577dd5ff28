"""Many fits of a small head as one batch against the same fits one by one."""

import time
from typing import Any

import numpy as np
import torch
from torch import nn

from mmagn.config.run_config import RunConfig
from mmagn.models.config import ModelsConfig
from mmagn.models.fusion import FusionModel
from mmagn.runs.sample import network
from mmagn.tensors.config import AugmentConfig
from mmagn.tensors.datamodule import BatchPlan, PairDataModule
from mmagn.tensors.sources import PairTensors
from mmagn.training.config import TrainingConfig
from mmagn.training.device import device_name
from mmagn.training.fold_fit import fold_fit
from mmagn.training.heads.fit import Member, many_fits
from mmagn.training.module import AgnModule

FOLDS, SEEDS, EPOCHS = 5, 10, 100
ALONE_EPOCHS = 10
"""Epochs of the fit that stands for one of the single fits; its seconds are scaled up."""


def fit_rows(objects: int, repeats: int, seed: int) -> tuple[list[tuple[str, str, str]], dict[str, Any]]:
    """Rows of the table and the numbers in them: 5 folds x 10 seeds x 100 epochs of the handcrafted network."""
    rng = np.random.default_rng(seed)
    config = RunConfig(models=ModelsConfig(branches=("features",)))
    inputs = torch.from_numpy(rng.normal(size=(objects, len(config.tensors.features))).astype(np.float32))
    target = torch.from_numpy((rng.random(objects) < 0.2).astype(np.float32))
    training = TrainingConfig(epochs=EPOCHS, patience=EPOCHS)
    members = _members(objects, training, rng)
    together: list[tuple[float, float]] = []
    alone: list[tuple[float, float]] = []
    short = TrainingConfig(epochs=ALONE_EPOCHS, patience=ALONE_EPOCHS)
    for _ in range(repeats):
        together.append(_seconds(lambda: many_fits(_heads(config), inputs, target, members)))
        wall, processor = _seconds(lambda: _fit_alone(network(config), inputs, target, members[0], short))
        scale = FOLDS * SEEDS * EPOCHS / ALONE_EPOCHS
        alone.append((scale * wall, scale * processor))
    (wall, processor), (wall_alone, processor_alone) = (np.median(taken, axis=0) for taken in (together, alone))
    each = ", ".join(f"{one[0] / many[0]:.0f}" for one, many in zip(alone, together, strict=True))
    title = f"handcrafted network, {FOLDS} folds x {SEEDS} seeds x {EPOCHS} epochs, {objects} objects"
    fits, busy = FOLDS * SEEDS, processor_alone / processor
    ratio = float(np.median([one[0] / many[0] for one, many in zip(alone, together, strict=True)]))
    rows = [
        (title, "<= 20 s", f"{wall:.1f} s (processor {processor:.1f} s)"),
        (
            "  relative to one by one",
            ">= 10 x",
            f"{ratio:.0f} x ({each}; processor {busy:.0f} x)",
        ),
        ("  fits per hour, as one batch", "", f"{3600 * fits / wall:.0f}"),
        ("  fits per hour, one by one", "", f"{3600 * fits / wall_alone:.0f}"),
    ]
    return rows, {"seconds_together": together, "seconds_one_by_one": alone, "ratio": ratio}


def _members(objects: int, training: TrainingConfig, rng: np.random.Generator) -> list[Member]:
    """Five folds with ten seeds each: three fifths train, one fifth validates."""
    parts = np.array_split(rng.permutation(objects), FOLDS)
    members = []
    for fold in range(FOLDS):
        train = np.sort(np.concatenate([parts[(fold + step) % FOLDS] for step in (2, 3, 4)]))
        validation = np.sort(parts[(fold + 1) % FOLDS])
        members += [
            Member(train=train, validation=validation, pos_weight=4.0, seed=seed, config=training)
            for seed in range(SEEDS)
        ]
    return members


def _heads(config: RunConfig) -> list[nn.Sequential]:
    return [network(config).heads.head for _ in range(FOLDS * SEEDS)]


def _fit_alone(
    model: FusionModel, inputs: torch.Tensor, target: torch.Tensor, member: Member, training: TrainingConfig
) -> None:
    split = np.full(len(inputs), "test", dtype="<U10")
    split[member.train], split[member.validation] = "train", "validation"
    tensors = PairTensors(image=None, spectrum=None, features=inputs, target=target).to(device_name(training))
    plan = BatchPlan(batch_size=training.batch_size, augment=AugmentConfig(), seed=member.seed)
    module = AgnModule(model, training, pos_weight=member.pos_weight, seed=member.seed)
    fold_fit(module, PairDataModule(tensors, split, plan))


def _seconds(work: Any) -> tuple[float, float]:
    """Seconds of the clock and of the processor."""
    start_s, used_s = time.perf_counter(), time.process_time()
    work()
    return time.perf_counter() - start_s, time.process_time() - used_s
