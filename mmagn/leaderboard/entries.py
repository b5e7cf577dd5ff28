"""Entries of the leaderboard: predictions scored on the test rows of a task, with paired differences, and the board."""

import hashlib
import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from astropy.table import Table

from mmagn.evaluation.config import EvaluationConfig
from mmagn.evaluation.pooled import OutOfFold, difference, holm, pooled_scores
from mmagn.evaluation.scorecard import Score, Scores, number_text
from mmagn.evaluation.scores import best_threshold, scores
from mmagn.leaderboard.tasks import Task, rows_fingerprint, tasks
from mmagn.records import Floats
from mmagn.storage.files import whole_file, write_json
from mmagn.storage.markdown import markdown_table
from mmagn.storage.run_folder import RunFolder
from mmagn.storage.table_reading import read_table
from mmagn.storage.tables import write_table

JUDGING = EvaluationConfig()
"""Draws, confidence and seed of every interval of the board."""
ID_COLUMNS = ("id", "object_id", "sdss_object_id")
PROBABILITY_COLUMNS = ("calibrated_probability", "probability")
METRIC = "average_precision"
BOARD_METRICS = ("average_precision", "roc_auc", "mcc", "recall", "precision", "brier")
BOARD, PAGE = "board.json", "board.md"
MARKER = "<!-- entries -->"


@dataclass(frozen=True, kw_only=True)
class Entry:
    """What is said of the predictions of one model.

    Attributes
    ----------
    name
        Name of the model, unique within a task.
    inputs
        What it looked at.
    reference
        Paper, address or command.
    """

    name: str
    inputs: str = ""
    reference: str = ""

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[\w.-]+", self.name, re.ASCII):
            raise ValueError(f"--entry is {self.name!r}; allowed: letters, digits, '.', '_' and '-'")


def predicted(path: Path, rows: Table) -> Floats:
    """Return the probability (row,) that a file of predictions gives to each row of a task, NaN where it has none.

    Parameters
    ----------
    path
        Table with a column of ids (``id``, ``object_id`` or ``sdss_object_id``) and one of probabilities
        (``calibrated_probability``, else ``probability``); other objects in it are ignored.
    rows
        Rows of the task.

    Raises
    ------
    ValueError
        Where a column is missing, an object comes twice, a value is no probability, or a test row has none.
    """
    table = read_table(path)
    ids = next((table[name] for name in ID_COLUMNS if name in table.colnames), None)
    values = next((table[name] for name in PROBABILITY_COLUMNS if name in table.colnames), None)
    if ids is None or values is None:
        wanted = " or ".join(ID_COLUMNS if ids is None else PROBABILITY_COLUMNS[::-1])
        raise ValueError(f"{path} has no column {wanted}; it has {', '.join(table.colnames)}")
    names = np.char.strip(np.asarray(ids).astype(np.str_)).tolist()
    (twice, count), *_ = Counter(names).most_common(1) or [("", 0)]
    if count > 1:
        raise ValueError(f"{path} has the object {twice} more than once")
    probability_of = dict(zip(names, np.ma.filled(np.ma.asarray(values, dtype=np.float64), np.nan), strict=True))
    probability = np.array([probability_of.get(name, np.nan) for name in rows["object_id"].tolist()])
    test = np.asarray(rows["split"]) == "test"
    missing = np.flatnonzero(test & np.isnan(probability))
    if missing.size:
        first = rows["object_id"][missing[0]]
        raise ValueError(
            f"{path} has no probability for {missing.size} of {int(test.sum())} test rows, the first {first}"
        )
    wrong = np.flatnonzero((probability < 0) | (probability > 1))
    if wrong.size:
        name, value = rows["object_id"][wrong[0]], probability[wrong[0]]
        raise ValueError(f"{path} gives {value} to the object {name}; allowed: a probability from 0 to 1")
    return probability


def entry_scores(rows: Table, probability: Floats) -> tuple[Scores, str]:
    """Return the scores on the test rows, and where the threshold comes from.

    It maximises MCC on the validation rows where all of these have a probability, and is 0.5 otherwise.
    """
    target, split = np.asarray(rows["target"], dtype=np.float64), np.asarray(rows["split"])
    validation, test = split == "validation", split == "test"
    known = bool(validation.any()) and bool(np.isfinite(probability[validation]).all())
    threshold = best_threshold(target[validation], probability[validation]) if known else 0.5
    origin = "validation rows" if known else "0.5, since validation rows have no predictions"
    return scores(target[test], probability[test], threshold, config=JUDGING), origin


