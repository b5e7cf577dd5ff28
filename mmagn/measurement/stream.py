"""Streams of spectra through the fitter in batches, in one process or several, and tables of measurements on disk."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain, islice
from math import ceil
from pathlib import Path

from astropy.table import Table
from tqdm import tqdm

from mmagn.labels.scheme import class_counts, reason_counts
from mmagn.measurement.table import ImagingRow, MeasurementSettings, imaging_row, measured_table
from mmagn.records import Pair, Spectrum
from mmagn.spectroscopy.basis import ContinuumBasis
from mmagn.spectroscopy.config import SpectroscopyConfig
from mmagn.spectroscopy.continuum import continuum_basis
from mmagn.spectroscopy.stream import chosen_device
from mmagn.storage.tables import checked_suffix, table_file
from mmagn.workers import run_tasks

BATCH_SPECTRA = 512
"""Spectra in one batch of a stream, about 32 MB."""
CUDA_BATCH_SPECTRA = 16384
"""The same where a GPU fits them, about 1 GB."""


@dataclass(frozen=True, kw_only=True)
class MeasurementSummary:
    """What a table of measurements holds and what was lost on the way to it.

    Attributes
    ----------
    rows, classes
        Rows written, and objects of each class, ``unclassified`` included.
    reasons
        Unclassified objects by reason.
    drops
        Objects that never became a row, by reason.
    """

    rows: int
    classes: dict[str, int]
    reasons: dict[str, int]
    drops: dict[str, int]


def measured_tables(
    rows: Iterable[Spectrum] | Iterable[Pair], settings: MeasurementSettings, workers: int = 1
) -> Iterator[Table]:
    """Yield the measurements of a stream of spectra or pairs, one table per batch, a row each, in order.

    Pairs are for where the two image features are wanted. Rows are read once, a few batches ahead of the fitter; images
    are let go as soon as their features are known. Where the settings ask for a basis and have none, it is learned from
    the first ``spectroscopy.basis_maximum`` spectra. The tables do not depend on the number of processes that fit
    lines.

    Raises ``ValueError`` if ``workers`` is below 1.
    """
    if workers < 1:
        raise ValueError(f"--workers is {workers}; allowed: 1 or more")
    spectroscopy = settings.spectroscopy
    batches = _batches(rows, _batch_spectra(spectroscopy))
    if settings.basis is None:
        learns = spectroscopy.continuum == "basis"
        head = list(islice(batches, _head_batches(spectroscopy))) if learns else []
        basis = continuum_basis((spectrum for batch in head for spectrum in batch.spectra), spectroscopy)
        settings = replace(settings, basis=basis)
        batches = chain(head, batches)
        del head  # its spectra are let go as the stream passes
    if workers == 1:
        yield from map(_measuring(settings), batches)
    else:
        for done in run_tasks(batches, partial(_measuring, settings), workers, ordered=True):
            yield done.result


def write_tables(
    tables: Iterable[Table],
    out: Path,
    *,
    total: int | None = None,
    progress: bool = True,
    drops: Counter[str] | None = None,
) -> MeasurementSummary:
    """Write tables of measurements, made here or elsewhere, to ``out`` and return the counts of all.

    Parameters
    ----------
    tables
        As of ``measured_tables``.
    out
        ``.parquet`` (memory is bounded for any length), ``.fits`` or ``.ecsv`` (the whole table is in memory once at
        the end). Appears whole or not at all.
    total
        Number of rows for the progress bar, where known.
    progress
        Show a progress bar on standard error.
    drops
        Where the source counts the objects that it drops; goes into the summary.

    Raises
    ------
    ValueError
        If the suffix is not known or no table comes; nothing is written then.
    """
    checked_suffix(out)
    classes: Counter[str] = Counter()
    reasons: Counter[str] = Counter()
    with table_file(out) as append, tqdm(total=total, unit=" spectra", disable=not progress) as bar:
        for table in tables:
            append(table)
            classes.update(class_counts(table))
            reasons.update(reason_counts(table))
            bar.update(len(table))
    if not classes:
        raise ValueError("there is no spectrum to measure: the source gave no usable row")
    return MeasurementSummary(
        rows=classes.total(), classes=dict(classes), reasons=dict(reasons.most_common()), drops=dict(drops or {})
    )


def sample_basis(spectra: Iterable[Spectrum], spectroscopy: SpectroscopyConfig) -> ContinuumBasis | None:
    """Return the basis that ``measured_tables`` would learn from these spectra, None where it would learn none.

    For spectra that are measured in many places at once: all of them must have the same basis.
    """
    size = _batch_spectra(spectroscopy)
    return continuum_basis(islice(spectra, _head_batches(spectroscopy) * size), spectroscopy)


@dataclass(frozen=True, slots=True)
class _Batch:
    """Spectra of one batch, and the image features of the same objects where there are images."""

    spectra: list[Spectrum]
    imaging: list[ImagingRow] | None


def _batch_spectra(spectroscopy: SpectroscopyConfig) -> int:
    return BATCH_SPECTRA if chosen_device(spectroscopy).type == "cpu" else CUDA_BATCH_SPECTRA


def _head_batches(spectroscopy: SpectroscopyConfig) -> int:
    """Return the number of batches that a basis is learned from."""
    return ceil(spectroscopy.basis_maximum / _batch_spectra(spectroscopy))


def _batches(rows: Iterable[Spectrum] | Iterable[Pair], size: int) -> Iterator[_Batch]:
    iterator: Iterator[Spectrum | Pair] = iter(rows)
    while True:
        spectra: list[Spectrum] = []
        imaging: list[ImagingRow] = []
        for row in islice(iterator, size):
            if isinstance(row, Pair):
                imaging.append(imaging_row(row.cutout))
                spectra.append(row.spectrum)
            else:
                spectra.append(row)
        if not spectra:
            return
        yield _Batch(spectra, imaging or None)


def _measuring(settings: MeasurementSettings) -> Callable[[_Batch], Table]:
    """Return the function that measures a batch; a worker process calls this once."""
    return partial(_measured, settings=settings)


def _measured(batch: _Batch, settings: MeasurementSettings) -> Table:
    return measured_table(batch.spectra, settings, batch.imaging)
