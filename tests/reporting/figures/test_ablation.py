"""A forest plot shows every model and every question, also where a score is undefined; parts show their ceiling."""

import numpy as np

from mmagn.evaluation.answers import answers, score_row
from mmagn.evaluation.ceiling import PartCeiling, noise_ceilings
from mmagn.evaluation.config import EvaluationConfig
from mmagn.evaluation.pooled import OutOfFold, pooled_scores
from mmagn.evaluation.variants import question
from mmagn.reporting.figures.ablation import forest_figure, strata_figure

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


def test_the_noise_ceiling_stands_in_the_forest_and_beside_the_best_model_of_each_rung() -> None:
    rng = np.random.default_rng(1)
    target = (rng.random(120) < 0.4).astype(float)
    ceilings = noise_ceilings(0.1 + 0.8 * target, config=CONFIG)
    rows = []
    for name, strength in (("fused", 0.2), ("handcrafted", 0.8), ("image", 0.1), ("logistic", 0.9)):
        probability = np.clip(strength * target + (1 - strength) * rng.random(120), 0, 1)[None]
        pooled = pooled_scores(OutOfFold(target=target, probability=probability, called=probability.round()), CONFIG)
        rows.append(score_row(name, pooled, CONFIG, ("redshift", "near")))
    (axes,) = forest_figure(rows, [], metric="average_precision", ceiling=ceilings["average_precision"]).axes
    assert f"noise ceiling {ceilings['average_precision'].value:.2f}" in [text.get_text() for text in axes.texts]
    part = PartCeiling(stratum="redshift", part="near", scores=ceilings)
    (panel,) = strata_figure(rows, [part], metric="average_precision").axes
    legend = panel.get_legend()
    assert legend is not None
    assert [text.get_text() for text in legend.get_texts()] == ["handcrafted", "image", "noise ceiling"]
    assert panel.get_title(loc="left") == "redshift"