def entered(board: Path, task: Task, rows: Table, entry: Entry, predictions: Path) -> dict[str, Any]:
    """Score predictions, add them to the board in a folder, and return the entry as it stands there.

    The folder keeps the predictions of all entries, so that each is compared with the others on the same rows. An entry
    of the same name is replaced, and the differences of all entries of the task are made anew.

    Raises
    ------
    ValueError
        Where the predictions do not fit the rows, other entries of the task were scored on other rows, or another
        process is adding an entry.
    """
    probability = predicted(predictions, rows)
    scored, origin = entry_scores(rows, probability)
    content = {
        "task": task.name,
        **asdict(entry),
        "rows": rows_fingerprint(rows),
        "objects": scored.objects,
        "positives": scored.positives,
        "threshold": scored.threshold,
        "threshold_from": origin,
        "scores": {name: scored[name].as_dict() for name in BOARD_METRICS},
        "predictions": hashlib.sha256(predictions.read_bytes()).hexdigest(),
    }
    board.mkdir(parents=True, exist_ok=True)
    with RunFolder(board).locked():
        _add(board, content, rows, probability)
    return content


def _add(board: Path, content: dict[str, Any], rows: Table, probability: Floats) -> None:
    """Write an entry and its predictions (row,) to a board, with the differences of all entries of its task."""
    task, own = content["task"], content["name"]
    entries = [each for each in read_board(board) if (each["task"], each["name"]) != (task, own)]
    for each in entries:
        if each["task"] == task and each["rows"] != content["rows"]:
            raise ValueError(
                f"{board} has entries of the task {task} on other rows ({each['rows']}, these are {content['rows']}); "
                "allowed: predictions for the same pairs, or another board"
            )
    entries.append(content)
    of_task = {each["name"]: each for each in entries if each["task"] == task}
    others = {name: predicted(_kept(board, task, name), rows) for name in of_task if name != own}
    for name, differences in _differences(rows, {**others, own: probability}).items():
        of_task[name]["differences"] = differences
    test = np.asarray(rows["split"]) == "test"
    kept = Table({"id": rows["object_id"][test], "probability": probability[test]})
    write_table(_kept(board, task, own), kept)
    write_json(board / BOARD, {"version": 1, "entries": entries})
    with whole_file(board / PAGE) as part:
        part.write_text(board_markdown(entries), encoding="utf-8")


def read_board(board: Path) -> list[dict[str, Any]]:
    """Return the entries of the board in a folder; none where there is no board yet."""
    path = board / BOARD
    if not path.is_file():
        return []
    try:
        entries: list[dict[str, Any]] = json.loads(path.read_text(encoding="utf-8"))["entries"]
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path} is no board: {error}") from error
    return entries


def board_markdown(entries: Sequence[dict[str, Any]]) -> str:
    """Return the board as Markdown, a table per task, the best average precision first."""
    parts = ["---\norphan: true\n---", "# Entries", MARKER]
    for name, task in tasks().items():
        members = sorted(
            (each for each in entries if each["task"] == name), key=lambda each: -(each["scores"][METRIC]["value"] or 0)
        )
        if not members:
            continue
        first = members[0]
        parts.append(
            f"## `{name}`\n\n{task.title}. Allowed: {task.inputs}. {first['objects']:,} test rows, "
            f"{first['positives']:,} positive; rows `{first['rows']}`."
        )
        head = ["entry", *(metric.replace("_", " ") for metric in BOARD_METRICS), "inputs", "reference"]
        cells = [
            (
                each["name"],
                *(Score.from_dict(each["scores"][metric]) for metric in BOARD_METRICS),
                *(each["inputs"], each["reference"]),
            )
            for each in members
        ]
        parts.append(markdown_table(head, cells).rstrip())
    return "\n\n".join(parts) + "\n"


def entry_text(content: dict[str, Any]) -> str:
    """Return an entry for standard output."""
    lines = [
        f"{content['name']} on {content['task']}: {content['objects']} test rows, {content['positives']} positive "
        f"(rows {content['rows']}); threshold from {content['threshold_from']}"
    ]
    lines += [f"{name:<20}{Score.from_dict(content['scores'][name])}" for name in BOARD_METRICS]
    for each in content["differences"]:
        change = number_text(each["value"], each["low"], each["high"], sign=True)
        lines.append(f"minus {each['name']}: {METRIC.replace('_', ' ')} {change}, p = {each['p_corrected']}")
    return "\n".join(lines)


def _differences(rows: Table, probabilities: Mapping[str, Floats]) -> dict[str, list[dict[str, Any]]]:
    """By entry of a task: paired differences to all others; p values are corrected for their number (Holm).

    ``probabilities`` are (row,) by entry.
    """
    test = np.asarray(rows["split"]) == "test"
    target = np.asarray(rows["target"], dtype=np.float64)[test]
    pooled = {
        name: pooled_scores(OutOfFold(target=target, probability=each[None], called=(each >= 0.5)[None]), JUDGING)
        for name, each in ((name, values[test]) for name, values in probabilities.items())
    }
    result = {}
    for name, one in pooled.items():
        changes = {other: difference(one, pooled[other], METRIC, JUDGING) for other in pooled if other != name}
        corrected = holm([each.p_value for each in changes.values()])
        result[name] = [
            {"name": other, "p_corrected": p_corrected, **asdict(each)}
            for (other, each), p_corrected in zip(changes.items(), corrected, strict=True)
        ]
    return result


def _kept(board: Path, task: str, name: str) -> Path:
    """File of the predictions of an entry: names of tasks have no dot, so that no two entries share one."""
    return board / f"{task}.{name}.parquet"
