"""Ready-made pairs in a repository of a Hugging Face hub, read as two surveys.

Two layouts are known: the rows of a store of pairs, as ``match.py --push`` writes them, and rows with a struct
``image`` and a struct ``spectrum`` of SDSS or DESI, as a cross-match of two catalogues in HATS layout gives. The pairs
are matched again by position, so that the same rules hold for them as for any other. DESI pairs without positions or
redshifts get them from the DESI catalogue by TARGETID.
"""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from mmagn.records import Cutout, Floats, Spectrum
from mmagn.surveys.config import DESI, DataConfig
from mmagn.surveys.hub.catalog import HubCatalog, index_table, repository_columns, source
from mmagn.surveys.hub.reader import HUB_SURVEY, HubSurveys, spectra_catalog
from mmagn.surveys.pair_rows import (
    BAND_COLUMNS,
    CLASS_COLUMNS,
    IMAGE_COLUMNS,
    SPECTRUM_COLUMNS,
    cutout_from_row,
    spectrum_from_row,
)
from mmagn.surveys.parquet.row_groups import ParquetFile, Payload
from mmagn.surveys.parquet.rows import (
    CUTOUTS_AT_ONCE,
    DESI_PAYLOAD,
    HSC_NEEDED,
    HSC_PAYLOAD,
    SDSS_PAYLOAD,
    SPECTRA_AT_ONCE,
    SPECTRA_NEEDED,
    cutout_from_hats,
    desi_rows_of,
    spectrum_from_hats,
)
from mmagn.surveys.reader import Record, SourceFile, check_surveys, reading_settings
from mmagn.surveys.screen import id_texts

_STORED_SDSS = {"object_id": "sdss_object_id", "ra": "sdss_ra_deg", "dec": "sdss_dec_deg", "Z": "redshift"}
_STORED_HSC = {"object_id": "hsc_object_id", "ra": "hsc_ra_deg", "dec": "hsc_dec_deg"}
_STORED_SPECTRUM = (*_STORED_SDSS.values(), *CLASS_COLUMNS, *SPECTRUM_COLUMNS)
_STORED_CUTOUT = (*_STORED_HSC.values(), *IMAGE_COLUMNS, *BAND_COLUMNS)
_JOINED = ("ra", "dec", "Z")
"""Columns that the DESI catalogue has where nested rows of DESI lack them."""
_log = logging.getLogger(__name__)
_MARK_OF_A_STORE = "image_flux"
"""Column that rows of a store have and nested rows have not."""


