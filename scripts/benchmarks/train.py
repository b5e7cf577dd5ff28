"""Training against the same step on synthetic tensors, stage by stage; and many fits against single ones."""

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
from matplotlib.figure import Figure
from torch import Tensor, nn

from benchmarks.fits import fit_rows
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
from mmagn.tensors.datamodule import PairDataModule
from mmagn.tensors.missing import FeatureOrigin
from mmagn.tensors.prepared import image_of, spectrum_of
from mmagn.tensors.residency import batch_source
from mmagn.tensors.scaling import FeatureScaling
from mmagn.tensors.sources import BatchSource, as_floats
from mmagn.training.config import TrainingConfig
from mmagn.training.fit import device_name, fit, precision_name
from mmagn.training.losses import weighted_bce
from mmagn.training.module import AgnModule
from mmagn.training.optimiser import optimiser

Row = tuple[str, str, str]
RESIDENCIES: tuple[Residency, ...] = ("device", "memory", "stream")
SYNTHETIC_STEPS = 12


class TimedModule(AgnModule):
    """The module of a run, which looks at the clock when an epoch begins and after its last batch."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.rates: list[float] = []

    def on_train_epoch_start(self) -> None:
        """Begin."""
        self._seen, self._began = 0, now(self.device)

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:  # noqa: ARG002
        """Count, and end where it was the last batch; what validates or writes comes after."""
        self._seen += len(batch["index"])
        if self.trainer.is_last_batch:
            self.rates.append(self._seen / (now(self.device) - self._began))


def now(device: torch.device | str) -> float:
    """Seconds of the clock once the device has done all it was given."""
    if torch.device(device).type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter()


class Bench:
    """Real training on a store, and its step on synthetic tensors.

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
        self.origin = FeatureOrigin.of(config.tensors.features, self.scaling)

    def source(self, residency: Residency, count: int) -> BatchSource:
        """The first pairs as a run with that residency has them."""
        return batch_source(
            self.store,
            np.arange(count),
            self.values[:count],
            self.valid[:count],
            self.target[:count],
            self.scaling,
            replace(self.config.tensors, residency=residency),
            self.config.models.branches,
            cache_dir=Path(self.config.data.cache_dir),
            device=self.device,
        )

    def pipeline(self, residency: Residency, count: int, batch_size: int) -> float:
        """Pairs per second of a real run on some pairs: the median of its epochs but the first."""
        training = replace(self.config.training, batch_size=batch_size)
        split = np.where(np.arange(count) < batch_size, "validation", "train")
        data = PairDataModule(
            self.source(residency, count),
            split,
            batch_size=batch_size,
            augment=self.config.tensors.augment,
            seed=self.config.seed,
            origin=self.origin,
            workers=self.config.tensors.workers,
        )
        module = TimedModule(network(self.config), training, 4.0, self.config.seed)
        with tempfile.TemporaryDirectory() as folder:
            run = RunFolder.create(folder, "benchmark")
            fit(module, data, run, training, seed=self.config.seed, hyperparameters={})
        return float(np.median(module.rates[1:]))

    def synthetic(self, batch_size: int) -> dict[str, float]:
        """Seconds of each part of a step on tensors that are on the device already, and nothing around it."""
        torch.manual_seed(self.config.seed)
        model, step = network(self.config).to(self.device).train(), {}
        adam, weight = optimiser(model, self.config.training), torch.tensor(4.0, device=self.device)
        kept = {
            name: value.to(self.device)
            for name, value in self.source("memory", batch_size).gathered(torch.arange(batch_size)).items()
        }
        kept |= {name: torch.randn_like(value) for name, value in kept.items() if name in ("image", "spectrum")}
        times: dict[str, list[float]] = {"transform": [], "forward": [], "backward": [], "optimiser": []}
        for number in range(SYNTHETIC_STEPS):
            step = self._timed_step(model, adam, weight, kept, number)
            if number > 1:
                for name, seconds in step.items():
                    times[name].append(seconds)
        return {name: float(np.median(seconds)) for name, seconds in times.items()}

    def _timed_step(
        self, model: nn.Module, adam: torch.optim.Optimizer, weight: Tensor, kept: dict[str, Tensor], number: int
    ) -> dict[str, float]:
        config, device = self.config, self.device
        precision = torch.autocast(
            device, torch.bfloat16, enabled=precision_name(config.training, device) == "bf16-mixed"
        )
        clock = [now(device)]
        generator = torch.Generator(device=device).manual_seed(number)
        softening = config.tensors.asinh_softening
        origin = self.origin.to(device)
        batch = augment_batch(as_floats(kept), config.tensors.augment, generator, softening=softening, origin=origin)
        clock.append(now(device))
        with precision:
            logits = model(batch)
        loss = weighted_bce(logits.float(), batch["target"], weight).mean()
        clock.append(now(device))
        torch.autograd.backward(loss)
        clock.append(now(device))
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        adam.step()
        adam.zero_grad()
        clock.append(now(device))
        return dict(zip(("transform", "forward", "backward", "optimiser"), np.diff(clock).tolist(), strict=True))

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
        began = now(device)
        work()
        taken.append(now(device) - began)
    return float(np.median(taken))


