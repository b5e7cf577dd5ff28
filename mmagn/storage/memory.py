"""How the C library deals with memory that is freed."""

import ctypes

KEPT_BYTES = 1 << 30
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
"""Numbers of the parameters in ``malloc.h`` of glibc."""


def keep_freed_memory() -> None:
    """Have glibc keep up to ``KEPT_BYTES`` of freed memory for what is allocated next; elsewhere nothing happens.

    Otherwise it gives large blocks back at once (mallopt(3)), and the kernel clears every page of every batch of a
    network anew.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):  # another C library
        return
    mallopt(_MMAP_THRESHOLD, KEPT_BYTES)
    mallopt(_TRIM_THRESHOLD, KEPT_BYTES)
