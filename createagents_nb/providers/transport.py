"""What an error of aiohttp, or of the HTTP client of an SDK over it, really means."""

from __future__ import annotations

import re
import ssl
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any, Final, Literal

from .clients import loaded

__all__ = ["NO_TLS", "cleaned_json", "http_reason", "scrub", "tls_reason", "what_broke", "what_failed"]

Break = Literal["refused", "lost", "timeout", "tls", "redirects", "garbled"]

NO_TLS: Final = "it does not speak TLS"

_REDIRECTS = {"TooManyRedirects", "UnsupportedProtocol", "InvalidUrlRedirectClientError"}
_REDIRECTS |= {"NonHttpUrlRedirectClientError", "InvalidURL", "NonHttpUrlClientError"}

_FOREIGN = {"aiohttp", "httpx", "httpx2", "httpcore", "httpcore2", "openai", "ollama"}


def what_failed(error: Exception) -> Literal["connection", "protocol"] | None:
    """The way to the server, or what came over it; None for an error of neither aiohttp, httpx nor httpx2."""
    for name in ("httpx", "httpx2"):
        http = loaded(name)  # which has raised nothing if it was not imported
        if http is not None and isinstance(error, http.TransportError):
            return "connection"
        if http is not None and isinstance(error, (http.HTTPError, http.InvalidURL)):
            return "protocol"
    if isinstance(error, TimeoutError):
        return "connection"
    aiohttp = loaded("aiohttp")
    if aiohttp is None or not isinstance(error, aiohttp.ClientError):
        return None
    lost = (aiohttp.ClientConnectionError, aiohttp.ClientPayloadError)
    return "connection" if isinstance(error, lost) else "protocol"


def what_broke(error: BaseException) -> Break:
    """Look down the chain of causes for what aiohttp itself said: the SDKs report lost connections as timeouts."""
    import aiohttp

    for cause in _causes(error):
        if isinstance(cause, TimeoutError):
            return "timeout"
        if isinstance(cause, aiohttp.ClientSSLError):
            return "tls"
        if isinstance(cause, aiohttp.ClientConnectorError):
            return "refused"
        if isinstance(cause, aiohttp.ClientConnectionError | aiohttp.ClientPayloadError):
            return "lost"
        if isinstance(cause, ssl.SSLError):
            return "tls"
        if type(cause).__name__ in _REDIRECTS:
            return "redirects"
        if isinstance(cause, aiohttp.ClientResponseError):
            return "garbled"
    name = type(error).__name__
    return "timeout" if "Timeout" in name else "refused" if name == "ConnectError" else "lost"


def http_reason(error: BaseException) -> str:
    """What is wrong with bytes that were to be HTTP, in few words."""
    import aiohttp

    for cause in _causes(error):
        if isinstance(cause, aiohttp.ClientResponseError):
            words = re.split(r"\n|\(| when ", cause.message)[0]  # and no bytes of it: they may be a key
            return words.strip(" :.") or "broken"
    return "broken"


def scrub(error: BaseException, clean: Callable[[str], str], *, holds_reply: bool) -> None:
    """Take out of an error, and of those below it, what a server sent: it may be a key that it repeats.

    Args:
        clean: takes the key out of a text.
        holds_reply: what was sent is in the frames of its traceback, which go too.
    """
    garbled = what_broke(error) == "garbled"

    def cleaned(value: object) -> object:
        if garbled and isinstance(value, bytes | bytearray):
            return b"..."
        if not isinstance(value, str):
            return value
        # The parser quotes some bytes, in which a key may be cut.
        return clean(re.split(r"\n| when reading", value)[0] if garbled else value)

    for cause in _causes(error):
        if type(cause).__module__.partition(".")[0] not in _FOREIGN:
            continue  # it may be the user's own, which was being handled when the request was made
        _forget_request(cause, clean)
        cause.args = tuple(map(cleaned, cause.args))
        if isinstance(getattr(cause, "message", None), str):
            cause.message = cleaned(cause.message)  # type: ignore[attr-defined]
        if garbled or holds_reply:
            cause.__traceback__ = None


def _forget_request(error: BaseException, clean: Callable[[str], str]) -> None:
    """Take the key out of the request that an error remembers, and that Dask pickles with it."""
    info = getattr(error, "request_info", None)
    if info is not None:  # aiohttp's
        error.request_info = SimpleNamespace(url=info.url, method=info.method, headers={}, real_url=info.real_url)  # type: ignore[attr-defined]
        error.args = tuple(error.request_info if part is info else part for part in error.args)  # type: ignore[attr-defined]
        error.headers = None  # type: ignore[attr-defined]
    response = getattr(error, "response", None)
    for holder in (error, response):
        try:
            headers = getattr(holder, "request", None).headers  # type: ignore[union-attr]
        except (AttributeError, RuntimeError):  # httpx: the request was not set
            continue
        for name in ("authorization", "proxy-authorization"):
            if name in headers:
                headers[name] = "***"
    if response is not None:
        error.response = _without_key(response, clean)  # type: ignore[attr-defined]
    for name, known in vars(error).items():  # openai's have a body, a code…
        if isinstance(known, str | dict | list):
            setattr(error, name, cleaned_json(known, clean))


def _without_key(response: Any, clean: Callable[[str], str]) -> Any:
    """An answer of httpx or httpx2 with what it said, if that was read."""
    packed = ("content-encoding", "content-length", "transfer-encoding")
    return type(response)(
        response.status_code,
        headers=[(name, clean(value)) for name, value in response.headers.items() if name not in packed],
        content=clean(response.text).encode("utf-8", "replace") if response.is_stream_consumed else b"",
        request=response.request,
    )


def cleaned_json(body: Any, clean: Callable[[str], str]) -> Any:
    """A JSON value with each text in it cleaned, keys of objects too."""
    if isinstance(body, str):
        return clean(body)
    if isinstance(body, dict):
        return {cleaned_json(key, clean): cleaned_json(value, clean) for key, value in body.items()}
    return [cleaned_json(item, clean) for item in body] if isinstance(body, list) else body


def tls_reason(error: BaseException) -> str:
    """Why a TLS connection was not made: what is wrong with the certificate, or that it is no TLS."""
    for cause in _causes(error):
        if isinstance(cause, ssl.SSLCertVerificationError):
            words = getattr(cause, "verify_message", None)  # aiohttp's own kind has none
            if words:
                return str(words).rstrip(".")
    return NO_TLS


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or error.__context__
