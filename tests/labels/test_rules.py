"""Rules on columns: three-valued, safe, and refused in one sentence where they are none."""

import numpy as np
import pytest

from mmagn.labels.presets import desi_bits, presets
from mmagn.labels.rules import parsed_rule

COLUMNS = {
    "W1": np.ma.array([15.0, 15.0, 15.0, -999.0, 15.0], mask=[False, False, False, False, True]),
    "w2": np.array([14.0, 14.9, np.nan, 13.0, 13.0]),
    "class": np.array([b"Seyfert ", b"LINER", b"\xef\xbb", b"", b"Composite"]),
    "bits": np.array([0, 1 << 10, 1 << 15, (1 << 10) | 1, -1]),
    "odd name": np.array([1, 2, 3, 4, 5]),
    "pixels": np.zeros((5, 3)),
    "ids": np.ma.array([2**53 + 1, 2**53, 2, 1, 0], dtype=np.uint64),
}


def answers(text: str) -> list[bool | None]:
    truth = parsed_rule(text).truth(COLUMNS, missing=(-999.0,), bits={"BITS": desi_bits()["AGN_MASKBITS"]})
    assert not (truth.true & ~truth.known).any()
    return [bool(true) if known else None for true, known in zip(truth.true, truth.known, strict=True)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("w1 - w2 >= 0.8", [True, False, None, None, None]),
        ("not w1 - w2 >= 0.8", [False, True, None, None, None]),
        ("w1 - w2 >= 0.8 and w2 < 13.5", [False, False, None, None, None]),
        ("w1 - w2 >= 0.8 or w2 < 13.5", [True, False, None, True, True]),
        ("13.5 < w2 <= 14", [True, False, None, False, False]),
        ("2 < `odd name` < w1", [False, False, True, None, None]),
        ("`class` in ['Seyfert', 'Composite']", [True, False, False, None, True]),
        ("`class` not in ['Seyfert', 'Composite']", [False, True, True, None, False]),
        ("`class` == 'LINER'", [False, True, False, None, False]),
        ("`odd name` in [-1, 2, 3]", [False, True, True, False, False]),
        ("any_bit(bits, BPT_ANY_SY, 15)", [False, True, True, True, True]),
        ("all_bits(bits, BPT_ANY_SY, AGN_ANY)", [False, False, False, True, True]),
        ("log10(`odd name` - 1) >= 0", [None, True, True, True, True]),
        ("sqrt(w2 - 14) >= 0", [True, True, None, None, None]),
        ("starts_with(`class`, 'Sey', 'Comp')", [True, False, False, None, True]),
        ("not starts_with(`class`, 'L')", [True, False, True, None, True]),
    ],
)
def test_a_missing_value_makes_a_comparison_unknown_unless_the_rest_decides(text: str, expected: list) -> None:
    assert answers(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "__import__('os').system('true') == 0",
        "w1.__class__ == 1",
        "w1[0] > 1",
        "(lambda: w1)() > 1",
        "open('x') > w1",
        "w1",
        "w1 > ",
        "1 > 2",
        "w1 > True",
        "w1 in []",
        "w1 in [w2]",
        "any_bit(w1)",
        "starts_with(w1)",
        "starts_with(w1, 1)",
        "starts_with('w1', 'w')",
        "f'{w1}' == 'a'",
        "w1 > 0 if w2 > 0 else w1 < 0",
        "w1 > " + "(" * 400 + "1" + ")" * 400,
        "w1 > " + "1+" * 600 + "1",
        "",
    ],
)
def test_what_is_no_rule_is_refused_and_never_runs(text: str) -> None:
    with pytest.raises(ValueError, match=r"is no rule \("):
        parsed_rule(text)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("w3 > 1", r"no single column w3; the nearest is w2"),
        ("w1 > 'a'", r"a text and a number"),
        ("`class` + 1 > 2", r"has a text as an operand"),
        ("any_bit(w2, 1)", r"bits of w2, which holds no whole numbers"),
        ("any_bit(bits, NO_BIT)", r"the bit NO_BIT; known: AGN_ANY"),
        ("any_bit(bits, 64)", r"bit 64; allowed: 0 to 63"),
        ("ids == 299489677444933632", r"is no rule \(299489677444933632 is 2\*\*53 or more"),
        ("starts_with(w1, '1')", r"compares w1 with '1', a text and a number"),
        ("pixels > 1", r"names pixels, which has several values in a row; allowed: one"),
        ("ids > 3", r"compares ids, which holds whole numbers of 2\*\*53 and more"),
    ],
)
def test_a_rule_that_does_not_fit_the_table_says_why(text: str, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        answers(text)


def test_a_huge_power_is_a_value_that_no_rule_knows() -> None:
    assert answers("w2 ** 9 ** 9 ** 9 > 1") == [None] * 5


@pytest.mark.parametrize("precision", [np.float64, np.float32, ">f4"])
def test_a_colour_of_decimal_magnitudes_is_exact(precision: object) -> None:
    bright = np.arange(10, 18, 0.001).round(3)
    columns = {"w1": (bright + 0.8).round(3).astype(precision), "w2": bright.astype(precision)}
    assert parsed_rule("w1 - w2 >= 0.8 and w2 + 0.8 <= w1").truth(columns).true.all()
    assert not parsed_rule("w1 - w2 > 0.8 or w1 - w2 != 0.8").truth(columns).true.any()
    assert parsed_rule("w1 - w2 > 0.799 and w1 - w2 < 0.801").truth(columns).true.all()
    assert parsed_rule("w1 == 10.8").truth(columns).true.tolist() == [True] + [False] * (len(bright) - 1)


def test_sums_of_tiny_and_of_huge_numbers_keep_their_digits() -> None:
    columns = {
        "flux": np.array([1e-17, 3e-18]),
        "count": np.array([2**52, 2**52 + 1]),
        "log": np.array([1e300, np.inf]),
    }
    assert parsed_rule("flux - 2e-18 > 0.99e-18").truth(columns).true.all()
    assert parsed_rule("count - 4503599627370496 == 0").truth(columns).true.tolist() == [True, False]
    assert parsed_rule("log - 1 > 1e299").truth(columns).known.tolist() == [True, False]


def test_columns_that_differ_by_case_alone_must_be_named_exactly() -> None:
    columns = {"Z": np.array([0.1]), "z": np.array([0.9])}
    assert not parsed_rule("Z > 0.5").truth(columns).true[0]
    with pytest.raises(ValueError, match="could be Zz, ZZ"):
        parsed_rule("zZ > 0.5").truth({"Zz": columns["Z"], "ZZ": columns["z"]})


def test_every_preset_has_a_source_and_rules_that_parse() -> None:
    for name, preset in presets().items():
        assert any(year in preset.source for year in ("20", "DR1")), name
        for text in (preset.positive, preset.negative):
            if text not in ("", "listed", "rest"):
                assert parsed_rule(text).names


def test_the_limit_of_assef_2018_is_that_of_its_equations() -> None:
    rule = parsed_rule(presets()["assef2018-r90"].positive)
    w2 = np.array([12.0, 13.86, 15.0, 16.0])
    limit = np.where(w2 > 13.86, 0.650 * np.exp(0.153 * (w2 - 13.86) ** 2), 0.650)
    for offset in (-1e-6, 1e-6):
        assert (rule.truth({"w1": w2 + limit + offset, "w2": w2}).true == (offset > 0)).all()
