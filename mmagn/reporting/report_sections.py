"""Parts of the report that are told by numbers already written down: the sample, the scores, the ladder."""

from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup

from mmagn.evaluation.variants import VARIANTS
from mmagn.reporting.report_page import FigureView, Section, TableView, Tile
from mmagn.reporting.report_svg import Mark, interval_bar, share_bar

Numbers = Mapping[str, Any]

CLASS_CSS = {
    "star-forming": "blue",
    "composite": "orange",
    "seyfert": "vermilion",
    "liner": "green",
    "unclassified": "grey",
}
LEVEL_CSS = {"L0": "blue", "L2": "vermilion", "L3": "green", "nuisance": "orange", "baseline": "grey"}
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
ABLATION_METRICS = ("average_precision", "mcc", "roc_auc", "recall_at_precision_90", "brier", "calibration_error")
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
            bar = interval_bar(score["value"], score["low"], score["high"], marks=_marks(ceiling, nothing))
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


def _marks(ceiling: Numbers, nothing: float | None) -> list[Mark]:
    marks = []
    if ceiling.get("value") is not None:
        marks.append(Mark(value=ceiling["value"], low=ceiling.get("low"), high=ceiling.get("high"), css="green"))
    if nothing is not None:
        marks.append(Mark(value=nothing, css="ink"))
    return marks


def sample_section(told: Numbers) -> Section:
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
            )
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


def ladder_tiles(told: Numbers) -> list[Tile]:
    """Return the numbers at the top of the page of an ablation: the best network, the prevalence, the ceiling."""
    networks = [row for row in told["models"] if row["level"] not in ("baseline", "nuisance")] or told["models"]
    best = max(networks, key=lambda row: row["average_precision"] or 0.0)
    ceiling = told.get("noise_ceiling", {}).get("average_precision", {})
    shown = sum(each["shown"] for each in told["questions"])
    interval = number_range(best["average_precision_low"], best["average_precision_high"])
    tiles = [
        Tile(
            name=f"average precision of {best['variant']}", value=number_text(best["average_precision"]), note=interval
        ),
        Tile(
            name="objects",
            value=f"{best['objects']:,}",
            note=f"{best['positives']:,} AGN, prevalence {best['prevalence']:.3f}",
        ),
        Tile(
            name="questions answered",
            value=f"{shown} of {len(told['questions'])}",
            note="differences shown after correction",
        ),
    ]
    if ceiling.get("value") is not None:
        interval = number_range(ceiling.get("low"), ceiling.get("high"))
        tiles.insert(
            1, Tile(name="noise ceiling", value=number_text(ceiling["value"]), note=f"average precision {interval}")
        )
    return tiles


def ladder_sections(told: Numbers) -> list[Section]:
    """Return the sections of an ablation: answers, models, parts of the sample."""
    metric = told["questions"][0]["metric"] if told["questions"] else "average_precision"
    ceiling = told.get("noise_ceiling", {})
    found = [_answers_section(told["questions"], metric)] if told["questions"] else []
    return [*found, _models_section(told["models"], metric, ceiling), *_strata_sections(told, metric)]


def _answers_section(questions: Sequence[Numbers], metric: str) -> Section:
    known = [each[name] for each in questions for name in ("low", "high", "value") if each[name] is not None]
    reach = max([abs(number) for number in known] or [0.1]) * 1.05
    rows: list[list[str | Markup]] = [
        [
            each["question"],
            number_text(each["value"], each["low"], each["high"], sign=True),
            interval_bar(
                each["value"],
                each["low"],
                each["high"],
                ends=(-reach, reach),
                marks=[Mark(value=0, css="ink")],
                open_dot=not each["shown"],
            ),
            "–" if each["p_corrected"] is None else f"{each['p_corrected']:.2g}",
            "shown" if each["shown"] else "not shown",
        ]
        for each in questions
    ]
    head = ["question", "difference [interval]", f"−{reach:.2f} to +{reach:.2f}", "p, corrected", "verdict"]
    return Section(
        name="answers",
        title="Answers",
        sentences=[_capital(each["sentence"]) for each in questions],
        tables=[
            TableView(
                caption=f"Differences of {score_name(metric)}; filled: shown, open: not shown", head=head, rows=rows
            )
        ],
    )


