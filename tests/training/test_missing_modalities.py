from dataclasses import replace

import pytest
import torch
from sklearn.metrics import average_precision_score
from torch import Tensor
from training_runs import fitted_fold

from mmagn.features.names import FEATURE_NAMES
from mmagn.models.config import Branch, ImageBranchConfig, ModelsConfig, SpectrumBranchConfig
from mmagn.models.fusion import FusionModel
from mmagn.tensors.missing import FeatureOrigin
from mmagn.tensors.scaling import FeatureScaling
from mmagn.tensors.sources import PairTensors
from mmagn.training.config import TrainingConfig
from mmagn.training.heads.fusion import HeadsSettings, fit_model_heads

PIXELS, OBJECTS = 64, 500
CONFIG = ModelsConfig(
    image=ImageBranchConfig(embedding_dim=4),
    spectrum=SpectrumBranchConfig(widths=(8,), embedding_dim=4),
    hidden_dim=16,
    dropout=0.0,
)
TRAIN, VALIDATION, TEST = torch.arange(200), torch.arange(200, 300), torch.arange(300, OBJECTS)


@pytest.fixture(scope="module")
def survey() -> dict[str, Tensor]:
    """Objects whose class shows in the core of the image and, more clearly, in a line and its feature."""
    drawn = torch.Generator().manual_seed(5)
    target = (torch.arange(OBJECTS) % 2).float()
    image = torch.randn((OBJECTS, 5, 16, 16), generator=drawn)
    image[:, :, 6:10, 6:10] += 0.8 * target[:, None, None, None]
    spectrum = torch.full((OBJECTS, 2, PIXELS), 0.5)
    spectrum[:, 0] = 0.3 * torch.randn((OBJECTS, PIXELS), generator=drawn)
    spectrum[:, 0, 30:33] += 0.8 * target[:, None]
    features = torch.randn((OBJECTS, 10), generator=drawn)
    features[:, 0] += 2 * target
    return {"image": image, "spectrum": spectrum, "features": features, "target": target}


def origin() -> FeatureOrigin:
    values = torch.randn((100, 10), generator=torch.Generator().manual_seed(6)).double().numpy()
    return FeatureOrigin.of(FEATURE_NAMES, FeatureScaling.fit(values, values == values))


def trained(survey: dict[str, Tensor], config: ModelsConfig) -> FusionModel:
    torch.manual_seed(0)
    model = FusionModel(config, spectrum_pixels=PIXELS)
    present = {name: survey[name] if name in config.branches else None for name in ("image", "spectrum", "features")}
    tensors = PairTensors(target=survey["target"], **present)
    training = TrainingConfig(epochs=16, patience=16, batch_size=10, device="cpu")
    fitted_fold(model, tensors, (TRAIN, VALIDATION), training)
    settings = HeadsSettings(config=training, origin=origin(), pos_weight=1.0, seed=1)
    fit_model_heads(model, tensors, (TRAIN.numpy(), VALIDATION.numpy()), settings)
    return model


def score(model: FusionModel, survey: dict[str, Tensor], *lost: str) -> float:
    batch = {name: values[TEST] for name, values in survey.items()}
    valid = {name: torch.full(TEST.shape, name not in lost) for name in ("image", "spectrum", "features")}
    batch |= {f"{name}_valid": flags for name, flags in valid.items()}
    batch["features"] = origin().with_imputed(batch["features"], valid["image"], valid["spectrum"])
    with torch.inference_mode():
        return float(average_precision_score(batch["target"].numpy(), model(batch).numpy()))


@pytest.fixture(scope="module")
def fused(survey: dict[str, Tensor]) -> FusionModel:
    return trained(survey, CONFIG)


@pytest.mark.parametrize(("modality", "lost"), [("image", ("spectrum",)), ("spectrum", ("image", "features"))])
def test_without_the_rest_a_fused_network_predicts_as_well_as_one_that_never_had_more(
    survey: dict[str, Tensor], fused: FusionModel, modality: Branch, lost: tuple[str, ...]
) -> None:
    alone = score(trained(survey, replace(CONFIG, branches=(modality,))), survey)
    assert alone > 0.85
    assert score(fused, survey, *lost) > alone - 0.05


def test_all_modalities_together_are_not_worse_than_any_of_them(survey: dict[str, Tensor], fused: FusionModel) -> None:
    fewer = [score(fused, survey, *lost) for lost in (("spectrum",), ("image",), ("features",), ("image", "features"))]
    assert score(fused, survey) > max(fewer) - 0.02


def test_an_object_without_features_counts_by_what_it_has(survey: dict[str, Tensor], fused: FusionModel) -> None:
    batch = {name: values[TEST] for name, values in survey.items()}
    lost = torch.arange(len(TEST)) % 5 == 0
    with torch.inference_mode():
        mixed = fused({**batch, "features_valid": ~lost})
        without = fused({**batch, "features_valid": torch.zeros_like(lost)})
        assert torch.equal(mixed[lost], without[lost])
        torch.testing.assert_close(mixed[~lost], fused(batch)[~lost])
