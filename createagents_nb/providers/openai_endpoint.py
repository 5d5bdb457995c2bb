"""Where Chat Completions requests go: a client of the SDK, or straight to a server with the SDK behind."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from ..redaction import Secret, as_secret
from . import clients
from .wire_format import encoded

if TYPE_CHECKING:
    from .straight import Straight

__all__ = ["Endpoint", "Reply", "SdkEndpoint", "StraightEndpoint", "needs_sdk"]

_OPTIONS: Final = {
    "extra_headers": "headers",
    "extra_query": "params",
    "extra_body": "extra_json",
    "timeout": "timeout",
}
"""Arguments of ``create`` that are not in the body, and what ``client.post`` calls them."""


@dataclass(frozen=True, slots=True)
class Reply:
    """A reply with status 200, its body yet to be read."""

    blocks: AsyncIterator[bytes]
    retries: int = 0
    """How often the request was sent before."""


class Endpoint(ABC):
    """Raises what the SDK and aiohttp raise; `openai_errors.translated` makes ours of it."""

    url: str
    """Without a slash at its end."""
    secret: str | None
    """The key in use: never to be repeated."""

    @abstractmethod
    def post(self, arguments: Mapping[str, Any]) -> AbstractAsyncContextManager[Reply]:
        """Send a request: arguments of ``client.chat.completions.create``."""

    @abstractmethod
    async def models(self) -> bytes:
        """What ``GET /models`` answers."""


class SdkEndpoint(Endpoint):
    """A client of the SDK, used as it is.

    Args:
        client: an ``openai.AsyncOpenAI``.
    """

    def __init__(self, client: Any) -> None:
        self.client = client
        self.url = str(client.base_url).rstrip("/")
        self.secret = as_secret(client.api_key)

    @asynccontextmanager
    async def post(self, arguments: Mapping[str, Any]) -> AsyncGenerator[Reply, None]:
        import httpx2
        import openai

        body = {
            name: value
            for name, value in arguments.items()
            if not isinstance(value, openai.Omit | openai.NotGiven)
        }
        options = {_OPTIONS[name]: body.pop(name) for name in _OPTIONS if name in body}
        # As `create` sends it, which goes through every field once more: half of the time of a request.
        reply = await self.client.post(
            "/chat/completions",
            cast_to=httpx2.Response,
            body=body,
            options=options,
            stream=True,  # or the body would be read now
            stream_cls=openai.AsyncStream,
        )
        try:
            yield Reply(reply.aiter_bytes(), int(reply.request.headers.get("x-stainless-retry-count", 0)))
        finally:
            await reply.aclose()

    async def models(self) -> bytes:
        # The SDK's own page object breaks on servers that answer in another form.
        reply: bytes = (await self.client.models.with_raw_response.list()).content
        return reply


class StraightEndpoint(Endpoint):
    """A server that is asked over aiohttp; what is not answered with 200 is the SDK's.

    The SDK finds what came of the first attempt as if it had made it, and goes on from there: redirects, retries,
    waiting and errors are its own, and it is imported when it is needed.
    """

    def __init__(
        self, straight: Straight, base_url: str, api_key: str | None, *, timeout_s: float, max_retries: int
    ) -> None:
        self.url, self.secret = base_url, api_key
        self._straight, self._timeout_s, self._max_retries = straight, timeout_s, max_retries
        self._headers = _headers(api_key)

    @asynccontextmanager
    async def post(self, arguments: Mapping[str, Any]) -> AsyncGenerator[Reply, None]:
        import aiohttp

        body = dict(arguments)
        body |= body.pop("extra_body", None) or {}
        first: Any
        try:
            first = await self._straight.request(
                "POST", "/chat/completions", encoded(body), self._headers, self._timeout_s
            )
        except (aiohttp.ClientError, TimeoutError) as error:
            first = error
        else:
            if first.status == 200:
                try:
                    yield Reply(first.content.iter_any())
                finally:
                    first.release()  # to the pool when it was read to its end; else the connection is closed
                return
        async with self._sdk(first) as sdk, sdk.post(arguments) as reply:
            yield reply

    async def models(self) -> bytes:
        async with self._sdk() as sdk:
            return await sdk.models()

    @asynccontextmanager
    async def _sdk(self, first: Any = None) -> AsyncGenerator[SdkEndpoint, None]:
        try:
            await clients.load("openai", "aiohttp")
            import httpx2
            import openai

            from .openai_transport import StraightTransport

            timeout = httpx2.Timeout(self._timeout_s, connect=min(self._timeout_s, clients.CONNECT_TIMEOUT_S))
            transport = StraightTransport(self._straight, first)
            async with (
                httpx2.AsyncClient(transport=transport, follow_redirects=True, timeout=timeout) as http,
                openai.AsyncOpenAI(
                    api_key=self.secret or "none",
                    base_url=self.url,
                    timeout=timeout,
                    max_retries=self._max_retries,
                    http_client=http,
                ) as client,
            ):
                yield SdkEndpoint(client)
        finally:
            if hasattr(first, "release"):
                first.release()


def needs_sdk(base_url: str) -> bool:
    """Whether there is more to a request than an address and a key: a proxy, or headers from the environment."""
    return bool(os.environ.get("OPENAI_CUSTOM_HEADERS")) or clients.has_proxy(base_url)


def _headers(api_key: str | None) -> dict[str, str]:
    """As the SDK makes them, but for those that tell about this machine."""
    headers = {
        "Authorization": Secret(f"Bearer {api_key or 'none'}"),
        "Accept": "application/json",
        "Content-Type": "application/json",
        "User-Agent": "createagents-nb",
    }
    for name, variable in (("OpenAI-Organization", "OPENAI_ORG_ID"), ("OpenAI-Project", "OPENAI_PROJECT_ID")):
        value = os.environ.get(variable, "").strip()
        if value:
            headers[name] = value
    return headers
