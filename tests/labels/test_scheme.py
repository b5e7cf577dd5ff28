import json

import numpy as np
import pytest

from mmagn.labels.config import LabelsConfig
from mmagn.labels.scheme import bpt_labels, class_counts, reason_counts, target

DEFAULT = LabelsConfig()
NII_PLACES = {
    "star-forming": (-0.6, -0.3),
    "composite": (-0.2, -0.2),
    "seyfert": (-0.1, 0.9),
    "liner": (0.15, 0.2),
}


def test_bright_objects_take_the_class_of_their_place(lines_of, ratios_to_fluxes):
    labels = bpt_labels(lines_of(*(ratios_to_fluxes(*place) for place in NII_PLACES.values())), DEFAULT)
    assert labels["bpt_class"].tolist() == list(NII_PLACES)
    assert set(labels["reason"]) == {""}
    assert labels["clean"].all()
    np.testing.assert_allclose(labels["p_agn"], [0, 1, 1, 0], atol=0.05)


def test_the_target_is_seyfert_and_composite_against_the_rest():
    names = ["star-forming", "composite", "seyfert", "liner", "unclassified"]
    np.testing.assert_array_equal(target(names), [0, 1, 1, 0, np.nan])


def test_each_exclusion_names_its_reason(lines_of):
    nan = np.nan
    cases = {
        "": {},
        "quasar": {"spectral_class": "QSO", "broad_line": True},
        "star": {"spectral_class": "STAR"},
        "broad line": {"broad_line": True},
        "halpha outside the spectrum": {"flux_halpha": nan, "flags_halpha": "outside"},
        "hbeta masked": {"flux_hbeta": nan, "flags_hbeta": "masked"},
        "nii_6584 not measured": {"flux_nii_6584": nan},
        "snr of hbeta below 3": {"flux_hbeta": 2.9, "flux_oiii_5007": 0.1},
        "snr of oiii_5007 below 3": {"flux_oiii_5007": -20.0},
        "snr of halpha below 3": {"flux_halpha_err": nan},
    }
    labels = bpt_labels(lines_of(*cases.values()), DEFAULT)
    assert labels["reason"].tolist() == list(cases)
    assert labels["bpt_class"].tolist() == ["star-forming"] + ["unclassified"] * 9
    assert not labels["clean"][1:].any()


def test_nobody_is_lost_in_the_counts(lines_of):
    labels = bpt_labels(
        lines_of({}, {"broad_line": True}, {"flux_hbeta": 1.0}, {"flux_hbeta": 1.0}, {"flux_halpha": np.nan}), DEFAULT
    )
    classes = class_counts(labels)
    assert classes == {"star-forming": 1, "composite": 0, "seyfert": 0, "liner": 0, "unclassified": 4}
    reasons = reason_counts(labels)
    assert reasons == {"snr of hbeta below 3": 2, "broad line": 1, "halpha not measured": 1}
    assert next(iter(reasons)) == "snr of hbeta below 3"
    assert sum(classes.values()) == len(labels)
    assert sum(reasons.values()) == classes["unclassified"]


def test_without_a_cut_every_positive_flux_makes_a_class(lines_of):
    weak = {f"flux_{line}_err": 1e4 for line in ("hbeta", "oiii_5007", "halpha", "nii_6584")}
    labels = bpt_labels(lines_of(weak, {"flux_hbeta_err": np.nan}, {"flux_hbeta": -1.0}), LabelsConfig(min_snr=0))
    assert labels["bpt_class"].tolist() == ["star-forming", "star-forming", "unclassified"]
    assert labels["reason"][2] == "flux of hbeta not above 0"
    assert not labels["clean"].any()


def test_the_cut_stands_in_the_reason(lines_of):
    labels = bpt_labels(lines_of({"flux_hbeta": 4.0}), LabelsConfig(min_snr=5.5))
    assert labels["reason"][0] == "snr of hbeta below 5.5"


def test_broad_lines_and_quasars_are_labelled_only_where_asked_for(lines_of):
    lines = lines_of({"spectral_class": "QSO"}, {"broad_line": True}, {"spectral_class": "STAR"})
    labels = bpt_labels(lines, LabelsConfig(exclude_broad=False))
    assert labels["bpt_class"].tolist() == ["star-forming", "star-forming", "unclassified"]


