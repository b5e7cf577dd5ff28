import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmagn.labels import bpt

finite = st.floats(-3, 3)


@pytest.mark.parametrize(
    ("curve", "x", "y"),
    [
        (bpt.kauffmann2003_nii, -0.5, 0.19),
        (bpt.kewley2001_nii, -0.5, 0.56),
        (bpt.kauffmann2003_nii, -0.2, -1.14),
        (bpt.kewley2001_nii, 0.0, -0.11),
        (bpt.kewley2006_sii, -0.4, 0.30),
        (bpt.kewley2006_oi, -1.59, 0.60),
        (bpt.kewley2006_sii_seyfert_liner, 0.0, 0.76),
        (bpt.kewley2006_oi_seyfert_liner, -1.0, 0.12),
    ],
)
def test_curves_pass_through_their_published_points(curve, x, y):
    assert curve(x) == pytest.approx(y, abs=0.005)


@pytest.mark.parametrize(("name", "x", "y"), [("schawinski2007", -0.184, 0.257), ("cidfernandes2010", -0.199, 0.279)])
def test_seyfert_liner_lines_start_on_the_kewley_curve(name, x, y):
    assert bpt.seyfert_liner_nii(x, name) == pytest.approx(y, abs=0.001)
    assert bpt.kewley2001_nii(x) == pytest.approx(y, abs=0.001)


def test_the_two_nii_curves_cross_at_minus_1_28():
    assert bpt.kewley2001_nii(-1.28) == pytest.approx(bpt.kauffmann2003_nii(-1.28), abs=0.001)
    assert bpt.kewley2001_nii(-1.0) > bpt.kauffmann2003_nii(-1.0)
    assert bpt.kewley2001_nii(-1.6) < bpt.kauffmann2003_nii(-1.6)


@pytest.mark.parametrize(
    ("curve", "pole"),
    [
        (bpt.kewley2001_nii, bpt.KEWLEY2001_POLE),
        (bpt.kauffmann2003_nii, bpt.KAUFFMANN2003_POLE),
        (bpt.kewley2006_sii, bpt.KEWLEY2006_SII_POLE),
        (bpt.kewley2006_oi, bpt.KEWLEY2006_OI_POLE),
    ],
)
def test_everything_from_the_pole_on_is_above_the_curve(curve, pole):
    x = pole + np.array([0.0, 1e-12, 0.01, 1.0, np.inf])
    np.testing.assert_array_equal(curve(x), -np.inf)
    assert curve(pole - 1e-6) < -1e4


@pytest.mark.parametrize(
    ("x", "y", "expected"),
    [
        (-0.6, -0.2, "star-forming"),
        (-0.2, -0.2, "composite"),
        (-0.2, 0.9, "seyfert"),
        (0.2, 0.2, "liner"),
        (0.1, -1.4, "composite"),  # right of the Kauffmann pole, still under Kewley
        (0.6, -1.4, "liner"),  # right of both poles: the other branch of the hyperbola would say star-forming
        (0.6, 1.3, "seyfert"),
        (-1.5, 0.89, "star-forming"),  # between the curves left of their crossing
        (-2.5, 0.5, "star-forming"),
        (-2.5, 1.2, "seyfert"),
    ],
)
def test_class_of_a_place_on_the_nii_plane(x, y, expected):
    assert bpt.bpt_class([x], [y])[0] == expected


def test_the_seyfert_liner_line_is_the_one_asked_for():
    x, y = [0.0], [0.465]  # between the two lines
    assert bpt.bpt_class(x, y, "schawinski2007")[0] == "seyfert"
    assert bpt.bpt_class(x, y, "cidfernandes2010")[0] == "liner"


@pytest.mark.parametrize("x, y", [(np.nan, 0.0), (0.0, np.nan), (np.nan, np.nan)])
def test_an_undefined_ratio_has_no_class_on_any_plane(x, y):
    for classes in (bpt.bpt_class([x], [y]), bpt.sii_class([x], [y]), bpt.oi_class([x], [y])):
        assert classes[0] == "unclassified"


@pytest.mark.parametrize(
    ("classes", "x", "y", "expected"),
    [
        (bpt.sii_class, -0.5, -0.2, "star-forming"),
        (bpt.sii_class, -0.2, 0.9, "seyfert"),
        (bpt.sii_class, 0.1, 0.2, "liner"),
        (bpt.sii_class, 0.5, -1.0, "liner"),
        (bpt.oi_class, -1.6, -0.2, "star-forming"),
        (bpt.oi_class, -1.0, 0.9, "seyfert"),
        (bpt.oi_class, -0.7, 0.2, "liner"),
        (bpt.oi_class, -0.3, -1.0, "liner"),
    ],
)
def test_class_of_a_place_on_the_sii_and_oi_planes(classes, x, y, expected):
    assert classes([x], [y])[0] == expected


@given(x=finite, y=finite, step=st.floats(0.001, 2))
def test_moving_right_never_returns_to_star_formation(x, y, step):
    left, right = bpt.bpt_class([x, x + step], [y, y])
    assert not (left != "star-forming" and right == "star-forming" and x > -1.28)


@given(x=finite, y=finite)
def test_every_finite_place_has_one_class(x, y):
    assert bpt.bpt_class([x], [y])[0] in bpt.BPT_CLASSES


def test_limits_of_a_ratio_have_a_side():
    ratio = bpt.log_ratio([1.0, -1.0, 1.0, -1.0, np.nan, 10.0], [10.0, 1.0, -1.0, -1.0, 1.0, 1.0])
    np.testing.assert_array_equal(ratio, [-1.0, -np.inf, np.inf, np.nan, np.nan, 1.0])
    sides = bpt.bpt_class([-np.inf, np.inf, np.inf, -np.inf], [-1.0, np.inf, -np.inf, np.inf])
    np.testing.assert_array_equal(sides, ["star-forming", "seyfert", "liner", "seyfert"])
