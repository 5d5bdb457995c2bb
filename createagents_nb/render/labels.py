"""States and figures of turns and tool calls as words, so that nothing depends on color alone."""

from __future__ import annotations

import json
import math
import re
from dataclasses import replace

from ..core.events import status_label
from ..core.messages import decode_arguments
from ..text import INVISIBLE, STATUS_LABELS, clean_text, format_dollars, format_seconds, one_line
from .snapshot import ToolLine, TurnSnapshot

__all__ = [
    "TOOL_WORDS",
    "call_of",
    "editable_arguments",
    "plain_state",
    "pretty_arguments",
    "running_status",
    "status_parts",
    "tool_state",
    "turn_state",
]

_STREAMING = "streaming…"
TOOL_WORDS = STATUS_LABELS | {"running": "running…", "waiting": "waiting for approval", "not_run": "not run"}

_BY_PROVIDER = "run by the provider"

_MAX_ARGUMENTS_CHARS = 20_000
_MAX_INDENTED_DEPTH = 50
"""Limit for indenting: indented JSON grows with the square of its depth."""
_INVISIBLE = re.compile(f"{INVISIBLE}|[\u2028\u2029\ud800-\udfff]")


def _parsed_arguments(text: str) -> object:
    if len(text) > _MAX_ARGUMENTS_CHARS:
        return None
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def call_of(tool: ToolLine) -> str:
    """The call on one short line, as in Python: ``rows(limit=3)``."""
    found = _parsed_arguments(tool.arguments)
    if isinstance(found, dict):
        inside = ", ".join(f"{key}={json.dumps(value, ensure_ascii=False)}" for key, value in found.items())
    else:
        inside = tool.arguments
    return f"{one_line(tool.name, 60)}({one_line(inside, 80)})"


def pretty_arguments(text: str) -> str:
    """Arguments as indented JSON; as the model wrote them if they are not JSON."""
    found = _parsed_arguments(text)
    if found is None or _depth(text) > _MAX_INDENTED_DEPTH:
        return clean_text(text)
    return _escape_invisible(json.dumps(found, indent=2, ensure_ascii=False))


def editable_arguments(text: str) -> str:
    """All arguments of a tool call, as JSON that reads back unchanged."""
    indent = 2 if _depth(text) <= _MAX_INDENTED_DEPTH else None
    return _escape_invisible(json.dumps(decode_arguments(text), indent=indent, ensure_ascii=False))


def _escape_invisible(json_text: str) -> str:
    """Show invisible characters as escapes, so that an approver sees what a call contains."""
    return _INVISIBLE.sub(lambda found: json.dumps(found[0])[1:-1], json_text)


def _depth(text: str) -> int:
    """Nesting depth of brackets in ``text``, including those in strings."""
    depth = deepest = 0
    for char in text:
        depth += (char in "[{") - (char in "]}")
        deepest = max(deepest, depth)
    return deepest


def tool_state(tool: ToolLine, show_round: bool = False) -> list[str]:
    """State of a tool call in parts: ``["done", "0.02 s", "round 2"]``."""
    state = [TOOL_WORDS.get(tool.status, "unknown state")]
    if tool.by_provider:
        state.append(_BY_PROVIDER)
    if tool.is_edited:
        state.append("edited by the user")
    if tool.latency_s is not None:
        state.append(format_seconds(tool.latency_s))
    if show_round:
        state.append(f"round {int(tool.round)}")
    return state


def plain_state(tool: ToolLine) -> str:
    """State of a tool call on a line of plain text."""
    words = " ".join(part for part in tool_state(tool) if part != _BY_PROVIDER)
    return f"{words}, {_BY_PROVIDER}" if tool.by_provider else words


def turn_state(turn: TurnSnapshot) -> str:
    """State of a turn in words."""
    waits = any(isinstance(block, ToolLine) and block.status == "waiting" for block in turn.blocks)
    if turn.status == "running":
        return TOOL_WORDS["waiting"] if waits else _STREAMING
    return status_label(turn.status, turn.finish_reason)


def status_parts(turn: TurnSnapshot) -> list[str]:
    """Parts of the status line; unknown ones are left out."""
    parts = [one_line(turn.agent, 60), one_line(f"{turn.provider}/{turn.model}", 120), turn_state(turn)]
    if turn.elapsed_s is not None:
        parts.append(format_seconds(turn.elapsed_s))
    if turn.ttft_s is not None:
        parts.append(f"first token {format_seconds(turn.ttft_s)}")
    if turn.input_tokens is not None and turn.output_tokens is not None:
        parts.append(f"{turn.input_tokens:,} → {turn.output_tokens:,} tokens")
    elif turn.output_tokens is not None:
        parts.append(f"{turn.output_tokens:,} tokens out")
    elif turn.input_tokens is not None:
        parts.append(f"{turn.input_tokens:,} tokens in")
    if turn.tokens_per_s is not None and math.isfinite(turn.tokens_per_s):
        parts.append(f"{turn.tokens_per_s:.0f} tokens/s")
    if turn.cost_usd is not None:
        parts.append(format_dollars(turn.cost_usd))
    if turn.demo:
        parts.append("demo provider: canned text")
    return [part for part in parts if part]


def running_status(turn: TurnSnapshot) -> list[str | None]:
    """Parts of the status line, with None in place of the elapsed time, which the page fills in."""
    parts: list[str | None] = [*status_parts(replace(turn, elapsed_s=None))]
    parts.insert(parts.index(turn_state(turn)) + 1, None)
    return parts
