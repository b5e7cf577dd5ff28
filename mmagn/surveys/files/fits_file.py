"""FITS files opened whole, and what their headers state."""

import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from astropy.io import fits
from astropy.io.fits.verify import VerifyWarning

from mmagn.surveys.text import optional_number

FITS_SUFFIXES = (".fits", ".fit", ".fits.gz", ".fit.gz")


def is_fits(path: str) -> bool:
    """Whether a file is a FITS file by its name."""
    return path.lower().endswith(FITS_SUFFIXES)


def file_id(path: Path | str) -> str:
    """Return the name of a file without its suffix, which is the id of an object that states none."""
    name = Path(path).name
    ends = [suffix for suffix in FITS_SUFFIXES if name.lower().endswith(suffix)]
    return name[: -len(ends[0])] if ends else Path(name).stem


@contextmanager
def opened_fits(path: str) -> Iterator[fits.HDUList]:
    """Open a FITS file; ``ValueError`` where it is none or cut short, ``FileNotFoundError`` where it is missing."""
    if not Path(path).is_file():
        raise FileNotFoundError(f"{path} is missing")
    try:
        with warnings.catch_warnings(), Path(path).open("rb") as file:  # closed even where astropy raises on opening
            warnings.filterwarnings("error", "File may have been truncated")
            warnings.simplefilter("ignore", VerifyWarning)
            with fits.open(file, memmap=False, lazy_load_hdus=False) as hdus:
                yield hdus
    except (OSError, UserWarning, TypeError, EOFError) as error:
        raise ValueError(f"{Path(path).name} cannot be read as FITS: {' '.join(str(error).split())}") from error


def header_number(header: Mapping[str, Any], *names: str) -> float:
    """Return the first of the named keywords that holds a finite number; NaN where none does."""
    numbers = (optional_number(header.get(name), np.nan) for name in names)
    return next((number for number in numbers if np.isfinite(number)), float("nan"))


def column(table: Any, name: str, where: str) -> Any:
    """Return a column of a FITS table whatever the case of its name; raises ``ValueError`` where it is missing."""
    for present in table.dtype.names:
        if present.lower() == name.lower():
            return table[present]
    raise ValueError(f"{where} has no column {name}")
