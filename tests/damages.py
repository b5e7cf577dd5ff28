"""Damages of inputs, drawn at random: of bytes, of the values of a file, of its columns, of a command line."""

import io
import json
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import h5py
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import yaml

from mmagn.config.run_config import RunConfig
from mmagn.storage.settings import declared_settings

STRANGE: tuple[Any, ...] = (
    *(None, True, False, 0, -1, 1, 2**31, 2**63, 10**400, 0.5, -0.0, 1e308, float("nan"), float("inf")),
    *("", " ", "nan", "a/b", "../../up", "\x00", "é\u202e", "x" * 5000, "1e3", "0x10", "~", "[", "image"),
    *([], [[]], [None], [1, "a"], {}, {"a": {"b": 1}}, [float("nan")] * 3),
)
"""Values that a careless program, another version or a broken disk leaves behind."""
NAMES = ("", "x", "object_id", "../x", "image", "spectrum", "files", "format", "a" * 300)


def damage_file(path: Path, rng: Random) -> str:
    """Damage a file in place, as its format allows, and return what was done."""
    structural = STRUCTURAL.get(path.suffix)
    if structural is not None and rng.random() < 0.5:
        return structural(path, rng)
    return damage_bytes(path, rng)


def damage_bytes(path: Path, rng: Random) -> str:
    """Flip bits, cut, repeat, blank or replace a part of a file."""
    content = bytearray(path.read_bytes())
    kind = rng.choice(("flip", "flip", "flip", "head", "tail", "cut", "blank", "repeat", "empty", "other"))
    size = len(content)
    start = rng.randrange(size) if size else 0
    if kind in ("flip", "head", "tail") and size:
        first, last = {"head": (0, min(size, 4096)), "tail": (max(0, size - 4096), size)}.get(kind, (0, size))
        for _ in range(rng.choice((1, 1, 4, 30))):
            content[rng.randrange(first, last)] ^= 1 << rng.randrange(8)
    elif kind == "cut":
        del content[start:]
    elif kind == "blank":
        content[start : start + 512] = bytes(len(content[start : start + 512]))
    elif kind == "repeat":
        content[start:start] = content[: rng.randrange(4096)]
    elif kind == "other":
        content = bytearray(rng.choice((b"{}", b"[]", b"PAR1", b"\x89HDF\r\n\x1a\n", b"null\n", b"\xff\xfe\x00")))
    else:
        content.clear()
    path.write_bytes(content)
    return f"{kind} of {path.name}"


def damaged_value(value: Any, rng: Random) -> Any:
    """Return nested plain values with one of them replaced, removed, doubled or under another name."""
    if not isinstance(value, dict | list) or not value or rng.random() < 0.15:
        return rng.choice(STRANGE)
    inner: Any = dict(value) if isinstance(value, dict) else list(value)
    place = rng.choice(list(inner)) if isinstance(inner, dict) else rng.randrange(len(inner))
    kind = rng.choice(("inside", "inside", "inside", "remove", "rename"))
    if kind == "inside":
        inner[place] = damaged_value(inner[place], rng)
    elif kind == "remove":
        del inner[place]
    elif isinstance(inner, dict):
        inner[rng.choice(NAMES)] = inner.pop(place)
    else:
        inner.append(inner[place])
    return inner


def _json(path: Path, rng: Random) -> str:
    path.write_text(json.dumps(damaged_value(json.loads(path.read_text(encoding="utf-8")), rng)), encoding="utf-8")
    return f"values of {path.name}"


def _yaml(path: Path, rng: Random) -> str:
    text = yaml.safe_dump(damaged_value(yaml.safe_load(path.read_text(encoding="utf-8")), rng), allow_unicode=True)
    path.write_text(text, encoding="utf-8", errors="replace")
    return f"values of {path.name}"


def _properties(path: Path, rng: Random) -> str:
    lines = path.read_text(encoding="utf-8").splitlines()
    place = rng.randrange(len(lines))
    name = lines[place].partition("=")[0]
    lines[place : place + 1] = rng.choice(([], [f"{name}={rng.choice(STRANGE)}"], [lines[place]] * 2))
    path.write_text("\n".join(lines), encoding="utf-8")
    return f"{name} of {path.name}"


