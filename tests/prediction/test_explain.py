"""One galaxy explained: a picture, numbers, and reasons that hold."""

import importlib.util
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from mmagn.features.names import FEATURE_NAMES
from mmagn.lines import LINES
from mmagn.prediction.explain import explain

SCRIPT = Path(__file__).resolve().parent.parent.parent / "scripts" / "explain.py"
PNG = b"\x89PNG"


def script(arguments: list[str]) -> int:
    spec = importlib.util.spec_from_file_location("script_explain", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.main(arguments)


def test_one_galaxy_is_explained_by_picture_and_numbers(world: dict, tmp_path: Path) -> None:
    object_id = str(world["sample"].store.index["sdss_object_id"][3])
    picture, numbers = explain(world["config"], world["run"], object_id, tmp_path, draws=4)
    assert picture.read_bytes().startswith(PNG)
    told = json.loads(numbers.read_text(encoding="utf-8"))
    assert told["modalities"] == "image+spectrum"
    shares = told["integrated_gradients"]
    assert sum(shares["total"].values()) + shares["gap"] == pytest.approx(
        told["logit"] - shares["baseline_logit"], abs=1e-5
    )
    assert abs(shares["gap"]) < 0.05
    assert set(told["lines"]) == {line.name for line in LINES}
    assert np.shape(told["image"]["occlusion"]) == np.shape(told["image"]["integrated_gradients"]) == (4, 4)
    assert len(told["spectrum"]["occlusion"]) == len(told["spectrum"]["rest_wavelength_angstrom"])
    importance = told["permutation_importance"]["features"]
    assert [each["name"] for each in importance] == list(FEATURE_NAMES)
    assert all(each["low"] <= each["high"] for each in importance)


def test_a_galaxy_without_spectrum_is_explained_by_its_image_alone(world: dict, tmp_path: Path) -> None:
    catalog = json.loads(json.dumps(_alone(world)))
    _, numbers = explain(world["config"], world["run"], catalog, tmp_path, draws=2)
    told = json.loads(numbers.read_text(encoding="utf-8"))
    assert told["modalities"] == "image"
    assert told["integrated_gradients"]["total"]["spectrum"] == 0
    assert np.max(np.abs(told["spectrum"]["occlusion"])) < 1e-6  # rounding of single precision
    assert np.any(told["image"]["occlusion"])


def _alone(world: dict) -> str:
    """HSC id of a galaxy without an SDSS match."""
    from collections import Counter

    from mmagn.surveys.readers import survey_reader

    everyone = survey_reader(world["config"].data).read_hsc_catalog(Counter()).object_id
    paired = set(np.asarray(world["sample"].store.index["hsc_object_id"]).tolist())
    return next(name for name in everyone.tolist() if name not in paired)


def test_a_question_that_cannot_be_answered_is_one_sentence(world: dict, tmp_path: Path, capsys) -> None:
    out = ["--out", str(tmp_path)]
    assert script(["12", "--run", str(world["run"]), *out]) == 2
    assert "no usable galaxy with object_id 12" in capsys.readouterr().err
    assert script(["12", "--run", str(world["base"] / "ablation"), *out]) == 2
    assert "lacks split.parquet" in capsys.readouterr().err
    other = replace(world["config"], tensors=replace(world["config"].tensors, image_size=64))
    with pytest.raises(ValueError, match=r"tensors\.image_size is 32 in one and 64 in the other"):
        explain(other, world["run"], "12", tmp_path)
    assert not list(tmp_path.iterdir())
    assert torch.is_grad_enabled()
