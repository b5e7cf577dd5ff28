"""The measurements of a store of pairs: made once, then found on disk by every run with the same settings and code."""

import hashlib
import json
import logging
import zipfile
from pathlib import Path

import pyarrow as pa
from astropy.table import Table
from filelock import FileLock

from mmagn.labels.config import LabelsConfig
from mmagn.matching.store import PairStore
from mmagn.measurement.table import measured_pairs, sample_basis
from mmagn.spectroscopy.basis import ContinuumBasis
from mmagn.spectroscopy.config import SpectroscopyConfig
from mmagn.storage.files import code_digest
from mmagn.storage.settings import settings_affecting
from mmagn.storage.tables import table_file

CODE = ("lines.py", "lines.ecsv", "measurement/table.py", "spectroscopy", "features", "labels")
"""What a table of measurements depends on besides pairs and settings."""

logger = logging.getLogger(__name__)


def measured_store(
    store: PairStore, spectroscopy: SpectroscopyConfig, labels: LabelsConfig, cache_dir: Path
) -> tuple[Table, ContinuumBasis | None]:
    """Table of measurements of all pairs, a row each, and the basis they were measured with; made now or found.

    One process measures, the others wait for it. Files that cannot be read are made again, with a warning.

    Parameters
    ----------
    store
        Pairs to measure.
    spectroscopy, labels
        Settings of the fitter and of the label scheme.
    cache_dir
        The results are kept in its folder ``measurements``, named after pairs, settings and code.
    """
    path = _path(store, spectroscopy, labels, cache_dir)
    basis_path = path.with_suffix(".npz")
    found = _found(path, basis_path, len(store))
    if found is not None:
        return found
    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(path.with_suffix(".lock")):
        found = _found(path, basis_path, len(store))
        if found is not None:
            return found
        basis = sample_basis((store.spectrum(number) for number in range(len(store))), spectroscopy)
        pairs = (store.pair(number) for number in range(len(store)))
        table = measured_pairs(pairs, spectroscopy=spectroscopy, labels=labels, basis=basis)
        if basis is not None:
            basis.save(basis_path)
        table.meta["BASIS"] = "" if basis is None else basis.fingerprint
        with table_file(path) as append:  # after the basis, so that a table is never there without it
            append(table)
    return _found(path, basis_path, len(store)) or (table, basis)  # read back: the same table, made now or found


def _path(store: PairStore, spectroscopy: SpectroscopyConfig, labels: LabelsConfig, cache_dir: Path) -> Path:
    made_from = {
        "pairs": store.fingerprint,
        "count": len(store),
        **settings_affecting(spectroscopy, "measurements"),
        **settings_affecting(labels, "labels"),
        "code": code_digest(*CODE),
    }
    digest = hashlib.sha256(json.dumps(made_from, sort_keys=True).encode()).hexdigest()[:16]
    return cache_dir.expanduser() / "measurements" / f"{digest}.parquet"


def _found(path: Path, basis_path: Path, count: int) -> tuple[Table, ContinuumBasis | None] | None:
    """Return table and basis from their files; None where they are not there or of no use."""
    if not path.is_file():
        return None
    try:
        table = Table.read(path, format="parquet")
        basis = ContinuumBasis.load(basis_path) if table.meta["BASIS"] else None
    except (OSError, ValueError, KeyError, EOFError, pa.ArrowException, zipfile.BadZipFile) as error:
        logger.warning("measurements are made again: %s cannot be read (%s)", path, str(error).partition("\n")[0])
        return None
    if len(table) != count or table.meta["BASIS"] != ("" if basis is None else basis.fingerprint):
        logger.warning("measurements are made again: %s is not whole", path)
        return None
    logger.info("measurements: %s", path)
    return table, basis
