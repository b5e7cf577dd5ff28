"""One door to every source of the two surveys: who is where, and the pixels of chosen rows."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from mmagn.records import Catalog, Cutout, Spectrum
from mmagn.surveys import hdf5
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


@dataclass(frozen=True, kw_only=True)
class Hdf5Reader:
    """A Multimodal Universe v1 tree: the one under ``data.root``, or the embedded survey, made when first read.

    Attributes
    ----------
    data
        Settings with ``data.source`` hdf5 or embedded.
    """

    data: DataConfig

    def settings(self) -> dict[str, Any]:
        """Return the settings that shape what is read, by dotted name."""
        settings = reading_settings(self.data)
        if self.data.source == "embedded":
            from mmagn.surveys.simulate import SIMULATOR_VERSION  # only here: a process that reads starts sooner

            simulate = self.data.simulate
            settings |= {f"data.simulate.{item.name}": getattr(simulate, item.name) for item in fields(simulate)}
            settings["data.simulate.version"] = SIMULATOR_VERSION
        return settings

    def sources(self) -> tuple[SourceFile, ...]:
        """Return the files of the tree by name; none for the embedded survey, which its settings describe whole."""
        if self.data.source == "embedded":
            return ()
        root = Path(str(self.data.root)).expanduser()
        found = []
        for path in sorted(map(Path, hdf5.survey_files(self.data))):
            status = path.stat()
            name = path.relative_to(root).as_posix()
            found.append(SourceFile(name=name, size_bytes=status.st_size, version=str(status.st_mtime_ns)))
        return tuple(found)

    def read_sdss_catalog(self, drops: Counter[str]) -> Catalog:
        """Return who is where in SDSS; see ``hdf5.read_sdss_catalog``."""
        return hdf5.read_sdss_catalog(self._tree(), drops)

    def read_hsc_catalog(self, drops: Counter[str]) -> Catalog:
        """Return who is where in HSC; see ``hdf5.read_hsc_catalog``."""
        return hdf5.read_hsc_catalog(self._tree(), drops)

    def read_spectra(self, path: str, rows: NDArray[np.int64], drops: Counter[str]) -> Iterator[tuple[int, Spectrum]]:
        """Yield (row, spectrum); see ``hdf5.read_spectra``."""
        return hdf5.read_spectra(path, rows, drops)

    def read_cutouts(self, path: str, rows: NDArray[np.int64], drops: Counter[str]) -> Iterator[tuple[int, Cutout]]:
        """Yield (row, cutout); see ``hdf5.read_cutouts``."""
        return hdf5.read_cutouts(path, rows, drops)

    def iter_spectra(self, drops: Counter[str]) -> Iterator[Spectrum]:
        """Yield every usable spectrum; see ``hdf5.iter_spectra``."""
        return hdf5.iter_spectra(self._tree(), drops)

    def _tree(self) -> DataConfig:
        if self.data.source == "embedded":
            from mmagn.surveys.simulate import embedded_root  # only here: a process that reads starts sooner

            return replace(self.data, source="hdf5", root=str(embedded_root(self.data)))
        return self.data


def reading_settings(data: DataConfig) -> dict[str, Any]:
    """Return the settings that every source of surveys follows, by dotted name, as plain values that JSON knows."""
    names = ("source", "sdss_surveys", "hsc_survey", "cells", "redshift_min", "redshift_max")
    settings = {f"data.{name}": getattr(data, name) for name in names}
    return {name: list(value) if isinstance(value, tuple) else value for name, value in settings.items()}


def survey_reader(data: DataConfig) -> SurveyReader:
    """Return the reader of the source that ``data.source`` names; nothing is read yet.

    Raises
    ------
    ValueError
        For a source that holds pairs and no surveys.
    """
    source: str = data.source
    if source in ("embedded", "hdf5"):
        return Hdf5Reader(data=data)
    if source == "hub":
        from mmagn.surveys.hub import HubReader  # only here, so that the other sources do without its libraries

        hub: SurveyReader = HubReader(data=data)
        return hub
    if source == "hub-pairs":
        from mmagn.surveys.hub_pairs import HubPairsReader  # only here, as above

        ready: SurveyReader = HubPairsReader(data=data)
        return ready
    if source == "hats":
        from mmagn.surveys.hats import HatsReader  # only here, its libraries are an optional extra

        hats: SurveyReader = HatsReader(data=data)
        return hats
    raise ValueError(f"data.source {source} holds pairs already; matching needs the surveys: embedded, hdf5, hub, hats")
