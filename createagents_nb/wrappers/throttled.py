"""A provider whose requests wait for their turn, and are sent again when the server refuses or fails."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncGenerator, Callable, Coroutine, Mapping, Sequence
from dataclasses import replace
from types import TracebackType
from typing import Any

from ..batch.rate_limiter import MAX_REFUSALS, Gate, Sent
from ..core.events import Event, RoundEnded
from ..core.provider import ChatRepository, ChatRequest
from ..core.records import RequestRecord
from ..errors import ProviderConnectionError, ProviderError, RateLimitError

__all__ = ["ThrottledRepository", "estimate_tokens"]

_PASSING = frozenset({408, 409, *range(500, 600)})
"""Status codes of failures that may pass: those of which the SDKs send a request again."""
_MAX_BACKOFF_S = 8.0
_LONGEST_WAIT_S = 120.0
"""A server that failed and asks for more is not asked again; the same as in a chat."""
_USUAL_ANSWER = 300
"""Tokens, where nothing is known yet."""


def estimate_tokens(chars: int, config: Mapping[str, Any]) -> float:
    """Tokens of a request and its answer, before any has been counted: four characters are one."""
    return chars / 4 + (config.get("max_tokens") or _USUAL_ANSWER)


class ThrottledRepository(ChatRepository):
    """The requests of one row. Its first has waited already, so that waiting is no part of the call.

    Args:
        inner: the provider; it must not send again by itself.
        first: the turn of the first request.
        max_retries: how often a request is sent again that failed, apart from refusals (429).
    """

    def __init__(self, inner: ChatRepository, gate: Gate, first: Sent, max_retries: int) -> None:
        self.provider, self.server = inner.provider, inner.server
        self.inner, self.gate, self.max_retries = inner, gate, max_retries
        self.waiting: Sent | None = first
        self.answered: list[Sent] = []

    def round_trip(self, request: ChatRequest) -> AsyncGenerator[Event, None]:
        return _Trip(self, request)

    async def models(self) -> list[str]:
        return await self.inner.models()

    async def turn(self, request: ChatRequest) -> Sent:
        """Wait until ``request`` may be sent."""
        turn, self.waiting = self.waiting, None
        if turn is not None:
            return turn
        chars = sum(len(message.content) for message in request.messages)
        return await self.gate.enter(estimate_tokens(chars, request.config))

    def settle(self, records: Sequence[RequestRecord]) -> None:
        """The row has ended: what its requests took is known."""
        limiter = self.gate.limiter
        if self.waiting is not None:  # stopped before it was sent
            limiter.not_answered(self.waiting)
        if limiter.counts_tokens:
            for sent, record in zip(self.answered, records, strict=False):
                known = record.input_tokens is not None and record.output_tokens is not None
                limiter.ended(sent, (record.input_tokens or 0) + (record.output_tokens or 0) if known else None)


class _Trip(AsyncGenerator[Event, None]):
    """One round trip. From its first event on it hands out the provider's: a plain call an event, no generator."""

    def __init__(self, paced: ThrottledRepository, request: ChatRequest) -> None:
        self._paced, self._request = paced, request
        self._events: AsyncGenerator[Event, None] | None = None
        self._resent = 0
        self._next: Callable[[], Coroutine[Any, Any, Event]] = self._begin

    def __anext__(self) -> Coroutine[Any, Any, Event]:
        return self._next()

    def asend(self, value: None) -> Coroutine[Any, Any, Event]:
        return self._next()

    async def athrow(
        self,
        typ: type[BaseException] | BaseException,
        val: BaseException | object = None,
        tb: TracebackType | None = None,
    ) -> Event:
        await self.aclose()
        raise typ

    async def aclose(self) -> None:
        if self._events is not None:
            await self._events.aclose()

    async def _begin(self) -> Event:
        paced, limiter = self._paced, self._paced.gate.limiter
        refusals = failures = 0
        while True:
            sent = await paced.turn(self._request)
            self._events = events = paced.inner.round_trip(self._request)
            try:
                event = await anext(events)
            except RateLimitError as error:
                limiter.refused(sent, error.retry_after_s)
                error.retries = refusals + failures
                refusals += 1
                if refusals == MAX_REFUSALS or limiter.gives_up:
                    raise
            except ProviderError as error:
                limiter.not_answered(sent)
                error.retries = refusals + failures
                if failures == paced.max_retries or not _may_pass(error):
                    raise
                backoff_s = min(0.5 * 2**failures, _MAX_BACKOFF_S) * random.uniform(0.75, 1.0)
                wait_s = error.retry_after_s or backoff_s
                if wait_s > _LONGEST_WAIT_S:
                    raise
                await asyncio.sleep(wait_s)
                failures += 1
            else:
                limiter.answered()
                paced.answered.append(sent)
                self._resent = refusals + failures
                self._next = self._counted if self._resent else events.__anext__
                return self._marked(event)

    async def _counted(self) -> Event:
        assert self._events is not None
        try:
            return self._marked(await anext(self._events))
        except ProviderError as error:
            error.retries = self._resent
            raise

    def _marked(self, event: Event) -> Event:
        return replace(event, retries=self._resent) if self._resent and isinstance(event, RoundEnded) else event


def _may_pass(error: ProviderError) -> bool:
    return isinstance(error, ProviderConnectionError) or error.status_code in _PASSING
