from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from family import png
from html_whitelist import read_strictly

from createagents_nb.core.tool_display import ImageDisplay, TableDisplay
from createagents_nb.render import styles
from createagents_nb.render.bundle import (
    BUNDLE_MIME,
    ReasoningBlock,
    TextBlock,
    ToolLine,
    TurnSnapshot,
    render_bundle,
    render_markdown_html,
    tool_card_html,
)
from createagents_nb.text import format_dollars

ROWS = ToolLine(
    tool_call_id="1",
    name="rows",
    arguments='{"limit": 3}',
    status="ok",
    latency_s=0.021,
    result="| a |\n|---|\n| 1 |",
)


def turn(*blocks: Any, **changes: Any) -> TurnSnapshot:
    known: dict[str, Any] = {"call_id": "c1", "agent": "analyst", "provider": "openai", "model": "gpt-4.1-mini"}
    return TurnSnapshot(blocks=blocks, **{**known, "status": "ok", **changes})


def test_a_bundle_has_the_three_texts_and_the_record() -> None:
    record = {"call": {"call_id": "c1", "latency_s": 3.2}, "requests": [], "tools": []}
    bundle = render_bundle(turn(TextBlock("hi"), record=record))
    assert list(bundle) == ["text/html", "text/markdown", "text/plain", BUNDLE_MIME]
    assert bundle[BUNDLE_MIME] == {**record, "version": 1}


