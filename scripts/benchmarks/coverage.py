"""How often the intervals of the scores hold the truth, and how well probabilities are calibrated, on simulations.

A survey draws the logits of two correlated classifiers: normal with spread 1 in each class, the classes ``SEPARATION``
apart (Green & Swets 1966). Its truth is what the same classifiers score on 400,000 objects. The class counts are those
of a stratified split, or drawn where ``random_counts`` asks for it.
"""

import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from scipy.special import expit

from mmagn.evaluation.bootstrap import resampled_metrics, scored_objects
from mmagn.evaluation.calibration import fitted_calibration
from mmagn.evaluation.config import EvaluationConfig
from mmagn.evaluation.pooled import OutOfFold, difference, pooled_scores
from mmagn.evaluation.scores import scores
from mmagn.records import Floats

GOAL = (0.93, 0.97)
CALIBRATION_GOAL = 0.03
SIZES = {"test split": 105, "out of fold": 528}
"""Objects of the test split and of all folds of the embedded survey."""
PREVALENCE = 0.25
SEPARATION = (2.4, 2.1)
"""Of the better and of the other classifier: average precision about 0.86 and 0.81."""
CORRELATION = 0.6
"""Of the two classifiers' noise."""
REPEATS = 3
REPEAT_NOISE = 0.3
"""Spread between repeats of the cross-validation in units of the noise of a logit."""
TRUTH_OBJECTS = 400_000
METRICS = (
    "average_precision",
    "mcc",
    "roc_auc",
    "precision",
    "recall",
    "f1",
    "recall_at_precision_90",
    "brier",
    "log_loss",
)
THRESHOLD = 0.4
SLOPE, POS_WEIGHT = 2.5, 3.0
"""How far the logits before calibration are off: too steep, and shifted by the weight of the positives in the loss."""


@dataclass(frozen=True, eq=False)
class Survey:
    """Truth (object,) and the probabilities (model, repeat, object) of two models."""

    target: Floats
    probability: Floats


def survey(rng: np.random.Generator, positives: int, negatives: int) -> Survey:
    """Return one survey; its probabilities are calibrated at the prevalence of ``PREVALENCE``."""
    target = np.repeat([1.0, 0.0], [positives, negatives])
    common, own = rng.normal(size=len(target)), rng.normal(size=(2, len(target)))
    noise = np.sqrt(CORRELATION) * common + np.sqrt(1 - CORRELATION) * own
    wobble = REPEAT_NOISE * rng.normal(size=(2, REPEATS, len(target)))
    spread = np.hypot(1, REPEAT_NOISE)
    logits = []
    for model, separation in enumerate(SEPARATION):
        x = separation * target + noise[model] + wobble[model]
        logits.append((separation * x - separation**2 / 2) / spread**2 + np.log(PREVALENCE / (1 - PREVALENCE)))
    return Survey(target, expit(np.array(logits)))


def coverage_benchmark(surveys: int, draws: int, seed: int, random_counts: bool) -> None:
    """Print how often each kind of interval holds the truth, and the calibration errors."""
    rng = np.random.default_rng(seed)
    config = EvaluationConfig(bootstrap_draws=draws, seed=seed)
    truth = _truth(rng)
    print(
        f"{surveys} surveys, {draws} bootstrap draws, confidence {config.confidence:.0%}, goal {GOAL[0]} to {GOAL[1]}"
    )
    every: list[bool] = []
    for name, size in SIZES.items():
        started = time.perf_counter()
        held = _held(_drawn(rng, surveys, size, random_counts), config, truth, pooled=name == "out of fold")
        print(f"\n{name}: {size} objects, {time.perf_counter() - started:.0f} s")
        for interval, results in held.items():
            print(f"  {interval:<44}{np.mean(results):.3f}")
        every += [result for results in held.values() for result in results]
    low, high = GOAL
    print(
        f"\nall intervals: {np.mean(every):.3f} (goal {low} to {high}; the error of one line is {_error(surveys):.3f})"
    )
    calibration_benchmark(rng)


