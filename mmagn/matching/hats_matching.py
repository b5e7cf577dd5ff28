"""Matches of two HATS catalogues: LSDB finds the neighbours on Dask, ``catalog_matches`` chooses among them.

LSDB crosses ids and positions partition by partition, with the margin of the right-hand catalogue so that neighbours
across a partition border are seen. It lets many objects share a neighbour. Only objects with a neighbour come back;
between these ``catalog_matches`` decides, across all borders, so the matches equal those of any other source.
"""

import logging
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmagn.matching.sky import Matches, catalog_matches
from mmagn.records import Catalog
from mmagn.surveys.config import DataConfig
from mmagn.surveys.hats.reader import HatsReader
from mmagn.surveys.text import plain_text

NEIGHBORS = 8
"""Neighbours requested first; where an object has that many, the match is repeated with four times as many."""
ROUNDING = 1 + 1e-6
"""LSDB compares chords; its radius is widened by one part in a million and ``catalog_matches`` decides."""

_LOGGER = logging.getLogger(__name__)


def hats_matches(data: DataConfig, sdss: Catalog, hsc: Catalog, radius_arcsec: float) -> Matches:
    """Return the one-to-one matches of two catalogues that were read from HATS, found on Dask.

    Raises ``ValueError`` where the HSC catalogue has no margin, or one narrower than the radius.
    """
    reader = HatsReader(data=data)
    images = reader.open_hsc(margin=True)
    neighbors = [_neighbors(reader.open_spectra(name), images, radius_arcsec) for name in reader.spectra_paths]
    left_ids, right_ids = (np.concatenate(ids) for ids in zip(*neighbors, strict=True))
    left, right = _rows_of(sdss, left_ids), _rows_of(hsc, right_ids)
    return catalog_matches(sdss.chosen(left), hsc.chosen(right), radius_arcsec).of_rows(left, right)


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
    """Return the rows of a catalogue with these ids; ids that it does not hold are left out."""
    return np.flatnonzero(np.isin(catalog.object_id, [plain_text(value) for value in ids.tolist()]))
