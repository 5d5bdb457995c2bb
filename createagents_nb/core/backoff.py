"""The rules of sending a request again, by every provider and by a batch; they are those of the openai SDK."""

from __future__ import annotations

import random

__all__ = ["MAX_WAIT_S", "backoff_s", "is_transient"]

MAX_WAIT_S = 120.0
"""Limit for the wait that a server asks for, in seconds; beyond it the request fails."""

_TRANSIENT = frozenset({408, 409, 429})


def is_transient(status: int | None) -> bool:
    """Whether a reply with this status may become an answer: 408, 409, 429, and from 500 on."""
    return status is not None and (status in _TRANSIENT or status >= 500)


def backoff_s(retries: int) -> float:
    """The wait before a request is sent again, in seconds: 0.5, 1, 2… up to 8, up to a quarter less at random.

    Args:
        retries: how often it was sent again so far.
    """
    return min(0.5 * 2.0 ** min(retries, 10), 8.0) * random.uniform(0.75, 1.0)
