"""A fit of a cross-validation learns what there is to learn, repeats itself, and keeps its best weights."""

import dataclasses

import numpy as np
import pytest
import torch
from sklearn.metrics import average_precision_score
from torch import Tensor, nn
from training_runs import fitted_fold

from mmagn.tensors.sources import PairTensors
from mmagn.training.callbacks import NonFiniteLossError
from mmagn.training.config import TrainingConfig
from mmagn.training.fold_fit import FoldFit

CONFIG = TrainingConfig(epochs=20, patience=20, learning_rate=0.01, device="cpu")
ROWS = torch.arange(300)
TRAIN, VALIDATION, TEST = ROWS[:180], ROWS[180:240], ROWS[240:]


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layers = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Dropout(0.2), nn.Linear(8, 1))

    def forward(self, batch: dict[str, Tensor]) -> Tensor:
        return self.layers(batch["features"]).squeeze(-1)


def fitted(features: Tensor, target: Tensor, config: TrainingConfig = CONFIG, seed: int = 1) -> tuple[Net, FoldFit]:
    model = Net()
    tensors = PairTensors(image=None, spectrum=None, features=features, target=target)
    return model, fitted_fold(model, tensors, (TRAIN, VALIDATION), config, seed=seed)


@pytest.fixture
def target() -> Tensor:
    return (torch.rand(300, generator=torch.Generator().manual_seed(5)) < 0.3).float()


def test_a_leak_is_learnt_and_shuffled_labels_score_at_prevalence(target: Tensor) -> None:
    features = torch.randn(300, 4, generator=torch.Generator().manual_seed(2))
    leak = features.clone()
    leak[:, 0] += 4 * target
    precision = []
    for seen in (leak, features):
        model, _ = fitted(seen, target)
        logits = model({"features": seen[TEST]}).detach().numpy()
        precision.append(average_precision_score(target[TEST].numpy(), logits))
    assert precision[0] > 0.95
    assert abs(precision[1] - float(target[TEST].mean())) < 0.2


def test_the_same_seed_gives_the_same_weights_and_another_seed_others(target: Tensor) -> None:
    features = torch.randn(300, 4, generator=torch.Generator().manual_seed(2)) + target[:, None]
    one, two, other = (fitted(features, target, seed=seed)[0].state_dict() for seed in (1, 1, 2))
    assert all(torch.equal(one[name], two[name]) for name in one)
    assert not all(torch.equal(one[name], other[name]) for name in one)


def test_the_best_epoch_is_kept_and_patience_ends_the_fit(target: Tensor) -> None:
    features = torch.randn(300, 4, generator=torch.Generator().manual_seed(2))
    impatient = TrainingConfig(epochs=200, patience=3, learning_rate=0.01, device="cpu")
    model, result = fitted(features, target, impatient)
    assert result.epochs == result.best_epoch + 1 + 3 < 200
    assert not model.training
    logits = model({"features": features[VALIDATION]}).detach().numpy()
    assert average_precision_score(target[VALIDATION].numpy(), logits) == pytest.approx(result.best_score)


def test_accumulated_batches_are_one_large_batch_and_the_average_lags_behind(target: Tensor) -> None:
    features = torch.randn(300, 4, generator=torch.Generator().manual_seed(2)) + target[:, None]
    once = TrainingConfig(epochs=1, batch_size=90, learning_rate=0.01, device="cpu")
    changes = ({}, {"batch_size": 45, "accumulate": 2}, {"ema": 0.9})
    states = [fitted_without_dropout(features, target, dataclasses.replace(once, **each)) for each in changes]
    torch.testing.assert_close(states[0], states[1], rtol=1e-4, atol=1e-6)
    start = torch.cat([part.flatten() for part in Net().parameters()]).detach()
    assert (states[2] - start).norm() < (states[0] - start).norm()


def fitted_without_dropout(features: Tensor, target: Tensor, config: TrainingConfig) -> Tensor:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.nn.functional, "dropout", lambda values, *_, **__: values)
        model, _ = fitted(features, target, config)
    return torch.cat([part.detach().flatten() for part in model.parameters()])


def test_one_class_in_validation_is_scored_by_its_loss(target: Tensor) -> None:
    features = torch.randn(300, 4) + target[:, None]
    single_class = target.clone()
    single_class[VALIDATION] = 0
    assert fitted(features, single_class)[1].best_score < 0


def test_a_non_finite_loss_ends_the_fit_and_names_the_step(target: Tensor) -> None:
    with pytest.raises(NonFiniteLossError, match="epoch 1, step 1: the loss is nan"):
        fitted(torch.full((300, 4), np.nan), target)
