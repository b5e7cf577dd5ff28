"""Right ascension and declination in the columns of tables that others wrote, in degrees."""

import re
from collections.abc import Sequence
from typing import Any

import numpy as np
from astropy import units as u
from astropy.coordinates import Angle

from mmagn.records import Floats
from mmagn.storage.table_reading import column_numbers, column_unit
from mmagn.storage.texts import column_texts

_OTHER_FRAME = re.compile(r"_?([lb](ii)?|(gal|ecl|sg|g|e)_?(lon|lat|l|b)|.*1950.*)", re.IGNORECASE)


def position_columns(ra: Any, dec: Any, missing: Sequence[float] = ()) -> tuple[Floats, Floats]:
    """Return RA and Dec (row,) in degrees of two columns; NaN where a value is missing.

    Numbers are in the unit of their column, and in degrees without one. Texts such as 10:42:44.1 and +12 03 31 are
    sexagesimal: RA in hours, unless the column has a unit of degrees.

    Parameters
    ----------
    ra, dec
        Columns of an astropy table.
    missing
        Numbers that stand for a missing value, besides NaN and masked ones.

    Raises
    ------
    ValueError
        Where a column is of another frame, as its name or UCD says, has a unit of another kind, or holds a value that
        is no angle; the message begins with row or column.
    """
    return _degrees(ra, u.hourangle, missing), _degrees(dec, u.deg, missing)


def _degrees(column: Any, sexagesimal: u.UnitBase, missing: Sequence[float]) -> Floats:
    ucd = str(column.meta.get("ucd", ""))
    if _OTHER_FRAME.fullmatch(column.name) or "galactic" in ucd or "ecliptic" in ucd:
        raise ValueError(f"column {column.name} is galactic, ecliptic or of B1950; allowed: RA and Dec, ICRS or J2000")
    values: Any = np.ma.asarray(column)
    texts = column_texts(column) if values.dtype.kind in "SUO" and values.ndim == 1 else np.empty(0, np.str_)
    parts = np.array([bool(re.search(r"\d[\s:hd]", text)) for text in texts.tolist()], dtype=bool)
    if not parts[texts != ""][:1].any():
        numbers = column_numbers(column, u.deg)
        own = values.astype(np.float64).filled(np.nan) if values.dtype.kind in "iuf" else numbers
        return np.where(np.isin(own, missing), np.nan, numbers)
    if column.unit is not None:
        sexagesimal = u.hourangle if column_unit(column, u.deg) == u.hourangle else u.deg
    degrees = np.full(len(texts), np.nan)
    for row in np.flatnonzero(texts != "").tolist():
        try:
            if not parts[row]:
                raise ValueError("a number among sexagesimal texts")
            degrees[row] = Angle(texts[row], sexagesimal).deg
        except ValueError:
            raise ValueError(
                f"row {row + 1}, column {column.name} has {texts[row]}; allowed: sexagesimal texts such as 10:42:44.1, "
                "as in other rows"
            ) from None
    return degrees
