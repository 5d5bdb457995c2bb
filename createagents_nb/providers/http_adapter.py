"""The base of the providers over HTTP: one request and its reply as events, and the adapter around it."""

from __future__ import annotations

import asyncio
import copy
import hashlib
import importlib
import sys
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import aclosing, suppress
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Self
from urllib.parse import urlsplit
from weakref import WeakKeyDictionary

from ..core.events import Event, ReplySource
from ..core.messages import has_details, without_foreign_details
from ..core.provider import ChatRepository, ChatRequest
from ..errors import ConfigurationError, ProviderError
from ..redaction import Secret
from .addresses import origin_of, proxy_for
from .error_mapping import ErrorMapper, ErrorWords, read_body
from .reply_decoder import ReplyDecoder
from .retries import RetryPolicy
from .transport import MAX_LIST_BYTES, Transport, forget_closed_loops

__all__ = [
    "BufferedHandler",
    "ChatApi",
    "Connect",
    "Handler",
    "HttpChatAdapter",
    "StreamHandler",
    "check_client_limits",
    "list_models",
    "reply_events",
]

Connect = Callable[[], Awaitable[Transport]]

DEFAULT_TIMEOUT_S = 120.0
DEFAULT_MAX_RETRIES = 2

_TAIL_S = 0.25
"""Limit for reading what follows a complete answer."""

_NAMES_S = 5.0
"""How long an error about an unknown model waits for the names of those that exist."""


@dataclass(frozen=True, slots=True)
class ChatApi:
    """A provider's HTTP interface, without I/O.

    Attributes:
        chat_path, models_path: below the base address.
        words: what its errors say.
        new_decoder: called with ``streamed``, ``on_error`` and ``retries``.
        model_names: called with the body of a model list and the base address; raises ProtocolError.
    """

    chat_path: str
    models_path: str
    words: ErrorWords
    new_decoder: Callable[..., ReplyDecoder]
    model_names: Callable[[bytes, str], list[str]]


async def reply_events(
    api: ChatApi, connect: Connect, body: Mapping[str, Any], *, streamed: bool
) -> AsyncGenerator[Event, None]:
    """Send a chat request and yield everything in its reply, `RoundEnded` last.

    Args:
        connect: returns the transport to the server.
        body: the request, sent as JSON.
        streamed: the reply is expected as a stream.

    Raises:
        ProviderError: translated from what the HTTP library, the SDK or the server reported.
    """
    transport = await connect()
    errors = ErrorMapper(api.words, transport.url, transport.secret, str(body.get("model")))
    failure: ProviderError | None = None
    block = b""
    try:
        reply = await transport.request("POST", api.chat_path, body, errors)
        try:
            if reply.is_success:
                decoder = api.new_decoder(streamed=streamed, on_error=errors.from_body, retries=errors.retries)
                try:
                    async for block in reply.blocks:
                        for event in decoder.feed(block):
                            yield event
                        if decoder.is_complete:
                            await _read_to_end(reply.blocks)
                            break
                except Exception as error:
                    # A connection that breaks after the end of the answer does not fail it.
                    if not decoder.is_finished or transport.summary(error) is None:
                        raise
                for event in decoder.finish():
                    yield event
            else:
                failure = await errors.from_reply(reply)
        finally:
            await reply.aclose()
    except Exception as error:
        failure = errors.from_exception(error, transport.summary(error))
        if failure is None:
            raise
    finally:
        del block  # a traceback shows this frame, and a server may repeat the key
    if failure is not None:
        if errors.is_unknown_model:
            failure = errors.unknown_model(await _names(api, transport), failure)
        try:
            raise failure  # not in an except clause, whose exception would be its context
        finally:
            del failure  # or it would refer to itself by its traceback


