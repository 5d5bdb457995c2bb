"""Ollama's own API."""

from __future__ import annotations

import asyncio
import importlib
import os
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any
from urllib.parse import urlsplit
from weakref import WeakKeyDictionary

from ..core.events import Event
from ..core.provider import ChatRepository, ChatRequest
from ..errors import ConfigurationError
from ..redaction import as_secret
from . import clients
from .ollama_endpoint import Endpoint, SdkEndpoint, StraightEndpoint, base_url_of
from .ollama_errors import list_models
from .ollama_handlers import OllamaHandler, OllamaStreamHandler
from .ollama_request import UNSUPPORTED, build_body

__all__ = ["OllamaChatAdapter"]


class OllamaChatAdapter(ChatRepository):
    """``POST /api/chat``.

    Args:
        base_url: default ``OLLAMA_HOST``, else ``http://127.0.0.1:11434``.
        api_key: for a server behind a key; default ``OLLAMA_API_KEY``.
        timeout_s: how long no byte may arrive, in seconds. Loading a large model counts.
        max_retries: of a request that was not answered (408, 409, 429, from 500 on, a lost connection, nothing for
            too long); never after the first token, and never where nobody listens.
        client: an ``ollama.AsyncClient`` of your own, used as it is and never closed.

    Raises:
        ConfigurationError: the address or the key cannot be one.

    Example:
        >>> adapter = OllamaChatAdapter(base_url="http://gpu-box:11434")
    """

    provider = "ollama"
    price_provider = ""
    default_model = None
    unsupported_config = UNSUPPORTED

    def __init__(
        self,
        *,
        base_url: str | None = None,
        api_key: str | None = None,
        timeout_s: float = 120.0,
        max_retries: int = 2,
        client: Any = None,
    ) -> None:
        api_key, base_url = as_secret(api_key), as_secret(base_url)
        # Apart from the checks: a verbose traceback shows what stands in a line that fails, all of os.environ too.
        address = base_url or as_secret(os.environ.get("OLLAMA_HOST")) or "http://127.0.0.1:11434"
        api_key = api_key or as_secret(os.environ.get("OLLAMA_API_KEY"))
        self._base_url = _checked(address)
        self.server = urlsplit(clients.endpoint_of(self._base_url)).hostname
        self._api_key = clients.checked_key(api_key)
        self._timeout_s, self._max_retries = timeout_s, max_retries
        self._own_client = client
        self._endpoints: WeakKeyDictionary[asyncio.AbstractEventLoop, Endpoint] = WeakKeyDictionary()

    async def round_trip(self, request: ChatRequest) -> AsyncGenerator[Event, None]:
        endpoint = await self._endpoint()
        body = build_body(request)
        handler = OllamaStreamHandler() if body["stream"] else OllamaHandler()
        async with aclosing(handler.events(endpoint, body, max_retries=self._max_retries)) as events:
            async for event in events:
                yield event

    async def models(self) -> list[str]:
        return await list_models(await self._endpoint())

    async def _endpoint(self) -> Endpoint:
        if self._own_client is not None:
            return SdkEndpoint(self._own_client)
        loop = asyncio.get_running_loop()
        clients.forget_closed_loops(self._endpoints)
        endpoint = self._endpoints.get(loop)
        if endpoint is None:
            base_url = base_url_of(self._base_url)
            endpoint = await (self._sdk() if clients.has_proxy(base_url) else self._straight(base_url))
            self._endpoints[loop] = endpoint
        return endpoint

    async def _straight(self, base_url: str) -> Endpoint:
        straight = await clients.straight(base_url)
        return StraightEndpoint(straight, base_url, self._api_key, timeout_s=self._timeout_s)

    async def _sdk(self) -> Endpoint:
        if clients.loaded("ollama") is None:  # it makes a client when it is imported
            await asyncio.to_thread(clients.through_proxy, lambda: importlib.import_module("ollama"))
        await clients.load("httpx2")
        import httpx
        import ollama

        tls, connect_s = clients.tls_context(), min(self._timeout_s, clients.CONNECT_TIMEOUT_S)
        client = await clients.shared(
            ("ollama", self._base_url, clients.fingerprint(self._api_key), self._timeout_s),
            lambda: clients.through_proxy(
                lambda: ollama.AsyncClient(
                    host=self._base_url,
                    headers={"Authorization": f"Bearer {self._api_key}"} if self._api_key else None,
                    timeout=httpx.Timeout(self._timeout_s, connect=connect_s),
                    limits=httpx.Limits(max_connections=None, keepalive_expiry=clients.KEEPALIVE_S),
                    verify=tls,
                )
            ),
            _closed,
        )
        return SdkEndpoint(client, is_ours=True)

    def __repr__(self) -> str:
        address = getattr(self, "_base_url", None)  # a traceback of `__init__` shows its locals
        return f"{type(self).__name__}({'not made' if address is None else clients.endpoint_of(address)})"


async def _closed(client: Any) -> None:
    await client.close()


def _checked(host: str) -> str:
    """A host as Ollama takes it: ``box``, ``box:11434``, ``:11434``, ``https://box/path``."""
    flaw = _flaw(host)  # found in a frame of its own: a traceback of this one shows no parts
    if flaw is not None:
        raise ConfigurationError(flaw)
    return str(host)


def _flaw(host: str) -> str | None:
    try:
        parts = urlsplit(host if "://" in host else f"http://{host}")
        parts.port  # noqa: B018 - reading it is the check
        (parts.hostname or "").encode("idna")
        fine = parts.scheme in ("http", "https") and not any(sign.isspace() for sign in host)
    except (TypeError, ValueError):
        fine = False
    if not fine:
        return (
            "Ollama's address (base_url, or OLLAMA_HOST) must be like http://127.0.0.1:11434, not "
            f"{clients.without_password(host)!r}"
        )
    if parts.username or parts.password:
        return "Ollama's address must not carry a password: give the key as api_key=…"
    if parts.query or parts.fragment:
        return "Ollama's address must end with its path: without ?… and #…"
    return None
