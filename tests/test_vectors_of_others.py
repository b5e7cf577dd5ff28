"""Vectors of a foundation model as a branch: what they add, and one network from training to catalogue."""

import json
import logging
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from astropy.table import Table
from training_runs import fitted_fold
from untrained_runs import small_config

from mmagn import api, pipeline
from mmagn.ablation.ablate import ablation_folds
from mmagn.ablation.fits import FoldFits
from mmagn.cli.main import main
from mmagn.config.ablation import AblationConfig
from mmagn.config.run_config import RunConfig, load_config
from mmagn.evaluation.answers import answers
from mmagn.evaluation.config import EvaluationConfig
from mmagn.evaluation.pooled import OutOfFold, pooled_scores
from mmagn.evaluation.variants import VARIANTS, question
from mmagn.models.config import EmbeddingBranchConfig, ModelsConfig
from mmagn.models.fusion import FusionModel
from mmagn.runs.card import card_text
from mmagn.runs.sample import Sample, labelled_sample
from mmagn.storage.run_folder import RunFolder
from mmagn.storage.vectors import write_vectors
from mmagn.tensors.residency import vector_columns
from mmagn.tensors.sources import PairTensors
from mmagn.training.checkpoints import read_checkpoint
from mmagn.training.config import TrainingConfig
from mmagn.training.heads.fusion import HeadsSettings, fit_model_heads

OBJECTS, LENGTH = 1000, 24
TRAIN, VALIDATION, TEST = np.split(np.arange(OBJECTS), [500, 750])
JUDGING = EvaluationConfig(bootstrap_draws=400)


def fused_logits(target: np.ndarray, features: np.ndarray, vectors: np.ndarray) -> np.ndarray:
    """Test logits of a network on features that know a part of the label, and on vectors."""
    torch.manual_seed(0)
    config = ModelsConfig(branches=("features", "embedding"), embedding=EmbeddingBranchConfig(input_dim=LENGTH))
    model = FusionModel(config, spectrum_pixels=8)
    model.vector_branch.standardise(torch.from_numpy(vectors[TRAIN]))
    parts = {"features": torch.from_numpy(features), "target": torch.from_numpy(target), **vector_columns(vectors)}
    tensors = PairTensors(image=None, spectrum=None, **parts)
    training = TrainingConfig(epochs=20, batch_size=50, learning_rate=0.01, device="cpu", head_epochs=20)
    fitted_fold(model, tensors, (torch.from_numpy(TRAIN), torch.from_numpy(VALIDATION)), training)
    fit_model_heads(
        model, tensors, (TRAIN, VALIDATION), HeadsSettings(config=training, origin=None, pos_weight=1.0, seed=1)
    )
    with torch.no_grad():
        return model.eval()(tensors.batch(torch.from_numpy(TEST))).double().numpy()


@pytest.mark.parametrize("signal", [1.0, 0.0])
def test_a_planted_signal_adds_to_the_features_and_noise_does_not(signal: float) -> None:
    rng = np.random.default_rng(7)
    target = (rng.random(OBJECTS) < 0.3).astype(np.float32)
    features = rng.normal(size=(OBJECTS, 10)).astype(np.float32)
    features[:, 0] += 1.5 * target
    vectors = rng.normal(size=(OBJECTS, LENGTH)).astype(np.float32)
    vectors[:, :4] += signal * target[:, None]
    vectors[rng.random(OBJECTS) < 0.1] = np.nan
    pooled = {}
    for name, given in (("handcrafted", np.full_like(vectors, np.nan)), ("fused-embedding", vectors)):
        probability = 1 / (1 + np.exp(-fused_logits(target, features, given)))
        scored = OutOfFold(target=target[TEST].astype(float), probability=probability[None], called=np.ones((1, 250)))
        pooled[name] = pooled_scores(scored, JUDGING)
    (answer,) = answers(pooled, [question("fused-embedding - handcrafted")], "average_precision", JUDGING)
    assert answer.significant == (signal > 0)
    if signal:
        assert answer.difference.value > 0.05
    else:
        assert abs(answer.difference.value) < 0.02


@pytest.fixture(scope="module")
def survey(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, RunConfig, Sample]:
    """A small survey with vectors of four out of five pairs, and settings of a quick training with all branches."""
    base = tmp_path_factory.mktemp("vectors")
    config = small_config(base / "cache")
    sample = labelled_sample(config)
    rng, ids = np.random.default_rng(2), np.asarray(sample.table["object_id"], dtype=np.str_)
    known = np.arange(len(ids)) % 5 != 0
    write_vectors(base / "vectors.parquet", ids[known].tolist(), rng.normal(size=(known.sum(), 6)).astype(np.float32))
    return (
        base,
        replace(
            config,
            runs_dir=str(base / "runs"),
            data=replace(config.data, embeddings=str(base / "vectors.parquet")),
            models=replace(config.models, branches=("image", "spectrum", "features", "embedding")),
            training=TrainingConfig(device="cpu", epochs=1, head_epochs=2),
        ),
        sample,
    )


@pytest.fixture(scope="module")
def trained(survey: tuple[Path, RunConfig, Sample]) -> RunFolder:
    return RunFolder(api.train(survey[1]).folder)


