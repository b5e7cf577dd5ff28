"""Settings are typed, strict, explained, saved and read back."""

import dataclasses
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pytest
import yaml

from mmagn.config.reading import explanations, setting_from_text, setting_from_value, unknown_setting
from mmagn.config.run_config import (
    RunConfig,
    changed_settings,
    differing_settings,
    load_config,
    save_config,
    without_effect,
)
from mmagn.models.config import ModelsConfig
from mmagn.storage.settings import declared_settings, setting_types, setting_values
from mmagn.surveys.config import DataConfig, HubConfig

CATALOG = {"table": "wise.fits", "preset": "stern2012"}


def written(folder: Path, text: str) -> Path:
    path = folder / "some.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def refusal(path: Path) -> str:
    with pytest.raises(ValueError, match=r"some\.yaml") as caught:
        load_config(path)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_shipped_config_is_found_by_its_name_with_or_without_yaml() -> None:
    assert load_config("handcrafted.yaml") == load_config("handcrafted")
    assert load_config("handcrafted").models.branches == ("features",)
    with pytest.raises(ValueError, match=r"nowhere: no such file or run folder; the shipped configs are ablation"):
        load_config("nowhere")


def test_changes_are_named_in_full_or_by_a_last_part_that_is_unique() -> None:
    config = load_config("fused", epochs=5, **{"data.source": "store", "data.root": Path("pairs")})
    assert changed_settings(config) == {"training.epochs": 5, "data.source": "store", "data.root": "pairs"}
    assert load_config(seed=3).seed == 3
    with pytest.raises(ValueError, match=r"workers could be data\.hub\.workers, dask\.workers"):
        load_config(workers=3)
    with pytest.raises(ValueError, match=r"epoch is not a setting; the nearest is training\.epochs"):
        load_config(epoch=3)


@pytest.mark.parametrize("value", [["image", "features"], ("image", "features"), "image,features", "[image, features]"])
def test_a_list_may_be_a_list_a_tuple_or_a_text(value: object) -> None:
    assert load_config(branches=value).models.branches == ("image", "features")


def test_a_key_that_is_written_twice_is_refused_with_both_lines(tmp_path: Path) -> None:
    path = written(tmp_path, "training:\n  epochs: 3\nname: x\ntraining:\n  batch_size: 4\n")
    assert "training is written twice, in lines 1 and 4" in refusal(path)
    path = written(tmp_path, "training:\n  epochs: 3\n  epochs: 4\n")
    assert "training.epochs is written twice, in lines 2 and 3" in refusal(path)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (
            "models:\n  dropuot: 0.1\n",
            "models.dropuot is not a setting; the nearest is models.dropout (line 2)",
        ),
        ("models: [unclosed\n", "some.yaml: not readable as YAML"),
        ("- a\n- b\n", "some.yaml: must hold settings as name: value"),
        ("labels:\n  min_snr: .nan\n", "some.yaml, line 2: labels.min_snr is .nan; allowed: 0 or more"),
        ("labels:\n  min_snr: inf\n", "labels.min_snr is inf; allowed: 0 or more"),
        ("labels:\n  min_snr:\n", "some.yaml, line 2: labels.min_snr is null; allowed: 0 or more"),
        ("labels:\n", "some.yaml, line 1: labels is empty; allowed: settings such as labels.NAME"),
        ("labels: 3\n", "some.yaml, line 1: labels is a value; allowed: settings such as labels.NAME"),
        ("training:\n  epochs: many\n", "training.epochs is many; allowed: 1 or more"),
        ("training:\n  epochs: 2.5\n", "training.epochs is 2.5; allowed: 1 or more"),
        ("training:\n  epochs: {a: 1}\n", "some.yaml, line 2: training.epochs is "),
        ("data:\n  cells: {a: 1}\n", "some.yaml, line 2: data.cells is "),
        ("models:\n  branches:\n    - [image]\n", "models.branches is [[image]]; allowed: a list of one or more"),
        ("labels:\n  vote: 1\n", "labels.vote is 1; allowed: true or false"),
        ("name: null\n", "name is null; allowed: letters"),
    ],
)
def test_a_file_is_refused_in_one_sentence(text: str, sentence: str, tmp_path: Path) -> None:
    assert sentence in refusal(written(tmp_path, text))


