"""From a `ChatRequest` to the body of a Chat Completions request. No I/O."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from ..core.messages import Message
from ..core.provider import ChatRequest
from .wire_format import argument_object, well_formed, wire_name, wire_tools

__all__ = ["UNSUPPORTED", "build_body", "wire_messages"]

UNSUPPORTED: Mapping[str, str] = {
    "num_ctx": "its context is the server's; num_ctx is Ollama's",
    "top_k": "not part of Chat Completions; a compatible server that has it takes extra={'top_k': …}",
}


def build_body(request: ChatRequest, *, is_openai_itself: bool) -> dict[str, Any]:
    """Return the JSON body; ``extra`` is merged in last.

    Args:
        is_openai_itself: OpenAI calls the limit ``max_completion_tokens``; compatible servers know ``max_tokens``.
    """
    config = dict(request.config)
    body: dict[str, Any] = {"model": request.model, "messages": wire_messages(request.messages)}
    if request.tools:
        body["tools"] = wire_tools(request.tools)
    if config.get("stream", True):
        body |= {"stream": True, "stream_options": {"include_usage": True}}
    for key in ("temperature", "top_p", "seed", "stop"):
        if key in config:
            body[key] = config[key]
    if "max_tokens" in config:
        body["max_completion_tokens" if is_openai_itself else "max_tokens"] = config["max_tokens"]
    if "think" in config:
        body["reasoning_effort"] = _effort(config["think"])
    return body | dict(config.get("extra", {}))


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


def _arguments(arguments: str) -> str:
    value = argument_object(arguments)
    is_as_written = arguments.lstrip().startswith("{") and "invalid_json" not in value
    return well_formed(arguments) if is_as_written else json.dumps(value)
