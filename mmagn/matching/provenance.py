"""What a store was made from: its settings, its source files, and whether they are the ones asked for."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from mmagn.matching.config import MatchingConfig
from mmagn.surveys.config import DataConfig
from mmagn.surveys.simulate import SIMULATOR_VERSION

PROVENANCE_FILE = "mmagn.json"
FORMAT_VERSION = 1


@dataclass(frozen=True, kw_only=True)
class SourceFile:
    """A file that pairs were read from.

    Attributes
    ----------
    name
        Path relative to ``data.root``, so that a moved survey is still the same survey.
    size_bytes, mtime_ns
        Size and time of the last change.
    """

    name: str
    size_bytes: int
    mtime_ns: int


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


def store_settings(data: DataConfig, matching: MatchingConfig) -> dict[str, Any]:
    """Return the settings that shape the pairs, by dotted name, as JSON knows them.

    Of an existing store (``data.source`` store) only those of ``matching`` can be asked for.
    """
    settings: dict[str, Any] = {
        f"matching.{name}": getattr(matching, name) for name in ("radius_arcsec", "image_dtype")
    }
    if data.source != "store":
        names = ("source", "sdss_surveys", "hsc_survey", "cells", "redshift_min", "redshift_max")
        settings |= {f"data.{name}": getattr(data, name) for name in names}
    if data.source == "embedded":
        settings |= {f"data.simulate.{item.name}": getattr(data.simulate, item.name) for item in fields(data.simulate)}
        settings["data.simulate.version"] = SIMULATOR_VERSION
    plain: dict[str, Any] = json.loads(json.dumps(settings))
    return plain


def source_files(root: Path, paths: Sequence[Path]) -> tuple[SourceFile, ...]:
    """Return name, size and time of the files under a survey's root, by name."""
    sources = []
    for path in sorted(paths):
        status = path.stat()
        name = path.relative_to(root).as_posix()
        sources.append(SourceFile(name=name, size_bytes=status.st_size, mtime_ns=status.st_mtime_ns))
    return tuple(sources)


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
            change = "is gone" if name not in new else "is new" if name not in old else "has another size or time"
            raise ValueError(
                f"source files changed: {name} {change} since the store {path} was made; use another folder"
            )


def _told(value: object) -> str:
    return "unset" if value is None else json.dumps(value)
