"""Maps failed requests and error replies to errors of our tree, each with a hint about what to do."""

from __future__ import annotations

import difflib
import html
import http.client
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from ..errors import (
    AuthenticationError,
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
from .error_body import (
    asked_wait_s,
    decoded_body,
    error_message,
    error_words,
    read_body,
    status_in,
)
from .error_kinds import KEY, find_kind
from .retries import retry_after_s
from .sockets import is_socket, socket_origin, socket_path
from .transport import HttpReply, RetryCount
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

_UNKNOWN_MODEL = re.compile(
    r"(?i)model_not_found|\b(?:invalid|unknown|no such) model\b|not a valid model"
    r"|(?:\bmodel\b|\bmodels/|\bdeployment\b).{0,200}?\b(?:not found|not exist)|\bno endpoints found for (?!the\b)"
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
        refusal: the decoded error, of a reply without success or inside one that began with it.
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
        body = self.refusal = decoded_body(await read_body(reply.blocks))
        self.is_unknown_model = (
            self._model is not None and reply.status in self._words.unknown_model and is_unknown_model(body)
        )
        return self.complete(self._from_body(body, reply.status, reply.headers, hint(body)))

    def from_body(self, body: Any) -> ProviderError:
        """Return the error for an error object inside a reply that began with success."""
        self.refusal = body
        error = self._from_body(body, status_in(body), in_reply=True)
        if error.status_code == 404 and self._model is not None and is_unknown_model(body):
            return self.unknown_model([], error)
        return error

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
        *,
        in_reply: bool = False,
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
            in_reply=in_reply,
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
    in_reply: bool = False,
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
        in_reply: it is in a reply that began with success.
    """
    is_page = status in _PAGE_STATUSES and _is_page(body)
    page = "This looks like a web page and no model server. " if is_page else ""
    example = _address_hint(url, provider)
    body = redact_body(body, secret)
    message = error_message(body) or "no explanation"
    said = f"{status}: {message}" if status else message
    known = None if is_page else find_kind(status, error_words(body))
    kind: type[ProviderError]
    if status == 407:
        return _proxy_error(status, url)
    if known is None and status in (401, 403) and not is_page:
        known = KEY
    elif known is not None and known.error is InvalidRequestError and not known.refuses_message and hint:
        known = None
    if known is not None:
        kind, text = known.error, f"{known.what}. {known.way}".format(label=label, said=said, key_hint=key_hint)
    elif is_page and status != 404:
        kind = AuthenticationError if status == 403 else InvalidRequestError
        text = f"{label} refused the request ({said}). {page}Check base_url{example}"
    elif status == 429:
        kind, text = RateLimitError, f"{label} is refusing more for now ({said}). Wait, or check the quota"
    elif status == 404 and not in_reply and not hint:
        text = f"Nothing is served at {url} (404: {message}). {page}Check base_url{example}"
        kind = InvalidRequestError
    elif status is not None and 400 <= status < 500:
        hint = hint or _HINTS.get(status, "Look at the model, config=…, the tools and the message")
        kind, text = InvalidRequestError, f"{label} refused the request ({said}). {hint}"
    elif status is not None and 300 <= status < 400:
        kind, text = (
            InvalidRequestError,
            f"{url} redirects elsewhere ({status}). Give its final address as base_url",
        )
    else:
        kind, text = ServerError, f"{label} failed ({said}). Try again"
    error = kind(text, provider=provider, status_code=status)
    error.refuses_message = known is not None and known.refuses_message
    error.retry_after_s = retry_after_s(headers or {})
    if error.retry_after_s is None:
        error.retry_after_s = asked_wait_s(body)
    return error


def is_unknown_model(body: Any) -> bool:
    """Return whether an error body says that the server has no such model."""
    return not _is_page(body) and _UNKNOWN_MODEL.search(error_words(body)) is not None


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
