"""Download of the HEALPix cells with the most pairs from the HTTP index of the Multimodal Universe v1 tree."""

import hashlib
import re
import shutil
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path

import requests
from tqdm import tqdm

from mmagn.surveys.http_index import BLOCK_BYTES, TRIES, answer_to, file_version, listed_names

PUBLISHED_TREE = "https://users.flatironinstitute.org/~polymathic/data/MultimodalUniverse/v1/"
ROW_BYTES = {"sdss": 17 * 3862 + 400, "desi": 17 * 7781 + 1000}
"""Bytes of a row: five arrays (four float32, one bool), of 3,862 pixels on average in SDSS and 7,781 in DESI, and the
catalogue columns."""
HSC_ROW_BYTES = 850_000
"""Bytes of one HSC row on disk: about 400 GB over 474,954 rows."""
HSC_CELL_ROWS = 213_000
"""HSC rows of a wholly covered cell: 13.4 square degrees at about 16,000 objects each (i < 22.5)."""
CELL_NAME = re.compile(r"healpix=(\d+)/?")


@dataclass(frozen=True, kw_only=True)
class RemoteFile:
    """A file of the published tree: path below the root, size, and what changes with its content ("" if unknown)."""

    path: str
    size_bytes: int
    version: str = ""


@dataclass(frozen=True, kw_only=True)
class Cell:
    """A HEALPix cell (NSIDE 16, NESTED) of both surveys: its files, their sizes, and an estimate of its spectra."""

    healpix: int
    files: tuple[RemoteFile, ...]
    spectra_bytes: int
    hsc_bytes: int
    spectra: float

    @property
    def size_bytes(self) -> int:
        """Bytes of both sides."""
        return self.spectra_bytes + self.hsc_bytes

    @property
    def expected_pairs(self) -> float:
        """Spectra of the cell times the share of the cell that HSC covers, both estimated from file sizes.

        The share of spectra with a counterpart brighter than the HSC sample's limit is not in it: the number
        ranks cells, it does not promise pairs.
        """
        covered = min(1.0, self.hsc_bytes / HSC_ROW_BYTES / HSC_CELL_ROWS)
        return self.spectra * covered

    @property
    def pairs_per_gb(self) -> float:
        """Expected pairs per 1e9 bytes."""
        return self.expected_pairs / max(self.size_bytes / 1e9, 1e-9)


def remote_cells(
    session: requests.Session,
    root_url: str,
    folders: Sequence[str],
    hsc_survey: str,
    *,
    wanted: Sequence[int] = (),
    workers: int = 8,
) -> list[Cell]:
    """Cells that both surveys have, sized, best pairs per GB first.

    Parameters
    ----------
    session
        As of :func:`http_session`.
    root_url
        URL of the folder that holds ``sdss/`` and ``hsc/``.
    folders
        Folders of spectra, such as ``sdss/boss``; one that the server lacks is passed over.
    hsc_survey
        Directory under ``hsc``.
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
    spectra = [_cell_folders(session, root_url, f"{folder}/") for folder in folders]
    if not hsc:
        raise ValueError(f"{root_url}hsc/{hsc_survey}/ lists no healpix=N folders")
    common = sorted(set(hsc) & set().union(*spectra))
    missing = sorted(set(wanted) - set(common))
    if missing:
        raise ValueError(f"--cells {','.join(map(str, missing))}: not in both surveys at {root_url}")
    if not common:
        raise ValueError(f"{root_url} has no cell that both hsc/{hsc_survey} and {' or '.join(folders)} cover")

    def sized(healpix: int) -> Cell:
        own = [survey[healpix] for survey in spectra if healpix in survey]
        spectra_files = [file for folder in own for file in _files(session, root_url, folder)]
        hsc_files = _files(session, root_url, hsc[healpix])
        return Cell(
            healpix=healpix,
            files=(*spectra_files, *hsc_files),
            spectra_bytes=sum(file.size_bytes for file in spectra_files),
            hsc_bytes=sum(file.size_bytes for file in hsc_files),
            spectra=sum(file.size_bytes / ROW_BYTES[file.path.partition("/")[0]] for file in spectra_files),
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
    lines = ["cell    fetch spectra MB     HSC MB   expected pairs   pairs per GB"]
    lines += [
        f"{cell.healpix:<7d} {'yes' if cell in chosen else 'no':<5s} {cell.spectra_bytes / 1e6:10.1f} "
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

    A file of the right size is not requested again. An interrupted download resumes by a range request where the
    server states a version of the file, and starts anew where it has changed. A file gets its name when it is complete.

    Raises ``ValueError`` where a file keeps failing, has changed, or its size is not what the index stated, ``OSError``
    where the disk has too little room, before anything is downloaded.
    """
    files = [file for cell in cells for file in cell.files]
    missing = [file for file in files if not _complete(out / file.path, file)]
    needed = sum(file.size_bytes - _size_on_disk(_part(out / file.path, file)) for file in missing)
    out.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(out).free
    if needed > free:
        raise OSError(f"{out} has {free / 1e9:.2f} GB free and the download needs {needed / 1e9:.2f} GB")
    root_url = root_url.rstrip("/") + "/"
    with (
        tqdm(total=needed, unit="B", unit_scale=True, desc="download", disable=not missing) as bar,
        ThreadPoolExecutor(workers) as pool,
    ):
        jobs = [pool.submit(_download, session, root_url + file.path, out, file, bar.update) for file in missing]
        try:
            return sum(job.result() for job in as_completed(jobs))
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _complete(path: Path, file: RemoteFile) -> bool:
    return path.is_file() and path.stat().st_size == file.size_bytes


