"""The labelled sample of a config: pairs that are matched, measured, classified and split by sky."""

import hashlib
import logging
from collections import Counter
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from astropy.table import Table
from numpy.typing import NDArray
from torch import Tensor

from mmagn.config.run_config import RunConfig
from mmagn.evaluation.folds import Fold, Rows
from mmagn.features.names import FEATURE_NAMES
from mmagn.features.vector import feature_matrix
from mmagn.labels.catalog import CatalogLabels
from mmagn.labels.scheme import class_counts, reason_counts
from mmagn.matching.splits import sky_split
from mmagn.matching.store import PairStore, pair_store
from mmagn.measurement.cache import measured_store
from mmagn.models.fusion import FusionModel
from mmagn.records import SPLITS, Floats
from mmagn.runs.outside_labels import labels_summary, outside_labels, targets
from mmagn.spectroscopy.basis import ContinuumBasis
from mmagn.storage.files import as_written
from mmagn.storage.run_folder import RunFolder
from mmagn.storage.vectors import vector_table, vectors_of
from mmagn.surveys.hats.dask_client import dask_client
from mmagn.tensors.datamodule import BatchPlan, PairDataModule
from mmagn.tensors.missing import features_present
from mmagn.tensors.residency import PairInputs, batch_source
from mmagn.tensors.scaling import FeatureScaling
from mmagn.tensors.spectrum import spectrum_pixels
from mmagn.training.device import device_name
from mmagn.training.losses import pos_weight

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, eq=False)
class Sample:
    """Measured pairs, and labels and split of those that have a label.

    Attributes
    ----------
    store, table
        Images and spectra of all pairs, and their measurements, one row per pair of the store.
    rows
        (object,) rows of store and table that have a label.
    target
        (object,) 1 for Seyfert and composite, 0 for star-forming and LINER; or the label of a catalogue.
    split
        (object,) ``train``, ``validation`` or ``test``.
    basis
        Continuum basis that the spectra were measured with; None where the continuum is local.
    catalog
        Labels of a catalogue for all pairs of the store; None without one.
    """

    store: PairStore
    table: Table
    rows: Rows
    target: Floats
    split: NDArray[np.str_]
    basis: ContinuumBasis | None = None
    catalog: CatalogLabels | None = None

    @cached_property
    def labelled(self) -> Table:
        """Measurements of the labelled pairs."""
        return self.table[self.rows]

    @property
    def object_id(self) -> NDArray[np.str_]:
        """(object,) SDSS ids."""
        return np.asarray(self.labelled["object_id"], dtype=np.str_)

    @property
    def bpt_class(self) -> NDArray[np.str_]:
        """(object,) names of the classes."""
        return np.asarray(self.labelled["bpt_class"], dtype=np.str_)

    @property
    def fold(self) -> Fold:
        """The split as a fold."""
        rows = {name: np.flatnonzero(self.split == name) for name in SPLITS}
        return Fold(repeat=0, fold=0, seed=0, **rows)

    @property
    def catalog_target(self) -> Floats:
        """(object,) 1, 0 or NaN: label of the catalogue, NaN without one."""
        return np.full(len(self.rows), np.nan) if self.catalog is None else self.catalog.target[self.rows]

    def background(self, config: RunConfig) -> NDArray[np.bool_]:
        """(object,) True where the label is unknown and counts as negative (positive-unlabelled data)."""
        wanted = config.labels.catalog_trains and config.labels.catalog.unknown == "background"
        return np.isnan(self.catalog_target) & wanted

    def column(self, name: str) -> Floats:
        """Return a column (object,) of the measurements."""
        return np.asarray(self.labelled[name], dtype=np.float64)

    def features(self, config: RunConfig) -> tuple[Floats, NDArray[np.bool_]]:
        """Return values and valid flags (object, feature) of ``tensors.features``."""
        values, valid = feature_matrix(self.labelled)
        columns = [FEATURE_NAMES.index(name) for name in config.tensors.features]
        return values[:, columns], valid[:, columns]

    def features_valid(self, config: RunConfig) -> Tensor | None:
        """Return whether each object (object,) has features, where a network has other modalities as well; else None.

        None too where every object has them.
        """
        if len(config.models.branches) == 1 or "features" not in config.models.branches:
            return None
        every = np.ones(len(self.rows), dtype=bool)
        present = features_present(self.features(config)[1], config.tensors.features, every, every)
        return None if bool(present.all()) else present

    def vectors(self, config: RunConfig) -> NDArray[np.float32] | None:
        """Return the vectors (object, length) of ``data.embeddings``, NaN where there is none.

        None where the network takes none.
        """
        if "embedding" not in config.models.branches:
            return None
        images = np.asarray(self.store.index["hsc_object_id"], dtype=np.str_)[self.rows]
        return vectors_of(config.data.embeddings, self.object_id.tolist(), images.tolist())

    def identity(self, config: RunConfig) -> dict[str, str]:
        """Return digests of what a resumed run must find again."""
        vectors = self.vectors(config)
        of_vectors = {} if vectors is None else {"vectors": hashlib.sha256(vectors.tobytes()).hexdigest()[:16]}
        return {"pairs": self.store.fingerprint, **of_vectors}

    def part(self, objects: Rows) -> "Sample":
        """Return the sample with some of its labelled objects."""
        return replace(self, rows=self.rows[objects], target=self.target[objects], split=self.split[objects])

    def summary(self, config: RunConfig) -> dict[str, Any]:
        """Return counts of surveys, classes, reasons of exclusion and splits, the labels, and the report of the match.

        ``simulated`` follows from where the pairs were matched, also where they come from a store now. The ids of
        repeated spectra are in the report of the store alone.
        """
        return {
            "simulated": self.store.simulated,
            "surveys": dict(Counter(np.asarray(self.table["survey"], dtype=np.str_).tolist())),
            "labels": labels_summary(config, self.table, self.catalog),
            "classes": class_counts(self.table),
            "unclassified": reason_counts(self.table),
            "splits": {name: int(np.sum(self.split == name)) for name in SPLITS},
            "matching": {name: value for name, value in self.store.report.items() if name != "repeats"},
        }


