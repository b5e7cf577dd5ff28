"""A catalogue of the predictions of trained networks for galaxies of any source, written as they are computed."""

import json
import logging
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from astropy.table import Table
from tqdm import tqdm

from mmagn.config.run_config import RunConfig
from mmagn.evaluation.network import NetworkOutput
from mmagn.evaluation.subsets import seen_modalities
from mmagn.evaluation.variants import DEFAULT_VARIANT
from mmagn.matching.objects import OBJECTS, Galaxy, GivenPart, ObjectPart, Objects, object_parts
from mmagn.prediction.decode import Decoded, Decoder, decoded_parts, default_workers
from mmagn.prediction.networks import Ensemble
from mmagn.runs.hub import run_name
from mmagn.runs.members import TrainedMember, load_members
from mmagn.runs.outside_labels import LABEL_COLUMN, REASON_COLUMN, prediction_catalog, warn_without_rows
from mmagn.runs.sample import counts_text, engine
from mmagn.storage.tables import checked_suffix, table_file
from mmagn.storage.version import __version__
from mmagn.tensors.missing import SUBSETS
from mmagn.training.device import device_name
from mmagn.workers import available_cores, keep_freed_memory

NO_INPUT = "nothing"

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class PredictionOptions:
    """What is predicted, and how.

    Attributes
    ----------
    objects
        ``pairs``, ``images`` or ``spectra`` without a partner, or ``all``.
    variant
        Model of an ablation.
    prevalence
        Fraction of AGN among the galaxies; None takes that of the validation split.
    workers
        Processes that read and decode ahead of the network; 0 uses threads, None chooses by galaxies and cores.
    progress
        Show a progress bar on standard error.
    galaxies
        Galaxies in memory, predicted in place of those of the source.
    """

    objects: Objects = "pairs"
    variant: str = DEFAULT_VARIANT
    prevalence: float | None = None
    workers: int | None = None
    progress: bool = True
    galaxies: tuple[Galaxy, ...] = ()


@dataclass(kw_only=True)
class PredictionSummary:
    """Counts of a catalogue of predictions, and losses, as it is written.

    Attributes
    ----------
    members, rows
        Networks, and galaxies in the catalogue.
    modalities
        Galaxies by the modalities of their prediction.
    labels, label_reasons
        Galaxies by the label of a catalogue and by the reason of it, "" where a row says so; empty without one.
    agn, unlike_training, not_applicable
        Galaxies called AGN, those unlike the training set, and those that the classifier does not apply to.
    lost
        Requested galaxies that could not be read.
    drops
        Unreadable views, by reason; one galaxy may lack both.
    """

    members: int
    rows: int = 0
    modalities: Counter[str] = field(default_factory=Counter)
    labels: Counter[str] = field(default_factory=Counter)
    label_reasons: Counter[str] = field(default_factory=Counter)
    agn: int = 0
    unlike_training: int = 0
    not_applicable: int = 0
    lost: int = 0
    drops: Counter[str] = field(default_factory=Counter)
    _first: int = 0
    _first_s: float = 0.0
    _last_s: float = 0.0

    def add(self, decoded: Decoded, table: Table) -> None:
        """Count some galaxies."""
        self._last_s = time.perf_counter()
        if not self.rows:
            self._first_s, self._first = self._last_s, len(table)
        self.rows += len(table)
        self.lost += decoded.requested - len(table)
        self.drops.update(decoded.drops)
        if len(table):
            self.modalities.update(name or NO_INPUT for name in np.asarray(table["modalities"]).tolist())
            if LABEL_COLUMN in table.colnames:
                self.labels.update(np.asarray(table[LABEL_COLUMN]).tolist())
                self.label_reasons.update(np.asarray(table[REASON_COLUMN]).tolist())
            self.agn += int(np.sum(table["agn"].filled(False)))
            self.not_applicable += int(np.sum(table["agn"].mask))
            self.unlike_training += int(np.sum(table["unlike_training"]))

    @property
    def rate_per_s(self) -> float:
        """Galaxies per second from the end of the first part to that of the last, without start and end of workers."""
        return (self.rows - self._first) / (self._last_s - self._first_s) if self.rows > self._first else 0.0

    def text(self) -> str:
        """Return the summary as text."""
        lines = [
            f"{self.rows} galaxies, {self.members} member{'s' if self.members > 1 else ''}: "
            f"{counts_text(self.modalities)}; {self.agn} AGN, {self.unlike_training} unlike the training set"
            + (f", {self.not_applicable} not classified (quasars, stars, broad lines)" if self.not_applicable else "")
            + (f"; {self.rate_per_s:.0f} galaxies/s" if self.rate_per_s else "")
        ]
        lines += [f"labels of the catalogue: {counts_text(self.labels)}"] if self.labels else []
        lines += [f"label: {count} x {reason}" for reason, count in self.label_reasons.most_common() if reason]
        lines += [f"could not be read: {self.lost}"] if self.lost else []
        return "\n".join([*lines, *(f"dropped: {count} x {reason}" for reason, count in self.drops.items())])


