"""Checksums of files: whether they still hold what was written."""

import hashlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from io import BufferedRandom
from pathlib import Path

_NO_COMMENT, _COMMENT = (0).to_bytes(2, "little"), (64).to_bytes(2, "little")
"""Length of the comment of a zip archive, the last field before it: without a comment, and of a sha256."""
_SOUND: dict[Path, tuple[int, int]] = {}
"""Size and time of the last change (ns) of the files that this process has verified."""


@dataclass(frozen=True, kw_only=True)
class StoredFile:
    """Size and hexadecimal sha256 of a file as it was written."""

    size_bytes: int
    sha256: str


def stored_file(path: Path) -> StoredFile:
    """Return size and sha256 of a file."""
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return StoredFile(size_bytes=path.stat().st_size, sha256=digest)


def check_file(path: Path, written: StoredFile, *, again: bool = False) -> None:
    """Check that a file is what was written; a process reads a file that does not change once, unless ``again``.

    Raises ``ValueError`` where the file is missing or has changed, ``OSError`` where it cannot be read now.
    """
    try:
        status = path.stat()
    except FileNotFoundError as error:
        raise ValueError(f"{path} is missing") from error
    state = (status.st_size, status.st_mtime_ns)
    if _SOUND.get(path) == state and not again:
        return
    if status.st_size != written.size_bytes:
        raise ValueError(f"{path} is damaged: {status.st_size} bytes of {written.size_bytes}")
    if stored_file(path) != written:
        raise ValueError(f"{path} is damaged: its content is not what was written (sha256 differs)")
    _SOUND[path] = state


def assume_sound(path: Path) -> None:
    """Take a file that this process has just written and read back as verified."""
    status = path.stat()
    _SOUND[path] = (status.st_size, status.st_mtime_ns)


def damaged_files(folder: Path, files: Mapping[str, StoredFile], archives: Sequence[Path] = ()) -> list[str]:
    """Return a sentence for each file of a folder, and sealed archive, that is missing or has changed; reads all."""
    checks = [partial(check_file, folder / name, written, again=True) for name, written in files.items()]
    damaged = []
    for check in [*checks, *(partial(check_archive, path) for path in archives if path.is_file())]:
        try:
            check()
        except ValueError as error:
            damaged.append(str(error))
    return damaged


def seal_archive(file: BufferedRandom) -> None:
    """Make the sha256 of a zip archive without a comment, open for reading and writing, its comment.

    The checksums of a zip archive do not cover its directory. Archive and sha256 are one file, so that no moment of a
    kill can separate them.
    """
    file.seek(0)
    seal = _COMMENT + hashlib.file_digest(file, "sha256").hexdigest().encode()
    file.seek(-len(_NO_COMMENT), os.SEEK_END)
    file.write(seal)


def check_archive(path: Path) -> None:
    """Check that a file of :func:`seal_archive` is what was written; every byte is read.

    Raises ``ValueError`` where it has changed, ``OSError`` where it cannot be read now.
    """
    left, digest = path.stat().st_size - 64 - len(_COMMENT), hashlib.sha256()
    with path.open("rb") as file:
        while left > 0 and (part := file.read(min(left, 2**20))):
            digest.update(part)
            left -= len(part)
        seal = file.read()
    digest.update(_NO_COMMENT)
    if seal != _COMMENT + digest.hexdigest().encode():
        raise ValueError(f"{path} is damaged: its content is not what was written (sha256 differs)")
