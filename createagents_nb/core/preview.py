"""What a request holds, in a form for people and programs: keys masked, media described. No I/O."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from ..redaction import Secret, is_secret_name, mask_keys
from ..text import INVISIBLE, one_line
from .media import describe_media, image_media_type
from .messages import Message

__all__ = ["RequestPreview", "as_visible_json", "describe_message", "mask_address", "mask_headers", "mask_json"]

_MASKED = "***"
_MIN_NAMED_SECRET_CHARS = 8
"""Shorter values under the name of a key are placeholders, or arguments such as ``{"key": "Paris"}``."""
_OPAQUE = frozenset({"encrypted_content", "signature", "thought_signature"})
"""Fields that only their server can read."""
_MAX_DEPTH = 100
_INVISIBLE = re.compile(f"{INVISIBLE}|[\ud800-\udfff\u2028\u2029]")
_DATA_URL = re.compile(r"data:([^,]{0,200});base64,", re.IGNORECASE)
_WEB_ADDRESS = re.compile(r"(https?://[^\s?#]{1,2000})[?#]\S+", re.IGNORECASE)
_SCHEME = re.compile(r"(?:Basic|Bearer) ", re.IGNORECASE)


@dataclass(frozen=True, slots=True, repr=False)
class RequestPreview:
    """A request to a model as it is, or would be, sent; printing it shows all of it.

    Keys are ``***``. The data of images and files is described, as in ``<image/png, 640 × 480, 24 kB>``; so are
    encrypted fields that a server wants back.

    Attributes:
        method, url: of the HTTP request; None for a provider without HTTP.
        headers: those that this package sets; the HTTP library adds a few, such as ``Host``.
        body: JSON as the provider's API has it. Without HTTP: ``model``, ``messages``, ``tools`` and ``config`` as
            the provider object gets them.

    Example:
        >>> print(RequestPreview("POST", "http://127.0.0.1/v1/chat", {"Accept": "*/*"}, {"model": "m"}))
        POST http://127.0.0.1/v1/chat
        Accept: */*
        <BLANKLINE>
        {
          "model": "m"
        }
    """

    method: str | None = None
    url: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    body: Any = None

    @property
    def head(self) -> list[str]:
        """The lines before the body; empty for a provider without HTTP."""
        if self.url is None:
            return []
        address = " ".join(filter(None, [self.method, self.url]))
        return [_line(address), *(_line(f"{name}: {text}") for name, text in self.headers.items())]

    @property
    def body_text(self) -> str:
        """The body as indented JSON; invisible characters are escaped."""
        return as_visible_json(self.body)

    def __repr__(self) -> str:
        head = "\n".join(self.head)
        return f"{head}\n\n{self.body_text}" if head else self.body_text


def _line(text: str) -> str:
    return one_line(text, 4_000)


def as_visible_json(value: Any) -> str:
    """Format JSON with indentation; characters that hide text or control a terminal are escaped."""
    text = json.dumps(value, ensure_ascii=False, indent=2, default=str)
    return _INVISIBLE.sub(lambda match: json.dumps(match[0])[1:-1], text)


def mask_address(url: str) -> str:
    """Mask keys and passwords in an address.

    >>> mask_address("https://host/v1?api-version=1&api-key=hunter2")
    'https://host/v1?api-version=1&api-key=***'
    """
    address, mark, query = mask_keys(url).partition("?")
    pairs = (pair.partition("=") for pair in query.split("&"))
    masked = (name + sign + (_MASKED if sign and is_secret_name(name) else text) for name, sign, text in pairs)
    return address + mark + "&".join(masked)


def mask_headers(headers: Mapping[str, str]) -> dict[str, str]:
    """Copy headers with ``***`` in place of keys: by their names, or because they look like one.

    >>> mask_headers({"Authorization": "Bearer sk-abcdefgh12345678", "Accept": "*/*"})
    {'Authorization': 'Bearer ***', 'Accept': '*/*'}
    """
    masked = {}
    for name, value in headers.items():
        if is_secret_name(name):
            scheme = _SCHEME.match(value)
            masked[name] = f"{scheme[0] if scheme else ''}{_MASKED}"
        else:
            masked[name] = mask_keys(str(value))
    return masked


def mask_json(value: Any, mask: Callable[[str], str] = mask_keys) -> Any:
    """Copy a JSON value with keys masked and media described.

    A `Secret`, a string under the name of a key and whatever `mask_keys` finds become ``***``. Base64 of images
    and files is described, and so are fields that only a server can read; addresses of images lose their query,
    which may be a signature.

    Args:
        mask: applied to each other string.

    Example:
        >>> mask_json({"password": "correct horse", "seed": 7})
        {'password': '***', 'seed': 7}
    """
    return _masked(value, "", mask, 0)


def _masked(value: Any, name: str, mask: Callable[[str], str], depth: int) -> Any:
    if isinstance(value, str):
        return _masked_text(value, name, mask)
    if depth > _MAX_DEPTH:
        return "…"
    if isinstance(value, Mapping):
        if str(value.get("type")).endswith(".encrypted") and isinstance(value.get("data"), str):  # OpenRouter's
            value = {**value, "data": _opaque(value["data"])}
        return {mask(str(key)): _masked(item, str(key), mask, depth + 1) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_masked(item, name, mask, depth + 1) for item in value]
    return value


def _masked_text(text: str, name: str, mask: Callable[[str], str]) -> str:
    if isinstance(text, Secret):
        return _MASKED
    if len(text) >= _MIN_NAMED_SECRET_CHARS and is_secret_name(name):
        return _MASKED
    if name in _OPAQUE:
        return _opaque(text)
    data_url = _DATA_URL.match(text)
    if data_url:
        return _described(data_url[1], text[data_url.end() :])
    if name == "images":  # Ollama's, without a media type
        return _described(None, text)
    if name.endswith("url") and (address := _WEB_ADDRESS.fullmatch(text)):
        text = f"{address[1]}?{_MASKED}"
    return mask(text)


def _opaque(text: str) -> str:
    return f"<{len(text):,} characters>"


def _described(media_type: str | None, content: str) -> str:
    try:
        data = base64.b64decode(content, validate=True)
    except ValueError:
        return f"<{one_line(media_type or 'image', 100)}>"
    return describe_media(media_type or image_media_type(data) or "image", data)


def describe_message(message: Message) -> dict[str, Any]:
    """A message as JSON: role, content with media described, and what belongs to tools."""
    described: dict[str, Any] = {"role": message.role, "content": message.description}
    if message.tool_calls:
        described["tool_calls"] = [
            {"id": call.tool_call_id, "name": call.name, "arguments": call.arguments}
            for call in message.tool_calls
        ]
    if message.role == "tool":
        described |= {"tool_call_id": message.tool_call_id, "name": message.name}
    return described
