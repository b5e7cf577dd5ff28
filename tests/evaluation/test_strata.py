"""Every object is in one part of each stratum, and the class border is where the curves are."""

import numpy as np
import pytest
from astropy.table import Table

from mmagn.evaluation.strata import border_distance_dex, bpt_ratios, ranges, strata
from mmagn.labels.bpt import kauffmann2003_nii
from mmagn.labels.scheme import BPT_LINES


def test_a_range_holds_its_lower_edge_and_nan_is_unknown() -> None:
    result = ranges([0.05, 0.1, 0.15, 0.2, 9.0, np.nan], (0.1, 0.2))
    assert list(result) == ["below 0.1", "0.1 to 0.2", "from 0.2", "unknown"]
    assert [np.flatnonzero(members).tolist() for members in result.values()] == [[0], [1, 2], [3, 4], [5]]


def test_distance_is_nothing_on_the_border_and_grows_away_from_it() -> None:
    x = np.array([-1.0, -0.5, -0.2])
    on_curve = kauffmann2003_nii(x)
    assert border_distance_dex(x, on_curve, "schawinski2007") == pytest.approx([0, 0, 0], abs=0.015)
    far = border_distance_dex([-1.5, 0.0], [-0.5, 1.5], "schawinski2007")
    assert (far > 0.3).all()
    assert np.isnan(border_distance_dex([np.inf, np.nan], [0.0, 0.0], "schawinski2007")).all()


def test_between_composite_and_seyfert_there_is_no_border_of_the_target() -> None:
    on_kewley = border_distance_dex([-0.4], [0.61 / (-0.4 - 0.47) + 1.19], "schawinski2007")
    assert on_kewley[0] > 0.1


def test_every_object_is_in_one_part_of_each_stratum() -> None:
    rng = np.random.default_rng(0)
    table = Table({f"flux_{line}": rng.lognormal(3, 1, 50) for line in BPT_LINES})
    for line in BPT_LINES:
        table[f"snr_{line}"] = rng.uniform(3, 40, 50)
    table["redshift"], table["survey"] = rng.uniform(0, 0.3, 50), rng.choice(["sdss", "boss"], 50)
    table["clean"] = rng.random(50) < 0.7
    result = strata(table, rng.uniform(16, 21, 50), "schawinski2007")
    assert list(result) == ["redshift", "weakest line S/N", "i magnitude", "survey", "class border (dex)", "label"]
    np.testing.assert_array_equal(result["label"]["clean, P > 0.9"], table["clean"])
    for parts in result.values():
        np.testing.assert_array_equal(np.sum(list(parts.values()), axis=0), 1)
    log_nii_halpha, _ = bpt_ratios(table)
    np.testing.assert_allclose(log_nii_halpha, np.log10(table["flux_nii_6584"] / table["flux_halpha"]))
