"""Average precision of many lists at once is that of scikit-learn, ties, padding and resamples included."""

import numpy as np
import pytest
import torch
from sklearn.metrics import average_precision_score

from mmagn.training.heads.average_precision import average_precisions


@pytest.mark.parametrize("levels", [3, 20, 100_000])
def test_it_agrees_with_scikit_learn(levels: int) -> None:
    rng = np.random.default_rng(levels)
    logits = rng.integers(-levels, levels, (40, 57)).astype(np.float32)
    target = (rng.random((40, 57)) < 0.3).astype(np.float32)
    counts = rng.integers(10, 58, 40)
    target[:, 0] = 1
    valid = np.arange(57) < counts[:, None]
    found = average_precisions(*map(torch.from_numpy, (logits, target, valid)))
    wanted = [average_precision_score(t[:n], x[:n]) for t, x, n in zip(target, logits, counts, strict=True)]
    np.testing.assert_allclose(found.numpy(), wanted, rtol=1e-12)


@pytest.mark.parametrize("decimals", [9, 1], ids=["distinct", "ties"])
def test_objects_count_as_often_as_a_resample_holds_them(decimals: int) -> None:
    rng = np.random.default_rng(2)
    target = np.broadcast_to((rng.random(60) < 0.3).astype(float), (5, 60)).copy()
    scores, counts = np.round(rng.normal(size=(5, 60)), decimals), rng.integers(0, 4, size=(5, 60))
    result = average_precisions(*map(torch.from_numpy, (scores, target, counts)))
    expected = [average_precision_score(t, s, sample_weight=c) for t, s, c in zip(target, scores, counts, strict=True)]
    np.testing.assert_allclose(result.numpy(), expected, rtol=1e-12)


def test_a_list_without_positives_has_none() -> None:
    found = average_precisions(torch.randn(2, 5), torch.tensor([[0.0] * 5, [1.0] * 5]), torch.ones(2, 5).bool())
    assert torch.isnan(found[0])
    assert found[1] == 1
