"""The galaxies of the embedded survey: class, redshift, mass, stars, emission lines and shape.

Both views are rendered from the same row, so image and spectrum show one galaxy.
"""

from collections.abc import Sequence

import numpy as np
from astropy.cosmology import FlatLambdaCDM
from astropy.table import Table
from numpy.typing import NDArray

from mmagn.lines import LINES, SII_RATIO_RANGE
from mmagn.records import Floats
from mmagn.surveys.simulate.stars import SIGMA_LEVELS_KMS, balmer_absorption_angstrom, continuum_at, dust_shape

CLASSES = ("star-forming", "composite", "seyfert", "liner", "passive", "broad-line")
"""True classes; the first four by their place on the [N II] diagram, the others by their nature."""
REDSHIFT_MIN = 0.01
MAGNITUDE_RANGE = (14.8, 19.2)
"""Total r magnitudes of spectroscopic targets; brighter ones saturate or fill a cutout."""
BAND_ANGSTROM = np.array([4754.0, 6175.0, 7711.0, 8898.0, 9762.0])
"""Effective wavelengths of HSC grizy (Kawanomoto et al. 2018, PASJ 70, 66), rounded."""
OTHER_LINES = (
    ("oii_3727", 3727.092, "forbidden"),
    ("oii_3730", 3729.875, "forbidden"),
    ("neiii_3870", 3869.857, "forbidden"),
    ("hdelta", 4102.892, "balmer"),
    ("hgamma", 4341.684, "balmer"),
    ("hei_5877", 5877.249, "balmer"),
)
"""Lines outside ``mmagn.lines`` that the spectra show: name, vacuum wavelength, kinematic group."""

_OTHER_SHARES = {"star-forming": 0.69, "liner": 0.18, "passive": 0.10, "broad-line": 0.03}
_COSMOLOGY = FlatLambdaCDM(H0=70, Om0=0.3)
# Rows by class in the order of CLASSES. Light fractions at 5500 A: young, intermediate, mature, old.
_LIGHT = np.array(
    [
        [0.26, 0.28, 0.27, 0.19],
        [0.20, 0.25, 0.28, 0.27],
        [0.16, 0.21, 0.29, 0.34],
        [0.07, 0.13, 0.29, 0.51],
        [0.02, 0.05, 0.23, 0.70],
        [0.15, 0.20, 0.30, 0.35],
    ]
)
_LOG_EW_HALPHA = np.array([[1.35, 0.30], [1.10, 0.28], [1.20, 0.35], [0.55, 0.25], [-0.6, 0.25], [1.4, 0.25]])
_LOG_SII = np.array([-0.45, -0.36, -0.25, 0.0, 0.0, -0.3])
_LOG_OI = np.array([-1.65, -1.35, -0.95, -0.75, -0.75, -0.95])
_LOG_OII_HBETA = np.array([0.40, 0.38, 0.45, 0.75, 0.75, 0.40])
_DUST = np.array([1.2, 1.3, 1.2, 0.7, 0.3, 1.0])
_BULGE = np.array([[1.5, 3.3], [1.8, 3.0], [2.0, 2.8], [2.6, 2.5], [4.5, 2.0], [2.4, 2.6]])
_LOG_NUCLEUS = np.array([[-2.8, 0.5], [-2.5, 0.5], [-1.95, 0.5], [-2.7, 0.5], [-3.3, 0.5], [-0.6, 0.25]])


