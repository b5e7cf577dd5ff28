"""Pooled scores are those of the objects, identical models differ by nothing, and sentences say what numbers say."""

import dataclasses
import json

import numpy as np
import pytest
from astropy.table import Table
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score, matthews_corrcoef

from mmagn.evaluation.answers import Answer, answers, markdown, rows_table, score_row
from mmagn.evaluation.config import EvaluationConfig
from mmagn.evaluation.pooled import Difference, OutOfFold, difference, holm, out_of_fold, pooled_scores, repeat_weights
from mmagn.evaluation.variants import question

CONFIG = EvaluationConfig(bootstrap_draws=300)
QUESTION = question("masked-image-spectrum - masked-spectrum")


def predictions_of(strength: float, seed: int = 0, repeats: int = 2, count: int = 200) -> OutOfFold:
    """Probabilities that follow the truth by the given strength."""
    target = (np.random.default_rng(99).random(count) < 0.3).astype(float)
    score = strength * target + np.random.default_rng(seed).normal(size=(repeats, count))
    probability = 1 / (1 + np.exp(-score))
    return OutOfFold(target=target, probability=probability, called=(probability > 0.6).astype(float))


def test_scores_are_means_over_repeats_of_scikit_learns() -> None:
    one = predictions_of(1.5)
    pooled = pooled_scores(one, CONFIG)
    expected = np.mean([average_precision_score(one.target, row) for row in one.probability])
    assert pooled.value["average_precision"] == pytest.approx(expected)
    assert pooled.value["mcc"] == pytest.approx(np.mean([matthews_corrcoef(one.target, row) for row in one.called]))
    score = pooled.score("average_precision", CONFIG)
    assert score.low is not None and score.high is not None
    assert score.low < expected < score.high
    assert pooled.score("calibration_error", CONFIG).low is None


def test_identical_models_differ_by_nothing() -> None:
    pooled = pooled_scores(predictions_of(1.0), CONFIG)
    names = (QUESTION.better.name, QUESTION.base.name)
    (answer,) = answers(dict.fromkeys(names, pooled), [QUESTION], "average_precision", CONFIG)
    assert (answer.difference.value, answer.difference.low, answer.difference.high) == (0, 0, 0)
    assert answer.p_corrected == 1
    assert not answer.significant
    assert "by +0.000 [+0.000, +0.000] (not significant" in answer.sentence


def models(separation: float, seed: int = 0) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    rng = np.random.default_rng(seed)
    y = (np.arange(400) < 80).astype(float)
    noise = rng.normal(size=400)
    good = 1 / (1 + np.exp(-2 * y - noise + 1))
    bad = 1 / (1 + np.exp(-separation * y - noise + 1))
    return y, good, bad


def paired_difference(target, good, bad, metric, thresholds=(0.5, 0.5)) -> Difference:
    """Difference of two models with one repeat each."""
    y = np.asarray(target, dtype=float)
    pooled = [
        pooled_scores(
            OutOfFold(target=y, probability=np.array([score]), called=np.array([np.asarray(score) >= threshold]) * 1.0),
            CONFIG,
        )
        for score, threshold in zip((good, bad), thresholds, strict=True)
    ]
    return difference(pooled[0], pooled[1], metric, CONFIG)


def test_a_better_model_is_found_better() -> None:
    y, good, bad = models(0.5)
    result = paired_difference(y, good, bad, "average_precision")
    assert result.low is not None
    assert result.p_value is not None
    assert result.low > 0
    assert result.p_value == pytest.approx(2 / 301)


def test_swapping_the_models_turns_the_sign() -> None:
    y, good, bad = models(1.7)
    one = paired_difference(y, good, bad, "mcc", thresholds=(0.4, 0.6))
    other = paired_difference(y, bad, good, "mcc", thresholds=(0.6, 0.4))
    assert one.value == pytest.approx(-other.value)
    assert one.low == pytest.approx(-other.high)
    assert one.p_value == other.p_value


def test_the_interval_leaves_out_zero_where_the_p_value_is_small() -> None:
    agree = 0
    for seed in range(10):
        y, good, bad = models(1.75, seed)
        result = paired_difference(y, good, bad, "average_precision")
        assert result.low is not None
        assert result.high is not None
        assert result.p_value is not None
        agree += (result.low > 0 or result.high < 0) == (result.p_value < 0.05)
    assert agree >= 9


