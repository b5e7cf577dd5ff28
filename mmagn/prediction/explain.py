"""Why a trained run says what it says of one galaxy: maps over image and spectrum, and what each feature is worth."""

import logging
import sys
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from mmagn.config.run_config import RunConfig, load_config
from mmagn.evaluation.attribution import (
    PATCH_PIXELS,
    Gradients,
    image_occlusion,
    integrated_gradients,
    line_windows,
    sliding_windows,
    spectrum_occlusion,
)
from mmagn.evaluation.judging import JUDGED_AT_ONCE
from mmagn.evaluation.permutation import Importance, permutation_importance
from mmagn.matching.objects import Galaxy, GivenPart, galaxy_with_id
from mmagn.prediction.decode import Decoded, Decoder
from mmagn.prediction.predict import network_batches, predicted_table
from mmagn.records import Floats
from mmagn.reporting.figures.explanation import Explanation, explanation_figure
from mmagn.reporting.figures.style import save_figures
from mmagn.runs.members import TrainedMember, input_difference, load_members
from mmagn.runs.sample import chosen_features, engine, labelled_sample, with_recorded_split
from mmagn.storage.files import write_json
from mmagn.storage.run_folder import RunFolder
from mmagn.tensors.batches import Batch, OrderedBatches
from mmagn.tensors.residency import pair_tensors
from mmagn.tensors.spectrum import spectrum_grid_angstrom

logger = logging.getLogger(__name__)


def explain(
    config: RunConfig, run_path: Path, object_id: str, out: Path, *, split: str = "test", draws: int = 100
) -> tuple[Path, Path]:
    """Write ``out/ID.png`` and ``out/ID.json`` about one galaxy and return the two paths.

    Parameters
    ----------
    config
        Settings of the run, with the source of the galaxy changed at will.
    run_path
        Folder of a training run.
    object_id
        SDSS or HSC id of the galaxy.
    out
        Folder to write to.
    split
        ``validation`` or ``test``: objects of the run that the importance of the features is measured on.
    draws
        Permutations of each feature.

    Raises
    ------
    FileNotFoundError, ValueError
        Where the folder is no complete training run, settings do not fit, or there is no such galaxy.
    """
    run = RunFolder.open(run_path, needs=("config.yaml", "split.parquet"))
    (member,) = load_members([run_path])
    if difference := input_difference(member.config, config):
        raise ValueError(f"{run_path} was trained with other input (first) than is asked for: {difference}")
    with engine(config):
        galaxy = galaxy_with_id(config.data, config.matching, object_id)
    decoded = Decoder(config=member.config, bases=[member.basis]).decoded(GivenPart(given=(galaxy,)))
    importance = feature_importance(member, run, split, draws) if "features" in member.config.models.branches else []
    told = _explanation(member, galaxy, decoded, importance, split)
    (picture,) = save_figures({object_id: explanation_figure(told)}, out)
    numbers = out / f"{object_id}.json"
    row = predicted_table(decoded, [member], [member.basis], "cpu")[0]
    write_json(numbers, {**{name: row[name] for name in _TOLD}, **_numbers(told, run_path)})
    sys.stdout.write(f"{told.title}\nwritten to {picture} and {numbers}\n")
    return picture, numbers


_TOLD = ("sdss_object_id", "hsc_object_id", "redshift", "modalities", "logit", "probability", "calibrated_probability")


def _explanation(
    member: TrainedMember, galaxy: Galaxy, decoded: Decoded, importance: list[Importance], split: str
) -> Explanation:
    """All maps of one galaxy."""
    (batch,) = network_batches(decoded, member, [member.basis])
    model = member.model.eval()
    gradients = integrated_gradients(model, batch, member.origin.imputed)
    grid = spectrum_grid_angstrom(member.config.tensors)
    of_image = of_spectrum = None
    of_lines: dict[str, float] = {}
    if "image" in batch:
        of_image = image_occlusion(model, batch)
    if "spectrum" in batch:
        of_spectrum = _on_pixels(model, batch, len(grid))
        windows = line_windows(grid)
        falls = spectrum_occlusion(model, batch, list(windows.values()))
        of_lines = dict(zip(windows, falls.tolist(), strict=True))
    row = predicted_table(decoded, [member], [member.basis], "cpu")[0]
    name = row["sdss_object_id"] or row["hsc_object_id"]
    unlike = "   unlike the training set" if row["unlike_training"] else ""
    return Explanation(
        title=f"{name}   from {row['modalities'] or 'nothing'}   P(AGN) = {row['calibrated_probability']:.2f}{unlike}",
        cutout=galaxy.cutout,
        gradients=gradients,
        image_occlusion=of_image,
        wavelength_angstrom=grid,
        spectrum=batch["spectrum"][0].double().numpy() if "spectrum" in batch else None,
        spectrum_occlusion=of_spectrum,
        line_falls=of_lines,
        features=member.config.tensors.features,
        importance=importance,
        importance_split=split,
    )


