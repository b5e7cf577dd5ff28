"""What is measured on a GPU: each function yields rows of the table, with the goal of each."""

import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import redirect_stdout
from dataclasses import dataclass, replace
from importlib.util import find_spec
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import timm
import torch
from torch import Tensor

from benchmarks.fits import fit_rows
from benchmarks.lines import device_rates
from benchmarks.predict import write_run
from benchmarks.train import Bench, Clock
from mmagn.ablation.ablate import ablate, ablation_folds
from mmagn.ablation.fits import FoldFits
from mmagn.config.run_config import RunConfig, load_config
from mmagn.evaluation.variants import VARIANTS
from mmagn.matching.objects import PART_OBJECTS, StoredPart
from mmagn.matching.store import pair_store
from mmagn.models.config import ImageBranchConfig, ModelsConfig
from mmagn.prediction.decode import Decoder, decoded_parts, default_workers
from mmagn.prediction.networks import Ensemble
from mmagn.runs.members import load_members
from mmagn.runs.sample import labelled_sample, network
from mmagn.spectroscopy.continuum import learned_basis
from mmagn.storage.run_folder import RunFolder
from mmagn.surveys.config import DataConfig
from mmagn.tensors.config import TensorsConfig
from mmagn.tensors.datamodule import BatchPlan, PairDataModule
from mmagn.tensors.sources import BatchSource, MappedTensors, PairTensors
from mmagn.tensors.spectrum import spectrum_pixels
from mmagn.training.captured import CudaGraphs
from mmagn.training.device import device_name
from mmagn.training.fit import RunRecord, fit
from mmagn.training.module import AgnModule
from mmagn.training.trainer import own_stream
from mmagn.workers import available_cores

SMALL = RunConfig()
"""Default backbone at 96 pixels."""
LARGE = replace(
    SMALL,
    tensors=TensorsConfig(image_size=160),
    models=ModelsConfig(image=ImageBranchConfig(backbone="resnet18", embedding_dim=32)),
)
"""A network as a real run has it: resnet18 at 160 pixels."""
NETWORKS = tuple(
    f"{prefix}{name}" for prefix in ("", "masked-") for name in ("handcrafted", "spectrum", "image-spectrum", "fused")
)
QUESTIONS = ("fused - handcrafted", "masked-fused - masked-handcrafted")
CACHE = "checkpoints/benchmark-gpu/cache"
"""Folder of the embedded survey, which several parts use."""
PREDICTED_PARTS = 24
WIDTH = 66
DISTINCT = 512
"""Different objects among synthetic tensors; the others repeat them."""


@dataclass(frozen=True, kw_only=True)
class Row:
    """One line of the table.

    Attributes
    ----------
    what, unit
        What was measured, and in which unit.
    value
        The figure; NaN where it could not be measured.
    goal
        Least value, or most where ``most`` is set; None is for information.
    note
        Anything that belongs to the figure.
    """

    what: str
    value: float
    unit: str = "pairs/s"
    goal: float | None = None
    most: bool = False
    note: str = ""

    @property
    def missed(self) -> bool:
        """True where there is a goal and the figure does not reach it."""
        if self.goal is None:
            return False
        return not (self.value <= self.goal if self.most else self.value >= self.goal)

    def __str__(self) -> str:
        """One line: what, goal, figure."""
        goal = "" if self.goal is None else f"{'<=' if self.most else '>='} {self.goal:,g}"
        mark = "MISSED" if self.missed else ""
        return f"{self.what:<{WIDTH}}{goal:>12}  {self.value:>12,.4g} {self.unit:<10}{mark:<8}{self.note}"


