"""The label scheme: line table in; classes, reasons, probabilities and the 0 / 1 target out."""

import json
from collections import Counter
from dataclasses import asdict

import numpy as np
from astropy.table import Table
from numpy.typing import ArrayLike, NDArray

from mmagn.labels.bpt import BPT_CLASSES, UNCLASSIFIED, bpt_class, log_ratio, oi_class, sii_class
from mmagn.labels.config import LabelsConfig
from mmagn.labels.probabilities import class_probabilities
from mmagn.labels.whan import RETIRED_EW_ANGSTROM, whan_class

BPT_LINES = ("hbeta", "oiii_5007", "halpha", "nii_6584")
"""The four lines of the [N II] plane, in the order in which a reason of exclusion names them."""
POSITIVE_CLASSES = ("seyfert", "composite")
NEGATIVE_CLASSES = ("star-forming", "liner")
CLEAN_PROBABILITY = 0.9
"""An object is clean where the probability of its own class is above this."""


def bpt_labels(lines: Table, config: LabelsConfig) -> Table:
    """Return class, reason and probabilities of every row of a line table.

    The first reason that applies is given, in this order: quasar, star, broad line, a needed line outside
    the spectrum, masked or not measured, one below the signal-to-noise cut, one without a positive flux, retired.
    Within a kind the lines are taken in the order of ``BPT_LINES``. With ``min_snr`` 0 errors are ignored.

    With ``config.vote`` an object that the [N II] plane calls Seyfert or LINER takes the name that most planes give it:
    [N II] has one vote, [S II] and [O I] one each where their lines pass the cut and the object lies on their AGN side;
    a tie leaves the [N II] name. Star-forming and composite always follow the [N II] plane.

    Parameters
    ----------
    lines
        As of ``spectroscopy.emission.line_table``.
    config
        The scheme; written as JSON into ``meta["LABELS"]`` of the result.

    Returns
    -------
    Table
        One row per row of ``lines``: ``bpt_class`` (one of ``BPT_CLASSES`` or ``unclassified``), ``reason`` ("" where
        classified); ``p_star_forming``, ``p_composite``, ``p_seyfert``, ``p_liner`` from draws of the four fluxes on
        the [N II] plane, NaN where one is not measured; ``p_agn``, the probability of the positive target (Seyfert or
        composite); ``clean``, classified with the probability of its own class above 0.9; ``bpt_sii_class``,
        ``bpt_oi_class`` and ``whan_class``, ``unclassified`` where their own lines miss the cut (a retired or passive
        galaxy has weak lines by definition and needs none).
    """
    reason = _reasons(lines, config)
    log_oiii_hbeta = log_ratio(_column(lines, "flux_oiii_5007"), _column(lines, "flux_hbeta"))
    log_nii_halpha = log_ratio(_column(lines, "flux_nii_6584"), _column(lines, "flux_halpha"))
    by_sii, by_oi = _secondary_classes(lines, log_oiii_hbeta, config)
    by_nii = bpt_class(log_nii_halpha, log_oiii_hbeta, config.seyfert_liner)
    name = np.where(reason == "", _voted(by_nii, by_sii, by_oi) if config.vote else by_nii, UNCLASSIFIED)
    probability = class_probabilities(
        np.stack([_column(lines, f"flux_{line}") for line in BPT_LINES], axis=1),
        np.stack([_column(lines, f"flux_{line}_err") for line in BPT_LINES], axis=1),
        seyfert_liner=config.seyfert_liner,
        draws=config.draws,
        seed=config.seed,
    )
    labels = Table({"bpt_class": name, "reason": reason})
    clean = np.zeros(len(labels), dtype=bool)
    for position, class_name in enumerate(BPT_CLASSES):
        labels[f"p_{class_name.replace('-', '_')}"] = probability[:, position]
        clean |= (name == class_name) & (probability[:, position] > CLEAN_PROBABILITY)
    labels["p_agn"] = sum(probability[:, BPT_CLASSES.index(positive)] for positive in POSITIVE_CLASSES)
    labels["clean"] = clean
    labels["bpt_sii_class"] = by_sii
    labels["bpt_oi_class"] = by_oi
    labels["whan_class"] = _whan(lines, log_nii_halpha, config)
    labels.meta["LABELS"] = json.dumps({name: value for name, value in asdict(config).items() if name != "catalog"})
    return labels


def target(bpt_class: ArrayLike) -> NDArray[np.float64]:
    """Return the target of each class name: 1 for Seyfert and composite, 0 for the others, NaN for unclassified."""
    names = np.asarray(bpt_class, dtype=np.str_)
    values = np.full(names.shape, np.nan)
    values[np.isin(names, POSITIVE_CLASSES)] = 1.0
    values[np.isin(names, NEGATIVE_CLASSES)] = 0.0
    return values


def class_counts(labels: Table) -> dict[str, int]:
    """Return the number of objects of every class of ``BPT_CLASSES`` and of ``unclassified``, zeros included."""
    counts = Counter(np.asarray(labels["bpt_class"]).tolist())
    return {name: counts[name] for name in (*BPT_CLASSES, UNCLASSIFIED)}