def test_a_missing_class_leaves_the_difference_undefined() -> None:
    result = paired_difference([0, 0], [0.1, 0.2], [0.3, 0.1], "average_precision")
    assert result.value is result.low is result.p_value is None
    json.dumps(dataclasses.asdict(result), allow_nan=False)


def test_holm_multiplies_the_smallest_by_all_and_never_turns_the_order() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.5, None, 0.9]) == [1.0, None, 1.0]
    assert holm([]) == []
    with pytest.raises(ValueError, match=r"p value is 1\.5"):
        holm([0.1, 1.5])


def test_shuffled_labels_score_at_prevalence() -> None:
    leak = predictions_of(6.0, count=600)
    shuffled = dataclasses.replace(leak, target=np.random.default_rng(8).permutation(leak.target))
    leaking, noise = pooled_scores(leak, CONFIG), pooled_scores(shuffled, CONFIG)
    assert leaking.value["average_precision"] > 0.99
    assert noise.value["average_precision"] == pytest.approx(leak.target.mean(), abs=0.05)
    assert abs(noise.value["mcc"]) < 0.1
    assert noise.value["roc_auc"] == pytest.approx(0.5, abs=0.05)


def test_intervals_of_scores_and_of_differences_hold_the_truth_about_95_per_cent_of_the_time() -> None:
    rng, quick = np.random.default_rng(6), EvaluationConfig(bootstrap_draws=300)

    def survey(positives: int, negatives: int) -> list[OutOfFold]:
        target = np.repeat([1.0, 0.0], [positives, negatives])
        common, own = rng.normal(size=len(target)), rng.normal(size=(2, len(target)))
        scores = [gain * target + 0.8 * common + 0.6 * each for gain, each in zip((2.2, 1.8), own, strict=True)]
        probability = [1 / (1 + np.exp(-score)) for score in scores]
        return [
            OutOfFold(target=target, probability=p[None], called=(p > 0.8)[None].astype(float)) for p in probability
        ]

    population = survey(30_000, 90_000)
    true = [average_precision_score(model.target, model.probability[0]) for model in population]
    held = {"score": 0, "difference": 0}
    for _ in range(100):
        better, base = (pooled_scores(model, quick) for model in survey(132, 396))
        score = better.score("average_precision", quick)
        gap = difference(better, base, "average_precision", quick)
        for name, part, value in (("score", score, true[0]), ("difference", gap, true[0] - true[1])):
            assert part.low is not None and part.high is not None
            held[name] += part.low <= value <= part.high
    assert all(0.89 <= count / 100 <= 0.99 for count in held.values()), held


def test_the_variance_of_training_runs_enters_the_draws_without_bias() -> None:
    rng = np.random.default_rng(11)
    values = rng.normal(size=4)
    means = repeat_weights(4, 200_000, rng) @ values
    assert means.mean() == pytest.approx(values.mean(), abs=0.01)
    assert means.var() == pytest.approx(values.var(ddof=1) / 4, rel=0.02)
    assert (repeat_weights(1, 5, rng) == 1).all()


def test_differences_hold_the_truth_where_training_runs_differ() -> None:
    rng, quick, repeats = np.random.default_rng(12), EvaluationConfig(bootstrap_draws=300), 5
    target = np.repeat([1.0, 0.0], [150, 450])

    def trained(gain: float, spread: float, objects: np.ndarray) -> OutOfFold:
        gains = gain + spread * rng.normal(size=(repeats, 1))
        probability = 1 / (1 + np.exp(-(gains * target + objects)))
        return OutOfFold(target=target, probability=probability, called=(probability > 0.8).astype(float))

    held, widths, fixed_widths = [], [], []
    for _ in range(100):
        objects = rng.normal(size=len(target))
        models = [pooled_scores(trained(1.5, 0.4, objects), quick) for _ in range(2)]  # alike: the truth is 0
        gap = difference(*models, "average_precision", quick)
        fixed = [pooled_scores(trained(1.5, 0.0, objects), quick) for _ in range(2)]
        fixed_gap = difference(*fixed, "average_precision", quick)
        assert gap.low is not None and gap.high is not None and fixed_gap.low is not None and fixed_gap.high is not None
        held.append(gap.low <= 0 <= gap.high)
        widths.append(gap.high - gap.low)
        fixed_widths.append(fixed_gap.high - fixed_gap.low)
    assert (
        np.mean(held) >= 0.85
    )  # a bootstrap over 5 runs is a little narrow; over objects alone it would hardly ever hold 0
    assert np.median(widths) > 5 * np.median(fixed_widths)


