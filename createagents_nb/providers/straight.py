"""A request straight over aiohttp: the SDKs' layers take several times as long as the sending itself."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from functools import lru_cache
from urllib.parse import urlsplit

import aiohttp
from yarl import URL

from . import clients

__all__ = ["Straight"]

_HEAD_TIMEOUTS = 3
"""How many times ``timeout_s`` a request, all redirects and the head of the reply may take together."""


@lru_cache(64)
def _timeout(timeout_s: float) -> aiohttp.ClientTimeout:
    return aiohttp.ClientTimeout(
        total=None, sock_connect=min(timeout_s, clients.CONNECT_TIMEOUT_S), sock_read=timeout_s
    )


class Straight:
    """Sends to one server, over a connection pool of its own.

    Nothing is tried again: who asks decides. aiohttp holds back a sender that is two read buffers (128 kB) ahead
    of the reader.
    """

    def __init__(self, base_url: str) -> None:
        self._base_url = base_url
        self._urls: dict[str, URL] = {}
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(
                limit=0,  # as many connections as there are turns
                keepalive_timeout=clients.KEEPALIVE_S,
                ssl=clients.tls_context() if urlsplit(base_url).scheme == "https" else True,
            ),
            cookie_jar=aiohttp.DummyCookieJar(),
            headers={"Accept-Encoding": "identity"},  # a packed stream comes late
        )

    async def request(
        self,
        method: str,
        path: str,
        body: bytes | None,
        headers: Mapping[str, str],
        timeout_s: float,
        *,
        follow_redirects: bool = False,
    ) -> aiohttp.ClientResponse:
        """The reply, whatever its status; its body is yet to be read.

        Args:
            path: below the base URL, as in ``/chat/completions``.
            timeout_s: how long no byte may arrive, in seconds.
            follow_redirects: the key stays at home when one leads to another server.

        Raises:
            aiohttp.ClientError, TimeoutError: here, and when the body is read.
        """
        url = self._urls.get(path)
        if url is None:
            url = self._urls[path] = URL(self._base_url + path)
        return await self.send(method, url, body, headers, _timeout(timeout_s), follow_redirects=follow_redirects)

    async def send(
        self,
        method: str,
        url: URL | str,
        body: bytes | None,
        headers: Mapping[str, str] | Iterable[tuple[str, str]],
        timeout: aiohttp.ClientTimeout,
        *,
        follow_redirects: bool = False,
    ) -> aiohttp.ClientResponse:
        """The same, to any address; ``timeout`` limits connecting and reading."""
        # Each "100 Continue" and each byte of a header is a byte that arrived: without a limit for all of them a
        # server could hold a turn with them for ever.
        async with asyncio.timeout((timeout.sock_connect or 0) + _HEAD_TIMEOUTS * (timeout.sock_read or 0)):
            # Connections that the server closed while the loop was busy elsewhere are seen to be closed.
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            return await self._session.request(
                method, url, data=body, headers=headers, allow_redirects=follow_redirects, timeout=timeout
            )

    @property
    def is_closed(self) -> bool:
        return self._session.closed

    async def aclose(self) -> None:
        await self._session.close()
