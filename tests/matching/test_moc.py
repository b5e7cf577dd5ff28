"""A region covers the places that mocpy says it covers, in each form in which a MOC is written."""

from pathlib import Path

import numpy as np
import pytest
from astropy import units as u
from astropy.io import fits
from astropy.table import Table

from mmagn.matching.moc import read_moc


@pytest.mark.parametrize("kind", ["fits", "old fits", "json"])
def test_a_moc_written_by_mocpy_covers_the_same_positions(tmp_path: Path, kind: str) -> None:
    mocpy = pytest.importorskip("mocpy")
    cones = [(150.0, 2.2, 1.2), (0.0, 0.0, 2.0), (200.0, -89.5, 1.0), (150.9, 2.2, 0.5)]
    region = mocpy.MOC.new_empty(max_depth=10)
    for ra_deg, dec_deg, radius_deg in cones:
        region = region.union(
            mocpy.MOC.from_cone(ra_deg * u.deg, dec_deg * u.deg, radius=radius_deg * u.deg, max_depth=10)
        )
    path = tmp_path / f"region.{'json' if kind == 'json' else 'fits'}"
    region.save(str(path), format=path.suffix[1:], v1_compatible=kind == "old fits")
    rng = np.random.default_rng(1)
    near = [(rng.normal(ra, 2, 300) % 360, np.clip(rng.normal(dec, 1.5, 300), -90, 90)) for ra, dec, _ in cones]
    ra_deg, dec_deg = (np.concatenate(parts) for parts in zip(*near, strict=True))
    expected = region.contains_lonlat(ra_deg * u.deg, dec_deg * u.deg)
    assert 100 < expected.sum() < 1100
    np.testing.assert_array_equal(read_moc(path).contains(ra_deg, dec_deg), expected)


def test_overlapping_cells_of_several_orders_are_one_region(tmp_path: Path) -> None:
    path = tmp_path / "cells.json"
    path.write_text('{"0": [3], "1": [12, 40], "3": [5, 700]}')
    whole = tmp_path / "whole.json"
    whole.write_text('{"0": [0,1,2,3,4,5,6,7,8,9,10,11]}')
    rng = np.random.default_rng(2)
    ra_deg, dec_deg = rng.uniform(0, 360, 20_000), np.degrees(np.arcsin(rng.uniform(-1, 1, 20_000)))
    expected = (4 + 1 + 2 / 16) / 48  # cell 12 of order 1 lies in cell 3 of order 0, cells 5 and 700 in neither
    assert read_moc(path).contains(ra_deg, dec_deg).mean() == pytest.approx(expected, abs=0.006)
    assert read_moc(whole).contains(ra_deg, dec_deg).all()
    assert not read_moc(whole).contains(np.array([np.nan]), np.array([0.0]))[0]


@pytest.mark.parametrize("content", ["{}", '{"1": [48]}', '{"40": [1]}', "[1, 2]", "no json", ""])
def test_a_file_that_is_no_moc_is_named(tmp_path: Path, content: str) -> None:
    path = tmp_path / "bad.json"
    path.write_text(content)
    with pytest.raises(ValueError, match=r"bad\.json (cannot be read as a MOC|is a MOC without any cell)"):
        read_moc(path)


def test_a_missing_moc_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"none\.fits cannot be read as a MOC"):
        read_moc(tmp_path / "none.fits")


@pytest.mark.parametrize(
    ("keywords", "values", "sentence"),
    [
        ({"COORDSYS": "G"}, [4, 5], r"COORDSYS is G; allowed: C \(ICRS\)"),
        ({"ORDERING": "RANGE"}, [10, 5], "a range of cells is not on the sphere, or its end is before its start"),
        ({"ORDERING": "RANGE"}, [-5, 5], "a range of cells is not on the sphere"),
        ({"ORDERING": "RANGE"}, [0, 12 * 4**29 + 1], "a range of cells is not on the sphere"),
    ],
)
def test_a_moc_of_another_frame_or_beyond_the_sphere_is_refused(
    tmp_path: Path, keywords: dict, values: list[int], sentence: str
) -> None:
    unit = fits.BinTableHDU(Table({"UNIQ": np.array(values, dtype=np.int64)}))
    unit.header.update(keywords)
    fits.HDUList([fits.PrimaryHDU(), unit]).writeto(tmp_path / "region.fits")
    with pytest.raises(ValueError, match=sentence):
        read_moc(tmp_path / "region.fits")
