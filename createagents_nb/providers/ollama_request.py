"""Converts a `ChatRequest` to the body of Ollama's ``POST /api/chat``. No I/O."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ..core.messages import ImagePart, Message, Part, TextPart
from ..core.provider import ChatRequest
from ..errors import InvalidMessageError, UnsupportedConfigError
from .wire_format import (
    WireIds,
    argument_object,
    as_base64,
    has_media,
    last_question,
    merge_extra,
    wire_name,
    wire_tools,
)
from .wire_schema import portable_schema

__all__ = ["OPTIONAL", "UNSUPPORTED", "build_body", "wire_messages"]

UNSUPPORTED: Mapping[str, str] = {
    "api": "it has one API; a server of OpenAI's API is provider='openai' with its base_url",
    "parallel_tool_calls": "the model decides; leave it out",
    "reasoning": "use config={'think': …}",
    "server_tools": "it runs no tools itself; give yours as tools=[…]",
    "service_tier": "it has none; leave it out",
    "tool_choice": "the model chooses tools by itself; leave it out",
}

OPTIONAL = ("messages[].thinking", "messages[].tool_call_id", "messages[].tool_calls[].id")
"""Fields that a body has although no user asked for them."""

_OPTIONS = {
    "max_tokens": "num_predict",
    "num_ctx": "num_ctx",
    "seed": "seed",
    "stop": "stop",
    "temperature": "temperature",
    "top_k": "top_k",
    "top_p": "top_p",
}
"""Our names of options, and Ollama's names for them."""


def build_body(request: ChatRequest) -> dict[str, Any]:
    """Return the JSON body; ``extra`` is merged in last, its ``options`` into ours."""
    config = dict(request.config)
    body: dict[str, Any] = {
        "model": request.model,
        "messages": wire_messages(request.messages),
        "stream": config.get("stream", True),
    }
    if request.tools:
        body["tools"] = wire_tools(request.tools)
    if request.tool_choice not in (None, "auto"):
        raise UnsupportedConfigError("Ollama chooses tools by itself: leave tool_choice out")
    if "response_format" in config:
        body["format"] = _format(config["response_format"])
    if request.output_schema is not None:
        body["format"] = portable_schema(request.output_schema)
    if "think" in config:
        body["think"] = config["think"]
    options = {theirs: config[ours] for ours, theirs in _OPTIONS.items() if ours in config}
    if isinstance(options.get("stop"), str):
        options["stop"] = [options["stop"]]
    if options:
        body["options"] = options
    return merge_extra(body, request, nested="options")


def _format(response_format: Mapping[str, Any]) -> Any:
    """Convert OpenAI's ``response_format``."""
    if response_format.get("type") == "json_schema":
        return response_format.get("json_schema", {}).get("schema", "json")
    return "json" if response_format.get("type") == "json_object" else None


def wire_messages(messages: Sequence[Message]) -> list[dict[str, Any]]:
    question = last_question(messages)
    ids = WireIds(messages)
    return [_wire_message(message, ids, is_old=message is not question) for message in messages]


def _wire_message(message: Message, ids: WireIds, *, is_old: bool) -> dict[str, Any]:
    wire: dict[str, Any] = {"role": message.role, "content": message.description}
    if has_media(message):
        described = [part for part in message.parts if isinstance(part, TextPart) or (is_old and not _fits(part))]
        wire["content"] = "\n".join(map(str, described))
        wire["images"] = [_image(part) for part in message.parts if part not in described]
    if message.role == "tool":
        wire["tool_name"] = wire_name(message.name or "")
        wire["tool_call_id"] = ids.answered(message.tool_call_id)
    if message.provider_details is not None and "thinking" in message.provider_details.fields:
        wire["thinking"] = message.provider_details.fields["thinking"]
    if message.tool_calls:
        wire["tool_calls"] = [
            # A string is refused.
            {
                "id": ids.asked(call.tool_call_id),
                "function": {"name": wire_name(call.name), "arguments": argument_object(call.arguments)},
            }
            for call in message.tool_calls
        ]
    return wire


def _fits(part: Part) -> bool:
    return isinstance(part, ImagePart) and part.data is not None


def _image(part: Part) -> str:
    if not isinstance(part, ImagePart):
        raise InvalidMessageError("Ollama takes no files. Give the file's text, or an image of it")
    return as_base64(part, refused="Give the image's bytes: ImagePart(data, media_type)")
