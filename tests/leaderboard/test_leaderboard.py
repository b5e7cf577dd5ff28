"""Frozen tasks: the same rows for everyone, scores of scikit-learn on the test rows, paired differences, one board."""

import hashlib
import json
from pathlib import Path

import healpy
import numpy as np
import pytest
from astropy.table import Table
from sklearn.metrics import average_precision_score
from untrained_runs import small_config

from mmagn.cli.main import main
from mmagn.config.run_config import load_config, save_config
from mmagn.leaderboard.entries import BOARD, Entry, entered, predicted, read_board
from mmagn.leaderboard.tasks import read_rows, rows_fingerprint, task_of, task_rows, tasks
from mmagn.matching.splits import published_split
from mmagn.records import SPLITS
from mmagn.storage.run_folder import RunFolder


def rows_of(count: int = 300) -> Table:
    rng = np.random.default_rng(1)
    ra_deg, dec_deg = rng.uniform(0, 360, count), rng.uniform(-60, 60, count)
    return Table(
        {
            "object_id": np.arange(count).astype(str),
            "ra_deg": ra_deg,
            "dec_deg": dec_deg,
            "cell": np.zeros(count, dtype=np.int64),
            "split": published_split(ra_deg, dec_deg),
            "target": (rng.random(count) < 0.3).astype(np.int64),
            "task": np.full(count, "bpt"),
        }
    )


def predictions_of(rows: Table, path: Path, noise: float, seed: int = 2, only: str = "") -> Path:
    rng = np.random.default_rng(seed)
    probability = np.clip(np.asarray(rows["target"]) * (1 - noise) + noise * rng.random(len(rows)), 0, 1)
    chosen = np.asarray(rows["split"]) == only if only else np.ones(len(rows), dtype=bool)
    Table({"id": rows["object_id"][chosen], "probability": probability[chosen]}).write(path, overwrite=True)
    return path


def test_the_split_is_the_documented_hash_of_the_cell_and_nothing_else() -> None:
    rng = np.random.default_rng(3)
    ra_deg, dec_deg = rng.uniform(0, 360, 5000), np.degrees(np.arcsin(rng.uniform(-1, 1, 5000)))
    split = published_split(ra_deg, dec_deg)
    for ra, dec, name in zip(ra_deg[:50], dec_deg[:50], split[:50], strict=True):
        cell = healpy.ang2pix(128, ra, dec, nest=True, lonlat=True)
        tenth = int(hashlib.sha256(f"mmagn-leaderboard-1:{cell}".encode()).hexdigest()[:8], 16) % 10
        assert name == ["test", "test", "validation", "validation", *["train"] * 6][tenth]
    assert [(split == name).mean() for name in SPLITS] == pytest.approx([0.6, 0.2, 0.2], abs=0.03)
    part = rng.permutation(5000)[:100]
    np.testing.assert_array_equal(published_split(ra_deg[part], dec_deg[part]), split[part])


def test_the_frozen_split_stays_frozen() -> None:
    positions = [(150.1, 2.2), (34.5, -5.0), (352.0, 0.0), (242.5, 55.0), (36.5, -4.5), (10.0, 41.0)]
    split = published_split(*np.array(positions).T)
    assert split.tolist() == ["train", "train", "train", "train", "train", "validation"]


def test_the_rows_of_a_task_depend_on_the_pairs_alone(tmp_path: Path) -> None:
    config = small_config(tmp_path / "cache")
    rows = task_rows(config, task_of("bpt-image"))
    np.testing.assert_array_equal(rows["split"], published_split(rows["ra_deg"], rows["dec_deg"]))
    assert rows.meta["ROWS"] == rows_fingerprint(rows)
    save_config(config, tmp_path / "settings.yaml")
    out = tmp_path / "rows.csv"
    assert main(["leaderboard", "--task", "bpt", "--rows", str(out), "--config", str(tmp_path / "settings.yaml")]) == 0
    assert rows_fingerprint(read_rows(out, task_of("bpt"))) == rows_fingerprint(rows)


def test_an_entry_is_scored_on_the_test_rows_with_a_threshold_of_the_validation_rows(tmp_path: Path) -> None:
    rows, board = rows_of(), tmp_path / "board"
    path = predictions_of(rows, tmp_path / "mine.csv", 0.7)
    content = entered(board, task_of("bpt"), rows, Entry(name="mine"), path)
    test = np.asarray(rows["split"]) == "test"
    probability = np.asarray(Table.read(path)["probability"])
    score = content["scores"]["average_precision"]
    assert score["value"] == pytest.approx(average_precision_score(rows["target"][test], probability[test]))
    assert score["low"] < score["value"] < score["high"]
    assert content["objects"] == test.sum()
    assert content["threshold_from"] == "validation rows"
    alone = predictions_of(rows, tmp_path / "test.csv", 0.7, only="test")
    only = entered(board, task_of("bpt"), rows, Entry(name="test-only"), alone)
    assert only["threshold"] == 0.5
    assert only["scores"]["average_precision"] == score


