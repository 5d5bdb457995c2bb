"""Errors of the openai SDK and its transport, translated at one place, most specific first."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from typing import Any, Literal

import msgspec

from ..errors import CreateAgentsError, ProtocolError, ProviderConnectionError, ProviderError, ProviderTimeoutError
from ..redaction import mask_known_keys
from .clients import loaded
from .error_mapping import ErrorMaker, is_unknown_model, model_not_found, status_error, way_error
from .openai_endpoint import Endpoint
from .transport_errors import classify_error, cleaned_json, root_cause, scrub

__all__ = ["list_models", "translated"]


class _Model(msgspec.Struct):
    id: str


class _Models(msgspec.Struct):
    data: list[_Model]


@asynccontextmanager
async def translated(endpoint: Endpoint, model: str | None) -> AsyncGenerator[ErrorMaker, None]:
    """Errors raised inside come out as ours, the original chained. Gives a maker for errors inside a stream."""
    url, secret = endpoint.url, endpoint.secret
    name = "OpenAI" if "api.openai.com" in url else f"The server at {url}"

    def from_body(body: Any, status: int | None = None, headers: Mapping[str, str] | None = None) -> ProviderError:
        if status is None:
            status = _status_in(body)
        return status_error(
            status,
            body,
            provider="openai",
            label=name,
            url=url,
            secret=secret,
            headers=headers,
            key_hint="Set OPENAI_API_KEY to a valid key, or pass api_key=…",
        )

    maker = ErrorMaker("openai", secret, from_body)
    try:
        yield maker
    except ProviderError as error:
        maker.complete(error)
        raise
    except CreateAgentsError:
        raise
    except Exception as error:
        kind = _kind(error)
        if kind is None:
            raise
        raise await _ours(error, kind, endpoint, model, name, maker) from error


async def _ours(
    error: Any, kind: str, endpoint: Endpoint, model: str | None, name: str, maker: ErrorMaker
) -> ProviderError:
    # Made in a frame of its own, which is gone when it is raised: body and headers may repeat the key.
    maker.retries = maker.retries or _retries(error)
    ours: ProviderError | None
    if kind == "status":
        body, status = cleaned_json(_body(error), str), error.status_code  # no deeper than can be read
        ours = maker(body, status, error.response.headers)
        if model is not None and status in (400, 404) and is_unknown_model(body):
            ours = model_not_found(
                model,
                await _names(endpoint),
                provider="openai",
                label=name,
                url=endpoint.url,
                hint="Choose another model with model=…",
                status=status,
            )
    else:
        ours = way_error(error, name) if kind in ("connection", "protocol") else None
        if ours is None and kind == "connection":
            ours = _connection_error(error, name)
        if ours is None:
            ours = (ProtocolError if kind == "protocol" else ProviderError)(f"{name}: {error}")
    scrub(error, endpoint.secret)
    return maker.complete(ours)


def _retries(error: Any) -> int:
    """How often the SDK had sent the request again: it counts in a header."""
    request = getattr(error, "request", None)
    count = "" if request is None else request.headers.get("x-stainless-retry-count", "")
    return int(count) if count.isdecimal() else 0


def _kind(error: Exception) -> Literal["status", "connection", "protocol", "sdk"] | None:
    """Of an error of the SDK or of what is under it, most specific first; None for any other."""
    openai = loaded("openai")  # which has raised nothing if it was not imported
    if openai is None or not isinstance(error, openai.OpenAIError):
        return classify_error(error)
    if isinstance(error, openai.APIStatusError):
        return "status"
    if isinstance(error, openai.APIConnectionError):
        return "connection"
    return "protocol" if isinstance(error, openai.APIResponseValidationError) else "sdk"


async def list_models(endpoint: Endpoint) -> list[str]:
    """Names of the models the server lists, sorted; errors translated."""
    async with translated(endpoint, None):
        reply = await endpoint.models()
        try:
            return sorted(mask_known_keys(model.id) for model in msgspec.json.decode(reply, type=_Models).data)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise ProtocolError(f"{endpoint.url}/models lists no models: {error}. Check base_url") from error


async def _names(endpoint: Endpoint) -> list[str]:
    try:
        async with asyncio.timeout(5):
            return await list_models(endpoint)
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


def _connection_error(error: Exception, name: str) -> ProviderConnectionError:
    broke = root_cause(error)
    if broke == "timeout":
        return ProviderTimeoutError(f"{name} sent nothing for too long. Try again, or raise timeout_s")
    if broke == "lost":
        return ProviderConnectionError(f"{name} closed the connection before the answer was complete. Try again")
    return ProviderConnectionError(f"{name} cannot be reached: {_root(error)}. Check the network and base_url")


def _root(error: BaseException) -> str:
    while error.__cause__ is not None:
        error = error.__cause__
    return str(error) or type(error).__name__
