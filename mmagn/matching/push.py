"""A store of pairs as a dataset repository of a Hugging Face hub: Parquet files, the account of its making, a card."""

import shutil
import tempfile
from importlib.metadata import version
from pathlib import Path

import datasets
import pyarrow as pa
import pyarrow.parquet as pq

from mmagn.matching.card import card_text
from mmagn.matching.provenance import PROVENANCE_FILE
from mmagn.matching.store import PairStore
from mmagn.surveys.config import HubConfig
from mmagn.surveys.hub.client import HubClient, hub_endpoint
from mmagn.surveys.hub.push import Repository, push_files

DATA_FOLDER = "data"
CARD_FILE = "README.md"
PAIRS_PER_FILE = 512
"""About 0.5 GB with float32 images."""
PAIRS_PER_ROW_GROUP = 32
"""Few, so that a stream of this repository holds little at a time."""
VERSIONED = ("mmagn", "datasets", "pyarrow", "numpy")


def push_store(store: PairStore, repository: str, hub: HubConfig) -> str:
    """Upload a store as the dataset repository ORG/NAME in one commit and return the commit's address.

    The hub is the one that ``HF_ENDPOINT`` names, as the owner of ``HF_TOKEN``. The repository is made where it is
    missing; Parquet files of an earlier push that no longer belong are removed in the same commit, so that a reader
    never sees a mixture. ``data.source`` hub-pairs reads it back.

    Raises ``ValueError`` where the hub is unreachable or refuses, or the disk has no room for the Parquet files beside
    the store.
    """
    HubConfig(pairs=repository)  # refuses what is no ORG/NAME
    HubClient(hub_endpoint(), hub).known(repository)  # fails before any work where the hub is not there
    with tempfile.TemporaryDirectory(prefix=f".{store.path.name}.push-", dir=store.path.parent) as folder:
        return push_files(
            Repository(name=repository, kind="dataset"),
            _staged(store, Path(folder), repository),
            message=f"{len(store)} pairs of spectra and HSC images",
            replaces=lambda path: path.startswith(f"{DATA_FOLDER}/train-"),
        )


def _staged(store: PairStore, folder: Path, repository: str) -> dict[str, Path]:
    """Return the files of the repository by path, written into a folder."""
    needed = sum(path.stat().st_size for path in store.path.glob("*.arrow"))
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise ValueError(
            f"the push of {store.path} needs {needed / 1e9:.3g} GB beside it and the disk has {free / 1e9:.3g} GB free"
        )
    rows = store.dataset().with_format("arrow")
    count = -(-len(rows) // PAIRS_PER_FILE)
    staged = {}
    for number in range(count):
        name = f"train-{number:05d}-of-{count:05d}.parquet"
        _write_file(rows, number * PAIRS_PER_FILE, folder / name)
        staged[f"{DATA_FOLDER}/{name}"] = folder / name
    card = folder / CARD_FILE
    versions = {package: version(package) for package in VERSIONED}
    card.write_text(card_text(store, repository, versions), encoding="utf-8")
    return {**staged, CARD_FILE: card, PROVENANCE_FILE: store.path / PROVENANCE_FILE}


def _write_file(rows: datasets.Dataset, start: int, path: Path) -> None:
    stop = min(start + PAIRS_PER_FILE, len(rows))
    schema: pa.Schema = rows.features.arrow_schema
    with pq.ParquetWriter(path, schema, compression="zstd") as writer:
        for first in range(start, stop, PAIRS_PER_ROW_GROUP):
            writer.write_table(rows[first : min(first + PAIRS_PER_ROW_GROUP, stop)].cast(schema))
