"""Fits side by side are the fits one after another, whatever runs beside them."""

import dataclasses

import pytest
import torch
from training_runs import fitted_fold, on_a_gpu

from mmagn.tensors.sources import PairTensors
from mmagn.training.config import TrainingConfig
from mmagn.training.side_by_side import pass_turn, side_by_side

CONFIG = TrainingConfig(epochs=3, patience=3, learning_rate=0.01, device="cpu", precision="32-true")
FEATURES = torch.randn(200, 12, generator=torch.Generator().manual_seed(1))
TENSORS = PairTensors(image=None, spectrum=None, features=FEATURES, target=(FEATURES[:, 0] > 0.5).float())


def weights_of(make_network, seed, config):
    torch.manual_seed(seed)
    network = make_network()
    rows = torch.arange(20 * seed, 20 * seed + 100), torch.arange(150, 200)
    fitted_fold(network, TENSORS.to(config.device), rows, config, seed=seed)
    return {name: value.cpu() for name, value in network.state_dict().items()}


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=on_a_gpu)])
def test_the_result_of_a_fit_does_not_depend_on_what_runs_beside_it(make_network, device):
    config = dataclasses.replace(CONFIG, device=device)
    alone = [weights_of(make_network, seed, config) for seed in range(3)]
    fits = [lambda seed=seed: weights_of(make_network, seed, config) for seed in range(3)]
    together = side_by_side(fits, 3)
    for one, other in zip(alone, together, strict=True):
        for name, value in one.items():
            torch.testing.assert_close(other[name], value, rtol=1e-4 if device == "cuda" else 0, atol=1e-5)


def test_threads_take_turns_in_order_and_more_fits_than_threads_are_all_done():
    order = []

    def fit(number):
        for _ in range(2):
            order.append(number)
            pass_turn()
        return number

    assert side_by_side([lambda number=number: fit(number) for number in range(4)], 2) == [0, 1, 2, 3]
    assert order == [0, 1, 0, 1, 2, 3, 2, 3]


def test_the_first_error_ends_all_fits_and_is_raised():
    steps = []

    def endless():
        while True:
            steps.append(1)
            pass_turn()

    def broken():
        pass_turn()
        raise ValueError("this fit cannot be done")

    with pytest.raises(ValueError, match="this fit cannot be done"):
        side_by_side([endless, broken], 2)
    assert len(steps) < 10
