"""The version of the package, found without installed metadata too."""

import re
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path


def _version() -> str:
    """Version of the installed package, or of the clone that it is imported from."""
    try:
        return version("mmagn")
    except PackageNotFoundError:
        pyproject = Path(__file__).resolve().parents[2] / "pyproject.toml"
        found = re.search(r'^version = "(.+)"$', pyproject.read_text(), re.MULTILINE) if pyproject.is_file() else None
        return found[1] if found else "unknown"


__version__ = _version()
