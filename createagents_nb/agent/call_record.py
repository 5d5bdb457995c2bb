"""What is known of a call when it has ended: frozen, units in the names, None where unknown.

The core knows no DataFrame: it hands these records to a `RecordSink`.
"""

from __future__ import annotations

from contextvars import ContextVar
from dataclasses import dataclass
from datetime import datetime
from typing import Literal, Protocol

__all__ = [
    "CallRecord",
    "CallStatus",
    "CellRef",
    "RecordSink",
    "RequestRecord",
    "ToolRecord",
    "ToolStatus",
    "current_cell",
]

CallStatus = Literal["running", "ok", "cancelled", "error", "limit"]
ToolStatus = Literal["ok", "error", "timeout", "unknown_tool", "invalid_arguments", "cancelled"]


@dataclass(frozen=True, slots=True)
class CellRef:
    """The notebook cell in which a call was made."""

    cell_id: str | None = None
    execution_count: int | None = None


current_cell: ContextVar[CellRef] = ContextVar("createagents_nb_current_cell", default=CellRef())  # noqa: B039 - frozen
"""Set by the notebook before each cell; tasks started in a cell inherit it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CallRecord:
    """One turn: a user message and all that answered it.

    It is recorded twice under the same ``call_id``: opened with status ``running``, settled when the
    turn ends, however it ends.
    """

    call_id: str
    started_at: datetime
    """UTC."""
    agent: str
    provider: str
    model: str
    status: CallStatus
    latency_s: float | None = None
    """From the call to its end, by a monotonic clock."""
    ttft_s: float | None = None
    """From the call to the first text or tool call of its first round."""
    tokens_per_s: float | None = None
    """Output tokens over generation time: waiting and tools do not count."""
    input_tokens: int | None = None
    output_tokens: int | None = None
    cached_tokens: int | None = None
    reasoning_tokens: int | None = None
    cost_usd: float | None = None
    """As the server reports it, of the rounds of which it does."""
    rounds: int = 0
    tool_calls: int = 0
    error_type: str | None = None
    error: str | None = None
    prompt: str | None = None
    response: str | None = None
    cell_id: str | None = None
    execution_count: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestRecord:
    """One round trip to the provider."""

    call_id: str
    round: int
    """1 for the first request of a turn."""
    started_at: datetime
    provider: str
    model: str
    """The model that was asked for."""
    status: CallStatus
    response_model: str | None = None
    """The model that says it answered; it may differ."""
    finish_reason: str | None = None
    latency_s: float | None = None
    ttft_s: float | None = None
    tokens_per_s: float | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None
    cached_tokens: int | None = None
    reasoning_tokens: int | None = None
    cost_usd: float | None = None
    load_s: float | None = None
    prompt_eval_s: float | None = None
    eval_s: float | None = None
    retries: int = 0
    error_type: str | None = None
    error: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolRecord:
    """One execution of a tool."""

    call_id: str
    tool_call_id: str
    round: int
    tool: str
    arguments: str
    """JSON, as the model wrote it."""
    status: ToolStatus
    started_at: datetime
    latency_s: float | None = None
    result: str | None = None
    """As the model was told it."""
    error: str | None = None


class RecordSink(Protocol):
    """Where records go. Called on the event loop's thread: must return at once and never raise."""

    def call_opened(self, record: CallRecord) -> None: ...

    def call_settled(self, record: CallRecord) -> None: ...

    def request_settled(self, record: RequestRecord) -> None: ...

    def tool_settled(self, record: ToolRecord) -> None: ...
