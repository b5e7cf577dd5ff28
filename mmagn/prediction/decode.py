"""Galaxies as network input, decoded ahead of the network in threads or in worker processes."""

import pickle
import shutil
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mmagn.config.run_config import RunConfig
from mmagn.features.imaging import imaging_features
from mmagn.features.names import FEATURE_NAMES, IMAGING_FEATURES
from mmagn.features.spectral import spectral_features
from mmagn.labels.bpt import UNCLASSIFIED
from mmagn.labels.scheme import bpt_labels
from mmagn.lines import REPORTED_LINES
from mmagn.matching.objects import Galaxy, ObjectPart
from mmagn.records import BANDS, Cutout, Floats, Spectrum
from mmagn.spectroscopy.basis import ContinuumBasis
from mmagn.spectroscopy.emission import line_table
from mmagn.tensors.image import central, image_tensor
from mmagn.tensors.spectrum import spectrum_pixels, spectrum_tensors
from mmagn.workers import available_cores, in_threads, run_tasks

DECODED_AT_ONCE = 16
"""Galaxies whose pixels are decoded together, so that threads compete less for the interpreter."""
MOST_THREADS = 8
WORKER_OBJECTS = 8192
"""Number of galaxies from which on worker processes, which take seconds to start, are faster than threads."""
NOT_MEASURED = "not measured"
SHARED_MEMORY = Path("/dev/shm")
_I = BANDS.index("i")
_SPECTRAL = FEATURE_NAMES[: -len(IMAGING_FEATURES)]

Flags = NDArray[np.bool_]


@dataclass(frozen=True, kw_only=True, eq=False)
class Decoded:
    """Some galaxies as network input, with their ids.

    Attributes
    ----------
    requested
        Galaxies requested; those that are missing here are in ``drops``.
    drops
        Unreadable views, by reason.
    columns
        (object,) by name: ids, position, separation, redshift, survey of the spectrum, magnitude of the image in i,
        flags of the reported lines, class and reason.
    image, spectrum
        (object, band, height, width) and (object, 2, pixel) float16; None where the network has no such branch.
    image_valid, spectrum_valid
        (object,) True where the view has valid pixels.
    features
        For each basis (object, feature) values and valid flags of the ten features; empty where the network has none.
    """

    requested: int
    drops: Counter[str]
    columns: dict[str, NDArray[Any]]
    image: Tensor | None
    spectrum: Tensor | None
    image_valid: Flags
    spectrum_valid: Flags
    features: list[tuple[Floats, Flags]]

    def __len__(self) -> int:
        """Return the number of galaxies."""
        return len(self.image_valid)


@dataclass(frozen=True, kw_only=True, eq=False)
class Decoder:
    """Makes network input from galaxies; it can be sent to another process.

    Attributes
    ----------
    config
        Settings of the run.
    bases
        Distinct continuum bases of its members, with which features are measured.
    """

    config: RunConfig
    bases: Sequence[ContinuumBasis | None]

    def decoded(self, part: ObjectPart) -> Decoded:
        """Return the galaxies of a part; pixels of images are released as they are decoded."""
        drops: Counter[str] = Counter()
        pixels, stream = _Pixels.empty(len(part), self.config), part.galaxies(drops)
        galaxies: list[Galaxy] = []
        while group := list(islice(stream, DECODED_AT_ONCE)):
            pixels.add(len(galaxies), group, self.config)
            galaxies += map(_without_pixels, group)
        count = len(galaxies)
        features, columns = self._measured(galaxies, pixels.imaging[:count])
        return Decoded(
            requested=len(part),
            drops=drops,
            columns=_identity(galaxies) | columns,
            image=None if pixels.image is None else torch.from_numpy(pixels.image[:count]),
            spectrum=None if pixels.spectrum is None else torch.from_numpy(pixels.spectrum[:count]),
            image_valid=pixels.image_valid[:count],
            spectrum_valid=pixels.spectrum_valid[:count],
            features=features,
        )

    def _measured(
        self, galaxies: Sequence[Galaxy], imaging: Floats
    ) -> tuple[list[tuple[Floats, Flags]], dict[str, NDArray[np.str_]]]:
        """Values and valid flags of the ten features for each basis; flags of the lines, class and reason."""
        columns = {f"flags_{line}": np.full(len(galaxies), NOT_MEASURED, dtype="U64") for line in REPORTED_LINES}
        columns["bpt_class"] = np.full(len(galaxies), UNCLASSIFIED, dtype="U32")
        columns["reason"] = np.full(len(galaxies), NOT_MEASURED, dtype="U64")
        rows = [row for row, galaxy in enumerate(galaxies) if galaxy.spectrum is not None]
        spectra = [spectrum for galaxy in galaxies if (spectrum := galaxy.spectrum) is not None]
        for row, spectrum in zip(rows, spectra, strict=True):
            columns["reason"][row] = {"QSO": "quasar", "STAR": "star"}.get(spectrum.spectral_class, NOT_MEASURED)
        if "features" not in self.config.models.branches:
            return [], columns
        features = []
        for number, basis in enumerate(self.bases):
            values = np.full((len(galaxies), len(FEATURE_NAMES)), np.nan)
            values[:, len(_SPECTRAL) :] = imaging
            if spectra:
                lines = line_table(spectra, self.config.spectroscopy, basis)
                derived = spectral_features(lines)
                for column, name in enumerate(_SPECTRAL):
                    values[rows, column] = derived[name] if name in derived.colnames else lines[name]
                if number == 0:
                    labels = bpt_labels(lines, replace(self.config.labels, draws=1))  # no class probabilities needed
                    for name, texts in columns.items():
                        source = lines if name in lines.colnames else labels
                        texts[rows] = np.asarray(source[name], dtype=np.str_)
            valid = np.isfinite(values)
            features.append((np.where(valid, values, np.nan), valid))
        return features, columns


