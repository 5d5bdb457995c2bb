"""Records of turns, requests and tool executions: frozen, with units in the names, None where unknown.

A *call* in these records is a turn: one user message and everything that answered it. It contains one or more
requests to the provider (rounds) and any number of tool executions, which carry its ``call_id``.

The core knows nothing about DataFrames: it hands these records to a `RecordSink`.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import dataclass, field, fields, replace
from datetime import datetime
from typing import Any, Literal, NamedTuple, Protocol

from ..redaction import mask_keys

__all__ = [
    "CallContext",
    "CallRecord",
    "CallStatus",
    "CellRef",
    "ContentPolicy",
    "ContextMessage",
    "RecordSink",
    "RequestRecord",
    "ToolRecord",
    "ToolStatus",
    "as_saved",
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
    """The notebook cell that made a call."""

    cell_id: str | None = None
    execution_count: int | None = None


current_cell: ContextVar[CellRef] = ContextVar("createagents_nb_current_cell", default=CellRef())  # noqa: B039 - frozen
"""Set by the notebook before each cell runs; tasks started in a cell inherit it."""


class ContextMessage(NamedTuple):
    """A message of the conversation before a call, as it is kept."""

    role: str
    content: str | None
    """Text with media described; None if it is not kept."""
    more: str | None = None
    """Tool calls, and the call that a tool message answers, as a JSON object."""


@dataclass(frozen=True, slots=True)
class CallContext:
    """What a call was asked with besides its prompt, as it is kept: keys masked, media described.

    Equal contexts, messages, tools and configs of a recorder are one object.
    """

    system: str | None = None
    """The instructions."""
    history: tuple[ContextMessage, ...] = ()
    """The conversation that the call saw, oldest first."""
    tools: str | None = None
    """JSON: a list of names, descriptions and schemas."""
    config: str | None = None
    """JSON: the options of the requests."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CallRecord:
    """One turn: a user message and everything that answered it.

    Each call is recorded twice under the same ``call_id``: opened with status ``running``, and settled when the
    turn ends, however it ends.

    ``context`` is added by the recorder. It is not a column and does not count in comparisons.
    """

    call_id: str
    started_at: datetime
    """UTC."""
    agent: str
    provider: str
    model: str
    status: CallStatus
    latency_s: float | None = None
    """From the start of the turn to its end, measured by a monotonic clock."""
    ttft_s: float | None = None
    """Time to first token: from the start of the turn to the first text or tool call of its first round."""
    tokens_per_s: float | None = None
    """Output tokens over generation time, without waiting and tools: those after the first, by the times of their
    arrival, or all of them, by the server's own clock."""
    input_tokens: int | None = None
    output_tokens: int | None = None
    cached_tokens: int | None = None
    reasoning_tokens: int | None = None
    cost_usd: float | None = None
    """Sum over the rounds whose cost is known; see `RequestRecord.cost_usd`."""
    rounds: int = 0
    tool_calls: int = 0
    error_type: str | None = None
    error: str | None = None
    prompt: str | None = None
    response: str | None = None
    cell_id: str | None = None
    execution_count: int | None = None
    finish_reason: str | None = None
    """Why the last round ended, as the server reports it; with status ``limit`` it says whether the answer was cut
    (``length``…) or there were too many rounds of tools."""
    context: CallContext | None = field(default=None, compare=False, repr=False)
    """What the call was asked with; None where no content is kept, and before its first request."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestRecord:
    """One round trip to the provider.

    Recorded twice, like a `CallRecord`, under ``call_id`` and ``round``.

    ``price_provider`` and ``telemetry_provider`` come from the attributes of the same names of the provider. They,
    ``replayed`` and ``request`` are not columns, are not saved, and do not count in comparisons.
    """

    call_id: str
    round: int
    """1 for the first request of a turn."""
    started_at: datetime
    provider: str
    model: str
    """The requested model."""
    status: CallStatus
    server: str | None = None
    """Host name of the server the request was sent to."""
    response_model: str | None = None
    """The model that answered, according to the reply; it may differ from the requested one."""
    finish_reason: str | None = None
    latency_s: float | None = None
    ttft_s: float | None = None
    tokens_per_s: float | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None
    cached_tokens: int | None = None
    reasoning_tokens: int | None = None
    cost_usd: float | None = None
    """As reported by the server, else computed from the sink's prices."""
    load_s: float | None = None
    prompt_eval_s: float | None = None
    eval_s: float | None = None
    retries: int = 0
    error_type: str | None = None
    error: str | None = None
    adjusted: str | None = None
    """What was left out of the request or renamed in it after the server refused it, as in ``without
    stream_options``."""
    context_window: int | None = None
    """Size of the model's context in tokens, prompt and answer together, where it is known."""
    price_provider: str | None = field(default=None, compare=False)
    """Provider id of ``genai-prices`` whose prices apply; None to find it by ``server``; empty for no published
    price, as for a local model."""
    telemetry_provider: str | None = field(default=None, compare=False)
    """``gen_ai.provider.name`` of OpenTelemetry's GenAI conventions; None for the same name as ``provider``."""
    replayed: bool = field(default=False, compare=False)
    """Whether the answer comes from a recording."""
    request: Any = field(default=None, compare=False, repr=False)
    """The `ChatRequest`, in the record that opens the request; sinks keep of it what their policy allows."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolRecord:
    """One execution of a tool.

    Recorded twice, like a `CallRecord`, under ``call_id``, ``round`` and ``tool_call_id``.
    """

    call_id: str
    tool_call_id: str
    round: int
    tool: str
    arguments: str
    """JSON as the model wrote it, or as edited by the approver."""
    status: ToolStatus
    started_at: datetime
    latency_s: float | None = None
    """Without the wait for approval; None for an execution that was not approved."""
    result: str | None = None
    """The text sent back to the model."""
    error: str | None = None


ContentPolicy = Callable[[str], str | None]
"""Maps content (prompt, answer, arguments, result) to what may be kept of it; None to keep nothing."""


def as_saved(record: CallRecord | RequestRecord | ToolRecord) -> dict[str, Any]:
    """The fields of ``record`` that are saved and exported, by name."""
    return {spec.name: getattr(record, spec.name) for spec in fields(record) if spec.compare}


def redact_call(record: CallRecord, policy: ContentPolicy) -> CallRecord:
    """Apply ``policy`` to the prompt, response and error of ``record``."""
    if record.prompt is None and record.response is None and record.error is None:
        return record
    prompt, response, error = (
        _redact(record.prompt, policy),
        _redact(record.response, policy),
        redact_error(record.error, policy),
    )
    if prompt is record.prompt and response is record.response and error is record.error:
        return record
    return replace(record, prompt=prompt, response=response, error=error)


def redact_error(error: str | None, policy: ContentPolicy) -> str | None:
    """Apply ``policy`` to a provider's error message, in which at least keys are masked."""
    return error if error is None else (policy(error) or mask_keys(error))


