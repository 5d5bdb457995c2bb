"""What the SDK sends with when it goes on after an attempt of ours: aiohttp behind httpx2's interface."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from functools import partial
from http.cookiejar import CookieJar, DefaultCookiePolicy
from typing import Any

import aiohttp
import httpx2
import openai

from ..redaction import Secret
from . import clients
from .error_mapping import MAX_ERROR_BYTES
from .straight import Straight, session
from .transport_errors import head_timeout_s, no_more_than

__all__ = ["BoundedClient", "StraightTransport"]


@contextmanager
def _as_httpx2(request: httpx2.Request) -> Iterator[None]:
    """aiohttp's errors as those after which the SDK tries again."""
    try:
        yield
    except aiohttp.ConnectionTimeoutError as error:
        raise httpx2.ConnectTimeout(str(error), request=request) from error
    except TimeoutError as error:
        raise httpx2.ReadTimeout(str(error), request=request) from error
    except aiohttp.ClientConnectorError as error:
        raise httpx2.ConnectError(str(error), request=request) from error
    except aiohttp.InvalidURL as error:
        raise httpx2.UnsupportedProtocol(str(error), request=request) from error
    except aiohttp.ClientError as error:
        raise httpx2.ReadError(str(error), request=request) from error


class _Body(httpx2.AsyncByteStream):
    def __init__(self, reply: aiohttp.ClientResponse, request: httpx2.Request) -> None:
        self._reply, self._request = reply, request

    async def __aiter__(self) -> AsyncIterator[bytes]:
        with _as_httpx2(self._request):
            async for block in self._reply.content.iter_any():
                yield block

    async def aclose(self) -> None:
        self._reply.release()


class _Beginning(httpx2.AsyncByteStream):
    """Of a body that the SDK reads whole, however long it is, and however slowly it comes."""

    def __init__(self, whole: httpx2.AsyncByteStream, response: httpx2.Response) -> None:
        self._whole, self._request = whole, response.request
        self._is_list = response.status_code == 200

    async def __aiter__(self) -> AsyncIterator[bytes]:
        limit = clients.MAX_LIST_BYTES if self._is_list else MAX_ERROR_BYTES
        read_s = self._request.extensions["timeout"]["read"]
        try:
            async for block in no_more_than(aiter(self._whole), limit, read_s, cut=not self._is_list):
                yield block
        except httpx2.TimeoutException:
            if self._is_list:
                raise
        except TimeoutError as error:
            raise httpx2.ReadTimeout("the list did not end", request=self._request) from error

    async def aclose(self) -> None:
        await self._whole.aclose()


async def _bound(response: httpx2.Response) -> None:
    """All but the answer itself, of which each block is ours."""
    if response.request.method == "GET" or response.status_code != 200:
        assert isinstance(response.stream, httpx2.AsyncByteStream)
        response.stream = _Beginning(response.stream, response)
    if response.status_code != 200:
        response.headers.pop("content-encoding", None)  # a megabyte may unpack to a gigabyte


class BoundedClient(openai.DefaultAioHttpClient):
    """What the SDK sends with where it has its own way to a server: a proxy, or headers of the environment."""

    def __init__(self, **options: Any) -> None:
        super().__init__(
            cookies=CookieJar(DefaultCookiePolicy(allowed_domains=[])),
            event_hooks={"response": [_bound]},
            headers={"Accept-Encoding": "identity"},
            **options,
        )
        # aiohttp would keep cookies, too. There is no public way to its session; without it all works as before.
        for transport in (self._transport, *self._mounts.values()):
            if transport is not None and hasattr(transport, "client"):
                transport.client = partial(session, tls=True)

    async def send(self, request: httpx2.Request, **options: Any) -> httpx2.Response:
        limits = request.extensions["timeout"]
        try:
            async with asyncio.timeout(head_timeout_s(limits["connect"], limits["read"])):
                return await super().send(request, **options)
        except TimeoutError as error:
            raise httpx2.ReadTimeout("the head of the reply did not end", request=request) from error


class StraightTransport(httpx2.AsyncBaseTransport):
    """Sends over a connection pool that belongs to somebody else.

    Args:
        straight: not closed here.
        first: what came of the first request, which was sent already: a reply, or an error.
    """

    def __init__(self, straight: Straight, first: aiohttp.ClientResponse | Exception | None = None) -> None:
        self._straight, self._first = straight, first

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        first, self._first = self._first, None
        limits = request.extensions["timeout"]
        with _as_httpx2(request):
            if isinstance(first, Exception):
                raise first
            reply = first or await self._straight.send(
                request.method,
                str(request.url),
                await request.aread() or None,
                [
                    (name, Secret(value) if name.lower() == "authorization" else value)
                    for name, value in request.headers.multi_items()
                ],
                aiohttp.ClientTimeout(total=None, sock_connect=limits["connect"], sock_read=limits["read"]),
            )
        # Unpacked already.
        headers = [(name, value) for name, value in reply.raw_headers if name.lower() != b"content-encoding"]
        response = httpx2.Response(reply.status, headers=headers, stream=_Body(reply, request), request=request)
        await _bound(response)
        return response