@dataclass(frozen=True, kw_only=True)
class HubPairsReader(HubSurveys):
    """Reader of both surveys from ready-made pairs, with ``data.source`` hub-pairs; see ``reader.SurveyReader``."""

    def settings(self) -> dict[str, Any]:
        """Return the settings that shape what is read, by dotted name; the commit is among the sources."""
        return reading_settings(self.data)

    def sources(self) -> tuple[SourceFile, ...]:
        """Return the repository with the commit that is read."""
        catalog = self._sdss()
        described = source(self.data, catalog)
        joined = () if catalog.places is None else (source(self.data, spectra_catalog(self.data.hub, DESI)),)
        return (replace(described, name=f"pairs {described.name.partition(' ')[2]}"), *joined)

    def _spectra(self) -> tuple[HubCatalog[Spectrum], ...]:
        return (self._sdss(),)

    def _sdss(self) -> HubCatalog[Spectrum]:
        present = self._present()
        if _MARK_OF_A_STORE in present:
            payload = Payload("sdss", _STORED_SPECTRUM, self._stored_spectrum, SPECTRA_AT_ONCE)
            return self._catalog(_STORED_SDSS, _needed(_STORED_SDSS, SPECTRA_NEEDED, payload), payload)
        survey = self._survey(present)
        names = _names(present, survey, DESI_PAYLOAD if survey == DESI else SDSS_PAYLOAD)
        nested = _Nested(names=names, key=names["object_id"], places=self._places(present, names))
        columns = tuple(names.values())
        payload = Payload("sdss", columns, nested.sdss_spectrum, SPECTRA_AT_ONCE)
        if survey == DESI:
            payload = replace(payload, survey=DESI, of_file=nested.desi_spectra_of)
        return replace(self._catalog(names, nested.needed(SPECTRA_NEEDED), payload), places=nested.places)

    def _hsc(self) -> HubCatalog[Cutout]:
        present = self._present()
        if _MARK_OF_A_STORE in present:
            stored = Payload("hsc", _STORED_CUTOUT, _stored_cutout, CUTOUTS_AT_ONCE)
            return self._catalog(_STORED_HSC, _needed(_STORED_HSC, HSC_NEEDED, stored), stored)
        names = _names(present, "hsc", HSC_PAYLOAD)
        of_spectra = _names(present, self._survey(present), DESI_PAYLOAD)
        nested = _Nested(names=names, key=of_spectra["object_id"], places=self._places(present, of_spectra))
        key = {"key": nested.key} if nested.places else {}
        columns = tuple(dict.fromkeys((*names.values(), *key.values())))
        payload = Payload("hsc", columns, nested.cutout, CUTOUTS_AT_ONCE)
        catalog = self._catalog(names, nested.needed(HSC_NEEDED), payload)
        return replace(catalog, places=nested.places, index={**catalog.index, **key})

    def _survey(self, present: frozenset[str]) -> str:
        """Return the survey of the spectra of nested rows: ``desi`` where columns or name of the set tell so."""
        repository = self.data.hub.pairs
        if not any(name.startswith("spectrum.") for name in present):
            raise ValueError(
                f"the dataset repository {repository} (data.hub.pairs) holds images without spectra, of which no pairs "
                f"can be made; its columns: {', '.join(sorted(name for name in present if '.' not in name)[:12])}"
            )
        warning = _names(present, DESI, ["ZWARN"])["ZWARN"]
        survey = DESI if warning in present or DESI in repository.lower() else HUB_SURVEY
        check_surveys(self.data, (survey,), repository)
        return survey

    def _places(self, present: frozenset[str], names: Mapping[str, str]) -> "DesiPlaces | None":
        """Return where positions and redshifts come from that nested rows of DESI lack; None where they have them."""
        lacking = [name for name in _JOINED if names[name] not in present]
        if not lacking or self._survey(present) != DESI or names["object_id"] not in present:
            return None
        return DesiPlaces(data=self.data, lacking=tuple(lacking))

    def _present(self) -> frozenset[str]:
        return repository_columns(self.data, self.data.hub.pairs, self.data.hub.pairs_revision)

    def _catalog(
        self, names: Mapping[str, str], needed: Mapping[str, str], payload: Payload[Record]
    ) -> HubCatalog[Record]:
        """Return one survey; ``names`` gives the column of every published name that the layout has."""
        meanings = ("object_id", "ra", "dec", *(["Z"] if payload.survey != "hsc" else []))
        return HubCatalog(
            setting="data.hub.pairs",
            repository=self.data.hub.pairs,
            revision=self.data.hub.pairs_revision,
            index={meaning: names[meaning] for meaning in meanings if names[meaning] in self._present()},
            needed=needed,
            payload=payload,
        )

    def _stored_spectrum(self, rows: pa.RecordBatch, row: int) -> Spectrum:
        spectrum = spectrum_from_row(_stored_row(rows, row, _STORED_SPECTRUM))
        if spectrum.survey not in self.data.spectra:
            raise ValueError(f"survey {spectrum.survey} is not in data.spectra {', '.join(self.data.spectra)}")
        return spectrum


@dataclass(frozen=True, kw_only=True)
class DesiPlaces:
    """Those of ra, dec and Z that rows lack, by TARGETID, from the index of the DESI catalogue ``data.hub.desi``."""

    data: DataConfig
    lacking: tuple[str, ...]

    def __call__(self, object_id: NDArray[np.str_]) -> dict[str, Floats]:
        """Return the wanted columns of ids (object,), NaN where the catalogue does not have them."""
        table = _desi_table(self.data)
        known = table["object_id"]
        place = np.searchsorted(known, object_id).clip(0, len(known) - 1)
        return {name: np.where(known[place] == object_id, table[name][place], np.nan) for name in self.lacking}


