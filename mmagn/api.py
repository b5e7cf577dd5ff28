"""The Python interface: pairs, runs and trained models as a notebook uses them; paths may be text or Path."""

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from astropy.table import Table, vstack
from numpy.typing import NDArray

from mmagn import pipeline
from mmagn.config.run_config import RunConfig, load_config
from mmagn.evaluation.scorecard import Scores
from mmagn.evaluation.variants import DEFAULT_VARIANT
from mmagn.labels.catalog import LabelCatalog
from mmagn.matching.objects import PART_OBJECTS, Galaxy, GivenPart, object_parts
from mmagn.matching.pairs import iter_pairs
from mmagn.matching.rows import pair_from_row
from mmagn.matching.store import PairStore, pair_store
from mmagn.prediction.decode import Decoded, Decoder
from mmagn.prediction.explain import explanation
from mmagn.prediction.networks import Ensemble
from mmagn.records import Cutout, Pair, Spectrum
from mmagn.reporting.figures.explanation import Explanation
from mmagn.runs.hub import local_run, push_run
from mmagn.runs.members import load_members
from mmagn.runs.outside_labels import REASON_COLUMN, catalog_settings, prediction_catalog, warn_without_rows
from mmagn.runs.sample import engine
from mmagn.storage.run_folder import RunFolder
from mmagn.training.device import device_name

if TYPE_CHECKING:
    from datasets import IterableDataset
    from torch.utils.data import DataLoader

Galaxies = RunConfig | PairStore | Iterable[Any]
"""What a model predicts for: pairs of a config or store, or any of Pair, Galaxy, Cutout, Spectrum, rows of a store."""


class Pairs:
    """Matched pairs of a config, read as they are iterated; each is a Pair, its image (5, 160, 160).

    Parameters
    ----------
    config
        Settings; only ``data`` and ``matching`` matter. Where ``data.source`` is store, pairs have a length and can be
        taken by number.
    """

    def __init__(self, config: RunConfig) -> None:
        self.config = config
        self._store = pair_store(config.data, config.matching) if config.data.source == "store" else None

    def __iter__(self) -> Iterator[Pair]:
        """Yield the pairs."""
        if self._store is None:
            with engine(self.config):
                return iter_pairs(self.config.data, self.config.matching)
        return (self._store.pair(number) for number in range(len(self._store)))

    def __len__(self) -> int:
        """Return the number of pairs; ``TypeError`` where it is not known before all are read."""
        return len(self._known())

    def __getitem__(self, number: int) -> Pair:
        """Return a pair by number, from the end where negative."""
        return self._known().pair(range(len(self))[number])

    @property
    def dataset(self) -> "IterableDataset":
        """The same pairs as flat rows in a ``datasets.IterableDataset``, sharded by cell, for a DataLoader."""
        return pipeline.open_pairs(self.config)

    def torch(
        self,
        batch_size: int = 64,
        *,
        workers: int = 0,
        start: int = 0,
        seed: int | None = None,
        of: tuple[int, int] = (0, 1),
    ) -> "DataLoader[dict[str, Any]]":
        """Return a torch loader of network input: images, spectra, redshifts and ids of ``batch_size`` pairs at a time.

        A batch is a mapping of ``image`` (pair, band, height, width) and ``spectrum`` (pair, 2, pixel), float32 as
        ``config.tensors`` shapes them, ``redshift`` (pair,) float64, and the lists ``sdss_object_id`` and
        ``hsc_object_id``. Its pairs are fixed before any is read, so a loader that begins at batch ``start`` goes on
        exactly where one of the same settings stopped. A pair that cannot be used is missing from its batch.

        Parameters
        ----------
        batch_size, workers
            Most pairs of a batch; processes that read and decode.
        start
            Batches to leave out at the beginning, without reading them.
        seed
            Of the order of the batches, such as a seed plus the epoch; None keeps that of the files.
        of
            Rank and number of ranks, which differ by at most one batch and have nearly as many pairs.
        """
        from mmagn.tensors.loader import log_losses, pair_loader  # only here: others of this class do without

        drops: Counter[str] = Counter()
        with engine(self.config):
            parts = object_parts(self.config.data, self.config.matching, "pairs", drops, batch_size)
        log_losses("not among the batches", drops)
        return pair_loader(parts, self.config.tensors, workers=workers, start=start, seed=seed, of=of)

    def _known(self) -> PairStore:
        if self._store is None:
            raise TypeError(f"pairs of data.source {self.config.data.source} have no length and no numbers; stores do")
        return self._store


