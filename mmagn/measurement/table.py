"""Spectra in, the table of measurements out: lines, the ten features, classes and their probabilities.

One function joins the rooms for a handful of spectra (``measured_table``); the others stream any number of them through
it in batches, in one process or several, to memory (``measured_pairs``) or to a file (``write_measurements``).
"""

import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from itertools import chain, islice
from math import ceil
from pathlib import Path

import numpy as np
from astropy.table import Table, vstack
from tqdm import tqdm

from mmagn.features.imaging import imaging_features
from mmagn.features.names import FEATURE_NAMES
from mmagn.features.spectral import spectral_features
from mmagn.features.vector import FEATURE_UNITS, feature_matrix
from mmagn.labels.config import LabelsConfig
from mmagn.labels.scheme import bpt_labels, class_counts, line_snr, reason_counts
from mmagn.lines import REPORTED_LINES
from mmagn.records import Cutout, Pair, Spectrum
from mmagn.spectroscopy.config import SpectroscopyConfig
from mmagn.spectroscopy.continuum import ContinuumBasis, learned_basis
from mmagn.spectroscopy.emission import line_table
from mmagn.storage.tables import checked_suffix, table_file
from mmagn.storage.version import __version__
from mmagn.workers import run_tasks

BATCH_SPECTRA = 512
"""Spectra in one batch of a stream, about 32 MB."""

NOTHING_TO_MEASURE = "there is no spectrum to measure: the source gave no usable row"

IMAGING_NAMES = FEATURE_NAMES[8:]
IDENTITY_COLUMNS = ("object_id", "ra_deg", "dec_deg", "redshift")
LINE_COLUMNS = ("flux_{}", "flux_{}_err", "ew_{}", "ew_{}_err", "snr_{}", "sigma_kms_{}", "continuum_{}", "flags_{}")
LEADING_COLUMNS = tuple(
    dict.fromkeys(
        [
            *IDENTITY_COLUMNS,
            *(pattern.format(line) for line in REPORTED_LINES for pattern in LINE_COLUMNS),
            *FEATURE_NAMES,
        ]
    )
)
"""Columns every table of measurements starts with; six of the ten features are line columns and come but once."""


@dataclass(frozen=True, kw_only=True)
class MeasurementSummary:
    """What a table of measurements holds and what was lost on the way to it.

    Attributes
    ----------
    rows
        Rows written.
    classes
        Objects of each class, ``unclassified`` included.
    reasons
        Unclassified objects by reason.
    drops
        Objects that never became a row, by reason.
    """

    rows: int
    classes: dict[str, int]
    reasons: dict[str, int]
    drops: dict[str, int]


def measured_table(
    spectra: Sequence[Spectrum],
    *,
    spectroscopy: SpectroscopyConfig,
    labels: LabelsConfig,
    basis: ContinuumBasis | None,
    cutouts: Sequence[Cutout] | None = None,
) -> Table:
    """Return the measurements of a few spectra, fitted at once.

    Parameters
    ----------
    spectra
        (object,) records.
    spectroscopy, labels
        Settings of the fitter and of the label scheme; both are written into ``meta`` as JSON.
    basis
        Stellar continuum basis; None takes the local continuum.
    cutouts
        (object,) images in the same order; without them the two image features are NaN.

    Returns
    -------
    Table
        (object) rows, columns with units in the order: ``LEADING_COLUMNS`` (identity, lines, the ten features);
        ``valid_FEATURE`` for all ten; ``bpt_class``, ``reason`` and the other columns of ``labels.scheme.bpt_labels``;
        the remaining columns of the line table; ``hsc_object_id`` where there are cutouts.

    Raises
    ------
    ValueError
        If there are not as many cutouts as spectra.
    """
    imaging = None if cutouts is None else [_imaging_row(cutout) for cutout in cutouts]
    return _measured(_Batch(list(spectra), imaging), _Settings(spectroscopy, labels, basis))


def measured_pairs(
    pairs: Iterable[Pair],
    *,
    spectroscopy: SpectroscopyConfig,
    labels: LabelsConfig,
    basis: ContinuumBasis | None = None,
    workers: int = 1,
) -> Table:
    """Return the measurements of a stream of pairs as one table in memory, a row each, in order.

    Images are let go as soon as their two features are known. Parameters as of ``write_measurements``.

    Raises
    ------
    ValueError
        If no pair comes.
    """
    return vstack(
        list(_measured_batches(pairs, spectroscopy=spectroscopy, labels=labels, basis=basis, workers=workers)),
        join_type="exact",
    )


def write_measurements(
    rows: Iterable[Spectrum] | Iterable[Pair],
    out: Path,
    *,
    spectroscopy: SpectroscopyConfig,
    labels: LabelsConfig,
    basis: ContinuumBasis | None = None,
    workers: int = 1,
    total: int | None = None,
    progress: bool = True,
    drops: Counter[str] | None = None,
) -> MeasurementSummary:
    """Write the measurements of a stream of spectra or pairs to ``out``, a row each, in order, and return its counts.

    Parameters
    ----------
    rows
        Spectra, or pairs where the two image features are wanted; read once, a few batches ahead of the fitter.
    out
        ``.parquet`` (memory is bounded for any length), ``.fits`` or ``.ecsv`` (the table, not the spectra, is in
        memory once at the end). Appears whole or not at all.
    spectroscopy, labels
        Settings of the fitter and of the label scheme.
    basis
        Continuum basis; None learns one from the first ``spectroscopy.basis_maximum`` spectra where the settings ask
        for one.
    workers
        Processes that fit lines. The table does not depend on their number.
    total
        Number of rows for the progress bar, where known.
    progress
        Show a progress bar on standard error.
    drops
        Where the source counts the objects that it drops; goes into the summary.

    Raises
    ------
    ValueError
        If the suffix is not known, ``workers`` is below 1, or no row comes; nothing is written then.
    """
    batches = _measured_batches(rows, spectroscopy=spectroscopy, labels=labels, basis=basis, workers=workers)
    return write_tables(batches, out, total=total, progress=progress, drops=drops)


