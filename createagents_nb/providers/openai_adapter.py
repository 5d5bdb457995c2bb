"""OpenAI and every compatible server: vLLM, llama.cpp, LM Studio, OpenRouter, Azure's compatible endpoint…"""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator, Mapping
from typing import Any

import msgspec

from ..core.events import Event
from ..core.provider import ChatRequest
from ..errors import ConfigurationError, MissingKeyError, ProtocolError
from ..redaction import Secret, as_secret, is_secret_name, mask_known_keys
from .addresses import can_be_header, checked_address, checked_key, mask_header
from .error_mapping import ErrorWords
from .http_adapter import (
    DEFAULT_MAX_RETRIES,
    DEFAULT_TIMEOUT_S,
    BufferedHandler,
    ChatApi,
    Handler,
    HttpChatAdapter,
    StreamHandler,
    check_client_limits,
    reply_events,
)
from .openai_reply import OpenAIReplyDecoder
from .openai_request import UNSUPPORTED, build_body
from .sdk_client import OPENAI_OPTIONS, OpenAIClientTransport, openai_key_fingerprint
from .transport import Transport
from .transport_errors import ForeignError

__all__ = ["OpenAIChatAdapter", "OpenAIHandler", "OpenAIStreamHandler"]

_OPENAI = "https://api.openai.com/v1"


class _Model(msgspec.Struct):
    id: str


class _Models(msgspec.Struct):
    data: list[_Model]


def _model_names(body: bytes, url: str) -> list[str]:
    try:
        return [mask_known_keys(model.id) for model in msgspec.json.decode(body, type=_Models).data]
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        text = f"{url}/models lists no models: {error}. Check base_url"
        raise ProtocolError(text) from ForeignError.of(error)


def _label(url: str) -> str:
    return "OpenAI" if "api.openai.com" in url else f"The server at {url}"


def _error_object(body: Any) -> Any:
    inner = body.get("error") if isinstance(body, dict) else None
    return body if inner is None else inner


def _status_in(body: Any) -> int | None:
    code = str(body.get("code")) if isinstance(body, dict) else ""
    return int(code) if len(code) == 3 and code.isdecimal() and code[0] in "45" else None


_API = ChatApi(
    chat_path="/chat/completions",
    models_path="/models",
    new_decoder=OpenAIReplyDecoder,
    model_names=_model_names,
    words=ErrorWords(
        provider="openai",
        label=_label,
        full_label=_label,
        key_hint="Set OPENAI_API_KEY to a valid key, or pass api_key=…",
        model_hint="Choose another model with model=…",
        unknown_model=frozenset({400, 404}),
        refused="{label} cannot be reached: {reason}. Check the network and base_url",
        lost="{label} closed the connection before the answer was complete. Try again",
        timeout="{label} sent nothing for too long. Try again, or raise timeout_s",
        unwrap=_error_object,
        status_in=_status_in,
    ),
)


