"""The line fitter against its goals: speed, bias, errors, stellar absorption, classes, false detections."""

import os
import platform
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from astropy.table import Table
from numpy.typing import NDArray

from benchmarks.starlight import starlight_rows
from mmagn.labels.bpt import BPT_CLASSES, bpt_class
from mmagn.lines import LINES, REPORTED_LINES
from mmagn.records import LIGHT_SPEED_KMS, LOG10_STEP, Spectrum
from mmagn.spectroscopy.basis import ContinuumBasis, local_basis
from mmagn.spectroscopy.batch import spectrum_batch
from mmagn.spectroscopy.config import SpectroscopyConfig
from mmagn.spectroscopy.continuum import learned_basis
from mmagn.spectroscopy.emission import fitted_batches, line_table
from mmagn.spectroscopy.rows import rows_of
from mmagn.spectroscopy.stream import batch_size
from mmagn.spectroscopy.system import grids
from mmagn.surveys.config import DataConfig
from mmagn.surveys.reader import iter_spectra
from mmagn.surveys.readers import survey_reader
from mmagn.surveys.simulate.spectra import simulated_spectra

BPT_LINES = ("hbeta", "oiii_5007", "halpha", "nii_6584")
Floats = NDArray[np.float64]
Row = tuple[str, str, str]


def machine() -> str:
    """Return processor, threads and GPU in one line."""
    cpu = next(
        (line.split(":")[1].strip() for line in _lines_of("/proc/cpuinfo") if line.startswith("model name")),
        platform.processor(),
    )
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else "no GPU here"
    load = f"{os.getloadavg()[0]:.1f}"
    return f"{cpu}, {os.cpu_count()} cores (load {load}), torch {torch.__version__} on 1 thread; {gpu}"


def _lines_of(path: str) -> list[str]:
    return Path(path).read_text(encoding="utf-8").splitlines() if Path(path).exists() else []


def line_benchmark(count: int, seed: int) -> None:
    """Measure every goal on ``count`` simulated spectra and print goal and figure."""
    torch.set_num_threads(1)
    print(f"machine: {machine()}")
    config = SpectroscopyConfig(device="cpu")
    training, _ = simulated_spectra(config.basis_maximum, np.random.default_rng(seed + 1))
    start = time.process_time()
    basis = learned_basis(training, config)
    print(f"basis learned from {len(training)} simulated spectra in {time.process_time() - start:.1f} s")
    rng = np.random.default_rng(seed)
    spectra, truth = simulated_spectra(count, rng)
    lines = line_table(spectra, config, basis)
    narrow = np.asarray(truth["bpt_class"]) != "broad-line"
    rows = [*_throughput(spectra, basis, config), *_accuracy(lines, truth, narrow), *_absorption(lines, truth, narrow)]
    rows += _classes(lines, truth, narrow)
    rows += _false_detections(count, seed, basis, config)
    rows += _broad(lines, truth)
    rows += _real(config)
    rows += starlight_rows()
    width = max(len(row[0]) for row in rows)
    print(f"\n{'what':{width}}  {'goal':>16}  measured")
    for what, goal, measured in rows:
        print(f"{what:{width}}  {goal:>16}  {measured}")


def _best_seconds(work: Callable[[], object], repeats: int = 5) -> tuple[float, float]:
    """Return the shortest wall time and the shortest processor time."""
    wall, processor = [], []
    for _ in range(repeats):
        began, used = time.perf_counter(), time.process_time()
        work()
        wall.append(time.perf_counter() - began)
        processor.append(time.process_time() - used)
    return min(wall), min(processor)


def _throughput(spectra: Sequence[Spectrum], basis: ContinuumBasis | None, config: SpectroscopyConfig) -> list[Row]:
    some = list(spectra[:1024])
    rows = []
    for what, settings in (("with broad trial", config), ("without", replace(config, broad_balmer=False))):
        wall, processor = _best_seconds(lambda settings=settings: line_table(some, settings, basis))
        text = f"{len(some) / wall:.0f} /s wall, {len(some) / processor:.0f} /s processor time"
        rows.append((f"spectra to table, one core, {what}", ">= 1500 /s", text))
    tables = grids(basis, torch.device("cpu"))
    size = config.batch_size
    batches = [spectrum_batch(some[first : first + size]) for first in range(0, len(some), size)]
    wall, processor = _best_seconds(lambda: fitted_batches(batches, tables))
    text = f"{len(some) / wall:.0f} /s wall, {len(some) / processor:.0f} /s processor time"
    rows.append(("prepared batches, one core", "", text))
    return [*rows, *_gpu_throughput()]


def _gpu_throughput() -> list[Row]:
    goals = {"prepared": ("prepared batch on one GPU", 250_000), "records": ("records to table on one GPU", 100_000)}
    if not torch.cuda.is_available():
        return [(what, f">= {goal} /s", "no GPU here") for what, goal in goals.values()]
    rates = device_rates(torch.device("cuda"))
    text = f"{rates['batch']:.0f} at once, at most {rates['memory_gb']:.1f} GB"
    return [(what, f">= {goal} /s", f"{rates[name]:.0f} /s ({text})") for name, (what, goal) in goals.items()]


