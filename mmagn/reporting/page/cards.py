"""Galaxies of the report as cards: colour image, spectrum with line names, numbers, links to both surveys."""

import base64
import io
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import numpy as np
from astropy.table import Table
from markupsafe import Markup
from numpy.typing import NDArray
from PIL import Image

from mmagn.labels.scheme import BPT_LINES
from mmagn.lines import LINE_BY_NAME
from mmagn.records import PIXEL_SCALE_ARCSEC, Cutout, Pair, Spectrum
from mmagn.reporting.figures.gallery import LINE_MARKS, REST_RANGE_ANGSTROM, SCALE_BAR_ARCSEC, rgb_image

MAX_CARDS = 120
"""Galaxies shown at most: about 2 MB of page."""
WEBP_QUALITY = 80
PIXELS_PER_POINT = 3
"""Pixels of a spectrum that are averaged into one point of its curve."""
OUTCOMES = ("missed", "false alarm", "found", "rightly left")
"""What came of an object: AGN not called, other called, AGN called, other not called."""
SDSS_OBJECT = "https://skyserver.sdss.org/dr18/VisualTools/explore/summary?sid={}"
SDSS_POSITION = "https://skyserver.sdss.org/dr18/VisualTools/explore/summary?ra={:.6f}&dec={:.6f}"
SDSS_SKY = "https://skyserver.sdss.org/dr18/VisualTools/navi?ra={:.6f}&dec={:.6f}&scale=0.1"
HSC_SKY = "https://hsc-release.mtk.nao.ac.jp/hscMap-pdr3/app/#/?_={}"
HSC_FIELD_RADIAN = 1.5e-4
"""Height of the hscMap view, 31 arcsec."""
_WIDTH, _HEIGHT, _BASE, _TOP = 600, 174, 152, 36


@dataclass(frozen=True, kw_only=True, eq=False)
class Verdicts:
    """Objects of a report with what a model said of them, (object,) each.

    Attributes
    ----------
    measured
        (object) rows of the table of measurements.
    truth
        1 positive, 0 negative.
    probability
        Calibrated probability.
    called
        True where it is called positive.
    """

    measured: Table
    truth: NDArray[np.float64]
    probability: NDArray[np.float64]
    called: NDArray[np.bool_]

    def __len__(self) -> int:
        """Return the number of objects."""
        return len(self.truth)

    def column(self, name: str) -> NDArray[np.float64]:
        """Return a measured number of each object (object,)."""
        return np.asarray(self.measured[name], dtype=np.float64)

    def words(self, name: str) -> NDArray[np.str_]:
        """Return a measured text of each object (object,)."""
        return np.asarray(self.measured[name], dtype=np.str_)

    @property
    def surprise(self) -> NDArray[np.float64]:
        """(object,) how wrong the probability is: minus the log of what was given to the truth."""
        given = np.where(self.truth > 0, self.probability, 1 - self.probability)
        return np.asarray(-np.log(np.clip(given, 1e-6, 1)), dtype=np.float64)

    @property
    def weakest_snr(self) -> NDArray[np.float64]:
        """(object,) S/N of the weakest of the four lines."""
        return np.asarray(np.min([self.column(f"snr_{line}") for line in BPT_LINES], axis=0), dtype=np.float64)

    @property
    def outcome(self) -> list[str]:
        """(object,) one of ``OUTCOMES``."""
        names = {(True, False): 0, (False, True): 1, (True, True): 2, (False, False): 3}
        return [
            OUTCOMES[names[truth > 0, bool(called)]]
            for truth, called in zip(self.truth.tolist(), self.called.tolist(), strict=True)
        ]


def shown_objects(verdicts: Verdicts, limit: int = MAX_CARDS) -> NDArray[np.int64]:
    """Return the objects to show, most wrong first: the worst two thirds and the best third where not all fit."""
    order = np.argsort(-verdicts.surprise, kind="stable")
    if len(order) <= limit:
        return order
    worst = limit * 2 // 3
    return np.concatenate([order[:worst], order[worst - limit :]])


def cards(verdicts: Verdicts, shown: NDArray[np.int64], pair_of: Callable[[str], Pair] | None) -> list[dict[str, Any]]:
    """Return what the page tells of each shown object, in their order.

    Parameters
    ----------
    verdicts
        All objects.
    shown
        Which of them.
    pair_of
        Image and spectrum by SDSS id; None where they are not at hand.
    """
    object_id, bpt_class = verdicts.words("object_id"), verdicts.words("bpt_class")
    columns = {name: verdicts.column(name) for name in ("redshift", "ra_deg", "dec_deg", "p_agn")}
    surprise, weakest, outcome = verdicts.surprise, verdicts.weakest_snr, verdicts.outcome
    found = []
    for number in shown.tolist():
        position = {name: float(values[number]) for name, values in columns.items()}
        pair = None if pair_of is None else pair_of(str(object_id[number]))
        said = f"galaxy {object_id[number]}, {bpt_class[number]}, z = {position['redshift']:.3f}"
        found.append(
            {
                "number": number,
                "object_id": str(object_id[number]),
                "bpt_class": str(bpt_class[number]),
                "truth": bool(verdicts.truth[number] > 0),
                "probability": float(verdicts.probability[number]),
                "outcome": outcome[number],
                "surprise": float(surprise[number]),
                "weakest_snr": float(weakest[number]),
                "image": "" if pair is None else image_uri(pair.cutout),
                "scale_bar": SCALE_BAR_ARCSEC,
                "spectrum": Markup("") if pair is None else spectrum_svg(pair.spectrum, f"SDSS spectrum of {said}"),
                "image_alt": f"HSC image in g, r and i of {said}",
                "links": viewer_links(str(object_id[number]), position["ra_deg"], position["dec_deg"]),
            }
            | position
        )
    return found


