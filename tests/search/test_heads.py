"""Settings of the head are searched on the embeddings of fitted branches, for objects as they are."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from mmagn.config.run_config import RunConfig
from mmagn.evaluation.folds import Fold
from mmagn.models.config import ModelsConfig
from mmagn.models.heads import FusionHeads, fused_logits
from mmagn.search.heads import HeadScores
from mmagn.training.config import TrainingConfig


def test_a_search_of_the_head_knows_which_objects_lack_features(monkeypatch: pytest.MonkeyPatch) -> None:
    """An object without features is scored by the late fusion of what it has, as in training."""
    count, rng = 60, np.random.default_rng(1)
    valid = torch.from_numpy(rng.random(count) < 0.7)
    config = RunConfig(models=ModelsConfig(branches=("spectrum", "features"), hidden_dim=4))
    config = replace(config, training=TrainingConfig(device="cpu", head_epochs=1))
    target = (rng.random(count) < 0.4).astype(np.float32)
    rows = np.arange(count)
    fold = Fold(repeat=0, fold=0, seed=0, train=rows[:30], validation=rows[30:45], test=rows[45:])
    embedding = torch.from_numpy(rng.normal(size=(1, count, 5)).astype(np.float32))
    heads = FusionHeads({"spectrum": 2, "features": 3}, config.models)
    monkeypatch.setattr("mmagn.search.heads.fold_embeddings", lambda *_: embedding)
    monkeypatch.setattr("mmagn.search.heads.fold_heads", lambda *_: heads)
    inputs = SimpleNamespace(device="cpu", target=lambda _: target, origin=lambda *_: None, vectors=None)
    fits = SimpleNamespace(
        config=config,
        inputs=inputs,
        networks=SimpleNamespace(pos_weight=lambda _: 1.0),
        sample=SimpleNamespace(target=target, features_valid=lambda _: valid),
    )
    scores = HeadScores(fits, [fold])
    task = scores._task(config, 0)
    assert task.present is not None
    assert torch.equal(task.present[:, 1], valid)
    assert task.present[:, 0].all()
    task.heads.late_fusion.bias[1] = 100.0  # of objects that have the spectrum alone
    logits = fused_logits(task.heads, task.embedding, task.present)
    assert torch.equal(logits > 50, ~valid)
    seen = []
    monkeypatch.setattr("mmagn.search.heads.fused_logits", lambda *parts: seen.append(parts[2]) or logits)
    list(scores._scores(config, [0]))
    assert torch.equal(seen[0], task.present)
