"""Spectra without their diagnostic lines: what the classes are defined by is taken out, for every object alike."""

import hashlib
import math

import numpy as np

from mmagn.lines import LINES
from mmagn.records import LIGHT_SPEED_KMS, LOG10_STEP, Floats

BLANK_HALF_WIDTH_KMS = 1000.0
"""Half width of the window around each line."""
SIDE_PIXELS = 30
"""Valid pixels (2000 km/s) on each side of a window that its filling is made from."""


def blank_windows(min_angstrom: float, pixels: int) -> list[tuple[int, int]]:
    """Return first and last + 1 pixel of the windows around all of ``LINES``, joined where they overlap.

    The grid of ``pixels`` steps of ``LOG10_STEP`` dex begins at ``min_angstrom``, rest-frame vacuum.
    """
    centres = np.log10(np.sort([line.wavelength_angstrom for line in LINES]) / min_angstrom) / LOG10_STEP
    half = math.log10(1 + BLANK_HALF_WIDTH_KMS / LIGHT_SPEED_KMS) / LOG10_STEP
    windows: list[tuple[int, int]] = []
    for centre in centres.tolist():
        first, last = max(0, math.floor(centre - half)), min(pixels, math.ceil(centre + half) + 1)
        if windows and first <= windows[-1][1]:
            windows[-1] = (windows[-1][0], max(last, windows[-1][1]))
        elif first < last:
            windows.append((first, last))
    return windows


def blanked(
    flux: Floats, ivar: Floats, covered: slice, windows: list[tuple[int, int]], seed_text: str
) -> tuple[Floats, Floats]:
    """Return flux and ivar (pixel,) whose windows hold continuum plus noise, whatever stood in them.

    The continuum is a straight line between the medians of the valid pixels beside the window; ivar is their median,
    because the photons of a line make its own pixels noisier; the noise is white and drawn from the name of the object.
    Flux, ivar and valid flags inside the windows are never looked at.

    Parameters
    ----------
    flux, ivar
        (pixel,) rest-frame spectrum on the native grid, ivar 0 where not valid.
    covered
        Pixels that the spectrograph reached; the rest of a window stays invalid.
    windows
        As :func:`blank_windows` gives them.
    seed_text
        Name of the object: the noise is a function of it.
    """
    flux, ivar = flux.copy(), ivar.copy()
    outside = ivar > 0
    for first, last in windows:
        outside[first:last] = False
    usable = np.flatnonzero(outside)
    seed = int.from_bytes(hashlib.sha256(seed_text.encode()).digest()[:8], "big")
    noise = np.random.default_rng(seed).standard_normal(len(flux))
    for first, last in windows:
        middle = int(np.searchsorted(usable, first))
        sides = [
            part for part in (usable[max(0, middle - SIDE_PIXELS) : middle], usable[middle:][:SIDE_PIXELS]) if len(part)
        ]
        ivar[first:last], inside = 0.0, np.arange(max(first, covered.start), min(last, covered.stop))
        if sides:
            ivar[inside] = np.median(ivar[np.concatenate(sides)])
            level = np.interp(inside, [side.mean() for side in sides], [np.median(flux[side]) for side in sides])
            flux[inside] = level + noise[inside] / np.sqrt(ivar[inside])
    return flux, ivar
