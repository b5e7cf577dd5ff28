"""Reader of a Multimodal Universe v1 tree, or of the embedded survey, which is written in the same layout."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmagn.records import Catalog, Cutout, Spectrum
from mmagn.surveys.config import DataConfig
from mmagn.surveys.hdf5.rows import HSC, SPECTRA, read_catalog, read_records
from mmagn.surveys.hdf5.tree import hsc_files, instrument_of, spectra_files
from mmagn.surveys.reader import SourceFile, reading_settings
from mmagn.surveys.screen import joined_catalogs


@dataclass(frozen=True, kw_only=True)
class Hdf5Reader:
    """A Multimodal Universe v1 tree: the one under ``data.root``, or the embedded survey, made when first read."""

    data: DataConfig

    def settings(self) -> dict[str, Any]:
        """Return the settings that shape what is read, by dotted name."""
        settings = reading_settings(self.data)
        if self.data.source == "embedded":
            from mmagn.surveys.simulate.survey import SIMULATOR_VERSION  # only here: a process that reads starts sooner

            settings["data.simulate.version"] = SIMULATOR_VERSION
        return settings

    def sources(self) -> tuple[SourceFile, ...]:
        """Return the files of the tree by name; none for the embedded survey, which its settings describe whole."""
        if self.data.source == "embedded":
            return ()
        root = Path(str(self.data.root)).expanduser()
        files = []
        for path in sorted(file.path for file in (*spectra_files(self.data), *hsc_files(self.data))):
            status = path.stat()
            name = path.relative_to(root).as_posix()
            files.append(SourceFile(name=name, size_bytes=status.st_size, version=str(status.st_mtime_ns)))
        return tuple(files)

    def read_sdss_catalog(self, drops: Counter[str]) -> Catalog:
        """Return ids and positions of all spectra, without reading any; see ``rows.read_catalog``."""
        tree = self._tree()
        files = spectra_files(tree)
        surveys = [(survey, [file for file in files if file.instrument == survey.name]) for survey in SPECTRA]
        return joined_catalogs([read_catalog(survey, own, tree, drops) for survey, own in surveys if own], drops)

    def read_hsc_catalog(self, drops: Counter[str]) -> Catalog:
        """Return ids and positions of HSC, without reading any image; see ``rows.read_catalog``."""
        tree = self._tree()
        return read_catalog(HSC, hsc_files(tree), tree, drops)

    def read_spectra(self, path: str, rows: NDArray[np.int64]) -> Iterator[tuple[int, Spectrum | str]]:
        """Yield (row, spectrum or reason); the survey of an SDSS spectrum is the folder above its cell."""
        instrument = instrument_of(Path(path))
        return read_records(next(survey for survey in SPECTRA if survey.name == instrument), path, rows)

    def read_cutouts(self, path: str, rows: NDArray[np.int64]) -> Iterator[tuple[int, Cutout | str]]:
        """Yield (row, cutout or reason)."""
        return read_records(HSC, path, rows)

    def _tree(self) -> DataConfig:
        if self.data.source == "embedded":
            from mmagn.surveys.simulate.survey import embedded_root  # only here: a process that reads starts sooner

            return replace(self.data, source="hdf5", root=str(embedded_root(self.data)))
        return self.data
