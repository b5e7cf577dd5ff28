"""Labels of published catalogues and the names of DESI's bits, from the tables of this package."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import yaml

_FOLDER = Path(__file__).resolve().parent


@dataclass(frozen=True, kw_only=True)
class Preset:
    """How a published catalogue is read, and who says so.

    Attributes
    ----------
    source
        Publication and table.
    join, columns
        How rows belong to objects, and the columns for it.
    positive, negative
        Rules, or ``listed`` and ``rest``; "" for none.
    made_of
        The part of the spectrum that the label was made of.
    names
        Columns that a name in ``columns`` or in the rules may have, in order of preference.
    cuts
        Rules that a row must pass for a label, by what they ask for; of several rules the first one counts whose
        columns are in the table.
    vega
        Columns that hold Vega magnitudes.
    """

    source: str
    join: str
    columns: tuple[str, ...]
    positive: str
    negative: str = ""
    made_of: str
    names: Mapping[str, Sequence[str]] = field(default_factory=dict)
    cuts: Mapping[str, Sequence[str]] = field(default_factory=dict)
    vega: Sequence[str] = ()


@cache
def presets() -> Mapping[str, Preset]:
    """Return the presets by name."""
    content = yaml.safe_load((_FOLDER / "presets.yaml").read_text(encoding="utf-8"))
    return {
        name: Preset(**{**each, "columns": tuple(each["columns"])})
        for name, each in content.items()
        if not name.startswith("_")
    }


def published_name(columns: Sequence[str], names: Mapping[str, Sequence[str]], name: str) -> str:
    """Return the first of the columns that a name of a preset may have; the name itself where there is none."""
    lower = {each.lower(): each for each in columns}
    return next((lower[each.lower()] for each in names.get(name, ()) if each.lower() in lower), name)


@cache
def desi_bits() -> Mapping[str, Mapping[str, int]]:
    """Return the number of each bit by name, by mask."""
    content: Mapping[str, Mapping[str, int]] = yaml.safe_load((_FOLDER / "desi_bits.yaml").read_text(encoding="utf-8"))
    return content
