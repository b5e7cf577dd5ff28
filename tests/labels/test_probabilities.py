import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import norm

from mmagn.labels.bpt import BPT_CLASSES
from mmagn.labels.probabilities import CHUNK_OBJECTS, class_probabilities

SETTINGS = {"seyfert_liner": "schawinski2007", "draws": 1000, "seed": 0}
SEYFERT = [100.0, 800.0, 300.0, 250.0]


def probabilities(flux, flux_err, **changes):
    return class_probabilities(np.atleast_2d(flux), np.atleast_2d(flux_err), **{**SETTINGS, **changes})


def test_a_certain_measurement_has_a_certain_class():
    np.testing.assert_array_equal(probabilities(SEYFERT, [1.0] * 4), [[0, 0, 1, 0]])
    np.testing.assert_array_equal(probabilities(SEYFERT, [0.0] * 4), [[0, 0, 1, 0]])


@given(
    flux=st.lists(st.floats(-50, 500), min_size=4, max_size=4),
    err=st.lists(st.floats(0.1, 200), min_size=4, max_size=4),
)
def test_probabilities_add_to_one_or_are_all_undefined(flux, err):
    result = probabilities(flux, err)
    defined = result.min() >= 0 and result.sum() == pytest.approx(1)
    assert defined or np.isnan(result).all()


def test_an_object_on_a_border_is_half_of_each_side():
    # Only [O III] is uncertain, and the truth lies on the Kewley curve at x = -0.5, where composite ends.
    on_curve = [100.0, 100 * 10 ** (0.61 / (-0.5 - 0.47) + 1.19), 300.0, 300 * 10**-0.5]
    result = probabilities(on_curve, [0.0, 5.0, 0.0, 0.0], draws=20000)[0]
    assert result[BPT_CLASSES.index("seyfert")] == pytest.approx(0.5, abs=0.02)
    assert result[BPT_CLASSES.index("composite")] == pytest.approx(0.5, abs=0.02)


def test_a_probability_is_the_gaussian_integral_beyond_the_border():
    on_curve = 100 * 10 ** (0.61 / (-0.5 - 0.47) + 1.19)
    result = probabilities([100.0, on_curve + 8.0, 300.0, 300 * 10**-0.5], [0.0, 10.0, 0.0, 0.0], draws=20000)[0]
    assert result[BPT_CLASSES.index("seyfert")] == pytest.approx(norm.cdf(0.8), abs=0.01)


def test_an_object_does_not_depend_on_its_company():
    rng = np.random.default_rng(4)
    flux, err = rng.uniform(10, 500, (3 * CHUNK_OBJECTS, 4)), rng.uniform(1, 100, (3 * CHUNK_OBJECTS, 4))
    together = probabilities(flux, err)
    order = rng.permutation(len(flux))
    np.testing.assert_array_equal(probabilities(flux[order], err[order]), together[order])
    np.testing.assert_array_equal(probabilities(flux[7], err[7])[0], together[7])


def test_another_seed_changes_a_probability_by_no_more_than_its_counting_error():
    flux, err = [100.0, 300.0, 300.0, 150.0], [20.0] * 4
    first, second = probabilities(flux, err)[0], probabilities(flux, err, seed=1)[0]
    assert not np.array_equal(first, second)
    np.testing.assert_allclose(first, second, atol=5 * np.sqrt(0.25 / 1000))


def test_a_line_that_is_not_there_counts_as_a_limit():
    # No [O III] and no [N II]: both ratios at -infinity, the corner of star formation.
    assert probabilities([100.0, -5.0, 300.0, -5.0], [1.0] * 4)[0, 0] == 1
    # No Hb, no Ha: both at +infinity.
    assert probabilities([-5.0, 100.0, -5.0, 100.0], [1.0] * 4)[0, BPT_CLASSES.index("seyfert")] == 1


@pytest.mark.parametrize(
    ("flux", "err"),
    [
        ([np.nan, 1.0, 1.0, 1.0], [1.0] * 4),
        ([1.0] * 4, [np.nan, 1.0, 1.0, 1.0]),
        ([1.0] * 4, [np.inf, 1.0, 1.0, 1.0]),
        ([1.0] * 4, [-1.0, 1.0, 1.0, 1.0]),
        ([-50.0] * 4, [1.0] * 4),
    ],
)
def test_where_nothing_was_measured_there_is_no_probability(flux, err):
    assert np.isnan(probabilities(flux, err)).all()
    both = probabilities([SEYFERT, flux], [[1.0] * 4, err])
    np.testing.assert_array_equal(both[0], [0, 0, 1, 0])


def test_scaling_all_fluxes_leaves_probabilities_alone():
    flux, err = np.array([100.0, 300.0, 300.0, 150.0]), np.full(4, 20.0)
    np.testing.assert_array_equal(probabilities(1024 * flux, 1024 * err), probabilities(flux, err))
