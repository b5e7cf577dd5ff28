"""The two surveys as dataset repositories of a Hugging Face hub in HATS layout: only what is matched is ever moved."""

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmagn.records import Catalog, Cutout, Spectrum
from mmagn.surveys.config import DataConfig
from mmagn.surveys.hub.catalog import HubCatalog, index_catalog, records, source
from mmagn.surveys.parquet.row_groups import Payload
from mmagn.surveys.parquet.rows import (
    HSC_NEEDED,
    HSC_PAYLOAD,
    SDSS_NEEDED,
    SDSS_PAYLOAD,
    cutout_from_hats,
    spectrum_from_hats,
)
from mmagn.surveys.reader import SourceFile, reading_settings

HUB_SURVEY = "sdss"
"""The one SDSS survey that these repositories hold."""
CUTOUTS_AT_ONCE = 16
SPECTRA_AT_ONCE = 256


@dataclass(frozen=True, kw_only=True)
class HubSurveys(ABC):
    """Catalogues and records of SDSS and HSC in repositories of a hub; see ``reader.SurveyReader``.

    Attributes
    ----------
    data
        Settings of the source.
    """

    data: DataConfig

    @abstractmethod
    def _sdss(self) -> HubCatalog[Spectrum]:
        """Return where SDSS is and how its rows are read."""

    @abstractmethod
    def _hsc(self) -> HubCatalog[Cutout]:
        """Return where HSC is and how its rows are read."""

    def read_sdss_catalog(self, drops: Counter[str]) -> Catalog:
        """Return ids and positions of SDSS, every id once; redshifts move with them, once, and no spectrum."""
        return index_catalog(self._sdss(), self.data, drops)

    def read_hsc_catalog(self, drops: Counter[str]) -> Catalog:
        """Return ids and positions of HSC, every id once; they move once, and no image."""
        return index_catalog(self._hsc(), self.data, drops)

    def read_spectra(self, path: str, rows: NDArray[np.int64]) -> Iterator[tuple[int, Spectrum | str]]:
        """Yield (row, spectrum or reason) of each wanted row of one file, ascending; no image moves."""
        return records(self._sdss(), self.data, path, rows)

    def read_cutouts(self, path: str, rows: NDArray[np.int64]) -> Iterator[tuple[int, Cutout | str]]:
        """Yield (row, cutout or reason) of each wanted row of one file, ascending; no spectrum moves."""
        return records(self._hsc(), self.data, path, rows)


@dataclass(frozen=True, kw_only=True)
class HubReader(HubSurveys):
    """Reader of two repositories, one of each survey; see ``reader.SurveyReader``.

    Attributes
    ----------
    data
        Settings with ``data.source`` hub.
    """

    def __post_init__(self) -> None:
        if HUB_SURVEY not in self.data.spectra:
            raise ValueError(f"data.spectra is {', '.join(self.data.spectra)}; data.source hub has only {HUB_SURVEY}")

    def settings(self) -> dict[str, Any]:
        """Return the settings that shape what is read, by dotted name; the commits are among the sources."""
        settings = reading_settings(self.data)
        del settings["data.spectra"], settings["data.desi_survey"], settings["data.hsc_survey"]
        return settings | {"data.hub.sdss": self.data.hub.sdss, "data.hub.hsc": self.data.hub.hsc}

    def sources(self) -> tuple[SourceFile, ...]:
        """Return both repositories with the commit that is read."""
        return source(self.data, self._sdss()), source(self.data, self._hsc())

    def _sdss(self) -> HubCatalog[Spectrum]:
        hub, from_row = self.data.hub, partial(spectrum_from_hats, survey=HUB_SURVEY)
        return HubCatalog(
            setting="data.hub.sdss",
            repository=hub.sdss,
            revision=hub.sdss_revision,
            index={name: name for name in ("object_id", "ra", "dec", "Z")},
            needed=SDSS_NEEDED,
            payload=Payload(survey="sdss", columns=SDSS_PAYLOAD, from_row=from_row, rows_at_once=SPECTRA_AT_ONCE),
        )

    def _hsc(self) -> HubCatalog[Cutout]:
        hub = self.data.hub
        return HubCatalog(
            setting="data.hub.hsc",
            repository=hub.hsc,
            revision=hub.hsc_revision,
            index={name: name for name in ("object_id", "ra", "dec")},
            needed=HSC_NEEDED,
            payload=Payload(survey="hsc", columns=HSC_PAYLOAD, from_row=cutout_from_hats, rows_at_once=CUTOUTS_AT_ONCE),
        )
