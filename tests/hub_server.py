"""A small Hugging Face hub on loopback, with the calls that reading and committing to dataset repositories needs.

It counts what it sends, and can answer 429 or 500, cut a download, stall, or ignore ranges. As on the public hub,
files lie on another host (``localhost`` for ``127.0.0.1``) and renamed repositories answer 307. The fixtures
``hub_tree``, ``hub_folder`` and ``hub`` serve the same simulated objects as a v1 tree and as two HATS repositories.
"""

import base64
import hashlib
import json
import re
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit

import pytest
from hats_files import write_hats

from mmagn.surveys.config import DataConfig, HubConfig, SimulateConfig
from mmagn.surveys.simulate.survey import write_survey

RETRY_AFTER_S = 0
_API = re.compile(r"/api/datasets/([^/]+/[^/]+)/(revision|tree|preupload|commit)/([^/]+)(?:/(.+))?")
_RESOLVE = re.compile(r"/(?:datasets/([^/]+/[^/]+)/resolve|cdn/([^/]+/[^/]+))/([^/]+)/(.+)")


def _no_fault(path: str) -> None:
    """Answer as asked."""


class HubServer:
    """State of the hub: repositories are folders ORG/NAME below ``folder``.

    ``fault(path)`` may return "429", "500", "401", "404", "cut", "drip", "stall", "whole" or None for each download;
    ``answers`` replaces the JSON of calls (revision, tree), ``next_page`` the link to the next page of listings.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.page_size = 1000
        self.fault: Callable[[str], str | None] = _no_fault
        self.api_fault: Callable[[str], str | None] = _no_fault
        self.renamed: dict[str, str] = {}
        self.answers: dict[str, object] = {}
        self.next_page = ""
        self.latency_s = 0.0
        self.released = threading.Event()
        self.url = ""
        self.forget()

    @property
    def files_url(self) -> str:
        """Where the files are."""
        return self.url.replace("127.0.0.1", "localhost")

    def forget(self) -> None:
        """Begin to count anew."""
        self.calls: Counter[str] = Counter()
        self.ranges: list[tuple[str, int, int]] = []
        self.bytes_sent = 0
        self.hosts_with_token: set[str] = set()

    def commit(self, repository: str) -> str:
        return hashlib.sha1(repository.encode()).hexdigest()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    hub: HubServer

    def log_message(self, *args: object) -> None:
        """Say nothing."""

    def _answer(self, status: int, body: bytes = b"", **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def _json(self, told: object, **headers: str) -> None:
        self._answer(200, json.dumps(told).encode(), Content_Type="application/json", **headers)

    def _failed(self, fault: str | None) -> bool:
        if fault == "429":
            self._answer(429, Retry_After=str(RETRY_AFTER_S))
        elif fault in ("500", "401", "403", "404"):
            self._answer(int(fault))
        elif fault == "hang up":
            self.close_connection = True
        return fault in ("429", "500", "401", "403", "404", "hang up")

    def do_GET(self) -> None:
        time.sleep(self.hub.latency_s)
        address = urlsplit(self.path)
        path = unquote(address.path)
        if "Authorization" in self.headers:
            self.hub.hosts_with_token.add(self.headers["Host"].partition(":")[0])
        if api := _API.fullmatch(path):
            self.hub.calls[api[2]] += 1
            if not self._failed(self.hub.api_fault(path)):
                self._api(api[1], api[2], api[3], {**parse_qs(address.query), "path": [api[4] or "."]})
        elif resolve := _RESOLVE.fullmatch(path):
            self._file(resolve[1], resolve[2], resolve[3], resolve[4])
        else:
            self._answer(404)

    def _known(self, repository: str, revision: str) -> bool:
        if repository in self.hub.renamed:
            self._answer(307, Location=self.path.replace(repository, self.hub.renamed[repository]))
        elif not (self.hub.folder / repository).is_dir():
            self._answer(404, X_Error_Code="RepoNotFound")
        elif revision not in ("main", self.hub.commit(repository)):
            self._answer(404, X_Error_Code="RevisionNotFound")
        else:
            return True
        return False

    def _api(self, repository: str, what: str, revision: str, query: dict[str, list[str]]) -> None:
        if not self._known(repository, revision):
            return
        if what in self.hub.answers:
            self._json(self.hub.answers[what])
            return
        if what == "revision":
            self._json({"id": repository, "sha": self.hub.commit(repository), "siblings": []})
            return
        folder = self.hub.folder / repository
        listed = folder / query["path"][0]
        if not listed.is_dir():
            self._answer(404, X_Error_Code="EntryNotFound")
            return
        entries = [
            {
                "type": "file" if path.is_file() else "directory",
                "path": path.relative_to(folder).as_posix(),
                "size": path.stat().st_size if path.is_file() else 0,
                "oid": "0" * 40,
            }
            for path in sorted(listed.rglob("*") if query.get("recursive") != ["false"] else listed.iterdir())
        ]
        first = int(query.get("cursor", ["0"])[0])
        headers = {}
        if first + self.hub.page_size < len(entries):
            after = f"{self.hub.url}{urlsplit(self.path).path}?recursive=true&cursor={first + self.hub.page_size}"
            headers["Link"] = f'<{after}>; rel="next"'
        if self.hub.next_page:
            headers["Link"] = f'<{self.hub.next_page}>; rel="next"'
        self._json(entries[first : first + self.hub.page_size], **headers)

    def _file(self, repository: str | None, stored: str | None, revision: str, path: str) -> None:
        if repository is not None:
            self.hub.calls["resolve"] += 1
            if not self._known(repository, revision):
                return
            if not (self.hub.folder / repository / path).is_file():
                self._answer(404, X_Error_Code="EntryNotFound")
                return
            self._answer(302, Location=f"{self.hub.files_url}/cdn/{repository}/{revision}/{path}")
            return
        self.hub.calls["download"] += 1
        fault = self.hub.fault(path)
        if self._failed(fault):
            return
        stored_file = self.hub.folder / str(stored) / path
        length = stored_file.stat().st_size
        asked = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", ""))
        if asked is None or fault == "whole":
            self._body(200, stored_file.read_bytes(), {}, fault)
            return
        start, stop = int(asked[1]), min(int(asked[2]) + 1, length)
        if start >= length:
            self._answer(416)
            return
        self.hub.ranges.append((path, start, stop))
        with stored_file.open("rb") as file:
            file.seek(start)
            content = file.read(stop - start)
        self._body(206, content, {"Content-Range": f"bytes {start}-{stop - 1}/{length}"}, fault)

    def _body(self, status: int, body: bytes, headers: dict[str, str], fault: str | None) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        sent = body[: len(body) // 2] if fault in ("cut", "stall") else body[:10] if fault == "drip" else body
        self.wfile.write(sent)
        self.wfile.flush()
        self.hub.bytes_sent += len(sent)
        if fault == "stall":
            self.hub.released.wait(20)
        self.close_connection = self.close_connection or len(sent) < len(body)

    def do_POST(self) -> None:
        path = unquote(urlsplit(self.path).path)
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if path == "/api/repos/create":
            self.hub.calls["create"] += 1
            if self._failed(self.hub.api_fault(path)):
                return
            told = json.loads(body)
            repository = f"{told['organization']}/{told['name']}"
            (self.hub.folder / repository).mkdir(parents=True, exist_ok=True)
            self._json({"url": f"{self.hub.url}/datasets/{repository}", "id": "0"})
        elif path == "/api/validate-yaml":
            self._json({"errors": [], "warnings": []})
        elif api := _API.fullmatch(path):
            self.hub.calls[api[2]] += 1
            if self._failed(self.hub.api_fault(path)):
                return
            if api[2] == "preupload":
                files = [
                    {"path": file["path"], "uploadMode": "regular", "shouldIgnore": False, "oid": None}
                    for file in json.loads(body)["files"]
                ]
                self._json({"files": files})
            else:
                self._commit(api[1], body)
        else:
            self._answer(404)

    def _commit(self, repository: str, body: bytes) -> None:
        for line in body.splitlines():
            told = json.loads(line)
            path = self.hub.folder / repository / str(told["value"].get("path", ""))
            if told["key"] == "file":
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(base64.b64decode(told["value"]["content"]))
            elif told["key"] == "deletedFile":
                path.unlink()
        commit = self.hub.commit(repository)
        self._json(
            {"success": True, "commitOid": commit, "commitUrl": f"{self.hub.url}/datasets/{repository}/commit/{commit}"}
        )


class _Quiet(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: object, client_address: object) -> None:
        """Let clients hang up."""


@contextmanager
def hub_server(folder: Path) -> Iterator[HubServer]:
    """Serve the repositories below a folder until the context ends."""
    hub = HubServer(folder)
    server = _Quiet(("127.0.0.1", 0), type("Handler", (_Handler,), {"hub": hub}))
    hub.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        hub.released.set()
        server.shutdown()
        server.server_close()
        thread.join()


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
    monkeypatch.setenv("HF_TOKEN", "hf_of_the_tests")
    with hub_server(hub_folder) as server:
        monkeypatch.setenv("HF_ENDPOINT", server.url)
        yield server


@pytest.fixture
def hub_data(hub: HubServer, tmp_path: Path) -> DataConfig:
    """Settings that read the hub with short waits between attempts."""
    settings = HubConfig(backoff_s=0.01, timeout_s=60.0, retries=3, workers=4)
    return DataConfig(source="hub", cache_dir=str(tmp_path / "cache"), hub=settings)