def engine(config: RunConfig) -> AbstractContextManager[object]:
    """Return a context with a Dask client for ``data.source`` hats, and an empty one for other sources."""
    return dask_client(config.dask) if config.data.source == "hats" else nullcontext()


def labelled_sample(config: RunConfig) -> Sample:
    """Return the pairs of a config, matched or taken from their store, measured, labelled and split by sky."""
    with engine(config):
        store = pair_store(config.data, config.matching)
    logger.info("pairs: %d in %s", len(store), store.path)
    table, basis = measured_store(store, config.spectroscopy, config.labels, Path(config.data.cache_dir))
    logger.info("classes: %s", counts_text(class_counts(table)))
    if reasons := reason_counts(table):
        logger.info("unclassified: %s", counts_text(reasons))
    magnitude = np.asarray(store.index["i_magnitude"], dtype=np.float64) if config.labels.catalog.depth else None
    catalog = outside_labels(config, table, magnitude)
    truth = targets(config, table, catalog)
    rows = np.flatnonzero(np.isfinite(truth))
    if not len(rows):
        raise ValueError(f"none of the {len(store)} pairs has a label: {counts_text(reasons)}")
    ra_deg, dec_deg = (np.asarray(table[name], dtype=np.float64)[rows] for name in ("ra_deg", "dec_deg"))
    split = sky_split(ra_deg, dec_deg, truth[rows], config.splits)
    logger.info("split: %s", counts_text({name: int(np.sum(split == name)) for name in SPLITS}))
    kept = {"store": store, "table": table, "basis": basis, "catalog": catalog}
    return Sample(**kept, rows=rows, target=truth[rows], split=split)


