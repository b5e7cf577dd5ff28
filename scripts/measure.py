"""Measure emission lines, the ten features and BPT classes into one table."""

import sys
from collections.abc import Sequence
from pathlib import Path

from mmagn.cli.command_line import exit_code
from mmagn.config.run_config import config_from_namespace, config_parser, parse_arguments


def main(arguments: Sequence[str]) -> int:
    """Return the exit code of ``measure.py``."""
    parser = config_parser(__doc__ or "")
    parser.add_argument("--out", required=True, help="table to write: .parquet, .fits, .ecsv, .csv or .votable")
    parser.add_argument("--pairs", action="store_true", help="a row per pair, with image features, not per spectrum")
    parser.add_argument("--workers", type=int, default=1, help="processes that fit lines")
    namespace = parse_arguments(parser, arguments)

    def action() -> None:
        from mmagn.pipeline import measure  # after parsing, so that --help need not wait for torch

        config = config_from_namespace(parser, namespace)
        measure(config, Path(namespace.out), of_pairs=namespace.pairs, workers=namespace.workers)

    return exit_code(action)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
