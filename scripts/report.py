"""Write report.html of a run anew: one page that opens without a network."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from mmagn.cli.command_line import exit_code


def main(arguments: Sequence[str]) -> int:
    """Return the exit code of ``report.py``."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--run", required=True, type=Path, help="folder of a training, an ablation or a search")
    parsed = parser.parse_args(arguments)

    def action() -> None:
        from mmagn.reporting.page.report import write_report  # after parsing, so that --help need not wait for torch

        sys.stdout.write(f"{write_report(parsed.run)}\n")

    return exit_code(action)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
