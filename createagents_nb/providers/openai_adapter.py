"""OpenAI and every compatible server: vLLM, llama.cpp, LM Studio, OpenRouter, Azure's compatible endpoint…"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any
from urllib.parse import urlsplit
from weakref import WeakKeyDictionary

from ..core.events import Event
from ..core.provider import ChatRepository, ChatRequest
from ..errors import MissingKeyError
from ..redaction import as_secret
from . import clients
from .openai_endpoint import Endpoint, SdkEndpoint, StraightEndpoint, needs_sdk
from .openai_errors import list_models
from .openai_handlers import OpenAIHandler, OpenAIStreamHandler
from .openai_request import UNSUPPORTED, build_arguments

__all__ = ["OpenAIChatAdapter"]

_OPENAI = "https://api.openai.com/v1"


class OpenAIChatAdapter(ChatRepository):
    """Chat Completions; the openai SDK has what is not answered at the first attempt.

    Args:
        api_key: default ``OPENAI_API_KEY``. A compatible server (``base_url``) may need none.
        base_url: default ``OPENAI_BASE_URL``, else OpenAI itself. Ends in ``/v1`` as a rule.
        timeout_s: how long no byte may arrive, in seconds.
        max_retries: of a request that was not answered; never after the first token.
        client: an ``openai.AsyncOpenAI`` of your own, used as it is and never closed.

    Raises:
        MissingKeyError: no key, and the endpoint is OpenAI itself.
        ConfigurationError: ``base_url`` is not an http(s) address, or the key cannot be one.

    Example:
        >>> adapter = OpenAIChatAdapter(base_url="http://127.0.0.1:8080/v1")
    """

    provider = "openai"
    default_model = "gpt-4.1-mini"
    unsupported_config = UNSUPPORTED

    def __init__(
        self,
        *,
        api_key: str | None = None,
        base_url: str | None = None,
        timeout_s: float = 120.0,
        max_retries: int = 2,
        client: Any = None,
    ) -> None:
        api_key, base_url = as_secret(api_key), as_secret(base_url)
        self._timeout_s, self._max_retries = timeout_s, max_retries
        self._own_client = client
        own_url = None if client is None else as_secret(str(client.base_url))
        # Apart from the checks: a verbose traceback shows what stands in a line that fails, all of os.environ too.
        address = own_url or base_url or as_secret(os.environ.get("OPENAI_BASE_URL")) or _OPENAI
        api_key = api_key or as_secret(os.environ.get("OPENAI_API_KEY"))
        self._base_url = clients.checked_address(address, "http://127.0.0.1:8080/v1")
        self.server = urlsplit(self._base_url).hostname
        self._api_key = clients.checked_key(api_key)
        if client is None and not self._api_key and self.is_openai_itself:
            raise MissingKeyError(
                "OpenAI needs a key: `%agent key` asks for it in a notebook; else set OPENAI_API_KEY in the "
                "environment, or pass api_key=…; without one, provider='demo' or a local provider='ollama' work"
            )
        self._endpoints: WeakKeyDictionary[asyncio.AbstractEventLoop, Endpoint] = WeakKeyDictionary()

    @property
    def is_openai_itself(self) -> bool:
        return self.server == "api.openai.com"

    async def round_trip(self, request: ChatRequest) -> AsyncGenerator[Event, None]:
        endpoint = await self._endpoint()
        arguments = build_arguments(request, is_openai_itself=self.is_openai_itself)
        handler = OpenAIStreamHandler() if arguments.get("stream") else OpenAIHandler()
        async with aclosing(handler.events(endpoint, arguments)) as events:
            async for event in events:
                yield event

    async def models(self) -> list[str]:
        return await list_models(await self._endpoint())

    async def _address(self) -> str:
        return self._base_url

    async def _endpoint(self) -> Endpoint:
        if self._own_client is not None:
            return SdkEndpoint(self._own_client)
        loop = asyncio.get_running_loop()
        clients.forget_closed_loops(self._endpoints)
        endpoint = self._endpoints.get(loop)
        if endpoint is None:
            base_url = await self._address()
            endpoint = await (self._sdk(base_url) if needs_sdk(base_url) else self._straight(base_url))
            self._endpoints[loop] = endpoint
        return endpoint

    async def _straight(self, base_url: str) -> Endpoint:
        straight = await clients.straight(base_url)
        return StraightEndpoint(
            straight, base_url, self._api_key, timeout_s=self._timeout_s, max_retries=self._max_retries
        )

    async def _sdk(self, base_url: str) -> Endpoint:
        await clients.load("openai", "aiohttp")
        import httpx2
        import openai

        from .openai_transport import BoundedClient

        tls = clients.tls_context()
        http = await clients.shared(
            ("openai", base_url),
            lambda: clients.through_proxy(
                lambda: BoundedClient(
                    verify=tls,
                    # 0 is aiohttp's word for "as many as there are turns".
                    limits=httpx2.Limits(max_connections=0, keepalive_expiry=clients.KEEPALIVE_S),
                )
            ),
            lambda opened: opened.aclose(),
        )
        client = openai.AsyncOpenAI(
            api_key=self._api_key or "none",
            base_url=base_url,
            timeout=httpx2.Timeout(self._timeout_s, connect=min(self._timeout_s, clients.CONNECT_TIMEOUT_S)),
            max_retries=self._max_retries,
            http_client=http,
        )
        return SdkEndpoint(client)

    def __repr__(self) -> str:
        address = getattr(self, "_base_url", None)  # a traceback of `__init__` shows its locals
        return f"{type(self).__name__}({'not made' if address is None else clients.endpoint_of(address)})"
