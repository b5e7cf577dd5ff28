"""One galaxy from files that a user has: image, spectrum or both."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from mmagn.matching.objects import Galaxy
from mmagn.surveys.files.objects import ObjectFiles, matching_files
from mmagn.surveys.files.reader import row_cutout, row_spectrum
from mmagn.surveys.files.wavelengths import Wavelengths


def read_galaxy(
    spectrum: Path | str = "",
    image: Path | str | Sequence[Path | str] = (),
    *,
    redshift: float = float("nan"),
    position: tuple[float, float] = (float("nan"), float("nan")),
    wavelengths: Wavelengths = "header",
) -> Galaxy:
    """Return a galaxy from files, for :meth:`mmagn.api.Model.predict`; image or spectrum may be missing.

    Parameters
    ----------
    spectrum
        SDSS, BOSS or eBOSS spec file, spPlate file with ``#FIBRE``, DESI coadd with its redrock file beside it, or any
        spectrum that specutils reads.
    image
        FITS images of bands, or a cube of five; a pattern such as ``cutout-HSC-*.fits`` names all that match.
    redshift
        Takes the place of that of the spectrum's file.
    position
        RA and Dec in degrees; without it those of the spectrum's file, or the middle of the image.
    wavelengths
        ``air`` or ``vacuum`` where the spectrum's file does not state it.

    Raises
    ------
    FileNotFoundError, ValueError
        Where a file is missing or cannot be used, the redshift of the spectrum is unknown, or there is one without a
        spectrum.
    """
    if not spectrum and not np.isnan(redshift):
        raise ValueError(f"redshift {redshift:g} needs a spectrum, whose redshift it is")
    paths = [path for each in ([image] if isinstance(image, Path | str) else image) for path in matching_files(each)]
    files = ObjectFiles(
        spectrum=str(Path(spectrum).expanduser()) if spectrum else "",
        images=tuple(("", path) for path in paths),
        redshift=redshift,
        ra_deg=position[0],
        dec_deg=position[1],
    )
    if not files.paths:
        raise ValueError("a galaxy needs a spectrum or an image")
    of_spectrum = row_spectrum(files, wavelengths) if files.spectrum else None
    cutout = row_cutout(files, wavelengths) if files.images else None
    separation_arcsec = float("nan") if of_spectrum is None or cutout is None else 0.0
    return Galaxy(cutout=cutout, spectrum=of_spectrum, separation_arcsec=separation_arcsec)
