from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor

from mmagn.tensors.batches import BatchLoader, ShuffledBatches
from mmagn.tensors.config import AugmentConfig
from mmagn.tensors.datamodule import BatchPlan, PairDataModule
from mmagn.tensors.sources import PairTensors

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*LeafSpec.*:FutureWarning"),
    pytest.mark.filterwarnings("ignore:GPU available but not used"),
]
"""Lightning 2.6 asks torch for its trees in a way that torch is about to drop."""

COUNT = 50


def tensors(count: int = COUNT) -> PairTensors:
    drawn = torch.Generator().manual_seed(0)
    return PairTensors(
        image=torch.randn((count, 5, 8, 8), generator=drawn).half(),
        spectrum=torch.rand((count, 2, 20), generator=drawn).half(),
        features=torch.randn((count, 10), generator=drawn),
        target=(torch.arange(count) % 3 == 0).float(),
    )


def split_names(train: int = 31, validation: int = 9) -> np.ndarray:
    names = ["train"] * train + ["validation"] * validation + ["test"] * (COUNT - train - validation)
    return np.random.default_rng(2).permutation(np.array(names))


def data_module(split: np.ndarray | None = None, seed: int = 5, **changes: Any) -> PairDataModule:
    split = split_names() if split is None else split
    augment = AugmentConfig()
    plan = {"batch_size": 6, "augment": augment, "seed": seed, **changes}
    return PairDataModule(tensors(), split, BatchPlan(**plan))


class Witness(LightningModule):
    """Remembers what it is shown."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(()))
        self.seen: list[tuple[int, int, dict[str, Tensor]]] = []
        self.shown: list[dict[str, Tensor]] = []

    def training_step(self, batch: dict[str, Tensor], step: int) -> Tensor:
        data = self.trainer.datamodule
        draws = torch.Generator().manual_seed(data.augmentation_seed(self.current_epoch, step))
        batch = data.training_batch(batch, draws)
        self.seen.append((self.current_epoch, step, batch))
        return self.weight * batch["features"].sum()

    def validation_step(self, batch: dict[str, Tensor]) -> None:
        self.shown.append(batch)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.0)


class StopAt(Callback):
    """Writes a checkpoint after a step and stops there."""

    def __init__(self, step: int, path: Path) -> None:
        self.step, self.path = step, path

    def on_train_batch_end(self, trainer: Trainer, *_: Any) -> None:
        if trainer.global_step == self.step:
            trainer.save_checkpoint(self.path)
            trainer.should_stop = True


def run(data: PairDataModule, epochs: int = 3, resume: Path | None = None, *callbacks: Callback) -> Witness:
    witness = Witness()
    trainer = Trainer(
        max_epochs=epochs,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=list(callbacks),
    )
    trainer.fit(witness, datamodule=data, ckpt_path=resume, weights_only=True)
    return witness


def test_a_loader_holds_every_object_of_its_split_once() -> None:
    data = data_module()
    for name, loader in {"train": data.train_dataloader(), "validation": data.val_dataloader()}.items():
        rows = torch.cat([batch["index"] for batch in loader])
        assert torch.equal(rows.sort().values, data.rows(name))
        assert name == "train" or torch.equal(rows, rows.sort().values)


def test_lightning_announces_each_epoch_to_the_order() -> None:
    witness = run(data_module())
    expected = ShuffledBatches(data_module().rows("train"), 6, 5)
    for epoch in range(3):
        expected.set_epoch(epoch)
        seen = [batch["index"].tolist() for number, _, batch in witness.seen if number == epoch]
        assert seen == [rows.tolist() for rows in expected.batches()]


def test_the_same_seed_shows_the_same_batches_and_another_does_not() -> None:
    one, same, other = run(data_module()), run(data_module()), run(data_module(seed=6))
    torch.rand(3)
    for (_, _, left), (_, _, right) in zip(one.seen, same.seen, strict=True):
        assert all(torch.equal(left[name], right[name]) for name in left)
    assert not torch.equal(one.seen[0][2]["index"], other.seen[0][2]["index"])


def test_augmentation_differs_from_step_to_step_and_happens_in_training_only() -> None:
    data = data_module()
    witness = run(data, 2)
    stored = data.tensors
    changes = []
    for _, _, batch in witness.seen:
        plain = stored.batch(batch["index"])
        assert torch.equal(batch["features"], plain["features"])
        changes.append((torch.sinh(batch["spectrum"][:, 0]) - torch.sinh(plain["spectrum"][:, 0])).flatten()[:5])
    assert len({tuple(change.tolist()) for change in changes}) == len(witness.seen)
    for batch in witness.shown:
        plain = stored.batch(batch["index"])
        assert all(torch.equal(batch[name], plain[name]) for name in batch)


@pytest.mark.parametrize("stop", [3, 5, 8])
def test_a_resumed_run_sees_what_an_undisturbed_one_sees(tmp_path: Path, stop: int) -> None:
    whole = run(data_module())
    first = run(data_module(), 3, None, StopAt(stop, tmp_path / "stopped.ckpt"))
    second = run(data_module(), 3, tmp_path / "stopped.ckpt")
    pieces = first.seen[:stop] + second.seen
    assert [(epoch, step) for epoch, step, _ in pieces] == [(epoch, step) for epoch, step, _ in whole.seen]
    for (_, _, left), (_, _, right) in zip(whole.seen, pieces, strict=True):
        assert all(torch.equal(left[name], right[name]) for name in left)


@pytest.mark.filterwarnings("ignore:Total length of `BatchLoader` across ranks is zero")
def test_the_loader_of_a_split_without_objects_is_empty_and_training_goes_on() -> None:
    split = np.array(["train"] * COUNT)
    data = data_module(split)
    assert list(data.val_dataloader()) == []
    assert len(run(data, 1).seen) == len(data.train_dataloader())


def test_too_small_a_training_split_is_refused() -> None:
    split = np.array(["train"] + ["test"] * (COUNT - 1))
    with pytest.raises(ValueError, match="the training split has 1 objects; training needs 2 or more"):
        data_module(split).train_dataloader()


def test_training_objects_without_target_are_refused() -> None:
    data = data_module()
    data.tensors.target[data.rows("train")[:2]] = torch.nan
    with pytest.raises(ValueError, match="2 objects of the training split have no target"):
        data.train_dataloader()


def test_splits_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match="unknown split valid; allowed: train, validation, test"):
        data_module(np.array(["train"] * (COUNT - 1) + ["valid"]))
    with pytest.raises(ValueError, match="2 split names came with tensors of 50 objects"):
        data_module(np.array(["train", "test"]))


def test_loaders_need_no_workers() -> None:
    assert isinstance(data_module().train_dataloader(), BatchLoader)
