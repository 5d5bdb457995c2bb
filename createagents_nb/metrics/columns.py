"""Columns and dtypes of the three frames, and records as rows of them."""

from __future__ import annotations

from dataclasses import MISSING, fields
from typing import Any, Final, Literal, TypeAlias, get_args

from ..core.records import CallStatus, ToolStatus

__all__ = [
    "CALLS",
    "REQUESTS",
    "STATUSES",
    "STORED_CALLS",
    "TOOLS",
    "Columns",
    "Kind",
    "as_row",
    "required",
    "value",
]

Kind: TypeAlias = Literal["id", "name", "label", "text", "time", "seconds", "rate", "usd", "count", "object"]
"""An empty ``name`` counts as unknown, an empty ``text`` does not; a ``label`` is a name with few values. An
``object`` is stored as it is, and is in no frame."""
Columns: TypeAlias = dict[str, Kind]

STATUSES: Final = {
    "calls": get_args(CallStatus),
    "requests": tuple(status for status in get_args(CallStatus) if status != "limit"),
    "tools": get_args(ToolStatus),
}
"""Values of ``status``, by frame: the categories of that column, in this order."""

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
    "finish_reason": "label",
}

STORED_CALLS: Final[Columns] = CALLS | {"context": "object"}

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
    "adjusted": "text",
    "context_window": "count",
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
    """The fields of a record class that have no default; names among them are empty when unknown."""
    return frozenset(field.name for field in fields(record) if field.default is MISSING)


def as_row(columns: Columns, record: object) -> dict[str, Any]:
    """``record`` as a plain dict in column order; None where unknown."""
    return {column: value(record, column, kind) for column, kind in columns.items()}


def value(record: object, column: str, kind: Kind) -> Any:
    """One cell; None where unknown."""
    found = getattr(record, column, None)
    return None if kind in ("name", "label") and isinstance(found, str) and not found else found
