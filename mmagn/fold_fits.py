"""What each model says of the objects of a fold that it was not trained on: fitted once, kept on disk, never repeated.

Scaling, imputation, stop, calibration and threshold see the training and validation rows of the fold alone.
"""

import hashlib
import json
import logging
import time
from dataclasses import asdict, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from astropy.table import Table
from numpy.typing import NDArray
from torch import Tensor

from mmagn import __version__
from mmagn.config import RunConfig, config_dict
from mmagn.evaluation.baselines import logistic_logits, rule_logits
from mmagn.evaluation.calibration import fitted_calibration
from mmagn.evaluation.crossval import Fold
from mmagn.evaluation.predict import predicted_logits
from mmagn.evaluation.scores import best_threshold
from mmagn.evaluation.strata import bpt_ratios
from mmagn.evaluation.variants import Variant
from mmagn.features.vector import feature_matrix
from mmagn.models.config import Branch
from mmagn.sample import Sample, chosen_features, network, training_target
from mmagn.tensors.augment import augment_batch
from mmagn.tensors.batches import BatchLoader, OrderedBatches
from mmagn.tensors.datamodule import PairTensors, pair_tensors
from mmagn.tensors.mask import valid_fractions
from mmagn.tensors.scaling import FeatureScaling
from mmagn.training.fit import device_name
from mmagn.training.losses import pos_weight
from mmagn.training.runs import whole_file, write_json
from mmagn.training.short_fit import short_fit

PREDICTED_AT_ONCE = 256
NO_FEATURES = FeatureScaling(softening=(), median=(), mean=(), gain=())
"""Scaling of tensors that are made without features: those differ from fold to fold."""

logger = logging.getLogger(__name__)

Floats = NDArray[np.float64]
Features = tuple[Floats, NDArray[np.bool_]]


