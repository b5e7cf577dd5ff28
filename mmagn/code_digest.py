"""Digest of parts of the package's own code: what was computed by other code is computed again."""

import hashlib
from functools import cache
from pathlib import Path

_PACKAGE = Path(__file__).resolve().parent


@cache
def code_digest(*names: str) -> str:
    """Hexadecimal digest of the named files of the package, and of all files of the named folders.

    Parameters
    ----------
    names
        Relative to the package, such as ``lines.ecsv`` or ``spectroscopy``.
    """
    digest = hashlib.sha256()
    for name in names:
        place = _PACKAGE / name
        files = sorted(place.glob("*.*")) if place.is_dir() else [place]
        for file in files:
            digest.update(f"{file.name}\n".encode() + file.read_bytes())
    return digest.hexdigest()
