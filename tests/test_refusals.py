"""What servers refuse and take in another form, through scripted servers that refuse as real ones do."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from family import Reply, ScriptedServer, delta, json_reply, sse

from createagents_nb import CreateAgent, MetricsRecorder, tool
from createagents_nb.errors import ConfigurationError, InvalidRequestError, UnsupportedConfigError
from createagents_nb.providers import refusals
from createagents_nb.providers.refusals import Change, find_changes

ANSWER = sse(delta("Clear sky."), delta(finish="stop"))
MESSAGES = [{"role": "user", "content": "Weather?"}]


@tool
def wind(place: str) -> str:
    """Wind at a place.

    Args:
        place: where
    """
    return f"12 knots at {place}"


def agent_at(server: ScriptedServer, recorder: MetricsRecorder, model: str = "m", **more: Any) -> CreateAgent:
    options: dict[str, Any] = {"base_url": server.openai_url, "max_retries": 0, "recorder": recorder}
    return CreateAgent("openai", model, **options | more)


def calls(*ids: str, name: str = "wind", **more: Any) -> list[bytes]:
    pieces = [
        {"index": n, "id": each, "function": {"name": name, "arguments": '{"place": "Ness"}'}} | more
        for n, each in enumerate(ids)
    ]
    return sse(delta(tool_calls=pieces), delta(finish="tool_calls"))


def refused(body: Any, status: str = "400 Bad Request") -> Reply:
    return json_reply(body, status)


REFUSALS: dict[str, Any] = {
    "OpenAI": {
        "error": {
            "message": "Unknown parameter: 'stream_options'.",
            "type": "invalid_request_error",
            "param": "stream_options",
            "code": "unknown_parameter",
        }
    },
    "an older one": {"error": {"message": "Unrecognized request argument supplied: stream_options"}},
    "FastAPI": {
        "detail": [
            {"type": "extra_forbidden", "loc": ["body", "stream_options"], "msg": "Extra inputs are not permitted"}
        ]
    },
    "FastAPI within": {
        "object": "error",
        "message": {"detail": [{"loc": ["body", "stream_options", "include_usage"], "msg": "Extra inputs"}]},
    },
    "Google": [
        {
            "error": {
                "code": 400,
                "message": 'Invalid JSON payload received. Unknown name "stream_options": Cannot find field.',
                "status": "INVALID_ARGUMENT",
            }
        }
    ],
    "a key": {"errors": {"stream_options": ["This is not expected."]}},
    "plain text": "json: unknown field `stream_options`",
}


@pytest.mark.parametrize("name", REFUSALS)
@pytest.mark.parametrize("status", ["400 Bad Request", "422 Unprocessable Entity"])
@pytest.mark.asyncio
async def test_a_field_that_nobody_asked_for_is_left_out_once_it_is_refused(
    server: ScriptedServer, recorder: MetricsRecorder, name: str, status: str
) -> None:
    server.enqueue(refused(REFUSALS[name], status))
    server.enqueue(ANSWER)
    agent = agent_at(server, recorder)
    assert await agent.ask("Weather?") == "Clear sky."
    first, second = (request.json for request in server.requests)
    assert first.pop("stream_options") == {"include_usage": True}
    assert first == second
    assert list(recorder.requests["adjusted"]) == ["without stream_options"]

    server.enqueue(ANSWER)
    assert await agent_at(server, recorder).ask("Again?") == "Clear sky."
    assert "stream_options" not in server.requests[-1].json  # remembered, for another agent, too
    assert list(recorder.requests["adjusted"]) == ["without stream_options"] * 2
    assert len(server.requests) == 3


@pytest.mark.asyncio
async def test_another_model_of_the_server_is_asked_afresh(
    server: ScriptedServer, recorder: MetricsRecorder
) -> None:
    server.enqueue(refused(REFUSALS["OpenAI"]))
    for _ in range(2):
        server.enqueue(ANSWER)
    await agent_at(server, recorder).ask("Weather?")
    await agent_at(server, recorder, "other").ask("Weather?")
    assert "stream_options" in server.requests[-1].json


@pytest.mark.parametrize(
    "message",
    [
        "Unsupported parameter: 'max_tokens' is not supported with it. Use 'max_completion_tokens' instead.",
        "max_tokens is not supported; use max_completion_tokens",
    ],
)
@pytest.mark.asyncio
async def test_a_field_that_has_another_name_is_sent_by_that(
    server: ScriptedServer, recorder: MetricsRecorder, message: str
) -> None:
    server.enqueue(refused({"error": {"message": message, "param": "max_tokens"}}))
    server.enqueue(ANSWER)
    await agent_at(server, recorder, config={"max_tokens": 9}).ask("Weather?")
    sent = server.requests[-1].json
    assert sent["max_completion_tokens"] == 9
    assert "max_tokens" not in sent
    assert list(recorder.requests["adjusted"]) == ["max_completion_tokens for max_tokens"]


@pytest.mark.parametrize(
    "message",
    [
        "max_tokens is too large: 100000. This model supports at most 16384 completion tokens.",
        "`max_tokens` must be less than or equal to 4096; larger values are not supported for this model",
    ],
)
@pytest.mark.asyncio
async def test_a_value_that_is_refused_is_not_renamed(
    server: ScriptedServer, recorder: MetricsRecorder, message: str
) -> None:
    server.enqueue(refused({"error": {"message": message, "param": "max_tokens"}}))
    with pytest.raises(InvalidRequestError, match=r"config\['max_tokens'\]"):
        await agent_at(server, recorder, config={"max_tokens": 100_000}).ask("Weather?")
    assert len(server.requests) == 1


@pytest.mark.asyncio
async def test_a_model_that_does_not_stream_for_this_account_is_asked_without(
    server: ScriptedServer, recorder: MetricsRecorder
) -> None:
    message = "Your organization must be verified to stream this model."
    server.enqueue(refused({"error": {"message": message, "param": "stream", "code": "unsupported_value"}}))
    server.enqueue(json_reply({"choices": [{"message": {"content": "Clear sky."}, "finish_reason": "stop"}]}))
    assert await agent_at(server, recorder).ask("Weather?") == "Clear sky."
    assert server.requests[1].json.keys() == {"model", "messages"}
    server.enqueue(refused({"error": {"message": message, "param": "stream"}}))
    with pytest.raises(InvalidRequestError, match="must be verified"):
        await agent_at(server, recorder, "other", config={"stream": True}).ask("Weather?")


@pytest.mark.asyncio
async def test_several_refusals_are_heeded_one_after_the_other(
    server: ScriptedServer, recorder: MetricsRecorder
) -> None:
    server.enqueue(refused(REFUSALS["OpenAI"]))
    server.enqueue(refused({"detail": [{"loc": ["body", "max_tokens"], "msg": "Extra inputs are not permitted"}]}))
    server.enqueue(ANSWER)
    await agent_at(server, recorder, config={"max_tokens": 9}).ask("Weather?")
    assert list(recorder.requests["adjusted"]) == ["without stream_options, max_completion_tokens for max_tokens"]


@pytest.mark.asyncio
async def test_an_option_of_the_user_is_never_dropped_and_the_error_names_it(
    server: ScriptedServer, recorder: MetricsRecorder
) -> None:
    message = "Unsupported value: 'temperature' does not support 0.2. Only the default (1) is supported."
    server.enqueue(refused({"error": {"message": message, "param": "temperature"}}))
    agent = agent_at(server, recorder, config={"temperature": 0.2})
    with pytest.raises(InvalidRequestError, match=r"config\['temperature'\]"):
        await agent.ask("Weather?")
    assert len(server.requests) == 1

    server.enqueue(refused(REFUSALS["OpenAI"]))
    agent = agent_at(server, recorder, config={"extra": {"stream_options": {"include_usage": False}}})
    with pytest.raises(InvalidRequestError, match="stream_options"):
        await agent.ask("Weather?")
    assert len(server.requests) == 2


@pytest.mark.asyncio
async def test_several_fields_of_one_refusal_are_left_out_together(
    server: ScriptedServer, recorder: MetricsRecorder
) -> None:
    detail = [
        {"loc": ["body", name], "msg": "Extra inputs are not permitted"}
        for name in ("stream_options", "max_tokens")
    ]
    server.enqueue(refused({"detail": detail}, "422 Unprocessable Entity"))
    server.enqueue(ANSWER)
    await agent_at(server, recorder, config={"max_tokens": 9}).ask("Weather?")
    assert list(recorder.requests["adjusted"]) == ["without stream_options, max_completion_tokens for max_tokens"]


@pytest.mark.asyncio
async def test_a_refusal_inside_a_reply_is_heeded_before_its_first_word(
    server: ScriptedServer, recorder: MetricsRecorder
) -> None:
    server.enqueue(sse(REFUSALS["OpenAI"]))
    server.enqueue(ANSWER)
    assert await agent_at(server, recorder).ask("Weather?") == "Clear sky."
    assert "stream_options" not in server.requests[1].json


@pytest.mark.parametrize("key", ["extra", "response_format"])
@pytest.mark.asyncio
async def test_what_the_user_gave_is_neither_dropped_nor_changed(
    server: ScriptedServer, recorder: MetricsRecorder, key: str
) -> None:
    own: dict[str, Any] = {
        "extra": {"tools": [{"type": "function", "strict": True, "name": "f"}]},
        "response_format": {"type": "json_schema", "json_schema": {"name": "a", "schema": {}, "strict": True}},
    }
    server.enqueue(refused({"error": {"message": "Unknown parameter: 'strict'.", "param": "tools[0].strict"}}))
    agent = agent_at(server, recorder, config={"api": "responses", key: own[key]})
    with pytest.raises(InvalidRequestError):
        await agent.ask("Weather?")
    assert len(server.requests) == 1
    assert agent.get_configs()["config"][key] == own[key]


@pytest.mark.asyncio
async def test_servers_at_two_paths_of_a_gateway_are_two(
    server: ScriptedServer, recorder: MetricsRecorder
) -> None:
    server.enqueue(refused(REFUSALS["OpenAI"]))
    for _ in range(2):
        server.enqueue(ANSWER)
    await agent_at(server, recorder, base_url=f"{server.url}/one/v1").ask("Weather?")
    await agent_at(server, recorder, base_url=f"{server.url}/two/v1").ask("Weather?")
    assert "stream_options" in server.requests[-1].json


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"reasoning": {"effort": "low"}}, "reasoning_effort is not supported"),
        ({"stop": "END"}, "stop is not supported with this model"),
        ({"extra": {"top_k": 3}}, "Unknown parameter: 'top_k'"),
    ],
)
@pytest.mark.asyncio
async def test_errors_name_the_option_that_was_refused(
    server: ScriptedServer, recorder: MetricsRecorder, config: dict[str, Any], words: str
) -> None:
    server.enqueue(refused({"error": {"message": words}}))
    (key,) = config
    with pytest.raises(InvalidRequestError, match=rf"config\['{key}'\]"):
        await agent_at(server, recorder, config=config).ask("Weather?")


@pytest.mark.asyncio
async def test_what_was_refused_again_is_not_remembered(server: ScriptedServer, recorder: MetricsRecorder) -> None:
    server.enqueue(refused(REFUSALS["OpenAI"]))
    server.enqueue(json_reply({"error": {"message": "overloaded"}}, "503 Service Unavailable"))
    server.enqueue(ANSWER)
    agent = agent_at(server, recorder)
    response = await agent.chat("Weather?")
    with pytest.raises(Exception, match="overloaded"):
        await response
    assert list(recorder.requests["adjusted"]) == ["without stream_options"]
    await agent.ask("Again?")
    assert "stream_options" in server.requests[-1].json


@pytest.mark.asyncio
async def test_refusals_end(server: ScriptedServer, recorder: MetricsRecorder) -> None:
    for _ in range(3):
        server.enqueue(refused(REFUSALS["OpenAI"]))
    with pytest.raises(InvalidRequestError):
        await agent_at(server, recorder).ask("Weather?")
    assert len(server.requests) == 2


@pytest.mark.asyncio
async def test_rows_of_a_batch_learn_together(server: ScriptedServer, recorder: MetricsRecorder) -> None:
    server.enqueue(refused(REFUSALS["OpenAI"]))
    for _ in range(3):
        server.enqueue(ANSWER)
    answers = await agent_at(server, recorder).map(list("abc"), concurrency=1, progress=False)
    assert list(answers["answer"]) == ["Clear sky."] * 3
    assert len(server.requests) == 4


@pytest.mark.parametrize(
    "message",
    [
        "The message is too long, include less",
        "Please store fewer messages",
        "Your input must include at least one user message",
        "tools[0].function.parameters: array schema missing items",
        "something about streams",
        {"loc": ["body", "messages", 0], "msg": "Field required", "input": {"content": "what is stream_options?"}},
    ],
)
def test_words_are_no_names_of_fields(message: Any) -> None:
    body = {"model": "m", "messages": MESSAGES, "include": ["x"], "store": False, "stream_options": {}}
    optional = ["include", "store", "stream_options"]
    found = find_changes({"error": {"message": message}}, body, optional=optional, renames={}, done=())
    assert found == ()


@pytest.mark.parametrize(
    ("field", "error"),
    [
        ("include", {"message": "Encrypted content is not supported with this model.", "param": "include"}),
        ("include", {"message": "Encrypted content is not supported with this model."}),
        ("include", {"message": "Unknown parameter: 'include'."}),
        ("include", {"issues": [{"code": "unrecognized_keys", "keys": ["include"], "path": []}]}),
        ("include", {"detail": [{"loc": ["body", "ResponsesRequest", "include"], "msg": "Extra inputs"}]}),
        ("include", {"message": "Extra inputs are not permitted: include"}),
        ("include", {"message": "1 validation error for Request\ninclude\n  Extra inputs are not permitted"}),
        ("include", {"message": "must NOT have additional properties (include)"}),
        ("include", {"message": "$.include is not allowed"}),
        ("store", {"message": "Unrecognized request argument supplied: store"}),
        ("store", {"message": "`store` is not supported here"}),
        ("tools[].strict", {"message": "Unknown parameter: 'tools[0].strict'.", "param": "tools[0].strict"}),
        ("messages[].reasoning_content", {"message": "property 'messages.1.reasoning_content' is unsupported"}),
    ],
)
def test_fields_that_are_also_words_are_found_by_their_places(field: str, error: dict[str, Any]) -> None:
    body = {
        "include": ["x"],
        "store": False,
        "tools": [{"strict": False}],
        "messages": [{"role": "assistant", "reasoning_content": "hm"}],
    }
    optional = ["include", "store", "tools[].strict", "messages[].reasoning_content"]
    assert find_changes({"error": error}, body, optional=optional, renames={}, done=()) == (Change(field),)


# ── provider details ─────────────────────────────────────────────────────────────────────────────────


@pytest.mark.asyncio
async def test_reasoning_that_a_server_does_not_take_back_is_left_out(
    server: ScriptedServer, recorder: MetricsRecorder
) -> None:
    server.enqueue(sse(delta(reasoning_content="Hm."), delta("Hello"), delta(finish="stop")))
    agent = agent_at(server, recorder)
    await agent.ask("Hi")
    message = "'messages.1' : for 'role:assistant' property 'reasoning_content' is unsupported"
    server.enqueue(refused({"error": {"message": message, "type": "invalid_request_error"}}))
    server.enqueue(ANSWER)
    assert await agent.ask("Weather?") == "Clear sky."
    assert server.requests[1].json["messages"][1]["reasoning_content"] == "Hm."
    assert "reasoning_content" not in server.requests[2].json["messages"][1]


@pytest.mark.asyncio
async def test_a_server_that_misses_reasoning_gets_a_blank_one(
    server: ScriptedServer, recorder: MetricsRecorder
) -> None:
    server.enqueue(calls("c1"))
    message = "The `reasoning_content` in the thinking mode must be passed back to the API."
    server.enqueue(refused({"error": {"message": message}}))
    server.enqueue(ANSWER)
    assert await agent_at(server, recorder, tools=[wind]).ask("Wind?") == "Clear sky."
    assert server.requests[-1].json["messages"][1]["reasoning_content"] == " "
    assert len(server.requests) == 3

    server.enqueue(sse(delta(reasoning_content="Hm."), delta("Hello"), delta(finish="stop")))
    server.enqueue(ANSWER)
    agent = agent_at(server, recorder)
    await agent.ask("Hi")
    await agent.ask("Again?")
    assert server.requests[-1].json["messages"][1]["reasoning_content"] == "Hm."


@pytest.mark.asyncio
async def test_a_signature_that_a_server_refuses_is_left_out(
    server: ScriptedServer, recorder: MetricsRecorder
) -> None:
    piece = {"type": "reasoning.text", "format": "anthropic-claude-v1", "index": 0}
    server.enqueue(
        sse(
            delta(reasoning_details=[piece | {"text": "Hm."}]),
            delta(reasoning_details=[piece | {"signature": "Et8B"}]),
            delta("Hello"),
            delta(finish="stop"),
        )
    )
    agent = agent_at(server, recorder)
    await agent.ask("Hi")
    message = "messages.1.content.0: Invalid `signature` in `thinking` block"
    server.enqueue(refused({"error": {"message": message}}))
    server.enqueue(ANSWER)
    assert await agent.ask("Weather?") == "Clear sky."
    details = [piece | {"text": "Hm.", "signature": "Et8B"}]
    assert server.requests[1].json["messages"][1]["reasoning_details"] == details
    assert "reasoning_details" not in server.requests[2].json["messages"][1]


@pytest.mark.asyncio
async def test_a_server_that_misses_a_signature_gets_the_one_that_says_there_is_none(
    server: ScriptedServer, recorder: MetricsRecorder
) -> None:
    server.enqueue(calls("c1", "c2"))
    message = "Function call is missing a thought_signature in functionCall parts."
    server.enqueue(refused([{"error": {"code": 400, "message": message, "status": "INVALID_ARGUMENT"}}]))
    server.enqueue(ANSWER)
    assert await agent_at(server, recorder, tools=[wind]).ask("Wind?") == "Clear sky."
    first, second = server.requests[-1].json["messages"][1]["tool_calls"]
    assert first["extra_content"]["google"]["thought_signature"] == "skip_thought_signature_validator"
    assert "extra_content" not in second


# ── ids of tool calls ────────────────────────────────────────────────────────────────────────────────


def ids_in(body: dict[str, Any]) -> tuple[list[str], list[str]]:
    asked = [call["id"] for message in body["messages"] for call in message.get("tool_calls", ())]
    return asked, [message["tool_call_id"] for message in body["messages"] if message["role"] == "tool"]


@pytest.mark.parametrize("call_id", ["wind:0", "call_0", "functions.wind:0", "x" * 70, "ä", "abcdefghi"])
@pytest.mark.asyncio
async def test_ids_are_unique_in_a_request_and_the_record_keeps_the_servers(
    server: ScriptedServer, recorder: MetricsRecorder, call_id: str
) -> None:
    agent = agent_at(server, recorder, tools=[wind])
    for _ in range(3):
        server.enqueue(calls(call_id))
        server.enqueue(calls(call_id))
        server.enqueue(ANSWER)
        await agent.ask("Wind?")
    asked, answered = ids_in(server.requests[-1].json)
    assert asked == answered
    assert len(set(asked)) == 6
    assert all(each.isascii() and each.isalnum() and len(each) == 9 for each in asked)
    assert list(recorder.tools["tool_call_id"]) == [call_id] * 6


@pytest.mark.asyncio
async def test_ids_that_a_server_refuses_are_shortened(server: ScriptedServer, recorder: MetricsRecorder) -> None:
    server.enqueue(calls("call_long_0", "call_long_1"))
    message = "Tool call id was call_long_0 but must be a-z, A-Z, 0-9, with a length of 9."
    server.enqueue(refused({"object": "error", "message": message, "code": 3280}))
    server.enqueue(ANSWER)
    assert await agent_at(server, recorder, tools=[wind]).ask("Wind?") == "Clear sky."
    asked, answered = ids_in(server.requests[-1].json)
    assert asked == answered
    assert all(each.isalnum() and len(each) == 9 for each in asked)
    assert len(set(asked)) == 2


@pytest.mark.asyncio
async def test_a_saved_conversation_with_tools_goes_on_elsewhere(
    server: ScriptedServer, recorder: MetricsRecorder, tmp_path: Path
) -> None:
    server.enqueue(calls("toolu_01:A", extra_content={"google": {"thought_signature": "c2ln"}}))
    server.enqueue(ANSWER)
    agent = agent_at(server, recorder, tools=[wind])
    await agent.ask("Wind?")
    path = agent.save(tmp_path / "talk.json")
    with ScriptedServer() as other:
        other.enqueue(ANSWER)
        loaded = CreateAgent.load(path, tools=[wind], base_url=other.openai_url, recorder=recorder)
        assert await loaded.ask("And now?") == "Clear sky."
        (request,) = other.requests
        assert "extra_content" not in request.body.decode()
        asked, answered = ids_in(request.json)
        assert asked == answered


# ── options ──────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("config", [{"tool_choice": "required"}, {"extra": {"tool_choice": "required"}}])
@pytest.mark.asyncio
async def test_a_choice_of_tools_is_sent_in_the_first_round_alone(
    server: ScriptedServer, recorder: MetricsRecorder, config: dict[str, Any]
) -> None:
    server.enqueue(calls("c1"))
    server.enqueue(ANSWER)
    await agent_at(server, recorder, tools=[wind], config=config).ask("Wind?")
    first, second = (request.json for request in server.requests)
    assert first["tool_choice"] == "required"
    assert "tool_choice" not in second


@pytest.mark.asyncio
async def test_options_are_sent_as_chat_completions_has_them(
    server: ScriptedServer, recorder: MetricsRecorder
) -> None:
    server.enqueue(ANSWER)
    config: dict[str, Any] = {
        "tool_choice": "wind",
        "parallel_tool_calls": False,
        "service_tier": "flex",
        "response_format": {"type": "json_object"},
        "reasoning": {"effort": "low"},
        "server_tools": ["web_search", {"type": "browser", "depth": 2}],
        "extra": {"tools": [{"type": "mine"}], "stream_options": None, "user": "me"},
    }
    await agent_at(server, recorder, tools=[wind], config=config).ask("Wind?")
    sent = server.requests[0].json
    assert [each["type"] for each in sent.pop("tools")] == ["function", "web_search", "browser", "mine"]
    assert sent == {
        "model": "m",
        "messages": [{"role": "user", "content": "Wind?"}],
        "stream": True,
        "tool_choice": {"type": "function", "function": {"name": "wind"}},
        "parallel_tool_calls": False,
        "service_tier": "flex",
        "response_format": {"type": "json_object"},
        "reasoning_effort": "low",
        "user": "me",
    }


@pytest.mark.parametrize("choice", ["rows", "required"])
def test_a_choice_of_a_tool_that_the_agent_does_not_have_is_refused_at_once(choice: str) -> None:
    tools = [wind] if choice == "rows" else []
    with pytest.raises(ConfigurationError, match="tool_choice"):
        CreateAgent("demo", tools=tools, config={"tool_choice": choice})


@pytest.mark.parametrize("key", ["api", "parallel_tool_calls", "reasoning", "server_tools", "service_tier"])
def test_ollama_says_what_it_does_not_take(key: str) -> None:
    value: Any = {
        "api": "chat",
        "reasoning": {"effort": "low"},
        "server_tools": ["x"],
        "service_tier": "flex",
    }.get(key, True)
    with pytest.raises(UnsupportedConfigError, match=key):
        CreateAgent("ollama", "m", config={key: value})


def test_what_was_learned_is_bounded() -> None:
    for number in range(1_100):
        refusals.remember(f"s{number}", "m", "chat", (Change("stream_options"),))
    assert refusals.learned("s0", "m", "chat") == ()
    assert refusals.learned("s1099", "m", "chat") == (Change("stream_options"),)


@pytest.mark.asyncio
async def test_turns_at_the_same_time_are_adjusted_each(server: ScriptedServer, recorder: MetricsRecorder) -> None:
    for reply in (refused(REFUSALS["OpenAI"]), refused(REFUSALS["OpenAI"]), ANSWER, ANSWER):
        server.enqueue(reply)
    agent = agent_at(server, recorder)
    texts = await asyncio.gather(agent.ask("One?"), agent.ask("Two?"))
    assert texts == ["Clear sky."] * 2


# ── messages ─────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (
            "403 Forbidden",
            {"message": 'm requires moderation. Your input was flagged for "violence".', "code": 403},
        ),
        ("400 Bad Request", {"message": "This model's maximum context length is 10 tokens.", "code": None}),
        ("400 Bad Request", {"message": "The response was filtered", "code": "content_filter"}),
    ],
)
@pytest.mark.asyncio
async def test_a_message_that_was_refused_as_such_is_shown_and_not_sent_again(
    server: ScriptedServer, recorder: MetricsRecorder, status: str, error: dict[str, Any]
) -> None:
    agent = agent_at(server, recorder)
    server.enqueue(refused({"error": error}, status))
    response = await agent.chat("something dreadful")
    await response.wait()
    assert response.status == "error"
    assert agent.history[0].text == "something dreadful"
    server.enqueue(ANSWER)
    assert await agent.ask("Weather?") == "Clear sky."
    assert server.requests[-1].json["messages"] == [{"role": "user", "content": "Weather?"}]


@pytest.mark.asyncio
async def test_a_past_that_a_filter_refuses_is_left_out_in_the_second_turn_that_fails(
    server: ScriptedServer, recorder: MetricsRecorder
) -> None:
    filtered = refused({"error": {"message": "The response was filtered", "code": "content_filter"}})
    agent = agent_at(server, recorder)
    server.enqueue(sse(delta("dreadful words"), delta(finish="stop")))
    await agent.ask("Hi")
    server.enqueue(filtered)
    await (await agent.chat("Weather?")).wait()
    server.enqueue(filtered)
    server.enqueue(ANSWER)
    server.enqueue(ANSWER)
    response = await agent.chat("Weather here?")
    assert await response == "Clear sky."
    assert any("said earlier" in notice for notice in response.notices)
    assert await agent.ask("And tomorrow?") == "Clear sky."
    sent = [message["content"] for message in server.requests[-1].json["messages"]]
    assert sent == ["Weather here?", "Clear sky.", "And tomorrow?"]
    assert [message.text for message in agent.history][:2] == ["Hi", "dreadful words"]
