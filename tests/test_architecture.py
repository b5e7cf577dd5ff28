"""The package keeps its structure: imports go downwards only, without circles; scripts are thin."""

import ast
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from architecture import arrows, circles, modules, room_arrows

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
MOST_LINES, MOST_PARAMETERS = 350, 6
LIGHTNING_HOOKS = ("on_validation_batch_end",)
"""Methods whose signature is given by Lightning."""
DEFS = ast.FunctionDef | ast.AsyncFunctionDef


def imported_roots(path: Path) -> set[str]:
    """Libraries a module imports when it runs; imports under TYPE_CHECKING do not count."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            node.body = [ast.Pass()]
    names = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    names |= {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.module}
    return {name.split(".")[0] for name in names}


def test_rooms_import_from_rooms_below_only() -> None:
    command = [
        Path(sys.executable).with_name("lint-imports"),
        "--no-cache",
    ]  # in this process it disables our loggers
    checked = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stdout


@pytest.mark.parametrize("library", sorted(DOORS))
def test_a_library_enters_through_its_door(library: str) -> None:
    for path in (ROOT / "mmagn").rglob("*.py"):
        if library in imported_roots(path):
            where = path.relative_to(ROOT).as_posix()
            assert where.startswith(DOORS[library]), f"{where} imports {library}"


def test_scripts_are_thin() -> None:
    for path in (ROOT / "scripts").glob("*.py"):
        functions = [node for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if isinstance(node, DEFS)]
        lines = sum(node.end_lineno - node.lineno + 1 for node in functions if node.end_lineno is not None)
        assert lines <= 20, f"{path.name} does more than to read arguments and to call the package"


def test_files_and_signatures_stay_short() -> None:
    for path in modules().values():
        source = path.read_text(encoding="utf-8")
        assert len(source.splitlines()) <= MOST_LINES, path
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, DEFS) and node.name not in LIGHTNING_HOOKS:
                names = [each.arg for each in (*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs)]
                assert len(names) - (names[:1] in (["self"], ["cls"])) <= MOST_PARAMETERS, f"{path}: {node.name}"


def test_neither_modules_nor_rooms_import_each_other_in_circles() -> None:
    assert circles(arrows()) == []
    assert circles(room_arrows()) == []


def test_every_room_has_its_layer_in_the_import_contract() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    (contract,) = settings["tool"]["importlinter"]["contracts"]
    layers = {name.strip().removeprefix("mmagn.") for layer in contract["layers"] for name in layer.split("|")}
    assert layers == set(room_arrows())


def test_every_module_says_what_it_is() -> None:
    for path in (ROOT / "mmagn").rglob("*.py"):
        assert ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))), path
