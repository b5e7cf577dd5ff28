"""Labels of a catalogue from sky to score: trained on, scored on, as positive-unlabelled data, compared with BPT."""

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from astropy.table import Table
from sklearn.metrics import average_precision_score, cohen_kappa_score, recall_score

from mmagn.ablation.ablate import _catalog_rows, _compared, _write_tables
from mmagn.cli.main import main
from mmagn.config.run_config import RunConfig, load_config
from mmagn.evaluation.pooled import OutOfFold
from mmagn.labels.scheme import target
from mmagn.reporting.page.labels import labels_section
from mmagn.runs.label_scores import label_scores
from mmagn.runs.outside_labels import labelled_tables
from mmagn.runs.sample import Sample, labelled_sample
from mmagn.storage.run_folder import RunFolder
from mmagn.storage.tables import table_file

SMALL = {
    "data.simulate.pairs": 160,
    "data.simulate.agn_fraction": 0.4,
    "data.simulate.seed": 3,
    "training.epochs": 4,
    "training.device": "cpu",
    "spectroscopy.device": "cpu",
    "spectroscopy.broad_balmer": False,
    "evaluation.bootstrap_draws": 100,
}


@pytest.fixture(scope="module")
def survey(tmp_path_factory: pytest.TempPathFactory) -> dict:
    """A survey, and a WISE catalogue of it: red where the hidden label is positive, nothing for a fifth."""
    base = tmp_path_factory.mktemp("outside-labels")
    settings = SMALL | {"data.cache_dir": str(base / "cache")}
    sample = labelled_sample(load_config("handcrafted", **settings))
    table = sample.table
    rng = np.random.default_rng(4)
    bpt = target(table["bpt_class"])
    hidden = np.where(np.isnan(bpt) | (rng.random(len(bpt)) < 0.1), rng.random(len(bpt)) < 0.4, bpt == 1)
    listed = rng.random(len(bpt)) < 0.8
    wise = Table({"ra": table["ra_deg"], "dec": table["dec_deg"] + 0.3 / 3600, "W1mag": np.full(len(bpt), 14.0)})
    wise["W2mag"] = np.where(hidden, 13.0, 13.8)
    wise["W2mag"][:3] = -999.0
    listed[:3] = True
    wise[listed].write(base / "wise.fits")
    wise[listed & hidden].write(base / "red.csv", format="ascii.csv")
    truth = np.where(listed, hidden, np.nan)
    truth[:3] = np.nan
    return {
        "base": base,
        "settings": settings,
        "truth": truth,
        "bpt": bpt,
        "id": np.asarray(table["object_id"]),
        "i_magnitude": sample.store.index["i_magnitude"],
    }


def run_of(survey: dict, name: str, command: str, *options: str) -> tuple[int, Path]:
    """Exit code of a command, and the folder of its runs."""
    runs = survey["base"] / name
    words = [word for key, value in survey["settings"].items() for word in (f"--{key}", str(value))]
    more = ["--config", "handcrafted", "--runs_dir", str(runs), *words, *options]
    return main([command, *more]), runs


def catalogue(survey: dict, file: str = "wise.fits", **more: str) -> list[str]:
    settings = {"table": str(survey["base"] / file), "preset": "stern2012"} | more
    return [word for key, value in settings.items() for word in (f"--labels.catalog.{key}", value)]


@pytest.fixture(scope="module")
def trained(survey: dict) -> Path:
    code, runs = run_of(survey, "trained", "train", *catalogue(survey))
    assert code == 0
    return next(runs.iterdir())


def scores_of(run: Path) -> dict:
    return json.loads((run / "scores.json").read_text(encoding="utf-8"))


def test_the_loss_sees_the_label_of_the_catalogue_and_no_object_without_one(survey: dict, trained: Path) -> None:
    split = Table.read(trained / "split.parquet", format="parquet")
    known = np.isfinite(survey["truth"])
    assert split["object_id"].tolist() == survey["id"][known].tolist()
    np.testing.assert_array_equal(split["target"], survey["truth"][known])
    assert (np.asarray(split["bpt_class"]) == "unclassified").any()


def test_a_label_that_no_input_contains_is_rung_l4_and_has_no_noise_ceiling(trained: Path) -> None:
    scores = scores_of(trained)
    assert scores["level"] == "L4"
    assert scores["labels"]["made_of"] == "infrared"
    assert "noise_ceiling" not in scores
    assert "clean" not in scores


