"""One call in full, as text for a terminal and as HTML for a page."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from html import escape
from typing import Any, Final, TypeGuard

from ..core.events import status_label
from ..core.preview import as_visible_json
from ..core.records import CallContext, CallRecord, ContextMessage, RequestRecord, ToolRecord
from ..render import styles
from ..text import STATUS_LABELS, format_dollars, format_seconds, one_line, shorten

__all__ = ["CallDetails"]

MAX_TOOLS: Final = 100
"""Limit for tool executions shown of one call."""

# Limits in characters and lines: ``content`` for prompt and answer, ``context`` for what a call was asked with
# besides, ``tool`` for arguments and results.
_PAGE: Final = {"content": (20_000, 2_000), "context": (50_000, 5_000), "tool": (4_000, 400)}
_TERMINAL: Final = {"content": (4_000, 100), "context": (4_000, 100), "tool": (600, 12)}
_WHOLE: Final = {
    "content": "recorder.calls",
    "context": "recorder.show(…).call.context",
    "tool": "recorder.tools",
}
"""Where a text is whole."""

_BLANK_LINE = re.compile(r"\n(?=[ \t]*\n)")


class CallDetails:
    """A call with its requests and tool executions, shown as text in a terminal and as HTML in a notebook.

    Long texts are shortened with a note; the frames have them in full.

    Args:
        call: running or ended.
        requests: requests, of which those of other calls are left out.
        tools: tool executions, likewise.

    Attributes:
        call: the record of the call.
        requests: its requests, by round.
        tools: its tool executions, by round and start.

    Example:
        >>> from datetime import datetime, UTC
        >>> call = CallRecord(call_id="c1", started_at=datetime(2026, 3, 1, tzinfo=UTC), agent="ana",
        ...     provider="demo", model="m", status="ok", latency_s=1.5, prompt="Hi", response="Hello")
        >>> print(CallDetails(call))
        Call c1 · ana · demo/m · done · 2026-03-01 00:00:00 UTC
        Prompt
            Hi
        Answer
            Hello
        Total · 1.5 s
    """

    def __init__(
        self, call: CallRecord, requests: Iterable[RequestRecord] = (), tools: Iterable[ToolRecord] = ()
    ) -> None:
        self.call = call
        self.requests = tuple(
            sorted((each for each in requests if each.call_id == call.call_id), key=lambda each: each.round)
        )
        self.tools = tuple(
            sorted(
                (each for each in tools if each.call_id == call.call_id),
                key=lambda each: (each.round, each.started_at),
            )
        )

    def __repr__(self) -> str:
        lines = [" · ".join(_head(self.call))]

        def put(text: str, depth: int) -> None:
            lines.extend("    " * depth + line for line in text.split("\n"))

        def put_text(label: str, text: str | None, absent: str, kind: str, depth: int = 0) -> None:
            if text is None:
                put(f"{label}: {absent}", depth)
                return
            shown, left_out = shorten(text, *_TERMINAL[kind])
            put(label, depth)
            put(shown or "(empty)", depth + 1)
            if left_out:
                put(_left_out(left_out, kind), depth + 1)

        call = self.call
        before, after = _context_texts(call.context)
        for label, text in before:
            put_text(label, text, "not kept", "context")
        put_text("Prompt", call.prompt, "not kept", "content")
        for label, text in after:
            put_text(label, text, "not kept", "context")
        for number, requests, tools in self._rounds():
            if not requests:
                put(f"Round {number}", 0)
            for request in requests:
                put(" · ".join(_request_head(request)), 0)
                if error := _error(request):
                    put(": ".join(error).replace("\n", "\n    "), 1)
            for tool in tools:
                put(f"[tool] {_tool_call(tool)} -> {' · '.join(_tool_state(tool))}", 1)
                for label, text, absent in _tool_texts(tool):
                    put_text(label, text, absent, "tool", 2)
        if len(self.tools) > MAX_TOOLS:
            put(_tools_left_out(len(self.tools)), 1)
        put_text("Answer", *_answer(call), "content")
        if error := self._own_error():
            put(": ".join(error).replace("\n", "\n    "), 0)
        put(" · ".join(_total(call)), 0)
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        call = self.call
        head, *facts = _head(call)
        before, after = _context_texts(call.context)
        parts = [
            '<div class="createagents-call mathjax_ignore tex2jax_ignore" '
            f'style="{styles.TURN}">\n<div><strong>{escape(head)}</strong> '
            f'<span style="{styles.STATE}">· {escape(" · ".join(facts))}</span></div>\n',
            *(_folded_html(label, text) for label, text in before),
            _text_html("Prompt", call.prompt, "not kept", "content"),
            *(_folded_html(label, text) for label, text in after),
        ]
        for number, requests, tools in self._rounds():
            if not requests:
                parts.append(f'<div style="{styles.STATUS}"><strong>Round {escape(str(number))}</strong></div>\n')
            parts.extend(_request_html(request) for request in requests)
            parts.extend(_tool_html(tool) for tool in tools)
        if len(self.tools) > MAX_TOOLS:
            parts.append(_label(_tools_left_out(len(self.tools))))
        parts += [
            _text_html("Answer", *_answer(call), "content"),
            _error_html(self._own_error()),
            f'<div class="createagents-status" style="{styles.STATUS}">'
            f"{escape(' · '.join(_total(call)))}</div>\n</div>",
        ]
        # A blank line would end the HTML block where a notebook is exported as Markdown.
        return _BLANK_LINE.sub("&#10;", "".join(parts))

    def _own_error(self) -> tuple[str, str] | None:
        """The call's error, unless a request has the same one."""
        error = _error(self.call)
        return None if error in [_error(request) for request in self.requests] else error

    def _rounds(self) -> Iterator[tuple[int, Sequence[RequestRecord], Sequence[ToolRecord]]]:
        tools = self.tools[:MAX_TOOLS]
        numbers = {each.round for each in self.requests} | {each.round for each in tools}
        for number in sorted(numbers):
            yield (
                number,
                [each for each in self.requests if each.round == number],
                [each for each in tools if each.round == number],
            )


