"""Scores that depend on where the labels come from: rung of the ladder, clean objects, noise ceiling, catalogue."""

from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmagn.config.run_config import RunConfig
from mmagn.evaluation.ceiling import noise_ceilings
from mmagn.evaluation.scorecard import Score, Scores
from mmagn.evaluation.scores import scores
from mmagn.evaluation.unlabelled import against_background
from mmagn.evaluation.variants import ladder_level
from mmagn.labels.scheme import CLEAN_PROBABILITY
from mmagn.records import Floats
from mmagn.runs.sample import Sample


@dataclass(frozen=True, kw_only=True, eq=False)
class LabelScores:
    """Scores of a model: ``main`` on the labels of its training; ``content`` and ``text`` hold those on all labels."""

    main: Scores
    content: dict[str, Any]
    text: str


def label_scores(
    config: RunConfig, sample: Sample, rows: NDArray[np.bool_], probability: Floats, threshold: float
) -> LabelScores:
    """Return the scores of calibrated probabilities (object,) on the objects in ``rows`` (object,).

    With BPT labels they come with those of objects with a clean label, the noise ceiling and, where a catalogue is
    scored too, the scores on its labels. Where unknown objects are the background, scores that need negatives are
    undefined.
    """
    catalog, trained = config.labels.catalog, config.labels.catalog_trains
    level = partial(ladder_level, config.models.branches, config.tensors.features, blanked=config.tensors.blank_lines)
    background = int(sample.background(config)[rows].sum())
    main = against_background(
        scores(sample.target[rows], probability[rows], threshold, config=config.evaluation), background
    )
    summary = sample.summary(config)
    content = {**main.as_dict(), "level": level(independent=trained and catalog.independent), **summary}
    texts = [f"{main.text()}\n\n{main.classification_report_text}"]
    if trained:
        content["background"] = background
    else:
        clean = rows & np.asarray(sample.labelled["clean"], dtype=bool)
        on_clean = scores(sample.target[clean], probability[clean], threshold, config=config.evaluation)
        ceilings = noise_ceilings(sample.column("p_agn")[rows], config=config.evaluation)
        content["clean"] = {"probability": CLEAN_PROBABILITY, **on_clean.as_dict()}
        content["noise_ceiling"] = {name: ceiling.as_dict() for name, ceiling in ceilings.items()}
        texts += [f"scores on its clean objects, P(class) > {CLEAN_PROBABILITY:g}\n{on_clean.text()}\n"]
        texts += [f"noise ceiling of the average precision {ceilings['average_precision']}"]
    if sample.catalog is not None and not trained:
        of_catalog, unknown = catalog_scores(config, sample.catalog_target[rows], probability[rows], threshold)
        rung = level(independent=catalog.independent)
        content["catalog_scores"] = {"level": rung, **of_catalog.as_dict(), "background": unknown}
        texts += [f"\nscores on the labels of the catalogue (level {rung})\n{of_catalog.text()}"]
        texts += [of_catalog.classification_report_text] if unknown else []
    if "against_bpt" in summary["labels"]:
        texts.append(agreement_text(summary["labels"]["against_bpt"]))
    return LabelScores(main=main, content=content, text="\n".join(texts))


def catalog_scores(config: RunConfig, truth: Floats, probability: Floats, threshold: float) -> tuple[Scores, int]:
    """Return the scores on the labels of a catalogue, (object,) 1, 0 or NaN, and the size of their background."""
    rows, target, unknown = catalog_objects(truth)
    scored = scores(target, probability[rows], threshold, config=config.evaluation)
    return against_background(scored, unknown), unknown


def catalog_objects(truth: Floats) -> tuple[NDArray[np.bool_], Floats, int]:
    """Return which objects are scored on the labels of a catalogue, their targets, and the size of the background.

    Objects of unknown label are left out where the catalogue has negatives, else they are the background.
    """
    rows = np.isfinite(truth) | ~(truth == 0).any()
    return rows, np.nan_to_num(truth[rows], nan=0.0), int(np.isnan(truth[rows]).sum())


def agreement_text(against: dict[str, Any]) -> str:
    """Return agreement and kappa of two labels as a sentence."""
    agreement, kappa, recall = (Score.from_dict(against[name]) for name in ("agreement", "kappa", "recall"))
    first, second = against["labels"]
    return (
        f"{first} against {second}: {against['objects_with_both']:,} objects have both labels; agreement {agreement}, "
        f"kappa {kappa}; {first} finds {recall} of the positives of {second}"
    )
