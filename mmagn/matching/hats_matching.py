"""Matches of two HATS catalogues: LSDB finds the neighbours on Dask, ``sky_matches`` chooses among them.

LSDB crosses ids and positions partition by partition, with the margin of the right-hand catalogue so that neighbours
across a partition border are seen. It lets many objects share a neighbour. Only objects with a neighbour come back;
between these ``sky_matches`` decides, across all borders, so the matches equal those of any other source.
"""

import logging
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmagn.matching.sky import Matches, sky_matches
from mmagn.records import Catalog
from mmagn.surveys.config import DataConfig
from mmagn.surveys.hats.reader import HatsReader
from mmagn.surveys.text import plain_text

NEIGHBORS = 8
"""Neighbours requested first; where an object has that many, the match is repeated with four times as many."""
ROUNDING = 1 + 1e-6
"""LSDB compares chords; its radius is widened by one part in a million and ``sky_matches`` decides."""

_LOGGER = logging.getLogger(__name__)


def hats_matches(data: DataConfig, sdss: Catalog, hsc: Catalog, radius_arcsec: float) -> Matches:
    """Return the one-to-one matches of two catalogues that were read from HATS, found on Dask.

    Ids on both sides are compared in their order, so that a tie goes to the lower id.

    Parameters
    ----------
    data
        Settings of the source of both catalogues.
    sdss, hsc
        The catalogues, left and right.
    radius_arcsec
        Largest separation of a match.

    Raises
    ------
    ValueError
        Where the HSC catalogue has no margin, or one narrower than the radius.
    """
    reader = HatsReader(data=data)
    images = reader.open_hsc(margin=True)
    neighbors = [_neighbors(reader.open_spectra(name), images, radius_arcsec) for name in reader.spectra_paths]
    left_ids, right_ids = (np.concatenate(ids) for ids in zip(*neighbors, strict=True))
    left, right = _rows_of(sdss, left_ids), _rows_of(hsc, right_ids)
    matches = sky_matches(sdss.ra_deg[left], sdss.dec_deg[left], hsc.ra_deg[right], hsc.dec_deg[right], radius_arcsec)
    order = np.argsort(left[matches.left_index])
    return replace(
        matches,
        left_index=left[matches.left_index][order],
        right_index=right[matches.right_index][order],
        separation_arcsec=matches.separation_arcsec[order],
    )


def _neighbors(left: Any, right: Any, radius_arcsec: float) -> tuple[NDArray[np.str_], NDArray[np.str_]]:
    """Return the ids of all objects of two LSDB catalogues that have a neighbour within the radius, each once."""
    margin_arcsec = _margin_arcsec(right, radius_arcsec)
    neighbors = NEIGHBORS
    while True:
        try:
            crossed = left.crossmatch(
                right,
                radius_arcsec=min(radius_arcsec * ROUNDING, margin_arcsec),
                n_neighbors=neighbors,
                require_right_margin=True,
                suffixes=("_sdss", "_hsc"),
                suffix_method="all_columns",
            )
        except RuntimeError as error:
            _LOGGER.info("the HATS catalogues share no sky: %s", error)
            nothing = np.empty(0, dtype=np.str_)
            return nothing, nothing
        pairs = crossed[["object_id_sdss", "object_id_hsc"]].compute(progress_bar=False)
        left_ids, counts = np.unique(pairs["object_id_sdss"].to_numpy().astype(np.str_), return_counts=True)
        if counts.max(initial=0) < neighbors:
            return left_ids, np.unique(pairs["object_id_hsc"].to_numpy().astype(np.str_))
        neighbors *= 4


def _margin_arcsec(catalog: Any, radius_arcsec: float) -> float:
    name = catalog.hc_structure.catalog_info.catalog_name
    if catalog.margin is None:
        raise ValueError(
            f"the HATS catalogue {name} has no margin, without which pairs across a partition border are lost; "
            "data.hats.margin names one"
        )
    margin_arcsec = float(catalog.margin.hc_structure.catalog_info.margin_threshold)
    if margin_arcsec < radius_arcsec:
        raise ValueError(
            f"the margin of the HATS catalogue {name} is {margin_arcsec:g} arcsec wide, less than "
            f"matching.radius_arcsec {radius_arcsec:g}; allowed: a radius up to that, or a wider data.hats.margin"
        )
    return margin_arcsec


def _rows_of(catalog: Catalog, ids: NDArray[np.str_]) -> NDArray[np.int64]:
    """Return the rows of a catalogue with these ids, in the order of ids; ids that it does not hold are left out."""
    order = np.argsort(catalog.object_id, kind="stable")
    known = catalog.object_id[order]
    wanted = np.unique(np.array([plain_text(value) for value in ids.tolist()], dtype=np.str_))
    place = np.searchsorted(known, wanted)
    known_ids = place < len(known)
    known_ids[known_ids] = known[place[known_ids]] == wanted[known_ids]
    return np.asarray(order[place[known_ids]], dtype=np.int64)
