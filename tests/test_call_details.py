"""One call in full: what is said of it, and what its texts cannot do to a terminal or a page."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hostile import HOSTILE, NAMES, aimed
from html_whitelist import read_strictly
from hypothesis import given
from hypothesis import strategies as st

from createagents_nb.core.records import CallRecord, RequestRecord, ToolRecord
from createagents_nb.metrics.call_details import MAX_TOOLS, CallDetails
from createagents_nb.metrics.columns import STATUSES
from createagents_nb.text import INVISIBLE, STATUS_LABELS, format_dollars, format_seconds

STARTED = datetime(2026, 3, 1, 12, 30, 15, tzinfo=UTC)
OPENING = '<div class="createagents-call mathjax_ignore tex2jax_ignore" '


def call(**fields: Any) -> CallRecord:
    known = {
        "agent": "ana",
        "provider": "openai",
        "model": "gpt-4.1",
        "status": "ok",
        "prompt": "Hi",
        "response": "Yo",
    }
    return CallRecord(**{"call_id": "c1", "started_at": STARTED, **known, **fields})


def request(number: int = 1, **fields: Any) -> RequestRecord:
    known = {"provider": "openai", "model": "gpt-4.1", "status": "ok"}
    return RequestRecord(**{"call_id": "c1", "started_at": STARTED, "round": number, **known, **fields})


def tool(number: int = 1, **fields: Any) -> ToolRecord:
    known = {"tool_call_id": "t1", "tool": "rows", "arguments": '{"limit": 3}', "status": "ok", "result": "42"}
    return ToolRecord(**{"call_id": "c1", "started_at": STARTED, "round": number, **known, **fields})


def html_of(details: CallDetails) -> str:
    """The HTML, which must be whole and harmless."""
    html = details._repr_html_()
    assert html.startswith(OPENING)
    # The class apart, it is written as the answers that a notebook saves.
    reader = read_strictly(html.replace("createagents-call", "createagents-turn", 1))
    assert not reader.hrefs
    assert not reader.sources
    assert not re.search(r"\n[ \t]*\n", html)
    assert not re.search(INVISIBLE, html)
    html.encode()
    return html


def read(details: CallDetails) -> str:
    """The text of the HTML."""
    html = html_of(details)
    return "".join(read_strictly(html.replace("createagents-call", "createagents-turn", 1)).text)


def both(details: CallDetails) -> list[str]:
    text = repr(details)
    assert not re.search(INVISIBLE, text)
    text.encode()
    return [text, read(details)]


FULL = CallDetails(
    call(
        latency_s=3.25,
        ttft_s=0.4,
        input_tokens=1_200,
        output_tokens=85,
        cached_tokens=1_000,
        cost_usd=0.0042,
        rounds=2,
        tool_calls=2,
        prompt="How many rows?",
        response="There are 42.",
        execution_count=7,
    ),
    [
        request(2, latency_s=1.0, finish_reason="stop", retries=2),
        request(
            1,
            response_model="gpt-4.1-2025-04-14",
            finish_reason="tool_calls",
            latency_s=1.5,
            ttft_s=0.4,
            tokens_per_s=80.0,
            input_tokens=600,
            output_tokens=40,
            cached_tokens=500,
            reasoning_tokens=30,
            cost_usd=0.002,
        ),
    ],
    [
        tool(1, latency_s=0.02),
        tool(
            1, tool="disk", tool_call_id="t2", status="timeout", latency_s=61, result=None, error="took too long"
        ),
    ],
)


def test_a_call_is_told_in_full() -> None:
    for text in both(FULL):
        for part in (
            "Call c1",
            "ana · openai/gpt-4.1 · done · 2026-03-01 12:30:15 UTC · cell [7]",
            "How many rows?",
            "Round 1",
            "gpt-4.1-2025-04-14 · done · finish reason tool_calls · 1.5 s · first token 0.40 s · "
            "600 tokens in (500 cached) · 40 tokens out (30 reasoning) · 80 tokens/s · $0.0020",
            'rows({"limit": 3})',
            "done · 0.02 s",
            "42",
            "timed out · 1 min 1 s",
            "took too long",
            "Round 2",
            "gpt-4.1 · done · finish reason stop · 1.0 s · 2 retries",
            "There are 42.",
            "Total · 2 rounds · 2 tool calls · 3.2 s · first token 0.40 s · 1,200 tokens in (1,000 cached) · "
            "85 tokens out · $0.0042",
        ):
            assert part in text


def test_what_happened_first_is_told_first() -> None:
    for text in both(FULL):
        places = [
            text.index(part) for part in ("Prompt", "Round 1", "rows(", "disk(", "Round 2", "Answer", "Total")
        ]
        assert places == sorted(places)


def test_the_text_form_is_indented() -> None:
    details = CallDetails(call(prompt="a\nAnswer\nb"), [request()], [tool(latency_s=0.5)])
    assert repr(details).split("\n") == [
        "Call c1 · ana · openai/gpt-4.1 · done · 2026-03-01 12:30:15 UTC",
        "Prompt",
        "    a",
        "    Answer",
        "    b",
        "Round 1 · gpt-4.1 · done",
        '    [tool] rows({"limit": 3}) -> done · 0.50 s',
        "        Arguments",
        '            {"limit": 3}',
        "        Result",
        "            42",
        "Answer",
        "    Yo",
        "Total not known",
    ]


def test_records_of_other_calls_are_left_out() -> None:
    details = CallDetails(call(), [request(call_id="c2"), request()], [tool(call_id="c2"), tool()])
    assert len(details.requests) == len(details.tools) == 1


def test_nothing_but_a_call() -> None:
    for text in both(CallDetails(call())):
        assert "Round" not in text
        assert "Total not known" in text


def test_a_tool_without_its_request_has_its_round() -> None:
    for text in both(CallDetails(call(), [], [tool(3)])):
        assert "Round 3" in text


def test_a_running_call() -> None:
    running = CallDetails(
        call(status="running", response=None),
        [request(status="running")],
        [tool(status="running", result=None)],
    )
    for text in both(running):
        assert "openai/gpt-4.1 · running" in text
        assert "Answer: not there yet" in text
        assert "Result: not there yet" in text
        assert "Total not known yet" in text
        assert "not kept" not in text


def test_content_that_is_not_kept_is_said_to_be_so() -> None:
    details = CallDetails(
        call(prompt=None, response=None),
        [request()],
        [
            tool(arguments="", result=None),
            tool(arguments="", result=None, status="error", error="ValueError", tool_call_id="t2"),
        ],
    )
    for text in both(details):
        assert "Prompt: not kept" in text
        assert "Answer: not kept" in text
        assert "Arguments: none, or not kept" in text
        assert text.count("Result: not kept") == 1
        assert "ValueError" in text


def test_an_empty_answer_is_an_answer() -> None:
    for text in both(CallDetails(call(response=""))):
        assert "(empty)" in text
        assert "not kept" not in text


def test_errors_are_told() -> None:
    details = CallDetails(
        call(status="error", error_type="ServerError", error="it broke", response="half"),
        [request(status="error", error_type="ServerError", error="it broke <b>")],
    )
    for text in both(details):
        assert "ServerError: it broke" in text
        assert "it broke <b>" in text
        assert "gpt-4.1 · failed" in text
        assert "half" in text


def test_an_error_of_a_request_that_ended_the_call_is_told_once() -> None:
    wrong = {"status": "error", "error_type": "ServerError", "error": "it broke"}
    for text in both(CallDetails(call(**wrong), [request(), request(2, **wrong)])):
        assert text.count("ServerError: it broke") == 1


@pytest.mark.parametrize("status", sorted({*STATUSES["calls"], *STATUSES["requests"], *STATUSES["tools"]}))
def test_every_status_has_its_words(status: Any) -> None:
    details = CallDetails(call(status=status), [request(status=status)], [tool(status=status)])
    for text in both(details):
        assert text.count(STATUS_LABELS[status]) >= 3


def test_a_status_nobody_knows_is_no_error() -> None:
    status: Any = "<b>odd"
    for text in both(CallDetails(call(status=status), [request(status=status)], [tool(status=status)])):
        assert "unknown state" in text
        assert "odd" not in text


def test_numbers_that_are_none_are_left_out() -> None:
    odd: dict[str, Any] = {
        "latency_s": float("nan"),
        "ttft_s": float("inf"),
        "tokens_per_s": float("nan"),
        "cost_usd": float("nan"),
        "cached_tokens": 5,
    }
    for text in both(CallDetails(call(**odd), [request(**odd)])):
        assert not re.search(r"nan|inf|None", text)
        assert "5 cached tokens" in text


def test_long_texts_are_shortened_with_what_is_left_out() -> None:
    details = CallDetails(
        call(prompt="p" * 100_000, response="r\n" * 100_000), [request()], [tool(result="x" * 500_000)]
    )
    for text, most in zip(both(details), (20_000, 80_000), strict=True):
        assert len(text) < most
        assert re.search(r"… 49\d,\d00 more characters, not shown: see recorder\.tools", text)
        assert text.count("not shown: see recorder.calls") == 2
    assert len(html_of(details)) < 100_000


def test_very_many_tools_are_not_all_shown() -> None:
    many = [
        tool(number, tool_call_id=f"t{number}", result=f"result {number}.") for number in range(MAX_TOOLS + 50)
    ]
    for text in both(CallDetails(call(), [], many)):
        assert f"result {MAX_TOOLS - 1}." in text
        assert f"result {MAX_TOOLS}." not in text
        assert "… 50 more tool calls, not shown: see recorder.tools" in text


def test_tools_are_folded_and_the_style_is_that_of_saved_answers() -> None:
    html = html_of(FULL)
    assert html.count('<details class="createagents-tool"') == 2
    assert "<details open" not in html
    assert not re.search(r"<(script|style|link|img|a|svg)\b", html)


def test_blank_lines_are_kept_and_none_ends_the_html_block() -> None:
    details = CallDetails(call(prompt="a\n\n\n# b", response="\n\n<script>\n\n"), [], [tool(result="x\n \t\ny")])
    text = read(details)
    assert "a\n\n\n# b" in text
    assert "x\n \t\ny" in text


# Hostile texts

EVIL = [
    "\x1b]8;;javascript:alert(1)\x07click\x1b]8;;\x07 \x1b[2J\x1b[31mred\x9b1m",
    "\u202egnp.exe \u2066x\u2069 zero\u200bwidth \ufeff \U000e0041",
    "half \ud800 a pair \udfff",
    "a\r\x08\x00\x07b\u2028c\x85d",
    "$\\href{javascript:alert(1)}{x}$ \\(x\\) $$y$$",
    "</code></pre></details></div><script>alert(1)</script>\n\n<img src=x onerror=alert(1)>",
    "&lt;b&gt; &amp; &#10;&#10; &#x202e;",
]


def filled(payload: str) -> CallDetails:
    """A call with ``payload`` in every place that holds a text."""
    status: Any = payload
    return CallDetails(
        call(
            call_id="c1",
            agent=payload,
            provider=payload,
            model=payload,
            error_type=payload,
            error=payload,
            prompt=payload,
            response=payload,
        ),
        [
            request(
                1,
                model=payload,
                response_model=payload,
                finish_reason=payload,
                error_type=payload,
                error=payload,
                status=status,
            )
        ],
        [
            tool(1, tool=payload, tool_call_id=payload, arguments=payload, result=payload),
            tool(1, tool=payload, tool_call_id="t2", arguments=payload, error=payload, result=None, status=status),
        ],
    )


def test_hostile_texts_are_texts() -> None:
    for payload in [*EVIL, *(aimed(text) for text in [*HOSTILE, *NAMES])]:
        both(filled(payload))


@given(st.text(st.characters(codec=None), max_size=60))
def test_any_text_is_a_text(payload: str) -> None:
    both(filled(payload))


def test_hostile_html_is_shown_as_it_was_written() -> None:
    assert EVIL[5] in read(CallDetails(call(prompt=EVIL[5])))


@given(st.text(st.sampled_from(["\n", "\r", " ", "\t", "a", "<", "\u2028", "\x1b"]), max_size=30))
def test_no_text_makes_a_line_blank_or_a_label_of_its_own(payload: str) -> None:
    wrong = {"error_type": "E", "error": f"x{payload}"}
    details = CallDetails(call(prompt=payload, **wrong), [request(error=f"y{payload}")], [tool(result=payload)])
    html_of(details)
    outermost = [line for line in repr(details).split("\n") if line and not line.startswith(" ")]
    assert [line.split()[0] for line in outermost] == ["Call", "Prompt", "Round", "Answer", "E:", "Total"]


def test_a_call_id_of_another_kind() -> None:
    for text in both(CallDetails(call(call_id="<b>\n" * 100))):
        assert "<b> <b>" in text


def test_times_of_another_zone_and_of_none() -> None:
    east = call(started_at=STARTED.astimezone(tz=None).replace(tzinfo=None))
    assert "UTC" in repr(CallDetails(east))
    assert "12:30:15 UTC" in repr(CallDetails(call(started_at=STARTED + timedelta(0))))


@pytest.mark.parametrize(
    ("value", "words"),
    [(0.02, "0.02 s"), (3.25, "3.2 s"), (125, "2 min 5 s"), (0, "0.00 s"), (float("inf"), "? s")],
)
def test_seconds_in_words(value: float | None, words: str) -> None:
    assert format_seconds(value) == words


@pytest.mark.parametrize(
    ("value", "words"), [(12.5, "$12.50"), (0.0042, "$0.0042"), (0.13, "$0.13"), (0, "$0"), (1e-9, "<$0.0001")]
)
def test_dollars_in_words(value: float, words: str) -> None:
    assert format_dollars(value) == words
