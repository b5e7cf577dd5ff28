"""Predictions for the spectra of a HATS catalogue as a HATS catalogue, partition by partition on Dask.

Each partition is read, decoded and predicted where it is and written by the worker that did so: no table of all
galaxies is ever in one place, and another worker takes over the partition of one that ends. Which galaxies a partition
has lies in a file of its own, so that neither a task nor a worker grows with the catalogue.
"""

import logging
import os
import pickle
import re
import sys
import tempfile
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from astropy.table import Table, vstack

from mmagn.config.run_config import RunConfig
from mmagn.labels.config import CatalogConfig
from mmagn.matching.objects import GivenPart, ObjectPart, parts_of_files
from mmagn.matching.sky import sky_group
from mmagn.prediction.decode import Decoder
from mmagn.prediction.networks import Ensemble
from mmagn.prediction.predict import catalog_meta
from mmagn.runs.members import load_members
from mmagn.runs.outside_labels import prediction_catalog, read_catalog
from mmagn.runs.sample import engine
from mmagn.storage.files import remove_abandoned
from mmagn.surveys.hats.catalogs import described_hats, partition_paths, readable
from mmagn.surveys.hats.reader import HatsReader
from mmagn.training.config import TrainingConfig
from mmagn.training.device import device_name

HEALPIX_ORDER = 29
POSITIONS = {"ra_deg": "ra", "dec_deg": "dec"}
"""Columns of positions, and what HATS calls them."""

logger = logging.getLogger(__name__)


def predict_hats(config: RunConfig, runs: Sequence[Path], folder: Path, variant: str) -> int:
    """Write a HATS catalogue of predictions for the pairs and single spectra of ``config.data``; return its rows.

    Parameters
    ----------
    config
        Settings of the first run, with ``data.source`` hats.
    runs
        Run folders; workers of a cluster must see them under the same path.
    folder
        New folder of the catalogue, which appears whole or not at all.
    variant
        Model of an ablation.

    Raises
    ------
    ValueError
        Where the source is another one, settings do not fit a run, or the folder is not empty.
    """
    if config.data.source != "hats":
        raise ValueError(f"a HATS catalogue is made of data.source hats, not {config.data.source}")
    reader = HatsReader(data=config.data)
    surveys = list(reader.spectra_paths)
    if len(surveys) != 1:
        raise ValueError(f"a HATS catalogue has one survey of spectra; data.spectra has {', '.join(surveys)}")
    folder = folder.expanduser().absolute()  # workers may run in another folder
    if folder.exists() and any(folder.iterdir()):
        raise ValueError(f"{folder} is not empty; a HATS catalogue needs a folder of its own")
    members = load_members(runs, variant, config)
    meta, labels = catalog_meta(members, runs, "pairs, spectra"), prediction_catalog(config, members[0].config)
    with engine(config):
        drops: Counter[str] = Counter()
        parts = parts_of_files(config.data, config.matching, drops)
        catalog = reader.open_spectra(surveys[0])
        folder.parent.mkdir(parents=True, exist_ok=True)
        remove_abandoned(folder.parent, rf"\.{re.escape(folder.name)}-(\d{{1,9}})-.*")
        with (
            readable(str(folder)),
            tempfile.TemporaryDirectory(prefix=f".{folder.name}-{os.getpid()}-", dir=folder.parent) as private,
        ):
            for (order, pixel), path in partition_paths(catalog).items():
                _parts_file(private, order, pixel).write_bytes(pickle.dumps(parts.get(path, ())))
            task = PartitionPredictions(
                runs=tuple(str(run.resolve()) for run in runs),
                variant=variant,
                training=config.training,
                parts=private,
                embeddings=str(Path(config.data.embeddings).expanduser().absolute()) if config.data.embeddings else "",
                labels=None if labels is None else labels.config,
            )
            making = Path(private) / folder.name
            catalog.map_partitions(task, include_pixel=True, meta=task.frame([])).write_catalog(
                making,
                catalog_name=folder.name,
                addl_hats_properties={name.lower(): str(value) for name, value in meta.items()},
                progress_bar=False,
                should_write_skymap=False,
            )
            making.rename(folder)
    requested = sum(sum(map(len, of_file)) for of_file in parts.values())
    rows = int(described_hats(str(folder), {}).catalog_info.total_rows)
    sys.stdout.write(f"{folder}: {rows} galaxies; could not be read: {requested - rows}\n")
    for reason, count in drops.items():
        sys.stdout.write(f"dropped: {count} x {reason}\n")
    return rows


