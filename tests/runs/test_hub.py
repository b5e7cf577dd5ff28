"""A trained run on a hub: what is pushed and what is not, the card, and the same predictions from there."""

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import huggingface_hub.constants
import numpy as np
import pytest
import yaml
from astropy.table import Table
from hub_server import TOKEN, HubServer, hub_server

import mmagn
from mmagn.cli.main import main
from mmagn.config.run_config import config_dict, load_config, save_config
from mmagn.labels.catalog import POSITIVE, CatalogLabels
from mmagn.labels.config import CatalogConfig
from mmagn.matching.store import pair_store
from mmagn.reporting.page.report import write_report
from mmagn.runs.hub import hub_address, local_run, push_run
from mmagn.runs.label_scores import label_scores
from mmagn.runs.members import load_members
from mmagn.runs.outside_labels import labels_summary
from mmagn.storage.files import write_json
from mmagn.storage.provenance import provenance
from mmagn.storage.run_folder import RunFolder
from mmagn.surveys.config import DataConfig

pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")  # huggingface_hub warns of itself
NAME = "someone/agn"
PUSHED = {
    *("README.md", "calibration.json", "config.yaml", "importance.json", "novelty.safetensors"),
    *("run.json", "scaling.json", "scores.json", "weights.safetensors"),
}


