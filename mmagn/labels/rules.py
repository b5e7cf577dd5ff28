"""Rules on the columns of a table, such as ``w1 - w2 >= 0.8 and w2 < 15.05``: parsed, never evaluated as code.

A rule compares expressions by ``<``, ``<=``, ``>``, ``>=``, ``==``, ``!=``, ``in [...]`` or ``not in [...]``, or asks
for bits of an integer column: ``any_bit(COLUMN, BIT, ...)`` and ``all_bits(COLUMN, BIT, ...)``, by number or by name,
or for the beginning of a text: ``starts_with(COLUMN, TEXT, ...)``.
Comparisons are combined by ``and``, ``or``, ``not`` and parentheses. Expressions are columns, numbers, texts in quotes,
``+ - * / **`` and the functions ``log10``, ``exp``, ``sqrt``, ``abs``, ``minimum`` and ``maximum``. A column whose name
is no word stands in backticks. Upper and lower case of a column matter only where two columns differ by it alone.

Where a value is missing a comparison is neither true nor false but unknown (Kleene's three-valued logic): ``unknown and
false`` is false, ``unknown or true`` is true.
"""

import ast
import difflib
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import reduce
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmagn.labels.truth import Truth, all_of, any_of
from mmagn.records import Floats
from mmagn.storage.texts import column_texts

MOST_CHARACTERS = 1000
EXACT_FLOAT = 2**53
"""From here on double precision loses the last digits of whole numbers."""
BIT_FUNCTIONS = ("any_bit", "all_bits")
FUNCTIONS: dict[str, tuple[int, Callable[..., Any]]] = {
    "log10": (1, np.log10),
    "exp": (1, np.exp),
    "sqrt": (1, np.sqrt),
    "abs": (1, np.abs),
    "minimum": (2, np.minimum),
    "maximum": (2, np.maximum),
}
"""Number of arguments and meaning of each function."""


