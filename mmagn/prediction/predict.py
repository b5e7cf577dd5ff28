"""What trained networks say of galaxies of any source: a catalogue of probabilities, written as they stream by."""

import json
import logging
import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from astropy.table import Table
from numpy.typing import NDArray
from tqdm import tqdm

from mmagn.config.run_config import RunConfig, load_config
from mmagn.evaluation.catalog import catalog_table
from mmagn.evaluation.ensemble import MemberSays, averaged
from mmagn.evaluation.judging import JUDGED_AT_ONCE, embedded
from mmagn.evaluation.subsets import seen_modalities, subset_names
from mmagn.matching.objects import OBJECTS, Objects, object_parts
from mmagn.prediction.decode import Decoded, Decoder, decoded_parts
from mmagn.runs.members import CONFIG_FILE, DEFAULT_VARIANT, TrainedMember, input_difference, load_members
from mmagn.runs.sample import counts_text, engine
from mmagn.spectroscopy.basis import ContinuumBasis
from mmagn.storage.tables import checked_suffix, table_file
from mmagn.storage.version import __version__
from mmagn.tensors.missing import SUBSETS
from mmagn.training.fit import device_name
from mmagn.workers import keep_freed_memory

Bases = list[ContinuumBasis | None]
NOTHING_SEEN = "nothing"

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class PredictionSummary:
    """What a catalogue of predictions holds and what was lost on the way to it.

    Attributes
    ----------
    rows, members
        Galaxies written, and networks that were asked.
    modalities
        Galaxies by what their prediction is made from.
    agn, unlike_training
        Galaxies called AGN, and those that the training set says little about.
    lost
        Galaxies that were asked for and could not be read.
    drops
        What was left out, by reason; one galaxy may lack both views.
    rate_per_s
        Galaxies per second from the end of the first part to that of the last: the start and the end of libraries and
        workers are left out.
    """

    rows: int
    members: int
    modalities: Mapping[str, int]
    agn: int
    unlike_training: int
    lost: int
    drops: Mapping[str, int]
    rate_per_s: float

    def text(self) -> str:
        """Return the summary for people."""
        lines = [
            f"{self.rows} galaxies, {self.members} member{'s' if self.members > 1 else ''}: "
            f"{counts_text(self.modalities)}; {self.agn} called AGN, {self.unlike_training} unlike the training set"
            + (f"; {self.rate_per_s:.0f} galaxies/s" if self.rate_per_s else "")
        ]
        lines += [f"could not be read: {self.lost}"] if self.lost else []
        return "\n".join([*lines, *(f"dropped: {count} x {reason}" for reason, count in self.drops.items())])


def predict(
    config: RunConfig,
    runs: Sequence[Path],
    out: Path,
    *,
    objects: Objects = "pairs",
    variant: str = DEFAULT_VARIANT,
    prevalence: float | None = None,
    workers: int = 0,
    progress: bool = True,
) -> PredictionSummary:
    """Write the catalogue of what trained networks say of the galaxies of ``config.data``, and return its counts.

    Memory is bounded for any number of galaxies, apart from the positions of the source; a FITS file or a VOTable is
    in memory once at the end. From here on the process keeps memory that it frees (``keep_freed_memory``).

    Parameters
    ----------
    config
        Settings of the first run, with the source of the galaxies changed at will.
    runs
        Run folders of trainings, or of ablations that kept members; all networks are averaged.
    out
        ``.parquet``, ``.fits``, ``.csv``, ``.ecsv`` or ``.votable``; appears whole or not at all.
    objects
        ``pairs``, ``images`` or ``spectra`` without a partner, or ``all``.
    variant
        Which model of an ablation.
    prevalence
        Fraction of AGN among the galaxies asked about; None takes that of the validation split.
    workers
        Processes that read and decode ahead of the network; 0 uses threads.
    progress
        Show a progress bar on standard error.

    Raises
    ------
    FileNotFoundError, ValueError
        Where a run is not complete, weights or settings do not fit, or there is no such galaxy.
    """
    checked_suffix(out)
    keep_freed_memory()
    members = load_members(runs, variant)
    if difference := input_difference(load_config(runs[0] / CONFIG_FILE), config):
        raise ValueError(f"{runs[0]} was trained with other input (first) than is asked for: {difference}")
    drops: Counter[str] = Counter()
    with engine(config):
        parts = object_parts(config.data, config.matching, _predictable(objects, members[0]), drops)
    device = device_name(config.training)
    bases = _distinct_bases(members)
    decoder = Decoder(config=replace(members[0].config, spectroscopy=config.spectroscopy), bases=bases)
    tally = _Tally(drops=drops)
    meta = _meta(members, runs, objects, prevalence)
    with (
        table_file(out) as append,
        tqdm(total=sum(map(len, parts)), unit=" galaxies", disable=not progress) as bar,
    ):
        for decoded in decoded_parts(parts, decoder, workers):
            table = predicted_table(decoded, members, bases, device, prevalence=prevalence, meta=meta)
            if len(table):
                append(table)
            tally.add(decoded, table)
            bar.update(decoded.asked)
    if not tally.rows:
        raise ValueError(f"not one of {tally.lost} galaxies could be read: {counts_text(drops)}")
    summary = tally.summary(len(members))
    sys.stdout.write(f"{out}: {summary.text()}\n")
    return summary


