"""From a `ChatRequest` to the body of Ollama's ``POST /api/chat``. No I/O."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from ..agent.events import ToolCallRequested
from ..agent.history import Message
from ..agent.repository import ChatRequest
from .openai_request import wire_tools

__all__ = ["UNSUPPORTED", "build_body", "wire_messages"]

UNSUPPORTED: Mapping[str, str] = {}

# ours -> Ollama's name in `options`
_OPTIONS = {
    "max_tokens": "num_predict",
    "num_ctx": "num_ctx",
    "seed": "seed",
    "stop": "stop",
    "temperature": "temperature",
    "top_k": "top_k",
    "top_p": "top_p",
}


def build_body(request: ChatRequest) -> dict[str, Any]:
    """The JSON body; ``extra`` is merged in last, its ``options`` into ours."""
    config = dict(request.config)
    body: dict[str, Any] = {
        "model": request.model,
        "messages": wire_messages(request.messages),
        "stream": config.get("stream", True),
    }
    if request.tools:
        body["tools"] = wire_tools(request.tools)
    if "think" in config:
        body["think"] = config["think"]
    options = {theirs: config[ours] for ours, theirs in _OPTIONS.items() if ours in config}
    if isinstance(options.get("stop"), str):
        options["stop"] = [options["stop"]]
    extra = dict(config.get("extra", {}))
    options |= extra.pop("options", {})
    if options:
        body["options"] = options
    return body | extra


def wire_messages(messages: Sequence[Message]) -> list[dict[str, Any]]:
    return [_wire_message(message) for message in messages]


def _wire_message(message: Message) -> dict[str, Any]:
    wire: dict[str, Any] = {"role": message.role, "content": message.content}
    if message.role == "tool":
        wire["tool_name"] = message.name
        wire["tool_call_id"] = message.tool_call_id
    if message.tool_calls:
        wire["tool_calls"] = [
            {"id": call.tool_call_id, "function": {"name": call.name, "arguments": _arguments(call)}}
            for call in message.tool_calls
        ]
    return wire


def _arguments(call: ToolCallRequested) -> dict[str, Any]:
    """Ollama takes an object only; broken JSON is shown to the model as it was."""
    try:
        arguments = json.loads(call.arguments or "{}")
    except ValueError:
        return {"invalid_json": call.arguments}
    return arguments if isinstance(arguments, dict) else {"value": arguments}
