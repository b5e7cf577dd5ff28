"""Records that cross rooms: Cutout, Spectrum, Pair and Catalog, with their units and shapes.

Axis words used in every docstring: batch, band, height, width, pixel, line, feature, class, object.

Invariant of both payload records: ``ivar > 0`` exactly where a value is usable, and ``flux`` is finite
everywhere. ``valid`` is therefore derived and can never disagree with ``ivar``.
"""

from dataclasses import dataclass, fields, replace
from importlib import import_module
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from matplotlib.figure import Figure

BANDS = ("g", "r", "i", "z", "y")
CUTOUT_PIXELS = 160
SOURCE_PIXEL = 78.5
"""Where the source of a cutout lies on average, in x and y, 0 in the middle of the first pixel; uniform from 78 to 79.
The build code of the Multimodal Universe cuts HSC images one pixel off the middle, which is at 79.5."""
PIXEL_SCALE_ARCSEC = 0.168
LOG10_STEP = 1e-4
"""Step of the SDSS wavelength grid in dex per pixel (69.03 km/s)."""
IVAR_LIMIT = 1e30
"""An inverse variance above this is a division by a variance of zero."""
CELL_NSIDE = 16
"""HEALPix resolution (NESTED) of the Multimodal Universe cells."""
LIGHT_SPEED_KMS = 299792.458
Floats = NDArray[np.float64]
SPLITS = ("train", "validation", "test")
INDEX_COLUMNS = (
    "sdss_object_id",
    "hsc_object_id",
    "sdss_ra_deg",
    "sdss_dec_deg",
    "hsc_ra_deg",
    "hsc_dec_deg",
    "separation_arcsec",
    "healpix",
    "redshift",
)
"""Columns that say which objects a row is about."""


def square_about_source(size: int, length: int = CUTOUT_PIXELS) -> slice:
    """Return the ``size`` pixels about the source, along either axis of an image of ``length``, inside the image.

    An even ``size`` up to 158 of 160 has the source in its middle, on average, however the square is turned.
    """
    start = (length - size) // 2 + round(SOURCE_PIXEL - (CUTOUT_PIXELS - 1) / 2)
    start = min(max(start, 0), length - size)
    return slice(start, start + size)


@dataclass(frozen=True, kw_only=True, eq=False, slots=True)
class Cutout:
    """An HSC image of one object.

    Attributes
    ----------
    object_id
        HSC object id, text of digits.
    ra_deg, dec_deg
        Position (ICRS).
    flux
        (band, height, width) float32, nJy, bands in the order of ``BANDS``; the source is at ``SOURCE_PIXEL``.
    ivar
        (band, height, width) float32, 1/nJy^2, 0 where not valid.
    psf_fwhm_arcsec
        (band,) float32, NaN where unmeasured.
    magnitude
        (band,) float32, cmodel AB magnitude, NaN where unmeasured.
    """

    object_id: str
    ra_deg: float
    dec_deg: float
    flux: NDArray[np.float32]
    ivar: NDArray[np.float32]
    psf_fwhm_arcsec: NDArray[np.float32]
    magnitude: NDArray[np.float32]

    @property
    def valid(self) -> NDArray[np.bool_]:
        """(band, height, width) True where the pixel is usable."""
        return self.ivar > 0


@dataclass(frozen=True, kw_only=True, eq=False, slots=True)
class Spectrum:
    """A spectrum of one object, padding removed.

    Attributes
    ----------
    object_id
        SDSS SPECOBJID or DESI TARGETID, text of digits; of a file of another survey what it states.
    survey
        Name of the survey: ``sdss``, ``boss``, ``eboss``, ``desi``; ``own`` where the file belongs to none.
    ra_deg, dec_deg
        Position (ICRS).
    redshift, redshift_err
        Heliocentric redshift and its error; the error is NaN where the pipeline reports a failure code.
    zwarning
        0 where the redshift is good; a bit mask, or 1 where the source only says that there is a warning.
    spectral_class, spectral_subclass
        CLASS and SUBCLASS of SDSS (``GALAXY``, ``QSO``, ``BROADLINE`` ...) or SPECTYPE of DESI, "" where there is none.
    wavelength_angstrom
        (pixel,) float32, vacuum, observed frame, steps of ``LOG10_STEP`` dex.
    flux
        (pixel,) float32, 1e-17 erg/s/cm2/A, not corrected for Galactic extinction.
    ivar
        (pixel,) float32, inverse variance of flux, 0 where not valid.
    lsf_sigma
        (pixel,) float32, instrumental dispersion in pixels of ``LOG10_STEP`` dex.
    """

    object_id: str
    survey: str
    ra_deg: float
    dec_deg: float
    redshift: float
    redshift_err: float
    zwarning: int
    spectral_class: str
    spectral_subclass: str
    wavelength_angstrom: NDArray[np.float32]
    flux: NDArray[np.float32]
    ivar: NDArray[np.float32]
    lsf_sigma: NDArray[np.float32]

    @property
    def valid(self) -> NDArray[np.bool_]:
        """(pixel,) True where the pixel is usable."""
        return self.ivar > 0


@dataclass(frozen=True, kw_only=True, eq=False, slots=True)
class Pair:
    """One galaxy seen by both surveys; ids and positions of both are in its two members.

    Attributes
    ----------
    cutout, spectrum
        The two views.
    separation_arcsec
        Angle between the two catalogue positions.
    healpix
        Multimodal Universe cell (NSIDE 16, NESTED) of the position of the spectrum.
    """

    cutout: Cutout
    spectrum: Spectrum
    separation_arcsec: float
    healpix: int

    def plot(self) -> "Figure":
        """Return image and spectrum as a figure."""
        gallery = import_module("mmagn.reporting.figures.gallery")  # by name: this file imports nothing above it
        figure: Figure = gallery.gallery_figure([self], [self.spectrum.spectral_class or "galaxy"], columns=1)
        return figure


@dataclass(frozen=True, kw_only=True, eq=False, slots=True)
class Catalog:
    """Who is where in one survey, without pixels.

    Attributes
    ----------
    object_id
        (object,) text of digits.
    ra_deg, dec_deg
        (object,) float64.
    healpix
        (object,) int64, cell NSIDE 16 NESTED.
    file_index
        (object,) int32, which of ``files`` holds the row.
    row
        (object,) int64, row in that file.
    files
        Paths the rows were read from, as text.
    redshift
        (object,) float64, of a catalogue of spectra as it is read.
    """

    object_id: NDArray[np.str_]
    ra_deg: Floats
    dec_deg: Floats
    healpix: NDArray[np.int64]
    file_index: NDArray[np.int32]
    row: NDArray[np.int64]
    files: tuple[str, ...]
    redshift: Floats | None = None

    def __len__(self) -> int:
        """Return the number of objects."""
        return len(self.object_id)

    def chosen(self, objects: NDArray[np.int64] | NDArray[np.bool_]) -> "Catalog":
        """Return some objects, by number in this order or as a mask (object,)."""
        columns = {item.name: getattr(self, item.name) for item in fields(self) if item.name != "files"}
        return replace(self, **{name: values[objects] for name, values in columns.items() if values is not None})