def test_entries_are_compared_in_pairs_and_kept_once(tmp_path: Path) -> None:
    rows, board = rows_of(600), tmp_path / "board"
    task = task_of("bpt")
    entered(board, task, rows, Entry(name="good"), predictions_of(rows, tmp_path / "good.csv", 0.6))
    entered(board, task, rows, Entry(name="noise"), predictions_of(rows, tmp_path / "noise.csv", 1.0, seed=9))
    content = entered(board, task, rows, Entry(name="twin"), predictions_of(rows, tmp_path / "twin.csv", 0.6))
    by_name = {each["name"]: each for each in content["differences"]}
    assert by_name["good"]["value"] == by_name["good"]["low"] == by_name["good"]["high"] == 0
    assert by_name["noise"]["low"] > 0.3
    assert by_name["noise"]["p_corrected"] < 0.05 < by_name["good"]["p_corrected"]
    entered(board, task, rows, Entry(name="good"), predictions_of(rows, tmp_path / "good.csv", 0.6))
    assert sorted(each["name"] for each in read_board(board)) == ["good", "noise", "twin"]
    page = (board / "board.md").read_text(encoding="utf-8")
    assert page.index("| good |") < page.index("| noise |")
    assert json.loads((board / "board.json").read_text(encoding="utf-8"))["version"] == 1


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda table: table[:-200], r"no probability for \d+ of \d+ test rows, the first"),
        (lambda table: Table({"id": table["id"], "p": table["probability"]}), "no column probability"),
        (lambda table: Table({"name": table["id"], "probability": table["probability"]}), "no column id or"),
        (lambda table: table[[0, *range(len(table))]], "the object 0 more than once"),
        (lambda table: Table({"id": table["id"], "probability": table["probability"] + 1}), "allowed: a probability"),
        (
            lambda table: Table({"id": table["id"], "probability": table["probability"] + np.inf}),
            r"mine\.csv gives inf to",
        ),
    ],
)
def test_predictions_that_do_not_fit_are_refused_and_leave_no_board(tmp_path: Path, change, sentence: str) -> None:
    rows, path = rows_of(), tmp_path / "mine.csv"
    table = Table.read(predictions_of(rows, path, 0.5))
    change(table).write(path, overwrite=True)
    with pytest.raises(ValueError, match=sentence):
        entered(tmp_path / "board", task_of("bpt"), rows, Entry(name="mine"), path)
    assert not (tmp_path / "board").exists()


def test_no_two_entries_share_a_file_and_ids_stay_text(tmp_path: Path) -> None:
    rows, board = rows_of(600), tmp_path / "board"
    rows["object_id"] = np.char.zfill(rows["object_id"], 5)
    for task, name, seed in (("bpt", "image-net", 2), ("bpt-image", "net", 3), ("bpt", "image.net", 4)):
        path = predictions_of(rows, tmp_path / f"{seed}.parquet", 0.7, seed=seed)
        entered(board, task_of(task), rows, Entry(name=name), path)
    kept = [predicted(path, rows).tolist() for path in sorted(board.glob("*.parquet"))]
    assert len(kept) == 3
    assert len({str(each) for each in kept}) == 3


def test_every_entry_is_compared_with_all_that_stand_beside_it(tmp_path: Path) -> None:
    rows, board, task = rows_of(600), tmp_path / "board", task_of("bpt")
    for name, noise in (("good", 0.6), ("noise", 1.0), ("good", 1.0)):
        path = predictions_of(rows, tmp_path / f"{name}.csv", noise, seed=9 if name == "noise" else 2)
        entered(board, task, rows, Entry(name=name), path)
    one, other = read_board(board)
    assert [each["name"] for each in one["differences"]] == [other["name"]]
    assert one["differences"][0]["value"] == pytest.approx(-other["differences"][0]["value"])
    changes = [one["scores"]["average_precision"]["value"] - other["scores"]["average_precision"]["value"]]
    assert [one["differences"][0]["value"]] == pytest.approx(changes)


def test_of_two_entries_at_the_same_moment_the_second_is_refused_and_none_is_lost(tmp_path: Path) -> None:
    rows, board, task = rows_of(), tmp_path / "board", task_of("bpt")
    first, second = (predictions_of(rows, tmp_path / f"{name}.csv", 0.6) for name in ("first", "second"))
    entered(board, task, rows, Entry(name="first"), first)
    before = (board / BOARD).read_bytes()
    with RunFolder(board).locked(), pytest.raises(ValueError, match="is being written by another process; wait until"):
        entered(board, task, rows, Entry(name="second"), second)
    assert (board / BOARD).read_bytes() == before
    entered(board, task, rows, Entry(name="second"), second)
    assert {each["name"] for each in read_board(board)} == {"first", "second"}


