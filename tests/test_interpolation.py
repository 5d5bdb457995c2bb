"""`{{expr}}` in a prompt: what is replaced, what is left alone, and what is said when it cannot be filled in."""

from __future__ import annotations

from typing import Any

import pandas as pd
import pytest

from createagents_nb.errors import InterpolationError, ProviderError
from createagents_nb.notebook.interpolation import MAX_VALUE_CHARS, describe, interpolate


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("{{name}}", "Ada"),
        ("{{ name }} and {{name}}", "Ada and Ada"),
        ("{{ n + 1 }}", "4"),
        ("{{ f'{n:03d}' }}", "003"),
        ('{{ {"a": n}["a"] }}', "3"),
        ('{{ {"a": {"b": n}}["a"]["b"] }}', "3"),
        ('{{ {"a": {"b": n}} }}', "{'a': {'b': 3}}"),
        ('{{{"a": {}}}}', "{'a': {}}"),
        ("{{ '}}' }}", "}}"),
        ("{{ [x * n for x in range(3)] }}", "[0, 3, 6]"),
        ("{{ (lambda x: x + n)(1) }}", "4"),
        ("{{ max(\n    n,\n    7,\n) }}", "7"),
        ("{{ None }}", "None"),
    ],
)
def test_expression_is_replaced_by_its_value(text: str, expected: str) -> None:
    assert interpolate(text, {"name": "Ada", "n": 3}) == expected


@pytest.mark.parametrize(
    "text",
    [
        "",
        "plain",
        "{n} and {unknown} and {0}",
        '{"a": {"b": 1}}',
        "\\frac{a}{b} and ${n}$",
        "def f():\n    return {}",
        "a }} b",
        "{ {n} }",
        "100 % $HOME `{x}`",
    ],
)
def test_single_braces_are_never_touched(text: str) -> None:
    assert interpolate(text, {"n": 3}) == text


def test_backslash_stands_for_two_braces() -> None:
    assert interpolate(r"\{{n}} is {{n}}", {"n": 3}) == "{{n}} is 3"


def test_value_is_not_filled_in_again() -> None:
    assert interpolate("{{a}}", {"a": "{{b}}", "b": "no"}) == "{{b}}"


def test_namespace_is_not_changed() -> None:
    namespace: dict[str, Any] = {"n": 3}
    assert interpolate("{{ (m := n + 1) }}", namespace) == "4"
    assert namespace == {"n": 3}


def test_frame_comes_as_shape_dtypes_and_head() -> None:
    frame = pd.DataFrame({"speed": range(1_000), "name": ["swift"] * 1_000})
    text = interpolate("About {{df}}!", {"df": frame})
    assert "1,000 rows × 2 columns" in text
    assert "speed: int64" in text
    assert "rows 0 to 4:" in text
    assert "| 4  | 4       | swift  |" in text
    assert "| 5 " not in text
    assert text.endswith("!")


def test_small_series_comes_whole() -> None:
    text = describe(pd.Series([1.5, 2.5], name="mass"))
    assert text.startswith("Series, 2 rows")
    assert "mass: float64" in text
    assert "2.5" in text


@pytest.mark.parametrize(
    "frame",
    [
        pd.DataFrame(),
        pd.DataFrame({"a": []}),
        pd.DataFrame([[1]], columns=pd.MultiIndex.from_tuples([("x", "y")])),
        pd.DataFrame({"a": [1]}, index=pd.MultiIndex.from_tuples([("x", 1)])),
        pd.DataFrame({1: [1], 1.5: [None]}),
        pd.DataFrame([[1, 2]], columns=["same", "same"]),
        pd.DataFrame({"t": pd.to_datetime(["2026-01-01"]), "c": pd.Categorical(["x"])}),
    ],
)
def test_every_shape_of_frame_can_be_described(frame: pd.DataFrame) -> None:
    assert f"{len(frame):,} rows × {frame.shape[1]} columns" in describe(frame)


def test_text_in_a_frame_stays_as_it_is() -> None:
    text = describe(pd.DataFrame({"code": ["1.10", "1e5", "007", "a|b\nc"]}))
    for value in ("1.10", "1e5", "007", r"a\|b c"):
        assert f"| {value}" in text


def test_wide_frame_is_cut_with_a_note() -> None:
    text = describe(pd.DataFrame({f"c{number}": [number] for number in range(200)}))
    assert "200 columns" in text
    assert "and 140 more columns, not shown" in text
    assert "c59" in text
    assert "c60" not in text


def test_long_value_is_shortened_with_a_note() -> None:
    text = interpolate("{{x}} end", {"x": "é" * (MAX_VALUE_CHARS + 1_234)})
    assert text.count("é") == MAX_VALUE_CHARS
    assert f"[cut: the first {MAX_VALUE_CHARS:,} of {MAX_VALUE_CHARS + 1_234:,} characters]" in text
    assert text.endswith(" end")


class Broken:
    def __str__(self) -> str:
        raise ValueError("no\nwords " * 100)


def fail() -> None:
    raise ProviderError("the other side failed")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{{nope}}", ["{{nope}}", "'nope'", "--raw"]),
        ("{{ n + nope }}", ["'nope'"]),
        ("{{ 1 / 0 }}", ["{{1 / 0}}", "ZeroDivisionError"]),
        ("{{ broken }}", ["{{broken}}", "ValueError: no words"]),
        ("{{ n.nope }}", ["AttributeError"]),
        ("{{n", ["no }}", r"\{{"]),
        ("{{n} }", ["no }}"]),
        ("{{}}", ["not a Python expression", "--raw"]),
        ("{{ n + }}", ["not a Python expression"]),
        ("{{ x = 1 }}", ["not a Python expression"]),
        ("{{ await n }}", ["not a Python expression"]),
        ("{{ " + "n + " * 300 + " }}", ["not a Python expression", "…"]),
    ],
)
def test_failure_is_one_short_line_that_names_the_way_out(text: str, words: list[str]) -> None:
    with pytest.raises(InterpolationError) as raised:
        interpolate(text, {"n": 3, "broken": Broken()})
    message = str(raised.value)
    assert len(message) < 400
    assert "\n" not in message
    for word in words:
        assert word in message


def test_error_of_ours_keeps_its_type() -> None:
    with pytest.raises(ProviderError, match="other side"):
        interpolate("{{ fail() }}", {"fail": fail})
