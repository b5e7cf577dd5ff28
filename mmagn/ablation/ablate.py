"""An ablation from config to answers: every model on the same folds, differences, tables and figures."""

import logging
import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from astropy.table import Table, vstack
from numpy.typing import NDArray

from mmagn.ablation.fits import FoldFits
from mmagn.config.run_config import RunConfig, save_config
from mmagn.evaluation.answers import Answer, Row, answers, markdown, rows_table, score_row
from mmagn.evaluation.ceiling import PartCeiling, noise_ceilings
from mmagn.evaluation.crossval import Fold, leave_one_group_out, sky_folds
from mmagn.evaluation.logits import save_predictions
from mmagn.evaluation.pooled import OutOfFold, out_of_fold, pooled_scores
from mmagn.evaluation.strata import strata
from mmagn.evaluation.variants import VARIANTS, question
from mmagn.matching.sky import sky_group
from mmagn.records import CELL_NSIDE
from mmagn.reporting.figures.ablation import forest_figure, strata_figure
from mmagn.reporting.figures.style import save_figures
from mmagn.reporting.page.report import write_report
from mmagn.runs.members import CONFIG_FILE
from mmagn.runs.sample import BASIS_FILE, Sample, labelled_sample, sample_summary
from mmagn.storage.files import whole_file, write_json
from mmagn.storage.run_folder import RunFolder

logger = logging.getLogger(__name__)

Part = tuple[str, str, NDArray[np.bool_]]
"""Stratum, name and members (object,) of a part of the sample."""


@dataclass(frozen=True, kw_only=True)
class Ablation:
    """What came of an ablation.

    Attributes
    ----------
    path
        Run folder.
    rows, strata
        Scores of every model on the whole sample, and on its parts.
    answers
        One per question.
    fitted
        Fits that were made now; the others were found on disk.
    """

    path: Path
    rows: Sequence[Row]
    strata: Sequence[Row]
    answers: Sequence[Answer]
    fitted: int


def ablate(config: RunConfig) -> Ablation:
    """Fit every model of ``config.ablation`` on the same folds, compare them, and write the result to a run folder.

    A finished fit is kept under ``ablation.fits_dir``: what was interrupted goes on where it was, and a run with one
    more model or repeat makes the new fits only.
    """
    sample = labelled_sample(config)
    folds = ablation_folds(config, sample)
    run = RunFolder.create(config.runs_dir, config.name)
    save_config(config, run.config)
    with run.log_lines():
        fits = FoldFits(config, sample, _fits_dir(config))
        names = config.ablation.variants
        logger.info("%d models x %d folds of %d objects", len(names), len(folds), len(sample.target))
        fits.make([VARIANTS[name] for name in names], folds, config.ablation.workers)
        tables = {name: vstack([fits.table(VARIANTS[name], fold) for fold in folds]) for name in names}
        save_predictions(vstack(list(tables.values())), run.path / "out_of_fold.parquet")
        scored = {name: out_of_fold(table, fits.object_id, sample.target) for name, table in tables.items()}
        rows, found = _compared(config, scored)
        members = _parts(config, sample)
        parts, ceilings = _stratified(config, members, scored), _ceilings(config, sample, members)
        sample.table.write(run.measurements, format="parquet")
        _write(config, run, sample, rows, parts, found, ceilings)
        _keep_members(config, run, fits, folds)
        write_report(run.path, sample.store)
    sys.stdout.write((run.path / "ablation.md").read_text(encoding="utf-8") + f"run folder: {run.path}\n")
    return Ablation(path=run.path, rows=rows, strata=parts, answers=found, fitted=fits.fitted)


def ablation_folds(config: RunConfig, sample: Sample) -> list[Fold]:
    """Folds of the labelled pairs that share neither a group of sky nor a galaxy."""
    settings = config.ablation
    ra_deg, dec_deg = (np.asarray(sample.table[name], dtype=np.float64)[sample.rows] for name in ("ra_deg", "dec_deg"))
    galaxy = np.asarray(sample.store.index["hsc_object_id"], dtype=np.str_)[sample.rows]
    if settings.scheme == "folds":
        group = sky_group(ra_deg, dec_deg, config.splits.nside)
        return sky_folds(group, sample.target, settings.folds, settings.repeats, config.seed, object_id=galaxy)
    cell = sky_group(ra_deg, dec_deg, CELL_NSIDE)
    return [
        replace(fold, repeat=repeat)
        for repeat in range(settings.repeats)
        for fold in leave_one_group_out(cell, sample.target, config.seed + repeat, object_id=galaxy)
    ]


def _fits_dir(config: RunConfig) -> Path:
    given = config.ablation.fits_dir
    return Path(given or f"{config.data.cache_dir}/fits").expanduser()


