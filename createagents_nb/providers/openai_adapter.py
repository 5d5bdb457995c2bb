"""OpenAI and every compatible server: vLLM, llama.cpp, LM Studio, OpenRouter, Azure's compatible endpoint…"""

from __future__ import annotations

import json
import os
import re
from collections.abc import AsyncGenerator, Mapping
from dataclasses import replace
from functools import partial
from typing import Any, ClassVar, Self
from urllib.parse import urlsplit

import msgspec

from ..core.events import Event
from ..core.provider import ChatRequest
from ..errors import ConfigurationError, ProtocolError, UnsupportedConfigError
from ..redaction import (
    ApiKey,
    Secret,
    as_api_key,
    as_secret,
    as_secret_values,
    is_secret_name,
    mask_known_keys,
)
from .addresses import can_be_header, checked_address, mask_header
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
from .openai_reply import OpenAIReplyDecoder
from .openai_request import CHAT_FIELDS, CHAT_OPTIONAL, CHAT_RENAMES, UNSUPPORTED, build_body
from .openai_responses_reply import ResponsesReplyDecoder
from .openai_responses_request import CHAT_ONLY, RESPONSES_FIELDS, RESPONSES_OPTIONAL, build_responses_body
from .presets import check_key, missing_address
from .refusals import learned
from .sdk_client import OPENAI_OPTIONS, OpenAIClientTransport, openai_key_fingerprint
from .servers import OPENAI, SERVERS, UNKNOWN, ServerFacts, facts_of
from .transport import Transport
from .transport_errors import ForeignError

__all__ = [
    "OpenAIAdapter",
    "OpenAIChatAdapter",
    "OpenAIHandler",
    "OpenAIResponsesAdapter",
    "OpenAIStreamHandler",
]


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


def _label(facts: ServerFacts, url: str) -> str:
    return facts.label if facts.is_at(url) else f"The server at {url}"


def _error_words(facts: ServerFacts) -> ErrorWords:
    variable = facts.key_variables[0] if facts.key_variables else "OPENAI_API_KEY"
    label = partial(_label, facts)
    return ErrorWords(
        provider=facts.name,
        label=label,
        full_label=label,
        key_hint=f"Set {variable} to a valid key, or pass api_key=…",
        model_hint="Choose another model with model=…",
        unknown_model=frozenset({400, 404}),
        refused="{label} cannot be reached: {reason}. Check the network and base_url",
        lost="{label} closed the connection before the answer was complete. Try again",
        timeout="{label} sent nothing for too long. Try again, or raise timeout_s",
    )


_CHAT: Mapping[str, Any] = {
    "name": "chat",
    "chat_path": "/chat/completions",
    "new_decoder": OpenAIReplyDecoder,
    "optional": CHAT_OPTIONAL,
    "renames": CHAT_RENAMES,
    "config_fields": CHAT_FIELDS,
}
_RESPONSES: Mapping[str, Any] = {
    "name": "responses",
    "chat_path": "/responses",
    "new_decoder": ResponsesReplyDecoder,
    "optional": RESPONSES_OPTIONAL,
    "config_fields": RESPONSES_FIELDS,
}


def _api(words: ErrorWords, parts: Mapping[str, Any]) -> ChatApi:
    return ChatApi(words=words, models_path="/models", model_names=_model_names, **parts)


_USE_RESPONSES = re.compile(r"(?i)/v1/responses|\bresponses api\b|\bv1/responses\b")
"""A refusal by Chat Completions of what only the Responses API takes."""


