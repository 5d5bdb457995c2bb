"""From what a server answered to one error of our tree that names the way out."""

from __future__ import annotations

import difflib
import html
import json
import math
import re
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import suppress
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import urlsplit

from ..errors import (
    AuthenticationError,
    ContextLengthError,
    InvalidRequestError,
    ModelNotFoundError,
    ProtocolError,
    ProviderConnectionError,
    ProviderError,
    RateLimitError,
    ServerError,
)
from .transport_errors import NO_TLS, cleaned_json, http_reason, root_cause, sanitize, tls_reason

__all__ = [
    "MAX_ERROR_BYTES",
    "ErrorMaker",
    "beginning",
    "is_unknown_model",
    "model_not_found",
    "retry_after_s",
    "said",
    "scrubbed",
    "status_error",
    "way_error",
]

MAX_ERROR_BYTES = 2**20
"""Of a page that explains an error; what is beyond is not read."""

_CONTEXT = re.compile(
    r"(?i)context_length_exceeded|exceed_context_size|context (?:length|size|window)|prompt is too long"
)
_UNKNOWN_MODEL = re.compile(
    r"(?i)model_not_found|\b(?:invalid|unknown|no such) model\b|not a valid model"
    r"|\b(?:model|deployment)\b.{0,200}?\b(?:not found|not exist)"
)
_WAYS = {
    408: "Try again, or raise timeout_s",
    409: "Try again",
    413: "Shorten the prompt, or agent.clear_history()",
}
_PAGES = frozenset({400, 403, 404, 405, 406, 411, 415, 422, 501})
"""How a server of web pages refuses a request of ours. With others a page comes from a gateway, as a rule."""
_PAGE = re.compile(r"(?i)<(?:!doctype\s+html|html|head|body)\b")
_UNREAD = re.compile(r"(?is)<(script|style)\b.*?(?:</\1\s*>|\Z)|<!--.*?(?:-->|\Z)")
_TAG = re.compile(r"<[^<>]*>")


_Make = Callable[[Any, int | None, Mapping[str, str] | None], ProviderError]


class ErrorMaker:
    """Makes the error for what a server says instead of an answer, and completes those that are made elsewhere.

    Attributes:
        retries: how often the request has been sent again so far.
    """

    def __init__(self, provider: str, secret: str | None, make: _Make) -> None:
        self.retries = 0
        self.secret = secret
        self._provider, self._make = provider, make

    def __call__(
        self, body: Any, status: int | None = None, headers: Mapping[str, str] | None = None
    ) -> ProviderError:
        return self._make(body, status, headers)

    def complete(self, error: ProviderError) -> ProviderError:
        """``error`` with what every error carries; a key that a server repeated is taken out of it."""
        error.provider = error.provider or self._provider
        error.retries = self.retries
        error.args = tuple(sanitize(str(argument), self.secret) for argument in error.args)
        return error


async def beginning(blocks: AsyncIterator[bytes], limit: int = MAX_ERROR_BYTES) -> bytes:
    """The body in ``blocks``, or its first ``limit`` bytes."""
    body = bytearray()
    async for block in blocks:
        body += block
        if len(body) >= limit:
            break
    return bytes(body[:limit])


def scrubbed(body: Any, secret: str | None) -> Any:
    """An error body of any shape without the key, which some servers repeat; of a page what there is to read."""
    if isinstance(body, bytes):
        body = body.decode("utf-8", "replace")
    return cleaned_json(body, lambda text: sanitize(_read(text) if _is_page(text) else text, secret))


def _is_page(body: Any) -> bool:
    if isinstance(body, bytes):
        body = body[:1000].decode("utf-8", "replace")
    return isinstance(body, str) and _PAGE.search(body[:1000]) is not None


def _read(page: str) -> str:
    return html.unescape(_TAG.sub(" ", _UNREAD.sub(" ", page)))


