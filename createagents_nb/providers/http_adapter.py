"""The base of the providers over HTTP: the adapter and its handlers."""

from __future__ import annotations

import asyncio
import copy
import importlib
import sys
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar, Self
from urllib.parse import urlsplit
from weakref import WeakKeyDictionary

from ..core.events import Event, ReplySource
from ..core.messages import has_details, without_foreign_details
from ..core.preview import RequestPreview, mask_address, mask_headers, mask_json
from ..core.provider import ChatRepository, ChatRequest
from ..errors import ConfigurationError, CreateAgentsError, ServerError
from ..redaction import Secret, SecretFunction, holds_key
from .addresses import is_private_address, origin_of, place_of, proxy_for
from .api_keys import fingerprint_of, key_from_function
from .error_body import decoded_body
from .error_mapping import status_error
from .exchange import ChatApi, Exchange, list_models, reply_events
from .headers import checked_headers, checked_query, merged_headers
from .local_server import ASK_S, LocalServer, is_loading
from .refusals import (
    STATUSES,
    Change,
    RefusedDetails,
    apply_changes,
    find_changes,
    is_named,
    learned,
    refuses_details,
    remember,
)
from .retries import RetryPolicy
from .served_models import RefusedError, served_models
from .sockets import socket_path
from .transport import Transport, forget_closed_loops, with_query

if TYPE_CHECKING:
    from .http_client import HttpTransport

__all__ = [
    "BufferedHandler",
    "Handler",
    "HttpChatAdapter",
    "StreamHandler",
    "check_client_limits",
]

DEFAULT_TIMEOUT_S = 120.0
DEFAULT_MAX_RETRIES = 2

FIRST_ROWS = 2
"""How many requests a batch begins with at a server at home that does not say how many it works on at once."""

_MIN_TIMEOUT_S = 1.0
_SLOW_S = 3.0
"""After how long without a byte a server at home is asked what it is doing, in seconds."""

