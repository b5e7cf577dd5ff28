"""Answers of an HTTP server: sessions that repeat requests, versions of files, index pages, single files."""

import hashlib
import logging
import re
from datetime import datetime
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urljoin, urlsplit

import requests
from requests.adapters import HTTPAdapter
from urllib3.util import Retry

from mmagn.storage.files import whole_file

BLOCK_BYTES = 1 << 16
TRIES = 5
RETRY_STATUS = (408, 429, 500, 502, 503, 504)
SILENCE_SECONDS = 30.0
"""A request is repeated after a silence of so long."""
INDEX_BYTES = 2**24
"""Most bytes of an index page."""
PLAIN_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.=+ -]*/?")

logger = logging.getLogger(__name__)


class _Links(HTMLParser):
    """Collects the targets of all links of an index page."""

    def __init__(self) -> None:
        super().__init__()
        self.targets: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Keep the target of a link."""
        self.targets += [value for name, value in attrs if tag == "a" and name == "href" and value]


def http_session(backoff_seconds: float = 0.5) -> requests.Session:
    """Return a session that repeats requests after 429, 5xx and broken connections, and waits as Retry-After says."""
    retry = Retry(total=TRIES, backoff_factor=backoff_seconds, status_forcelist=RETRY_STATUS, backoff_max=60)
    session = requests.Session()
    session.headers["Accept-Encoding"] = "identity"
    for scheme in ("http://", "https://"):
        session.mount(scheme, HTTPAdapter(max_retries=retry))
    return session


def answer_to(
    session: requests.Session, method: str, url: str, *, headers: dict[str, str] | None = None
) -> requests.Response:
    """Return an answer whose body is not yet read.

    Raises ``ValueError`` where the server cannot be reached or refuses.
    """
    try:
        answer = session.request(method, url, headers=headers, stream=True, timeout=SILENCE_SECONDS)
    except (requests.exceptions.RetryError, requests.ConnectionError, requests.Timeout) as error:
        reason = getattr(error.args[0], "reason", error) if error.args else error
        raise ValueError(f"{url} cannot be reached: {reason}") from error
    if not answer.ok:
        answer.close()
        raise ValueError(f"{url} answered {answer.status_code} {answer.reason}")
    return answer


def file_version(answer: requests.Response) -> str:
    """Return the strong ETag of a file, or the time of its last change, "" where the server states neither."""
    tag = answer.headers.get("ETag", "")
    return tag if tag.startswith('"') else answer.headers.get("Last-Modified", "")


def listed_names(session: requests.Session, url: str) -> list[str]:
    """Return the names that an index page lists directly below itself, folders with their slash.

    Raises ``ValueError`` for a page beyond all bounds, or a name that could lead out of the folder.
    """
    page = bytearray()
    with answer_to(session, "GET", url) as answer:
        for block in answer.iter_content(BLOCK_BYTES):
            page += block
            if len(page) > INDEX_BYTES:
                raise ValueError(f"{url} lists more than {INDEX_BYTES // 2**20} MiB of names")
    parser = _Links()
    parser.feed(page.decode(errors="replace"))
    links = (urljoin(url, target.split("?")[0].split("#")[0]) for target in parser.targets)
    names = [unquote(link.removeprefix(url)) for link in dict.fromkeys(links) if link.startswith(url) and link != url]
    for name in names:
        if not PLAIN_NAME.fullmatch(name):
            raise ValueError(f"{url} lists {name!r}, which is no plain name")
    return names


def plain_name(address: str) -> str:
    """Return the name of the file of a path or address: without folder, query, credentials, ``~`` or dot in front.

    The host of an address without a path; "." of a path without a name.
    """
    path, host = address, None
    if "://" in address:
        place = urlsplit(address)
        path, host = unquote(place.path), place.hostname
    return Path(path).name.lstrip("~.") or host or "."


def local_file(address: str, folder: Path) -> Path:
    """Return the path of a file; what an http(s) address names is downloaded into ``folder`` once.

    Raises ``ValueError`` where the server cannot be reached or refuses, or the address is of another kind.
    """
    if "://" not in address:
        return Path(address).expanduser()
    parts = urlsplit(address)
    if parts.scheme not in ("http", "https"):
        raise ValueError(f"{address} is no address of a file; allowed: a path, http:// or https://")
    name = unquote(parts.path).rpartition("/")[2]
    if not PLAIN_NAME.fullmatch(name):
        raise ValueError(f"{address} names no file; allowed: an address that ends in the name of a file")
    path = folder / f"{hashlib.sha256(address.encode()).hexdigest()[:16]}-{name}"
    if not path.is_file():
        folder.mkdir(parents=True, exist_ok=True)
        with http_session() as session, answer_to(session, "GET", address) as answer, whole_file(path) as part:
            try:
                with part.open("wb") as file:
                    for block in answer.iter_content(BLOCK_BYTES):
                        file.write(block)
            except requests.RequestException as error:
                raise ValueError(f"{address} broke off: {error}") from error
    downloaded = datetime.fromtimestamp(path.stat().st_mtime).isoformat(" ", "seconds")
    logger.info("%s: %s, downloaded on %s; delete the file to download it again", address, path, downloaded)
    return path
