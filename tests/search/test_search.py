"""A search from config to best settings: it never sees the test split, finds signal, and finds nothing in noise."""

import csv
import json
from collections.abc import Callable
from dataclasses import replace
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from optuna.storages import InMemoryStorage
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from mmagn.config.ablation import AblationConfig
from mmagn.config.run_config import RunConfig, load_config
from mmagn.config.search import SearchConfig
from mmagn.models.config import ModelsConfig, SpectrumBranchConfig
from mmagn.runs.sample import Sample
from mmagn.search import search as searching
from mmagn.search.folds import searched_sample
from mmagn.search.nested import nested_search
from mmagn.search.results import Gain, TrialRecord, best_record, trial_records
from mmagn.search.search import SampleStudy, Search, search
from mmagn.surveys.config import SimulateConfig
from mmagn.tensors.config import TensorsConfig

SampleOf = Callable[..., Sample]


def searched(config: RunConfig, sample: Sample) -> Search:
    """Search on a given sample."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(searching, "labelled_sample", lambda _: sample)
        return search(config)


@pytest.fixture(scope="module")
def finished(lasting: RunConfig, sample_of: SampleOf) -> Search:
    return searched(with_search(lasting, nested=True, outer_folds=2), sample_of())


def read_json(path: Path) -> dict:
    return json.loads(path.read_text(encoding="utf-8"))


def trials_of(path: Path) -> list[dict[str, str]]:
    with (path / "trials.csv").open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


def with_search(config: RunConfig, **changes: object) -> RunConfig:
    return replace(config, search=replace(config.search, **changes))


def test_labels_of_the_test_split_change_nothing(small: RunConfig, sample_of: SampleOf, tmp_path: Path) -> None:
    sample = sample_of()
    flipped = np.where(sample.split == "test", 1 - sample.target, sample.target)
    result = []
    for number, target in enumerate((sample.target, flipped)):
        config = replace(
            with_search(small, trials=4), data=replace(small.data, cache_dir=str(tmp_path / f"cache-{number}"))
        )
        path = searched(config, replace(sample, target=target)).path
        rows = [{name: value for name, value in row.items() if name != "duration_s"} for row in trials_of(path)]
        result.append((read_json(path / "search.json"), rows))
    assert result[0] == result[1]
    seen = searched_sample(sample)
    assert not set(sample.rows[sample.split == "test"]) & set(seen.rows)
    assert len(seen.target) == np.sum(sample.split != "test")


@pytest.mark.parametrize("signal", [0.0, 3.0], ids=["noise", "signal"])
def test_a_nested_search_finds_nothing_in_noise_but_finds_a_signal(
    small: RunConfig, sample_of: SampleOf, signal: float
) -> None:
    config, storage = with_search(small, outer_folds=3, trials=4), InMemoryStorage()
    sample = sample_of(count=200, signal=signal)

    def inner(part: Sample, word: str) -> TrialRecord:
        return best_record(trial_records(SampleStudy(config, part, storage, word).finished(), config.search))

    nested = nested_search(config, sample, inner)
    score, prevalence = nested.scores["average_precision"], nested.positives / nested.objects
    assert nested.objects == sum(fold["objects"] for fold in nested.folds) == 200
    assert score.value is not None
    assert score.low is not None
    assert score.high is not None
    if signal:
        assert score.low > prevalence + 0.2
    else:
        assert score.low <= prevalence <= score.high
        assert np.mean([fold["inner_score"] for fold in nested.folds]) > score.value


def test_the_same_command_resumes_the_study_and_repeats_no_trial(
    finished: Search, lasting: RunConfig, sample_of: SampleOf
) -> None:
    before, after = trials_of(finished.path), trials_of(searched(with_search(lasting, trials=7), sample_of()).path)
    assert after[:6] == before
    assert len(after) == 7


def test_other_objects_or_settings_make_a_study_of_their_own(
    finished: Search, lasting: RunConfig, sample_of: SampleOf
) -> None:
    def study_of(config: RunConfig, seed: int = 0) -> str:
        return read_json(searched(with_search(config, trials=1), sample_of(seed=seed)).path / "search.json")["study"]

    first = read_json(finished.path / "search.json")["study"]
    others = study_of(lasting, seed=1), study_of(replace(lasting, seed=7))
    assert len({first, *others}) == 3
    assert all(name.startswith("small-") for name in (first, *others))


def test_a_named_study_with_other_objects_is_refused_and_leaves_no_run_folder(
    small: RunConfig, sample_of: SampleOf
) -> None:
    named = with_search(small, study="mine", trials=1)
    searched(named, sample_of())
    runs = list(Path(small.runs_dir).iterdir())
    with pytest.raises(ValueError, match="study mine was made with other objects or labels"):
        searched(named, sample_of(seed=1))
    assert list(Path(small.runs_dir).iterdir()) == runs


def test_best_yaml_is_the_run_with_the_best_settings(finished: Search, lasting: RunConfig) -> None:
    config, values = load_config(finished.path / "best.yaml"), finished.best.values
    assert config == replace(
        lasting,
        name="small-best",
        models=replace(lasting.models, hidden_dim=values["hidden_dim"], dropout=values["dropout"]),
        training=replace(lasting.training, learning_rate=values["learning_rate"]),
        search=SearchConfig(),
    )
    text = (finished.path / "best.yaml").read_text(encoding="utf-8")
    assert "search:" not in text
    assert "batch_size" not in text


def test_the_run_folder_holds_trials_figures_hparams_and_a_page(finished: Search, lasting: RunConfig) -> None:
    path, rows = finished.path, trials_of(finished.path)
    content = read_json(path / "search.json")
    assert sum(content["trials"].values()) == len(rows) == lasting.search.trials
    assert np.isclose(content["best"]["score"], np.mean(content["best"]["folds"]))
    assert sum(content["importance"].values()) == pytest.approx(1)
    assert (
        content["nested"]["objects"]
        == content["objects"]
        == sum(fold["objects"] for fold in content["nested"]["folds"])
    )
    for name in ("history", "importance", "parallel"):
        assert (path / "figures" / f"{name}.png").stat().st_size > 5_000
    boards = sorted((path / "tensorboard").iterdir())
    assert len(boards) == lasting.search.trials
    events = EventAccumulator(str(boards[0]))
    events.Reload()
    numbers = [str(number) for number in range(1, len(rows) + 1)]
    assert [row["number"] for row in rows] == numbers, "trials count from 1 in every file and on the page"
    assert [board.name for board in boards] == [f"trial-{int(number):04d}" for number in numbers]
    best = max(rows, key=lambda row: float(row["score"] or "-inf"))["number"]
    assert content["best"]["number"] == int(best)
    assert f"Trial {best} of {len(rows)} is the best" in (path / "report.html").read_text(encoding="utf-8")
    assert "_hparams_/experiment" in events.PluginTagToContent("hparams")
    assert events.Scalars("average_precision")[0].value == pytest.approx(float(rows[0]["score"]))
    assert (path / "report.html").stat().st_size > 5_000


def test_a_search_ends_with_its_result_and_the_next_command(
    small: RunConfig, sample_of: SampleOf, capsys: pytest.CaptureFixture[str]
) -> None:
    one = searched(with_search(small, trials=1), sample_of())
    output = capsys.readouterr().out
    assert f"scripts/train.py --config {one.path / 'best.yaml'}" in output
    assert "optuna-dashboard sqlite:///" in output
    assert "no trial beats the settings of the run: the settings of the run score" in output
    assert one.gain.own == one.best.folds


def test_the_gain_is_the_difference_on_the_same_folds(finished: Search) -> None:
    first = trials_of(finished.path)[0]
    assert list(finished.gain.own) == pytest.approx([float(score) for score in first["folds"].split()], abs=1e-6)
    gain = Gain(best=(0.7, 0.8, 0.6), own=(0.6, 0.7, 0.7), trials=9)
    assert gain.value == pytest.approx(0.1 / 3)
    assert "gains +0.033 and is better on 2 of 3 folds" in gain.sentence
    assert "chosen from 9 trials" in gain.sentence


def test_settings_outside_the_ranges_are_scored_on_their_own(small: RunConfig, sample_of: SampleOf) -> None:
    config = with_search(replace(small, models=replace(small.models, dropout=0.6)), trials=2)
    result = searched(config, sample_of())
    assert len(trials_of(result.path)) == 2
    assert len(result.gain.own) == config.search.folds
    assert all(np.isfinite(result.gain.own))


@pytest.mark.parametrize(("over", "space"), [("head", ("hidden_dim", "dropout")), ("all", ("dropout", "widths"))])
def test_a_search_of_the_embedded_survey_fits_head_or_whole_networks(
    small: RunConfig, lasting: RunConfig, over: str, space: tuple[str, ...], tmp_path: Path
) -> None:
    ranges = replace(small.search.ranges, widths=((4, 8), (4, 4)))
    simulated = SimulateConfig(pairs=60, agn_fraction=0.4, seed=3)
    config = replace(
        with_search(small, over=over, space=space, ranges=ranges, trials=2, folds=2),
        name=over,
        data=replace(lasting.data, simulate=simulated),
        ablation=AblationConfig(fits_dir=str(tmp_path / "fits"), workers=1),
        models=ModelsConfig(spectrum=SpectrumBranchConfig(widths=(4, 8))),
        tensors=TensorsConfig(image_size=32),
        training=replace(small.training, epochs=1),
    )
    result = search(config)
    assert set(trials_of(result.path)[0]) >= {"score", *space}
    fits = list((tmp_path / "fits").glob("searched-*/*.parquet"))
    assert len(fits) == (2 if over == "head" else 0)


@pytest.fixture
def script() -> ModuleType:
    path = Path(__file__).resolve().parents[2] / "scripts" / "search.py"
    spec = spec_from_file_location("script_search", path)
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--search.space", "[magic]"], "search.space has magic; allowed: hidden_dim"),
        (["--search.space", "[image_size]"], "search.space has image_size, which changes what is below the head"),
        (["--search.ranges.hidden_dim", "[15, 64]"], "search.ranges.hidden_dim has 15; allowed: even"),
        (["--search.ranges.dropout", "[0.5, 0.1]"], "search.ranges.dropout is [0.5, 0.1]; allowed: a list of 2"),
        (["--search.ranges.hiden_dim", "[16, 64]"], "the nearest is search.ranges.hidden_dim"),
        (
            ["--search.over", "all", "--search.space", "[widths]", "--models.branches", "[features]"],
            "search.space has widths, which has no effect: models.branches has no spectrum",
        ),
        (["--search.trials", "0"], "search.trials is 0; allowed: 1 or more"),
    ],
)
def test_the_script_refuses_with_one_sentence(
    script: ModuleType, arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    try:
        code = script.main(["--config", "search.yaml", *arguments])
    except SystemExit as exit_:
        code = exit_.code
    assert code == 2
    assert message in capsys.readouterr().err
