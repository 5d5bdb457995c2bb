"""How many rows run at once: few at first where a server may have few slots, more while it answers as fast."""

from __future__ import annotations

import asyncio
import math
from collections import deque

__all__ = ["Ramp"]

_FEW = 8
"""A limit up to this is begun with at once: these are few rows already."""
_SLOWER = 3.0
"""How many times longer than the first rows one may wait for its first token and still count as fast."""
_SLACK_S = 0.25
"""What a wait may be longer in any case, in seconds."""
_CAUTION = 0.25
"""How many rows more run after a fast one, once one was slow."""


class Ramp:
    """Lets rows run, and learns from their first tokens how many the server works on at once.

    A server whose slots are taken queues a request without a byte. So each row that is answered as fast as the
    first ones lets one more run; one that waits much longer shows that the server works on no more than those
    ahead of it.

    Args:
        limit: the most rows that may run.
        first: how many run at first; None for all.

    Example:
        >>> ramp = Ramp(20, first=2)
        >>> ahead = await ramp.enter()
        >>> ramp.answered(ahead, waited_s=0.2)
        >>> ramp.leave()
    """

    def __init__(self, limit: int, first: int | None = None) -> None:
        self._limit = limit
        self._first = limit if first is None or limit <= _FEW else min(first, limit)
        self._allowed: float = self._first
        self._step = 1.0
        self._fast_s = math.inf
        self._running = 0
        self._waiting: deque[asyncio.Future[None]] = deque()

    @property
    def allowed(self) -> int:
        """How many rows may run now."""
        return int(self._allowed)

    async def enter(self) -> int:
        """Wait for a place; return how many rows run besides."""
        while self._running >= self.allowed:
            place = asyncio.get_running_loop().create_future()
            self._waiting.append(place)
            try:
                await place
            except asyncio.CancelledError:
                if place.done() and not place.cancelled():
                    self._wake()  # it was this one's turn
                raise
        self._running += 1
        return self._running - 1

    def leave(self) -> None:
        """A row has ended."""
        self._running -= 1
        self._wake()

    def answered(self, ahead: int, waited_s: float) -> None:
        """A row's answer has begun.

        Args:
            ahead: how many ran when it was sent.
            waited_s: for its first token, in seconds.
        """
        if ahead < self._first:
            self._fast_s = min(self._fast_s, waited_s)
        if waited_s > self._fast_s * _SLOWER + _SLACK_S:
            self.was_slow(ahead)
        elif self._allowed < self._limit:
            self._allowed = min(self._limit, self._allowed + self._step)
            self._wake()

    def was_slow(self, ahead: int) -> None:
        """A row's answer was slow to begin, or has not begun in time."""
        if ahead >= self._first:
            self._allowed = min(self._allowed, max(self._first, ahead))
            self._step = _CAUTION

    def _wake(self) -> None:
        free = self.allowed - self._running
        while free > 0 and self._waiting:
            place = self._waiting.popleft()
            if not place.done():
                place.set_result(None)
                free -= 1
