"""The version of the package, found without installed metadata too."""

import re
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path


def _version() -> str:
    """Version of the installed package, which is that of its git tag; of a clone, what stands there for one."""
    try:
        return version("mmagn")
    except PackageNotFoundError:
        pyproject = Path(__file__).resolve().parents[2] / "pyproject.toml"
        text = pyproject.read_text(encoding="utf-8") if pyproject.is_file() else ""
        fallback = re.search(r'^fallback_version = "(.+)"$', text, re.MULTILINE)
        return fallback[1] if fallback else "unknown"


__version__ = _version()
