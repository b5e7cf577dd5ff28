"""Parts of the report of a search: how the score rose, which settings mattered, the best trials."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from astropy.table import Table
from numpy.typing import NDArray

from mmagn.reporting.page.html import FigureView, Section, TableView, Tile
from mmagn.reporting.page.scores import number_text
from mmagn.reporting.page.svg import Mark, Plane, interval_bar, stepped

Numbers = Mapping[str, Any]
BEST_TRIALS = 20
"""Trials in the open table; the rest is in ``trials.csv``."""


def search_tiles(told: Numbers) -> list[Tile]:
    """Return the numbers at the top of the page of a search."""
    best, counts = told["best"], told["trials"]
    tiles = [
        Tile(name="best trial", value=number_text(best["score"]), note=f"{told['score']}, trial {best['number']}"),
        Tile(
            name="trials",
            value=f"{sum(counts.values()):,}",
            note=", ".join(f"{name} {count:,}" for name, count in counts.items()),
        ),
        Tile(name="prevalence", value=number_text(told["prevalence"]), note="what a blind model reaches"),
    ]
    nested = (told.get("nested") or {}).get("scores", {}).get("average_precision")
    if nested:
        value = number_text(nested["value"])
        note = number_text(nested["value"], nested["low"], nested["high"]).partition(" ")[2]
        tiles.insert(1, Tile(name="nested score, unbiased", value=value, note=note))
    return tiles


def search_sections(told: Numbers, trials: Table | None, best_yaml: str) -> list[Section]:
    """Return the sections of a search.

    Parameters
    ----------
    told
        ``search.json``.
    trials
        ``trials.csv``: ``number``, ``state``, ``score``, the settings, ``folds``, ``duration_s``.
    best_yaml
        ``best.yaml``.
    """
    shares = told.get("importance", {})
    best = [[name, _cell(value)] for name, value in told["best"]["values"].items()]
    settings = TableView(caption="Settings of the best trial", head=["setting", "value"], rows=best)
    important = TableView(
        caption="Fraction of the variance of the score that a setting explains (fANOVA)",
        head=["setting", "fraction", "0 to 1"],
        rows=[[name, f"{share:.3f}", interval_bar(share, 0.0, share)] for name, share in shares.items()],
    )
    text = [
        "The best of many trials is chosen for its score, which is therefore too high; the nested score, where there "
        "is one, is not. The test split took no part."
    ]
    figures = [] if trials is None or not len(trials) else [_history(trials, told["prevalence"])]
    found = [
        Section(
            name="trials",
            title="Trials",
            text=text,
            figures=figures,
            tables=[settings, *([important] if shares else [])],
            folded=[] if trials is None else [_trials_view(trials)],
        ),
        *_nested_sections(told.get("nested")),
    ]
    if best_yaml:
        found.append(
            Section(
                name="best",
                title="Best settings",
                text=["best.yaml in the run folder is a config for scripts/train.py."],
                code=[("best.yaml", best_yaml)],
            )
        )
    return found


def _nested_sections(nested: Numbers | None) -> list[Section]:
    if not nested:
        return []
    folds = [
        [
            str(each["fold"]),
            f"{each['objects']:,} ({each['positives']:,})",
            number_text(each["average_precision"]),
            number_text(each["inner_score"]),
            ", ".join(f"{name} {_cell(value)}" for name, value in each["values"].items()),
        ]
        for each in nested.get("folds", [])
    ]
    scores = [
        [name.replace("_", " "), number_text(each["value"], each["low"], each["high"])]
        for name, each in nested.get("scores", {}).items()
    ]
    head = ["outer fold", "objects (AGN)", "average precision", "inner score", "chosen settings"]
    return [
        Section(
            name="nested",
            title="Nested search",
            tables=[
                TableView(
                    caption="Scores on objects that no search saw", head=["score", "value [interval]"], rows=scores
                ),
                TableView(caption="What each outer fold chose", head=head, rows=folds),
            ],
        )
    ]


def _history(trials: Table, prevalence: float) -> FigureView:
    number = np.asarray(trials["number"], dtype=float)
    score = _scores(trials)
    state = np.asarray(trials["state"], dtype=np.str_)
    order = np.argsort(number)
    number, score, state = number[order], score[order], state[order]
    complete = (state == "complete") & np.isfinite(score)
    known = score[np.isfinite(score)]
    low, high = (float(known.min()), float(known.max())) if len(known) else (0.0, 1.0)
    low = min(low, prevalence)
    margin = 0.06 * (high - low) or 0.05
    plane = Plane(
        name="trials",
        x_range=(-0.5, float(number.max()) + 0.5),
        y_range=(low - margin, high + margin),
        x_label="trial",
        y_label="mean average precision",
        alt="score of every trial and the best so far against the number of the trial",
    )
    plane.line([0, number.max()], [prevalence, prevalence], "ink dashed")
    pruned = ~complete & np.isfinite(score)
    plane.points(number[pruned], score[pruned], "grey", radius=2.5)
    plane.points(number[complete], score[complete], "blue", radius=3)
    if complete.any():
        reached = np.maximum.accumulate(score[complete])
        plane.line(*stepped([*number[complete], number.max()], [*reached, reached[-1]]), "vermilion")
    keys = [("blue", "trial"), ("grey", "pruned"), ("vermilion", "best so far"), ("ink dashed", "prevalence")]
    return FigureView(svg=plane.svg(), caption="Score of every trial.", keys=keys)


def _trials_view(trials: Table) -> TableView:
    score = _scores(trials)
    order = np.argsort(-np.nan_to_num(score, nan=-1.0), kind="stable")[:BEST_TRIALS]
    rows = [
        [
            *(_cell(trials[name][row]) for name in trials.colnames if name != "folds"),
            interval_bar(float(score[row]), None, None, marks=[Mark(value=float(np.nanmax(score)), css="ink")]),
        ]
        for row in order.tolist()
        if np.isfinite(score[row])
    ]
    head = [*(name for name in trials.colnames if name != "folds"), "0 to 1"]
    return TableView(caption=f"Best {len(rows)} of {len(trials)} trials", head=head, rows=rows)


def _scores(trials: Table) -> NDArray[np.float64]:
    """(trial,) scores, NaN where a trial has none."""
    return np.array([np.nan if value is np.ma.masked else float(value) for value in trials["score"]])


def _cell(value: Any) -> str:
    if isinstance(value, float | np.floating):
        return f"{float(value):.4g}"
    return "-".join(str(part) for part in value) if isinstance(value, list | tuple) else str(value)
