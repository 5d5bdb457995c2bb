"""Converts a `ChatRequest` to the body of a Chat Completions request. No I/O."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from ..core.messages import FilePart, ImagePart, Message, Part, TextPart
from ..core.provider import ChatRequest
from .wire_format import argument_object, as_base64, has_media, last_question, well_formed, wire_name, wire_tools

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
    if request.tool_choice is not None:
        body["tool_choice"] = _tool_choice(request.tool_choice)
    if request.output_schema is not None:
        schema = {"name": "answer", "schema": dict(request.output_schema)}
        body["response_format"] = {"type": "json_schema", "json_schema": schema}
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


def _tool_choice(choice: str) -> str | dict[str, Any]:
    if choice in ("auto", "required", "none"):
        return choice
    return {"type": "function", "function": {"name": choice}}


def wire_messages(messages: Sequence[Message]) -> list[dict[str, Any]]:
    question = last_question(messages)
    return [_wire_message(message, is_old=message is not question) for message in messages]


def _wire_message(message: Message, *, is_old: bool) -> dict[str, Any]:
    content = well_formed(message.description)
    if message.role == "tool":
        return {"role": "tool", "tool_call_id": message.tool_call_id, "content": content}
    if has_media(message):
        return {"role": message.role, "content": [_wire_part(part, is_old=is_old) for part in message.parts]}
    wire: dict[str, Any] = {"role": message.role, "content": content}
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


def _wire_part(part: Part, *, is_old: bool) -> dict[str, Any]:
    """Return a part of a message, in the form of OpenAI's guides on images and on files.

    Args:
        is_old: describe what cannot be sent, in place of refusing it.
    """
    if isinstance(part, TextPart) or (is_old and isinstance(part, FilePart) and part.data is None):
        return {"type": "text", "text": well_formed(str(part))}
    if isinstance(part, ImagePart) and part.url is not None:
        return {"type": "image_url", "image_url": {"url": part.url}}
    data = as_base64(part, refused="Give the file's bytes: FilePart(data, media_type)")
    url = f"data:{part.media_type};base64,{data}"
    if isinstance(part, ImagePart):
        return {"type": "image_url", "image_url": {"url": url}}
    return {"type": "file", "file": {"filename": part.name or "file", "file_data": url}}


def _arguments(arguments: str) -> str:
    value = argument_object(arguments)
    is_as_written = arguments.lstrip().startswith("{") and "invalid_json" not in value
    return well_formed(arguments) if is_as_written else json.dumps(value)