def test_one_label_against_another_is_that_of_scikit_learn(survey: dict, trained: Path) -> None:
    labels = scores_of(trained)["labels"]
    truth, bpt = survey["truth"], survey["bpt"]
    both = np.isfinite(truth) & np.isfinite(bpt)
    against = labels["against_bpt"]
    assert against["objects_with_both"] == both.sum()
    assert against["agreement"]["value"] == pytest.approx((truth == bpt)[both].mean())
    assert against["kappa"]["value"] == pytest.approx(cohen_kappa_score(bpt[both], truth[both]))
    for each in (against["agreement"], against["kappa"], against["recall"]):
        assert each["low"] < each["value"] < each["high"]
    assert against["counts"][0][2] == (np.isnan(truth) & (bpt == 1)).sum()
    assert sum(map(sum, against["counts"])) == len(truth)
    assert labels["counts"]["unknown"] == np.isnan(truth).sum() == sum(labels["reasons"].values())
    page = (trained / "report.html").read_text(encoding="utf-8")
    assert "Labels against labels" in page
    assert "Stern et al. 2012" in page
    assert "positive in the catalogue of labels" in page


def test_without_negatives_training_is_refused_with_the_ways_out(
    survey: dict, capsys: pytest.CaptureFixture[str]
) -> None:
    rule = {"positive": "w1 - w2 >= 0.8", "negative": "w1 - w2 < -5"}
    code, runs = run_of(survey, "refused", "train", *catalogue(survey, "red.csv", **rule))
    assert code == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert "0 negative" in error
    for way in ("labels.catalog.negative", "labels.catalog.moc", "labels.catalog.unknown background"):
        assert way in error
    assert not runs.exists()


def scored(survey: dict, **catalog: str) -> tuple[dict, np.ndarray, np.ndarray]:
    """Scores on all objects of probabilities that know a little, with the targets and the probabilities."""
    settings = {f"labels.catalog.{name}": value for name, value in ({"preset": "stern2012"} | catalog).items()}
    config = load_config("handcrafted", **survey["settings"], **settings)
    sample = labelled_sample(config)
    noise = np.random.default_rng(5).random(len(sample.target))
    probability = 0.3 * sample.target + 0.7 * noise
    every = np.ones(len(noise), dtype=bool)
    return label_scores(config, sample, every, probability, 0.5).content, sample.target, probability


def test_positive_unlabelled_data_say_so_and_are_scored_as_far_as_they_can_be(
    survey: dict, caplog: pytest.LogCaptureFixture
) -> None:
    scores, truth, probability = scored(survey, table=str(survey["base"] / "red.csv"), unknown="background")
    assert len(truth) == len(survey["truth"])
    assert scores["background"] == (truth == 0).sum() > 0
    assert scores["scores"]["recall"]["value"] == pytest.approx(recall_score(truth, probability >= 0.5))
    assert scores["scores"]["average_precision"]["value"] == pytest.approx(average_precision_score(truth, probability))
    for name in ("precision", "accuracy", "mcc", "brier", "calibration_error"):
        assert scores["scores"][name]["value"] is None
        assert "needs negatives" in scores["scores"][name]["reason"]
    assert scores["labels"]["against_bpt"]["kappa"]["reason"] == "one of the labels has a single class"
    assert "positive-unlabelled data" in caplog.text
    assert any("Positive-unlabelled data" in text for text in labels_section(scores).text)


def test_a_model_of_the_bpt_label_is_scored_on_the_catalogue_too(survey: dict) -> None:
    scores, _, probability = scored(survey, table=str(survey["base"] / "wise.fits"), use="score")
    truth = survey["truth"][np.isfinite(survey["bpt"])]
    known = np.isfinite(truth)
    of_catalog = scores["catalog_scores"]
    assert (scores["level"], of_catalog["level"]) == ("L0", "L4")
    assert of_catalog["objects"] == known.sum()
    assert of_catalog["scores"]["average_precision"]["value"] == pytest.approx(
        average_precision_score(truth[known], probability[known])
    )
    assert scores["noise_ceiling"]["average_precision"]["value"] > 0
    against_unknown, _, _ = scored(survey, table=str(survey["base"] / "red.csv"), use="score")
    assert against_unknown["catalog_scores"]["background"] > 0
    assert against_unknown["catalog_scores"]["scores"]["precision"]["value"] is None


def test_an_ablation_puts_models_of_the_bpt_label_on_rung_l4_too(survey: dict) -> None:
    options = ["--ablation.variants", "handcrafted,redshift-only", "--ablation.folds", "2", "--ablation.repeats", "1"]
    options += ["--ablation.questions", "[handcrafted - redshift-only]", "--ablation.features_epochs", "4"]
    options += ["--ablation.members", "[]", "--ablation.workers", "1"]
    code, runs = run_of(survey, "ablated", "ablate", *options, *catalogue(survey, use="score"))
    assert code == 0
    run = next(runs.iterdir())
    result = json.loads((run / "ablation.json").read_text(encoding="utf-8"))
    levels = {row["variant"]: row["level"] for row in result["models"]}
    of_catalog = {row["variant"]: row["level"] for row in result["catalog_models"]}
    assert levels == {"handcrafted": "L0", "redshift-only": "nuisance"}
    assert of_catalog == {"handcrafted": "L4", "redshift-only": "nuisance"}
    known = np.isfinite(survey["truth"]) & np.isfinite(survey["bpt"])
    assert result["catalog_models"][0]["objects"] == known.sum()
    assert "On the labels of the catalogue" in (run / "ablation.md").read_text(encoding="utf-8")
    assert "Labels against labels" in (run / "report.html").read_text(encoding="utf-8")


