"""The columns of the three frames, and a record as a row of them."""

from __future__ import annotations

from dataclasses import MISSING, fields
from typing import Any, Final, Literal, TypeAlias

__all__ = ["CALLS", "REQUESTS", "STATUSES", "TOOLS", "Columns", "Kind", "as_row", "required", "value"]

Kind: TypeAlias = Literal["id", "name", "label", "text", "time", "seconds", "rate", "usd", "count"]
"""An empty ``name`` is none, an empty ``text`` is a text; a ``label`` is a name of which there are few."""
Columns: TypeAlias = dict[str, Kind]

STATUSES: Final = {
    "calls": ("running", "ok", "cancelled", "error", "limit"),
    "requests": ("running", "ok", "cancelled", "error"),
    "tools": ("running", "ok", "error", "timeout", "unknown_tool", "invalid_arguments", "rejected", "cancelled"),
}
"""What a ``status`` may be, by frame: the categories of that column, in this order."""

_TOKENS: Final[Columns] = {
    "latency_s": "seconds",
    "ttft_s": "seconds",
    "tokens_per_s": "rate",
    "input_tokens": "count",
    "output_tokens": "count",
    "cached_tokens": "count",
    "reasoning_tokens": "count",
    "cost_usd": "usd",
}

CALLS: Final[Columns] = {
    "call_id": "id",
    "started_at": "time",
    "agent": "label",
    "provider": "label",
    "model": "label",
    "status": "label",
    **_TOKENS,
    "rounds": "count",
    "tool_calls": "count",
    "error_type": "label",
    "error": "text",
    "prompt": "text",
    "response": "text",
    "cell_id": "label",
    "execution_count": "count",
}

REQUESTS: Final[Columns] = {
    "call_id": "id",
    "round": "count",
    "started_at": "time",
    "provider": "label",
    "model": "label",
    "server": "label",
    "response_model": "label",
    "status": "label",
    "finish_reason": "label",
    **_TOKENS,
    "load_s": "seconds",
    "prompt_eval_s": "seconds",
    "eval_s": "seconds",
    "retries": "count",
    "error_type": "label",
    "error": "text",
}

TOOLS: Final[Columns] = {
    "call_id": "id",
    "tool_call_id": "name",
    "round": "count",
    "tool": "label",
    "arguments": "name",  # empty where content is not kept
    "status": "label",
    "started_at": "time",
    "latency_s": "seconds",
    "result": "text",
    "error": "text",
}


def required(record: type[Any]) -> frozenset[str]:
    """The fields that a record must have: where one is a name, it is an empty one when it is unknown."""
    return frozenset(field.name for field in fields(record) if field.default is MISSING)


def as_row(columns: Columns, record: object) -> dict[str, Any]:
    """``record`` as a plain dict in column order; None where unknown."""
    return {column: value(record, column, kind) for column, kind in columns.items()}


def value(record: object, column: str, kind: Kind) -> Any:
    """One cell: None where the record does not know it."""
    known = getattr(record, column, None)
    # An empty answer is an answer; an empty name is no name.
    return None if kind in ("name", "label") and isinstance(known, str) and not known else known
