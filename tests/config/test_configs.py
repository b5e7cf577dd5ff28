"""Every shipped YAML loads, says only what it changes, and takes a step."""

import dataclasses
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from mmagn.config.run_config import (
    CONFIGS_DIR,
    RunConfig,
    changed_settings,
    config_dict,
    load_config,
    without_effect,
)
from mmagn.models.fusion import FusionModel
from mmagn.storage.settings import declared_settings
from mmagn.tensors.spectrum import spectrum_pixels
from mmagn.training.losses import weighted_bce

SHIPPED = sorted(CONFIGS_DIR.glob("*.yaml"))


def written_names(path: Path) -> set[str]:
    def leaves(settings: dict, prefix: str = "") -> set[str]:
        names: set[str] = set()
        for name, value in settings.items():
            names |= leaves(value, f"{prefix}{name}.") if isinstance(value, dict) else {prefix + name}
        return names

    return leaves(yaml.safe_load(path.read_text(encoding="utf-8")))


def test_fused_writes_out_every_setting_with_its_default() -> None:
    assert written_names(CONFIGS_DIR / "fused.yaml") == set(declared_settings(RunConfig))
    assert load_config("fused.yaml") == RunConfig()


def test_every_setting_of_fused_is_explained_by_a_comment_above_it() -> None:
    lines = (CONFIGS_DIR / "fused.yaml").read_text(encoding="utf-8").splitlines()
    for above, line in pairwise(lines):
        if line.strip() and not line.strip().startswith("#"):
            assert above.strip().startswith("#"), line


@pytest.mark.parametrize("path", [path for path in SHIPPED if path.name != "fused.yaml"], ids=lambda path: path.name)
def test_the_other_files_hold_differences_only(path: Path) -> None:
    config = load_config(path)
    assert set(changed_settings(config)) == written_names(path)
    assert config.name == path.stem
    assert without_effect(config) == []


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.name)
def test_every_shipped_model_takes_a_step_that_lowers_its_loss(path: Path) -> None:
    config = load_config(path)
    rng = torch.Generator().manual_seed(0)
    size, pixels = config.tensors.image_size, spectrum_pixels(config.tensors)
    batch = {
        "image": torch.randn(8, 5, size, size, generator=rng),
        "spectrum": torch.cat([torch.randn(8, 1, pixels, generator=rng), torch.ones(8, 1, pixels)], 1),
        "features": torch.randn(8, 10, generator=rng),
    }
    target = torch.tensor([0.0, 1.0] * 4)
    torch.manual_seed(config.seed)
    models = dataclasses.replace(config.models, dropout=0.0)
    model = FusionModel(models, spectrum_pixels=pixels)
    optimiser = torch.optim.Adam(model.parameters(), lr=config.training.learning_rate)
    losses = []
    for _ in range(3):
        loss = weighted_bce(model(batch), target, torch.tensor(1.0)).mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < losses[0]


def test_a_saved_run_config_holds_plain_values_only() -> None:
    plain = yaml.safe_load(yaml.safe_dump(config_dict(RunConfig())))
    assert plain == config_dict(RunConfig())
    assert np.isfinite(plain["training"]["learning_rate"])
