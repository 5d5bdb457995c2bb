"""Maps failed requests and error replies to errors of our tree, each with a hint about what to do."""

from __future__ import annotations

import difflib
import html
import http.client
import json
import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from ..errors import (
    AuthenticationError,
    ContextLengthError,
    CreateAgentsError,
    InvalidRequestError,
    ModelNotFoundError,
    ProtocolError,
    ProviderConnectionError,
    ProviderError,
    ProviderTimeoutError,
    RateLimitError,
    ServerError,
)
from .retries import retry_after_s
from .sockets import is_socket, socket_origin, socket_path
from .transport import HttpReply, RetryCount, read_body
from .transport_errors import NO_TLS, ForeignError, TransportError, cleaned_json, sanitize

__all__ = [
    "ErrorMapper",
    "ErrorWords",
    "error_message",
    "is_unknown_model",
    "model_not_found",
    "redact_body",
    "status_error",
]

_CONTEXT = re.compile(
    r"(?i)context_length_exceeded|exceed_context_size|context (?:length|size|window)|prompt is too long"
)
_UNKNOWN_MODEL = re.compile(
    r"(?i)model_not_found|\b(?:invalid|unknown|no such) model\b|not a valid model"
    r"|\b(?:model|deployment)\b.{0,200}?\b(?:not found|not exist)"
)
_HINTS = {
    408: "Try again, or raise timeout_s",
    409: "Try again",
    413: "Shorten the prompt, or agent.clear_history()",
}
_PAGE_STATUSES = frozenset({400, 403, 404, 405, 406, 411, 415, 422, 501})
"""Statuses with which a web server refuses an API request. With others, a page usually comes from a gateway."""
_PAGE = re.compile(r"(?i)<(?:!doctype\s+html|html|head|body)\b")
_HIDDEN_MARKUP = re.compile(r"(?is)<(script|style)\b.*?(?:</\1\s*>|\Z)|<!--.*?(?:-->|\Z)")
_TAG = re.compile(r"<[^<>]*>")


@dataclass(frozen=True, slots=True)
class ErrorWords:
    """The texts of a provider's errors.

    Attributes:
        label: called with an address; the server's name in the text.
        key_hint: what to do if the key is refused.
        model_hint: what to do if there is no such model, with ``{model}``.
        unknown_model: statuses with which a server says that it has no such model.
        full_label: the same for errors about the connection.
        refused, lost, timeout: the whole text for these failures, with ``{label}``, ``{url}`` and ``{reason}``.
        unwrap: takes the error object out of a decoded error body.
        status_in: the HTTP status that an error object inside a stream names.
    """

    provider: str
    label: Callable[[str], str]
    full_label: Callable[[str], str]
    key_hint: str
    model_hint: str
    unknown_model: frozenset[int]
    refused: str
    lost: str
    timeout: str
    unwrap: Callable[[Any], Any] = lambda body: body
    status_in: Callable[[Any], int | None] = lambda body: None