@pytest.fixture(scope="session")
def trained(world: dict, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A scored run, with the address of a database in a setting that it does not use."""
    run = RunFolder(tmp_path_factory.mktemp("checkpoints") / "run")
    shutil.copytree(world["run"], run.path)
    search = replace(world["config"].search, storage="postgresql://hunter2@internal/studies")
    save_config(replace(world["config"], runs_dir=str(run.path.parent), search=search), run.config)
    sample, (member,) = world["sample"], load_members([world["run"]])
    used, rows = member.calibrations["image+spectrum"], sample.split == "test"
    probability = used.calibration.probability(world["logits"])
    scored = label_scores(member.config, sample, rows, probability, used.threshold)
    write_json(run.scores, {"split": "test", **scored.content})
    write_json(run.provenance, provenance())
    run.seal()
    return run.path


@pytest.fixture
def models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """An empty hub, and an empty cache of ``huggingface_hub``."""
    monkeypatch.setenv("no_proxy", "127.0.0.1,localhost")
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub-cache"))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_DISABLE_XET", True)  # the hub of the tests speaks LFS alone
    with hub_server(tmp_path / "hub") as server:
        server.large_suffixes = (".safetensors",)
        monkeypatch.setenv("HF_ENDPOINT", server.url)
        yield server


def pairs(world: dict, count: int = 6) -> list:
    return [world["sample"].store.pair(number) for number in range(count)]


def test_a_pushed_run_predicts_as_the_folder_it_came_from(world: dict, trained: Path, models: HubServer) -> None:
    address = mmagn.push(trained, NAME)
    assert models.url in address and models.calls["commit"] == 1
    ours = mmagn.load(trained).predict(pairs(world))
    for name in (NAME, f"hf://{NAME}", f"{NAME}@{models.commit(NAME)}"):
        theirs = mmagn.load(name).predict(pairs(world))
        np.testing.assert_array_equal(ours["logit"], theirs["logit"])
        np.testing.assert_array_equal(ours["calibrated_probability"], theirs["calibrated_probability"])
        np.testing.assert_array_equal(ours["training_distance"], theirs["training_distance"])


def test_predict_takes_the_address_and_the_catalogue_names_repository_and_commit(
    world: dict, trained: Path, models: HubServer, tmp_path: Path
) -> None:
    push_run(trained, NAME)
    data = ("--data.source", "store", "--data.root", str(world["sample"].store.path), "--workers", "0")
    for run, out in ((f"hf://{NAME}@main", "hub.parquet"), (str(trained), "local.parquet")):
        assert main(["predict", "--run", run, *data, "--out", str(tmp_path / out)]) == 0
    hub, local = (Table.read(tmp_path / name) for name in ("hub.parquet", "local.parquet"))
    np.testing.assert_array_equal(hub["logit"], local["logit"])
    assert json.loads(hub.meta["RUNS"]) == [f"{NAME}@{models.commit(NAME)}"]


def test_a_revision_stays_what_it_was_after_the_next_push(world: dict, trained: Path, models: HubServer) -> None:
    push_run(trained, NAME)
    first = models.commit(NAME)
    other = models.folder / "other-run"
    shutil.copytree(trained, other)
    calibration = json.loads((other / "calibration.json").read_text())
    calibration["image+spectrum"]["threshold"] = 0.987
    (other / "calibration.json").write_text(json.dumps(calibration))
    (other / "novelty.safetensors").unlink()
    RunFolder(other).seal()
    push_run(other, NAME)
    assert not (models.folder / NAME / "novelty.safetensors").exists(), "no mixture of two pushes"
    thresholds = [
        json.loads((local_run(f"{NAME}@{revision}") / "calibration.json").read_text())["image+spectrum"]["threshold"]
        for revision in (first, "main")
    ]
    assert thresholds[0] != 0.987 and thresholds[1] == 0.987


def test_nothing_of_this_machine_and_nothing_pickled_is_pushed(world: dict, trained: Path, models: HubServer) -> None:
    recorded = json.loads((trained / "run.json").read_text())
    assert "hunter2" in (trained / "config.yaml").read_text()
    push_run(trained, NAME)
    folder = models.folder / NAME
    assert {path.name for path in folder.iterdir()} == PUSHED
    for path in folder.iterdir():
        content = path.read_bytes()
        for secret in ("hunter2", TOKEN, str(world["base"]), str(trained.parent), str(Path.home()), "/tmp/"):
            assert secret.encode() not in content, f"{secret} in {path.name}"
        if path.suffix != ".safetensors":
            assert not re.search(rb'[\s"\'`]/[\w.-]+/', content), path.name
    pushed = json.loads((folder / "run.json").read_text())
    assert "command" not in pushed and "machine" not in pushed
    assert pushed["versions"] == recorded["versions"]
    assert set(pushed["files"]) == PUSHED - {"README.md", "run.json"}
    assert load_config(folder / "config.yaml").tensors.image_size == 32


def test_of_files_that_settings_name_the_names_are_pushed(trained: Path, models: HubServer, tmp_path: Path) -> None:
    run = RunFolder(tmp_path / "other")
    shutil.copytree(trained, run.path)
    config = load_config(run.config)
    labels = replace(config.labels, catalog=CatalogConfig(table="/archive/agn.fits", join="position", positive="z > 0"))
    spectroscopy = replace(config.spectroscopy, continuum="templates", templates="/archive/miles")
    data = replace(
        config.data, source="hdf5", root="/archive/mmu", objects="/archive/list.csv", embeddings="/archive/v.parquet"
    )
    save_config(replace(config, data=data, labels=labels, spectroscopy=spectroscopy), run.config)
    RunFolder(run.path).seal()
    push_run(run.path, NAME)
    pushed = load_config(models.folder / NAME / "config.yaml")
    assert (pushed.labels.catalog.table, pushed.spectroscopy.templates) == ("agn.fits", "miles")
    assert (pushed.data.source, pushed.data.root, pushed.data.cache_dir) == ("hdf5", "mmu", DataConfig().cache_dir)
    assert (pushed.data.objects, pushed.data.embeddings) == (None, ""), "lists that a user of the model does not have"
    assert local_run(NAME).is_dir(), "what push writes is taken"


@pytest.mark.parametrize(
    ("address", "name"),
    [
        ("https://someone:hunter2@archive.org/agn.fits?token=hunter2#hunter2", "agn.fits"),
        ("https://someone:hunter2@archive.org/?table=agn&token=hunter2", "archive.org"),
    ],
)
def test_a_token_in_the_address_of_a_catalogue_is_never_pushed(
    world: dict, trained: Path, models: HubServer, tmp_path: Path, address: str, name: str
) -> None:
    run, sample = RunFolder(tmp_path / "other"), world["sample"]
    shutil.copytree(trained, run.path)
    config, objects = load_config(run.config), len(sample.table)
    catalog = CatalogConfig(table=address, join="position", positive="z > 0")
    config = replace(config, labels=replace(config.labels, catalog=catalog))
    save_config(config, run.config)
    text = np.full(objects, POSITIVE)
    labels = CatalogLabels(label=text, reason=text, rows=objects, joined=objects)
    scores = json.loads(run.scores.read_text())
    write_json(run.scores, {**scores, "labels": labels_summary(config, sample.table, labels)})
    run.seal()
    push_run(run.path, NAME)
    for path in (models.folder / NAME).iterdir():
        assert b"hunter2" not in path.read_bytes(), path.name
    assert load_config(local_run(NAME) / "config.yaml").labels.catalog.table == name


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("dask.scheduler", "tcp://stranger.org:8786"),
        ("data.root", "/home/user/private"),
        ("data.table", "../private.csv"),
        ("data.objects", "objects.csv"),
        ("data.cache_dir", "elsewhere"),
        ("runs_dir", "~/.ssh"),
        ("data.hats.margin", "/home/user/private"),
        ("labels.catalog.table", "https://stranger.org/t.fits"),
        ("search.storage", "postgresql://stranger.org/studies"),
    ],
)
def test_a_stranger_chooses_no_address_and_no_path_of_this_machine(
    trained: Path, models: HubServer, name: str, value: str
) -> None:
    push_run(trained, NAME)
    published = RunFolder(models.folder / NAME)
    rule = {"labels.catalog.join": "position", "labels.catalog.positive": "z > 0"} if "catalog" in name else {}
    config = load_config(published.config, **{name: value}, **rule)
    published.config.write_text(yaml.safe_dump(config_dict(config)))
    published.seal()
    with pytest.raises(ValueError, match=rf"has settings that no model on a hub may have: {name}; allowed: their def"):
        mmagn.load(NAME)


def test_weights_go_to_the_host_of_files_without_the_token(trained: Path, models: HubServer) -> None:
    push_run(trained, NAME)
    local_run(NAME)
    assert models.calls["upload"] == 2 and models.calls["download"] >= 8
    assert models.hosts_with_token == {"127.0.0.1"}


def test_a_private_repository_needs_the_token(
    trained: Path, models: HubServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    push_run(trained, NAME, private=True)
    assert models.private == {NAME}
    for token in ("", "hf_of_a_stranger"):
        monkeypatch.setenv("HF_TOKEN", token)
        with pytest.raises(ValueError, match=f"has no model repository {NAME}, or HF_TOKEN may not see it"):
            local_run(NAME)
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    assert (local_run(NAME) / "weights.safetensors").is_file()


def test_a_renamed_repository_is_loaded_and_pushed_under_its_old_name(trained: Path, models: HubServer) -> None:
    push_run(trained, "someone/new")
    models.renamed["someone/old"] = "someone/new"
    assert (local_run("someone/old") / "weights.safetensors").is_file()
    push_run(trained, "someone/old")
    assert len(models.earlier["someone/new"]) == 2
    assert not (models.folder / "someone" / "old").exists()
    assert models.hosts_with_token == {"127.0.0.1"}


def test_damage_on_the_way_is_refused_by_name(trained: Path, models: HubServer) -> None:
    push_run(trained, NAME)
    path = models.folder / NAME / "scaling.json"
    path.write_text(path.read_text().replace("1", "2", 1))
    with pytest.raises(ValueError, match=r"scaling\.json is damaged"):
        mmagn.load(NAME)


def test_a_copy_in_the_cache_is_used_where_the_hub_is_not_there(
    trained: Path, models: HubServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    push_run(trained, NAME)
    folder = local_run(NAME)
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    assert local_run(NAME) == folder
    with pytest.raises(ValueError, match=r"hub http://127\.0\.0\.1:9 could not be read for someone/other@main"):
        local_run("someone/other")


def test_wrong_addresses_revisions_and_folders_are_one_sentence(
    world: dict, trained: Path, models: HubServer, capsys: pytest.CaptureFixture[str]
) -> None:
    (models.folder / "someone" / "empty").mkdir(parents=True)
    push_run(trained, NAME)
    for address, sentence in (
        ("someone/none", "has no model repository someone/none"),
        (f"{NAME}@v9", f"the model repository {NAME} of the hub {models.url} has no revision v9"),
        ("hf://datasets/a/b", "is no model repository; allowed: hf://ORG/NAME"),
        ("someone/empty", "is no trained run of mmagn: it lacks config.yaml, run.json"),
    ):
        with pytest.raises(ValueError, match=re.escape(sentence)):
            local_run(address)
    assert main(["predict", "--run", "hf://someone/none", "--out", "scores.csv"]) == 2
    assert "has no model repository someone/none" in capsys.readouterr().err
    assert main(["push", str(world["base"] / "ablation"), NAME]) == 2
    assert "run.json" in capsys.readouterr().err
    assert main(["push", str(trained), "no-slash"]) == 2
    assert "allowed: ORG/NAME" in capsys.readouterr().err
    models.api_fault = lambda path: "403" if "create" in path else None
    assert main(["push", str(trained), NAME]) == 2
    assert f"refused the push to {NAME}" in capsys.readouterr().err


def test_folders_and_repositories_are_told_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "checkpoints").mkdir()
    assert hub_address("org/name") == ("org/name", "main")
    assert hub_address("org/name@v1.0") == ("org/name", "v1.0")
    assert hub_address("hf://checkpoints/run") == ("checkpoints/run", "main")
    for folder in ("checkpoints/misspelt", "run", "./org/name", "~/org/name", "/org/name", Path("org/name")):
        assert hub_address(folder) is None


def test_the_card_states_data_prevalence_intervals_leakage_limits_and_licence(trained: Path, models: HubServer) -> None:
    push_run(trained, NAME)
    scores = json.loads((trained / "scores.json").read_text())
    _, head, body = (models.folder / NAME / "README.md").read_text().split("---\n", 2)
    result = yaml.safe_load(head)["model-index"][0]["results"][0]
    value = scores["scores"]["average_precision"]["value"]
    assert result["metrics"][0] == {"type": "average_precision", "name": "average precision", "value": round(value, 4)}
    assert yaml.safe_load(head)["license"] == "bsd-3-clause"
    for text in (
        f"Prevalence of AGN in the test split: {scores['prevalence']:.3f}",
        "Too few galaxies to judge a model",
        "the survey is simulated",
        "measures its label again",
        "does not apply to quasars",
        "Code and weights: BSD-3-Clause",
        f'mmagn.load("{NAME}")',
        *(f"| {name} | {count:,} |" for name, count in scores["splits"].items()),
    ):
        assert text in body
    for name in ("average precision", "accuracy"):
        assert re.search(rf"\| {name} \| \d\.\d{{3}} \[\d\.\d{{3}}, \d\.\d{{3}}\] \|", body), name


def test_pairs_of_the_simulated_survey_are_never_published_as_the_sky(
    world: dict, trained: Path, models: HubServer, tmp_path: Path
) -> None:
    data = replace(world["config"].data, source="store", root=str(world["sample"].store.path))
    sample = replace(world["sample"], store=pair_store(data, world["config"].matching))
    run = RunFolder(tmp_path / "other")
    shutil.copytree(trained, run.path)
    config, scores = replace(load_config(run.config), data=data), json.loads(run.scores.read_text())
    save_config(config, run.config)
    for summary, first, claims in (
        (sample.summary(config), "Simulated survey of mmagn (`data.source` store)", (True, False)),
        ({"simulated": False, "surveys": {"desi": 3, "eboss": 2}}, "DESI, SDSS spectra and HSC images", (False, True)),
    ):
        write_json(run.scores, {**scores, **summary})
        run.seal()
        push_run(run.path, NAME)
        body = (models.folder / NAME / "README.md").read_text()
        assert first in body
        assert ("the survey is simulated" in body, "NAOJ" in body) == claims
        assert ("the survey is simulated" in write_report(run.path).read_text()) == claims[0]
