"""Many fits of a small head as one batch against one by one; a fold fit through Lightning against a bare loop."""

import copy
import logging
import time
from typing import Any

import numpy as np
import torch
from sklearn.metrics import average_precision_score
from torch import nn

from benchmarks.pairs import machine
from mmagn.config.run_config import RunConfig
from mmagn.models.config import ModelsConfig
from mmagn.models.fusion import FusionModel
from mmagn.records import BANDS
from mmagn.runs.sample import network
from mmagn.tensors.augment import augment_batch
from mmagn.tensors.config import AugmentConfig
from mmagn.tensors.datamodule import BatchPlan, PairDataModule
from mmagn.tensors.sources import PairTensors, as_floats
from mmagn.tensors.spectrum import spectrum_pixels
from mmagn.training.config import TrainingConfig
from mmagn.training.device import device_name
from mmagn.training.fold_fit import fold_fit
from mmagn.training.heads.fit import Member, many_fits
from mmagn.training.losses import weighted_bce
from mmagn.training.module import AgnModule
from mmagn.training.optimiser import optimiser

FOLDS, SEEDS, EPOCHS = 5, 10, 100
FOLD_EPOCHS = 4
ALONE_EPOCHS = 10
"""Epochs of the fit that stands for one of the single fits; its seconds are scaled up."""


def fit_benchmark(objects: int, pairs: int, repeats: int, seed: int) -> None:
    """Measure the fits of folds and print a table."""
    logging.getLogger("mmagn").setLevel(logging.ERROR)
    print(f"machine: {machine()}; {torch.get_num_threads()} threads", flush=True)
    rows, _ = fit_rows(objects, repeats, seed)
    for row in [*rows, fold_fit_row(pairs, repeats, seed)]:
        print(f"{row[0]:<60}  {row[1]:>9}  {row[2]}", flush=True)


def fold_fit_row(pairs: int, repeats: int, seed: int) -> tuple[str, str, str]:
    """Row of the processor time of a fold fit of the fused network relative to a bare loop, by turns on one machine.

    Both train on four fifths of the same tensors in as many steps, and validate on the rest after each epoch.
    """
    rng, config = np.random.default_rng(seed), RunConfig(seed=seed)
    size, pixels = config.tensors.image_size, spectrum_pixels(config.tensors)
    shapes = {"image": (len(BANDS), size, size), "spectrum": (2, pixels), "features": (len(config.tensors.features),)}
    arrays = {name: torch.from_numpy(rng.random((pairs, *shape))) for name, shape in shapes.items()}
    halves = {name: arrays[name].half() for name in ("image", "spectrum")}
    target = torch.from_numpy((rng.random(pairs) < 0.3).astype(np.float32))
    tensors = PairTensors(**halves, features=arrays["features"].float(), target=target)
    split = np.where(np.arange(pairs) < 4 * pairs // 5, "train", "validation")
    training = TrainingConfig(epochs=FOLD_EPOCHS, patience=FOLD_EPOCHS, device="cpu")
    plan = BatchPlan(batch_size=training.batch_size, augment=config.tensors.augment, seed=seed)
    ratios = []
    for _ in range(repeats):
        data = PairDataModule(tensors, split, plan)
        module = AgnModule(network(config), training, 4.0, seed)
        _, through_lightning = _seconds(lambda: fold_fit(module, data))  # noqa: B023
        _, alone = _seconds(lambda: _bare_fit(network(config), data, training))  # noqa: B023
        ratios.append(through_lightning / alone)
    each = ", ".join(f"{ratio:.3f}" for ratio in ratios)
    what = f"fold fit, {pairs} pairs x {FOLD_EPOCHS} epochs, over a bare PyTorch loop"
    return what, "<= 1.10", f"{np.median(ratios):.3f} ({min(ratios):.3f} to {max(ratios):.3f}: {each}; processor)"


def _bare_fit(model: FusionModel, data: PairDataModule, training: TrainingConfig) -> None:
    """Train with PyTorch alone: augmented batches, the loss of each branch, its weights at its best epoch."""
    adam, weight, names = optimiser(model, training), torch.tensor(4.0), [*model.branch_modules()]
    train, validation = data.rows("train"), data.rows("validation")
    best, weights = dict.fromkeys(names, -1.0), {}
    for epoch in range(training.epochs):
        model.train()
        generator = torch.Generator().manual_seed(epoch)
        for rows in train[torch.randperm(len(train), generator=generator)].split(training.batch_size):
            batch = as_floats(data.tensors.gathered(rows))
            batch = augment_batch(batch, data.plan.augment, generator, softening=data.tensors.softening)
            logits = model.branch_logits(batch, names)
            losses = [weighted_bce(each, batch["target"], weight).mean() for each in logits.values()]
            torch.autograd.backward(torch.stack(losses).sum())
            nn.utils.clip_grad_norm_(model.parameters(), training.gradient_clip)
            adam.step()
            adam.zero_grad()
        model.eval()
        with torch.no_grad():
            batches = [data.tensors.batch(rows) for rows in validation.split(training.batch_size)]
            parts = [model.branch_logits(batch, names) for batch in batches]
        for name in names:
            score = average_precision_score(data.tensors.target[validation], torch.cat([part[name] for part in parts]))
            if score > best[name]:
                best[name], weights[name] = score, copy.deepcopy(model.state_dict())


def fit_rows(objects: int, repeats: int, seed: int) -> tuple[list[tuple[str, str, str]], dict[str, Any]]:
    """Rows of the table and the numbers in them: 5 folds x 10 seeds x 100 epochs of the handcrafted network."""
    rng = np.random.default_rng(seed)
    config = RunConfig(models=ModelsConfig(branches=("features",)))
    inputs = torch.from_numpy(rng.normal(size=(objects, len(config.tensors.features))).astype(np.float32))
    target = torch.from_numpy((rng.random(objects) < 0.2).astype(np.float32))
    training = TrainingConfig(epochs=EPOCHS, patience=EPOCHS)
    members = _members(objects, rng)
    together: list[tuple[float, float]] = []
    alone: list[tuple[float, float]] = []
    short = TrainingConfig(epochs=ALONE_EPOCHS, patience=ALONE_EPOCHS)
    for _ in range(repeats):
        together.append(_seconds(lambda: many_fits(_heads(config), inputs, target, members, training)))
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


def _members(objects: int, rng: np.random.Generator) -> list[Member]:
    """Five folds with ten seeds each: three fifths train, one fifth validates."""
    parts = np.array_split(rng.permutation(objects), FOLDS)
    members = []
    for fold in range(FOLDS):
        train = np.sort(np.concatenate([parts[(fold + step) % FOLDS] for step in (2, 3, 4)]))
        validation = np.sort(parts[(fold + 1) % FOLDS])
        members += [Member(train=train, validation=validation, pos_weight=4.0, seed=seed) for seed in range(SEEDS)]
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
