"""Parts of the report that are told by numbers already written down: the sample, the scores, the ladder."""

from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup

from mmagn.reporting.page.html import FigureView, Section, TableView, Tile
from mmagn.reporting.page.svg import Mark, interval_bar, share_bar

Numbers = Mapping[str, Any]

CLASS_CSS = {
    "star-forming": "blue",
    "composite": "orange",
    "seyfert": "vermilion",
    "liner": "green",
    "unclassified": "grey",
}
SCORE_NAMES = {
    "average_precision": "average precision",
    "mcc": "MCC",
    "roc_auc": "ROC AUC",
    "f1": "F1",
    "recall_at_precision_90": "recall at 90 % precision",
    "brier": "Brier score (less is better)",
    "brier_reliability": "Brier: reliability (less is better)",
    "brier_resolution": "Brier: resolution",
    "brier_uncertainty": "Brier: uncertainty",
    "brier_within_bins": "Brier: within bins",
    "log_loss": "log loss (less is better)",
    "calibration_error": "calibration error (less is better)",
}
DRAWN_METRICS = (
    "average_precision",
    "mcc",
    "roc_auc",
    "precision",
    "recall",
    "f1",
    "balanced_accuracy",
    "accuracy",
    "recall_at_precision_90",
)
"""Scores from 0 to 1 of which more is better: those that are drawn as bars."""


def score_name(metric: str) -> str:
    """Return the name of a score in words."""
    return SCORE_NAMES.get(metric, metric.replace("_", " "))


def number_text(value: float | None, low: float | None = None, high: float | None = None, *, sign: bool = False) -> str:
    """Return a number with its interval, such as ``0.731 [0.602, 0.838]``; a dash where it is undefined."""
    if value is None:
        return "–"
    form = "+.3f" if sign else ".3f"
    return f"{value:{form}}" + ("" if low is None or high is None else f" [{low:{form}}, {high:{form}}]")


def score_tiles(told: Numbers) -> list[Tile]:
    """Return the numbers at the top of the page of a training."""
    ceilings = told.get("noise_ceiling", {})
    tiles = []
    for name in ("average_precision", "mcc", "calibration_error"):
        score = told["scores"][name]
        notes = [] if score["low"] is None else [f"{told['confidence']:.0%}: {score['low']:.3f} to {score['high']:.3f}"]
        if name in DRAWN_METRICS and ceilings.get(name, {}).get("value") is not None:
            notes.append(f"noise ceiling {ceilings[name]['value']:.3f}")
        tiles.append(
            Tile(name=score_name(name).partition(" (")[0], value=number_text(score["value"]), note=", ".join(notes))
        )
    prevalence = told["prevalence"]
    return [
        *tiles,
        Tile(
            name=f"objects of the {told['split']} split",
            value=f"{told['objects']:,}",
            note=f"{told['positives']:,} AGN" + ("" if prevalence is None else f", prevalence {prevalence:.3f}"),
        ),
    ]


def scores_section(told: Numbers, figures: Sequence[FigureView]) -> Section:
    """Return all scores with their intervals beside the all-negative baseline and the noise ceiling."""
    ceilings = told.get("noise_ceiling", {})
    rows: list[list[str | Markup]] = []
    for name, score in told["scores"].items():
        ceiling, nothing = ceilings.get(name, {}), told["all_negative"].get(name)
        exact = number_range(score.get("exact_low"), score.get("exact_high"))
        bar = Markup("")
        if name in DRAWN_METRICS:
            bar = interval_bar(score["value"], score["low"], score["high"], marks=score_marks(ceiling, nothing))
        value = (
            number_text(score["value"], score["low"], score["high"]) if score["value"] is not None else score["reason"]
        )
        rows.append(
            [
                score_name(name),
                value,
                bar,
                number_text(nothing),
                number_text(ceiling.get("value"), ceiling.get("low"), ceiling.get("high")),
                exact,
                *_clean_cells(told, name),
            ]
        )
    head = [
        "score",
        f"value [{told['confidence']:.0%} interval]",
        "0 to 1",
        "all negative",
        "noise ceiling",
        "exact binomial",
        *([f"clean labels ({told['clean']['objects']:,})"] if "clean" in told else []),
    ]
    (true_negative, false_positive), (false_negative, true_positive) = told["confusion_matrix"]
    confusion = TableView(
        caption=f"Confusion matrix at the threshold {told['threshold']:.3f}",
        head=["label", "called not AGN", "called AGN"],
        rows=[
            ["not AGN", f"{true_negative:,}", f"{false_positive:,}"],
            ["AGN", f"{false_negative:,}", f"{true_positive:,}"],
        ],
    )
    prevalence = "undefined" if told["prevalence"] is None else f"{told['prevalence']:.3f}"
    return Section(
        name="scores",
        title="Scores",
        text=[
            f"{told['objects']:,} objects of the {told['split']} split, {told['positives']:,} of them AGN: a "
            f"prevalence of {prevalence}, which a blind model reaches as average precision. Intervals come from "
            f"{told['bootstrap_draws']:,} stratified bootstrap draws of the objects.",
            CEILING_TEXT,
            *(
                [f"Clean are labels whose own class has a probability above {told['clean']['probability']:g}."]
                if "clean" in told
                else []
            ),
        ],
        figures=figures,
        tables=[
            TableView(
                caption="Scores; bar: value with interval, upright mark: all negative, green: noise ceiling",
                head=head,
                rows=rows,
            ),
            confusion,
        ],
    )


