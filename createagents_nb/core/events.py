"""Events, the elements of a stream, whichever provider it comes from.

A piece of text is a plain ``str``, so nothing is built per token. Everything else is one of the small frozen
records below.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

from ..text import STATUS_LABELS
from .records import CallStatus, ToolStatus
from .tool_display import ToolDisplay

__all__ = [
    "ApprovalDecided",
    "ApprovalRequested",
    "AttemptEnded",
    "Event",
    "Notice",
    "ProviderDetails",
    "Reasoning",
    "ReplySource",
    "RoundEnded",
    "ServerToolStep",
    "TextWasReasoning",
    "ToolCallFinished",
    "ToolCallRequested",
    "ToolCallStarted",
    "TurnDone",
    "Usage",
    "cost_in_usd",
    "count_or_none",
    "cut_by",
    "ended_early",
    "is_cut",
    "is_failed",
    "is_filtered",
    "number_or_none",
    "status_label",
]


@dataclass(frozen=True, slots=True)
class ReplySource:
    """Which server wrote something, as which model, and under which key."""

    server: str
    """Its address, without path and query."""
    model: str
    key_fingerprint: str = ""
    """SHA-256 of the key, in hex; empty for a server without one."""


@dataclass(frozen=True, slots=True)
class ProviderDetails:
    """Opaque fields of a reply that its server wants back unchanged, such as signatures of its reasoning.

    They go back to the server, model and key that they came from, and to no other. They are never shown.
    """

    source: ReplySource
    fields: Mapping[str, Any] = field(repr=False, hash=False)
    """JSON as the server sent it."""


@dataclass(frozen=True, slots=True)
class Reasoning:
    """A piece of the model's thinking, for servers that send it."""

    text: str


@dataclass(frozen=True, slots=True)
class Notice:
    """A line for the user that is not part of the answer, such as what a server waits for.

    The tool loop passes on each text once per agent, and every view shows it. It is not sent to a model.
    """

    text: str


@dataclass(frozen=True, slots=True)
class TextWasReasoning:
    """The text of the round so far was the model's thinking, which only its end has shown.

    A model whose template opens ``<think>`` writes the closing tag alone. The text is taken back: it is no part of
    the answer, the history or the record.
    """

    reasoning: str
    """In place of the text."""


@dataclass(frozen=True, slots=True)
class ToolCallRequested:
    """The model asks for a tool."""

    tool_call_id: str
    name: str
    arguments: str
    """JSON as the model wrote it, which may be broken."""
    provider_details: ProviderDetails | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class ToolCallStarted:
    """A tool call begins; a tool that needs approval waits for that first."""

    tool_call_id: str
    name: str
    round: int


@dataclass(frozen=True, slots=True)
class ApprovalRequested:
    """A call waits for a decision."""

    tool_call_id: str
    name: str
    round: int
    is_open: bool
    """Whether ``response.decide`` takes it; else ``approve=`` of the agent was asked."""


@dataclass(frozen=True, slots=True)
class ApprovalDecided:
    """A call that waited was decided on; a rejected one finishes next."""

    tool_call_id: str
    name: str
    round: int
    approved: bool
    arguments: str | None = None
    """JSON, if the user changed the arguments."""


@dataclass(frozen=True, slots=True)
class ToolCallFinished:
    """A tool call ended, however it did."""

    tool_call_id: str
    name: str
    round: int
    status: ToolStatus
    latency_s: float | None
    """None if the tool did not run."""
    result: str
    """The text sent to the model: the result, or an error message that it can act on."""
    display: ToolDisplay | None = None
    """A table or an image, shown to the user in place of the text."""
    error: str | None = None
    """Why it failed, as in `ToolExecutionResult.error`; None after a success."""