class Synthetic:
    """Runs on made-up tensors, which cost no time to prepare and are as long to train on as real ones.

    Parameters
    ----------
    config
        Settings of tensors and network.
    train, validation
        Objects of the two splits.
    """

    def __init__(self, config: RunConfig, train: int, validation: int) -> None:
        self.config, self.train, self.validation = config, train, validation
        drawn, size = np.random.default_rng(0), config.tensors.image_size
        spectrum = np.full((DISTINCT, 2, spectrum_pixels(config.tensors)), 0.5)
        spectrum[:, 0] = 0.3 * drawn.standard_normal(spectrum[:, 0].shape)
        self.parts = {
            "image": drawn.standard_normal((DISTINCT, 5, size, size)).astype(np.float16),
            "spectrum": spectrum.astype(np.float16),
        }
        self.rows = np.arange(train + validation) % DISTINCT
        self.features = torch.from_numpy(drawn.standard_normal((len(self.rows), 10)).astype(np.float32))
        self.target = (self.features[:, 0] > 0.8).float()

    def source(self, residency: str) -> BatchSource:
        """Tensors on the device or in memory."""
        if residency == "memory":
            parts = {name: part[self.rows] for name, part in self.parts.items()}
            own = np.arange(len(self.rows))
            return MappedTensors(parts=parts, rows=own, features=self.features, target=self.target, pinned=True)
        device = device_name(self.config.training)
        rows = torch.from_numpy(self.rows).to(device)
        image, spectrum = (torch.from_numpy(self.parts[name]).to(device)[rows] for name in ("image", "spectrum"))
        tensors = PairTensors(image=image, spectrum=spectrum, features=self.features, target=self.target)
        return tensors.to(device)

    def run(self, batch_size: int, *, residency: str = "device", steps_alone: int = 0, **training: Any) -> Clock:
        """Rates of a run into a folder of its own, with all callbacks of a real one."""
        settings = replace(self.config.training, batch_size=batch_size, **training)
        split = np.array(["train"] * self.train + ["validation"] * self.validation)
        plan = BatchPlan(batch_size=batch_size, augment=self.config.tensors.augment, seed=0, workers=8)
        self.module = AgnModule(network(self.config), settings, 4.0, 0)
        clock = Clock(steps_alone=steps_alone)
        with tempfile.TemporaryDirectory() as folder:
            data = PairDataModule(self.source(residency), split, plan)
            fit(self.module, data, RunFolder.create(folder, "benchmark"), RunRecord(callbacks=(clock,)))
        torch.cuda.empty_cache()
        return clock


def epoch_rows() -> Iterator[Row]:
    """Epoch of the default network as ``train.py --config fused.yaml`` has it, and its rate in long epochs."""
    clock = Synthetic(SMALL, 303, 101).run(16, epochs=12, patience=12, figures_every=100)
    yield Row(
        what="epoch of 303 pairs, batch 16, validation and checkpoints included",
        value=float(np.median(clock.epoch_s[2:])),
        unit="s",
        goal=0.1,
        most=True,
        note=f"first two {clock.epoch_s[0]:.2f}, {clock.epoch_s[1]:.2f} s",
    )
    clock = Synthetic(SMALL, 4096, 64).run(16, steps_alone=200, epochs=4, patience=4)
    yield from _rate_rows("default backbone, 96 px, batch 16", clock, 5000.0)


def agreement_rows() -> Iterator[Row]:
    """Whether a captured run ends as one in eager mode, in float32."""
    states = []
    for captures in (True, False):
        AgnModule.captures = captures
        synthetic = Synthetic(SMALL, 100, 32)
        torch.manual_seed(0)
        synthetic.run(16, epochs=2, patience=2, precision="32-true", learning_rate=1e-4)
        states.append([value.detach().cpu() for value in synthetic.module.model.parameters()])
    AgnModule.captures = True
    largest = max(float((one - other).abs().max()) for one, other in zip(*states, strict=True))
    moved = "largest difference of a weight after 14 steps at a learning rate of 1e-4"
    yield Row(what="captured against eager mode, float32", value=largest, unit="", goal=5e-4, most=True, note=moved)