def device_rates(
    device: torch.device, *, repeats: int = 3, batch: int = 0, distinct: int = 4096, basis_spectra: int = 320
) -> dict[str, float]:
    """Return the spectra that the line fitter measures in a second on a device.

    Parameters
    ----------
    device
        A GPU, or the CPU to try this function.
    repeats
        Timed runs after one that warms up; the fastest counts.
    batch
        Spectra at once; 0 takes the default of the settings.
    distinct
        Spectra that are simulated; a larger batch repeats them.
    basis_spectra
        Spectra that the stellar basis is learned from, on the CPU.

    Returns
    -------
    dict
        ``prepared``: spectra per second of a batch that lies on the device; ``records``: of ``Spectrum`` records to
        the table, two batches; ``batch``: spectra at once; ``memory_gb``: most GPU memory that the fit took.
    """
    config = SpectroscopyConfig(device="cuda" if device.type == "cuda" else "cpu")
    training, _ = simulated_spectra(basis_spectra, np.random.default_rng(1))
    basis = learned_basis(training, config)
    tables = grids(basis or local_basis(), device)
    size = batch or batch_size(config, device, len(tables.prior_mean))
    config = replace(config, batch_size=size, cuda_batch_size=size)
    records, _ = simulated_spectra(min(distinct, size), np.random.default_rng(2))
    rows = torch.arange(size, device=device) % len(records)
    prepared = rows_of(spectrum_batch(records, device), rows)

    def fit() -> None:
        fitted_batches([prepared], tables)
        if device.type == "cuda":
            torch.cuda.synchronize(device)

    many = [records[row % len(records)] for row in range(2 * size)]
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    wall = {}
    for name, count, work in (("prepared", size, fit), ("records", 2 * size, lambda: line_table(many, config, basis))):
        work()
        wall[name] = count / _best_seconds(work, repeats)[0]
    peak = torch.cuda.max_memory_allocated(device) / 1e9 if device.type == "cuda" else float("nan")
    return {**wall, "batch": float(size), "memory_gb": peak}


def _accuracy(lines: Table, truth: Table, narrow: NDArray[np.bool_]) -> list[Row]:
    rows = []
    for name in REPORTED_LINES:
        true = np.asarray(truth[f"flux_{name}"])
        flux, error = np.asarray(lines[f"flux_{name}"]), np.asarray(lines[f"flux_{name}_err"])
        good = np.isfinite(flux) & narrow
        strong = good & (true > 5 * error)
        pull = (flux - true) / error
        bias = np.median(flux[strong] / true[strong]) - 1
        rows.append((f"median flux bias {name}, S/N >= 5 ({strong.sum()})", "< 1 %", f"{100 * bias:+.2f} %"))
        text = f"{pull[strong].std():.3f} (robust {_robust(pull[strong]):.3f}), all S/N {pull[good].std():.3f}"
        rows.append((f"pull width {name}, S/N >= 5", "0.95-1.05", text))
    return rows


def _robust(values: Floats) -> float:
    return float(1.4826 * np.median(np.abs(values - np.median(values))))


def _absorption(lines: Table, truth: Table, narrow: NDArray[np.bool_]) -> list[Row]:
    scale = np.asarray(lines["continuum_hbeta"]) * (1 + np.asarray(truth["redshift"]))
    error = (np.asarray(lines["flux_hbeta"]) - np.asarray(truth["flux_hbeta"])) / scale
    error = error[np.isfinite(error) & narrow]
    return [
        ("Hb emission EW, median absolute error", "< 0.35 A", f"{np.median(np.abs(error)):.3f} A (noise included)"),
        ("Hb emission EW, mean bias", "< 0.1 A", f"{error.mean():+.3f} A (median {np.median(error):+.3f})"),
    ]


def _ratios(table: Table) -> tuple[Floats, Floats]:
    with np.errstate(divide="ignore", invalid="ignore"):
        nii = np.log10(np.asarray(table["flux_nii_6584"]) / np.asarray(table["flux_halpha"]))
        return nii, np.log10(np.asarray(table["flux_oiii_5007"]) / np.asarray(table["flux_hbeta"]))


def _classes(lines: Table, truth: Table, narrow: NDArray[np.bool_]) -> list[Row]:
    weakest = np.min([np.asarray(lines[f"flux_{name}"] / lines[f"flux_{name}_err"]) for name in BPT_LINES], axis=0)
    chosen = (weakest > 10) & narrow
    measured = bpt_class(*_ratios(lines[chosen]), "schawinski2007")
    true = bpt_class(*_ratios(truth[chosen]), "schawinski2007")
    print("\nBPT class by true (rows) and measured (columns) fluxes, weakest S/N > 10")
    print(" " * 14 + "".join(f"{name:>14}" for name in BPT_CLASSES))
    for row in BPT_CLASSES:
        print(f"{row:>14}" + "".join(f"{((true == row) & (measured == column)).sum():14d}" for column in BPT_CLASSES))
    share = 100 * (true == measured).mean()
    return [(f"BPT class right, weakest S/N > 10 ({chosen.sum()})", ">= 95 %", f"{share:.1f} %")]


