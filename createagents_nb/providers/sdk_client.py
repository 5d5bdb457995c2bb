"""Requests over a client object of an SDK that the user hands in; nothing else uses the SDKs.

Only the bytes of a reply are taken from them: their own streams build an object per chunk.
"""

from __future__ import annotations

import hashlib
import re
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack
from functools import partial
from typing import Any, Final
from weakref import WeakKeyDictionary

from ..errors import ConfigurationError
from ..redaction import Secret, is_secret_name
from .addresses import mask_header
from .retries import RetryPolicy, send_until_answered
from .transport import MAX_ERROR_BYTES, MAX_LIST_BYTES, HttpReply, RetryCount, Transport, limited, with_query
from .transport_errors import sanitize
from .wire_format import encoded

__all__ = [
    "OPENAI_OPTIONS",
    "OllamaClientTransport",
    "OpenAIClientTransport",
    "ollama_address_and_key",
    "ollama_key_fingerprint",
    "openai_key_fingerprint",
    "reset",
]

OPENAI_OPTIONS: Final = {
    "extra_headers": "headers",
    "extra_query": "params",
    "extra_body": "extra_json",
    "timeout": "timeout",
}
"""Arguments of ``create`` that are not in the body, and what ``client.post`` calls them."""

_AUTHENTICATION = re.compile(r"(?i)authentication method|api_key|token_provider")
_OTHER_LOOP = re.compile(r"(?i)event loop is closed|different (?:event )?loop")


class OpenAIClientTransport(Transport):
    """The user's ``openai.AsyncOpenAI``, or a subclass such as ``AsyncAzureOpenAI``; it retries by itself.

    Args:
        options: of each chat request, as in `OPENAI_OPTIONS`.
        max_retries: in place of the client's; None for those.
    """

    def __init__(
        self, client: Any, options: Mapping[str, Any] | None = None, *, max_retries: int | None = None
    ) -> None:
        self._client = client
        self._limits = {} if max_retries is None else {"max_retries": max_retries}
        self._options = {OPENAI_OPTIONS[name]: value for name, value in (options or {}).items()} | self._limits
        self.url = str(client.base_url).rstrip("/")
        self.secret = _known_key(client.api_key)

    @property
    def headers(self) -> Mapping[str, str]:
        return _texts({**self._client.default_headers, **getattr(self._client, "auth_headers", {})})

    def address(self, path: str, body: Mapping[str, Any] | None) -> str:
        client = self._client
        url = self.url
        is_azure = type(client).__name__.endswith("AzureOpenAI")
        if is_azure and path != "/chat/completions":  # the other paths are not below the deployment
            url = url.partition("/deployments/")[0]
        if is_azure and path == "/chat/completions" and body is not None and "/deployments" not in self.url:
            path = f"/deployments/{body.get('model')}{path}"
        return with_query(url + path, _texts(client.default_query))

    async def request(
        self, method: str, path: str, body: Mapping[str, Any] | None, count: RetryCount
    ) -> HttpReply:
        return await _usable(self._client, self._client.is_closed, self._request(path, body, count))

    async def _request(self, path: str, body: Mapping[str, Any] | None, count: RetryCount) -> HttpReply:
        import httpx2  # the HTTP library of the SDK, so it is imported already
        import openai

        try:
            if body is None:
                listed = await self._client.get(path, cast_to=httpx2.Response, options=self._limits)
                _mask_keys_sent(listed)
                return HttpReply(listed.status_code, listed.headers, _one(listed.content), _nothing)
            fields = {
                name: value for name, value in body.items() if not isinstance(value, openai.Omit | openai.NotGiven)
            }
            # As `create` sends it; but that goes through every field once more, half of the time of a request.
            reply = await self._client.post(
                path,
                cast_to=httpx2.Response,
                body=fields,
                options=self._options,
                stream=True,  # or the body would be read now
                stream_cls=openai.AsyncStream,
            )
        except openai.APIStatusError as error:
            response = error.response
            _mask_keys_sent(response)
            count.retries = _retries(response)
            return HttpReply(error.status_code, response.headers, _one(response.content), _nothing)
        except openai.APIConnectionError as error:
            count.retries = _retries(error)
            raise
        count.retries = _retries(reply)
        _mask_keys_sent(reply)
        return HttpReply(reply.status_code, reply.headers, reply.aiter_bytes(), reply.aclose)


def _texts(values: Mapping[str, Any]) -> dict[str, str]:
    """Return the headers, or parts of a query, that have a value: a client may also say that one is left out."""
    return {name: Secret(value) for name, value in values.items() if isinstance(value, str)}


def _retries(holder: Any) -> int:
    """Read how often the SDK has sent a request again: it counts in a header."""
    request = getattr(holder, "request", None)
    count = "" if request is None else request.headers.get("x-stainless-retry-count", "")
    return int(count) if count.isdecimal() else 0


