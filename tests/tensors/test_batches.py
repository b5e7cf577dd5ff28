import time
from itertools import product

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
    steps = list(product(range(5), range(5), range(5), range(2)))  # seed, epoch, step, rank
    assert len({seed_of(*step) for step in steps}) == len(steps)


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


@pytest.mark.parametrize(
    ("count", "batch_size", "world"), [(103, 10, 2), (97, 12, 3), (41, 8, 4), (9, 8, 2), (8, 8, 4)]
)
def test_processes_share_every_batch_without_waiting_for_rows(count: int, batch_size: int, world: int) -> None:
    orders = [ShuffledBatches(torch.arange(count), batch_size, 3, rank=rank, world=world) for rank in range(world)]
    steps = [order.batches() for order in orders]
    assert {len(batches) for batches in steps} == {len(orders[0])}
    for step, parts in enumerate(zip(*steps, strict=True)):
        sizes = [len(part) for part in parts]
        assert max(sizes) - min(sizes) <= 1 and min(sizes) >= 2
        shares = [order.share(step) for order in orders]
        assert shares == pytest.approx([size * world / sum(sizes) for size in sizes])
    everyone = torch.cat([part for batches in steps for part in batches])
    assert everyone.sort().values.tolist() == list(range(count))


def test_several_processes_cut_the_batches_of_one() -> None:
    alone = ShuffledBatches(torch.arange(100), 10, 3).batches()
    parts = [ShuffledBatches(torch.arange(100), 10, 3, rank=rank, world=3).batches() for rank in range(3)]
    assert all(
        torch.equal(torch.cat(shared), batch) for shared, batch in zip(zip(*parts, strict=True), alone, strict=True)
    )


def test_too_few_rows_for_the_processes_are_refused() -> None:
    for count, batch_size in ((100, 7), (7, 100)):
        with pytest.raises(ValueError, match="at least 8, two for each of the 4 processes"):
            ShuffledBatches(torch.arange(count), batch_size, 3, rank=0, world=4)


@pytest.mark.parametrize(("count", "world"), [(21, 2), (29, 4), (5, 4), (10, 3), (11, 2)])
def test_processes_judge_as_many_batches_each_and_every_row_once(count: int, world: int) -> None:
    orders = [OrderedBatches(torch.arange(count), 10, rank=rank, world=world) for rank in range(world)]
    assert len({len(order) for order in orders}) == 1
    assert all(len(batch) for order in orders for batch in order.batches())
    assert sorted(torch.cat([batch for order in orders for batch in order.batches()]).tolist()) == list(range(count))


def test_where_there_are_fewer_rows_than_processes_each_judges_all() -> None:
    for rank in range(4):
        (batch,) = OrderedBatches(torch.arange(3), 10, rank=rank, world=4).batches()
        assert batch.tolist() == [0, 1, 2]


def test_threads_ahead_of_the_steps_keep_the_order_and_no_more_than_they_may() -> None:
    calls: list[int] = []

    def slow(rows: Tensor) -> dict[str, Tensor]:
        calls.append(1)
        time.sleep(0.01 * (len(calls) % 3))
        return {"index": rows}

    plain, ahead = seen(BatchLoader(select, order())), []
    iterator = iter(BatchLoader(slow, order(), workers=3))
    for number, batch in enumerate(iterator, start=1):
        ahead.append(batch["index"].tolist())
        assert len(calls) <= number + 3
    assert ahead == plain


def test_an_error_in_a_thread_reaches_the_one_who_trains() -> None:
    def broken(rows: Tensor) -> dict[str, Tensor]:
        raise ValueError(f"pair {int(rows[0])} cannot be read")

    with pytest.raises(ValueError, match="cannot be read"):
        next(iter(BatchLoader(broken, order(), workers=2)))