def redact_tool(record: ToolRecord, policy: ContentPolicy) -> ToolRecord:
    """Apply ``policy`` to arguments, result and error; where it keeps no error, the kind of error stays."""
    arguments = policy(unescape_json(record.arguments))
    result, error = _redact(record.result, policy), _redact(record.error, policy)
    if arguments is record.arguments and result is record.result and error is record.error:
        return record
    if error is None and record.error is not None:
        error = record.error.partition(":")[0]
    return replace(record, arguments=arguments or "", result=result, error=error)


def unescape_json(arguments: str) -> str:
    """JSON with ``\\u`` escapes decoded, so that a content policy can match words in it."""
    if "\\u" not in arguments:
        return arguments
    try:
        text = json.dumps(json.loads(arguments), ensure_ascii=False)
    except (ValueError, RecursionError):
        return arguments
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")  # lone surrogates


def _redact(text: str | None, policy: ContentPolicy) -> str | None:
    return None if text is None else policy(text)


class RecordSink(Protocol):
    """Destination of records.

    Methods are called on the event loop's thread: each must return at once, and only `admit` may raise.
    """

    def admit(self, round_number: int) -> None:
        """Called before each request of a turn.

        Args:
            round_number: 1 for the first.

        Raises:
            BudgetExceededError: the request must not be sent.
        """

    def call_opened(self, record: CallRecord) -> None: ...

    def call_settled(self, record: CallRecord) -> None: ...

    def request_opened(self, record: RequestRecord) -> None: ...

    def request_settled(self, record: RequestRecord) -> None: ...

    def tool_opened(self, record: ToolRecord) -> None: ...

    def tool_settled(self, record: ToolRecord) -> None: ...

    def cost_usd(self, record: RequestRecord) -> float | None:
        """Cost of a request for which the server reported none; None if unknown."""

    def context_window(self, record: RequestRecord) -> int | None:
        """The published size of the context of a request's model, in tokens; None if unknown."""

    def content_policy(self) -> ContentPolicy:
        """The policy for the content of a turn that begins now."""
