"""What is known of a call when it has ended: frozen, units in the names, None where unknown.

The core knows no DataFrame: it hands these records to a `RecordSink`.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Literal, Protocol

__all__ = [
    "CallRecord",
    "CallStatus",
    "CellRef",
    "ContentPolicy",
    "RecordSink",
    "RequestRecord",
    "ToolRecord",
    "ToolStatus",
    "current_cell",
    "redact_call",
    "redact_error",
    "redact_tool",
    "unescape_json",
]

CallStatus = Literal["running", "ok", "cancelled", "error", "limit"]
ToolStatus = Literal[
    "running", "ok", "error", "timeout", "unknown_tool", "invalid_arguments", "rejected", "cancelled"
]


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
    """Of the rounds of which it is known; see `RequestRecord.cost_usd`."""
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
    """One round trip to the provider.

    Recorded twice, as a `CallRecord` is, under ``call_id`` and ``round``.
    """

    call_id: str
    round: int
    """1 for the first request of a turn."""
    started_at: datetime
    provider: str
    model: str
    """The model that was asked for."""
    status: CallStatus
    server: str | None = None
    """Host name of the server that was asked."""
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
    """As the server reports it, else by the prices that the sink knows."""
    load_s: float | None = None
    prompt_eval_s: float | None = None
    eval_s: float | None = None
    retries: int = 0
    error_type: str | None = None
    error: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolRecord:
    """One execution of a tool.

    Recorded twice, as a `CallRecord` is, under ``call_id``, ``round`` and ``tool_call_id``.
    """

    call_id: str
    tool_call_id: str
    round: int
    tool: str
    arguments: str
    """JSON, as the model wrote it, or as whoever approved the call has changed it."""
    status: ToolStatus
    started_at: datetime
    latency_s: float | None = None
    """Waiting for approval does not count; None for a call that nobody approved."""
    result: str | None = None
    """As the model was told it."""
    error: str | None = None


ContentPolicy = Callable[[str], str | None]
"""What may be kept of something that was said; None: nothing."""


def redact_call(record: CallRecord, keep: ContentPolicy) -> CallRecord:
    """``record`` with what may be kept of prompt and response."""
    if record.prompt is None and record.response is None and record.error is None:
        return record
    prompt, response, error = (
        _kept(record.prompt, keep),
        _kept(record.response, keep),
        redact_error(record.error, keep),
    )
    if prompt is record.prompt and response is record.response and error is record.error:
        return record
    return replace(record, prompt=prompt, response=response, error=error)


def redact_error(error: str | None, keep: ContentPolicy) -> str | None:
    """A provider's message: masked, where nothing is kept of what was said it stays as it is."""
    return error if error is None else (keep(error) or error)


def redact_tool(record: ToolRecord, keep: ContentPolicy) -> ToolRecord:
    """``record`` with what may be kept of arguments, result and error, which may quote an argument."""
    arguments = keep(unescape_json(record.arguments))
    result, error = _kept(record.result, keep), _kept(record.error, keep)
    if arguments is record.arguments and result is record.result and error is record.error:
        return record
    if error is None and record.error is not None:
        error = record.error.partition(":")[0]
    return replace(record, arguments=arguments or "", result=result, error=error)


def unescape_json(arguments: str) -> str:
    """JSON with letters in place of their escapes, so that what looks for words finds them."""
    if "\\u" not in arguments:
        return arguments
    try:
        text = json.dumps(json.loads(arguments), ensure_ascii=False)
    except (ValueError, RecursionError):
        return arguments
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")  # half a surrogate pair is no letter


def _kept(text: str | None, keep: ContentPolicy) -> str | None:
    return None if text is None else keep(text)


class RecordSink(Protocol):
    """Where records go.

    Called on the event loop's thread: each must return at once and, but for `admit`, never raise.
    """

    def admit(self, round_number: int) -> None:
        """Called before each request of a turn.

        Args:
            round_number: 1 for the first.

        Raises:
            BudgetExceededError: it must not be sent.
        """

    def call_opened(self, record: CallRecord) -> None: ...

    def call_settled(self, record: CallRecord) -> None: ...

    def request_opened(self, record: RequestRecord) -> None: ...

    def request_settled(self, record: RequestRecord) -> None: ...

    def tool_opened(self, record: ToolRecord) -> None: ...

    def tool_settled(self, record: ToolRecord) -> None: ...

    def cost_usd(self, record: RequestRecord) -> float | None:
        """What a request cost of which the server did not tell; None if that is not known."""

    def content_policy(self) -> ContentPolicy:
        """What tells, of a turn that begins now, what may be kept of it."""
