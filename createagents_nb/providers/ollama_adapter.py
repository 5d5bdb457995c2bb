"""Ollama's own API."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from os import environ
from typing import Any
from urllib.parse import urlsplit

import msgspec

from ..core.events import Event
from ..core.provider import ChatRequest
from ..errors import ConfigurationError, ProtocolError
from ..redaction import ApiKey, Secret, as_api_key, as_secret, as_secret_values, mask_known_keys
from .addresses import without_password
from .api_keys import checked_api_key
from .error_mapping import ErrorWords
from .exchange import ChatApi, Exchange, reply_events
from .http_adapter import (
    DEFAULT_MAX_RETRIES,
    DEFAULT_TIMEOUT_S,
    BufferedHandler,
    Handler,
    HttpChatAdapter,
    StreamHandler,
    check_client_limits,
)
from .ollama_host import DEFAULT_URL, host_in_environment, url_of
from .ollama_models import models_at
from .ollama_reply import OllamaReplyDecoder
from .ollama_request import OPTIONAL, UNSUPPORTED, build_body
from .retries import RetryPolicy
from .sdk_client import OllamaClientTransport, ollama_address_and_key, ollama_key_fingerprint
from .sockets import checked_socket, is_socket
from .transport import Transport
from .transport_errors import ForeignError

__all__ = ["OllamaChatAdapter", "OllamaHandler", "OllamaStreamHandler", "url_of"]


class _Tag(msgspec.Struct):
    name: str


class _Tags(msgspec.Struct):
    models: list[_Tag]


def _model_names(body: bytes, url: str) -> list[str]:
    try:
        return [mask_known_keys(tag.name) for tag in msgspec.json.decode(body, type=_Tags).models]
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ProtocolError(f"This does not look like Ollama: {error}") from ForeignError.of(error)


def _new_decoder(*, streamed: bool, **options: Any) -> OllamaReplyDecoder:
    return OllamaReplyDecoder(**options)  # a buffered reply is a stream of one line


_API = ChatApi(
    name="ollama",
    chat_path="/api/chat",
    models_path="/api/tags",
    new_decoder=_new_decoder,
    model_names=_model_names,
    optional=OPTIONAL,
    words=ErrorWords(
        provider="ollama",
        label=lambda url: "Ollama",
        full_label=lambda url: f"Ollama at {url}",
        key_hint="Set OLLAMA_API_KEY, or pass api_key=…",
        model_hint="`ollama pull {model}` fetches it",
        unknown_model=frozenset({404}),
        refused="Ollama does not answer at {url}. Start it with `ollama serve` (install: "
        "https://ollama.com/download), or give its address in OLLAMA_HOST or base_url=…",
        lost="The connection to Ollama broke before the answer was complete. Try again",
        timeout="Ollama at {url} sent nothing for too long. It may be loading the model: try again, or raise "
        "timeout_s",
    ),
)


class OllamaChatAdapter(HttpChatAdapter):
    """``POST /api/chat``.

    Args:
        base_url: default ``OLLAMA_HOST``, else ``http://127.0.0.1:11434``. A server on a Unix socket is
            ``unix:///run/ollama.sock``.
        api_key: for a server behind a key; default ``OLLAMA_API_KEY``. Or a function, sync or async, that each
            request calls for it.
        timeout_s: limit for the time without a byte, in seconds. Loading a large model counts.
        max_retries: how often a request without an answer is sent again (408, 409, 429, 500 and above, a lost
            connection, a timeout); never after the first token or a refused connection.
        client: your own ``ollama.AsyncClient``, used as it is and never closed. ``timeout_s`` is set on it.
        headers: sent with each request, in place of ours of the same name; None removes one of ours.
        query: appended to each address.

    Raises:
        ConfigurationError: not an address, the key has characters that no key has, a header cannot be sent, or
            ``client`` comes with a timeout or headers.

    Example:
        >>> adapter = OllamaChatAdapter(base_url="http://gpu-box:11434")
    """

    provider = "ollama"
    price_provider = ""
    default_model = None
    unsupported_config = UNSUPPORTED
    _retries_refused = False
    _is_ollama = True

    def __init__(
        self,
        *,
        base_url: str | None = None,
        api_key: ApiKey | None = None,
        timeout_s: float = DEFAULT_TIMEOUT_S,
        max_retries: int = DEFAULT_MAX_RETRIES,
        client: Any = None,
        headers: Mapping[str, str | None] | None = None,
        query: Mapping[str, str] | None = None,
    ) -> None:
        api_key, base_url = as_api_key(api_key), as_secret(base_url)
        headers, query = as_secret_values(headers), as_secret_values(query)
        if client is not None:
            check_client_limits(client, timeout_s=timeout_s)
        # Apart from the checks: a verbose traceback shows the values in a line that fails, all of os.environ too.
        if client is None:
            named = base_url or host_in_environment()
            api_key = api_key or as_secret(environ.get("OLLAMA_API_KEY"))
        else:
            named, api_key = ollama_address_and_key(client)
        host = _checked_host(named or DEFAULT_URL)
        super().__init__(
            _API,
            url=url_of(host),
            base_url=host if named else None,
            api_key=checked_api_key(api_key),
            timeout_s=timeout_s,
            max_retries=max_retries,
            client=client,
            headers=headers,
            query=query,
        )

    def _list_served(self, headers: Mapping[str, str]) -> list[str] | None:
        return models_at(self._url, headers)

    def _api_of(self, request: ChatRequest) -> ChatApi:
        return self._api

    def _body(self, request: ChatRequest) -> dict[str, Any]:
        return build_body(request)

    def _headers(self, key: Secret | None) -> dict[str, str]:
        headers = {
            "Accept": "application/json",
            "Content-Type": "application/json",
            "User-Agent": "createagents-nb",
        }
        if key:
            headers["Authorization"] = Secret(f"Bearer {key}")
        return headers

    def _client_transport(self, client: Any) -> Transport:
        return OllamaClientTransport(client, RetryPolicy(self._max_retries, self._retries_refused))

    def _client_fingerprint(self, client: Any) -> str:
        return ollama_key_fingerprint(client)


def _checked_host(host: str) -> str:
    """Return a host in a form of Ollama's, or a socket: ``box``, ``box:11434``, ``:11434``, ``https://box/path``."""
    if is_socket(host):
        return checked_socket(host, "")
    flaw = _flaw(host)  # found in a frame of its own, so that a traceback of this one shows no parts
    if flaw is not None:
        raise ConfigurationError(flaw)
    return str(host)


