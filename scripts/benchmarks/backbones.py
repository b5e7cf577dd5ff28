"""Image backbones on simulated galaxies: what each learns of the BPT class and of a planted mark, and its cost."""

import json
import logging
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import timm
from sklearn.metrics import average_precision_score

from benchmarks.gpu_rows import WIDTH, Row
from benchmarks.lines import machine
from benchmarks.truth import Survey, planted_inputs
from mmagn.ablation.ablate import ablation_folds
from mmagn.ablation.inputs import FoldInputs
from mmagn.ablation.networks import FoldNetworks
from mmagn.config.run_config import RunConfig
from mmagn.evaluation.variants import VARIANTS
from mmagn.records import BANDS


def backbone_benchmark(*, pairs: str, backbones: str, image_size: int, folds: int, seed: int, out: str) -> None:
    """Print the average precision of the image model of each backbone at each size of the survey.

    ``pairs`` and ``backbones`` are lists separated by commas; each figure is the mean over ``folds`` of five folds.
    """
    if not 1 <= folds <= 5:
        raise SystemExit(f"--folds is {folds}; allowed: 1 to 5")
    logging.getLogger("mmagn").setLevel(logging.WARNING)
    folder, rows = Path(out), []
    folder.mkdir(parents=True, exist_ok=True)
    print(f"{machine()}; survey seed {seed}; {image_size} pixels; {folds} of 5 folds")
    for number in map(int, pairs.split(",")):
        survey = Survey.of(folder, seed=seed, pairs=number, repeats=1)
        for backbone in backbones.split(","):
            image = replace(survey.config.models.image, backbone=backbone)
            config = replace(
                survey.config,
                models=replace(survey.config.models, image=image),
                tensors=replace(survey.config.tensors, image_size=image_size),
            )
            for row in backbone_rows(survey, config, folds, seed):
                print(f"{row.what:<{WIDTH}}  {row.value:8.3f}  {row.note}", flush=True)
                rows.append(vars(row))
                content = json.dumps({"seed": seed, "image_size": image_size, "rows": rows}, indent=2)
                (folder / "backbones.json").write_text(f"{content}\n", encoding="utf-8")


def backbone_rows(survey: Survey, config: RunConfig, folds: int, seed: int) -> Iterator[Row]:
    """Yield what the backbone of the settings learns of the class of the survey, and of a mark that decides alone."""
    name, objects = config.models.image.backbone, len(survey.target)
    weights = sum(each.numel() for each in timm.create_model(name, in_chans=len(BANDS), num_classes=0).parameters())
    marked = planted_inputs(config, survey.fits.sample, "image", seed)
    for label, inputs in (("BPT class", FoldInputs(config, survey.fits.sample)), ("planted mark", marked)):
        start_s = time.perf_counter()
        score = _score(inputs, folds)
        note = f"{objects} labelled, {weights / 1e6:.1f} M weights, {time.perf_counter() - start_s:.0f} s"
        yield Row(what=f"{config.data.simulate.pairs} pairs, {name}: {label}", value=score, unit="", note=note)


def _score(inputs: FoldInputs, count: int) -> float:
    """Mean average precision of the image model on the test objects of some folds."""
    folds, target = ablation_folds(inputs.config, inputs.sample)[:count], inputs.sample.target
    fitted = FoldNetworks(inputs).fitted(VARIANTS["image"], folds)
    scores = [
        average_precision_score(target[fold.test], each.logits[fold.test])
        for fold, each in zip(folds, fitted, strict=True)
    ]
    return float(np.mean(scores))