def answer_of(value: float, low: float, high: float, p_corrected: float) -> Answer:
    change = Difference(
        metric="average_precision",
        value_a=0.5,
        value_b=0.5 - value,
        value=value,
        low=low,
        high=high,
        p_value=p_corrected,
        confidence=0.95,
        bootstrap_draws=300,
    )
    return Answer(question=QUESTION, difference=change, p_corrected=p_corrected, questions=3)


def test_a_sentence_says_what_the_numbers_say() -> None:
    begin = "adding the image to the masked spectrum changes average precision by "
    assert answer_of(0.03, -0.01, 0.07, 0.4).sentence.startswith(
        begin + "+0.030 [-0.010, +0.070] (not significant, p = 0.4 "
    )
    assert answer_of(0.03, 0.01, 0.07, 0.01).sentence.startswith(
        begin + "+0.030 [+0.010, +0.070] (significant, p = 0.01 "
    )
    assert "-0.030 [-0.070, -0.010] (significant" in answer_of(-0.03, -0.07, -0.01, 0.01).sentence
    assert not answer_of(0.03, 0.01, 0.07, 0.06).significant
    nothing = dataclasses.replace(answer_of(0, 0, 0, 1).difference, value=None, low=None, high=None, p_value=None)
    undefined = Answer(question=QUESTION, difference=nothing, p_corrected=None, questions=3)
    assert undefined.sentence.endswith("is undefined in this sample")


def test_more_questions_make_it_harder_to_show_anything() -> None:
    pooled = {"masked-image-spectrum": pooled_scores(predictions_of(2.0, 1), CONFIG)}
    pooled |= {
        "masked-spectrum": pooled_scores(predictions_of(1.3, 2), CONFIG),
        "image": pooled_scores(predictions_of(0.3, 3), CONFIG),
    }
    questions = [QUESTION, question("masked-spectrum - image"), question("masked-image-spectrum - image")]
    alone, together = (answers(pooled, some, "average_precision", CONFIG) for some in (questions[:1], questions))
    assert together[0].p_corrected is not None and alone[0].p_corrected is not None
    assert together[0].p_corrected >= alone[0].p_corrected


def test_tables_are_laid_out_by_object_and_refuse_an_object_tested_twice() -> None:
    table = Table(
        {
            "repeat": [0, 0, 1, 1],
            "object_id": ["b", "a", "a", "b"],
            "calibrated_probability": [0.1, 0.9, 0.8, 0.2],
            "called": [0.0, 1.0, 1.0, 0.0],
        }
    )
    predictions = out_of_fold(table, np.array(["a", "b"]), np.array([1.0, 0.0]))
    np.testing.assert_array_equal(predictions.probability, [[0.9, 0.1], [0.8, 0.2]])
    table["object_id"][0] = "a"
    with pytest.raises(ValueError, match="object a is tested 2 times in repeat 0"):
        out_of_fold(table, np.array(["a", "b"]), np.array([1.0, 0.0]))


def test_tables_hold_a_row_per_model_and_markdown_the_sentences() -> None:
    row = score_row("image", pooled_scores(predictions_of(1.0), CONFIG), CONFIG)
    part = score_row("image", pooled_scores(predictions_of(1.0), CONFIG), CONFIG, ("redshift", "below 0.1"))
    table = rows_table([row, part])
    assert table["variant"].tolist() == ["image", "image"]
    assert table["average_precision_low"][0] < table["average_precision"][0] < table["average_precision_high"][0]
    text = markdown([row], [answer_of(0.03, -0.01, 0.07, 0.4)], title="Ablation", strata=[part])
    assert "- adding the image" in text
    assert "| L3 | image | 200 |" in text
    assert "## By redshift" in text
