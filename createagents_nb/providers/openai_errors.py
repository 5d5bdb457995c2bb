"""Errors of the openai SDK and its transport, translated at one place, most specific first."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from typing import Any

import msgspec

from ..errors import CreateAgentsError, ProtocolError, ProviderConnectionError, ProviderError, ProviderTimeoutError
from ..logging_config import redact
from .http_errors import is_unknown_model, model_not_found, status_error
from .transport import what_broke

__all__ = ["list_models", "translated"]


class _Model(msgspec.Struct):
    id: str


class _Models(msgspec.Struct):
    data: list[_Model]


@asynccontextmanager
async def translated(client: Any, model: str | None) -> AsyncGenerator[Callable[[Any], ProviderError], None]:
    """Errors raised inside come out as ours, the original chained. Gives a maker for errors inside a stream."""
    import aiohttp
    import httpx2
    import openai

    url = str(client.base_url).rstrip("/")
    name = "OpenAI" if "api.openai.com" in url else f"The server at {url}"
    secret = client.api_key

    def from_body(body: Any, status: int | None = None) -> ProviderError:
        if status is None:
            status = _status_in(body)
        return status_error(
            status,
            body,
            provider="openai",
            label=name,
            url=url,
            secret=secret,
            key_hint="Set OPENAI_API_KEY to a valid key, or pass api_key=…",
        )

    try:
        yield from_body
    except ProviderError as error:
        error.provider = error.provider or "openai"
        raise
    except CreateAgentsError:
        raise
    except openai.APIStatusError as error:
        # A server may repeat the key it refuses, and a chained error is printed with ours.
        error.args = tuple(redact(str(argument), secret) for argument in error.args)
        if model is not None and error.status_code in (400, 404) and is_unknown_model(_body(error)):
            raise model_not_found(
                model,
                await _names(client),
                provider="openai",
                label=name,
                url=url,
                hint="Choose another model with model=…",
                status=error.status_code,
            ) from error
        raise from_body(_body(error), error.status_code) from error
    except (openai.APIConnectionError, httpx2.TransportError) as error:
        kind, text = _connection_error(error, name)
        raise kind(redact(text, secret), provider="openai") from error
    except (openai.APIResponseValidationError, httpx2.HTTPError, httpx2.InvalidURL, aiohttp.ClientError) as error:
        raise ProtocolError(redact(f"{name}: {error}", secret), provider="openai") from error
    except openai.OpenAIError as error:
        raise ProviderError(redact(f"{name}: {error}", secret), provider="openai") from error


async def list_models(client: Any) -> list[str]:
    """Names of the models the server lists, sorted; errors translated."""
    async with translated(client, None):
        # The SDK's own page object breaks on servers that answer in another form.
        reply = await client.models.with_raw_response.list()
        try:
            return sorted(model.id for model in msgspec.json.decode(reply.content, type=_Models).data)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise ProtocolError(f"{client.base_url}models lists no models: {error}. Check base_url") from error


async def _names(client: Any) -> list[str]:
    try:
        async with asyncio.timeout(5):
            return await list_models(client.with_options(max_retries=0))
    except (ProviderError, TimeoutError):
        return []


def _body(error: Any) -> Any:
    # `body` is the inner error object, None when the body was not JSON.
    if error.body is not None:
        return error.body
    return error.response.text  # the SDK has read it before it raises


def _status_in(body: Any) -> int | None:
    """The HTTP status that an error object inside a stream names as its code."""
    code = str(body.get("code")) if isinstance(body, dict) else ""
    return int(code) if len(code) == 3 and code.isdecimal() and code[0] in "45" else None


def _connection_error(error: Exception, name: str) -> tuple[type[ProviderConnectionError], str]:
    broke = what_broke(error)
    if broke == "timeout":
        return ProviderTimeoutError, f"{name} sent nothing for too long. Try again, or raise timeout_s"
    if broke == "lost":
        return ProviderConnectionError, f"{name} closed the connection before the answer was complete. Try again"
    return ProviderConnectionError, f"{name} cannot be reached: {_root(error)}. Check the network and base_url"


def _root(error: BaseException) -> str:
    while error.__cause__ is not None:
        error = error.__cause__
    return str(error) or type(error).__name__
