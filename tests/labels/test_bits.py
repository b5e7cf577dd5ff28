"""mmagn's classes as bits under DESI's names."""

import numpy as np
from astropy.table import Table

from mmagn.labels.bits import agn_bits
from mmagn.labels.presets import desi_bits, presets
from mmagn.labels.rules import parsed_rule

LABELS = Table(
    {
        "bpt_class": ["seyfert", "composite", "star-forming", "liner", "unclassified", "unclassified"],
        "bpt_sii_class": ["seyfert", "star-forming", "unclassified", "liner", "seyfert", "unclassified"],
        "bpt_oi_class": ["unclassified", "star-forming", "star-forming", "liner", "unclassified", "unclassified"],
        "whan_class": ["strong-agn", "weak-agn", "star-forming", "retired", "passive", "unclassified"],
    }
)


def test_the_bits_are_those_of_desi_and_name_every_class() -> None:
    bits = agn_bits(LABELS, [False, False, False, False, False, True])
    types = desi_bits()["OPT_UV_TYPE"]
    names = [{name for name, bit in types.items() if value >> bit & 1} for value in bits["opt_uv_type"].tolist()]
    assert names[0] == {"NII_BPT", "NII_SY", "SII_BPT", "SII_SY", "WHAN", "WHAN_SAGN"}
    assert names[1] == {"NII_BPT", "NII_COMP", "SII_BPT", "SII_SF", "OI_BPT", "OI_SF", "WHAN", "WHAN_WAGN"}
    assert names[4] == {"SII_BPT", "SII_SY", "WHAN", "WHAN_PASS"}
    assert names[5] == set()
    masks = desi_bits()["AGN_MASKBITS"]
    names = [{name for name, bit in masks.items() if value >> bit & 1} for value in bits["agn_maskbits"].tolist()]
    assert names[0] == {"AGN_ANY", "BPT_ANY_SY", "BPT_ANY_AGN", "OPT_OTHER_AGN"}
    assert names[1] == names[3] == {"BPT_ANY_AGN"}, "as DESI, which calls neither composites nor LINERs confident AGN"
    assert names[4] == {"AGN_ANY", "BPT_ANY_SY", "BPT_ANY_AGN"}
    assert (names[2], names[5]) == (set(), {"BROAD_LINE"})


def test_the_preset_for_desi_reads_mmagns_own_bits_as_its_label() -> None:
    bits = {name.upper(): values for name, values in agn_bits(LABELS, [False] * 6).items()}
    preset = presets()["desi-bpt"]
    positive, negative = (
        parsed_rule(text).truth(bits, bits=desi_bits()).true for text in (preset.positive, preset.negative)
    )
    names = np.asarray(LABELS["bpt_class"])
    np.testing.assert_array_equal(positive, np.isin(names, ("seyfert", "composite")))
    np.testing.assert_array_equal(negative, np.isin(names, ("star-forming", "liner")))
