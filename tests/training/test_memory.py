"""Where memory runs out, the batch size that fits is named, whatever device it ran out on."""

import dataclasses

import pytest
import torch

from mmagn.training.memory import BatchTooLargeError, is_out_of_memory

CPU_MESSAGE = (
    "[enforce fail at alloc_cpu.cpp:121] DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 PB"
)


def with_room_for(network, pairs, error):
    """Network whose forward pass fails for more pairs."""

    def look(_, arguments):
        if len(arguments[0]["features"]) > pairs:
            raise error

    network.register_forward_pre_hook(look)
    return network


@pytest.mark.parametrize(
    "error", [torch.OutOfMemoryError("CUDA out of memory"), MemoryError(), RuntimeError(CPU_MESSAGE)]
)
def test_the_largest_half_that_fits_is_named_with_the_accumulation_that_makes_up_for_it(
    trained, config, make_module, make_network, error
):
    module = make_module(config, network=with_room_for(make_network(), 5, error))
    with pytest.raises(
        BatchTooLargeError,
        match=r"does not hold a step with training\.batch_size 16; 4 fits: --training\.batch_size 4"
        r" --training\.accumulate 4 keeps",
    ):
        trained(module=module)


def test_a_network_that_does_not_fit_at_all_is_said_to_be_too_large(trained, config, make_module, make_network):
    module = make_module(config, network=with_room_for(make_network(), 0, MemoryError()))
    with pytest.raises(BatchTooLargeError, match="nor one of 2 pairs; make the network or the images smaller"):
        trained(module=module)


def test_the_batch_size_that_was_named_trains(trained, config, data, make_module, make_network):
    data.batch_size = 4
    small = dataclasses.replace(config, batch_size=4, accumulate=4, epochs=1)
    result = trained(config=small, module=make_module(small, network=with_room_for(make_network(), 5, MemoryError())))
    assert (result.stopped, result.steps) == ("epochs", 4)


def test_other_errors_are_not_taken_for_a_lack_of_memory(trained, config, make_module, make_network):
    module = make_module(config, network=with_room_for(make_network(), 5, RuntimeError("power cut")))
    with pytest.raises(RuntimeError, match="power cut"):
        trained(module=module)
    assert not is_out_of_memory(ValueError(CPU_MESSAGE))