class ErrorMapper(RetryCount):
    """Makes the errors of one request.

    Args:
        words: their texts.
        url: the server's base address.
        secret: the key in use; a server may repeat it.
        model: the model asked for; None for a request without one.

    Attributes:
        retries: how often the request has been sent again so far.
        is_unknown_model: the reply said that the server has no such model.
        refusal: the decoded body of the reply, as `from_reply` read it.
        adjusted: what was changed in the request because the server refused it.
    """

    def __init__(self, words: ErrorWords, url: str, secret: str | None, model: str | None = None) -> None:
        self.is_unknown_model = False
        self.refusal: Any = None
        self.adjusted: str | None = None
        self._words, self._url, self._secret, self._model = words, url, secret, model
        self._label = words.label(url)

    async def from_reply(
        self, reply: HttpReply, hint: Callable[[Any], str | None] = lambda refusal: None
    ) -> ProviderError:
        """Return the error for a reply without success; its body is in no frame that raises it.

        Args:
            hint: returns what to do about an error body, where more is known than its status.
        """
        self.refusal = _decoded(await read_body(reply.blocks))
        body = self._words.unwrap(self.refusal)
        self.is_unknown_model = (
            self._model is not None and reply.status in self._words.unknown_model and is_unknown_model(body)
        )
        return self.complete(self._from_body(body, reply.status, reply.headers, hint(self.refusal)))

    def from_body(self, body: Any) -> ProviderError:
        """Return the error for an error object inside a reply that began with success."""
        return self._from_body(body, self._words.status_in(body))

    def from_exception(self, error: Exception, summary: ForeignError | None) -> ProviderError | None:
        """Return the error for an exception, its summary chained below; None if it has no summary.

        Args:
            summary: of an exception of the HTTP library.
        """
        if isinstance(error, ProviderError):
            # Frames and context hold the bytes of the reply, in which a server may repeat the key.
            error.__context__ = None
            return self.complete(error.with_traceback(None))
        if summary is None or isinstance(error, CreateAgentsError):
            return None
        ours = self._from_summary(summary)
        ours.__cause__ = summary
        return self.complete(ours)

    def wrong_address(self, way: str, refusal: ProviderError) -> ProviderError:
        """Return the error for a request that went to a server of another kind.

        Args:
            way: what the server is, and how it is asked.
            refusal: what it said; chained.
        """
        error = InvalidRequestError(way, provider=self._words.provider, status_code=refusal.status_code)
        error.__cause__ = refusal
        return self.complete(error)

    def unknown_model(self, names: Sequence[str], refusal: ProviderError) -> ProviderError:
        """Return the error for a model that the server does not have.

        Args:
            names: the models that it has.
            refusal: what it said; chained.
        """
        assert self._model is not None
        error = model_not_found(
            self._model,
            names,
            provider=self._words.provider,
            label=self._label,
            url=self._url,
            hint=self._words.model_hint.format(model=self._model),
            status=refusal.status_code or 404,
        )
        error.__cause__ = refusal
        return self.complete(error)

    def complete(self, error: ProviderError) -> ProviderError:
        """Set provider and retries, and mask a key that the server repeated."""
        error.provider = error.provider or self._words.provider
        error.retries = self.retries
        error.adjusted = self.adjusted
        error.args = tuple(sanitize(str(argument), self._secret) for argument in error.args)
        return error

    def _from_body(
        self,
        body: Any,
        status: int | None,
        headers: Mapping[str, str] | None = None,
        hint: str | None = None,
    ) -> ProviderError:
        return status_error(
            status,
            body,
            provider=self._words.provider,
            label=self._label,
            url=self._url,
            key_hint=self._words.key_hint,
            secret=self._secret,
            headers=headers,
            hint=hint,
        )

    def _from_summary(self, summary: ForeignError) -> ProviderError:
        words, label = self._words, self._words.full_label(self._url)
        if not isinstance(summary, TransportError):
            return ProviderError(f"{self._label}: {summary.text}")
        reason = summary.reason
        match summary.kind:
            case "tls":
                way = (
                    "Check the address: http:// may be meant"
                    if reason == NO_TLS
                    else "Check the address; the certificate of an authority of your own goes into the file that "
                    "SSL_CERT_FILE names"
                )
                return ProviderConnectionError(f"{label} cannot be reached over TLS: {reason}. {way}")
            case "redirects":
                return ProtocolError(f"{label} redirects to nowhere. Give its final address as base_url")
            case "proxy":
                return _proxy_error(summary.status or 0, self._url)
            case "garbled":
                return ProtocolError(f"{label} does not answer in HTTP ({reason}). Check base_url")
            case "protocol":
                return ProtocolError(f"{self._label}: {summary.text}")
            case "timeout":
                return ProviderTimeoutError(words.timeout.format(label=self._label, url=self._url))
            case "working":
                late = ProviderTimeoutError(
                    f"{self._label} sent nothing for too long. It may still be working on the request or loading "
                    "its model, so the request was not sent again: raise timeout_s, or ask for less at once"
                )
                late.may_be_running = True
                return late
            case "lost":
                return ProviderConnectionError(words.lost.format(label=self._label, url=self._url))
            case "refused":
                socket = socket_path(self._url)
                if socket is not None:
                    return ProviderConnectionError(_socket_text(socket, reason))
                text = words.refused.format(label=self._label, url=self._url, reason=reason)
                return ProviderConnectionError(text)