@lru_cache(maxsize=2)
def _desi_table(data: DataConfig) -> dict[str, NDArray[Any]]:
    """Return id, position and redshift of the DESI catalogue, in the order of ids."""
    everywhere = replace(data, cells=())
    catalog = spectra_catalog(data.hub, DESI)
    table = index_table(catalog, everywhere)
    _log.warning(
        "%s lacks positions or redshifts: they are taken from data.hub.desi %s by TARGETID",
        data.hub.pairs,
        catalog.repository,
    )
    columns = {name: table.column(name).to_numpy() for name in ("object_id", *_JOINED)}
    columns["object_id"] = columns["object_id"].astype(np.str_)
    order = np.argsort(columns["object_id"])
    return {name: values[order] for name, values in columns.items()}


def _names(present: frozenset[str], side: str, published: Sequence[str]) -> dict[str, str]:
    """Return the column of every published name: with the survey's name before or after it, or as published."""
    names = {}
    for name in published:
        spellings = [f"{side}_{name}", f"{name}_{side}"] if "." not in name else []
        spellings += [name, "TARGETID"] if (side, name) == (DESI, "object_id") else []
        names[name] = next((spelling for spelling in spellings if spelling in present), name)
    return names


def _needed(names: Mapping[str, str], purposes: Mapping[str, str], payload: Payload[Any]) -> dict[str, str]:
    """Return the columns of the rows of a store without which nothing can be read, and their purposes."""
    purpose = "image" if payload.survey == "hsc" else "spectrum"
    return dict.fromkeys(payload.columns, purpose) | {names[name]: purposes[name] for name in names}


@dataclass(frozen=True, kw_only=True)
class _Nested:
    """How rows with a struct for each view become records; ``key`` is the column of the ids that ``places`` go by."""

    names: Mapping[str, str]
    key: str
    places: DesiPlaces | None

    def needed(self, purposes: Mapping[str, str]) -> dict[str, str]:
        """Return the columns without which nothing can be read, and their purposes."""
        joined = _JOINED if self.places else ()
        return {self.names[name]: purpose for name, purpose in purposes.items() if name not in joined}

    def sdss_spectrum(self, rows: pa.RecordBatch, row: int) -> Spectrum:
        return spectrum_from_hats(self._published(rows, row), 0, survey=HUB_SURVEY)

    def desi_spectra_of(self, file: ParquetFile) -> Callable[[pa.RecordBatch, int], Spectrum]:
        read = desi_rows_of(file, self.names["ZWARN"])
        return lambda rows, row: read(self._published(rows, row), 0)

    def cutout(self, rows: pa.RecordBatch, row: int) -> Cutout:
        return cutout_from_hats(self._published(rows, row), 0)

    def _published(self, rows: pa.RecordBatch, row: int) -> pa.RecordBatch:
        """Return one row under the published names of its columns, with the position and redshift that it lacks."""
        rows = rows.slice(row, 1)
        joined = {} if self.places is None else self.places(id_texts(rows.column(self.key).to_numpy(False)))
        published = {column: name for name, column in self.names.items()}
        columns = {name: pa.array(values) for name, values in joined.items()}
        for name in rows.schema.names:
            if name != self.key or name in published:  # the id of the spectrum may have the name of that of the image
                columns[published.get(name, name)] = rows.column(name)
        return pa.RecordBatch.from_pydict(columns)


def _stored_cutout(rows: pa.RecordBatch, row: int) -> Cutout:
    return cutout_from_row(_stored_row(rows, row, _STORED_CUTOUT))


def _stored_row(rows: pa.RecordBatch, row: int, columns: Sequence[str]) -> dict[str, Any]:
    """Return a row of a store, lists as arrays."""
    values = {name: rows.column(name)[row] for name in columns}
    return {
        name: value.values.to_numpy(zero_copy_only=False) if isinstance(value, pa.ListScalar) else value.as_py()
        for name, value in values.items()
    }
