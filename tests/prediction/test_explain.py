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
from mmagn.runs import sample
from mmagn.runs.members import load_members

SCRIPT = Path(__file__).resolve().parent.parent.parent / "scripts" / "explain.py"
PNG = b"\x89PNG"


def script(arguments: list[str]) -> int:
    spec = importlib.util.spec_from_file_location("script_explain", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.main(arguments)


def test_one_galaxy_is_explained_by_picture_and_numbers(world: dict, tmp_path: Path) -> None:
    object_id = str(world["sample"].store.index["sdss_object_id"][3])
    picture, numbers = explain(world["config"], world["run"], object_id, tmp_path)
    assert picture.read_bytes().startswith(PNG)
    content = json.loads(numbers.read_text(encoding="utf-8"))
    assert content["modalities"] == "image+spectrum"
    assert all(0 < content[f"p_{name}"] < 1 for name in ("image", "spectrum", "features"))
    assert content["modalities_disagree"] in (True, False)
    shares = content["integrated_gradients"]
    assert sum(shares["total"].values()) + shares["gap"] == pytest.approx(
        content["logit"] - shares["baseline_logit"], abs=1e-5
    )
    assert abs(shares["gap"]) < 0.05
    assert set(content["lines"]) == {line.name for line in LINES}
    assert np.shape(content["image"]["occlusion"]) == np.shape(content["image"]["integrated_gradients"]) == (4, 4)
    assert len(content["spectrum"]["occlusion"]) == len(content["spectrum"]["rest_wavelength_angstrom"])
    importance = content["permutation_importance"]["features"]
    assert [each["name"] for each in importance] == list(FEATURE_NAMES)
    assert all(each["low"] <= each["high"] for each in importance)


def test_a_galaxy_without_spectrum_is_explained_by_its_image_alone(world: dict, tmp_path: Path) -> None:
    catalog = json.loads(json.dumps(_alone(world)))
    _, numbers = explain(world["config"], world["run"], catalog, tmp_path)
    content = json.loads(numbers.read_text(encoding="utf-8"))
    assert content["modalities"] == "image"
    assert content["p_image"] is not None
    assert content["p_spectrum"] is None
    assert content["integrated_gradients"]["total"]["spectrum"] == 0
    assert np.max(np.abs(content["spectrum"]["occlusion"])) < 1e-6  # rounding of single precision
    assert np.any(content["image"]["occlusion"])


def _alone(world: dict) -> str:
    """HSC id of a galaxy without an SDSS match."""
    from collections import Counter

    from mmagn.surveys.readers import survey_reader

    everyone = survey_reader(world["config"].data).read_hsc_catalog(Counter()).object_id
    paired = set(np.asarray(world["sample"].store.index["hsc_object_id"]).tolist())
    return next(name for name in everyone.tolist() if name not in paired)


def test_members_of_an_ablation_are_averaged_without_reading_their_survey_again(
    world: dict, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: object) -> None:
        raise AssertionError("the sample of the run was read")

    monkeypatch.setattr(sample, "pair_store", refused)
    ablation, object_id = world["base"] / "ablation", str(world["sample"].store.index["sdss_object_id"][3])
    _, numbers = explain(world["config"], ablation, object_id, tmp_path)
    content = json.loads(numbers.read_text(encoding="utf-8"))
    members = load_members([ablation])
    shares = content["integrated_gradients"]
    assert sum(shares["total"].values()) + shares["gap"] == pytest.approx(
        content["logit"] - shares["baseline_logit"], abs=1e-5
    )
    for place, each in enumerate(content["permutation_importance"]["features"]):
        assert each["value"] == pytest.approx(np.mean([member.importances[place].value for member in members]))


def test_a_question_that_cannot_be_answered_is_one_sentence(world: dict, tmp_path: Path, capsys) -> None:
    out = ["--out", str(tmp_path)]
    assert script(["12", "--run", str(world["run"]), *out]) == 2
    assert "no usable galaxy with object_id 12" in capsys.readouterr().err
    assert script(["12", "--run", str(world["base"] / "ablation"), "--variant", "image", *out]) == 2
    assert "holds no members of the model image; it has fused" in capsys.readouterr().err
    other = replace(world["config"], tensors=replace(world["config"].tensors, image_size=64))
    with pytest.raises(ValueError, match=r"tensors\.image_size is 32 in one and 64 in the other"):
        explain(other, world["run"], "12", tmp_path)
    assert not list(tmp_path.iterdir())
    assert torch.is_grad_enabled()
