"""States, times and costs in words, for people."""

from __future__ import annotations

import math
from asyncio import CancelledError
from typing import Final

__all__ = ["STATUS_WORDS", "dollars", "error_in_words", "seconds"]

STATUS_WORDS: Final = {
    "running": "running",
    "ok": "done",
    "cancelled": "stopped",
    "error": "failed",
    "limit": "tool limit reached",
    "timeout": "timed out",
    "unknown_tool": "rejected: unknown tool",
    "invalid_arguments": "rejected: invalid arguments",
    "rejected": "rejected: not approved",
}
"""What a status of a call, a request or a tool means to a reader."""


def seconds(value: float) -> str:
    """A duration for people: ``0.02 s``, ``3.2 s``, ``2 min 5 s``."""
    if not math.isfinite(value):
        return "? s"
    if value < 1:
        return f"{value:.2f} s"
    if value < 60:
        return f"{value:.1f} s"
    return f"{int(value) // 60} min {int(value) % 60} s"


def dollars(value: float) -> str:
    """A cost for people, with the digits that tell: ``$12.50``, ``$0.13``, ``$0.0042``, ``<$0.0001``."""
    if not math.isfinite(value) or value < 0:
        return "? $"
    if value == 0:
        return "$0"
    if value < 0.0001:
        return "<$0.0001"
    # Two digits that are not zero, and cents at least.
    return f"${value:,.{max(2, 1 - math.floor(math.log10(value)))}f}"


def error_in_words(error: BaseException) -> str:
    """``"ValueError: message"``, or its class alone where it has no message."""
    try:
        message = str(error)
    except (Exception, SystemExit, GeneratorExit, CancelledError):  # an exception whose own __str__ fails
        message = ""
    return f"{type(error).__name__}: {message}" if message else type(error).__name__
