"""The composition root: one function per command, from the sky to the score. Read this file first."""

import logging
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from astropy.table import Table

from mmagn.config.run_config import RunConfig, config_dict, load_config, save_config
from mmagn.evaluation.scorecard import Scores
from mmagn.evaluation.variants import DEFAULT_VARIANT
from mmagn.matching import pairs
from mmagn.matching.diagnostics import MatchPlan, match_plan
from mmagn.matching.index import NoPairsError, matched_surveys, no_pairs_sentence
from mmagn.matching.index_file import INDEX_FILE, write_index
from mmagn.matching.provenance import PROVENANCE_FILE, Provenance, store_settings
from mmagn.matching.push import push_store
from mmagn.matching.selection import selected_spectra
from mmagn.matching.store import PairStore, pair_store, verify_store
from mmagn.measurement.stream import MeasurementSummary, measured_tables, sample_basis, write_tables
from mmagn.measurement.table import MeasurementSettings, measured_table
from mmagn.records import Pair, Spectrum
from mmagn.reporting.figures.matching import plan_figures
from mmagn.reporting.figures.style import save_figures
from mmagn.reporting.figures.training import sample_gallery, validation_figures
from mmagn.runs.outside_labels import check_depth, labelled_tables
from mmagn.runs.resume import run_to_resume
from mmagn.runs.sample import (
    Sample,
    counts_text,
    datamodule,
    engine,
    labelled_sample,
    network,
    training_pos_weight,
    with_recorded_split,
    with_vector_length,
)
from mmagn.storage.files import write_json
from mmagn.storage.run_folder import RunFolder
from mmagn.storage.tables import write_table
from mmagn.surveys.hats.reader import HatsReader
from mmagn.surveys.reader import iter_spectra
from mmagn.surveys.readers import survey_reader
from mmagn.tensors.datamodule import PairDataModule
from mmagn.tensors.missing import FeatureOrigin
from mmagn.tensors.scaling import FeatureScaling
from mmagn.training.checkpoints import good_checkpoint
from mmagn.training.device import device_name
from mmagn.training.fit import FitResult, RunRecord, fit
from mmagn.training.heads.fusion import HeadsSettings, fit_model_heads
from mmagn.training.loggers import check_loggers
from mmagn.training.module import AgnModule
from mmagn.training.process_group import joined_group

if TYPE_CHECKING:
    from datasets import IterableDataset

    from mmagn.ablation.ablate import Ablation
    from mmagn.matching.objects import Galaxy
    from mmagn.prediction.predict import PredictionOptions, PredictionSummary
    from mmagn.search.search import Search

logger = logging.getLogger(__name__)


def open_pairs(config: RunConfig) -> "IterableDataset":
    """Return a stream of matched pairs, sharded by cell, read from the surveys as it is iterated.

    Raises
    ------
    NoPairsError
        Where the two surveys have no object in common.
    """
    with engine(config):
        return pairs.open_pairs(config.data, config.matching)


def match(config: RunConfig, out: Path, *, push: str | None = None, index: Path | None = None) -> PairStore:
    """Return the store of matched pairs in the folder ``out``, created where it is missing; print its report.

    With ``push`` it is uploaded as that dataset repository (ORG/NAME) of a Hugging Face hub. With the file ``index``,
    which ``plan`` writes, no positions are read.
    """
    with engine(config):
        store = pair_store(config.data, config.matching, out, index)
    _print(store.report_text)
    if push is not None:
        _print(f"pushed: {push_store(store, push, config.data.hub)}")
    return store


def plan(config: RunConfig, out: Path) -> MatchPlan:
    """Return the expected result of a match from positions; write figures and numbers to the folder ``out``.

    The index is that of ``match``: of galaxies with several spectra these are read.

    Raises
    ------
    NoPairsError
        Where there is no pair, after the figures and numbers are written.
    """
    reader = survey_reader(config.data)
    with engine(config):
        index = matched_surveys(config.data, config.matching)
    sdss, hsc = index.sdss, index.hsc
    result = match_plan(sdss, hsc, config.matching.radius_arcsec, index.report.drops)
    _print(str(result))
    positions = {
        "spectra": (sdss.ra_deg, sdss.dec_deg),
        "HSC images": (hsc.ra_deg, hsc.dec_deg),
        "pairs": (sdss.ra_deg[result.paired], sdss.dec_deg[result.paired]),
    }
    figures = plan_figures(positions, result.cells, result.radii, result.separations, result.radius_arcsec)
    names = ["plan.json", *(path.name for path in save_figures(figures, out))]
    write_json(out / "plan.json", result.as_dict())
    if len(index.matches):
        made_from = Provenance(settings=store_settings(config.matching, reader), sources=reader.sources())
        write_index(out / INDEX_FILE, index, made_from)
        names.append(INDEX_FILE)
    _print(f"written to {out}: {', '.join(names)}")
    if not result.pairs:
        raise NoPairsError(no_pairs_sentence(index))
    return result


