"""Errors of Ollama and its transport, translated at one place, most specific first."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any, Protocol

import msgspec

from ..errors import (
    CreateAgentsError,
    ModelNotFoundError,
    ProtocolError,
    ProviderConnectionError,
    ProviderError,
    ProviderTimeoutError,
)
from .http_errors import is_unknown_model, model_not_found, status_error
from .transport import what_broke

__all__ = ["http_client", "list_models", "translated"]


_CONNECTION: dict[str, tuple[type[ProviderConnectionError], str]] = {
    "refused": (
        ProviderConnectionError,
        "Ollama does not answer at {url}. Start it with `ollama serve` (install: https://ollama.com/download), or "
        "give its address in OLLAMA_HOST or base_url=…",
    ),
    "lost": (ProviderConnectionError, "The connection to Ollama broke before the answer was complete. Try again"),
    "timeout": (
        ProviderTimeoutError,
        "Ollama at {url} sent nothing for too long. It may be loading the model: try again, or raise timeout_s",
    ),
}


class _OnError(Protocol):
    def __call__(self, body: Any, status: int | None = None) -> ProviderError: ...


class _Tag(msgspec.Struct):
    name: str


class _Tags(msgspec.Struct):
    models: list[_Tag]


def http_client(client: Any) -> Any:
    """The httpx client inside an ``ollama.AsyncClient``: the SDK has no public way to the bytes of a reply."""
    return client._client


@asynccontextmanager
async def translated(client: Any, model: str | None) -> AsyncGenerator[_OnError, None]:
    """Errors raised inside come out as ours, the original chained. Gives a maker for errors in an answer."""
    import aiohttp
    import httpx

    http = http_client(client)
    url = str(http.base_url).rstrip("/")
    secret = http.headers.get("authorization", "").removeprefix("Bearer ")

    def from_body(body: Any, status: int | None = None) -> ProviderError:
        if status == 404 and model is not None and is_unknown_model(body):
            return _no_model(model, [], url)
        return status_error(
            status,
            body,
            provider="ollama",
            label="Ollama",
            url=url,
            secret=secret,
            key_hint="Set OLLAMA_API_KEY, or pass api_key=…",
        )

    try:
        yield from_body
    except ModelNotFoundError as error:
        if model is None:
            raise
        raise _no_model(model, await _names(client), url) from error
    except ProviderError as error:
        error.provider = error.provider or "ollama"
        raise
    except CreateAgentsError:
        raise
    except httpx.TransportError as error:
        kind, text = _CONNECTION[what_broke(error)]
        raise kind(text.format(url=url), provider="ollama") from error
    except (httpx.HTTPError, httpx.InvalidURL, aiohttp.ClientError) as error:
        raise ProtocolError(f"Ollama: {error}", provider="ollama") from error


def _no_model(model: str, names: list[str], url: str) -> ModelNotFoundError:
    hint = f"`ollama pull {model}` fetches it"
    return model_not_found(model, names, provider="ollama", label="Ollama", url=url, hint=hint)


async def list_models(client: Any) -> list[str]:
    """Names of the models the server lists, sorted; errors translated."""
    async with translated(client, None) as on_error:
        reply = await http_client(client).get("/api/tags")
        if reply.status_code != 200:
            raise on_error(reply.content, reply.status_code)
        try:
            return sorted(tag.name for tag in msgspec.json.decode(reply.content, type=_Tags).models)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise ProtocolError(f"This does not look like Ollama: {error}", provider="ollama") from error


async def _names(client: Any) -> list[str]:
    try:
        async with asyncio.timeout(5):
            return await list_models(client)
    except (ProviderError, TimeoutError):
        return []