def without_report(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mmagn.runs.scoring.write_report", lambda path, _: path)


def test_a_run_states_what_the_vectors_say_and_their_share(trained: RunFolder, survey, monkeypatch) -> None:
    predictions, ids = Table.read(trained.predictions), np.asarray(survey[2].table["object_id"])
    without = np.isin(np.asarray(predictions["sdss_object_id"]), ids[::5])
    np.testing.assert_array_equal(np.isnan(np.asarray(predictions["p_embedding"])), without)
    assert np.isfinite(np.asarray(predictions["logit"])).all()
    inputs = {each["name"] for each in json.loads(trained.scores.read_text(encoding="utf-8"))["inputs"]}
    assert inputs == {"image", "spectrum", "features", "embedding"}
    config = load_config(trained.config)
    assert config.models.embedding.input_dim == 6
    assert 'load("a/b", embeddings="VECTORS.parquet")' in card_text(trained, "a/b")
    without_report(monkeypatch)
    pipeline.evaluate(trained.path)
    np.testing.assert_allclose(Table.read(trained.predictions)["logit"], predictions["logit"], atol=1e-5)


def test_the_catalogue_of_a_source_has_the_probabilities_of_the_evaluation(trained: RunFolder, survey) -> None:
    base, _, _ = survey
    out = base / "catalogue.parquet"
    assert main(["predict", "--run", str(trained.path), "--out", str(out), "--objects", "all"]) == 0
    catalogue, evaluated = Table.read(out), Table.read(trained.predictions)
    row_of = {name: row for row, name in enumerate(np.asarray(catalogue["sdss_object_id"]).tolist())}
    rows = [row_of[name] for name in np.asarray(evaluated["sdss_object_id"]).tolist()]
    for name in ("logit", "p_embedding", "calibrated_probability"):
        np.testing.assert_allclose(np.asarray(catalogue[name])[rows], np.asarray(evaluated[name]), atol=2e-3)


def test_another_file_of_vectors_is_another_prediction(trained: RunFolder, survey, capsys) -> None:
    base, _, sample = survey
    ids, store = np.asarray(sample.table["object_id"]).tolist(), sample.store
    write_vectors(base / "other.parquet", ids[:1], np.full((1, 6), 3, np.float32))
    model = api.load(trained.path, embeddings=base / "other.parquet")
    pairs = [store.pair(0), store.pair(1)]
    assert np.isfinite(np.asarray(model.predict(pairs)["p_embedding"])).tolist() == [True, False]
    assert np.isfinite(np.asarray(api.load(trained.path).predict(pairs)["p_embedding"])).tolist() == [False, True]
    assert model.explain(store.pair(0)).gradients.parts["embedding"].shape == (6,)
    write_vectors(base / "short.parquet", ids, np.zeros((len(ids), 4), np.float32))
    options = ["predict", "--run", str(trained.path), "--out", str(base / "none.csv"), "--data.embeddings"]
    assert main([*options, str(base / "short.parquet")]) == 2
    assert "vectors of length 4, but models.embedding.input_dim is 6" in capsys.readouterr().err
    assert main([*options, str(base / "missing.parquet")]) == 2
    assert "missing.parquet" in capsys.readouterr().err


def test_a_run_is_resumed_with_the_vectors_that_it_was_started_with_only(survey, trained: RunFolder) -> None:
    base, config, sample = survey
    (base / "moved.parquet").write_bytes((base / "vectors.parquet").read_bytes())
    write_vectors(base / "changed.parquet", sample.object_id.tolist(), np.ones((len(sample.target), 6), np.float32))
    same, moved, changed = (
        sample.identity(replace(config, data=replace(config.data, embeddings=str(base / f"{name}.parquet"))))
        for name in ("vectors", "moved", "changed")
    )
    assert same == moved == read_checkpoint(trained.last)["identity"]
    assert same["vectors"] != changed["vectors"]


def test_an_object_without_any_input_of_the_network_is_not_predicted(survey, tmp_path: Path, monkeypatch) -> None:
    without_report(monkeypatch)
    _, config, sample = survey
    alone = replace(config, models=replace(config.models, branches=("embedding",)), runs_dir=str(tmp_path))
    table = api.load(api.train(alone)).predict([sample.store.pair(0), sample.store.pair(1)])
    assert np.asarray(table["modalities"]).tolist() == ["", "image+spectrum"]
    assert np.isfinite(np.asarray(table["calibrated_probability"])).tolist() == [False, True]


def test_an_ablation_fits_models_with_and_without_vectors_on_the_same_folds(survey, tmp_path: Path, caplog) -> None:
    caplog.set_level(logging.INFO)
    base, config, sample = survey
    names = ("spectrum", "embedding", "fused-embedding")
    config = replace(
        config,
        models=replace(config.models, branches=("image", "spectrum", "features")),
        ablation=AblationConfig(folds=2, repeats=1, variants=names, questions=(), workers=1),
    )
    fits, folds = FoldFits(config, sample, tmp_path), ablation_folds(config, sample)
    fits.make([VARIANTS[name] for name in names], folds)
    assert fits.fitted == 6
    assert f"{np.isnan(fits.inputs.vectors).all(axis=1).sum()} of {len(sample.target)} objects have none" in caplog.text
    for fold in folds:
        tables = [fits.table(VARIANTS[name], fold) for name in names]
        assert all(table["object_id"].tolist() == sample.object_id[fold.test].tolist() for table in tables)
        assert np.isfinite(np.asarray(tables[2]["logit"])).all()
    ids = sample.object_id.tolist()
    write_vectors(base / "new.parquet", ids, np.ones((len(ids), 5), np.float32))
    for name, variants, fitted in (("new", names, 2), ("lost", ("spectrum",), 0)):
        data = replace(config.data, embeddings=str(base / f"{name}.parquet"))
        again = FoldFits(replace(config, data=data), sample, tmp_path)
        again.make([VARIANTS[each] for each in variants], folds[:1])
        assert again.fitted == fitted
