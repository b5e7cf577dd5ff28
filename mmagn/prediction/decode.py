"""Galaxies as network input, decoded ahead of the network in background threads or processes."""

from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from mmagn.config.run_config import RunConfig
from mmagn.features.imaging import imaging_features
from mmagn.features.names import FEATURE_NAMES, IMAGING_FEATURES
from mmagn.features.spectral import spectral_features
from mmagn.lines import REPORTED_LINES
from mmagn.matching.objects import Galaxy, ObjectPart
from mmagn.records import BANDS, Cutout, Floats, Spectrum
from mmagn.spectroscopy.basis import ContinuumBasis
from mmagn.spectroscopy.emission import line_table
from mmagn.tensors.image import central, image_tensor
from mmagn.tensors.spectrum import spectrum_pixels, spectrum_tensors
from mmagn.workers import available_cores, run_tasks

PARTS_WAITING = 1
"""Parts under way besides those that workers work on."""
DECODED_AT_ONCE = 16
"""Galaxies whose pixels are worked on together, so that threads wait for each other less often."""
MOST_THREADS = 8
NOT_MEASURED = "not measured"
_SPECTRAL = FEATURE_NAMES[: -len(IMAGING_FEATURES)]

Flags = NDArray[np.bool_]


@dataclass(frozen=True, kw_only=True, eq=False)
class Decoded:
    """Some galaxies as a network takes them, and who they are.

    Attributes
    ----------
    asked
        Galaxies asked for; those that are not here are in ``drops``.
    drops
        What could not be read, by reason.
    identity
        Columns (object,) by name: ids, position, separation, redshift.
    image, spectrum
        (object, band, height, width) and (object, 2, pixel) float16; None where the network has no such branch.
    image_valid, spectrum_valid
        (object,) True where there is a view with valid pixels.
    features
        For each basis (object, feature) values and valid flags of the ten features; empty where the network has none.
    line_flags
        For each reported line (object,) what was wrong with its measurement.
    """

    asked: int
    drops: Counter[str]
    identity: dict[str, NDArray[Any]]
    image: NDArray[np.float16] | None
    spectrum: NDArray[np.float16] | None
    image_valid: Flags
    spectrum_valid: Flags
    features: list[tuple[Floats, Flags]]
    line_flags: dict[str, NDArray[np.str_]]

    def __len__(self) -> int:
        """Return the number of galaxies."""
        return len(self.image_valid)


@dataclass(frozen=True, kw_only=True, eq=False)
class Decoder:
    """What makes network input of galaxies; it can be sent to another process.

    Attributes
    ----------
    config
        Settings of the run whose network is fed.
    bases
        Continuum bases that features are measured with, one for each way the members were trained.
    """

    config: RunConfig
    bases: Sequence[ContinuumBasis | None]

    def decoded(self, part: ObjectPart) -> Decoded:
        """Return the galaxies of a part; images are let go as they are read."""
        drops: Counter[str] = Counter()
        made, read = _Input.empty(len(part), self.config), part.galaxies(drops)
        galaxies: list[Galaxy] = []
        while group := list(islice(read, DECODED_AT_ONCE)):
            made.add(len(galaxies), group, self.config)
            galaxies += map(_without_pixels, group)
        found = len(galaxies)
        features, line_flags = self._measured(galaxies, made.imaging[:found])
        return Decoded(
            asked=len(part),
            drops=drops,
            identity=_identity(galaxies),
            image=None if made.image is None else made.image[:found],
            spectrum=None if made.spectrum is None else made.spectrum[:found],
            image_valid=made.image_valid[:found],
            spectrum_valid=made.spectrum_valid[:found],
            features=features,
            line_flags=line_flags,
        )

    def _measured(
        self, galaxies: Sequence[Galaxy], imaging: Floats
    ) -> tuple[list[tuple[Floats, Flags]], dict[str, NDArray[np.str_]]]:
        """Values and valid flags of the ten features for each basis, and the flags of the lines."""
        line_flags = {line: np.full(len(galaxies), NOT_MEASURED, dtype="U64") for line in REPORTED_LINES}
        if "features" not in self.config.models.branches:
            return [], line_flags
        rows = [row for row, galaxy in enumerate(galaxies) if galaxy.spectrum is not None]
        spectra = [galaxies[row].spectrum for row in rows]
        features = []
        for basis in self.bases:
            values = np.full((len(galaxies), len(FEATURE_NAMES)), np.nan)
            values[:, len(_SPECTRAL) :] = imaging
            if rows:
                lines = line_table([each for each in spectra if each is not None], self.config.spectroscopy, basis)
                derived = spectral_features(lines)
                for column, name in enumerate(_SPECTRAL):
                    values[rows, column] = derived[name] if name in derived.colnames else lines[name]
                for line, flags in line_flags.items():
                    flags[rows] = np.asarray(lines[f"flags_{line}"], dtype=np.str_)
            valid = np.isfinite(values)
            features.append((np.where(valid, values, np.nan), valid))
        return features, line_flags


