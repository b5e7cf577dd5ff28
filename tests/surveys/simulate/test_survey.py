"""Claims about the embedded survey's tree: layout, truth, sky, and that it is whole or absent."""

import errno
import hashlib
import logging
import os
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest
from astropy.table import Table

from mmagn.surveys.config import DataConfig, SimulateConfig
from mmagn.surveys.reader import iter_spectra, usable
from mmagn.surveys.readers import survey_reader
from mmagn.surveys.screen import cells_of
from mmagn.surveys.simulate import survey as simulate
from mmagn.surveys.simulate.sky import border_positions, drawn_sky, footprint
from mmagn.surveys.simulate.survey import embedded_root, write_survey

SMALL = SimulateConfig(pairs=16, unmatched=0.25, cells=2, seed=3)


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    out = tmp_path_factory.mktemp("survey") / "tree"
    write_survey(out, SMALL)
    return out


def content(root: Path) -> dict[str, str]:
    """Return a digest of every dataset of the tree."""
    digests = {}
    for path in sorted(root.rglob("*.hdf5")):
        with h5py.File(path) as file:
            for name in file:
                digests[f"{path.relative_to(root)}/{name}"] = hashlib.sha256(file[name][()].tobytes()).hexdigest()
    return digests


def test_same_settings_same_bytes_and_another_seed_others(tree, tmp_path):
    tiny = replace(SMALL, pairs=3, unmatched=0.0)
    for name, config in (("a", tiny), ("b", tiny), ("c", replace(tiny, seed=4))):
        write_survey(tmp_path / name, config)
    first, second, third = (content(tmp_path / name) for name in "abc")
    assert first == second
    assert not set(first.values()) & {v for k, v in third.items() if k.endswith(("image_array", "spectrum_flux"))}


def test_spectra_are_laid_out_as_published(tree):
    with h5py.File(next((tree / "sdss" / "sdss").rglob("*.hdf5"))) as file:
        expected = {"ra": ">f8", "dec": ">f8", "Z": ">f4", "Z_ERR": ">f4", "ZWARNING": ">i4", "healpix": "<i8"}
        expected |= {"object_id": "|S22", "CLASS": "|S6", "SUBCLASS": "|S21", "spectrum_mask": "|b1"}
        expected |= {f"spectrum_{name}": "<f4" for name in ("flux", "ivar", "lambda", "lsf_sigma")}
        assert {name: file[name].dtype.str for name in expected} == expected
        assert file["object_id"][0].startswith(b"  ")
        assert file["spectrum_flux"].chunks is None
        padding = file["spectrum_lambda"][()] == -1
        assert padding.any()
        assert not (np.diff(padding.astype(int), axis=1) < 0).any()
        assert file["spectrum_mask"][()][padding].all()
        assert (file["spectrum_ivar"][()][padding] == 0).all()
        row, column = np.argwhere(padding)[0]
        assert (file["spectrum_flux"][row, column:] == file["spectrum_flux"][row, column - 1]).all()


def test_cutouts_are_laid_out_as_published(tree):
    with h5py.File(next((tree / "hsc" / "pdr3_dud_22.5").rglob("*.hdf5"))) as file:
        expected = {"object_id": ">i8", "ra": ">f8", "dec": ">f8", "healpix": "<i8", "image_array": "<f4"}
        expected |= {"image_ivar": "<f4", "image_mask": "|b1", "image_band": "|S5", "i_cmodel_mag": "<f4"}
        assert {name: file[name].dtype.str for name in expected} == expected
        assert file["image_array"].shape[1:] == (5, 160, 160)
        assert file["image_array"].compression == "gzip"
        assert file["image_array"].chunks is not None
        assert file["image_band"][0].tolist() == [b"hsc-g", b"hsc-r", b"hsc-i", b"hsc-z", b"hsc-y"]
        assert file["image_mask"][()].mean() > 0.95
        assert (file["image_ivar"][()] == np.float32(3.4028235e38)).any()
        assert np.allclose(file["image_scale"][()], 0.168)


