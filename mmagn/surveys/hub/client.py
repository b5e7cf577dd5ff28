"""What a Hugging Face hub answers: commits, listings and byte ranges, asked for again where the net fails.

The endpoint is ``HF_ENDPOINT``, the token is ``HF_TOKEN`` or the one that ``huggingface_hub`` keeps. Every wait is
bounded: a silent connection is given up, and a range that broke off goes on at the byte where it stopped.
"""

import logging
import os
import random
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache, partial
from importlib.metadata import version
from threading import BoundedSemaphore, Event, Lock
from typing import Any, TypeVar
from urllib.parse import quote

import requests
from huggingface_hub import constants, get_token, hf_hub_url
from requests.adapters import HTTPAdapter

from mmagn.surveys.config import HubConfig

Result = TypeVar("Result")

BLOCK_BYTES = 1 << 16
LONGEST_WAIT_S = 60.0
LONGEST_ASKED_WAIT_S = 600.0
"""A hub that asks to wait longer is given up at once; its own windows are 300 s."""
RETRY_STATUS = (408, 429, 500, 502, 503, 504)
_LOGGER = logging.getLogger(__name__)


class _LaterError(Exception):
    """An answer that stands for "later": its words, and the seconds it names or None."""

    def __init__(self, answer: requests.Response) -> None:
        super().__init__(f"{answer.status_code} {answer.reason}")
        asked = answer.headers.get("Retry-After", "")
        self.seconds = float(asked) if asked.isdigit() else None


_PASSING = (requests.ConnectionError, requests.Timeout, requests.exceptions.ChunkedEncodingError, _LaterError)
"""Failures that another try may mend."""


def hub_endpoint() -> str:
    """Return the address of the hub, ``HF_ENDPOINT`` or the public one."""
    return os.environ.get("HF_ENDPOINT", constants.ENDPOINT).rstrip("/")


