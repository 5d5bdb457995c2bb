"""A turn's states and numbers in words: never told by colour alone."""

from __future__ import annotations

import json
import math
import re
from dataclasses import replace

from ..core.messages import decode_arguments
from ..text import INVISIBLE, STATUS_WORDS, clean_text, dollars, one_line, seconds
from .snapshot import ToolLine, TurnSnapshot

__all__ = [
    "CALL_WORDS",
    "TOOL_WORDS",
    "call_of",
    "editable_arguments",
    "pretty_arguments",
    "running_status",
    "status_parts",
    "tool_state",
]

CALL_WORDS = STATUS_WORDS | {"running": "streaming…"}
TOOL_WORDS = STATUS_WORDS | {"running": "running…", "waiting": "waiting for approval", "not_run": "not run"}

_MAX_ARGUMENTS_CHARS = 20_000
_MAX_INDENTED_DEPTH = 50
"""Indented, a text grows with the square of its depth."""
_UNSEEN = re.compile(f"{INVISIBLE}|[\u2028\u2029\ud800-\udfff]")


def _arguments(text: str) -> object:
    if len(text) > _MAX_ARGUMENTS_CHARS:
        return None
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def call_of(tool: ToolLine) -> str:
    """The call on one short line, as one would write it: ``rows(limit=3)``."""
    found = _arguments(tool.arguments)
    if isinstance(found, dict):
        inner = ", ".join(f"{key}={json.dumps(value, ensure_ascii=False)}" for key, value in found.items())
    else:
        inner = tool.arguments
    return f"{one_line(tool.name, 60)}({one_line(inner, 80)})"


def pretty_arguments(text: str) -> str:
    """Arguments as indented JSON where they are JSON, else as the model wrote them."""
    found = _arguments(text)
    if found is None or _depth(text) > _MAX_INDENTED_DEPTH:
        return clean_text(text)
    return _revealed(json.dumps(found, indent=2, ensure_ascii=False))


def editable_arguments(text: str) -> str:
    """Arguments that a tool takes, whole, as JSON that reads back as the same."""
    indent = 2 if _depth(text) <= _MAX_INDENTED_DEPTH else None
    return _revealed(json.dumps(decode_arguments(text), indent=indent, ensure_ascii=False))


def _revealed(json_text: str) -> str:
    """Characters that nobody sees as their escapes: who approves a call must see what it is."""
    return _UNSEEN.sub(lambda found: json.dumps(found[0])[1:-1], json_text)


def _depth(text: str) -> int:
    """How deep brackets nest in ``text``, those in strings counted too."""
    depth = deepest = 0
    for char in text:
        depth += (char in "[{") - (char in "]}")
        deepest = max(deepest, depth)
    return deepest


def tool_state(tool: ToolLine, show_round: bool = False) -> list[str]:
    """How a call went, in parts: ``["done", "0.02 s", "round 2"]``."""
    state = [TOOL_WORDS.get(tool.status, "unknown state")]
    if tool.is_edited:
        state.append("edited by the user")
    if tool.latency_s is not None:
        state.append(seconds(tool.latency_s))
    if show_round:
        state.append(f"round {int(tool.round)}")
    return state


def _state(turn: TurnSnapshot) -> str:
    waits = any(isinstance(block, ToolLine) and block.status == "waiting" for block in turn.blocks)
    return TOOL_WORDS["waiting"] if waits and turn.status == "running" else CALL_WORDS[turn.status]


def status_parts(turn: TurnSnapshot) -> list[str]:
    """The status line in parts, unknown ones left out."""
    parts = [one_line(turn.agent, 60), one_line(f"{turn.provider}/{turn.model}", 120), _state(turn)]
    if turn.elapsed_s is not None:
        parts.append(seconds(turn.elapsed_s))
    if turn.ttft_s is not None:
        parts.append(f"first token {seconds(turn.ttft_s)}")
    if turn.input_tokens is not None and turn.output_tokens is not None:
        parts.append(f"{turn.input_tokens:,} → {turn.output_tokens:,} tokens")
    elif turn.output_tokens is not None:
        parts.append(f"{turn.output_tokens:,} tokens out")
    elif turn.input_tokens is not None:
        parts.append(f"{turn.input_tokens:,} tokens in")
    if turn.tokens_per_s is not None and math.isfinite(turn.tokens_per_s):
        parts.append(f"{turn.tokens_per_s:.0f} tokens/s")
    if turn.cost_usd is not None:
        parts.append(dollars(turn.cost_usd))
    if turn.demo:
        parts.append("demo provider: canned text")
    return [part for part in parts if part]


def running_status(turn: TurnSnapshot) -> list[str | None]:
    """The status line of a turn that runs, or ran: None stands where a page puts the time that passes."""
    parts: list[str | None] = [*status_parts(replace(turn, elapsed_s=None))]
    parts.insert(parts.index(_state(turn)) + 1, None)
    return parts
