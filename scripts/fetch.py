"""Download the HEALPix cells of the published tree that promise the most pairs per gigabyte."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from mmagn.cli.command_line import exit_code
from mmagn.surveys.config import DataConfig
from mmagn.surveys.fetch import PUBLISHED_TREE, chosen_cells, fetch_cells, http_session, plan_text, remote_cells


def cell_numbers(text: str) -> list[int]:
    """Return the numbers of a list such as ``1104,1107``."""
    return [int(number) for number in text.split(",")]


def main(arguments: Sequence[str]) -> int:
    """Return the exit code of ``fetch.py``."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="folder of the tree; give it to --data.root later")
    parser.add_argument("--url", default=PUBLISHED_TREE, help="root of the published tree (default: %(default)s)")
    parser.add_argument("--max-gb", type=float, default=20.0, help="most to download, 1e9 bytes (default: %(default)s)")
    parser.add_argument("--cells", type=cell_numbers, default=[], help="only these cells, such as 1104,1107")
    parser.add_argument("--sdss-surveys", nargs="+", default=list(DataConfig().sdss_surveys), help="SDSS directories")
    parser.add_argument("--hsc-survey", default=DataConfig().hsc_survey, help="HSC directory")
    parser.add_argument("--workers", type=int, default=4, help="downloads under way at once (default: %(default)s)")
    parser.add_argument("--dry-run", action="store_true", help="show the plan and download nothing")
    parsed = parser.parse_args(arguments)

    def action() -> None:
        with http_session() as session:
            surveys = (parsed.sdss_surveys, parsed.hsc_survey)
            cells = remote_cells(session, parsed.url, *surveys, wanted=parsed.cells)
            chosen = chosen_cells(cells, parsed.max_gb)
            print(plan_text(cells, chosen))
            if not parsed.dry_run:
                moved = fetch_cells(session, parsed.url, chosen, parsed.out, workers=parsed.workers)
                print(f"{moved / 1e9:.3f} GB downloaded; read them with --data.source hdf5 --data.root {parsed.out}")

    return exit_code(action)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
