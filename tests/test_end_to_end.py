"""From sky to score with the scripts a user runs: on a small embedded survey, on real spectra, and on bad input."""

import importlib.util
import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import datasets
import numpy as np
import pytest
import torch
from astropy.table import Table

from mmagn.config.run_config import load_config
from mmagn.features.vector import FEATURE_NAMES
from mmagn.lines import REPORTED_LINES
from mmagn.records import SPLITS
from mmagn.storage.run_folder import RunFolder

SCRIPTS = Path(__file__).resolve().parent.parent / "scripts"
SMALL = [
    *("--data.simulate.pairs", "120", "--data.simulate.agn_fraction", "0.4", "--data.simulate.seed", "3"),
    *("--tensors.image_size", "32", "--models.spectrum.widths", "[4,8]", "--evaluation.bootstrap_draws", "50"),
    *("--models.image.backbone", "test_resnet.r160_in1k", "--training.batch_size", "16", "--training.epochs", "3"),
    *("--training.device", "cpu", "--spectroscopy.device", "cpu"),
]
"""Settings that make one run a matter of seconds."""


def script(name: str) -> Callable[[Sequence[str]], int]:
    spec = importlib.util.spec_from_file_location(f"script_{name}", SCRIPTS / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.main


def only_run(runs_dir: Path) -> Path:
    (run,) = sorted(runs_dir.iterdir())
    return run


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Cache and run folder of one training of the fused model."""
    base = tmp_path_factory.mktemp("end-to-end")
    found = {"cache": base / "cache", "runs": base / "runs"}
    assert script("train")(["--config", "fused.yaml", *SMALL, *folders(found)]) == 0
    return {**found, "run": only_run(found["runs"])}


def folders(places: dict[str, Path]) -> list[str]:
    return ["--data.cache_dir", str(places["cache"]), "--runs_dir", str(places["runs"])]


def test_a_run_folder_holds_all_it_takes_to_judge_and_repeat_the_run(places: dict[str, Path]) -> None:
    run = places["run"]
    files = {path.relative_to(run).as_posix() for path in run.rglob("*") if path.is_file()}
    promised = {"config.yaml", "run.json", "split.parquet", "scaling.json", "best.ckpt", "last.ckpt", "run.log"}
    promised |= {"scores.json", "predictions.parquet", "measurements.parquet", "report.html"}
    promised |= {"weights.safetensors", "calibration.json", "novelty.safetensors"}
    figures = ("bpt", "whan", "coverage", "gallery", "precision_recall", "roc", "confusion", "reliability")
    assert promised | {f"figures/{name}.png" for name in figures} <= files
    assert any(name.startswith("tensorboard/events") for name in files)
    assert json.loads((run / "run.json").read_text(encoding="utf-8"))["commit"]


def test_scores_state_their_interval_prevalence_and_baseline(places: dict[str, Path]) -> None:
    stated = json.loads((places["run"] / "scores.json").read_text(encoding="utf-8"))
    precision = stated["scores"]["average_precision"]
    assert precision["low"] <= precision["value"] <= precision["high"]
    assert stated["all_negative"]["average_precision"] == pytest.approx(stated["prevalence"])
    ceiling = stated["noise_ceiling"]["average_precision"]
    assert stated["prevalence"] < ceiling["low"] <= ceiling["value"] <= ceiling["high"] <= 1
    assert stated["classes"]["unclassified"] == sum(stated["unclassified"].values())
    assert stated["matching"]["pairs"] == 120
    assert 0 < stated["clean"]["objects"] < stated["objects"]
    assert set(stated["clean"]["scores"]) == set(stated["scores"])


def test_every_subset_of_modalities_has_its_own_calibration_and_threshold(places: dict[str, Path]) -> None:
    stated = json.loads((places["run"] / "calibration.json").read_text(encoding="utf-8"))
    assert list(stated) == ["image+spectrum", "image", "spectrum"]
    for each in stated.values():
        assert each["kind"] == "platt"
        assert 0 < each["threshold"] < 1
    assert stated["image"]["slope"] != stated["spectrum"]["slope"]


def test_predict_and_explain_take_the_run_as_it_is(places: dict[str, Path], tmp_path: Path) -> None:
    out = tmp_path / "scores.fits"
    assert script("predict")(["--run", str(places["run"]), "--out", str(out)]) == 0
    of_run = Table.read(places["run"] / "predictions.parquet", format="parquet")
    found = Table.read(out)
    row_of = {str(name): row for row, name in enumerate(found["sdss_object_id"])}
    rows = [row_of[name] for name in of_run["sdss_object_id"].tolist()]
    np.testing.assert_allclose(found["logit"][rows], of_run["logit"], atol=1e-4)
    np.testing.assert_allclose(found["calibrated_probability"][rows], of_run["calibrated_probability"], atol=1e-3)
    object_id = of_run["sdss_object_id"][0]
    assert script("explain")([str(object_id), "--run", str(places["run"]), "--out", str(tmp_path)]) == 0
    assert (tmp_path / f"{object_id}.png").stat().st_size > 10_000


def test_predictions_and_split_name_every_labelled_pair_once_and_no_sky_group_twice(places: dict[str, Path]) -> None:
    predictions = Table.read(places["run"] / "predictions.parquet", format="parquet")
    split = Table.read(places["run"] / "split.parquet", format="parquet")
    assert len(set(predictions["sdss_object_id"])) == len(predictions) == len(split)
    assert set(predictions["split"]) == set(SPLITS)
    probability = np.asarray(predictions["calibrated_probability"])
    assert np.all((probability >= 0) & (probability <= 1))
    positive = np.isin(np.asarray(predictions["bpt_class"], dtype=str), ["seyfert", "composite"])
    assert np.array_equal(np.asarray(predictions["truth"]) == 1, positive)


def test_evaluate_repeats_the_scores_of_training(places: dict[str, Path]) -> None:
    scores = places["run"] / "scores.json"
    before = json.loads(scores.read_text(encoding="utf-8"))
    assert script("evaluate")(["--run", str(places["run"])]) == 0
    assert json.loads(scores.read_text(encoding="utf-8")) == before
    assert script("evaluate")(["--run", str(places["run"]), "--split", "validation"]) == 0
    assert json.loads((places["run"] / "scores-validation.json").read_text(encoding="utf-8"))["split"] == "validation"
    assert json.loads(scores.read_text(encoding="utf-8")) == before


def test_a_second_run_starts_from_the_store_and_the_same_seed_gives_the_same_weights(
    places: dict[str, Path], tmp_path: Path
) -> None:
    stores = [path for path in (places["cache"] / "stores").iterdir() if (path / "mmagn.json").is_file()]
    made = {path: path.stat().st_mtime_ns for path in stores}
    again = ["--data.cache_dir", str(places["cache"]), "--runs_dir", str(tmp_path)]
    assert script("train")(["--config", "fused.yaml", *SMALL, *again]) == 0
    assert {path: path.stat().st_mtime_ns for path in stores} == made
    assert same_weights(only_run(tmp_path), places["run"])


def test_a_run_gone_on_with_ends_like_an_undisturbed_one(places: dict[str, Path], tmp_path: Path) -> None:
    short = ["--data.cache_dir", str(places["cache"]), "--runs_dir", str(tmp_path), "--training.epochs", "1"]
    assert script("train")(["--config", "fused.yaml", *SMALL, *short]) == 0
    run = only_run(tmp_path)
    assert script("train")(["--resume", str(run), "--training.epochs", "3"]) == 0
    assert only_run(tmp_path) == run
    assert same_weights(run, places["run"])


def same_weights(run: Path, other: Path) -> bool:
    ours, theirs = (torch.load(path / "last.ckpt", weights_only=True)["state_dict"] for path in (run, other))
    return ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_evaluate_refuses_a_run_whose_pairs_are_gone(places: dict[str, Path], tmp_path: Path, capsys) -> None:
    run = shutil.copytree(places["run"], tmp_path / "run")
    config = (run / "config.yaml").read_text(encoding="utf-8")
    (run / "config.yaml").write_text(config.replace("pairs: 120", "pairs: 40"), encoding="utf-8")
    assert load_config(run / "config.yaml").data.simulate.pairs == 40
    RunFolder(run).seal()
    assert script("evaluate")(["--run", str(run)]) == 2
    assert "was trained on other pairs" in capsys.readouterr().err


def test_measure_gives_one_row_per_spectrum_or_per_pair(places: dict[str, Path], tmp_path: Path) -> None:
    common = ["--config", "fused.yaml", *SMALL, *folders(places)]
    assert script("measure")([*common, "--out", str(tmp_path / "spectra.parquet")]) == 0
    assert script("measure")([*common, "--pairs", "--out", str(tmp_path / "pairs.fits")]) == 0
    spectra, pairs = Table.read(tmp_path / "spectra.parquet"), Table.read(tmp_path / "pairs.fits")
    assert (len(spectra), len(pairs)) == (150, 120)
    assert np.isnan(np.asarray(spectra["concentration"], dtype=float)).all()
    assert np.isfinite(np.asarray(pairs["concentration"], dtype=float)).mean() > 0.9
    wanted = ["object_id", "ra_deg", "dec_deg", "redshift"]
    wanted += [f"{kind.format(line)}" for line in REPORTED_LINES for kind in ("flux_{}", "flux_{}_err", "ew_{}")]
    assert set(wanted) | set(FEATURE_NAMES) | {"bpt_class", "reason"} <= set(spectra.colnames)


def test_match_writes_a_store_that_datasets_opens_and_training_starts_from(
    places: dict[str, Path], tmp_path: Path, capsys
) -> None:
    store = tmp_path / "store"
    assert script("match")(["--config", "fused.yaml", *SMALL, *folders(places), "--out", str(store)]) == 0
    assert "expected by chance" in capsys.readouterr().out
    assert len(datasets.load_from_disk(str(store))) == 120
    arguments = ["--config", "handcrafted.yaml", "--data.source", "store", "--data.root", str(store)]
    quick = ["--runs_dir", str(tmp_path / "runs"), "--training.epochs", "2", "--evaluation.bootstrap_draws", "20"]
    assert script("train")([*arguments, *quick]) == 0
    assert script("train")([*arguments, *quick, "--matching.radius_arcsec", "2"]) == 2
    assert "matching.radius_arcsec" in capsys.readouterr().err


def test_zero_pairs_is_a_sentence_and_exit_code_2(places: dict[str, Path], tmp_path: Path, capsys) -> None:
    tiny = ["--matching.radius_arcsec", "0.000001", "--out", str(tmp_path / "store")]
    assert script("match")(["--config", "fused.yaml", *SMALL, *folders(places), *tiny]) == 2
    complaint = capsys.readouterr().err
    assert "no spectrum has an HSC image within" in complaint
    assert not (tmp_path / "store").exists()


def test_a_missing_root_is_a_sentence_and_exit_code_2(tmp_path: Path, capsys) -> None:
    missing = ["--data.source", "hdf5", "--data.root", str(tmp_path / "nowhere"), "--data.cache_dir", str(tmp_path)]
    assert script("train")(["--config", "fused.yaml", *missing, "--runs_dir", str(tmp_path / "runs")]) == 2
    assert "data.root" in capsys.readouterr().err
    assert not (tmp_path / "runs").exists()


def test_one_class_only_is_a_sentence_and_exit_code_2(places: dict[str, Path], tmp_path: Path, capsys) -> None:
    none = ["--data.simulate.agn_fraction", "0", "--labels.min_snr", "25", "--runs_dir", str(tmp_path)]
    settings = ["--config", "handcrafted.yaml", *SMALL, "--data.cache_dir", str(places["cache"]), *none]
    assert script("train")(settings) == 2
    assert "positive" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_real_spectra_run_through_measure_and_train(real_tree: Path, tmp_path: Path) -> None:
    source = ["--data.source", "hdf5", "--data.root", str(real_tree), "--data.cache_dir", str(tmp_path / "cache")]
    assert script("measure")(["--config", "fused.yaml", *source, "--out", str(tmp_path / "table.ecsv")]) == 0
    assert len(Table.read(tmp_path / "table.ecsv")) == 29
    runs = ["--runs_dir", str(tmp_path / "runs")]
    assert script("train")(["--config", "fused.yaml", *SMALL[6:], *source, *runs]) == 0
    stated = json.loads((only_run(tmp_path / "runs") / "scores.json").read_text(encoding="utf-8"))
    assert sum(stated["classes"].values()) == 28
