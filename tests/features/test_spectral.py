import numpy as np
import pytest
from astropy.table import Table

from mmagn.features.spectral import spectral_features
from mmagn.features.vector import FEATURE_NAMES, FEATURE_UNITS


@pytest.fixture
def lines():
    rng = np.random.default_rng(0)
    table = Table({name: rng.uniform(1, 9, 6) for name in FEATURE_NAMES[:7]})
    table["flux_oiii_5007"] = [30.0, -1.0, 5.0, np.nan, 0.0, 5.0]
    table["flux_hbeta"] = [3.0, 5.0, -2.0, 5.0, 5.0, 0.0]
    return table


def test_line_columns_pass_through_with_their_units(lines):
    features = spectral_features(lines)
    assert tuple(features.colnames) == FEATURE_NAMES[:8]
    for name in FEATURE_NAMES[:7]:
        np.testing.assert_array_equal(features[name], lines[name])
    assert [features[name].unit for name in features.colnames] == [FEATURE_UNITS[name] for name in features.colnames]


def test_a_ratio_of_ten_is_one_dex_and_a_negative_flux_has_no_ratio(lines):
    ratio = spectral_features(lines)["log_oiii_hbeta"]
    np.testing.assert_allclose(ratio, [1.0] + [np.nan] * 5)