def _drawn(rng: np.random.Generator, surveys: int, size: int, random_counts: bool) -> Iterator[Survey]:
    """Surveys of ``size`` objects, their numbers of positives fixed or drawn."""
    for _ in range(surveys):
        positives = int(rng.binomial(size, PREVALENCE)) if random_counts else round(size * PREVALENCE)
        yield survey(rng, positives, size - positives)


def _error(surveys: int) -> float:
    return float(np.sqrt(0.95 * 0.05 / surveys))


def _truth(rng: np.random.Generator) -> Floats:
    """(model, metric) scores of the classifiers themselves."""
    positives = round(PREVALENCE * TRUTH_OBJECTS)
    population = survey(rng, positives, TRUTH_OBJECTS - positives)
    result = []
    for probability in population.probability[:, 0]:
        objects = scored_objects(population.target, probability, THRESHOLD, 10)
        sample = resampled_metrics(objects, np.ones((1, TRUTH_OBJECTS), dtype=np.int64))
        result.append([float(sample[name][0]) for name in METRICS])
    return np.array(result)


def _held(surveys: Iterable[Survey], config: EvaluationConfig, truth: Floats, *, pooled: bool) -> dict[str, list[bool]]:
    """Whether each interval holds the truth, one entry per survey where it is defined."""
    held: dict[str, list[bool]] = {}

    def note(name: str, low: float | None, high: float | None, true: float) -> None:
        if low is not None and high is not None:
            held.setdefault(name, []).append(low <= true <= high)

    for sample in surveys:
        repeats = sample.probability if pooled else sample.probability[:, :1]
        models = [
            pooled_scores(
                OutOfFold(target=sample.target, probability=each, called=(each >= THRESHOLD).astype(float)), config
            )
            for each in repeats
        ]
        single = None if pooled else scores(sample.target, repeats[0, 0], THRESHOLD, config=config)
        for place, metric in enumerate(METRICS):
            score = models[0].score(metric, config) if single is None else single[metric]
            note(metric, score.low, score.high, truth[0, place])
            note(f"{metric}, exact", score.exact_low, score.exact_high, truth[0, place])
        for metric in ("average_precision", "mcc"):
            true = float(np.diff(truth[::-1, METRICS.index(metric)], axis=0)[0])
            change = difference(models[0], models[1], metric, config)
            note(f"difference of {metric}", change.low, change.high, true)
    return held


def calibration_benchmark(rng: np.random.Generator, fits: tuple[int, ...] = (106, 1000), tested: int = 100_000) -> None:
    """Print the calibration error on many new objects after a fit on a few, whose logits are too steep and shifted."""
    print(f"\ncalibration error on {tested} new objects, goal below {CALIBRATION_GOAL} from 1000 objects on")
    for size in fits:
        for kind in ("none", "temperature", "platt", "isotonic"):
            if kind == "isotonic" and size < 1000:
                continue
            errors = [calibration_error(rng, size, kind, tested) for _ in range(20)]
            print(f"  fitted on {size:<6}{kind:<14}{np.mean(errors):.4f}  worst of 20: {np.max(errors):.4f}")


def calibration_error(rng: np.random.Generator, size: int, kind: str, tested: int) -> float:
    """Return the calibration error of one fit."""
    parts = []
    for count in (size, tested):
        positives = round(PREVALENCE * count)
        drawn = survey(rng, positives, count - positives)
        plain = np.log(drawn.probability[0, 0] / (1 - drawn.probability[0, 0]))
        parts.append((drawn.target, SLOPE * plain + np.log(POS_WEIGHT)))
    (target, logits), (new_target, new_logits) = parts
    calibration = fitted_calibration(target, logits, pos_weight=POS_WEIGHT, kind=kind)
    objects = scored_objects(new_target, calibration.probability(new_logits), 0.5, 10)
    return float(resampled_metrics(objects, np.ones((1, tested), dtype=np.int64))["calibration_error"][0])
