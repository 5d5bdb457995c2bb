"""Errors of Ollama and its transport, translated at one place, most specific first."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import msgspec

from ..errors import (
    CreateAgentsError,
    ModelNotFoundError,
    ProtocolError,
    ProviderConnectionError,
    ProviderError,
    ProviderTimeoutError,
)
from ..redaction import mask_known_keys
from . import clients
from .error_mapping import ErrorMaker, beginning, is_unknown_model, model_not_found, status_error, way_error
from .ollama_endpoint import Endpoint, Reply
from .transport_errors import classify_error, root_cause, scrub

__all__ = ["list_models", "refusal", "translated"]


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


class _Tag(msgspec.Struct):
    name: str


class _Tags(msgspec.Struct):
    models: list[_Tag]


@asynccontextmanager
async def translated(endpoint: Endpoint, model: str | None) -> AsyncGenerator[ErrorMaker, None]:
    """Errors raised inside come out as ours, the original chained. Gives a maker for errors in an answer."""
    url, secret = endpoint.url, endpoint.secret

    def from_body(body: Any, status: int | None = None, headers: Mapping[str, str] | None = None) -> ProviderError:
        if status == 404 and model is not None and is_unknown_model(body):
            return _no_model(model, [], url)
        return status_error(
            status,
            body,
            provider="ollama",
            label="Ollama",
            url=url,
            secret=secret,
            headers=headers,
            key_hint="Set OLLAMA_API_KEY, or pass api_key=…",
        )

    maker = ErrorMaker("ollama", secret, from_body)
    try:
        yield maker
    except ModelNotFoundError as error:
        if model is None:
            raise
        raise maker.complete(_no_model(model, await _names(endpoint), url)) from error
    except ProviderError as error:
        maker.complete(error)
        raise
    except CreateAgentsError:
        raise
    except Exception as error:
        kind = classify_error(error)
        if kind is None:
            raise
        raise _ours(error, kind, url, maker) from error


def _ours(error: Exception, kind: str, url: str, maker: ErrorMaker) -> ProviderError:
    ours = way_error(error, f"Ollama at {url}")
    if ours is None and kind == "protocol":
        ours = ProtocolError(f"Ollama: {error}")
    if ours is None:
        made, text = _CONNECTION[root_cause(error)]
        ours = made(text.format(url=url))
    scrub(error, maker.secret)
    return maker.complete(ours)


async def refusal(reply: Reply, on_error: ErrorMaker) -> ProviderError:
    """The error for a reply that is no answer; what is in it is in no frame that raises it."""
    return on_error(await beginning(reply.blocks), reply.status, reply.headers)


def _no_model(model: str, names: list[str], url: str) -> ModelNotFoundError:
    hint = f"`ollama pull {model}` fetches it"
    return model_not_found(model, names, provider="ollama", label="Ollama", url=url, hint=hint)


async def list_models(endpoint: Endpoint) -> list[str]:
    """Names of the models the server lists, sorted; errors translated."""
    async with translated(endpoint, None) as on_error, endpoint.request("GET", "/api/tags") as reply:
        if reply.status != 200:
            raise await refusal(reply, on_error)
        body = await beginning(reply.blocks, clients.MAX_LIST_BYTES)
        try:
            return sorted(mask_known_keys(tag.name) for tag in msgspec.json.decode(body, type=_Tags).models)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise ProtocolError(f"This does not look like Ollama: {error}", provider="ollama") from error


async def _names(endpoint: Endpoint) -> list[str]:
    try:
        async with asyncio.timeout(5):
            return await list_models(endpoint)
    except (ProviderError, TimeoutError):
        return []
