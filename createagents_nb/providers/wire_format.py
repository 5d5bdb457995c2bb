"""Shared by the request bodies of all providers: JSON, media, tools, names, arguments. No I/O."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import string
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

import msgspec

from ..core.messages import FilePart, ImagePart, Message, TextPart
from ..core.provider import ChatRequest, ToolSpec
from ..errors import InvalidMessageError
from ..redaction import SecretBytes
from .servers import CallIds
from .wire_schema import portable_schema

__all__ = [
    "WireIds",
    "argument_object",
    "as_base64",
    "encoded",
    "has_media",
    "last_question",
    "merge_extra",
    "server_tools",
    "shorten_ids",
    "well_formed",
    "wire_arguments",
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


def wire_arguments(arguments: str) -> str:
    """Return a model's arguments as the JSON of an object, as it was written where it is one."""
    value = argument_object(arguments)
    is_as_written = arguments.lstrip().startswith("{") and "invalid_json" not in value
    return well_formed(arguments) if is_as_written else json.dumps(value)


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
            "function": {
                "name": tool.name,
                "description": tool.description,
                "parameters": portable_schema(tool.parameters),
            },
        }
        for tool in tools
    ]


def server_tools(config: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the tools that the server runs itself, as they stand beside ours."""
    tools = config.get("server_tools", ())
    return [{"type": tool} if isinstance(tool, str) else _copied(dict(tool)) for tool in tools]


def _copied(value: Any) -> Any:
    """Copy a JSON value: a body may be changed, and what the user gave may not."""
    if isinstance(value, Mapping):
        return {key: _copied(item) for key, item in value.items()}
    return [_copied(item) for item in value] if isinstance(value, list | tuple) else value


def merge_extra(body: dict[str, Any], request: ChatRequest, *, nested: str | None = None) -> dict[str, Any]:
    """Merge ``config["extra"]`` into a body: None leaves a field out, and ``tools`` are added to ours.

    A choice of tools counts in the first round alone: one that forces a call would never let a turn end.

    Args:
        nested: a field that is merged, too, in place of being replaced.
    """
    extra = _copied(dict(request.config.get("extra", {})))
    if nested is not None and isinstance(extra.get(nested), Mapping):
        extra[nested] = {**body.get(nested, {}), **extra[nested]}
    if request.round > 1:
        extra.pop("tool_choice", None)
    tools = extra.get("tools")
    if isinstance(tools, list):
        extra["tools"] = [*body.get("tools", ()), *tools]
    body |= extra
    return {name: value for name, value in body.items() if value is not None or name not in extra}


class WireIds:
    """Ids of the tool calls of one request: unique, and such that the server takes them.

    Ids go back as they came, unless one of them comes again or is unusual: then all have nine letters and digits,
    which suits every server. A call has the same id in each request that has such ids.

    Args:
        messages: those of the request.
        kind: ``"short"`` for a server that takes only ids of nine letters and digits, as Mistral does
            (https://docs.mistral.ai/capabilities/function_calling); ``"own"`` for one that reads its own ids.

    Example:
        >>> ids = WireIds(messages)
        >>> ids.asked("call:0") == ids.answered("call:0")
        True
    """

    def __init__(self, messages: Sequence[Message] = (), kind: CallIds = "usual") -> None:
        own = [call.tool_call_id for message in messages for call in message.tool_calls]
        fits = {"own": None, "short": _SHORT, "usual": _USUAL}[kind]
        self._are_short = fits is not None and (len(set(own)) < len(own) or not all(map(fits.fullmatch, own)))
        self._latest: dict[str | None, str] = {}
        self._sent: set[str] = set()

    def asked(self, tool_call_id: str) -> str:
        """Return the id of a call; the same id may come again, for another call."""
        wire_id, again = _short_id(tool_call_id, 0) if self._are_short else tool_call_id, 0
        while wire_id in self._sent:
            again += 1
            wire_id = _short_id(tool_call_id, again)
        self._sent.add(wire_id)
        self._latest[tool_call_id] = wire_id
        return wire_id

    def answered(self, tool_call_id: str | None) -> str | None:
        """Return the id of the call that a result answers."""
        return self._latest.get(tool_call_id, tool_call_id)


def shorten_ids(body: Any) -> bool:
    """Give all tool calls in the messages of a body ids of nine letters and digits, in place.

    Returns:
        Whether there are any.
    """
    is_changed = False
    for message in [*body.get("messages", ()), *body.get("input", ())]:
        for name in ("tool_call_id", "call_id"):
            if isinstance(message.get(name), str):
                message[name] = _short_id(message[name], 0)
                is_changed = True
        for call in message.get("tool_calls", ()):
            call["id"] = _short_id(call["id"], 0)
    return is_changed


_SHORT = re.compile("[a-zA-Z0-9]{9}")
_USUAL = re.compile("[a-zA-Z0-9_-]{1,40}")
_DIGITS = string.digits + string.ascii_letters


def _short_id(tool_call_id: str, again: int) -> str:
    number = int.from_bytes(hashlib.sha256(f"{again} {tool_call_id}".encode("utf-8", "replace")).digest()[:8])
    return "".join(_DIGITS[number // 62**place % 62] for place in range(9))
