"""A torch loader over the pairs of any source: every pair once, over ranks and workers, resumed exactly."""

from dataclasses import replace
from itertools import chain

import numpy as np
import pytest
import torch

import mmagn
from mmagn.matching.store import pair_store
from mmagn.surveys.config import DataConfig
from mmagn.tensors.config import TensorsConfig
from mmagn.tensors.image import image_tensor
from mmagn.tensors.loader import pair_loader
from mmagn.tensors.spectrum import spectrum_tensor

SIZE = 3


@pytest.fixture(scope="module")
def pairs(world):
    return mmagn.open_pairs(world["config"])


def ids(loader):
    return [batch["sdss_object_id"] for batch in loader]


def same(ours, theirs):
    return all(
        torch.equal(ours[name], theirs[name]) if isinstance(ours[name], torch.Tensor) else ours[name] == theirs[name]
        for name in ours
    )


def test_every_pair_comes_once_as_the_tensors_of_training(world, pairs):
    config = world["config"]
    store = pair_store(config.data, config.matching)
    known = {pair.spectrum.object_id: pair for pair in map(store.pair, range(len(store)))}
    loader = pairs.torch(SIZE)
    batches = list(loader)
    assert len(batches) == len(loader)
    assert sorted(chain.from_iterable(batch["sdss_object_id"] for batch in batches)) == sorted(known)
    assert max(len(batch["image"]) for batch in batches) == SIZE
    for batch in batches[:4]:
        for row, name in enumerate(batch["sdss_object_id"]):
            pair = known[name]
            image = image_tensor(pair.cutout.flux, pair.cutout.ivar, config.tensors)
            np.testing.assert_allclose(batch["image"][row], image, rtol=1e-6)
            np.testing.assert_allclose(
                batch["spectrum"][row], spectrum_tensor(pair.spectrum, config.tensors), rtol=1e-6
            )
            assert batch["redshift"][row] == pair.spectrum.redshift
            assert batch["hsc_object_id"][row] == pair.cutout.object_id


def test_a_loader_that_starts_at_a_batch_goes_on_where_another_stopped(pairs):
    whole = list(pairs.torch(SIZE, seed=5))
    rest = list(pairs.torch(SIZE, seed=5, start=4))
    assert len(rest) == len(whole) - 4
    assert all(same(ours, theirs) for ours, theirs in zip(rest, whole[4:], strict=True))


def test_another_seed_is_another_order_of_the_same_batches(pairs):
    plain, first, second = (ids(pairs.torch(SIZE, seed=seed)) for seed in (None, 1, 2))
    assert first != plain
    assert first != second
    assert sorted(first) == sorted(second) == sorted(plain)


def test_ranks_and_workers_share_the_batches(pairs):
    whole = ids(pairs.torch(SIZE, seed=3))
    shares = [ids(pairs.torch(SIZE, seed=3, of=(rank, 3))) for rank in range(3)]
    assert sorted(chain.from_iterable(shares)) == sorted(whole)
    assert max(map(len, shares)) - min(map(len, shares)) <= 1
    assert ids(pairs.torch(SIZE, seed=3, workers=2)) == whole


def test_ranks_have_nearly_as_many_pairs_where_cells_have_many_or_few():
    parts = [range(64 if number % 2 else 1) for number in range(101)]
    shares = [list(pair_loader(parts, TensorsConfig(), seed=1, of=(rank, 4)).sampler) for rank in range(4)]
    assert sorted(chain.from_iterable(shares)) == [*range(101)]
    pairs = [sum(len(parts[number]) for number in share) for share in shares]
    assert max(pairs) - min(pairs) <= 64
    assert max(map(len, shares)) - min(map(len, shares)) == 1


def test_a_store_gives_the_same_pairs(world, pairs, tmp_path):
    config = world["config"]
    pair_store(config.data, config.matching, tmp_path / "store")
    stored = replace(config, data=DataConfig(source="store", root=str(tmp_path / "store")))
    known = {
        name: row
        for batch in pairs.torch(64)
        for name, row in zip(batch["sdss_object_id"], batch["image"], strict=True)
    }
    for batch in mmagn.open_pairs(stored).torch(64):
        for name, image in zip(batch["sdss_object_id"], batch["image"], strict=True):
            assert torch.equal(image, known.pop(name))
    assert not known


def test_objects_that_are_in_no_batch_are_told(world, v1_tree, tmp_path, caplog):
    place = {"ra": 10.0, "dec": 1.0}
    lost = {"object_id": 2, "ra": 10.2, "dec": 1.0, "Z": float("nan")}
    root = v1_tree(tmp_path, sdss=[{"object_id": 1, **place}, lost], hsc=[{"object_id": 8, **place}])
    config = replace(world["config"], data=DataConfig(source="hdf5", root=str(root), cache_dir=str(tmp_path)))
    assert ids(mmagn.open_pairs(config).torch(SIZE)) == [["1"]]
    assert "not among the batches: 1 x sdss: redshift is not finite" in caplog.text


def test_ranks_and_starts_that_do_not_exist_are_refused(pairs):
    with pytest.raises(ValueError, match=r"rank 2 of 2 ranks"):
        pairs.torch(SIZE, of=(2, 2))
    with pytest.raises(ValueError, match=r"start is 900; allowed: 0 to \d+, the number of batches"):
        pairs.torch(SIZE, start=900)