def predict(
    config: RunConfig, runs: Sequence[Path], out: Path | None, options: PredictionOptions | None = None
) -> PredictionSummary:
    """Write the catalogue of predictions for the galaxies of ``config.data``, and return its counts.

    Memory is bounded for any number of galaxies, apart from the positions of the source; a FITS file or a VOTable is
    in memory once at the end. From here on the process keeps memory that it frees (``keep_freed_memory``).

    Parameters
    ----------
    config
        Settings of the first run, with the source of the galaxies.
    runs
        Run folders of trainings, or of ablations that kept members; predictions are averaged over all networks.
    out
        ``.parquet``, ``.fits``, ``.csv``, ``.ecsv`` or ``.votable``, written atomically; None writes each galaxy to
        standard output.
    options
        What is predicted, and how.

    Raises
    ------
    FileNotFoundError, ValueError
        Where a run is not complete, weights or settings do not fit, or there is no such galaxy.
    DeadWorkerError
        Where worker processes died twice at the same galaxies.
    """
    options = options or PredictionOptions()
    if out is not None:
        checked_suffix(out)
    keep_freed_memory()
    members = load_members(runs, options.variant, config)
    summary = PredictionSummary(members=len(members))
    parts: Sequence[ObjectPart] = [GivenPart(members=options.galaxies)]
    if not options.galaxies:
        with engine(config):
            objects = _predictable(options.objects, members[0])
            parts = object_parts(config.data, config.matching, objects, summary.drops)
    ensemble = Ensemble(
        members=members,
        device=device_name(config.training),
        prevalence=options.prevalence,
        embeddings=config.data.embeddings,
        labels=prediction_catalog(config, members[0].config),
        meta=catalog_meta(members, runs, options.objects, options.prevalence),
    )
    decoder = Decoder(config=replace(members[0].config, spectroscopy=config.spectroscopy), bases=ensemble.bases)
    galaxies = sum(map(len, parts))
    workers = default_workers(galaxies, ensemble.device) if options.workers is None else options.workers
    with (
        _threads_beside(workers),
        table_file(out) if out is not None else nullcontext(_show) as append,
        tqdm(total=galaxies, unit=" galaxies", disable=not options.progress) as bar,
    ):

        def write(decoded: Decoded, outputs: list[NetworkOutput]) -> None:
            table = ensemble.table(decoded, outputs)
            if len(table):
                append(table)
            summary.add(decoded, table)
            bar.update(decoded.requested)

        under_way: tuple[Decoded, list[NetworkOutput]] | None = None
        for number, decoded in enumerate(decoded_parts(parts, decoder, workers)):
            outputs = ensemble.outputs(decoded, place=number % 2)
            if under_way is not None:  # written while a GPU works on the next part
                write(*under_way)
            under_way = decoded, outputs
        if under_way is not None:
            write(*under_way)
    if not summary.rows:
        raise ValueError(f"not one of {summary.lost} galaxies could be read: {counts_text(summary.drops)}")
    if ensemble.labels is not None:
        warn_without_rows(ensemble.labels, summary.label_reasons)
    if out is not None:
        sys.stdout.write(f"{out}: {summary.text()}\n")
    return summary


def _show(table: Table) -> None:
    """Write what is predicted for each galaxy to standard output."""
    for row in table:
        unlike = "; unlike the training set" if row["unlike_training"] else ""
        what = "not classified" if np.ma.is_masked(row["agn"]) else "AGN" if row["agn"] else "no AGN"
        score = f"P(AGN) = {row['calibrated_probability']:.3f} from {row['modalities'] or NO_INPUT}, {what}"
        lines = f"BPT class {row['bpt_class']}{f' ({reason})' if (reason := row['reason']) else ''}"
        label = f"; {row[LABEL_COLUMN]} in the catalogue of labels" if LABEL_COLUMN in table.colnames else ""
        sys.stdout.write(f"{row['sdss_object_id'] or row['hsc_object_id']}: {score}; {lines}{label}{unlike}\n")


@contextmanager
def _threads_beside(workers: int) -> Iterator[None]:
    """Leave a core to each worker process while the context lasts."""
    threads = torch.get_num_threads()
    torch.set_num_threads(min(threads, max(1, available_cores() - workers)) if workers else threads)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _predictable(objects: Objects, member: TrainedMember) -> Objects:
    """Return the requested objects; ``ValueError`` where the network takes no input of theirs."""
    if objects not in OBJECTS:
        raise ValueError(f"--objects is {objects}; allowed: {', '.join(OBJECTS)}")
    seen = seen_modalities(member.config.models.branches, member.config.tensors.features)
    if len(seen) == len(SUBSETS["image+spectrum"]) or objects not in ("images", "spectra"):
        return objects
    if objects != {"image": "images", "spectrum": "spectra"}[seen[0]]:
        raise ValueError(f"--objects {objects}: the network of {member.path} takes the {seen[0]} alone")
    return objects


def catalog_meta(
    members: Sequence[TrainedMember], runs: Sequence[Path], objects: str, prevalence: float | None = None
) -> dict[str, Any]:
    """Return the provenance of a catalogue; keys of at most eight letters, as FITS requires."""
    quantiles = {novelty.quantile for member in members for novelty in member.novelty.values()}
    thresholds = {
        subset: round(float(np.mean([member.calibrations[subset].threshold for member in members])), 6)
        for subset in members[0].known
        if all(subset in member.calibrations for member in members)
    }
    return {
        "MMAGN": __version__,
        "RUNS": json.dumps([run_name(run) for run in runs]),
        "MEMBERS": len(members),
        "OBJECTS": objects,
        "PREVAL": "as in validation" if prevalence is None else prevalence,
        "THRESH": json.dumps(thresholds),
        "QUANTILE": json.dumps(sorted(quantiles)),
    }