async def list_models(api: ChatApi, transport: Transport) -> list[str]:
    """Return the names of the models the server lists, sorted.

    Raises:
        ProviderError: as for `reply_events`.
    """
    errors = ErrorMapper(api.words, transport.url, transport.secret)
    failure: ProviderError | None = None
    names: list[str] = []
    try:
        reply = await transport.request("GET", api.models_path, None, errors)
        try:
            if reply.is_success:
                names = api.model_names(await read_body(reply.blocks, MAX_LIST_BYTES), transport.url)
            else:
                failure = await errors.from_reply(reply)
        finally:
            await reply.aclose()
    except Exception as error:
        failure = errors.from_exception(error, transport.summary(error))
        if failure is None:
            raise
    if failure is not None:
        raise failure
    return sorted(names)


async def _names(api: ChatApi, transport: Transport) -> list[str]:
    try:
        async with asyncio.timeout(_NAMES_S):
            return await list_models(api, transport)
    except (ProviderError, TimeoutError):
        return []


async def _read_to_end(blocks: AsyncIterator[bytes]) -> None:
    """Read what follows a complete answer, so that the connection can be used again.

    Errors are ignored, and a body that does not end soon is not read to its end.
    """
    with suppress(Exception):
        async with asyncio.timeout(_TAIL_S):
            async for _ in blocks:
                pass


def check_client_limits(client: Any, *, timeout_s: float, max_retries: int = DEFAULT_MAX_RETRIES) -> None:
    """Refuse limits that a client has itself.

    Args:
        max_retries: left out for a client without retries.

    Raises:
        ConfigurationError: a limit is not the default; nothing would heed it.
    """
    given = []
    if timeout_s != DEFAULT_TIMEOUT_S:
        given.append(("timeout_s", f"timeout={timeout_s!r}"))
    if max_retries != DEFAULT_MAX_RETRIES:
        given.append(("max_retries", f"max_retries={max_retries!r}"))
    if given:
        it = "it" if len(given) == 1 else "them"
        names, arguments = " and no ".join(name for name, _ in given), ", ".join(way for _, way in given)
        raise ConfigurationError(
            f"client=… has limits of its own, so it takes no {names}: set {it} there, as in "
            f"{type(client).__name__}({arguments})"
        )


class HttpChatAdapter(ChatRepository):
    """A provider with an HTTP interface.

    Args:
        api: the interface.
        url: the server's base address: checked, without a trailing slash.
        base_url: the address that the user or the environment names; None for the default.
        api_key: checked.
        timeout_s: limit for the time without a byte, in seconds.
        max_retries: how often a request without an answer is sent again; never after the first token.
        client: the user's own SDK client, used as it is and never closed.
    """

    _retries_refused: ClassVar[bool] = True
    """Whether a request is sent again after a refused connection."""
    _uses_proxies: ClassVar[bool] = True

    def __init__(
        self,
        api: ChatApi,
        *,
        url: str,
        base_url: str | None,
        api_key: Secret | None,
        timeout_s: float,
        max_retries: int,
        client: Any,
    ) -> None:
        self.base_url = base_url
        self.server = urlsplit(url).hostname
        self._api, self._url, self._api_key = api, url, api_key
        self._timeout_s, self._max_retries = timeout_s, max_retries
        self._client = client
        self._transports: WeakKeyDictionary[asyncio.AbstractEventLoop, Transport] = WeakKeyDictionary()

    @abstractmethod
    def _body(self, request: ChatRequest) -> dict[str, Any]:
        """Return the JSON body of a chat request."""

    @abstractmethod
    def _headers(self) -> dict[str, str]:
        """Return the headers of every request; a key in them is a `Secret`."""

    @abstractmethod
    def _client_transport(self, client: Any) -> Transport:
        """Return the transport that uses the user's own client."""

    @abstractmethod
    def _client_fingerprint(self, client: Any) -> str:
        """Return what tells the key that the user's own client uses now from others; empty without a key."""

    def reply_source(self, model: str) -> ReplySource:
        """Return the source that binds provider details to this server, this model and this key."""
        if self._client is not None:
            key = self._client_fingerprint(self._client)
        else:
            key = "" if self._api_key is None else hashlib.sha256(self._api_key.encode()).hexdigest()
        return ReplySource(origin_of(self._url), model, key)

    def reply_sources(self, model: str) -> frozenset[ReplySource]:
        return frozenset({self.reply_source(model)})

    def round_trip(self, request: ChatRequest) -> AsyncGenerator[Event, None]:
        if any(has_details(message) for message in request.messages):
            sources = self.reply_sources(request.model)
            request = replace(request, messages=without_foreign_details(request.messages, sources))
        body = self._body(request)
        return reply_events(self._api, self._transport, body, streamed=bool(body.get("stream")))

    async def models(self) -> list[str]:
        return await list_models(self._api, await self._transport())

    def without_retries(self) -> Self:
        """Return a copy of this provider without retries."""
        same = copy.copy(self)
        same._max_retries = 0
        same._transports = WeakKeyDictionary()
        return same

    async def _address(self) -> str:
        """Return the base address, once it is known."""
        return self._url

    async def _transport(self) -> Transport:
        if self._client is not None:
            return self._client_transport(self._client)
        loop = asyncio.get_running_loop()
        forget_closed_loops(self._transports)
        transport = self._transports.get(loop)
        if transport is None:
            transport = self._transports[loop] = await self._http_transport(await self._address())
        return transport

    async def _http_transport(self, url: str) -> Transport:
        name = f"{__package__}.http_client"
        if not _is_imported(name):
            await asyncio.to_thread(importlib.import_module, name)  # other turns, and Stop, go on meanwhile
        from .http_client import HttpTransport, shared_client

        return HttpTransport(
            await shared_client(origin_of(url), proxy_for(url) if self._uses_proxies else None),
            url,
            self._headers(),
            self._api_key,
            timeout_s=self._timeout_s,
            policy=RetryPolicy(self._max_retries, self._retries_refused),
        )

    def __repr__(self) -> str:
        address = getattr(self, "_url", None)  # a traceback of `__init__` shows its locals
        return f"{type(self).__name__}({'not made' if address is None else origin_of(address)})"


