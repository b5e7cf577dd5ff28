"""Settings from YAML files, command lines and Python values: typed and checked, or refused in one sentence."""

import dataclasses
import difflib
import inspect
import math
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Union, get_args, get_origin

import yaml

from mmagn.storage.settings import Setting, check_value, declared_settings, of_type, setting_types

_NULLS = ("", "~", "null", "Null", "NULL")


def settings_in_file(path: Path, config_class: Any) -> dict[str, Any]:
    """Settings that a YAML file holds, by dotted name, typed and checked.

    Raises
    ------
    ValueError
        One sentence with the file, and the line where there is one: not YAML, a setting that is unknown, written twice
        or not allowed.
    """
    try:
        root = yaml.compose(path.read_text(encoding="utf-8"), Loader=yaml.SafeLoader)
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: not readable as YAML: {' '.join(str(error).split())}") from None
    if root is None:
        return {}
    if not isinstance(root, yaml.MappingNode):
        raise ValueError(f"{path}: must hold settings as name: value")
    kinds, known = setting_types(config_class), declared_settings(config_class)
    settings: dict[str, Any] = {}
    lines: dict[str, int] = {}
    for name, node, line in _leaves(root, "", config_class, lines, path):
        try:
            settings[name] = _checked(name, node, kinds[name], known[name])
        except ValueError as error:
            raise ValueError(f"{path}, line {line}: {error}") from None
    return settings


def _leaves(
    mapping: yaml.MappingNode, prefix: str, config_class: Any, lines: dict[str, int], path: Path
) -> Iterator[tuple[str, yaml.Node, int]]:
    """Yield name, value and line of each setting of a mapping; ``lines`` collects where each name was seen."""
    known = declared_settings(config_class)
    for key, node in mapping.value:
        name, line = f"{prefix}{key.value if isinstance(key, yaml.ScalarNode) else '?'}", key.start_mark.line + 1
        if name in lines:
            raise ValueError(f"{path}: {name} is written twice, in lines {lines[name]} and {line}; keep one of them")
        lines[name] = line
        if name in known:
            yield name, node, line
        elif not any(each.startswith(f"{name}.") for each in known):
            raise ValueError(f"{path}: {unknown_setting(name, config_class)} (line {line})")
        elif isinstance(node, yaml.MappingNode):
            yield from _leaves(node, f"{name}.", config_class, lines, path)
        else:
            written = "empty" if _is_null(node) else "a value"
            raise ValueError(f"{path}, line {line}: {name} is {written}; allowed: settings such as {name}.NAME")


def setting_from_text(name: str, text: str, config_class: Any) -> Any:
    """Value of a setting as a command line gives it; a list is ``a,b`` or ``[a, b]``.

    Raises
    ------
    ValueError
        One sentence: name, value, what is allowed.
    """
    return checked_text(name, text, setting_types(config_class)[name], declared_settings(config_class)[name])


def checked_text(name: str, text: str, kind: Any, declared: Setting) -> Any:
    """Value of a text as a type reads it.

    Raises
    ------
    ValueError
        One sentence: name, value, what is allowed.
    """
    node: yaml.Node | None = yaml.ScalarNode("", text, style=None if text else '"')
    if text.lstrip().startswith("["):
        try:
            node = yaml.compose(text, Loader=yaml.SafeLoader)
        except yaml.YAMLError:
            raise ValueError(f"{name} is {text!r}; allowed: a list such as a,b or [a, b]") from None
    return _checked(name, node, kind, declared)


def setting_from_value(name: str, value: Any, config_class: Any) -> Any:
    """Value of a setting as Python code gives it: paths become text, lists tuples; a text is read as on a command line.

    Raises
    ------
    ValueError
        One sentence: name, value, what is allowed.
    """
    kind, declared = setting_types(config_class)[name], declared_settings(config_class)[name]
    if isinstance(value, Path):
        value = str(value)
    if isinstance(value, list):
        value = tuple(tuple(each) if isinstance(each, list) else each for each in value)
    if isinstance(value, str) and not of_type(value, kind):
        return setting_from_text(name, value, config_class)
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)
    check_value(name, value, kind, declared)
    return value


def _checked(name: str, node: yaml.Node | None, kind: Any, declared: Setting) -> Any:
    value = _typed(node, kind)
    check_value(name, value, kind, declared)
    return value


