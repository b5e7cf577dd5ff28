"""Whether wavelengths are those of air or of vacuum, and the way from one to the other."""

from collections.abc import Mapping
from typing import Any, Literal

import numpy as np

from mmagn.records import Floats

Medium = Literal["air", "vacuum"]
Wavelengths = Literal["header", "air", "vacuum"]
"""What the user states of files whose header does not."""


def header_medium(header: Mapping[str, Any]) -> Medium | None:
    """Return the medium that a header states: VACUUM, AIRORVAC, or CTYPE1 WAVE and AWAV; None where it does not."""
    vacuum = header.get("VACUUM")
    if isinstance(vacuum, bool | np.bool_ | int):
        return "vacuum" if vacuum else "air"
    stated = str(header.get("AIRORVAC", "")).strip().lower()
    if stated.startswith(("air", "vac")):
        return "air" if stated.startswith("air") else "vacuum"
    kind = str(header.get("CTYPE1", "")).strip().upper()[:4]
    return {"AWAV": "air", "WAVE": "vacuum"}.get(kind)  # type: ignore[return-value]


def agreed_medium(stated: Medium | None, wavelengths: Wavelengths, name: str) -> Medium:
    """Return the medium of the wavelengths of a file.

    Raises ``ValueError`` where neither the header nor the user states it, or they contradict each other.
    """
    if stated is None and wavelengths == "header":
        raise ValueError(
            f"{name} does not state whether its wavelengths are those of air or of vacuum; data.wavelengths states it"
        )
    if stated is not None and wavelengths not in ("header", stated):
        raise ValueError(f"{name} states wavelengths of {stated}, but data.wavelengths is {wavelengths}")
    return stated or wavelengths  # type: ignore[return-value]


def vacuum_angstrom(air_angstrom: Floats) -> Floats:
    """Return the wavelengths in vacuum of wavelengths in air (Piskunov's inverse of Ciddor 1996, as VALD uses it)."""
    square = (1e4 / air_angstrom) ** 2
    blue = 0.02408926869968 / (130.1065924522 - square)
    red = 0.0001599740894897 / (38.92568793293 - square)
    return np.asarray(air_angstrom * (1.00008336624212083 + blue + red))
