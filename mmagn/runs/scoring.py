"""Scores of a trained run: calibration per subset of modalities, scores with intervals on all and on clean objects."""

import sys
from collections.abc import Sequence

from lightning.pytorch.loggers import Logger
from scipy.special import expit

from mmagn.config.run_config import RunConfig
from mmagn.evaluation.calibration import unshifted_logits
from mmagn.evaluation.network import network_evaluation
from mmagn.evaluation.parts import DISAGREE_COLUMN, input_scores, part_columns
from mmagn.evaluation.predictions import predictions_table
from mmagn.evaluation.scorecard import Scores
from mmagn.reporting.page.report import write_report
from mmagn.runs.label_scores import label_scores
from mmagn.runs.logged import ScoredNetwork, log_scored
from mmagn.runs.members import evaluation_sample
from mmagn.runs.sample import Sample, network
from mmagn.storage.files import write_json
from mmagn.storage.run_folder import RunFolder
from mmagn.storage.tables import write_table
from mmagn.tensors.datamodule import PairDataModule
from mmagn.tensors.scaling import FeatureScaling
from mmagn.training.checkpoints import load_module, read_checkpoint
from mmagn.training.device import device_name


def scored_run(
    run: RunFolder,
    config: RunConfig,
    sample: Sample,
    data: PairDataModule,
    split: str,
    loggers: Sequence[Logger] = (),
) -> Scores:
    """Return the scores of the best checkpoint on one split, written to run folder, loggers and standard output.

    Calibrations and thresholds, fitted to the validation split for every subset of modalities, and the novelty
    measures are kept in the run folder for prediction.
    """
    run.unseal(run.calibration, run.novelty, run.importance, run.predictions, run.scores_of(split))
    if damaged := run.damaged():
        raise ValueError(damaged[0])
    model = network(config)
    weight = float(load_module(run.best, model, config.training).pos_weight)
    evaluated = evaluation_sample(config, sample, sample.fold, data.tensors, FeatureScaling.load(run.scaling), weight)
    device = device_name(config.training)
    evaluation = network_evaluation(model, evaluated, config.evaluation, device)
    evaluation.save(run)
    subset, used = next(iter(evaluation.calibrations.items()))
    probability = used.calibration.probability(evaluation.logits)
    alone = {name: each.probability(evaluation.parts[name]) for name, each in used.parts.items()}
    columns = part_columns(alone, used.calibration.prevalence)
    predictions = predictions_table(
        sample.store.index[sample.rows],
        bpt_class=sample.bpt_class,
        truth=sample.target,
        logit=evaluation.logits,
        probability=expit(unshifted_logits(evaluation.logits, weight)),
        calibrated_probability=probability,
        **columns,
        split=sample.split,
    )
    write_table(run.predictions, predictions)
    in_split = sample.split == split
    alone_in_split = {name: values[in_split] for name, values in alone.items()}
    inputs = input_scores(alone_in_split, sample.target[in_split], evaluation.inputs)
    scored = label_scores(config, sample, in_split, probability, used.threshold)
    path = run.scores_of(split)
    content = {
        "split": split,
        **scored.content,
        "inputs": inputs,
        "modalities_disagree": int(columns[DISAGREE_COLUMN][in_split].sum()),
        "subset": subset,
        "calibration": used.calibration.as_dict(),
    }
    write_json(path, content)
    page = write_report(run.path, sample.store)
    run.seal()
    scored_network = ScoredNetwork(model=model, device=device, tensors=data.tensors, probability=probability)
    log_scored(
        loggers, scored_network, sample, split, scored.main, int(read_checkpoint(run.best).get("global_step", 0))
    )
    sys.stdout.write(f"scores on the {split} split\n{scored.text}\nwritten to {path} and {page}\n")
    return scored.main
