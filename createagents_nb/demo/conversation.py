"""What both wire formats are turned into before the "model" sees it, and what it answers with."""

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
    """A tool the client offers; ``parameters`` is its JSON schema."""

    name: str
    description: str = ""
    parameters: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A call, asked for by the model or found in the history."""

    name: str
    arguments: Mapping[str, Any]
    id: str | None = None


@dataclass(frozen=True, slots=True)
class ChatMessage:
    """One message; ``tool_call_id`` and ``name`` say which call a ``tool`` message answers, where known."""

    role: str
    content: str
    tool_calls: tuple[ToolCall, ...] = ()
    tool_call_id: str | None = None
    name: str | None = None


@dataclass(frozen=True, slots=True)
class AnswerOptions:
    """What a request says about how to answer.

    Attributes:
        tool_choice: ``auto``, ``none`` or ``required``.
        forced_tool: the one tool that must be called, or None.
        think: whether to answer with reasoning first.
        max_tokens: pieces to generate at most; None for no limit.
        stop: texts before which the answer is cut.
        json_schema: answer with JSON of this schema (``{}``: any object); None for Markdown.
    """

    tool_choice: str = "auto"
    forced_tool: str | None = None
    think: bool = False
    max_tokens: int | None = None
    stop: tuple[str, ...] = ()
    json_schema: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class DemoRequest:
    """One request for an answer, whichever wire format it came in; ``model`` is as the client wrote it."""

    model: str
    messages: tuple[ChatMessage, ...]
    tools: tuple[Tool, ...]
    options: AnswerOptions
    stream: bool
    include_usage: bool = False
    prompt_tokens: int = 0


@dataclass(frozen=True, slots=True)
class DemoReply:
    """What the "model" says in one round: text, or tool calls."""

    content: str = ""
    tool_calls: tuple[ToolCall, ...] = ()
    reasoning: str = ""

    @property
    def finish_reason(self) -> Literal["stop", "tool_calls"]:
        return "tool_calls" if self.tool_calls else "stop"


def canonical_model(name: str) -> str | None:
    """The demo model that ``name`` means (Ollama's ``:latest`` may follow), or None.

    >>> canonical_model("demo:latest")
    'demo'
    """
    name = name.removesuffix(":latest")
    return name if name in MODELS else None
