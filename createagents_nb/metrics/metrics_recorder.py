"""MetricsRecorder: keeps the records that agents hand over, and turns them into frames when asked."""

from __future__ import annotations

import time
import uuid
from asyncio import CancelledError
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from functools import wraps
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec

from createagents_nb.agent.call_record import CallRecord, CallStatus, RequestRecord, ToolRecord, current_cell
from createagents_nb.errors import TurnStopped
from createagents_nb.logging_config import LoggingConfig, redact

from .columns import CALLS, REQUESTS, TOOLS, as_row
from .reply import Reply, read_reply
from .store import Table
from .summary import plain_summary, table_summary

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["MetricsRecorder"]

_log = LoggingConfig.get_logger(__name__)
_STOPPED = (CancelledError, GeneratorExit, KeyboardInterrupt, TurnStopped)
_P = ParamSpec("_P")


def _never_raises(
    method: Callable[Concatenate[MetricsRecorder, _P], None],
) -> Callable[Concatenate[MetricsRecorder, _P], None]:
    @wraps(method)
    def guarded(self: MetricsRecorder, /, *args: _P.args, **kwargs: _P.kwargs) -> None:
        try:
            method(self, *args, **kwargs)
        except Exception as error:  # a call must not fail because its metrics could not be kept
            _log.warning("%s: not recorded: %r", method.__name__, error)

    return guarded


