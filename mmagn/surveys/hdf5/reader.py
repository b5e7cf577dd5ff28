"""Reader of a Multimodal Universe v1 tree, or of the embedded survey, which is written in the same layout."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmagn.records import Catalog, Cutout, Spectrum
from mmagn.surveys.config import DataConfig
from mmagn.surveys.hdf5.rows import HSC, SDSS, read_catalog, read_records
from mmagn.surveys.hdf5.tree import hsc_files, sdss_files
from mmagn.surveys.reader import SourceFile, reading_settings


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
            from mmagn.surveys.simulate.survey import SIMULATOR_VERSION  # only here: a process that reads starts sooner

            simulate = self.data.simulate
            settings |= {f"data.simulate.{item.name}": getattr(simulate, item.name) for item in fields(simulate)}
            settings["data.simulate.version"] = SIMULATOR_VERSION
        return settings

    def sources(self) -> tuple[SourceFile, ...]:
        """Return the files of the tree by name; none for the embedded survey, which its settings describe whole."""
        if self.data.source == "embedded":
            return ()
        root = Path(str(self.data.root)).expanduser()
        files = []
        for path in sorted(file.path for file in (*sdss_files(self.data), *hsc_files(self.data))):
            status = path.stat()
            name = path.relative_to(root).as_posix()
            files.append(SourceFile(name=name, size_bytes=status.st_size, version=str(status.st_mtime_ns)))
        return tuple(files)

    def read_sdss_catalog(self, drops: Counter[str]) -> Catalog:
        """Return ids and positions of SDSS, without reading any spectrum; see ``rows.read_catalog``."""
        tree = self._tree()
        return read_catalog(SDSS, sdss_files(tree), tree, drops)

    def read_hsc_catalog(self, drops: Counter[str]) -> Catalog:
        """Return ids and positions of HSC, without reading any image; see ``rows.read_catalog``."""
        tree = self._tree()
        return read_catalog(HSC, hsc_files(tree), tree, drops)

    def read_spectra(self, path: str, rows: NDArray[np.int64]) -> Iterator[tuple[int, Spectrum | str]]:
        """Yield (row, spectrum or reason); the survey of a spectrum is the folder above its cell."""
        return read_records(SDSS, path, rows)

    def read_cutouts(self, path: str, rows: NDArray[np.int64]) -> Iterator[tuple[int, Cutout | str]]:
        """Yield (row, cutout or reason)."""
        return read_records(HSC, path, rows)

    def _tree(self) -> DataConfig:
        if self.data.source == "embedded":
            from mmagn.surveys.simulate.survey import embedded_root  # only here: a process that reads starts sooner

            return replace(self.data, source="hdf5", root=str(embedded_root(self.data)))
        return self.data
