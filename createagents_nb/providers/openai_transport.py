"""What the SDK sends with when it goes on after an attempt of ours: aiohttp behind httpx2's interface."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager

import aiohttp
import httpx2

from ..logging_config import Secret
from . import clients
from .http_errors import MAX_ERROR_BYTES
from .straight import Straight

__all__ = ["StraightTransport"]


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
        left = None
        if self._request.method == "GET" or self._reply.status != 200:
            # The SDK reads such a body whole, however long it is.
            left = clients.MAX_LIST_BYTES if self._reply.status == 200 else MAX_ERROR_BYTES
        with _as_httpx2(self._request):
            async for block in self._reply.content.iter_any():
                yield block if left is None else block[:left]
                if left is not None:
                    left -= len(block)
                    if left <= 0:
                        return

    async def aclose(self) -> None:
        self._reply.release()


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
        return httpx2.Response(reply.status, headers=headers, stream=_Body(reply, request), request=request)
