"""Score a trained run on one split of its pairs."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from mmagn.cli.command_line import exit_code


def main(arguments: Sequence[str]) -> int:
    """Return the exit code of ``evaluate.py``."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--run", required=True, type=Path, help="run folder, such as checkpoints/20260101-120000-fused")
    parser.add_argument("--split", default="test", choices=("train", "validation", "test"), help="pairs to score")
    parsed = parser.parse_args(arguments)

    def action() -> None:
        from mmagn.pipeline import evaluate  # after parsing, so that --help need not wait for torch

        evaluate(parsed.run, parsed.split)

    return exit_code(action)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