def test_a_text_setting_is_read_as_it_is_written(tmp_path: Path) -> None:
    for name in ("1e3", "007", "no", "2024-01-01"):
        config = load_config(written(tmp_path, f"name: {name}\n"))
        assert config.name == name
        save_config(config, tmp_path / "config.yaml")
        assert load_config(tmp_path / "config.yaml").name == name


def test_an_empty_file_is_the_default(tmp_path: Path) -> None:
    assert load_config(written(tmp_path, "# nothing\n")) == RunConfig()


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("data.cells", "1104", (1104,)),
        ("data.cells", "1104,1107", (1104, 1107)),
        ("data.cells", "[1104, 1107]", (1104, 1107)),
        ("data.cells", "", ()),
        ("training.learning_rate", "1e-3", 1e-3),
        ("training.pos_weight", "null", None),
        ("labels.vote", "True", True),
        ("search.ranges.widths", "[[8, 16], [16, 32]]", ((8, 16), (16, 32))),
        ("search.study", "", ""),
    ],
)
def test_a_text_becomes_the_type_of_its_setting(name: str, text: str, value: object) -> None:
    assert setting_from_text(name, text, RunConfig) == value


def test_every_default_is_read_back_from_its_text() -> None:
    for name, value in setting_values(RunConfig()).items():
        assert setting_from_value(name, value, RunConfig) == value, name


def test_a_source_without_its_folder_is_refused() -> None:
    with pytest.raises(ValueError, match=r"data\.source hdf5 needs data\.root"):
        DataConfig(source="hdf5")


def test_a_saved_config_reads_back_equal_with_absolute_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    config = RunConfig(
        name="x",
        seed=7,
        models=ModelsConfig(branches=("image",), dropout=0.1),
        data=DataConfig(source="store", root="pairs"),
    )
    save_config(config, tmp_path / "config.yaml")
    saved = load_config(tmp_path / "config.yaml")
    assert differing_settings(config, saved) == {}
    assert saved.data.root == str(tmp_path / "pairs")
    assert saved.runs_dir == str(tmp_path / "checkpoints")
    assert Path(saved.data.cache_dir) == Path("~/.cache/mmagn").expanduser()
    assert saved.data.hats.hsc == config.data.hats.hsc
    assert changed_settings(saved).keys() == changed_settings(config).keys()


def test_every_setting_is_explained() -> None:
    assert explanations(RunConfig).keys() == declared_settings(RunConfig).keys() == setting_types(RunConfig).keys()


def test_a_setting_that_changes_nothing_is_reported() -> None:
    config = RunConfig(
        models=ModelsConfig(branches=("features",), image=dataclasses.replace(ModelsConfig().image, embedding_dim=12))
    )
    assert without_effect(config) == ["models.image.embedding_dim has no effect: models.branches has no image"]
    assert without_effect(RunConfig()) == []


def test_what_an_ablation_cannot_do_is_refused_at_once() -> None:
    changes = {"ablation.variants": ["fused", "embedding"], "ablation.questions": []}
    with pytest.raises(ValueError, match=r"ablation\.variants has embedding, but data\.embeddings names no file"):
        load_config(**changes)
    assert load_config(**changes, **{"data.embeddings": "vectors.parquet"}).data.embeddings
    unlabelled = {f"labels.catalog.{name}": value for name, value in CATALOG.items()}
    unlabelled["labels.catalog.unknown"] = "background"
    with pytest.raises(ValueError, match=r"ablation\.metric is mcc, which needs negatives, .* average_precision"):
        load_config(**unlabelled, **{"ablation.metric": "mcc"})
    assert load_config(**unlabelled).ablation.metric == "average_precision"


