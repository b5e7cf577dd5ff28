"""Runs with networks that were never trained: all that prediction and explanation need, in seconds."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from astropy.table import Table

from mmagn.config.run_config import RunConfig, save_config
from mmagn.evaluation.config import EvaluationConfig
from mmagn.evaluation.folds import Fold
from mmagn.evaluation.network import NetworkEvaluation, network_evaluation
from mmagn.labels.config import LabelsConfig
from mmagn.models.config import ImageBranchConfig, ModelsConfig, SpectrumBranchConfig
from mmagn.runs.members import evaluation_sample
from mmagn.runs.sample import Sample, labelled_sample, network
from mmagn.spectroscopy.config import SpectroscopyConfig
from mmagn.storage.run_folder import RunFolder
from mmagn.surveys.config import DataConfig, SimulateConfig
from mmagn.tensors.config import TensorsConfig
from mmagn.tensors.residency import PairInputs, batch_source
from mmagn.tensors.scaling import FeatureScaling
from mmagn.training.config import TrainingConfig
from mmagn.training.weights import save_weights

PAIRS, ALONE = 40, 10


def small_config(cache: Path, seed: int = 0) -> RunConfig:
    survey = SimulateConfig(pairs=PAIRS, unmatched=ALONE / PAIRS, agn_fraction=0.4, cells=2, seed=3)
    return RunConfig(
        seed=seed,
        data=DataConfig(cache_dir=str(cache), simulate=survey),
        labels=LabelsConfig(min_snr=0),
        spectroscopy=SpectroscopyConfig(device="cpu", broad_balmer=False),
        tensors=TensorsConfig(image_size=32),
        models=ModelsConfig(
            image=ImageBranchConfig(backbone="test_resnet.r160_in1k", embedding_dim=8),
            spectrum=SpectrumBranchConfig(widths=(4, 8), embedding_dim=8),
            hidden_dim=8,
        ),
        training=TrainingConfig(device="cpu"),
        evaluation=EvaluationConfig(bootstrap_draws=10),
    )


def thirds(sample: Sample) -> tuple[np.ndarray, np.ndarray]:
    """Rows that a network was trained and validated on, supposedly."""
    rows = np.arange(len(sample.target))
    return rows[rows % 3 == 0], rows[rows % 3 == 1]


def make_member(folder: Path, config: RunConfig, sample: Sample) -> NetworkEvaluation:
    """A network with initial weights, evaluated as a trained one is on all labelled pairs."""
    folder.mkdir(parents=True)
    train, validation = thirds(sample)
    values, valid = sample.features(config)
    scaling = FeatureScaling.fit(values[train], valid[train])
    features = scaling.transform(values, valid) if "features" in config.models.branches else None
    pairs = PairInputs(store=sample.store, rows=sample.rows, features=features, target=sample.target)
    cache_dir = Path(config.data.cache_dir)
    tensors = batch_source(pairs, config.tensors, config.models.branches, cache_dir=cache_dir, device="cpu")
    model = network(config)
    test = np.setdiff1d(np.arange(len(sample.target)), np.concatenate([train, validation]))
    fold = Fold(repeat=0, fold=0, seed=0, train=train, validation=validation, test=test)
    evaluated = evaluation_sample(config, sample, fold, tensors, scaling, 2.0)
    evaluation = network_evaluation(model, evaluated, config.evaluation, "cpu")
    evaluation.save(RunFolder(folder))
    scaling.save(folder / "scaling.json")
    save_weights(model.state_dict(), folder / "weights.safetensors")
    return evaluation


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> dict:
    """A small survey, a run with one network and an ablation run with two, none of them trained."""
    base = tmp_path_factory.mktemp("prediction")
    config = small_config(base / "cache")
    sample = labelled_sample(config)
    evaluation = make_member(base / "run", config, sample)
    logits = evaluation.logits
    save_config(config, base / "run" / "config.yaml")
    split = np.full(len(logits), "test")
    for name, rows in zip(("train", "validation"), thirds(sample), strict=True):
        split = np.where(np.isin(np.arange(len(logits)), rows), name, split)
    ids = {"object_id": sample.table["object_id"][sample.rows], "target": sample.target, "split": split}
    Table(ids).write(base / "run" / "split.parquet", format="parquet")
    models = base / "ablation" / "members" / "fused"
    for fold in range(2):
        make_member(models / f"repeat-0-fold-{fold}", replace(config, seed=5 + fold), sample)
    for folder in (models, base / "ablation"):
        save_config(config, folder / "config.yaml")
    return {
        "base": base,
        "config": config,
        "sample": sample,
        "logits": logits,
        "parts": evaluation.parts,
        "run": base / "run",
    }
