"""Parts of the report of an ablation: answers to its questions, the leakage ladder, parts of the sample."""

from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup

from mmagn.evaluation.variants import VARIANTS
from mmagn.reporting.page.html import Section, TableView, Tile
from mmagn.reporting.page.scores import CEILING_TEXT, number_range, number_text, score_marks, score_name
from mmagn.reporting.page.svg import Mark, interval_bar

Numbers = Mapping[str, Any]

LEVEL_CSS = {"L0": "blue", "L2": "vermilion", "L3": "green", "nuisance": "orange", "baseline": "grey"}
ABLATION_METRICS = ("average_precision", "mcc", "roc_auc", "recall_at_precision_90", "brier", "calibration_error")


def ladder_tiles(told: Numbers) -> list[Tile]:
    """Return the numbers at the top of the page of an ablation: the best network, the prevalence, the ceiling."""
    networks = [row for row in told["models"] if row["level"] not in ("baseline", "nuisance")] or told["models"]
    best = max(networks, key=lambda row: row["average_precision"] or 0.0)
    ceiling = told.get("noise_ceiling", {}).get("average_precision", {})
    significant = sum(each["significant"] for each in told["questions"])
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
            value=f"{significant} of {len(told['questions'])}",
            note="differences significant after correction",
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
                open_dot=not each["significant"],
            ),
            "–" if each["p_corrected"] is None else f"{each['p_corrected']:.2g}",
            "significant" if each["significant"] else "not significant",
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
                caption=f"Differences of {score_name(metric)}; filled: significant, open: not significant",
                head=head,
                rows=rows,
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
        marks=score_marks(ceiling, prevalence),
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
