"""The verdict on an ablation states what was compared."""

from mmagn.reporting.page.verdict import ablation_verdict

BEST = {
    "variant": "fused",
    "average_precision": 0.8,
    "average_precision_low": 0.7,
    "average_precision_high": 0.9,
    "prevalence": 0.25,
}


def test_an_ablation_without_questions_says_so_and_compares_its_best_network_with_the_ceiling() -> None:
    ceiling = {"average_precision": {"value": 0.95, "low": 0.92, "high": 0.97, "reason": None}}
    first, second = ablation_verdict({"questions": [], "noise_ceiling": ceiling}, BEST, simulated=False)
    assert "0.800 [0.700, 0.900], 3.2 times the 0.250 of guessing, and below the noise ceiling 0.950" in first
    assert second == "The ablation compares no models."
