"""Inputs of the fits of an ablation on one sample: tensors, scaled features, columns of models without a network."""

import hashlib
from dataclasses import replace
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from mmagn.config.run_config import RunConfig
from mmagn.evaluation.folds import Fold
from mmagn.evaluation.variants import Variant
from mmagn.features.vector import feature_matrix
from mmagn.models.fusion import FusionModel
from mmagn.records import Cutout, Floats, Spectrum
from mmagn.runs.sample import Sample, network, training_target, with_vector_length
from mmagn.tensors.config import TensorsConfig
from mmagn.tensors.image import central
from mmagn.tensors.missing import FeatureOrigin
from mmagn.tensors.residency import PairInputs, batch_source
from mmagn.tensors.scaling import FeatureScaling
from mmagn.tensors.sources import BatchSource
from mmagn.tensors.spectrum import spectrum_tensor
from mmagn.training.device import device_name

Features = tuple[Floats, NDArray[np.bool_]]
SPECTRUM_PARTS = 32
"""Equal parts of the spectrum grid, whose fractions of valid pixels a model of masks alone sees."""


class FoldInputs:
    """Inputs of all fits on one sample; what fits share is made once.

    Parameters
    ----------
    config
        Settings of the run; a variant changes branches, blanking and features.
    sample
        Labelled pairs.
    """

    def __init__(self, config: RunConfig, sample: Sample) -> None:
        self.config, self.sample = config, sample
        self.device = device_name(config.training)
        self._sources: dict[tuple[tuple[str, ...], bool], BatchSource] = {}

    def variant_config(self, variant: Variant) -> RunConfig:
        """Settings of the run as a network variant has them."""
        config, ablation = self.config, self.config.ablation
        training = config.training
        if variant.branches == ("features",):
            training = replace(training, epochs=ablation.features_epochs, patience=ablation.features_patience)
        varied = replace(
            config,
            models=replace(config.models, branches=variant.branches or config.models.branches),
            tensors=replace(config.tensors, blank_lines=variant.blank_lines, features=variant.features),
            training=training,
        )
        return with_vector_length(varied)

    @cached_property
    def vectors(self) -> NDArray[np.float32] | None:
        """(object, length) vectors of ``data.embeddings``, NaN where an object has none."""
        models = replace(self.config.models, branches=("embedding",))
        return self.sample.vectors(replace(self.config, models=models))

    @cached_property
    def vectors_digest(self) -> str:
        """Digest of the vectors."""
        return hashlib.sha256(np.ascontiguousarray(self.vectors).tobytes()).hexdigest()

    def network(self, config: RunConfig, fold: Fold) -> FusionModel:
        """Network of a fold with initial weights, for the settings of a variant."""
        return network(config, self.vectors if "embedding" in config.models.branches else None, fold.train)

    def scaled(self, config: RunConfig, fold: Fold) -> tuple[FeatureScaling, NDArray[np.float32]]:
        """Scaling that the training rows of a fold give, and the scaled (object, feature) features."""
        values, valid = self.sample.features(config)
        scaling = FeatureScaling.fit(values[fold.train], valid[fold.train])
        return scaling, scaling.transform(values, valid)

    def origin(self, config: RunConfig, fold: Fold) -> FeatureOrigin:
        """What the features are measured on, and their imputed values as the scaling of a fold gives them."""
        return FeatureOrigin.of(config.tensors.features, self.scaled(config, fold)[0])

    def target(self, fold: Fold) -> NDArray[np.float32]:
        """(object,) training targets of the network of a fold."""
        return training_target(self.config, self.sample, fold.train).astype(np.float32)

    def tensors(self, config: RunConfig, fold: Fold) -> BatchSource:
        """Network input of a fit, for the settings of a variant.

        Images and spectra are prepared once for all: on a GPU they stay there, on the CPU they are read from the
        prepared files, whose memory all processes share. The features are scaled by the training rows of the fold.
        """
        branches, blank = config.models.branches, config.tensors.blank_lines
        names = tuple(name for name in branches if name != "features")
        if (names, blank) not in self._sources:
            pairs = PairInputs(
                store=self.sample.store,
                rows=self.sample.rows,
                features=None,
                target=np.zeros(len(self.sample.rows)),
                embedding=self.vectors if "embedding" in branches else None,
            )
            tensors = replace(config.tensors, residency="memory") if self.device == "cpu" else config.tensors
            cache_dir = Path(config.data.cache_dir)
            source = batch_source(pairs, tensors, names, cache_dir=cache_dir, device=self.device)
            self._sources[names, blank] = source
        features = torch.from_numpy(self.scaled(config, fold)[1]) if "features" in branches else None
        target, present = torch.from_numpy(self.target(fold)), self.sample.features_valid(config)
        return self._sources[names, blank].with_columns(features, target, present)

    def columns(self, variant: Variant) -> Features:
        """Raw columns of a logistic model and where they are defined."""
        match variant.name:
            case "redshift-only" | "snr-only":
                name = {"redshift-only": "redshift", "snr-only": "snr_median"}[variant.name]
                values = np.asarray(self.sample.labelled[name], dtype=np.float64)[:, None]
                return values, np.isfinite(values)
            case "survey-only":
                survey = np.asarray(self.sample.labelled["survey"], dtype=np.str_)
                values = (survey[:, None] == np.unique(survey)).astype(np.float64)
                return values, np.ones(values.shape, dtype=bool)
            case "mask-only":
                return self._mask, np.ones(self._mask.shape, dtype=bool)
            case _:
                return self.sample.features(self.variant_config(variant))

    @cached_property
    def _mask(self) -> Floats:
        store, tensors = self.sample.store, replace(self.config.tensors, blank_lines=False)
        rows = self.sample.rows.tolist()
        return np.stack([valid_fractions(store.cutout(row), store.spectrum(row), tensors) for row in rows])

    @cached_property
    def data_digest(self) -> str:
        """Digest of everything the fits are made from, other than settings."""
        values, _ = feature_matrix(self.sample.labelled)
        digest = hashlib.sha256(self.sample.store.fingerprint.encode())
        digest.update(self.vectors_digest.encode() if "embedding" in self.config.models.branches else b"")
        for texts in (self.sample.object_id, np.asarray(self.sample.labelled["survey"], dtype=np.str_)):
            digest.update("\n".join(texts.tolist()).encode())
        soft = [self.sample.labelled["p_agn"]] if self.config.labels.soft else []
        for array in (
            self.sample.target,
            values,
            self.sample.labelled["redshift"],
            self.sample.labelled["snr_median"],
            *soft,
        ):
            digest.update(np.ascontiguousarray(array, dtype=np.float64).tobytes())
        return digest.hexdigest()


def valid_fractions(cutout: Cutout, spectrum: Spectrum, config: TensorsConfig) -> Floats:
    """Return the fraction (band + ``SPECTRUM_PARTS``,) of valid pixels in each band and each part of the grid."""
    bands = cutout.valid[central(cutout.flux.shape, config)].mean(axis=(1, 2))
    observed = spectrum_tensor(spectrum, config)[1] > 0
    return np.concatenate([bands, [part.mean() for part in np.array_split(observed, SPECTRUM_PARTS)]])