def _false_detections(count: int, seed: int, basis: ContinuumBasis | None, config: SpectroscopyConfig) -> list[Row]:
    rng = np.random.default_rng(seed + 2)
    spectra, truth = simulated_spectra(count, rng, classes=["passive"])
    noise = [
        replace(s, flux=np.where(s.ivar > 0, rng.normal(size=len(s.flux)) / np.sqrt(np.maximum(s.ivar, 1e-30)), 0))
        for s in spectra
    ]
    rows = [_false_row("pure noise", noise, basis, config)]
    rows.append(_false_row("pure noise, local continuum", noise, None, config))
    return [*rows, _false_row("line-free spectra", _without_lines(spectra, truth), basis, config)]


def _without_lines(spectra: Sequence[Spectrum], truth: Table) -> list[Spectrum]:
    """Return passive spectra less their own faint emission, a Gaussian per line with the true flux and width."""
    kms = LIGHT_SPEED_KMS * np.log(10) * LOG10_STEP
    cleaned = []
    for spectrum, row in zip(spectra, truth, strict=True):
        flux = spectrum.flux.astype(np.float64)
        for line in LINES:
            ratio, owner = (line.tied_ratio, line.tied_to) if line.tied_to else (1.0, line.name)
            centre = line.wavelength_angstrom * (1 + row["redshift"]) * (1 + row["velocity_kms"] / LIGHT_SPEED_KMS)
            offset = np.log10(spectrum.wavelength_angstrom.astype(np.float64) / centre) / LOG10_STEP
            instrument = spectrum.lsf_sigma[np.argmin(np.abs(offset))]
            sigma = np.hypot(row[f"sigma_kms_{line.group}"] / kms, instrument)
            profile = np.exp(-0.5 * (offset / sigma) ** 2) / (sigma * np.sqrt(2 * np.pi))
            flux -= ratio * row[f"flux_{owner}"] * profile / (spectrum.wavelength_angstrom * np.log(10) * LOG10_STEP)
        cleaned.append(replace(spectrum, flux=flux.astype(np.float32)))
    return cleaned


def _false_row(what: str, spectra: list[Spectrum], basis: ContinuumBasis | None, config: SpectroscopyConfig) -> Row:
    lines = line_table(spectra, config, basis)
    parts = []
    for name in REPORTED_LINES:
        snr = np.asarray(lines[f"flux_{name}"] / lines[f"flux_{name}_err"])
        parts.append(f"{name} {100 * (snr[np.isfinite(snr)] > 3).mean():.2f}")
    return f"false detections at S/N > 3, {what} ({len(spectra)})", "<= 1 % a line", ", ".join(parts) + " %"


def _broad(lines: Table, truth: Table) -> list[Row]:
    true = np.asarray(truth["bpt_class"]) == "broad-line"
    flagged = np.asarray(lines["broad_line"])
    return [
        (f"broad lines detected ({true.sum()})", "", f"{100 * flagged[true].mean():.1f} %"),
        (f"false broad lines in others ({(~true).sum()})", "", f"{100 * flagged[~true].mean():.2f} %"),
    ]


def _real(config: SpectroscopyConfig) -> list[Row]:
    root = os.environ.get("MMAGN_REAL_TREE", "")
    if not (Path(root) / "spzline.csv").is_file():
        return [("29 real spectra against the SDSS pipeline", "0.95-1.05", "MMAGN_REAL_TREE is not set")]
    reference = Table.read(Path(root) / "spzline.csv", format="ascii.csv", converters={"object_id": str})
    spectra = list(iter_spectra(survey_reader(DataConfig(source="hdf5", root=root)), Counter()))
    lines = line_table(spectra, config)
    position = {name: row for row, name in enumerate(reference["object_id"])}
    reference = reference[[position[name] for name in lines["object_id"]]]
    subclass = np.asarray(reference["subclass"].filled(""))
    narrow = (np.asarray(reference["class"]) == "GALAXY") & (subclass != "BROADLINE") & ~np.asarray(lines["broad_line"])
    rows = []
    for name in BPT_LINES:
        theirs, their_error = np.asarray(reference[f"{name}_flux"]), np.asarray(reference[f"{name}_flux_err"])
        ours, our_error = np.asarray(lines[f"flux_{name}"]), np.asarray(lines[f"flux_{name}_err"])
        both = narrow & (their_error > 0) & (theirs > 5 * their_error) & (ours > 5 * our_error)
        ratio = ours[both] / theirs[both]
        scatter = f"scatter {100 * _robust(ratio):.1f} % (standard deviation {100 * ratio.std():.1f} %)"
        text = f"{np.median(ratio):.3f}, {scatter}"
        rows.append((f"real / SDSS pipeline {name} ({both.sum()})", "0.95-1.05, 15 %", text))
    return rows
