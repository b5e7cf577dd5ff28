"""Files as one commit of a repository of a Hugging Face hub."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi

from mmagn.storage.version import __version__
from mmagn.surveys.hub.client import hub_endpoint, network_errors


@dataclass(frozen=True, kw_only=True)
class Repository:
    """A repository ORG/NAME of a hub; ``private`` None leaves it to the hub whether only its owners see it."""

    name: str
    kind: Literal["dataset", "model"]
    private: bool | None = None


def push_files(repository: Repository, files: Mapping[str, Path], message: str, replaces: Callable[[str], bool]) -> str:
    """Upload files in one commit and return its address; the repository is created where it is missing.

    Parameters
    ----------
    repository
        Where they go, on the hub that ``HF_ENDPOINT`` names, as the owner of ``HF_TOKEN``.
    files
        Path on this machine by path in the repository.
    message
        Message of the commit.
    replaces
        Whether a path in the repository belongs to an earlier push. Such files that are not in ``files`` are removed in
        the same commit, so that a reader never sees a mixture.

    Raises
    ------
    ValueError
        Where the hub is unreachable or refuses, or what shall be private would go to a public repository.
    """
    endpoint, kind = hub_endpoint(), repository.kind
    refusals: tuple[type[Exception], ...] = (
        *network_errors(),
        RuntimeError,
    )  # an upload to the host of files that fails is a RuntimeError
    api = HfApi(endpoint=endpoint, library_name="mmagn", library_version=__version__)
    try:
        api.create_repo(repository.name, repo_type=kind, private=repository.private, exist_ok=True)
        if repository.private and not api.repo_info(repository.name, repo_type=kind, revision="main").private:
            raise ValueError(f"{repository.name} on {endpoint} is public; allowed with private: a new or private one")
        present = api.list_repo_files(repository.name, repo_type=kind)
        stale = [path for path in present if replaces(path) and path not in files]
        added = [CommitOperationAdd(path, file) for path, file in files.items()]
        removed = [CommitOperationDelete(path) for path in stale]
        commit = api.create_commit(repository.name, [*added, *removed], commit_message=message, repo_type=kind)
    except refusals as error:
        lines = str(error).strip().splitlines() or [type(error).__name__]
        raise ValueError(f"the hub {endpoint} refused the push to {repository.name}: {lines[0]}") from error
    return str(commit.commit_url)
