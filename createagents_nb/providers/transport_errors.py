"""Errors of the HTTP libraries and SDKs as clean summaries: what failed, without request, reply, frame or key.

A foreign exception keeps the request, and with it the key, in its attributes and in the frames of its traceback.
So it is never chained below one of ours: a summary of it is.
"""

from __future__ import annotations

import re
import ssl
from collections.abc import Callable, Iterator
from typing import Any, Final, Literal, Self

from ..redaction import redact
from ..text import clean_text

__all__ = [
    "NO_TLS",
    "FailureKind",
    "ForeignError",
    "RedirectError",
    "StillWorkingError",
    "TransportError",
    "cleaned_json",
    "failure_kind",
    "proxy_status",
    "sanitize",
    "summarize",
]

FailureKind = Literal["refused", "lost", "timeout", "tls", "redirects", "proxy", "garbled", "protocol", "working"]

NO_TLS: Final = "it does not speak TLS"

_MAX_DEPTH = 50  # each level takes a few frames, and the caller may be deep in the stack already
_MAX_CHARS = 32_768
_MAX_KEY_CHARS = 1_000

# Exceptions by name, so that no library has to be imported to recognize those of another.
_TRANSPORT_ERRORS = frozenset(
    {
        "aiohttp.ClientError",
        "aiohttp_socks.ProxyConnectionError",
        "aiohttp_socks.ProxyError",
        "aiohttp_socks.ProxyTimeoutError",
        "asyncio.IncompleteReadError",
        "builtins.TimeoutError",
        "createagents_nb.RedirectError",
        "createagents_nb.StillWorkingError",
        "httpx.HTTPError",
        "httpx.InvalidURL",
        "httpx2.HTTPError",
        "httpx2.InvalidURL",
        "openai.APIConnectionError",
        "openai.APIResponseValidationError",
    }
)
_KINDS: tuple[tuple[FailureKind, frozenset[str]], ...] = (
    ("working", frozenset({"createagents_nb.StillWorkingError"})),
    (
        "timeout",
        frozenset(
            {
                "aiohttp_socks.ProxyTimeoutError",
                "builtins.TimeoutError",
                "httpx.TimeoutException",
                "httpx2.TimeoutException",
                "openai.APITimeoutError",
            }
        ),
    ),
    ("tls", frozenset({"aiohttp.ClientSSLError"})),
    (
        "refused",
        frozenset(
            {"aiohttp.ClientConnectorError", "aiohttp_socks.ProxyConnectionError", "aiohttp_socks.ProxyError"}
        ),
    ),
    (
        "lost",
        frozenset(
            {
                "aiohttp.ClientConnectionError",
                "aiohttp.ClientPayloadError",
                "asyncio.IncompleteReadError",  # a SOCKS proxy hangs up
            }
        ),
    ),
    ("tls", frozenset({"ssl.SSLError"})),
    (
        "redirects",
        frozenset(
            {
                "aiohttp.InvalidURL",
                "createagents_nb.RedirectError",
                "httpx.TooManyRedirects",
                "httpx.UnsupportedProtocol",
                "httpx2.TooManyRedirects",
                "httpx2.UnsupportedProtocol",
            }
        ),
    ),
    ("proxy", frozenset({"aiohttp.ClientHttpProxyError"})),
    ("garbled", frozenset({"aiohttp.ClientResponseError"})),
)
# Looked for after those above: httpx reports failed handshakes and redirects as one of these, too.
_LAST_KINDS: tuple[tuple[FailureKind, frozenset[str]], ...] = (
    ("working", frozenset({"createagents_nb.StillWorkingError"})),
    ("refused", frozenset({"httpx.ConnectError", "httpx2.ConnectError"})),
    ("lost", frozenset({"httpx.TransportError", "httpx2.TransportError", "openai.APIConnectionError"})),
)


class RedirectError(Exception):
    """A redirect that cannot be followed."""


class StillWorkingError(Exception):
    """No byte came in time, from a server that may still be working on the request."""


class ForeignError(Exception):
    """A summary of a foreign exception: the name of its type, and its text without keys.

    It has no traceback, and nothing is chained below it.

    Attributes:
        text: without the name of the type.
    """

    text: str = ""

    @classmethod
    def of(cls, error: Exception, secret: str | None = None) -> Self:
        name, text = type(error).__name__, sanitize(str(error), secret)
        summary = cls(f"{name}: {text}" if text else name)
        summary.text = text or name
        return summary


