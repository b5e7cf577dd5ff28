"""Trained runs as model repositories of a Hugging Face hub: pushed with a card, and loaded by address."""

import re
import shutil
import tempfile
from importlib.metadata import version
from pathlib import Path

import yaml
from huggingface_hub import snapshot_download
from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError, RevisionNotFoundError

from mmagn.config.reading import config_from_settings
from mmagn.config.run_config import RunConfig, config_dict, load_config
from mmagn.reporting.page.files import read_json
from mmagn.runs.card import card_text
from mmagn.storage.files import write_json
from mmagn.storage.run_folder import RunFolder
from mmagn.storage.settings import declared_settings, setting_values
from mmagn.surveys.http_index import plain_name
from mmagn.surveys.hub.client import hub_endpoint, network_errors
from mmagn.surveys.hub.push import Repository, push_files

CARD_FILE = "README.md"
PREFIX = "hf://"
_NAME = r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*"
_ADDRESS = re.compile(rf"(?P<name>{_NAME})(?:@(?P<revision>\S+))?")
_OF_OTHERS = ("dask.", "ablation.", "search.")
"""Sections that a training does not use; they may hold addresses and passwords."""
_OF_THIS_MACHINE = ("runs_dir", "data.cache_dir", "data.objects", "data.embeddings")
"""Folders that are written to, and lists of objects that a user of the model does not have."""
_PATHS = ("data.hats.margin",)
"""Settings that may be a path besides those that always are."""
_MATCH_NUMBERS = ("radius_arcsec", "left_objects", "right_objects", "pairs", "pairs_stored", "expected_by_chance")


def push_run(run_path: Path, repository: str, *, private: bool | None = None) -> str:
    """Upload a trained run as a model repository ORG/NAME in one commit and return the commit's address.

    Weights, settings, scaling, calibration, scores, checksums and a card, as safetensors, JSON, YAML and Markdown.
    Paths, the command line, the machine and the ids of objects stay here. ``HF_ENDPOINT`` names the hub, ``HF_TOKEN``
    the owner; a new ``private`` repository is seen by its owners only.

    Raises
    ------
    FileNotFoundError, ValueError
        Where the folder is no complete training run, ``repository`` is no ORG/NAME, or the hub is unreachable or
        refuses.
    """
    if re.fullmatch(_NAME, repository) is None:
        raise ValueError(f"{repository} is no model repository; allowed: ORG/NAME")
    if RunFolder(run_path).ablation.is_file():
        raise ValueError(f"{run_path} is an ablation; allowed: the folder of a training run")
    needed = ("config.yaml", "run.json", "weights.safetensors", "scaling.json", "calibration.json", "scores.json")
    run = RunFolder.open(run_path, needs=needed)
    run.check(*(path for path in run.published if path.is_file()))
    with tempfile.TemporaryDirectory() as folder:
        staged = RunFolder(Path(folder))
        _stage(run, staged)
        (staged.path / CARD_FILE).write_text(card_text(staged, repository), encoding="utf-8")
        return push_files(
            Repository(name=repository, kind="model", private=private),
            {path.name: path for path in sorted(staged.path.iterdir())},
            message=f"Trained model {run.path.resolve().name}",
            replaces=lambda path: path in {each.name for each in run.published},
        )


def _stage(run: RunFolder, staged: RunFolder) -> None:
    """Copy what is published of a run, without what belongs to this machine."""
    for path, copy in zip(run.published, staged.published, strict=True):
        if path.is_file():
            shutil.copyfile(path, copy)
    settings = yaml.safe_dump(config_dict(_portable(load_config(run.config))), sort_keys=False)
    staged.config.write_text(settings, encoding="utf-8")
    scores = read_json(run.scores)
    matching = {name: value for name, value in scores.get("matching", {}).items() if name in _MATCH_NUMBERS}
    write_json(staged.scores, {**scores, "matching": matching})
    recorded = read_json(run.provenance)
    kept = ("started", "commit", "uncommitted_changes", "python", "versions")
    write_json(staged.provenance, {name: recorded[name] for name in kept if name in recorded})
    staged.seal()


