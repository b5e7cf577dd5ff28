"""Rows of records of tensors: frozen dataclasses whose fields have one entry per spectrum, or are such records."""

from collections.abc import Sequence
from dataclasses import fields
from typing import Any, TypeVar

import torch

Record = TypeVar("Record")


def rows_of(record: Record, rows: torch.Tensor) -> Record:
    """Return the record of some rows (row,)."""
    return _mapped(lambda values: values[rows], [record])


def joined(records: Sequence[Record]) -> Record:
    """Return records joined along their rows."""
    return _mapped(lambda *values: torch.cat(values), records)


def with_rows(record: Record, rows: torch.Tensor, part: Record) -> Record:
    """Return the record with the rows (row,) replaced by those of ``part``."""
    return _mapped(lambda values, new: values.index_copy(0, rows, new), [record, part])


def chosen(condition: torch.Tensor, record: Record, other: Record) -> Record:
    """Return the rows of ``record`` where ``condition`` (row,), those of ``other`` elsewhere."""

    def pick(values: torch.Tensor, others: torch.Tensor) -> torch.Tensor:
        return torch.where(condition.view(-1, *[1] * (values.ndim - 1)), values, others)

    return _mapped(pick, [record, other])


def _mapped(function: Any, records: Sequence[Record]) -> Record:
    """Return the record whose tensors are ``function`` of the tensors of the same name in all records."""
    values: dict[str, Any] = {}
    for field in fields(records[0]):  # type: ignore[arg-type]
        parts = [getattr(record, field.name) for record in records]
        values[field.name] = function(*parts) if isinstance(parts[0], torch.Tensor) else _mapped(function, parts)
    return type(records[0])(**values)