class TransportError(ForeignError):
    """A summary of a request that failed below HTTP.

    Attributes:
        kind: what failed.
        status: for ``proxy``, the HTTP status with which it refused the tunnel.
        reason: details for ``tls`` and ``garbled``; for the others, the text of the first cause.
    """

    kind: FailureKind = "lost"
    status: int | None = None
    reason: str = ""


def failure_kind(error: Exception) -> FailureKind | None:
    """Return what failed below HTTP; None for an error of another kind."""
    # Down the chain of causes, for what the transport itself reported: SDKs report lost connections as timeouts.
    chain = [_names(cause) for cause in _causes(error)]
    if not chain[0] & _TRANSPORT_ERRORS:
        return None
    if any("ssl.SSLCertVerificationError" in names for names in chain):
        return "tls"
    for names in chain:
        for kind, known in _KINDS:
            if names & known:
                return kind
    for kind, known in _LAST_KINDS:
        if any(names & known for names in chain):
            return kind
    return "protocol"


def proxy_status(error: BaseException) -> int | None:
    """Return the HTTP status with which a proxy refused a tunnel; None if none did."""
    for cause in _causes(error):
        if "aiohttp.ClientHttpProxyError" in _names(cause):
            status = getattr(cause, "status", None)
            return status if isinstance(status, int) else None
    return None


def summarize(error: Exception, secret: str | None) -> ForeignError | None:
    """Return the summary of an error of aiohttp, httpx or an SDK; None for any other.

    Args:
        secret: the key in use, taken out of the text.
    """
    kind = failure_kind(error)
    if kind is None:
        return ForeignError.of(error, secret) if "openai.OpenAIError" in _names(error) else None
    # A parser quotes some of the bytes that it refuses, and a key may be cut in them. A proxy may say anything.
    is_quoting = kind in ("garbled", "proxy")
    summary = TransportError(type(error).__name__) if is_quoting else TransportError.of(error, secret)
    summary.kind = kind
    if kind == "tls":
        summary.reason = _tls_reason(error)
    elif kind == "garbled":
        summary.reason = _http_reason(error)
    elif kind == "proxy":
        summary.status = proxy_status(error)
    else:
        first: BaseException = error
        while first.__cause__ is not None:
            first = first.__cause__
        summary.reason = sanitize(str(first), secret) or type(first).__name__
    return summary


def sanitize(text: str, secret: str | None) -> str:
    """Return what a server sent, without the key, which it may repeat, and without terminal escapes.

    Only the beginning of a long text: cleaning a megabyte would block the event loop for seconds.
    """
    if len(text) <= _MAX_CHARS:
        return redact(clean_text(text), secret)
    # A key that is cut in two is not recognized, so what is near the cut is dropped afterwards.
    return redact(clean_text(text[:_MAX_CHARS]), secret)[:-_MAX_KEY_CHARS] + "…"


def cleaned_json(body: Any, clean: Callable[[str], str], depth: int = 0) -> Any:
    """Return a JSON value with each text in it cleaned, object keys too, cut where it is nested too deep."""
    if isinstance(body, str):
        return clean(body)
    if isinstance(body, dict | list) and depth == _MAX_DEPTH:
        return "…"
    if isinstance(body, dict):
        return {clean(str(key)): cleaned_json(value, clean, depth + 1) for key, value in body.items()}
    return [cleaned_json(item, clean, depth + 1) for item in body] if isinstance(body, list) else body


def _names(error: BaseException) -> set[str]:
    return {f"{base.__module__.partition('.')[0]}.{base.__name__}" for base in type(error).__mro__}


def _tls_reason(error: BaseException) -> str:
    for cause in _causes(error):
        if isinstance(cause, ssl.SSLCertVerificationError):
            words = getattr(cause, "verify_message", None)  # not set on aiohttp's subclass
            if words:
                return str(words).rstrip(".")
    return NO_TLS


def _http_reason(error: BaseException) -> str:
    for cause in _causes(error):
        message = getattr(cause, "message", None)
        if isinstance(message, str) and "aiohttp.ClientResponseError" in _names(cause):
            words = re.split(r"\n|\(| when ", message)[0]  # without the bytes behind it
            return words.strip(" :.") or "broken"
    return "broken"


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or error.__context__
