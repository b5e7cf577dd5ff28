"""A trained run judged: calibration per subset of modalities, scores with intervals on all and on clean objects."""

import sys

import numpy as np
from scipy.special import expit

from mmagn.config.run_config import RunConfig
from mmagn.evaluation.calibration import unshifted_logits
from mmagn.evaluation.ceiling import noise_ceilings
from mmagn.evaluation.judging import Judged, JudgedSample, judged
from mmagn.evaluation.logits import predictions_table, save_predictions
from mmagn.evaluation.scorecard import Scores
from mmagn.evaluation.scores import scores
from mmagn.labels.scheme import CLEAN_PROBABILITY
from mmagn.reporting.figures.training import save_run_figures
from mmagn.reporting.page.report import write_report
from mmagn.runs.sample import Sample, network, sample_summary
from mmagn.storage.files import write_json
from mmagn.storage.run_folder import RunFolder
from mmagn.tensors.datamodule import PairDataModule
from mmagn.tensors.missing import FeatureOrigin
from mmagn.tensors.scaling import FeatureScaling
from mmagn.training.checkpoints import load_module
from mmagn.training.fit import device_name


def evaluated(run: RunFolder, config: RunConfig, sample: Sample, data: PairDataModule, split: str) -> Scores:
    """Return the scores of the best checkpoint on one split, written into the run folder and to standard output.

    Calibration and threshold come from the validation split, one of each for every subset of modalities that the
    network knows; they are kept in the run folder for prediction, and so is what the training objects look like to it.
    """
    found, weight = _judged(run, config, sample, data)
    found.save(run.path)
    subset, (used, *_) = next(iter(found.calibrations)), found.calibrations.values()
    probability = used.calibration.probability(found.logits)
    predictions = predictions_table(
        sample.store.index[sample.rows],
        bpt_class=sample.bpt_class,
        truth=sample.target,
        logit=found.logits,
        probability=expit(unshifted_logits(found.logits, weight)),
        calibrated_probability=probability,
        split=sample.split,
    )
    save_predictions(predictions, run.predictions)
    scored = sample.split == split
    clean = scored & np.asarray(sample.table["clean"], dtype=bool)[sample.rows]
    on_all, on_clean = (
        scores(sample.target[members], probability[members], used.threshold, config=config.evaluation)
        for members in (scored, clean)
    )
    path = run.scores if split == "test" else run.scores.with_stem(f"scores-{split}")
    told = {"split": split, **on_all.as_dict(), "clean": {"probability": CLEAN_PROBABILITY, **on_clean.as_dict()}}
    ceilings = noise_ceilings(sample.table["p_agn"][sample.rows][scored], config=config.evaluation)
    told["noise_ceiling"] = {name: ceiling.as_dict() for name, ceiling in ceilings.items()}
    told |= {"subset": subset, "calibration": used.calibration.as_dict(), **sample_summary(sample)}
    write_json(path, told)
    save_run_figures(run.figures, sample.store, sample.table, predictions, split, on_all, config.evaluation)
    page = write_report(run.path, sample.store)
    sys.stdout.write(
        f"scores on the {split} split\n{on_all.text()}\n\n{on_all.report_text}\n"
        f"scores on its clean objects, P(class) > {CLEAN_PROBABILITY:g}\n{on_clean.text()}\n\n"
        f"noise ceiling of the average precision {ceilings['average_precision']}\nwritten to {path} and {page}\n"
    )
    return on_all


def _judged(run: RunFolder, config: RunConfig, sample: Sample, data: PairDataModule) -> tuple[Judged, float]:
    """What the best checkpoint says of the whole sample, and the weight of the positives in its loss."""
    model = network(config)
    module = load_module(run.best, model, config.training)
    weight = float(module.pos_weight)
    shown = JudgedSample(
        batch_of=data.tensors.batch,
        target=sample.target,
        train=np.flatnonzero(sample.split == "train"),
        validation=np.flatnonzero(sample.split == "validation"),
        features=config.tensors.features,
        origin=FeatureOrigin.of(config.tensors.features, FeatureScaling.load(run.scaling)),
    )
    return judged(model, shown, config.evaluation, pos_weight=weight, device=device_name(config.training)), weight
