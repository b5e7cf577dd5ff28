"""mmagn's own classes as the bits of the DESI AGN/QSO summary catalogue, under the same names."""

from collections.abc import Mapping, Sequence

import numpy as np
from astropy.table import Table
from numpy.typing import NDArray

from mmagn.labels.bpt import UNCLASSIFIED
from mmagn.labels.presets import desi_bits

_BPT = {"star-forming": "SF", "composite": "COMP", "seyfert": "SY", "liner": "LINER"}
_WHAN = {"star-forming": "SF", "strong-agn": "SAGN", "weak-agn": "WAGN", "retired": "RET", "passive": "PASS"}
_PLANES: Mapping[str, tuple[str, str, Mapping[str, str]]] = {
    "bpt_class": ("NII_BPT", "NII", _BPT),
    "bpt_sii_class": ("SII_BPT", "SII", _BPT),
    "bpt_oi_class": ("OI_BPT", "OI", _BPT),
    "whan_class": ("WHAN", "WHAN", _WHAN),
}
"""Bit of a diagram that is available, beginning of the names of its classes, and their ends."""


def agn_bits(labels: Table, broad_line: Sequence[bool]) -> dict[str, NDArray[np.int64]]:
    """Return ``agn_maskbits`` and ``opt_uv_type`` (object,): bits as of ``AGN_MASKBITS`` and ``OPT_UV_TYPE`` of DESI.

    Of the first mask mmagn knows BPT_ANY_SY, BPT_ANY_AGN, BROAD_LINE, OPT_OTHER_AGN (strong AGN of WHAN) and AGN_ANY,
    which DESI sets for Seyferts and strong AGN alone; of the second the three BPT planes and WHAN. Curves and cuts are
    mmagn's.

    Parameters
    ----------
    labels
        As of ``labels.scheme.bpt_labels``.
    broad_line
        (object,) broad Balmer lines.
    """
    types, masks = desi_bits()["OPT_UV_TYPE"], desi_bits()["AGN_MASKBITS"]
    names = {column: np.asarray(labels[column], dtype=np.str_) for column in _PLANES}
    opt_uv_type = np.zeros(len(labels), dtype=np.int64)
    for column, (available, start, ends) in _PLANES.items():
        opt_uv_type |= np.where(names[column] != UNCLASSIFIED, 1 << types[available], 0)
        for name, end in ends.items():
            if f"{start}_{end}" not in types:
                continue  # the [S II] and [O I] planes have no composites
            opt_uv_type |= np.where(names[column] == name, 1 << types[f"{start}_{end}"], 0)
    planes = np.stack([names[column] for column in ("bpt_class", "bpt_sii_class", "bpt_oi_class")])
    conditions = {
        "BPT_ANY_SY": (planes == "seyfert").any(axis=0),
        "BPT_ANY_AGN": np.isin(planes, ("seyfert", "liner", "composite")).any(axis=0),
        "BROAD_LINE": np.asarray(broad_line, dtype=bool),
        "OPT_OTHER_AGN": names["whan_class"] == "strong-agn",
    }
    conditions["AGN_ANY"] = conditions["BPT_ANY_SY"] | conditions["OPT_OTHER_AGN"]
    agn_maskbits = np.zeros(len(labels), dtype=np.int64)
    for name, condition in conditions.items():
        agn_maskbits |= np.where(condition, 1 << masks[name], 0)
    return {"agn_maskbits": agn_maskbits, "opt_uv_type": opt_uv_type}
