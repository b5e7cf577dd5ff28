import numpy as np
import pytest
from astropy import units as u
from astropy.table import MaskedColumn, Table

from mmagn.features.vector import FEATURE_NAMES, FEATURE_UNITS, feature_matrix


def table_of_ten():
    return Table({name: [float(i), float(i) + 10] for i, name in enumerate(FEATURE_NAMES)})


def test_the_ten_features_are_those_of_the_science_page_in_its_order():
    assert FEATURE_NAMES == (
        "flux_oiii_5007",
        "flux_halpha",
        "flux_hbeta",
        "flux_nii_6584",
        "continuum_level",
        "ew_halpha",
        "ew_oiii_5007",
        "log_oiii_hbeta",
        "concentration",
        "contrast",
    )
    assert FEATURE_UNITS["flux_halpha"].to(u.erg / u.s / u.cm**2) == pytest.approx(1e-17)
    assert FEATURE_UNITS["continuum_level"].to(u.erg / u.s / u.cm**2 / u.AA) == pytest.approx(1e-17)


def test_columns_become_the_feature_axis_whatever_their_order_in_the_table():
    table = table_of_ten()
    values, valid = feature_matrix(table[table.colnames[::-1]])
    np.testing.assert_array_equal(values, [np.arange(10.0), np.arange(10.0) + 10])
    assert valid.all()


def test_undefined_values_stay_nan_and_say_so():
    table = table_of_ten()
    table["contrast"][1] = np.nan
    table["ew_halpha"][0] = np.inf
    table["flux_hbeta"] = MaskedColumn([7, 8], mask=[True, False])
    values, valid = feature_matrix(table)
    assert np.argwhere(~valid).tolist() == [[0, 2], [0, 5], [1, 9]]
    np.testing.assert_array_equal(np.isnan(values), ~valid)


def test_a_missing_feature_is_named():
    table = table_of_ten()
    del table["contrast"]
    with pytest.raises(ValueError, match="no column contrast;"):
        feature_matrix(table)
