"""An ablation from script to sentences: folds share nothing, leaks are caught, fits are never repeated."""

import csv
import dataclasses
import json
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from astropy.table import Table, vstack
from sklearn.metrics import average_precision_score

from mmagn.ablation.ablate import ablate, ablation_folds
from mmagn.ablation.fits import FoldFits
from mmagn.config.ablation import AblationConfig
from mmagn.config.run_config import RunConfig
from mmagn.evaluation.config import EvaluationConfig
from mmagn.evaluation.pooled import out_of_fold
from mmagn.evaluation.variants import VARIANTS
from mmagn.features.names import FEATURE_NAMES, LINE_FREE_FEATURES
from mmagn.models.config import ModelsConfig, SpectrumBranchConfig
from mmagn.runs.members import load_members
from mmagn.runs.sample import Sample, labelled_sample
from mmagn.surveys.config import DataConfig, SimulateConfig
from mmagn.tensors.config import TensorsConfig
from mmagn.training.config import TrainingConfig

SMALL = AblationConfig(
    folds=3,
    repeats=1,
    features_epochs=15,
    workers=1,
    members=("masked-spectrum",),
    variants=("handcrafted", "masked-spectrum", "image", "redshift-only", "mask-only", "bpt-rule", "all-negative"),
    questions=("handcrafted - redshift-only", "handcrafted - image"),
)


UNTIL = 18
"""Fits before the interruption."""


def sample_of(count: int = 240, leak: float = 0.0, seed: int = 0) -> Sample:
    """Labelled objects all over the sky with ten features, one of which holds the label with a given strength."""
    rng = np.random.default_rng(seed)
    target = (rng.random(count) < 0.3).astype(np.float64)
    table = Table({name: rng.normal(size=count) for name in FEATURE_NAMES})
    table["continuum_level"] += leak * target
    table["object_id"] = np.arange(count).astype(str)
    table["ra_deg"], table["dec_deg"] = rng.uniform(0, 360, count), rng.uniform(-60, 60, count)
    table["redshift"], table["snr_median"] = rng.uniform(0, 0.3, count), rng.uniform(2, 30, count)
    table["survey"] = np.where(rng.random(count) < 0.5, "desi", "sdss")
    galaxy = np.arange(count).astype(str)
    galaxy[:10] = galaxy[10:20]
    store = SimpleNamespace(fingerprint=f"{seed} {leak}", index=Table({"hsc_object_id": galaxy}))
    return Sample(
        store=store,  # type: ignore[arg-type]
        table=table,
        rows=np.arange(count),
        target=target,
        split=np.full(count, "train"),
    )


def config_of(settings: AblationConfig = SMALL) -> RunConfig:
    return RunConfig(ablation=settings, training=TrainingConfig(device="cpu", learning_rate=0.01))


def average_precision(config: RunConfig, sample: Sample, name: str, folder: Path) -> float:
    fits = FoldFits(config, sample, folder)
    table = vstack([fits.table(VARIANTS[name], fold) for fold in ablation_folds(config, sample)])
    scored = out_of_fold(table, sample.object_id, sample.target)
    return float(average_precision_score(scored.target, scored.probability[0]))


@pytest.mark.parametrize("model", ["handcrafted", "logistic", "masked-handcrafted"])
def test_a_leak_planted_on_purpose_is_caught_and_noise_scores_at_prevalence(model: str, tmp_path: Path) -> None:
    config, leaking, clean = config_of(), sample_of(leak=20.0), sample_of()
    assert average_precision(config, leaking, model, tmp_path) > 0.95
    assert abs(average_precision(config, clean, model, tmp_path) - clean.target.mean()) < 0.15


def test_a_label_that_follows_the_survey_is_caught_by_the_model_that_sees_nothing_else(tmp_path: Path) -> None:
    config, sample = config_of(), sample_of()
    assert abs(average_precision(config, sample, "survey-only", tmp_path) - sample.target.mean()) < 0.15
    table = sample.table.copy()
    table["survey"] = np.where(sample.target == 1, "desi", "sdss")
    mixed = dataclasses.replace(sample, table=table)
    assert average_precision(config, mixed, "survey-only", tmp_path) > 0.95
    table["survey"] = "sdss"
    assert average_precision(config, dataclasses.replace(mixed, table=table), "survey-only", tmp_path) < 0.5


