"""Download the HEALPix cells worth having from the HTTP index of the Multimodal Universe v1 tree."""

import re
import shutil
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urljoin, urlsplit

import requests
from requests.adapters import HTTPAdapter
from tqdm import tqdm
from urllib3.util import Retry

PUBLISHED_TREE = "https://users.flatironinstitute.org/~polymathic/data/MultimodalUniverse/v1/"
SDSS_ROW_BYTES = 17 * 3862 + 400
"""Bytes of one SDSS row: five arrays (four float32, one bool) of 3,862 pixels on average, and the catalogue columns."""
HSC_ROW_BYTES = 850_000
"""Bytes of one HSC row on disk: about 400 GB over 474,954 rows."""
HSC_CELL_ROWS = 213_000
"""HSC rows of a wholly covered cell: 13.4 square degrees at about 16,000 objects each (i < 22.5)."""
BLOCK_BYTES = 1 << 16
TRIES = 5
RETRY_STATUS = (408, 429, 500, 502, 503, 504)
SILENCE_SECONDS = 30.0
"""A server that says nothing for so long is asked again."""
CELL_NAME = re.compile(r"healpix=(\d+)/?")


@dataclass(frozen=True, kw_only=True)
class RemoteFile:
    """A file of the published tree: its path below the root and its size."""

    path: str
    size_bytes: int


@dataclass(frozen=True, kw_only=True)
class Cell:
    """A HEALPix cell that both surveys have.

    Attributes
    ----------
    healpix
        Cell number, NSIDE 16, NESTED.
    files
        All files of both surveys.
    sdss_bytes, hsc_bytes
        Sizes of the two sides.
    """

    healpix: int
    files: tuple[RemoteFile, ...]
    sdss_bytes: int
    hsc_bytes: int

    @property
    def size_bytes(self) -> int:
        """Bytes of both sides."""
        return self.sdss_bytes + self.hsc_bytes

    @property
    def expected_pairs(self) -> float:
        """Spectra of the cell times the share of the cell that HSC covers, both judged by file size.

        The share of spectra with a counterpart brighter than the HSC sample's limit is not in it: the number
        ranks cells, it does not promise pairs.
        """
        covered = min(1.0, self.hsc_bytes / HSC_ROW_BYTES / HSC_CELL_ROWS)
        return self.sdss_bytes / SDSS_ROW_BYTES * covered

    @property
    def pairs_per_gb(self) -> float:
        """Expected pairs per 1e9 bytes."""
        return self.expected_pairs / max(self.size_bytes / 1e9, 1e-9)