class OllamaClientTransport(Transport):
    """The user's ``ollama.AsyncClient``, which has no retries of its own.

    Args:
        policy: when a request is sent again.

    Raises:
        ConfigurationError: this version of the SDK is not supported.
    """

    def __init__(self, client: Any, policy: RetryPolicy) -> None:
        self._client, self._http = client, _http_client_of(client)
        self._policy = policy
        self.url, self.secret = ollama_address_and_key(client)

    @property
    def headers(self) -> Mapping[str, str]:
        return _texts(self._http.headers)

    async def request(
        self, method: str, path: str, body: Mapping[str, Any] | None, count: RetryCount
    ) -> HttpReply:
        content = None if body is None else encoded(body)
        reply = send_until_answered(partial(self._send, method, path, content), self._policy, count)
        return await _usable(self._client, lambda: self._http.is_closed, reply)

    async def _send(self, method: str, path: str, content: bytes | None) -> HttpReply:
        stack = AsyncExitStack()
        reply = await stack.enter_async_context(self._http.stream(method, path, content=content))
        _mask_keys_sent(reply)
        blocks = reply.aiter_bytes()
        if reply.status_code >= 300:
            blocks = limited(blocks, MAX_ERROR_BYTES, self._http.timeout.read)
        elif method != "POST":
            blocks = limited(blocks, MAX_LIST_BYTES, self._http.timeout.read, cut=False)
        return HttpReply(reply.status_code, reply.headers, blocks, stack.aclose)


def ollama_address_and_key(client: Any) -> tuple[str, Secret | None]:
    """Return where an ``ollama.AsyncClient`` sends its requests, and its key.

    Raises:
        ConfigurationError: this version of the SDK is not supported.
    """
    http = _http_client_of(client)
    key = http.headers.get("authorization", "").removeprefix("Bearer ")
    return str(http.base_url).rstrip("/"), _known_key(key)


def _http_client_of(client: Any) -> Any:
    # The SDK has no public way to the bytes of a reply; as of 0.6 its HTTP client is in `_client`.
    # https://github.com/ollama/ollama-python/blob/main/ollama/_client.py
    http: Any = getattr(client, "_client", None)
    if not all(hasattr(http, name) for name in ("base_url", "headers", "stream", "timeout")):
        raise ConfigurationError(
            f"client must be an ollama.AsyncClient of ollama 0.6, not {type(client).__name__}: pip install "
            "'ollama>=0.6,<0.7', or give base_url=… in place of client=…"
        )
    return http


def has_key_function(client: Any) -> bool:
    """Whether a client's key comes from a function."""
    return any(
        getattr(client, name, None) is not None for name in ("_api_key_provider", "_azure_ad_token_provider")
    )


async def _usable(client: Any, is_closed: Callable[[], bool], reply: Awaitable[HttpReply]) -> HttpReply:
    """Await a reply, and explain the `RuntimeError` of a client that can send nothing anymore.

    Raises:
        ConfigurationError: the client was closed, or belongs to another event loop.
    """
    try:
        return await reply
    except (RuntimeError, TypeError, ValueError) as error:
        if is_closed():
            why = "was closed: make a new one"
        elif _OTHER_LOOP.search(str(error)):
            why = "belongs to an event loop that has ended: make one in this loop"
        elif has_key_function(client) or _AUTHENTICATION.search(str(error)):
            reason = sanitize(str(error), None)[:200]
            why = f"has no key for this request ({reason}). Check the function that returns it"
        else:
            raise
    # Raised here, so that the frames of the SDK, which hold the key, are not chained.
    raise ConfigurationError(f"client={type(client).__name__}(…) {why}")


def _mask_keys_sent(reply: Any) -> None:
    """Mask the keys in the request that a reply is for: a client may get one from a function, or in a header."""
    for each in (*getattr(reply, "history", ()), reply):
        request = getattr(each, "request", None)
        for name, value in () if request is None else request.headers.items():
            if is_secret_name(name):
                mask_header(value)


def openai_key_fingerprint(client: Any) -> str:
    """Return what tells the keys of clients of OpenAI apart, as they are now; empty without a key.

    A client whose key comes from a function has a fingerprint of its own.
    """
    if has_key_function(client):
        return _fingerprint_of_object(client)
    return _fingerprint(client.api_key, getattr(client, "_azure_ad_token", None), client.default_headers)


def ollama_key_fingerprint(client: Any) -> str:
    """Return what tells the keys of clients of Ollama apart; see `openai_key_fingerprint`."""
    http = _http_client_of(client)
    if getattr(http, "auth", None) is not None:
        return _fingerprint_of_object(client)
    others = {name: value for name, value in http.headers.items() if name.lower() != "authorization"}
    return _fingerprint(ollama_address_and_key(client)[1], None, others)


def _fingerprint(key: Any, token: Any, headers: Mapping[str, Any]) -> str:
    others = [f"{name.lower()}:{value}" for name, value in headers.items() if is_secret_name(name)]
    keys = [str.__str__(each) for each in (key, token, *sorted(others)) if isinstance(each, str) and each]
    return hashlib.sha256("\n".join(keys).encode()).hexdigest() if keys else ""


_objects: WeakKeyDictionary[Any, str] = WeakKeyDictionary()
"""Random fingerprints of clients whose keys are not known."""


def reset() -> None:
    """Forget the fingerprints of clients whose keys are not known."""
    _objects.clear()


def _fingerprint_of_object(client: Any) -> str:
    fingerprint = secrets.token_hex(32)
    try:
        return _objects.setdefault(client, fingerprint)
    except TypeError:  # it takes no weak reference: equal to nothing, which is safe
        return fingerprint


def _known_key(key: object) -> Secret | None:
    return Secret(key).mask() if isinstance(key, str) and key else None


async def _one(content: bytes) -> AsyncIterator[bytes]:
    yield content


async def _nothing() -> None:
    pass
