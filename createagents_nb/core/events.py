"""What a stream is made of, whoever the provider is.

A piece of text is a plain ``str``: nothing is built per token. Everything else is one of these.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TypeAlias

from .records import CallStatus, ToolStatus
from .tool_display import ToolDisplay

__all__ = [
    "ApprovalDecided",
    "ApprovalRequested",
    "Event",
    "Reasoning",
    "RoundEnded",
    "ToolCallFinished",
    "ToolCallRequested",
    "ToolCallStarted",
    "TurnDone",
    "Usage",
    "cost_in_usd",
    "count_or_none",
    "number_or_none",
]


@dataclass(frozen=True, slots=True)
class Reasoning:
    """A piece of the model's thinking, where the server sends it."""

    text: str


@dataclass(frozen=True, slots=True)
class ToolCallRequested:
    """The model asks for a tool."""

    tool_call_id: str
    name: str
    arguments: str
    """JSON as the model wrote it, which may be broken."""


@dataclass(frozen=True, slots=True)
class ToolCallStarted:
    """Its turn has come; where the tool needs approval, that is waited for first."""

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
    """A call that waited has its decision; one that was rejected is finished next."""

    tool_call_id: str
    name: str
    round: int
    approved: bool
    arguments: str | None = None
    """JSON, where they are not the model's any more."""


@dataclass(frozen=True, slots=True)
class ToolCallFinished:
    tool_call_id: str
    name: str
    round: int
    status: ToolStatus
    latency_s: float | None
    """None for a call that nobody approved."""
    result: str
    """As the model is told it: the result, or the error in words it can act on."""
    display: ToolDisplay | None = None
    """As the user may be shown it, where that is more than the text."""


@dataclass(frozen=True, slots=True)
class Usage:
    """Token counts, server timings and cost of one round trip; None where the server does not say."""

    input_tokens: int | None = None
    output_tokens: int | None = None
    cached_tokens: int | None = None
    reasoning_tokens: int | None = None
    load_s: float | None = None
    prompt_eval_s: float | None = None
    eval_s: float | None = None
    cost_usd: float | None = None

    def checked(self) -> Usage:
        """The same, None for what cannot be: a count below 0, half a token, seconds without an end."""
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
"""More than any server has counted, and sums of it still fit 64 bits."""


def count_or_none(reported: object) -> int | None:
    """A server's own count; None for what cannot be one."""
    if isinstance(reported, bool) or not isinstance(reported, int | float) or not 0 <= reported <= _MAX_COUNT:
        return None
    return int(reported) if reported == int(reported) else None


def number_or_none(reported: object) -> float | None:
    """A server's own number; None for what cannot be one: negative, NaN, infinite."""
    if isinstance(reported, bool) or not isinstance(reported, int | float):
        return None
    try:
        number = float(reported)
    except OverflowError:
        return None
    return number if 0 <= number < math.inf else None


def cost_in_usd(reported: object) -> float | None:
    """A server's own figure; None for what cannot be a cost: no number, negative, NaN, infinite."""
    return number_or_none(reported)


@dataclass(frozen=True, slots=True)
class RoundEnded:
    """The last event of a round trip.

    Attributes:
        finish_reason: ``stop``, ``length``, ``tool_calls``, ``content_filter``… as the server says it.
        first_output_at: ``time.perf_counter()`` of the first text or tool-call token, None if there was none.
        generation_s: how long tokens were generated, in seconds: as the server says it, else from the first to the
            last that arrived; None when they all came at once.
        model: the model that says it answered.
        retries: how often the request was sent again before it was answered.
    """

    finish_reason: str | None = None
    usage: Usage = Usage()
    first_output_at: float | None = None
    generation_s: float | None = None
    model: str | None = None
    retries: int = 0


@dataclass(frozen=True, slots=True)
class TurnDone:
    """The last event of a turn, however it ends."""

    status: CallStatus
    error: BaseException | None = None


Event: TypeAlias = (
    str
    | Reasoning
    | ToolCallRequested
    | ToolCallStarted
    | ApprovalRequested
    | ApprovalDecided
    | ToolCallFinished
    | RoundEnded
    | TurnDone
)
