"""Byte ranges of remote files that were read last, because the next pairs often want the same row groups."""

from collections import OrderedDict
from threading import Lock

KEPT_BYTES = 1 << 28
RangeKey = tuple[str, int, int]
"""Path of a file with its revision, first byte, and byte after the last."""


class KeptRanges:
    """Byte ranges of files, at most ``KEPT_BYTES`` of each repository; those used last are kept."""

    def __init__(self) -> None:
        self._ranges: OrderedDict[RangeKey, bytearray] = OrderedDict()
        self._lock = Lock()

    def get(self, key: RangeKey) -> bytearray | None:
        """Return a range that is kept, or None."""
        with self._lock:
            if key in self._ranges:
                self._ranges.move_to_end(key)
            return self._ranges.get(key)

    def put(self, key: RangeKey, content: bytearray) -> None:
        """Keep a range, and drop those of its repository that were used longest ago where they are too many."""
        with self._lock:
            self._ranges[key] = content
            repository = key[0].partition("@")[0]
            same = [each for each in self._ranges if each[0].partition("@")[0] == repository]
            total = sum(len(self._ranges[each]) for each in same)
            for each in same:
                if total <= KEPT_BYTES:
                    break
                total -= len(self._ranges.pop(each))
