"""Write a simulated survey with known truth, of any size, in Multimodal Universe v1 layout."""

import argparse
import dataclasses
import sys
from collections.abc import Sequence
from pathlib import Path

from mmagn.cli.command_line import exit_code
from mmagn.surveys.config import SimulateConfig


def main(arguments: Sequence[str]) -> int:
    """Return the exit code of ``simulate.py``."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder to make; give it to --data.root later")
    helps = {
        "pairs": "galaxies in both surveys",
        "unmatched": "objects in one survey only, as a fraction of pairs",
        "agn_fraction": "Seyfert + composite fraction",
        "cells": "neighbouring HEALPix cells",
        "seed": "seed of every random draw",
    }
    for field in dataclasses.fields(SimulateConfig):
        option = f"--{field.name.replace('_', '-')}"
        parser.add_argument(option, type=type(field.default), default=field.default, help=helps[field.name])
    parsed = vars(parser.parse_args(arguments))

    def action() -> None:
        from mmagn.surveys.simulate.survey import write_survey  # after parsing, so that --help does not wait

        out = parsed.pop("out")
        write_survey(out, SimulateConfig(**parsed))
        print(f"{out} holds {parsed['pairs']} pairs; read it with --data.source hdf5 --data.root {out}")

    return exit_code(action)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
