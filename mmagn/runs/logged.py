"""What the loggers of a run get once it is scored: scores, precision-recall curve, and objects in embedding space."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from lightning.pytorch.loggers import Logger
from numpy.typing import NDArray

from mmagn.evaluation.network import EVALUATION_BATCH, network_output
from mmagn.evaluation.scorecard import Scores
from mmagn.models.fusion import FusionModel
from mmagn.records import Cutout, Floats, square_about_source
from mmagn.reporting.figures.gallery import rgb_image
from mmagn.runs.sample import Sample
from mmagn.tensors.sources import BatchSource
from mmagn.training.loggers import TEST_SCORES, Projection, log_pr_curve, log_projection

MOST_OBJECTS = 300
SPRITE_PIXELS = 64


@dataclass(frozen=True, kw_only=True, eq=False)
class ScoredNetwork:
    """A network, the input of its objects, and its calibrated P(AGN) (object,) of them."""

    model: FusionModel
    device: str
    tensors: BatchSource
    probability: Floats


def log_scored(
    loggers: Sequence[Logger], network: ScoredNetwork, sample: Sample, split: str, scores: Scores, step: int
) -> None:
    """Log the scores of a split and its precision-recall curve, and some objects of all splits in embedding space."""
    if not loggers:
        return
    values = {f"{split}/{name}": scores[name].value for name in TEST_SCORES}
    rows, projection = sample.split == split, projected(network, sample)
    for logger in loggers:
        logger.log_metrics({name: value for name, value in values.items() if value is not None}, step)
        if 0 < scores.positives < scores.objects:
            log_pr_curve(logger, f"{split}/precision_recall", sample.target[rows], network.probability[rows], step)
        log_projection(logger, "embedding", projection, step)
        logger.save()
        logger.finalize("success")


def projected(network: ScoredNetwork, sample: Sample) -> Projection:
    """Return objects spread evenly over the sample, with id, class, P(AGN), redshift and split."""
    rows = np.unique(np.linspace(0, len(sample.target) - 1, MOST_OBJECTS).astype(np.int64))
    batches = network.tensors.batches(rows, EVALUATION_BATCH)
    _, embedding = network_output(network.model, batches, network.device).arrays()
    columns = {
        "id": sample.object_id[rows].tolist(),
        "class": sample.bpt_class[rows].tolist(),
        "P(AGN)": [f"{value:.3f}" for value in network.probability[rows]],
        "redshift": [f"{value:.4f}" for value in sample.column("redshift")[rows]],
        "split": sample.split[rows].tolist(),
    }
    sprites = np.stack([sprite(sample.store.cutout(int(row))) for row in sample.rows[rows]])
    return Projection(embedding=embedding, columns=columns, sprites=sprites)


def sprite(cutout: Cutout) -> NDArray[np.uint8]:
    """Return the part of a cutout about its source in colour, (pixel, pixel, 3), with half its resolution."""
    colours = rgb_image(cutout)
    square = square_about_source(2 * SPRITE_PIXELS, len(colours))
    centre = colours[square, square].astype(np.float64)
    return np.asarray(centre.reshape(SPRITE_PIXELS, 2, SPRITE_PIXELS, 2, 3).mean(axis=(1, 3)).round(), dtype=np.uint8)