class MetricsRecorder:
    """Every call, request and tool execution, in memory, as three DataFrames that join by ``call_id``.

    Agents in several threads and event loops may share one. Recording costs a few microseconds; pandas is
    imported when the first frame is taken.

    Args:
        metrics_list: each settled call is also appended to it, as a plain dict with the columns of `calls`
            (None where unknown).
        record_content: False keeps no prompt, response, tool arguments or tool result; error messages
            stay. May be set later, for what follows.

    Example:
        >>> mine = MetricsRecorder()
        >>> agent = CreateAgent(provider="demo", recorder=mine)
        >>> await agent.chat("Hello")
        >>> mine.calls[["model", "status", "latency_s", "output_tokens"]]
        >>> mine.tools.merge(mine.calls[["call_id", "model"]], on="call_id")
    """

    def __init__(self, metrics_list: list[dict[str, Any]] | None = None, *, record_content: bool = True) -> None:
        self.record_content = record_content
        self._metrics_list = metrics_list
        self.clear()

    def clear(self) -> None:
        """Forget everything; frames taken before stay as they are.

        A call that is running gets its row when it settles.
        """
        self._calls: Table[CallRecord] = Table(CALLS)
        self._requests: Table[RequestRecord] = Table(REQUESTS)
        self._tools: Table[ToolRecord] = Table(TOOLS)

    # What agents call: a RecordSink.

    @_never_raises
    def call_opened(self, record: CallRecord) -> None:
        """A call has started: its row has status ``running`` until it is settled."""
        self._calls.put(self._call_to_keep(record), record.call_id)

    @_never_raises
    def call_settled(self, record: CallRecord) -> None:
        """A call has ended, however it ended; its running row is replaced."""
        record = self._call_to_keep(record)
        self._calls.put(record, record.call_id)
        if self._metrics_list is not None:
            self._metrics_list.append(as_row(CALLS, record))

    @_never_raises
    def request_settled(self, record: RequestRecord) -> None:
        """A round trip to the provider has ended."""
        self._requests.put(record)

    @_never_raises
    def tool_settled(self, record: ToolRecord) -> None:
        """A tool has been executed, or could not be."""
        self._tools.put(record if self.record_content else replace(record, arguments="", result=None))

    def _call_to_keep(self, record: CallRecord) -> CallRecord:
        if self.record_content or (record.prompt is None and record.response is None):
            return record
        return replace(record, prompt=None, response=None)

    # What a handler written by hand calls.

    @_never_raises
    def record_success_metrics(
        self, model: str, start_time: float, response_api: object, provider_type: str | None = None
    ) -> None:
        """Enter a request that was made outside an agent, as one request and one call of one round.

        Args:
            model: the model that was asked for.
            start_time: ``time.time()`` when the request was made.
            response_api: an OpenAI ``ChatCompletion``, an Ollama ``ChatResponse``, either as a dict, the text
                alone, or None. Usage is read where it is.
            provider_type: name of the provider, such as ``"openai"``.

        Example:
            >>> start = time.time()
            >>> reply = await client.chat.completions.create(model="gpt-4.1-mini", messages=messages)
            >>> recorder.record_success_metrics(
            ...     model="gpt-4.1-mini", start_time=start, response_api=reply, provider_type="openai")
        """
        self._record_by_hand(model, start_time, provider_type, "ok", read_reply(response_api))

    @_never_raises
    def record_error_metrics(
        self,
        model: str,
        start_time: float,
        error: BaseException | str,
        provider_type: str | None = None,
    ) -> None:
        """Enter a request that failed; its status is ``cancelled`` when it was stopped, else ``error``.

        Arguments are those of `record_success_metrics`; keys in the error's message are masked.
        """
        status: CallStatus = "cancelled" if isinstance(error, _STOPPED) else "error"
        self._record_by_hand(model, start_time, provider_type, status, Reply(), error)

    def _record_by_hand(
        self,
        model: str,
        start_time: float,
        provider: str | None,
        status: CallStatus,
        reply: Reply,
        error: BaseException | str | None = None,
    ) -> None:
        started_at, latency_s = _since(start_time)
        cell = current_cell.get()
        both: dict[str, Any] = {
            "call_id": uuid.uuid4().hex,
            "started_at": started_at,
            "provider": provider or "",
            "model": model or "",
            "status": status,
            "latency_s": latency_s,
            "tokens_per_s": reply.tokens_per_s,
            "input_tokens": reply.usage.input_tokens,
            "output_tokens": reply.usage.output_tokens,
            "cached_tokens": reply.usage.cached_tokens,
            "reasoning_tokens": reply.usage.reasoning_tokens,
            "cost_usd": reply.usage.cost_usd,
            "error_type": type(error).__name__ if isinstance(error, BaseException) else None,
            "error": None if error is None else redact(str(error)),
        }
        request = RequestRecord(
            **both,
            round=1,
            response_model=reply.model,
            finish_reason=reply.finish_reason,
            load_s=reply.usage.load_s,
            prompt_eval_s=reply.usage.prompt_eval_s,
            eval_s=reply.usage.eval_s,
        )
        call = CallRecord(
            **both,
            agent="",
            rounds=1,
            response=reply.text,
            cell_id=cell.cell_id,
            execution_count=cell.execution_count,
        )
        self.request_settled(request)
        self.call_settled(call)

    # What people look at.

    @property
    def calls(self) -> pd.DataFrame:
        """One row a call, a running one included; a snapshot that later calls do not change."""
        return self._calls.frame()

    @property
    def requests(self) -> pd.DataFrame:
        """One row a round trip to a provider."""
        return self._requests.frame()

    @property
    def tools(self) -> pd.DataFrame:
        """One row a tool execution."""
        return self._tools.frame()

    @property
    def call_records(self) -> list[CallRecord]:
        """The calls as records, oldest first; a copy."""
        return self._calls.records()

    @property
    def request_records(self) -> list[RequestRecord]:
        """The requests as records, oldest first; a copy."""
        return self._requests.records()

    @property
    def tool_records(self) -> list[ToolRecord]:
        """The tool executions as records, oldest first; a copy."""
        return self._tools.records()

    def __len__(self) -> int:
        return len(self._calls)

    def __bool__(self) -> bool:
        return True  # `recorder or default` must not lose a recorder that is still empty

    def __repr__(self) -> str:
        return plain_summary(len(self._calls), len(self._requests), len(self._tools))

    def _repr_html_(self) -> str:
        return table_summary(repr(self), self.call_records)


def _since(start_time: float) -> tuple[datetime, float | None]:
    try:
        return datetime.fromtimestamp(start_time, UTC), time.time() - start_time
    except (TypeError, ValueError, OverflowError, OSError):
        return datetime.now(UTC), None