def test_vectors_that_nothing_takes_have_no_effect() -> None:
    vectors = {"data.embeddings": "vectors.parquet"}
    (sentence,) = without_effect(load_config(**vectors))
    assert sentence == "data.embeddings has no effect: models.branches and ablation.variants have no embedding"
    for taker in (
        {"models.branches": "spectrum,embedding"},
        {"ablation.variants": "embedding", "ablation.questions": ""},
    ):
        assert without_effect(load_config(**vectors, **taker)) == []


def test_a_catalogue_that_is_only_scored_decides_no_fit() -> None:
    trained = load_config(**{f"labels.catalog.{name}": value for name, value in CATALOG.items()})
    scored = load_config(**{f"labels.catalog.{name}": value for name, value in {**CATALOG, "use": "score"}.items()})
    assert scored.fit_settings("labels", "fit") == RunConfig().fit_settings("labels", "fit")
    assert trained.fit_settings("labels", "fit")["labels.catalog.preset"] == "stern2012"
    unused = dataclasses.replace(scored.labels.catalog, unknown="background")
    config = dataclasses.replace(scored, labels=dataclasses.replace(scored.labels, catalog=unused))
    assert without_effect(config) == ["labels.catalog.unknown has no effect: labels.catalog.use is score"]


def test_a_repository_that_is_not_read_has_no_effect() -> None:
    config = RunConfig(data=DataConfig(source="hub", root="tree", hub=HubConfig(pairs="someone/pairs")))
    reason = "has no effect: data.source is hub"
    assert without_effect(config) == [f"data.root {reason}", f"data.hub.pairs {reason}"]


def test_the_desi_catalogue_of_ready_made_pairs_has_an_effect_and_the_medium_of_files_that_are_not_read_has_none() -> (
    None
):
    hub = HubConfig(desi="someone/desi", desi_revision="v1")
    assert without_effect(RunConfig(data=DataConfig(source="hub-pairs", hub=hub))) == []
    sentence = "data.wavelengths has no effect: data.source is embedded"
    assert without_effect(RunConfig(data=DataConfig(wavelengths="air"))) == [sentence]


def test_unknown_names_point_to_the_nearest_or_to_the_help() -> None:
    assert unknown_setting("zzzzqqq", RunConfig) == "zzzzqqq is not a setting; --help-all lists them all"
    assert unknown_setting("training", RunConfig).startswith("training is a group of settings; name one of them")


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://user:secret@host/db",
        "postgresql://user:sec#ret@host/db",
        "postgresql://user:sec/ret@host/db",
        "postgresql://user:sec?ret@host/db",
        "postgresql://host/db?user=u&password=secret",
        "postgresql+psycopg://host/db?PASSWORD=secret",
        "mysql://host/db?passwd=secret",
    ],
)
def test_a_password_of_a_database_is_refused_and_not_repeated(url: str, tmp_path: Path) -> None:
    for attempt in (
        lambda: load_config(storage=url),
        lambda: load_config(written(tmp_path, yaml.safe_dump({"search": {"storage": url}}))),
    ):
        with pytest.raises(ValueError, match=r"search\.storage holds a password") as caught:
            attempt()
        assert "secret" not in str(caught.value)
        assert "sec" not in str(caught.value).replace("second", "")


def test_an_address_without_a_password_is_a_storage() -> None:
    for url in ("postgresql://user@host/db", "sqlite:///studies.db", "postgresql://host/db?passfile=pgpass"):
        assert load_config(storage=url).search.storage == url
    with pytest.raises(ValueError, match=r"search\.storage is not the URL of a database") as caught:
        load_config(storage="user:secret@host")
    assert "secret" not in str(caught.value)


def test_reading_settings_does_not_load_torch() -> None:
    code = "import sys, mmagn.config.run_config; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_the_names_of_settings_are_unique() -> None:
    names = sorted(declared_settings(RunConfig))
    assert all(before != after for before, after in pairwise(names))
