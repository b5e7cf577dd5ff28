"""What a store was made from: its settings, its source files, and whether they are the ones asked for."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from mmagn.matching.config import MatchingConfig
from mmagn.surveys.reader import SourceFile, SurveyReader

PROVENANCE_FILE = "mmagn.json"
FORMAT_VERSION = 2


@dataclass(frozen=True, kw_only=True)
class Provenance:
    """What ``mmagn.json`` in a store says.

    Attributes
    ----------
    settings
        Settings that shape the pairs, by dotted name.
    sources
        Files that were read; empty for the embedded survey, which its settings describe whole.
    report
        The match report and what was lost while writing.
    """

    settings: Mapping[str, Any]
    sources: tuple[SourceFile, ...]
    report: Mapping[str, Any]

    @property
    def fingerprint(self) -> str:
        """Hexadecimal sha256 of format, settings and sources."""
        told = {
            "format": FORMAT_VERSION,
            "settings": dict(self.settings),
            "sources": [asdict(source) for source in self.sources],
        }
        return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()


def store_settings(matching: MatchingConfig, reader: SurveyReader | None) -> dict[str, Any]:
    """Return the settings that shape the pairs, by dotted name, as JSON knows them.

    Without a reader, of an existing store, only those of ``matching`` can be asked for.
    """
    settings: dict[str, Any] = {
        f"matching.{name}": getattr(matching, name) for name in ("radius_arcsec", "image_dtype")
    }
    return settings if reader is None else settings | reader.settings()


def write_provenance(path: Path, provenance: Provenance) -> None:
    """Write ``mmagn.json`` into the folder of a store."""
    told = {"format": FORMAT_VERSION, "fingerprint": provenance.fingerprint, **asdict(provenance)}
    (path / PROVENANCE_FILE).write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")


def read_provenance(path: Path) -> Provenance:
    """Return what a store says about itself.

    Raises
    ------
    FileNotFoundError
        Where the folder is missing.
    ValueError
        Where it is no store, or a store of another format.
    """
    if not path.is_dir():
        raise FileNotFoundError(f"the store {path} is missing; scripts/match.py writes one")
    file = path / PROVENANCE_FILE
    if not file.is_file():
        raise ValueError(f"{path} is no store of pairs: it has no {PROVENANCE_FILE}; scripts/match.py writes a store")
    try:
        told = json.loads(file.read_text(encoding="utf-8"))
        version = told["format"]
        sources = tuple(SourceFile(**source) for source in told["sources"])
        provenance = Provenance(settings=told["settings"], sources=sources, report=told["report"])
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{file} cannot be read as the description of a store: {error}") from error
    if version != FORMAT_VERSION:
        raise ValueError(f"{path} has store format {version}; this version reads {FORMAT_VERSION}: make it again")
    return provenance


def refuse_other_settings(path: Path, made: Provenance, asked: Mapping[str, Any]) -> None:
    """Raise ValueError, naming the setting and both values, where a store was made with other settings."""
    for name, value in asked.items():
        recorded = made.settings.get(name)
        if recorded != value:
            raise ValueError(
                f"the store {path} was made with {name} {_told(recorded)}, and {_told(value)} is asked for; "
                "use that value or another folder"
            )


def refuse_other_sources(path: Path, made: Provenance, asked: Sequence[SourceFile]) -> None:
    """Raise ValueError, naming the first file, where the source files of a store are no longer the same."""
    old, new = ({source.name: source for source in sources} for sources in (made.sources, asked))
    for name in sorted(old.keys() | new.keys()):
        if old.get(name) != new.get(name):
            change = "is gone" if name not in new else "is new" if name not in old else "has another size or version"
            raise ValueError(
                f"source files changed: {name} {change} since the store {path} was made; use another folder"
            )


def _told(value: object) -> str:
    return "unset" if value is None else json.dumps(value)