def _socket_text(socket: str, reason: str) -> str:
    if "Errno 2]" in reason:
        return f"There is no such socket: {socket}. Start the server that makes it, or correct base_url"
    reason = re.sub(r"^\[Errno \d+\] ", "", reason)
    return f"The server at the socket {socket} cannot be reached: {reason}. Start it, or correct base_url"


def _proxy_error(status: int, url: str) -> ProviderConnectionError:
    """Return the error for a proxy that refused to pass a request on."""
    variables = "HTTPS_PROXY (or ALL_PROXY)" if url.startswith("https:") else "HTTP_PROXY (or ALL_PROXY)"
    phrase = f"{status} {http.client.responses.get(status, '')}".strip()
    if status == 407:
        text = f"The proxy refused the connection ({phrase}): check its user and password in {variables}"
    elif status >= 500:
        text = f"The proxy cannot reach {url} ({phrase}). Try again, or name the server in NO_PROXY"
    else:
        way = f"check {variables}, or name the server in NO_PROXY"
        text = f"The proxy refused the connection to {url} ({phrase}): {way}"
    return ProviderConnectionError(text, status_code=status or None)


def _decoded(body: bytes) -> Any:
    """Return an error body as JSON, not deeper than can be read, or as text."""
    text = body.decode("utf-8", "replace").strip()
    with suppress(ValueError, RecursionError):
        decoded = json.loads(text)
        if decoded is not None:
            return cleaned_json(decoded, str)
    return text


def redact_body(body: Any, secret: str | None) -> Any:
    """Return an error body of any shape without the key, which some servers repeat; a page becomes its text."""
    if isinstance(body, bytes):
        body = body.decode("utf-8", "replace")
    return cleaned_json(body, lambda text: sanitize(_page_text(text) if _is_page(text) else text, secret))


def _is_page(body: Any) -> bool:
    if isinstance(body, bytes):
        body = body[:1000].decode("utf-8", "replace")
    return isinstance(body, str) and _PAGE.search(body[:1000]) is not None


def _page_text(page: str) -> str:
    return html.unescape(_TAG.sub(" ", _HIDDEN_MARKUP.sub(" ", page)))


def error_message(body: Any) -> str:
    """Return the sentence in an error body, in any of the shapes that servers send.

    ``{"error": {"message": …}}``, ``{"error": "…"}`` (whose text may be JSON again), ``{"detail": "…" | […]}``,
    ``{"message": …}``, plain text or HTML.
    """
    if isinstance(body, bytes):
        body = body.decode("utf-8", "replace")
    if isinstance(body, str):
        text = body.strip().removeprefix("null")
        if text.startswith(("{", "[")):
            with suppress(ValueError, RecursionError):
                return error_message(json.loads(text))
        return _short(_TAG.sub(" ", text))
    if isinstance(body, dict):
        if isinstance(body.get("loc"), list) and body.get("msg"):  # FastAPI's 422: where, and what
            return _short(f"{'.'.join(map(str, body['loc']))}: {body['msg']}")
        for key in ("error", "message", "detail", "msg", "code"):
            if body.get(key):
                return error_message(body[key])
        return _short(json.dumps(body))
    if isinstance(body, list):
        return _short("; ".join(error_message(item) for item in body))
    return "" if body is None else _short(str(body))


