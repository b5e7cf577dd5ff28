"""The house keeps its shape: rooms import downwards only, scripts are thin, one door per library."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
DOORS = {
    "datasets": ("mmagn/surveys", "mmagn/matching"),
    "h5py": ("mmagn/surveys",),
    "jinja2": ("mmagn/reporting",),
    "healpy": ("mmagn/matching", "mmagn/surveys"),
    "timm": ("mmagn/models/image_branch.py",),
    "matplotlib": ("mmagn/reporting",),
    "optuna": ("mmagn/search",),
    "PIL": ("mmagn/reporting",),
}
"""Where each library may be imported."""


def imported_roots(path: Path) -> set[str]:
    """Libraries a module imports when it runs; what stands under TYPE_CHECKING is for the type checker alone."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            node.body = [ast.Pass()]
    names = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    names |= {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.module}
    return {name.split(".")[0] for name in names}


def test_rooms_import_from_rooms_below_only() -> None:
    command = [Path(sys.executable).with_name("lint-imports"), "--no-cache"]  # in this process it silences our loggers
    told = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert told.returncode == 0, told.stdout


@pytest.mark.parametrize("library", sorted(DOORS))
def test_a_library_enters_through_its_door(library: str) -> None:
    for path in (ROOT / "mmagn").rglob("*.py"):
        if library in imported_roots(path):
            where = path.relative_to(ROOT).as_posix()
            assert where.startswith(DOORS[library]), f"{where} imports {library}"


def test_scripts_are_thin() -> None:
    for path in (ROOT / "scripts").glob("*.py"):
        assert len(path.read_text(encoding="utf-8").splitlines()) <= 60, path.name


def test_every_module_says_what_it_is() -> None:
    for path in (ROOT / "mmagn").rglob("*.py"):
        assert ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))), path
