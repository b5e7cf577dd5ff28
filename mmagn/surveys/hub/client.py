"""A Hugging Face hub through ``huggingface_hub``: its session, its errors and its file system.

What the library lacks is added here: every wait is bounded, a byte range that broke off resumes at the byte where it
stopped, a listing follows links of its own host only and ends, and a failure ends the run in one sentence. The
endpoint is ``HF_ENDPOINT``; the token is ``HF_TOKEN`` or the one that ``huggingface_hub`` keeps.
"""

import logging
import os
import random
from collections.abc import Callable, Iterator
from functools import lru_cache
from importlib import import_module
from threading import BoundedSemaphore, Event
from typing import Any, TypeVar
from urllib.parse import quote, urlsplit

from huggingface_hub import HfFileSystem, get_session, hf_hub_url
from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled
from huggingface_hub.hf_file_system import HfFileSystemFile
from huggingface_hub.utils import build_hf_headers, hf_raise_for_status  # type: ignore[attr-defined]

from mmagn.storage.version import __version__
from mmagn.surveys.config import HubConfig
from mmagn.surveys.damage import UnavailableError
from mmagn.surveys.hub.ranges import KeptRanges

Result = TypeVar("Result")

PUBLIC_HUB = "https://huggingface.co"
KNOWN_ORGANISATIONS = ("UniverseTBD", "LSDB", "hugging-science")
"""Where the catalogues have been published."""
LONGEST_WAIT_S = 60.0
LONGEST_REQUESTED_WAIT_S = 600.0
"""A hub that asks to wait longer is given up at once; its own windows are 300 s."""
READ_BYTES = 1 << 20
"""Most bytes taken from a connection at once; with the 64 KiB of the HTTP library a byte costs twice as much."""
LEAST_PROGRESS_BYTES = 1 << 16
"""An answer that broke off counts as a failure unless it brought this much."""
MOST_PAGES = 1000
RETRY_STATUS = (408, 429, 500, 502, 503, 504)
_log = logging.getLogger(__name__)


def hub_endpoint() -> str:
    """Return the address of the hub, ``HF_ENDPOINT`` or the public one."""
    return (os.environ.get("HF_ENDPOINT") or PUBLIC_HUB).rstrip("/")


def network_errors() -> tuple[type[Exception], ...]:
    """Return what ``huggingface_hub`` and its HTTP library raise where a hub refuses, breaks off or is not there."""
    return (HfHubHTTPError, OSError, *_transport_errors())


def _transport_errors() -> tuple[type[Exception], ...]:
    library = _http_library()
    return library.TransportError, library.StreamError, library.InvalidURL


def _http_library() -> Any:
    """Return the HTTP library of ``huggingface_hub``, which has changed from version to version.

    The session may be of a class that a user derived from that of the library.
    """
    homes = (base.__module__.partition(".")[0] for base in type(get_session()).__mro__)
    return import_module(next(home for home in homes if home.startswith("httpx")))


def _read_large_blocks() -> None:
    """Let the connections of the HTTP library take ``READ_BYTES`` at once."""
    connection = import_module(_http_library().__name__.replace("httpx", "httpcore")).HTTP11Connection
    connection.READ_NUM_BYTES = max(READ_BYTES, connection.READ_NUM_BYTES)