def status_error(
    status: int | None,
    body: Any,
    *,
    provider: str,
    label: str,
    url: str,
    key_hint: str,
    secret: str | None = None,
    headers: Mapping[str, str] | None = None,
    hint: str | None = None,
) -> ProviderError:
    """Return the error for an HTTP status and its body, or for an error object inside a stream.

    Args:
        status: None for an error object that names none.
        provider: its name in the records.
        label: the server's name in the text.
        key_hint: what to do if the key is refused.
        secret: the key in use, which is not repeated.
        headers: of the reply, which may say how long to wait.
        hint: what to do about a refused request; default: by the status.
    """
    is_page = status in _PAGE_STATUSES and _is_page(body)
    page = "This looks like a web page and no model server. " if is_page else ""
    example = _address_hint(url, provider)
    body = redact_body(body, secret)
    message = error_message(body) or "no explanation"
    raw = f"{message} {body if isinstance(body, str) else json.dumps(body, default=str)}"
    kind: type[ProviderError]
    if is_page and status != 404:
        kind = AuthenticationError if status == 403 else InvalidRequestError
        text = f"{label} refused the request ({status}: {message}). {page}Check base_url{example}"
    elif status == 407:
        return _proxy_error(status, url)
    elif status in (401, 403):
        kind, text = AuthenticationError, f"{label} refused the key ({status}: {message}). {key_hint}"
    elif status == 429:
        kind, text = (
            RateLimitError,
            f"{label} is refusing more for now (429: {message}). Wait, or check the quota",
        )
    elif (status is None or status < 500 or status == 500) and _CONTEXT.search(raw):
        kind = ContextLengthError
        text = (
            f"The conversation is longer than the model's context ({message}). "
            "Shorten the prompt, or agent.clear_history()"
        )
    elif status == 404:
        text = f"Nothing is served at {url} (404: {message}). {page}Check base_url{example}"
        kind = InvalidRequestError
    elif status is not None and 400 <= status < 500:
        hint = hint or _HINTS.get(status, "Look at the model, config=…, the tools and the message")
        kind, text = InvalidRequestError, f"{label} refused the request ({status}: {message}). {hint}"
    elif status is not None and 300 <= status < 400:
        kind, text = (
            InvalidRequestError,
            f"{url} redirects elsewhere ({status}). Give its final address as base_url",
        )
    else:
        words = f"{status}: {message}" if status else message
        kind, text = ServerError, f"{label} failed ({words}). Try again"
    error = kind(text, provider=provider, status_code=status)
    error.retry_after_s = retry_after_s(headers or {})
    return error


def is_unknown_model(body: Any) -> bool:
    """Return whether an error body says that the server has no such model."""
    code = body.get("code") if isinstance(body, dict) else None
    return not _is_page(body) and bool(_UNKNOWN_MODEL.search(f"{code} {error_message(body)}"))


def model_not_found(
    model: str, names: Sequence[str], *, provider: str, label: str, url: str, hint: str, status: int = 404
) -> ModelNotFoundError:
    """Return the error for an unknown model.

    Args:
        names: the models that exist; the closest are listed first.
        hint: what else to do.
    """
    close = difflib.get_close_matches(model, names, n=3, cutoff=0.4)
    listed = [*close, *(name for name in sorted(names) if name not in close)]
    shown = ", ".join(listed[:12]) + (f", … ({len(listed)} in all)" if len(listed) > 12 else "")
    way = f"Available: {shown}. {hint}" if listed else hint
    where = "" if url in label else f" at {url}"
    return ModelNotFoundError(
        f"{label} has no model {model!r}{where}. {way}", provider=provider, status_code=status
    )


def _short(text: str) -> str:
    text = " ".join(sanitize(text, None).split())  # JSON escapes may have hidden a key
    return text if len(text) <= 300 else text[:299] + "…"


def _address_hint(url: str, provider: str) -> str:
    """Guess the mistake in an address that serves nothing."""
    for ending in (
        "/chat/completions",
        "/completions",
        *(["/api/chat", "/v1", "/api"] if provider == "ollama" else []),
    ):
        if url.endswith(ending):
            return f": leave out {ending}"
    if provider != "openai" or "/v1" in url:
        return ""
    parts = urlsplit(url)
    server = f"{socket_origin(url)}:" if is_socket(url) else f"{parts.scheme}://{parts.netloc}"
    return f": as a rule it ends in /v1, like {server}/v1"