@dataclass(frozen=True)
class Run:
    """The folder of a training run and what is in it.

    Attributes
    ----------
    folder
        The run folder.
    """

    folder: Path

    @cached_property
    def config(self) -> RunConfig:
        """Settings of the run."""
        return load_config(RunFolder(self.folder).config)

    @cached_property
    def scores(self) -> Mapping[str, Any]:
        """Scores of the test split by name: value and interval, as ``scores`` in ``scores.json``."""
        return dict(json.loads(RunFolder(self.folder).scores.read_text(encoding="utf-8"))["scores"])

    @property
    def predictions(self) -> Table:
        """One row per object with truth and probability."""
        return Table.read(RunFolder(self.folder).predictions, format="parquet")

    @property
    def report(self) -> Path:
        """The page ``report.html``, written where it is missing."""
        page = RunFolder(self.folder).report
        return page if page.is_file() else pipeline.report(self.folder)


class Model:
    """Trained networks that predict for galaxies in memory: one of a training run, or the members of an ablation.

    Parameters
    ----------
    run
        Run, folder of a run, or ORG/NAME[@REVISION] of a model repository of a Hugging Face hub.
    variant, embeddings
        Model of an ablation; file of vectors, for a network that takes them, if it is not that of the training.
    labels
        Settings of ``labels.catalog`` by name, for labels of another catalogue than that of the training. With a table,
        such as ``{"table": FILE, "preset": "stern2012"}``, the settings that are not named have their defaults, without
        one the values of the training.

    Raises
    ------
    FileNotFoundError, ValueError
        Where the folder is no complete run, weights do not fit its settings, or the hub has no such repository.
    """

    def __init__(
        self,
        run: Run | Path | str,
        variant: str = DEFAULT_VARIANT,
        *,
        embeddings: Path | str = "",
        labels: Mapping[str, Any] | None = None,
    ) -> None:
        self.folder = run.folder if isinstance(run, Run) else local_run(run)
        members = load_members([self.folder], variant)
        catalog = catalog_settings(labels or {})
        self._settings = load_config(RunFolder(self.folder).config, **catalog)
        self.config = members[0].config
        self._ensemble = Ensemble(members=members, device=device_name(self.config.training), embeddings=str(embeddings))
        self._decoder = Decoder(config=self.config, bases=self._ensemble.bases)

    def predict(self, galaxies: Galaxies, *, prevalence: float | None = None) -> Table:
        """Return the catalogue of predictions, a row per galaxy in their order, with the columns of ``mmagn predict``.

        Parameters
        ----------
        galaxies
            Pairs of a config or store, or one or more of Pair, Galaxy, Cutout, Spectrum, rows of a store.
        prevalence
            Fraction of AGN among the galaxies; None takes that of the validation split.

        Raises
        ------
        ValueError
            Where there is no galaxy, or something else than a galaxy.
        """
        ensemble = replace(self._ensemble, prevalence=prevalence, labels=self._labels)
        table = vstack([ensemble.table(part) for part in self._decoded(galaxies)], metadata_conflicts="silent")
        if self._labels is not None:
            warn_without_rows(self._labels, Counter(table[REASON_COLUMN].tolist()))
        return table

    @cached_property
    def _labels(self) -> LabelCatalog | None:
        return prediction_catalog(self._settings, self.config)

    def embed(self, galaxies: Galaxies) -> NDArray[np.float32]:
        """Return the head input of each galaxy, (galaxy, embedding), or (member, galaxy, embedding) of an ablation."""
        parts = [[output.arrays()[1] for output in self._ensemble.outputs(part)] for part in self._decoded(galaxies)]
        embeddings = np.stack([np.concatenate(of_member) for of_member in zip(*parts, strict=True)])
        return embeddings[0] if len(embeddings) == 1 else embeddings

    def explain(self, galaxy: Any) -> Explanation:
        """Return what speaks for and against an AGN in one galaxy; its ``plot()`` draws it."""
        (each,) = _galaxies(galaxy)
        ensemble = replace(self._ensemble, device="cpu")
        for member in ensemble.members:
            member.model.cpu()
        decoded = self._decoder.decoded(GivenPart(members=(each,)))
        return explanation(ensemble, decoded, ensemble.table(decoded)[0], each.cutout)

    def _decoded(self, galaxies: Galaxies) -> Iterator[Decoded]:
        stream = _galaxies(galaxies)
        part = tuple(islice(stream, PART_OBJECTS))
        if not part:
            raise ValueError("there is no galaxy to predict for")
        while part:
            yield self._decoder.decoded(GivenPart(members=part))
            part = tuple(islice(stream, PART_OBJECTS))


