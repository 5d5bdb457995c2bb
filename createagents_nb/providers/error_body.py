"""Reads error bodies in every shape that servers send: objects, lists, texts, and JSON inside texts.

Sources of the shapes: OpenAI's and OpenRouter's guides to errors (``metadata.raw`` is what the provider behind it
sent), Google's RetryInfo, FastAPI's 422, MiniMax's ``base_resp``.
"""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import suppress
from typing import Any

from .transport import MAX_ERROR_BYTES
from .transport_errors import cleaned_json, sanitize

__all__ = [
    "asked_wait_s",
    "decoded_body",
    "error_message",
    "error_words",
    "read_body",
    "status_in",
]

_MAX_CHARS = 300
"""Limit for the sentence in a message."""
_MAX_WORDS = 16_384
"""Limit for the text that is searched for what it means."""
_MAX_DEPTH = 20
_MAX_DURATION = 80

_REPEATED = frozenset(
    {"ctx", "failed_generation", "flagged_input", "input", "messages", "prompt", "request", "url"}
)
"""Keys with what was sent or said, which may be about anything."""

_ERRORS = ("error", "fault", "err", "exception")
"""Keys of an error object, in small letters: Apigee's and Alibaba's gateways, and AWS, have names of their own."""
_SENTENCES = (
    *("message", "faultstring", "detail", "msg", "status_msg", "error_msg", "error_message", "error_description"),
    *("base_resp", "errors"),
)
_CODES = ("code", "status", "type", "status_code", "statusCode", "http_code", "error_code")
_STATUSES: Mapping[str, int] = {
    "authentication_error": 401,
    "insufficient_quota": 429,
    "invalid_api_key": 401,
    "invalid_argument": 400,
    "invalid_prompt": 400,
    "invalid_request_error": 400,
    "model_not_found": 404,
    "not_found_error": 404,
    "overloaded_error": 529,
    "permission_denied": 403,
    "permission_error": 403,
    "rate_limit_error": 429,
    "rate_limit_exceeded": 429,
    "ratelimiterror": 429,
    "request_too_large": 413,
    "resource_exhausted": 429,
    "tokens_exceeded": 429,
    "too_many_requests": 429,
    "unauthenticated": 401,
    "unavailable": 503,
}
"""Codes and types of errors inside a reply, and the HTTP status with which they come otherwise.

Sources: https://platform.openai.com/docs/guides/error-codes, https://docs.anthropic.com/en/api/errors,
https://cloud.google.com/apis/design/errors
"""

_UNITS_S = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0}
_PART = (
    r"(\d+(?:\.\d+)?)\s*"
    r"(ms|milliseconds?|s(?:ec(?:ond)?s?)?|m(?:in(?:ute)?s?)?|h(?:(?:ou)?rs?)?|d(?:ays?)?)(?![a-z])(?:,?\s*(?:and\s)?\s*)"
)
_DURATION = re.compile(rf"(?i)\s*((?:{_PART})+)")
_PARTS = re.compile(f"(?i){_PART}")
_AGAIN = re.compile(
    r"(?i)\b(?:try(?:ing)? again|retry(?:ing)?|wait|resets?)(?: your request)?(?: after| in| for|:)?(?= *\d)"
)
_WAIT_KEYS: Mapping[str, float] = {
    "retry_after": 1.0,
    "retry_after_ms": 0.001,
    "retry_after_seconds": 1.0,
    "retryafter": 1.0,
    "retrydelay": 1.0,
}
_TAG = re.compile(r"<[^<>]*>")


async def read_body(blocks: AsyncIterator[bytes], limit: int = MAX_ERROR_BYTES) -> bytes:
    """Return the body, or its first ``limit`` bytes."""
    body = bytearray()
    async for block in blocks:
        body += block
        if len(body) >= limit:
            break
    return bytes(body[:limit])


def decoded_body(body: bytes) -> Any:
    """Return an error body as JSON, not deeper than can be read, or as text."""
    text = body.decode("utf-8", "replace").strip()
    with suppress(ValueError, RecursionError):
        decoded = json.loads(text)
        if decoded is not None:
            return cleaned_json(decoded, str)
    return text


def status_in(body: Any) -> int | None:
    """Return the HTTP status that an error object names, by its number or by a word for it."""
    for level in reversed(_levels(body)):
        for name in _CODES if isinstance(level, dict) else ():
            code = str(level.get(name))
            if len(code) == 3 and code.isdecimal() and code[0] in "45":
                return int(code)
            if (known := _STATUSES.get(code.lower())) is not None:
                return known
    return None


