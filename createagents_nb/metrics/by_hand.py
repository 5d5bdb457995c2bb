"""Requests that were made outside an agent, entered by hand."""

from __future__ import annotations

import time
import uuid
from asyncio import CancelledError
from datetime import UTC, datetime
from typing import Any

from createagents_nb.agent.call_record import CallRecord, CallStatus, RequestRecord, current_cell
from createagents_nb.errors import TurnStopped
from createagents_nb.logging_config import redact

from .reply import Reply

__all__ = ["records_of", "status_of"]

_STOPPED = (CancelledError, GeneratorExit, KeyboardInterrupt, TurnStopped)


def status_of(error: BaseException | str) -> CallStatus:
    return "cancelled" if isinstance(error, _STOPPED) else "error"


def records_of(
    model: str,
    start_time: float,
    provider: str | None,
    status: CallStatus,
    reply: Reply,
    error: BaseException | str | None = None,
) -> tuple[RequestRecord, CallRecord]:
    """One request, and one call of one round."""
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
    return request, call


def _since(start_time: float) -> tuple[datetime, float | None]:
    try:
        return datetime.fromtimestamp(start_time, UTC), time.time() - start_time
    except (TypeError, ValueError, OverflowError, OSError):
        return datetime.now(UTC), None
