"""The page of a search: the score of every trial, which settings mattered, the best trials and settings."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from astropy.table import Table

from mmagn.evaluation.scorecard import number_text
from mmagn.reporting.figures.search import importance_figure, parallel_figure, scores, trials_figure
from mmagn.reporting.page.files import read_table
from mmagn.reporting.page.html import Chart, Section, TableView, Tile
from mmagn.reporting.page.scores import number_range, numbers_text, score_name
from mmagn.reporting.page.verdict import search_verdict
from mmagn.storage.run_folder import RunFolder

Numbers = Mapping[str, Any]
BEST_TRIALS = 20
"""Trials in the open table; all are in ``trials.csv``."""


def search_page(run: RunFolder, recorded: Numbers) -> dict[str, Any]:
    """Return the content of the page of a search, from its ``search.json``, ``trials.csv`` and ``best.yaml``."""
    trials, best = read_table(run.trials), run.best_config
    sections = [_trials_section(recorded, trials), *_nested_sections(recorded.get("nested"))]
    if best.is_file():
        code = [(best.name, best.read_text(encoding="utf-8"))]
        text = ["best.yaml in the run folder is a config for train.py."]
        sections.append(Section(name="best", title="Best settings", text=text, code=code))
    return {
        "verdict": search_verdict(recorded, simulated=recorded["simulated"]),
        "tiles": _tiles(recorded),
        "sections": sections,
    }


def _tiles(recorded: Numbers) -> list[Tile]:
    best, counts = recorded["best"], recorded["trials"]
    tiles = [
        Tile(name="best trial", value=number_text(best["score"]), note=f"{recorded['score']}, trial {best['number']}")
    ]
    nested = (recorded.get("nested") or {}).get("scores", {})
    for metric, name in (("average_precision", "nested score, unbiased"), ("accuracy", "accuracy, nested")):
        if each := nested.get(metric):
            note = number_range(each["low"], each["high"])
            tiles.append(Tile(name=name, value=number_text(each["value"]), note=note))
    states = ", ".join(f"{count:,} {name}" for name, count in counts.items())
    return [
        *tiles,
        Tile(name="trials", value=f"{sum(counts.values()):,}", note=states),
        Tile(name="prevalence", value=number_text(recorded["prevalence"]), note="average precision of guessing"),
    ]


def _trials_section(recorded: Numbers, trials: Table | None) -> Section:
    shares, charts = recorded.get("importance", {}), []
    if trials is not None and len(trials):
        history = trials_figure(trials, prevalence=recorded["prevalence"])
        charts.append(Chart(name="history", figure=history, caption="Score of every trial; trials count from 1."))
    if shares:
        caption = "Fraction of the variance of the score that each setting explains."
        charts.append(Chart(name="importance", figure=importance_figure(shares), caption=caption))
    if trials is not None and len(trials):
        caption = "Settings of every trial, up to its score."
        charts.append(Chart(name="parallel", figure=parallel_figure(trials), caption=caption, wide=True))
    values = [[name, _cell(value)] for name, value in recorded["best"]["values"].items()]
    text = (
        "The best of many trials is chosen for its score, which is therefore too high; the nested score, where there "
        "is one, is not. The test split took no part."
    )
    return Section(
        name="trials",
        title="Trials",
        text=[text],
        charts=charts,
        tables=[TableView(caption="Settings of the best trial", head=["setting", "value"], rows=values)],
        folded=[] if trials is None else [_trials_view(trials)],
    )


def _nested_sections(nested: Numbers | None) -> list[Section]:
    if not nested:
        return []
    folds = [
        [
            str(number),
            f"{each['objects']:,}",
            f"{each['positives']:,}",
            number_text(each["average_precision"]),
            number_text(each["inner_score"]),
            ", ".join(f"{name} {_cell(value)}" for name, value in each["values"].items()),
        ]
        for number, each in enumerate(nested.get("folds", []), start=1)
    ]
    values = [[score_name(name), numbers_text(each)] for name, each in nested.get("scores", {}).items()]
    head = ["outer fold", "galaxies", "AGN", "average precision", "inner score", "chosen settings"]
    tables = [
        TableView(caption="Scores on galaxies that no search saw", head=["score", "value [interval]"], rows=values),
        TableView(caption="Settings chosen in each outer fold", head=head, rows=folds),
    ]
    return [Section(name="nested", title="Nested search", tables=tables)]


def _trials_view(trials: Table) -> TableView:
    score = scores(trials)
    order = np.argsort(-np.nan_to_num(score, nan=-1.0), kind="stable")[:BEST_TRIALS]
    names = [name for name in trials.colnames if name != "folds"]
    rows = [[_cell(trials[name][row]) for name in names] for row in order.tolist() if np.isfinite(score[row])]
    return TableView(caption=f"Best {len(rows)} of {len(trials)} trials", head=names, rows=rows)


def _cell(value: Any) -> str:
    if isinstance(value, float | np.floating):
        return f"{float(value):.4g}"
    return "-".join(str(part) for part in value) if isinstance(value, list | tuple) else str(value)
