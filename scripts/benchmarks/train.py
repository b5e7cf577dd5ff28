"""Training relative to its step alone, for each residency of the tensors."""

import logging
import resource
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning import Callback, LightningModule, Trainer
from matplotlib.figure import Figure
from torch import Tensor, nn

from benchmarks.pairs import machine
from mmagn.config.run_config import RunConfig
from mmagn.matching.store import PairStore, pair_store
from mmagn.models.config import ImageBranchConfig, ModelsConfig
from mmagn.runs.sample import network
from mmagn.storage.files import write_json
from mmagn.storage.run_folder import RunFolder
from mmagn.surveys.config import DataConfig, SimulateConfig
from mmagn.tensors.augment import augment_batch
from mmagn.tensors.config import Residency, TensorsConfig
from mmagn.tensors.datamodule import BatchPlan, PairDataModule
from mmagn.tensors.prepared import image_of, spectrum_of
from mmagn.tensors.residency import PairInputs, batch_source
from mmagn.tensors.scaling import FeatureScaling
from mmagn.tensors.sources import BatchSource, as_floats
from mmagn.training.config import TrainingConfig
from mmagn.training.device import autocast, device_name
from mmagn.training.fit import RunRecord, fit
from mmagn.training.losses import weighted_bce
from mmagn.training.module import AgnModule
from mmagn.training.optimiser import clipped_gradients, optimiser

Row = tuple[str, str, str]
RESIDENCIES: tuple[Residency, ...] = ("device", "memory", "stream")
STAGED_STEPS = 12
STEPS_ALONE = 20


class Clock(Callback):
    """Pairs per second of each epoch of a run, and then of its training step alone.

    Attributes
    ----------
    rates
        Pairs per second of each epoch, validation and checkpoints left out.
    alone
        Pairs per second of the step without loader, Lightning and callbacks: same kernels, nothing waited for.
    epoch_s
        Seconds of each epoch, with validation and checkpoints.
    batch_size
        Pairs in the first batch, which the step alone repeats.
    """

    def __init__(self, steps_alone: int = 0) -> None:
        self.rates: list[float] = []
        self.epoch_s: list[float] = []
        self.alone, self.batch_size, self.steps_alone = 0.0, 0, steps_alone
        self._batch: dict[str, Tensor] = {}
        self._pairs, self._start_s = 0, 0.0

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:  # noqa: ARG002
        """Start the clock."""
        if self._batch:
            self.epoch_s.append(now(pl_module.device) - self._start_s)
        self._pairs, self._start_s = 0, now(pl_module.device)

    def on_train_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,  # noqa: ARG002
        batch: Any,
        batch_idx: int,  # noqa: ARG002
    ) -> None:
        """Count, and stop the clock after the last batch."""
        self._pairs += len(batch["index"])
        if not self._batch:
            self._batch, self.batch_size = dict(batch), len(batch["index"])
        if trainer.is_last_batch:
            self.rates.append(self._pairs / (now(pl_module.device) - self._start_s))

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:  # noqa: ARG002
        """Repeat the step on one batch."""
        assert isinstance(pl_module, AgnModule)
        self.epoch_s.append(now(pl_module.device) - self._start_s)
        if not self.steps_alone:
            return
        pl_module.train()
        with torch.enable_grad():
            pl_module.repeated_steps(self._batch, 3)
            start_s = now(pl_module.device)
            pl_module.repeated_steps(self._batch, self.steps_alone)
            self.alone = self.steps_alone * len(self._batch["index"]) / (now(pl_module.device) - start_s)


def now(device: torch.device | str) -> float:
    """Seconds of the clock once the device is idle."""
    if torch.device(device).type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter()