def background_sample(survey: dict, **catalog: str) -> tuple[RunConfig, Sample, OutOfFold]:
    """Objects with a list of positives alone, and predictions of a model that knows nothing."""
    settings = {"table": str(survey["base"] / "red.csv"), "preset": "stern2012"} | catalog
    named = {f"labels.catalog.{name}": value for name, value in settings.items()}
    few = {"ablation.variants": ["handcrafted"], "ablation.questions": []}
    config = load_config("handcrafted", **survey["settings"], **named, **few)
    sample = labelled_sample(config)
    probability = np.random.default_rng(5).random((1, len(sample.target)))
    return config, sample, OutOfFold(target=sample.target, probability=probability, called=(probability >= 0.5) * 1.0)


def test_models_of_positive_unlabelled_data_have_no_score_that_needs_negatives(survey: dict, tmp_path: Path) -> None:
    config, sample, model = background_sample(survey, unknown="background")
    run, fits = RunFolder(tmp_path), SimpleNamespace(fitted=0)
    _write_tables(config, sample, _compared(config, sample, {"handcrafted": model}, run, fits), {})
    result = json.loads(run.ablation.read_text(encoding="utf-8"))
    (row,) = result["models"]
    assert row["background"] == result["background"] == row["objects"] - row["positives"] > 0
    assert 0 < row["average_precision_low"] < row["average_precision"]
    assert row["precision"] is row["mcc"] is row["brier"] is None
    assert result["strata"]
    assert all(part["brier"] is None for part in result["strata"])
    assert "positive-unlabelled data" in run.ablation.with_suffix(".md").read_text(encoding="utf-8")
    section = labels_section({**result["sample"], **result})
    assert any("Positive-unlabelled data" in text for text in section.text)


def test_an_ablation_scores_a_list_of_positives_against_its_background_as_training_does(survey: dict) -> None:
    config, sample, model = background_sample(survey, use="score")
    every = np.ones(len(sample.target), dtype=bool)
    trained = label_scores(config, sample, every, model.probability[0], 0.5).content["catalog_scores"]
    (row,) = _catalog_rows(config, sample, {"handcrafted": model})
    assert (row.objects, row.background) == (trained["objects"], trained["background"])
    assert row.background > 0
    for name, score in row.scores.items():
        expected = trained["scores"][name]["value"]
        assert score.value == (None if expected is None else pytest.approx(expected)), name


def test_a_depth_rule_may_name_the_magnitude_of_the_image_where_there_are_images(
    survey: dict, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = survey["base"] / "deep.parquet"
    command = ["measure", "--out", str(out), *catalogue(survey, "red.csv", depth="i_magnitude < 20")]
    assert run_of(survey, "none", *command, "--pairs")[0] == 0
    table = Table.read(out)
    listed = np.asarray(table["catalog_label"]) == "positive"
    magnitude = np.asarray(survey["i_magnitude"])
    assert 0 < (magnitude < 20).sum() < len(magnitude)
    np.testing.assert_array_equal((np.asarray(table["catalog_label"]) == "negative")[~listed], magnitude[~listed] < 20)
    out.unlink()
    monkeypatch.setattr("mmagn.pipeline.measured_tables", None)
    assert run_of(survey, "none", *command)[0] == 2
    assert "spectra alone have no i_magnitude; allowed: --pairs" in capsys.readouterr().err
    assert not out.exists()


def test_measured_tables_carry_the_label(survey: dict) -> None:
    out = survey["base"] / "lines.parquet"
    code, _ = run_of(survey, "none", "measure", "--out", str(out), "--pairs", *catalogue(survey))
    assert code == 0
    table = Table.read(out)
    label_of = {1.0: "positive", 0.0: "negative"}
    expected = [label_of.get(value, "unknown") for value in survey["truth"].tolist()]
    assert table["catalog_label"].tolist() == expected
    assert (np.asarray(table["opt_uv_type"]) & 1 == (np.asarray(table["bpt_class"]) != "unclassified")).all()


def test_a_catalogue_of_another_sky_leaves_no_table(survey: dict) -> None:
    Table({"ra": [1.0], "dec": [80.0], "w1": [14.0], "w2": [13.0]}).write(survey["base"] / "else.csv")
    settings = {"labels.catalog.table": str(survey["base"] / "else.csv"), "labels.catalog.preset": "stern2012"}
    config = load_config("handcrafted", **survey["settings"], **settings)
    measured = Table({"object_id": ["1", "2"], "ra_deg": [10.0, 20.0], "dec_deg": [0.0, 0.0]})
    tables = labelled_tables(config, [measured[:1], measured[1:]])
    out = survey["base"] / "none.parquet"
    with pytest.raises(ValueError, match="none of 1 rows belongs to one of"), table_file(out) as append:
        for table in tables:
            append(table)
    assert not out.exists()
