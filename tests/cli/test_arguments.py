"""Command lines: configs come first whatever the order, lists need no quotes, a mistake gives one sentence."""

from pathlib import Path

import pytest

from mmagn.cli.arguments import ConfigParser, Parser, number
from mmagn.config.run_config import RunConfig, changed_settings, save_config
from mmagn.storage.settings import declared_settings


def example() -> int:
    """Return what a command would."""
    return 0


def parser() -> ConfigParser:
    made = ConfigParser(example, ["mmagn example --run RUN"], listed=("name", "training.epochs"), base="--run")
    made.add_argument("--run", action="append", default=[])
    made.add_argument("--workers", type=number(int, at_least=1, at_most=64), default=1)
    made.add_argument("--prevalence", type=number(float, above=0, below=1))
    return made


def read(*arguments: str) -> RunConfig:
    return parser().parsed(arguments)[0]


def test_a_dotted_option_changes_that_setting_alone() -> None:
    assert changed_settings(read("--training.learning_rate", "0.01")) == {"training.learning_rate": 0.01}
    assert changed_settings(read("--training.learning_rate=1e-2")) == {"training.learning_rate": 0.01}


@pytest.mark.parametrize(
    "arguments",
    [
        ("--config", "handcrafted.yaml", "--name", "other", "--training.epochs", "7"),
        ("--name", "other", "--config", "handcrafted.yaml", "--training.epochs", "7"),
        ("--name", "other", "--training.epochs", "7", "--config=handcrafted.yaml"),
    ],
)
def test_configs_are_applied_before_single_settings_whatever_the_order(arguments: tuple[str, ...]) -> None:
    config = read(*arguments)
    assert (config.name, config.training.epochs, config.models.branches) == ("other", 7, ("features",))


def test_later_configs_win_over_earlier_ones(tmp_path: Path) -> None:
    more = tmp_path / "more.yaml"
    more.write_text("name: more\n", encoding="utf-8")
    assert read("--config", "handcrafted", "--config", str(more)).name == "more"
    assert read("--config", str(more), "--config", "handcrafted").name == "handcrafted"


def test_lists_need_no_brackets() -> None:
    assert read("--models.branches", "image,features").models.branches == ("image", "features")
    assert read("--models.branches", "[image, features]").models.branches == ("image", "features")
    assert read("--data.cells", "1104").data.cells == (1104,)


def test_the_settings_of_a_named_run_are_the_base(tmp_path: Path) -> None:
    save_config(RunConfig(name="first", seed=5), tmp_path / "config.yaml")
    assert read("--run", str(tmp_path), "--name", "second").seed == 5
    assert read("--run", str(tmp_path), "--config", "handcrafted.yaml").seed == 0
    assert read("--run", str(tmp_path / "missing")) == RunConfig()


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--trainng.epochs", "3"], "trainng.epochs is not a setting; the nearest is training.epochs"),
        (["--training.epoch", "3"], "training.epoch is not a setting; the nearest is training.epochs"),
        (["--training", "3"], "training is a group of settings; name one of them, such as training.epochs"),
        (["--runn", "X"], "--runn is not an option; the nearest is --run"),
        (["--workers", "two"], "--workers is two; allowed: 1 to 64"),
        (["--workers", "0"], "--workers is 0; allowed: 1 to 64"),
        (["--prevalence", "nan"], "--prevalence is nan; allowed: between 0 and 1"),
        (["--models.branches", "[featurs]"], "models.branches is [featurs]; allowed: a list of one or more, each once"),
        (["--models.branches", "[image"], "models.branches is '[image'; allowed: a list such as a,b or [a, b]"),
        (["--training.epochs", "many"], "training.epochs is many; allowed: 1 or more"),
        (["--training.epochs"], "--training.epochs needs a value; allowed: 1 or more"),
        (["--training.epochs", "--name", "x"], "--training.epochs needs a value; allowed: 1 or more"),
        (["--training.epochs", "0"], "training.epochs is 0; allowed: 1 or more"),
        (["--labels.min_snr", "nan"], "labels.min_snr is nan; allowed: 0 or more"),
        (["--labels.min_snr", ""], "labels.min_snr is '' ; allowed: 0 or more".replace(" ;", ";")),
        (["--seed", "-1"], "seed is -1; allowed: 0 to below 4294967296"),
        (["--seed", "99999999999999"], "seed is 99999999999999; allowed: 0 to below 4294967296"),
        (["--name", "a/b"], "name is a/b; allowed: letters"),
        (["--splits.nside", "100"], "splits.nside is 100; allowed: a power of 2"),
        (["--config", "nowhere.yaml"], "nowhere.yaml: no such file or run folder; the shipped configs are"),
        (["--data.source", "store"], "data.source store needs data.root"),
    ],
)
def test_a_wrong_argument_is_answered_in_one_sentence_without_types_of_python(
    arguments: list[str], sentence: str
) -> None:
    with pytest.raises(ValueError, match=r".+") as caught:
        read(*arguments)
    assert sentence in str(caught.value)
    assert "\n" not in str(caught.value)
    assert "class '" not in str(caught.value)


def test_a_misspelt_option_is_named_before_one_that_is_missing() -> None:
    made = Parser(example)
    made.add_argument("--run", required=True)
    with pytest.raises(ValueError, match="--runn is not an option; the nearest is --run"):
        made.parse_args(["--runn", "X"])


def test_the_help_is_short_and_the_whole_help_explains_every_setting(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="0"):
        read("--help")
    short = capsys.readouterr().out
    assert "mmagn example --run RUN" in short
    assert short.count("\n") < 40
    with pytest.raises(SystemExit, match="0"):
        read("--help-all")
    long = capsys.readouterr().out
    for name in declared_settings(RunConfig):
        assert f"\n  --{name} VALUE\n        " in long, name
    assert "``" not in long


def test_print_config_shows_the_result(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="0"):
        read("--config", "handcrafted.yaml", "--print_config", "--training.epochs", "3")
    assert "epochs: 3" in capsys.readouterr().out
