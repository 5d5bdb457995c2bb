"""A request straight over aiohttp: the SDKs' layers take several times as long as the sending itself."""

from __future__ import annotations

import asyncio
import select
from collections.abc import Iterable, Mapping
from functools import cache, lru_cache, partial
from typing import Any
from urllib.parse import urlsplit

import aiohttp
from yarl import URL

from . import clients
from .transport_errors import head_timeout_s

__all__ = ["Straight", "session"]


@lru_cache(64)
def _timeout(timeout_s: float) -> aiohttp.ClientTimeout:
    return aiohttp.ClientTimeout(
        total=None, sock_connect=min(timeout_s, clients.CONNECT_TIMEOUT_S), sock_read=timeout_s
    )


def session(*, tls: bool) -> aiohttp.ClientSession:
    """A connection pool without an end, without cookies, and without what was sent unasked."""
    connector = aiohttp.TCPConnector(
        limit=0,  # as many connections as there are turns
        keepalive_timeout=clients.KEEPALIVE_S,
        ssl=clients.tls_context() if tls else True,
    )
    made_by = getattr(connector, "_factory", None)  # there is no public way; without it all works as before
    if isinstance(made_by, partial) and hasattr(made_by.func, "should_close"):
        connector._factory = partial(_wary(made_by.func), **made_by.keywords)
    return aiohttp.ClientSession(connector=connector, cookie_jar=aiohttp.DummyCookieJar())


@cache
def _wary(protocol: Any) -> Any:
    """aiohttp looks for what waits on a connection when it is given back, and not when it is taken again.

    What comes between would be taken for the answer to the next request.
    """

    class Wary(protocol):  # type: ignore[misc]
        def is_connected(self) -> bool:
            return super().is_connected() and not self.should_close and not _is_readable(self.transport)

    return Wary


def _is_readable(transport: asyncio.BaseTransport) -> bool:
    """Of a connection at rest: something came unasked, or its end. A loop that was busy knows of neither."""
    socket = transport.get_extra_info("socket")
    if socket is None or socket.fileno() < 0:
        return False
    if not hasattr(select, "poll"):  # on Windows, where select takes any socket
        return bool(select.select([socket.fileno()], [], [], 0)[0])
    poll = select.poll()
    poll.register(socket.fileno(), select.POLLIN)
    return bool(poll.poll(0))


class Straight:
    """Sends to one server, over a connection pool of its own.

    Nothing is tried again: who asks decides. aiohttp holds back a sender that is two read buffers (128 kB) ahead
    of the reader.
    """

    def __init__(self, base_url: str) -> None:
        self._base_url = base_url
        self._urls: dict[str, URL] = {}
        self._session = session(tls=urlsplit(base_url).scheme == "https")
        self._session.headers["Accept-Encoding"] = "identity"  # a packed stream comes late

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
        async with asyncio.timeout(head_timeout_s(timeout.sock_connect, timeout.sock_read)):
            try:
                return await self._session.request(
                    method, url, data=body, headers=headers, allow_redirects=follow_redirects, timeout=timeout
                )
            except ValueError as error:
                if isinstance(error, aiohttp.ClientError):
                    raise
                # The address in a redirect has a password, or a host that no name can be.
                raise aiohttp.InvalidURL(url, "it redirects to what is no address") from error

    @property
    def is_closed(self) -> bool:
        return self._session.closed

    async def aclose(self) -> None:
        await self._session.close()