class HubClient:
    """A connection to one hub."""

    def __init__(self, endpoint: str, config: HubConfig) -> None:
        self.endpoint = endpoint
        self.config = config
        self.filesystem = _HubFileSystem(endpoint=endpoint, skip_instance_cache=True, use_listings_cache=False)
        self.filesystem.client = self
        self.kept = KeptRanges()
        self._downloads = BoundedSemaphore(config.workers)
        _read_large_blocks()

    def commit(self, repository: str, revision: str) -> tuple[str, str]:
        """Return the name that a dataset repository has now and the commit of a branch, tag or commit.

        Raises ``UnavailableError`` if the hub cannot be reached, or does not know the repository or the revision.
        """
        url = f"{self.endpoint}/api/datasets/{repository}/revision/{quote(revision, safe='')}"
        described, _ = self._json(url, f"{repository}@{revision}")
        if not isinstance(described, dict) or not isinstance(described.get("sha"), str):
            raise self._no_hub(f"{repository}@{revision} has no commit")
        name = str(described.get("id") or repository)
        if name != repository:
            _log.warning("the dataset repository %s is now %s, which is read and recorded", repository, name)
        return name, described["sha"]

    def known(self, repository: str) -> bool:
        """Return whether the hub has a dataset repository that the token may see."""
        url = f"{self.endpoint}/api/datasets/{repository}/revision/main"
        missing = (401, 404)
        return self.attempted(lambda: self._answer(url, missing).status_code not in missing, f"{repository}@main")

    def files(self, repository: str, commit: str) -> dict[str, int]:
        """Return the size in bytes of every file of a repository at a commit by path.

        Raises ``UnavailableError`` as ``commit``; where a listing does not end or points to another host.
        """
        url = f"{self.endpoint}/api/datasets/{repository}/tree/{commit}?recursive=true&expand=false"
        sizes: dict[str, int] = {}
        for page in self._pages(url, f"{repository}@{commit}"):
            try:
                sizes |= {str(entry["path"]): int(entry["size"]) for entry in page if entry["type"] == "file"}
            except (KeyError, TypeError, ValueError) as error:
                raise self._no_hub(f"a file of {repository} has no path or size") from error
        return sizes

    def text(self, repository: str, commit: str, path: str) -> str:
        """Return a small text file of a repository."""
        url = hf_hub_url(repository, path, repo_type="dataset", revision=commit, endpoint=self.endpoint)
        return self.attempted(lambda: str(self._answer(url).text), f"{repository}@{commit} {path}")

    def open(self, path: str, size_bytes: int | None = None, stop: Event | None = None) -> Any:
        """Return a binary file object of ``datasets/ORG/NAME@COMMIT/PATH``; ranges are fetched as they are read.

        The size is queried where it is None; another thread sets ``stop`` to end the waits of this one.
        """
        stop = stop or Event()
        options = {} if size_bytes is None else {"size": size_bytes}
        subject = path.removeprefix("hf://").removeprefix("datasets/")
        return self.attempted(
            lambda: self.filesystem.open(path, "rb", cache_type="none", stop=stop, **options), subject, stop
        )

    def attempted(
        self, call: Callable[[], Result], subject: str, stop: Event | None = None, progress: Callable[[], int] = int
    ) -> Result:
        """Return what a call returns; one that fails for a while is repeated after a bounded wait, which ``stop`` ends.

        ``subject`` is ``ORG/NAME@REVISION PATH``, for the sentence; ``progress`` returns the bytes that all attempts
        have brought: one that brings many starts the count of failures anew.
        """
        failures, before = 0, 0
        while True:
            try:
                return call()
            except OfflineModeIsEnabled as error:
                raise UnavailableError(
                    f"HF_HUB_OFFLINE is set, so {self.endpoint} is not queried for {subject}"
                ) from error
            except HfHubHTTPError as error:
                if error.response.status_code not in RETRY_STATUS:
                    raise UnavailableError(self._refusal(error.response, subject)) from error
                failure: Exception = error
            except FileNotFoundError as error:
                cause = error.__cause__
                if isinstance(cause, HfHubHTTPError):
                    raise UnavailableError(self._refusal(cause.response, subject)) from error
                raise UnavailableError(f"the hub {self.endpoint} has no file {subject}") from error
            except _transport_errors() as error:
                failure = error
            failures = 1 if progress() - before >= LEAST_PROGRESS_BYTES else failures + 1
            before = progress()
            self._wait(failure, failures, subject, stop or Event())

    def received_range(self, url: str, span: tuple[int, int], subject: str, stop: Event) -> bytearray:
        """Return the bytes of a URL from the first to before the last; what has arrived is not fetched again."""
        content, received = bytearray(span[1] - span[0]), 0

        def fetch() -> None:
            nonlocal received
            first = span[0] + received
            headers = {**_headers(), "Range": f"bytes={first}-{span[1] - 1}", "Accept-Encoding": "identity"}
            with get_session().stream(
                "GET", url, headers=headers, timeout=self.config.timeout_s, follow_redirects=True
            ) as answer:
                hf_raise_for_status(answer)
                stated = answer.headers.get("Content-Range", f"bytes {first}-")
                if answer.status_code != 206 or not stated.startswith(f"bytes {first}-"):
                    raise UnavailableError(f"the hub {self.endpoint} does not answer byte ranges of {subject}")
                for block in answer.iter_raw():
                    if received + len(block) > len(content):
                        raise UnavailableError(f"the hub {self.endpoint} sent more of {subject} than was requested")
                    content[received : received + len(block)] = block
                    received += len(block)
                if received < len(content):
                    missing = len(content) - received
                    raise _http_library().RemoteProtocolError(f"the answer ended {missing} bytes early")

        with self._downloads:
            self.attempted(fetch, subject, stop, lambda: received)
        return content

    def _pages(self, url: str, subject: str) -> Iterator[list[Any]]:
        """Yield the pages of a listing."""
        for _ in range(MOST_PAGES):
            page, following = self._json(url, subject)
            if not isinstance(page, list):
                raise self._no_hub(f"the listing of {subject} is no list")
            yield page
            if following is None:
                return
            if following == url or urlsplit(following)[:2] != urlsplit(self.endpoint)[:2]:
                raise self._no_hub(f"the listing of {subject} continues at {following}")
            url = following
        raise self._no_hub(f"the listing of {subject} has more than {MOST_PAGES} pages")

    def _json(self, url: str, subject: str) -> tuple[Any, str | None]:
        """Return the JSON of an answer, and the address of the next page."""
        answer = self.attempted(lambda: self._answer(url), subject)
        try:
            return answer.json(), answer.links.get("next", {}).get("url")
        except ValueError as error:
            raise self._no_hub("the answer is no JSON") from error

    def _answer(self, url: str, accepted: tuple[int, ...] = ()) -> Any:
        answer = get_session().get(url, headers=_headers(), timeout=self.config.timeout_s, follow_redirects=True)
        if answer.status_code not in accepted:
            hf_raise_for_status(answer)
        return answer

    def _no_hub(self, why: str) -> UnavailableError:
        return UnavailableError(f"{self.endpoint} (HF_ENDPOINT) does not answer like a Hugging Face hub: {why}")

    def _refusal(self, answer: Any, subject: str) -> str:
        repository, _, rest = subject.partition("@")
        revision, _, path = rest.replace("/", " ", 1).partition(" ")
        hub, code = f"the hub {self.endpoint}", answer.headers.get("X-Error-Code", "")
        if code == "RevisionNotFound":
            return f"the dataset repository {repository} of {hub} has no revision {revision}"
        if code == "EntryNotFound":
            return f"the dataset repository {repository} of {hub} has no file {path} at {revision}"
        if code == "GatedRepo" or answer.status_code == 403:
            return f"the dataset repository {repository} of {hub} is gated: HF_TOKEN must allow it"
        if code == "RepoNotFound" or answer.status_code in (401, 404):
            return f"{hub} has no dataset repository {repository}, or HF_TOKEN may not see it{self._places(repository)}"
        return f"{hub} answered {answer.status_code} for {subject}"

    def _places(self, repository: str) -> str:
        """Return the setting that names a repository, and where else it may be."""
        named = {name: getattr(self.config, name) for name in ("sdss", "desi", "hsc", "pairs")}
        setting = next((f"data.hub.{name}" for name, value in named.items() if value == repository), "")
        if not setting or setting == "data.hub.pairs":
            return f" ({setting})" if setting else ""
        places = [f"{organisation}/{repository.split('/')[1]}" for organisation in KNOWN_ORGANISATIONS]
        others = ", ".join(place for place in places if place != repository)
        return f"; {setting} names it, other known places: {others}"

    def _wait(self, failure: Exception, failures: int, subject: str, stop: Event) -> None:
        """Sleep before the next attempt, or raise the sentence that ends the run."""
        requested = _requested_wait_s(failure)
        if failures > self.config.retries or (requested is not None and requested > LONGEST_REQUESTED_WAIT_S):
            raise UnavailableError(
                f"the hub {self.endpoint} gave no answer for {subject} after {failures} attempts "
                f"(data.hub.retries {self.config.retries}): {_reason(failure)}; the same command resumes"
            ) from failure
        grown = self.config.backoff_s * 2 ** (failures - 1) * random.uniform(0.75, 1.25)
        wait_s = min(LONGEST_WAIT_S, grown) if requested is None else requested
        _log.info("hub: %s: %s; next attempt in %.1f s", subject, _reason(failure), wait_s)
        if _paused(stop, wait_s):
            raise UnavailableError(f"the hub {self.endpoint} was given up") from failure


