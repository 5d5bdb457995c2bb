"""From a `ChatRequest` to the arguments of ``client.chat.completions.create``. No I/O."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

import msgspec

from ..core.provider import ToolSpec
from ..redaction import SecretBytes

__all__ = ["argument_object", "encoded", "well_formed", "wire_name", "wire_tools"]

_NO_NAME = re.compile(r"[^a-zA-Z0-9_-]")


def encoded(body: Mapping[str, Any]) -> bytes:
    """The JSON to send, for both providers."""
    try:
        return SecretBytes(msgspec.json.encode(body, enc_hook=_as_text))
    except UnicodeEncodeError:  # half a surrogate pair, as in a file's name that is not UTF-8: sent as an escape
        return SecretBytes(json.dumps(body).encode())


def _as_text(value: Any) -> str:
    if isinstance(value, str):  # a `Secret`
        return str.__str__(value)
    raise TypeError(f"{type(value).__name__} cannot be sent as JSON")


def wire_name(name: str) -> str:
    """The name of a tool that a model asked for, as it may be sent: servers refuse any that no tool can have."""
    return _NO_NAME.sub("_", name)[:64] or "unknown"


def argument_object(arguments: str) -> dict[str, Any]:
    """A model's arguments as the object that servers read them as; what is none is shown in one as it was."""
    try:
        value = json.loads(arguments or "{}", parse_constant=_no_number)
    except (ValueError, RecursionError):
        return {"invalid_json": well_formed(arguments)}
    return value if isinstance(value, dict) else {"value": value}


def _no_number(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON")


def well_formed(text: str) -> str:
    """Without half surrogate pairs, as in a file's name that is not UTF-8: the SDK cannot send them."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-8", "replace").decode()
    return text


def wire_tools(tools: Sequence[ToolSpec]) -> list[dict[str, Any]]:
    """The same form for both providers."""
    return [
        {
            "type": "function",
            "function": {"name": tool.name, "description": tool.description, "parameters": dict(tool.parameters)},
        }
        for tool in tools
    ]