def large_rows() -> Iterator[Row]:
    """A real network at three batch sizes, and the bare backbone."""
    bare = {size: bare_rate(size) for size in (256, 64, 16)}
    for size, pairs in ((256, 8192), (64, 4096), (16, 1024)):
        synthetic = Synthetic(LARGE, pairs, 64)
        clock = synthetic.run(size, steps_alone=40, epochs=4, patience=4)
        yield from _rate_rows(f"resnet18, 160 px, batch {size}, resident", clock, 25000.0 if size == 256 else None)
        yield Row(what=f"  bare resnet18 step at batch {size}: the limit", value=bare[size])
        if size == 256:
            memory = synthetic.run(size, residency="memory", epochs=4, patience=4)
            rate = _rate(memory)
            yield Row(what="  from memory-mapped files", value=rate)
            yield Row(what="  relative to the step alone", value=rate / clock.alone, unit="", goal=0.9)


def bare_rate(batch_size: int) -> float:
    """Pairs per second of forward, backward and Adam of resnet18 alone, captured, on one batch."""
    with own_stream("cuda"):
        device = torch.device("cuda", torch.cuda.current_device())
        model = timm.create_model("resnet18", in_chans=5, num_classes=1).to(device, memory_format=torch.channels_last)
        image = torch.randn(batch_size, 5, 160, 160, device=device)
        rate = torch.tensor(1e-3, device=device)
        adam = torch.optim.Adam(model.parameters(), lr=rate, fused=True, capturable=True)

        def step() -> tuple[Tensor, ...]:
            with torch.autocast("cuda", torch.bfloat16):
                logits = model(image)
            loss = logits.float().square().mean()
            loss.backward()
            adam.step()
            adam.zero_grad()
            return (loss.detach(),)

        for _ in range(3):
            step()
        repeat = CudaGraphs(device).record(step)
        repeat()
        torch.cuda.synchronize()
        start_s = time.perf_counter()
        for _ in range(40):
            repeat()
        torch.cuda.synchronize()
        return 40 * batch_size / (time.perf_counter() - start_s)


def line_rows() -> Iterator[Row]:
    """The line fitter, on prepared batches and from records to the table."""
    rates = device_rates(torch.device("cuda"))
    note = f"{rates['batch']:.0f} at once, at most {rates['memory_gb']:.1f} GB"
    yield Row(what="line fitter, prepared batch", value=rates["prepared"], unit="spectra/s", goal=250_000, note=note)
    yield Row(what="line fitter, records to table", value=rates["records"], unit="spectra/s", goal=100_000)


def head_rows() -> Iterator[Row]:
    """Many fits of the handcrafted network as one batch."""
    _, figures = fit_rows(objects=2000, repeats=1, seed=5)
    wall, _ = figures["seconds_together"][0]
    yield Row(what="handcrafted network, 5 folds x 10 seeds x 100 epochs", value=wall, unit="s", goal=8, most=True)


def ablation_rows() -> Iterator[Row]:
    """Eight networks on five folds three times, on the embedded survey of 800 pairs; its answers and report besides."""
    start_s = time.monotonic()
    with tempfile.TemporaryDirectory() as fits:
        config = load_config("ablation.yaml")
        chosen = replace(config.ablation, variants=NETWORKS, questions=QUESTIONS, fits_dir=fits)
        config = replace(config, runs_dir=fits, data=replace(config.data, cache_dir=CACHE), ablation=chosen)
        sample = labelled_sample(config)
        yield Row(what="survey of 800 pairs, made and measured", value=time.monotonic() - start_s, unit="s")
        start_s = time.monotonic()
        folds, fold_fits = ablation_folds(config, sample), FoldFits(config, sample)
        for name in NETWORKS:
            fit_s = time.monotonic()
            fold_fits.make([VARIANTS[name]], folds)
            yield Row(what=f"  {name}, {len(folds)} fits", value=time.monotonic() - fit_s, unit="s")
        fitted_s = time.monotonic() - start_s
        yield Row(what="ablation, 8 models x 5 folds x 3 repeats: fits", value=fitted_s, unit="s")
        with redirect_stdout(StringIO()):
            ablate(config)
        whole_s = time.monotonic() - start_s
        yield Row(what="  fits, scores, members and report", value=whole_s, unit="s", goal=180, most=True)