def error_message(body: Any) -> str:
    """Return the sentence in an error body, in any of the shapes that servers send.

    ``{"error": {"message": …}}``, ``{"error": "…"}`` (whose text may be JSON again), ``{"detail": "…" | […]}``,
    ``{"message": …}``, ``{"fault": {"faultstring": …}}``, ``{"Error": {"Message": …}}``,
    ``{"metadata": {"raw": …, "provider_name": …}}``, plain text or HTML.
    """
    if isinstance(body, bytes):
        body = body.decode("utf-8", "replace")
    if isinstance(body, str):
        text = body.strip().removeprefix("null")
        inner = _json_in(text)
        return _short(_TAG.sub(" ", text)) if inner is None else error_message(inner)
    if isinstance(body, list):
        return _short("; ".join(filter(None, map(error_message, body))))
    if not isinstance(body, dict):
        return "" if body is None else _short(str(body))
    if isinstance(body.get("loc"), list) and body.get("msg"):  # FastAPI's 422: where, and what
        return _short(f"{'.'.join(map(str, body['loc']))}: {body['msg']}")
    fields = _small(body)
    error = next(
        (found for key in _ERRORS if (found := fields.get(key)) and isinstance(found, str | dict | list)), None
    )
    said = [] if error is None else [error]
    rest = (fields[key] for key in _SENTENCES if isinstance(fields.get(key), str | dict | list) and fields[key])
    if not said or isinstance(error, str):  # "Bad Request", and beside it what was bad
        said.extend([each] if (each := next(rest, None)) is not None else [])
    sentences = list(dict.fromkeys(filter(None, map(error_message, said))))
    inner = _inner_provider(fields.get("metadata"))
    if inner and sentences in ([], ["Provider returned error"]):
        return _short(inner)
    if inner or sentences:
        return _short(": ".join([*sentences, inner] if inner else sentences))
    return _short(str(fields["code"]) if fields.get("code") else json.dumps(body, default=str))


def _small(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Return an object with its keys in small letters; those that have them already come first."""
    return {**{str(key).lower(): value for key, value in fields.items()}, **fields}


def _inner_provider(metadata: Any) -> str:
    """The words of the provider behind a router, and its name."""
    if not isinstance(metadata, dict):
        return ""
    said = error_message(metadata["raw"]) if metadata.get("raw") else ""
    name = metadata.get("provider_name")
    return f"{name}: {said}" if said and isinstance(name, str) and name else said


def error_words(body: Any) -> str:
    """Return all texts in an error body, codes included, but for what it repeats of the request; at most 16 kB."""
    words: list[str] = []
    size = 0
    for _, value in _leaves(body):
        if isinstance(value, str):
            words.append(value[: _MAX_WORDS - size])
            size += len(words[-1]) + 1
            if size >= _MAX_WORDS:
                break
    return "\n".join(words)


def asked_wait_s(body: Any) -> float | None:
    """Return how long an error body asks to wait, in seconds; None if it does not say.

    Google's ``"retryDelay": "2.6s"``, "Please retry in 2.6s", OpenAI's "try again in 1m12s", "… in 20ms".

    >>> asked_wait_s({"error": {"message": "Rate limit reached. Please try again in 1m12.5s."}})
    72.5
    """
    for key, value in _leaves(body):
        unit_s = _WAIT_KEYS.get(key.lower().replace("-", "_"))
        if unit_s is None or isinstance(value, bool):
            continue
        if isinstance(value, int | float) and 0 <= value < 1e9:
            return value * unit_s
        if isinstance(value, str) and (wait_s := _seconds(value, unit_s)) is not None:
            return wait_s
    words = error_words(body)
    return next((s for found in _AGAIN.finditer(words) if (s := _seconds(words[found.end() :])) is not None), None)


def _seconds(text: str, unit_s: float | None = None) -> float | None:
    """Read a duration at the beginning of a text; a number alone is in ``unit_s``."""
    text = text[:_MAX_DURATION]
    found = _DURATION.match(text)
    if found is not None:
        return sum(float(number) * _unit_s(unit) for number, unit in _PARTS.findall(found[1]))
    with suppress(ValueError):
        number = float(text) if unit_s is not None else -1.0
        return number * (unit_s or 0) if 0 <= number < 1e9 else None
    return None


def _unit_s(unit: str) -> float:
    unit = unit.lower()
    return _UNITS_S["ms" if unit.startswith(("ms", "milli")) else unit[0]]


def _levels(body: Any) -> list[Any]:
    """An error body, and the objects inside each other that it has under ``error``, in a list or in a text."""
    levels = [body]
    for _ in range(_MAX_DEPTH):
        last = levels[-1]
        inner: Any = None
        if isinstance(last, list):
            inner = next((item for item in last if isinstance(item, dict)), None)
        elif isinstance(last, dict):
            fields = _small(last)
            inner = next(
                (
                    each
                    for key in (*_ERRORS, "detail", "base_resp")
                    if isinstance(each := fields.get(key), dict | list)
                ),
                None,
            )
            inner = _json_in(fields.get("error")) if inner is None else inner
        else:
            inner = _json_in(last)
        if inner is None:
            break
        levels.append(inner)
    return levels


def _leaves(body: Any, key: str = "", depth: int = 0) -> Iterator[tuple[str, Any]]:
    """Yield what is in an error body and in JSON inside its texts, each with its key."""
    if depth > _MAX_DEPTH:
        return
    if isinstance(body, str):
        inner = _json_in(body)
        if inner is None:
            yield key, body
            return
        body = inner
    if isinstance(body, dict):
        for name, value in body.items():
            if name not in _REPEATED:
                yield from _leaves(value, str(name), depth + 1)
    elif isinstance(body, list):
        for item in body:
            yield from _leaves(item, key, depth + 1)
    else:
        yield key, body


def _json_in(text: Any) -> Any:
    """Return the object or list that a text is; None if it is none."""
    if isinstance(text, str) and text.lstrip().startswith(("{", "[")):
        with suppress(ValueError, RecursionError):
            return cleaned_json(json.loads(text), str)
    return None


def _short(text: str) -> str:
    text = " ".join(sanitize(text, None).split())  # JSON escapes may have hidden a key
    return text if len(text) <= _MAX_CHARS else text[: _MAX_CHARS - 1] + "…"
