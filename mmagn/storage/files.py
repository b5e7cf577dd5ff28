"""Files that are written whole or not at all, and digests of the package's own code."""

import hashlib
import json
import math
import os
import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import psutil

_PACKAGE = Path(__file__).resolve().parent.parent


@contextmanager
def whole_file(path: Path, keep: Path | None = None) -> Iterator[Path]:
    """Yield a temporary path next to ``path`` that replaces it when the context ends without an exception.

    A reader sees the old file or the new one, never a part of it: a rename within one folder is atomic. On an exception
    the temporary file is removed and the old file stays. With ``keep`` the old file is moved there.
    """
    part = path.with_name(f".{path.name}.part")
    try:
        with naming(path):
            yield part
        with part.open("rb+") as file:
            os.fsync(file.fileno())
        if keep is not None and path.exists():
            path.replace(keep)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Add a path to an ``OSError`` that names none, such as that of a full disk."""
    try:
        yield
    except OSError as error:
        if error.filename is None and error.errno is not None:
            error.filename = str(path)
        raise


def file_stem(object_id: str) -> str:
    """Return an object id as the name of a file without suffix."""
    return re.sub(r"[^\w.-]", "_", object_id).lstrip(".")


@contextmanager
def as_written(path: Path, content: str) -> Iterator[None]:
    """Turn what reading a file of other content raises into a ``ValueError`` that names it and what it should hold."""
    try:
        yield
    except (ValueError, LookupError, TypeError, AttributeError, ArithmeticError, RuntimeError) as error:
        text = " ".join(str(error).split()) or type(error).__name__
        raise ValueError(f"{path} does not hold {content}: {text}") from error


def remove_abandoned(folder: Path, name: str) -> None:
    """Remove files and folders of a folder that processes left which are no longer alive.

    ``name`` is a regular expression of the whole name, whose first group is the number of the process, at most nine
    digits.
    """
    for path in folder.iterdir() if folder.is_dir() else ():
        match = re.fullmatch(name, path.name)
        if match is not None and not psutil.pid_exists(int(match[1])):
            shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink(missing_ok=True)


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """Write a mapping as JSON, atomically; NumPy values become Python ones, NaN and infinities null."""
    text = json.dumps(plain_value(value), indent=2, allow_nan=False)
    with whole_file(path) as part:
        part.write_text(text + "\n", encoding="utf-8")


def plain_value(value: Any) -> Any:
    """Return a value as JSON has it: tuples and arrays as lists, paths as text, NaN and infinities as None."""
    if isinstance(value, Mapping):
        return {str(name): plain_value(item) for name, item in value.items()}
    if isinstance(value, np.ndarray | np.generic):
        value = value.tolist()
    if isinstance(value, list | tuple):
        return [plain_value(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return str(value) if isinstance(value, Path) else value


def json_digest(value: Any) -> str:
    """Hexadecimal sha256 of a plain value, whatever the order of its keys."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


@cache
def code_digest(*names: str) -> str:
    """Hexadecimal digest of files of the package, such as ``lines.ecsv``, and of all files of folders in it."""
    digest = hashlib.sha256()
    for name in names:
        place = _PACKAGE / name
        files = sorted(place.glob("*.*")) if place.is_dir() else [place]
        for file in files:
            digest.update(f"{file.name}\n".encode() + file.read_bytes())
    return digest.hexdigest()
