"""Many fits at once are the same fits: as alone, whatever else is in the batch, each with its own stop."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from training_runs import fitted_fold

from mmagn.tensors.sources import PairTensors
from mmagn.training.callbacks import NonFiniteLossError
from mmagn.training.config import TrainingConfig
from mmagn.training.fold_fit import FoldFit
from mmagn.training.heads.fit import Member, many_fits, many_logits

CONFIG = TrainingConfig(epochs=5, patience=5, batch_size=16, learning_rate=0.01, device="cpu")
COUNT = 150
DRAWS = torch.Generator().manual_seed(3)
INPUTS = torch.randn(2, COUNT, 4, generator=DRAWS)
TARGET = (INPUTS[0, :, 0] + torch.randn(COUNT, generator=DRAWS) > 0.8).float()
ROWS = np.random.default_rng(0).permutation(COUNT)


def head_of(seed: int, dropout: float = 0.0) -> nn.Sequential:
    torch.manual_seed(seed)
    first, second, last = nn.Linear(4, 8), nn.Linear(8, 4), nn.Linear(4, 1)
    return nn.Sequential(first, nn.ReLU(), nn.Dropout(dropout), second, nn.ReLU(), nn.Dropout(dropout), last)


def member_of(seed: int, train: int = 90, validation: int = 30, view: int = 0) -> Member:
    return Member(
        train=np.sort(ROWS[:train]),
        validation=np.sort(ROWS[COUNT - validation :]),
        pos_weight=2.0 + seed,
        seed=seed,
        view=view,
    )


MEMBERS = (member_of(0), member_of(1, train=81, view=1), member_of(2, train=20, validation=11), member_of(5, train=97))
SETTINGS: tuple[dict[str, Any], ...] = (
    {},
    {"weight_decay": 0.1, "patience": 1, "epochs": 12},
    {"gradient_clip": 0.02, "batch_size": 10},
    {"gradient_clip": 0.0, "accumulate": 3},
    {"schedule": "cosine", "warmup_epochs": 1.5, "ema": 0.9, "accumulate": 2},
)


def weights(head: nn.Module) -> Tensor:
    return torch.cat([part.detach().flatten() for part in head.parameters()])


class Alone(nn.Module):
    def __init__(self, head: nn.Module) -> None:
        super().__init__()
        self.head = head

    def forward(self, batch: dict[str, Tensor]) -> Tensor:
        return self.head(batch["features"]).squeeze(-1)


def fitted_alone(head: nn.Sequential, member: Member, config: TrainingConfig = CONFIG) -> FoldFit:
    tensors = PairTensors(image=None, spectrum=None, features=INPUTS[member.view], target=TARGET)
    rows = np.sort(member.train), np.sort(member.validation)
    return fitted_fold(Alone(head), tensors, rows, config, pos_weight=member.pos_weight, seed=member.seed)


def fitted(
    members: Sequence[Member], config: TrainingConfig = CONFIG, dropout: float = 0.0
) -> tuple[list[FoldFit], list[nn.Sequential]]:
    heads = [head_of(member.seed, dropout) for member in members]
    return many_fits(heads, INPUTS, TARGET, members, config), heads


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_each_of_many_fits_is_the_fit_of_that_member_alone(settings: dict[str, Any]) -> None:
    config = dataclasses.replace(CONFIG, **settings)
    results, heads = fitted(MEMBERS, config)
    for member, result, head in zip(MEMBERS, results, heads, strict=True):
        other = head_of(member.seed)
        alone = fitted_alone(other, member, config)
        assert (result.best_epoch, result.epochs) == (alone.best_epoch, alone.epochs)
        assert result.best_score == pytest.approx(alone.best_score)
        torch.testing.assert_close(weights(head), weights(other), rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("dropout", [0.0, 0.4])
def test_what_else_is_in_the_batch_changes_nothing(dropout: float) -> None:
    together, heads = fitted(MEMBERS, dropout=dropout)
    for member, result, head in zip(MEMBERS, together, heads, strict=True):
        (alone,), (other,) = fitted([member], dropout=dropout)
        assert (result.best_epoch, result.epochs) == (alone.best_epoch, alone.epochs)
        torch.testing.assert_close(weights(head), weights(other), rtol=1e-3, atol=1e-5)


def test_the_same_batch_gives_the_same_weights_bit_for_bit() -> None:
    one, two = (fitted(MEMBERS, dropout=0.3)[1] for _ in range(2))
    for head, other in zip(one, two, strict=True):
        assert torch.equal(weights(head), weights(other))


def test_dropout_is_drawn_from_the_seed_and_leaves_the_expected_value() -> None:
    still = dataclasses.replace(CONFIG, epochs=1, learning_rate=1e-12)
    plain, dropped = head_of(0), head_of(0, dropout=0.4)
    many_fits([plain], INPUTS, TARGET, [member_of(0)], still)
    many_fits([dropped], INPUTS, TARGET, [member_of(0)], still)
    torch.testing.assert_close(weights(plain), weights(dropped))
    other = dataclasses.replace(member_of(0), seed=9)
    heads = [head_of(0, dropout=0.4) for _ in range(3)]
    many_fits(heads, INPUTS, TARGET, [member_of(0), member_of(0), other], CONFIG)
    assert torch.equal(weights(heads[0]), weights(heads[1]))
    assert not torch.equal(weights(heads[0]), weights(heads[2]))


def test_a_member_that_stops_early_keeps_its_best_weights_and_the_others_go_on() -> None:
    config = dataclasses.replace(CONFIG, epochs=40, patience=3, learning_rate=0.05)
    members = [member_of(seed) for seed in range(6)]
    results, heads = fitted(members, config)
    epochs = [result.epochs for result in results]
    assert min(epochs) < max(epochs)
    assert all(result.epochs == min(40, result.best_epoch + 1 + 3) for result in results)
    assert not any(head.training for head in heads)
    logits = many_logits(heads, INPUTS, views=[0] * len(heads))
    for row, head in zip(logits, heads, strict=True):
        torch.testing.assert_close(row, head(INPUTS[0]).squeeze(-1).detach(), rtol=1e-5, atol=1e-6)


def test_a_head_without_dropout_layers_and_with_other_activations_is_fitted_too() -> None:
    torch.manual_seed(0)
    head = nn.Sequential(nn.Linear(4, 8), nn.GELU(), nn.Linear(8, 1))
    other = nn.Sequential(nn.Linear(4, 8), nn.GELU(), nn.Linear(8, 1))
    other.load_state_dict(head.state_dict())
    many_fits([head], INPUTS, TARGET, [member_of(0)], CONFIG)
    fitted_alone(other, member_of(0))
    torch.testing.assert_close(weights(head), weights(other), rtol=1e-3, atol=1e-5)


def test_one_class_in_validation_is_scored_by_its_loss() -> None:
    negatives = np.sort(ROWS[90:][TARGET.numpy()[ROWS[90:]] == 0])
    single_class = dataclasses.replace(member_of(0), validation=negatives[:20])
    other = head_of(0)
    (result, usual), _ = fitted([single_class, member_of(1)])
    assert result.best_score == pytest.approx(fitted_alone(other, single_class).best_score, rel=1e-4)
    assert result.best_score < 0 < usual.best_score


def test_a_loss_that_is_not_finite_names_its_member() -> None:
    broken = INPUTS.clone()
    broken[1] = torch.nan
    heads = [head_of(0), head_of(1)]
    with pytest.raises(NonFiniteLossError, match="loss of epoch 1 is not finite for member 1;"):
        many_fits(heads, broken, TARGET, [member_of(0), member_of(1, view=1)], CONFIG)


@pytest.mark.parametrize(("train", "validation"), [(1, 30), (90, 0)])
def test_a_member_without_rows_to_train_or_to_validate_on_is_refused(train: int, validation: int) -> None:
    member = dataclasses.replace(member_of(0), train=ROWS[:train], validation=ROWS[:validation])
    with pytest.raises(ValueError, match=f"member 1 has {train} rows to train and {validation} to validate on"):
        fitted([member_of(1), member])