def predicted_table(
    decoded: Decoded,
    members: Sequence[TrainedMember],
    bases: Bases,
    device: str,
    *,
    prevalence: float | None = None,
    meta: Mapping[str, Any] | None = None,
) -> Table:
    """Return the rows of the catalogue for some galaxies, in their order.

    Parameters
    ----------
    decoded
        The galaxies as network input.
    members
        Networks that are asked.
    bases
        Continuum bases in the order of ``decoded.features``.
    device
        Where the networks run.
    prevalence
        Fraction of AGN among the galaxies; None takes that of the validation split.
    meta
        What the table says of itself.
    """
    subset = subset_names(decoded.image_valid, decoded.spectrum_valid, members[0].known)
    said = [_member_says(decoded, member, bases, subset, device, prevalence) for member in members]
    columns = decoded.identity | {"modalities": subset} | averaged(said)
    columns |= {f"flags_{line}": flags for line, flags in decoded.line_flags.items()}
    return catalog_table(columns, meta or {})


def _member_says(
    decoded: Decoded,
    member: TrainedMember,
    bases: Bases,
    subset: NDArray[np.str_],
    device: str,
    prevalence: float | None,
) -> MemberSays:
    """What one network says of each galaxy; NaN where it can be shown nothing."""
    says = MemberSays.empty(len(decoded))
    if not len(decoded):
        return says
    logits, embedding = embedded(member.model, network_batches(decoded, member, bases), device)
    for name in member.known:
        rows = np.flatnonzero(subset == name)
        if not len(rows):
            continue
        if name not in member.calibrations:
            raise ValueError(f"{member.path} has no calibration for {name}; evaluate.py --run makes it")
        says.tell(rows, logits[rows], member.calibrations[name], prevalence)
        if name in member.novelty:
            says.distance[rows] = member.novelty[name].distance(embedding[rows])
    return says


def network_batches(decoded: Decoded, member: TrainedMember, bases: Bases) -> Iterator[dict[str, torch.Tensor]]:
    """Yield the batches that a network takes: what it has branches for, with valid flags of image and spectrum."""
    whole = {
        "image_valid": torch.from_numpy(decoded.image_valid),
        "spectrum_valid": torch.from_numpy(decoded.spectrum_valid),
    }
    if decoded.image is not None:
        whole["image"] = torch.from_numpy(decoded.image)
    if decoded.spectrum is not None:
        whole["spectrum"] = torch.from_numpy(decoded.spectrum)
    if decoded.features:
        values, valid = decoded.features[bases.index(member.basis)]
        columns = member.feature_columns
        whole["features"] = torch.from_numpy(member.scaling.transform(values[:, columns], valid[:, columns]))
    for start in range(0, len(decoded), JUDGED_AT_ONCE):
        part = {name: values[start : start + JUDGED_AT_ONCE] for name, values in whole.items()}
        yield {name: values.float() if values.dtype == torch.float16 else values for name, values in part.items()}


def _distinct_bases(members: Sequence[TrainedMember]) -> Bases:
    bases: Bases = []
    for member in members:
        if member.basis not in bases:
            bases.append(member.basis)
    return bases


def _predictable(objects: Objects, member: TrainedMember) -> Objects:
    """Return the objects asked for, less those that the networks cannot be shown anything of."""
    if objects not in OBJECTS:
        raise ValueError(f"--objects is {objects}; allowed: {', '.join(OBJECTS)}")
    seen = seen_modalities(member.config.models.branches, member.config.tensors.features)
    if len(seen) == len(SUBSETS["image+spectrum"]) or objects == "pairs":
        return objects
    if objects in ("images", "spectra") and objects != {"image": "images", "spectrum": "spectra"}[seen[0]]:
        raise ValueError(f"--objects {objects}: the network of {member.path} is shown nothing but the {seen[0]}")
    return objects


def _meta(
    members: Sequence[TrainedMember], runs: Sequence[Path], objects: str, prevalence: float | None
) -> dict[str, Any]:
    quantiles = {cloud.quantile for member in members for cloud in member.novelty.values()}
    return {
        "MMAGN": __version__,
        "RUNS": json.dumps([run.resolve().name for run in runs]),
        "MEMBERS": len(members),
        "OBJECTS": objects,
        "PREVAL": "as in validation" if prevalence is None else prevalence,
        "QUANTILE": json.dumps(sorted(quantiles)),
    }


class _Tally:
    """Counts of a catalogue as it is written."""

    def __init__(self, drops: Counter[str]) -> None:
        self.drops, self.rows, self.lost, self.agn, self.unlike = drops, 0, 0, 0, 0
        self.started = self.ended = time.perf_counter()
        self.first = 0
        self.modalities: Counter[str] = Counter()

    def add(self, decoded: Decoded, table: Table) -> None:
        """Count some galaxies."""
        self.ended = time.perf_counter()
        if not self.rows:
            self.started, self.first = self.ended, len(table)
        self.rows += len(table)
        self.lost += decoded.asked - len(table)
        self.drops.update(decoded.drops)
        if len(table):
            self.modalities.update(name or NOTHING_SEEN for name in np.asarray(table["modalities"]).tolist())
            self.agn += int(np.sum(table["agn"]))
            self.unlike += int(np.sum(table["unlike_training"]))

    def summary(self, members: int) -> PredictionSummary:
        """Return the counts."""
        return PredictionSummary(
            rows=self.rows,
            members=members,
            modalities=dict(self.modalities),
            agn=self.agn,
            unlike_training=self.unlike,
            lost=self.lost,
            drops=dict(self.drops),
            rate_per_s=(self.rows - self.first) / (self.ended - self.started) if self.rows > self.first else 0.0,
        )
