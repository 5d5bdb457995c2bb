"""Where requests to Ollama go: a client of the SDK, or straight to a server."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from http.cookiejar import CookieJar, DefaultCookiePolicy
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from ..redaction import Secret, as_secret
from . import clients
from .transport_errors import head_timeout_s, no_more_than

if TYPE_CHECKING:
    from .straight import Straight

__all__ = ["Endpoint", "Reply", "SdkEndpoint", "StraightEndpoint", "base_url_of"]


@dataclass(frozen=True, slots=True, repr=False)
class Reply:
    """A reply of any status, its body yet to be read."""

    status: int
    headers: Mapping[str, str]
    """Whatever their case."""
    blocks: AsyncIterator[bytes]


class Endpoint(ABC):
    """Raises what httpx and aiohttp raise; `ollama_errors.translated` makes ours of it."""

    url: str
    """Without a slash at its end."""
    secret: str | None
    """The key in use: never to be repeated."""

    @abstractmethod
    def request(self, method: str, path: str, body: bytes | None = None) -> AbstractAsyncContextManager[Reply]:
        """Send a request with JSON in its body."""


class SdkEndpoint(Endpoint):
    """A client of the SDK, used as it is, but for its ``chat``, which builds an object a chunk.

    Args:
        client: an ``ollama.AsyncClient``.
        is_ours: it was made for this endpoint: it keeps no cookies, and what is no answer is bounded.
    """

    def __init__(self, client: Any, *, is_ours: bool = False) -> None:
        # The SDK has no public way to the bytes of a reply.
        self._http = client._client
        self.url = str(self._http.base_url).rstrip("/")
        self.secret = as_secret(self._http.headers.get("authorization", "").removeprefix("Bearer ")) or None
        self._head_timeout_s = None
        if is_ours:
            self._http.cookies = CookieJar(DefaultCookiePolicy(allowed_domains=[]))
            self._http.event_hooks = {"response": [_bound]}
            self._http.headers["accept-encoding"] = "identity"
            self._head_timeout_s = head_timeout_s(self._http.timeout.connect, self._http.timeout.read)

    @asynccontextmanager
    async def request(self, method: str, path: str, body: bytes | None = None) -> AsyncGenerator[Reply, None]:
        async with AsyncExitStack() as stack:
            async with asyncio.timeout(self._head_timeout_s):
                reply = await stack.enter_async_context(self._http.stream(method, path, content=body))
            blocks = _bounded(method, reply.status_code, reply.aiter_bytes(), self._http.timeout.read)
            yield Reply(reply.status_code, reply.headers, blocks)


async def _bound(reply: Any) -> None:
    if reply.status_code != 200:
        reply.headers.pop("content-encoding", None)  # a megabyte may unpack to a gigabyte
    if reply.has_redirect_location:
        import httpx

        # Its body would be read whole, however long it is.
        await reply.stream.aclose()
        reply.stream = httpx.ByteStream(b"")


def _bounded(
    method: str, status: int, blocks: AsyncIterator[bytes], timeout_s: float | None
) -> AsyncIterator[bytes]:
    """An answer as it is; anything else for as long as nothing may come."""
    if method == "POST" and status == 200:
        return blocks
    return no_more_than(blocks, clients.MAX_LIST_BYTES, timeout_s, cut=status != 200)


class StraightEndpoint(Endpoint):
    """A server that is asked over aiohttp."""

    def __init__(self, straight: Straight, base_url: str, api_key: str | None, *, timeout_s: float) -> None:
        self.url, self.secret = base_url, api_key
        self._straight, self._timeout_s = straight, timeout_s
        self._headers = {
            "Accept": "application/json",
            "Content-Type": "application/json",
            "User-Agent": "createagents-nb",
        }
        if api_key:
            self._headers["Authorization"] = Secret(f"Bearer {api_key}")

    @asynccontextmanager
    async def request(self, method: str, path: str, body: bytes | None = None) -> AsyncGenerator[Reply, None]:
        reply = await self._straight.request(
            method, path, body, self._headers, self._timeout_s, follow_redirects=True
        )
        try:
            blocks = _bounded(method, reply.status, reply.content.iter_any(), self._timeout_s)
            yield Reply(reply.status, reply.headers, blocks)
        finally:
            reply.release()  # to the pool when it was read to its end; else the connection is closed


def base_url_of(host: str) -> str:
    """The address that the SDK makes of a host: ``box`` is ``http://box:11434``."""
    is_address = "://" in host
    parts = urlsplit(host if is_address else f"http://{host}")
    name = parts.hostname or "127.0.0.1"
    name = f"[{name}]" if ":" in name else name
    port = parts.port or (11434 if not is_address else 443 if parts.scheme == "https" else 80)
    return f"{parts.scheme}://{name}:{port}{parts.path}".rstrip("/")
