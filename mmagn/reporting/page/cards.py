"""Galaxies of the report as cards: colour image, spectrum with line names, numbers, links to viewers."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import numpy as np
from astropy.table import Table
from markupsafe import Markup
from numpy.typing import NDArray
from PIL import Image

from mmagn.evaluation.parts import parts_text
from mmagn.labels.scheme import BPT_LINES
from mmagn.records import PIXEL_SCALE_ARCSEC, Cutout, Floats, Pair
from mmagn.reporting.figures.bpt import bpt_points
from mmagn.reporting.figures.gallery import SCALE_BAR_ARCSEC, card_figure, draw_card_spectrum, rgb_image
from mmagn.reporting.figures.style import CLASS_NAMES
from mmagn.reporting.figures.svg import Target, figure_svg, webp_address
from mmagn.reporting.page.html import Chart

MAX_CARDS = 120
"""Galaxies shown at most: about 2 MB of page."""
MAX_TARGETS = 3000
"""Objects of a figure that can be pointed at, evenly spaced in the order of the table."""
OUTCOMES = ("false negative", "false positive", "true positive", "true negative")
SDSS_OBJECT = "https://skyserver.sdss.org/dr18/VisualTools/explore/summary?sid={}"
SDSS_POSITION = "https://skyserver.sdss.org/dr18/VisualTools/explore/summary?ra={:.6f}&dec={:.6f}"
SDSS_SPECTRUM = "https://dr16.sdss.org/optical/spectrum/view?plateid={}&mjd={}&fiberid={}"
SDSS_SKY = "https://skyserver.sdss.org/dr18/VisualTools/navi?ra={:.6f}&dec={:.6f}&scale=0.1"
HSC_SKY = "https://hsc-release.mtk.nao.ac.jp/hscMap-pdr3/app/#/?_={}"
LEGACY_SKY = "https://www.legacysurvey.org/viewer?ra={:.6f}&dec={:.6f}&layer=ls-dr10&zoom=16"
FIRST_PLATE = 266
"""First plate of SDSS; ids of DESI read as one would have a plate of 35 or so."""
HSC_FIELD_RADIAN = 1.5e-4
"""Height of the hscMap view, 31 arcsec."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Predictions:
    """Objects of a report with the predictions of a model, (object,) each.

    Attributes
    ----------
    measured
        Rows of the table of measurements.
    truth, probability, positive
        1 or 0; calibrated probability; True where it is at or above the threshold.
    parts
        Columns of :func:`mmagn.evaluation.parts.part_columns`; None without them.
    """

    measured: Table
    truth: Floats
    probability: Floats
    positive: NDArray[np.bool_]
    parts: Table | None = None

    def __len__(self) -> int:
        """Return the number of objects."""
        return len(self.truth)

    def column(self, name: str) -> Floats:
        """Return a measured number of each object (object,)."""
        return np.asarray(self.measured[name], dtype=np.float64)

    def words(self, name: str) -> NDArray[np.str_]:
        """Return a measured text of each object (object,)."""
        return np.asarray(self.measured[name], dtype=np.str_)

    @property
    def surprise(self) -> Floats:
        """(object,) log loss: minus the logarithm of the probability of the true class."""
        of_truth = np.where(self.truth > 0, self.probability, 1 - self.probability)
        return np.asarray(-np.log(np.clip(of_truth, 1e-6, 1)), dtype=np.float64)

    @property
    def weakest_snr(self) -> Floats:
        """(object,) S/N of the weakest of the four lines."""
        return np.asarray(np.min([self.column(f"snr_{line}") for line in BPT_LINES], axis=0), dtype=np.float64)

    @property
    def outcome(self) -> list[str]:
        """(object,) one of ``OUTCOMES``."""
        place = {(True, False): 0, (False, True): 1, (True, True): 2, (False, False): 3}
        both = zip((self.truth > 0).tolist(), self.positive.tolist(), strict=True)
        return [OUTCOMES[place[truth, positive]] for truth, positive in both]


def card_objects(predictions: Predictions, limit: int = MAX_CARDS) -> NDArray[np.int64]:
    """Return the objects to show, largest log loss first: the worst two thirds and the best third where not all fit."""
    order = np.argsort(-predictions.surprise, kind="stable")
    if len(order) <= limit:
        return order
    worst = limit * 2 // 3
    return np.concatenate([order[:worst], order[worst - limit :]])