def test_no_group_of_sky_and_no_galaxy_is_in_two_sets_of_a_fold() -> None:
    sample = sample_of()
    for scheme in ("folds", "leave-one-cell-out"):
        settings = dataclasses.replace(SMALL, scheme=scheme, repeats=2)
        folds = ablation_folds(config_of(settings), sample if scheme == "folds" else few_cells(sample))
        assert {fold.repeat for fold in folds} == {0, 1}
        galaxy = np.asarray(sample.store.index["hsc_object_id"])
        for fold in folds:
            sets = [set(galaxy[rows].tolist()) for rows in (fold.train, fold.validation, fold.test)]
            assert not (sets[0] & sets[1] or sets[0] & sets[2] or sets[1] & sets[2])
        tested = np.concatenate([fold.test for fold in folds if fold.repeat == 1])
        np.testing.assert_array_equal(np.sort(tested), np.arange(len(galaxy)))


def few_cells(sample: Sample) -> Sample:
    table = sample.table.copy()
    table["ra_deg"], table["dec_deg"] = table["ra_deg"] % 16, table["dec_deg"] % 8
    return dataclasses.replace(sample, table=table)


def test_masked_features_know_nothing_of_a_line(tmp_path: Path) -> None:
    config, sample = config_of(), sample_of()
    louder = sample.table.copy()
    for name in set(FEATURE_NAMES) - set(LINE_FREE_FEATURES):
        louder[name] = sample.target * 100
    fold = ablation_folds(config, sample)[0]
    seen = [
        FoldFits(config, dataclasses.replace(sample, table=table), tmp_path / str(number)).table(
            VARIANTS["masked-handcrafted"], fold
        )["logit"]
        for number, table in enumerate((sample.table, louder))
    ]
    np.testing.assert_array_equal(seen[0], seen[1])


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    """A small ablation of the embedded survey that was interrupted at its last fit but two and started anew."""
    base = tmp_path_factory.mktemp("ablation")
    config = RunConfig(
        name="small",
        runs_dir=str(base / "runs"),
        data=DataConfig(cache_dir=str(base / "cache"), simulate=SimulateConfig(pairs=120, agn_fraction=0.4, seed=3)),
        tensors=TensorsConfig(image_size=32),
        models=ModelsConfig(spectrum=SpectrumBranchConfig(widths=(4, 8))),
        training=TrainingConfig(epochs=2, device="cpu"),
        evaluation=EvaluationConfig(bootstrap_draws=100),
        ablation=dataclasses.replace(SMALL, features_epochs=5),
    )
    real, calls = FoldFits._write, []

    def interrupted(self, variant, fold, logits):
        if len(calls) == UNTIL:
            calls.append(None)
            raise KeyboardInterrupt
        calls.append((variant.name, fold.fold))
        real(self, variant, fold, logits)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(FoldFits, "_write", interrupted)
        with pytest.raises(KeyboardInterrupt):
            ablate(config)
        again = ablate(config)
    return SimpleNamespace(config=config, calls=calls, result=again, base=base)


def test_a_resumed_ablation_repeats_no_fit(run: SimpleNamespace) -> None:
    wanted = len(SMALL.variants) * SMALL.folds
    assert run.result.fitted == wanted - UNTIL
    finished = [each for each in run.calls if each is not None]
    assert len(finished) == len(set(finished)) == wanted
    third = ablate(run.config)
    assert third.fitted == 0
    first, second = (read_json(result.path / "ablation.json") for result in (run.result, third))
    assert first == second


def test_two_processes_fit_what_one_fits(run: SimpleNamespace, tmp_path: Path) -> None:
    config, variant = run.config, VARIANTS["masked-spectrum"]
    sample = labelled_sample(config)
    folds = ablation_folds(config, sample)
    here, there = (FoldFits(config, sample, folder) for folder in (Path(config.data.cache_dir) / "fits", tmp_path))
    there.make([variant], folds, workers=2)
    assert there.fitted == len(folds)
    for fold in folds:
        one, two = here.table(variant, fold), there.table(variant, fold)
        for name in ("object_id", "logit", "calibrated_probability", "called"):
            np.testing.assert_array_equal(one[name], two[name])
    assert here.fitted == 0


