from dataclasses import replace

import pytest
import torch
from sklearn.metrics import average_precision_score
from torch import Tensor
from training_runs import fitted_fold

from mmagn.features.names import FEATURE_NAMES
from mmagn.models.config import ImageBranchConfig, ModelsConfig, SpectrumBranchConfig
from mmagn.models.fusion import FusionModel
from mmagn.tensors.config import AugmentConfig
from mmagn.tensors.missing import FeatureOrigin, narrow_views
from mmagn.tensors.scaling import FeatureScaling
from mmagn.tensors.sources import PairTensors
from mmagn.training.config import TrainingConfig

PIXELS, OBJECTS = 64, 500
CONFIG = ModelsConfig(
    image=ImageBranchConfig(embedding_dim=4),
    spectrum=SpectrumBranchConfig(widths=(8,), embedding_dim=4),
    hidden_dim=16,
    dropout=0.0,
)
NO_LOSS = AugmentConfig(image_dropout=0.0, spectrum_dropout=0.0)
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


def trained(survey: dict[str, Tensor], config: ModelsConfig, augment: AugmentConfig, epochs: int) -> FusionModel:
    torch.manual_seed(0)
    model = FusionModel(config, spectrum_pixels=PIXELS)
    present = {name: survey[name] if name in config.branches else None for name in ("image", "spectrum", "features")}
    training = TrainingConfig(epochs=epochs, patience=epochs, learning_rate=3e-3, batch_size=10, device="cpu")
    fitted_fold(
        model,
        PairTensors(target=survey["target"], **present),
        (TRAIN, VALIDATION),
        training,
        augment=augment,
        origin=origin(),
        views=narrow_views(augment, config.branches, origin()),
    )
    return model


def score(model: FusionModel, survey: dict[str, Tensor], *, image: bool, spectrum: bool) -> float:
    shown = {name: values[TEST] for name, values in survey.items()}
    shown["image_valid"], shown["spectrum_valid"] = (torch.full(TEST.shape, there) for there in (image, spectrum))
    shown["features"] = origin().shown(shown["features"], shown["image_valid"], shown["spectrum_valid"])
    with torch.inference_mode():
        return float(average_precision_score(shown["target"].numpy(), model(shown).numpy()))


def test_a_fused_network_predicts_from_the_image_alone_about_as_well_as_one_that_never_saw_more(
    survey: dict[str, Tensor],
) -> None:
    fused = trained(survey, CONFIG, replace(NO_LOSS, image_dropout=0.3, spectrum_dropout=0.3), epochs=16)
    image_only = trained(survey, replace(CONFIG, branches=("image",)), NO_LOSS, epochs=16)
    from_image = score(fused, survey, image=True, spectrum=False)
    from_spectrum = score(fused, survey, image=False, spectrum=True)
    both, alone = (score(model, survey, image=True, spectrum=True) for model in (fused, image_only))
    assert alone > 0.85
    assert from_image > alone - 0.1
    assert from_spectrum > 0.85
    assert both > max(from_image, from_spectrum) - 0.02