def _decimal(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return a sum to 13 digits of the larger number: 15.1 - 14.3 is 0.8, not 0.7999999999999989."""

    def rounded(one: Floats, other: Floats) -> Floats:
        exact, largest = function(one, other), np.maximum(np.abs(one), np.abs(other))
        scale = 10.0 ** (13 - np.ceil(np.log10(np.where(largest > 0, largest, 1.0))))
        near = np.rint(exact * scale) / scale
        return np.asarray(np.where((scale >= 1) & np.isfinite(near), near, exact))

    return rounded


_OPERATORS: dict[type[ast.AST], Callable[..., Any]] = {
    ast.Add: _decimal(np.add),
    ast.Sub: _decimal(np.subtract),
    ast.Mult: np.multiply,
    ast.Div: np.divide,
    ast.Pow: np.power,
    ast.USub: np.negative,
    ast.UAdd: np.positive,
    ast.Lt: np.less,
    ast.LtE: np.less_equal,
    ast.Gt: np.greater,
    ast.GtE: np.greater_equal,
    ast.Eq: np.equal,
    ast.NotEq: np.not_equal,
}
_QUOTED = "_quoted_{}_"


@dataclass(frozen=True, eq=False, slots=True)
class _Rows:
    """The columns of a table as a rule reads them."""

    text: str
    columns: Mapping[str, Any]
    missing: tuple[float, ...]
    bits: Mapping[str, Mapping[str, int]]

    @property
    def shape(self) -> tuple[int, ...]:
        """(row,) of the columns."""
        return next(np.shape(each)[:1] for each in self.columns.values())

    def values(self, name: str) -> tuple[NDArray[Any], NDArray[np.bool_]]:
        """Return values and where they are known, (row,)."""
        raw = np.ma.asarray(self.columns[name])
        if raw.ndim != 1:
            raise ValueError(f"the rule {self.text!r} names {name}, which has several values in a row; allowed: one")
        known = ~np.ma.getmaskarray(raw)
        if raw.dtype.kind in "SUO":
            texts = column_texts(raw)
            return texts, known & (texts != "")
        plain = raw.filled(0)
        if raw.dtype.kind in "iu" and np.any((plain[known] >= EXACT_FLOAT) | (plain[known] <= -EXACT_FLOAT)):
            raise ValueError(
                f"the rule {self.text!r} compares {name}, which holds whole numbers of 2**53 and more that double "
                "precision cannot tell apart; allowed: smaller ones, or their bits by any_bit and all_bits"
            )
        if raw.dtype.kind == "f" and raw.dtype.itemsize < np.dtype(np.float64).itemsize:
            plain = plain.astype(np.str_)  # 14.9 in single precision is 14.9, as in a table of text, not 14.8999996
        numbers: Floats = np.asarray(plain, dtype=np.float64)
        return numbers, known & np.isfinite(numbers) & ~np.isin(numbers, self.missing)

    def with_bits(self, function: str, name: str, items: Sequence[ast.Name | int]) -> Truth:
        """Return where a column of whole numbers has one of some bits, or all."""
        raw = np.ma.asarray(self.columns[name])
        if raw.dtype.kind not in "iu":
            raise ValueError(f"the rule {self.text!r} asks for bits of {name}, which holds no whole numbers")
        mask = np.uint64(0)
        for item in items:
            mask |= np.uint64(1) << np.uint64(self._bit(item, self.bits.get(name.upper(), {})))
        known = ~np.ma.getmaskarray(raw)
        common = np.asarray(raw.filled(0)).astype(np.int64).view(np.uint64) & mask
        return Truth(known & (common == mask if function == "all_bits" else common != 0), known)

    def _bit(self, item: ast.Name | int, numbers: Mapping[str, int]) -> int:
        if isinstance(item, ast.Name) and item.id not in numbers:
            known = f"known: {', '.join(numbers)}" if numbers else "none has a name here, so give numbers"
            raise ValueError(f"the rule {self.text!r} names the bit {item.id}; {known}")
        bit = numbers[item.id] if isinstance(item, ast.Name) else item
        if not 0 <= bit < 64:
            raise ValueError(f"the rule {self.text!r} asks for bit {bit}; allowed: 0 to 63")
        return bit


_Condition = Callable[[_Rows], Truth]
_Value = Callable[[_Rows], tuple[NDArray[Any], NDArray[np.bool_]]]


@dataclass(frozen=True)
class Rule:
    """A rule that was parsed.

    Attributes
    ----------
    text
        As it was written.
    names
        Columns that it reads, as they are written there.
    texts
        Columns and the texts that they are compared with.
    """

    text: str
    names: tuple[str, ...]
    texts: tuple[tuple[str, str], ...]
    _condition: _Condition

    def truth(
        self,
        columns: Mapping[str, Any],
        missing: Sequence[float] = (),
        bits: Mapping[str, Mapping[str, int]] | None = None,
    ) -> Truth:
        """Return the answer for each row of a table.

        Parameters
        ----------
        columns
            (row,) values by name, masked where missing; those of ``column_names`` at least.
        missing
            Numbers that stand for a missing value, besides NaN and masked ones.
        bits
            Number of each bit that has a name, by column in upper case.

        Raises
        ------
        ValueError
            Where there is no such column, bit or operation.
        """
        name_of = dict(zip(self.names, column_names(self.names, list(columns)), strict=True))
        values = {name: columns[name_of[name]] for name in self.names}
        with np.errstate(all="ignore"):
            return self._condition(_Rows(self.text, values, tuple(missing), bits or {}))


def parsed_rule(text: str) -> Rule:
    """Return the rule that a text holds.

    Raises
    ------
    ValueError
        Where it is no rule: one sentence with the rule and what is allowed.
    """
    quoted = re.findall(r"`([^`]+)`", text)
    code = text
    for number, name in enumerate(quoted):
        code = code.replace(f"`{name}`", _QUOTED.format(number))
    try:
        if len(text) > MOST_CHARACTERS:
            raise ValueError(f"it is longer than {MOST_CHARACTERS} characters")
        tree = ast.parse(code.strip(), mode="eval").body
        restored = {_QUOTED.format(number): name for number, name in enumerate(quoted)}
        for node in ast.walk(tree):
            if isinstance(node, ast.Name):
                node.id = restored.get(node.id, node.id)
        parser = _Parser()
        condition = parser.condition(tree)
        if not parser.names:
            raise ValueError("it names no column")
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        reason = error.msg if isinstance(error, SyntaxError) else str(error)
        raise ValueError(
            f"{text!r} is no rule ({reason}); a rule is such as {'w1 - w2 >= 0.8 and w2 < 15'!r}"
        ) from None
    return Rule(text, tuple(parser.names), tuple(parser.texts), condition)


def column_names(names: Sequence[str], available: Sequence[str]) -> list[str]:
    """Return the columns that names mean: the same, or the only one that differs by upper and lower case alone.

    Raises
    ------
    ValueError
        Where there is none, or more than one.
    """
    result = []
    for name in names:
        same = [each for each in available if each == name] or [e for e in available if e.lower() == name.lower()]
        if len(same) != 1:
            nearest = difflib.get_close_matches(name, available, n=1, cutoff=0.5)
            hint = f"could be {', '.join(same)}" if same else f"the nearest is {nearest[0]}" if nearest else ""
            hint = hint or f"it has {', '.join(available[:12])}{', ...' if len(available) > 12 else ''}"
            raise ValueError(f"there is no single column {name}; {hint}")
        result.append(same[0])
    return result


@dataclass(frozen=True, eq=False, slots=True)
class _Parser:
    """Turns the nodes of a rule into functions of the rows of a table; collects what they read."""

    names: dict[str, None] = field(default_factory=dict)
    texts: list[tuple[str, str]] = field(default_factory=list)

    def condition(self, node: ast.expr) -> _Condition:
        """Return the function of a condition; raise where a node is none."""
        match node:
            case ast.BoolOp(op=op, values=parts):
                return _combined(all_of if isinstance(op, ast.And) else any_of, map(self.condition, parts))
            case ast.UnaryOp(op=ast.Not(), operand=part):
                return _negated(self.condition(part))
            case ast.Compare(left=left, ops=[ast.In() | ast.NotIn() as op], comparators=[ast.List(elts=items)]) if (
                items
            ):
                for item in items:
                    _constant(item)
                one_of = _combined(any_of, (self._comparison(np.equal, left, item) for item in items))
                return one_of if isinstance(op, ast.In) else _negated(one_of)
            case ast.Compare(left=left, ops=ops, comparators=others) if all(type(each) in _OPERATORS for each in ops):
                sides = zip(ops, (left, *others), others, strict=False)
                return _combined(all_of, (self._comparison(_OPERATORS[type(op)], *pair) for op, *pair in sides))
            case ast.Call(func=ast.Name(id=function), args=[ast.Name(id=name), *items], keywords=[]) if (
                function in BIT_FUNCTIONS and items
            ):
                self.names[name] = None
                bits = [item if isinstance(item, ast.Name) else _bit_number(item) for item in items]
                return lambda rows: rows.with_bits(function, name, bits)
            case ast.Call(func=ast.Name(id="starts_with"), args=[ast.Name() as column, *items], keywords=[]) if (
                items and all(isinstance(_constant(item), str) for item in items)
            ):
                return _combined(any_of, (self._comparison(np.char.startswith, column, item) for item in items))
        raise ValueError(f"{ast.unparse(node)} is no comparison")

    def _comparison(self, compare: Callable[..., Any], left: ast.expr, right: ast.expr) -> _Condition:
        sides, values = f"{ast.unparse(left)} with {ast.unparse(right)}", (self._value(left), self._value(right))
        match left, right:
            case ast.Name(id=name), ast.Constant(value=str() as text) if compare is np.equal:
                self.texts.append((name, text))

        def condition(rows: _Rows) -> Truth:
            (one, one_known), (other, other_known) = (value(rows) for value in values)
            if (one.dtype.kind == "U") != (other.dtype.kind == "U"):
                raise ValueError(
                    f"the rule {rows.text!r} compares {sides}, a text and a number; allowed: two of a kind"
                )
            known = np.broadcast_to(one_known & other_known, rows.shape)
            return Truth(known & np.asarray(compare(one, other), dtype=bool), known)

        return condition

    def _value(self, node: ast.expr) -> _Value:
        """Return the function of an expression: values and where they are known, (row,) or a single one."""
        match node:
            case ast.Name(id=name):
                self.names[name] = None
                return lambda rows: rows.values(name)
            case ast.Constant():
                constant = _constant(node)
                single = np.asarray(constant if isinstance(constant, str) else float(constant)), np.asarray(True)
                return lambda _: single
            case ast.UnaryOp(op=(ast.USub() | ast.UAdd()) as sign, operand=part):
                function, parts = _OPERATORS[type(sign)], [part]
            case ast.BinOp(
                left=left, op=(ast.Add() | ast.Sub() | ast.Mult() | ast.Div() | ast.Pow()) as op, right=right
            ):
                function, parts = _OPERATORS[type(op)], [left, right]
            case ast.Call(func=ast.Name(id=name), args=parts, keywords=[]) if (
                name in FUNCTIONS and len(parts) == FUNCTIONS[name][0]
            ):
                function = FUNCTIONS[name][1]
            case _:
                raise ValueError(f"{ast.unparse(node)} is not allowed; functions: {', '.join(FUNCTIONS)}")
        expression, inputs = ast.unparse(node), [self._value(part) for part in parts]

        def value(rows: _Rows) -> tuple[NDArray[Any], NDArray[np.bool_]]:
            values = [each(rows) for each in inputs]
            if any(array.dtype.kind == "U" for array, _ in values):
                raise ValueError(f"the rule {rows.text!r} has a text as an operand of {expression}; allowed: numbers")
            result = np.asarray(function(*(array for array, _ in values)), dtype=np.float64)
            return result, reduce(np.logical_and, [known for _, known in values]) & np.isfinite(result)

        return value


def _combined(combine: Callable[[Sequence[Truth]], Truth], conditions: Iterable[_Condition]) -> _Condition:
    parts = list(conditions)
    return lambda rows: combine([part(rows) for part in parts])


def _negated(condition: _Condition) -> _Condition:
    return lambda rows: condition(rows).negated()


def _constant(node: ast.expr) -> int | float | str:
    """Return the number or text of a node."""
    match node:
        case ast.Constant(value=int() as value) if value >= EXACT_FLOAT:
            raise ValueError(f"{value} is 2**53 or more, where double precision cannot tell whole numbers apart")
        case ast.Constant(value=str() | int() | float() as value) if not isinstance(value, bool):
            return value
        case ast.UnaryOp(op=ast.USub(), operand=ast.Constant(value=int() | float() as value)):
            return -value
    raise ValueError(f"{ast.unparse(node)} is neither a number nor a text in quotes")


def _bit_number(node: ast.expr) -> int:
    number = _constant(node)
    if not isinstance(number, int):
        raise ValueError("a bit is a name or a whole number")
    return number