class _Links(HTMLParser):
    """Collects the targets of all links of an index page."""

    def __init__(self) -> None:
        super().__init__()
        self.targets: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Keep the target of a link."""
        self.targets += [value for name, value in attrs if tag == "a" and name == "href" and value]


def http_session(backoff_seconds: float = 0.5) -> requests.Session:
    """Return a session that asks again, ever later, on 429, 5xx and broken connections, heeding Retry-After."""
    retry = Retry(total=TRIES, backoff_factor=backoff_seconds, status_forcelist=RETRY_STATUS, backoff_max=60)
    session = requests.Session()
    session.headers["Accept-Encoding"] = "identity"
    for scheme in ("http://", "https://"):
        session.mount(scheme, HTTPAdapter(max_retries=retry))
    return session


def remote_cells(
    session: requests.Session,
    root_url: str,
    sdss_surveys: Sequence[str],
    hsc_survey: str,
    *,
    wanted: Sequence[int] = (),
    workers: int = 8,
) -> list[Cell]:
    """Cells that both surveys have, sized, best pairs per GB first.

    Parameters
    ----------
    session
        Open HTTP session, from :func:`http_session`.
    root_url
        URL of the folder that holds ``sdss/`` and ``hsc/``.
    sdss_surveys, hsc_survey
        Directories to look into; an SDSS directory that the server lacks is passed over.
    wanted
        Only these cells; empty takes all.
    workers
        Listings under way at once.

    Raises
    ------
    ValueError
        Where the root cannot be reached, has no such survey, no common cell, or lacks a wanted cell.
    """
    root_url = root_url.rstrip("/") + "/"
    hsc = _cell_folders(session, root_url, f"hsc/{hsc_survey}/")
    sdss = [_cell_folders(session, root_url, f"sdss/{survey}/") for survey in sdss_surveys]
    if not hsc:
        raise ValueError(f"{root_url}hsc/{hsc_survey}/ lists no healpix=N folders")
    common = sorted(set(hsc) & set().union(*sdss))
    missing = sorted(set(wanted) - set(common))
    if missing:
        raise ValueError(f"--cells {','.join(map(str, missing))}: not in both surveys at {root_url}")
    if not common:
        raise ValueError(f"{root_url} has no cell that both hsc/{hsc_survey} and sdss/{list(sdss_surveys)} cover")

    def sized(healpix: int) -> Cell:
        folders = [survey[healpix] for survey in sdss if healpix in survey]
        sdss_files = [file for folder in folders for file in _files(session, root_url, folder)]
        hsc_files = _files(session, root_url, hsc[healpix])
        return Cell(
            healpix=healpix,
            files=(*sdss_files, *hsc_files),
            sdss_bytes=sum(file.size_bytes for file in sdss_files),
            hsc_bytes=sum(file.size_bytes for file in hsc_files),
        )

    with ThreadPoolExecutor(workers) as pool:
        cells = list(pool.map(sized, wanted or common))
    return sorted(cells, key=lambda cell: (-cell.pairs_per_gb, cell.healpix))


def chosen_cells(cells: Sequence[Cell], max_gb: float) -> list[Cell]:
    """Cells, in the order given, that fit together into ``max_gb`` times 1e9 bytes."""
    chosen, left = [], max_gb * 1e9
    for cell in cells:
        if cell.size_bytes <= left:
            chosen.append(cell)
            left -= cell.size_bytes
    return chosen


def plan_text(cells: Sequence[Cell], chosen: Sequence[Cell], rows: int = 40) -> str:
    """Return the plan as a table, one row a cell, chosen cells marked."""
    lines = ["cell    fetch   SDSS MB     HSC MB   expected pairs   pairs per GB"]
    lines += [
        f"{cell.healpix:<7d} {'yes' if cell in chosen else 'no':<5s} {cell.sdss_bytes / 1e6:9.1f} "
        f"{cell.hsc_bytes / 1e6:10.1f} {cell.expected_pairs:16.1f} {cell.pairs_per_gb:14.1f}"
        for cell in cells[:rows]
    ]
    if len(cells) > rows:
        lines.append(f"... and {len(cells) - rows} more cells")
    total = sum(cell.size_bytes for cell in chosen)
    lines.append(f"{len(chosen)} of {len(cells)} cells, {total / 1e9:.2f} GB")
    return "\n".join(lines)


def fetch_cells(session: requests.Session, root_url: str, cells: Sequence[Cell], out: Path, *, workers: int = 4) -> int:
    """Download all files of the cells below ``out`` and return the bytes moved.

    A file that is there with the right size is not asked for again; an interrupted one goes on by a range
    request; a file gets its final name only when its size is right.

    Raises
    ------
    ValueError
        Where a file keeps failing, or its size is not what the index said.
    OSError
        Where the disk has too little room, before anything is downloaded.
    """
    files = [file for cell in cells for file in cell.files]
    missing = [file for file in files if not _complete(out / file.path, file)]
    needed = sum(file.size_bytes - _part_size(out / file.path) for file in missing)
    out.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(out).free
    if needed > free:
        raise OSError(f"{out} has {free / 1e9:.2f} GB free and the download needs {needed / 1e9:.2f} GB")
    root_url = root_url.rstrip("/") + "/"
    with (
        tqdm(total=needed, unit="B", unit_scale=True, desc="download", disable=not missing) as bar,
        ThreadPoolExecutor(workers) as pool,
    ):
        jobs = [
            pool.submit(_download, session, root_url + file.path, out / file.path, file, bar.update) for file in missing
        ]
        try:
            return sum(job.result() for job in as_completed(jobs))
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _complete(path: Path, file: RemoteFile) -> bool:
    return path.is_file() and path.stat().st_size == file.size_bytes


def _part(path: Path) -> Path:
    return path.with_name(path.name + ".part")


def _part_size(path: Path) -> int:
    return _part(path).stat().st_size if _part(path).is_file() else 0


def _download(
    session: requests.Session, url: str, path: Path, file: RemoteFile, progress: Callable[[int], object]
) -> int:
    path.parent.mkdir(parents=True, exist_ok=True)
    part, moved = _part(path), 0
    for _ in range(TRIES):
        have = _part_size(path)
        if have >= file.size_bytes:
            break
        try:
            for size in _appended(session, url, part, have):
                moved += size
                progress(size)
        except (requests.ConnectionError, requests.Timeout, requests.exceptions.ChunkedEncodingError):
            continue  # what arrived is kept; the next try asks for the rest
    if _part_size(path) < file.size_bytes:
        raise ValueError(f"{url} broke off {TRIES} times; run fetch again to go on")
    if _part_size(path) > file.size_bytes:
        size = _part_size(path)
        part.unlink()
        raise ValueError(f"{url} has {size} bytes where the index said {file.size_bytes}; run fetch again")
    part.replace(path)
    return moved


def _appended(session: requests.Session, url: str, part: Path, have: int) -> Iterator[int]:
    """Add what is missing to a partial file, or start it anew where the server ignores ranges; sizes as they come."""
    headers = {"Range": f"bytes={have}-"} if have else {}
    with _asked(session, "GET", url, headers=headers, stream=True) as answer:
        resumed = answer.status_code == requests.codes.partial_content
        with part.open("ab" if resumed else "wb") as stream:
            for block in answer.iter_content(BLOCK_BYTES):
                yield stream.write(block)


def _asked(
    session: requests.Session, method: str, url: str, *, headers: dict[str, str] | None = None, stream: bool = False
) -> requests.Response:
    try:
        answer = session.request(method, url, headers=headers, stream=stream, timeout=SILENCE_SECONDS)
    except (requests.exceptions.RetryError, requests.ConnectionError, requests.Timeout) as error:
        reason = getattr(error.args[0], "reason", error) if error.args else error
        raise ValueError(f"{url} cannot be reached: {reason}") from error
    if not answer.ok:
        raise ValueError(f"{url} answered {answer.status_code} {answer.reason}")
    return answer


def _links(session: requests.Session, url: str) -> list[str]:
    """Absolute URLs directly below an index page."""
    parser = _Links()
    parser.feed(_asked(session, "GET", url).text)
    below = (urljoin(url, target.split("?")[0].split("#")[0]) for target in parser.targets)
    return [link for link in dict.fromkeys(below) if link.startswith(url) and link != url]


def _cell_folders(session: requests.Session, root_url: str, folder: str) -> dict[int, str]:
    """Cell number -> path below the root, of every healpix=N folder listed; empty where there is no such folder."""
    try:
        links = _links(session, root_url + folder)
    except ValueError as error:
        if " answered 404 " in str(error):
            return {}
        raise
    names = (unquote(urlsplit(link).path.rstrip("/").rsplit("/", 1)[-1]) for link in links)
    found = (CELL_NAME.fullmatch(name) for name in names)
    return {int(match[1]): f"{folder}{match[0]}/" for match in found if match}


def _files(session: requests.Session, root_url: str, folder: str) -> list[RemoteFile]:
    """The HDF5 files of one cell folder with their sizes, by a HEAD request each."""
    links = [link for link in _links(session, root_url + folder) if link.endswith((".hdf5", ".h5"))]
    return [
        RemoteFile(path=folder + unquote(link.rsplit("/", 1)[-1]), size_bytes=_size(session, link)) for link in links
    ]


def _size(session: requests.Session, url: str) -> int:
    length = _asked(session, "HEAD", url).headers.get("Content-Length", "")
    if not length.isdigit():
        raise ValueError(f"{url} does not say its size (no Content-Length)")
    return int(length)