def _part(path: Path, file: RemoteFile) -> Path:
    """Return the partial download of this version of a file."""
    version = hashlib.sha256(file.version.encode()).hexdigest()[:12]
    return path.with_name(f".{path.name}.{version}.part")


def _size_on_disk(path: Path) -> int:
    return path.stat().st_size if path.is_file() else 0


def _download(
    session: requests.Session, url: str, out: Path, file: RemoteFile, progress: Callable[[int], object]
) -> int:
    """Download one file and return the bytes moved."""
    path = out / file.path
    path.parent.mkdir(parents=True, exist_ok=True)
    part, moved = _part(path, file), 0
    for other in path.parent.glob(f".{path.name}.*.part"):
        if other != part or not file.version:  # of another version, or of one that nobody knows
            other.unlink()
    for _ in range(TRIES):
        if _size_on_disk(part) == file.size_bytes:
            break
        try:
            for size in _appended(session, url, part, file):
                moved += size
                progress(size)
        except (requests.ConnectionError, requests.Timeout, requests.exceptions.ChunkedEncodingError):
            continue  # what arrived is kept; the next try asks for the rest
        except OSError as error:
            if error.errno is None or error.filename is not None:
                raise
            raise OSError(error.errno, error.strerror, str(part)) from error  # such as no space left
    else:
        if _size_on_disk(part) != file.size_bytes:
            raise ValueError(f"{url} broke off {TRIES} times; run fetch again to resume")
    part.replace(path)
    return moved


def _appended(session: requests.Session, url: str, part: Path, file: RemoteFile) -> Iterator[int]:
    """Add what is missing to a partial file, or start it anew where the server sends all; yield sizes as they come."""
    have = _size_on_disk(part) if file.version else 0
    headers = {"Range": f"bytes={have}-", "If-Range": file.version} if have else {}
    with answer_to(session, "GET", url, headers=headers) as answer:
        resumed = answer.status_code == requests.codes.partial_content
        start = have if resumed else 0
        length = answer.headers.get("Content-Length", "")
        announced = start + int(length) if length.isdigit() else file.size_bytes
        changed = file_version(answer) not in ("", file.version)
        if resumed and not answer.headers.get("Content-Range", "").startswith(f"bytes {have}-"):
            raise ValueError(f"{url} answers another range than was requested")
        if changed or announced != file.size_bytes:
            part.unlink(missing_ok=True)
            what = "another version" if changed else f"{announced} bytes"
            raise ValueError(f"{url} has {what} where the index said {file.size_bytes} bytes; run fetch again")
        with part.open("ab" if resumed else "wb") as stream:
            for block in answer.iter_content(BLOCK_BYTES):
                start += len(block)
                if start > file.size_bytes:
                    raise ValueError(f"{url} sends more than the {file.size_bytes} bytes it announced")
                yield stream.write(block)


def _cell_folders(session: requests.Session, root_url: str, folder: str) -> dict[int, str]:
    """Return the path below the root of every healpix=N folder by cell; empty where there is no such folder."""
    try:
        names = listed_names(session, root_url + folder)
    except ValueError as error:
        if " answered 404 " in str(error):
            return {}
        raise
    matches = (CELL_NAME.fullmatch(name) for name in names)
    return {int(match[1]): f"{folder}{match[0].rstrip('/')}/" for match in matches if match}


def _files(session: requests.Session, root_url: str, folder: str) -> list[RemoteFile]:
    """Return the HDF5 files of one cell folder with size and version, by a HEAD request each."""
    names = [name for name in listed_names(session, root_url + folder) if name.endswith((".hdf5", ".h5"))]
    return [_remote_file(session, root_url, folder + name) for name in names]


def _remote_file(session: requests.Session, root_url: str, path: str) -> RemoteFile:
    url = root_url + path
    with answer_to(session, "HEAD", url) as answer:
        length = answer.headers.get("Content-Length", "")
        if not length.isdigit():
            raise ValueError(f"{url} does not state its size (no Content-Length)")
        return RemoteFile(path=path, size_bytes=int(length), version=file_version(answer))