def _portable(config: RunConfig) -> RunConfig:
    """Return a config without the paths and addresses of this machine; of files and sources their names are left."""
    values, defaults = setting_values(config), setting_values(RunConfig())
    for name, declared in declared_settings(RunConfig).items():
        text = str(values[name] or "")
        if name.startswith(_OF_OTHERS) or name in _OF_THIS_MACHINE:
            values[name] = defaults[name]
        elif (declared.path or name in _PATHS) and text and not text.startswith(PREFIX):
            values[name] = plain_name(text)
    portable: RunConfig = config_from_settings(RunConfig, values)
    return portable


def hub_address(run: Path | str) -> tuple[str, str] | None:
    """Return repository and revision that a text names, None where it names a folder.

    ``hf://ORG/NAME[@REVISION]`` is a repository, and so is ``ORG/NAME[@REVISION]`` where there is neither such a folder
    nor a folder ORG. ``ValueError`` where what follows ``hf://`` is neither.
    """
    text = str(run)
    address = _ADDRESS.fullmatch(text.removeprefix(PREFIX))
    if text.startswith(PREFIX):
        if address is None:
            raise ValueError(f"{text} is no model repository; allowed: {PREFIX}ORG/NAME or {PREFIX}ORG/NAME@REVISION")
    elif isinstance(run, Path) or address is None or Path(text).exists() or Path(text.partition("/")[0]).exists():
        return None
    return address["name"], address["revision"] or "main"


def local_run(run: Path | str) -> Path:
    """Return the folder of a run; one on a hub, see :func:`hub_address`, is downloaded to its cache first.

    Only safetensors, JSON and YAML are fetched. Without a network the copy in the cache is used. Its settings are those
    of a stranger: they must be as :func:`push_run` leaves them, without a path or an address of any machine.

    Raises
    ------
    ValueError
        Where the hub has no such repository or revision, it is no trained run, its settings name a path or an address,
        or the hub cannot be reached.
    """
    if (address := hub_address(run)) is None:
        return Path(run).expanduser()
    (name, revision), endpoint = address, hub_endpoint()
    hub = f"the hub {endpoint}"
    try:
        folder = snapshot_download(
            name,
            revision=revision,
            endpoint=endpoint,
            allow_patterns=[path.name for path in RunFolder(Path()).published],
            library_name="mmagn",
            library_version=version("mmagn"),
        )
    except RevisionNotFoundError as error:
        raise ValueError(f"the model repository {name} of {hub} has no revision {revision}") from error
    except GatedRepoError as error:
        raise ValueError(f"the model repository {name} of {hub} is gated: HF_TOKEN must allow it") from error
    except RepositoryNotFoundError as error:
        raise ValueError(f"{hub} has no model repository {name}, or HF_TOKEN may not see it") from error
    except network_errors() as error:
        lines = str(error).strip().splitlines() or [type(error).__name__]
        raise ValueError(f"{hub} could not be read for {name}@{revision}: {lines[0]}") from error
    downloaded = RunFolder(Path(folder))
    needed = (downloaded.config, downloaded.provenance, downloaded.weights, downloaded.scaling, downloaded.calibration)
    if missing := [path.name for path in needed if not path.is_file()]:
        raise ValueError(f"{name}@{revision} of {hub} is no trained run of mmagn: it lacks {', '.join(missing)}")
    downloaded.check(downloaded.config)
    config = load_config(downloaded.config)
    values, allowed = setting_values(config), setting_values(_portable(config))
    if foreign := [setting for setting, value in values.items() if value != allowed[setting]]:
        raise ValueError(
            f"{name}@{revision} of {hub} has settings that no model on a hub may have: {', '.join(foreign)}; allowed: "
            "their defaults, or the name of a file without its folder"
        )
    return downloaded.path


def run_name(folder: Path) -> str:
    """Return the name of a run: that of its folder, or ORG/NAME@COMMIT of one that came from a hub."""
    whole = folder.resolve()
    if whole.parent.name == "snapshots" and whole.parents[1].name.startswith("models--"):
        return f"{whole.parents[1].name.removeprefix('models--').replace('--', '/', 1)}@{whole.name}"
    return whole.name
