"""Where requests to Ollama go: a client of the SDK, or straight to a server."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from ..logging_config import Secret, hidden

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
    """

    def __init__(self, client: Any) -> None:
        # The SDK has no public way to the bytes of a reply.
        self._http = client._client
        self.url = str(self._http.base_url).rstrip("/")
        self.secret = hidden(self._http.headers.get("authorization", "").removeprefix("Bearer ")) or None

    @asynccontextmanager
    async def request(self, method: str, path: str, body: bytes | None = None) -> AsyncGenerator[Reply, None]:
        async with self._http.stream(method, path, content=body) as reply:
            yield Reply(reply.status_code, reply.headers, reply.aiter_bytes())


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
            yield Reply(reply.status, reply.headers, reply.content.iter_any())
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
