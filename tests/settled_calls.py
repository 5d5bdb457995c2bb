"""Calls that have settled, for tests and for the programs that they start, which import no more than this."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

from createagents_nb.core.records import CallRecord, RequestRecord, ToolRecord
from createagents_nb.metrics.observers import SettledCall

__all__ = ["STARTED", "call", "request", "settled", "tool", "wait_for"]

STARTED = datetime(2026, 3, 1, 12, 30, 15, 123456, tzinfo=UTC)


def call(number: int = 0, **known: Any) -> CallRecord:
    opened: dict[str, Any] = {
        "call_id": f"{number:032x}",
        "started_at": STARTED + timedelta(milliseconds=number),
        "agent": "scout",
        "provider": "openai",
        "model": "m",
        "status": "ok",
    }
    return CallRecord(**opened | known)


def request(number: int = 0, **known: Any) -> RequestRecord:
    opened: dict[str, Any] = {
        "call_id": f"{number:032x}",
        "round": 1,
        "started_at": STARTED,
        "provider": "openai",
        "model": "m",
        "status": "ok",
    }
    return RequestRecord(**opened | known)


def tool(number: int = 0, **known: Any) -> ToolRecord:
    opened: dict[str, Any] = {
        "call_id": f"{number:032x}",
        "tool_call_id": "t1",
        "round": 1,
        "tool": "rows",
        "arguments": "{}",
        "status": "ok",
        "started_at": STARTED,
    }
    return ToolRecord(**opened | known)


def settled(number: int = 0, **known: Any) -> SettledCall:
    """A call of two requests and a tool."""
    parts = (request(number), request(number, round=2)), (tool(number),)
    return SettledCall(call(number, **known), *parts)


def wait_for(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline, "it did not come about"
        time.sleep(0.005)