_MAX_ADJUSTMENTS = 6
"""Limit for sending one request again in another form."""


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
        api_key: checked; or a function that each request calls for its key.
        timeout_s: limit for the time without a byte, in seconds.
        max_retries: how often a request without an answer is sent again; never after the first token.
        client: the user's own SDK client, used as it is and never closed.
        headers: sent with each request, in place of ours of the same name; None removes one of ours.
        query: appended to each address.
        is_run_at_home: whether the server is of a kind that users run themselves, at whatever address.

    Raises:
        ConfigurationError: a header or a part of the query cannot be sent, or comes with a client.
    """

    _retries_refused: ClassVar[bool] = True
    """Whether a request is sent again after a refused connection."""
    _uses_proxies: ClassVar[bool] = True
    _is_ollama: ClassVar[bool] = False
    _may_queue: ClassVar[bool] = True
    """Whether a server at home may have few slots, and is asked about itself."""

    def __init__(
        self,
        api: ChatApi,
        *,
        url: str,
        base_url: str | None,
        api_key: Secret | SecretFunction | None,
        timeout_s: float,
        max_retries: int,
        client: Any,
        headers: Any = None,
        query: Any = None,
        is_run_at_home: bool = False,
    ) -> None:
        self.base_url = base_url
        self.server = socket_path(url) or urlsplit(url).hostname
        self._api, self._url, self._api_key = api, url, api_key
        self._place = place_of(url)
        for name, given in (("headers", headers), ("query", query)):
            if given and client is not None:
                raise ConfigurationError(f"client=… sends its own {name}: set them there, and leave {name} out")
        self._own_headers, self._query = checked_headers(headers), checked_query(query)
        self._key_fingerprint = fingerprint_of(api_key, self._own_headers, self._query)
        self.refused_details = RefusedDetails()
        self._timeout_s, self._max_retries = timeout_s, max_retries
        self._client = client
        self._is_at_home = self._may_queue and (is_run_at_home or is_private_address(url))
        self._transports: WeakKeyDictionary[asyncio.AbstractEventLoop, HttpTransport] = WeakKeyDictionary()

    @abstractmethod
    def _api_of(self, request: ChatRequest) -> ChatApi:
        """Return the API that a request is sent to."""

    @abstractmethod
    def _body(self, request: ChatRequest) -> dict[str, Any]:
        """Return the JSON body of a chat request, in the form of its API; it shares no dict with another one."""

    def _other_api(self, request: ChatRequest, status: int, refusal: Any) -> str | None:
        """Return the name of the API to send a request to after a refusal; None for the one it was sent to."""
        return None

    def _hint(self, request: ChatRequest, refusal: Any) -> str | None:
        """Return what to do about a refusal, where this provider knows it."""
        return None

    @abstractmethod
    def _headers(self, key: Secret | None) -> dict[str, str]:
        """Return the headers of every request, those of the user aside; a key in them is a `Secret`."""

    @abstractmethod
    def _client_transport(self, client: Any) -> Transport:
        """Return the transport that uses the user's own client."""

    @abstractmethod
    def _client_fingerprint(self, client: Any) -> str:
        """Return what tells the key that the user's own client uses now from others; empty without a key."""

    def reply_source(self, model: str) -> ReplySource:
        """Return the source that binds provider details to this server, this model and this key."""
        client = self._client
        key = self._key_fingerprint if client is None else self._client_fingerprint(client)
        return ReplySource(self._place, model, key)

    def reply_sources(self, model: str) -> frozenset[ReplySource]:
        return frozenset({self.reply_source(model)})

    def round_trip(self, request: ChatRequest) -> AsyncGenerator[Event, None]:
        return reply_events(self._transport, _AdjustedExchange(self, request))

    def preview(self, request: ChatRequest) -> RequestPreview:
        exchange = _AdjustedExchange(self, request)
        api, body = exchange.api, exchange.body
        headers: Mapping[str, str]
        if self._client is None:
            address = with_query(self._url + api.chat_path, self._query)
            key = self._api_key
            headers = self._all_headers(Secret("***") if isinstance(key, SecretFunction) else key)
        else:
            transport = self._client_transport(self._client)
            address, headers = transport.address(api.chat_path, body), transport.headers
        return RequestPreview("POST", mask_address(address), mask_headers(headers), mask_json(body))

    async def models(self) -> list[str]:
        return await list_models(self._api, await self._transport())

    def served_models(self) -> list[str] | None:
        if not self._is_at_home or self._client is not None:
            return None
        if self._uses_proxies and proxy_for(self._url) is not None:
            return None
        key = self._api_key
        headers = self._all_headers(None if isinstance(key, SecretFunction) else key)
        return self._list_served(headers) or []

    def _list_served(self, headers: Mapping[str, str]) -> list[str] | None:
        try:
            return served_models(self._url, headers, with_query("", self._query).removeprefix("?"))
        except RefusedError as refusal:
            if refusal.status not in (401, 403, 429) and refusal.status < 500:
                return None  # it has no list
            status, body = refusal.status, decoded_body(refusal.body)
        words, key = self._api.words, self._api_key
        label = words.label(self._url)
        if is_loading(status, body):
            raise ServerError(
                f"{label} is loading its model. Try again when it has, or name the model with model=…",
                provider=words.provider,
                status_code=status,
            )
        raise status_error(
            status,
            body,
            provider=words.provider,
            label=label,
            url=self._url,
            key_hint=words.key_hint,
            secret=None if isinstance(key, SecretFunction) else key,
        )

    async def context_window(self, model: str) -> int | None:
        server = await self._local_server()
        return None if server is None else await server.context_window(model)

    async def first_concurrency(self) -> int | None:
        server = await self._local_server()
        if server is None or not is_private_address(self._url):
            return None
        return await server.slots() or FIRST_ROWS

    async def max_concurrency(self) -> int | None:
        server = await self._local_server()
        return None if server is None else await server.slots()

    async def waits_for(self, model: str) -> str | None:
        """Say what a server at home is doing that has not sent a byte yet, and have patience with it."""
        server = await self._local_server()
        if server is None or not await server.is_cold(model):
            return None
        (await self._shared_transport()).client.be_patient()
        return f"{self._api.words.label(self._url)} is loading {model}. The answer begins when it is loaded"

    @property
    def slow_s(self) -> float | None:
        """After how many seconds without a byte `waits_for` is to be called; None for never."""
        if not (self._is_ollama and self._is_at_home) or self._client is not None:
            return None
        if self._timeout_s < _MIN_TIMEOUT_S:
            return None
        return min(_SLOW_S, self._timeout_s / 2)

    async def _local_server(self) -> LocalServer | None:
        """Return what a server at home tells about itself; None for any other, or one behind a proxy."""
        if not self._is_at_home or self._client is not None:
            return None
        if self._uses_proxies and proxy_for(self._url) is not None:
            return None
        try:
            transport = await self._shared_transport()  # a function is not asked for a key for this
        except CreateAgentsError:  # the request says so
            return None

        async def ask(url: str, body: Mapping[str, Any] | None) -> Any:
            return await transport.ask(url, body, ASK_S)

        return LocalServer(self._url, ask, is_ollama=self._is_ollama)

    async def _is_working(self, may_ask: bool) -> bool:
        """Whether a server at home may still be working on a request that got no byte in time.

        Args:
            may_ask: whether the server is worth a question; else only what is known counts.
        """
        if (await self._shared_transport()).client.is_busy:
            return True
        server = await self._local_server()
        return server is not None and (server.was_known if not may_ask else await server.is_known())

    def without_retries(self) -> Self:
        """Return a copy of this provider without retries."""
        same = copy.copy(self)
        same._max_retries = 0
        same._transports = WeakKeyDictionary()
        return same

    async def _address(self) -> str:
        """Return the base address, once it is known."""
        return self._url

    @property
    def _has_key(self) -> bool:
        """Whether requests have a key, in a header of the user's perhaps."""
        return bool(self._api_key) or any(holds_key(name, value) for name, value in self._own_headers.items())

    async def _transport(self) -> Transport:
        if self._client is not None:
            return self._client_transport(self._client)
        key = self._api_key
        if isinstance(key, SecretFunction):
            token = await key_from_function(key, self.provider, self._timeout_s)
            return (await self._shared_transport()).with_key(self._all_headers(token), token)
        return await self._shared_transport()

    async def _shared_transport(self) -> HttpTransport:
        """Return the transport for this event loop; without a key, where that comes from a function."""
        loop = asyncio.get_running_loop()
        forget_closed_loops(self._transports)
        transport = self._transports.get(loop)
        if transport is None:
            transport = self._transports[loop] = await self._http_transport(await self._address())
        return transport

    def _all_headers(self, key: Secret | None) -> dict[str, str]:
        return merged_headers(self._headers(key), self._own_headers)

    async def _http_transport(self, url: str) -> HttpTransport:
        name = f"{__package__}.http_client"
        if not _is_imported(name):
            await asyncio.to_thread(importlib.import_module, name)  # other turns, and Stop, go on meanwhile
        from .http_client import HttpTransport, shared_client

        key = None if isinstance(self._api_key, SecretFunction) else self._api_key
        proxy = proxy_for(url) if self._uses_proxies else None
        return HttpTransport(
            await shared_client(origin_of(url), proxy),
            url,
            self._all_headers(key),
            key,
            query=self._query,
            timeout_s=self._timeout_s,
            policy=RetryPolicy(self._max_retries, self._retries_refused, self._is_at_home),
            is_working=self._is_working if self._is_at_home and proxy is None else None,
        )

    def __repr__(self) -> str:
        address = getattr(self, "_url", None)  # a traceback of `__init__` shows its locals
        return f"{type(self).__name__}({'not made' if address is None else origin_of(address)})"


