"""Measure mmagn against its goals and print goal and figure side by side; each subcommand measures a part."""

import argparse
from importlib import import_module
from typing import Any

TURNS = ("repeats", 3, "runs of each, by turns; the median is printed")
BACKBONE = ("backbone", "test_byobnet", "image backbone, any name of timm")
IMAGE_SIZE = ("image_size", 96, "pixels of the crop")
BENCHMARKS: dict[str, tuple[str, list[tuple[str, Any, str]]]] = {
    "lines": (
        "the emission-line fitter; OMP_NUM_THREADS=1 for the one-core figures",
        [("count", 16384, "simulated spectra")],
    ),
    "pairs": (
        "storing, matching and reading pairs; needs 3 GB of disk for 20 files",
        [
            ("files", 20, "HSC files of 300 rows, a fifth of them matched"),
            TURNS,
            ("workers", 2, "processes that store"),
            ("astropy", False, "time match_to_catalog_sky too"),
        ],
    ),
    "resume": (
        "whether a run that was killed ends as an undisturbed one, bit for bit",
        [
            ("kills", 20, "random moments of a kill with SIGKILL"),
            ("pairs", 200, "pairs of the embedded survey"),
            ("device", "cpu", "where it trains: cpu or cuda"),
        ],
    ),
    "faults": (
        "damaged inputs and killed processes; exits with 1 where a command ends as none may",
        [
            ("inputs", 1000, "damaged inputs of every kind"),
            ("kills", 30, "kills of the main process at random moments"),
            ("worker_kills", 12, "kills of a worker at random moments"),
        ],
    ),
    "train": (
        "real training relative to its step alone",
        [
            ("pairs", 400, "pairs of the embedded survey"),
            ("batch_size", 16, "pairs per step"),
            TURNS,
            BACKBONE,
            IMAGE_SIZE,
            ("out", "checkpoints/benchmark-train", "folder of numbers and figure"),
        ],
    ),
    "fits": (
        "many fits at once relative to one by one; a fold fit relative to a bare PyTorch loop",
        [
            ("objects", 2000, "objects of the handcrafted network's fits"),
            ("pairs", 200, "pairs of the fused network's fold fit"),
            TURNS,
        ],
    ),
    "coverage": (
        "intervals of the scores and calibration on simulated surveys",
        [
            ("surveys", 200, "simulated surveys of each size"),
            ("draws", 2000, "bootstrap draws behind each interval"),
            ("random_counts", False, "draw the number of positives too"),
        ],
    ),
    "predict": (
        "streaming prediction from a store relative to the forward pass alone",
        [
            ("pairs", 10000, "pairs, 1 MB of disk each; few flatter the figure"),
            TURNS,
            ("workers", 0, "processes that decode; 0 takes threads"),
            BACKBONE,
            IMAGE_SIZE,
        ],
    ),
    "gpu": (
        "all figures of a GPU; exits with 1 where a goal is missed, 2 without a GPU",
        [
            ("minutes", 8.0, "no further part is started after so many minutes"),
            ("only", "", "parts to measure, separated by commas: train, ablation, ..."),
            ("out", "checkpoints/benchmark-gpu", "folder of gpu.json"),
        ],
    ),
    "truth": (
        "whether the fused model uses its branches; exits with 1 where a goal is missed",
        [
            ("minutes", 60.0, "no further part is started after so many minutes"),
            ("pairs", 800, "pairs of the embedded survey"),
            ("large", 2000, "pairs of the larger one"),
            ("repeats", 3, "repeats of the five folds"),
            ("trainings", 10, "ablations whose verdicts are compared"),
            ("only", "", "parts to measure, separated by commas: cost, main, planted, large, ..."),
            ("out", "checkpoints/benchmark-truth", "folder of truth.json and of all fits"),
        ],
    ),
    "backbones": (
        "what image backbones learn of simulated galaxies at several sizes of the survey, and what they cost",
        [
            ("pairs", "500,2000,10000", "pairs of the embedded surveys, separated by commas"),
            (
                "backbones",
                "test_byobnet,resnet10t,mobilenetv4_conv_small,convnext_atto,efficientnet_lite0",
                "models of timm, separated by commas",
            ),
            ("image_size", 160, "pixels of the crop"),
            ("folds", 5, "folds, of five, whose scores are averaged"),
            ("out", "checkpoints/benchmark-backbones", "folder of backbones.json"),
        ],
    ),
    "scale": (
        "measure on a local Dask cluster: spectra/s, memory of a worker at two sizes, a killed worker; 2 GB of disk",
        [
            ("spectra", 20000, "simulated spectra; a quarter of them is the smaller size"),
            ("galaxies", 0, "predict a sixth of so many galaxies, then all, instead; 3 MB of disk each"),
            ("workers", 2, "workers of the cluster"),
        ],
    ),
    "hub": (
        "pairs from a hub with latency relative to the same files on a disk",
        [
            ("pairs", 5000, "pairs, 2 MB of disk each"),
            ("latency_ms", 50.0, "wait before each answer of the hub"),
            TURNS,
        ],
    ),
}
"""Help and options (name, default, help) of each subcommand."""


def main() -> None:
    """Read the arguments and run one benchmark."""
    parser = argparse.ArgumentParser(description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    for name, (text, options) in BENCHMARKS.items():
        command = commands.add_parser(name, help=text)
        for option, default, meaning in [*options, ("seed", 5, "seed of every draw")]:
            kind: dict[str, Any] = {"action": "store_true"} if default is False else {"type": type(default)}
            command.add_argument(f"--{option}", default=default, help=meaning, **kind)
    arguments = vars(parser.parse_args())
    name = arguments.pop("command")
    module = import_module(f"benchmarks.{name}")  # here, so that --help need not wait for torch
    getattr(module, f"{name.removesuffix('s')}_benchmark")(**arguments)


if __name__ == "__main__":
    main()