@dataclass(frozen=True, slots=True)
class ServerToolStep:
    """A step of a tool that the provider runs itself, such as a web search: shown, and nothing is run for it.

    The same id comes again when the step ends.
    """

    tool_call_id: str
    name: str
    """The tool, such as ``web_search``."""
    status: Literal["running", "ok", "error"]
    arguments: str = "{}"
    """JSON: what the tool was asked, as far as the provider says."""
    result: str = ""
    """A short text about the result; empty where the provider gives none."""
    round: int = 1
    """Set by the tool loop."""


@dataclass(frozen=True, slots=True)
class Usage:
    """Token counts, server timings and cost of one round trip; None for what the server does not report."""

    input_tokens: int | None = None
    output_tokens: int | None = None
    cached_tokens: int | None = None
    reasoning_tokens: int | None = None
    load_s: float | None = None
    prompt_eval_s: float | None = None
    eval_s: float | None = None
    cost_usd: float | None = None

    def checked(self) -> Usage:
        """A copy with None in place of impossible values: negative counts, half tokens, infinite seconds."""
        return Usage(
            input_tokens=count_or_none(self.input_tokens),
            output_tokens=count_or_none(self.output_tokens),
            cached_tokens=count_or_none(self.cached_tokens),
            reasoning_tokens=count_or_none(self.reasoning_tokens),
            load_s=number_or_none(self.load_s),
            prompt_eval_s=number_or_none(self.prompt_eval_s),
            eval_s=number_or_none(self.eval_s),
            cost_usd=cost_in_usd(self.cost_usd),
        )


_MAX_COUNT = 2**53
"""Limit for a token count; sums of this size still fit in 64 bits."""


def count_or_none(reported: object) -> int | None:
    """A count as the server reports it; None for a value that cannot be one."""
    if isinstance(reported, bool) or not isinstance(reported, int | float) or not 0 <= reported <= _MAX_COUNT:
        return None
    return int(reported) if reported == int(reported) else None


def number_or_none(reported: object) -> float | None:
    """A number as the server reports it; None for one that is negative, NaN or infinite."""
    if isinstance(reported, bool) or not isinstance(reported, int | float):
        return None
    try:
        number = float(reported)
    except OverflowError:
        return None
    return number if 0 <= number < math.inf else None


def cost_in_usd(reported: object) -> float | None:
    """A cost as the server reports it; None for one that is negative, NaN, infinite or not a number."""
    return number_or_none(reported)


_CUT = frozenset(
    {
        "context_length_exceeded",
        "context_window_exceeded",
        "error_limit",
        "incomplete",
        "length",
        "max_completion_tokens",
        "max_length",
        "max_output_tokens",
        "max_tokens",
        "model_context_window_exceeded",
        "model_length",
        "token_limit",
    }
)
_CUT_BY_CONTEXT = frozenset(
    {
        "context_length_exceeded",
        "context_window_exceeded",
        "error_limit",
        "model_context_window_exceeded",
        "model_length",
    }
)
_FILTERED = frozenset(
    {
        "blocklist",
        "content_blocked",
        "content_filter",
        "content_filter_error",
        "content_filtered",
        "error_toxic",
        "guardrail_intervened",
        "image_safety",
        "language",
        "moderation",
        "prohibited_content",
        "recitation",
        "refusal",
        "safety",
        "sensitive",
        "spii",
    }
)
_FAILED = frozenset(
    {
        "abort",
        "cancelled",
        "error",
        "failed",
        "insufficient_system_resource",
        "malformed_function_call",
        "network_error",
        "time_limit",
        "timeout",
        "tool_call_error",
        "unexpected_tool_call",
    }
)
# Besides OpenAI's: `model_length` and `error` are Mistral's; `safety` to `spii` and `malformed_function_call` are
# in Gemini's FinishReason; `sensitive`, `network_error` and `model_context_window_exceeded` z.ai's;
# `guardrail_intervened` and `content_filtered` Bedrock's; `error_limit` and `error_toxic` Cohere's;
# `insufficient_system_resource` DeepSeek's; `abort` vLLM's and SGLang's; `unexpected_tool_call` is Gemini's, too.


