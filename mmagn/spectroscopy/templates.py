"""A continuum basis from stellar population templates that the user provides, for samples too small to learn from.

Spectra of simple stellar populations are mixed, reddened and broadened at random; principal components of the mixtures
are the eigenspectra. Only shapes count: ages and metallicities are not needed.
"""

from functools import lru_cache
from pathlib import Path
from typing import Literal

import numpy as np
from astropy.io import fits
from astropy.table import Table
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter1d

from mmagn.records import Floats
from mmagn.spectroscopy.batch import REST_ANGSTROM, slots_between
from mmagn.spectroscopy.learning import LEVEL_ANGSTROM
from mmagn.spectroscopy.profiles import PIXEL_KMS

Medium = Literal["air", "vacuum"]
TEXT_SUFFIXES = (".txt", ".dat", ".ascii", ".spec", ".sed")
DISPERSIONS_KMS = (70.0, 110.0, 150.0, 200.0, 260.0, 330.0)
"""Widths added to the templates: stars and instrument, less the resolution of the templates."""
MIXTURES = 1500
MIXED = 4
"""Most populations in one mixture."""
TAU_MAX = 1.5
"""Largest optical depth at 5500 A of the dust in front of a mixture; it follows the power -0.7 of wavelength."""
_SEED = 0


@lru_cache(maxsize=2)
def template_columns(path: str, medium: Medium, terms: int) -> Floats:
    """Return (1 + terms, slot) the mean mixture, of level 1, and principal components of unit scatter.

    Parameters
    ----------
    path
        As for ``template_spectra``.
    medium
        Medium of the wavelengths of the templates.
    terms
        Components besides the mean, at most one less than templates times dispersions.
    """
    rest = REST_ANGSTROM if medium == "vacuum" else air_angstrom(REST_ANGSTROM)
    populations = []
    for name, angstrom, flux in template_spectra(path):
        if angstrom[0] > rest[0] or angstrom[-1] < rest[-1]:
            raise ValueError(
                f"template {name} covers {angstrom[0]:.0f} to {angstrom[-1]:.0f} A; "
                f"needed: {rest[0]:.0f} to {rest[-1]:.0f} A"
            )
        populations.append(np.interp(rest, angstrom, flux))
    level = slots_between(*LEVEL_ANGSTROM)
    spectra = np.stack(populations)
    spectra /= spectra[:, level].mean(axis=1, keepdims=True)
    widths = np.array(DISPERSIONS_KMS) / PIXEL_KMS
    broadened = np.stack([gaussian_filter1d(spectra, width, axis=1, mode="nearest") for width in widths])
    rng = np.random.default_rng(_SEED)
    member = rng.integers(0, len(spectra), (MIXTURES, MIXED))
    weight = rng.dirichlet(np.ones(MIXED), MIXTURES)
    width = rng.integers(0, len(widths), MIXTURES)
    mixtures = np.einsum("ij,ijp->ip", weight, broadened[width[:, None], member])
    tau = rng.uniform(0, TAU_MAX, MIXTURES)
    mixtures *= np.exp(-tau[:, None] * (REST_ANGSTROM / 5500.0) ** -0.7)
    mixtures /= mixtures[:, level].mean(axis=1, keepdims=True)
    mean = mixtures.mean(axis=0)
    _, scatter, directions = np.linalg.svd(mixtures - mean, full_matrices=False)
    components = directions[:terms] * scatter[:terms, None] / np.sqrt(MIXTURES)
    return np.concatenate([mean[None], components])


def template_spectra(path: str) -> list[tuple[str, Floats, Floats]]:
    """Return name, wavelengths (Angstrom) and flux density per Angstrom of every template.

    Parameters
    ----------
    path
        A file ``.npz`` with ``lam`` (pixel,) and ``templates`` (pixel, ...), as pPXF ships them; or a folder of
        spectra, one a file: FITS images with a linear or logarithmic wavelength axis or FITS tables, or else text;
        tables and text have wavelength and flux in their first two columns.

    Raises
    ------
    ValueError
        If there is no template, or one cannot be read or is not positive and finite.
    """
    where = Path(path).expanduser()
    if where.is_dir():
        files = sorted(where.iterdir())
        spectra = [file for file in files if file.suffix.lower() == ".fits"]
        spectra = spectra or [file for file in files if file.suffix.lower() in TEXT_SUFFIXES]
        templates = [(file.name, *_spectrum(file)) for file in spectra]
    elif where.suffix == ".npz" and where.is_file():
        templates = _packed(where)
    else:
        raise ValueError(f"spectroscopy.templates is {path}; allowed: a folder of spectra or a file .npz")
    if not templates:
        raise ValueError(f"{path} holds no template; read are .fits and {', '.join(TEXT_SUFFIXES)}")
    for name, angstrom, flux in templates:
        if angstrom.shape != flux.shape or len(flux) < 2 or not (np.diff(angstrom) > 0).all():
            raise ValueError(f"template {name}: wavelengths do not rise from pixel to pixel")
        if not np.isfinite(flux).all() or flux.mean() <= 0:
            raise ValueError(f"template {name}: flux is not finite, or not positive")
    return templates


def air_angstrom(vacuum_angstrom: Floats) -> Floats:
    """Return wavelengths in standard air (Ciddor 1996, Applied Optics 35, 1566)."""
    squared = (1e4 / vacuum_angstrom) ** 2
    return np.asarray(vacuum_angstrom / (1 + 0.05792105 / (238.0185 - squared) + 0.00167917 / (57.362 - squared)))


def _packed(file: Path) -> list[tuple[str, Floats, Floats]]:
    with np.load(file, allow_pickle=False) as stored:
        if not {"lam", "templates"} <= set(stored.files):
            raise ValueError(f"{file} holds {', '.join(stored.files)}; needed: lam, templates")
        angstrom, fluxes = stored["lam"].astype(np.float64), stored["templates"].astype(np.float64)
    fluxes = fluxes.reshape(len(fluxes), -1).T
    return [(f"{file.name}[{number}]", angstrom, flux) for number, flux in enumerate(fluxes)]


def _spectrum(file: Path) -> tuple[Floats, Floats]:
    try:
        if file.suffix.lower() == ".fits":
            with fits.open(file) as units:
                if units[0].data is not None and units[0].data.ndim == 1:
                    return _axis(units[0].header, len(units[0].data)), np.asarray(units[0].data, dtype=np.float64)
        columns = _columns(file)
    except (OSError, KeyError, ValueError, IndexError) as error:
        raise ValueError(f"template {file.name} cannot be read: {error}") from error
    return columns[0], columns[1]


def _columns(file: Path) -> NDArray[np.float64]:
    if file.suffix.lower() != ".fits":
        return np.loadtxt(file, usecols=(0, 1), dtype=np.float64).T
    table = Table.read(file)
    return np.stack([np.asarray(table[name], dtype=np.float64) for name in table.colnames[:2]])


def _axis(header: fits.Header, pixels: int) -> Floats:
    """Return the wavelengths of a one-dimensional FITS image."""
    step = header["CDELT1"] if "CDELT1" in header else header["CD1_1"]
    angstrom = header["CRVAL1"] + step * (np.arange(pixels) + 1 - header.get("CRPIX1", 1))
    logarithmic = header.get("DC-FLAG", 0) == 1 or "LOG" in str(header.get("CTYPE1", ""))
    return np.asarray(10.0**angstrom if logarithmic else angstrom, dtype=np.float64)
