from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.metrics import average_precision_score
from training_runs import fitted_fold

from mmagn.models.config import Branch, ModelsConfig, SpectrumBranchConfig
from mmagn.models.fusion import FusionModel
from mmagn.tensors.sources import PairTensors
from mmagn.training.config import TrainingConfig
from mmagn.training.heads.warm_start import features_first

PIXELS, OBJECTS = 64, 600
TRAIN, VALIDATION, TEST = np.arange(150), np.arange(150, 300), np.arange(300, OBJECTS)
TRAINING = TrainingConfig(epochs=12, features_first_epochs=60, device="cpu")


def network(*branches: Branch) -> FusionModel:
    torch.manual_seed(0)
    spectrum = SpectrumBranchConfig(widths=(16, 32), embedding_dim=8)
    return FusionModel(ModelsConfig(branches=branches, spectrum=spectrum), spectrum_pixels=PIXELS, features=4)


@pytest.fixture(scope="module")
def survey() -> PairTensors:
    """Objects whose class is a curved function of two features, which their spectra of pure noise do not know."""
    drawn = torch.Generator().manual_seed(3)
    features = torch.randn((OBJECTS, 4), generator=drawn)
    radius = features[:, 0].square() + features[:, 1].square()
    spectrum = torch.full((OBJECTS, 2, PIXELS), 0.5)
    spectrum[:, 0] = torch.randn((OBJECTS, PIXELS), generator=drawn)
    return PairTensors(image=None, spectrum=spectrum.half(), features=features, target=(radius > 2.5).float())


def begun(model: FusionModel, survey: PairTensors, config: TrainingConfig = TRAINING) -> FusionModel:
    features_first(model, survey, TRAIN, VALIDATION, config, pos_weight=1.0, seed=1)
    return model


def score(model: FusionModel, survey: PairTensors) -> float:
    model.eval()
    with torch.inference_mode():
        batch = survey.batch(torch.from_numpy(TEST))
        return float(average_precision_score(batch["target"].numpy(), model(batch).numpy()))


def trained(model: FusionModel, survey: PairTensors) -> FusionModel:
    fitted_fold(model, survey, (TRAIN, VALIDATION), TRAINING)
    return model


def test_the_head_knows_the_features_before_it_has_looked_at_a_spectrum(survey: PairTensors) -> None:
    model = begun(network("spectrum", "features"), survey)
    assert all(part.training for part in model.modules())
    assert score(model, survey) > 0.9
    other = replace(survey, spectrum=survey.spectrum.flip(0))
    rows = torch.from_numpy(TEST)
    torch.testing.assert_close(model(survey.batch(rows)), model(other.batch(rows)))


def test_spectra_that_tell_nothing_cost_little_of_what_the_features_tell(survey: PairTensors) -> None:
    alone = score(begun(network("spectrum", "features"), survey), survey)
    together = score(trained(network("spectrum", "features"), survey), survey)
    in_turn = score(trained(begun(network("spectrum", "features"), survey), survey), survey)
    assert in_turn > alone - 0.03
    assert in_turn > together + 0.1


def test_the_branches_go_on_learning_from_a_head_that_ignores_them(survey: PairTensors) -> None:
    told = survey.spectrum.clone()
    told[:, 0, 20:26] += 3 * survey.target[:, None].half()
    model = trained(
        begun(network("spectrum", "features"), replace(survey, spectrum=told)), replace(survey, spectrum=told)
    )
    unseen = replace(survey, spectrum=told, features=torch.zeros_like(survey.features))
    assert score(model, unseen) > 0.8


@pytest.mark.parametrize("branches", [("spectrum",), ("features",)])
def test_a_network_without_features_or_of_features_alone_stays_as_it_is(
    branches: tuple[Branch], survey: PairTensors
) -> None:
    shown = survey if "features" in branches else replace(survey, features=None)
    before, after = network(*branches).state_dict(), begun(network(*branches), shown).state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_where_the_features_tell_little_the_network_stays_as_it_is(survey: PairTensors) -> None:
    noise = torch.randn(survey.features.shape, generator=torch.Generator().manual_seed(4))
    model, before = network("spectrum", "features"), network("spectrum", "features").state_dict()
    poor = replace(survey, features=noise)
    assert features_first(model, poor, TRAIN, VALIDATION, TRAINING, pos_weight=1.0, seed=1) is None
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())


def test_with_zero_epochs_the_network_stays_as_it_is(survey: PairTensors) -> None:
    none = replace(TRAINING, features_first_epochs=0)
    before = network("spectrum", "features").state_dict()
    after = begun(network("spectrum", "features"), survey, none).state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_without_validation_rows_the_training_rows_choose_the_epoch(survey: PairTensors) -> None:
    model = network("spectrum", "features")
    found = features_first(model, survey, TRAIN, TRAIN[:0], TRAINING, pos_weight=1.0, seed=1)
    assert found is not None
    assert found.best_score > 0.9


def test_a_negative_number_of_epochs_is_refused() -> None:
    with pytest.raises(ValueError, match=r"training\.features_first_epochs is -1; allowed: 0 or more"):
        TrainingConfig(features_first_epochs=-1)
