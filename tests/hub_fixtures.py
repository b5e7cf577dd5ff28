"""Fixtures that serve the same simulated objects as a v1 tree and as two HATS repositories of a hub on loopback."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from hats_files import write_hats
from hub_server import TOKEN, HubServer, hub_server

from mmagn.surveys.config import DataConfig, HubConfig, SimulateConfig
from mmagn.surveys.simulate.survey import write_survey


@pytest.fixture(scope="session")
def hub_tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A v1 tree of 24 simulated pairs in four cells, of which the legacy survey has most."""
    out = tmp_path_factory.mktemp("hub") / "tree"
    write_survey(out, SimulateConfig(pairs=24, unmatched=0.5, cells=4, seed=3))
    return out


@pytest.fixture(scope="session")
def hub_folder(hub_tree: Path) -> Path:
    """Repositories of that tree under their published names, as the published converter makes them."""
    folder = hub_tree.parent / "hub"
    write_hats(hub_tree, "sdss", folder / HubConfig.sdss, partition_rows=40)
    write_hats(hub_tree, "hsc", folder / HubConfig.hsc, partition_rows=40, rows_per_group=4)
    return folder


@pytest.fixture
def hub(hub_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[HubServer]:
    """The hub, reached through HF_ENDPOINT."""
    monkeypatch.setenv("no_proxy", "127.0.0.1,localhost")
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    with hub_server(hub_folder) as server:
        monkeypatch.setenv("HF_ENDPOINT", server.url)
        yield server


@pytest.fixture
def hub_data(hub: HubServer, tmp_path: Path) -> DataConfig:
    """Settings that read the hub with short waits between attempts."""
    settings = HubConfig(backoff_s=0.01, timeout_s=60.0, retries=3, workers=4)
    return DataConfig(source="hub", cache_dir=str(tmp_path / "cache"), hub=settings)
