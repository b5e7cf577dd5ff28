"""Ids, names and optional values, in whatever type a survey file holds them."""

import math
import re
from typing import Any

import numpy as np

_BYTES_LITERAL = re.compile(r"b(['\"])(.*)\1")


def plain_text(value: Any) -> str:
    """Return the text of an id or a name, without padding.

    Takes a number (``299489677444933632``), padded bytes (``b'  299489677444933632'``), text, and text that is itself
    the spelling of padded bytes (``"b'   2575025233207519232'"``), all of which occur in published files.
    """
    if isinstance(value, int | np.integer):
        return str(int(value))
    text = (value.decode("ascii", "replace") if isinstance(value, bytes) else str(value)).strip()
    literal = _BYTES_LITERAL.fullmatch(text)
    return literal.group(2).strip() if literal else text


def optional_text(value: Any) -> str:
    """Return the text of an optional value, "" where it is missing or no text."""
    return plain_text(value) if isinstance(value, str | bytes) else ""


def optional_number(value: Any, missing: float) -> float:
    """Return an optional value as a number, ``missing`` where it is none or not finite."""
    try:
        number = float(value)
    except (TypeError, ValueError):
        return missing
    return number if math.isfinite(number) else missing