def test_layout_agrees_with_real_files(tree):
    real = os.environ.get("MMAGN_REAL_TREE", "")
    if not real or not Path(real).is_dir():
        pytest.skip("MMAGN_REAL_TREE does not name the tree of real spectra")
    for part in ("sdss/sdss", "hsc/pdr3_dud_22.5"):
        with (
            h5py.File(next((Path(real) / part).rglob("*.hdf5"))) as published,
            h5py.File(next((tree / part).rglob("*.hdf5"))) as own,
        ):
            assert {n: published[n].dtype for n in published} == {n: own[n].dtype for n in published}


def test_readers_find_every_object_and_truth_names_every_pair(tree):
    drops: Counter[str] = Counter()
    reader = survey_reader(DataConfig(source="hdf5", root=str(tree)))
    sdss, hsc = reader.read_sdss_catalog(drops), reader.read_hsc_catalog(drops)
    assert len(sdss) == len(hsc) == 20
    spectra = {spectrum.object_id: spectrum for spectrum in iter_spectra(reader, drops)}
    truth = Table.read(tree / "truth.parquet")
    assert set(spectra) == set(truth["object_id"].tolist()) == set(sdss.object_id.tolist())
    for row in truth:
        assert spectra[row["object_id"]].redshift == row["redshift"]
        assert spectra[row["object_id"]].survey == row["survey"]
    images = 0
    for number, path in enumerate(hsc.files):
        images += len(list(usable(reader.read_cutouts(path, hsc.row[hsc.file_index == number]), drops)))
    assert images == 20
    assert not drops
    matched = [text for text in truth["hsc_object_id"].tolist() if text]
    assert len(set(matched)) == 16
    assert set(matched) <= set(hsc.object_id.tolist())


def test_both_views_of_a_pair_lie_within_an_arcsecond_and_neighbours_outside():
    sky = drawn_sky(SimulateConfig(pairs=300, seed=5))
    sdss, hsc = sky.sdss[:300], sky.hsc[:300]
    east = (sdss["ra_deg"] - hsc["ra_deg"]) * np.cos(np.radians(sdss["dec_deg"])) * 3600
    separation = np.hypot(east, (sdss["dec_deg"] - hsc["dec_deg"]) * 3600)
    assert separation.max() < 0.9
    assert 0.08 < np.median(separation) < 0.25
    border = np.asarray(sdss["healpix"] != hsc["healpix"])
    assert border.sum() >= 3
    hosts = np.flatnonzero(sky.neighbour[:300] >= 0)
    assert hosts.size >= 20
    assert np.array_equal(sky.neighbour[sky.neighbour[hosts]], hosts)
    away = np.hypot(*sky.neighbour_offset_arcsec[hosts].T)
    assert away.min() > 1.2
    assert away.max() < 5.1
    assert np.asarray(sdss["bpt_class"] == hsc["bpt_class"]).all()


def test_pairs_fill_dozens_of_sky_groups_in_all_cells_and_meet_the_agn_fraction():
    config = SimulateConfig(agn_fraction=0.2)
    sky = drawn_sky(config)
    pairs = sky.sdss[:800]
    assert footprint(4).size == 64
    assert len(set(pairs["healpix"].tolist())) == 4
    assert len({(round(ra, 1), round(dec, 1)) for ra, dec in zip(pairs["ra_deg"], pairs["dec_deg"], strict=True)}) > 200
    assert np.isin(pairs["bpt_class"], ("seyfert", "composite")).sum() == 160
    assert len(set(sky.sdss["object_id"].tolist())) == len(set(sky.hsc["object_id"].tolist())) == 1000
    assert 100 < (sky.sdss["survey"] == "boss").sum() < 200