class Bench:
    """Real training on a store, and its step alone.

    Parameters
    ----------
    config
        Settings of the run.
    store
        Pairs; their features and targets are made up.
    """

    def __init__(self, config: RunConfig, store: PairStore) -> None:
        self.config, self.store = config, store
        self.device = device_name(config.training)
        rng = np.random.default_rng(config.seed)
        self.values = rng.normal(size=(len(store), len(config.tensors.features)))
        self.valid = np.ones(self.values.shape, dtype=bool)
        self.target = (rng.random(len(store)) < 0.2).astype(np.float64)
        self.scaling = FeatureScaling.fit(self.values, self.valid)

    def source(self, residency: Residency, count: int) -> BatchSource:
        """The first pairs as a run with that residency has them."""
        features = self.scaling.transform(self.values[:count], self.valid[:count])
        pairs = PairInputs(store=self.store, rows=np.arange(count), features=features, target=self.target[:count])
        tensors, branches = replace(self.config.tensors, residency=residency), self.config.models.branches
        return batch_source(pairs, tensors, branches, cache_dir=Path(self.config.data.cache_dir), device=self.device)

    def pipeline(self, residency: Residency, count: int, batch_size: int, *, epochs: int = 3) -> Clock:
        """Rates of a real run on some pairs, and of its step alone."""
        training = replace(self.config.training, batch_size=batch_size, epochs=epochs, patience=epochs)
        split = np.where(np.arange(count) < batch_size, "validation", "train")
        plan = BatchPlan(
            batch_size=batch_size,
            augment=self.config.tensors.augment,
            seed=self.config.seed,
            workers=self.config.tensors.threads,
        )
        data = PairDataModule(self.source(residency, count), split, plan)
        module = AgnModule(network(self.config), training, 4.0, self.config.seed)
        clock = Clock(steps_alone=STEPS_ALONE)
        with tempfile.TemporaryDirectory() as folder:
            fit(module, data, RunFolder.create(folder, "benchmark"), RunRecord(callbacks=(clock,)))
        return clock

    def rate(self, residency: Residency, count: int, batch_size: int) -> float:
        """Pairs per second of a real run: the median of its epochs but the first."""
        return float(np.median(self.pipeline(residency, count, batch_size).rates[1:]))

    def stages(self, batch_size: int) -> dict[str, float]:
        """Seconds of each part of a step in eager mode, each waited for: where the time goes, not how fast it is."""
        torch.manual_seed(self.config.seed)
        model = network(self.config).to(self.device).train()
        adam, weight = optimiser(model, self.config.training), torch.tensor(4.0, device=self.device)
        rows = self.source("memory", batch_size).gathered(torch.arange(batch_size))
        kept = {name: value.to(self.device) for name, value in rows.items()}
        times = [self._staged_step(model, adam, weight, kept) for _ in range(STAGED_STEPS)][2:]
        return {name: float(np.median([step[name] for step in times])) for name in times[0]}

    def _staged_step(
        self, model: nn.Module, adam: torch.optim.Optimizer, weight: Tensor, kept: dict[str, Tensor]
    ) -> dict[str, float]:
        config, device = self.config, torch.device(self.device)
        augment, softening = config.tensors.augment, config.tensors.asinh_softening
        clock = [now(device)]
        batch = augment_batch(as_floats(kept), augment, None, softening=softening)
        clock.append(now(device))
        with autocast(config.training, device):
            logits = model(batch)
        loss = weighted_bce(logits.float(), batch["target"], weight).mean()
        clock.append(now(device))
        torch.autograd.backward(loss)
        clock.append(now(device))
        clipped_gradients(model, 1.0)
        adam.step()
        adam.zero_grad()
        clock.append(now(device))
        return dict(zip(("augmentation", "forward", "backward", "optimiser"), np.diff(clock).tolist(), strict=True))

    def before_the_step(self, batch_size: int) -> dict[str, float]:
        """Seconds per batch of what comes before the step, for each way the tensors can live."""
        rows = torch.randperm(len(self.store))[:batch_size]
        numbers = rows.tolist()
        tensors = self.config.tensors
        memory, resident = self.source("memory", len(self.store)), self.source("device", len(self.store))
        return {
            "read": seconds_of(lambda: [self.store.pair(number) for number in numbers]),
            "decode": seconds_of(
                lambda: [make(self.store, number, tensors) for number in numbers for make in (image_of, spectrum_of)]
            ),
            "gather, prepared files": seconds_of(lambda: memory.gathered(rows)),
            "gather and copy, prepared files": seconds_of(
                lambda: {name: value.to(self.device) for name, value in memory.gathered(rows).items()}, self.device
            ),
            "select, on the device": seconds_of(lambda: resident.gathered(rows), self.device),
        }


def seconds_of(work: Callable[[], object], device: str = "cpu") -> float:
    """Median seconds of five calls, after one that warms up."""
    work()
    taken = []
    for _ in range(5):
        start_s = now(device)
        work()
        taken.append(now(device) - start_s)
    return float(np.median(taken))


