"""Which objects the settings select: pairs of a store by redshift, survey and cell, any objects by a list."""

import logging
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
from astropy.table import Table
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from mmagn.matching.config import MatchingConfig
from mmagn.matching.position_columns import position_columns
from mmagn.matching.sky import Matches, chord_length, unit_vectors
from mmagn.records import Catalog, Floats, Spectrum
from mmagn.storage.table_reading import read_table
from mmagn.surveys.config import DataConfig
from mmagn.surveys.reader import iter_spectra
from mmagn.surveys.readers import survey_reader
from mmagn.surveys.screen import cells_of, id_texts, redshift_reasons

ID_COLUMNS = ("object_id", "sdss_object_id", "hsc_object_id")
ROWS_NAMED = 10
NOT_LISTED = "not in the list of objects"
_SIDE_COLUMNS = ("object_id", "ra_deg", "dec_deg")
Members = NDArray[np.bool_]

_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, eq=False)
class ObjectList:
    """A list of objects to take, by id or by position; ``data.objects``.

    Attributes
    ----------
    path, object_id
        Its file; (column, row) ids, "" where a row has none.
    ra_deg, dec_deg
        (row,) NaN where a row has no position.
    """

    path: Path
    object_id: NDArray[np.str_]
    ra_deg: Floats
    dec_deg: Floats

    def listed(
        self, object_id: NDArray[np.str_], ra_deg: Floats, dec_deg: Floats, radius_arcsec: float
    ) -> tuple[Members, Members]:
        """Return which of some objects are listed (object,), and which rows of the list are among them (row,)."""
        present = (np.isin(self.object_id, object_id) & (self.object_id != "")).any(axis=0)
        members = np.isin(object_id, self.object_id)
        placed = np.flatnonzero(np.isfinite(self.ra_deg) & np.isfinite(self.dec_deg))
        if len(placed) and len(object_id):
            tree = cKDTree(unit_vectors(ra_deg, dec_deg))
            vectors = unit_vectors(self.ra_deg[placed], self.dec_deg[placed])
            near = tree.query_ball_point(vectors, chord_length(radius_arcsec))
            present[placed] |= [bool(objects) for objects in near]
            members[[number for objects in near for number in objects]] = True
        return members, present

    def matches(
        self, matches: Matches, sdss: Catalog, hsc: Catalog, radius_arcsec: float, drops: Counter[str]
    ) -> Matches:
        """Return the matches one member of which is listed; rows of the list without one are named in the log."""
        (left, in_sdss), (right, in_hsc) = (
            self.listed(side.object_id, side.ra_deg, side.dec_deg, radius_arcsec) for side in (sdss, hsc)
        )
        kept = left[matches.left_index] | right[matches.right_index]
        self.report(in_sdss | in_hsc, drops)
        return replace(
            matches,
            left_index=matches.left_index[kept],
            right_index=matches.right_index[kept],
            separation_arcsec=matches.separation_arcsec[kept],
        )

    def spectra(self, catalog: Catalog, radius_arcsec: float, drops: Counter[str]) -> Catalog:
        """Return the listed objects of a catalogue; rows of the list that it has not are named in the log."""
        members, present = self.listed(catalog.object_id, catalog.ra_deg, catalog.dec_deg, radius_arcsec)
        self.report(present, drops)
        return catalog.chosen(members)

    def report(self, present: Members, drops: Counter[str]) -> None:
        """Count and name the rows of the list of which nothing is there."""
        absent = np.flatnonzero(~present).tolist()
        if not absent:
            return
        names = [
            next(filter(None, self.object_id[:, row]), f"{self.ra_deg[row]:.5f} {self.dec_deg[row]:.5f}")
            for row in absent[:ROWS_NAMED]
        ]
        more = f" and {len(absent) - ROWS_NAMED} more" if len(absent) > ROWS_NAMED else ""
        sentence = f"{len(absent)} of {len(present)} rows match nothing: {', '.join(names)}{more}"
        _log.warning("%s: %s", self.path, sentence)
        drops[f"{self.path.name}: row matches nothing"] += len(absent)


def object_list(data: DataConfig) -> ObjectList | None:
    """Return the list of ``data.objects``; None where it is unset.

    Raises ``FileNotFoundError`` or ``ValueError`` where the table is missing, has neither ids nor positions, or
    positions that are no angles.
    """
    if data.objects is None:
        return None
    path = Path(data.objects).expanduser()
    table = read_table(path)
    names = {name.lower(): name for name in table.colnames}
    ids = [names[name] for name in ID_COLUMNS if name in names]
    axes = [names[axis] for axis in ("ra", "dec") if axis in names]
    if not len(table) or (not ids and len(axes) < 2):
        columns = f"columns {', '.join(table.colnames)}, {len(table)} rows"
        raise ValueError(f"{path} lists no objects: {columns}; allowed: {', '.join(ID_COLUMNS)}, or ra and dec")
    object_id = [id_texts(np.ma.filled(table[name].astype(object), "")) for name in ids]
    nowhere = np.full(len(table), np.nan)
    try:
        ra_deg, dec_deg = position_columns(*(table[axis] for axis in axes)) if len(axes) == 2 else (nowhere, nowhere)
    except ValueError as error:
        raise ValueError(f"{path} {error}") from None
    none = np.empty((0, len(table)), dtype=np.str_)
    return ObjectList(path=path, object_id=np.stack(object_id) if ids else none, ra_deg=ra_deg, dec_deg=dec_deg)


def selected_spectra(data: DataConfig, matching: MatchingConfig, drops: Counter[str]) -> Iterator[Spectrum]:
    """Yield the spectra of a source, those of ``data.objects`` alone where it is set; the others are not read."""
    listed = object_list(data)
    select = None if listed is None else partial(listed.spectra, radius_arcsec=matching.radius_arcsec, drops=drops)
    return iter_spectra(survey_reader(data), drops, select)


def unselected_pairs(
    index: Table, data: DataConfig, matching: MatchingConfig, *, own_files: bool
) -> list[tuple[Members, str]]:
    """Return which pairs of a store are not selected, and why; spectra in files of their own are of any survey."""
    reasons = list(redshift_reasons(np.asarray(index["redshift"], dtype=np.float64), data))
    if not own_files:
        surveys = ", ".join(data.spectra)
        reasons.append((~np.isin(index["survey"], data.spectra), f"survey is not in data.spectra {surveys}"))
    for survey in ("sdss", "hsc") if data.cells else ():
        ra_deg, dec_deg = (np.asarray(index[f"{survey}_{axis}_deg"]) for axis in ("ra", "dec"))
        reasons.append((~np.isin(cells_of(ra_deg, dec_deg), data.cells), f"{survey} position is not in data.cells"))
    if (listed := object_list(data)) is not None:
        members = []
        for survey in ("sdss", "hsc"):
            object_id, ra_deg, dec_deg = (np.asarray(index[f"{survey}_{name}"]) for name in _SIDE_COLUMNS)
            members.append(listed.listed(object_id, ra_deg, dec_deg, matching.radius_arcsec))
        listed.report(members[0][1] | members[1][1], Counter())
        reasons.append((~(members[0][0] | members[1][0]), NOT_LISTED))
    return reasons