def _clean_cells(told: Numbers, name: str) -> list[str]:
    """Score on the objects whose label is sure, where it was computed."""
    if "clean" not in told:
        return []
    score = told["clean"]["scores"][name]
    return [score["reason"] if score["value"] is None else number_text(score["value"], score["low"], score["high"])]


CEILING_TEXT = (
    "The noise ceiling is the score of an oracle that knows the soft label P(AGN) of every object but not the noise of "
    "its label. A model that sees the lines of the very spectrum that the label was measured in can score above it."
)


def number_range(low: float | None, high: float | None) -> str:
    """Return an interval as text, "" where it is undefined."""
    return "" if low is None or high is None else f"[{low:.3f}, {high:.3f}]"


def score_marks(ceiling: Numbers, nothing: float | None) -> list[Mark]:
    """Return what the bar of a score is compared with: its noise ceiling, and the all-negative baseline."""
    marks = []
    if ceiling.get("value") is not None:
        marks.append(Mark(value=ceiling["value"], low=ceiling.get("low"), high=ceiling.get("high"), css="green"))
    if nothing is not None:
        marks.append(Mark(value=nothing, css="ink"))
    return marks


def sample_section(told: Numbers, figures: Sequence[FigureView] = ()) -> Section:
    """Return what the model was trained on: pairs, classes, reasons of exclusion, losses of the match, splits."""
    matching = told.get("matching", {})
    classes, reasons, splits = told["classes"], told["unclassified"], told["splits"]
    labelled = sum(splits.values())
    balance = told.get("split_classes", {})
    stored = matching.get("pairs_stored", sum(classes.values()))
    steps = [
        ("SDSS spectra", matching.get("left_objects")),
        ("HSC images", matching.get("right_objects")),
        (f"pairs within {matching.get('radius_arcsec', 0):g} arcsec", matching.get("pairs")),
        ("expected by chance", matching.get("expected_by_chance")),
        ("pairs stored", stored),
        ("pairs with a label", labelled),
    ]
    funnel = [
        [name, f"{count:,.4g}" if isinstance(count, float) else f"{count:,}"]
        for name, count in steps
        if count is not None
    ]
    drops = {**matching.get("drops", {}), **matching.get("pair_drops", {})}
    bar = share_bar([(name, count, CLASS_CSS.get(name, "grey")) for name, count in classes.items()], _counted(classes))
    names = list(dict.fromkeys(name for counts in balance.values() for name in counts))
    split_rows = [
        [name, f"{count:,}", *(f"{balance.get(name, {}).get(each, 0):,}" for each in names)]
        for name, count in splits.items()
    ]
    losses = [[f"dropped: {name}", f"{count:,}"] for name, count in drops.items()]
    return Section(
        name="sample",
        title="Sample",
        text=[
            f"Of {stored:,} pairs of an image and a spectrum {labelled:,} have a label; "
            f"{classes.get('unclassified', 0):,} are unclassified, each for a reason that "
            "is counted. Positive are Seyfert and composite, negative star-forming and LINER."
        ],
        figures=[
            FigureView(
                svg=bar,
                caption="Classes of all pairs",
                keys=[(CLASS_CSS.get(name, "grey"), f"{name} {count:,}") for name, count in classes.items()],
            ),
            *figures,
        ],
        tables=[
            TableView(caption="From surveys to labelled pairs", head=["what", "count"], rows=funnel),
            TableView(caption="Splits, apart on the sky", head=["split", "objects", *names], rows=split_rows),
        ],
        folded=[
            TableView(
                caption=f"Why {sum(reasons.values()):,} pairs have no label",
                head=["reason", "pairs"],
                rows=[[name, f"{count:,}"] for name, count in reasons.items()],
            ),
            TableView(
                caption="What was dropped on the way" if losses else "Nothing was dropped on the way",
                head=["what", "count"],
                rows=losses,
            ),
        ],
    )


def _counted(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {count}" for name, count in counts.items())
