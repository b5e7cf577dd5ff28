"""Columns of texts, without the libraries that read tables."""

from typing import Any

import numpy as np
from numpy.typing import NDArray


def column_texts(column: Any) -> NDArray[np.str_]:
    """Return a column (row,) of texts or bytes without spaces around them, "" where one is missing.

    Bytes that are no text become U+FFFD.
    """
    values = np.ma.asarray(column)
    texts = values.filled(b"" if values.dtype.kind == "S" else "")
    if texts.dtype.kind == "O":
        plain = (value.decode("utf-8", "replace") if isinstance(value, bytes) else value for value in texts.tolist())
        texts = np.array(["" if value is None else str(value) for value in plain], dtype=np.str_)
    if texts.dtype.kind == "S":
        texts = np.char.decode(texts, "utf-8", "replace")
    return np.char.strip(np.asarray(texts, dtype=np.str_))
