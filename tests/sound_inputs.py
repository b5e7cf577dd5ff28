"""Sound inputs of every kind, commands run on them, and how each command ends."""

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pyarrow.csv
from markupsafe import Markup
from matplotlib.figure import Figure

from mmagn.cli.main import main
from mmagn.matching.index_file import INDEX_FILE
from mmagn.storage.tables import PROVENANCE

QUICK = {
    "training.epochs": 1,
    "training.head_epochs": 2,
    "evaluation.bootstrap_draws": 10,
    "labels.min_snr": 0,
    "tensors.image_size": 32,
    "training.device": "cpu",
    "spectroscopy.device": "cpu",
    "spectroscopy.broad_balmer": "false",
    "matching.workers": 1,
    "dask.workers": 0,
}
"""Settings that make a command a matter of a second, in one process."""


@dataclass(frozen=True)
class Outcome:
    """How a command ended.

    Attributes
    ----------
    state
        Exit code as text, ``traceback``, ``half-written`` or ``silent change``.
    damage, command, message
        What was done to the input, the command line, and what it wrote to standard error.
    """

    state: str
    damage: str
    command: str
    message: str

    @property
    def allowed(self) -> bool:
        """Whether a command may end so; ``verify`` ends with 1 where it finds damage."""
        return self.state in ("0", "2") or (self.state == "1" and self.command.startswith("verify "))


class World:
    """Sound inputs of every kind, each made when it is first needed, in a folder that another process may reuse.

    Parameters
    ----------
    base
        Folder of the inputs.
    drawn
        Whether figures are drawn as well, which takes seconds each.
    """

    def __init__(self, base: Path, *, drawn: bool = False) -> None:
        self.base, self.drawn = base, drawn
        self._sound: dict[tuple[str, ...], Any] = {}
        base.mkdir(parents=True, exist_ok=True)

    @cached_property
    def tree(self) -> Path:
        """Files of both surveys, 32 pairs in two cells."""
        sizes = ("--pairs", "32", "--agn-fraction", "0.4", "--cells", "2", "--unmatched", "0.1")
        return self._made("simulate", "tree", *sizes)

    @cached_property
    def store(self) -> Path:
        """Store of their pairs."""
        return self._made("match", "store", *self.source("hdf5", self.tree))

    @cached_property
    def index(self) -> Path:
        """File of their matches."""
        with undrawn():
            return self._made("match", "plan", *self.source("hdf5", self.tree), "--plan") / INDEX_FILE

    @cached_property
    def hats(self) -> Path:
        """Both surveys as HATS collections."""
        from hats_files import write_hats

        for kind in ("sdss", "hsc"):
            if not (self.base / "hats" / kind).is_dir():
                write_hats(self.tree, kind, self.base / "hats" / kind)
        return self.base / "hats"

    @cached_property
    def run(self) -> Path:
        """Run folder of a trained and scored network."""
        runs = self.base / "runs"
        if not runs.is_dir():
            with undrawn():
                arguments = ["--config", "handcrafted.yaml", *self.source("store", self.store)]
                state, message = run_command(["train", *arguments, "--runs_dir", str(runs)])
                assert state == "0", message
        return next(runs.iterdir())

    def source(self, source: str, root: Path) -> list[str]:
        """Options of a command that reads this source, quickly."""
        settings = {**QUICK, "data.source": source, "data.cache_dir": self.base / "cache"}
        places = {"data.hats.sdss": root / "sdss", "data.hats.hsc": root / "hsc"}
        settings |= places if source == "hats" else {"data.root": root}
        return [text for name, value in settings.items() for text in (f"--{name}", str(value))]

    def outcome(self, arguments: Sequence[str], damage: str, out: Path, sound: Any = None) -> Outcome:
        """Run a command; ``out`` changes as a whole or not at all, to ``sound`` where that is given."""
        before = content_of(out)
        state, message = self.ended(arguments)
        leftovers = [path for path in out.parent.glob(".*") if path.suffix in (".part", ".spool", ".parquet")]
        if state == "2" and (leftovers or content_of(out) != before):
            state = "half-written"
        elif state == "0" and sound is not None and content_of(out) != sound:
            state = "silent change"
        return Outcome(state, damage, " ".join(arguments), message)

    def ended(self, arguments: Sequence[str]) -> tuple[str, str]:
        """Return state and standard error of a command."""
        with contextlib.nullcontext() if self.drawn else undrawn():
            return run_command(arguments)

    def sound(self, arguments: Sequence[str], out: Path) -> Any:
        """Return what a command writes for the sound input, run once."""
        key = tuple(arguments)
        if key not in self._sound:
            state, message = self.ended(arguments)
            assert state == "0", message
            self._sound[key] = content_of(out)
        return self._sound[key]

    def _made(self, command: str, name: str, *arguments: str) -> Path:
        out = self.base / name
        if not out.is_dir():
            state, message = run_command([command, *arguments, "--out", str(out)])
            assert state == "0", message
        return out


@contextlib.contextmanager
def undrawn() -> Iterator[None]:
    """No figures: drawing them takes most of the time of a command and reads nothing."""
    with contextlib.ExitStack() as patches:
        for module in ("mmagn.pipeline", "mmagn.reporting.page.report"):
            patches.enter_context(patch(f"{module}.save_figures", _no_figures))
        patches.enter_context(patch("mmagn.reporting.page.html.figure_svg", return_value=Markup()))
        patches.enter_context(patch("mmagn.pipeline.validation_figures", return_value={}))
        patches.enter_context(patch("mmagn.pipeline.sample_gallery", return_value=Figure()))
        yield


def _no_figures(_: object, folder: Path) -> list[Path]:
    folder.mkdir(parents=True, exist_ok=True)
    return []


def run_command(arguments: Sequence[str]) -> tuple[str, str]:
    """Return how ``mmagn`` ends in this process: exit code as text or ``traceback``, and its standard error."""
    out, err = io.StringIO(), io.StringIO()
    logging.disable(logging.CRITICAL)
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err), warnings.catch_warnings():
            warnings.simplefilter("ignore", category=ResourceWarning)
            state = str(main(arguments))
    except SystemExit as end:
        state = str(end.code or 0)
    except BaseException as error:
        return "traceback", f"{type(error).__name__}: {error}"
    finally:
        logging.disable(logging.NOTSET)
    text = err.getvalue()
    return "traceback" if "Traceback" in text or "failed unexpectedly" in text else state, text


def content_of(out: Path) -> Any:
    """Return what a command wrote: rows of a table without provenance, names of a folder; None for nothing."""
    if not out.exists():
        return None
    if out.is_dir():
        return sorted(path.name for path in out.iterdir())
    if out.suffix == ".csv":
        table = pyarrow.csv.read_csv(out)
        return table.drop_columns([PROVENANCE] if PROVENANCE in table.column_names else [])
    return out.read_bytes()