class FoldFits:
    """The fits of an ablation on one sample; what they share is made once.

    Parameters
    ----------
    config
        Settings of the run; a variant changes branches, blanking and features.
    sample
        Labelled pairs.
    folder
        Where finished fits are kept, one folder per model and settings, one Parquet file per fold.
    """

    def __init__(self, config: RunConfig, sample: Sample, folder: Path) -> None:
        self.config, self.sample, self.folder = config, sample, folder
        self.device = device_name(config.training)
        self.fitted = 0
        self._parts: dict[tuple[Branch, bool], Tensor] = {}

    def table(self, variant: Variant, fold: Fold) -> Table:
        """Rows of the test objects of a fold, fitted now or found on disk.

        Columns ``variant, repeat, fold, seed, object_id, truth, logit, calibrated_probability, threshold, called``.
        """
        path = self._path(variant, fold)
        if path.is_file():
            return Table.read(path, format="parquet")
        started = time.monotonic()
        table = self._fitted(variant, fold)
        with whole_file(path) as part:
            table.write(part, format="parquet", overwrite=True)
        self.fitted += 1
        logger.info(
            "fit %s, repeat %d, fold %d: %.1f s", variant.name, fold.repeat, fold.fold, time.monotonic() - started
        )
        return table

    def _fitted(self, variant: Variant, fold: Fold) -> Table:
        target, evaluation = self.sample.target, self.config.evaluation
        given = self.config.training.pos_weight
        shown = training_target(self.config, self.sample, fold.train)
        weight = pos_weight(shown[fold.train]) if given is None else given
        logits = self._logits(variant, fold, weight)
        if variant.kind == "constant":
            probability, threshold = np.zeros(len(target)), 0.5
        else:
            weight = 1.0 if variant.kind == "bpt-rule" else weight
            kind, seen = evaluation.calibration, target[fold.validation]
            map_ = fitted_calibration(seen, logits[fold.validation], pos_weight=weight, kind=kind)
            probability = map_.probability(logits)
            threshold = best_threshold(seen, probability[fold.validation], evaluation.threshold_metric)
        count = len(fold.test)
        return Table(
            {
                "variant": np.full(count, variant.name),
                **{name: np.full(count, getattr(fold, name)) for name in ("repeat", "fold", "seed")},
                "object_id": self.object_id[fold.test],
                "truth": target[fold.test],
                "logit": logits[fold.test],
                "calibrated_probability": probability[fold.test],
                "threshold": np.full(count, threshold),
                "called": (probability[fold.test] >= threshold).astype(np.float64),
            }
        )

    def _logits(self, variant: Variant, fold: Fold, weight: float) -> Floats:
        """(object,) logits of validation and test rows; what stands in training rows is not to be used."""
        if variant.kind == "constant":
            return np.full(len(self.sample.target), -np.inf)
        if variant.kind == "bpt-rule":
            return rule_logits(*bpt_ratios(self._labelled), self.config.labels.seyfert_liner)
        if variant.kind == "network":
            return self._network_logits(variant, fold, weight)
        values, valid = self._columns(variant)
        splines = variant.kind == "spline-logistic"
        return logistic_logits(values, valid, self.sample.target, fold.train, pos_weight=weight, splines=splines)

    def _network_logits(self, variant: Variant, fold: Fold, weight: float) -> Floats:
        config = replace(self.variant_config(variant), seed=fold.seed)
        tensors = self._tensors(config, fold)
        train, validation = (torch.from_numpy(rows) for rows in (fold.train, fold.validation))
        model = network(config)
        short_fit(
            model,
            tensors.batch,
            train,
            validation,
            config.training,
            pos_weight=weight,
            seed=fold.seed,
            augment=lambda batch, draws: augment_batch(
                batch, config.tensors.augment, draws, softening=tensors.softening
            ),
        )
        asked = torch.from_numpy(np.concatenate([fold.validation, fold.test]))
        loader = BatchLoader(tensors.batch, OrderedBatches(asked, PREDICTED_AT_ONCE))
        logits = np.full(len(self.sample.target), np.nan)
        rows, found = predicted_logits(model, loader, self.device)
        logits[rows] = found
        return logits

    def variant_config(self, variant: Variant) -> RunConfig:
        """Settings of the run as a network variant has them."""
        config, short = self.config, variant.branches == ("features",)
        ablation = config.ablation
        return replace(
            config,
            models=replace(config.models, branches=variant.branches or config.models.branches),
            tensors=replace(config.tensors, blank_lines=variant.blank_lines, features=variant.features),
            training=replace(config.training, epochs=ablation.features_epochs, patience=ablation.features_patience)
            if short
            else config.training,
        )

    def _tensors(self, config: RunConfig, fold: Fold) -> PairTensors:
        """Input of one fit: shared images and spectra, features scaled by the training rows of the fold."""
        parts: dict[Branch, Tensor] = {
            branch: self._part(branch, config) for branch in config.models.branches if branch != "features"
        }
        if "features" in config.models.branches:
            values, valid = chosen_features(config, self.sample)
            scaling = FeatureScaling.fit(values[fold.train], valid[fold.train])
            parts["features"] = torch.from_numpy(scaling.transform(values, valid)).to(self.device)
        return PairTensors(
            image=parts.get("image"),
            spectrum=parts.get("spectrum"),
            features=parts.get("features"),
            target=torch.as_tensor(
                training_target(config, self.sample, fold.train), dtype=torch.float32, device=self.device
            ),
            softening=config.tensors.asinh_softening,
        )

    def _part(self, branch: Branch, config: RunConfig) -> Tensor:
        """Images or spectra of all objects on the device, made where a variant first asks for them."""
        key = (branch, branch == "spectrum" and config.tensors.blank_lines)
        if key not in self._parts:
            sample, count = self.sample, len(self.sample.target)
            none = np.empty((count, 0)), np.empty((count, 0), dtype=bool)
            made = pair_tensors(sample.store, sample.rows, *none, sample.target, NO_FEATURES, config.tensors, (branch,))
            part = made.image if branch == "image" else made.spectrum
            assert part is not None
            self._parts[key] = part.to(self.device)
        return self._parts[key]

    def _columns(self, variant: Variant) -> Features:
        """Raw columns of a logistic model and where they are defined."""
        match variant.name:
            case "redshift-only" | "snr-only":
                name = {"redshift-only": "redshift", "snr-only": "snr_median"}[variant.name]
                values = np.asarray(self._labelled[name], dtype=np.float64)[:, None]
                return values, np.isfinite(values)
            case "mask-only":
                return self._mask, np.ones(self._mask.shape, dtype=bool)
            case _:
                return chosen_features(self.variant_config(variant), self.sample)

    @cached_property
    def object_id(self) -> NDArray[np.str_]:
        """(object,) SDSS ids of the labelled pairs."""
        return np.asarray(self._labelled["object_id"], dtype=np.str_)

    @cached_property
    def _labelled(self) -> Table:
        return self.sample.table[self.sample.rows]

    @cached_property
    def _mask(self) -> Floats:
        store, tensors = self.sample.store, replace(self.config.tensors, blank_lines=False)
        rows = self.sample.rows.tolist()
        return np.stack([valid_fractions(store.cutout(row), store.spectrum(row), tensors) for row in rows])

    @cached_property
    def _data_digest(self) -> str:
        """Digest of everything the fits are made from, other than settings."""
        values, _ = feature_matrix(self._labelled)
        digest = hashlib.sha256(self.sample.store.fingerprint.encode())
        digest.update("\n".join(self.object_id.tolist()).encode())
        for array in (self.sample.target, values, self._labelled["redshift"], self._labelled["snr_median"]):
            digest.update(np.ascontiguousarray(array, dtype=np.float64).tobytes())
        return digest.hexdigest()

    def _path(self, variant: Variant, fold: Fold) -> Path:
        """File of a fit, in a folder that is named after all settings that it depends on."""
        every = config_dict(self.variant_config(variant))
        settings: dict[str, Any] = {name: every[name] for name in ("labels", "tensors", "models", "training")}
        settings |= {name: every["evaluation"][name] for name in ("calibration", "threshold_metric")}
        settings |= {"variant": asdict(variant), "data": self._data_digest, "mmagn": __version__}
        for name in ("log_every", "figures_every"):
            del settings["training"][name]
        folder = self.folder / f"{variant.name}-{_digest(json.dumps(settings, sort_keys=True, default=list))}"
        if not folder.is_dir():
            folder.mkdir(parents=True)
            write_json(folder / "settings.json", settings)
        rows = np.concatenate([fold.train, [-1], fold.validation, [-1], fold.test])
        return folder / f"repeat-{fold.repeat}-fold-{fold.fold}-{_digest(f'{fold.seed} {rows.tolist()}')}.parquet"


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]