def is_cut(finish_reason: object) -> bool:
    """Whether a round ended because of a limit on its tokens, by the server's word for it.

    >>> is_cut("length"), is_cut("MAX_TOKENS"), is_cut("stop")
    (True, True, False)
    """
    words = _words(finish_reason)
    return not words.isdisjoint(_CUT) and words.isdisjoint(_FILTERED)


def is_filtered(finish_reason: object) -> bool:
    """Whether a content filter ended a round, by the server's word for it.

    >>> is_filtered("content-filter"), is_filtered("SAFETY"), is_filtered("stop")
    (True, True, False)
    """
    return not _words(finish_reason).isdisjoint(_FILTERED)


def is_failed(finish_reason: object) -> bool:
    """Whether an error ended a round, by the server's word for it.

    >>> is_failed("error"), is_failed("stop")
    (True, False)
    """
    return not _words(finish_reason).isdisjoint(_FAILED)


def ended_early(finish_reason: object) -> bool:
    """Whether a limit, a filter or an error ended a round, so that its tool calls must not run."""
    return is_cut(finish_reason) or is_filtered(finish_reason) or is_failed(finish_reason)


def cut_by(finish_reason: object) -> str:
    """What cut off a round for which `is_cut` is True: ``max_tokens``, or the model's context.

    >>> cut_by("length"), cut_by("model_length")
    ('max_tokens', "the model's context")
    """
    return "max_tokens" if _words(finish_reason).isdisjoint(_CUT_BY_CONTEXT) else "the model's context"


def status_label(status: str, finish_reason: object = None) -> str:
    """The status of a turn in words.

    >>> status_label("limit", "length"), status_label("limit", "tool_calls")
    ('cut off by max_tokens', 'tool limit reached')
    """
    if status == "limit" and is_cut(finish_reason):
        return f"cut off by {cut_by(finish_reason)}"
    return STATUS_LABELS.get(status, "unknown state")


def _words(finish_reason: object) -> set[str]:
    """The reason in lower case with underscores, in its parts: Gemini sends ``content_filter: SAFETY``."""
    if not isinstance(finish_reason, str):
        return set()
    return {part.strip().replace("-", "_").replace(" ", "_") for part in finish_reason.lower().split(":")}


@dataclass(frozen=True, slots=True)
class RoundEnded:
    """The last event of a round trip.

    Attributes:
        finish_reason: ``stop``, ``length``, ``tool_calls``, ``content_filter``… as the server reports it.
        usage: token counts, timings and cost.
        first_output_at: ``time.perf_counter()`` of the first text or tool-call token, None without one.
        generation_s: seconds from the first token to the last: as the server reports it, else as they arrived;
            None if all arrived at once.
        model: the model that answered, as the server names it.
        retries: how often the request was sent again before it was answered.
        provider_details: opaque fields of the whole message that the server wants back.
        adjusted: what was left out of the request or renamed in it after the server refused it.
    """

    finish_reason: str | None = None
    usage: Usage = Usage()
    first_output_at: float | None = None
    generation_s: float | None = None
    model: str | None = None
    retries: int = 0
    provider_details: ProviderDetails | None = field(default=None, repr=False)
    adjusted: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptEnded:
    """Reports which provider a request went to; the request's record names the last one.

    Sent by wrappers; a plain provider need not send it.
    """

    provider: str
    model: str
    server: str | None = None
    """Host name."""
    price_provider: str | None = None
    telemetry_provider: str | None = None
    replayed: bool = False
    """Whether the answer comes from a recording."""
    error: Exception | None = None
    """Why this attempt failed; None for the one that answers."""


@dataclass(frozen=True, slots=True)
class TurnDone:
    """The last event of a turn, however it ends."""

    status: CallStatus
    error: BaseException | None = None


Event: TypeAlias = (
    str
    | Reasoning
    | TextWasReasoning
    | Notice
    | ToolCallRequested
    | ToolCallStarted
    | ApprovalRequested
    | ApprovalDecided
    | ToolCallFinished
    | ServerToolStep
    | AttemptEnded
    | RoundEnded
    | TurnDone
)