def cards(
    predictions: Predictions, objects: NDArray[np.int64], pair_of: Callable[[str], Pair] | None
) -> list[dict[str, Any]]:
    """Return the content of the card of each of some objects, in their order.

    ``pair_of`` gives image and spectrum by SDSS id; None where they are not at hand.
    """
    object_id, bpt_class = predictions.words("object_id"), predictions.words("bpt_class")
    columns = {name: predictions.column(name) for name in ("redshift", "ra_deg", "dec_deg", "p_agn")}
    surprise, weakest, outcome = predictions.surprise, predictions.weakest_snr, predictions.outcome
    contents, figure = [], card_figure()
    for number in objects.tolist():
        position = {name: float(values[number]) for name, values in columns.items()}
        position["ra_deg"] %= 360
        name, pair = str(object_id[number]), None if pair_of is None else pair_of(str(object_id[number]))
        class_name = CLASS_NAMES.get(bpt_class[number], bpt_class[number])
        words = f"galaxy {name}, {class_name}, z = {position['redshift']:.3f}"
        alt, spectrum = f"spectrum of {words}", Markup("")
        if pair is not None:
            draw_card_spectrum(figure, pair.spectrum)
            spectrum = figure_svg(figure, f"spectrum-{number}", alt)
        contents.append(
            {
                "number": number,
                "object_id": name,
                "bpt_class": str(bpt_class[number]),
                "class_name": class_name,
                "truth": bool(predictions.truth[number] > 0),
                "probability": float(predictions.probability[number]),
                "alone": "" if predictions.parts is None else parts_text(predictions.parts[number]),
                "outcome": outcome[number],
                "surprise": float(surprise[number]),
                "weakest_snr": float(weakest[number]),
                "image": "" if pair is None else image_uri(pair.cutout),
                "scale_bar": SCALE_BAR_ARCSEC,
                "spectrum": spectrum,
                "image_alt": f"HSC image in g, r and i of {words}",
                "links": viewer_links(name, position["ra_deg"], position["dec_deg"]),
            }
            | position
        )
    return contents


def viewer_links(object_id: str, ra_deg: float, dec_deg: float) -> list[tuple[str, str]]:
    """Return name and address of the pages on an object: SDSS by SPECOBJID where it is one, the skies by position."""
    plate = plate_mjd_fiber(int(object_id)) if object_id.isascii() and object_id.isdigit() else None
    view = {"a": np.radians(ra_deg), "d": np.radians(dec_deg), "fovy": HSC_FIELD_RADIAN, "roll": 0}
    address = SDSS_POSITION.format(ra_deg, dec_deg) if plate is None else SDSS_OBJECT.format(object_id)
    links = [("SDSS object", address)]
    if plate is not None:
        links.append(("SDSS spectrum", SDSS_SPECTRUM.format(*plate)))
    return [
        *links,
        ("SDSS sky", SDSS_SKY.format(ra_deg, dec_deg)),
        ("HSC map", HSC_SKY.format(quote(json.dumps({"view": view}, separators=(",", ":")), safe=""))),
        ("Legacy Surveys", LEGACY_SKY.format(ra_deg, dec_deg)),
    ]


def plate_mjd_fiber(spec_obj_id: int) -> tuple[int, int, int] | None:
    """Return plate, MJD and fiber that an SDSS SPECOBJID is made of (bits 50-63, 24-37, 38-49), None for other ids."""
    plate, fiber = spec_obj_id >> 50, spec_obj_id >> 38 & 0xFFF
    mjd = 50000 + (spec_obj_id >> 24 & 0x3FFF)
    return (plate, mjd, fiber) if FIRST_PLATE <= plate < 2**14 and 0 < fiber <= 1000 else None


def image_uri(cutout: Cutout) -> str:
    """Return the colour image (Lupton+2004, i r g) as a WebP data address, north up, with a scale bar."""
    picture = np.ascontiguousarray(rgb_image(cutout)[::-1])
    height, width = picture.shape[:2]
    length = min(round(SCALE_BAR_ARCSEC / PIXEL_SCALE_ARCSEC), width - 10)
    picture[height - 9 : height - 7, 8 : 8 + length] = 255
    return webp_address(Image.fromarray(picture))


def bpt_targets(chart: Chart, predictions: Predictions, with_card: NDArray[np.int64]) -> list[Target]:
    """Return the places of objects in a BPT plane; those of ``with_card`` open their card."""
    points, axes = bpt_points(predictions.measured, errors=False), chart.figure.axes[0]
    places = axes.transData.transform(np.stack([points.x, points.y], axis=1))
    (left, right), (low, high) = axes.get_xlim(), axes.get_ylim()
    inside = points.defined & (points.x > left) & (points.x < right) & (points.y > low) & (points.y < high)
    rows = np.flatnonzero(inside)
    carded = set(with_card.tolist())
    rows = rows[np.unique(np.linspace(0, len(rows) - 1, min(len(rows), MAX_TARGETS)).astype(int))]
    rows = rows[np.argsort([row in carded for row in rows.tolist()], kind="stable")]  # those with a card on top
    object_id, bpt_class = predictions.words("object_id"), predictions.words("bpt_class")
    redshift = predictions.column("redshift")
    return [
        Target(
            x=float(places[row, 0]),
            y=float(places[row, 1]),
            tip=f"{object_id[row]}: P(AGN) {predictions.probability[row]:.2f}, "
            f"{CLASS_NAMES.get(bpt_class[row], bpt_class[row])}, z {redshift[row]:.3f}",
            card=row if row in carded else None,
        )
        for row in rows.tolist()
    ]