class _HubFileSystem(HfFileSystem):
    """The file system of ``huggingface_hub`` with the waits of a ``HubClient``."""

    client: HubClient

    def _open(
        self, path: str, mode: str = "rb", block_size: int | None = None, revision: str | None = None, **options: Any
    ) -> "_HubFile":
        return _HubFile(self, path, mode=mode, block_size=block_size, revision=revision, **options)


class _HubFile(HfFileSystemFile):
    """An open file; the ranges read last are kept, because the next pairs often want the same row groups."""

    fs: _HubFileSystem

    def __init__(self, fs: _HubFileSystem, path: str, stop: Event, **options: Any) -> None:
        self._stop = stop
        super().__init__(fs, path, **options)

    def _fetch_range(self, start: int, end: int) -> bytearray:  # type: ignore[override]  # any buffer will do
        kept = self.fs.client.kept
        key = (str(self.path), start, end)
        content = kept.get(key)
        if content is None:
            subject = key[0].removeprefix("datasets/")
            content = self.fs.client.received_range(self.url(), (start, end), subject, self._stop)
            kept.put(key, content)
        return content

    def url(self) -> str:
        """Return the address of the file, without the listing of its folder that the library asks for."""
        place: Any = self.resolved_path
        options = {"repo_type": "dataset", "revision": place.revision, "endpoint": self.fs.endpoint}
        return hf_hub_url(place.repo_id, place.path_in_repo, **options)


