"""The layout of the embedded survey: cells, sky groups, positions, close neighbours, pairs across a cell border."""

from dataclasses import dataclass

import healpy
import numpy as np
from astropy.table import Table
from numpy.typing import NDArray

from mmagn.records import CELL_NSIDE, Floats
from mmagn.surveys.config import SimulateConfig
from mmagn.surveys.screen import cells_of
from mmagn.surveys.simulate.galaxies import drawn_classes, galaxies

JUNCTION_DEG = (149.0625, 2.388015463268772)
"""Right ascension and declination where four cells meet, inside the HSC field E-COSMOS."""
GROUP_NSIDE = 128
GROUPS_PER_CELL = 16
_FINEST_ORDER = 29
_ARCSEC = 1 / 3600
_BOSS_SHARE = 0.15
_CLOSE_SHARE = 0.3
_MAX_SEPARATION_ARCSEC = 0.8

Indices = NDArray[np.int64]
Positions = tuple[Floats, Floats]


@dataclass(frozen=True, kw_only=True)
class Sky:
    """Every object of both surveys; the first ``pairs`` rows of both are the same galaxies.

    Attributes
    ----------
    sdss, hsc
        (object,) tables of ``galaxies`` with ``object_id``, ``ra_deg``, ``dec_deg``, ``healpix``.
    neighbour
        (HSC object,) row of the catalogued neighbour in ``hsc``, -1 where there is none.
    neighbour_offset_arcsec
        (HSC object, 2) where it lies along x (west) and y (north) of the image.
    """

    sdss: Table
    hsc: Table
    neighbour: Indices
    neighbour_offset_arcsec: Floats