def predict_rows() -> Iterator[Row]:
    """Prediction from a store, with features: reading, decoding, line fit and network; parts of it repeated."""
    config = replace(SMALL, data=DataConfig(cache_dir=CACHE))
    store = pair_store(config.data, config.matching)
    basis = learned_basis((store.spectrum(row) for row in range(len(store))), config.spectroscopy)
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder, "run")
        write_run(config, basis, run)
        (member,) = load_members([run])
    ensemble = Ensemble(members=[member], device="cuda")
    decoder = Decoder(config=config, bases=ensemble.bases)
    part = StoredPart(store=store, start=0, stop=min(PART_OBJECTS, len(store)))
    workers = default_workers(PREDICTED_PARTS * len(part), "cuda")
    times = []
    for number, decoded in enumerate(decoded_parts([part] * PREDICTED_PARTS, decoder, workers)):
        ensemble.table(decoded, ensemble.outputs(decoded, place=number % 2))
        times.append(time.perf_counter())
    rate = (len(times) - 1) * len(part) / (times[-1] - times[0])
    note = f"{workers} processes decode"
    yield Row(what="prediction from a store with features", value=rate, unit="galaxies/s", goal=10_000, note=note)


def stream_rows() -> Iterator[Row]:
    """Training on tensors that are made from the store for each batch."""
    config = replace(LARGE, data=DataConfig(cache_dir=CACHE))
    bench = Bench(config, pair_store(config.data, config.matching))
    clock = bench.pipeline("stream", len(bench.store), 64, epochs=4)
    yield Row(what="resnet18, 160 px, batch 64, streamed from a store", value=_rate(clock), goal=4000)


def resume_rows() -> Iterator[Row]:
    """Runs on the GPU that are killed and resumed."""
    command = [sys.executable, sys.argv[0], "resume", "--kills", "3", "--pairs", "200", "--device", "cuda"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    lines = done.stdout.strip().splitlines() or [done.stderr.strip().rpartition("\n")[2]]
    value = float(lines[-1].rpartition(":")[2].partition("of")[0]) if done.returncode == 0 else float("nan")
    what = "runs killed by SIGKILL that end with the same weights, of 3"
    yield Row(what=what, value=value, unit="", goal=3, note=lines[-1])


def test_rows() -> Iterator[Row]:
    """Tests that run on a GPU, and those of training, models and tensors."""
    root = Path(__file__).resolve().parents[2]
    folders = [f"tests/{name}" for name in ("training", "models", "tensors", "spectroscopy", "ablation")]
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:benchmark", "-p", "no:cacheprovider", *folders]
    command += ["-n", str(min(12, available_cores()))] if find_spec("xdist") else []
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=root)
    lines = done.stdout.strip().splitlines() or [done.stderr.strip()]
    for line in lines:
        if line.startswith(("FAILED", "ERROR")):
            print(f"    {line[:160]}", flush=True)
    what = "tests on this machine: exit code of pytest"
    yield Row(
        what=what,
        value=done.returncode,
        unit="",
        goal=0,
        most=True,
        note=lines[-1],
    )


def _rate(clock: Clock) -> float:
    """Pairs per second of a run: the median of its epochs but the first two, which warm up and record."""
    return float(np.median(clock.rates[2:] or clock.rates[-1:]))


def _rate_rows(what: str, clock: Clock, goal: float | None) -> Iterator[Row]:
    rate = _rate(clock)
    yield Row(what=what, value=rate, goal=goal)
    yield Row(what="  step alone", value=clock.alone, note=f"{1e3 * clock.batch_size / clock.alone:.2f} ms a step")
    yield Row(what="  run relative to its step alone", value=rate / clock.alone, unit="", goal=0.95 if goal else None)
