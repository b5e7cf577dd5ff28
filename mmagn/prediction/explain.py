"""Explanation of a prediction: attribution maps over image and spectrum, and the importance of the features."""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from astropy.table import Row

from mmagn.config.run_config import RunConfig
from mmagn.evaluation.attribution import (
    PATCH_PIXELS,
    Gradients,
    image_occlusion,
    integrated_gradients,
    line_windows,
    sliding_windows,
    spectrum_occlusion,
)
from mmagn.evaluation.parts import DISAGREE_COLUMN, PART_COLUMNS, parts_text
from mmagn.evaluation.permutation import mean_importances
from mmagn.evaluation.variants import DEFAULT_VARIANT
from mmagn.matching.objects import Galaxy, GivenPart, galaxy_with_id
from mmagn.prediction.decode import Decoded, Decoder
from mmagn.prediction.networks import Ensemble
from mmagn.records import Cutout, Floats
from mmagn.reporting.figures.explanation import Explanation, explanation_figure
from mmagn.reporting.figures.style import save_figures
from mmagn.runs.members import TrainedMember, load_members
from mmagn.runs.sample import engine
from mmagn.storage.files import file_stem, write_json
from mmagn.tensors.batches import Batch
from mmagn.tensors.spectrum import spectrum_grid_angstrom

_COLUMNS = (
    "sdss_object_id",
    "hsc_object_id",
    "redshift",
    "modalities",
    "logit",
    "probability",
    "calibrated_probability",
    *PART_COLUMNS.values(),
    DISAGREE_COLUMN,
)


def explain(
    config: RunConfig, run_path: Path, about: str | Galaxy, out: Path, *, variant: str = DEFAULT_VARIANT
) -> tuple[Path, Path]:
    """Write ``out/ID.png`` and ``out/ID.json`` about one galaxy and return the two paths.

    Parameters
    ----------
    config
        Settings of the run, with the source of the galaxy.
    run_path
        Folder of a training run, or of an ablation that kept members; maps are averaged over its networks.
    about
        SDSS or HSC id of the galaxy, or the galaxy itself.
    out
        Folder to write to.
    variant
        Model of an ablation.

    Raises
    ------
    FileNotFoundError, ValueError
        Where the folder is no complete run, settings do not fit, or there is no such galaxy.
    """
    ensemble = Ensemble(
        members=load_members([run_path], variant, config), device="cpu", embeddings=config.data.embeddings
    )
    if isinstance(about, Galaxy):
        galaxy = about
    else:
        with engine(config):
            galaxy = galaxy_with_id(config.data, config.matching, about)
    decoded = Decoder(config=ensemble.members[0].config, bases=ensemble.bases).decoded(GivenPart(members=(galaxy,)))
    row = ensemble.table(decoded)[0]
    result = explanation(ensemble, decoded, row, galaxy.cutout)
    name = file_stem(about if isinstance(about, str) else row["sdss_object_id"] or row["hsc_object_id"])
    (picture,) = save_figures({name: explanation_figure(result)}, out)
    numbers = out / f"{name}.json"
    write_json(numbers, {**{column: row[column] for column in _COLUMNS}, **_numbers(result, run_path)})
    sys.stdout.write(f"{result.title}\nwritten to {picture} and {numbers}\n")
    return picture, numbers