def _flaw(host: str) -> str | None:
    try:
        parts = urlsplit(host if "://" in host else f"http://{host}")
        url_of(host)  # reads the port, too
        (parts.hostname or "").encode("idna")
        fine = parts.scheme in ("http", "https") and not any(sign.isspace() for sign in host)
    except (TypeError, ValueError):
        fine = False
    if not fine:
        return (
            "Ollama's address (base_url, or OLLAMA_HOST) must be like http://127.0.0.1:11434, not "
            f"{without_password(host)!r}"
        )
    if parts.username or parts.password:
        return "Ollama's address must not carry a password: give the key as api_key=…"
    if parts.query or parts.fragment:
        return "Ollama's address must end with its path: without ?… and #…"
    return None


class _OllamaRequests(Handler):
    def events(self, client: Any, request: Mapping[str, Any]) -> AsyncGenerator[Event, None]:
        """Yield everything in the reply, `RoundEnded` last.

        Args:
            client: an ``ollama.AsyncClient``.
            request: body of ``POST /api/chat``; ``stream`` is set here.

        Raises:
            ProviderError: translated from what the network or the server raised.
        """

        async def connect() -> Transport:
            return OllamaClientTransport(client, RetryPolicy(0))

        return reply_events(connect, Exchange(_API, {**request, "stream": self.streamed}))


class OllamaStreamHandler(_OllamaRequests, StreamHandler):
    """Streamed replies.

    Example:
        >>> handler = OllamaStreamHandler()
        >>> async for token in handler.handle_streaming(AsyncClient(), "llama3.2", messages):
        ...     print(token, end="")
    """


class OllamaHandler(_OllamaRequests, BufferedHandler):
    """Buffered replies.

    Example:
        >>> text = await OllamaHandler().handle_non_streaming(AsyncClient(), "llama3.2", messages)
    """
