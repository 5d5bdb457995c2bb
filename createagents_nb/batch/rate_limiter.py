"""When the next request of a batch may be sent. Arithmetic over a clock; who waits is `Gate`."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

__all__ = ["MAX_REFUSALS", "Gate", "Limiter", "Sent"]

MAX_REFUSALS = 100
"""How often one request is refused before that is a failure, while others are answered."""
_MAX_REFUSALS_IN_A_ROW = 8
"""How many pauses there are without any answer between them before the batch gives up: a quota that is used up."""
_MAX_PAUSE_S = 60.0
"""Of pauses whose length the server does not say: 1, 2, 4… seconds, up to this."""


@dataclass(frozen=True, slots=True)
class Sent:
    """A request that was sent: how many pauses there had been, and the tokens it was counted with."""

    pauses: int
    tokens: float


class Limiter:
    """Spreads requests and tokens evenly over the minute, and pauses when the server refuses.

    Requests go ``60 / rpm`` seconds apart, so that no minute has more than ``rpm`` of them. Tokens are known when
    a request has ended: until then it counts with what requests took so far, on average, and the difference is
    made up for afterwards.

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
        return self._token_s > 0

    @property
    def gives_up(self) -> bool:
        """The server has refused everything for a while."""
        return self._in_a_row >= _MAX_REFUSALS_IN_A_ROW

    @property
    def paused_s(self) -> float:
        """How long the pause still lasts that the server asked for; 0 for none."""
        return max(0.0, self._paused_until - self._clock())

    def wait_s(self) -> float:
        """How long the next request has to wait; 0 if it may be sent."""
        return max(0.0, max(self._next_request, self._next_tokens, self._paused_until) - self._clock())

    def sent(self, guess: float) -> Sent:
        """A request is being sent.

        Args:
            guess: its tokens, for as long as nothing better is known.
        """
        now = self._clock()
        tokens = self._tokens / self._ended if self._ended else guess
        self._next_request = max(now, self._next_request) + self._request_s
        self._next_tokens = max(now, self._next_tokens) + tokens * self._token_s
        return Sent(self._pauses, tokens)

    def answered(self) -> None:
        """An answer begins."""
        self._in_a_row = 0

    def ended(self, sent: Sent, tokens: int | None) -> None:
        """A request has ended, having taken so many tokens; None if that is not known."""
        if tokens is None:
            return
        self._ended += 1
        self._tokens += tokens
        self._next_tokens += (tokens - sent.tokens) * self._token_s

    def not_answered(self, sent: Sent) -> None:
        """A request has failed before its answer began: it took no tokens."""
        self._next_tokens -= sent.tokens * self._token_s

    def refused(self, sent: Sent, retry_after_s: float | None) -> None:
        """The server refuses more for now: nothing is sent before ``retry_after_s`` have passed.

        Requests that were under way when a pause began belong to it: they make it no longer by themselves.
        """
        self.not_answered(sent)
        is_news = sent.pauses == self._pauses
        if retry_after_s is None:
            retry_after_s = min(2.0**self._in_a_row, _MAX_PAUSE_S) if is_news else 0.0
        if is_news:
            self._pauses += 1
            self._in_a_row += 1
        self._paused_until = max(self._paused_until, self._clock() + retry_after_s)


class Gate:
    """Where requests wait for their turn, in the order in which they came.

    Args:
        limiter: says how long.
        sleep: how that is waited for.
    """

    def __init__(self, limiter: Limiter, sleep: Callable[[float], Awaitable[object]] = asyncio.sleep) -> None:
        self.limiter = limiter
        self._sleep = sleep
        self._lock = asyncio.Lock()

    async def enter(self, guess: float) -> Sent:
        """Wait; the request is to be sent then. See `Limiter.sent` for ``guess``."""
        if not self._lock.locked() and self.limiter.wait_s() == 0:
            return self.limiter.sent(guess)
        async with self._lock:  # one waits for the time, the others for it
            while (wait_s := self.limiter.wait_s()) > 0:
                await self._sleep(wait_s)
            return self.limiter.sent(guess)
