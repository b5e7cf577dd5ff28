"""What tests of training share: whether two runs ended alike, and something done at a chosen batch."""

import torch

from mmagn.training.checkpoints import read_checkpoint


def assert_same_end(left, right):
    """Weights, their average, buffers, optimiser and schedule agree bit for bit."""
    left, right = read_checkpoint(left.last), read_checkpoint(right.last)
    for part in ("state_dict", "current_model_state", "averaging_state"):
        ours, theirs = left.get(part, {}), right.get(part, {})
        assert ours.keys() == theirs.keys()
        for name, value in ours.items():
            assert torch.equal(value, theirs[name]), name
    for one, other in zip(
        left["optimizer_states"][0]["state"].values(), right["optimizer_states"][0]["state"].values(), strict=True
    ):
        assert all(torch.equal(one[name], other[name]) for name in one)
    assert left["global_step"] == right["global_step"]
    assert left["lr_schedulers"] == right["lr_schedulers"]


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