def train_benchmark(
    pairs: int, batch_size: int, repeats: int, backbone: str, image_size: int, out: str, seed: int
) -> None:
    """Measure every goal, print a table, and write it as JSON and a figure into the folder ``out``."""
    logging.getLogger("mmagn").setLevel(logging.ERROR)
    config = RunConfig(
        seed=seed,
        data=DataConfig(simulate=SimulateConfig(pairs=pairs)),
        tensors=TensorsConfig(image_size=image_size),
        models=ModelsConfig(image=ImageBranchConfig(backbone=backbone)),
        training=TrainingConfig(epochs=3, patience=3, batch_size=batch_size, log_every=50, figures_every=1000),
    )
    bench = Bench(config, pair_store(config.data, config.matching))
    where = machine() + (f", {torch.cuda.get_device_name()}" if bench.device == "cuda" else "")
    print(f"machine: {where}; {torch.get_num_threads()} threads, {bench.device}", flush=True)
    figures: dict[str, Any] = {"machine": where, "threads": torch.get_num_threads(), "device": bench.device}
    rates: dict[str, list[float]] = {name: [] for name in (*RESIDENCIES, "step alone")}
    ratios: dict[str, list[float]] = {name: [] for name in RESIDENCIES}
    for _ in range(repeats):  # by turns, so that other work on the machine weighs on all of them
        for name in RESIDENCIES:
            clock = bench.pipeline(name, len(bench.store), batch_size)
            rates[name].append(float(np.median(clock.rates[1:])))
            rates["step alone"].append(clock.alone)
            ratios[name].append(rates[name][-1] / clock.alone)
    rows = _rate_rows(rates, ratios, bench.device)
    stages = bench.before_the_step(batch_size) | bench.stages(batch_size)
    figures |= {"pairs_per_s": rates, "ratio": ratios, "seconds_per_batch": stages}
    rows += [(f"  {name}, a batch of {batch_size}", "", f"{1e3 * value:.2f} ms") for name, value in stages.items()]
    sizes = sorted({len(bench.store) // 4, len(bench.store) // 2, len(bench.store)})
    figures["by_pairs"] = {size: bench.rate("device", size, min(batch_size, size // 4)) for size in sizes}
    figures["by_batch"] = {size: bench.rate("device", len(bench.store), size) for size in (16, 32, 64)}
    rows += [(f"  a run on {size} pairs", "", f"{rate:.0f} pairs/s") for size, rate in figures["by_pairs"].items()]
    rows += [(f"  a run, batches of {size}", "", f"{rate:.0f} pairs/s") for size, rate in figures["by_batch"].items()]
    epoch_pairs = 0.6 * 800
    hour = 3600 * float(np.median(rates["device"])) / (epoch_pairs * RunConfig().training.epochs)
    rows.append(("fits per hour and process: fused, 480 pairs, 30 epochs", "", f"{hour:.0f}"))
    figures["fused_fits_per_hour"] = hour
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    rows.append(("peak memory of the process", "", f"{peak / 1e9:.2f} GB"))
    if bench.device == "cuda":
        rows.append(("peak memory of the GPU", "", f"{torch.cuda.max_memory_allocated() / 1e9:.2f} GB"))
    _write(Path(out), rows, figures | {"peak_bytes": peak})


def _rate_rows(rates: dict[str, list[float]], ratios: dict[str, list[float]], device: str) -> list[Row]:
    goals = {"device": ">= 0.95", "memory": ">= 0.90", "stream": ""}
    if device == "cpu":
        goals |= {"device": ">= 0.90", "memory": ">= 0.90"}
    rows = [("step alone", "", f"{np.median(rates['step alone']):.1f} pairs/s")]
    for name, values in ratios.items():
        each = ", ".join(f"{value:.2f}" for value in values)
        rows.append((f"real run, residency {name}", "", f"{np.median(rates[name]):.1f} pairs/s"))
        rows.append(("  relative to its step alone", goals[name], f"{np.median(values):.2f} ({each})"))
    return rows


def _write(out: Path, rows: list[Row], figures: dict[str, Any]) -> None:
    width = max(len(row[0]) for row in rows)
    text = "\n".join([f"{'what':{width}}  {'goal':>12}  measured", *(f"{a:{width}}  {b:>12}  {c}" for a, b, c in rows)])
    print(text)
    out.mkdir(parents=True, exist_ok=True)
    write_json(out / "train.json", figures | {"table": [list(row) for row in rows]})
    figure = Figure(figsize=(11, 3.6), layout="constrained")
    first, second, third = figure.subplots(1, 3)
    stages = figures["seconds_per_batch"]
    first.barh(list(stages)[::-1], [1e3 * value for value in stages.values()][::-1])
    first.set(xlabel="ms per batch", title="stages")
    second.plot(list(figures["by_pairs"]), list(figures["by_pairs"].values()), "o-")
    second.set(xlabel="pairs", ylabel="pairs/s", title="size of the set", ylim=(0, None))
    third.plot(list(figures["by_batch"]), list(figures["by_batch"].values()), "o-")
    third.set(xlabel="pairs in a batch", title="size of the batch", ylim=(0, None))
    figure.suptitle(figures["machine"], fontsize=8)
    figure.savefig(out / "train.png", dpi=150)
    print(f"written to {out}: {', '.join(sorted(path.name for path in out.iterdir()))}")
