"""The payload in shards: some pairs of one HSC file, read in one pass with the spectra that belong to them.

Memory depends on the size of a shard and never on that of a survey.
"""

import hashlib
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from mmagn.records import Cutout, Pair, Spectrum
from mmagn.surveys.reader import SurveyReader
from mmagn.surveys.screen import file_name

if TYPE_CHECKING:  # a process that only reads starts sooner without the libraries of the sky
    from mmagn.matching.index import PairIndex

PAIRS_PER_SHARD = 1024
"""Most pairs of a shard: their spectra are in memory together, and an interrupted run reads that many again."""


@dataclass(frozen=True, kw_only=True, eq=False, slots=True)
class PairShard:
    """Some pairs of one HSC file, ascending in its rows.

    Attributes
    ----------
    hsc_file, sdss_files
        The file with the cutouts and those with the spectra, as the reader names them.
    hsc_row, sdss_row, sdss_file
        (pair,) int64, rows in those files, and which of ``sdss_files`` holds the spectrum.
    sdss_object_id, hsc_object_id
        (pair,) text.
    separation_arcsec, healpix
        (pair,) separation of the two positions, and cell of the SDSS position.
    """

    hsc_file: str
    sdss_files: tuple[str, ...]
    hsc_row: NDArray[np.int64]
    sdss_row: NDArray[np.int64]
    sdss_file: NDArray[np.int64]
    sdss_object_id: NDArray[np.str_]
    hsc_object_id: NDArray[np.str_]
    separation_arcsec: NDArray[np.float64]
    healpix: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.hsc_row)

    @property
    def fingerprint(self) -> str:
        """Hexadecimal sha256 of ids and separations of the pairs, in this order."""
        digest = hashlib.sha256()
        for ids in (self.sdss_object_id, self.hsc_object_id):
            digest.update("\n".join(ids.tolist()).encode() + b"\n\n")
        digest.update(self.separation_arcsec.tobytes())
        return digest.hexdigest()


def pair_shards(index: "PairIndex", size: int | None = None) -> list[PairShard]:
    """Return the matches cut into shards of ``PAIRS_PER_SHARD``, or ``size``, in the order of HSC files and rows."""
    size = size or PAIRS_PER_SHARD
    sdss, hsc, matches = index.sdss, index.hsc, index.matches
    hsc_file, hsc_row = hsc.file_index[matches.right_index], hsc.row[matches.right_index]
    order = np.lexsort((hsc_row, hsc_file))
    shards = []
    for of_file in np.split(order, np.flatnonzero(np.diff(hsc_file[order])) + 1):
        for start in range(0, len(of_file), size):
            members = of_file[start : start + size]
            left, right = matches.left_index[members], matches.right_index[members]
            used, sdss_file = np.unique(sdss.file_index[left], return_inverse=True)
            shards.append(
                PairShard(
                    hsc_file=hsc.files[int(hsc_file[members[0]])],
                    sdss_files=tuple(sdss.files[int(number)] for number in used),
                    hsc_row=hsc_row[members],
                    sdss_row=sdss.row[left],
                    sdss_file=sdss_file.astype(np.int64),
                    sdss_object_id=sdss.object_id[left],
                    hsc_object_id=hsc.object_id[right],
                    separation_arcsec=matches.separation_arcsec[members],
                    healpix=sdss.healpix[left],
                )
            )
    return shards


def shard_pairs(
    shard: PairShard, reader: SurveyReader, drops: Counter[str], lost: list[str] | None = None
) -> Iterator[Pair]:
    """Yield the pairs of a shard in the order of its HSC rows; what is remote is fetched from this call on.

    Parameters
    ----------
    shard, reader
        Which pairs, and where they are.
    drops
        Added to: pairs without a usable cutout or spectrum, by reason.
    lost
        Added to: a sentence for each of them with both ids, file, row and reason.
    """
    cutouts = reader.read_cutouts(shard.hsc_file, shard.hsc_row)
    spectra = []
    for file_number, path in enumerate(shard.sdss_files):
        members = np.flatnonzero(shard.sdss_file == file_number)
        members = members[np.argsort(shard.sdss_row[members])]
        spectra.append((path, members.tolist(), reader.read_spectra(path, shard.sdss_row[members])))
    return _joined(shard, cutouts, spectra, drops, lost)


def _joined(
    shard: PairShard,
    cutouts: Iterator[tuple[int, Cutout | str]],
    spectra: Sequence[tuple[str, list[int], Iterator[tuple[int, Spectrum | str]]]],
    drops: Counter[str],
    lost: list[str] | None,
) -> Iterator[Pair]:
    """Yield the pairs of a shard of its cutouts and of the spectra (file, pairs, records)."""

    def lose(number: int, path: str, row: int, reason: str) -> None:
        drops[reason] += 1
        if lost is not None:
            ids = f"SDSS {shard.sdss_object_id[number]} with HSC {shard.hsc_object_id[number]}"
            lost.append(f"{ids}, row {row} of {file_name(path)}: {reason}")

    spectrum_of: dict[int, Spectrum] = {}
    for path, members, records in spectra:
        for number, (row, spectrum) in zip(members, records, strict=True):
            if isinstance(spectrum, str):
                lose(number, path, row, spectrum)
            else:
                spectrum_of[number] = spectrum
    if not spectrum_of:
        return
    for number, (row, cutout) in zip(range(len(shard)), cutouts, strict=True):
        if number not in spectrum_of:
            continue
        if isinstance(cutout, str):
            lose(number, shard.hsc_file, row, cutout)
            continue
        yield Pair(
            cutout=cutout,
            spectrum=spectrum_of.pop(number),
            separation_arcsec=float(shard.separation_arcsec[number]),
            healpix=int(shard.healpix[number]),
        )
