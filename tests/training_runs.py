"""What tests of training share: whether two runs ended alike, something done at a chosen batch, the fit of a fold."""

import numpy as np
import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from mmagn.tensors.config import AugmentConfig
from mmagn.tensors.datamodule import BatchPlan, PairDataModule
from mmagn.training.checkpoints import read_checkpoint
from mmagn.training.fold_fit import fold_fit
from mmagn.training.module import AgnModule


def assert_same_end(left, right):
    """Weights, their average, buffers, optimiser and schedule agree bit for bit."""
    left, right = read_checkpoint(left.last), read_checkpoint(right.last)
    ours, theirs = left["state_dict"], right["state_dict"]
    assert ours.keys() == theirs.keys()
    for name, value in ours.items():
        assert torch.equal(value, theirs[name]), name
    averages = [state["callbacks"].get("MovingAverage", {"values": []})["values"] for state in (left, right)]
    assert all(torch.equal(one, other) for one, other in zip(*averages, strict=True))
    for one, other in zip(
        left["optimizer_states"][0]["state"].values(), right["optimizer_states"][0]["state"].values(), strict=True
    ):
        assert all(torch.equal(one[name], other[name]) for name in one)
    assert left["global_step"] == right["global_step"]


def at_training_batch(module, number, action):
    """Do something when the network sees its training batch of that number, counted from 1."""
    seen = []

    def look(network, arguments):
        if network.training:
            seen.append(1)
            if len(seen) == number:
                action(arguments[0])

    module.model.register_forward_pre_hook(look)
    return module


UNCHANGED = AugmentConfig(dihedral=False, image_noise=0.0, spectrum_noise=0.0)


def fitted_fold(model, tensors, rows, config, *, pos_weight=1.0, seed=1, augment=UNCHANGED):
    """Result of a fit of a model to (train, validation) rows of tensors; the model is changed."""
    split = np.full(len(tensors), "test", dtype="<U10")
    split[rows[0]], split[rows[1]] = "train", "validation"
    plan = BatchPlan(batch_size=config.batch_size, augment=augment, seed=seed, stream=1)
    module = AgnModule(model, config, pos_weight=pos_weight, seed=seed)
    return fold_fit(module, PairDataModule(tensors, split, plan))


def board(run):
    """TensorBoard events of a run."""
    accumulator = EventAccumulator(str(run.tensorboard))
    accumulator.Reload()
    return accumulator


def scalars(run, tag):
    """Logged values of a tag."""
    return [event.value for event in board(run).Scalars(tag)]


on_a_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU, and torch finds none")
