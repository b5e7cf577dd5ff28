"""An ablation from config to answers: every model on the same folds, differences, tables and figures."""

import logging
import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from astropy.table import vstack
from numpy.typing import NDArray

from mmagn.ablation.fits import FoldFits
from mmagn.config.run_config import RunConfig, save_config
from mmagn.evaluation.answers import Answer, Row, answers, markdown, rows_table, score_row
from mmagn.evaluation.ceiling import noise_ceilings
from mmagn.evaluation.crossval import leave_one_group_out, sky_folds
from mmagn.evaluation.folds import Fold
from mmagn.evaluation.permutation import Importance, load_importances, mean_importances
from mmagn.evaluation.pooled import OutOfFold, out_of_fold, pooled_scores
from mmagn.evaluation.strata import strata
from mmagn.evaluation.variants import VARIANTS, question
from mmagn.matching.sky import sky_group
from mmagn.records import CELL_NSIDE
from mmagn.reporting.page.report import write_report
from mmagn.runs.label_scores import catalog_objects
from mmagn.runs.resume import unfinished_run
from mmagn.runs.sample import Sample, labelled_sample
from mmagn.storage.files import whole_file, write_json
from mmagn.storage.run_folder import RunFolder
from mmagn.storage.tables import write_table

logger = logging.getLogger(__name__)

Part = tuple[str, str, NDArray[np.bool_]]
"""Stratum, name and members (object,) of a part of the sample; "" and "" for the whole sample."""


@dataclass(frozen=True, kw_only=True)
class Ablation:
    """Result of an ablation.

    Attributes
    ----------
    path
        Run folder.
    rows, strata
        Scores of every model on the whole sample, and on its parts.
    catalog_rows
        Scores of every model on the labels of a catalogue, where it was trained on the BPT label.
    answers
        One per question.
    ceilings
        Stratum, part, and noise ceilings by score, as plain values: of the whole sample, then of its parts.
    fitted
        Number of new fits; the others were cached.
    repeats
        Repeats of the cross-validation.
    """

    path: Path
    rows: Sequence[Row]
    strata: Sequence[Row]
    catalog_rows: Sequence[Row]
    answers: Sequence[Answer]
    ceilings: Sequence[Mapping[str, Any]]
    fitted: int
    repeats: int

    @property
    def text(self) -> str:
        """Answers, and where the tables are."""
        head = f"{self.rows[0].objects} objects, {self.rows[0].positives} positive; {len(self.rows)} models"
        sentences = [f"- {answer.sentence}" for answer in self.answers]
        run = RunFolder(self.path)
        if self.repeats == 1:
            sentences.append("- with one repeat the intervals describe other test objects, but no other training runs")
        files = f"tables: {run.ablation.with_suffix('.md')}\nreport: {run.report}\nrun folder: {run.path}"
        return "\n".join([head, *sentences, files])


def ablate(config: RunConfig) -> Ablation:
    """Fit every model of ``config.ablation`` on the same folds, compare them, and write the result to a run folder.

    Finished fits are cached in ``ablation.fits_dir``: an interrupted ablation continues there, and one more model or
    repeat costs the new fits only.
    """
    sample = labelled_sample(config)
    folds = ablation_folds(config, sample)
    run = unfinished_run(config) or RunFolder.create(config.runs_dir, config.name)
    save_config(config, run.config)
    with run.locked(), run.log_lines():
        fits = FoldFits(config, sample)
        names = config.ablation.variants
        logger.info("%d models x %d folds of %d objects", len(names), len(folds), len(sample.target))
        fits.make([VARIANTS[name] for name in names], folds, config.ablation.workers)
        tables = {name: vstack([fits.table(VARIANTS[name], fold) for fold in folds]) for name in names}
        write_table(run.out_of_fold, vstack(list(tables.values())))
        predictions = {name: out_of_fold(table, sample.object_id, sample.target) for name, table in tables.items()}
        write_table(run.measurements, sample.table)
        result = _compared(config, sample, predictions, run, fits)
        shares = _keep_members(config, run, fits, folds)
        _write_tables(config, sample, result, shares)
        write_report(run.path, sample.store)
        run.seal()  # marks the run as complete
    sys.stdout.write(f"{result.text}\n")
    return result


def ablation_folds(config: RunConfig, sample: Sample) -> list[Fold]:
    """Return folds of the labelled pairs that share neither a group of sky nor a galaxy."""
    settings = config.ablation
    ra_deg, dec_deg = sample.column("ra_deg"), sample.column("dec_deg")
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


