"""The picture of one spectrum: continuum, lines and residuals."""

from collections import Counter
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import numpy as np

from mmagn.config.run_config import RunConfig
from mmagn.matching.store import open_store
from mmagn.measurement.table import MeasurementSettings, measured_table
from mmagn.records import Spectrum
from mmagn.reporting.figures.spectra import spectrum_figure
from mmagn.reporting.figures.style import save_figures
from mmagn.spectroscopy.continuum import continuum_basis
from mmagn.spectroscopy.curves import fitted_curves
from mmagn.storage.files import file_stem
from mmagn.surveys.config import DataConfig
from mmagn.surveys.reader import iter_spectra, usable
from mmagn.surveys.readers import survey_reader


def plot_spectrum(config: RunConfig, about: str | Spectrum, folder: Path) -> Path:
    """Return the path of the picture of one spectrum with model, continuum, residuals and line names.

    Parameters
    ----------
    config
        Settings, with the source of the spectrum.
    about
        Its id, or the spectrum itself; its continuum is then a local one.
    folder
        Where the picture is written to.

    Raises
    ------
    ValueError
        Where the source has no spectrum of that id.
    """
    drops: Counter[str] = Counter()
    if isinstance(about, Spectrum):
        spectrum, spectra = about, iter([about])
    else:
        spectrum, spectra = _spectrum_with_id(config.data, about, drops), _spectra(config.data, drops)
    head = islice(spectra, config.spectroscopy.basis_maximum)
    basis = continuum_basis(head, config.spectroscopy)
    fit = fitted_curves(spectrum, config.spectroscopy, basis)
    curves = {"model": fit.model, "continuum": fit.continuum}
    if np.nanmax(fit.broad, initial=0.0) > 0:
        curves["continuum + broad lines"] = fit.continuum + fit.broad
    measured = measured_table(
        [spectrum], MeasurementSettings(spectroscopy=config.spectroscopy, labels=config.labels, basis=basis)
    )
    (path,) = save_figures({file_stem(spectrum.object_id): spectrum_figure(spectrum, curves, measured[0])}, folder)
    return path


def _spectrum_with_id(data: DataConfig, object_id: str, drops: Counter[str]) -> Spectrum:
    if data.source == "store":
        store = open_store(Path(str(data.root)).expanduser())
        ids = np.asarray(store.index["sdss_object_id"], dtype=np.str_)
        for row in np.flatnonzero(ids == object_id):
            return store.spectrum(int(row))
        raise ValueError(_unknown(object_id, ids.tolist(), str(data.root)))
    reader = survey_reader(data)
    catalog = reader.read_sdss_catalog(drops)
    for row in np.flatnonzero(catalog.object_id == object_id):
        path = catalog.files[int(catalog.file_index[row])]
        for _, spectrum in usable(reader.read_spectra(path, catalog.row[row : row + 1]), drops):
            return spectrum
        raise ValueError(f"the spectrum of {object_id} in {path} is not usable: {', '.join(drops)}")
    raise ValueError(_unknown(object_id, catalog.object_id.tolist(), f"data.source {data.source}"))


def _unknown(object_id: str, known: list[str], where: str) -> str:
    return f"{where} has no spectrum with object_id {object_id}; its {len(known)} ids look like {known[0]}"


def _spectra(data: DataConfig, drops: Counter[str]) -> Iterator[Spectrum]:
    if data.source == "store":
        store = open_store(Path(str(data.root)).expanduser())
        return (store.spectrum(row) for row in range(len(store)))
    return iter_spectra(survey_reader(data), drops)