@dataclass(frozen=True, kw_only=True, eq=False)
class _Pixels:
    """Input made of the pixels of the galaxies of a part, a row each; None where the network has no such branch."""

    image: NDArray[np.float16] | None
    spectrum: NDArray[np.float16] | None
    image_valid: Flags
    spectrum_valid: Flags
    imaging: Floats

    @classmethod
    def empty(cls, count: int, config: RunConfig) -> "_Pixels":
        """Return rows without valid pixels."""
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
    """Values as float16; torch rounds as NumPy does, many at once."""
    return np.asarray(torch.from_numpy(values).half().numpy())


def _without_pixels(galaxy: Galaxy) -> Galaxy:
    """Galaxy whose image keeps id and position alone."""
    if galaxy.cutout is None:
        return galaxy
    none = np.zeros((0,), np.float32)
    return replace(galaxy, cutout=replace(galaxy.cutout, flux=none, ivar=none))


def _identity(galaxies: Sequence[Galaxy]) -> dict[str, NDArray[Any]]:
    spectra, cutouts = [each.spectrum for each in galaxies], [each.cutout for each in galaxies]
    views = [spectrum or cutout for spectrum, cutout in zip(spectra, cutouts, strict=True)]
    return {
        "sdss_object_id": np.array([view.object_id if view else "" for view in spectra], dtype=np.str_),
        "hsc_object_id": np.array([view.object_id if view else "" for view in cutouts], dtype=np.str_),
        "ra_deg": np.array([view.ra_deg if view else np.nan for view in views], dtype=np.float64),
        "dec_deg": np.array([view.dec_deg if view else np.nan for view in views], dtype=np.float64),
        "separation_arcsec": np.array([each.separation_arcsec for each in galaxies], dtype=np.float64),
        "redshift": np.array([view.redshift if view else np.nan for view in spectra], dtype=np.float64),
        "survey": np.array([view.survey if view else "" for view in spectra], dtype=np.str_),
        "i_magnitude": np.array([view.magnitude[_I] if view else np.nan for view in cutouts], dtype=np.float64),
    }


def decoded_parts(parts: Sequence[ObjectPart], decoder: Decoder, workers: int = 0) -> Iterator[Decoded]:
    """Yield the parts in order, decoded ahead of the caller; the number of parts in memory is bounded.

    Parameters
    ----------
    parts, decoder
        Galaxies, and what makes network input from them.
    workers
        Worker processes; 0 decodes in threads of this process, which start at once.

    Raises
    ------
    ValueError
        Where ``workers`` is negative.
    DeadWorkerError
        Where workers died twice at the same part.
    """
    if workers < 0:
        raise ValueError(f"--workers is {workers}; allowed: 0 or more")
    if workers:
        tasks = [_Task(part=part, number=number, count=len(parts)) for number, part in enumerate(parts, start=1)]
        shared = _fits_shared_memory(max(map(len, parts), default=0), decoder.config, workers)
        for done in run_tasks(tasks, partial(_worker, decoder, shared), workers, ordered=True):
            yield done.result if isinstance(done.result, Decoded) else pickle.loads(done.result)
        return
    threads = min(MOST_THREADS, available_cores())  # as many as cores: the network waits for them, or they for it
    yield from in_threads(decoder.decoded, parts, threads)


def default_workers(galaxies: int, device: str) -> int:
    """Return the number of worker processes: none for few galaxies, else all cores but one beside a GPU, or half."""
    cores = available_cores()
    if galaxies < WORKER_OBJECTS or cores == 1:
        return 0
    return cores // 2 if device == "cpu" else cores - 1


@dataclass(frozen=True, kw_only=True, eq=False)
class _Task:
    """A part for a worker, and its name in messages."""

    part: ObjectPart
    number: int
    count: int

    def __str__(self) -> str:
        return f"part {self.number} of {self.count}, {len(self.part)} galaxies"


def _worker(decoder: Decoder, shared: bool) -> Callable[[_Task], Decoded | bytes]:
    """Return the function that decodes parts in a worker.

    Tensors are sent in shared memory where there is enough of it, else as bytes. Lines are fitted on the CPU, since
    the GPU is left to the network.
    """
    config = decoder.config
    decoder = replace(decoder, config=replace(config, spectroscopy=replace(config.spectroscopy, device="cpu")))

    def work(task: _Task) -> Decoded | bytes:
        decoded = decoder.decoded(task.part)
        return decoded if shared else pickle.dumps(decoded, pickle.HIGHEST_PROTOCOL)

    return work


def _fits_shared_memory(part: int, config: RunConfig, workers: int) -> bool:
    """Whether all parts that can be in memory at the same time fit into half of the free shared memory."""
    if not SHARED_MEMORY.is_dir():
        return False
    numbers = len(BANDS) * config.tensors.image_size**2 + 2 * spectrum_pixels(config.tensors)
    needed = (2 * workers + 1) * part * numbers * np.dtype(np.float16).itemsize
    return needed < shutil.disk_usage(SHARED_MEMORY).free / 2
