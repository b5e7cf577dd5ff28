"""``mmagn COMMAND``: finds the command and runs it."""

import difflib
import sys
from collections.abc import Sequence
from importlib import import_module

from mmagn.storage.version import __version__

COMMANDS = {
    "train": ("runs", "match, measure, train and score: the whole way from sky to score"),
    "evaluate": ("runs", "score a trained run on one split of its pairs"),
    "predict": ("prediction", "write a catalogue of P(AGN) for the galaxies of any source"),
    "embed": ("prediction", "write the embeddings of a trained network, for other models"),
    "explain": ("prediction", "show what a prediction rests on: image, spectrum, features"),
    "match": ("data", "match both surveys into a store of pairs, or plan it"),
    "measure": ("data", "write lines, ten features and BPT classes of every spectrum or pair"),
    "fetch": ("data", "download the HEALPix cells with the most pairs per gigabyte"),
    "simulate": ("data", "write an embedded survey of any size"),
    "plot-spectrum": ("data", "draw one spectrum with its fit"),
    "ablate": ("runs", "compare models that see more or less of a galaxy on the same folds"),
    "search": ("runs", "search for better settings outside the test split"),
    "leaderboard": ("leaderboard", "score predictions on a frozen task, beside those of others"),
    "report": ("runs", "write report.html of a run again"),
    "push": ("runs", "upload a trained run as a model repository of a Hugging Face hub"),
    "verify": ("runs", "compare every file of a run or a store with its checksum"),
}
"""Module of :mod:`mmagn.cli` that holds each command, and what it does."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Return the exit code of ``mmagn COMMAND ...``."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    name = words[0].replace("_", "-") if words else "--help"
    if name in ("--help", "-h"):
        lines = "".join(f"  {command:<14} {does}\n" for command, (_, does) in COMMANDS.items())
        sys.stdout.write(f"usage: mmagn COMMAND [options]\n\ncommands:\n{lines}\nmmagn COMMAND --help explains each.\n")
        return 0
    if name == "--version":
        sys.stdout.write(f"mmagn {__version__}\n")
        return 0
    if name not in COMMANDS:
        nearest = difflib.get_close_matches(name, COMMANDS, n=1)
        hint = f"the nearest is {nearest[0]}" if nearest else f"there are {', '.join(COMMANDS)}"
        sys.stderr.write(f"error: mmagn has no command {name}; {hint}\n")
        return 2
    module = import_module(f"mmagn.cli.{COMMANDS[name][0]}")
    code: int = getattr(module, name.replace("-", "_"))(words[1:])
    return code
