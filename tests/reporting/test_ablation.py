"""A forest plot shows every model and every question, also where a score is undefined."""

import numpy as np

from mmagn.evaluation.ablation import answers, score_row
from mmagn.evaluation.config import EvaluationConfig
from mmagn.evaluation.pooled import OutOfFold, pooled_scores
from mmagn.evaluation.variants import question
from mmagn.reporting.ablation import forest_figure

CONFIG = EvaluationConfig(bootstrap_draws=50)


def test_every_model_and_question_has_its_line() -> None:
    rng = np.random.default_rng(0)
    target = (rng.random(80) < 0.4).astype(float)
    pooled = {}
    for name in ("fused", "image"):
        probability = rng.random((1, 80))
        said = OutOfFold(target=target, probability=probability, called=np.zeros((1, 80)))
        pooled[name] = pooled_scores(said, CONFIG)
    rows = [score_row(name, part, CONFIG) for name, part in pooled.items()]
    found = answers(pooled, [question("fused - image")], "average_precision", CONFIG)
    models, differences = forest_figure(rows, found, metric="average_precision").axes
    assert [label.get_text() for label in models.get_yticklabels()] == ["fused", "image"]
    assert [label.get_text() for label in differences.get_yticklabels()] == ["fused \N{MINUS SIGN} image"]
    (undefined,) = forest_figure(rows, [], metric="precision").axes
    assert [text.get_text() for text in undefined.texts] == ["undefined", "undefined"]
