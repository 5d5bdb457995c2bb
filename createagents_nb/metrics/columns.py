"""The columns of the three frames, and a record as a row of them."""

from __future__ import annotations

from typing import Any, Final, Literal, TypeAlias

__all__ = ["CALLS", "REQUESTS", "TOOLS", "Columns", "as_row"]

Kind: TypeAlias = Literal["name", "text", "time", "seconds", "rate", "usd", "count"]
Columns: TypeAlias = dict[str, Kind]

_TOKENS: Final[Columns] = {
    "latency_s": "seconds",
    "ttft_s": "seconds",
    "tokens_per_s": "rate",
    "input_tokens": "count",
    "output_tokens": "count",
    "cached_tokens": "count",
    "reasoning_tokens": "count",
}

CALLS: Final[Columns] = {
    "call_id": "name",
    "started_at": "time",
    "agent": "name",
    "provider": "name",
    "model": "name",
    "status": "name",
    **_TOKENS,
    "cost_usd": "usd",
    "rounds": "count",
    "tool_calls": "count",
    "error_type": "name",
    "error": "text",
    "prompt": "text",
    "response": "text",
    "cell_id": "name",
    "execution_count": "count",
}

REQUESTS: Final[Columns] = {
    "call_id": "name",
    "round": "count",
    "started_at": "time",
    "provider": "name",
    "model": "name",
    "response_model": "name",
    "status": "name",
    "finish_reason": "name",
    **_TOKENS,
    "load_s": "seconds",
    "prompt_eval_s": "seconds",
    "eval_s": "seconds",
    "retries": "count",
    "error_type": "name",
    "error": "text",
}

TOOLS: Final[Columns] = {
    "call_id": "name",
    "tool_call_id": "name",
    "round": "count",
    "tool": "name",
    "arguments": "name",  # empty where content is not kept
    "status": "name",
    "started_at": "time",
    "latency_s": "seconds",
    "result": "text",
    "error": "text",
}


def as_row(columns: Columns, record: object) -> dict[str, Any]:
    """``record`` as a plain dict in column order; None where unknown."""
    return {column: value(record, column, kind) for column, kind in columns.items()}


def value(record: object, column: str, kind: Kind) -> Any:
    """One cell: None where the record does not know it."""
    known = getattr(record, column, None)
    # An empty answer is an answer; an empty name is no name.
    return None if kind == "name" and isinstance(known, str) and not known else known
