"""The retry policy of every provider, with the rules of the openai SDK."""

from __future__ import annotations

import asyncio
import itertools
import math
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from email.utils import parsedate_to_datetime
from typing import TypeAlias

from ..core.backoff import MAX_WAIT_S, backoff_s, is_transient
from .error_body import asked_wait_s, decoded_body, error_words
from .error_kinds import may_pass
from .local_server import is_loading
from .transport import MAX_ERROR_BYTES, HttpReply, RetryCount
from .transport_errors import FailureKind, StillWorkingError, failure_kind, proxy_status

__all__ = ["IsWorking", "RetryPolicy", "retry_after_s", "send_until_answered"]

IsWorking: TypeAlias = Callable[[bool], Awaitable[bool]]
"""Says whether a server may still be working on a request that got no byte in time.

Called with whether the request would be sent again now: only then is it worth a question to the server.
"""

_BODY_S = 1.0
"""Limit for reading why a request was refused before it is sent again."""


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How often a request is sent again, and after which failures. Nothing is sent again after the first token.

    Args:
        max_retries: limit for one request.
        retries_refused: also retry refused connections. False for Ollama, which a person has to start.
        is_at_home: whether the server is at home, where a model that is being loaded is waited for.
    """

    max_retries: int
    retries_refused: bool = True
    is_at_home: bool = True

    def wait_after_failure_s(
        self, retries: int, kind: FailureKind | None, proxy_status: int | None = None
    ) -> float | None:
        """Return how long to wait after a request without a reply; None to give up.

        Args:
            retries: how often it was sent again so far.
            proxy_status: the HTTP status with which a proxy refused a tunnel.
        """
        passes = (
            kind in ("lost", "timeout")
            or (kind == "refused" and self.retries_refused)
            or (kind == "proxy" and (proxy_status or 0) >= 500)
        )
        return backoff_s(retries) if passes and retries < self.max_retries else None

    def wait_after_reply_s(self, retries: int, status: int, headers: Mapping[str, str]) -> float | None:
        """Return how long to wait after a reply of this status; None to take it as it is."""
        if 200 <= status < 300 or retries >= self.max_retries:
            return None
        advice = headers.get("x-should-retry")
        if advice == "false" or (advice != "true" and not is_transient(status)):
            return None
        asked_s = retry_after_s(headers)
        if asked_s is not None and asked_s > MAX_WAIT_S:
            return None
        return asked_s or backoff_s(retries)

    def wait_after_refusal_s(
        self, wait_s: float, status: int, headers: Mapping[str, str], body: bytes
    ) -> float | None:
        """Return how long to wait after a reply of this body; None to take it as it is.

        Args:
            wait_s: what `wait_after_reply_s` returned.
        """
        refusal = decoded_body(body)
        if not may_pass(status, error_words(refusal)) or is_loading(status, refusal, is_at_home=self.is_at_home):
            return None  # a model that is being loaded is waited for without counting
        asked_s = asked_wait_s(refusal) if retry_after_s(headers) is None else None
        if asked_s is not None and asked_s > MAX_WAIT_S:
            return None
        return asked_s or wait_s


async def _read_soon(reply: HttpReply) -> bytes:
    """Return the body of a refusal; what there is of it where it does not come at once."""
    body = bytearray()
    with suppress(Exception):
        async with asyncio.timeout(_BODY_S):
            async for block in reply.blocks:
                body += block
                if len(body) >= MAX_ERROR_BYTES:
                    break
    return bytes(body)


async def _one(body: bytes) -> AsyncGenerator[bytes, None]:
    yield body


async def send_until_answered(
    send: Callable[[], Awaitable[HttpReply]],
    policy: RetryPolicy,
    count: RetryCount,
    is_working: IsWorking | None = None,
) -> HttpReply:
    """Send a request until its reply is accepted or the policy gives up.

    Args:
        count: is set to the number of retries.
        is_working: asked after a timeout; a request that the server may still be working on is not sent again.

    Raises:
        StillWorkingError: it may still be working on the request.
        Exception: what the last attempt raised.
    """
    for retries in itertools.count():
        count.retries = retries
        try:
            reply = await send()
        except Exception as error:
            kind = failure_kind(error)
            wait_s = policy.wait_after_failure_s(retries, kind, proxy_status(error))
            if kind == "timeout" and is_working is not None and await is_working(wait_s is not None):
                raise StillWorkingError from error
            if wait_s is None:
                raise
        else:
            wait_s = policy.wait_after_reply_s(retries, reply.status, reply.headers)
            if wait_s is None:
                return reply
            body = await _read_soon(reply)
            wait_s = policy.wait_after_refusal_s(wait_s, reply.status, reply.headers, body)
            if wait_s is None:
                return replace(reply, blocks=_one(body))
            await reply.aclose()
        await asyncio.sleep(wait_s)
    raise AssertionError("unreachable")


def retry_after_s(headers: Mapping[str, str]) -> float | None:
    """Return how long a server asks to wait, in seconds: Retry-After-Ms, or Retry-After (seconds or a date)."""
    for name, unit_s in (("retry-after-ms", 0.001), ("retry-after", 1.0)):
        try:
            seconds = float(headers.get(name, "")) * unit_s
        except ValueError:
            continue
        return max(0.0, seconds) if math.isfinite(seconds) else None
    try:
        return max(0.0, parsedate_to_datetime(headers.get("retry-after", "")).timestamp() - time.time())
    except (ValueError, TypeError, OverflowError):
        return None