class _AdjustedExchange(Exchange):
    """A request without what its server refused before, and once more without what it refuses now."""

    def __init__(self, adapter: HttpChatAdapter, request: ChatRequest) -> None:
        self._adapter = adapter
        self.is_at_home = adapter._is_at_home or adapter._client is not None  # a client has an address of its own
        self._notes: list[str] = []
        self._is_changed = False
        self._adjustments = 0
        self._changes: tuple[Change, ...] = ()
        self._api_change: tuple[Change, ...] = ()
        if any(map(has_details, request.messages)):
            messages = without_foreign_details(request.messages, adapter.reply_sources(request.model))
            request = replace(request, messages=adapter.refused_details.taken_out_of(messages))
        source = adapter.reply_source(request.model)
        self._place = (source.server, request.model)
        self._request = request
        super().__init__(*self._build(), source)
        self.adjusted = ", ".join(self._notes) or None

    def _build(self) -> tuple[ChatApi, dict[str, Any]]:
        api, body = self._adapter._api_of(self._request), self._adapter._body(self._request)
        self._changes = learned(*self._place, api.name)
        # What was learned counts as a note, too: a record says how its request differs from what was asked for.
        self._notes += [str(change) for change in apply_changes(body, self._changes)]
        return api, body

    def adjust(self, status: int, refusal: Any) -> bool:
        self._adjustments += 1
        if self._adjustments > _MAX_ADJUSTMENTS:
            return False
        other_api = None if self._api_change else self._adapter._other_api(self._request, status, refusal)
        if other_api is not None:
            note = f"by the {other_api} API"
            self._api_change = (Change("api", other_api),)
            self._request = replace(self._request, config={**self._request.config, "api": other_api})
            self.api, self.body = self._build()
        elif any(map(has_details, self._request.messages)) and refuses_details(refusal):
            note = "without provider details"
            self._adapter.refused_details.add(self._request.messages)
            self._request = replace(self._request, messages=without_foreign_details(self._request.messages, ()))
            self.api, self.body = self._build()
        else:
            if status not in STATUSES:
                return False
            changes = find_changes(
                refusal,
                self.body,
                optional=[name for name in self.api.optional if not self._is_asked_for(name)],
                renames=self.api.renames,
                done=self._changes,
            )
            if not changes:
                return False
            note = ", ".join(map(str, changes))
            self._changes += changes
            self._is_changed = True
            apply_changes(self.body, changes)
        self._notes.append(note)
        self.adjusted = ", ".join(dict.fromkeys(self._notes))
        return True

    def _is_asked_for(self, field: str) -> bool:
        return not field.startswith("messages[]") and _has_key(self._request.config, field.rpartition(".")[2])

    def accept(self) -> None:
        if self._is_changed:  # else another request may have learned meanwhile what this one did not need
            remember(*self._place, self.api.name, self._changes)
        if self._api_change:
            remember(*self._place, "", self._api_change)

    async def better_address(self) -> str | None:
        server = await self._adapter._local_server()
        return None if server is None else await server.better_address()

    @property
    def slow_s(self) -> float | None:
        return self._adapter.slow_s

    async def waits_for(self) -> str | None:
        return await self._adapter.waits_for(self._request.model)

    def hint(self, refusal: Any) -> str | None:
        advice = self._adapter._hint(self._request, refusal)
        if advice is not None:
            return advice
        config = self._request.config
        for name, key in self.api.config_fields:
            if key in config and is_named(name, refusal):
                return f"That is config[{key!r}]: change it, or leave it out"
        for name in config.get("extra", ()):
            if is_named(name, refusal):
                return f"That is config['extra'][{name!r}]: change it, or leave it out"
        return None


def _has_key(value: Any, key: str) -> bool:
    """Whether a dict in a JSON value has this key."""
    if isinstance(value, Mapping):
        return key in value or any(_has_key(item, key) for item in value.values())
    return isinstance(value, list | tuple) and any(_has_key(item, key) for item in value)


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