class OpenAIAdapter(HttpChatAdapter):
    """OpenAI and compatible servers; each request goes to the Responses API or to Chat Completions.

    ``config["api"]`` decides, ``"responses"`` or ``"chat"``. By default, OpenAI itself and addresses that end in
    ``/openai/v1`` (as Azure's do) are asked by Responses, unless ``config`` has what only Chat Completions takes;
    all others by Chat Completions. A server that refers to the other API is asked that way from then on.

    Args:
        api_key: default: the server's environment variable, such as ``OPENAI_API_KEY``. A compatible server
            (``base_url``) may need none. Or a function, sync or async, that each request calls for it.
        base_url: default: the server's environment variable, such as ``OPENAI_BASE_URL``, else its own address. It
            usually ends in ``/v1``. A server on a Unix socket is ``unix:///run/model.sock``, or
            ``unix:///run/model.sock:/v2`` for a path other than ``/v1``.
        timeout_s: limit for the time without a byte, in seconds.
        max_retries: how often a request without an answer is sent again; never after the first token.
        client: your own ``openai.AsyncOpenAI``, used as it is, retries included, and never closed. ``timeout_s``
            and ``max_retries`` are set on it.
        headers: sent with each request, in place of ours of the same name; None removes one of ours.
        query: appended to each address.
        server: a name in `createagents_nb.providers.servers.SERVERS`, for its key, its address and its habits.

    Raises:
        MissingKeyError: no key, and the server needs one.
        ConfigurationError: ``base_url`` is no such address, or there is none; the key has characters that no key
            has, or is another server's; a header cannot be sent; or ``client`` comes with a limit or headers that
            it has itself.

    Example:
        >>> adapter = OpenAIAdapter(base_url="http://127.0.0.1:8080/v1")
    """

    provider = "openai"
    default_model = OPENAI.default_model
    unsupported_config = UNSUPPORTED
    _fixed_api: ClassVar[str | None] = None
    """The API of requests whose ``config`` names none; None to choose by the server."""

    def __init__(
        self,
        *,
        api_key: ApiKey | None = None,
        base_url: str | None = None,
        timeout_s: float = DEFAULT_TIMEOUT_S,
        max_retries: int = DEFAULT_MAX_RETRIES,
        client: Any = None,
        headers: Mapping[str, str | None] | None = None,
        query: Mapping[str, str] | None = None,
        server: str = "openai",
    ) -> None:
        row = SERVERS[server]
        api_key, base_url = as_api_key(api_key), as_secret(base_url)
        headers, query = as_secret_values(headers), as_secret_values(query)
        if client is not None:
            check_client_limits(client, timeout_s=timeout_s, max_retries=max_retries)
        own_url = None if client is None else as_secret(str(client.base_url))
        # Apart from the checks: a verbose traceback shows the values in a line that fails, all of os.environ too.
        named = own_url or (row.complete(base_url) if base_url else row.address)
        if named is None and row.base_url is None:
            raise missing_address(row)
        url = checked_address(named or row.base_url or "", "http://127.0.0.1:8080/v1", socket_path="/v1")
        self._facts = facts = facts_of(server, url)
        if client is None:
            api_key = api_key or facts.key or row.key
        else:
            api_key = as_secret(client.api_key) if isinstance(client.api_key, str) else None
        if server != OPENAI.name:
            self.provider, self.default_model = server, row.default_model
            self.telemetry_provider = row.telemetry_provider
        if type(self).price_provider is None:
            self.price_provider = facts.price_provider if facts.is_at(url) or not facts.hosts else None
        words = _error_words(replace(facts, name=self.provider))
        self._responses_api = _api(words, _RESPONSES)
        super().__init__(
            _api(words, _CHAT),
            url=url,
            base_url=url if named else None,
            api_key=checked_api_key(api_key),
            timeout_s=timeout_s,
            max_retries=max_retries,
            client=client,
            headers=headers,
            query=query,
            is_run_at_home=row.runs_at_home,
        )
        self._max_client_retries: int | None = None
        if client is None:
            check_key(facts, self._api_key or self._has_key, url)

    @property
    def is_openai_itself(self) -> bool:
        """Whether the address is one of OpenAI's."""
        return facts_of(None, self._url) is OPENAI

    @property
    def _prefers_responses(self) -> bool:
        is_like_azure = urlsplit(self._url).path.endswith("/openai/v1")
        return self._facts is OPENAI or (is_like_azure and (self._facts.has_responses or self._facts is UNKNOWN))

    def check_config(self, config: Mapping[str, Any]) -> None:
        others = chat_only(config)
        if (config.get("api") or self._fixed_api) == "responses" and others:
            raise UnsupportedConfigError(
                f"The Responses API takes no {', '.join(others)}. Leave it out, or use config={{'api': 'chat'}}"
            )

    def _api_of(self, request: ChatRequest) -> ChatApi:
        named = request.config.get("api") or self._fixed_api
        if named is None and chat_only(request.config):
            named = "chat"
        if named is None:
            referred = learned(self._place, request.model, "")
            named = referred[0].name if referred else "responses" if self._prefers_responses else "chat"
        return self._responses_api if named == "responses" else self._api

    def _other_api(self, request: ChatRequest, status: int, refusal: Any) -> str | None:
        if "api" in request.config or self._fixed_api is not None or chat_only(request.config):
            return None
        if self._api_of(request) is self._responses_api:
            return "chat" if status in (404, 405) and not self.is_openai_itself else None
        return "responses" if status in (400, 404) and _refers_to_responses(refusal) else None

    def _hint(self, request: ChatRequest, refusal: Any) -> str | None:
        if self._api_of(request) is self._responses_api or not _refers_to_responses(refusal):
            return None
        others = chat_only(request.config)
        leave_out = f"It takes no {', '.join(others)}: leave that out. " if others else ""
        named = " in place of 'chat'" if request.config.get("api") == "chat" else ""
        return f"{leave_out}Use config={{'api': 'responses'}}{named}"

    def _body(self, request: ChatRequest) -> dict[str, Any]:
        if self._api_of(request) is self._responses_api:
            return build_responses_body(request)
        return build_body(request, self._facts)

    def _headers(self, key: Secret | None) -> dict[str, str]:
        # The headers of the SDK, except those that describe this machine.
        headers: dict[str, str] = {}
        if key or not self._has_key:
            headers["Authorization"] = Secret(f"Bearer {key or 'none'}")
        headers |= {
            "Accept": "application/json",
            "Content-Type": "application/json",
            "User-Agent": "createagents-nb",
        }
        if self._facts not in (OPENAI, UNKNOWN):  # those of the environment are OpenAI's
            return headers
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

    def without_retries(self) -> Self:
        same = super().without_retries()
        same._max_client_retries = 0
        return same


