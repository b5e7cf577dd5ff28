"""RA and Dec are degrees whatever a table has them in, and never those of another frame."""

import numpy as np
import pytest
from astropy import units as u
from astropy.coordinates import SkyCoord
from astropy.table import Column, MaskedColumn

from mmagn.matching.position_columns import position_columns

PLACES = SkyCoord([10.0, 359.5, 187.25], [-0.25, 61.5, -89.0], unit="deg")


@pytest.mark.parametrize("separator", [":", " ", "hms"])
@pytest.mark.parametrize("unit", [None, "hourangle", '"h:m:s"', "15 deg"])
@pytest.mark.parametrize("kind", ["U", "S"])
def test_sexagesimal_right_ascensions_are_hours(separator: str, unit: str | None, kind: str) -> None:
    ra = PLACES.ra.to_string(u.hourangle, sep=separator, precision=4)
    dec = PLACES.dec.to_string(u.deg, sep="dms" if separator == "hms" else separator, precision=3, alwayssign=True)
    columns = (Column(np.char.rjust(ra, 20).astype(kind), name="ra"), Column(dec.astype(kind), name="dec"))
    columns[0].unit = None if unit is None else u.Unit(unit, parse_strict="silent")
    ra_deg, dec_deg = position_columns(*columns)
    np.testing.assert_allclose(ra_deg, PLACES.ra.deg, atol=1e-6)
    np.testing.assert_allclose(dec_deg, PLACES.dec.deg, atol=1e-6)


def test_sexagesimal_right_ascensions_are_degrees_where_the_column_says_so() -> None:
    ra = Column(["10:30:00", ""], name="ra", unit="deg")
    ra_deg, _ = position_columns(ra, Column([0.0, 0.0], name="dec"))
    np.testing.assert_array_equal(ra_deg, [10.5, np.nan])


def test_a_sentinel_and_a_masked_value_are_no_position() -> None:
    ra = MaskedColumn([10.0, -99.0, 11.0], mask=[False, False, True], name="ra")
    ra_deg, dec_deg = position_columns(ra, Column([-5, -99, 2], name="dec"), missing=(-99.0,))
    np.testing.assert_array_equal(ra_deg, [10.0, np.nan, np.nan])
    np.testing.assert_array_equal(dec_deg, [-5.0, np.nan, 2.0])


@pytest.mark.parametrize("names", [("l", "b"), ("GLON", "GLAT"), ("gal_lon", "gal_lat"), ("RAB1950", "DEB1950")])
def test_positions_of_another_frame_are_refused(names: tuple[str, str]) -> None:
    columns = [Column([10.0], name=name) for name in names]
    with pytest.raises(ValueError, match=rf"column {names[0]} is galactic, ecliptic or of B1950; allowed: RA and Dec"):
        position_columns(*columns)


def test_the_ucd_of_a_column_tells_its_frame() -> None:
    ra = Column([10.0], name="longitude", meta={"ucd": "pos.galactic.lon"})
    with pytest.raises(ValueError, match="column longitude is galactic"):
        position_columns(ra, Column([0.0], name="latitude"))


@pytest.mark.parametrize("texts", [["00:40:00", "10.5"], ["00:40:00", "1:2:3:4:5"]])
def test_a_text_that_is_no_sexagesimal_angle_is_named_by_its_row(texts: list[str]) -> None:
    with pytest.raises(ValueError, match=rf"row 2, column ra has {texts[1]}; allowed: sexagesimal texts"):
        position_columns(Column(texts, name="ra"), Column([0.0, 0.0], name="dec"))
