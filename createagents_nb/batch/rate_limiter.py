"""Rate limits of a batch: `Limiter` computes when the next request may be sent, `Gate` waits for it."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Awaitable, Callable

from ..wrappers.throttled import Permit

__all__ = ["Gate", "Limiter"]

_MAX_REFUSALS_IN_A_ROW = 8
"""How many pauses without an answer between them mean that a quota is used up."""
_MAX_PAUSE_S = 60.0
"""Limit for pauses whose length the server does not say: 1, 2, 4… seconds."""


class Limiter:
    """Spreads requests and tokens evenly over the minute, and pauses when the server refuses.

    Requests go ``60 / rpm`` seconds apart, so that no minute has more than ``rpm`` of them. The tokens of a
    request are known when it has ended. Until then it counts with the average of earlier requests; the difference
    is corrected afterwards.

    Args:
        rpm: requests a minute; None for no limit.
        tpm: tokens a minute, input and output; None for no limit.
        clock: seconds, as of `time.monotonic`.
    """

    def __init__(
        self, *, rpm: float | None = None, tpm: float | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._clock = clock
        self._request_s = 0.0 if rpm is None else 60 / rpm
        self._token_s = 0.0 if tpm is None else 60 / tpm
        self._next_request = self._next_tokens = self._paused_until = -math.inf
        self._pauses = self._in_a_row = 0
        self._ended, self._tokens = 0, 0

    @property
    def counts_tokens(self) -> bool:
        """Whether there is a limit on tokens."""
        return self._token_s > 0

    @property
    def gives_up(self) -> bool:
        """Whether the server has refused everything for a while."""
        return self._in_a_row >= _MAX_REFUSALS_IN_A_ROW

    @property
    def paused_s(self) -> float:
        """The rest of the pause that the server asked for, in seconds; 0 if there is none."""
        return max(0.0, self._paused_until - self._clock())

    def wait_s(self) -> float:
        """How long the next request has to wait, in seconds; 0 if it may be sent."""
        return max(0.0, max(self._next_request, self._next_tokens, self._paused_until) - self._clock())

    def send(self, estimate: float) -> Permit:
        """Count a request that is being sent.

        Args:
            estimate: its tokens, used until the average of earlier requests is known.
        """
        now = self._clock()
        tokens = self._tokens / self._ended if self._ended else estimate
        self._next_request = max(now, self._next_request) + self._request_s
        self._next_tokens = max(now, self._next_tokens) + tokens * self._token_s
        return Permit(self._pauses, tokens)

    def answered(self) -> None:
        """An answer has begun."""
        self._in_a_row = 0

    def ended(self, permit: Permit, tokens: int | None) -> None:
        """A request has ended and took ``tokens``, None if unknown."""
        if tokens is None:
            return
        self._ended += 1
        self._tokens += tokens
        self._next_tokens += (tokens - permit.tokens) * self._token_s

    def not_answered(self, permit: Permit) -> None:
        """A request has failed before its answer began, so it took no tokens."""
        self._next_tokens -= permit.tokens * self._token_s

    def refused(self, permit: Permit, retry_after_s: float | None) -> None:
        """The server refuses for now: nothing is sent before ``retry_after_s`` have passed.

        Refusals of requests that were under way when a pause began do not lengthen it.
        """
        self.not_answered(permit)
        starts_pause = permit.pauses == self._pauses
        if retry_after_s is None:
            retry_after_s = min(2.0**self._in_a_row, _MAX_PAUSE_S) if starts_pause else 0.0
        if starts_pause:
            self._pauses += 1
            self._in_a_row += 1
        self._paused_until = max(self._paused_until, self._clock() + retry_after_s)


class Gate:
    """Gives permits to requests, in the order in which they came.

    Args:
        limiter: computes how long a request waits.
        sleep: waits for that many seconds.
    """

    def __init__(self, limiter: Limiter, sleep: Callable[[float], Awaitable[object]] = asyncio.sleep) -> None:
        self.limiter = limiter
        self._sleep = sleep
        self._lock = asyncio.Lock()

    async def enter(self, estimate: float) -> Permit:
        """Wait, and count the request as sent; see `Limiter.send` for ``estimate``."""
        if not self._lock.locked() and self.limiter.wait_s() == 0:
            return self.limiter.send(estimate)
        async with self._lock:  # one request waits for the clock, the others for the lock
            while (wait_s := self.limiter.wait_s()) > 0:
                await self._sleep(wait_s)
            return self.limiter.send(estimate)
