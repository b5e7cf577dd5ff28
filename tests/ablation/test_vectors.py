"""Vectors of others beside mmagn's networks: a planted signal is found, noise is not, missing vectors are counted."""

import logging
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from astropy.table import Table

from mmagn.ablation.ablate import ablation_folds
from mmagn.ablation.fits import FoldFits
from mmagn.ablation.vectors import late_fusion_logits, probe_logits
from mmagn.cli.main import main
from mmagn.config.ablation import AblationConfig
from mmagn.config.run_config import RunConfig
from mmagn.evaluation.answers import answers
from mmagn.evaluation.config import EvaluationConfig
from mmagn.evaluation.folds import Fold
from mmagn.evaluation.pooled import OutOfFold, pooled_scores
from mmagn.evaluation.variants import VARIANTS, question
from mmagn.features.names import FEATURE_NAMES
from mmagn.runs.sample import Sample
from mmagn.storage.vectors import read_vectors, vectors_of, write_vectors
from mmagn.surveys.config import DataConfig

CONFIG = EvaluationConfig(bootstrap_draws=400)
LENGTH = 24


def fold_of(count: int, seed: int) -> Fold:
    rows = np.random.default_rng(seed).permutation(count)
    train, validation, test = np.split(rows, [count // 2, 3 * count // 4])
    return Fold(repeat=0, fold=0, seed=seed, train=np.sort(train), validation=np.sort(validation), test=np.sort(test))


def verdict(signal: float, seed: int = 0, count: int = 1600) -> tuple[float, float, float]:
    """Change of average precision by vectors beside a network that knows a part of the label, with its interval."""
    rng = np.random.default_rng(seed)
    target = (rng.random(count) < 0.3).astype(float)
    vectors = rng.normal(size=(count, LENGTH))
    vectors[:, :4] += signal * target[:, None]
    fold = fold_of(count, seed)
    network = 1.2 * target + rng.normal(size=count)
    probe = probe_logits(vectors, target, fold, pos_weight=2.0)
    parts = {"network": network.copy(), "probe": probe}
    for logits in parts.values():
        logits[fold.train] = np.nan
    fused = late_fusion_logits(parts, target, fold.validation)
    probability = {
        "image-spectrum": 1 / (1 + np.exp(-network[fold.test])),
        "image-spectrum-embedding": 1 / (1 + np.exp(-fused[fold.test])),
    }
    pooled = {
        name: pooled_scores(
            OutOfFold(target=target[fold.test], probability=each[None], called=(each > 0.5)[None].astype(float)), CONFIG
        )
        for name, each in probability.items()
    }
    (answer,) = answers(pooled, [question("image-spectrum-embedding - image-spectrum")], "average_precision", CONFIG)
    assert answer.sentence.startswith("adding the embedding to the image and the spectrum changes average precision")
    change = answer.difference
    assert answer.significant == (change.low > 0 or change.high < 0)
    return change.value, change.low, change.high


def test_a_planted_signal_adds_to_image_and_spectrum_and_noise_does_not() -> None:
    value, low, _ = verdict(signal=1.0)
    assert low > 0
    assert value > 0.05
    for seed in range(3):
        value, low, high = verdict(signal=0.0, seed=seed)
        assert low <= 0 <= high
        assert abs(value) < 0.02


def test_a_part_without_information_gets_no_weight() -> None:
    rng = np.random.default_rng(3)
    target = (rng.random(600) < 0.3).astype(float)
    good, opposed = 2 * target + rng.normal(size=600), -target + rng.normal(size=600)
    fused = late_fusion_logits({"good": good, "opposed": opposed}, target, np.arange(300))
    assert np.corrcoef(fused, good)[0, 1] == pytest.approx(1)
    alone = late_fusion_logits({"opposed": opposed}, target, np.arange(300))
    assert np.ptp(alone) < 1e-6, "a part that is worse than chance is not turned around"


def test_vectors_come_back_as_they_were_written(tmp_path: Path) -> None:
    vectors = np.random.default_rng(4).normal(size=(5, 3)).astype(np.float32)
    write_vectors(tmp_path / "vectors.parquet", list("abcde"), vectors)
    ids, again = read_vectors(tmp_path / "vectors.parquet")
    assert ids == list("abcde")
    np.testing.assert_array_equal(again.astype(np.float32), vectors)
    wanted = vectors_of(tmp_path / "vectors.parquet", ["d", "x", "a"], ["b", "b", "b"])
    np.testing.assert_array_equal(wanted[[0, 2]].astype(np.float32), vectors[[3, 0]])
    assert np.isnan(wanted[1]).all()
    folder = tmp_path / "catalog" / "dataset" / "Norder=0"
    folder.mkdir(parents=True)
    table = pa.table({"TARGETID": [7, 8], "aion": pa.array([[1.0, 2.0], None])})
    pq.write_table(table, folder / "Npix=0.parquet")
    of_hats = vectors_of(tmp_path / "catalog", ["7", "8"])
    np.testing.assert_array_equal(of_hats, [[1, 2], [np.nan, np.nan]])


@pytest.mark.parametrize(
    ("columns", "sentence"),
    [
        ({"id": ["a", "a"], "embedding": [[1.0], [2.0]]}, "the id a more than once"),
        ({"id": ["a", "b"], "embedding": [[1.0], [2.0, 3.0]]}, "one of vectors"),
        ({"name": ["a", "b"], "embedding": [[1.0], [2.0]]}, "no column of ids"),
        ({"id": ["a", "b"], "one": [[1.0], [2.0]], "two": [[1.0], [2.0]]}, "one of vectors"),
        ({"id": ["a", "b"], "embedding": [[1.0], [2.0]]}, "no vector for any of 1 objects: its first id is a"),
    ],
)
def test_a_table_without_vectors_for_the_objects_is_refused(tmp_path: Path, columns: dict, sentence: str) -> None:
    pq.write_table(pa.table(columns), tmp_path / "vectors.parquet")
    with pytest.raises(ValueError, match=sentence):
        vectors_of(tmp_path / "vectors.parquet", ["c"])


def test_the_probe_sees_the_same_folds_and_counts_missing_vectors(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:

    count, rng = 240, np.random.default_rng(5)
    table = Table({name: rng.normal(size=count) for name in (*FEATURE_NAMES, "redshift", "snr_median")})
    table["object_id"], table["survey"] = np.arange(count).astype(str), "sdss"
    table["ra_deg"], table["dec_deg"] = rng.uniform(0, 360, count), rng.uniform(-60, 60, count)
    store = SimpleNamespace(fingerprint="1", index=Table({"hsc_object_id": np.arange(count).astype(str)}))
    target = (rng.random(count) < 0.3).astype(np.float64)
    sample = Sample(
        store=store,  # type: ignore[arg-type]
        table=table,
        rows=np.arange(count),
        target=target,
        split=np.full(count, "train"),
    )
    vectors = rng.normal(size=(count, LENGTH)) + 0.8 * sample.target[:, None]
    known = rng.random(count) < 0.9
    write_vectors(tmp_path / "vectors.parquet", sample.object_id[known].tolist(), vectors[known])
    config = RunConfig(
        data=DataConfig(cache_dir=str(tmp_path), embeddings=str(tmp_path / "vectors.parquet")),
        ablation=AblationConfig(folds=3, repeats=1, variants=("embedding",), questions=()),
    )
    caplog.set_level(logging.INFO)
    fits = FoldFits(config, sample)
    folds = ablation_folds(config, sample)
    tables = [fits.table(VARIANTS["embedding"], fold) for fold in folds]
    assert sum(map(len, tables)) == count
    assert f"{count - known.sum()} of {count} objects have none" in caplog.text
    again = FoldFits(config, sample)
    again.make([VARIANTS["embedding"]], folds)
    assert (fits.fitted, again.fitted) == (3, 0)


def test_vectors_of_one_network_enter_an_ablation_of_others(world: dict, tmp_path: Path) -> None:
    out = tmp_path / "vectors.parquet"
    assert main(["embed", "--run", str(world["run"]), "--out", str(out)]) == 0
    config, sample = world["config"], world["sample"]
    ids, vectors = read_vectors(out)
    assert set(sample.object_id.tolist()) <= set(ids)
    assert np.isfinite(vectors).all()
    names = ("image-spectrum", "embedding", "image-spectrum-embedding")
    settings = AblationConfig(folds=2, repeats=1, variants=names, questions=(f"{names[2]} - {names[0]}",), workers=1)
    config = replace(
        config,
        data=replace(config.data, embeddings=str(out)),
        training=replace(config.training, epochs=1),
        ablation=settings,
    )
    fits, folds = FoldFits(config, sample, tmp_path / "fits"), ablation_folds(config, sample)
    fits.make([VARIANTS[name] for name in names], folds)
    assert fits._vectors_digest is fits._vectors_digest
    assert fits.fitted == 6
    for fold in folds:
        table = fits.table(VARIANTS[names[2]], fold)
        assert table["object_id"].tolist() == sample.object_id[fold.test].tolist()
        assert np.isfinite(np.asarray(table["logit"])).all()
    with pytest.raises(ValueError, match=r"variants has embedding, but data\.embeddings names no file of vectors"):
        replace(config, data=world["config"].data)
    missing = replace(config.data, embeddings=str(tmp_path / "missing.parquet"))
    lazy = FoldFits(replace(config, data=missing), sample, tmp_path / "fits")
    lazy.make([VARIANTS[names[0]]], folds)
    assert lazy.fitted == 0
