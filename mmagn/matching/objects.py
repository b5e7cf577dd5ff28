"""Galaxies of any source in parts: pairs, and those that only one survey has; a part is a description until it is read.

A part is small and can be sent to another process, which reads it there. Memory depends on the size of a part and on
the catalogues of positions, never on the pixels of a survey.
"""

import logging
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from mmagn.matching.config import MatchingConfig
from mmagn.matching.index import PairIndex, surveys_matches
from mmagn.matching.repeats import Repeats, without_repeats
from mmagn.matching.report import match_report
from mmagn.matching.selection import object_list
from mmagn.matching.shards import PairShard, pair_shards, shard_pairs
from mmagn.matching.store import PairStore, source_store
from mmagn.records import BANDS, Catalog, Cutout, Spectrum
from mmagn.surveys.config import DataConfig
from mmagn.surveys.grid import check_log_grid
from mmagn.surveys.reader import SurveyReader, usable
from mmagn.surveys.readers import survey_reader

PART_OBJECTS = 768
"""Objects of a part: enough suspects of broad lines for batches of their own."""
WHOLE_FILES = 1 << 60
"""More objects than any file has."""
Objects = Literal["pairs", "images", "spectra", "all"]
OBJECTS: tuple[Objects, ...] = ("pairs", "images", "spectra", "all")

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, eq=False, slots=True)
class Galaxy:
    """What is known of one galaxy: image, spectrum or both; the angle between their positions is NaN for one alone."""

    cutout: Cutout | None
    spectrum: Spectrum | None
    separation_arcsec: float = float("nan")

    @property
    def missing(self) -> tuple[str, ...]:
        """What there is none of: the image or some of its bands, the spectrum."""
        images = ["image"] if self.cutout is None else []
        if self.cutout is not None:
            images = [f"band {band}" for band, pixels in zip(BANDS, self.cutout.ivar, strict=True) if not pixels.any()]
        return (*images, *(["spectrum"] if self.spectrum is None else []))


@dataclass(frozen=True, kw_only=True, eq=False)
class StoredPart:
    """Pairs ``start`` to ``stop`` of a store."""

    store: PairStore
    start: int
    stop: int

    def __len__(self) -> int:
        return self.stop - self.start

    def galaxies(self, drops: Counter[str]) -> Iterator[Galaxy]:  # noqa: ARG002 what a store holds is usable
        """Yield the pairs as views of the store's files."""
        for number in range(self.start, self.stop):
            pair = self.store.pair(number)
            yield Galaxy(cutout=pair.cutout, spectrum=pair.spectrum, separation_arcsec=pair.separation_arcsec)

    def only(self, object_id: str) -> "StoredPart":
        """Return the pair with that id in one of the surveys."""
        index = self.store.index[self.start : self.stop]
        same = [np.asarray(index[f"{survey}_object_id"], dtype=np.str_) == object_id for survey in ("sdss", "hsc")]
        numbers = self.start + np.flatnonzero(same[0] | same[1])[:1]
        return replace(self, start=int(numbers.sum()), stop=int(numbers.sum()) + len(numbers))


@dataclass(frozen=True, kw_only=True, eq=False)
class PairedPart:
    """Pairs of two surveys, still in their files."""

    reader: SurveyReader
    shard: PairShard

    def __len__(self) -> int:
        return len(self.shard)

    def galaxies(self, drops: Counter[str]) -> Iterator[Galaxy]:
        """Yield the pairs whose two views are usable."""
        for pair in shard_pairs(self.shard, self.reader, drops):
            yield Galaxy(cutout=pair.cutout, spectrum=pair.spectrum, separation_arcsec=pair.separation_arcsec)

    def only(self, object_id: str) -> "PairedPart":
        """Return the pair with that id in one of the surveys."""
        same = (self.shard.sdss_object_id == object_id) | (self.shard.hsc_object_id == object_id)
        return replace(self, shard=_piece(self.shard, np.flatnonzero(same)))


