"""Spectra of a galaxy that was observed more than once: the best is kept, the others are named in the report.

Without it the same galaxy, with two spectra, could be two objects of a sample, and one of them in the test split.
"""

import logging
import re
from collections import Counter, defaultdict

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array
from scipy.sparse.csgraph import connected_components
from scipy.spatial import cKDTree

from mmagn.matching.sky import chord_length, unit_vectors
from mmagn.records import Catalog, Floats, Spectrum
from mmagn.surveys.reader import SurveyReader

LARGEST_RADIUS_ARCSEC = 2.0
"""Two spectra further apart than a fibre is wide are of two galaxies, whatever the match radius."""
SNR_RANGE_ANGSTROM = (4000.0, 9000.0)
"""Observed wavelengths that all surveys have."""
REPEAT = "spectra: there is a better spectrum of the same galaxy"
Repeats = dict[str, tuple[str, ...]]
_SURVEY_END = re.compile(r"/(?:healpix=\d+|dataset/Norder=\d+)/")

_log = logging.getLogger(__name__)


def without_repeats(
    catalog: Catalog, images: Catalog | None, reader: SurveyReader, radius_arcsec: float, drops: Counter[str]
) -> tuple[Catalog, Repeats]:
    """Return a catalogue of spectra with each galaxy once, and the ids of its other spectra by the id that is kept.

    Spectra within the radius, of one survey or of several, are of one galaxy; the one with the highest median
    signal-to-noise per pixel is kept, the one of the lower id where two are equal. Only their spectra are read. Files
    of somebody's own are not compared with one another: each is wanted as it is.

    Parameters
    ----------
    catalog, reader
        Spectra of all surveys, and where they are read.
    images
        Only spectra with one of these objects within the radius are compared, so that none gives way to a better one
        that has no image; None compares all.
    radius_arcsec
        Largest separation; more than ``LARGEST_RADIUS_ARCSEC`` counts as that.
    drops
        Added to: spectra that are left out.
    """
    survey_of_file = np.unique([survey_of(path) for path in catalog.files], return_inverse=True)[1]
    published = np.array([_SURVEY_END.search(path) is not None for path in catalog.files])
    chord = chord_length(min(radius_arcsec, LARGEST_RADIUS_ARCSEC))
    vectors = unit_vectors(catalog.ra_deg, catalog.dec_deg)
    close = cKDTree(vectors).query_pairs(chord, output_type="ndarray")
    file = catalog.file_index[close]
    close = close[(survey_of_file[file[:, 0]] != survey_of_file[file[:, 1]]) | published[file[:, 0]]]
    if images is not None and len(close):
        distance, _ = cKDTree(unit_vectors(images.ra_deg, images.dec_deg)).query(vectors[close], k=1)
        close = close[(distance <= chord_length(radius_arcsec)).all(axis=1)]
    if not len(close):
        return catalog, {}
    links = csr_array((np.ones(len(close)), (close[:, 0], close[:, 1])), shape=(len(catalog), len(catalog)))
    members = np.unique(close)
    galaxy = connected_components(links, directed=False)[1][members]
    snr = _median_snr(catalog, members, reader)
    order = np.lexsort((catalog.object_id[members], -snr, galaxy))
    first = np.concatenate([[True], np.diff(galaxy[order]) != 0])
    best = np.repeat(order[first], np.diff(np.append(np.flatnonzero(first), len(order))))
    repeats: defaultdict[str, list[str]] = defaultdict(list)
    for other, kept in zip(order[~first].tolist(), best[~first].tolist(), strict=True):
        ids = [str(catalog.object_id[members[number]]) for number in (other, kept)]
        _log.info("spectrum %s, S/N %.2f, repeats %s, S/N %.2f", ids[0], snr[other], ids[1], snr[kept])
        repeats[ids[1]].append(ids[0])
    drops[REPEAT] += int((~first).sum())
    kept_rows = np.setdiff1d(np.arange(len(catalog)), members[order[~first]])
    return catalog.chosen(kept_rows), {kept: tuple(others) for kept, others in repeats.items()}


def survey_of(path: str) -> str:
    """Return what the files of one survey have in common: the path above their cells or partitions, else the file."""
    return _SURVEY_END.split(path, maxsplit=1)[0]


def spectrum_snr(spectrum: Spectrum) -> float:
    """Return the median signal-to-noise per pixel of 1e-4 dex within ``SNR_RANGE_ANGSTROM``, -inf without a pixel."""
    low, high = SNR_RANGE_ANGSTROM
    used = spectrum.valid & (spectrum.wavelength_angstrom > low) & (spectrum.wavelength_angstrom < high)
    return float(np.median(spectrum.flux[used] * np.sqrt(spectrum.ivar[used]))) if used.any() else -np.inf


def _median_snr(catalog: Catalog, members: NDArray[np.int64], reader: SurveyReader) -> Floats:
    """Return (member,) signal-to-noise of some rows of a catalogue, -inf where there is no spectrum."""
    snr = np.full(len(members), -np.inf)
    of_file: defaultdict[int, list[int]] = defaultdict(list)
    for number, file in enumerate(catalog.file_index[members].tolist()):
        of_file[file].append(number)
    for file, numbers in of_file.items():
        place = {int(catalog.row[members[number]]): number for number in numbers}
        for row, spectrum in reader.read_spectra(catalog.files[file], np.array(sorted(place), dtype=np.int64)):
            if isinstance(spectrum, Spectrum):
                snr[place[row]] = spectrum_snr(spectrum)
    return snr
