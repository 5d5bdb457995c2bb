"""A provider whose requests wait for permission, and are sent again when the server refuses or fails."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from typing import Protocol

from ..core.backoff import MAX_WAIT_S, backoff_s, is_transient
from ..core.events import AttemptEnded, Event, Notice, RoundEnded
from ..core.provider import ChatRepository, ChatRequest
from ..core.records import RequestRecord
from ..core.token_estimate import estimate_chars, estimate_tokens
from ..errors import (
    AuthenticationError,
    InvalidRequestError,
    ProviderConnectionError,
    ProviderError,
    ProviderTimeoutError,
    QuotaExceededError,
    RateLimitError,
)
from .base import ProviderWrapper

__all__ = ["Permit", "RequestGate", "RequestLimiter", "ThrottledRepository"]

_MAX_REFUSALS = 100
"""How often one request may be refused while others are answered."""


@dataclass(frozen=True, slots=True)
class Permit:
    """Permission to send a request: how many pauses there had been, and the tokens it was counted with."""

    pauses: int
    tokens: float


class RequestLimiter(Protocol):
    """Is informed how each request ended; see `createagents_nb.batch.rate_limiter.Limiter`."""

    @property
    def counts_tokens(self) -> bool: ...
    @property
    def gives_up(self) -> bool: ...
    def answered(self) -> None: ...
    def ended(self, permit: Permit, tokens: int | None) -> None: ...
    def not_answered(self, permit: Permit) -> None: ...
    def refused(self, permit: Permit, retry_after_s: float | None) -> None: ...


class RequestGate(Protocol):
    """Gives permits to the requests that wait for one."""

    @property
    def limiter(self) -> RequestLimiter: ...
    async def enter(self, estimate: float) -> Permit: ...


class ThrottledRepository(ProviderWrapper):
    """The requests of one row of a batch.

    Args:
        inner: the provider, without its own retries.
        gate: gives permits.
        first: the permit of the first request, so that waiting for it is not part of the turn.
        max_retries: how often a failed request is sent again; refusals (429) do not count.
        answered: called for each answer that begins, with the seconds since its request was sent.
        timed_out: called when a request got no byte in time.
    """

    def __init__(
        self,
        inner: ChatRepository,
        gate: RequestGate,
        first: Permit,
        max_retries: int,
        *,
        answered: Callable[[float], None] = lambda waited_s: None,
        timed_out: Callable[[], None] = lambda: None,
    ) -> None:
        super().__init__(inner)
        self._has_answered, self._has_timed_out = answered, timed_out
        self._gate, self._max_retries = gate, max_retries
        self._unused: Permit | None = first
        self._answered: dict[int, Permit] = {}  # by round

    async def round_trip(self, request: ChatRequest) -> AsyncGenerator[Event, None]:
        limiter = self._gate.limiter
        refusals = failures = 0
        while True:
            permit = await self._get_permit(request)
            sent_at = time.monotonic()
            async with aclosing(self.inner.round_trip(request)) as events:
                try:
                    event = await anext(events, None)
                    while isinstance(event, AttemptEnded | Notice):  # nothing has been answered yet
                        yield event
                        event = await anext(events, None)
                except QuotaExceededError as error:  # waiting does not help
                    limiter.not_answered(permit)
                    error.retries = refusals + failures
                    raise
                except RateLimitError as error:
                    limiter.refused(permit, error.retry_after_s)
                    error.retries = refusals + failures
                    refusals += 1
                    if refusals == _MAX_REFUSALS or limiter.gives_up:
                        raise
                    continue
                except ProviderError as error:
                    limiter.not_answered(permit)
                    if isinstance(error, ProviderTimeoutError):
                        self._has_timed_out()
                    error.retries = refusals + failures
                    wait_s = self._wait_s(error, failures)
                    if wait_s is None:
                        raise
                except BaseException:
                    limiter.not_answered(permit)
                    raise
                else:
                    limiter.answered()
                    self._has_answered(time.monotonic() - sent_at)
                    self._answered[request.round] = permit
                    retries = refusals + failures
                    try:
                        if event is not None:
                            yield _with_retries(event, retries)
                        async for event in events:
                            yield event if type(event) is str else _with_retries(event, retries)
                    except ProviderError as error:
                        if isinstance(error, RateLimitError) and not isinstance(error, QuotaExceededError):
                            # The row is not sent again after its first token, but the others wait.
                            self._answered.pop(request.round, None)
                            limiter.refused(permit, error.retry_after_s)
                        error.retries = retries or error.retries
                        raise
                    return
            await asyncio.sleep(wait_s)
            failures += 1

    def settle(self, records: Sequence[RequestRecord]) -> None:
        """Report the tokens of the row's requests to the limiter, once the row has ended."""
        limiter = self._gate.limiter
        if self._unused is not None:  # stopped before it was sent
            limiter.not_answered(self._unused)
        if limiter.counts_tokens:
            for record in records:
                permit = self._answered.get(record.round)
                if permit is None:
                    continue
                is_known = record.input_tokens is not None and record.output_tokens is not None
                total = (record.input_tokens or 0) + (record.output_tokens or 0)
                limiter.ended(permit, total if is_known else None)

    async def _get_permit(self, request: ChatRequest) -> Permit:
        permit, self._unused = self._unused, None
        if permit is not None:
            return permit
        return await self._gate.enter(estimate_tokens(estimate_chars(request.messages), request.config))

    def _wait_s(self, error: ProviderError, failures: int) -> float | None:
        """How long to wait before a failed request is sent again; None if it is not."""
        if isinstance(error, ProviderTimeoutError) and error.may_be_running:
            return None
        is_lost = isinstance(error, ProviderConnectionError) and error.status_code is None  # not by a proxy
        # By its words, an error with a passing status may be one that stays, such as too long a prompt with 500.
        stays = error.refuses_message or (
            isinstance(error, AuthenticationError | InvalidRequestError) and (error.status_code or 0) >= 500
        )
        may_pass = is_lost or (is_transient(error.status_code) and not stays)
        if failures == self._max_retries or not may_pass:
            return None
        wait_s = error.retry_after_s or backoff_s(failures)
        return wait_s if wait_s <= MAX_WAIT_S else None


def _with_retries(event: Event, retries: int) -> Event:
    return replace(event, retries=retries) if retries and isinstance(event, RoundEnded) else event