@dataclass(frozen=True, kw_only=True, eq=False)
class SinglePart:
    """Rows of one file of one survey, without the other."""

    reader: SurveyReader
    kind: Literal["images", "spectra"]
    path: str
    rows: NDArray[np.int64]
    object_id: NDArray[np.str_]

    def __len__(self) -> int:
        return len(self.rows)

    def galaxies(self, drops: Counter[str]) -> Iterator[Galaxy]:
        """Yield the usable rows."""
        if self.kind == "images":
            for _, cutout in usable(self.reader.read_cutouts(self.path, self.rows), drops):
                yield Galaxy(cutout=cutout, spectrum=None)
        else:
            for _, spectrum in usable(self.reader.read_spectra(self.path, self.rows), drops):
                yield Galaxy(cutout=None, spectrum=spectrum)

    def only(self, object_id: str) -> "SinglePart":
        """Return the row with that id."""
        same = self.object_id == object_id
        return replace(self, rows=self.rows[same], object_id=self.object_id[same])


@dataclass(frozen=True, kw_only=True, eq=False)
class GivenPart:
    """Galaxies that are in memory already; a spectrum on another grid than that of ``Spectrum`` is refused."""

    members: tuple[Galaxy, ...]

    def __len__(self) -> int:
        return len(self.members)

    def galaxies(self, drops: Counter[str]) -> Iterator[Galaxy]:  # noqa: ARG002 all of them are usable
        """Yield them.

        Raises ``ValueError`` if a spectrum is on another wavelength grid, which ``surveys.grid.log_grid`` resamples.
        """
        for galaxy in self.members:
            if galaxy.spectrum is not None:
                name = f"spectrum {galaxy.spectrum.object_id}: wavelength_angstrom"
                check_log_grid(name, galaxy.spectrum.wavelength_angstrom)
            yield galaxy


SourcePart = StoredPart | PairedPart | SinglePart
"""Some galaxies of a source, not yet read."""
ObjectPart = SourcePart | GivenPart


def object_parts(
    data: DataConfig, matching: MatchingConfig, objects: Objects, drops: Counter[str], size: int = PART_OBJECTS
) -> list[SourcePart]:
    """Return the galaxies of a source in parts of at most ``size``: pairs first, then single images, then spectra.

    Parameters
    ----------
    data, matching
        Where they come from, and which separation makes a pair.
    objects
        ``pairs``; ``images``: HSC objects without an SDSS match; ``spectra``: SDSS objects without an HSC one; ``all``.
    drops
        Added to: catalogue rows that are left out, by reason.
    size
        Most galaxies of a part.

    Raises
    ------
    ValueError
        Where there is no such object; where anything but pairs is wanted of a store.
    """
    if data.source == "store":
        if objects not in ("pairs", "all"):
            raise ValueError(f"data.source store holds pairs alone; {objects} without a partner need the surveys")
        store = source_store(data, matching)
        return [StoredPart(store=store, start=n, stop=min(n + size, len(store))) for n in range(0, len(store), size)]
    reader = survey_reader(replace(data, image_noise=False))  # which pixels are valid is all that anyone asks of it
    sdss = _catalog(reader.read_sdss_catalog, drops, required=objects != "images")
    hsc = _catalog(reader.read_hsc_catalog, drops, required=objects != "spectra")
    listed, radius_arcsec = object_list(data), matching.radius_arcsec
    repeats: Repeats = {}
    if listed is None and len(sdss):
        images = hsc if objects == "pairs" else None
        sdss, repeats = without_repeats(sdss, images, reader, radius_arcsec, drops)
    matches = surveys_matches(data, matching, sdss, hsc, drops)
    alone = [
        np.ones(len(side), dtype=np.bool_)
        if listed is None
        else listed.listed(side.object_id, side.ra_deg, side.dec_deg, radius_arcsec)[0]
        for side in (sdss, hsc)
    ]
    alone[0][matches.left_index] = alone[1][matches.right_index] = False
    parts: list[SourcePart] = []
    if objects in ("pairs", "all") and len(matches):
        report = match_report(sdss, hsc, matches, radius_arcsec, drops, repeats)
        index = PairIndex(sdss=sdss, hsc=hsc, matches=matches, report=report)
        parts += [PairedPart(reader=reader, shard=shard) for shard in pair_shards(index, size)]
    if objects in ("images", "all"):
        parts += _single_parts(reader, "images", hsc, alone[1], size)
    if objects in ("spectra", "all"):
        parts += _single_parts(reader, "spectra", sdss, alone[0], size)
    if not parts:
        what = "galaxies" if objects == "all" else objects if objects == "pairs" else f"{objects} without a partner"
        raise ValueError(f"data.source {data.source} has no {what} among {len(sdss)} spectra and {len(hsc)} images")
    return parts


