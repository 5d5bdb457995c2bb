"""Records of requests made outside an agent, read from the response objects of SDKs."""

from __future__ import annotations

import time
import uuid
from asyncio import CancelledError
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from ..core.events import Usage, cost_in_usd
from ..core.records import CallRecord, CallStatus, RequestRecord, current_cell
from ..errors import TurnStopped
from ..redaction import redact

__all__ = ["SdkResponse", "make_records", "read_response", "status_of"]


@dataclass(frozen=True, slots=True)
class SdkResponse:
    """The values that a response reports about itself; None for those it does not report."""

    text: str | None = None
    model: str | None = None
    finish_reason: str | None = None
    usage: Usage = field(default_factory=Usage)

    @property
    def tokens_per_s(self) -> float | None:
        """Output tokens over the generation time measured by the server; None if it reports none."""
        tokens, seconds = self.usage.output_tokens, self.usage.eval_s
        return tokens / seconds if tokens is not None and seconds is not None and seconds > 0 else None


def read_response(response: object) -> SdkResponse:
    """Read an OpenAI ``ChatCompletion`` or chunk, an Ollama ``ChatResponse``, or either as a dict.

    A string counts as the text; any other object has no known values.
    """
    if isinstance(response, str):
        return SdkResponse(text=response)
    openai_usage = _get(response, "usage")
    choices = _get(response, "choices")
    choice = choices[0] if isinstance(choices, Sequence) and choices and not isinstance(choices, str) else None
    message = _get(choice, "message") or _get(choice, "delta") or _get(response, "message")
    return SdkResponse(
        text=_text(_get(message, "content")),
        model=_text(_get(response, "model")),
        finish_reason=_text(_get(choice, "finish_reason")) or _text(_get(response, "done_reason")),
        usage=(_ollama_usage(response) if openai_usage is None else _openai_usage(openai_usage)).checked(),
    )


def _openai_usage(usage: object) -> Usage:
    return Usage(
        input_tokens=_number(_get(usage, "prompt_tokens")),
        output_tokens=_number(_get(usage, "completion_tokens")),
        cached_tokens=_number(_get(_get(usage, "prompt_tokens_details"), "cached_tokens")),
        reasoning_tokens=_number(_get(_get(usage, "completion_tokens_details"), "reasoning_tokens")),
        cost_usd=cost_in_usd(_get(usage, "cost")),
    )


def _ollama_usage(response: object) -> Usage:
    return Usage(
        input_tokens=_number(_get(response, "prompt_eval_count")),
        output_tokens=_number(_get(response, "eval_count")),
        load_s=_seconds(_get(response, "load_duration")),
        prompt_eval_s=_seconds(_get(response, "prompt_eval_duration")),
        eval_s=_seconds(_get(response, "eval_duration")),
    )


def _get(holder: object, name: str) -> Any:
    try:
        return holder.get(name) if isinstance(holder, Mapping) else getattr(holder, name, None)
    except Exception:  # an object of another library: treat as unknown
        return None


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None


def _number(value: Any) -> Any:
    return value if isinstance(value, int | float) and not isinstance(value, bool) else None


def _seconds(nanoseconds: object) -> float | None:
    number = _number(nanoseconds)
    return None if number is None else number / 1e9


_STOPPED = (CancelledError, GeneratorExit, KeyboardInterrupt, TurnStopped)


def status_of(error: BaseException | str) -> CallStatus:
    """``cancelled`` for an error that says the request was stopped, else ``error``."""
    return "cancelled" if isinstance(error, _STOPPED) else "error"


def make_records(
    model: str,
    start_time: float,
    provider: str | None,
    status: CallStatus,
    response: SdkResponse,
    error: BaseException | str | None = None,
) -> tuple[RequestRecord, CallRecord]:
    """Records of a request and of a call with one round."""
    started_at, latency_s = _since(start_time)
    cell = current_cell.get()
    common: dict[str, Any] = {
        "call_id": uuid.uuid4().hex,
        "started_at": started_at,
        "provider": provider or "",
        "model": model or "",
        "status": status,
        "latency_s": latency_s,
        "tokens_per_s": response.tokens_per_s,
        "input_tokens": response.usage.input_tokens,
        "output_tokens": response.usage.output_tokens,
        "cached_tokens": response.usage.cached_tokens,
        "reasoning_tokens": response.usage.reasoning_tokens,
        "cost_usd": response.usage.cost_usd,
        "finish_reason": response.finish_reason,
        "error_type": type(error).__name__ if isinstance(error, BaseException) else None,
        "error": None if error is None else redact(str(error)),
    }
    request = RequestRecord(
        **common,
        round=1,
        response_model=response.model,
        load_s=response.usage.load_s,
        prompt_eval_s=response.usage.prompt_eval_s,
        eval_s=response.usage.eval_s,
    )
    call = CallRecord(
        **common,
        agent="",
        rounds=1,
        response=response.text,
        cell_id=cell.cell_id,
        execution_count=cell.execution_count,
    )
    return request, call


def _since(start_time: float) -> tuple[datetime, float | None]:
    try:
        return datetime.fromtimestamp(start_time, UTC), time.time() - start_time
    except (TypeError, ValueError, OverflowError, OSError):
        return datetime.now(UTC), None
