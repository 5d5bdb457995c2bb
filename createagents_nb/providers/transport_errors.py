"""What an error of aiohttp, or of the HTTP client of an SDK over it, really means."""

from __future__ import annotations

import asyncio
import re
import ssl
import traceback
from collections.abc import AsyncIterator, Callable, Iterator
from types import SimpleNamespace
from typing import Any, Final, Literal

from ..redaction import redact
from ..text import clean_text
from .clients import loaded

__all__ = [
    "NO_TLS",
    "classify_error",
    "cleaned_json",
    "http_reason",
    "root_cause",
    "sanitize",
    "scrub",
    "tls_reason",
]

Break = Literal["refused", "lost", "timeout", "tls", "redirects", "garbled"]

NO_TLS: Final = "it does not speak TLS"

_REDIRECTS = {"TooManyRedirects", "UnsupportedProtocol", "InvalidUrlRedirectClientError"}
_REDIRECTS |= {"NonHttpUrlRedirectClientError", "InvalidURL", "NonHttpUrlClientError"}

_MAX_DEPTH = 50  # a few frames a level, and a turn may have been begun far down

_HEAD_TIMEOUTS = 3

_MAX_CHARS = 32_768
_MAX_KEY_CHARS = 1_000

_FOREIGN = {"aiohttp", "httpx", "httpx2", "httpcore", "httpcore2", "openai", "ollama"}


def classify_error(error: Exception) -> Literal["connection", "protocol"] | None:
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


def root_cause(error: BaseException) -> Break:
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


def sanitize(text: str, secret: str | None) -> str:
    """What a server said, without the key, which it may repeat, and without what a terminal would act on.

    Of a long text the beginning: cleaning a megabyte would hold the event loop for seconds.
    """
    if len(text) <= _MAX_CHARS:
        return redact(clean_text(text), secret)
    # A key that is cut in two is not known: so what is near the cut goes after it.
    return redact(clean_text(text[:_MAX_CHARS]), secret)[:-_MAX_KEY_CHARS] + "…"


def scrub(error: BaseException, secret: str | None) -> None:
    """Take out of an error, and of those below it, what was sent and what a server answered: a key may be in it.

    Types and messages stay. The frames of foreign code go: requests, replies and a proxy's password are in them.
    """
    garbled = root_cause(error) == "garbled"

    def clean(text: str) -> str:
        return sanitize(text, secret)

    def cleaned(value: object) -> object:
        if garbled and isinstance(value, bytes | bytearray):
            return b"..."
        if not isinstance(value, str):
            return value
        # The parser quotes some bytes, in which a key may be cut.
        return clean(re.split(r"\n| when reading", value)[0] if garbled else value)

    for cause in _causes(error):
        if not _is_foreign(type(cause).__module__):
            # It may be the user's own, which was being handled when the request was made.
            frames = (frame for frame, _ in traceback.walk_tb(cause.__traceback__))
            if any(_is_foreign(frame.f_globals.get("__name__", "")) for frame in frames):
                cause.__traceback__ = None
            continue
        _forget_request(cause, clean)
        cause.args = tuple(map(cleaned, cause.args))
        if isinstance(getattr(cause, "message", None), str):
            cause.message = cleaned(cause.message)  # type: ignore[attr-defined]
        cause.__traceback__ = None


def _is_foreign(module: str) -> bool:
    return module.partition(".")[0] in _FOREIGN


def _forget_request(error: BaseException, clean: Callable[[str], str]) -> None:
    """Take key and content out of the request that an error remembers, and that Dask pickles with it."""
    info = getattr(error, "request_info", None)
    if info is not None:  # aiohttp's
        error.request_info = SimpleNamespace(url=info.url, method=info.method, headers={}, real_url=info.real_url)  # type: ignore[attr-defined]
        error.args = tuple(error.request_info if part is info else part for part in error.args)  # type: ignore[attr-defined]
        error.headers = None  # type: ignore[attr-defined]
    known_key = getattr(error, "_conn_key", None)
    if known_key is not None:  # aiohttp's, too: it says where the connection was to lead
        error._conn_key = known_key._replace(proxy=None, proxy_auth=None)  # type: ignore[attr-defined]
        error.args = tuple(error._conn_key if part is known_key else part for part in error.args)  # type: ignore[attr-defined]
    response = getattr(error, "response", None)
    for holder in (error, response):
        try:
            request = holder.request  # type: ignore[union-attr]
        except (AttributeError, RuntimeError):  # httpx: the request was not set
            continue
        holder.request = type(request)(request.method, request.url.copy_with(query=None))  # type: ignore[union-attr]
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


def cleaned_json(body: Any, clean: Callable[[str], str], depth: int = 0) -> Any:
    """A JSON value with each text in it cleaned, keys of objects too, and without what is nested too deep."""
    if isinstance(body, str):
        return clean(body)
    if isinstance(body, dict | list) and depth == _MAX_DEPTH:
        return "…"
    if isinstance(body, dict):
        return {clean(str(key)): cleaned_json(value, clean, depth + 1) for key, value in body.items()}
    return [cleaned_json(item, clean, depth + 1) for item in body] if isinstance(body, list) else body


def head_timeout_s(connect_s: float | None, read_s: float | None) -> float | None:
    """How long a request, all redirects and the head of the reply may take together; None: for ever.

    Each "100 Continue" and each byte of a header is a byte that arrived: without a limit for all of them a server
    could hold a turn with them for ever.
    """
    return None if read_s is None else (connect_s or 0) + _HEAD_TIMEOUTS * read_s


async def no_more_than(
    blocks: AsyncIterator[bytes], limit: int, within_s: float | None, *, cut: bool = True
) -> AsyncIterator[bytes]:
    """The first ``limit`` bytes, and what comes ``within_s`` seconds.

    Raises:
        TimeoutError: there is more to come, and it is not to be ``cut``.
    """
    end_s = None if within_s is None else asyncio.get_running_loop().time() + within_s
    while limit > 0:
        try:
            async with asyncio.timeout_at(end_s):
                block = await anext(blocks, None)
        except TimeoutError:
            if cut:
                return
            raise
        if block is None:
            return
        yield block[:limit]
        limit -= len(block)


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