def measure(config: RunConfig, out: Path, *, of_pairs: bool = False, workers: int = 1) -> MeasurementSummary:
    """Write a table of measurements to ``out``, a row per spectrum of the source or per pair, and return its counts."""
    if config.data.source == "hats" and not of_pairs and config.data.objects is None:
        summary = _measured_on_dask(config, out)
    else:
        summary = _measured_here(config, out, of_pairs=of_pairs, workers=workers)
    _print(f"{out}: {summary.rows} rows\nclasses: {counts_text(summary.classes)}")
    _print_losses("unclassified", summary.reasons)
    _print_losses("dropped", summary.drops)
    return summary


def _measured_here(config: RunConfig, out: Path, *, of_pairs: bool, workers: int) -> MeasurementSummary:
    """Counts of the table measured on this machine."""
    drops: Counter[str] = Counter()
    total, magnitude = None, None
    rows: Iterator[Spectrum] | Iterator[Pair]
    if of_pairs or config.data.source == "store":
        with engine(config):
            store = pair_store(config.data, config.matching)
        drops.update(store.report["pair_drops"])
        total, magnitude = len(store), np.asarray(store.index["i_magnitude"], dtype=np.float64)
        rows = (store.pair(number) for number in range(total))
    else:
        check_depth(config)
        rows = selected_spectra(config.data, config.matching, drops)
    settings = MeasurementSettings(spectroscopy=config.spectroscopy, labels=config.labels)
    tables = measured_tables(rows, settings, workers)
    return write_tables(labelled_tables(config, tables, magnitude), out, total=total, drops=drops)


def _measured_on_dask(config: RunConfig, out: Path) -> MeasurementSummary:
    """Counts of the table measured on a Dask cluster, each partition of the SDSS catalogue by its worker."""
    check_depth(config)
    drops: Counter[str] = Counter()
    with engine(config):
        reader = HatsReader(data=config.data)
        basis = sample_basis(iter_spectra(reader, Counter()), config.spectroscopy)
        settings = MeasurementSettings(spectroscopy=config.spectroscopy, labels=config.labels, basis=basis)
        measured = partial(measured_table, settings=settings)
        return write_tables(labelled_tables(config, reader.mapped_spectra(measured, drops)), out, drops=drops)


def train(config: RunConfig, resume: str = "") -> FitResult:
    """Train a model into a new run folder and score it on the test split.

    Parameters
    ----------
    config
        Settings of the run.
    resume
        Run folder of a stopped run to continue; ``auto`` takes the latest one that can be resumed, if there is one;
        "" starts a new run.
    """
    config = with_vector_length(config)
    with joined_group(config.training) as group:
        stopped = group.broadcast(run_to_resume(config, resume) if group.leads else None)
        check_loggers(config.training.loggers)
        device_name(config.training)  # refuse an impossible device or network before data are read
        network(config)
        sample = labelled_sample(config)
        sample = sample if stopped is None else with_recorded_split(sample, stopped)
        run = stopped or RunFolder(group.broadcast(_new_run(config, sample).path if group.leads else Path()))
        with ExitStack() as written:
            if group.leads:
                written.enter_context(run.locked())
                written.enter_context(run.removed_if_empty())
                written.enter_context(run.log_lines())
                run.unseal(run.best, run.weights)
            data = datamodule(config, sample, FeatureScaling.load(run.scaling))
            result = _fitted(config, sample, run, data, None if stopped is None else good_checkpoint(run))
            if result.complete and group.leads:
                from mmagn.runs.scoring import scored_run  # where used: the first training step does not wait for it

                scored_run(run, config, sample, data, "test", result.loggers)
        if group.leads:
            _print(f"run folder: {run.path}")
    return result


