"""What a reader of both surveys is: catalogs of positions, and the pixels of chosen rows."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from mmagn.records import Catalog, Cutout, Spectrum
from mmagn.surveys.config import DataConfig


@dataclass(frozen=True, kw_only=True)
class SourceFile:
    """A file that pairs are read from.

    Attributes
    ----------
    name
        Path below the root of its survey, or repository and path, so that a moved survey is still the same survey.
    size_bytes
        Its size.
    version
        What changes with its content: time of the last change in ns, or a revision.
    """

    name: str
    size_bytes: int
    version: str


class SurveyReader(Protocol):
    """A source of both surveys; a frozen object that can be sent to other processes.

    ``Catalog.files`` are texts that the same reader takes as ``path``, ``Catalog.row`` are rows of those files.
    Objects left out are counted in ``drops`` by reason.
    """

    def settings(self) -> dict[str, Any]:
        """Return the settings that shape what is read, by dotted name, as plain values that JSON knows."""
        ...

    def sources(self) -> tuple[SourceFile, ...]:
        """Return what is read, by name; empty where ``settings`` describe it whole."""
        ...

    def read_sdss_catalog(self, drops: Counter[str]) -> Catalog:
        """Return who is where in SDSS, every id once, without reading any spectrum."""
        ...

    def read_hsc_catalog(self, drops: Counter[str]) -> Catalog:
        """Return who is where in HSC, every id once, without reading any image."""
        ...

    def read_spectra(self, path: str, rows: NDArray[np.int64], drops: Counter[str]) -> Iterator[tuple[int, Spectrum]]:
        """Yield (row, spectrum) of the wanted rows of one file, ascending, in bounded memory."""
        ...

    def read_cutouts(self, path: str, rows: NDArray[np.int64], drops: Counter[str]) -> Iterator[tuple[int, Cutout]]:
        """Yield (row, cutout) of the wanted rows of one file, ascending, in bounded memory."""
        ...

    def iter_spectra(self, drops: Counter[str]) -> Iterator[Spectrum]:
        """Yield every usable spectrum, each object once."""
        ...


def reading_settings(data: DataConfig) -> dict[str, Any]:
    """Return the settings that every source of surveys follows, by dotted name, as plain values that JSON knows."""
    names = ("source", "sdss_surveys", "hsc_survey", "cells", "redshift_min", "redshift_max")
    settings = {f"data.{name}": getattr(data, name) for name in names}
    return {name: list(value) if isinstance(value, tuple) else value for name, value in settings.items()}
