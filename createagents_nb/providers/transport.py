"""The transport of a provider: it sends a request and returns a reply whose body is yet to be read."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode
from weakref import WeakKeyDictionary

from .transport_errors import ForeignError, summarize

__all__ = [
    "MAX_ERROR_BYTES",
    "MAX_LIST_BYTES",
    "HttpReply",
    "RetryCount",
    "Transport",
    "forget_closed_loops",
    "limited",
    "with_query",
]

MAX_ERROR_BYTES = 2**20
"""Limit for a page that explains an error; the rest is not read."""

MAX_LIST_BYTES = 32 * 2**20
"""Limit for a model list; the largest seen is a few megabytes."""


class RetryCount:
    """How often a request has been sent again so far."""

    retries = 0


@dataclass(frozen=True, slots=True, repr=False)
class HttpReply:
    """A reply of any status.

    Attributes:
        headers: their names are case-insensitive.
        blocks: the body as it arrives.
        aclose: releases the connection, which returns to its pool if the body was read to its end.
    """

    status: int
    headers: Mapping[str, str]
    blocks: AsyncIterator[bytes]
    aclose: Callable[[], Awaitable[object]]

    @property
    def is_success(self) -> bool:
        return 200 <= self.status < 300


class Transport(ABC):
    """Sends one agent's requests to one server, with its address, key, timeout and retries.

    Attributes:
        url: the base address, without a trailing slash.
        secret: the key in use, which must never be repeated.
    """

    url: str
    secret: str | None

    @property
    @abstractmethod
    def headers(self) -> Mapping[str, str]:
        """The headers of each request, keys included."""

    def address(self, path: str, body: Mapping[str, Any] | None) -> str:
        """Return the whole address of a request."""
        return self.url + path

    @abstractmethod
    async def request(
        self, method: str, path: str, body: Mapping[str, Any] | None, count: RetryCount
    ) -> HttpReply:
        """Send a request, and again where the retry policy says so.

        Args:
            path: below the base address, as in ``/chat/completions``.
            body: sent as JSON.
            count: is set to the number of retries, also for a request that fails in the end.

        Raises:
            Exception: what the HTTP library raises, here and while the body is read; `summary` knows these.
        """

    async def ask(self, url: str, body: Mapping[str, Any] | None, timeout_s: float) -> Any:
        """Ask the server about itself, once and not for long; None for anything but JSON with a status of success.

        Args:
            url: the whole address, which may be outside of the base address.
            body: sent as JSON by POST; None for a GET.
        """
        return None

    def summary(self, error: Exception) -> ForeignError | None:
        """Return a clean summary of an error of the HTTP library; None for any other error."""
        return summarize(error, self.secret)


async def limited(
    blocks: AsyncIterator[bytes], limit: int, within_s: float | None, *, cut: bool = True
) -> AsyncGenerator[bytes, None]:
    """Yield the first ``limit`` bytes of a body, and only what arrives within ``within_s`` seconds.

    Raises:
        TimeoutError: more is to come, and ``cut`` is false.
    """
    end_s = None if within_s is None else asyncio.get_running_loop().time() + within_s
    while limit > 0:
        try:
            async with asyncio.timeout_at(end_s):
                block = await anext(blocks, None)
        except TimeoutError:
            if cut:
                return
            raise
        if block is None:
            return
        yield block[:limit]
        limit -= len(block)


def with_query(address: str, query: Mapping[str, str]) -> str:
    """Return an address with a query, if it is not empty."""
    return f"{address}?{urlencode(query)}" if query else str(address)


def forget_closed_loops(by_loop: WeakKeyDictionary[asyncio.AbstractEventLoop, Any]) -> None:
    """Drop the entries of closed loops: a client refers to its loop, so a weak key alone never goes."""
    for reference in by_loop.keyrefs():  # a copy: other threads have loops, too
        loop = reference()
        if loop is not None and loop.is_closed():
            by_loop.pop(loop, None)