def _is_imported(name: str) -> bool:
    """Whether a module is imported to its end; another thread may be at it."""
    module = sys.modules.get(name)
    return module is not None and not getattr(module.__spec__, "_initializing", False)


class Handler(ABC):
    """One request and its reply. Holds no state."""

    streamed: ClassVar[bool]

    @abstractmethod
    def events(self, client: Any, request: Mapping[str, Any]) -> AsyncGenerator[Event, None]:
        """Yield everything in the reply, `RoundEnded` last.

        Args:
            client: an async client of the provider's SDK.
            request: in the provider's own form; ``stream`` is set here.

        Raises:
            ProviderError: translated from what the SDK, the network or the server raised.
        """

    async def _texts(
        self, client: Any, model: str, messages: Sequence[Mapping[str, Any]], options: Mapping[str, Any]
    ) -> AsyncGenerator[str, None]:
        request = {"model": model, "messages": list(messages), **options}
        async with aclosing(self.events(client, request)) as events:
            async for event in events:
                if type(event) is str:
                    yield event


class StreamHandler(Handler):
    """Streamed replies."""

    streamed = True

    async def handle_streaming(
        self, client: Any, model: str, messages: Sequence[Mapping[str, Any]], **options: Any
    ) -> AsyncGenerator[str, None]:
        """Yield the text of one reply as it arrives.

        Args:
            client: an async client of the provider's SDK.
            messages: in the provider's own form.
            options: anything else in the provider's request.

        Raises:
            ProviderError: as for `Handler.events`.
        """
        async with aclosing(self._texts(client, model, messages, options)) as texts:
            async for text in texts:
                yield text


class BufferedHandler(Handler):
    """Buffered replies."""

    streamed = False

    async def handle_non_streaming(
        self, client: Any, model: str, messages: Sequence[Mapping[str, Any]], **options: Any
    ) -> str:
        """Return the text of one reply; arguments and errors as for `StreamHandler.handle_streaming`."""
        return "".join([text async for text in self._texts(client, model, messages, options)])