def _galaxies(galaxies: Any) -> Iterator[Galaxy]:
    match galaxies:
        case RunConfig():
            galaxies = Pairs(galaxies)
        case PairStore():
            galaxies = map(galaxies.pair, range(len(galaxies)))
        case Pair() | Galaxy() | Cutout() | Spectrum() | Mapping():
            galaxies = (galaxies,)
    return map(_galaxy, galaxies)


def _galaxy(galaxy: Any) -> Galaxy:
    match galaxy:
        case Galaxy():
            return galaxy
        case Pair():
            return Galaxy(cutout=galaxy.cutout, spectrum=galaxy.spectrum, separation_arcsec=galaxy.separation_arcsec)
        case Cutout():
            return Galaxy(cutout=galaxy, spectrum=None)
        case Spectrum():
            return Galaxy(cutout=None, spectrum=galaxy)
        case Mapping():
            return _galaxy(pair_from_row(galaxy))
    raise ValueError(f"a {type(galaxy).__name__} is no galaxy; allowed: Pair, Galaxy, Cutout, Spectrum, store's row")


def open_pairs(config: RunConfig) -> Pairs:
    """Return the matched pairs of a config, read from the surveys as they are iterated."""
    return Pairs(config)


def train(config: RunConfig, *, resume: Run | Path | str = "") -> Run:
    """Train and score a model, and return its run.

    Parameters
    ----------
    config
        Settings of the run.
    resume
        Stopped run to continue; ``auto`` takes the latest one that can be resumed; "" starts a new run.
    """
    result = pipeline.train(config, resume=str(resume.folder if isinstance(resume, Run) else resume))
    return Run(result.last_path.parent)


def load(
    run: Run | Path | str,
    variant: str = DEFAULT_VARIANT,
    *,
    embeddings: Path | str = "",
    labels: Mapping[str, Any] | None = None,
) -> Model:
    """Return the model of a run: that of a training, or one of those that an ablation kept.

    ``ORG/NAME``, ``ORG/NAME@REVISION`` or ``hf://ORG/NAME`` names a model repository that :func:`push` wrote.
    """
    return Model(run, variant, embeddings=embeddings, labels=labels)


def push(run: Run | Path | str, repository: str, *, private: bool | None = None) -> str:
    """Upload a training run as the model repository ORG/NAME of a Hugging Face hub; return the commit's address."""
    return push_run(run.folder if isinstance(run, Run) else Path(run).expanduser(), repository, private=private)


def match(config: RunConfig, out: Path | str, *, push: str | None = None) -> PairStore:
    """Return the store of matched pairs in the folder ``out``, created where it is missing.

    With ``push`` it is uploaded as that dataset repository (ORG/NAME) of a Hugging Face hub.
    """
    return pipeline.match(config, Path(out).expanduser(), push=push)


def measure(config: RunConfig, out: Path | str, *, of_pairs: bool = False, workers: int = 1) -> Table:
    """Return the table of measurements that is written to ``out``: a row per spectrum of the source, or per pair."""
    path = Path(out).expanduser()
    pipeline.measure(config, path, of_pairs=of_pairs, workers=workers)
    return Table.read(path)


def evaluate(run: Run | Path | str, split: str = "test") -> Scores:
    """Return the scores of a run on one of its splits, and write them to its folder."""
    return pipeline.evaluate(run.folder if isinstance(run, Run) else Path(run).expanduser(), split)