def _compared(
    config: RunConfig, sample: Sample, predictions: Mapping[str, OutOfFold], run: RunFolder, fits: FoldFits
) -> Ablation:
    """Scores of all models on the sample and its parts, answers to all questions, and noise ceilings."""
    pooled = {name: pooled_scores(each, config.evaluation) for name, each in predictions.items()}
    questions = [question(text) for text in config.ablation.questions]
    parts = _parts(config, sample)
    catalog, trained = config.labels.catalog, config.labels.catalog_trains
    p_agn = np.where(trained, np.nan, sample.column("p_agn"))  # P(AGN) of the BPT label is no ceiling of another one
    everyone: Part = ("", "", np.ones(len(p_agn), dtype=bool))
    independent, background = trained and catalog.independent, sample.background(config)
    return Ablation(
        path=run.path,
        rows=[
            score_row(name, each, config.evaluation, independent=independent, background=int(background.sum()))
            for name, each in pooled.items()
        ],
        strata=[
            score_row(
                name,
                pooled_scores(each.of(members), config.evaluation),
                config.evaluation,
                (stratum, part),
                independent=independent,
                background=int(background[members].sum()),
            )
            for stratum, part, members in parts
            for name, each in predictions.items()
        ],
        catalog_rows=_catalog_rows(config, sample, predictions),
        answers=answers(pooled, questions, config.ablation.metric, config.evaluation),
        ceilings=[
            {"stratum": stratum, "part": part, **{name: ceiling.as_dict() for name, ceiling in ceilings.items()}}
            for stratum, part, members in (everyone, *parts)
            for ceilings in [noise_ceilings(p_agn[members], config=config.evaluation)]
        ],
        fitted=fits.fitted,
        repeats=config.ablation.repeats,
    )


def _catalog_rows(config: RunConfig, sample: Sample, predictions: Mapping[str, OutOfFold]) -> list[Row]:
    """Scores of models that were trained on the BPT label on the labels of a catalogue."""
    if sample.catalog is None or config.labels.catalog_trains:
        return []
    rows, target, background = catalog_objects(sample.catalog_target)
    if len(np.unique(target)) < 2:
        logger.warning("labels of the catalogue: %d objects of one class, no scores", len(target))
        return []
    return [
        score_row(
            name,
            pooled_scores(replace(each.of(rows), target=target), config.evaluation),
            config.evaluation,
            independent=config.labels.catalog.independent,
            background=background,
        )
        for name, each in predictions.items()
    ]


def _parts(config: RunConfig, sample: Sample) -> list[Part]:
    """Every part of the sample that holds both classes."""
    magnitude = np.asarray(sample.store.index["i_magnitude"], dtype=np.float64)[sample.rows]
    result: list[Part] = []
    for stratum, parts in strata(sample.labelled, magnitude, config.labels.seyfert_liner).items():
        for part, members in parts.items():
            if len(np.unique(sample.target[members])) == 2:
                result.append((stratum, part, members))
            elif members.any():
                logger.info("%s %s: %d objects of one class, no scores", stratum, part, members.sum())
    return result


def _write_tables(
    config: RunConfig, sample: Sample, result: Ablation, shares: Mapping[str, Sequence[Importance]]
) -> None:
    """Write the result as Markdown, CSV and JSON, with the importance of the inputs of the models that have members."""
    run, rows = RunFolder(result.path), result.rows
    title = f"Ablation: {rows[0].objects} objects, {rows[0].positives} positive ({config.ablation.scheme})"
    with whole_file(run.ablation.with_suffix(".md")) as part:
        part.write_text(
            markdown(rows, result.answers, title=title, strata=result.strata, catalog=result.catalog_rows),
            encoding="utf-8",
        )
    for path, scored in ((run.ablation.with_suffix(".csv"), rows), (run.strata, result.strata)):
        write_table(path, rows_table(scored))
    content = {
        "models": [row.as_dict() for row in rows],
        "questions": [answer.as_dict() for answer in result.answers],
        "strata": [row.as_dict() for row in result.strata],
        "noise_ceiling": result.ceilings[0],
        "strata_noise_ceiling": result.ceilings[1:],
        "catalog_models": [row.as_dict() for row in result.catalog_rows],
        "inputs": {name: [asdict(each) for each in inputs] for name, inputs in shares.items()},
        "background": rows[0].background,
        "sample": sample.summary(config),
    }
    write_json(run.ablation, content)


def _keep_members(
    config: RunConfig, run: RunFolder, fits: FoldFits, folds: Sequence[Fold]
) -> dict[str, list[Importance]]:
    """Copy the networks that prediction may load into the run folder, each with the settings of its model.

    Returns the importance of the inputs of each model, the mean over its networks.
    """
    shares = {}
    if fits.sample.basis is not None:
        fits.sample.basis.save(run.basis)
    for name in config.ablation.variants:
        if name not in config.ablation.members:
            continue
        variant, model = VARIANTS[name], RunFolder(run.members / name)
        for fold, folder in zip(folds, fits.make_members(variant, folds, config.ablation.workers), strict=True):
            copy = model.path / f"repeat-{fold.repeat}-fold-{fold.fold}"
            shutil.copytree(folder, copy, ignore=shutil.ignore_patterns("embedding-*"), dirs_exist_ok=True)
        save_config(fits.inputs.variant_config(variant), model.config)
        members = [RunFolder(folder) for folder in sorted(model.path.iterdir()) if folder.is_dir()]
        shares[name] = mean_importances([load_importances(member.importance, "inputs") for member in members])
    return shares
