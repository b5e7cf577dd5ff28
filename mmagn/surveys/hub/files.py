"""Parquet files of a hub repository: which ones are the catalogue, and how each is opened."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from threading import Event
from typing import Any

import pyarrow.parquet as pq

from mmagn.surveys.config import HubConfig
from mmagn.surveys.damage import UnavailableError
from mmagn.surveys.hub.client import HubClient, hub_client
from mmagn.surveys.parquet.row_groups import read_footer

KEPT_FOOTERS = 2048
_PARTITION = re.compile(r"(?:(?P<catalog>.*)/)?dataset/Norder=\d+/Dir=\d+/Npix=\d+(?:/[^/]+)?(?:\.parquet)")
_FILE_TEXT = re.compile(r"(?P<repository>[\w.-]+/[\w.-]+)@(?P<commit>[^/]+)/(?P<path>.+)#(?P<size_bytes>\d+)")


@dataclass(frozen=True, kw_only=True, slots=True)
class HubFile:
    """One file of a dataset repository at a commit; its text holds all of it, so that any process can read it."""

    repository: str
    commit: str
    path: str
    size_bytes: int

    def __str__(self) -> str:
        return f"{self.repository}@{self.commit}/{self.path}#{self.size_bytes}"

    @classmethod
    def from_text(cls, text: str) -> "HubFile":
        """Return the file of a text made by ``str``; raises ``ValueError`` if the text was not."""
        match = _FILE_TEXT.fullmatch(text)
        if match is None:
            raise ValueError(f"{text!r} is no file of a hub; expected ORG/NAME@COMMIT/PATH#BYTES")
        repository, commit, path, size_bytes = match.groups()
        return cls(repository=repository, commit=commit, path=path, size_bytes=int(size_bytes))

    def parquet(self, config: HubConfig) -> "HubParquet":
        """Return the file as one that can be read."""
        return HubParquet(f"datasets/{self.repository}@{self.commit}/{self.path}", self.size_bytes, config)


@dataclass(frozen=True, slots=True)
class HubParquet:
    """A Parquet file ``datasets/ORG/NAME@COMMIT/PATH`` of a hub; where ``size_bytes`` is None the hub is queried."""

    path: str
    size_bytes: int | None
    config: HubConfig

    @property
    def name(self) -> str:
        """Repository, commit and path."""
        return self.path.removeprefix("datasets/")

    @property
    def fetches(self) -> int:
        """Row groups to fetch at the same time."""
        return self.config.workers

    def footer(self) -> pq.FileMetaData:
        """Return the description of the columns and row groups; it is kept."""
        return _footer(self, hub_client(self.config))

    def open(self, stop: Event) -> Any:
        """Return a new binary file object; ``stop`` ends its waits."""
        return hub_client(self.config).open(self.path, self.size_bytes, stop)


@lru_cache(maxsize=KEPT_FOOTERS)
def _footer(file: HubParquet, client: HubClient) -> pq.FileMetaData:  # noqa: ARG001 - another hub, another file
    opened = file.open(Event())
    return read_footer(opened, opened.size)


def catalog_files(client: HubClient, repository: str, revision: str) -> tuple[HubFile, ...]:
    """Return the Parquet files of the one catalogue of a repository, by path, without its margin.

    A repository in HATS layout is a collection that may also hold a margin; any other one is taken whole. Raises
    ``UnavailableError`` if the hub or the repository cannot be read, or it holds no Parquet file, or more than one
    catalogue.
    """
    name, commit = client.commit(repository, revision)
    sizes = client.files(name, commit)
    partitions: dict[str, list[str]] = {}
    for path in sorted(sizes):
        if match := _PARTITION.fullmatch(path):
            partitions.setdefault(match["catalog"] or "", []).append(path)
    if partitions:
        paths = partitions[_primary(client, (name, commit), sizes, sorted(partitions))]
    else:
        paths = sorted(path for path in sizes if path.endswith(".parquet"))
    if not paths:
        raise UnavailableError(f"the dataset repository {name} at {commit} holds no Parquet file")
    return tuple(HubFile(repository=name, commit=commit, path=path, size_bytes=sizes[path]) for path in paths)


def _primary(client: HubClient, place: tuple[str, str], sizes: Mapping[str, int], catalogs: Sequence[str]) -> str:
    """Return the folder of the catalogue itself where a collection also holds margins."""
    if "collection.properties" in sizes:
        text = client.text(*place, "collection.properties")
        primary = re.search(r"^hats_primary_table_url\s*=\s*(\S+)\s*$", text, re.MULTILINE)
        if primary and primary[1].strip("/") in catalogs:
            return primary[1].strip("/")
    main = [name for name in catalogs if not any(name.startswith(f"{other}_") for other in catalogs)]
    if "" in catalogs:
        return ""
    if len(main) > 1:
        raise UnavailableError(
            f"the dataset repository {place[0]} holds {len(main)} catalogues ({', '.join(main)}) and no "
            "collection.properties that names the one to read"
        )
    return main[0]