def test_members_are_kept_as_prediction_loads_them(run: SimpleNamespace) -> None:
    members = load_members([run.result.path], "masked-spectrum")
    assert [member.path.name for member in members] == [f"repeat-0-fold-{fold}" for fold in range(3)]
    for member in members:
        assert member.config.tensors.blank_lines
        assert "spectrum" in member.calibrations
        assert not member.model.training


def test_embeddings_and_head_give_the_logits_of_the_fit(run: SimpleNamespace) -> None:
    config = run.config
    sample = labelled_sample(config)
    fits = FoldFits(config, sample, Path(config.data.cache_dir) / "fits")
    fold = ablation_folds(config, sample)[1]
    for name in ("masked-spectrum", "handcrafted"):
        variant = VARIANTS[name]
        embedding = fits.embedding(variant, fold)
        model = fits.networks.load(variant, fits._member(variant, fold))
        logits = model.heads.head(torch.from_numpy(embedding)).squeeze(-1).detach().numpy()
        np.testing.assert_allclose(logits[fold.test], fits.table(variant, fold)["logit"], rtol=1e-4, atol=1e-5)
    assert fits.fitted == 0


def read_json(path: Path) -> dict:
    return json.loads(path.read_text(encoding="utf-8"))


def test_another_setting_makes_new_fits_of_its_own(run: SimpleNamespace) -> None:
    one_more = dataclasses.replace(run.config.ablation, variants=(*SMALL.variants, "logistic"))
    assert ablate(dataclasses.replace(run.config, ablation=one_more)).fitted == SMALL.folds


def test_the_run_folder_holds_tables_sentences_and_a_forest_plot(run: SimpleNamespace) -> None:
    path, result = run.result.path, run.result
    content, text = read_json(path / "ablation.json"), (path / "ablation.md").read_text(encoding="utf-8")
    with (path / "ablation.csv").open(encoding="utf-8") as file:
        lines = list(csv.DictReader(file))
    assert [line["variant"] for line in lines] == list(SMALL.variants)
    assert [each["sentence"] for each in content["questions"]] == [answer.sentence for answer in result.answers]
    assert all(answer.sentence in text for answer in result.answers)
    assert (path / "figures" / "forest.png").stat().st_size > 10_000
    rows = {row.variant: row for row in result.rows}
    assert rows["all-negative"].scores["average_precision"].value == pytest.approx(
        rows["image"].positives / rows["image"].objects
    )
    assert rows["bpt-rule"].scores["mcc"].value == 1
    assert rows["bpt-rule"].scores["average_precision"].value == 1
    assert {row.stratum for row in result.strata} >= {"redshift", "weakest line S/N", "class border (dex)"}


def test_out_of_fold_scores_are_kept_with_fold_repeat_and_seed(run: SimpleNamespace) -> None:
    table = Table.read(run.result.path / "out_of_fold.parquet", format="parquet")
    names = ["variant", "repeat", "fold", "seed", "object_id", "truth", "logit", "calibrated_probability", "threshold"]
    assert set(names) < set(table.colnames)
    tested = {(row["variant"], row["repeat"], row["object_id"]) for row in table}
    assert len(tested) == len(table)
    assert np.isfinite(table["calibrated_probability"]).all()


def test_the_script_refuses_an_unknown_model(capsys: pytest.CaptureFixture[str]) -> None:
    path = Path(__file__).resolve().parent.parent.parent / "scripts" / "ablate.py"
    spec = spec_from_file_location("script_ablate", path)
    assert spec is not None and spec.loader is not None
    script = module_from_spec(spec)
    spec.loader.exec_module(script)
    assert script.main(["--config", "ablation.yaml", "--ablation.variants", "[magic]"]) == 2
    assert "ablation.variants has magic; allowed: handcrafted" in capsys.readouterr().err
