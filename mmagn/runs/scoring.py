"""Scores of a trained run: calibration per subset of modalities, scores with intervals on all and on clean objects."""

import sys

import numpy as np
from scipy.special import expit

from mmagn.config.run_config import RunConfig
from mmagn.evaluation.calibration import unshifted_logits
from mmagn.evaluation.ceiling import noise_ceilings
from mmagn.evaluation.network import network_evaluation
from mmagn.evaluation.predictions import predictions_table, save_predictions
from mmagn.evaluation.scorecard import Scores
from mmagn.evaluation.scores import scores
from mmagn.labels.scheme import CLEAN_PROBABILITY
from mmagn.reporting.page.report import write_report
from mmagn.runs.members import evaluation_sample
from mmagn.runs.sample import Sample, network
from mmagn.storage.files import write_json
from mmagn.storage.run_folder import RunFolder
from mmagn.tensors.datamodule import PairDataModule
from mmagn.tensors.scaling import FeatureScaling
from mmagn.training.checkpoints import load_module
from mmagn.training.device import device_name


def scored_run(run: RunFolder, config: RunConfig, sample: Sample, data: PairDataModule, split: str) -> Scores:
    """Return the scores of the best checkpoint on one split, written into the run folder and to standard output.

    Calibrations and thresholds, fitted to the validation split for every subset of modalities, and the novelty
    measures are kept in the run folder for prediction.
    """
    run.unseal(run.calibration, run.novelty, run.importance, run.predictions, run.scores_of(split))
    if damaged := run.damaged():
        raise ValueError(damaged[0])
    model = network(config)
    weight = float(load_module(run.best, model, config.training).pos_weight)
    evaluated = evaluation_sample(config, sample, sample.fold, data.tensors, FeatureScaling.load(run.scaling), weight)
    evaluation = network_evaluation(model, evaluated, config.evaluation, device_name(config.training))
    evaluation.save(run)
    subset, used = next(iter(evaluation.calibrations.items()))
    probability = used.calibration.probability(evaluation.logits)
    predictions = predictions_table(
        sample.store.index[sample.rows],
        bpt_class=sample.bpt_class,
        truth=sample.target,
        logit=evaluation.logits,
        probability=expit(unshifted_logits(evaluation.logits, weight)),
        calibrated_probability=probability,
        split=sample.split,
    )
    save_predictions(predictions, run.predictions)
    in_split = sample.split == split
    clean = in_split & np.asarray(sample.labelled["clean"], dtype=bool)
    on_all, on_clean = (
        scores(sample.target[rows], probability[rows], used.threshold, config=config.evaluation)
        for rows in (in_split, clean)
    )
    ceilings = noise_ceilings(sample.column("p_agn")[in_split], config=config.evaluation)
    path = run.scores_of(split)
    content = {
        "split": split,
        **on_all.as_dict(),
        "clean": {"probability": CLEAN_PROBABILITY, **on_clean.as_dict()},
        "noise_ceiling": {name: ceiling.as_dict() for name, ceiling in ceilings.items()},
        "subset": subset,
        "calibration": used.calibration.as_dict(),
        **sample.summary(),
    }
    write_json(path, content)
    page = write_report(run.path, sample.store)
    run.seal()
    sys.stdout.write(
        f"scores on the {split} split\n{on_all.text()}\n\n{on_all.report_text}\n"
        f"scores on its clean objects, P(class) > {CLEAN_PROBABILITY:g}\n{on_clean.text()}\n\n"
        f"noise ceiling of the average precision {ceilings['average_precision']}\nwritten to {path} and {page}\n"
    )
    return on_all
