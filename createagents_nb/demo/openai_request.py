"""Parsing the body of ``POST /v1/chat/completions``, with the errors that OpenAI returns. No I/O."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from .conversation import THINKING_MODEL, AnswerOptions, ChatMessage, DemoRequest, Tool, ToolCall, canonical_model
from .openai_error import OpenAIError, check_type, empty_array, missing_parameter, model_not_found
from .tokens import count_tokens

__all__ = ["parse_request"]

_ROLES = ("system", "assistant", "user", "function", "tool", "developer")
_TOOL_NAME = re.compile(r"^[a-zA-Z0-9_-]{1,128}$")


def parse_request(body: Any) -> DemoRequest:
    """Parse and validate a request.

    Raises:
        OpenAIError: as OpenAI, for an invalid body.
    """
    if not isinstance(body, dict):
        raise OpenAIError(400, "We could not parse the JSON body of your request: an object is expected.")
    model = body.get("model")
    if not model:
        raise OpenAIError(400, "you must provide a model parameter")
    check_type(isinstance(model, str), "model", "a string", model)
    canonical = canonical_model(model)
    if canonical is None:
        raise model_not_found(model)
    messages = _parse_messages(body)
    tools = _parse_tools(body)
    stream = _parse_boolean(body, "stream")
    stream_options = body.get("stream_options")
    if stream_options is not None:
        check_type(isinstance(stream_options, dict), "stream_options", "an object", stream_options)
        if not stream:
            message = "The 'stream_options' parameter is only allowed when 'stream' is enabled."
            raise OpenAIError(400, message, param="stream_options")
    _check_numbers(body)
    limit = _parse_max_tokens(body)
    choice, forced = _parse_tool_choice(body, tools)
    prompt_tokens = sum(4 + count_tokens(message.content) for message in messages)
    prompt_tokens += count_tokens(json.dumps(body["tools"])) if tools else 0
    return DemoRequest(
        model=model,
        messages=messages,
        tools=tools,
        options=AnswerOptions(
            tool_choice=choice,
            forced_tool=forced,
            think=canonical == THINKING_MODEL and body.get("reasoning_effort") != "none",
            max_tokens=limit,
            stop=_parse_stop(body),
            json_schema=_parse_response_format(body),
        ),
        stream=stream,
        include_usage=bool(stream_options and stream_options.get("include_usage")),
        prompt_tokens=prompt_tokens,
    )


def _parse_boolean(body: Mapping[str, Any], name: str) -> bool:
    value = body.get(name)
    check_type(value is None or isinstance(value, bool), name, "a boolean", value)
    return bool(value)


def _parse_number(
    body: Mapping[str, Any], name: str, low: float, high: float | None, *, integer: bool = False
) -> float | None:
    value = body.get(name)
    if value is None:
        return None
    ok = isinstance(value, int) or (isinstance(value, float) and not integer)
    kind = "integer" if integer else "decimal"
    check_type(ok and not isinstance(value, bool), name, f"an {kind}" if integer else f"a {kind}", value)
    for out_of_range, bound, word, sign in (
        (value < low, low, "below minimum", ">="),
        (high is not None and value > high, high, "above maximum", "<="),
    ):
        if out_of_range:
            expected = f"Expected a value {sign} {bound:g}, but got {value} instead."
            message = f"Invalid '{name}': {kind} {word} value. {expected}"
            code = f"{kind}_{'below_min' if sign == '>=' else 'above_max'}_value"
            raise OpenAIError(400, message, param=name, code=code)
    number: float = value
    return number


def _check_numbers(body: Mapping[str, Any]) -> None:
    _parse_number(body, "temperature", 0, 2)
    _parse_number(body, "top_p", 0, 1)
    _parse_number(body, "frequency_penalty", -2, 2)
    _parse_number(body, "presence_penalty", -2, 2)
    _parse_number(body, "seed", -(2**63), 2**63, integer=True)
    if (_parse_number(body, "n", 1, 128, integer=True) or 1) > 1:
        raise OpenAIError(
            400, "The demo answers with one choice: leave 'n' out.", param="n", code="unsupported_value"
        )


def _parse_max_tokens(body: Mapping[str, Any]) -> int | None:
    limits = [_parse_number(body, name, 1, None, integer=True) for name in ("max_completion_tokens", "max_tokens")]
    return next((int(limit) for limit in limits if limit is not None), None)


def _parse_stop(body: Mapping[str, Any]) -> tuple[str, ...]:
    stop = body.get("stop")
    if stop is None:
        return ()
    stops = [stop] if isinstance(stop, str) else stop
    ok = isinstance(stops, list) and all(isinstance(text, str) for text in stops)
    check_type(ok, "stop", "a string or an array of strings", stop)
    if len(stops) > 4:
        expected = f"Expected an array with maximum length 4, but got {len(stops)} instead."
        message = f"Invalid 'stop': array too long. {expected}"
        raise OpenAIError(400, message, param="stop", code="array_above_max_length")
    return tuple(stops)


def _parse_response_format(body: Mapping[str, Any]) -> Mapping[str, Any] | None:
    response_format = body.get("response_format")
    if response_format is None:
        return None
    check_type(isinstance(response_format, dict), "response_format", "an object", response_format)
    if response_format.get("type") == "json_schema":
        json_schema = response_format.get("json_schema")
        schema = json_schema.get("schema") if isinstance(json_schema, dict) else None
        if not isinstance(schema, dict):
            raise missing_parameter("response_format.json_schema")
        return schema
    return {} if response_format.get("type") == "json_object" else None


def _parse_messages(body: Mapping[str, Any]) -> tuple[ChatMessage, ...]:
    messages = body.get("messages")
    if messages is None:
        raise missing_parameter("messages")
    check_type(isinstance(messages, list), "messages", "an array of objects", messages)
    if not messages:
        raise empty_array("messages")
    parsed = tuple(_parse_message(message, f"messages[{index}]") for index, message in enumerate(messages))
    _check_tool_results(parsed)
    return parsed


def _parse_message(message: Any, where: str) -> ChatMessage:
    check_type(isinstance(message, dict), where, "an object", message)
    role = message.get("role")
    if role is None:
        raise missing_parameter(f"{where}.role")
    if role not in _ROLES:
        others = ", ".join(f"'{name}'" for name in _ROLES[:-1])
        text = f"Invalid value: '{role}'. Supported values are: {others}, and '{_ROLES[-1]}'."
        raise OpenAIError(400, text, param=f"{where}.role", code="invalid_value")
    calls = message.get("tool_calls")
    if calls is not None and role == "assistant":
        check_type(isinstance(calls, list), f"{where}.tool_calls", "an array of objects", calls)
    else:
        calls = []
    content = message.get("content")
    if content is None and not (role == "assistant" and (calls or message.get("refusal"))):
        text = f"Invalid value for 'content': expected a string, got null. ({where}.content)"
        raise OpenAIError(400, text, param=f"{where}.content")
    if role == "tool" and not isinstance(message.get("tool_call_id"), str):
        raise missing_parameter(f"{where}.tool_call_id")
    return ChatMessage(
        role=role,
        content=_parse_content(content, f"{where}.content"),
        tool_calls=tuple(_parse_call(call, f"{where}.tool_calls[{index}]") for index, call in enumerate(calls)),
        tool_call_id=message.get("tool_call_id"),
        name=message.get("name"),
    )


def _parse_content(content: Any, where: str) -> str:
    if content is None or isinstance(content, str):
        return content or ""
    check_type(isinstance(content, list), where, "a string or an array of objects", content)
    texts = []
    for index, part in enumerate(content):
        check_type(isinstance(part, dict), f"{where}[{index}]", "an object", part)
        if part.get("type") == "text":
            check_type(isinstance(part.get("text"), str), f"{where}[{index}].text", "a string", part.get("text"))
            texts.append(part["text"])
    return "".join(texts)


def _parse_call(call: Any, where: str) -> ToolCall:
    check_type(isinstance(call, dict), where, "an object", call)
    if not isinstance(call.get("id"), str):
        raise missing_parameter(f"{where}.id")
    function = call.get("function")
    if not isinstance(function, dict) or not isinstance(function.get("name"), str):
        raise missing_parameter(f"{where}.function.name")
    text = function.get("arguments")
    check_type(isinstance(text, str), f"{where}.function.arguments", "a string", text)
    try:
        arguments = json.loads(str(text))
    except (ValueError, RecursionError):  # OpenAI accepts invalid JSON, which a model may have written
        arguments = {}
    return ToolCall(function["name"], arguments if isinstance(arguments, dict) else {}, call["id"])


def _check_tool_results(messages: Sequence[ChatMessage]) -> None:
    """Check that tool messages directly follow the calls that they answer, and that every call is answered."""
    pending: list[str] = []
    for index, message in enumerate(messages):
        if message.role == "tool":
            if message.tool_call_id not in pending:
                text = (
                    "Invalid parameter: messages with role 'tool' must be a response to a preceding message "
                    "with 'tool_calls'."
                )
                raise OpenAIError(400, text, param=f"messages.[{index}].role")
            pending.remove(message.tool_call_id)
        elif pending:
            break
        else:
            pending = [call.id for call in message.tool_calls if call.id is not None]
    if pending:
        text = (
            "An assistant message with 'tool_calls' must be followed by tool messages responding to each "
            f"'tool_call_id'. The following tool_call_ids did not have response messages: {', '.join(pending)}"
        )
        raise OpenAIError(400, text, param="messages")


def _parse_tools(body: Mapping[str, Any]) -> tuple[Tool, ...]:
    tools = body.get("tools")
    if tools is None:
        return ()
    check_type(isinstance(tools, list), "tools", "an array of objects", tools)
    if not tools:
        raise empty_array("tools")
    parsed = []
    for index, tool in enumerate(tools):
        where = f"tools[{index}]"
        check_type(isinstance(tool, dict), where, "an object", tool)
        function = tool.get("function")
        if tool.get("type") != "function" or not isinstance(function, dict):
            raise missing_parameter(f"{where}.type" if "type" not in tool else f"{where}.function")
        name = function.get("name")
        if name is None:
            raise missing_parameter(f"{where}.function.name")
        if not isinstance(name, str) or not _TOOL_NAME.fullmatch(name):
            expected = f"Expected a string that matches the pattern '{_TOOL_NAME.pattern}'."
            message = f"Invalid '{where}.function.name': string does not match pattern. {expected}"
            raise OpenAIError(400, message, param=f"{where}.function.name", code="invalid_value")
        parameters = function.get("parameters")
        check_type(
            parameters is None or isinstance(parameters, dict),
            f"{where}.function.parameters",
            "an object",
            parameters,
        )
        parsed.append(Tool(name, str(function.get("description") or ""), parameters or {}))
    return tuple(parsed)


def _parse_tool_choice(body: Mapping[str, Any], tools: Sequence[Tool]) -> tuple[str, str | None]:
    choice = body.get("tool_choice")
    if choice is None:
        return "auto", None
    if not tools:
        if choice in ("none", "auto"):
            return "none", None
        message = "Invalid value for 'tool_choice': 'tool_choice' is only allowed when 'tools' are specified."
        raise OpenAIError(400, message, param="tool_choice")
    if choice in ("auto", "none", "required"):
        return choice, None
    function = choice.get("function") if isinstance(choice, dict) else None
    name = function.get("name") if isinstance(function, dict) else None
    if name is None:
        message = f"Invalid value: '{choice}'. Supported values are: 'none', 'auto', and 'required'."
        raise OpenAIError(400, message, param="tool_choice", code="invalid_value")
    if name not in (tool.name for tool in tools):
        message = (
            f"Invalid value for 'tool_choice': no function named '{name}' was specified in the 'tools' parameter."
        )
        raise OpenAIError(400, message, param="tool_choice")
    return "auto", name
