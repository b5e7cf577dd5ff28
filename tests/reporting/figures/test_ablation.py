"""A forest plot shows every model and every question, also where a score is undefined; parts show their ceiling."""

from dataclasses import asdict

import numpy as np
from matplotlib.figure import Figure

from mmagn.evaluation.answers import answers, score_row
from mmagn.evaluation.ceiling import noise_ceilings
from mmagn.evaluation.config import EvaluationConfig
from mmagn.evaluation.pooled import OutOfFold, pooled_scores
from mmagn.evaluation.variants import question
from mmagn.reporting.figures.ablation import forest_figure, strata_figure

CONFIG = EvaluationConfig(bootstrap_draws=50)


def legend_texts(figure: Figure) -> list[str]:
    return [text.get_text() for legend in figure.legends for text in legend.get_texts()]


def test_every_model_and_question_has_its_line() -> None:
    rng = np.random.default_rng(0)
    target = (rng.random(80) < 0.4).astype(float)
    pooled = {}
    for name in ("fused", "image"):
        probability = rng.random((1, 80))
        said = OutOfFold(target=target, probability=probability, called=np.zeros((1, 80)))
        pooled[name] = pooled_scores(said, CONFIG)
    rows = [score_row(name, part, CONFIG).as_dict() for name, part in pooled.items()]
    (answer,) = answers(pooled, [question("fused - image")], "average_precision", CONFIG)
    record = {"question": answer.question.name, "significant": answer.significant, **asdict(answer.difference)}
    models, differences = forest_figure(rows, [record], metric="average_precision").axes
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
        rows.append(score_row(name, pooled, CONFIG, ("redshift", "near")).as_dict())
    ceiling = ceilings["average_precision"]
    figure = forest_figure(rows, [], metric="average_precision", ceiling=ceiling.as_dict())
    assert f"noise ceiling {ceiling.value:.3f}" in legend_texts(figure)
    part = {"stratum": "redshift", "part": "near", **{name: each.as_dict() for name, each in ceilings.items()}}
    figure = strata_figure(rows, [part], metric="average_precision")
    (panel,) = figure.axes
    assert legend_texts(figure) == ["handcrafted (L0: all lines)", "image (L3: image only)", "noise ceiling"]
    objects, positives = rows[0]["objects"], rows[0]["positives"]
    assert panel.get_yticklabels()[0].get_text() == f"near\nn = {objects}, {positives} AGN"
    assert panel.get_title(loc="left") == "redshift"
