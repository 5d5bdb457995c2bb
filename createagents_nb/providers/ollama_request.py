"""Converts a `ChatRequest` to the body of Ollama's ``POST /api/chat``. No I/O."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ..core.messages import ImagePart, Message, Part, TextPart
from ..core.provider import ChatRequest
from ..errors import InvalidMessageError, UnsupportedConfigError
from .wire_format import argument_object, as_base64, has_media, last_question, wire_name, wire_tools

__all__ = ["UNSUPPORTED", "build_body", "wire_messages"]

UNSUPPORTED: Mapping[str, str] = {}

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
    if request.output_schema is not None:
        body["format"] = dict(request.output_schema)
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
    question = last_question(messages)
    return [_wire_message(message, is_old=message is not question) for message in messages]


def _wire_message(message: Message, *, is_old: bool) -> dict[str, Any]:
    wire: dict[str, Any] = {"role": message.role, "content": message.description}
    if has_media(message):
        described = [part for part in message.parts if isinstance(part, TextPart) or (is_old and not _fits(part))]
        wire["content"] = "\n".join(map(str, described))
        wire["images"] = [_image(part) for part in message.parts if part not in described]
    if message.role == "tool":
        wire["tool_name"] = wire_name(message.name or "")
        wire["tool_call_id"] = message.tool_call_id
    if message.tool_calls:
        wire["tool_calls"] = [
            # A string is refused.
            {
                "id": call.tool_call_id,
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