def _on_pixels(model: torch.nn.Module, batch: Batch, pixels: int) -> Floats:
    """(pixel,) mean fall of the logit over the sliding windows that hold a pixel."""
    windows = sliding_windows(pixels)
    total, count = np.zeros(pixels), np.zeros(pixels)
    for (first, stop), fall in zip(windows, spectrum_occlusion(model, batch, windows).tolist(), strict=True):
        total[first:stop] += fall
        count[first:stop] += 1
    return np.asarray(total / count)


def feature_importance(member: TrainedMember, run: RunFolder, split: str, draws: int) -> list[Importance]:
    """Permutation importance of the features that a network is given, on a split of its own run.

    Raises
    ------
    ValueError
        Where the split is not one that the network was not trained on, or lacks a class.
    """
    if split not in ("validation", "test"):
        raise ValueError(f"--split is {split}; allowed: validation, test")
    config = load_config(run.config)
    sample = with_recorded_split(labelled_sample(config), run)
    chosen = np.flatnonzero(sample.split == split)
    values, valid = chosen_features(config, sample)
    target = sample.target[chosen]
    tensors = pair_tensors(
        sample.store,
        sample.rows[chosen],
        values[chosen],
        valid[chosen],
        target,
        member.scaling,
        config.tensors,
        config.models.branches,
    )
    assert tensors.features is not None
    model, width = member.model.eval(), tensors.features.shape[1]
    with torch.inference_mode():
        parts = OrderedBatches(torch.arange(len(chosen)), JUDGED_AT_ONCE).batches()
        embedding = torch.cat([model.embedding(tensors.batch(rows)) for rows in parts])

    def logits(features: NDArray[np.float32]) -> Floats:
        with torch.inference_mode():
            dealt = torch.cat([embedding[:, :-width], torch.from_numpy(features)], dim=1)
            return np.asarray(model.head(dealt).squeeze(-1).double().numpy())

    return permutation_importance(
        logits, tensors.features.numpy(), target, config.tensors.features, draws=draws, seed=config.seed
    )


def _numbers(told: Explanation, run_path: Path) -> Mapping[str, Any]:
    """All that is drawn, as plain values."""
    gradients: Gradients = told.gradients
    parts = gradients.parts
    numbers: dict[str, Any] = {
        "run": run_path.resolve().name,
        "unit": "logit; positive speaks for an AGN",
        "integrated_gradients": {
            "baseline_logit": gradients.baseline_logit,
            "gap": gradients.gap,
            "total": {name: float(part.sum()) for name, part in parts.items()},
        },
        "permutation_importance": {
            "split": told.importance_split,
            "unit": "loss of average precision",
            "features": [asdict(each) for each in told.importance],
        },
    }
    if "image" in parts:
        numbers["image"] = {
            "patch_pixels": PATCH_PIXELS,
            "integrated_gradients": _by_patch(parts["image"].sum(axis=0)),
            "occlusion": told.image_occlusion,
        }
    if "spectrum" in parts:
        windows = line_windows(told.wavelength_angstrom)
        numbers["lines"] = {
            name: {"occlusion": fall, "integrated_gradients": float(parts["spectrum"][slice(*windows[name])].sum())}
            for name, fall in told.line_falls.items()
        }
        numbers["spectrum"] = {
            "rest_wavelength_angstrom": told.wavelength_angstrom,
            "integrated_gradients": parts["spectrum"],
            "occlusion": told.spectrum_occlusion,
        }
    if "features" in parts:
        numbers["features"] = dict(zip(told.features, parts["features"].tolist(), strict=True))
    return numbers


def _by_patch(values: Floats) -> Floats:
    """(row, column) sums over patches of pixels."""
    edges = [np.arange(0, size, PATCH_PIXELS) for size in values.shape]
    return np.asarray(np.add.reduceat(np.add.reduceat(values, edges[0], axis=0), edges[1], axis=1))
