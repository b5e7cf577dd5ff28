"""The two surveys as dataset repositories of a Hugging Face hub in HATS layout: only what is matched is ever moved."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from mmagn.records import Cutout, Spectrum
from mmagn.surveys.hats.rows import (
    HSC_COLUMNS,
    IMAGE_FIELDS,
    SDSS_COLUMNS,
    SPECTRUM_FIELDS,
    cutout_from_hats,
    spectrum_from_hats,
)
from mmagn.surveys.hub.catalog import HubCatalog, hub_parquet, source
from mmagn.surveys.hub.sides import HubSides
from mmagn.surveys.reader import SourceFile, reading_settings

HUB_SURVEY = "sdss"
"""The one SDSS survey that these repositories hold."""
CUTOUTS_AT_ONCE = 8
SPECTRA_AT_ONCE = 256


def _columns(plain: Sequence[str], struct: str, parts: Mapping[str, str]) -> tuple[str, ...]:
    return (*(name for name in plain if name != struct), *(f"{struct}.{part}" for part in parts.values()))


_NEEDED = {"object_id": "identity", "ra": "position", "dec": "position"}
HSC_PAYLOAD = _columns(HSC_COLUMNS, "image", IMAGE_FIELDS)
SDSS_PAYLOAD = _columns(SDSS_COLUMNS, "spectrum", SPECTRUM_FIELDS)
HSC_NEEDED = _NEEDED | {name: "image" for name in HSC_PAYLOAD if "." in name and name != "image.scale"}
SDSS_NEEDED = _NEEDED | {"Z": "redshift"} | {name: "spectrum" for name in SDSS_PAYLOAD if "." in name}


@dataclass(frozen=True, kw_only=True)
class HubReader(HubSides):
    """Reader of the surveys of a hub; see ``readers.SurveyReader``.

    Attributes
    ----------
    data
        Settings with ``data.source`` hub.
    """

    def __post_init__(self) -> None:
        if HUB_SURVEY not in self.data.sdss_surveys:
            raise ValueError(
                f"data.sdss_surveys is {', '.join(self.data.sdss_surveys)}; data.source hub has only {HUB_SURVEY}"
            )

    def settings(self) -> dict[str, Any]:
        """Return the settings that shape what is read, by dotted name; the commits are among the sources."""
        settings = reading_settings(self.data)
        del settings["data.sdss_surveys"], settings["data.hsc_survey"]
        return settings | {"data.hub.sdss": self.data.hub.sdss, "data.hub.hsc": self.data.hub.hsc}

    def sources(self) -> tuple[SourceFile, ...]:
        """Return both repositories with the commit that is read."""
        client = hub_parquet(self.data).client
        return source(client, self._sdss()), source(client, self._hsc())

    def _sdss(self) -> HubCatalog[Spectrum]:
        return HubCatalog(
            name="sdss",
            setting="data.hub.sdss",
            repository=self.data.hub.sdss,
            revision=self.data.hub.sdss_revision,
            index={"object_id": "object_id", "ra": "ra", "dec": "dec", "Z": "Z"},
            payload=SDSS_PAYLOAD,
            needed=SDSS_NEEDED,
            from_row=partial(spectrum_from_hats, survey=HUB_SURVEY),
            rows_at_once=SPECTRA_AT_ONCE,
        )

    def _hsc(self) -> HubCatalog[Cutout]:
        return HubCatalog(
            name="hsc",
            setting="data.hub.hsc",
            repository=self.data.hub.hsc,
            revision=self.data.hub.hsc_revision,
            index={"object_id": "object_id", "ra": "ra", "dec": "dec"},
            payload=HSC_PAYLOAD,
            needed=HSC_NEEDED,
            from_row=cutout_from_hats,
            rows_at_once=CUTOUTS_AT_ONCE,
        )
