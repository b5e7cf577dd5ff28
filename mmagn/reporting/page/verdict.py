"""The verdict at the top of a report: what a score is worth, whether the survey is simulated, which input decides."""

from collections.abc import Mapping
from typing import Any

from mmagn.evaluation.scorecard import Score, Scores
from mmagn.reporting.page.scores import metric_text, numbers_text

Numbers = Mapping[str, Any]

MIN_CLASS_OBJECTS = 10
"""Objects of the smaller class, below which a page has a banner."""
SIMULATED = "the survey is simulated, so this tests the pipeline and says nothing about the sky"


def against_guessing(value: float, prevalence: float, ceiling: Score) -> str:
    """Return how an average precision compares with the prevalence and with the noise ceiling."""
    text = f"{value / prevalence:.1f} times the {prevalence:.3f} of guessing" if prevalence > 0 else "without positives"
    if ceiling.value is None:
        return text
    low, high = ceiling.low, ceiling.high
    inside = low is not None and high is not None and low <= value <= high
    where = "within the interval of" if inside else "above" if value > ceiling.value else "below"
    return f"{text}, and {where} the noise ceiling {ceiling}"


def training_verdict(
    scores: Scores, ceiling: Score, split: str, inputs: Mapping[str, Numbers], *, simulated: bool
) -> list[str]:
    """Return the verdict on a training, from its scores on a split and the noise ceiling of average precision.

    ``inputs`` are the losses of average precision where an input is permuted among the objects, by its name.
    """
    precision, tail = scores["average_precision"], f"; {SIMULATED}." if simulated else "."
    counts = f"{scores.objects:,} galaxies of the {split} split ({scores.positives:,} AGN)"
    if precision.value is None:
        first = f"On {counts} average precision is undefined: {precision.reason}"
    else:
        worth = against_guessing(precision.value, scores.prevalence or 0.0, ceiling)
        first = f"On {counts} average precision is {precision}, {worth}"
    return [first + tail, inputs_sentence(inputs)]


def inputs_sentence(inputs: Mapping[str, Numbers]) -> str:
    """Return which input decides, from the loss of average precision where each is permuted."""
    if not inputs:
        return "Which input decides was not measured."
    if len(inputs) == 1:
        return f"The only input is the {next(iter(inputs))}."
    ranked = sorted(inputs.items(), key=lambda item: -item[1]["value"])
    (name, loss), rest = ranked[0], ranked[1:]
    others = " and ".join(f"the {other} by {numbers_text(each, sign=True)}" for other, each in rest)
    if loss.get("low") is not None and loss["low"] <= 0:
        return (
            f"No single input decides: permuting the {name} lowers average precision by {numbers_text(loss)}, {others}."
        )
    return (
        f"Decisive input: permuting the {name} among the galaxies lowers average precision by {numbers_text(loss)}, "
        f"{others}."
    )


def small_sample_warning(objects: int, positives: int, split: str) -> str:
    """Return the text of the banner for a sample that is too small to judge a model, else ""."""
    smaller = min(positives, objects - positives)
    if smaller >= MIN_CLASS_OBJECTS:
        return ""
    return (
        f"Too few galaxies to judge a model: the {split} holds {objects:,}, of which {positives:,} are AGN. Scores "
        f"from fewer than {MIN_CLASS_OBJECTS} galaxies of a class change entirely with a single one of them."
    )


def ablation_verdict(recorded: Numbers, best: Numbers, *, simulated: bool) -> list[str]:
    """Return the verdict on an ablation, whose best network is a row of its models."""
    ceiling = Score.from_dict(recorded.get("noise_ceiling", {}).get("average_precision", {}))
    value = metric_text(best, "average_precision")
    worth = against_guessing(best["average_precision"] or 0.0, best["prevalence"], ceiling)
    first = f"The best network, {best['variant']}, reaches an average precision of {value}, {worth}"
    tail = f"; {SIMULATED}." if simulated else "."
    questions = recorded["questions"]
    significant = [each for each in questions if each["significant"]]
    if not questions:
        second = "The ablation compares no models."
    elif not significant and len(questions) == 1:
        second = "The one difference between models is not significant."
    elif not significant:
        second = f"None of the {len(questions)} differences between models is significant after correction."
    else:
        largest = max(significant, key=lambda each: abs(each["value"]))
        second = (
            f"{len(significant)} of {len(questions)} differences between models are significant after correction; the "
            f"largest is {largest['question'].replace(' - ', ' minus ')} with {numbers_text(largest, sign=True)}."
        )
    return [first + tail, second]


def search_verdict(recorded: Numbers, *, simulated: bool) -> list[str]:
    """Return the verdict on a search."""
    best, prevalence = recorded["best"], recorded["prevalence"]
    worth = against_guessing(best["score"], prevalence, Score())
    count = sum(recorded["trials"].values())
    tail = f"; {SIMULATED}." if simulated else "."
    first = f"Trial {best['number']} of {count:,} is the best: {recorded['score']} {best['score']:.3f}, {worth}{tail}"
    nested = ((recorded.get("nested") or {}).get("scores") or {}).get("average_precision")
    if nested:
        return [first, f"On galaxies that no search saw, settings chosen this way score {numbers_text(nested)}."]
    if sentence := recorded.get("sentence"):
        return [first, f"{sentence[:1].upper()}{sentence[1:]}."]
    return [
        first,
        "The best of many trials is chosen for its score, which is therefore too high; the test split is unused.",
    ]
