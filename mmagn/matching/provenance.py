"""Settings and source files that a store was made from, and its files with their checksums."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Self

from mmagn.matching.config import MatchingConfig
from mmagn.storage.checksums import StoredFile
from mmagn.storage.files import json_digest, plain_value, write_json
from mmagn.surveys.reader import SourceFile, SurveyReader

PROVENANCE_FILE = "mmagn.json"
FORMAT_VERSION = 4


@dataclass(frozen=True, kw_only=True)
class Provenance:
    """Content of ``mmagn.json`` in a store.

    Attributes
    ----------
    settings
        Settings that shape the pairs, by dotted name.
    sources
        Files that were read; empty for the embedded survey, which its settings describe completely.
    report
        The match report and what was lost while writing.
    files
        The other files of the store by name.
    """

    settings: Mapping[str, Any]
    sources: tuple[SourceFile, ...]
    report: Mapping[str, Any] = field(default_factory=dict)
    files: Mapping[str, StoredFile] = field(default_factory=dict)

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> Self:
        """Return what ``dataclasses.asdict`` made plain; other keys are ignored."""
        return cls(
            settings=content["settings"],
            sources=tuple(SourceFile(**source) for source in content["sources"]),
            report=content["report"],
            files={name: StoredFile(**written) for name, written in content["files"].items()},
        )

    @property
    def fingerprint(self) -> str:
        """Hexadecimal sha256 of format, settings and sources."""
        sources = [asdict(source) for source in self.sources]
        return json_digest({"format": FORMAT_VERSION, "settings": dict(self.settings), "sources": sources})


def store_settings(matching: MatchingConfig, reader: SurveyReader | None) -> dict[str, Any]:
    """Return the settings that shape the pairs, by dotted name, as JSON knows them.

    Without a reader, of an existing store, only those of ``matching`` can be compared.
    """
    settings: dict[str, Any] = {
        f"matching.{name}": getattr(matching, name) for name in ("radius_arcsec", "image_dtype")
    }
    return settings if reader is None else settings | reader.settings()


def write_provenance(path: Path, provenance: Provenance) -> None:
    """Write ``mmagn.json`` into the folder of a store, with a sha256 of its own content."""
    content = {"format": FORMAT_VERSION, "fingerprint": provenance.fingerprint, **plain_value(asdict(provenance))}
    write_json(path / PROVENANCE_FILE, {**content, "sha256": json_digest(content)})


def read_provenance(path: Path) -> Provenance:
    """Return the provenance of a store.

    Raises ``FileNotFoundError`` where the folder is missing, ``ValueError`` where it is no store, a store of another
    format, or its description has changed since it was written.
    """
    if not path.is_dir():
        raise FileNotFoundError(f"the store {path} is missing; scripts/match.py writes one")
    file = path / PROVENANCE_FILE
    if not file.is_file():
        raise ValueError(f"{path} is no store of pairs: it has no {PROVENANCE_FILE}; scripts/match.py writes a store")
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        version, digest = content["format"], content.pop("sha256", None)
        if version != FORMAT_VERSION:
            raise ValueError(
                f"it has store format {version}; this version reads {FORMAT_VERSION}: make the store again"
            )
        if digest != json_digest(content):
            raise ValueError("its content is not what was written (sha256 differs)")
        return Provenance.from_dict(content)
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise ValueError(f"{file} cannot be read as the description of a store: {error}") from error


def refuse_other_settings(what: str, made: Provenance, wanted: Mapping[str, Any]) -> None:
    """Raise ValueError, naming the setting and both values, where a store or an index was made with other settings."""
    for name, value in wanted.items():
        recorded = made.settings.get(name)
        if recorded != value:
            raise ValueError(
                f"the {what} was made with {name} {json.dumps(recorded)}, and {json.dumps(value)} is requested; "
                "use that value or another path"
            )


def refuse_other_sources(what: str, made: Provenance, wanted: Sequence[SourceFile]) -> None:
    """Raise ValueError, naming the first file, where the source files of a store or an index are not the same now."""
    old, new = ({source.name: source for source in sources} for sources in (made.sources, wanted))
    for name in sorted(old.keys() | new.keys()):
        if old.get(name) != new.get(name):
            change = "is gone" if name not in new else "is new" if name not in old else "has another size or version"
            raise ValueError(f"source files changed: {name} {change} since the {what} was made; use another path")
