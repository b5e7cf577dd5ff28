"""A small Hugging Face hub on loopback, with the calls that reading and committing to repositories needs.

It counts what it sends, and can answer 429 or 500, cut a download, stall, or ignore ranges. As on the public hub,
files lie on another host (``localhost`` for ``127.0.0.1``), renamed repositories answer 307, private ones 401 without
the token, and each commit can be read after the next one.
"""

import base64
import hashlib
import json
import re
import shutil
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

RETRY_AFTER_S = 0
TOKEN = "hf_of_the_tests"
_API = re.compile(r"/api/(?:datasets|models)/([^/]+/[^/]+)/(revision|tree|preupload|commit)/([^/]+)(?:/(.+))?")
_RESOLVE = re.compile(r"/(?:(?:datasets/)?([^/]+/[^/]+)/resolve|cdn/([^/]+/[^/]+))/([^/]+)/(.+)")
_LFS = re.compile(r"/(?:datasets/)?([^/]+/[^/]+)\.git/info/lfs/objects/batch")


def _no_fault(path: str) -> None:
    """Answer a request."""


class HubServer:
    """State of the hub: repositories are folders ORG/NAME below ``folder``.

    ``fault(path)`` may return "429", "500", "401", "404", "cut", "drip", "stall", "whole" or None for each download;
    ``answers`` replaces the JSON of calls (revision, tree), ``next_page`` the link to the next page of listings. Files
    with ``large_suffixes`` are uploaded to the other host (LFS). ``earlier`` has the past commits of each repository.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.page_size = 1000
        self.fault: Callable[[str], str | None] = _no_fault
        self.api_fault: Callable[[str], str | None] = _no_fault
        self.renamed: dict[str, str] = {}
        self.private: set[str] = set()
        self.large_suffixes: tuple[str, ...] = ()
        self.earlier: dict[str, list[str]] = {}
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
        return hashlib.sha1(f"{repository}{'+' * len(self.earlier.get(repository, []))}".encode()).hexdigest()

    def state(self, repository: str, revision: str) -> Path | None:
        """Folder with the files of a repository at a revision."""
        if revision in self.earlier.get(repository, []):
            return self.folder / ".commits" / revision
        return self.folder / repository if revision in ("main", self.commit(repository)) else None


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

    def _json(self, content: object, **headers: str) -> None:
        self._answer(200, json.dumps(content).encode(), Content_Type="application/json", **headers)

    def _failed(self, fault: str | None) -> bool:
        if fault == "429":
            self._answer(429, Retry_After=str(RETRY_AFTER_S))
        elif fault in ("500", "401", "403", "404"):
            self._answer(int(fault))
        elif fault == "hang up":
            self.close_connection = True
        return fault in ("429", "500", "401", "403", "404", "hang up")

    def do_HEAD(self) -> None:
        self.do_GET()

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
        elif repository in self.hub.private and self.headers["Authorization"] != f"Bearer {TOKEN}":
            self._answer(404 if "Authorization" in self.headers else 401, X_Error_Code="RepoNotFound")
        elif not (self.hub.folder / repository).is_dir():
            self._answer(404, X_Error_Code="RepoNotFound")
        elif self.hub.state(repository, revision) is None:
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
            sha = self.hub.commit(repository) if revision == "main" else revision
            self._json({"id": repository, "sha": sha, "private": repository in self.hub.private, "siblings": []})
            return
        folder = self.hub.state(repository, revision)
        assert folder is not None
        listed = folder / query["path"][0]
        if not listed.is_dir():
            self._answer(404, X_Error_Code="EntryNotFound")
            return
        entries = [
            {
                "type": "file" if path.is_file() else "directory",
                "path": path.relative_to(folder).as_posix(),
                "size": path.stat().st_size if path.is_file() else 0,
                "oid": hashlib.sha1(path.read_bytes() if path.is_file() else b"").hexdigest(),
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
            folder = self.hub.state(repository, revision)
            assert folder is not None
            if not (folder / path).is_file():
                self._answer(404, X_Error_Code="EntryNotFound")
                return
            content = (folder / path).read_bytes() if self.command == "HEAD" else b""
            self._answer(
                302,
                Location=f"{self.hub.files_url}/cdn/{repository}/{revision}/{path}",
                X_Repo_Commit=self.hub.commit(repository) if revision == "main" else revision,
                X_Linked_Size=str(len(content)),
                X_Linked_ETag=f'"{hashlib.sha1(content).hexdigest()}"',
            )
            return
        self.hub.calls["download"] += 1
        fault = self.hub.fault(path)
        if self._failed(fault):
            return
        stored_file = (self.hub.state(str(stored), revision) or self.hub.folder) / path
        length = stored_file.stat().st_size
        byte_range = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", ""))
        if byte_range is None or fault == "whole":
            self._body(200, stored_file.read_bytes(), {}, fault)
            return
        start, stop = int(byte_range[1]), min(int(byte_range[2]) + 1, length)
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
            self.hub.released.wait()
        self.close_connection = self.close_connection or len(sent) < len(body)

    def do_PUT(self) -> None:
        if "Authorization" in self.headers:
            self.hub.hosts_with_token.add(self.headers["Host"].partition(":")[0])
        self.hub.calls["upload"] += 1
        path = self.hub.folder / ".large" / self.path.rpartition("/")[2]
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(self.rfile.read(int(self.headers["Content-Length"])))
        self._answer(200)

    def do_POST(self) -> None:
        path = unquote(urlsplit(self.path).path)
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if path == "/api/repos/create":
            self.hub.calls["create"] += 1
            if not self._failed(self.hub.api_fault(path)):
                self._create(json.loads(body))
        elif path == "/api/validate-yaml":
            self._json({"errors": [], "warnings": []})
        elif lfs := _LFS.fullmatch(path):
            if self._known(lfs[1], "main"):
                self._lfs_batch(json.loads(body)["objects"])
        elif api := _API.fullmatch(path):
            self.hub.calls[api[2]] += 1
            if self._failed(self.hub.api_fault(path)) or not self._known(api[1], "main"):
                return
            if api[2] == "preupload":
                files = [
                    {"path": file["path"], "uploadMode": self._mode(file["path"]), "shouldIgnore": False, "oid": None}
                    for file in json.loads(body)["files"]
                ]
                self._json({"files": files})
            else:
                self._commit(api[1], body)
        else:
            self._answer(404)

    def _mode(self, path: str) -> str:
        return "lfs" if path.endswith(self.hub.large_suffixes or ("\0",)) else "regular"

    def _create(self, request: dict[str, Any]) -> None:
        repository = f"{request['organization']}/{request['name']}"
        if repository in self.hub.renamed:
            self._answer(409, json.dumps({"url": f"{self.hub.url}/{self.hub.renamed[repository]}"}).encode())
            return
        if not (self.hub.folder / repository).is_dir() and (
            request.get("private") or request.get("visibility") == "private"
        ):
            self.hub.private.add(repository)  # a repository that exists stays what it is
        (self.hub.folder / repository).mkdir(parents=True, exist_ok=True)
        self._json({"url": f"{self.hub.url}/datasets/{repository}", "id": "0"})

    def _lfs_batch(self, objects: list[dict[str, Any]]) -> None:
        where = f"{self.hub.files_url}/large"
        actions = [
            {**each, "authenticated": True, "actions": {"upload": {"href": f"{where}/{each['oid']}"}}}
            for each in objects
        ]
        self._json({"transfer": "basic", "objects": actions})

    def _commit(self, repository: str, body: bytes) -> None:
        before, folder = self.hub.commit(repository), self.hub.folder / repository
        shutil.copytree(folder, self.hub.folder / ".commits" / before)
        for line in body.splitlines():
            operation = json.loads(line)
            value = operation["value"]
            path = folder / str(value.get("path", ""))
            if operation["key"] in ("file", "lfsFile"):
                path.parent.mkdir(parents=True, exist_ok=True)
            if operation["key"] == "file":
                path.write_bytes(base64.b64decode(value["content"]))
            elif operation["key"] == "lfsFile":
                shutil.move(self.hub.folder / ".large" / value["oid"], path)
            elif operation["key"] == "deletedFile":
                path.unlink()
        self.hub.earlier.setdefault(repository, []).append(before)
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