# Shared by text and HTML


def _head(call: CallRecord) -> list[str]:
    names = [one_line(call.agent, 60), one_line("/".join(filter(None, [call.provider, call.model])), 120)]
    cell = [] if call.execution_count is None else [f"cell [{one_line(str(call.execution_count), 20)}]"]
    status = status_label(call.status, call.finish_reason)
    parts = [f"Call {one_line(call.call_id, 40)}", *names, status, _time(call.started_at), *cell]
    return [part for part in parts if part]


def _request_head(request: RequestRecord) -> list[str]:
    parts = [f"Round {request.round}", one_line(request.response_model or request.model or "", 120)]
    parts.append(STATUS_LABELS.get(request.status, "unknown state"))
    if request.finish_reason:
        parts.append(f"finish reason {one_line(request.finish_reason, 40)}")
    parts += _figures(request)
    if request.retries:
        parts.append(_count(request.retries, "retry", "retries"))
    if request.adjusted:
        parts.append(one_line(request.adjusted, 120))
    return [part for part in parts if part]


def _total(call: CallRecord) -> list[str]:
    parts = ["Total"]
    if call.rounds:
        parts.append(_count(call.rounds, "round"))
    if call.tool_calls:
        parts.append(_count(call.tool_calls, "tool call"))
    parts += _figures(call)
    return parts if len(parts) > 1 else ["Total not known yet" if call.status == "running" else "Total not known"]


def _figures(record: CallRecord | RequestRecord) -> list[str]:
    """Known times, tokens and cost."""
    parts = []
    if _is_number(record.latency_s):
        parts.append(format_seconds(record.latency_s))
    if _is_number(record.ttft_s):
        parts.append(f"first token {format_seconds(record.ttft_s)}")
    for count, name, part, part_name in (
        (record.input_tokens, "tokens in", record.cached_tokens, "cached"),
        (record.output_tokens, "tokens out", record.reasoning_tokens, "reasoning"),
    ):
        share = f"{part:,.0f} {part_name}" if _is_number(part) else ""
        if _is_number(count):
            parts.append(f"{count:,.0f} {name}" + (f" ({share})" if share else ""))
        elif share:
            parts.append(f"{share} tokens")
    if _is_number(record.tokens_per_s):
        parts.append(f"{record.tokens_per_s:,.0f} tokens/s")
    if _is_number(record.cost_usd):
        parts.append(format_dollars(record.cost_usd))
    return parts


def _tool_call(tool: ToolRecord) -> str:
    return f"{one_line(tool.tool, 60) or 'tool'}({one_line(tool.arguments or '', 80)})"


def _tool_state(tool: ToolRecord) -> list[str]:
    state = [STATUS_LABELS.get(tool.status, "unknown state")]
    return [*state, format_seconds(tool.latency_s)] if _is_number(tool.latency_s) else state


def _tool_texts(tool: ToolRecord) -> Iterator[tuple[str, str | None, str]]:
    """Label, text and the words shown if the text is None."""
    # Arguments are empty if content is not kept, and in calls of some models to tools without parameters.
    yield "Arguments", tool.arguments or None, "none, or not kept"
    if tool.error:
        yield "Error", tool.error, ""
    if tool.result is not None or not tool.error:
        yield "Result", tool.result, "not there yet" if tool.status == "running" else "not kept"