class OpenAIChatAdapter(HttpChatAdapter):
    """Chat Completions.

    Args:
        api_key: default ``OPENAI_API_KEY``. A compatible server (``base_url``) may need none.
        base_url: default ``OPENAI_BASE_URL``, else OpenAI itself. It usually ends in ``/v1``.
        timeout_s: limit for the time without a byte, in seconds.
        max_retries: how often a request without an answer is sent again; never after the first token.
        client: your own ``openai.AsyncOpenAI``, used as it is, retries included, and never closed. ``timeout_s``
            and ``max_retries`` are set on it.

    Raises:
        MissingKeyError: no key, and the server is OpenAI itself.
        ConfigurationError: ``base_url`` is not an http(s) address, the key has characters that no key has, or
            ``client`` comes with a limit that it has itself.

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
        timeout_s: float = DEFAULT_TIMEOUT_S,
        max_retries: int = DEFAULT_MAX_RETRIES,
        client: Any = None,
    ) -> None:
        api_key, base_url = as_secret(api_key), as_secret(base_url)
        if client is not None:
            check_client_limits(client, timeout_s=timeout_s, max_retries=max_retries)
        own_url = None if client is None else as_secret(str(client.base_url))
        # Apart from the checks: a verbose traceback shows the values in a line that fails, all of os.environ too.
        named = own_url or base_url or as_secret(os.environ.get("OPENAI_BASE_URL"))
        if client is None:
            api_key = api_key or as_secret(os.environ.get("OPENAI_API_KEY"))
        else:
            api_key = as_secret(client.api_key) if isinstance(client.api_key, str) else None
        url = checked_address(named or _OPENAI, "http://127.0.0.1:8080/v1")
        super().__init__(
            _API,
            url=url,
            base_url=url if named else None,
            api_key=checked_key(api_key),
            timeout_s=timeout_s,
            max_retries=max_retries,
            client=client,
        )
        self._max_client_retries: int | None = None
        if client is None and not self._api_key and self.is_openai_itself:
            raise MissingKeyError(
                "OpenAI needs a key: `%agent key` asks for it in a notebook; else set OPENAI_API_KEY in the "
                "environment, or pass api_key=…; without one, provider='demo' or a local provider='ollama' work"
            )

    @property
    def is_openai_itself(self) -> bool:
        return self.server == "api.openai.com"

    def _body(self, request: ChatRequest) -> dict[str, Any]:
        return build_body(request, is_openai_itself=self.is_openai_itself)

    def _headers(self) -> dict[str, str]:
        # The headers of the SDK, except those that describe this machine.
        headers = {
            "Authorization": Secret(f"Bearer {self._api_key or 'none'}"),
            "Accept": "application/json",
            "Content-Type": "application/json",
            "User-Agent": "createagents-nb",
        }
        others, flawed = _headers_of_environment()
        if flawed is not None:
            raise ConfigurationError(
                f"{flawed} has control characters, which no header may have: set it anew, without line ends inside"
            )
        replaced = {name.lower() for name in others}
        return {name: value for name, value in headers.items() if name.lower() not in replaced} | others

    def _client_transport(self, client: Any) -> Transport:
        return OpenAIClientTransport(client, max_retries=self._max_client_retries)

    def _client_fingerprint(self, client: Any) -> str:
        return openai_key_fingerprint(client)

    def without_retries(self) -> OpenAIChatAdapter:
        same = super().without_retries()
        same._max_client_retries = 0
        return same


def _headers_of_environment() -> tuple[dict[str, Secret], str | None]:
    """Read the headers that the environment adds; those in OPENAI_CUSTOM_HEADERS also replace ours.

    Returns:
        The headers, or the name of a variable that no header can be made of. Nothing is raised here: a traceback
        would show the values.
    """
    headers: dict[str, Secret] = {}
    for name, variable in (("OpenAI-Organization", "OPENAI_ORG_ID"), ("OpenAI-Project", "OPENAI_PROJECT_ID")):
        value = Secret(os.environ.get(variable, "").strip())
        if not can_be_header(value):
            return {}, variable
        if value:
            headers[name] = value
    custom: dict[str, Secret] = {}
    for line in os.environ.get("OPENAI_CUSTOM_HEADERS", "").split("\n"):
        name, colon, text = line.partition(":")
        name, value = name.strip(), Secret(text.strip())
        if not (can_be_header(name) and can_be_header(value)):
            return {}, "OPENAI_CUSTOM_HEADERS"
        if colon and name:
            custom[name] = mask_header(value) if is_secret_name(name) else value
    replaced = {name.lower() for name in custom}
    return {name: value for name, value in headers.items() if name.lower() not in replaced} | custom, None


class _OpenAIRequests(Handler):
    def events(self, client: Any, request: Mapping[str, Any]) -> AsyncGenerator[Event, None]:
        """Yield everything in the reply, `RoundEnded` last.

        Args:
            client: an ``openai.AsyncOpenAI``.
            request: arguments of ``client.chat.completions.create``; ``stream`` is set here.

        Raises:
            ProviderError: translated from what the SDK, the network or the server raised.
        """
        body = dict(request)
        body.pop("stream", None)
        if self.streamed:
            body["stream"] = True
        else:
            body.pop("stream_options", None)

        options = {name: body.pop(name) for name in OPENAI_OPTIONS if name in body}

        async def connect() -> Transport:
            return OpenAIClientTransport(client, options)

        return reply_events(_API, connect, body, streamed=self.streamed)


class OpenAIStreamHandler(_OpenAIRequests, StreamHandler):
    """Streamed replies.

    Example:
        >>> handler = OpenAIStreamHandler()
        >>> async for token in handler.handle_streaming(AsyncOpenAI(), "gpt-4.1-mini", messages):
        ...     print(token, end="")
    """


class OpenAIHandler(_OpenAIRequests, BufferedHandler):
    """Buffered replies.

    Example:
        >>> text = await OpenAIHandler().handle_non_streaming(AsyncOpenAI(), "gpt-4.1-mini", messages)
    """