class HubClient:
    """A connection to one hub. Counts what it moved in ``bytes_moved`` and ``requests_made``.

    Parameters
    ----------
    endpoint
        Address of the hub.
    config
        Workers, retries and waits.
    """

    def __init__(self, endpoint: str, config: HubConfig) -> None:
        self.endpoint = endpoint
        self.config = config
        self.bytes_moved = 0
        self.requests_made = 0
        self._counting = Lock()
        self._giving_up = Event()
        self._open = BoundedSemaphore(config.workers)
        self._session = requests.Session()
        for scheme in ("http://", "https://"):
            self._session.mount(scheme, HTTPAdapter(pool_maxsize=config.workers))

    def commit(self, repository: str, revision: str) -> str:
        """Return the commit that a branch, tag or commit of a dataset repository stands for.

        Raises
        ------
        ValueError
            If the hub is unreachable, or does not know the repository or the revision.
        """
        url = f"{self.endpoint}/api/datasets/{repository}/revision/{quote(revision, safe='')}"
        return str(self._asked(url, f"{repository}@{revision}", self._json)["sha"])

    def known(self, repository: str) -> bool:
        """Return whether the hub has a dataset repository that the token may see.

        Raises
        ------
        ValueError
            If the hub is unreachable.
        """
        url = f"{self.endpoint}/api/datasets/{repository}/revision/main"
        missing = (requests.codes.unauthorized, requests.codes.not_found)
        return bool(self._asked(url, f"{repository}@main", lambda answer: answer.ok, accepted=missing))

    def files(self, repository: str, commit: str) -> dict[str, int]:
        """Return the size in bytes of every file of a repository at a commit by path, one listing page after the other.

        Raises
        ------
        ValueError
            As ``commit``.
        """
        url: str | None = f"{self.endpoint}/api/datasets/{repository}/tree/{commit}?recursive=true&expand=false"
        sizes: dict[str, int] = {}
        while url is not None:
            page, url = self._asked(
                url,
                f"{repository}@{commit}",
                lambda answer: (self._json(answer), answer.links.get("next", {}).get("url")),
            )
            sizes |= {entry["path"]: int(entry["size"]) for entry in page if entry["type"] == "file"}
        return sizes

    def text(self, repository: str, commit: str, path: str) -> str:
        """Return a small text file of a repository."""
        url = hf_hub_url(repository, path, repo_type="dataset", revision=commit, endpoint=self.endpoint)
        return self._asked(url, f"{repository}@{commit} {path}", lambda answer: answer.text)

    def read_into(self, target: memoryview, repository: str, commit: str, path: str, start: int) -> None:
        """Fill ``target`` with the bytes of a file from ``start`` on; what has arrived is never fetched twice.

        Raises
        ------
        ValueError
            If the hub is unreachable, lacks the file, does not answer ranges, or the file ends too early.
        """
        url = hf_hub_url(repository, path, repo_type="dataset", revision=commit, endpoint=self.endpoint)
        subject = f"{repository}@{commit} {path}"
        done = 0

        def received(answer: requests.Response) -> None:
            nonlocal done
            if answer.status_code != requests.codes.partial_content:
                raise ValueError(f"the hub {self.endpoint} does not answer ranges of {subject}; it sent the whole file")
            for block in answer.iter_content(BLOCK_BYTES):
                if done + len(block) > len(target):
                    raise ValueError(f"the hub {self.endpoint} sent more of {subject} than was asked for")
                target[done : done + len(block)] = block
                done += len(block)
                with self._counting:
                    self.bytes_moved += len(block)
            if done < len(target):
                raise requests.ConnectionError(f"the answer ended {len(target) - done} bytes early")

        def byte_range() -> dict[str, str]:
            return {"Range": f"bytes={start + done}-{start + len(target) - 1}"}

        if len(target):
            self._asked(url, subject, received, byte_range, progress=lambda: done)

    def read(self, repository: str, commit: str, path: str, start: int, stop: int) -> bytearray:
        """Return the bytes ``start`` to ``stop`` of a file."""
        target = bytearray(stop - start)
        self.read_into(memoryview(target), repository, commit, path, start)
        return target

    def in_parallel(self, tasks: Sequence[Callable[[], Result]]) -> list[Result]:
        """Return the results of tasks in their order, ``data.hub.workers`` at a time; the first failure stops all."""
        pool = ThreadPoolExecutor(min(self.config.workers, max(1, len(tasks))), thread_name_prefix="hub")
        try:
            return [future.result() for future in [pool.submit(task) for task in tasks]]
        except BaseException:
            self._giving_up.set()  # so that nobody sits out a long wait after a failure or Ctrl-C
            pool.shutdown(wait=True, cancel_futures=True)
            self._giving_up.clear()
            raise
        finally:
            pool.shutdown(wait=True)

    def _asked(
        self,
        url: str,
        subject: str,
        received: Callable[[requests.Response], Result],
        byte_range: Callable[[], dict[str, str]] = dict,
        progress: Callable[[], int] = lambda: 0,
        accepted: Sequence[int] = (),
    ) -> Result:
        """Return what ``received`` makes of the answer; tries that brought bytes do not count as failures."""
        if constants.HF_HUB_OFFLINE:
            raise ValueError(f"HF_HUB_OFFLINE is set, so the hub {self.endpoint} is not asked for {subject}")
        failures, before = 0, progress()
        while True:
            with self._counting:
                self.requests_made += 1
            try:
                return self._answered(url, subject, received, byte_range(), accepted)
            except _PASSING as error:
                failures = 1 if progress() > before else failures + 1
                before = progress()
                self._wait(error, failures, subject)

    def _answered(
        self,
        url: str,
        subject: str,
        received: Callable[[requests.Response], Result],
        headers: dict[str, str],
        accepted: Sequence[int],
    ) -> Result:
        headers = {**_who_asks(), "Accept-Encoding": "identity", **headers}
        ask = partial(self._session.get, url, headers=headers, stream=True, timeout=self.config.timeout_s)
        with self._open, ask() as answer:
            if answer.status_code in RETRY_STATUS:
                raise _LaterError(answer)
            if not answer.ok and answer.status_code not in accepted:
                raise ValueError(self._refusal(answer, subject))
            return received(answer)

    def _json(self, answer: requests.Response) -> Any:
        try:
            return answer.json()
        except requests.JSONDecodeError as error:
            raise ValueError(f"{self.endpoint} (HF_ENDPOINT) does not answer like a Hugging Face hub") from error

    def _refusal(self, answer: requests.Response, subject: str) -> str:
        repository, _, rest = subject.partition("@")
        revision, _, path = rest.partition(" ")
        code = answer.headers.get("X-Error-Code", "")
        if code == "RevisionNotFound":
            return f"the dataset repository {repository} of the hub {self.endpoint} has no revision {revision}"
        if code == "EntryNotFound":
            return f"the dataset repository {repository} of the hub {self.endpoint} has no file {path} at {revision}"
        if code == "GatedRepo" or answer.status_code == requests.codes.forbidden:
            return f"the dataset repository {repository} of the hub {self.endpoint} is gated: HF_TOKEN must allow it"
        if code == "RepoNotFound" or answer.status_code in (requests.codes.unauthorized, requests.codes.not_found):
            return f"the hub {self.endpoint} has no dataset repository {repository}, or HF_TOKEN may not see it"
        return f"the hub {self.endpoint} answered {answer.status_code} {answer.reason} for {subject}"

    def _wait(self, error: Exception, failures: int, subject: str) -> None:
        """Sleep before the next try, or raise the sentence that ends the run."""
        asked = error.seconds if isinstance(error, _LaterError) else None
        if failures > self.config.retries or (asked is not None and asked > LONGEST_ASKED_WAIT_S):
            raise ValueError(
                f"the hub {self.endpoint} gave no answer for {subject} after {failures} tries "
                f"(data.hub.retries {self.config.retries}): {_reason(error)}; the same command goes on where it stopped"
            ) from error
        wait_s = min(LONGEST_WAIT_S, self.config.backoff_s * 2 ** (failures - 1)) * random.uniform(0.75, 1.25)
        wait_s = wait_s if asked is None else asked
        _LOGGER.info("hub: %s: %s; next try in %.1f s", subject, _reason(error), wait_s)
        if _paused(self._giving_up, wait_s):
            raise ValueError(f"the hub {self.endpoint} was given up") from error


