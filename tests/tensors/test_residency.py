"""Wherever the tensors live, the network sees the same; what was prepared is used again, and made anew when it must."""

import errno
import logging
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning.pytorch import LightningModule, Trainer
from pair_records import cutout_of, spectrum_of
from torch import Tensor

from mmagn.records import BANDS, Cutout, Spectrum
from mmagn.tensors import residency
from mmagn.tensors.config import AugmentConfig, TensorsConfig
from mmagn.tensors.datamodule import BatchPlan, PairDataModule
from mmagn.tensors.image import image_tensor
from mmagn.tensors.prepared import prepared, prepared_file
from mmagn.tensors.residency import PairInputs, batch_source, chosen_residency
from mmagn.tensors.sources import BatchSource, MappedTensors, PairTensors, StreamedTensors
from mmagn.tensors.spectrum import spectrum_tensor

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*LeafSpec.*:FutureWarning"),
    pytest.mark.filterwarnings("ignore:GPU available but not used"),
]

COUNT = 30
CONFIG = TensorsConfig(image_size=16, spectrum_min_angstrom=4000, spectrum_max_angstrom=4100)
CHOSEN = np.random.default_rng(3).permutation(COUNT)[:24]
BRANCHES = ("image", "spectrum", "features")
KINDS = {"device": PairTensors, "memory": MappedTensors, "stream": StreamedTensors}


class NamedPairs:
    """Pairs in lists, with a fingerprint; counts what is read."""

    def __init__(self, cutouts: list[Cutout], spectra: list[Spectrum], fingerprint: str = "pairs") -> None:
        self.cutouts, self.spectra, self.fingerprint = cutouts, spectra, fingerprint
        self.read = 0

    def __len__(self) -> int:
        return len(self.cutouts)

    def cutout(self, row: int, /) -> Cutout:
        self.read += 1
        return self.cutouts[row]

    def spectrum(self, row: int, /) -> Spectrum:
        self.read += 1
        return self.spectra[row]


@pytest.fixture
def store() -> NamedPairs:
    rng = np.random.default_rng(0)
    cutouts = [cutout_of(rng.normal(size=(5, 160, 160)) + number) for number in range(COUNT)]
    return NamedPairs(cutouts, [spectrum_of(10 + rng.normal(size=400), first_native=36000) for _ in range(COUNT)])


def source(store: NamedPairs, cache_dir: Path, config: TensorsConfig = CONFIG) -> BatchSource:
    features = np.random.default_rng(1).normal(size=(len(CHOSEN), 10)).astype(np.float32)
    target = (np.arange(len(CHOSEN)) % 3 == 0).astype(float)
    valid = torch.arange(len(CHOSEN)) % 4 > 0
    pairs = PairInputs(store=store, rows=CHOSEN, features=features, target=target, features_valid=valid)
    return batch_source(pairs, config, BRANCHES, cache_dir=cache_dir, device="cpu")


