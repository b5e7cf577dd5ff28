"""Tables in Markdown."""

from mmagn.storage.markdown import markdown_table


def test_a_bar_in_a_cell_does_not_end_it_and_no_row_is_no_table() -> None:
    assert markdown_table(("reason", "count"), {"a|b": 2}) == "| reason | count |\n|---|---|\n| a\\|b | 2 |\n"
    assert markdown_table(("a", "b", "c"), [(1, "x", None)]).splitlines()[2] == "| 1 | x | None |"
    assert markdown_table(("a",), []) == ""