def _fitted(config: RunConfig, sample: Sample, run: RunFolder, data: PairDataModule, resume: Path | None) -> FitResult:
    """Train a network on a labelled sample."""
    weight, rows = training_pos_weight(config, sample, sample.fold.train), (sample.fold.train, sample.fold.validation)
    initial = network(config, sample.vectors(config), sample.fold.train)
    module = AgnModule(initial, config.training, weight, config.seed)
    origin = FeatureOrigin.of(config.tensors.features, FeatureScaling.load(run.scaling))
    heads = HeadsSettings(config=config.training, origin=origin, pos_weight=weight, seed=config.seed)
    record = RunRecord(
        hyperparameters=config_dict(config),
        figures=validation_figures(config.evaluation, pos_weight=float(module.pos_weight)),
        static_figures={"sample": partial(sample_gallery, sample.store, sample.rows, sample.bpt_class)},
        object_ids=sample.table["object_id"][sample.rows].tolist(),
        identity=sample.identity(config),
        finish=lambda model: fit_model_heads(model, data.tensors, rows, heads),
    )
    return fit(module, data, run, record, resume=resume)


def evaluate(run_path: Path, split: str = "test") -> Scores:
    """Return the scores of a trained run on one of its splits; write them to its folder and to standard output.

    Raises
    ------
    FileNotFoundError, ValueError
        Where the folder is no complete run, or its source gives other pairs than it was trained on.
    """
    run = RunFolder.open(run_path, needs=("config.yaml", "best.ckpt", "split.parquet", "scaling.json"))
    from mmagn.runs.scoring import scored_run

    with run.locked():
        config = load_config(run.config)
        sample = with_recorded_split(labelled_sample(config), run)
        return scored_run(run, config, sample, datamodule(config, sample, FeatureScaling.load(run.scaling)), split)


def ablate(config: RunConfig) -> "Ablation":
    """Fit every model of ``config.ablation`` on the same folds, compare them, and write the result to a run folder."""
    from mmagn.ablation import ablate as ablation

    return ablation.ablate(config)


def search(config: RunConfig) -> "Search":
    """Search for better settings on inner folds outside the test split, and write the result to a run folder."""
    from mmagn.search import search as searching

    return searching.search(config)


def predict(
    config: RunConfig, runs: Sequence[Path], out: Path | None, options: "PredictionOptions | None" = None
) -> "PredictionSummary":
    """Write a catalogue of the predictions of trained networks for the galaxies of ``config.data``, or those given."""
    from mmagn.prediction import predict as prediction

    return prediction.predict(config, runs, out, options)


def explain(
    config: RunConfig, run_path: Path, about: "str | Galaxy", out: Path, *, variant: str = DEFAULT_VARIANT
) -> tuple[Path, Path]:
    """Write maps of what speaks for and against an AGN in one galaxy, as a picture and as JSON; return the paths."""
    from mmagn.prediction import explain as explanation

    return explanation.explain(config, run_path, about, out, variant=variant)


def inspect(config: RunConfig, about: str | Spectrum, folder: Path) -> Path:
    """Return the path of a picture of one spectrum with continuum, lines and residuals, written to ``folder``."""
    from mmagn.prediction.inspect import plot_spectrum

    return plot_spectrum(config, about, folder)


def report(run_path: Path) -> Path:
    """Return the path of the report of a training, an ablation or a search, written anew to its folder."""
    from mmagn.reporting.page.report import write_report

    return write_report(run_path)


def verify(folder: Path) -> list[str]:
    """Return a sentence for each file of a run or a store that is missing or is not what was written.

    Raises
    ------
    FileNotFoundError
        Where the folder is neither a run folder nor a store.
    """
    if (folder / PROVENANCE_FILE).is_file():
        return verify_store(folder)
    return RunFolder.open(folder, needs=("run.json",)).damaged(checkpoints=True)


def _new_run(config: RunConfig, sample: Sample) -> RunFolder:
    """New run folder with settings, split, measurements and scaling."""
    weight = training_pos_weight(config, sample, sample.fold.train)
    run = RunFolder.create(config.runs_dir, config.name)
    with run.removed_if_empty():
        save_config(config, run.config)
        ids = {name: sample.table[name][sample.rows] for name in ("object_id", "ra_deg", "dec_deg", "bpt_class")}
        write_table(run.split, Table({**ids, "target": sample.target, "split": sample.split}))
        write_table(run.measurements, sample.table)
        values, valid = sample.features(config)
        training = sample.split == "train"
        FeatureScaling.fit(values[training], valid[training]).save(run.scaling)
        if sample.basis is not None:
            sample.basis.save(run.basis)
        run.seal()
    logger.info("run folder: %s; weight of the positive class %.2f", run.path, weight)
    return run


def _print_losses(what: str, counts: Mapping[str, int]) -> None:
    for reason, count in counts.items():
        _print(f"{what}: {count} x {reason}")


def _print(text: str) -> None:
    sys.stdout.write(text + "\n")
