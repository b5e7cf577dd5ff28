"""Rules on the columns of a table, such as ``w1 - w2 >= 0.8 and w2 < 15.05``: parsed, never evaluated as code.

A rule compares expressions by ``<``, ``<=``, ``>``, ``>=``, ``==``, ``!=``, ``in [...]`` or ``not in [...]``, or asks
for bits of an integer column: ``any_bit(COLUMN, BIT, ...)`` and ``all_bits(COLUMN, BIT, ...)``, by number or by name.
Comparisons are combined by ``and``, ``or``, ``not`` and parentheses. Expressions are columns, numbers, texts in quotes,
``+ - * / **`` and the functions ``log10``, ``exp``, ``sqrt``, ``abs``, ``minimum`` and ``maximum``. A column whose name
is no word stands in backticks. Upper and lower case of a column matter only where two columns differ by it alone.

Where a value is missing a comparison is neither true nor false but unknown (Kleene's three-valued logic): ``unknown and
false`` is false, ``unknown or true`` is true.
"""

import ast
import difflib
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmagn.records import Floats

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
_OPERATORS: dict[type[ast.AST], Callable[..., Any]] = {
    ast.Add: np.add,
    ast.Sub: np.subtract,
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
class Truth:
    """Three-valued answer: (row,) ``true`` and ``known``; where it is not known, ``true`` is False."""

    true: NDArray[np.bool_]
    known: NDArray[np.bool_]

    @property
    def false(self) -> NDArray[np.bool_]:
        """(row,) known and not true."""
        return self.known & ~self.true


@dataclass(frozen=True)
class Rule:
    """A rule that was parsed.

    Attributes
    ----------
    text
        As it was written.
    names
        Columns that it reads, as they are written there.
    """

    text: str
    names: tuple[str, ...]
    _tree: ast.expr

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
            return _Evaluation(self.text, values, tuple(missing), bits or {}).truth(self._tree)


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
        names: dict[str, None] = {}
        _check_condition(tree, names)
        if not names:
            raise ValueError("it names no column")
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        reason = error.msg if isinstance(error, SyntaxError) else str(error)
        raise ValueError(
            f"{text!r} is no rule ({reason}); a rule is such as {'w1 - w2 >= 0.8 and w2 < 15'!r}"
        ) from None
    restored = {_QUOTED.format(number): name for number, name in enumerate(quoted)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Name):
            node.id = restored.get(node.id, node.id)
    return Rule(text, tuple(restored.get(name, name) for name in names), tree)


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


def _check_condition(node: ast.expr, names: dict[str, None]) -> None:
    """Raise where a node is no condition; collect the names of the columns."""
    match node:
        case ast.BoolOp(values=parts):
            for part in parts:
                _check_condition(part, names)
        case ast.UnaryOp(op=ast.Not(), operand=part):
            _check_condition(part, names)
        case ast.Compare(left=left, ops=[ast.In() | ast.NotIn()], comparators=[ast.List(elts=items)]) if items:
            _check_value(left, names)
            for item in items:
                _constant(item)
        case ast.Compare(left=left, ops=ops, comparators=others) if all(type(each) in _OPERATORS for each in ops):
            for part in (left, *others):
                _check_value(part, names)
        case ast.Call(func=ast.Name(id=name), args=[ast.Name() as column, *items], keywords=[]) if (
            name in BIT_FUNCTIONS and items
        ):
            _check_value(column, names)
            for item in items:
                if not (isinstance(item, ast.Name) or isinstance(_constant(item), int)):
                    raise ValueError("a bit is a name or a whole number")
        case _:
            raise ValueError(f"{ast.unparse(node)} is no comparison")


def _check_value(node: ast.expr, names: dict[str, None]) -> None:
    match node:
        case ast.Name(id=name):
            names[name] = None
        case ast.Constant():
            _constant(node)
        case ast.UnaryOp(op=ast.USub() | ast.UAdd(), operand=part):
            _check_value(part, names)
        case ast.BinOp(left=left, op=ast.Add() | ast.Sub() | ast.Mult() | ast.Div() | ast.Pow(), right=right):
            _check_value(left, names)
            _check_value(right, names)
        case ast.Call(func=ast.Name(id=name), args=parts, keywords=[]) if (
            name in FUNCTIONS and len(parts) == FUNCTIONS[name][0]
        ):
            for part in parts:
                _check_value(part, names)
        case _:
            raise ValueError(f"{ast.unparse(node)} is not allowed; functions: {', '.join(FUNCTIONS)}")


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


@dataclass(frozen=True, eq=False, slots=True)
class _Evaluation:
    """The nodes of a rule on the columns of a table."""

    text: str
    columns: Mapping[str, Any]
    missing: tuple[float, ...]
    bits: Mapping[str, Mapping[str, int]]

    def truth(self, node: ast.expr) -> Truth:
        match node:
            case ast.BoolOp(op=op, values=parts):
                answers = [self.truth(part) for part in parts]
                if isinstance(op, ast.And):
                    return _all_of(answers)
                return _negated(_all_of([_negated(each) for each in answers]))
            case ast.UnaryOp(operand=part):
                return _negated(self.truth(part))
            case ast.Call(func=ast.Name(id=name), args=[ast.Name(id=column), *items]):
                return self._bits(name, column, items)
            case ast.Compare(left=left, ops=[ast.In() | ast.NotIn() as op], comparators=[ast.List(elts=items)]):
                answers = [self._compared(np.equal, left, item) for item in items]
                true, known = np.logical_or.reduce([each.true for each in answers]), answers[0].known
                return Truth(true if isinstance(op, ast.In) else known & ~true, known)
            case ast.Compare(left=left, ops=ops, comparators=others):
                sides = (left, *others)
                answers = [
                    self._compared(_OPERATORS[type(op)], *pair) for op, *pair in zip(ops, sides, others, strict=False)
                ]
                return _all_of(answers)
        raise AssertionError(ast.dump(node))  # parsing allows nothing else

    def _compared(self, compare: Callable[..., Any], left: ast.expr, right: ast.expr) -> Truth:
        one, one_known = self._value(left)
        other, other_known = self._value(right)
        if (one.dtype.kind == "U") != (other.dtype.kind == "U"):
            sides = f"{ast.unparse(left)} with {ast.unparse(right)}"
            raise ValueError(f"the rule {self.text!r} compares {sides}, a text and a number; allowed: two of a kind")
        known = one_known & other_known
        return Truth(known & np.asarray(compare(one, other), dtype=bool), np.broadcast_to(known, self._shape))

    def _value(self, node: ast.expr) -> tuple[NDArray[Any], NDArray[np.bool_]]:
        """Value and where it is known, (row,) or a single one."""
        match node:
            case ast.Name(id=name):
                return self._column(name)
            case ast.Constant():
                value = _constant(node)
                return np.asarray(value if isinstance(value, str) else float(value)), np.asarray(True)
            case ast.UnaryOp(op=op, operand=part):
                function, parts = _OPERATORS[type(op)], [part]
            case ast.BinOp(left=left, op=op, right=right):
                function, parts = _OPERATORS[type(op)], [left, right]
            case ast.Call(func=ast.Name(id=name), args=parts):
                function = FUNCTIONS[name][1]
            case _:
                raise AssertionError(ast.dump(node))  # parsing allows nothing else
        values = [self._value(part) for part in parts]
        if any(value.dtype.kind == "U" for value, _ in values):
            raise ValueError(f"the rule {self.text!r} computes with a text in {ast.unparse(node)}; allowed: numbers")
        result = np.asarray(function(*(value for value, _ in values)), dtype=np.float64)
        return result, reduce(np.logical_and, [known for _, known in values]) & np.isfinite(result)

    def _column(self, name: str) -> tuple[NDArray[Any], NDArray[np.bool_]]:
        raw = np.ma.asarray(self.columns[name])
        known = ~np.ma.getmaskarray(raw)
        if raw.dtype.kind in "SUO":
            text = plain_text(raw.filled(b"" if raw.dtype.kind == "S" else ""))
            return text, known & (text != "")
        if raw.dtype.kind in "iu" and not _exact(raw.filled(0)[known]):
            raise ValueError(
                f"the rule {self.text!r} compares {name}, which holds whole numbers of 2**53 and more that double "
                "precision cannot tell apart; allowed: smaller ones, or their bits by any_bit and all_bits"
            )
        values: Floats = np.asarray(raw.filled(0), dtype=np.float64)
        return values, known & np.isfinite(values) & ~np.isin(values, self.missing)

    def _bits(self, name: str, column: str, items: Sequence[ast.expr]) -> Truth:
        raw = np.ma.asarray(self.columns[column])
        if raw.dtype.kind not in "iu":
            raise ValueError(f"the rule {self.text!r} asks for bits of {column}, which holds no whole numbers")
        mask = np.uint64(0)
        for item in items:
            mask |= np.uint64(1) << np.uint64(self._bit(item, self.bits.get(column.upper(), {})))
        known = ~np.ma.getmaskarray(raw)
        common = np.asarray(raw.filled(0)).astype(np.int64).view(np.uint64) & mask
        return Truth(known & (common == mask if name == "all_bits" else common != 0), known)

    def _bit(self, item: ast.expr, numbers: Mapping[str, int]) -> int:
        if isinstance(item, ast.Name) and item.id not in numbers:
            known = f"known: {', '.join(numbers)}" if numbers else "none has a name here, so give numbers"
            raise ValueError(f"the rule {self.text!r} names the bit {item.id}; {known}")
        bit = numbers[item.id] if isinstance(item, ast.Name) else int(_constant(item))
        if not 0 <= bit < 64:
            raise ValueError(f"the rule {self.text!r} asks for bit {bit}; allowed: 0 to 63")
        return bit

    @property
    def _shape(self) -> tuple[int, ...]:
        return next((np.shape(each) for each in self.columns.values()), ())


def _all_of(answers: Sequence[Truth]) -> Truth:
    """True where all are true, false where one is false (Kleene)."""
    true = np.logical_and.reduce([each.true for each in answers])
    return Truth(true, true | np.logical_or.reduce([each.false for each in answers]))


def _negated(answer: Truth) -> Truth:
    return Truth(answer.false, answer.known)


def _exact(values: NDArray[np.integer[Any]]) -> bool:
    """Whether each of some whole numbers has its own double-precision number."""
    return bool(np.all((values < EXACT_FLOAT) & (values > -EXACT_FLOAT)))


def plain_text(values: NDArray[Any]) -> NDArray[np.str_]:
    """Return (row,) texts or bytes as text without spaces around it; bytes that are no text become U+FFFD."""
    if values.dtype.kind == "S":
        values = np.char.decode(values, "utf-8", "replace")
    return np.char.strip(np.asarray(values, dtype=np.str_))
