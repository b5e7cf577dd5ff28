"""Checksums of files: whether they still hold what was written."""

import errno
import hashlib
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

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
    """Return a sentence for each file of a folder, and zip archive, that is missing or has changed; reads all."""
    checks = [partial(check_file, folder / name, written, again=True) for name, written in files.items()]
    damaged = []
    for check in [*checks, *(partial(check_archive, path) for path in archives if path.is_file())]:
        try:
            check()
        except ValueError as error:
            damaged.append(str(error))
    return damaged


def check_archive(path: Path) -> None:
    """Check the members of a zip archive, such as a checkpoint, against the checksums within it; every byte is read.

    Raises ``ValueError`` where one has changed, ``OSError`` where it cannot be read now.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            changed = archive.testzip()
    except Exception as error:  # of whatever kind zipfile raises where headers are damaged
        if isinstance(error, OSError) and error.errno != errno.EINVAL:  # a damaged offset may lie before the file
            raise
        raise ValueError(f"{path} is damaged: {error}") from error
    if changed is not None:
        raise ValueError(f"{path} is damaged: {changed} is not what was written (CRC-32 differs)")
