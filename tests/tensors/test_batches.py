import pytest
import torch
from torch import Tensor

from mmagn.tensors.batches import BatchLoader, OrderedBatches, ShuffledBatches, seed_of


def order(count: int = 103, batch_size: int = 10, seed: int = 3, epoch: int = 0) -> ShuffledBatches:
    batches = ShuffledBatches(torch.arange(count) * 2, batch_size, seed)
    batches.set_epoch(epoch)
    return batches


def select(rows: Tensor) -> dict[str, Tensor]:
    return {"index": rows}


def seen(loader: BatchLoader) -> list[list[int]]:
    return [batch["index"].tolist() for batch in loader]


def test_order_is_a_function_of_seed_and_epoch_alone() -> None:
    torch.manual_seed(1)
    first = order(epoch=4)
    list(order(epoch=0).batches())
    torch.manual_seed(2)
    second = order(epoch=4)
    assert all(torch.equal(one, two) for one, two in zip(first.batches(), second.batches(), strict=True))
    for other in (order(epoch=5), order(seed=4, epoch=4)):
        assert not torch.equal(torch.cat(first.batches()), torch.cat(other.batches()))


def test_seeds_of_neighbouring_steps_are_unrelated() -> None:
    seeds = {seed_of(seed, epoch, step) for seed in range(5) for epoch in range(5) for step in range(5)}
    assert len(seeds) == 125


@pytest.mark.parametrize("count", [2, 3, 9, 10, 11, 12, 20, 21, 99, 101])
def test_every_row_comes_once_and_no_batch_has_a_single_row(count: int) -> None:
    shuffled = order(count)
    batches = shuffled.batches()
    assert torch.cat(batches).sort().values.tolist() == list(range(0, 2 * count, 2))
    assert len(batches) == len(shuffled)
    assert min(len(batch) for batch in batches) > 1
    assert max(len(batch) for batch in batches) <= 11


def test_ordered_batches_keep_the_order_and_the_last_row() -> None:
    batches = OrderedBatches(torch.arange(21), 10)
    assert [len(batch) for batch in batches.batches()] == [10, 10, 1]
    assert len(batches) == 3
    assert torch.equal(torch.cat(batches.batches()), torch.arange(21))
    assert OrderedBatches(torch.arange(0), 10).batches() == []
    assert len(OrderedBatches(torch.arange(0), 10)) == 0


def test_an_epoch_announced_before_the_first_batch_counts() -> None:
    loader = BatchLoader(select, order())
    iterator = iter(loader)
    loader.sampler.set_epoch(7)
    assert next(iterator)["index"].tolist() == order(epoch=7).batches()[0].tolist()


@pytest.mark.parametrize("stop", [1, 4, 10])
def test_a_resumed_loader_gives_the_rest_of_the_epoch_and_then_whole_ones(stop: int) -> None:
    undisturbed = BatchLoader(select, order(epoch=2))
    whole = seen(undisturbed)
    stopped = BatchLoader(select, order(epoch=2))
    iterator = iter(stopped)
    for _ in range(stop):
        next(iterator)
    resumed = BatchLoader(select, order(epoch=2))
    resumed.load_state_dict(stopped.state_dict())
    assert seen(resumed) == whole[stop:]
    assert seen(resumed) == whole


def test_a_state_from_another_epoch_skips_nothing() -> None:
    loader = BatchLoader(select, order(epoch=3))
    loader.load_state_dict({"epoch": 2, "delivered": 5})
    assert len(seen(loader)) == len(loader)
