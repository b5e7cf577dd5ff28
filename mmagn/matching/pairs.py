"""Index and payload of the pairs: who belongs to whom, and a stream of the matched rows alone.

The index needs positions only. The payload follows it, one HSC file (a shard) after the other: the wanted rows of
the file in one pass, with the spectra that belong to them, so that memory never depends on the size of a survey.
"""

import logging
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import datasets
import numpy as np
import pyarrow as pa
from datasets.builder import Key
from numpy.typing import NDArray

from mmagn.matching.config import MatchingConfig
from mmagn.matching.provenance import read_provenance, refuse_other_settings, store_settings
from mmagn.matching.rows import PAIR_FEATURES, pair_features, pair_from_row, pair_row, rows_batch
from mmagn.matching.sky import Matches, MatchReport, match_report, nearest_separation_arcsec, sky_matches
from mmagn.records import Catalog, Pair, Spectrum
from mmagn.surveys.config import DataConfig
from mmagn.surveys.readers import SurveyReader, survey_reader

__all__ = [
    "PAIR_FEATURES",
    "NoPairsError",
    "PairIndex",
    "PairShard",
    "open_pairs",
    "pair_from_row",
    "pair_index",
    "pair_row",
    "pair_shards",
    "shard_pairs",
]

SPECTRA_AT_ONCE = 256
"""Spectra held in memory while the cutouts that belong to them stream by."""

_log = logging.getLogger(__name__)


class NoPairsError(ValueError):
    """Two surveys without a single pair; the message says what was compared."""


@dataclass(frozen=True, kw_only=True, eq=False, slots=True)
class PairIndex:
    """Who is who: both catalogues, their matches and the report.

    Attributes
    ----------
    sdss, hsc
        The catalogues; ``matches`` counts rows of ``sdss`` left and of ``hsc`` right.
    matches
        One-to-one matches.
    report
        What was found and lost.
    """

    sdss: Catalog
    hsc: Catalog
    matches: Matches
    report: MatchReport


@dataclass(frozen=True, kw_only=True, eq=False, slots=True)
class PairShard:
    """The pairs of one HSC file, ascending in its rows.

    Attributes
    ----------
    hsc_file
        Path of the file with the cutouts.
    sdss_files
        Paths of the files with the spectra.
    hsc_row, sdss_row
        (pair,) int64, rows in those files.
    sdss_file
        (pair,) int64, which of ``sdss_files`` holds the spectrum.
    separation_arcsec
        (pair,) float64.
    healpix
        (pair,) int64, cell of the SDSS position.
    """

    hsc_file: str
    sdss_files: tuple[str, ...]
    hsc_row: NDArray[np.int64]
    sdss_row: NDArray[np.int64]
    sdss_file: NDArray[np.int64]
    separation_arcsec: NDArray[np.float64]
    healpix: NDArray[np.int64]

    def __len__(self) -> int:
        """Return the number of pairs."""
        return len(self.hsc_row)


def pair_index(data: DataConfig, matching: MatchingConfig) -> PairIndex:
    """Return who is who between the two surveys, from positions alone.

    Objects are compared in the order of their ids, so that a tie goes to the lower id wherever it is stored.

    Raises
    ------
    NoPairsError
        Where not one pair lies within ``matching.radius_arcsec``.
    """
    reader = survey_reader(data)
    drops: Counter[str] = Counter()
    sdss, hsc = reader.read_sdss_catalog(drops), reader.read_hsc_catalog(drops)
    matches = _matches_by_id(sdss, hsc, matching.radius_arcsec)
    if not len(matches):
        raise NoPairsError(_no_pairs_sentence(sdss, hsc, matching.radius_arcsec, drops))
    report = match_report(sdss, hsc, matches, matching.radius_arcsec, drops)
    return PairIndex(sdss=sdss, hsc=hsc, matches=matches, report=report)


def _matches_by_id(left: Catalog, right: Catalog, radius_arcsec: float) -> Matches:
    left_order, right_order = (np.argsort(catalog.object_id, kind="stable") for catalog in (left, right))
    matches = sky_matches(
        left.ra_deg[left_order],
        left.dec_deg[left_order],
        right.ra_deg[right_order],
        right.dec_deg[right_order],
        radius_arcsec,
    )
    left_index, right_index = left_order[matches.left_index], right_order[matches.right_index]
    order = np.argsort(left_index)
    return replace(
        matches,
        left_index=left_index[order],
        right_index=right_index[order],
        separation_arcsec=matches.separation_arcsec[order],
    )


def _no_pairs_sentence(sdss: Catalog, hsc: Catalog, radius_arcsec: float, drops: Counter[str]) -> str:
    common = len(np.intersect1d(sdss.healpix, hsc.healpix))
    sentence = (
        f"no SDSS object has an HSC object within {radius_arcsec:g} arcsec: {len(sdss)} SDSS and {len(hsc)} HSC "
        f"objects with {common} HEALPix cells in common"
    )
    if len(sdss) and len(hsc):
        sentence += f", the nearest {nearest_separation_arcsec(sdss, hsc):.4g} arcsec apart"
    if drops:
        sentence += "; left out: " + ", ".join(f"{count} x {reason}" for reason, count in sorted(drops.items()))
    return sentence


