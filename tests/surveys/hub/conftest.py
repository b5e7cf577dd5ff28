"""A hub whose repositories the tests write themselves."""

import pytest
from hub_server import hub_server


@pytest.fixture
def other_hub(tmp_path, monkeypatch, hub_data):
    """A hub with repositories that a test writes into its folder."""
    with hub_server(tmp_path / "other") as server:
        monkeypatch.setenv("HF_ENDPOINT", server.url)
        yield server
