"""Every setting declares what it affects and what is allowed; checks, cache keys and warnings follow from that."""

import dataclasses
from dataclasses import dataclass

import pytest

from mmagn.config.run_config import RunConfig
from mmagn.labels.config import CatalogConfig, LabelsConfig
from mmagn.models.config import ModelsConfig
from mmagn.spectroscopy.config import SpectroscopyConfig
from mmagn.storage.settings import (
    Settings,
    declared_settings,
    setting,
    setting_types,
    setting_values,
    settings_affecting,
)
from mmagn.surveys.config import DataConfig
from mmagn.tensors.config import TensorsConfig
from mmagn.training.config import TrainingConfig

FLOATS = [name for name, kind in setting_types(RunConfig).items() if kind is float]


def with_value(name: str, value: object) -> RunConfig:
    def replaced(config: object, parts: list[str]) -> object:
        inner = replaced(getattr(config, parts[0]), parts[1:]) if parts[1:] else value
        return dataclasses.replace(config, **{parts[0]: inner})

    return replaced(RunConfig(), name.split("."))


def test_every_setting_declares_what_it_affects() -> None:
    for name, declared in declared_settings(RunConfig).items():
        assert declared.affects, name
        assert "nothing" not in declared.affects or declared.affects == ("nothing",), name
        assert set(dict.fromkeys(needed for needed, *_ in declared.needs)) <= {*declared_settings(RunConfig)}, name


def test_a_field_that_declares_nothing_is_refused() -> None:
    @dataclass(frozen=True, kw_only=True)
    class Undeclared(Settings):
        SECTION = "there"
        size: int = 3

    with pytest.raises(TypeError, match=r"there\.size does not declare what it affects"):
        declared_settings(Undeclared)


def test_the_dotted_names_are_the_path_of_attributes() -> None:
    for name, value in setting_values(RunConfig()).items():
        reached = RunConfig()
        for part in name.split("."):
            reached = getattr(reached, part)
        assert reached == value, name


@pytest.mark.parametrize("value", [float("nan"), float("inf"), None, "many", True])
@pytest.mark.parametrize("name", FLOATS)
def test_a_number_that_is_not_finite_or_not_a_number_is_refused(name: str, value: object) -> None:
    with pytest.raises(ValueError, match=rf"^{name} is .*; allowed: "):
        with_value(name, value)


@pytest.mark.parametrize("name", sorted(declared_settings(RunConfig)))
def test_null_is_refused_by_every_setting_that_has_another_type(name: str) -> None:
    if setting_values(RunConfig())[name] is None:
        return
    with pytest.raises(ValueError, match=rf"^{name} is null; allowed: "):
        with_value(name, None)


def test_an_empty_section_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match=r"^labels is null; allowed: settings such as labels\.NAME"):
        RunConfig(labels=None)


@pytest.mark.parametrize(
    ("name", "value", "sentence"),
    [
        ("training.epochs", 0, "training.epochs is 0; allowed: 1 or more"),
        ("models.dropout", 1.0, "models.dropout is 1.0; allowed: 0 to below 1"),
        ("models.hidden_dim", 7, "models.hidden_dim is 7; allowed: even, 2 or more"),
        ("training.pos_weight", -1.0, "training.pos_weight is -1.0; allowed: above 0, or null"),
        ("labels.vote", 1, "labels.vote is 1; allowed: true or false"),
        ("seed", 2**32, "seed is 4294967296; allowed: 0 to below 4294967296"),
        ("tensors.features", ("ew", "ew"), "tensors.features is [ew, ew]; allowed: a list of one or more, each once: "),
        ("ablation.variants", ("cnn",), "ablation.variants has cnn; allowed: handcrafted, "),
        ("models.branches", ("featurs",), "models.branches is [featurs]; allowed: a list of one or more, each once: "),
        ("models.branches", (), "models.branches is []; allowed: a list of one or more, each once: "),
        ("search.ranges.dropout", (0.5, 0.1), "is [0.5, 0.1]; allowed: a list of 2, the smaller first: 0 to below 1"),
        ("search.ranges.widths", ((),), "search.ranges.widths has []; allowed: "),
        ("search.ranges.hidden_dim", (15, 64), "search.ranges.hidden_dim has 15; allowed: even, 2 or more"),
        ("data.hub.sdss", "sdss", "data.hub.sdss is sdss; allowed: ORG/NAME of a dataset repository"),
        ("data.root", "", "data.root is ''; allowed: text that is not empty, or null"),
    ],
)
def test_the_sentence_names_setting_value_and_what_is_allowed(name: str, value: object, sentence: str) -> None:
    with pytest.raises(ValueError, match="allowed") as caught:
        with_value(name, value)
    assert sentence in str(caught.value)


def test_settings_that_change_nothing_are_in_no_cache_key() -> None:
    fast = RunConfig(
        training=TrainingConfig(device="cpu", log_every=1),
        tensors=TensorsConfig(residency="stream", workers=9),
        spectroscopy=SpectroscopyConfig(batch_size=7),
    )
    every = ("pairs", "measurements", "labels", "tensors", "fit", "calibration", "judging")
    assert settings_affecting(fast, *every) == settings_affecting(RunConfig(), *every)


def test_the_settings_of_a_stage_are_sorted_plain_values_of_that_stage_alone() -> None:
    labels = settings_affecting(RunConfig(), "labels")
    assert list(labels) == sorted(labels)
    assert labels == settings_affecting(LabelsConfig(), "labels")
    assert labels["labels.min_snr"] == 3.0
    assert settings_affecting(RunConfig(), "tensors")["models.branches"] == ["image", "spectrum", "features"]


def test_a_setting_without_effect_is_in_no_cache_key() -> None:
    features = RunConfig(models=ModelsConfig(branches=("features",)))
    assert not [name for name in settings_affecting(features, "fit", "tensors") if "image" in name]
    assert "data.root" not in settings_affecting(RunConfig(), "pairs")
    assert "data.root" in settings_affecting(RunConfig(data=DataConfig(source="store", root="x")), "pairs")
    image = settings_affecting(TensorsConfig(), "tensors", others={"models.branches": ("image",)})
    assert sorted(image) == ["tensors.asinh_softening", "tensors.image_noise_njy", "tensors.image_size"]


def test_a_resumed_run_may_be_longer_and_its_pairs_elsewhere() -> None:
    config = RunConfig(data=DataConfig(source="store", root="x"))
    fixed = settings_affecting(config, "pairs", "fit", resumable=False)
    assert {"training.epochs", "training.patience", "data.root"}.isdisjoint(fixed)
    assert {"training.learning_rate", "data.source", "seed"} <= {*fixed}


def test_a_config_class_checks_what_it_declares() -> None:
    @dataclass(frozen=True, kw_only=True)
    class Box(Settings):
        SECTION = "box"
        sides_m: tuple[float, float] = setting((1.0, 2.0), "fit", above=0)

    assert Box(sides_m=(1, 2.5)).sides_m == (1, 2.5)
    for wrong in ((1.0,), [1.0, 2.0], (1.0, float("nan"))):
        with pytest.raises(ValueError, match=r"^box\.sides_m is .*; allowed: a list of 2: above 0"):
            Box(sides_m=wrong)


def test_an_empty_text_among_the_choices_is_written_as_one() -> None:
    with pytest.raises(ValueError, match=r"^labels\.catalog\.preset is x; allowed: '', mpa-jhu, "):
        CatalogConfig(preset="x")
