"""How a setting is declared: its default, what it affects, what is allowed; checks and cache keys follow from that.

Each config class is a frozen dataclass derived from :class:`Settings`, whose fields are made by :func:`setting` or
:func:`section`.
"""

import dataclasses
import math
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from types import NoneType, UnionType
from typing import Any, ClassVar, Literal, Union, get_args, get_origin, get_type_hints

from mmagn.storage.files import plain_value

Effect = Literal[
    "pairs", "measurements", "labels", "tensors", "fit", "calibration", "judging", "ablation", "search", "nothing"
]
"""What a setting changes directly; what is made from that changes with it. Pairs are measured, measurements give
features and labels, pairs give tensors, all of these enter a fit, its logits are calibrated and judged; ``ablation``:
which models and folds are compared; ``search``: what a trial is worth; ``nothing``: where and how fast things are done.
"""

_METADATA = "mmagn"


@dataclass(frozen=True, kw_only=True)
class Setting:
    """What is declared of one setting.

    Attributes
    ----------
    affects
        What it changes directly.
    at_least, above, at_most, below, even
        Range of a number, or of each number of a list.
    choices
        Allowed values, or allowed items of a list, where the type does not name them.
    one_or_more, each_once, ascending
        Whether a list or text must not be empty, an item may occur only once, the smaller of two numbers comes first.
    rule
        A further condition on the value, and all that is allowed in words.
    needs
        (name, value, ...) of other settings: this one has an effect only where each has one of the values.
    path
        Whether a text names a file or folder, which is saved with the run as an absolute path.
    resumable
        Whether a run may be resumed with another value although the setting affects it: how long and how a network is
        trained, and where the pairs are, which a fingerprint identifies.
    """

    affects: tuple[Effect, ...]
    at_least: float | None = None
    above: float | None = None
    at_most: float | None = None
    below: float | None = None
    even: bool = False
    choices: tuple[str, ...] = ()
    one_or_more: bool = False
    each_once: bool = False
    ascending: bool = False
    rule: tuple[Callable[[Any], bool], str] | None = None
    needs: tuple[tuple[Any, ...], ...] = ()
    path: bool = False
    resumable: bool = False


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Settings of one section of a config, checked when they are made; ``SECTION`` is its dotted name.

    ``ValueError`` where one is of another type than declared or out of range.
    """

    SECTION: ClassVar[str]

    def __post_init__(self) -> None:
        check_settings(self)


def setting(default: Any, *affects: Effect, needs: tuple[Any, ...] = (), **allowed: Any) -> Any:
    """Dataclass field of a setting; ``allowed`` are attributes of :class:`Setting`, ``needs`` one condition of it."""
    declared = Setting(affects=affects, needs=(needs,) if needs else (), **allowed)
    return dataclasses.field(default=default, metadata={_METADATA: declared})


def section(config_class: type, needs: tuple[Any, ...] = ()) -> Any:
    """Dataclass field of a config class within another; ``needs`` holds for all of its settings."""
    return dataclasses.field(default_factory=config_class, metadata={_METADATA: (needs,) if needs else ()})


def pattern(expression: str, allowed: str) -> tuple[Callable[[Any], bool], str]:
    """Rule that a whole text matches a regular expression."""
    return lambda text: re.fullmatch(expression, text) is not None, allowed


@cache
def declared_settings(config_class: Any) -> Mapping[str, Setting]:
    """Declaration of every setting of a config class and of the classes within it, by dotted name.

    Raises ``TypeError`` where a field does not declare what it affects.
    """
    return dict(_declared(config_class, ()))


def _declared(config_class: Any, needs: tuple[tuple[Any, ...], ...]) -> Iterator[tuple[str, Setting]]:
    for field in dataclasses.fields(config_class):
        name, declared = _dotted(config_class, field.name), field.metadata.get(_METADATA)
        if isinstance(declared, tuple):
            yield from _declared(field.default_factory, (*needs, *declared))
        elif declared is None or not declared.affects:
            raise TypeError(f"{name} does not declare what it affects")
        else:
            yield name, dataclasses.replace(declared, needs=(*needs, *declared.needs))


def _dotted(config: Any, name: str) -> str:
    return f"{config.SECTION}.{name}" if config.SECTION else name


def setting_values(config: Any) -> dict[str, Any]:
    """Value of every setting of a config and of the configs within it, by dotted name."""
    values: dict[str, Any] = {}
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        values |= setting_values(value) if dataclasses.is_dataclass(value) else {_dotted(config, field.name): value}
    return values


def settings_affecting(
    config: Any, *effects: Effect, others: Mapping[str, Any] | None = None, resumable: bool = True
) -> dict[str, Any]:
    """Settings in effect that directly affect one of ``effects``, by dotted name in order, as plain JSON values.

    ``others`` are values of settings outside ``config`` that decide whether those within it have an effect. Where
    ``resumable`` is False the settings that a resumed run may change are left out.
    """
    config_class: Any = type(config)
    values = setting_values(config)
    chosen = {
        name: plain_value(values[name])
        for name, declared in declared_settings(config_class).items()
        if {*declared.affects} & {*effects} and (resumable or not declared.resumable)
        if not unmet_needs(declared, values | dict(others or {}))
    }
    return dict(sorted(chosen.items()))


def unmet_needs(declared: Setting, values: Mapping[str, Any]) -> list[str]:
    """Why a setting has no effect among other values, in words; empty where it has one."""
    reasons = []
    for name, *wanted in declared.needs:
        value = values.get(name, wanted[0])
        if isinstance(value, tuple) and not {*value} & {*wanted}:
            reasons.append(f"{name} has no {wanted[0]}")
        elif not isinstance(value, tuple) and value not in wanted:
            reasons.append(f"{name} is {value_text(value)}")
    return reasons


def check_settings(config: Any) -> None:
    """Raise ``ValueError`` where a setting of this config itself is of another type than declared or out of range."""
    config_class: Any = type(config)
    kinds = _types(config_class)
    for field in dataclasses.fields(config):
        name, value, declared = (
            _dotted(type(config), field.name),
            getattr(config, field.name),
            field.metadata[_METADATA],
        )
        if isinstance(declared, tuple):
            if not isinstance(value, kinds[field.name]):
                raise ValueError(f"{name} is {value_text(value)}; allowed: settings such as {name}.NAME")
        else:
            check_value(name, value, kinds[field.name], declared)


@cache
def _types(config_class: Any) -> dict[str, Any]:
    return get_type_hints(config_class)


@cache
def setting_types(config_class: Any) -> Mapping[str, Any]:
    """Type of every setting of a config class and of the classes within it, by dotted name."""
    kinds: dict[str, Any] = {}
    for field in dataclasses.fields(config_class):
        kind: Any = _types(config_class)[field.name]
        inner = dataclasses.is_dataclass(kind)
        kinds |= setting_types(kind) if inner else {_dotted(config_class, field.name): kind}
    return kinds


def check_value(name: str, value: Any, kind: Any, declared: Setting) -> None:
    """Raise ``ValueError`` (dotted name, value, what is allowed) where a setting may not have a value."""
    if not of_type(value, kind) or not _whole_allowed(value, declared):
        raise ValueError(f"{name} is {value_text(value)}; allowed: {allowed_text(kind, declared)}")
    for item in value if isinstance(value, tuple) else (value,):
        if not _item_allowed(item, declared):
            verb, of_item = ("has", get_args(kind)[0]) if isinstance(value, tuple) else ("is", kind)
            raise ValueError(f"{name} {verb} {value_text(item)}; allowed: {allowed_text(of_item, declared)}")


def _whole_allowed(value: Any, declared: Setting) -> bool:
    if isinstance(value, str | tuple) and declared.one_or_more and not value:
        return False
    if isinstance(value, tuple):
        repeated = declared.each_once and len(set(value)) != len(value)
        if repeated or (declared.ascending and list(value) != sorted(value)):
            return False
    return declared.rule is None or value is None or declared.rule[0](value)


def _item_allowed(item: Any, declared: Setting) -> bool:
    if isinstance(item, tuple):
        return bool(item) and all(_item_allowed(each, declared) for each in item)
    if isinstance(item, str):
        return not declared.choices or item in declared.choices
    if isinstance(item, bool) or not isinstance(item, int | float):
        return True
    return (
        (declared.at_least is None or item >= declared.at_least)
        and (declared.above is None or item > declared.above)
        and (declared.at_most is None or item <= declared.at_most)
        and (declared.below is None or item < declared.below)
        and not (declared.even and item % 2)
    )


def of_type(value: Any, kind: Any) -> bool:
    """Whether a value is of an annotated type; numbers must be finite, and true and false are no numbers."""
    arguments = get_args(kind)
    match get_origin(kind):
        case origin if origin is Literal:
            return isinstance(value, str) and value in arguments
        case origin if origin in (Union, UnionType):
            return any(of_type(value, each) for each in arguments)
        case origin if origin is tuple:
            if not isinstance(value, tuple):
                return False
            kinds = arguments[:1] * len(value) if arguments[-1] is ... else arguments
            return len(value) == len(kinds) and all(map(of_type, value, kinds))
    if kind in (int, float):
        whole = isinstance(value, int) and not isinstance(value, bool)
        return whole or (kind is float and isinstance(value, float) and math.isfinite(value))
    return isinstance(value, kind)


def allowed_text(kind: Any, declared: Setting) -> str:
    """What is allowed for a setting, in words."""
    if declared.rule is not None:
        return declared.rule[1]
    arguments = get_args(kind)
    if NoneType in arguments:
        (kind,) = (each for each in arguments if each is not NoneType)
        return f"{allowed_text(kind, declared)}, or null"
    if get_origin(kind) in (Union, UnionType):
        return ", or ".join(allowed_text(each, declared) for each in arguments)
    if get_origin(kind) is tuple:
        many = "one or more" if declared.one_or_more else "any number"
        words = [f"a list of {many if arguments[-1] is ... else len(arguments)}"]
        words += ["each once"] if declared.each_once else []
        words += ["the smaller first"] if declared.ascending else []
        each = dataclasses.replace(declared, each_once=False, ascending=False)
        return f"{', '.join(words)}: {allowed_text(arguments[0], each)}"
    if get_origin(kind) is Literal or declared.choices:
        return ", ".join(map(value_text, declared.choices or arguments))
    if kind is bool:
        return "true or false"
    if kind is str:
        return "text" + (" that is not empty" if declared.one_or_more else "")
    words = ["even"] if declared.even else []
    words += [text] if (text := _range_text(declared)) else []
    return ", ".join(words) or ("a whole number" if kind is int else "a finite number")


def _range_text(declared: Setting) -> str:
    low = declared.at_least if declared.above is None else declared.above
    high = declared.at_most if declared.below is None else declared.below
    if low is None:
        return "" if high is None else f"{'at most' if declared.below is None else 'below'} {high}"
    if high is None:
        return f"{low} or more" if declared.above is None else f"above {low}"
    if declared.above is not None:
        return f"above {low}, at most {high}" if declared.below is None else f"between {low} and {high}"
    return f"{low} to {high}" if declared.below is None else f"{low} to below {high}"


def value_text(value: Any) -> str:
    """Return a value as it is written in a config file."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, tuple | list):
        return f"[{', '.join(map(value_text, value))}]"
    return repr(value) if isinstance(value, str) and not re.fullmatch(r"\S+", value) else str(value)
