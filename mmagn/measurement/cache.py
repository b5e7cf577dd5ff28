"""The measurements of a store of pairs: computed once, then read from disk by runs with the same settings and code."""

import logging
from pathlib import Path

import pyarrow as pa
from astropy.table import Table, vstack
from filelock import FileLock

from mmagn.labels.config import LabelsConfig
from mmagn.matching.store import PairStore
from mmagn.measurement.stream import measured_tables, sample_basis
from mmagn.measurement.table import MeasurementSettings
from mmagn.spectroscopy.basis import ContinuumBasis
from mmagn.spectroscopy.config import SpectroscopyConfig
from mmagn.storage.files import code_digest, json_digest
from mmagn.storage.settings import settings_affecting
from mmagn.storage.tables import table_file

CODE = ("records.py", "lines.py", "lines.ecsv", "measurement", "spectroscopy", "features", "labels")
"""What a table of measurements depends on besides pairs and settings."""

logger = logging.getLogger(__name__)


def measured_store(
    store: PairStore, spectroscopy: SpectroscopyConfig, labels: LabelsConfig, cache_dir: Path
) -> tuple[Table, ContinuumBasis | None]:
    """Return the measurements of all pairs, a row each, and the basis they were measured with, from the cache if there.

    One process measures, the others wait for it. Files that cannot be read are replaced, with a warning. The results
    are kept in the folder ``measurements`` of ``cache_dir``, named after pairs, settings and code.
    """
    path = _path(store, spectroscopy, labels, cache_dir)
    basis_path = path.with_suffix(".safetensors")
    cached = _cached(path, basis_path, len(store))
    if cached is not None:
        return cached
    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(path.with_suffix(".lock")):
        cached = _cached(path, basis_path, len(store))
        if cached is not None:
            return cached
        basis = sample_basis((store.spectrum(number) for number in range(len(store))), spectroscopy)
        pairs = (store.pair(number) for number in range(len(store)))
        settings = MeasurementSettings(spectroscopy=spectroscopy, labels=labels, basis=basis)
        table = vstack(list(measured_tables(pairs, settings)), join_type="exact")
        if basis is not None:
            basis.save(basis_path)
        table.meta["BASIS"] = "" if basis is None else basis.fingerprint
        with table_file(path) as append:  # after the basis, so that a table is never there without it
            append(table)
    return _cached(path, basis_path, len(store)) or (table, basis)  # read back: the same table, new or cached


def _path(store: PairStore, spectroscopy: SpectroscopyConfig, labels: LabelsConfig, cache_dir: Path) -> Path:
    content = {
        "pairs": store.fingerprint,
        "count": len(store),
        **settings_affecting(spectroscopy, "measurements"),
        **settings_affecting(labels, "labels"),
        "code": code_digest(*CODE),
    }
    return cache_dir.expanduser() / "measurements" / f"{json_digest(content)[:16]}.parquet"


def _cached(path: Path, basis_path: Path, count: int) -> tuple[Table, ContinuumBasis | None] | None:
    """Return table and basis from their files; None where they are absent or unusable."""
    if not path.is_file():
        return None
    try:
        table = Table.read(path, format="parquet")
        basis = ContinuumBasis.load(basis_path) if table.meta["BASIS"] else None
    except (OSError, ValueError, KeyError, pa.ArrowException) as error:
        logger.warning("measuring again: %s cannot be read (%s)", path, str(error).partition("\n")[0])
        return None
    if len(table) != count or table.meta["BASIS"] != ("" if basis is None else basis.fingerprint):
        logger.warning("measuring again: %s is incomplete", path)
        return None
    logger.info("measurements: %s", path)
    return table, basis
