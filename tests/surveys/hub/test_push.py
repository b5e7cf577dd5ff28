"""What is uploaded as private is never public."""

import pytest
from hub_server import hub_server

from mmagn.surveys.hub.push import Repository, push_files


def test_private_files_do_not_go_to_a_repository_that_is_public_already(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_of_the_tests")
    file = tmp_path / "file.txt"
    file.write_text("secret")
    (tmp_path / "hub" / "someone" / "open").mkdir(parents=True)
    with hub_server(tmp_path / "hub") as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        for name, private in (("someone/open", None), ("someone/own", True), ("someone/own", True)):
            push_files(
                Repository(name=name, kind="model", private=private), {"file.txt": file}, "text", lambda _: False
            )
        with pytest.raises(
            ValueError, match=r"someone/open on http://.* is public; allowed with private: a new or priv"
        ):
            push_files(Repository(name="someone/open", kind="model", private=True), {"b": file}, "b", lambda _: False)
        assert hub.calls["commit"] == 3 and hub.private == {"someone/own"}
