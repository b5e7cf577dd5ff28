"""The measurements of a few spectra as a table: lines, the ten features, classes and their probabilities."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np
from astropy.table import Table

from mmagn.features.imaging import imaging_features
from mmagn.features.names import FEATURE_NAMES, IMAGING_FEATURES
from mmagn.features.spectral import spectral_features
from mmagn.features.vector import FEATURE_UNITS, feature_matrix
from mmagn.labels.bits import agn_bits
from mmagn.labels.config import LabelsConfig
from mmagn.labels.scheme import bpt_labels, line_snr
from mmagn.lines import REPORTED_LINES
from mmagn.records import Cutout, Spectrum
from mmagn.spectroscopy.basis import ContinuumBasis
from mmagn.spectroscopy.config import SpectroscopyConfig
from mmagn.spectroscopy.emission import line_table
from mmagn.storage.version import __version__

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
class MeasurementSettings:
    """How spectra are measured; without a stellar basis the continuum is the local one."""

    spectroscopy: SpectroscopyConfig
    labels: LabelsConfig
    basis: ContinuumBasis | None = None


@dataclass(frozen=True, slots=True)
class ImagingRow:
    """HSC id and image features of one object."""

    object_id: str
    concentration: float
    contrast: float


def imaging_row(cutout: Cutout) -> ImagingRow:
    """Return id and image features of a cutout."""
    concentration, contrast = imaging_features([cutout])[0].tolist()
    return ImagingRow(cutout.object_id, concentration, contrast)


def measured_table(
    spectra: Sequence[Spectrum], settings: MeasurementSettings, imaging: Sequence[ImagingRow] | None = None
) -> Table:
    """Return the measurements of a few spectra, fitted at once.

    Parameters
    ----------
    spectra
        (object,) records.
    settings
        How they are measured; fitter and label scheme are written into ``meta`` as JSON.
    imaging
        (object,) image features in the same order; NaN without them.

    Returns
    -------
    Table
        (object) rows, columns with units in the order: ``LEADING_COLUMNS`` (identity, lines, the ten features);
        ``valid_FEATURE`` for all ten; ``bpt_class``, ``reason`` and the other columns of ``labels.scheme.bpt_labels``;
        ``agn_maskbits`` and ``opt_uv_type`` with the bits of DESI; the remaining columns of the line table;
        ``hsc_object_id`` where there are image features.

    Raises
    ------
    ValueError
        If there are not as many rows of image features as spectra.
    """
    lines = line_table(spectra, settings.spectroscopy, settings.basis)
    classes = bpt_labels(lines, settings.labels)
    for line in REPORTED_LINES:
        lines[f"snr_{line}"] = line_snr(np.asarray(lines[f"flux_{line}"]), np.asarray(lines[f"flux_{line}_err"]))
    parts = (lines, spectral_features(lines), _imaging_table(imaging, len(spectra)))
    columns = {column.name: column for part in parts for column in part.itercols()}
    table = Table({name: columns.pop(name) for name in LEADING_COLUMNS})
    _, valid = feature_matrix(table)
    for position, name in enumerate(FEATURE_NAMES):
        table[f"valid_{name}"] = valid[:, position]
    for name in classes.colnames:
        table[name] = classes[name]
    for name, bits in agn_bits(classes, lines["broad_line"]).items():
        table[name] = bits
    for name, column in columns.items():
        table[name] = column
    table.meta = {"MMAGN": __version__, "LINES": json.dumps(asdict(settings.spectroscopy)), **classes.meta}
    return table


def _imaging_table(imaging: Sequence[ImagingRow] | None, count: int) -> Table:
    rows = [ImagingRow("", np.nan, np.nan)] * count if imaging is None else imaging
    if len(rows) != count:
        raise ValueError(f"there are {len(rows)} cutouts for {count} spectra; allowed: one for each")
    table = Table({"hsc_object_id": np.array([row.object_id for row in rows], dtype=np.str_)})
    for name in IMAGING_FEATURES:
        table[name] = np.array([getattr(row, name) for row in rows], dtype=np.float64)
        table[name].unit = FEATURE_UNITS[name]
    if imaging is None:
        table.remove_column("hsc_object_id")
    return table
