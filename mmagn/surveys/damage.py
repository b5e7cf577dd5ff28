"""Which errors say that a file is damaged, and which only that it cannot be read now."""

import errno

DAMAGE = (OSError, ValueError, LookupError, RuntimeError, TypeError, OverflowError, EOFError)
"""What libraries raise on a damaged file."""
_OF_THE_FILE = (errno.EINVAL, errno.EISDIR, errno.EOVERFLOW)
"""Errors of the operating system that a damaged file causes: offsets that cannot be, a folder in its place."""


class UnavailableError(ValueError):
    """A source cannot be read here and now, though it may be sound: the run must stop and lose nothing."""


def damage_text(error: Exception) -> str:
    """Return what is wrong with a file, for the reason under which its rows are counted.

    Raises the error itself where the file may be sound: an error of the operating system (no permission, input/output
    error, stale file handle, file gone) or ``UnavailableError``.
    """
    of_the_system = isinstance(error, OSError) and error.errno is not None and error.errno not in _OF_THE_FILE
    if of_the_system or isinstance(error, UnavailableError):
        raise error
    text = str(error.args[0]) if isinstance(error, KeyError) and error.args else str(error)
    return " ".join(text.split()) or type(error).__name__