def pair_shards(index: PairIndex) -> list[PairShard]:
    """Return the matches cut into one shard per HSC file, in the order of the catalogue's files."""
    sdss, hsc, matches = index.sdss, index.hsc, index.matches
    hsc_file, hsc_row = hsc.file_index[matches.right_index], hsc.row[matches.right_index]
    order = np.lexsort((hsc_row, hsc_file))
    shards = []
    starts = np.flatnonzero(np.diff(hsc_file[order], prepend=-1))
    for members in np.split(order, starts[1:]):
        left = matches.left_index[members]
        used, sdss_file = np.unique(sdss.file_index[left], return_inverse=True)
        shards.append(
            PairShard(
                hsc_file=hsc.files[int(hsc_file[members[0]])],
                sdss_files=tuple(sdss.files[int(number)] for number in used),
                hsc_row=hsc_row[members],
                sdss_row=sdss.row[left],
                sdss_file=sdss_file.astype(np.int64),
                separation_arcsec=matches.separation_arcsec[members],
                healpix=sdss.healpix[left],
            )
        )
    return shards


def shard_pairs(shard: PairShard, reader: SurveyReader, drops: Counter[str]) -> Iterator[Pair]:
    """Yield the pairs of a shard in the order of its HSC rows.

    Pairs with an unusable cutout or spectrum are left out; the readers count the reason in ``drops``.
    """
    for start in range(0, len(shard), SPECTRA_AT_ONCE):
        numbers = np.arange(start, min(start + SPECTRA_AT_ONCE, len(shard)))
        spectra = _spectra(shard, reader, numbers, drops)
        usable = np.array(sorted(spectra), dtype=np.int64)
        if not len(usable):
            continue
        number_of_row = dict(zip(shard.hsc_row[usable].tolist(), usable.tolist(), strict=True))
        for row, cutout in reader.read_cutouts(shard.hsc_file, shard.hsc_row[usable], drops):
            number = number_of_row[int(row)]
            yield Pair(
                cutout=cutout,
                spectrum=spectra.pop(number),
                separation_arcsec=float(shard.separation_arcsec[number]),
                healpix=int(shard.healpix[number]),
            )


def _spectra(
    shard: PairShard, reader: SurveyReader, numbers: NDArray[np.int64], drops: Counter[str]
) -> dict[int, Spectrum]:
    """Return the spectra of some pairs of a shard by the pair's number."""
    spectra = {}
    for file_number, path in enumerate(shard.sdss_files):
        members = numbers[shard.sdss_file[numbers] == file_number]
        if not len(members):
            continue
        members = members[np.argsort(shard.sdss_row[members])]
        number_of_row = dict(zip(shard.sdss_row[members].tolist(), members.tolist(), strict=True))
        for row, spectrum in reader.read_spectra(path, shard.sdss_row[members], drops):
            spectra[number_of_row[int(row)]] = spectrum
    return spectra


@dataclass
class _PairStreamConfig(datasets.BuilderConfig):  # type: ignore[misc]  # datasets carries no types
    shards: Sequence[PairShard] = field(default_factory=list)
    reader: SurveyReader | None = None
    image_dtype: str = "float32"


class _PairStream(datasets.ArrowBasedBuilder):  # type: ignore[misc]
    """Stream of pairs as Arrow tables of one row.

    ``IterableDataset.from_generator`` is not used: it turns every image into a Python list twice on the way out.
    """

    BUILDER_CONFIG_CLASS = _PairStreamConfig

    def _info(self) -> datasets.DatasetInfo:
        return datasets.DatasetInfo(features=pair_features(self.config.image_dtype))

    def _split_generators(self, dl_manager: object) -> list[datasets.SplitGenerator]:  # noqa: ARG002
        # Every list in gen_kwargs is cut into shards by datasets; what must stay whole is not a list.
        return [datasets.SplitGenerator(name="train", gen_kwargs={"shards": list(self.config.shards)})]

    def _generate_tables(self, shards: Sequence[PairShard]) -> Iterator[tuple[Key, pa.Table]]:
        features = pair_features(self.config.image_dtype)
        for shard_number, shard in enumerate(shards):
            drops: Counter[str] = Counter()
            for number, pair in enumerate(shard_pairs(shard, self.config.reader, drops)):
                batch = rows_batch([pair_row(pair, self.config.image_dtype)], features)
                yield Key(shard_number, number), pa.Table.from_batches([batch])
            for reason, count in sorted(drops.items()):
                _log.warning("%s: %d pairs left out: %s", Path(shard.hsc_file).name, count, reason)


def open_pairs(data: DataConfig, matching: MatchingConfig) -> datasets.IterableDataset:
    """Return the pairs as a Hugging Face stream, one shard per HSC file, rows as in ``pair_features``.

    Rows come out as NumPy arrays (format ``numpy``, which widens float16 images to float32); ``with_format`` changes
    that. Images are flat, ``pair_from_row`` gives them their shape back. The stream is cut over nodes and DataLoader
    workers by shard and resumes exactly from its ``state_dict`` as long as it is not shuffled with a buffer.

    Raises
    ------
    NoPairsError
        Where nothing matches.
    ValueError
        Where ``data.root`` holds a store made with other matching settings; it names the setting.
    """
    if data.source == "store":
        path = Path(str(data.root)).expanduser()
        settings = store_settings(matching, None)
        refuse_other_settings(path, read_provenance(path), settings)
        dataset = datasets.load_from_disk(str(path))
        return dataset.to_iterable_dataset(num_shards=_shard_count(len(dataset))).with_format("numpy")
    shards = pair_shards(pair_index(data, matching))
    stream = _PairStream(shards=shards, reader=survey_reader(data), image_dtype=matching.image_dtype)
    return stream.as_streaming_dataset(split="train").with_format("numpy")


def _shard_count(pairs: int) -> int:
    return max(1, min(64, pairs // 32))