def footprint(cells: int) -> Indices:
    """Return the sky groups (NSIDE 128, NESTED) that the survey covers.

    The ``cells`` cells (NSIDE 16) nearest to the junction give their ``GROUPS_PER_CELL`` groups nearest to it, so the
    patch is contiguous and the cells touch.
    """
    distance = _distance_rad(CELL_NSIDE, np.arange(healpy.nside2npix(CELL_NSIDE)))
    chosen = np.argsort(distance, kind="stable")[:cells]
    share = (GROUP_NSIDE // CELL_NSIDE) ** 2
    groups = chosen[:, None] * share + np.arange(share)
    nearest = np.argsort(_distance_rad(GROUP_NSIDE, groups), axis=1, kind="stable")[:, :GROUPS_PER_CELL]
    return np.asarray(np.take_along_axis(groups, nearest, axis=1).ravel(), dtype=np.int64)


def _distance_rad(nside: int, pixels: Indices) -> Floats:
    centre = np.asarray(healpy.ang2vec(*JUNCTION_DEG, lonlat=True))
    vectors = np.stack(healpy.pix2vec(nside, pixels, nest=True), axis=-1)
    return np.asarray(np.round(np.arccos(np.clip(vectors @ centre, -1, 1)), 9))


def uniform_positions(groups: Indices, count: int, rng: np.random.Generator) -> Positions:
    """Return ``count`` positions drawn uniformly over the area of the groups, right ascension and declination."""
    inside = 2 * (_FINEST_ORDER - int(np.log2(GROUP_NSIDE)))
    pixels = (rng.choice(groups, count) << inside) | rng.integers(0, 1 << inside, count)
    ra_deg, dec_deg = healpy.pix2ang(1 << _FINEST_ORDER, pixels, nest=True, lonlat=True)
    return np.asarray(ra_deg), np.asarray(dec_deg)


def shifted(ra_deg: Floats, dec_deg: Floats, east_arcsec: Floats, north_arcsec: Floats) -> Positions:
    """Return positions moved by a few arcseconds on the tangent plane."""
    return ra_deg + east_arcsec * _ARCSEC / np.cos(np.radians(dec_deg)), dec_deg + north_arcsec * _ARCSEC


def border_positions(
    groups: Indices, count: int, rng: np.random.Generator, half_separation_arcsec: float = 0.1
) -> tuple[Positions, Positions]:
    """Return pairs of positions on the two sides of a cell border, half a separation from it along their line.

    None come back where the groups lie in one cell.
    """
    tries = 40 * count + 40
    first = np.stack(uniform_positions(groups, tries, rng), axis=1)
    second = np.stack(uniform_positions(groups, tries, rng), axis=1)
    start_cell = cells_of(*first.T)
    low, high = first, second
    for _ in range(60):
        middle = 0.5 * (low + high)
        inside = (cells_of(*middle.T) == start_cell)[:, None]
        low, high = np.where(inside, middle, low), np.where(inside, high, middle)
    step = second - first
    step[:, 0] *= np.cos(np.radians(low[:, 1]))
    step *= half_separation_arcsec / np.linalg.norm(step, axis=1, keepdims=True)
    near = shifted(low[:, 0], low[:, 1], -step[:, 0], -step[:, 1])
    far = shifted(low[:, 0], low[:, 1], step[:, 0], step[:, 1])
    kept = np.flatnonzero((cells_of(*near) != cells_of(*far)) & (start_cell != cells_of(*second.T)))[:count]
    return (near[0][kept], near[1][kept]), (far[0][kept], far[1][kept])


def stream(seed: int, *key: int) -> np.random.Generator:
    """Return the generator of one part of the survey, the same whatever else is drawn."""
    return np.random.default_rng([seed, *key])


def drawn_sky(config: SimulateConfig) -> Sky:
    """Return all objects of both surveys: positions, ids, galaxies and who lies close to whom."""
    pairs, alone = config.pairs, round(config.unmatched * config.pairs)
    groups = footprint(config.cells)
    rng = stream(config.seed, 1)
    names = np.concatenate([drawn_classes(number, config.agn_fraction, rng) for number in (pairs, alone, alone)])
    everything = galaxies(names, rng)
    sdss, hsc = everything[: pairs + alone], everything[np.r_[:pairs, pairs + alone : pairs + 2 * alone]]
    fainter = rng.uniform(0.5, 3.5, alone)
    for column, shift in (("r_mag", fainter), ("magnitude", fainter[:, None])):
        hsc[column][pairs:] += shift

    rng = stream(config.seed, 2)
    ra_deg, dec_deg = uniform_positions(groups, pairs + alone, rng)
    east, north = np.clip(rng.normal(0, 0.12, (2, pairs)), -_MAX_SEPARATION_ARCSEC / 2, _MAX_SEPARATION_ARCSEC / 2)
    hsc_ra, hsc_dec = shifted(ra_deg[:pairs], dec_deg[:pairs], east, north)
    near, far = border_positions(groups, min(pairs, max(2, pairs // 100)) if config.cells > 1 else 0, rng)
    border = near[0].size
    ra_deg[:border], dec_deg[:border] = near
    hsc_ra[:border], hsc_dec[:border] = far
    more_ra, more_dec = uniform_positions(groups, alone, rng)
    hsc_ra, hsc_dec = np.concatenate([hsc_ra, more_ra]), np.concatenate([hsc_dec, more_dec])
    neighbour, offset = _close_neighbours(hsc, hsc_ra, hsc_dec, pairs, rng)

    _name(sdss, ra_deg, dec_deg)
    _name(hsc, hsc_ra, hsc_dec)
    _name_spectra(sdss, rng)
    hsc["object_id"] = 36411448540000000 + 131 * np.sort(rng.permutation(40 * len(hsc))[: len(hsc)])
    return Sky(sdss=sdss, hsc=hsc, neighbour=neighbour, neighbour_offset_arcsec=offset)


def _close_neighbours(
    hsc: Table, ra_deg: Floats, dec_deg: Floats, pairs: int, rng: np.random.Generator
) -> tuple[Indices, Floats]:
    """Move some unmatched HSC objects to 1.3-5 arcsec from a pair, fainter than it; positions change in place."""
    close = min(round(_CLOSE_SHARE * (len(hsc) - pairs)), pairs)
    neighbour = np.full(len(hsc), -1, dtype=np.int64)
    offset = np.zeros((len(hsc), 2))
    hosts, guests = rng.choice(pairs, close, replace=False), pairs + np.arange(close)
    distance, angle = rng.uniform(1.3, 5.0, close), rng.uniform(0, 2 * np.pi, close)
    east, north = distance * np.cos(angle), distance * np.sin(angle)
    ra_deg[guests], dec_deg[guests] = shifted(ra_deg[hosts], dec_deg[hosts], east, north)
    drop = hsc["r_mag"][hosts] + rng.uniform(0.7, 3.5, close) - hsc["r_mag"][guests]
    hsc["r_mag"][guests] += drop
    hsc["magnitude"][guests] += drop[:, None]
    for radius in ("disc_radius_arcsec", "bulge_radius_arcsec"):
        hsc[radius][guests] *= 0.5
    neighbour[hosts], neighbour[guests] = guests, hosts
    offset[hosts], offset[guests] = np.stack([-east, north], axis=1), np.stack([east, -north], axis=1)
    return neighbour, offset


def _name(table: Table, ra_deg: Floats, dec_deg: Floats) -> None:
    table["ra_deg"], table["dec_deg"], table["healpix"] = ra_deg, dec_deg, cells_of(ra_deg, dec_deg)


def _name_spectra(sdss: Table, rng: np.random.Generator) -> None:
    """Give each spectrum its survey, plate, fibre, date and the SPECOBJID composed of them."""
    count = len(sdss)
    boss = rng.random(count) < _BOSS_SHARE
    order = rng.permutation(count)
    sdss["survey"] = np.where(boss, "boss", "sdss")
    sdss["plate"] = np.where(boss, 4200, 500) + order // 640
    sdss["fiber"] = order % 640 + 1
    sdss["mjd"] = 51600 + sdss["plate"]
    sdss["object_id"] = (
        (sdss["plate"].astype(np.uint64) << np.uint64(50))
        | (sdss["fiber"].astype(np.uint64) << np.uint64(38))
        | ((sdss["mjd"] - 50000).astype(np.uint64) << np.uint64(24))
        | np.uint64(26 << 10)
    )