@dataclass(frozen=True, kw_only=True, eq=False)
class _Input:
    """What is made of the pixels of the galaxies of a part, a row each; None where the network has no such branch."""

    image: NDArray[np.float16] | None
    spectrum: NDArray[np.float16] | None
    image_valid: Flags
    spectrum_valid: Flags
    imaging: Floats

    @classmethod
    def empty(cls, count: int, config: RunConfig) -> "_Input":
        """Return rows of nothing."""
        branches, size = config.models.branches, config.tensors.image_size
        pixels = spectrum_pixels(config.tensors)
        return cls(
            image=np.zeros((count, len(BANDS), size, size), np.float16) if "image" in branches else None,
            spectrum=np.zeros((count, 2, pixels), np.float16) if "spectrum" in branches else None,
            image_valid=np.zeros(count, dtype=bool),
            spectrum_valid=np.zeros(count, dtype=bool),
            imaging=np.full((count, len(IMAGING_FEATURES)), np.nan),
        )

    def add(self, first: int, galaxies: Sequence[Galaxy], config: RunConfig) -> None:
        """Write galaxies into the rows from ``first`` on."""
        cutouts = {row: galaxy.cutout for row, galaxy in enumerate(galaxies, first) if galaxy.cutout is not None}
        spectra = {row: galaxy.spectrum for row, galaxy in enumerate(galaxies, first) if galaxy.spectrum is not None}
        if cutouts:
            self._add_cutouts(list(cutouts), list(cutouts.values()), config)
        if spectra:
            self._add_spectra(list(spectra), list(spectra.values()), config)

    def _add_cutouts(self, rows: list[int], cutouts: list[Cutout], config: RunConfig) -> None:
        if self.image is None:
            self.image_valid[rows] = [bool((cutout.ivar > 0).any()) for cutout in cutouts]
        else:
            crop = central(cutouts[0].flux.shape, config.tensors)
            flux, ivar = (np.stack([getattr(each, name)[crop] for each in cutouts]) for name in ("flux", "ivar"))
            self.image[rows] = _halves(image_tensor(flux, ivar, config.tensors))
            self.image_valid[rows] = [np.count_nonzero(self.image[row].view(np.int16)) > 0 for row in rows]
        if "features" in config.models.branches:
            self.imaging[rows] = imaging_features(cutouts)

    def _add_spectra(self, rows: list[int], spectra: list[Spectrum], config: RunConfig) -> None:
        if self.spectrum is None:
            self.spectrum_valid[rows] = [bool(spectrum.valid.any()) for spectrum in spectra]
        else:
            self.spectrum[rows] = _halves(spectrum_tensors(spectra, config.tensors))
            self.spectrum_valid[rows] = self.spectrum[rows, 1].any(axis=1)


def _halves(values: NDArray[np.float32]) -> NDArray[np.float16]:
    """Return the values as float16; torch rounds as NumPy does, many at once."""
    return np.asarray(torch.from_numpy(values).half().numpy())


def _without_pixels(galaxy: Galaxy) -> Galaxy:
    """Galaxy whose image holds no pixels: who it is and where is still to be told."""
    cutout = galaxy.cutout
    if cutout is None:
        return galaxy
    none = np.zeros((0,), np.float32)
    light = type(cutout)(
        object_id=cutout.object_id,
        ra_deg=cutout.ra_deg,
        dec_deg=cutout.dec_deg,
        flux=none,
        ivar=none,
        psf_fwhm_arcsec=cutout.psf_fwhm_arcsec,
        magnitude=cutout.magnitude,
    )
    return Galaxy(cutout=light, spectrum=galaxy.spectrum, separation_arcsec=galaxy.separation_arcsec)


def _identity(galaxies: Sequence[Galaxy]) -> dict[str, NDArray[Any]]:
    views = [galaxy.spectrum or galaxy.cutout for galaxy in galaxies]
    return {
        "sdss_object_id": np.array(
            [each.spectrum.object_id if each.spectrum else "" for each in galaxies], dtype=np.str_
        ),
        "hsc_object_id": np.array([each.cutout.object_id if each.cutout else "" for each in galaxies], dtype=np.str_),
        "ra_deg": np.array([view.ra_deg if view else np.nan for view in views], dtype=np.float64),
        "dec_deg": np.array([view.dec_deg if view else np.nan for view in views], dtype=np.float64),
        "separation_arcsec": np.array([each.separation_arcsec for each in galaxies], dtype=np.float64),
        "redshift": np.array([e.spectrum.redshift if e.spectrum else np.nan for e in galaxies], dtype=np.float64),
    }


def decoded_parts(parts: Sequence[ObjectPart], decoder: Decoder, workers: int = 0) -> Iterator[Decoded]:
    """Yield the parts in order, decoded ahead of whoever takes them; a bounded number is under way.

    Parameters
    ----------
    parts
        What to read.
    decoder
        How it becomes network input.
    workers
        Processes that decode; 0 decodes in threads of this process, which start at once.

    Raises
    ------
    ValueError
        Where ``workers`` is negative.
    """
    if workers < 0:
        raise ValueError(f"--workers is {workers}; allowed: 0 or more")
    if workers:
        for done in run_tasks(parts, partial(_decoding, decoder), workers, ordered=True):
            yield done.result
        return
    threads = min(MOST_THREADS, available_cores())  # as many as cores: the network waits for them, or they for it
    pool = ThreadPoolExecutor(threads, thread_name_prefix="decode")
    under_way: deque[Future[Decoded]] = deque()
    try:
        for part in parts:
            under_way.append(pool.submit(decoder.decoded, part))
            if len(under_way) >= PARTS_WAITING + threads:
                yield under_way.popleft().result()
        while under_way:
            yield under_way.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


def _decoding(decoder: Decoder) -> Callable[[ObjectPart], Decoded]:
    """Return what decodes parts in a worker."""
    return decoder.decoded
