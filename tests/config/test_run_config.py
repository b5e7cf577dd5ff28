"""Settings are typed, strict, explained, saved and read back."""

import dataclasses
import sys

import pytest

from mmagn.config.run_config import (
    RunConfig,
    changed_settings,
    config_from_namespace,
    config_parser,
    load_config,
    parse_arguments,
    save_config,
    unknown_setting,
    without_effect,
)
from mmagn.models.config import ModelsConfig
from mmagn.storage.settings import declared_settings
from mmagn.surveys.config import DataConfig, HubConfig


def read(arguments: list[str]) -> RunConfig:
    parser = config_parser("a test")
    return config_from_namespace(parser, parse_arguments(parser, arguments))


def test_a_dotted_override_changes_that_setting_alone() -> None:
    assert changed_settings(read(["--training.learning_rate", "0.01"])) == {"training.learning_rate": 0.01}


def test_a_bare_config_name_is_looked_up_in_configs() -> None:
    assert read(["--config", "handcrafted.yaml"]).models.branches == ("features",)


def test_an_override_wins_over_the_file() -> None:
    assert read(["--config", "handcrafted.yaml", "--name", "other"]).name == "other"


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--trainng.epochs", "3"], "trainng.epochs is not a setting; the nearest is training.epochs"),
        (["--training.epoch", "3"], "the nearest is training.epochs"),
        (["--models.branches", "[featurs]"], "models.branches"),
        (["--training.epochs", "many"], "training.epochs"),
        (["--config", "nowhere.yaml"], "nowhere.yaml: no such file, and configs/ has only"),
    ],
)
def test_a_wrong_argument_ends_with_one_sentence(
    arguments: list[str], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        read(arguments)
    complaint = capsys.readouterr().err
    assert caught.value.code == 2
    assert sentence in complaint
    assert complaint.count("\n") == 1


def test_an_unknown_key_in_a_file_names_file_and_nearest_key(tmp_path, capsys) -> None:
    path = tmp_path / "bad.yaml"
    path.write_text("models:\n  dropuot: 0.1\n", encoding="utf-8")
    with pytest.raises(SystemExit):
        read(["--config", str(path)])
    assert "bad.yaml: models.dropuot is not a setting; the nearest is models.dropout" in capsys.readouterr().err


def test_a_file_that_is_not_yaml_is_refused_by_name(tmp_path, capsys) -> None:
    path = tmp_path / "broken.yaml"
    path.write_text("models: [unclosed\n", encoding="utf-8")
    with pytest.raises(SystemExit):
        read(["--config", str(path)])
    assert "broken.yaml: not readable as YAML" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("argument", "value"),
    [
        ("training.epochs", "0"),
        ("models.dropout", "1.5"),
        ("splits.nside", "100"),
        ("matching.radius_arcsec", "0"),
        ("tensors.image_size", "15"),
        ("evaluation.confidence", "1"),
        ("labels.min_snr", "-1"),
        ("data.simulate.pairs", "0"),
        ("name", "a/b"),
    ],
)
def test_a_value_out_of_range_is_refused_by_name_and_value(argument: str, value: str) -> None:
    with pytest.raises(ValueError, match=rf"^{argument} is .*allowed"):
        read([f"--{argument}", value])


def test_a_source_without_its_folder_is_refused() -> None:
    with pytest.raises(ValueError, match=r"data\.source hdf5 needs data\.root"):
        DataConfig(source="hdf5")


def test_a_saved_config_reads_back_equal(tmp_path) -> None:
    config = RunConfig(name="x", seed=7, models=ModelsConfig(branches=("image",), dropout=0.1))
    save_config(config, tmp_path / "config.yaml")
    assert load_config(tmp_path / "config.yaml") == config


def test_every_setting_is_explained_in_the_help(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        config_parser("a test").parse_args(["--help"])
    paragraphs = capsys.readouterr().out.split("\n  --")
    for name in declared_settings(RunConfig):
        (paragraph,) = [text for text in paragraphs if text.split()[0] == name]
        explanation = " ".join(paragraph.split()[2:])
        assert not explanation.startswith("(type"), f"{name} has no explanation"


def test_a_setting_that_changes_nothing_is_said() -> None:
    config = RunConfig(
        models=ModelsConfig(branches=("features",), image=dataclasses.replace(ModelsConfig().image, embedding_dim=12))
    )
    assert without_effect(config) == ["models.image.embedding_dim has no effect: models.branches has no image"]
    assert without_effect(RunConfig()) == []


def test_unknown_names_without_likeness_point_to_the_help() -> None:
    assert unknown_setting("zzzzqqq") == "zzzzqqq is not a setting; --help lists them all"


def test_reading_settings_does_not_load_torch() -> None:
    import subprocess

    code = "import sys, mmagn.config.run_config; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_repository_that_is_not_read_is_said_to_have_no_effect():
    config = RunConfig(data=DataConfig(source="hub", root="tree", hub=HubConfig(pairs="someone/pairs")))
    reason = "has no effect: data.source is hub"
    assert without_effect(config) == [f"data.root {reason}", f"data.hub.pairs {reason}"]
