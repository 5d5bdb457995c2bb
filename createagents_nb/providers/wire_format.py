"""Shared by the request bodies of all providers: JSON, media, tools, names, arguments. No I/O."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

import msgspec

from ..core.messages import FilePart, ImagePart, Message, TextPart
from ..core.provider import ToolSpec
from ..errors import InvalidMessageError
from ..redaction import SecretBytes

__all__ = [
    "argument_object",
    "as_base64",
    "encoded",
    "has_media",
    "last_question",
    "well_formed",
    "wire_name",
    "wire_tools",
]

_NOT_IN_A_NAME = re.compile(r"[^a-zA-Z0-9_-]")


def encoded(body: Mapping[str, Any]) -> bytes:
    """Return the JSON to send."""
    try:
        return SecretBytes(msgspec.json.encode(body, enc_hook=_as_text))
    except UnicodeEncodeError:  # half a surrogate pair, as in a file name that is not UTF-8: sent as an escape
        return SecretBytes(json.dumps(body).encode())


def _as_text(value: Any) -> str:
    if isinstance(value, str):  # a `Secret`
        return str.__str__(value)
    raise TypeError(f"{type(value).__name__} cannot be sent as JSON")


def wire_name(name: str) -> str:
    """Return a tool name as it may be sent: a model may ask for one that servers refuse."""
    return _NOT_IN_A_NAME.sub("_", name)[:64] or "unknown"


def argument_object(arguments: str) -> dict[str, Any]:
    """Return a model's arguments as an object, as servers want them; anything else is wrapped in one."""
    try:
        value = json.loads(arguments or "{}", parse_constant=_refuse_constant)
    except (ValueError, RecursionError):
        return {"invalid_json": well_formed(arguments)}
    return value if isinstance(value, dict) else {"value": value}


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def well_formed(text: str) -> str:
    """Return text without half surrogate pairs, as in a file name that is not UTF-8: servers refuse them."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-8", "replace").decode()
    return text


def has_media(message: Message) -> bool:
    """Whether a message holds more than text; only user messages do on the wire."""
    return message.role == "user" and not all(isinstance(part, TextPart) for part in message.parts)


def as_base64(part: ImagePart | FilePart, *, refused: str) -> str:
    """Return the data of an image or a file.

    Args:
        refused: what to do instead of an address, which has no data.

    Raises:
        InvalidMessageError: the part has an address.
    """
    if part.data is None:
        raise InvalidMessageError(f"This provider takes no address of {_kind_of(part)}. {refused}")
    return base64.b64encode(part.data).decode()


def last_question(messages: Sequence[Message]) -> Message | None:
    """The newest user message: what it holds must be sent, or refused. Older ones may be described."""
    return next((message for message in reversed(messages) if message.role == "user"), None)


def _kind_of(part: ImagePart | FilePart) -> str:
    return "an image" if isinstance(part, ImagePart) else "a file"  # and no more: an address may hold a password


def wire_tools(tools: Sequence[ToolSpec]) -> list[dict[str, Any]]:
    """Return the ``tools`` of a request."""
    return [
        {
            "type": "function",
            "function": {"name": tool.name, "description": tool.description, "parameters": dict(tool.parameters)},
        }
        for tool in tools
    ]
