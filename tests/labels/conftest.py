"""A line table by hand: every line measured, on the sequence of star formation, unless a test says otherwise."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from astropy.table import Table

from mmagn.lines import REPORTED_LINES

STAR_FORMING = {
    "hbeta": 100.0,
    "oiii_5007": 50.0,
    "halpha": 300.0,
    "nii_6584": 75.0,
    "sii_6718": 40.0,
    "sii_6733": 30.0,
    "oi_6302": 6.0,
}


def line_row(**changes: Any) -> dict[str, Any]:
    row: dict[str, Any] = {"object_id": "1", "spectral_class": "GALAXY", "broad_line": False}
    for line in REPORTED_LINES:
        row[f"flux_{line}"] = STAR_FORMING[line]
        row[f"flux_{line}_err"] = 1.0
        row[f"ew_{line}"] = STAR_FORMING[line] / 10
        row[f"flags_{line}"] = ""
    assert changes.keys() <= row.keys()
    return {**row, **changes}


@pytest.fixture
def lines_of() -> Callable[..., Table]:
    """Make a line table with a row for each dictionary of changes to a bright star-forming galaxy."""

    def make(*changes: dict[str, Any]) -> Table:
        return Table([line_row(**change) for change in changes])

    return make


@pytest.fixture
def ratios_to_fluxes() -> Callable[..., dict[str, float]]:
    """Make the four BPT fluxes of a point of the [N II] plane, at Hb = 100 and Ha = 300."""

    def make(log_nii_halpha: float, log_oiii_hbeta: float) -> dict[str, float]:
        return {
            "flux_oiii_5007": float(100 * np.power(10.0, log_oiii_hbeta)),
            "flux_nii_6584": float(300 * np.power(10.0, log_nii_halpha)),
        }

    return make
