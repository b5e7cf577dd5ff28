"""Three-valued answers (Kleene): true, false, or unknown where a value is missing."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, eq=False, slots=True)
class Truth:
    """Three-valued answer: (row,) ``true`` and ``known``; where it is not known, ``true`` is False."""

    true: NDArray[np.bool_]
    known: NDArray[np.bool_]

    @property
    def false(self) -> NDArray[np.bool_]:
        """(row,) known and not true."""
        return self.known & ~self.true

    def negated(self) -> "Truth":
        """Return true where this is false; unknown stays unknown."""
        return Truth(self.false, self.known)


def all_of(answers: Sequence[Truth]) -> Truth:
    """Return true where all are true, false where one is false."""
    true = np.logical_and.reduce([each.true for each in answers])
    return Truth(true, true | np.logical_or.reduce([each.false for each in answers]))


def any_of(answers: Sequence[Truth]) -> Truth:
    """Return true where one is true, false where all are false."""
    return all_of([each.negated() for each in answers]).negated()
