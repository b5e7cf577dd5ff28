"""What every reader of a hub does alike, once it knows where its two sides are."""

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mmagn.records import Catalog, Cutout, Spectrum
from mmagn.surveys.config import DataConfig
from mmagn.surveys.hub.catalog import HubCatalog, index_catalog, records


@dataclass(frozen=True, kw_only=True)
class HubSides(ABC):
    """Catalogues and records of an SDSS and an HSC side in repositories of a hub; see ``readers.SurveyReader``.

    Attributes
    ----------
    data
        Settings of the source.
    """

    data: DataConfig

    @abstractmethod
    def _sdss(self) -> HubCatalog[Spectrum]:
        """Return where the SDSS side is and how its rows are read."""

    @abstractmethod
    def _hsc(self) -> HubCatalog[Cutout]:
        """Return where the HSC side is and how its rows are read."""

    def read_sdss_catalog(self, drops: Counter[str]) -> Catalog:
        """Return who is where in SDSS, every id once; only ids, positions and redshifts move, and only once."""
        return index_catalog(self._sdss(), self.data, drops)

    def read_hsc_catalog(self, drops: Counter[str]) -> Catalog:
        """Return who is where in HSC, every id once; only ids and positions move, and only once."""
        return index_catalog(self._hsc(), self.data, drops)

    def read_spectra(self, path: str, rows: NDArray[np.int64]) -> Iterator[tuple[int, Spectrum | str]]:
        """Yield (row, spectrum or reason) of the wanted rows of one file; one row group is held, no image moves."""
        return records(self._sdss(), self.data, path, rows)

    def read_cutouts(self, path: str, rows: NDArray[np.int64]) -> Iterator[tuple[int, Cutout | str]]:
        """Yield (row, cutout or reason) of the wanted rows of one file; one row group is held, no spectrum moves."""
        return records(self._hsc(), self.data, path, rows)