def _strange_array(values: Any, rng: Random) -> Any:
    """Return an array of another type, rank, length or content."""
    values = np.asarray(values)
    rows = values.shape[0] if values.ndim else 1
    number = values if values.dtype.kind in "biuf" else np.zeros(rows)
    with np.errstate(all="ignore"):
        changed = {
            "f4": lambda: number.astype("f4"),
            "i8": lambda: np.nan_to_num(number.astype("f8"), posinf=0, neginf=0).clip(-1e9, 1e9).astype("i8"),
            "nan": lambda: np.full(values.shape, np.nan, "f4"),
            "huge": lambda: np.full(values.shape, 3e38, "f4"),
            "inf": lambda: np.full(values.shape, -np.inf, "f8"),
            "complex": lambda: number.astype("c8"),
            "text": lambda: np.full(rows, rng.choice((b"--", b"", b"\xff\xfe", b"nan", b"0.1"))),
            "axis": lambda: values[..., None],
            "flat": lambda: values.reshape(rows, -1)[:, 0] if values.size else values,
            "short": lambda: values[: rows // 2],
            "none": lambda: values[:0],
            "scalar": lambda: values.reshape(-1)[0] if values.size else 0,
            "negative": lambda: -np.abs(number.astype("f8")),
            "one": lambda: np.repeat(values[:1], rows, axis=0),
        }
        return changed[rng.choice(list(changed))]()


def _hdf5(path: Path, rng: Random) -> str:
    with h5py.File(path, "a") as file:
        name = rng.choice(sorted(file))
        kind = rng.choice(("values",) * 6 + ("remove", "group", "soft link", "external link", "variable text", "extra"))
        values = file[name][()]
        if kind == "extra":
            file["x" * rng.choice((1, 2000))] = 1
        else:
            del file[name]
        if kind == "values":
            file[name] = _strange_array(values, rng)
        elif kind == "group":
            file.create_group(name)
        elif kind == "soft link":
            file[name] = h5py.SoftLink(rng.choice(("/nowhere", "/", f"/{name}")))
        elif kind == "external link":
            file[name] = h5py.ExternalLink(rng.choice(("/nowhere.hdf5", str(path))), "/ra")
        elif kind == "variable text":
            file.create_dataset(name, data=["x" * rng.randrange(9)] * len(values), dtype=h5py.string_dtype())
    return f"{kind} of {name} in {path.name}"


def _parquet(path: Path, rng: Random) -> str:
    table = pq.read_table(path, partitioning=None)
    name = rng.choice(table.schema.names)
    place, column = table.schema.get_field_index(name), table[name]
    kind = rng.choice(("remove", "rename", "nulls", "text", "float", "list", "struct", "rows", "order", "short"))
    changed = {
        "nulls": lambda: pa.nulls(len(table), column.type),
        "text": lambda: pa.array([rng.choice(("--", "", "x", "1"))] * len(table)),
        "float": lambda: pa.array([rng.choice((0.5, float("nan"), 1e300))] * len(table)),
        "list": lambda: pa.array([[1.0]] * len(table)),
        "short": lambda: pa.array([[None], []][: len(table)] + [[2.0] * 3] * max(0, len(table) - 2)),
        "struct": lambda: pa.array([{"flux": rng.choice((None, [], "x", [1.0])), "band": None}] * len(table)),
    }
    if kind in changed:
        table = table.set_column(place, name, changed[kind]())
    elif kind == "remove":
        table = table.remove_column(place)
    elif kind == "rename":
        table = table.rename_columns([rng.choice(NAMES) if each == name else each for each in table.schema.names])
    else:
        rows = [table.slice(row, 1) for row in reversed(range(len(table)))]
        table = pa.concat_tables(rows) if kind == "order" else table.slice(0, 0)
    pq.write_table(table, path)
    return f"{kind} of {name} in {path.name}"


def _npz(path: Path, rng: Random) -> str:
    with np.load(path, allow_pickle=False) as opened:
        arrays = dict(opened)
    name = rng.choice(sorted(arrays))
    if rng.random() < 0.2:
        del arrays[name]
    else:
        arrays[name] = np.array([{}], dtype=object) if rng.random() < 0.2 else _strange_array(arrays[name], rng)
    with io.BytesIO() as file:
        np.savez(file, allow_pickle=True, **arrays)
        path.write_bytes(file.getvalue())
    return f"{name} of {path.name}"


STRUCTURAL: dict[str, Callable[[Path, Random], str]] = {
    ".json": _json,
    ".yaml": _yaml,
    ".properties": _properties,
    ".hdf5": _hdf5,
    ".parquet": _parquet,
    ".npz": _npz,
}
"""Damages of the content of a file that its format still holds, by suffix; checkpoints hold a checksum."""


def strange_options(rng: Random) -> list[str]:
    """Return options of a command line, some of them wrong."""
    names = sorted(declared_settings(RunConfig))
    options = []
    for _ in range(rng.choice((1, 1, 2, 5))):
        name = rng.choice(names)
        name = rng.choice((name,) * 8 + (name[:-1], name.rpartition(".")[0], f"{name}.x"))
        value = rng.choice(STRANGE)
        text = str(value)[:10_000] if not isinstance(value, list | dict) or rng.random() < 0.5 else json.dumps(value)
        options += [[f"--{name}", text], [f"--{name}={text}"], [f"--{name}"]][rng.choice((0, 0, 0, 1, 1, 2))]
    return options