def _paused(stop: Event, wait_s: float) -> bool:
    """Wait, and return whether to stop instead of trying again."""
    return stop.wait(wait_s)


def _headers() -> dict[str, str]:
    headers: dict[str, str] = build_hf_headers(library_name="mmagn", library_version=__version__)
    return headers


def _requested_wait_s(failure: Exception) -> float | None:
    """Return the seconds that an answer asks to wait."""
    if not isinstance(failure, HfHubHTTPError):
        return None
    seconds = failure.response.headers.get("Retry-After", "")
    return float(seconds) if seconds.isdigit() else None


def _reason(failure: Exception) -> str:
    if isinstance(failure, HfHubHTTPError):
        return f"{failure.response.status_code} {failure.response.reason_phrase}"
    if "Timeout" in type(failure).__name__:
        return "it was silent for longer than data.hub.timeout_s"
    return str(failure).strip() or type(failure).__name__


def hub_client(config: HubConfig) -> HubClient:
    """Return the connection of this process to the hub that ``HF_ENDPOINT`` names."""
    return _client(hub_endpoint(), config, os.getpid())


@lru_cache(maxsize=4)
def _client(endpoint: str, config: HubConfig, process: int) -> HubClient:  # noqa: ARG001 - a fork needs its own sockets
    return HubClient(endpoint, config)
