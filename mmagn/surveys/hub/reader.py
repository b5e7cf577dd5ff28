"""The surveys as dataset repositories of a Hugging Face hub in HATS layout: only what is matched is ever moved."""

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmagn.records import Catalog, Cutout, Spectrum
from mmagn.surveys.config import DESI, DataConfig, HubConfig
from mmagn.surveys.hub.catalog import HubCatalog, index_catalog, source
from mmagn.surveys.hub.files import HubFile
from mmagn.surveys.parquet.row_groups import Payload, parquet_records
from mmagn.surveys.parquet.rows import HSC_NEEDED, SPECTRA_NEEDED, cutouts_payload, spectra_payload
from mmagn.surveys.reader import Record, SourceFile, check_surveys, reading_settings
from mmagn.surveys.screen import joined_catalogs

HUB_SURVEY = "sdss"
"""The one SDSS survey that these repositories hold."""
HUB_SURVEYS = (HUB_SURVEY, DESI)


def spectra_catalog(hub: HubConfig, survey: str) -> HubCatalog[Spectrum]:
    """Return the repository of ``survey``, one of ``HUB_SURVEYS``, and how its rows are read."""
    return _catalog(hub, survey, SPECTRA_NEEDED, spectra_payload(survey))


def _catalog(hub: HubConfig, survey: str, needed: Mapping[str, str], payload: Payload[Record]) -> HubCatalog[Record]:
    return HubCatalog(
        setting=f"data.hub.{survey}",
        repository=getattr(hub, survey),
        revision=getattr(hub, f"{survey}_revision"),
        index={name: name for name in needed if "." not in name},
        needed=needed,
        payload=payload,
    )


@dataclass(frozen=True, kw_only=True)
class HubSurveys(ABC):
    """Catalogues and records of spectra and HSC in repositories of a hub; see ``reader.SurveyReader``."""

    data: DataConfig

    @abstractmethod
    def _spectra(self) -> tuple[HubCatalog[Spectrum], ...]:
        """Return where the surveys of spectra are and how their rows are read."""

    @abstractmethod
    def _hsc(self) -> HubCatalog[Cutout]:
        """Return where HSC is and how its rows are read."""

    def read_sdss_catalog(self, drops: Counter[str]) -> Catalog:
        """Return ids and positions of all spectra, every id once; redshifts move with them, once, and no spectrum."""
        return joined_catalogs([index_catalog(catalog, self.data, drops) for catalog in self._spectra()], drops)

    def read_hsc_catalog(self, drops: Counter[str]) -> Catalog:
        """Return ids and positions of HSC, every id once; they move once, and no image."""
        return index_catalog(self._hsc(), self.data, drops)

    def read_spectra(self, path: str, rows: NDArray[np.int64]) -> Iterator[tuple[int, Spectrum | str]]:
        """Yield (row, spectrum or reason) of each wanted row of one file, ascending; no image moves."""
        return self._records(self._catalog_of(path), path, rows)

    def read_cutouts(self, path: str, rows: NDArray[np.int64]) -> Iterator[tuple[int, Cutout | str]]:
        """Yield (row, cutout or reason) of each wanted row of one file, ascending; no spectrum moves."""
        return self._records(self._hsc(), path, rows)

    def _records(
        self, catalog: HubCatalog[Record], path: str, rows: NDArray[np.int64]
    ) -> Iterator[tuple[int, Record | str]]:
        return parquet_records(HubFile.from_text(path).parquet(self.data.hub), rows, catalog.payload)

    def _catalog_of(self, path: str) -> HubCatalog[Spectrum]:
        """Return the catalogue of spectra that a file belongs to."""
        first, *others = self._spectra()
        repository = HubFile.from_text(path).repository
        return next((each for each in others if each.files(self.data.hub)[0].repository == repository), first)


@dataclass(frozen=True, kw_only=True)
class HubReader(HubSurveys):
    """Reader of one repository of each survey, with ``data.source`` hub; see ``reader.SurveyReader``."""

    def __post_init__(self) -> None:
        check_surveys(self.data, HUB_SURVEYS, "data.source hub")

    @property
    def _surveys(self) -> tuple[str, ...]:
        """Surveys of spectra that are read."""
        return tuple(name for name in HUB_SURVEYS if name in self.data.spectra)

    def settings(self) -> dict[str, Any]:
        """Return the settings that shape what is read, by dotted name; the commits are among the sources."""
        return reading_settings(self.data) | {"data.spectra": list(self._surveys)}

    def sources(self) -> tuple[SourceFile, ...]:
        """Return the repositories with the commit that is read."""
        return (*(source(self.data, catalog) for catalog in self._spectra()), source(self.data, self._hsc()))

    def _spectra(self) -> tuple[HubCatalog[Spectrum], ...]:
        return tuple(spectra_catalog(self.data.hub, name) for name in self._surveys)

    def _hsc(self) -> HubCatalog[Cutout]:
        return _catalog(self.data.hub, "hsc", HSC_NEEDED, cutouts_payload(noise=self.data.image_noise))