def with_recorded_split(sample: Sample, run: RunFolder) -> Sample:
    """Return the sample with the objects, targets and split that the run was trained with."""
    with as_written(run.split, "the objects of a run"):
        recorded = Table.read(run.split, format="parquet")
        ids, split = (np.asarray(recorded[name], dtype=np.str_).tolist() for name in ("object_id", "split"))
        truth = np.asarray(recorded["target"], dtype=np.float64)
        if len(set(ids)) < len(ids) or not {*split} <= {*SPLITS} or not np.isin(truth, (0, 1)).all():
            raise ValueError(f"each object once, target 0 or 1, split {', '.join(SPLITS)}")
    row_of = {name: row for row, name in enumerate(np.asarray(sample.table["object_id"]).tolist())}
    if missing := [name for name in ids if name not in row_of]:
        raise ValueError(
            f"{run.path} was trained on other pairs than its settings give now: {len(missing)} of {len(ids)} objects "
            f"are missing, the first {missing[0]}; restore the source {sample.store.path} was made from"
        )
    return replace(
        sample,
        rows=np.array([row_of[name] for name in ids], dtype=np.int64),
        target=truth,
        split=np.array(split, dtype=np.str_),
    )


def training_target(config: RunConfig, sample: Sample, train: Rows) -> Floats:
    """Return the targets (object,) of a fit: P(AGN) in training rows with ``labels.soft``, else 0 or 1."""
    result = sample.target.copy()
    if config.labels.soft:
        p_agn = sample.column("p_agn")[train]
        result[train] = np.where(np.isfinite(p_agn), p_agn, result[train])
    return result


def training_pos_weight(config: RunConfig, sample: Sample, train: Rows) -> float:
    """Return the weight of the positive class: ``training.pos_weight``, or negatives over positives of ``train``."""
    if config.training.pos_weight is not None:
        return config.training.pos_weight
    return pos_weight(training_target(config, sample, train)[train])


def datamodule(config: RunConfig, sample: Sample, scaling: FeatureScaling) -> PairDataModule:
    """Return the batches of a training, validation and test split."""
    pairs = PairInputs(
        store=sample.store,
        rows=sample.rows,
        features=scaling.transform(*sample.features(config)) if "features" in config.models.branches else None,
        features_valid=sample.features_valid(config),
        target=training_target(config, sample, sample.fold.train),
        embedding=sample.vectors(config),
    )
    cache_dir, device = Path(config.data.cache_dir), device_name(config.training)
    tensors = batch_source(pairs, config.tensors, config.models.branches, cache_dir=cache_dir, device=device)
    plan = BatchPlan(
        batch_size=config.training.batch_size,
        augment=config.tensors.augment,
        seed=config.seed,
        workers=config.tensors.threads,
    )
    return PairDataModule(tensors, sample.split, plan)


def network(config: RunConfig, vectors: NDArray[np.float32] | None = None, train: Rows | None = None) -> FusionModel:
    """Return the network of a config with initial weights, the same for the same seed.

    Vectors (object, length) are standardised by those of the rows ``train``.
    """
    torch.manual_seed(config.seed)
    model = FusionModel(
        config.models, spectrum_pixels=spectrum_pixels(config.tensors), features=len(config.tensors.features)
    )
    if vectors is not None and (branch := model.vector_branch) is not None:
        branch.standardise(torch.from_numpy(vectors[train]))
    return model


def with_vector_length(config: RunConfig) -> RunConfig:
    """Return the config with the length of the vectors of ``data.embeddings``, where its network takes them.

    ``ValueError`` where there is no such file, or ``models.embedding.input_dim`` is another length.
    """
    if "embedding" not in config.models.branches:
        return config
    table, embedding = vector_table(config.data.embeddings), config.models.embedding
    if embedding.input_dim not in (0, table.length):
        length = f"models.embedding.input_dim is {embedding.input_dim}"
        raise ValueError(f"{table.path} has vectors of length {table.length}, but {length}")
    return replace(config, models=replace(config.models, embedding=replace(embedding, input_dim=table.length)))


def without_initial_weights(config: RunConfig) -> RunConfig:
    """Return the config of the same network that starts from random weights, for one that is given others."""
    image = replace(config.models.image, pretrained=False, weights="")
    return replace(config, models=replace(config.models, image=image))


def counts_text(counts: Mapping[str, int]) -> str:
    """Return counts on one line."""
    return ", ".join(f"{name} {count}" for name, count in counts.items())
