"""Ready-made pairs in a repository of a Hugging Face hub, read as two surveys.

Two layouts are known: the rows of a store of pairs, as ``match.py --push`` writes them, and rows with a struct
``image`` and a struct ``spectrum``, as a cross-match of two catalogues in HATS layout gives. The pairs are matched
again by position, so that the same rules hold for them as for any other.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import pyarrow as pa

from mmagn.records import Cutout, Spectrum
from mmagn.surveys.hub.catalog import HubCatalog, repository_columns, source
from mmagn.surveys.hub.reader import CUTOUTS_AT_ONCE, HUB_SURVEY, SPECTRA_AT_ONCE, HubSurveys
from mmagn.surveys.pair_rows import (
    BAND_COLUMNS,
    CLASS_COLUMNS,
    IMAGE_COLUMNS,
    SPECTRUM_COLUMNS,
    cutout_from_row,
    spectrum_from_row,
)
from mmagn.surveys.parquet.row_groups import Payload
from mmagn.surveys.parquet.rows import (
    HSC_NEEDED,
    HSC_PAYLOAD,
    SDSS_PAYLOAD,
    SPECTRA_NEEDED,
    cutout_from_hats,
    spectrum_from_hats,
)
from mmagn.surveys.reader import Record, SourceFile, reading_settings

_STORED_SDSS = {"object_id": "sdss_object_id", "ra": "sdss_ra_deg", "dec": "sdss_dec_deg", "Z": "redshift"}
_STORED_HSC = {"object_id": "hsc_object_id", "ra": "hsc_ra_deg", "dec": "hsc_dec_deg"}
_STORED_SPECTRUM = (*_STORED_SDSS.values(), *CLASS_COLUMNS, *SPECTRUM_COLUMNS)
_STORED_CUTOUT = (*_STORED_HSC.values(), *IMAGE_COLUMNS, *BAND_COLUMNS)
_MARK_OF_A_STORE = "image_flux"
"""Column that rows of a store have and nested rows have not."""


@dataclass(frozen=True, kw_only=True)
class HubPairsReader(HubSurveys):
    """Reader of both surveys from ready-made pairs; see ``reader.SurveyReader``.

    Attributes
    ----------
    data
        Settings with ``data.source`` hub-pairs.
    """

    def settings(self) -> dict[str, Any]:
        """Return the settings that shape what is read, by dotted name; the commit is among the sources."""
        settings = reading_settings(self.data)
        del settings["data.desi_survey"], settings["data.hsc_survey"]
        return settings | {"data.hub.pairs": self.data.hub.pairs}

    def sources(self) -> tuple[SourceFile, ...]:
        """Return the repository with the commit that is read."""
        described = source(self.data, self._sdss())
        return (replace(described, name=f"pairs {described.name.removeprefix('sdss ')}"),)

    def _spectra(self) -> tuple[HubCatalog[Spectrum], ...]:
        return (self._sdss(),)

    def _sdss(self) -> HubCatalog[Spectrum]:
        present = self._present()
        if _MARK_OF_A_STORE in present:
            needed = {_STORED_SDSS[name]: SPECTRA_NEEDED[name] for name in _STORED_SDSS}
            needed |= {name: "spectrum" for name in _STORED_SPECTRUM if name not in needed}
            from_stored = partial(_stored_spectrum, surveys=self.data.spectra)
            return self._catalog(_STORED_SDSS, needed, self._payload(_STORED_SPECTRUM, from_stored))
        if HUB_SURVEY not in self.data.spectra:
            raise ValueError(
                f"data.spectra is {', '.join(self.data.spectra)}; {self.data.hub.pairs} has only {HUB_SURVEY}"
            )
        names = _names(present, "sdss", SDSS_PAYLOAD)
        needed = {names[name]: purpose for name, purpose in SPECTRA_NEEDED.items()}
        return self._catalog(
            names, needed, self._payload(tuple(names.values()), partial(_nested_spectrum, names=names))
        )

    def _hsc(self) -> HubCatalog[Cutout]:
        present = self._present()
        if _MARK_OF_A_STORE in present:
            needed = {_STORED_HSC[name]: HSC_NEEDED[name] for name in _STORED_HSC}
            needed |= {name: "image" for name in _STORED_CUTOUT if name not in needed}
            return self._catalog(_STORED_HSC, needed, self._cutouts(_STORED_CUTOUT, _stored_cutout))
        names = _names(present, "hsc", HSC_PAYLOAD)
        needed = {names[name]: purpose for name, purpose in HSC_NEEDED.items()}
        return self._catalog(names, needed, self._cutouts(tuple(names.values()), partial(_nested_cutout, names=names)))

    def _present(self) -> frozenset[str]:
        return repository_columns(self.data, self.data.hub.pairs, self.data.hub.pairs_revision)

    def _payload(
        self, columns: tuple[str, ...], from_row: Callable[[pa.RecordBatch, int], Spectrum]
    ) -> Payload[Spectrum]:
        return Payload(survey="sdss", columns=columns, from_row=from_row, rows_at_once=SPECTRA_AT_ONCE)

    def _cutouts(self, columns: tuple[str, ...], from_row: Callable[[pa.RecordBatch, int], Cutout]) -> Payload[Cutout]:
        return Payload(survey="hsc", columns=columns, from_row=from_row, rows_at_once=CUTOUTS_AT_ONCE)

    def _catalog(
        self, names: Mapping[str, str], needed: Mapping[str, str], payload: Payload[Record]
    ) -> HubCatalog[Record]:
        """Return one survey; ``names`` gives the column of every published name that the layout has."""
        meanings = ("object_id", "ra", "dec", *(["Z"] if payload.survey == "sdss" else []))
        return HubCatalog(
            setting="data.hub.pairs",
            repository=self.data.hub.pairs,
            revision=self.data.hub.pairs_revision,
            index={meaning: names[meaning] for meaning in meanings},
            needed=needed,
            payload=payload,
        )


def _names(present: frozenset[str], side: str, published: Sequence[str]) -> dict[str, str]:
    """Return the column of every published name: with the survey's name before or after it, or as published."""
    names = {}
    for name in published:
        spellings = (f"{side}_{name}", f"{name}_{side}") if "." not in name else ()
        names[name] = next((spelling for spelling in spellings if spelling in present), name)
    return names


