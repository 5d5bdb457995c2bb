"""Errors of the openai SDK and its transport, translated at one place, most specific first."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from typing import Any

from ..errors import CreateAgentsError, ProtocolError, ProviderConnectionError, ProviderError, ProviderTimeoutError
from ..logging_config import redact
from .http_errors import model_not_found, status_error
from .transport import what_broke

__all__ = ["list_models", "translated"]


@asynccontextmanager
async def translated(client: Any, model: str | None) -> AsyncGenerator[Callable[[Any], ProviderError], None]:
    """Errors raised inside come out as ours, the original chained. Gives a maker for errors inside a stream."""
    import httpx2
    import openai

    url = str(client.base_url).rstrip("/")
    name = "OpenAI" if "api.openai.com" in url else f"The server at {url}"
    secret = client.api_key

    def from_body(body: Any, status: int | None = None) -> ProviderError:
        if status is None and isinstance(body, dict) and isinstance(body.get("code"), int):
            status = body["code"]
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
    except CreateAgentsError:
        raise
    except openai.NotFoundError as error:
        if model is not None and _is_about_model(error):
            names = await _names(client)
            hint = "Choose another model with model=…"
            raise model_not_found(model, names, provider="openai", label=name, url=url, hint=hint) from error
        raise from_body(_body(error), 404) from error
    except openai.APIStatusError as error:
        raise from_body(_body(error), error.status_code) from error
    except (openai.APIConnectionError, httpx2.TransportError) as error:
        kind, text = _connection_error(error, name)
        raise kind(redact(text, secret), provider="openai") from error
    except (openai.APIResponseValidationError, httpx2.HTTPError, httpx2.InvalidURL) as error:
        raise ProtocolError(redact(f"{name}: {error}", secret), provider="openai") from error
    except openai.OpenAIError as error:
        raise ProviderError(redact(f"{name}: {error}", secret), provider="openai") from error


async def list_models(client: Any) -> list[str]:
    """Names of the models the server lists, sorted; errors translated."""
    async with translated(client, None):
        return sorted([model.id async for model in client.models.list()])


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


def _is_about_model(error: Any) -> bool:
    body = _body(error)
    return "model" in str(body).lower() and not (isinstance(body, str) and body.lstrip().startswith("<"))


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
