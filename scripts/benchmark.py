"""Measure mmagn against its goals and print goal and figure side by side; each subcommand measures a part."""

import argparse


def main() -> None:
    """Read the arguments and run one benchmark."""
    parser = argparse.ArgumentParser(description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    lines = commands.add_parser("lines", help="the emission-line fitter; OMP_NUM_THREADS=1 for the one-core figures")
    lines.add_argument("--count", type=int, default=4096, help="simulated spectra")
    lines.add_argument("--seed", type=int, default=5, help="seed of every draw")
    pairs = commands.add_parser("pairs", help="storing, matching and reading pairs; needs 3 GB of disk for 20 files")
    pairs.add_argument("--files", type=int, default=20, help="HSC files of 300 rows, a fifth of them matched")
    pairs.add_argument("--repeats", type=int, default=3, help="runs of each, by turns; the median is told")
    pairs.add_argument("--workers", type=int, default=2, help="processes that store")
    pairs.add_argument("--astropy", action="store_true", help="time match_to_catalog_sky too")
    pairs.add_argument("--seed", type=int, default=5, help="seed of every draw")
    arguments = vars(parser.parse_args())
    if arguments.pop("command") == "lines":
        from benchmarks.lines import line_benchmark  # here, so that processes of the other need not wait for torch

        line_benchmark(**arguments)
    else:
        from benchmarks.pairs import pair_benchmark

        pair_benchmark(**arguments)


if __name__ == "__main__":
    main()