def _published(rows: pa.RecordBatch, names: Mapping[str, str]) -> pa.RecordBatch:
    """Return rows under the published names of their columns."""
    published = {column: name for name, column in names.items()}
    return rows.rename_columns([published.get(column, column) for column in rows.schema.names])


def _nested_spectrum(rows: pa.RecordBatch, row: int, names: Mapping[str, str]) -> Spectrum:
    return spectrum_from_hats(_published(rows, names), row, survey=HUB_SURVEY)


def _nested_cutout(rows: pa.RecordBatch, row: int, names: Mapping[str, str]) -> Cutout:
    return cutout_from_hats(_published(rows, names), row)


def _stored_spectrum(rows: pa.RecordBatch, row: int, surveys: Sequence[str]) -> Spectrum:
    spectrum = spectrum_from_row(_stored_row(rows, row, _STORED_SPECTRUM))
    if spectrum.survey not in surveys:
        raise ValueError(f"survey {spectrum.survey} is not in data.spectra {', '.join(surveys)}")
    return spectrum


def _stored_cutout(rows: pa.RecordBatch, row: int) -> Cutout:
    return cutout_from_row(_stored_row(rows, row, _STORED_CUTOUT))


def _stored_row(rows: pa.RecordBatch, row: int, columns: Sequence[str]) -> dict[str, Any]:
    """Return a row of a store, lists as arrays."""
    values = {name: rows.column(name)[row] for name in columns}
    return {
        name: value.values.to_numpy(zero_copy_only=False) if isinstance(value, pa.ListScalar) else value.as_py()
        for name, value in values.items()
    }
