import numpy as np
import pytest

from mmagn.labels.whan import WHAN_CLASSES, whan_class


@pytest.mark.parametrize(
    ("x", "ew_halpha", "ew_nii", "expected"),
    [
        (-0.6, 20.0, 5.0, "star-forming"),
        (-0.6, 3.5, 1.0, "star-forming"),
        (-0.1, 20.0, 15.0, "strong-agn"),
        (-0.1, 4.0, 3.0, "weak-agn"),
        (-0.1, 2.0, 1.6, "retired"),
        (-0.6, 2.0, 0.4, "retired"),
        (0.0, 0.3, 0.3, "passive"),
        (0.3, 0.4, 0.8, "retired"),  # weak Ha alone does not make a passive galaxy
        (np.nan, -0.2, 0.1, "passive"),
        (np.nan, 1.0, np.nan, "retired"),
        (np.nan, 20.0, 1.0, "unclassified"),
        (0.0, np.nan, 1.0, "unclassified"),
    ],
)
def test_class_of_a_place_on_the_whan_plane(x, ew_halpha, ew_nii, expected):
    assert whan_class([x], [ew_halpha], [ew_nii])[0] == expected
    assert expected in (*WHAN_CLASSES, "unclassified")
