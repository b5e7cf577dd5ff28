"""Cutouts as the HSC cutout service writes them, drawn by tests."""

from pathlib import Path

import numpy as np
from astropy.io import fits

RA_DEG, DEC_DEG = 150.1, 2.2
SCALE_DEG = 0.168 / 3600
PLANES = {"BAD": 0, "SAT": 1, "EDGE": 4, "DETECTED": 5, "NO_DATA": 8}
NAME = "2-cutout-HSC-{}-9813-pdr3_dud.fits"
FLUXMAG0 = 63095734448.0194


def write_cutout(path: Path, band: str = "i", size: int = 60, **changes) -> Path:
    """One band with a source of 500 counts in the middle, variance 0.04, a mask of bit planes; returns the path.

    ``changes`` are values of ``pixels``, ``mask``, ``variance`` (None leaves an HDU empty), ``scale_deg``,
    ``position``, ``place`` (its 0-based pixel), ``header`` of the image and ``primary``.
    """
    middle = (size - 1) / 2
    x, y = changes.get("place", (middle, middle))
    pixels = changes.get("pixels")
    if pixels is None:
        pixels = np.random.default_rng(1).normal(0, 0.2, (size, size))
        pixels[round(y), round(x)] += 500
    scale = changes.get("scale_deg", SCALE_DEG)
    ra_deg, dec_deg = changes.get("position", (RA_DEG, DEC_DEG))
    wcs = {"CTYPE1": "RA---TAN", "CTYPE2": "DEC--TAN", "CRVAL1": ra_deg, "CRVAL2": dec_deg}
    wcs |= {"CRPIX1": x + 1, "CRPIX2": y + 1, "CD1_1": -scale, "CD2_2": scale, "RADESYS": "ICRS"}
    parts = {
        "IMAGE": np.asarray(pixels, dtype=np.float32),
        "MASK": changes.get("mask", np.zeros(np.shape(pixels), dtype=np.int32)),
        "VARIANCE": changes.get("variance", np.full(np.shape(pixels), 0.04, dtype=np.float32)),
    }
    hdus = [fits.PrimaryHDU()]
    for kind, values in parts.items():
        hdus.append(fits.ImageHDU(values))
        hdus[-1].header["EXTTYPE"] = kind
        hdus[-1].header.update({name: value for name, value in wcs.items() if kind == "IMAGE"})
    for plane, bit in PLANES.items():
        hdus[2].header[f"HIERARCH MP_{plane}"] = bit
    hdus[0].header.update({"FILTER": band, "FLUXMAG0": FLUXMAG0})
    for header, name in ((hdus[0].header, "primary"), (hdus[1].header, "header")):
        for key, value in changes.get(name, {}).items():
            if value is None:
                del header[key]
            else:
                header[key] = value
    path.parent.mkdir(parents=True, exist_ok=True)
    fits.HDUList(hdus).writeto(path)
    return path


def write_bands(folder: Path, name: str = NAME, bands: str = "grizy", **changes) -> Path:
    """Cutouts of some bands under the names of the service; returns the folder."""
    for band in bands:
        write_cutout(folder / name.format(band.upper()), band, **changes)
    return folder