def said(body: Any) -> str:
    """The sentence in an error body, in whatever shape servers send one.

    ``{"error": {"message": …}}``, ``{"error": "…"}`` (whose text may be JSON again), ``{"detail": "…" | […]}``,
    ``{"message": …}``, plain text or HTML.
    """
    if isinstance(body, bytes):
        body = body.decode("utf-8", "replace")
    if isinstance(body, str):
        text = body.strip().removeprefix("null")
        if text.startswith(("{", "[")):
            with suppress(ValueError, RecursionError):
                return said(json.loads(text))
        return _short(_TAG.sub(" ", text))
    if isinstance(body, dict):
        if isinstance(body.get("loc"), list) and body.get("msg"):  # FastAPI's 422: where, and what
            return _short(f"{'.'.join(map(str, body['loc']))}: {body['msg']}")
        for key in ("error", "message", "detail", "msg", "code"):
            if body.get(key):
                return said(body[key])
        return _short(json.dumps(body))
    if isinstance(body, list):
        return _short("; ".join(said(item) for item in body))
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
) -> ProviderError:
    """The error for an HTTP status and its body (or for an error object inside a stream: ``status`` None).

    Args:
        provider: as it stands in the record; ``label`` is how the text calls it.
        key_hint: the way out where the key is refused.
        secret: the key in use; it is never repeated.
        headers: of the answer, in which it may say how long to wait.
    """
    is_page = status in _PAGES and _is_page(body)
    page = "This looks like a web page and no model server. " if is_page else ""
    example = _address_hint(url, provider)
    body = scrubbed(body, secret)
    message = said(body) or "no explanation"
    raw = f"{message} {body if isinstance(body, str) else json.dumps(body, default=str)}"
    kind: type[ProviderError]
    if is_page and status != 404:
        kind = AuthenticationError if status == 403 else InvalidRequestError
        text = f"{label} refused the request ({status}: {message}). {page}Check base_url{example}"
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
        way = _WAYS.get(status, "Look at the model, config=…, the tools and the message")
        kind, text = InvalidRequestError, f"{label} refused the request ({status}: {message}). {way}"
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


def way_error(error: BaseException, label: str) -> ProviderError | None:
    """The error for what is wrong with the way to a server, where the way out is the same for all of them."""
    broke = root_cause(error)
    if broke == "tls":
        reason = tls_reason(error)
        way = (
            "Check the address: http:// may be meant"
            if reason == NO_TLS
            else "Check the address; the certificate of an authority of your own goes into the file that "
            "SSL_CERT_FILE names"
        )
        return ProviderConnectionError(f"{label} cannot be reached over TLS: {reason}. {way}")
    if broke == "redirects":
        return ProtocolError(f"{label} redirects to nowhere. Give its final address as base_url")
    if broke == "garbled":
        return ProtocolError(f"{label} does not answer in HTTP ({http_reason(error)}). Check base_url")
    return None


def retry_after_s(headers: Mapping[str, str]) -> float | None:
    """How long a server asks to wait, in seconds: ``retry-after-ms``, or ``retry-after`` (seconds or a date)."""
    for name, unit_s in (("retry-after-ms", 0.001), ("retry-after", 1.0)):
        try:
            seconds = float(headers.get(name, "")) * unit_s
        except ValueError:
            continue
        return max(0.0, seconds) if math.isfinite(seconds) else None
    try:
        return max(0.0, parsedate_to_datetime(headers.get("retry-after", "")).timestamp() - time.time())
    except (ValueError, TypeError, OverflowError):
        return None


def is_unknown_model(body: Any) -> bool:
    """Whether an error body says that the server has no such model: some do with 404, some with 400."""
    code = body.get("code") if isinstance(body, dict) else None
    return not _is_page(body) and bool(_UNKNOWN_MODEL.search(f"{code} {said(body)}"))


def model_not_found(
    model: str, names: Sequence[str], *, provider: str, label: str, url: str, hint: str, status: int = 404
) -> ModelNotFoundError:
    """The error for an unknown model, with the names that exist, closest first; ``hint`` is the other way out."""
    close = difflib.get_close_matches(model, names, n=3, cutoff=0.4)
    listed = [*close, *(name for name in sorted(names) if name not in close)]
    shown = ", ".join(listed[:12]) + (f", … ({len(listed)} in all)" if len(listed) > 12 else "")
    way = f"Available: {shown}. {hint}" if listed else hint
    where = "" if url in label else f" at {url}"
    return ModelNotFoundError(
        f"{label} has no model {model!r}{where}. {way}", provider=provider, status_code=status
    )


def _short(text: str) -> str:
    text = " ".join(sanitize(text, None).split())  # JSON may have hidden in escapes what is looked for
    return text if len(text) <= 300 else text[:299] + "…"


def _address_hint(url: str, provider: str) -> str:
    """What is wrong with an address at which nothing is served, where that can be guessed."""
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
    return f": as a rule it ends in /v1, like {parts.scheme}://{parts.netloc}/v1"
