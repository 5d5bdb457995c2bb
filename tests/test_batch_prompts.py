"""From rows to prompts: what data may be, templates, and rows that have no prompt."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from createagents_nb.batch.prompts import read_prompts
from createagents_nb.batch.results import Results
from createagents_nb.errors import ConfigurationError, InvalidMessageError

FRAME = pd.DataFrame({"review": ["good", "bad"], "stars": [5, 1]}, index=["x", "y"])


@pytest.mark.parametrize(
    "data",
    [
        ["a", "b"],
        ("a", "b"),
        pd.Index(["a", "b"]),
        np.array(["a", "b"]),
        np.array(["a", "b"], dtype=object),
        pd.array(["a", "b"], dtype="string"),
    ],
)
def test_data_without_an_index_is_counted(data: Any) -> None:
    prompts = read_prompts(data, None)
    assert prompts.texts == ["a", "b"]
    assert [type(text) for text in prompts.texts] == [str, str]
    assert prompts.index.equals(pd.RangeIndex(2))


@pytest.mark.parametrize("dtype", ["object", "string", "category"])
def test_a_series_keeps_its_index(dtype: str) -> None:
    series = pd.Series(["a", "b", "c"], index=[3, 3, 1], dtype=dtype)
    prompts = read_prompts(series, None)
    assert prompts.texts == ["a", "b", "c"]
    assert prompts.index.equals(series.index)


@pytest.mark.parametrize(
    "data",
    ["one text", {"a": 1}, {"a"}, iter(["a"]), None, 3, np.array([["a"]]), b"bytes"],
    ids=lambda data: type(data).__name__,
)
def test_what_is_no_data_is_an_error(data: Any) -> None:
    with pytest.raises(ConfigurationError, match="map takes a Series, a list"):
        read_prompts(data, None)


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (None, "no prompt in this row"),
        (float("nan"), "no prompt in this row"),
        (pd.NA, "no prompt in this row"),
        (pd.NaT, "no prompt in this row"),
        ("", "empty"),
        (" \n", "empty"),
        (7, "must be a string, not int"),
        (["a"], "must be a string, not list"),
    ],
)
def test_a_row_without_a_prompt_is_an_error_of_that_row(value: Any, words: str) -> None:
    first, second = read_prompts([value, "fine"], None).texts
    assert isinstance(first, InvalidMessageError)
    assert words in str(first)
    assert second == "fine"


# ── templates ────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        ("{{review}}", ["good", "bad"]),
        ("Is {{ review }} worth {{stars}}?", ["Is good worth 5?", "Is bad worth 1?"]),
        ('{"text": {{review}}, "n": {}}', ['{"text": good, "n": {}}', '{"text": bad, "n": {}}']),
        ("{{{review}}}", ["{good}", "{bad}"]),
        ("\\{{review}} is {{review}}", ["{{review}} is good", "{{review}} is bad"]),
        ("a }} b {{stars}}{{stars}}", ["a }} b 55", "a }} b 11"]),
    ],
)
def test_a_template_is_filled_in_from_each_row(template: str, expected: list[str]) -> None:
    prompts = read_prompts(FRAME, template)
    assert prompts.texts == expected
    assert prompts.index.equals(FRAME.index)


def test_a_value_is_not_filled_in_again() -> None:
    frame = pd.DataFrame({"a": ["{{b}}"], "b": ["no"]})
    assert read_prompts(frame, "{{a}}").texts == ["{{b}}"]


@pytest.mark.parametrize(
    "data", [["a", "b"], ("a", "b"), np.array(["a", "b"]), pd.Series(["a", "b"]), pd.Index(["a", "b"])]
)
def test_data_without_columns_is_called_value(data: Any) -> None:
    assert read_prompts(data, "Say {{value}}").texts == ["Say a", "Say b"]


def test_a_series_may_also_be_called_by_its_name() -> None:
    series = pd.Series([1, 2], name="n")
    assert read_prompts(series, "{{n}} {{value}}").texts == ["1 1", "2 2"]


def test_columns_that_are_no_texts_are_named_as_they_are_written() -> None:
    assert read_prompts(pd.DataFrame({0: ["a"], "1": ["b"], 1: ["c"]}), "{{0}}{{1}}").texts == ["ab"]


def test_a_row_that_lacks_a_value_is_an_error_of_that_row() -> None:
    frame = pd.DataFrame({"review": ["good", None, ""], "stars": [None, 1, 2]})
    texts = read_prompts(frame, "Classify {{review}}").texts
    assert texts[0] == "Classify good"
    assert isinstance(texts[1], InvalidMessageError)
    assert "{{review}} has no value" in str(texts[1])
    assert texts[2] == "Classify "


@pytest.mark.parametrize(
    ("template", "words"),
    [
        ("{{reviw}}", ["{{reviw}}", "did you mean {{review}}", "Known: review, stars"]),
        ("{{value}}", ["no such column", "Known: review, stars"]),
        ("{{}}", ["no such column"]),
        ("{{review} }", ["without its }}", "\\{{"]),
        ("no column", ["names no column"]),
        ("\\{{review}}", ["names no column"]),
        (7, ["must be a text"]),
    ],
)
def test_a_wrong_template_names_the_way_out(template: Any, words: list[str]) -> None:
    with pytest.raises(ConfigurationError) as raised:
        read_prompts(FRAME, template)
    assert all(word in str(raised.value) for word in words), raised.value


def test_a_frame_without_a_template_names_its_columns() -> None:
    with pytest.raises(ConfigurationError, match=r"needs a template.*review, stars"):
        read_prompts(FRAME, None)


def test_two_columns_of_one_name_are_not_guessed_at() -> None:
    with pytest.raises(ConfigurationError, match="2 columns have this name"):
        read_prompts(pd.DataFrame([[1, 2]], columns=["a", "a"]), "{{a}}")


NAMES = st.text(st.characters(exclude_characters="{}\\", exclude_categories=["Cs"]), min_size=1).map(str.strip)


@pytest.mark.once
@given(
    st.lists(st.text(st.characters(exclude_characters="{}\\", exclude_categories=["Cs"]))),
    NAMES.filter(bool),
    st.lists(st.text(min_size=1).filter(str.strip), min_size=1, max_size=5),
)
def test_any_text_around_any_name_stays_as_it_is(around: list[str], name: str, values: list[str]) -> None:
    parts = [*around, ""]
    template = f"{{{{{name}}}}}".join(parts)
    frame = pd.DataFrame({name: values})
    if len(parts) == 1:
        with pytest.raises(ConfigurationError):
            read_prompts(frame, template)
        return
    assert read_prompts(frame, template).texts == [value.join(parts) for value in values]


# ── the frame ────────────────────────────────────────────────────────────────────────────────────────

DTYPES = {
    "answer": "string",
    "status": "category",
    "error": "string",
    "input_tokens": "Int64",
    "output_tokens": "Int64",
    "cost_usd": "Float64",
    "latency_s": "Float64",
    "call_id": "string",
    "finish_reason": "string",
}


@pytest.mark.once
@given(st.lists(st.one_of(st.integers(), st.text()), max_size=8), st.data())
def test_rows_are_where_they_were_put(index: list[Any], data: st.DataObject) -> None:
    results = Results(pd.Index(index, dtype=object))
    put = data.draw(st.sets(st.sampled_from(range(len(index))))) if index else set()
    for position in put:
        results.put(position, status="ok", answer=f"answer {position}")
    frame = results.frame()
    assert frame.index.equals(pd.Index(index, dtype=object))
    assert {name: str(dtype) for name, dtype in frame.dtypes.items()} == DTYPES
    for position in range(len(index)):
        row = frame.iloc[position]
        assert row["status"] == ("ok" if position in put else "not run")
        assert row["answer"] is pd.NA if position not in put else row["answer"] == f"answer {position}"
