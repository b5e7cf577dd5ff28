"""The command around frozen tasks: leaderboard."""

import sys
from collections.abc import Sequence
from pathlib import Path

from mmagn.cli.arguments import ConfigParser
from mmagn.cli.command_line import command
from mmagn.storage.settings import setting_values
from mmagn.storage.tables import SUFFIXES


@command
def leaderboard(arguments: Sequence[str]) -> None:
    """Write the rows of a frozen task, or score predictions for them and add these to a board."""
    parser = ConfigParser(
        leaderboard,
        [
            "mmagn leaderboard --task bpt --rows rows.parquet --data.source store --data.root STORE",
            "mmagn leaderboard --task bpt --rows rows.parquet --predictions mine.csv --entry my-model",
            "mmagn leaderboard --task wise --rows rows.parquet --labels.catalog.table allwise.fits",
            "mmagn train --splits.scheme published    # a model for the rows of a task",
        ],
        listed=("data.source", "data.root", "data.cache_dir", "labels.catalog.table"),
    )
    parser.add_argument("--task", required=True, help="bpt, bpt-blanked, bpt-image or wise")
    rows_help = f"table of the rows: {', '.join(SUFFIXES)}; written without --predictions, else read"
    parser.add_argument("--rows", required=True, type=Path, help=rows_help)
    parser.add_argument("--predictions", type=Path, metavar="FILE", help="table with id and probability")
    parser.add_argument("--board", type=Path, help="folder of the board (default: leaderboard)")
    parser.add_argument("--entry", default="", help="name of the entry")
    parser.add_argument("--inputs", default="", help="what the model looked at")
    parser.add_argument("--reference", default="", help="paper, address or command")

    config, options = parser.parsed(arguments)
    from mmagn.leaderboard import entries, tasks  # after parsing, so that --help need not wait for torch

    task = tasks.task_of(options.task)
    if options.predictions is None:
        for name in ("board", "entry", "inputs", "reference"):
            if getattr(options, name):
                raise ValueError(f"--{name} is given without --predictions, which it describes; give both, or none")
        sys.stdout.write(f"{tasks.write_rows(config, task, options.rows)}\n")
        return
    defaults = setting_values(type(config)())
    for name, value in setting_values(config).items():
        if value != defaults[name]:
            raise ValueError(f"{name} is given with --predictions, but the rows are those of --rows; leave it out")
    entry = entries.Entry(name=options.entry, inputs=options.inputs, reference=options.reference)
    board = options.board or Path("leaderboard")
    content = entries.entered(board, task, tasks.read_rows(options.rows, task), entry, options.predictions)
    sys.stdout.write(f"{entries.entry_text(content)}\nwritten to {board / entries.PAGE}\n")