def train_benchmark(
    pairs: int, batch_size: int, repeats: int, backbone: str, image_size: int, objects: int, out: str, seed: int
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
    told: dict[str, Any] = {"machine": where, "threads": torch.get_num_threads(), "device": bench.device}
    rates: dict[str, list[float]] = {name: [] for name in (*RESIDENCIES, "synthetic")}
    ratios: dict[str, list[float]] = {name: [] for name in RESIDENCIES}
    for _ in range(repeats):  # by turns, so that other work on the machine weighs on all of them
        for name in RESIDENCIES:
            before = batch_size / sum(bench.synthetic(batch_size).values())
            rate = bench.pipeline(name, len(bench.store), batch_size)
            after = batch_size / sum(bench.synthetic(batch_size).values())
            rates[name].append(rate)
            rates["synthetic"] += [before, after]
            ratios[name].append(rate / float(np.sqrt(before * after)))
    rows = _rate_rows(rates, ratios, bench.device)
    stages = bench.before_the_step(batch_size) | bench.synthetic(batch_size)
    told |= {"pairs_per_s": rates, "ratio": ratios, "seconds_per_batch": stages}
    rows += [(f"  {name}, a batch of {batch_size}", "", f"{1e3 * value:.2f} ms") for name, value in stages.items()]
    sizes = sorted({len(bench.store) // 4, len(bench.store) // 2, len(bench.store)})
    told["by_pairs"] = {size: bench.pipeline("device", size, min(batch_size, size // 4)) for size in sizes}
    told["by_batch"] = {size: bench.pipeline("device", len(bench.store), size) for size in (16, 32, 64)}
    rows += [(f"  a run on {size} pairs", "", f"{rate:.0f} pairs/s") for size, rate in told["by_pairs"].items()]
    rows += [(f"  a run with batches of {size}", "", f"{rate:.0f} pairs/s") for size, rate in told["by_batch"].items()]
    epoch_pairs = 0.6 * 800
    hour = 3600 * float(np.median(rates["device"])) / (epoch_pairs * RunConfig().training.epochs)
    rows.append(("fits per hour and process: fused, 480 pairs, 30 epochs", "", f"{hour:.0f}"))
    found, many = fit_rows(objects=objects, repeats=repeats, seed=seed)
    rows += found
    told |= {"many_fits": many, "fused_fits_per_hour": hour}
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    rows.append(("peak memory of the process", "", f"{peak / 1e9:.2f} GB"))
    if bench.device == "cuda":
        rows.append(("peak memory of the GPU", "", f"{torch.cuda.max_memory_allocated() / 1e9:.2f} GB"))
    _write(Path(out), rows, told | {"peak_bytes": peak})


def _rate_rows(rates: dict[str, list[float]], ratios: dict[str, list[float]], device: str) -> list[Row]:
    goals = {"device": ">= 0.95", "memory": ">= 0.85", "stream": ""}
    if device == "cpu":
        goals |= {"device": ">= 0.90", "memory": ">= 0.90"}
    goal = ">= 15000 /s" if device == "cuda" else ""
    rows = [("step on synthetic tensors", goal, f"{np.median(rates['synthetic']):.1f} pairs/s")]
    for name, values in ratios.items():
        each = ", ".join(f"{value:.2f}" for value in values)
        rows.append((f"real run, residency {name}", "", f"{np.median(rates[name]):.1f} pairs/s"))
        rows.append(("  over the synthetic step beside it", goals[name], f"{np.median(values):.2f} ({each})"))
    return rows


def _write(out: Path, rows: list[Row], told: dict[str, Any]) -> None:
    width = max(len(row[0]) for row in rows)
    text = "\n".join([f"{'what':{width}}  {'goal':>12}  measured", *(f"{a:{width}}  {b:>12}  {c}" for a, b, c in rows)])
    print(text)
    out.mkdir(parents=True, exist_ok=True)
    write_json(out / "train.json", told | {"table": [list(row) for row in rows]})
    figure = Figure(figsize=(11, 3.6), layout="constrained")
    first, second, third = figure.subplots(1, 3)
    stages = told["seconds_per_batch"]
    first.barh(list(stages)[::-1], [1e3 * value for value in stages.values()][::-1])
    first.set(xlabel="ms per batch", title="stages")
    second.plot(list(told["by_pairs"]), list(told["by_pairs"].values()), "o-")
    second.set(xlabel="pairs", ylabel="pairs/s", title="size of the set", ylim=(0, None))
    third.plot(list(told["by_batch"]), list(told["by_batch"].values()), "o-")
    third.set(xlabel="pairs in a batch", title="size of the batch", ylim=(0, None))
    figure.suptitle(told["machine"], fontsize=8)
    figure.savefig(out / "train.png", dpi=150)
    print(f"written to {out}: {', '.join(sorted(path.name for path in out.iterdir()))}")
