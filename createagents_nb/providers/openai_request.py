"""Converts a `ChatRequest` to the body of a Chat Completions request. No I/O."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ..core.events import ProviderDetails
from ..core.messages import FilePart, ImagePart, Message, Part, TextPart
from ..core.provider import ChatRequest
from ..errors import UnsupportedConfigError
from .servers import ServerFacts
from .wire_format import (
    WireIds,
    as_base64,
    has_media,
    last_question,
    merge_extra,
    server_tools,
    well_formed,
    wire_arguments,
    wire_name,
    wire_tools,
)
from .wire_schema import portable_schema

__all__ = ["CHAT_FIELDS", "CHAT_OPTIONAL", "CHAT_RENAMES", "UNSUPPORTED", "build_body", "wire_messages"]

UNSUPPORTED: dict[str, str] = {
    "num_ctx": "its context is the server's; num_ctx is Ollama's",
    "top_k": "not part of OpenAI's APIs; a compatible server that has it takes extra={'top_k': …}",
}

_OPAQUE = (
    "extra_content",
    "provider_specific_fields",
    "reasoning",
    "reasoning_content",
    "reasoning_details",
    "thinking",
    "thinking_blocks",
)
"""Fields of replies that go back as they came."""

CHAT_OPTIONAL = (
    "stream_options",
    "stream",
    *(f"messages[].{name}" for name in _OPAQUE),
    "messages[].tool_calls[].extra_content",
    "messages[].tool_calls[].provider_specific_fields",
)
"""Fields that a body has although no user asked for them."""

CHAT_RENAMES: Mapping[str, str] = {
    "max_tokens": "max_completion_tokens",
    "max_completion_tokens": "max_tokens",
}

_SAME = ("temperature", "top_p", "seed", "stop", "parallel_tool_calls", "service_tier", "response_format")
"""Options that the body has by the same name."""

CHAT_FIELDS = (
    *((name, name) for name in _SAME),
    ("max_tokens", "max_tokens"),
    ("max_completion_tokens", "max_tokens"),
    ("tool_choice", "tool_choice"),
    ("reasoning", "reasoning"),
    ("reasoning_effort", "reasoning"),
    ("reasoning_effort", "think"),
    ("reasoning", "think"),
    ("thinking", "think"),
    ("enable_thinking", "think"),
    ("chat_template_kwargs", "think"),
    ("tools", "server_tools"),
)
"""Fields of the body, and the key of ``config`` that each comes from."""


def build_body(request: ChatRequest, facts: ServerFacts) -> dict[str, Any]:
    """Return the JSON body; ``extra`` is merged in last: None leaves a field out, ``tools`` are added to ours.

    Args:
        facts: what is known about the server.
    """
    config = dict(request.config)
    body: dict[str, Any] = {"model": request.model, "messages": wire_messages(request.messages, facts)}
    if request.tools or "server_tools" in config:
        body["tools"] = wire_tools(request.tools) + server_tools(config)
    if request.tool_choice is not None:
        body["tool_choice"] = _tool_choice(request.tool_choice)
    if config.get("stream", True):
        body["stream"] = True
        if facts.stream_usage:
            body["stream_options"] = {"include_usage": True}
    body |= {key: config[key] for key in _SAME if key in config}
    if request.output_schema is not None:
        schema = {"name": "answer", "schema": portable_schema(request.output_schema)}
        body["response_format"] = {"type": "json_schema", "json_schema": schema}
    if "max_tokens" in config:
        body[facts.max_tokens] = config["max_tokens"]
    if "think" in config:
        body |= facts.think(config["think"])
    if "reasoning" in config:
        body |= _reasoning(config["reasoning"], facts)
    return merge_extra(body, request)


def _reasoning(options: Mapping[str, Any], facts: ServerFacts) -> Mapping[str, Any]:
    if facts.takes_reasoning:
        return {"reasoning": dict(options)}
    options = {name: value for name, value in options.items() if value is not None}
    others = options.keys() - {"effort"}
    if others:
        raise UnsupportedConfigError(
            f"Chat Completions takes no config['reasoning'] with {', '.join(sorted(others))}. "
            "Use config={'api': 'responses'} where the server has it, or extra={…}"
        )
    return facts.think(options["effort"]) if "effort" in options else {}


def _tool_choice(choice: str) -> str | dict[str, Any]:
    if choice in ("auto", "required", "none"):
        return choice
    return {"type": "function", "function": {"name": choice}}


def wire_messages(messages: Sequence[Message], facts: ServerFacts) -> list[dict[str, Any]]:
    question = last_question(messages)
    ids = WireIds(messages, facts.call_ids)
    return [_wire_message(message, facts, ids, is_old=message is not question) for message in messages]


def _wire_message(message: Message, facts: ServerFacts, ids: WireIds, *, is_old: bool) -> dict[str, Any]:
    content = well_formed(message.description)
    if message.role == "tool":
        return {"role": "tool", "tool_call_id": ids.answered(message.tool_call_id), "content": content}
    if has_media(message):
        return {"role": message.role, "content": [_wire_part(part, is_old=is_old) for part in message.parts]}
    wire: dict[str, Any] = {"role": message.role, "content": content}
    if message.role != "assistant":
        return wire
    wire |= _opaque(message.provider_details)
    if facts.reasoning_required is not None and not wire.get(facts.reasoning_required):
        wire[facts.reasoning_required] = " "
    if message.tool_calls:
        wire["content"] = wire["content"] if wire["content"].strip() else None
        wire["tool_calls"] = [
            {
                "id": ids.asked(call.tool_call_id),
                "type": "function",
                "function": {"name": wire_name(call.name), "arguments": wire_arguments(call.arguments)},
                **_opaque(call.provider_details),
            }
            for call in message.tool_calls
        ]
        if all(call.provider_details is None for call in message.tool_calls):
            wire["tool_calls"][0] |= facts.foreign_call_fields
    return wire


def _opaque(details: ProviderDetails | None) -> dict[str, Any]:
    if details is None:
        return {}
    fields = {name: value for name, value in details.fields.items() if name in _OPAQUE}
    if "reasoning_details" in fields:  # it has all of the reasoning, and more
        fields.pop("reasoning", None)
    return fields


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
