"""Tables in Markdown."""

from collections.abc import Iterable, Mapping, Sequence


def markdown_table(head: Sequence[str], rows: Mapping[str, object] | Iterable[Sequence[object]]) -> str:
    """Return a table with one line per row, or per name and value of a mapping; "" where it has no row."""
    cells = [[*map(str, row)] for row in (rows.items() if isinstance(rows, Mapping) else rows)]
    if not cells:
        return ""
    first, *rest = [" | ".join(cell.replace("|", r"\|") for cell in line) for line in [[*head], *cells]]
    return "\n".join([f"| {first} |", "|" + "---|" * len(head), *(f"| {line} |" for line in rest), ""])