def parts_of_files(data: DataConfig, matching: MatchingConfig, drops: Counter[str]) -> dict[str, list[SourcePart]]:
    """Return the galaxies that have a spectrum, pairs and spectra alone, by the file of the spectrum."""
    parts: dict[str, list[SourcePart]] = {}
    for part in object_parts(data, matching, "all", drops):
        if isinstance(part, SinglePart) and part.kind == "spectra":
            parts.setdefault(part.path, []).append(part)
        elif isinstance(part, PairedPart):
            for number, path in enumerate(part.shard.sdss_files):
                members = np.flatnonzero(part.shard.sdss_file == number)
                parts.setdefault(path, []).append(replace(part, shard=_piece(part.shard, members)))
    return parts


def galaxy_with_id(data: DataConfig, matching: MatchingConfig, object_id: str) -> Galaxy:
    """Return the galaxy with that SDSS or HSC object id, paired where it has a partner.

    Raises ``ValueError`` where no usable galaxy has that id.
    """
    drops: Counter[str] = Counter()
    for part in object_parts(data, matching, "all", drops, size=WHOLE_FILES):
        chosen = part.only(object_id)
        for galaxy in chosen.galaxies(drops) if len(chosen) else ():
            return galaxy
    reasons = f"; left out: {', '.join(drops)}" if drops else ""
    raise ValueError(f"data.source {data.source} has no usable galaxy with object_id {object_id}{reasons}")


def _catalog(read: Callable[[Counter[str]], Catalog], drops: Counter[str], *, required: bool) -> Catalog:
    """Return a catalogue; where it is not required, an empty one for a survey that is not there, with a warning."""
    try:
        return read(drops)
    except FileNotFoundError as error:
        if required:
            raise
        logger.warning("nothing is matched: %s", error)
    number, text = np.empty(0), np.empty(0, dtype=np.str_)
    rows = number.astype(np.int64)
    return Catalog(
        object_id=text,
        ra_deg=number,
        dec_deg=number,
        healpix=rows,
        file_index=rows.astype(np.int32),
        row=rows,
        files=(),
    )


def _piece(shard: PairShard, members: NDArray[np.int64]) -> PairShard:
    """Return some pairs of a shard with the files that they need."""
    used, sdss_file = np.unique(shard.sdss_file[members], return_inverse=True)
    names = ("hsc_row", "sdss_row", "sdss_object_id", "hsc_object_id", "separation_arcsec", "healpix")
    return replace(
        shard,
        sdss_files=tuple(shard.sdss_files[number] for number in used.tolist()),
        sdss_file=sdss_file.astype(np.int64),
        **{name: getattr(shard, name)[members] for name in names},
    )


def _single_parts(
    reader: SurveyReader, kind: Literal["images", "spectra"], catalog: Catalog, alone: NDArray[np.bool_], size: int
) -> Iterator[SinglePart]:
    """Yield the rows of a catalogue that are wanted without a partner (object,), file by file."""
    for number, path in enumerate(catalog.files):
        members = np.flatnonzero(alone & (catalog.file_index == number))
        members = members[np.argsort(catalog.row[members])]
        for start in range(0, len(members), size):
            chosen = members[start : start + size]
            rows, ids = catalog.row[chosen], catalog.object_id[chosen]
            yield SinglePart(reader=reader, kind=kind, path=path, rows=rows, object_id=ids)