@pytest.mark.parametrize(("chars", "has_markdown"), [(90_000, True), (110_000, False)])
def test_a_very_long_answer_is_not_there_a_third_time_as_markdown(chars: int, has_markdown: bool) -> None:
    text = "twelve chars\n\n" * (chars // 14)
    bundle = render_bundle(turn(TextBlock(text)))
    assert ("text/markdown" in bundle) is has_markdown
    assert text.strip() in bundle["text/plain"]
    assert bundle["text/html"].count("<p>twelve chars</p>") == chars // 14


def test_the_record_says_where_the_answer_stands_and_does_not_repeat_it() -> None:
    blocks = (TextBlock("\n\n"), TextBlock("Let me see.\n"), ROWS, TextBlock("**Three** rows.\n\nThe end"))
    record = {"call": {"call_id": "c1", "response": "Let me see.\n**Three** rows.\n\nThe end"}}
    bundle = render_bundle(turn(*blocks, record=record))
    call = bundle[BUNDLE_MIME]["call"]
    assert "response" not in call
    pieces = [bundle["text/plain"][start:end] for start, end in call["response_in_plain"]]
    assert pieces == ["Let me see.", "**Three** rows.\n\nThe end"]


def test_saved_html_has_no_blank_line_which_would_end_it_in_a_markdown_file() -> None:
    code = "```python\na\n\n\n  \nb\n```"
    tool = ToolLine(tool_call_id="1", name="f", arguments="{}", status="ok", result="x\n\n![y](https://z.example)")
    html = render_bundle(turn(TextBlock(code), tool))["text/html"]
    assert not [line for line in html.split("\n") if not line.strip()]
    text = "".join(read_strictly(html).text)
    assert "a\n\n\n  \nb\n" in text
    assert "x\n\n![y](https://z.example)" in text


def test_an_answer_that_was_not_recorded_is_not_pointed_at() -> None:
    bundle = render_bundle(turn(TextBlock("hi"), record={"call": {"call_id": "c1", "response": None}}))
    assert bundle[BUNDLE_MIME]["call"] == {"call_id": "c1"}


def test_a_running_turn_has_no_record_yet_and_says_that_it_streams() -> None:
    bundle = render_bundle(turn(TextBlock("```python\nx = "), status="running"))
    assert BUNDLE_MIME not in bundle
    assert "streaming…" in bundle["text/html"]
    assert 'class="language-python"' in bundle["text/html"]


def test_a_turn_that_waits_for_approval_says_so_in_its_status_line() -> None:
    waiting = ToolLine(tool_call_id="1", name="delete", arguments="{}", status="waiting")
    running = render_bundle(turn(waiting, status="running"))["text/plain"].splitlines()[-1]
    assert running == "analyst · openai/gpt-4.1-mini · waiting for approval"
    stopped = render_bundle(turn(waiting, status="cancelled"))["text/plain"].splitlines()[-1]
    assert stopped == "analyst · openai/gpt-4.1-mini · stopped"


def test_the_record_is_json_that_every_reader_takes() -> None:
    record = {"call": {"latency_s": float("nan"), "prompt": "\ud800", 1: (1, 2), "at": object}}
    found = render_bundle(turn(record=record))[BUNDLE_MIME]
    json.dumps(found, allow_nan=False, ensure_ascii=False).encode()
    assert found["call"]["latency_s"] is None
    assert found["call"]["1"] == [1, 2]


def test_blocks_stand_in_the_order_in_which_they_happened() -> None:
    bundle = render_bundle(turn(ReasoningBlock("thinking"), TextBlock("before"), ROWS, TextBlock("after")))
    for mime in ("text/html", "text/markdown", "text/plain"):
        text = bundle[mime]
        places = [text.index(word) for word in ("thinking", "before", "rows(limit=3)", "after")]
        assert places == sorted(places), mime


def test_a_tool_card_is_a_closed_details_with_its_state_in_words() -> None:
    html = render_bundle(turn(ROWS))["text/html"]
    assert '<details class="createagents-tool"' in html
    assert "<details open" not in html
    assert " open>" not in html
    text = "".join(read_strictly(html).text)
    assert "rows(limit=3) — done · 0.02 s" in text
    assert '"limit": 3' in text
    assert "| a |\n|---|\n| 1 |" in text


@pytest.mark.parametrize(
    ("status", "words"),
    [
        ("running", "running…"),
        ("ok", "done"),
        ("error", "failed"),
        ("timeout", "timed out"),
        ("unknown_tool", "rejected: unknown tool"),
        ("invalid_arguments", "rejected: invalid arguments"),
        ("rejected", "rejected: not approved"),
        ("cancelled", "stopped"),
    ],
)
def test_every_tool_state_is_told_in_words(status: Any, words: str) -> None:
    tool = ToolLine(tool_call_id="1", name="f", arguments="{}", status=status)
    bundle = render_bundle(turn(tool))
    assert "f()</code> <span" in bundle["text/html"]
    assert f"— {words}</span>" in bundle["text/html"]
    assert f"[tool] f() -> {words}" in bundle["text/plain"]
    assert words in bundle["text/markdown"]


def test_rounds_are_named_when_there_are_several() -> None:
    second = ToolLine(tool_call_id="2", name="g", arguments="{}", status="ok", round=2)
    assert "round" not in render_bundle(turn(ROWS))["text/html"]
    html = render_bundle(turn(ROWS, second))["text/html"]
    assert "round 1" in html
    assert "round 2" in html


def test_broken_arguments_are_shown_as_the_model_wrote_them() -> None:
    tool = ToolLine(
        tool_call_id="1", name="f", arguments='{"a": <b', status="invalid_arguments", result="not JSON"
    )
    text = "".join(read_strictly(render_bundle(turn(tool))["text/html"]).text)
    assert 'f({"a": <b)' in text
    assert "Error\nnot JSON" in text


def test_a_long_tool_value_is_shortened_with_a_note() -> None:
    tool = ToolLine(tool_call_id="1", name="f", arguments="{}", status="ok", result="x" * 1_000_000)
    html = render_bundle(turn(tool))["text/html"]
    assert len(html) < 20_000
    assert "990,000 more characters, not shown" in html


def card(**known: Any) -> ToolLine:
    return ToolLine(
        **{"tool_call_id": "1", "name": "f", "arguments": "{}", "status": "ok", "result": "r", **known}
    )


def test_a_card_is_the_same_alone_and_in_the_bundle() -> None:
    for show_round, blocks in ((False, (ROWS,)), (True, (ROWS, card(round=2)))):
        assert tool_card_html(ROWS, show_round) in render_bundle(turn(*blocks))["text/html"]


def test_a_card_of_a_tool_that_runs_has_no_result_yet() -> None:
    text = "".join(read_strictly(tool_card_html(card(status="running", result=None), False)).text)
    assert text.rstrip() == "f() — running…\nArguments\n{}"


@pytest.mark.parametrize("value", ["x" * 1_500, "x\n" * 20])
def test_a_value_that_is_not_long_is_shown_whole(value: str) -> None:
    html = tool_card_html(card(result=value), False)
    assert html.count("<details") == 1
    assert value in html


@pytest.mark.parametrize(
    ("value", "head", "total"),
    [("x" * 5_000, "x" * 1_500, "5,000"), ("".join(f"{n}\n" for n in range(400)), "18\n19", "1,490")],
)
def test_a_long_value_shows_its_head_and_unfolds_to_the_whole(value: str, head: str, total: str) -> None:
    html = tool_card_html(card(result=value), False)
    first, _, rest = html.partition(f"{head}…</code></pre>")
    assert "Result" in first
    assert f"Show all {total} characters</summary>" in rest
    assert f"<code>{value}</code>" in rest
    assert "not shown" not in rest
    assert tool_card_html(card(arguments=value), False).count("Show all") == 1


def test_a_value_beyond_the_limit_says_where_the_rest_is() -> None:
    html = tool_card_html(card(result="x\n" * 50_000), False)
    assert "Show 10,000 of 100,000 characters" in html
    assert "… 90,000 more characters, not shown: see recorder.tools" in html


TABLE = TableDisplay(("", "city", "speed"), (("0", "Oslo", "1.5"), ("1", "<b>", "NaN")), 2, 2, index_columns=1)


def test_a_table_is_a_table_with_its_size() -> None:
    html = tool_card_html(card(display=TABLE, result="| city |"), False)
    reader = read_strictly(html)
    assert "Result · 2 rows × 2 columns\n" in "".join(reader.text)
    assert "| city |" not in html
    assert [html.count(tag) for tag in ("<table", "<tr>", '<th scope="col"', '<th scope="row"', "<td")] == [
        1,
        3,
        3,
        2,
        4,
    ]
    assert ">&lt;b&gt;</td>" in html
    numbers = [
        cell.partition("</t")[0].rpartition(">")[2] for cell in html.split("<t") if "text-align:right" in cell
    ]
    assert numbers == ["", "speed", "0", "1.5", "1", "NaN"]


@pytest.mark.parametrize(
    ("rows", "columns", "says"),
    [
        (1000, 3, "1,000 rows × 3 columns, first 20 shown"),
        (1000, 30, "1,000 rows × 30 columns, first 20 rows and 20 columns shown"),
        (20, 30, "20 rows × 30 columns, first 20 columns shown"),
        (1, 1, "1 row × 1 column"),
        (0, 2, "0 rows × 2 columns"),
    ],
)
def test_a_table_that_was_cut_says_so(rows: int, columns: int, says: str) -> None:
    names = tuple(f"c{number}" for number in range(min(columns, 20)))
    line = tuple("x" for _ in names)
    bundle = render_bundle(turn(card(display=TableDisplay(names, (line,) * min(rows, 20), rows, columns))))
    assert f"Result · {says}</div>" in bundle["text/html"]
    assert f"> {says}\n" in bundle["text/markdown"]


def test_a_table_without_columns_is_its_size() -> None:
    html = tool_card_html(card(display=TableDisplay((), (), 3, 0)), False)
    assert "Result · 3 rows × 0 columns</div>" in html
    assert "<table" not in html


def test_a_table_larger_than_its_limits_is_cut_where_it_is_shown() -> None:
    line = ("x" * 5_000,) * 100
    bundle = render_bundle(turn(card(display=TableDisplay(line, (line,) * 5_000, 5_000, 100))))
    read_strictly(bundle["text/html"])
    assert bundle["text/html"].count("<td") == 400
    assert all(len(text) < 500_000 for text in bundle.values())


def test_a_table_is_a_quoted_table_in_markdown_and_one_line_in_plain_text() -> None:
    bundle = render_bundle(turn(card(display=TABLE, latency_s=0.5), TextBlock("after")))
    assert bundle["text/markdown"].startswith(
        "> **tool** `f()` → done, 0.50 s\n"
        ">\n"
        "> 2 rows × 2 columns\n"
        ">\n"
        "> |  | city | speed |\n"
        "> | ---: | --- | ---: |\n"
        "> | 0 | Oslo | 1.5 |\n"
        "> | 1 | &lt;b&gt; | NaN |\n"
        "\n"
        "after"
    )
    assert bundle["text/plain"].startswith("[tool] f() -> done 0.50 s\n\nafter")
    again = render_markdown_html(bundle["text/markdown"])
    assert again.count("<table ") == 1
    assert again.count("<td") == 6


def test_an_image_is_shown_in_the_page_and_needs_no_click() -> None:
    picture = ImageDisplay("image/png", png())
    bundle = render_bundle(turn(card(name="plot", display=picture)))
    reader = read_strictly(bundle["text/html"])
    assert reader.sources == ["data:image/png;base64," + base64.b64encode(png()).decode()]
    assert '<img class="createagents-image" alt="image returned by plot" src="data:' in bundle["text/html"]
    assert ' open><summary style="cursor:pointer"><code>plot()' in bundle["text/html"]
    assert f"image: image/png, 1 × 1 pixels, {len(png())} bytes" in bundle["text/markdown"]
    assert "base64" not in bundle["text/markdown"] + bundle["text/plain"] + json.dumps(bundle[BUNDLE_MIME])


def test_an_image_that_is_too_large_is_not_in_the_page() -> None:
    huge = ImageDisplay("image/png", png(100_000, 100_000))
    assert "<img" not in tool_card_html(card(display=huge), False)


def test_reasoning_is_folded_and_marked() -> None:
    html = render_bundle(turn(ReasoningBlock("**so**")))["text/html"]
    assert '<details class="createagents-reasoning"' in html
    assert "<em>Reasoning</em></summary>" in html
    assert "<strong>so</strong>" in html


@pytest.mark.parametrize(
    ("status", "words"),
    [("ok", "done"), ("cancelled", "stopped"), ("error", "failed"), ("limit", "tool limit reached")],
)
def test_the_end_is_told_in_words(status: Any, words: str) -> None:
    bundle = render_bundle(turn(TextBlock("x"), status=status))
    assert bundle["text/plain"] == f"x\n\nanalyst · openai/gpt-4.1-mini · {words}"
    assert f"gpt-4.1-mini · {words}</div>" in bundle["text/html"]
    assert bundle["text/markdown"].endswith(f"{words}*")


def test_the_status_line_has_every_number_that_is_known() -> None:
    plain = render_bundle(
        turn(elapsed_s=3.21, ttft_s=0.4, input_tokens=23, output_tokens=1540, tokens_per_s=48.2, demo=True)
    )["text/plain"]
    assert plain == (
        "analyst · openai/gpt-4.1-mini · done · 3.2 s · first token 0.40 s · 23 → 1,540 tokens · 48 tokens/s"
        " · demo provider: canned text"
    )


@pytest.mark.parametrize(
    ("cost", "words"),
    [
        (0.0, "$0"),
        (0.000001, "<$0.0001"),
        (0.0001, "$0.00010"),
        (0.00423, "$0.0042"),
        (0.0423, "$0.042"),
        (0.1, "$0.10"),
        (1.255, "$1.25"),
        (1234.5, "$1,234.50"),
    ],
)
def test_the_cost_is_told_with_the_digits_that_mean_something(cost: float, words: str) -> None:
    assert format_dollars(cost) == words
    plain = render_bundle(turn(tokens_per_s=48.2, cost_usd=cost, demo=True))["text/plain"]
    assert plain.endswith(f"done · 48 tokens/s · {words} · demo provider: canned text")


def test_the_cost_is_left_out_where_it_is_unknown() -> None:
    assert "$" not in render_bundle(turn())["text/plain"]


def test_an_error_is_shown_after_the_text_that_arrived() -> None:
    bundle = render_bundle(
        turn(TextBlock("half an ans"), status="error", error_type="ServerError", error_text="502 <bad> gateway")
    )
    assert "half an ans\n\nServerError: 502 <bad> gateway" in bundle["text/plain"]
    assert "<strong>ServerError</strong>: 502 &lt;bad&gt; gateway" in bundle["text/html"]
    assert "**ServerError**: 502 &lt;bad&gt; gateway" in bundle["text/markdown"]


def test_no_script_no_stylesheet_and_dollars_left_alone() -> None:
    html = render_bundle(turn(TextBlock("costs $5 or $6"), ROWS))["text/html"]
    assert html.startswith('<div class="createagents-turn mathjax_ignore tex2jax_ignore" ')
    assert "mathjax_process" not in html
    assert "<script" not in html
    assert "<style" not in html


def test_markdown_keeps_its_structure() -> None:
    source = """# Head *line*

Some **bold**, ~~gone~~, `code`, [link](https://x.example/?a=1&b=2) and $a_1 + b$.

- [ ] open
- [x] done
  - deeper

3. three
4. four

> quoted
> - list

| left | right |
| :--- | ---: |
| a | b |

```python
print("$x")
```

$$
x^2
$$

***

last\\
line"""
    markdown = render_bundle(turn(TextBlock(source)))["text/markdown"]
    expected = source.replace("?a=1&b=2", "?a=1&amp;b=2")
    assert markdown == expected + "\n\n*analyst · openai/gpt-4.1-mini · done*"


@pytest.mark.parametrize(
    "source",
    [
        "1) a\n2) b\n\n<!-- -->\n\n1. c",
        "- a\n\n  b\n- c",
        "a  \nb",
        "+ x\n* y",
        "> a\n\n> b",
        "*a***b**",
        "10. x\n\n    y",
    ],
)
def test_markdown_that_was_written_again_reads_the_same(source: str) -> None:
    again = render_bundle(turn(TextBlock(source)))["text/markdown"].rpartition("\n\n*analyst")[0]
    assert "".join(render_markdown_html(again).split()) == "".join(render_markdown_html(source).split())


def test_text_that_looks_like_markup_is_text_in_markdown() -> None:
    source = "1\\. no list \\# no head \\*plain\\* a_b_c \\- x"
    again = render_bundle(turn(TextBlock(source)))["text/markdown"].rpartition("\n\n*analyst")[0]
    assert render_markdown_html(again) == "<p>1. no list # no head *plain* a_b_c - x</p>\n"


def test_tables_tasks_and_strikethrough_are_rendered() -> None:
    html = render_markdown_html("| a | b |\n|:-:|--:|\n| 1 | 2 |\n\n- [x] done\n- [ ] open\n\n~~old~~")
    assert '<th style="text-align:center">a</th>' in html
    assert '<td style="text-align:right">2</td>' in html
    assert "☑ done" in html
    assert "☐ open" in html
    assert "<s>old</s>" in html


def test_code_is_coloured_by_the_theme_of_the_page() -> None:
    html = render_markdown_html("```py\ndef f(): pass\n```\n\n```brainfuck\n+++\n```")
    code = f'<code class="language-python" style="{styles.CODE}">'
    assert f'{code}<span style="color:var(--jp-mirror-editor-keyword-color,#' in html
    assert f'<code style="{styles.CODE}">+++\n</code>' in html


def test_wide_tables_and_code_scroll_and_are_not_broken_in_words() -> None:
    html = render_markdown_html("| a_long_name | b |\n|---|---|\n| 1 | 2 |\n\n```\na long line\n```")
    table, _, code = html.partition('<div class="highlight"')
    assert table.startswith('<div style="overflow-x:auto;overflow-wrap:normal;margin:0 0 1em"><table ')
    assert table.endswith("</table></div>\n")
    assert "overflow-x:auto" in code
    assert "white-space:pre;" in code
