"""The emission lines of ``lines.ecsv``: vacuum rest wavelengths, kinematic groups, fixed flux ratios."""

from dataclasses import dataclass
from importlib.resources import files

from astropy.io import ascii as ascii_tables

SII_RATIO_RANGE = (0.44, 1.45)
"""Physical range of the flux ratio [S II] 6716 / 6731 (Osterbrock & Ferland 2006)."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Line:
    """One emission line.

    Attributes
    ----------
    name, label
        Name in columns and text for figures.
    wavelength_angstrom
        Vacuum rest wavelength.
    group
        Kinematic group, ``balmer`` or ``forbidden``: lines of one group share velocity and width.
    tied_to, tied_ratio
        Line whose flux fixes this one ("" where free) and the flux of this line over that one.
    reported
        True where the line has columns of its own in the table of measurements.
    """

    name: str
    label: str
    wavelength_angstrom: float
    group: str
    tied_to: str
    tied_ratio: float
    reported: bool


def _read_lines() -> tuple[Line, ...]:
    text = files("mmagn").joinpath("lines.ecsv").read_text(encoding="utf-8")
    table = ascii_tables.read(text, format="ecsv")
    return tuple(
        Line(
            name=str(row["name"]),
            label=str(row["label"]),
            wavelength_angstrom=float(row["wavelength_angstrom"]),
            group=str(row["group"]),
            tied_to="" if row["tied_to"] == "-" else str(row["tied_to"]),
            tied_ratio=float(row["tied_ratio"]),
            reported=bool(row["reported"]),
        )
        for row in table
    )


LINES: tuple[Line, ...] = _read_lines()
LINE_BY_NAME: dict[str, Line] = {line.name: line for line in LINES}
REPORTED_LINES: tuple[str, ...] = tuple(line.name for line in LINES if line.reported)