def _compared(config: RunConfig, scored: Mapping[str, OutOfFold]) -> tuple[list[Row], list[Answer]]:
    """Scores of all models, and the answers to all questions about them."""
    pooled = {name: pooled_scores(part, config.evaluation) for name, part in scored.items()}
    questions = [question(text) for text in config.ablation.questions]
    rows = [score_row(name, part, config.evaluation) for name, part in pooled.items()]
    return rows, answers(pooled, questions, config.ablation.metric, config.evaluation)


def _stratified(config: RunConfig, parts: Sequence[Part], scored: Mapping[str, OutOfFold]) -> list[Row]:
    """Scores of all models on every part of the sample that holds both classes."""
    rows = []
    for stratum, part, members in parts:
        for name, whole in scored.items():
            pooled = pooled_scores(whole.of(members), config.evaluation)
            rows.append(score_row(name, pooled, config.evaluation, stratum=stratum, part=part))
    return rows


def _ceilings(config: RunConfig, sample: Sample, parts: Sequence[Part]) -> list[PartCeiling]:
    """Noise ceilings of the whole sample, then of the same parts."""
    p_agn = np.asarray(sample.table["p_agn"], dtype=np.float64)[sample.rows]
    everyone = np.ones(len(p_agn), dtype=bool)
    return [
        PartCeiling(stratum=stratum, part=part, scores=noise_ceilings(p_agn[members], config=config.evaluation))
        for stratum, part, members in [("", "", everyone), *parts]
    ]


def _parts(config: RunConfig, sample: Sample) -> list[Part]:
    """Every part of the sample that holds both classes."""
    magnitude = np.asarray(sample.store.index["i_magnitude"], dtype=np.float64)[sample.rows]
    found = []
    for stratum, parts in strata(sample.table[sample.rows], magnitude, config.labels.seyfert_liner).items():
        for part, members in parts.items():
            if len(np.unique(sample.target[members])) == 2:
                found.append((stratum, part, members))
            elif members.any():
                logger.info("%s %s: %d objects of one class, no scores", stratum, part, members.sum())
    return found


def _write(
    config: RunConfig,
    run: RunFolder,
    sample: Sample,
    rows: Sequence[Row],
    parts: Sequence[Row],
    found: Sequence[Answer],
    ceilings: Sequence[PartCeiling],
) -> None:
    """Write tables (Markdown, CSV, JSON) and figures."""
    title = f"Ablation: {rows[0].objects} objects, {rows[0].positives} positive ({config.ablation.scheme})"
    with whole_file(run.path / "ablation.md") as unfinished:
        unfinished.write_text(markdown(rows, found, title=title, strata=parts), encoding="utf-8")
    for name, members in (("ablation", rows), ("strata", parts)):
        _save_csv(rows_table(members), run.path / f"{name}.csv")
    told = [
        {
            "question": each.question.name,
            "sentence": each.sentence,
            "shown": each.shown,
            "p_corrected": each.p_corrected,
        }
        | each.difference.as_dict()
        for each in found
    ]
    plain = {
        "models": [row.as_dict() for row in rows],
        "questions": told,
        "strata": [row.as_dict() for row in parts],
        "noise_ceiling": ceilings[0].as_dict(),
        "strata_noise_ceiling": [each.as_dict() for each in ceilings[1:]],
        "sample": sample_summary(sample),
    }
    write_json(run.path / "ablation.json", plain)
    metric = config.ablation.metric
    figures = {"forest": forest_figure(rows, found, metric=metric, ceiling=ceilings[0].scores[metric])}
    if parts:
        figures["strata"] = strata_figure(parts, ceilings[1:], metric=metric)
    save_figures(figures, run.figures)


def _keep_members(config: RunConfig, run: RunFolder, fits: FoldFits, folds: Sequence[Fold]) -> None:
    """Copy the networks that prediction may load into the run folder, each with the settings of its model."""
    if fits.sample.basis is not None:
        fits.sample.basis.save(run.path / BASIS_FILE)
    for name in config.ablation.variants:
        if name not in config.ablation.members:
            continue
        variant, kept = VARIANTS[name], run.path / "members" / name
        for fold, folder in zip(folds, fits.make_members(variant, folds, config.ablation.workers), strict=True):
            place = kept / f"repeat-{fold.repeat}-fold-{fold.fold}"
            shutil.copytree(folder, place, ignore=shutil.ignore_patterns("embedding-*"))
        save_config(fits.inputs.variant_config(variant), kept / CONFIG_FILE)


def _save_csv(table: Table, path: Path) -> None:
    with whole_file(path) as unfinished:
        table.write(unfinished, format="ascii.csv", overwrite=True)