class OpenAIChatAdapter(OpenAIAdapter):
    """Chat Completions, of OpenAI and of every compatible server; arguments as those of `OpenAIAdapter`.

    Example:
        >>> adapter = OpenAIChatAdapter(base_url="http://127.0.0.1:8080/v1")
    """

    _fixed_api = "chat"


class OpenAIResponsesAdapter(OpenAIAdapter):
    """The Responses API, of OpenAI, Azure and the servers that have it; arguments as those of `OpenAIAdapter`.

    Nothing is stored on the server: each request has the whole conversation, and reasoning as encrypted items.

    Example:
        >>> adapter = OpenAIResponsesAdapter(base_url="https://example.openai.azure.com/openai/v1")
    """

    _fixed_api = "responses"


def chat_only(config: Mapping[str, Any]) -> list[str]:
    """The options that only Chat Completions takes."""
    extra = {name for name, value in config.get("extra", {}).items() if value is not None}
    return sorted(CHAT_ONLY & (config.keys() | extra))


def _refers_to_responses(refusal: Any) -> bool:
    return _USE_RESPONSES.search(json.dumps(refusal, default=str)) is not None


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

        return reply_events(connect, Exchange(_api(_error_words(UNKNOWN), _CHAT), body))


class OpenAIStreamHandler(_OpenAIRequests, StreamHandler):
    """Streamed replies.

    Example:
        >>> handler = OpenAIStreamHandler()
        >>> async for token in handler.handle_streaming(AsyncOpenAI(), "gpt-6-luna", messages):
        ...     print(token, end="")
    """


class OpenAIHandler(_OpenAIRequests, BufferedHandler):
    """Buffered replies.

    Example:
        >>> text = await OpenAIHandler().handle_non_streaming(AsyncOpenAI(), "gpt-6-luna", messages)
    """
