"""Ids and names as plain text, whichever way a survey file wrote them."""

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
