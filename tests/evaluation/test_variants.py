"""What an ablation compares is named, refused where unknown, and described in plain words."""

import pytest

from mmagn.config.ablation import AblationConfig
from mmagn.evaluation.variants import VARIANTS, question


def test_lines_are_dropped_from_all_that_a_masked_model_sees() -> None:
    for variant in VARIANTS.values():
        assert variant.blank_lines == (variant.level == "L2")
        if variant.level == "L2":
            assert not any(name.startswith(("flux_", "ew_", "log_")) for name in variant.features)


@pytest.mark.parametrize(
    ("text", "change"),
    [
        ("masked-image-spectrum - masked-spectrum", "adding the image to the masked spectrum"),
        ("fused - handcrafted", "adding the image and the spectrum to the ten features"),
        ("fused-embedding - fused", "adding the embedding to the image, the spectrum and the ten features"),
        ("spectrum - image", "taking the spectrum instead of the image"),
        ("fused - logistic", "taking the image, the spectrum and the ten features instead of logistic regression"),
    ],
)
def test_a_question_says_what_is_changed(text: str, change: str) -> None:
    assert question(text).change.startswith(change)
    assert question(text).name == text


@pytest.mark.parametrize("text", ["fused", "fused - fused", "fused - magic", "a - b - c"])
def test_a_question_about_unknown_models_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"ablation\.questions has"):
        question(text)


def test_the_rule_that_made_the_labels_says_so() -> None:
    assert "circular" in VARIANTS["bpt-rule"].title


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"variants": ("fused", "magic")}, "ablation.variants has magic; allowed: handcrafted"),
        ({"variants": ("fused",)}, "ablation.variants has no handcrafted"),
        ({"folds": 1}, "ablation.folds is 1"),
        ({"repeats": 0}, "ablation.repeats is 0"),
        ({"metric": "beauty"}, "ablation.metric is beauty"),
    ],
)
def test_settings_out_of_range_are_refused(settings: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        AblationConfig(**settings)
