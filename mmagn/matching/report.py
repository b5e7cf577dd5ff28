"""Report of a match: pairs, losses, separations, and the pairs that chance alone would make."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from types import MappingProxyType
from typing import Any

import numpy as np
from scipy.spatial import cKDTree

from mmagn.matching.sky import CANDIDATE_BLOCK, Matches, chord_length, unit_vectors
from mmagn.records import Catalog, Floats
from mmagn.storage.files import plain_value

SEPARATION_QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95, 1.0)
REPEATS_NAMED = 10
BACKGROUND_INNER_ARCSEC = 5.0
BACKGROUND_OUTER_ARCSEC = 60.0
"""Least radii of the ring around an object in which the local density is counted."""


def expected_pairs(density: Floats, radius_arcsec: float) -> float:
    """Return how many objects have a neighbour within the radius by chance alone, given the density around each.

    A Poisson field puts at least one object within the radius with probability ``1 - exp(-density * pi * radius**2)``.
    The sum is an upper limit to the false pairs: an object with a true counterpart takes that one.
    """
    return float(np.sum(-np.expm1(-density * np.pi * radius_arcsec**2)))


def local_density(left: Catalog, right: Catalog, radius_arcsec: float) -> Floats:
    """Return the density of right objects around every left object, (left object,), per arcsec2.

    It is counted in a ring that starts outside the radius, so true counterparts do not count.
    """
    density = np.zeros(len(left))
    if not len(left) or not len(right):
        return density
    inner = max(2 * radius_arcsec, BACKGROUND_INNER_ARCSEC)
    outer = max(10 * radius_arcsec, BACKGROUND_OUTER_ARCSEC)
    tree = cKDTree(unit_vectors(right.ra_deg, right.dec_deg))
    for start in range(0, len(left), CANDIDATE_BLOCK):
        block = slice(start, start + CANDIDATE_BLOCK)
        vectors = unit_vectors(left.ra_deg[block], left.dec_deg[block])
        within_outer = tree.query_ball_point(vectors, chord_length(outer), return_length=True, workers=-1)
        within_inner = tree.query_ball_point(vectors, chord_length(inner), return_length=True, workers=-1)
        density[block] = (within_outer - within_inner) / (np.pi * (outer**2 - inner**2))
    return density


@dataclass(frozen=True, kw_only=True)
class MatchReport:
    """Pairs and losses of a match (left: spectra, right: HSC), and how many pairs chance would make.

    Attributes
    ----------
    radius_arcsec, left_objects, right_objects, pairs
        Largest separation of a pair, objects with a usable position on each side, and one-to-one matches.
    many_to_one_left, many_to_one_right
        Objects dropped because their neighbour within the radius belongs to a nearer object.
    border_pairs
        Pairs whose members lie in different HEALPix cells; they are kept.
    separation_quantiles_arcsec
        Separation at the named quantiles, empty without pairs.
    expected_by_chance
        Pairs that unrelated objects of the local density would make, see ``expected_pairs``.
    common_cells, left_only_cells, right_only_cells
        Number of HEALPix cells that hold both surveys, and the cells that hold one only.
    drops
        Objects left out while reading, by reason.
    repeats
        Ids of the other spectra of a galaxy by the id of the one that is kept.
    """

    radius_arcsec: float
    left_objects: int
    right_objects: int
    pairs: int
    many_to_one_left: int
    many_to_one_right: int
    border_pairs: int
    separation_quantiles_arcsec: dict[str, float]
    expected_by_chance: float
    common_cells: int
    left_only_cells: tuple[int, ...]
    right_only_cells: tuple[int, ...]
    drops: dict[str, int] = field(default_factory=dict)
    repeats: dict[str, tuple[str, ...]] = field(default_factory=dict)

    def as_dict(self) -> dict[str, object]:
        """Return plain numbers, texts, lists and dicts, ready for JSON."""
        plain: dict[str, object] = plain_value(asdict(self))
        return plain

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> "MatchReport":
        """Return the report behind ``as_dict``; other keys are ignored."""
        values = {item.name: plain[item.name] for item in fields(cls)}
        for name in ("left_only_cells", "right_only_cells"):
            values[name] = tuple(values[name])
        values["repeats"] = {kept: tuple(others) for kept, others in values["repeats"].items()}
        return cls(**values)

    def __str__(self) -> str:
        lines = [
            f"pairs within {self.radius_arcsec:g} arcsec: {self.pairs} "
            f"of {self.left_objects} spectra and {self.right_objects} HSC images",
            f"expected by chance: {self.expected_by_chance:.3g}",
            f"dropped as many-to-one: {self.many_to_one_left} spectra, {self.many_to_one_right} images",
            f"pairs across a cell border, kept: {self.border_pairs}",
            f"cells: {self.common_cells} common, {len(self.left_only_cells)} with spectra only, "
            f"{len(self.right_only_cells)} with images only",
        ]
        if self.separation_quantiles_arcsec:
            quantiles = ", ".join(f"{name} {value:.3f}" for name, value in self.separation_quantiles_arcsec.items())
            lines.append(f"separation in arcsec: {quantiles}")
        lines += [f"dropped: {count} x {reason}" for reason, count in sorted(self.drops.items())]
        named = list(self.repeats.items())[:REPEATS_NAMED]
        lines += [f"repeats of spectrum {kept}: {', '.join(others)}" for kept, others in named]
        if len(self.repeats) > len(named):
            lines.append(f"repeats of {len(self.repeats) - len(named)} more spectra, named in the report of the store")
        return "\n".join(lines)


def match_report(
    left: Catalog,
    right: Catalog,
    matches: Matches,
    radius_arcsec: float,
    drops: Mapping[str, int],
    repeats: Mapping[str, tuple[str, ...]] = MappingProxyType({}),
) -> MatchReport:
    """Return the report of a match between two catalogues.

    ``drops`` are the counted losses of reading them, ``repeats`` what ``repeats.without_repeats`` left out.
    """
    left_cells, right_cells = (set(np.unique(side.healpix).tolist()) for side in (left, right))
    quantiles = {}
    if len(matches):
        values = np.quantile(matches.separation_arcsec, SEPARATION_QUANTILES)
        quantiles = {f"{100 * q:g}%": float(value) for q, value in zip(SEPARATION_QUANTILES, values, strict=True)}
    border = left.healpix[matches.left_index] != right.healpix[matches.right_index]
    return MatchReport(
        radius_arcsec=radius_arcsec,
        left_objects=len(left),
        right_objects=len(right),
        pairs=len(matches),
        many_to_one_left=matches.left_lost,
        many_to_one_right=matches.right_lost,
        border_pairs=int(np.count_nonzero(border)),
        separation_quantiles_arcsec=quantiles,
        expected_by_chance=expected_pairs(local_density(left, right, radius_arcsec), radius_arcsec),
        common_cells=len(left_cells & right_cells),
        left_only_cells=tuple(sorted(left_cells - right_cells)),
        right_only_cells=tuple(sorted(right_cells - left_cells)),
        drops=dict(drops),
        repeats=dict(repeats),
    )