def _capital(sentence: str) -> str:
    return sentence[:1].upper() + sentence[1:]


def _models_section(models: Sequence[Numbers], metric: str, ceilings: Numbers) -> Section:
    ceiling = ceilings.get(metric, {})
    rows = [_model_row(row, metric, ceiling) for row in models]
    head = ["model", "level", "0 to 1", *(score_name(name) for name in ABLATION_METRICS)]
    first = models[0]
    return Section(
        name="ladder",
        title="Leakage ladder",
        text=[
            f"Every model on the same folds: {first['objects']:,} objects, {first['positives']:,} AGN (prevalence "
            f"{first['prevalence']:.3f}, the upright mark). L0 sees all lines and L2 none of the diagnostic ones; L3 "
            "sees the image only; nuisance models see what should not matter.",
            *([CEILING_TEXT] if ceiling.get("value") is not None else []),
        ],
        tables=[
            TableView(
                caption=f"Models; bar: {score_name(metric)}, upright mark: prevalence, green: noise ceiling",
                head=head,
                rows=rows + ([_ceiling_row(ceilings)] if ceiling.get("value") is not None else []),
            )
        ],
        folded=[
            TableView(
                caption="What each model sees",
                head=["model", "level", "sees"],
                rows=[
                    [row["variant"], row["level"], VARIANTS[row["variant"]].title]
                    for row in models
                    if row["variant"] in VARIANTS
                ],
            )
        ],
    )


def _model_row(row: Numbers, metric: str, ceiling: Numbers) -> list[str | Markup]:
    prevalence = row["prevalence"] if metric == "average_precision" else None
    bar = interval_bar(
        row[metric],
        row[f"{metric}_low"],
        row[f"{metric}_high"],
        marks=_marks(ceiling, prevalence),
        css=LEVEL_CSS.get(row["level"], "grey"),
    )
    return [row["variant"], row["level"], bar, *_score_cells(row)]


def _ceiling_row(ceilings: Numbers) -> list[str | Markup]:
    cells = [ceilings.get(name, {}) for name in ABLATION_METRICS]
    return [
        "noise ceiling",
        "",
        "",
        *(number_text(each.get("value"), each.get("low"), each.get("high")) for each in cells),
    ]


def _score_cells(row: Numbers) -> list[str]:
    return [number_text(row.get(name), row.get(f"{name}_low"), row.get(f"{name}_high")) for name in ABLATION_METRICS]


def _strata_sections(told: Numbers, metric: str) -> list[Section]:
    rows, ceilings = told["strata"], told.get("strata_noise_ceiling", [])
    if not rows:
        return []
    of_part = {(each["stratum"], each["part"]): each for each in ceilings}
    tables = []
    for stratum in dict.fromkeys(row["stratum"] for row in rows):
        cells: list[list[str | Markup]] = []
        for row in rows:
            if row["stratum"] != stratum:
                continue
            ceiling = of_part.get((stratum, row["part"]), {}).get(metric, {})
            count = f"{row['objects']:,} ({row['positives']:,})"
            _, level, bar, *scores = _model_row(row, metric, ceiling)
            cells.append([row["variant"], row["part"], count, level, bar, *scores])
        head = ["model", stratum, "objects (AGN)", "level", "0 to 1", *(score_name(name) for name in ABLATION_METRICS)]
        tables.append(TableView(caption=f"By {stratum}", head=head, rows=cells))
    text = ["The same scores on parts of the sample; a part with one class only has none. Green: its noise ceiling."]
    return [Section(name="strata", title="Parts of the sample", text=text, folded=tables)]
