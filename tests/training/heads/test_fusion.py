from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.metrics import average_precision_score
from torch import Tensor

from mmagn.models.config import ModelsConfig
from mmagn.models.heads import FusionHeads
from mmagn.tensors.missing import FeatureOrigin
from mmagn.training.config import TrainingConfig
from mmagn.training.heads.fusion import HeadsSettings, HeadsTask, fit_heads

OBJECTS = 1200
TRAIN, VALIDATION, TEST = np.arange(200), np.arange(200, 400), np.arange(400, OBJECTS)
WIDTHS = {"image": 2, "spectrum": 2, "features": 3}


def evidence(target: Tensor, strength: float, width: int, drawn: torch.Generator) -> Tensor:
    values = torch.randn((len(target), width), generator=drawn)
    values[:, 0] += strength * (2 * target - 1)
    return values


def task(*, image: float, spectrum: float, features: float, remembered: bool = False) -> HeadsTask:
    """Embeddings with evidence of a given strength; those of training objects hold the class if ``remembered``."""
    drawn = torch.Generator().manual_seed(2)
    target = (torch.rand(OBJECTS, generator=drawn) < 0.3).float()
    strengths = {"image": image, "spectrum": spectrum, "features": features}
    parts = {name: evidence(target, strength, WIDTHS[name], drawn) for name, strength in strengths.items()}
    if remembered:
        for name in ("image", "spectrum"):
            parts[name][TRAIN, 0] = 3 * (2 * target[TRAIN] - 1)
    torch.manual_seed(0)
    heads = FusionHeads(WIDTHS, ModelsConfig())  # type: ignore[arg-type]
    for name in ("image", "spectrum"):  # as a finished branch would leave them
        with torch.no_grad():
            heads.auxiliary[name].weight[:] = torch.tensor([[2.0, 0.0]])  # type: ignore[operator]
    return HeadsTask(
        heads=heads,
        embedding=torch.cat(list(parts.values()), dim=1),
        target=target,
        train=TRAIN,
        validation=VALIDATION,
        settings=HeadsSettings(
            config=TrainingConfig(head_epochs=40, head_patience=10),
            origin=FeatureOrigin(of_image=torch.tensor([False, False, False]), imputed=torch.zeros(3)),
            pos_weight=2.0,
            seed=1,
        ),
    )


def scores(fitted: HeadsTask, *, without: str = "") -> dict[str, float]:
    """Average precision on unseen objects, of all and of each modality alone."""
    parts = fitted.heads.split(fitted.embedding[TEST])
    embedding = torch.cat([part * (name != without) for name, part in parts.items()], dim=1)
    present = torch.tensor([name != without for name in parts]).expand(len(TEST), -1)
    with torch.no_grad():
        logits = fitted.heads.eval()(embedding, present)
    named = {"fused": logits.fused, **logits.parts}
    return {name: float(average_precision_score(fitted.target[TEST], each)) for name, each in named.items()}


def fitted(**strengths: float) -> HeadsTask:
    one = task(**strengths)  # type: ignore[arg-type]
    fit_heads([one])
    return one


def test_branches_that_remember_their_training_objects_cost_nothing() -> None:
    score = scores(fitted(image=0.0, spectrum=0.5, features=1.5, remembered=True))
    assert score["features"] > 0.9
    assert score["fused"] > score["features"] - 0.01


@pytest.mark.parametrize("deciding", ["image", "spectrum"])
def test_where_one_branch_decides_the_fused_network_follows_it(deciding: str) -> None:
    strengths = {"image": 0.0, "spectrum": 0.0, "features": 0.3, deciding: 1.5}
    score = scores(fitted(**strengths))
    assert score[deciding] > 0.9
    assert score["fused"] > score[deciding] - 0.02


def test_modalities_that_each_know_a_part_are_better_together() -> None:
    score = scores(fitted(image=0.7, spectrum=0.7, features=0.7))
    assert score["fused"] > max(score["image"], score["spectrum"], score["features"]) + 0.08


def test_without_the_features_the_fused_network_is_not_worse_than_the_spectrum_alone() -> None:
    score = scores(fitted(image=0.3, spectrum=1.0, features=1.5), without="features")
    assert score["fused"] > score["spectrum"] - 0.01


def test_objects_without_features_teach_the_heads_what_the_other_modalities_state() -> None:
    one, lost = task(image=0.3, spectrum=1.0, features=1.5), np.arange(OBJECTS) % 2 == 0
    present = torch.ones((OBJECTS, 3), dtype=torch.bool)
    present[lost, 2] = False
    wrong = one.embedding.clone()
    wrong[lost, 4] = 9 * (1 - 2 * one.target[lost])  # in place of features that do not exist
    fitted_heads = []
    for embedding in (one.embedding * present[:, [0, 0, 1, 1, 2, 2, 2]], wrong):
        each = replace(task(image=0.3, spectrum=1.0, features=1.5), embedding=embedding, present=present)
        fit_heads([each])
        fitted_heads.append(each.heads)
    for name, value in fitted_heads[0].auxiliary["features"].state_dict().items():
        assert torch.equal(fitted_heads[1].auxiliary["features"].state_dict()[name], value)
    score = scores(replace(one, heads=fitted_heads[0]))
    assert score["features"] > 0.9
    assert score["fused"] > score["features"] - 0.01
    without = scores(replace(one, heads=fitted_heads[0]), without="features")
    assert without["fused"] > without["spectrum"] - 0.01


def test_a_network_is_fitted_the_same_beside_others() -> None:
    alone, first, second = (task(image=0.3, spectrum=0.5, features=1.0) for _ in range(3))
    fit_heads([alone])
    fit_heads([first, replace(second, settings=replace(second.settings, seed=5))])
    for name, value in alone.heads.state_dict().items():
        torch.testing.assert_close(first.heads.state_dict()[name], value, rtol=1e-4, atol=1e-4)


def test_without_a_class_among_the_validation_objects_the_head_alone_decides() -> None:
    one = task(image=0.3, spectrum=0.5, features=1.0)
    one = replace(one, validation=VALIDATION[one.target.numpy()[VALIDATION] == 0])
    fit_heads([one])
    score = scores(one)
    assert score["fused"] == score["head"]
    assert score["head"] > 0.8
