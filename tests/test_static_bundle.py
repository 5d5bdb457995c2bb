from __future__ import annotations

import json
from typing import Any

import pytest
from html_whitelist import read_strictly

from createagents_nb.notebook.static_bundle import (
    BUNDLE_MIME,
    ReasoningBlock,
    TextBlock,
    ToolLine,
    TurnSnapshot,
    render_bundle,
    render_markdown_html,
)

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


def test_a_running_turn_has_no_record_yet_and_says_that_it_streams() -> None:
    bundle = render_bundle(turn(TextBlock("```python\nx = "), status="running"))
    assert BUNDLE_MIME not in bundle
    assert "streaming…" in bundle["text/html"]
    assert 'class="language-python"' in bundle["text/html"]


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
    assert '<code class="language-python"><span style="color:var(--jp-mirror-editor-keyword-color,#' in html
    assert "<code>+++\n</code>" in html