def changed_rows(tmp_path: Path, **columns: object) -> Path:
    rows = rows_of()
    for name, value in columns.items():
        rows[name] = np.full(len(rows), value)
    rows.write(tmp_path / "rows.parquet")
    return tmp_path / "rows.parquet"


@pytest.mark.parametrize(
    ("columns", "sentence"),
    [
        ({"target": 2}, "has the target 2; allowed: 0 and 1"),
        ({"object_id": "7"}, "has the object 7 more than once"),
        ({"task": "wise"}, "has rows of the task wise, whose labels are not those of bpt-image"),
        ({"task": "mine"}, "has rows of the task mine"),
        ({"split": "some"}, "has the split some"),
    ],
)
def test_rows_that_are_not_those_of_the_task_are_refused(tmp_path: Path, columns: dict, sentence: str) -> None:
    with pytest.raises(ValueError, match=rf"rows\.parquet {sentence}"):
        read_rows(changed_rows(tmp_path, **columns), task_of("bpt-image"))


def test_the_table_of_a_task_may_have_other_columns_but_no_other_rule(monkeypatch: pytest.MonkeyPatch) -> None:
    configs = []
    monkeypatch.setattr("mmagn.leaderboard.tasks.labelled_sample", lambda config: configs.append(config) or 1 / 0)
    table = {"labels.catalog.table": "wise.csv", "labels.catalog.preset": "stern2012"}
    columns = {"labels.catalog.columns": ["RAJ2000", "DEJ2000"], "labels.catalog.missing": [-1.0]}
    with pytest.raises(ZeroDivisionError):
        task_rows(load_config(**table, **columns), task_of("wise"))
    catalog = configs[0].labels.catalog
    assert (catalog.preset, catalog.columns, catalog.missing) == ("stern2012", ("RAJ2000", "DEJ2000"), (-1.0,))
    assert catalog.quality == "none", "the task is older than the quality cuts, and a task never changes"
    with pytest.raises(ValueError, match=r"labels\.catalog\.positive is w1 > 0, but the task wise has its own labels"):
        task_rows(load_config(**table, **{"labels.catalog.positive": "w1 > 0"}), task_of("wise"))
    with pytest.raises(ValueError, match=r"labels\.catalog\.table is wise.csv, .* no setting of labels\.catalog"):
        task_rows(load_config(**table), task_of("bpt"))


@pytest.mark.parametrize("option", ["--entry", "--inputs", "--reference", "--board"])
def test_what_describes_predictions_is_refused_without_them(
    option: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["leaderboard", "--task", "bpt", "--rows", str(tmp_path / "rows.csv"), option, "mine"]) == 2
    assert f"{option} is given without --predictions" in capsys.readouterr().err


def test_a_setting_that_scores_of_predictions_do_not_use_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = ["--rows", str(tmp_path / "rows.csv"), "--predictions", str(tmp_path / "mine.csv")]
    assert main(["leaderboard", "--task", "bpt", *files, "--data.source", "store", "--data.root", str(tmp_path)]) == 2
    assert "data.source is given with --predictions" in capsys.readouterr().err


def test_the_published_board_stands_on_its_rows_and_predictions() -> None:
    board = Path(__file__).resolve().parents[2] / "docs" / "leaderboard"
    for entry in read_board(board):
        rows = read_rows(board / "rows-bpt.csv", task_of(entry["task"]))
        assert rows_fingerprint(rows) == entry["rows"]
        test = np.asarray(rows["split"]) == "test"
        probability = predicted(board / f"{entry['task']}.{entry['name']}.parquet", rows)[test]
        score = average_precision_score(np.asarray(rows["target"])[test], probability)
        assert entry["scores"]["average_precision"]["value"] == pytest.approx(score)
        others = {each["name"] for each in read_board(board) if each["task"] == entry["task"]} - {entry["name"]}
        assert {each["name"] for each in entry["differences"]} == others


def test_other_rows_are_another_board(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows, board = rows_of(), tmp_path / "board"
    path = predictions_of(rows, tmp_path / "mine.csv", 0.5)
    rows.write(tmp_path / "rows.parquet")
    words = ["--rows", str(tmp_path / "rows.parquet"), "--predictions", str(path), "--board", str(board)]
    assert main(["leaderboard", "--task", "bpt", "--entry", "mine", *words]) == 0
    rows["target"][:5] = 1 - rows["target"][:5]
    rows.write(tmp_path / "rows.parquet", overwrite=True)
    assert main(["leaderboard", "--task", "bpt", "--entry", "other", *words]) == 2
    assert "entries of the task bpt on other rows" in capsys.readouterr().err
    assert main(["leaderboard", "--task", "magic", "--entry", "other", *words]) == 2
    assert "allowed: bpt, bpt-blanked, bpt-image, wise" in capsys.readouterr().err
    assert main(["leaderboard", "--task", "bpt", *words]) == 2


def test_every_task_says_what_an_entry_may_look_at() -> None:
    assert all(task.inputs and task.title for task in tasks().values())