def write_tables(
    tables: Iterable[Table],
    out: Path,
    *,
    total: int | None = None,
    progress: bool = True,
    drops: Counter[str] | None = None,
) -> MeasurementSummary:
    """Write tables of ``measured_table`` to ``out`` one after the other and return the counts of all.

    Parameters as of ``write_measurements``; the tables may come from other processes or machines.

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
        raise ValueError(NOTHING_TO_MEASURE)
    return MeasurementSummary(
        rows=classes.total(), classes=dict(classes), reasons=dict(reasons.most_common()), drops=dict(drops or {})
    )


def sample_basis(spectra: Iterable[Spectrum], spectroscopy: SpectroscopyConfig) -> ContinuumBasis | None:
    """Return the basis that ``write_measurements`` would learn from these spectra, None where it would learn none.

    For spectra that are measured in many places at once: all of them must have the same basis.
    """
    if spectroscopy.continuum != "basis":
        return None
    head = ceil(spectroscopy.basis_maximum / BATCH_SPECTRA) * BATCH_SPECTRA
    return learned_basis(islice(spectra, head), spectroscopy)


def _measured_batches(
    rows: Iterable[Spectrum] | Iterable[Pair],
    *,
    spectroscopy: SpectroscopyConfig,
    labels: LabelsConfig,
    basis: ContinuumBasis | None,
    workers: int,
) -> Iterator[Table]:
    """Yield one table per batch, in order; raises ``ValueError`` where there is no row at all."""
    if workers < 1:
        raise ValueError(f"--workers is {workers}; allowed: 1 or more")
    batches = _batches(rows)
    if basis is None and spectroscopy.continuum == "basis":
        head = list(islice(batches, ceil(spectroscopy.basis_maximum / BATCH_SPECTRA)))
        basis = learned_basis((spectrum for batch in head for spectrum in batch.spectra), spectroscopy)
        batches = chain(head, batches)
        del head  # its spectra are let go as the stream passes
    first = next(batches, None)
    if first is None:
        raise ValueError(NOTHING_TO_MEASURE)
    batches = chain([first], batches)
    settings = _Settings(spectroscopy, labels, basis)
    if workers == 1:
        yield from (_measured(batch, settings) for batch in batches)
    else:
        for done in run_tasks(batches, partial(_measuring, settings), workers, ordered=True):
            yield done.result


@dataclass(frozen=True, slots=True)
class _Settings:
    spectroscopy: SpectroscopyConfig
    labels: LabelsConfig
    basis: ContinuumBasis | None


@dataclass(frozen=True, slots=True)
class _Batch:
    """Spectra of one batch, and HSC id, concentration and contrast of the same objects where there are images."""

    spectra: list[Spectrum]
    imaging: list[tuple[str, float, float]] | None


def _imaging_row(cutout: Cutout) -> tuple[str, float, float]:
    concentration, contrast = imaging_features([cutout])[0].tolist()
    return cutout.object_id, concentration, contrast


def _batches(rows: Iterable[Spectrum] | Iterable[Pair]) -> Iterator[_Batch]:
    iterator: Iterator[Spectrum | Pair] = iter(rows)
    while True:
        spectra: list[Spectrum] = []
        imaging: list[tuple[str, float, float]] = []
        for row in islice(iterator, BATCH_SPECTRA):
            if isinstance(row, Pair):
                imaging.append(_imaging_row(row.cutout))
                spectra.append(row.spectrum)
            else:
                spectra.append(row)
        if not spectra:
            return
        yield _Batch(spectra, imaging or None)


def _measuring(settings: _Settings) -> Callable[[_Batch], Table]:
    """Return what measures batches in a worker."""
    return partial(_measured, settings=settings)


def _measured(batch: _Batch, settings: _Settings) -> Table:
    lines = line_table(batch.spectra, settings.spectroscopy, settings.basis)
    classes = bpt_labels(lines, settings.labels)
    for line in REPORTED_LINES:
        lines[f"snr_{line}"] = line_snr(np.asarray(lines[f"flux_{line}"]), np.asarray(lines[f"flux_{line}_err"]))
    imaging = _imaging_table(batch)
    columns = {column.name: column for part in (lines, spectral_features(lines), imaging) for column in part.itercols()}
    table = Table({name: columns.pop(name) for name in LEADING_COLUMNS})
    _, valid = feature_matrix(table)
    for position, name in enumerate(FEATURE_NAMES):
        table[f"valid_{name}"] = valid[:, position]
    for name in classes.colnames:
        table[name] = classes[name]
    for name, column in columns.items():
        table[name] = column
    table.meta = {"MMAGN": __version__, "LINES": json.dumps(asdict(settings.spectroscopy)), **classes.meta}
    return table


def _imaging_table(batch: _Batch) -> Table:
    rows = batch.imaging
    if rows is None:
        rows = [("", np.nan, np.nan)] * len(batch.spectra)
    if len(rows) != len(batch.spectra):
        raise ValueError(f"there are {len(rows)} cutouts for {len(batch.spectra)} spectra; allowed: one for each")
    units = {name: FEATURE_UNITS[name] for name in IMAGING_NAMES}
    table = Table(rows=rows, names=("hsc_object_id", *IMAGING_NAMES), units=units)
    if batch.imaging is None:
        table.remove_column("hsc_object_id")
    return table