@dataclass(frozen=True, kw_only=True, eq=False)
class PartitionPredictions:
    """Predictions for the galaxies of one partition, as LSDB takes them.

    Attributes
    ----------
    runs, variant
        Folders of trained runs, and model of an ablation.
    training
        Settings that name the device of the networks, where the worker is.
    parts
        Folder with the galaxies of each partition, where the worker sees it.
    embeddings
        File of the vectors, for networks that take them, where the worker sees it.
    labels
        Settings of the catalogue of labels, where the worker sees its files; None for none.
    """

    runs: tuple[str, ...]
    variant: str
    training: TrainingConfig
    parts: str
    embeddings: str = ""
    labels: CatalogConfig | None = None

    def __call__(self, frame: Any, pixel: Any) -> pd.DataFrame:  # noqa: ARG002 LSDB gives the columns it has read
        """Return the predictions of a partition."""
        return self.frame(pickle.loads(_parts_file(self.parts, pixel.order, pixel.pixel).read_bytes()))

    def frame(self, parts: Iterable[ObjectPart]) -> pd.DataFrame:
        """Return the predictions of some galaxies as a frame, sorted by HEALPix pixel; empty without galaxies.

        The pixels of one part are in memory at a time.
        """
        networks = _networks(self.runs, self.variant, device_name(self.training), self.embeddings, self.labels)
        ensemble, decoder = networks
        tables, drops = [ensemble.table(decoder.decoded(GivenPart(members=())))], Counter[str]()
        for part in parts:
            decoded = decoder.decoded(part)
            drops.update(decoded.drops)
            tables += [ensemble.table(decoded)] if len(decoded) else []
        for reason, count in drops.items():
            logger.warning("dropped: %d x %s", count, reason)
        return _frame(vstack(tables, metadata_conflicts="silent"))


def _parts_file(folder: str, order: int, pixel: int) -> Path:
    return Path(folder) / f"parts-{order}-{pixel}.pickle"


@lru_cache(maxsize=2)
def _networks(
    runs: tuple[str, ...], variant: str, device: str, embeddings: str, labels: CatalogConfig | None
) -> tuple[Ensemble, Decoder]:
    """Return the networks of some runs and their decoder, loaded once in a process."""
    members = load_members([Path(run) for run in runs], variant)
    catalog = None if labels is None else read_catalog(labels)
    ensemble = Ensemble(members=members, device=device, embeddings=embeddings, labels=catalog)
    return ensemble, Decoder(config=ensemble.members[0].config, bases=ensemble.bases)


def _frame(table: Table) -> pd.DataFrame:
    columns = {}
    for name in table.colnames:
        values = np.ma.asarray(table[name])
        if values.dtype.kind == "U":
            column: Any = pd.array(values.filled("").astype(object), dtype="string[pyarrow]")
        elif values.dtype.kind == "b":
            column = pd.array(values.filled(False), dtype="boolean")
            column[np.ma.getmaskarray(values)] = pd.NA
            column = column.astype("bool[pyarrow]")
        else:
            column = np.asarray(values)
        columns[POSITIONS.get(name, name)] = column
    ra_deg, dec_deg = (np.asarray(table[name], dtype=np.float64) for name in POSITIONS)
    pixel = sky_group(ra_deg, dec_deg, 2**HEALPIX_ORDER)
    return pd.DataFrame(columns, index=pd.Index(pixel, name=f"_healpix_{HEALPIX_ORDER}")).sort_index(kind="stable")