class SmallNetwork(LightningModule):
    """Sees image, spectrum and features."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layer = torch.nn.Linear(len(BANDS) + 2 + 10, 1)
        self.losses: list[float] = []

    def training_step(self, batch: dict[str, Tensor], step: int) -> Tensor:
        data = self.trainer.datamodule
        draws = torch.Generator().manual_seed(data.augmentation_seed(self.current_epoch, step))
        batch = data.training_batch(batch, draws)
        seen = [batch["image"].std((2, 3)), batch["spectrum"].std(2), batch["features"]]
        logits = self.layer(torch.cat(seen, dim=1)).squeeze(1)
        loss = torch.nn.functional.binary_cross_entropy_with_logits(logits, batch["target"])
        self.losses.append(float(loss.detach()))
        return loss

    def validation_step(self, batch: dict[str, Tensor]) -> None:
        assert torch.isfinite(batch["image"]).all()

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


def trained(tensors: BatchSource) -> SmallNetwork:
    split = np.array(["train"] * (len(CHOSEN) - 4) + ["validation"] * 4)
    augment = AugmentConfig(shift_pixels=1.0, band_dropout=0.2)
    data = PairDataModule(tensors, split, BatchPlan(batch_size=5, augment=augment, seed=7, workers=3))
    network = SmallNetwork()
    trainer = Trainer(
        max_epochs=2,
        accelerator="cpu",
        logger=False,
        log_every_n_steps=1,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(network, datamodule=data)
    return network


def test_losses_and_weights_do_not_depend_on_the_residency(store: NamedPairs, tmp_path: Path) -> None:
    networks = {}
    for name, kind in KINDS.items():
        tensors = source(store, tmp_path, replace(CONFIG, residency=name))
        assert isinstance(tensors, kind)
        networks[name] = trained(tensors)
    device = networks.pop("device")
    for network in networks.values():
        assert network.losses == device.losses
        assert torch.equal(network.layer.weight, device.layer.weight)


@pytest.mark.parametrize("name", ["memory", "stream"])
def test_every_residency_cuts_the_same_batches(store: NamedPairs, tmp_path: Path, name: str) -> None:
    rows = torch.tensor([5, 0, 23, 5])
    expected = source(store, tmp_path, replace(CONFIG, residency="device")).batch(rows)
    found = source(store, tmp_path, replace(CONFIG, residency=name)).batch(rows)
    assert found.keys() == expected.keys() >= {"image", "spectrum", "features", "features_valid", "target"}
    assert all(torch.equal(found[part], expected[part]) for part in expected)


def test_the_stream_prepares_nothing(store: NamedPairs, tmp_path: Path) -> None:
    source(store, tmp_path, replace(CONFIG, residency="stream"))
    assert store.read == 0
    assert not any(tmp_path.iterdir())


def test_tensors_are_those_of_the_rows_in_their_order(
    store: NamedPairs, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    rows, target = np.array([4, 0, 3]), np.array([1.0, 0.0, np.nan])
    features = np.random.default_rng(1).normal(size=(3, 10)).astype(np.float32)
    pairs = PairInputs(store=store, rows=rows, features=features, target=target)
    config = replace(CONFIG, residency="device")
    with caplog.at_level(logging.INFO, "mmagn.tensors"):
        made = batch_source(pairs, config, BRANCHES, cache_dir=tmp_path, device="cpu")
    assert "30 of 30 pairs" in caplog.text
    gathered, batch = made.gathered(torch.tensor([2, 0])), made.batch(torch.tensor([2, 0]))
    assert gathered["image"].dtype == gathered["spectrum"].dtype == torch.float16
    assert {value.dtype for name, value in batch.items() if name != "index"} == {torch.float32}
    cutout = store.cutout(3)
    np.testing.assert_allclose(batch["image"][0], image_tensor(cutout.flux, cutout.ivar, CONFIG), atol=4e-3)
    np.testing.assert_allclose(batch["spectrum"][1], spectrum_tensor(store.spectrum(4), CONFIG), atol=4e-3)
    np.testing.assert_array_equal(batch["features"][0], features[2])
    np.testing.assert_array_equal(batch["target"], [np.nan, 1.0])
    assert batch["index"].tolist() == [2, 0] and batch["index"].dtype == torch.int64
    (alone,) = batch_source(pairs, config, ("spectrum",), cache_dir=tmp_path, device="cpu").batches(np.array([0]), 4)
    assert alone.keys() == {"spectrum", "features", "target", "index"}


def test_an_image_with_nothing_valid_is_counted(
    store: NamedPairs, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    store.cutouts[1] = cutout_of(0.0, 0.0)
    prepared(store, "image", CONFIG, tmp_path)
    assert "1 images have no valid pixel in the central 16 x 16" in caplog.text


def test_what_was_prepared_is_found_by_every_later_run(store: NamedPairs, tmp_path: Path) -> None:
    first = prepared(store, "image", CONFIG, tmp_path)
    read = store.read
    unrelated = replace(CONFIG, residency="memory", workers=5, spectrum_binning=4, augment=AugmentConfig(image_noise=1))
    again = prepared(store, "image", unrelated, tmp_path)
    assert store.read == read == COUNT
    np.testing.assert_array_equal(first, again)
    again[:] = 0
    np.testing.assert_array_equal(prepared(store, "image", CONFIG, tmp_path), first)


@pytest.mark.parametrize(
    ("branch", "change"),
    [
        ("image", {"image_size": 18}),
        ("image", {"asinh_softening": 2.0}),
        ("image", {"image_noise_njy": (1.0, 1.0, 1.0, 1.0, 1.0)}),
        ("spectrum", {"spectrum_binning": 1}),
        ("spectrum", {"blank_lines": True}),
    ],
)
def test_a_setting_that_matters_makes_other_tensors(
    store: NamedPairs, tmp_path: Path, branch: str, change: dict[str, Any]
) -> None:
    assert prepared_file(store, branch, CONFIG, tmp_path) != prepared_file(
        store, branch, replace(CONFIG, **change), tmp_path
    )


def test_other_pairs_make_other_tensors(store: NamedPairs, tmp_path: Path) -> None:
    other = NamedPairs(store.cutouts, store.spectra, fingerprint="other pairs")
    assert prepared_file(store, "image", CONFIG, tmp_path) != prepared_file(other, "image", CONFIG, tmp_path)


@pytest.mark.parametrize("damage", ["cut short", "no array", "empty", "other numbers"])
def test_a_damaged_file_is_made_again_with_a_warning(
    store: NamedPairs, tmp_path: Path, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    expected = np.array(prepared(store, "spectrum", CONFIG, tmp_path))
    path = prepared_file(store, "spectrum", CONFIG, tmp_path)
    match damage:
        case "cut short":
            os.truncate(path, path.stat().st_size // 2)
        case "no array":
            path.write_bytes(b"not an array" * 1000)
        case "empty":
            path.write_bytes(b"")
        case _:
            with path.open("wb") as file:
                np.save(file, np.zeros(3))
    with caplog.at_level(logging.WARNING, "mmagn.tensors"):
        np.testing.assert_array_equal(prepared(store, "spectrum", CONFIG, tmp_path), expected)
    assert "prepared tensors are made again" in caplog.text


def test_an_interrupted_preparation_leaves_nothing_behind(store: NamedPairs, tmp_path: Path) -> None:
    whole, store.cutouts = store.cutouts, [*store.cutouts[:-1], None]  # type: ignore[list-item]
    with pytest.raises(AttributeError):
        prepared(store, "image", CONFIG, tmp_path)
    assert not [path for path in (tmp_path / "tensors").iterdir() if path.suffix != ".lock"]
    store.cutouts = whole
    assert len(prepared(store, "image", CONFIG, tmp_path)) == COUNT


def test_a_full_disk_is_said_before_anything_is_written(
    store: NamedPairs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(OSError, match=r"no space for 0 MB of prepared tensors in .*tensors.residency stream") as caught:
        prepared(store, "spectrum", CONFIG, tmp_path)
    assert caught.value.errno == errno.ENOSPC
    assert store.read == 0
    assert not list((tmp_path / "tensors").glob("*.npy"))


def test_float16_holds_the_brightest_pixel_and_the_strongest_line(tmp_path: Path) -> None:
    flux = np.ones((5, 160, 160), dtype=np.float32)
    flux[:, 80, 80] = np.finfo(np.float32).max
    line = np.ones(400)
    line[200] = 1e30
    store = NamedPairs([cutout_of(flux)], [spectrum_of(line, first_native=36000)])
    image, spectrum = (prepared(store, branch, CONFIG, tmp_path) for branch in ("image", "spectrum"))
    assert np.isfinite(image).all() and np.isfinite(spectrum).all()
    assert image[0, 2].max() > 80
    assert (spectrum[0, 1] > 0).sum() > 0


def test_the_device_is_chosen_where_the_tensors_take_no_more_than_half_of_what_is_free(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    needed = 2 * 100 * 5 * 16 * 16
    for free, expected in ((2 * needed, "device"), (2 * needed - 1, "memory")):
        monkeypatch.setattr(residency, "_free_bytes", lambda _device, free=free: free)
        assert chosen_residency(CONFIG, 100, ("image", "features"), "cpu") == expected
    assert chosen_residency(replace(CONFIG, residency="stream"), 100, ("image",), "cpu") == "stream"
    assert residency._free_bytes(torch.device("cpu")) > 0
