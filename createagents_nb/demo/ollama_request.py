"""Parsing the body of ``POST /api/chat``, with the errors that Ollama returns. No I/O."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from .conversation import THINKING_MODEL, AnswerOptions, ChatMessage, DemoRequest, Tool, ToolCall, canonical_model
from .tokens import count_tokens

__all__ = ["OllamaError", "parse_model", "parse_request"]

_OPTION_TYPES: dict[str, tuple[type, ...]] = {
    "temperature": (int, float),
    "top_p": (int, float),
    "min_p": (int, float),
    "repeat_penalty": (int, float),
    "top_k": (int,),
    "num_ctx": (int,),
    "num_predict": (int,),
    "seed": (int,),
    "stop": (list,),
}
_GO_TYPES: dict[tuple[type, ...], str] = {(int, float): "float32", (int,): "integer", (list,): "array"}


class OllamaError(Exception):
    """An error response in Ollama's format."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.body = {"error": message}


def _check_type(ok: bool, value: Any, field: str, go_type: str) -> None:
    if not ok:
        names = {dict: "object", list: "array", str: "string", bool: "bool", int: "number", float: "number"}
        kind = names.get(type(value), "null")
        message = f"json: cannot unmarshal {kind} into Go struct field ChatRequest.{field} of type {go_type}"
        raise OllamaError(400, message)


def parse_model(body: Any, field: str = "model") -> str:
    """Return the model's name as the client spelled it.

    Raises:
        OllamaError: it is missing, not a string, or unknown.
    """
    if not isinstance(body, dict):
        raise OllamaError(400, "json: cannot unmarshal the body into Go value of type api.ChatRequest")
    name = body.get(field)
    _check_type(name is None or isinstance(name, str), name, field, "string")
    if not name:
        raise OllamaError(400, "model is required")
    if canonical_model(name) is None:
        raise OllamaError(404, f"model '{name}' not found")
    return str(name)


def parse_request(body: Any) -> DemoRequest:
    """Parse and validate a request; one without messages only loads the model.

    Raises:
        OllamaError: as Ollama, for an invalid body.
    """
    name = parse_model(body)
    stream, messages, tools = body.get("stream"), body.get("messages"), body.get("tools")
    _check_type(stream is None or isinstance(stream, bool), stream, "stream", "bool")
    _check_type(messages is None or isinstance(messages, list), messages, "messages", "[]api.Message")
    _check_type(tools is None or isinstance(tools, list), tools, "tools", "api.Tools")
    options = _parse_options(body)
    parsed = tuple(_parse_message(message) for message in messages or ())
    prompt_tokens = sum(4 + count_tokens(message.content) for message in parsed)
    prompt_tokens += count_tokens(json.dumps(tools)) if tools else 0
    limit = options.get("num_predict", -1)
    return DemoRequest(
        model=name,
        messages=parsed,
        tools=tuple(_parse_tool(tool) for tool in tools or ()),
        options=AnswerOptions(
            think=_parse_think(body, name),
            max_tokens=limit if limit > 0 else None,
            stop=tuple(str(stop) for stop in options.get("stop", ())),
            json_schema=_parse_format(body),
        ),
        stream=stream is not False,
        prompt_tokens=prompt_tokens,
    )


def _parse_options(body: Mapping[str, Any]) -> dict[str, Any]:
    options = body.get("options")
    _check_type(options is None or isinstance(options, dict), options, "options", "map[string]interface {}")
    for name, value in (options or {}).items():
        kinds = _OPTION_TYPES.get(name)
        if kinds is None or value is None:
            continue
        is_whole = kinds == (int,) and isinstance(value, float) and value.is_integer()
        if not is_whole and (not isinstance(value, kinds) or isinstance(value, bool)):
            raise OllamaError(500, f'option "{name}" must be of type {_GO_TYPES[kinds]}')
    return {
        name: int(value) if _OPTION_TYPES.get(name) == (int,) else value
        for name, value in (options or {}).items()
        if value is not None
    }


def _parse_think(body: Mapping[str, Any], name: str) -> bool:
    think = body.get("think")
    if think is not None and not isinstance(think, bool) and think not in ("low", "medium", "high", "max"):
        raise OllamaError(400, f'invalid think value: "{think}" (must be "high", "medium", "low", true, or false)')
    can_think = canonical_model(name) == THINKING_MODEL
    if think and not can_think:
        raise OllamaError(400, f'"{name}" does not support thinking')
    return can_think and think is not False


def _parse_format(body: Mapping[str, Any]) -> Mapping[str, Any] | None:
    schema = body.get("format")
    if schema is None or schema == "":
        return None
    if schema == "json":
        return {}
    if not isinstance(schema, dict):
        raise OllamaError(
            400, f'invalid format: {json.dumps(schema)}; expected "json" or a valid JSON Schema object'
        )
    return schema


def _parse_message(message: Any) -> ChatMessage:
    _check_type(isinstance(message, dict), message, "messages", "api.Message")
    content, calls = message.get("content"), message.get("tool_calls")
    _check_type(content is None or isinstance(content, str), content, "messages.content", "string")
    _check_type(calls is None or isinstance(calls, list), calls, "messages.tool_calls", "[]api.ToolCall")
    return ChatMessage(
        role=str(message.get("role") or "user"),
        content=content or "",
        tool_calls=tuple(_parse_call(call) for call in calls or ()),
        tool_call_id=message.get("tool_call_id") or None,
        name=message.get("tool_name") or message.get("name") or None,
    )


def _parse_call(call: Any) -> ToolCall:
    function = call.get("function") if isinstance(call, dict) else None
    _check_type(isinstance(function, dict), call, "messages.tool_calls", "api.ToolCall")
    assert isinstance(function, dict)
    arguments = function.get("arguments")
    if isinstance(arguments, str):  # OpenAI's format, which Ollama rejects with this message
        raise OllamaError(400, "Value looks like object, but can't find closing '}' symbol")
    _check_type(
        arguments is None or isinstance(arguments, dict),
        arguments,
        "messages.tool_calls.function.arguments",
        "map",
    )
    return ToolCall(str(function.get("name") or ""), arguments or {}, call.get("id") or None)


def _parse_tool(tool: Any) -> Tool:
    function = tool.get("function") if isinstance(tool, dict) else None
    _check_type(isinstance(function, dict), tool, "tools", "api.Tool")
    assert isinstance(function, dict)
    parameters = function.get("parameters")
    _check_type(parameters is None or isinstance(parameters, dict), parameters, "tools.function.parameters", "map")
    return Tool(str(function.get("name") or ""), str(function.get("description") or ""), parameters or {})