def test_retired_galaxies_are_left_out_only_where_asked_for(lines_of, ratios_to_fluxes):
    liner = {**ratios_to_fluxes(*NII_PLACES["liner"]), "ew_halpha": 2.0, "ew_nii_6584": 2.5}
    lines = lines_of(liner, {**liner, "ew_halpha": 3.5}, {**liner, "ew_halpha": np.nan})
    assert bpt_labels(lines, DEFAULT)["bpt_class"].tolist() == ["liner"] * 3
    cut = bpt_labels(lines, LabelsConfig(retired_cut=True))
    assert cut["bpt_class"].tolist() == ["unclassified", "liner", "unclassified"]
    assert cut["reason"].tolist() == ["retired: W(halpha) below 3 Angstrom", "", "W(halpha) not measured"]
    assert cut["whan_class"].tolist() == ["retired", "weak-agn", "unclassified"]


def test_the_vote_follows_the_majority_of_the_planes(lines_of, ratios_to_fluxes):
    seyfert = ratios_to_fluxes(0.0, 0.5)  # Seyfert on [N II], above its line by 0.05
    liner_sii = {"flux_sii_6718": 150.0, "flux_sii_6733": 150.0}
    seyfert_sii = {"flux_sii_6718": 75.0, "flux_sii_6733": 75.0}
    liner_oi, seyfert_oi, absent_oi = {"flux_oi_6302": 120.0}, {"flux_oi_6302": 40.0}, {"flux_oi_6302": 0.5}
    star_forming = ratios_to_fluxes(*NII_PLACES["star-forming"])
    lines = lines_of(
        {**seyfert, **liner_sii, **liner_oi},
        {**seyfert, **seyfert_sii, **liner_oi},
        {**seyfert, **liner_sii, **seyfert_oi},
        {**seyfert, **liner_sii, **absent_oi},  # one against one: [N II] decides
        {**star_forming, **liner_sii, **liner_oi},
    )
    voted = bpt_labels(lines, LabelsConfig(vote=True))
    assert voted["bpt_class"].tolist() == ["liner", "seyfert", "seyfert", "seyfert", "star-forming"]
    assert voted["bpt_sii_class"].tolist()[:4] == ["liner", "seyfert", "liner", "liner"]
    assert voted["bpt_oi_class"].tolist()[:4] == ["liner", "liner", "seyfert", "unclassified"]
    assert bpt_labels(lines, DEFAULT)["bpt_class"].tolist() == ["seyfert"] * 4 + ["star-forming"]


def test_the_sii_plane_counts_both_lines_and_both_errors(lines_of):
    passing = {"flux_sii_6718": 2.5, "flux_sii_6733": 2.5}  # 5 / sqrt(2) = 3.5, each alone below 3
    labels = bpt_labels(lines_of(passing, {**passing, "flux_sii_6718_err": 3.0}), DEFAULT)
    assert labels["bpt_sii_class"].tolist() == ["star-forming", "unclassified"]


@pytest.mark.parametrize("factor", [1e-6, 1e3])
def test_scaling_the_spectrum_changes_no_label(lines_of, ratios_to_fluxes, factor):
    lines = lines_of(*(ratios_to_fluxes(*place) for place in NII_PLACES.values()), {"flux_hbeta": 2.0})
    scaled = lines.copy()
    for name in lines.colnames:
        if name.startswith("flux_"):
            scaled[name] = factor * lines[name]
    for name in ("bpt_class", "reason", "bpt_sii_class", "bpt_oi_class", "whan_class"):
        assert bpt_labels(lines, DEFAULT)[name].tolist() == bpt_labels(scaled, DEFAULT)[name].tolist()


def test_the_scheme_is_written_into_the_table(lines_of):
    config = LabelsConfig(seyfert_liner="cidfernandes2010", min_snr=5)
    scheme = json.loads(bpt_labels(lines_of({}), config).meta["LABELS"])
    assert LabelsConfig(**scheme) == config


def test_an_empty_table_has_empty_labels(lines_of):
    labels = bpt_labels(lines_of({})[:0], DEFAULT)
    assert len(labels) == 0
    assert sum(class_counts(labels).values()) == 0


@pytest.mark.parametrize(("setting", "value"), [("min_snr", -1.0), ("draws", 0), ("seed", -1)])
def test_a_setting_out_of_range_is_refused_by_name(setting, value):
    with pytest.raises(ValueError, match=f"labels.{setting} is {value}"):
        LabelsConfig(**{setting: value})