def drawn_classes(count: int, agn_fraction: float, rng: np.random.Generator) -> NDArray[np.str_]:
    """Return ``count`` true classes in random order, with the AGN fraction met to the nearest object.

    Half of the Seyfert + composite objects are of either class.
    """
    agn = round(agn_fraction * count)
    shares = np.cumsum(list(_OTHER_SHARES.values()))
    ends = np.round(shares / shares[-1] * (count - agn)).astype(int)
    names = ["seyfert"] * (agn // 2) + ["composite"] * (agn - agn // 2)
    for name, number in zip(_OTHER_SHARES, np.diff(ends, prepend=0), strict=True):
        names += [name] * int(number)
    return rng.permutation(np.array(names))


def bpt_region(log_nii_halpha: Floats, log_oiii_hbeta: Floats) -> NDArray[np.str_]:
    """Return the class of each point on the [N II] diagram.

    Kewley+2001, Kauffmann+2003 and Schawinski+2007; right of a curve's pole everything is on the AGN side.
    """
    x, y = log_nii_halpha, log_oiii_hbeta
    below_kauffmann = (x < 0.05) & (y < 0.61 / np.minimum(x - 0.05, -1e-9) + 1.30)
    below_kewley = (x < 0.47) & (y < 0.61 / np.minimum(x - 0.47, -1e-9) + 1.19)
    agn = np.where(y > 1.05 * x + 0.45, "seyfert", "liner")
    return np.where(below_kauffmann & below_kewley, "star-forming", np.where(below_kewley, "composite", agn))


def _bpt_draw(region: str, count: int, rng: np.random.Generator) -> tuple[Floats, Floats]:
    normal = rng.standard_normal
    if region == "star-forming":
        x = -0.42 - 0.05 * normal(count) - 0.2 * rng.exponential(1.0, count) ** 0.8
        return x, 0.61 / (np.minimum(x, -0.15) + 0.08) + 1.10 + 0.19 * normal(count)  # Kewley+2013, ApJ 774, L10
    if region == "composite":
        return -0.22 + 0.13 * normal(count), 0.05 + 0.30 * normal(count)
    if region == "seyfert":
        return -0.05 + 0.17 * normal(count), 0.72 + 0.26 * normal(count)
    return 0.08 + 0.15 * normal(count), 0.28 + 0.20 * normal(count)


def _bpt_points(region: str, count: int, rng: np.random.Generator) -> tuple[Floats, Floats]:
    x, y = np.empty(count), np.empty(count)
    todo = np.arange(count)
    while todo.size:
        new_x, new_y = _bpt_draw(region, todo.size, rng)
        kept = bpt_region(new_x, new_y) == region
        x[todo[kept]], y[todo[kept]] = new_x[kept], new_y[kept]
        todo = todo[~kept]
    return x, y


def _redshifts(absolute_mag: Floats, redshift_max: float, rng: np.random.Generator) -> tuple[Floats, Floats]:
    """Return redshifts and apparent magnitudes, drawn again (30 times at most) where a galaxy is no target."""
    redshift = np.empty(absolute_mag.size)
    magnitude = np.full(absolute_mag.size, np.inf)
    for _ in range(30):
        todo = np.flatnonzero((magnitude < MAGNITUDE_RANGE[0]) | (magnitude > MAGNITUDE_RANGE[1]))
        if not todo.size:
            break
        drawn = rng.gamma(2.4, 0.05, todo.size)
        outside = (drawn < REDSHIFT_MIN) | (drawn > redshift_max)
        drawn = np.where(outside, rng.uniform(REDSHIFT_MIN, redshift_max, todo.size), drawn)
        redshift[todo] = np.clip(drawn, REDSHIFT_MIN, redshift_max).astype(np.float32)
        magnitude[todo] = absolute_mag[todo] + _COSMOLOGY.distmod(redshift[todo]).value
    return redshift, magnitude


def galaxies(classes: Sequence[str] | NDArray[np.str_], rng: np.random.Generator, redshift_max: float = 0.3) -> Table:
    """Return one galaxy per class name of ``CLASSES``: everything that its image and its spectrum are rendered from.

    Raises ``ValueError`` where a class is unknown or the redshift range is empty.
    """
    names = np.asarray(classes, dtype=np.str_)
    unknown = sorted(set(names.tolist()) - set(CLASSES))
    if unknown:
        raise ValueError(f"unknown class {unknown[0]!r}; allowed: {', '.join(CLASSES)}")
    if redshift_max <= REDSHIFT_MIN:
        raise ValueError(f"redshift_max is {redshift_max}; allowed: above {REDSHIFT_MIN}")
    kind = np.array([CLASSES.index(name) for name in names.tolist()], dtype=np.int64)
    table = Table({"bpt_class": names})
    _draw_stars(table, kind, rng, redshift_max)
    _draw_lines(table, kind, rng)
    _draw_shape(table, kind, rng)
    return table


def _draw_stars(table: Table, kind: NDArray[np.int64], rng: np.random.Generator, redshift_max: float) -> None:
    count = kind.size
    x, y = np.empty(count), np.empty(count)
    for index, name in enumerate(CLASSES):
        region = {"passive": "liner", "broad-line": "seyfert"}.get(name, name)
        chosen = kind == index
        x[chosen], y[chosen] = _bpt_points(region, int(chosen.sum()), rng)
    forming = kind == 0
    log_mass = np.where(forming, 10.25 + 0.9 * (x + 0.5), 10.65) + 0.35 * rng.standard_normal(count)
    absolute = -20.5 - 2.2 * (log_mass - 10.3) - 0.4 * forming + 0.25 * rng.standard_normal(count)
    redshift, magnitude = _redshifts(absolute, redshift_max, rng)
    gammas = rng.gamma(5.0 * _LIGHT[kind])
    fractions = gammas / gammas.sum(axis=1, keepdims=True)
    dust = _DUST[kind] * rng.gamma(2.5, 1 / 2.5, count)
    dispersion = 10 ** (2.2 + 0.3 * (log_mass - 10.8) + 0.08 * rng.standard_normal(count))
    table["log_nii_halpha"], table["log_oiii_hbeta"] = x, y
    table["redshift"], table["log_mass"], table["r_mag"] = redshift, log_mass, magnitude
    table["light_fractions"] = fractions
    table["metals"] = np.clip(0.9 + 0.25 * (log_mass - 10.6) + 0.12 * rng.standard_normal(count), 0.4, 1.4)
    table["dust_tau"] = np.minimum(0.44 * dust, 1.8)
    table["dust_tau_gas"] = np.minimum(dust, 3.55)
    table["sigma_level"] = np.abs(SIGMA_LEVELS_KMS[:, None] - dispersion).argmin(axis=0)
    rest = BAND_ANGSTROM / (1 + redshift[:, None])
    light = np.stack([continuum_at(fractions, table["dust_tau"], rest[:, b]) for b in range(5)], axis=1)
    per_hertz = light * BAND_ANGSTROM**2
    table["magnitude"] = magnitude[:, None] - 2.5 * np.log10(per_hertz / per_hertz[:, [1]])


def _draw_lines(table: Table, kind: NDArray[np.int64], rng: np.random.Generator) -> None:
    count = kind.size
    normal = rng.standard_normal
    fibre_loss = np.clip(0.9 + 0.35 * normal(count) - 2.0 * (table["redshift"] - 0.1), 0.15, 2.5)
    table["fibre_mag"] = table["r_mag"] + fibre_loss
    # AB flux density at 6175 A in 1e-17 erg/s/cm2/A: 1e17 * 10^(-0.4 (m + 48.6)) c / lambda^2.
    density = 10 ** (-0.4 * (table["fibre_mag"] + 48.6)) * 2.99792458e18 / BAND_ANGSTROM[1] ** 2 * 1e17
    stretch = 1 + table["redshift"]
    reference = continuum_at(table["light_fractions"], table["dust_tau"], BAND_ANGSTROM[1] / stretch)
    table["continuum_scale"] = density / reference
    at_halpha = continuum_at(table["light_fractions"], table["dust_tau"], np.full(count, 6564.614))
    log_width = _LOG_EW_HALPHA[kind, 0] + _LOG_EW_HALPHA[kind, 1] * normal(count)
    log_width -= np.where(kind == 0, 0.25 * (table["log_mass"] - 10.2), 0.0)
    halpha = 10**log_width * stretch * at_halpha * table["continuum_scale"]
    tau = np.asarray(table["dust_tau_gas"])
    intrinsic = np.where(np.isin(kind, (0, 1)), 2.86, 3.1)
    hbeta = halpha / (intrinsic * np.exp(tau * (dust_shape(4862.683) - dust_shape(6564.614))))
    forming = 0.3 * (table["log_nii_halpha"] + 0.5) * (kind == 0)
    sii = halpha * 10 ** (_LOG_SII[kind] + 0.08 * normal(count) + forming)
    ratio = np.clip(np.where(kind == 0, 1.33, 1.12) + np.where(kind == 0, 0.08, 0.17) * normal(count), *SII_RATIO_RANGE)
    free = {
        "halpha": halpha,
        "hbeta": hbeta,
        "nii_6584": halpha * 10 ** table["log_nii_halpha"],
        "oiii_5007": hbeta * 10 ** table["log_oiii_hbeta"],
        "oi_6302": halpha * 10 ** (_LOG_OI[kind] + 0.15 * normal(count)),
        "sii_6718": sii * ratio / (1 + ratio),
        "sii_6733": sii / (1 + ratio),
    }
    for line in LINES:
        table[f"flux_{line.name}"] = free[line.tied_to] * line.tied_ratio if line.tied_to else free[line.name]
    oii = hbeta * 10 ** (_LOG_OII_HBETA[kind] + 0.18 * normal(count))
    neon = 10 ** (-1.1 + 0.1 * normal(count)) * table["flux_oiii_5007"]
    unreddened = (0.55 * oii, 0.45 * oii, neon, 0.259 * hbeta, 0.468 * hbeta, 0.04 * halpha)
    for (name, wavelength, _), flux in zip(OTHER_LINES, unreddened, strict=True):
        relative_to = 6564.614 if name == "hei_5877" else 4862.683
        table[f"flux_{name}"] = flux * np.exp(-tau * (dust_shape(wavelength) - dust_shape(relative_to)))
    _draw_kinematics(table, kind, rng)


def _draw_kinematics(table: Table, kind: NDArray[np.int64], rng: np.random.Generator) -> None:
    count = kind.size
    stars = SIGMA_LEVELS_KMS[table["sigma_level"]]
    gas = np.clip(stars * 10 ** (-0.05 + 0.06 * rng.standard_normal(count)), 55, 300)
    wider = np.where(kind == 0, 1.0, 1.12) * 10 ** (0.03 * rng.standard_normal(count))
    table["sigma_kms_balmer"] = gas
    table["sigma_kms_forbidden"] = np.clip(gas * wider, 55, 330)
    table["velocity_kms"] = 25 * rng.standard_normal(count)
    broad = kind == CLASSES.index("broad-line")
    table["sigma_kms_broad"] = np.where(broad, rng.uniform(1000, 2600, count), 0.0)
    table["flux_broad_halpha"] = np.where(broad, table["flux_halpha"] * rng.uniform(2, 8, count), 0.0)
    table["ew_absorption_hbeta"], table["ew_absorption_halpha"] = balmer_absorption_angstrom(table["light_fractions"])


def _draw_shape(table: Table, kind: NDArray[np.int64], rng: np.random.Generator) -> None:
    count = kind.size
    normal = rng.standard_normal
    bulge = rng.beta(_BULGE[kind, 0], _BULGE[kind, 1])
    kpc = 10 ** (0.62 + 0.25 * (table["log_mass"] - 10.5) - 0.15 * bulge + 0.15 * normal(count))
    arcsec_per_kpc = 60 / _COSMOLOGY.kpc_proper_per_arcmin(table["redshift"]).value
    disc = np.clip(kpc * arcsec_per_kpc, 0.35, 7.0)
    table["bulge_fraction"] = bulge
    table["disc_radius_arcsec"] = disc
    table["bulge_radius_arcsec"] = np.clip(disc * 10 ** (-0.55 + 0.45 * bulge + 0.12 * normal(count)), 0.15, 6.0)
    table["bulge_index"] = np.clip(1.8 + 2.4 * bulge + 0.5 * normal(count), 1.0, 5.0)
    table["disc_axis_ratio"] = rng.uniform(0.2, 1.0, count)
    table["bulge_axis_ratio"] = rng.uniform(0.65, 1.0, count)
    table["angle_rad"] = rng.uniform(0, np.pi, count)
    table["spiral"] = np.clip(0.55 * table["light_fractions"][:, :2].sum(axis=1) + 0.1 * normal(count), 0, 0.6)
    table["winding"] = rng.choice([-1.0, 1.0], count) * rng.uniform(2.0, 4.0, count)
    table["nucleus_fraction"] = np.minimum(10 ** (_LOG_NUCLEUS[kind, 0] + _LOG_NUCLEUS[kind, 1] * normal(count)), 0.7)