def _typed(node: yaml.Node | None, kind: Any) -> Any:
    """Value of a node as its setting's type reads it; where it cannot be, something that the type check refuses."""
    kinds = get_args(kind)
    if get_origin(kind) in (Union, UnionType):
        values = [_typed(node, each) for each in kinds if each is not NoneType]
        return next((value for value, each in zip(values, kinds, strict=False) if of_type(value, each)), values[0])
    if get_origin(kind) is tuple:
        if isinstance(node, yaml.ScalarNode) and not _is_null(node):
            items = [yaml.ScalarNode("", item.strip()) for item in node.value.split(",") if item.strip()]
            return tuple(_typed(item, kinds[0]) for item in items)
        if isinstance(node, yaml.SequenceNode):
            return tuple(_typed(item, kinds[0]) for item in node.value)
    if not isinstance(node, yaml.ScalarNode):
        items = node.value if node is not None else []
        return [item.value if isinstance(item, yaml.ScalarNode) else "..." for item in items]
    if _is_null(node):
        return None
    text = str(node.value)
    if kind is bool:
        return {"true": True, "false": False}.get(text.lower(), text)
    if kind is int:
        return int(text) if re.fullmatch(r"[-+]?\d{1,18}", text) else text
    return _number(text) if kind is float else text


def _number(text: str) -> float | str:
    try:
        number = float(text)
    except ValueError:
        return text
    return number if math.isfinite(number) else text


def _is_null(node: yaml.Node) -> bool:
    return isinstance(node, yaml.ScalarNode) and node.style is None and node.value in _NULLS


def config_from_settings(config_class: Any, settings: Mapping[str, Any]) -> Any:
    """Config with the given settings by dotted name and the defaults of all others."""
    arguments: dict[str, Any] = {}
    for field in dataclasses.fields(config_class):
        name = f"{config_class.SECTION}.{field.name}" if config_class.SECTION else field.name
        if name in settings:
            arguments[field.name] = settings[name]
        elif field.default_factory is not dataclasses.MISSING and any(each.startswith(f"{name}.") for each in settings):
            arguments[field.name] = config_from_settings(field.default_factory, settings)
    return config_class(**arguments)


def full_name(name: str, config_class: Any) -> str:
    """Dotted name of a setting that is given by that name or, where only one ends so, by its last part.

    Raises
    ------
    ValueError
        Where there is none, or more than one.
    """
    known = declared_settings(config_class)
    if name in known:
        return name
    ends = [each for each in known if each.endswith(f".{name}")]
    if len(ends) == 1:
        return ends[0]
    raise ValueError(f"{name} could be {', '.join(ends)}" if ends else unknown_setting(name, config_class))


def unknown_setting(name: str, config_class: Any, others: tuple[str, ...] = ()) -> str:
    """One sentence that says ``name`` is no setting and names the nearest of the known ones and of ``others``."""
    known = [*declared_settings(config_class), *others]
    if inner := [each for each in known if each.startswith(f"{name}.")]:
        return f"{name} is a group of settings; name one of them, such as {inner[0]}"
    last = {full.rsplit(".", 1)[-1]: full for full in reversed(known)}
    nearest = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    by_last = difflib.get_close_matches(name.rsplit(".", 1)[-1], list(last), n=1, cutoff=0.6)
    hint = nearest[0] if nearest else last[by_last[0]] if by_last else ""
    return f"{name} is not a setting" + (f"; the nearest is {hint}" if hint else "; --help-all lists them all")


def explanations(config_class: Any) -> dict[str, str]:
    """What each setting is, by dotted name, as the docstrings of the config classes say."""
    texts: dict[str, str] = {}
    for field in dataclasses.fields(config_class):
        factory: Any = field.default_factory
        texts |= explanations(factory) if dataclasses.is_dataclass(factory) else {}
    names: list[str] = []
    attributes = inspect.cleandoc(config_class.__doc__ or "").partition("----------\n")[2]
    for line in attributes.splitlines():
        if line and not line.startswith(" "):
            names = [f"{config_class.SECTION}.{name}".lstrip(".") for name in line.split(", ")]
        for name in names if line.startswith(" ") else []:
            texts[name] = f"{texts.get(name, '')} {line.strip()}".strip()
    return {name: texts[name] for name in declared_settings(config_class) if name in texts}
