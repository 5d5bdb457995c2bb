"""Converts a `ChatRequest` to the body of a request to OpenAI's Responses API. No I/O.

Format: https://platform.openai.com/docs/api-reference/responses/create. Nothing is kept on the server
(``store: false``), so each request carries the whole conversation, encrypted reasoning included.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from ..core.events import ToolCallRequested
from ..core.messages import ImagePart, Message, Part, TextPart
from ..core.provider import ChatRequest
from ..errors import UnsupportedConfigError
from .wire_format import (
    WireIds,
    as_base64,
    has_media,
    merge_extra,
    server_tools,
    well_formed,
    wire_arguments,
    wire_name,
)
from .wire_schema import portable_schema

__all__ = ["CHAT_ONLY", "RESPONSES_FIELDS", "RESPONSES_OPTIONAL", "build_responses_body"]

CHAT_ONLY = frozenset(
    {
        "audio",
        "frequency_penalty",
        "function_call",
        "functions",
        "logit_bias",
        "logprobs",
        "modalities",
        "n",
        "prediction",
        "presence_penalty",
        "seed",
        "stop",
        "web_search_options",
    }
)
"""Names in ``config`` and ``extra`` that only Chat Completions has."""

RESPONSES_OPTIONAL = ("include", "store", "stream", "tools[].strict", "input[].phase", "text.format.strict")
"""Fields that a body has although no user asked for them."""
RESPONSES_FIELDS = (
    ("max_output_tokens", "max_tokens"),
    ("parallel_tool_calls", "parallel_tool_calls"),
    ("reasoning", "reasoning"),
    ("reasoning", "think"),
    ("service_tier", "service_tier"),
    ("temperature", "temperature"),
    ("text", "response_format"),
    ("tool_choice", "tool_choice"),
    ("tools", "server_tools"),
    ("top_p", "top_p"),
)
"""Fields of the body, and the key of ``config`` that each comes from."""

_NOT_REASONING = re.compile(r"(?:ft:)?(?:gpt-3\.5|gpt-4|chatgpt-|gpt-5.*-chat)")
"""Models without reasoning refuse to include any (NousResearch/hermes-agent#24234)."""


def build_responses_body(request: ChatRequest) -> dict[str, Any]:
    """Return the JSON body; ``extra`` is merged in last.

    Raises:
        UnsupportedConfigError: ``config`` has a key that only Chat Completions has.
    """
    config = request.config
    for name in sorted(CHAT_ONLY & config.keys()):
        raise UnsupportedConfigError(
            f"OpenAI's Responses API has no {name!r}. Leave it out, or use Chat Completions with "
            "config={'api': 'chat'}"
        )
    messages = list(request.messages)
    body: dict[str, Any] = {"model": request.model, "store": False}
    if messages and messages[0].role == "system":
        body["instructions"] = well_formed(messages.pop(0).description)
    ids = WireIds(messages)
    body["input"] = [item for message in messages for item in _items(message, ids)]
    if not _NOT_REASONING.match(request.model):
        body["include"] = ["reasoning.encrypted_content"]
    tools = _function_tools(request) + server_tools(config)
    if tools:
        body["tools"] = tools
    if request.tool_choice is not None:
        body["tool_choice"] = request.tool_choice
    if request.output_schema is not None:
        body["text"] = {
            "format": _schema_format({"name": "answer", "schema": portable_schema(request.output_schema)})
        }
    elif "response_format" in config:
        body["text"] = {"format": _text_format(config["response_format"])}
    reasoning = {"effort": _effort(config["think"])} if "think" in config else {}
    reasoning |= config.get("reasoning", {})
    if reasoning:
        body["reasoning"] = reasoning
    if "max_tokens" in config:
        body["max_output_tokens"] = config["max_tokens"]
    for name in ("temperature", "top_p", "parallel_tool_calls", "service_tier"):
        if name in config:
            body[name] = config[name]
    if config.get("stream", True):
        body["stream"] = True
    if "extra" in config:
        extra = _translated(config["extra"], body)
        body = merge_extra(body, replace(request, config={**config, "extra": extra}))
    if "tool_choice" in body:
        body["tool_choice"] = _tool_choice(body["tool_choice"], body.get("tools", ()))
    return body


def _effort(think: bool | str) -> str:
    return think if isinstance(think, str) else "medium" if think else "none"


# ── messages ──


def _items(message: Message, ids: WireIds) -> Iterator[dict[str, Any]]:
    text = well_formed(message.description)
    if message.role == "tool":
        yield {"type": "function_call_output", "call_id": ids.answered(message.tool_call_id), "output": text}
    elif message.role == "assistant":
        calls = [_wire_call(call, ids) for call in message.tool_calls]
        yield from _restored(message, calls) or _plain(message, calls)
    elif has_media(message):
        yield {"role": message.role, "content": [_wire_part(part) for part in message.parts]}
    else:
        yield {"role": "developer" if message.role == "system" else message.role, "content": text}


def _plain(message: Message, calls: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return calls if message.is_blank else [_assistant_text(message.description), *calls]


def _assistant_text(text: str, phase: object = None) -> dict[str, Any]:
    item = {"role": "assistant", "content": well_formed(text)}
    return item | {"phase": phase} if phase else item


def _wire_call(call: ToolCallRequested, ids: WireIds) -> dict[str, Any]:
    return {
        "type": "function_call",
        "call_id": ids.asked(call.tool_call_id),
        "name": wire_name(call.name),
        "arguments": wire_arguments(call.arguments),
    }


def _restored(message: Message, calls: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the output that a message was made of, opaque items as they came; empty if it does not fit.

    Its texts and calls are those of the message, without ids: an id would have to be known to the server.
    """
    details = message.provider_details
    skeleton = details.fields.get("items") if details is not None else None
    if not isinstance(skeleton, list | tuple) or not all(isinstance(item, Mapping) for item in skeleton):
        return []
    if sum(item.get("type") == "function_call" for item in skeleton) != len(calls):
        return []
    texts = _slices(message, [item.get("size") for item in skeleton if item.get("type") == "message"])
    if texts is None:
        return []
    items: list[dict[str, Any]] = []
    waiting = iter(calls)
    for item in skeleton:
        if item.get("type") == "function_call":
            items.append(next(waiting))
        elif item.get("type") != "message":
            items.append(dict(item))
        elif (text := texts.pop(0)).strip():
            items.append(_assistant_text(text, item.get("phase")))
    while items and items[-1].get("type") == "reasoning":  # refused without an item that follows it
        items.pop()
    return items


def _slices(message: Message, sizes: Sequence[object]) -> list[str] | None:
    """Return the text for each message of the output, or None if there is no place for it."""
    text = "" if message.is_blank else message.text
    if not sizes:
        return None if text else []
    if all(type(size) is int and size > 0 for size in sizes) and sum(map(_as_int, sizes)) == len(message.text):
        text, texts = message.text, []
        for size in map(_as_int, sizes):
            texts.append(text[:size])
            text = text[size:]
        return texts
    return [text, *("" for _ in sizes[1:])]


def _as_int(value: object) -> int:
    return value if isinstance(value, int) else 0


def _wire_part(part: Part) -> dict[str, Any]:
    """Return a part of a user's message; unlike Chat Completions, Responses takes an address of a file, too."""
    if isinstance(part, TextPart):
        return {"type": "input_text", "text": well_formed(part.text)}
    url = part.url or f"data:{part.media_type};base64,{as_base64(part, refused='')}"
    if isinstance(part, ImagePart):
        return {"type": "input_image", "image_url": url, "detail": "auto"}
    if part.url is not None:
        return {"type": "input_file", "file_url": url}
    return {"type": "input_file", "filename": part.name or "file", "file_data": url}


# ── tools and formats, and Chat Completions' forms of them ──


def _function_tools(request: ChatRequest) -> list[dict[str, Any]]:
    return [
        {
            "type": "function",
            "name": tool.name,
            "description": tool.description,
            "parameters": portable_schema(tool.parameters),
            "strict": False,  # Responses is strict unless told otherwise
        }
        for tool in request.tools
    ]


def _flat_tool(tool: Any) -> Any:
    if not (isinstance(tool, Mapping) and isinstance(tool.get("function"), Mapping)):
        return tool
    return {"type": "function", "strict": False} | dict(tool["function"])


def _tool_choice(choice: Any, tools: Sequence[Any]) -> Any:
    """Return a choice of tools in the form of this API.

    Args:
        choice: ``auto``, ``required``, ``none``, a tool's name, or an object in either API's form.
    """
    if isinstance(choice, Mapping):
        function = choice.get("function")
        return {"type": "function", **function} if isinstance(function, Mapping) else choice
    if choice in ("auto", "required", "none"):
        return choice
    for tool in tools:
        if isinstance(tool, Mapping) and tool.get("type") == choice:  # the provider's own
            return {"type": choice}
    return {"type": "function", "name": choice}


def _text_format(form: Mapping[str, Any]) -> dict[str, Any]:
    schema = form.get("json_schema")
    return _schema_format(schema) if isinstance(schema, Mapping) else dict(form)


def _schema_format(schema: Mapping[str, Any]) -> dict[str, Any]:
    return {"type": "json_schema", "strict": False} | dict(schema)


def _translated(extra: Mapping[str, Any], body: Mapping[str, Any]) -> dict[str, Any]:
    """Return ``extra`` in the words of this API, with its objects merged with those of ``body``."""
    translated: dict[str, Any] = {}
    for name, value in _renamed(extra):
        if isinstance(value, Mapping):
            earlier = translated.get(name, body.get(name))
            merged = {**earlier, **value} if isinstance(earlier, Mapping) else value
            value = {key: item for key, item in merged.items() if item is not None} or None
        elif name == "tools" and isinstance(value, list):
            value = list(map(_flat_tool, value))
        elif name == "include" and isinstance(value, list):
            value = list(dict.fromkeys([*body.get("include", ()), *value]))
        translated[name] = value
    return translated


def _renamed(extra: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Yield the fields of ``extra``, those with Chat Completions' names under the names that they have here."""
    for name, value in extra.items():
        match name:
            case "max_tokens" | "max_completion_tokens":
                yield "max_output_tokens", value
            case "reasoning_effort":
                yield "reasoning", {"effort": value}
            case "response_format":
                yield "text", {"format": None if value is None else _text_format(value)}
            case "verbosity":
                yield "text", {"verbosity": value}
            case _:
                yield name, value