def explanation(ensemble: Ensemble, decoded: Decoded, row: Row, cutout: Cutout | None) -> Explanation:
    """Return all maps of one galaxy, averaged over the networks, which are on the CPU."""
    members = ensemble.members
    config = members[0].config
    grid = spectrum_grid_angstrom(config.tensors)
    windows = line_windows(grid)
    batches = [next(ensemble.batches(decoded, member)) for member in members]
    maps = [_maps(member, batch, grid) for member, batch in zip(members, batches, strict=True)]
    mean = {name: np.mean([each[name] for each in maps], axis=0) for name in maps[0]}
    unlike = "   unlike the training set" if row["unlike_training"] else ""
    name = row["sdss_object_id"] or row["hsc_object_id"]
    score, alone = f"P(AGN) = {row['calibrated_probability']:.2f}", parts_text(row)
    return Explanation(
        title="\n".join(filter(None, [f"{name}   from {row['modalities'] or 'nothing'}   {score}{unlike}", alone])),
        cutout=cutout,
        gradients=_mean_gradients([_gradients(each, batch) for each, batch in zip(members, batches, strict=True)]),
        image_occlusion=mean.get("image"),
        wavelength_angstrom=grid,
        spectrum=batches[0]["spectrum"][0].double().numpy() if "spectrum" in batches[0] else None,
        spectrum_occlusion=mean.get("spectrum"),
        line_falls=dict(zip(windows, mean["lines"].tolist(), strict=True)) if "lines" in mean else {},
        features=config.tensors.features,
        importance=mean_importances([member.importances for member in members]),
        importance_split="test",
    )


def _gradients(member: TrainedMember, batch: Batch) -> Gradients:
    branch = member.model.vector_branch
    mean = None if branch is None else branch.mean
    return integrated_gradients(member.model.eval(), batch, member.origin.imputed, vector=mean)


def _maps(member: TrainedMember, batch: Batch, grid: Floats) -> dict[str, Floats]:
    """Falls of the logit by patch of the image, by pixel and by line of the spectrum."""
    maps = {}
    if "image" in batch:
        maps["image"] = image_occlusion(member.model, batch)
    if "spectrum" in batch:
        maps["spectrum"] = _on_pixels(member.model, batch, len(grid))
        maps["lines"] = spectrum_occlusion(member.model, batch, list(line_windows(grid).values()))
    return maps


def _on_pixels(model: torch.nn.Module, batch: Batch, pixels: int) -> Floats:
    """(pixel,) mean fall of the logit over the sliding windows that hold a pixel."""
    windows = sliding_windows(pixels)
    total, count = np.zeros(pixels), np.zeros(pixels)
    for (first, stop), fall in zip(windows, spectrum_occlusion(model, batch, windows).tolist(), strict=True):
        total[first:stop] += fall
        count[first:stop] += 1
    return np.asarray(total / count)


def _mean_gradients(gradients: Sequence[Gradients]) -> Gradients:
    return Gradients(
        parts={name: np.mean([each.parts[name] for each in gradients], axis=0) for name in gradients[0].parts},
        logit=float(np.mean([each.logit for each in gradients])),
        baseline_logit=float(np.mean([each.baseline_logit for each in gradients])),
    )


def _numbers(explanation: Explanation, run_path: Path) -> Mapping[str, Any]:
    """All maps as plain values."""
    gradients = explanation.gradients
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
            "split": explanation.importance_split,
            "unit": "loss of average precision",
            "features": [asdict(each) for each in explanation.importance],
        },
    }
    if "image" in parts:
        numbers["image"] = {
            "patch_pixels": PATCH_PIXELS,
            "integrated_gradients": _by_patch(parts["image"].sum(axis=0)),
            "occlusion": explanation.image_occlusion,
        }
    if "spectrum" in parts:
        windows = line_windows(explanation.wavelength_angstrom)
        numbers["lines"] = {
            name: {"occlusion": fall, "integrated_gradients": float(parts["spectrum"][slice(*windows[name])].sum())}
            for name, fall in explanation.line_falls.items()
        }
        numbers["spectrum"] = {
            "rest_wavelength_angstrom": explanation.wavelength_angstrom,
            "integrated_gradients": parts["spectrum"],
            "occlusion": explanation.spectrum_occlusion,
        }
    if "features" in parts:
        numbers["features"] = dict(zip(explanation.features, parts["features"].tolist(), strict=True))
    return numbers


def _by_patch(values: Floats) -> Floats:
    """(row, column) sums over patches of pixels."""
    edges = [np.arange(0, size, PATCH_PIXELS) for size in values.shape]
    return np.asarray(np.add.reduceat(np.add.reduceat(values, edges[0], axis=0), edges[1], axis=1))