def viewer_links(object_id: str, ra_deg: float, dec_deg: float) -> list[tuple[str, str]]:
    """Return name and address of the pages on an object: SDSS by SPECOBJID where it is one, both skies by position."""
    known = object_id.isascii() and object_id.isdigit()
    view = {"a": np.radians(ra_deg), "d": np.radians(dec_deg), "fovy": HSC_FIELD_RADIAN, "roll": 0}
    return [
        ("SDSS object", SDSS_OBJECT.format(object_id) if known else SDSS_POSITION.format(ra_deg, dec_deg)),
        ("SDSS sky", SDSS_SKY.format(ra_deg, dec_deg)),
        ("HSC map", HSC_SKY.format(quote(json.dumps({"view": view}, separators=(",", ":")), safe=""))),
    ]


def image_uri(cutout: Cutout) -> str:
    """Return the colour image (Lupton+2004, i r g) as a WebP data address, north up, with a scale bar."""
    picture = np.ascontiguousarray(rgb_image(cutout)[::-1])
    height, width = picture.shape[:2]
    length = min(round(SCALE_BAR_ARCSEC / PIXEL_SCALE_ARCSEC), width - 10)
    picture[height - 9 : height - 7, 8 : 8 + length] = 255
    file = io.BytesIO()
    Image.fromarray(picture).save(file, format="WEBP", quality=WEBP_QUALITY, method=4)
    return "data:image/webp;base64," + base64.b64encode(file.getvalue()).decode("ascii")


def spectrum_svg(spectrum: Spectrum, alt: str) -> Markup:
    """Return a spectrum in its rest frame with its diagnostic lines named."""
    rest_angstrom = spectrum.wavelength_angstrom.astype(np.float64) / (1 + spectrum.redshift)
    inside = (rest_angstrom >= REST_RANGE_ANGSTROM[0]) & (rest_angstrom <= REST_RANGE_ANGSTROM[1])
    parts = [
        Markup('<svg class="spectrum" viewBox="0 0 {} {}" role="img" aria-label="{}">').format(_WIDTH, _HEIGHT, alt),
        *_line_marks(),
        *(
            Markup('<text class="tick middle" x="{:.0f}" y="{}">{}</text>').format(_across(tick), _HEIGHT - 5, tick)
            for tick in (4000, 4500, 5000, 5500, 6000, 6500)
        ),
        Markup('<path class="grid" d="M0 {0}H{1}"/>').format(_BASE, _WIDTH),
    ]
    wave, flux = _averaged(rest_angstrom[inside], spectrum.flux[inside], spectrum.ivar[inside])
    if np.isfinite(flux).sum() < 2:
        parts.append(Markup('<text class="middle" x="{}" y="90">no valid pixels here</text>').format(_WIDTH / 2))
    else:
        parts.append(Markup('<path class="line blue thin" d="{}"/>').format(_curve(wave, flux)))
    return Markup("").join([*parts, Markup("</svg>")])


def _across(rest_angstrom: float | NDArray[np.float64]) -> NDArray[np.float64]:
    low, high = REST_RANGE_ANGSTROM
    return np.asarray((np.asarray(rest_angstrom) - low) / (high - low) * _WIDTH)


def _line_marks() -> list[Markup]:
    drawn = []
    for number, (label, names) in enumerate(LINE_MARKS):
        places = [float(_across(LINE_BY_NAME[name].wavelength_angstrom)) for name in names]
        drawn += [Markup('<path class="mark grey" d="M{:.1f} {}V{}"/>').format(place, _TOP, _BASE) for place in places]
        words = label.replace(r"$\beta$", "β").replace(r"$\alpha$", "α")
        drawn.append(
            Markup('<text class="label middle" x="{:.1f}" y="{}">{}</text>').format(
                np.mean(places), 15 + 16 * (number % 2), words
            )
        )
    return drawn


def _averaged(
    wave: NDArray[np.float64], flux: NDArray[np.float32], ivar: NDArray[np.float32]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Wavelength and ivar-weighted flux of groups of pixels (point,), NaN where nothing is valid."""
    count = len(wave) // PIXELS_PER_POINT * PIXELS_PER_POINT
    grouped = [np.asarray(part[:count], dtype=np.float64).reshape(-1, PIXELS_PER_POINT) for part in (wave, flux, ivar)]
    weight = grouped[2].sum(axis=1)
    mean = np.divide((grouped[1] * grouped[2]).sum(axis=1), weight, out=np.full(len(weight), np.nan), where=weight > 0)
    return grouped[0].mean(axis=1), mean


def _curve(wave: NDArray[np.float64], flux: NDArray[np.float64]) -> str:
    """Path data in whole units and steps from point to point: a third of the length of absolute places."""
    usable = np.isfinite(flux)
    low, high = np.quantile(flux[usable], [0.01, 0.998])
    low, high = min(low, 0.9 * low), max(high, low + 1e-6)
    up = _BASE - 4 - (flux[usable] - low) / (high - low) * (_BASE - _TOP - 8)
    places = np.stack([_across(wave[usable]), np.clip(up, _TOP - 4, _BASE)], axis=1)
    halves = np.rint(places * 2).astype(int)
    steps = np.diff(halves, axis=0)

    def short(half_units: int) -> str:
        return f"{half_units / 2:g}"

    start = f"M{short(halves[0, 0])} {short(halves[0, 1])}l"
    return start + " ".join(f"{short(across)} {short(down)}" for across, down in steps.tolist())


def outcome_counts(outcomes: Sequence[str]) -> dict[str, int]:
    """Return how often each of ``OUTCOMES`` came."""
    return {name: outcomes.count(name) for name in OUTCOMES}
