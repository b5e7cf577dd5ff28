"""Measure mmagn against its goals and print goal and figure side by side; each subcommand measures a part."""

import argparse
from importlib import import_module

BENCHMARKS = {
    "lines": ("lines", "line_benchmark"),
    "resume": ("resume", "resume_benchmark"),
    "pairs": ("pairs", "pair_benchmark"),
    "train": ("train", "train_benchmark"),
    "coverage": ("coverage", "coverage_benchmark"),
    "predict": ("predict", "predict_benchmark"),
    "hub": ("hub", "hub_benchmark"),
    "gpu": ("gpu", "gpu_benchmark"),
}
"""Module and function behind each subcommand."""


def main() -> None:
    """Read the arguments and run one benchmark."""
    parser = argparse.ArgumentParser(description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    lines = commands.add_parser("lines", help="the emission-line fitter; OMP_NUM_THREADS=1 for the one-core figures")
    lines.add_argument("--count", type=int, default=16384, help="simulated spectra")
    pairs = commands.add_parser("pairs", help="storing, matching and reading pairs; needs 3 GB of disk for 20 files")
    pairs.add_argument("--files", type=int, default=20, help="HSC files of 300 rows, a fifth of them matched")
    pairs.add_argument("--repeats", type=int, default=3, help="runs of each, by turns; the median is told")
    pairs.add_argument("--workers", type=int, default=2, help="processes that store")
    pairs.add_argument("--astropy", action="store_true", help="time match_to_catalog_sky too")
    resume = commands.add_parser("resume", help="whether a run that was killed ends as an undisturbed one, bit for bit")
    resume.add_argument("--kills", type=int, default=20, help="random moments of a kill with SIGKILL")
    resume.add_argument("--pairs", type=int, default=200, help="pairs of the embedded survey")
    resume.add_argument("--device", choices=("cpu", "cuda"), default="cpu", help="where it trains")
    train = commands.add_parser("train", help="real training beside its step on synthetic tensors; many fits at once")
    train.add_argument("--pairs", type=int, default=400, help="pairs of the embedded survey")
    train.add_argument("--batch_size", type=int, default=16, help="pairs per step")
    train.add_argument("--repeats", type=int, default=3, help="runs of each, by turns; the median is told")
    train.add_argument("--backbone", default="test_byobnet", help="image backbone, any name of timm")
    train.add_argument("--image_size", type=int, default=96, help="pixels of the crop")
    train.add_argument("--objects", type=int, default=2000, help="objects of the handcrafted network's fits")
    train.add_argument("--out", default="checkpoints/benchmark-train", help="folder of numbers and figure")
    coverage = commands.add_parser("coverage", help="intervals of the scores and calibration on simulated surveys")
    coverage.add_argument("--surveys", type=int, default=200, help="simulated surveys of each size")
    coverage.add_argument("--draws", type=int, default=2000, help="bootstrap draws behind each interval")
    coverage.add_argument("--random_counts", action="store_true", help="draw the number of positives too")
    predict = commands.add_parser("predict", help="streaming prediction from a store beside the forward pass alone")
    predict.add_argument("--pairs", type=int, default=10000, help="pairs, 1 MB of disk each; few flatter the figure")
    predict.add_argument("--repeats", type=int, default=3, help="runs of each, by turns; the median is told")
    predict.add_argument("--workers", type=int, default=0, help="processes that decode; 0 takes threads")
    predict.add_argument("--backbone", default="test_byobnet", help="image backbone, any name of timm")
    predict.add_argument("--image_size", type=int, default=96, help="pixels of the crop")
    gpu = commands.add_parser("gpu", help="all figures of a GPU; exits with 1 where a goal is missed, 2 without a GPU")
    gpu.add_argument("--minutes", type=float, default=8, help="no further part is started after so many minutes")
    gpu.add_argument("--only", default="", help="parts to measure, separated by commas: train, ablation, ...")
    gpu.add_argument("--out", default="checkpoints/benchmark-gpu", help="folder of gpu.json")
    hub = commands.add_parser("hub", help="pairs from a hub with latency relative to the same files on a disk")
    hub.add_argument("--pairs", type=int, default=5000, help="pairs, 2 MB of disk each")
    hub.add_argument("--latency_ms", type=float, default=50.0, help="wait before each answer of the hub")
    hub.add_argument("--repeats", type=int, default=3, help="runs of each, by turns; the median is printed")
    for each in commands.choices.values():
        each.add_argument("--seed", type=int, default=5, help="seed of every draw")
    arguments = vars(parser.parse_args())
    module, function = BENCHMARKS[arguments.pop("command")]
    getattr(import_module(f"benchmarks.{module}"), function)(
        **arguments
    )  # late, so that --help need not wait for torch


if __name__ == "__main__":
    main()
