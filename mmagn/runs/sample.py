"""The pairs of a config as a labelled sample: matched, measured, classified, split by sky; and what fits them."""

import dataclasses
import logging
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from astropy.table import Table
from numpy.typing import NDArray

from mmagn.config.run_config import RunConfig
from mmagn.features.names import FEATURE_NAMES
from mmagn.features.vector import feature_matrix
from mmagn.labels.scheme import class_counts, reason_counts, target
from mmagn.matching.splits import sky_split
from mmagn.matching.store import PairStore, pair_store
from mmagn.measurement.cache import measured_store
from mmagn.models.fusion import FusionModel
from mmagn.records import SPLITS
from mmagn.spectroscopy.basis import ContinuumBasis
from mmagn.storage.run_folder import RunFolder
from mmagn.surveys.hats.dask_client import dask_client
from mmagn.tensors.spectrum import spectrum_pixels
from mmagn.training.losses import pos_weight

BASIS_FILE = "basis.npz"
"""Continuum basis in a run folder, where the spectra were measured with one."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, eq=False)
class Sample:
    """The pairs of a config, measured and labelled, and the split of those that have a label.

    Attributes
    ----------
    store
        Payload of all pairs.
    table
        One row per pair of the store: the table of measurements.
    rows
        (object,) rows of store and table that have a label.
    target
        (object,) 1 for Seyfert and composite, 0 for star-forming and LINER.
    split
        (object,) ``train``, ``validation`` or ``test``.
    basis
        Continuum basis that the spectra were measured with; None where the continuum is local.
    """

    store: PairStore
    table: Table
    rows: NDArray[np.int64]
    target: NDArray[np.float64]
    split: NDArray[np.str_]
    basis: ContinuumBasis | None = None

    @property
    def bpt_class(self) -> NDArray[np.str_]:
        """(object,) class of the labelled pairs."""
        return np.asarray(self.table["bpt_class"], dtype=np.str_)[self.rows]


def engine(config: RunConfig) -> AbstractContextManager[object]:
    """Block within which ``data.source`` hats has its Dask cluster; the other sources need none."""
    return dask_client(config.dask) if config.data.source == "hats" else nullcontext()


def labelled_sample(config: RunConfig) -> Sample:
    """Pairs of a config, matched or taken from their store, measured, labelled and split by sky."""
    with engine(config):
        store = pair_store(config.data, config.matching)
    logger.info("pairs: %d in %s", len(store), store.path)
    table, basis = measured_store(store, config.spectroscopy, config.labels, Path(config.data.cache_dir))
    logger.info("classes: %s", counts_text(class_counts(table)))
    if reasons := reason_counts(table):
        logger.info("unclassified: %s", counts_text(reasons))
    truth = target(table["bpt_class"])
    rows = np.flatnonzero(np.isfinite(truth))
    if not len(rows):
        raise ValueError(f"none of the {len(store)} pairs has a label: {counts_text(reason_counts(table))}")
    ra_deg, dec_deg = (np.asarray(table[name], dtype=np.float64)[rows] for name in ("ra_deg", "dec_deg"))
    split = sky_split(ra_deg, dec_deg, truth[rows], config.splits)
    logger.info("split: %s", counts_text({name: int(np.sum(split == name)) for name in SPLITS}))
    return Sample(store=store, table=table, basis=basis, rows=rows, target=truth[rows], split=split)


def training_target(
    config: RunConfig, sample: Sample, train: NDArray[np.int64] | NDArray[np.bool_] | None = None
) -> NDArray[np.float64]:
    """Targets (object,) that a network is shown: P(AGN) of training objects with ``labels.soft``, else 0 or 1.

    Parameters
    ----------
    config, sample
        Settings, and the labelled pairs.
    train
        Training objects, as row numbers or flags; None takes those of the sample's split.
    """
    shown = sample.target.copy()
    if config.labels.soft:
        chosen = sample.split == "train" if train is None else train
        p_agn = np.asarray(sample.table["p_agn"], dtype=np.float64)[sample.rows][chosen]
        shown[chosen] = np.where(np.isfinite(p_agn), p_agn, shown[chosen])
    return shown


def sample_pos_weight(config: RunConfig, sample: Sample) -> float:
    """Weight of the positive class: the one given, or negatives over positives of the training split."""
    given = config.training.pos_weight
    return pos_weight(training_target(config, sample)[sample.split == "train"]) if given is None else given


def chosen_features(config: RunConfig, sample: Sample) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Values and valid flags (object, feature) of the labelled pairs, the features of ``tensors.features`` alone."""
    values, valid = feature_matrix(sample.table)
    columns = [FEATURE_NAMES.index(name) for name in config.tensors.features]
    return values[sample.rows][:, columns], valid[sample.rows][:, columns]


def network(config: RunConfig) -> FusionModel:
    """Network of a config with fresh weights, the same for the same seed."""
    torch.manual_seed(config.seed)
    return FusionModel(
        config.models, spectrum_pixels=spectrum_pixels(config.tensors), features=len(config.tensors.features)
    )


def with_recorded_split(sample: Sample, run: RunFolder) -> Sample:
    """Sample with the objects, targets and split that the run was trained with."""
    recorded = Table.read(run.split, format="parquet")
    row_of = {name: row for row, name in enumerate(np.asarray(sample.table["object_id"]).tolist())}
    ids = np.asarray(recorded["object_id"]).tolist()
    if missing := [name for name in ids if name not in row_of]:
        raise ValueError(
            f"{run.path} was trained on other pairs than its settings give now: {len(missing)} of {len(ids)} objects "
            f"are missing, the first {missing[0]}; restore the source {sample.store.path} was made from"
        )
    return dataclasses.replace(
        sample,
        rows=np.array([row_of[name] for name in ids], dtype=np.int64),
        target=np.asarray(recorded["target"], dtype=np.float64),
        split=np.asarray(recorded["split"], dtype=np.str_),
    )


def sample_summary(sample: Sample) -> dict[str, object]:
    """What the scores are about: classes, reasons of exclusion, losses of the match, sizes of the splits."""
    return {
        "classes": class_counts(sample.table),
        "unclassified": reason_counts(sample.table),
        "splits": {name: int(np.sum(sample.split == name)) for name in SPLITS},
        "matching": sample.store.report,
    }


def counts_text(counted: Mapping[str, int]) -> str:
    """Counts on one line."""
    return ", ".join(f"{name} {count}" for name, count in counted.items())
