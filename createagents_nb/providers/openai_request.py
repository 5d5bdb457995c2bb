"""From a `ChatRequest` to the arguments of ``client.chat.completions.create``. No I/O."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

import msgspec

from ..agent.history import Message
from ..agent.repository import ChatRequest
from ..agent.tools import BaseTool
from ..logging_config import SecretBytes

__all__ = [
    "UNSUPPORTED",
    "argument_object",
    "build_arguments",
    "encoded",
    "well_formed",
    "wire_messages",
    "wire_name",
    "wire_tools",
]

_NO_NAME = re.compile(r"[^a-zA-Z0-9_-]")

UNSUPPORTED: Mapping[str, str] = {
    "num_ctx": "its context is the server's; num_ctx is Ollama's",
    "top_k": "not part of Chat Completions; a compatible server that has it takes extra={'top_k': …}",
}


def build_arguments(request: ChatRequest, *, is_openai_itself: bool) -> dict[str, Any]:
    """Arguments for the SDK.

    Args:
        is_openai_itself: OpenAI calls the limit ``max_completion_tokens``; compatible servers know ``max_tokens``.
    """
    config = dict(request.config)
    arguments: dict[str, Any] = {"model": request.model, "messages": wire_messages(request.messages)}
    if request.tools:
        arguments["tools"] = wire_tools(request.tools)
    if config.get("stream", True):
        arguments |= {"stream": True, "stream_options": {"include_usage": True}}
    for key in ("temperature", "top_p", "seed", "stop"):
        if key in config:
            arguments[key] = config[key]
    if "max_tokens" in config:
        arguments["max_completion_tokens" if is_openai_itself else "max_tokens"] = config["max_tokens"]
    if "think" in config:
        arguments["reasoning_effort"] = _effort(config["think"])
    if "extra" in config:
        arguments["extra_body"] = dict(config["extra"])
    return arguments


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


def _effort(think: bool | str) -> str:
    if isinstance(think, str):
        return think
    return "medium" if think else "none"


def wire_messages(messages: Sequence[Message]) -> list[dict[str, Any]]:
    return [_wire_message(message) for message in messages]


def _wire_message(message: Message) -> dict[str, Any]:
    if message.role == "tool":
        return {"role": "tool", "tool_call_id": message.tool_call_id, "content": well_formed(message.content)}
    wire: dict[str, Any] = {"role": message.role, "content": well_formed(message.content)}
    if message.tool_calls:
        wire["content"] = wire["content"] if wire["content"].strip() else None
        wire["tool_calls"] = [
            {
                "id": call.tool_call_id,
                "type": "function",
                "function": {"name": wire_name(call.name), "arguments": _arguments(call.arguments)},
            }
            for call in message.tool_calls
        ]
    return wire


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


def _arguments(arguments: str) -> str:
    value = argument_object(arguments)
    is_as_written = arguments.lstrip().startswith("{") and "invalid_json" not in value
    return well_formed(arguments) if is_as_written else json.dumps(value)


def well_formed(text: str) -> str:
    """Without half surrogate pairs, as in a file's name that is not UTF-8: the SDK cannot send them."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-8", "replace").decode()
    return text


def wire_tools(tools: Sequence[BaseTool]) -> list[dict[str, Any]]:
    """The same form for both providers."""
    return [
        {
            "type": "function",
            "function": {"name": tool.name, "description": tool.description, "parameters": dict(tool.parameters)},
        }
        for tool in tools
    ]
