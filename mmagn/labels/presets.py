"""Labels of published catalogues and the names of DESI's bits, from the tables of this package."""

from collections.abc import Mapping
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
    """

    source: str
    join: str
    columns: tuple[str, ...]
    positive: str
    negative: str = ""
    made_of: str
    names: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


@cache
def presets() -> Mapping[str, Preset]:
    """Return the presets by name."""
    content = yaml.safe_load((_FOLDER / "presets.yaml").read_text(encoding="utf-8"))
    return {
        name: Preset(
            **{
                **each,
                "columns": tuple(each["columns"]),
                "names": {key: tuple(columns) for key, columns in each.get("names", {}).items()},
            }
        )
        for name, each in content.items()
    }


@cache
def desi_bits() -> Mapping[str, Mapping[str, int]]:
    """Return the number of each bit by name, by mask."""
    content: Mapping[str, Mapping[str, int]] = yaml.safe_load((_FOLDER / "desi_bits.yaml").read_text(encoding="utf-8"))
    return content