def _paused(giving_up: Event, wait_s: float) -> bool:
    """Wait, and return whether to give up instead of trying again."""
    return giving_up.wait(wait_s)


def _who_asks() -> dict[str, str]:
    """Return the headers that name this package and carry the token; the hub's own builder of them asks the net."""
    token = None if constants.HF_HUB_DISABLE_IMPLICIT_TOKEN else get_token()
    headers = {"User-Agent": f"mmagn/{version('mmagn')}"}
    return headers if token is None else {**headers, "Authorization": f"Bearer {token}"}


def _reason(error: Exception) -> str:
    """Return the innermost words of a failure of the net."""
    if isinstance(error, requests.Timeout):
        return "it was silent for longer than data.hub.timeout_s"
    while isinstance(inner := getattr(error, "reason", None) or (error.args[0] if error.args else None), Exception):
        error = inner
    return str(error).rsplit(": ", 1)[-1]


def hub_client(config: HubConfig) -> HubClient:
    """Return the connection of this process to the hub that ``HF_ENDPOINT`` names."""
    return _client(hub_endpoint(), config, os.getpid())


@lru_cache(maxsize=4)
def _client(endpoint: str, config: HubConfig, process: int) -> HubClient:  # noqa: ARG001 - a fork needs its own sockets
    return HubClient(endpoint, config)
