"""Measure mmagn against its goals and print goal and figure side by side: ``benchmark.py lines``."""

import argparse

from benchmarks.lines import line_benchmark


def main() -> None:
    """Read the arguments and run one benchmark."""
    parser = argparse.ArgumentParser(description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    lines = commands.add_parser("lines", help="the emission-line fitter; OMP_NUM_THREADS=1 for the one-core figures")
    lines.add_argument("--count", type=int, default=4096, help="simulated spectra")
    lines.add_argument("--seed", type=int, default=5, help="seed of every draw")
    arguments = parser.parse_args()
    line_benchmark(arguments.count, arguments.seed)


if __name__ == "__main__":
    main()
