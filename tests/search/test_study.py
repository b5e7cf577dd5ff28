"""A study is resumed, never started twice: finished trials count, interrupted ones do not."""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
from optuna.storages import BaseStorage, InMemoryStorage
from optuna.study import Study
from optuna.trial import TrialState

from mmagn.config.run_config import RunConfig
from mmagn.search.storage import study_storage
from mmagn.search.study import finished_trials, open_study, run_trials
from mmagn.training.callbacks import NonFiniteLossError


@pytest.fixture
def storage(small: RunConfig) -> Iterator[BaseStorage]:
    with study_storage(small) as made:
        yield made


def in_memory(config: RunConfig) -> Study:
    return open_study(config, InMemoryStorage(), "study", "objects")


def peak_scores(config: RunConfig) -> Iterator[float]:
    """Three folds of a score that is best at a hidden_dim of 40 and a learning rate of 1e-3."""
    distance = abs(config.models.hidden_dim - 40) / 48 + abs(np.log10(config.training.learning_rate) + 3) / 2
    yield from (0.9 - 0.4 * distance - shift for shift in (0.0, 0.02, 0.01))


def with_search(config: RunConfig, **changes: object) -> RunConfig:
    return replace(config, search=replace(config.search, **changes))


def places(study: Study) -> list[dict[str, object]]:
    return [dict(trial.params) for trial in finished_trials(study)]


def test_the_sampler_finds_the_peak_and_the_first_trial_is_the_run_as_it_is(small: RunConfig) -> None:
    config = with_search(small, trials=30, startup_trials=8)
    study = in_memory(config)
    run_trials(study, config, peak_scores)
    assert len(finished_trials(study)) == 30
    assert study.trials[0].params == {"hidden_dim": 32, "dropout": 0.3, "learning_rate": 0.01}
    assert study.best_value > 0.8
    assert abs(study.best_params["hidden_dim"] - 40) <= 10


def test_an_interrupted_study_ends_as_an_undisturbed_one(small: RunConfig, storage: BaseStorage) -> None:
    undisturbed, disturbed = in_memory(small), open_study(small, storage, "disturbed", "objects")
    run_trials(undisturbed, small, peak_scores)
    calls = 0

    def interrupted(config: RunConfig) -> Iterator[float]:
        nonlocal calls
        calls += 1
        yield from list(peak_scores(config))[:2]
        if calls == 5:
            raise KeyboardInterrupt
        yield list(peak_scores(config))[2]

    with pytest.raises(KeyboardInterrupt):
        run_trials(disturbed, small, interrupted)
    assert len(finished_trials(disturbed)) == 4
    again = open_study(small, storage, "disturbed", "objects")
    run_trials(again, small, interrupted)
    assert places(again) == places(undisturbed)
    assert [trial.state for trial in again.trials].count(TrialState.FAIL) == 1
    run_trials(again, small, interrupted)
    assert calls == small.search.trials + 1


def test_more_trials_go_on_with_the_same_study(small: RunConfig, storage: BaseStorage) -> None:
    run_trials(open_study(small, storage, "study", "objects"), small, peak_scores)
    more = with_search(small, trials=9)
    study = open_study(more, storage, "study", "objects")
    run_trials(study, more, peak_scores)
    assert len(finished_trials(study)) == 9


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"seed": 1}, "seed 0, now it is 1"),
        ({"training.epochs": 4}, "training.epochs 3, now it is 4"),
        ({"search.space": ("dropout",)}, "search.ranges.hidden_dim"),
        ({"search.folds": 4}, "search.folds 3, now it is 4"),
    ],
)
def test_another_space_or_setting_is_refused_by_naming_the_difference(
    small: RunConfig, storage: BaseStorage, changes: dict[str, object], sentence: str
) -> None:
    open_study(small, storage, "study", "objects")
    other = small
    for name, value in changes.items():
        room, _, last = name.rpartition(".")
        other = replace(other, **{room: replace(getattr(other, room), **{last: value})} if room else {last: value})
    with pytest.raises(ValueError, match="study study was made with") as error:
        open_study(other, storage, "study", "objects")
    assert sentence in str(error.value)


def test_other_objects_are_refused(small: RunConfig, storage: BaseStorage) -> None:
    open_study(small, storage, "study", "objects")
    with pytest.raises(ValueError, match="study study was made with other objects or labels"):
        open_study(small, storage, "study", "other objects")


def test_a_hopeless_trial_is_given_up_after_a_fold(small: RunConfig) -> None:
    fitted: dict[int, int] = {}

    def scores(config: RunConfig) -> Iterator[float]:
        trial = len(fitted)
        for fold in range(3):
            fitted[trial] = fold + 1
            yield 0.1 if trial == 4 else 0.8

    config = with_search(small, trials=5)
    study = in_memory(config)
    run_trials(study, config, scores)
    assert [fitted[trial] for trial in range(5)] == [3, 3, 3, 3, 1]
    assert finished_trials(study)[4].state == TrialState.PRUNED
    whole = with_search(small, trials=5, prune=False)
    fitted.clear()
    run_trials(in_memory(whole), whole, scores)
    assert set(fitted.values()) == {3}


def test_a_trial_that_diverges_is_given_up_and_the_study_goes_on(small: RunConfig) -> None:
    def scores(config: RunConfig) -> Iterator[float]:
        if config.training.learning_rate > 0.002:
            raise NonFiniteLossError("the loss of epoch 1 is nan", ())
        yield from peak_scores(config)

    study = in_memory(small)
    run_trials(study, small, scores)
    states = {trial.state for trial in study.trials if trial.params["learning_rate"] > 0.002}
    assert states == {TrialState.PRUNED}
    assert len(finished_trials(study)) == small.search.trials
    assert "the loss of epoch 1 is nan" in study.trials[0].user_attrs["diverged"]


def test_every_place_lies_inside_the_ranges(small: RunConfig) -> None:
    space = (
        "hidden_dim",
        "dropout",
        "learning_rate",
        "weight_decay",
        "widths",
        "image_size",
        "image_noise",
        "dihedral",
    )
    config = with_search(small, over="all", space=space, trials=12)
    seen = []

    def scores(tried: RunConfig) -> Iterator[float]:
        seen.append(tried)
        yield from peak_scores(tried)

    run_trials(in_memory(config), config, scores)
    ranges = config.search.ranges
    for tried in seen[1:]:
        assert 16 <= tried.models.hidden_dim <= 64
        assert tried.models.hidden_dim % 2 == 0
        assert 0.1 <= tried.models.dropout <= 0.5
        assert 1e-4 <= tried.training.learning_rate <= 1e-2
        assert tried.models.spectrum.widths in ranges.widths
        assert tried.tensors.image_size in ranges.image_size
    assert len({tried.models.spectrum.widths for tried in seen}) > 1