@pytest.mark.parametrize("cells", [1, 3, 9])
def test_footprint_touches_the_cells_asked_for(cells):
    groups = footprint(cells)
    assert len(set((groups // 64).tolist())) == cells
    near, far = border_positions(groups, 4, np.random.default_rng(1))
    assert near[0].size == (4 if cells > 1 else 0)
    assert not (cells_of(*near) == cells_of(*far)).any()


def test_embedded_survey_is_made_once_and_again_when_settings_change(tmp_path, caplog):
    tiny = SimulateConfig(pairs=2, unmatched=0.0, cells=1)
    config = DataConfig(cache_dir=str(tmp_path / "cache"), simulate=tiny)
    with caplog.at_level(logging.WARNING):
        root = embedded_root(config)
        written = (root / "truth.parquet").stat().st_mtime_ns
        assert embedded_root(config) == root
    assert (root / "truth.parquet").stat().st_mtime_ns == written
    assert sum("embedded survey" in record.message for record in caplog.records) == 1
    other = embedded_root(replace(config, simulate=replace(tiny, seed=9)))
    assert other != root
    assert sorted(path.name for path in (tmp_path / "cache").iterdir()) == sorted([root.name, other.name])


def test_cache_folder_may_name_the_home(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    tiny = SimulateConfig(pairs=1, unmatched=0.0, cells=1)
    assert embedded_root(DataConfig(cache_dir="~/cache", simulate=tiny)).is_relative_to(tmp_path / "cache")


def test_nothing_remains_of_a_survey_that_fails_half_way(tmp_path, monkeypatch):
    def fail(*_):
        raise RuntimeError("the disk is full")

    monkeypatch.setattr(simulate, "_write_images", fail)
    with pytest.raises(RuntimeError, match="disk is full"):
        embedded_root(DataConfig(cache_dir=str(tmp_path), simulate=SMALL))
    assert list(tmp_path.iterdir()) == []


def test_the_second_of_two_makers_takes_what_the_first_made(tmp_path, monkeypatch):
    config = DataConfig(cache_dir=str(tmp_path), simulate=replace(SMALL, pairs=1, unmatched=0.0))
    write_images, first = simulate._write_images, {}

    def overtaken(*arguments):
        monkeypatch.setattr(simulate, "_write_images", write_images)
        first["root"] = embedded_root(config)
        write_images(*arguments)

    monkeypatch.setattr(simulate, "_write_images", overtaken)
    assert embedded_root(config) == first["root"]
    assert [path.name for path in tmp_path.iterdir()] == [first["root"].name]


def test_a_folder_that_holds_something_is_not_overwritten(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(ValueError, match="not an empty folder"):
        write_survey(tmp_path, SMALL)
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


def test_what_a_killed_process_left_is_removed_by_the_next_one(tmp_path):
    with subprocess.Popen([sys.executable, "-c", ""]) as ended:
        pass
    abandoned, running = tmp_path / f".tree-{ended.pid}-a", tmp_path / f".tree-{os.getppid()}-a"
    for folder in (abandoned, running):
        (folder / "tree").mkdir(parents=True)
    write_survey(tmp_path / "tree", replace(SMALL, pairs=3, unmatched=0.0))
    assert not abandoned.exists()
    assert running.exists()


def test_a_full_disk_is_one_error_that_names_the_file(tmp_path, monkeypatch):
    def full(path, content):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(OSError, match=r"No space left on device: '.*001-of-001.hdf5'"):
        write_survey(tmp_path / "tree", replace(SMALL, pairs=3, unmatched=0.0))
    assert list(tmp_path.iterdir()) == []


def test_the_umask_decides_who_may_read_the_tree(tmp_path):
    before = os.umask(0o027)
    try:
        write_survey(tmp_path / "tree", replace(SMALL, pairs=3, unmatched=0.0))
    finally:
        os.umask(before)
    modes = {path.stat().st_mode & 0o777 for path in (tmp_path / "tree", *(tmp_path / "tree").rglob("*"))}
    assert modes == {0o750, 0o640}
