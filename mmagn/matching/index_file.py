"""A match index as a small file that can be shared: ids, positions and places of the pairs, and what they were made of.

With it a store or a stream is made without reading the positions of both surveys again.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from mmagn.matching.index import PairIndex
from mmagn.matching.provenance import Provenance, refuse_other_settings, refuse_other_sources
from mmagn.matching.report import MatchReport
from mmagn.matching.sky import Matches
from mmagn.records import Catalog
from mmagn.storage.files import plain_value, whole_file

INDEX_FILE = "pairs.parquet"
INDEX_FORMAT = 4
_CATALOG_COLUMNS = ("object_id", "ra_deg", "dec_deg", "healpix", "file_index", "row")
_KEY = b"mmagn"


def write_index(path: Path, index: PairIndex, made_from: Provenance) -> None:
    """Write the pairs of an index, without the objects that have no partner."""
    matches = index.matches
    columns: dict[str, Any] = {"separation_arcsec": matches.separation_arcsec}
    for survey, catalog, members in (
        ("sdss", index.sdss, matches.left_index),
        ("hsc", index.hsc, matches.right_index),
    ):
        columns |= {f"{survey}_{name}": getattr(catalog, name)[members].tolist() for name in _CATALOG_COLUMNS}
    described = {
        "format": INDEX_FORMAT,
        **plain_value(asdict(replace(made_from, settings=_settings(made_from), report=index.report.as_dict()))),
        "sdss_files": index.sdss.files,
        "hsc_files": index.hsc.files,
        "lost": [matches.left_lost, matches.right_lost],
    }
    table = pa.table(columns)
    described["sha256"] = _digest(table, described)
    table = table.replace_schema_metadata({_KEY: json.dumps(described).encode()})
    with whole_file(path) as part:
        pq.write_table(table, part, compression="zstd")


def read_index(path: Path, wanted: Provenance) -> PairIndex:
    """Return the index in a file; its catalogues hold the paired objects alone.

    Raises ``FileNotFoundError`` where the file is missing, ``ValueError`` where it is no index, or was made with other
    settings or of other sources (named).
    """
    if not path.is_file():
        raise FileNotFoundError(f"the match index {path} is missing; match --plan writes one")
    try:
        table = pq.read_table(path)
        described = json.loads(table.schema.metadata[_KEY])
        if described["format"] != INDEX_FORMAT:
            raise ValueError(f"it has format {described['format']}; this version reads {INDEX_FORMAT}")
        if described.pop("sha256", None) != _digest(table, described):
            raise ValueError("its content is not what was written (sha256 differs)")
        made_from, index = Provenance.from_dict(described), _index(table, described)
    except (pa.ArrowException, OSError, LookupError, TypeError, ValueError) as error:
        raise ValueError(f"{path} cannot be read as a match index: {error}") from error
    refuse_other_settings(f"match index {path}", made_from, _settings(wanted))
    refuse_other_sources(f"match index {path}", made_from, wanted.sources)
    return index


def _digest(table: pa.Table, described: Mapping[str, Any]) -> str:
    """Return the hexadecimal sha256 of columns and description."""
    digest = hashlib.sha256(json.dumps(described, sort_keys=True).encode())
    for name in table.column_names:
        values = table.column(name).to_numpy()
        digest.update(f"{name} {values.dtype}".encode())
        digest.update("\n".join(map(str, values)).encode() if values.dtype == object else values.tobytes())
    return digest.hexdigest()


def _settings(made_from: Provenance) -> dict[str, Any]:
    """Return the settings that shape an index: how pixels are stored does not."""
    pixels = ("matching.image_dtype", "data.image_noise")
    return {name: value for name, value in made_from.settings.items() if name not in pixels}


def _index(table: pa.Table, described: Mapping[str, Any]) -> PairIndex:
    columns = {name: table.column(name).to_numpy() for name in table.column_names}
    number = np.arange(len(table), dtype=np.int64)
    left_lost, right_lost = described["lost"]
    matches = Matches(
        left_index=number,
        right_index=number,
        separation_arcsec=columns["separation_arcsec"],
        left_lost=left_lost,
        right_lost=right_lost,
    )
    catalogs = {
        survey: Catalog(
            object_id=columns[f"{survey}_object_id"].astype(np.str_),
            ra_deg=columns[f"{survey}_ra_deg"],
            dec_deg=columns[f"{survey}_dec_deg"],
            healpix=columns[f"{survey}_healpix"],
            file_index=columns[f"{survey}_file_index"].astype(np.int32),
            row=columns[f"{survey}_row"],
            files=tuple(described[f"{survey}_files"]),
        )
        for survey in ("sdss", "hsc")
    }
    report = MatchReport.from_dict(described["report"])
    return PairIndex(sdss=catalogs["sdss"], hsc=catalogs["hsc"], matches=matches, report=report)
