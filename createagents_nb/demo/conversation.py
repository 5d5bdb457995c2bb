"""Requests and replies of the demo "model", independent of the wire format, and the names of its models."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

__all__ = [
    "MODELS",
    "THINKING_MODEL",
    "AnswerOptions",
    "ChatMessage",
    "DemoReply",
    "DemoRequest",
    "Tool",
    "ToolCall",
    "canonical_model",
]

THINKING_MODEL = "demo-thinking"
MODELS = ("demo", "demo-instant", THINKING_MODEL)


@dataclass(frozen=True, slots=True)
class Tool:
    """A tool offered by the client; ``parameters`` is its JSON Schema."""

    name: str
    description: str = ""
    parameters: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A tool call, made by the model or contained in the history."""

    name: str
    arguments: Mapping[str, Any]
    id: str | None = None


@dataclass(frozen=True, slots=True)
class ChatMessage:
    """A message; ``tool_call_id`` and ``name``, if known, identify the call that a ``tool`` message answers."""

    role: str
    content: str
    tool_calls: tuple[ToolCall, ...] = ()
    tool_call_id: str | None = None
    name: str | None = None


@dataclass(frozen=True, slots=True)
class AnswerOptions:
    """Options of a request.

    Attributes:
        tool_choice: ``auto``, ``none`` or ``required``.
        forced_tool: name of the tool that must be called, or None.
        think: whether to reason before the answer.
        max_tokens: maximum number of tokens to generate; None for no limit.
        stop: the answer is cut before the first of these texts.
        json_schema: answer with JSON of this schema (``{}`` for any object); None for Markdown.
    """

    tool_choice: str = "auto"
    forced_tool: str | None = None
    think: bool = False
    max_tokens: int | None = None
    stop: tuple[str, ...] = ()
    json_schema: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class DemoRequest:
    """A chat request in either wire format; ``model`` is spelled as the client did."""

    model: str
    messages: tuple[ChatMessage, ...]
    tools: tuple[Tool, ...]
    options: AnswerOptions
    stream: bool
    include_usage: bool = False
    prompt_tokens: int = 0


@dataclass(frozen=True, slots=True)
class DemoReply:
    """The reply of the "model" in one round: text or tool calls."""

    content: str = ""
    tool_calls: tuple[ToolCall, ...] = ()
    reasoning: str = ""

    @property
    def finish_reason(self) -> Literal["stop", "tool_calls"]:
        return "tool_calls" if self.tool_calls else "stop"


def canonical_model(name: str) -> str | None:
    """Return the demo model for ``name``, which may end in Ollama's ``:latest``, or None.

    >>> canonical_model("demo:latest")
    'demo'
    """
    name = name.removesuffix(":latest")
    return name if name in MODELS else None
