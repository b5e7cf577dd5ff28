"""Cells are chosen by pairs per gigabyte and downloaded once, whole or not at all, from a server that may fail."""

import errno
import re
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from mmagn.surveys import fetch, http_index
from mmagn.surveys.fetch import Cell, chosen_cells, fetch_cells, plan_text, remote_cells
from mmagn.surveys.http_index import http_session

PAYLOAD = {
    "sdss/sdss/healpix=11/001-of-001.hdf5": b"a" * 300_000,
    "sdss/boss/healpix=11/001-of-002.hdf5": b"b" * 100_000,
    "sdss/boss/healpix=11/002-of-002.hdf5": b"c" * 100_000,
    "sdss/sdss/healpix=1106/001-of-001.hdf5": b"d" * 50_000,
    "sdss/sdss/healpix=7/001-of-001.hdf5": b"e" * 10,
    "hsc/pdr3_dud_22.5/healpix=11/001-of-001.hdf5": bytes(range(256)) * 4000,
    "hsc/pdr3_dud_22.5/healpix=1106/001-of-001.hdf5": b"g" * 2_000_000,
    "hsc/pdr3_dud_22.5/healpix=9/001-of-001.hdf5": b"h" * 10,
}


class IndexServer:
    """An HTTP index like the published one, which can answer 503, cut a download or ignore ranges."""

    def __init__(self) -> None:
        self.files = dict(PAYLOAD)
        self.requests: list[tuple[str, str, str]] = []
        self.unavailable = 0
        self.cuts = 0
        self.ranges = True
        self.tags: dict[str, str] = {}
        self.listed: list[str] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def log_message(self, *_: object) -> None:
                pass

            def do_HEAD(self) -> None:
                self.answer(with_body=False)

            def do_GET(self) -> None:
                self.answer(with_body=True)

            def answer(self, *, with_body: bool) -> None:
                path = self.path.lstrip("/")
                outer.requests.append((self.command, path, self.headers.get("Range", "")))
                if outer.unavailable > 0:
                    outer.unavailable -= 1
                    self.send_error(503)
                    return
                if path in outer.files:
                    self.send_file(outer.files[path], with_body=with_body)
                    return
                names = {name[len(path) :].split("/")[0] for name in outer.files if name.startswith(path)}
                if not names or (path and not path.endswith("/")):
                    self.send_error(404)
                    return
                suffix = {name: "" if f"{path}{name}" in outer.files else "/" for name in names}
                rows = "".join(f'<a href="{name}{suffix[name]}">{name}</a>\n' for name in sorted(names))
                rows += "".join(f'<a href="{name}">{name}</a>' for name in outer.listed if path.endswith("healpix=11/"))
                body = f'<html><a href="../">up</a><a href="?C=M;O=A">sort</a>{rows}</html>'.encode()
                self.send_response(200)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def send_file(self, content: bytes, *, with_body: bool) -> None:
                byte_range = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
                start = int(byte_range[1]) if byte_range and outer.ranges else 0
                tag = outer.tags.get(self.path.lstrip("/"), '"first"')
                if self.headers.get("If-Range", tag) != tag:
                    start = 0
                self.send_response(206 if start else 200)
                self.send_header("Content-Length", str(len(content) - start))
                self.send_header("ETag", tag)
                if start:
                    self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
                self.end_headers()
                if not with_body:
                    return
                if outer.cuts > 0 and len(content) > 60_000:
                    outer.cuts -= 1
                    self.wfile.write(content[start : start + (len(content) - start) // 2])
                    self.close_connection = True
                    return
                self.wfile.write(content[start:])

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}/"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def downloads(self) -> list[str]:
        return [path for method, path, _ in self.requests if method == "GET" and path in self.files]


@pytest.fixture
def index() -> Iterator[IndexServer]:
    served = IndexServer()
    yield served
    served.server.shutdown()
    served.server.server_close()


def cells_of(index: IndexServer, **options: object) -> list[Cell]:
    with http_session(backoff_seconds=0.01) as session:
        return remote_cells(session, index.url, ("sdss/sdss", "sdss/boss", "sdss/eboss"), "pdr3_dud_22.5", **options)


def fetched(index: IndexServer, cells: list[Cell], out: Path) -> int:
    with http_session(backoff_seconds=0.01) as session:
        return fetch_cells(session, index.url, cells, out)


def test_only_cells_of_both_surveys_count_and_sizes_add_up_over_files_and_surveys(index: IndexServer) -> None:
    cells = {cell.healpix: cell for cell in cells_of(index)}
    assert set(cells) == {11, 1106}
    assert cells[11].spectra_bytes == 500_000
    assert cells[11].hsc_bytes == 1_024_000
    assert len(cells[11].files) == 4


def test_cells_come_best_pairs_per_gigabyte_first(index: IndexServer) -> None:
    rates = [cell.pairs_per_gb for cell in cells_of(index)]
    assert rates == sorted(rates, reverse=True)
    assert rates[0] > rates[1]


def test_a_budget_takes_what_fits_and_goes_on_to_smaller_cells() -> None:
    def cell(healpix: int, size: int) -> Cell:
        return Cell(healpix=healpix, files=(), spectra_bytes=size, hsc_bytes=0, spectra=0)

    chosen = chosen_cells([cell(1, 6 * 10**8), cell(2, 6 * 10**8), cell(3, 3 * 10**8)], 1.0)
    assert [one.healpix for one in chosen] == [1, 3]


def test_the_download_is_byte_for_byte_and_a_second_run_moves_nothing(index: IndexServer, tmp_path: Path) -> None:
    cells = cells_of(index)
    assert fetched(index, cells, tmp_path) == sum(cell.size_bytes for cell in cells)
    for cell in cells:
        for file in cell.files:
            assert (tmp_path / file.path).read_bytes() == PAYLOAD[file.path]
    index.requests.clear()
    assert fetched(index, cells, tmp_path) == 0
    assert index.requests == []


def test_a_cut_download_goes_on_where_it_stopped(index: IndexServer, tmp_path: Path) -> None:
    cells = cells_of(index, wanted=[1106])
    index.cuts = 1
    assert fetched(index, cells, tmp_path) == cells[0].size_bytes
    name = "hsc/pdr3_dud_22.5/healpix=1106/001-of-001.hdf5"
    assert (tmp_path / name).read_bytes() == PAYLOAD[name]
    assert any(byte_range for _, path, byte_range in index.requests if path == name)


def test_a_server_without_ranges_is_asked_from_the_start(index: IndexServer, tmp_path: Path) -> None:
    cells = cells_of(index, wanted=[11])
    index.cuts, index.ranges = 1, False
    fetched(index, cells, tmp_path)
    for file in cells[0].files:
        assert (tmp_path / file.path).read_bytes() == PAYLOAD[file.path]


def test_a_busy_server_is_asked_again(index: IndexServer) -> None:
    index.unavailable = 3
    assert {cell.healpix for cell in cells_of(index)} == {11, 1106}


def test_a_download_that_keeps_breaking_leaves_no_final_file(index: IndexServer, tmp_path: Path) -> None:
    cells = cells_of(index, wanted=[1106])
    index.cuts = 10**6
    with pytest.raises(ValueError, match=r"broke off .* run fetch again to resume"):
        fetched(index, cells, tmp_path)
    assert not (tmp_path / "hsc/pdr3_dud_22.5/healpix=1106/001-of-001.hdf5").exists()
    index.cuts = 0
    fetched(index, cells, tmp_path)
    assert (tmp_path / "hsc/pdr3_dud_22.5/healpix=1106/001-of-001.hdf5").stat().st_size == 2_000_000


def test_a_file_that_changed_its_size_is_refused(index: IndexServer, tmp_path: Path) -> None:
    cells = cells_of(index, wanted=[1106])
    index.files["sdss/sdss/healpix=1106/001-of-001.hdf5"] = b"d" * 60_000
    with pytest.raises(ValueError, match="60000 bytes where the index said 50000"):
        fetched(index, cells, tmp_path)


def test_a_download_never_joins_two_versions_of_a_file(index: IndexServer, tmp_path: Path) -> None:
    name = "hsc/pdr3_dud_22.5/healpix=1106/001-of-001.hdf5"
    index.cuts = 10**6
    with pytest.raises(ValueError, match="broke off"):
        fetched(index, cells_of(index, wanted=[1106]), tmp_path)
    assert len(list((tmp_path / name).parent.glob("*.part"))) == 1
    index.cuts, index.files[name], index.tags[name] = 0, b"n" * 2_000_000, '"second"'
    fetched(index, cells_of(index, wanted=[1106]), tmp_path)
    assert (tmp_path / name).read_bytes() == b"n" * 2_000_000
    assert list(tmp_path.rglob("*.part")) == []


def test_a_file_that_changes_during_its_download_is_refused(index: IndexServer, tmp_path: Path) -> None:
    cells = cells_of(index, wanted=[1106])
    name = "hsc/pdr3_dud_22.5/healpix=1106/001-of-001.hdf5"
    index.files[name], index.tags[name] = b"n" * 2_000_000, '"second"'
    with pytest.raises(ValueError, match=r"has another version where the index said 2000000 bytes; run fetch again"):
        fetched(index, cells, tmp_path)
    assert not (tmp_path / name).exists()


@pytest.mark.parametrize("name", ["..%2F..%2Fx.hdf5", "%2e%2e/x.hdf5", "a%5Cb.hdf5", ".hidden.hdf5", "a%00.hdf5"])
def test_a_name_that_leads_out_of_its_folder_is_refused(index: IndexServer, tmp_path: Path, name: str) -> None:
    index.listed = [name]
    with pytest.raises(ValueError, match="which is no plain name"):
        cells_of(index, wanted=[11])
    assert list(tmp_path.iterdir()) == []


def test_a_body_longer_than_announced_is_cut_off(index: IndexServer, tmp_path: Path, monkeypatch) -> None:
    cells = cells_of(index, wanted=[1106])
    endless = (b"x" * 65536 for _ in range(10**9))
    monkeypatch.setattr(fetch.requests.Response, "iter_content", lambda *_: endless)
    with pytest.raises(ValueError, match=r"sends more than the \d+ bytes it announced"):
        fetched(index, cells, tmp_path)


def test_a_full_disk_names_the_file(index: IndexServer, tmp_path: Path, monkeypatch) -> None:
    cells = cells_of(index, wanted=[1106])

    def full(*_: object) -> Iterator[int]:
        raise OSError(errno.ENOSPC, "No space left on device")
        yield 0

    monkeypatch.setattr(fetch, "_appended", full)
    with pytest.raises(OSError, match=r"No space left on device: '.*001\.hdf5\.\w+\.part'"):
        fetched(index, cells, tmp_path)


def test_an_endless_index_page_is_refused(index: IndexServer, monkeypatch) -> None:
    monkeypatch.setattr(http_index, "INDEX_BYTES", 100)
    with pytest.raises(ValueError, match="lists more than"):
        cells_of(index)


def test_too_small_a_disk_is_said_before_any_download(index: IndexServer, tmp_path: Path, monkeypatch) -> None:
    cells = cells_of(index)
    monkeypatch.setattr(fetch.shutil, "disk_usage", lambda _: type("Usage", (), {"free": 1000})())
    with pytest.raises(OSError, match=r"has 0\.00 GB free and the download needs 0\.00 GB"):
        fetched(index, cells, tmp_path)
    assert index.downloads() == []


def test_an_unreachable_root_is_one_sentence(index: IndexServer) -> None:
    with (
        http_session(backoff_seconds=0.0) as session,
        pytest.raises(ValueError, match=r"127\.0\.0\.1:1/hsc/.* cannot be reached"),
    ):
        remote_cells(session, "http://127.0.0.1:1/", ("sdss/sdss",), "pdr3_dud_22.5")


def test_an_unknown_survey_or_cell_is_named(index: IndexServer) -> None:
    with pytest.raises(ValueError, match="--cells 9: not in both surveys"):
        cells_of(index, wanted=[9, 11])
    with http_session() as session, pytest.raises(ValueError, match="hsc/wide/ lists no healpix=N folders"):
        remote_cells(session, index.url, ("sdss/sdss",), "wide")


def test_the_plan_marks_what_will_be_fetched(index: IndexServer) -> None:
    cells = cells_of(index)
    text = plan_text(cells, cells[:1])
    assert re.search(rf"^{cells[0].healpix}\s+yes", text, re.MULTILINE)
    assert re.search(rf"^{cells[1].healpix}\s+no", text, re.MULTILINE)
    assert "1 of 2 cells" in text
    heading, row = text.splitlines()[:2]
    assert re.split(r"\s\s+", heading)[:3] == ["cell", "fetch spectra MB", "HSC MB"]
    ends = [
        [match.end() for match in re.finditer(pattern, line)] for pattern, line in (("MB", heading), (r"\.\d", row))
    ]
    assert ends[0] == ends[1][:2]