def _context_texts(
    context: CallContext | None,
) -> tuple[list[tuple[str, str | None]], list[tuple[str, str | None]]]:
    """What a call was asked with before its prompt and after it: labels and texts; nothing if it is not known."""
    if context is None:
        return [], []
    before: list[tuple[str, str | None]] = []
    if context.system is not None:
        before.append(("System", context.system))
    if context.history:
        label = f"History of {_count(len(context.history), 'message')}"
        before.append((label, "\n".join(map(_history_line, context.history))))
    after: list[tuple[str, str | None]] = []
    if context.tools:
        after.append((f"Tools: {_tool_names(context.tools)}", _indented(context.tools)))
    if context.config:
        after.append(("Config", _indented(context.config)))
    return before, after


def _history_line(message: ContextMessage) -> str:
    more = json.loads(message.more) if message.more else {}
    calls = "".join(f"\n    -> {call.get('name')}({call.get('arguments')})" for call in more.get("tool_calls", ()))
    role = f"tool {more['name']}" if more.get("name") else message.role
    content = "not kept" if message.content is None else message.content
    return f"{role}: {content}{calls}"


def _tool_names(tools: str) -> str:
    return one_line(", ".join(str(tool.get("name")) for tool in json.loads(tools)), 200)


def _indented(text: str) -> str:
    return as_visible_json(json.loads(text))


def _answer(call: CallRecord) -> tuple[str | None, str]:
    if call.status == "running":
        return call.response or None, "not there yet"
    return call.response, "not kept"


def _error(record: CallRecord | RequestRecord) -> tuple[str, str] | None:
    if not (record.error_type or record.error):
        return None
    text, left_out = shorten(record.error or "no message", 2_000, 40)
    return one_line(record.error_type or "Error", 80), text + "…" * bool(left_out)


def _left_out(count: int, kind: str) -> str:
    return f"… {count:,} more characters, not shown: see {_WHOLE[kind]}"


def _tools_left_out(count: int) -> str:
    return f"… {count - MAX_TOOLS:,} more tool calls, not shown: see recorder.tools"


def _count(count: int, one: str, many: str = "") -> str:
    return f"{count:,} {one if count == 1 else many or one + 's'}"


def _is_number(value: float | None) -> TypeGuard[float]:
    return isinstance(value, int | float) and math.isfinite(value)


def _time(moment: Any) -> str:
    if not isinstance(moment, datetime):
        return ""
    in_utc = moment if moment.tzinfo is None else moment.astimezone(UTC)
    return f"{in_utc:%Y-%m-%d %H:%M:%S} UTC"


# HTML


def _request_html(request: RequestRecord) -> str:
    head, *facts = _request_head(request)
    return (
        f'<div style="{styles.STATUS}"><strong>{escape(head)}</strong> · {escape(" · ".join(facts))}</div>\n'
        f"{_error_html(_error(request))}"
    )


def _tool_html(tool: ToolRecord) -> str:
    return (
        f'<details class="createagents-tool" style="{styles.BOX}"><summary style="{styles.SUMMARY}">'
        f"<code>{escape(_tool_call(tool))}</code> "
        f'<span style="{styles.STATE}">— {escape(" · ".join(_tool_state(tool)))}</span></summary>\n'
        + "".join(_text_html(label, text, absent, "tool") for label, text, absent in _tool_texts(tool))
        + "</details>\n"
    )


def _text_html(label: str, text: str | None, absent: str, kind: str) -> str:
    if text is None:
        return _label(f"{label}: {absent}")
    return _label(label) + _value_html(text, kind)


def _value_html(text: str, kind: str) -> str:
    shown, left_out = shorten(text, *_PAGE[kind])
    return (
        f'<pre dir="auto" style="{styles.VALUE}"><code>'
        f"{escape(shown or '(empty)', quote=False)}</code></pre>\n"
        + (_label(_left_out(left_out, kind)) if left_out else "")
    )


def _folded_html(label: str, text: str | None) -> str:
    return (
        f'<details class="createagents-context" style="{styles.BOX}">'
        f'<summary style="{styles.SUMMARY}">{escape(label)}</summary>\n'
        f"{_value_html(text or '', 'context')}</details>\n"
    )


def _error_html(error: tuple[str, str] | None) -> str:
    if error is None:
        return ""
    kind, text = error
    return (
        f'<div class="createagents-error" style="{styles.ERROR}">'
        f"<strong>{escape(kind)}</strong>: {escape(text)}</div>\n"
    )


def _label(text: str) -> str:
    return f'<div style="{styles.LABEL}">{escape(text)}</div>\n'
