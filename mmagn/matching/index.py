"""The pair index: the cross-match of the two surveys, from positions, and spectra of galaxies with several of them."""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mmagn.matching.config import MatchingConfig
from mmagn.matching.repeats import Repeats, without_repeats
from mmagn.matching.report import MatchReport, match_report
from mmagn.matching.selection import object_list
from mmagn.matching.sky import Matches, catalog_matches, nearest_separation_arcsec, separation_arcsec
from mmagn.records import Catalog
from mmagn.surveys.config import DataConfig
from mmagn.surveys.readers import survey_reader


class NoPairsError(ValueError):
    """Two surveys without a single pair; the message states what was compared."""


@dataclass(frozen=True, kw_only=True, eq=False, slots=True)
class PairIndex:
    """Both catalogues, their matches (rows of ``sdss`` left, of ``hsc`` right), and the report of pairs and losses."""

    sdss: Catalog
    hsc: Catalog
    matches: Matches
    report: MatchReport


def pair_index(data: DataConfig, matching: MatchingConfig) -> PairIndex:
    """Return the matches of the two surveys, from positions.

    Objects are compared in the order of their ids, so that a tie goes to the lower id wherever it is stored. A galaxy
    that was observed more than once takes part with its best spectrum, see ``without_repeats``. Raises ``NoPairsError``
    where not one pair lies within ``matching.radius_arcsec``.
    """
    index = matched_surveys(data, matching)
    if not len(index.matches):
        raise NoPairsError(no_pairs_sentence(index))
    return index


def matched_surveys(data: DataConfig, matching: MatchingConfig) -> PairIndex:
    """Return what ``pair_index`` does, without a pair too."""
    reader = survey_reader(data)
    drops: Counter[str] = Counter()
    sdss, hsc = reader.read_sdss_catalog(drops), reader.read_hsc_catalog(drops)
    repeats: Repeats = {}
    if object_list(data) is None:  # listed objects are wanted as they are
        sdss, repeats = without_repeats(sdss, hsc, reader, matching.radius_arcsec, drops)
    matches = surveys_matches(data, matching, sdss, hsc, drops)
    report = match_report(sdss, hsc, matches, matching.radius_arcsec, drops, repeats)
    return PairIndex(sdss=sdss, hsc=hsc, matches=matches, report=report)


def surveys_matches(
    data: DataConfig, matching: MatchingConfig, sdss: Catalog, hsc: Catalog, drops: Counter[str]
) -> Matches:
    """Return the one-to-one matches of the two catalogues of a source, none at all included.

    Of those only the ones that ``data.objects`` lists; rows of the list that match nothing are counted in ``drops``.
    """
    matches = _all_matches(data, sdss, hsc, matching.radius_arcsec)
    listed = object_list(data)
    return matches if listed is None else listed.matches(matches, sdss, hsc, matching.radius_arcsec, drops)


def _all_matches(data: DataConfig, sdss: Catalog, hsc: Catalog, radius_arcsec: float) -> Matches:
    if data.source == "hats" and len(sdss) and len(hsc):
        from mmagn.matching.hats_matching import hats_matches  # only here, its libraries are an optional extra

        return hats_matches(data, sdss, hsc, radius_arcsec)
    if data.source == "files" and not Path(str(data.table)).expanduser().is_dir():
        return row_matches(sdss, hsc)
    return catalog_matches(sdss, hsc, radius_arcsec)


def row_matches(left: Catalog, right: Catalog) -> Matches:
    """Return the matches of two catalogues of one table: what stands in the same row is the same object."""
    _, left_index, right_index = np.intersect1d(left.row, right.row, assume_unique=True, return_indices=True)
    return Matches(
        left_index=left_index,
        right_index=right_index,
        separation_arcsec=separation_arcsec(left, left_index, right, right_index),
        left_lost=0,
        right_lost=0,
    )


def no_pairs_sentence(index: PairIndex) -> str:
    """Return one sentence that says what was compared and how far apart the nearest two objects are."""
    sdss, hsc, drops, radius_arcsec = index.sdss, index.hsc, index.report.drops, index.report.radius_arcsec
    common = len(np.intersect1d(sdss.healpix, hsc.healpix))
    sentence = (
        f"no spectrum has an HSC image within {radius_arcsec:g} arcsec: {len(sdss)} spectra and {len(hsc)} images "
        f"with {common} HEALPix cells in common"
    )
    if len(sdss) and len(hsc):
        sentence += f", the nearest {nearest_separation_arcsec(sdss, hsc):.4g} arcsec apart"
    if drops:
        sentence += "; left out: " + ", ".join(f"{count} x {reason}" for reason, count in sorted(drops.items()))
    return sentence