def reason_counts(labels: Table) -> dict[str, int]:
    """Return the number of unclassified objects by reason, the most frequent first."""
    counts = Counter(reason for reason in np.asarray(labels["reason"]).tolist() if reason)
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))


def _column(lines: Table, name: str) -> NDArray[np.float64]:
    return np.asarray(lines[name], dtype=np.float64)


def _reasons(lines: Table, config: LabelsConfig) -> NDArray[np.str_]:
    spectral_class = np.asarray(lines["spectral_class"], dtype=np.str_)
    cases = [
        (config.exclude_broad & (spectral_class == "QSO"), "quasar"),
        (spectral_class == "STAR", "star"),
        (config.exclude_broad & np.asarray(lines["broad_line"], dtype=bool), "broad line"),
    ]
    flags = {line: np.asarray(lines[f"flags_{line}"], dtype=np.str_) for line in BPT_LINES}
    flux = {line: _column(lines, f"flux_{line}") for line in BPT_LINES}
    missing = {line: ~np.isfinite(flux[line]) for line in BPT_LINES}
    for flag, text in (("outside", "outside the spectrum"), ("masked", "masked"), ("", "not measured")):
        cases += [(missing[line] & (np.char.find(flags[line], flag) >= 0), f"{line} {text}") for line in BPT_LINES]
    if config.min_snr > 0:
        snr = {line: line_snr(flux[line], _column(lines, f"flux_{line}_err")) for line in BPT_LINES}
        cases += [(~(snr[line] >= config.min_snr), f"snr of {line} below {config.min_snr:g}") for line in BPT_LINES]
    cases += [(~(flux[line] > 0), f"flux of {line} not above 0") for line in BPT_LINES]
    if config.retired_cut:
        ew_halpha = _column(lines, "ew_halpha")
        cases.append((np.isnan(ew_halpha), "W(halpha) not measured"))
        cases.append((ew_halpha < RETIRED_EW_ANGSTROM, f"retired: W(halpha) below {RETIRED_EW_ANGSTROM:g} Angstrom"))
    return np.select([condition for condition, _ in cases], [text for _, text in cases], default="")


def line_snr(flux: NDArray[np.float64], flux_err: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return flux over its error, NaN where the error is not a positive number."""
    return flux / np.where(flux_err > 0, flux_err, np.nan)


def _secondary_classes(
    lines: Table, log_oiii_hbeta: NDArray[np.float64], config: LabelsConfig
) -> tuple[NDArray[np.str_], NDArray[np.str_]]:
    """Return the classes on the [S II] and [O I] planes of the objects whose lines pass the cut."""
    sii = _column(lines, "flux_sii_6718") + _column(lines, "flux_sii_6733")
    sii_err = np.hypot(_column(lines, "flux_sii_6718_err"), _column(lines, "flux_sii_6733_err"))
    oi, oi_err = _column(lines, "flux_oi_6302"), _column(lines, "flux_oi_6302_err")
    halpha = _column(lines, "flux_halpha")
    passed = _detected(lines, ("hbeta", "oiii_5007", "halpha"), config)
    by_sii = sii_class(log_ratio(sii, halpha), log_oiii_hbeta)
    by_oi = oi_class(log_ratio(oi, halpha), log_oiii_hbeta)
    by_sii[~(passed & _passes(sii, sii_err, config))] = UNCLASSIFIED
    by_oi[~(passed & _passes(oi, oi_err, config))] = UNCLASSIFIED
    return by_sii, by_oi


def _detected(lines: Table, names: tuple[str, ...], config: LabelsConfig) -> NDArray[np.bool_]:
    passed: NDArray[np.bool_] = np.ones(len(lines), dtype=bool)
    for line in names:
        passed &= _passes(_column(lines, f"flux_{line}"), _column(lines, f"flux_{line}_err"), config)
    return passed


def _passes(flux: NDArray[np.float64], flux_err: NDArray[np.float64], config: LabelsConfig) -> NDArray[np.bool_]:
    positive = flux > 0
    return positive & (line_snr(flux, flux_err) >= config.min_snr) if config.min_snr > 0 else positive


def _voted(by_nii: NDArray[np.str_], by_sii: NDArray[np.str_], by_oi: NDArray[np.str_]) -> NDArray[np.str_]:
    planes = np.stack([by_nii, by_sii, by_oi])
    majority = (planes == "seyfert").sum(axis=0) - (planes == "liner").sum(axis=0)
    decided = np.select([majority > 0, majority < 0], ["seyfert", "liner"], default=by_nii)
    return np.where(np.isin(by_nii, ("seyfert", "liner")), decided, by_nii)


def _whan(lines: Table, log_nii_halpha: NDArray[np.float64], config: LabelsConfig) -> NDArray[np.str_]:
    measured = np.where(_detected(lines, ("halpha", "nii_6584"), config), log_nii_halpha, np.nan)
    return whan_class(measured, _column(lines, "ew_halpha"), _column(lines, "ew_nii_6584"))
