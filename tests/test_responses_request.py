"""Requests to OpenAI's Responses API as they are sent."""

from __future__ import annotations

import json
from typing import Any

import pytest
from family import ScriptedServer, png, round_trip
from responses_script import call, event_stream, message, reasoning, server_tool, stream
from test_responses_wire import adapter

from createagents_nb import CreateAgent, tool
from createagents_nb.core.events import ProviderDetails, ReplySource, ToolCallRequested
from createagents_nb.core.messages import FilePart, ImagePart, Message, TextPart
from createagents_nb.core.provider import ChatRequest, ToolSpec
from createagents_nb.errors import UnsupportedConfigError
from createagents_nb.providers.openai_adapter import OpenAIResponsesAdapter
from createagents_nb.providers.openai_responses_request import CHAT_ONLY, build_responses_body

__all__ = ["adapter"]

pytestmark = pytest.mark.once

ASK = Message("user", "Hello")
TIDE = ToolSpec("tide", "The tide.", {"type": "object", "properties": {"at": {"type": "string"}}})
WIRE_TIDE = {
    "type": "function",
    "name": "tide",
    "description": "The tide.",
    "parameters": {"type": "object", "properties": {"at": {"type": "string"}}},
    "strict": False,
}
SOURCE = ReplySource("https://api.openai.com", "gpt-5.4")


def body_of(*messages: Message, model: str = "gpt-5.4", round_number: int = 1, **more: Any) -> dict[str, Any]:
    fields = {name: more.pop(name) for name in ("tools", "output_schema", "tool_choice") if name in more}
    return build_responses_body(ChatRequest(model, messages or (ASK,), config=more, round=round_number, **fields))


def test_a_plain_request() -> None:
    assert body_of() == {
        "model": "gpt-5.4",
        "store": False,
        "input": [{"role": "user", "content": "Hello"}],
        "include": ["reasoning.encrypted_content"],
        "stream": True,
    }
    assert "stream" not in body_of(stream=False)


@pytest.mark.parametrize(
    ("model", "asks"),
    [
        ("gpt-5.4", True),
        ("gpt-5-mini", True),
        ("o4-mini", True),
        ("my-deployment", True),
        ("ft:o4-mini:org::id", True),
        ("gpt-4o", False),
        ("gpt-4.1-mini", False),
        ("gpt-3.5-turbo", False),
        ("chatgpt-4o-latest", False),
        ("gpt-5-chat-latest", False),
        ("gpt-5.2-chat", False),
        ("ft:gpt-4.1-mini:org::id", False),
    ],
)
def test_encrypted_reasoning_is_asked_for_unless_the_model_is_known_not_to_reason(model: str, asks: bool) -> None:
    assert ("include" in body_of(model=model)) is asks


def test_a_conversation_with_tools() -> None:
    calls = (ToolCallRequested("a", "tide", '{"at": "Vik"}'), ToolCallRequested("b", "no such!", "broken"))
    body = body_of(
        Message("system", "Be short."),
        ASK,
        Message("assistant", "Let me see.", tool_calls=calls),
        Message("tool", "2.4 m", tool_call_id="a", name="tide"),
        Message("tool", "rejected", tool_call_id="b", name="no such!"),
        Message("assistant", "2.4 m."),
        Message("system", "Now in French."),
        Message("user", "And \ud83d now?"),
        tools=[TIDE],
    )
    assert body["instructions"] == "Be short."
    assert body["tools"] == [WIRE_TIDE]
    assert body["input"] == [
        {"role": "user", "content": "Hello"},
        {"role": "assistant", "content": "Let me see."},
        {"type": "function_call", "call_id": "a", "name": "tide", "arguments": '{"at": "Vik"}'},
        {"type": "function_call", "call_id": "b", "name": "no_such_", "arguments": '{"invalid_json": "broken"}'},
        {"type": "function_call_output", "call_id": "a", "output": "2.4 m"},
        {"type": "function_call_output", "call_id": "b", "output": "rejected"},
        {"role": "assistant", "content": "2.4 m."},
        {"role": "developer", "content": "Now in French."},
        {"role": "user", "content": "And ? now?"},
    ]


def test_calls_without_text_have_no_message() -> None:
    asked = Message("assistant", " ", tool_calls=(ToolCallRequested("a", "tide", ""),))
    assert body_of(ASK, asked)["input"][1:] == [
        {"type": "function_call", "call_id": "a", "name": "tide", "arguments": "{}"}
    ]


def test_images_and_files() -> None:
    data = png()
    content = [
        TextPart("Look"),
        ImagePart(data, "image/png"),
        ImagePart(url="https://example.com/a.png"),
        FilePart(b"%PDF", "application/pdf", name="a.pdf"),
        FilePart(b"%PDF", "application/pdf"),
        FilePart(url="https://example.com/b.pdf"),
    ]
    (sent,) = body_of(Message("user", content))["input"]
    text, image, linked, named, unnamed, address = sent["content"]
    assert text == {"type": "input_text", "text": "Look"}
    assert image["image_url"].startswith("data:image/png;base64,iVBOR")
    assert linked == {"type": "input_image", "image_url": "https://example.com/a.png", "detail": "auto"}
    assert named == {
        "type": "input_file",
        "filename": "a.pdf",
        "file_data": "data:application/pdf;base64,JVBERg==",
    }
    assert unnamed["filename"] == "file"
    assert address == {"type": "input_file", "file_url": "https://example.com/b.pdf"}


# ── config ───────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("config", "sent"),
    [
        ({"max_tokens": 9, "top_p": 0.9}, {"max_output_tokens": 9, "top_p": 0.9}),
        ({"temperature": 0.5}, {"temperature": 0.5}),
        ({"parallel_tool_calls": False}, {"parallel_tool_calls": False}),
        ({"service_tier": "flex"}, {"service_tier": "flex"}),
        ({"think": True}, {"reasoning": {"effort": "medium"}}),
        ({"think": False}, {"reasoning": {"effort": "none"}}),
        ({"think": "low", "reasoning": {"summary": "auto"}}, {"reasoning": {"effort": "low", "summary": "auto"}}),
        ({"reasoning": {"effort": "high"}}, {"reasoning": {"effort": "high"}}),
        ({"server_tools": ["web_search", {"type": "mcp", "server_label": "sea"}]},
         {"tools": [{"type": "web_search"}, {"type": "mcp", "server_label": "sea"}]}),
        ({"response_format": {"type": "json_object"}}, {"text": {"format": {"type": "json_object"}}}),
        ({"response_format": {"type": "json_schema", "json_schema": {"name": "a", "schema": {}, "strict": True}}},
         {"text": {"format": {"type": "json_schema", "name": "a", "schema": {}, "strict": True}}}),
        ({"response_format": {"type": "json_schema", "json_schema": {"name": "a", "schema": {}}}},
         {"text": {"format": {"type": "json_schema", "name": "a", "schema": {}, "strict": False}}}),
    ],
)  # fmt: skip
def test_config_in_the_words_of_this_api(config: dict[str, Any], sent: dict[str, Any]) -> None:
    body, plain = body_of(**config), body_of()
    assert {name: value for name, value in body.items() if name not in plain} == sent


def test_a_schema_of_the_answer_and_a_choice_of_the_request() -> None:
    body = body_of(
        output_schema={"type": "object", "properties": {}},
        tool_choice="tide",
        tools=[TIDE],
        response_format={"type": "text"},
    )
    schema = {
        "type": "json_schema",
        "name": "answer",
        "schema": {"type": "object", "properties": {}},
        "strict": False,
    }
    assert body["text"] == {"format": schema}
    assert body["tool_choice"] == {"type": "function", "name": "tide"}
    assert body_of(tool_choice="required", tools=[TIDE])["tool_choice"] == "required"
    body = body_of(tool_choice="web_search", server_tools=["web_search"])
    assert body["tool_choice"] == {"type": "web_search"}


def test_a_choice_in_extra_counts_in_the_first_round_alone() -> None:
    assert "tool_choice" not in body_of(extra={"tool_choice": "required"}, round_number=2)
    assert body_of(extra={"tool_choice": "required"})["tool_choice"] == "required"


@pytest.mark.parametrize("name", ["seed", "stop"])
def test_what_only_chat_completions_has_is_refused_with_the_way_there(name: str) -> None:
    assert name in CHAT_ONLY
    with pytest.raises(UnsupportedConfigError, match=rf"no '{name}'.*\n?.*config=\{{'api': 'chat'\}}"):
        body_of(**{name: 1})


@pytest.mark.parametrize(
    ("extra", "changed"),
    [
        ({"include": None, "store": True}, {"include": ..., "store": True}),
        ({"include": ["message.output_text.logprobs"]},
         {"include": ["reasoning.encrypted_content", "message.output_text.logprobs"]}),
        ({"max_tokens": 5}, {"max_output_tokens": 5}),
        ({"max_completion_tokens": 5}, {"max_output_tokens": 5}),
        ({"max_tokens": None}, {"max_output_tokens": ...}),
        ({"reasoning_effort": "high"}, {"reasoning": {"effort": "high", "summary": "auto"}}),
        ({"reasoning_effort": None}, {"reasoning": {"summary": "auto"}}),
        ({"reasoning": {"effort": "high", "summary": None}}, {"reasoning": {"effort": "high"}}),
        ({"reasoning": None}, {"reasoning": ...}),
        ({"verbosity": "low"}, {"text": {"format": {"type": "text"}, "verbosity": "low"}}),
        ({"response_format": {"type": "json_object"}}, {"text": {"format": {"type": "json_object"}}}),
        ({"response_format": None}, {"text": ...}),
        ({"tools": [{"type": "web_search"}]}, {"tools": [WIRE_TIDE, {"type": "web_search"}]}),
        ({"tools": [{"type": "function", "function": {"name": "f", "parameters": {}}}]},
         {"tools": [WIRE_TIDE, {"type": "function", "strict": False, "name": "f", "parameters": {}}]}),
        ({"tools": None}, {"tools": ...}),
        ({"tool_choice": {"type": "function", "function": {"name": "tide"}}},
         {"tool_choice": {"type": "function", "name": "tide"}}),
        ({"tool_choice": "tide"}, {"tool_choice": {"type": "function", "name": "tide"}}),
        ({"tool_choice": None}, {}),
        ({"metadata": {"a": "b"}}, {"metadata": {"a": "b"}}),
        ({"truncation": "auto"}, {"truncation": "auto"}),
    ],
)  # fmt: skip
def test_extra_comes_last(extra: dict[str, Any], changed: dict[str, Any]) -> None:
    config = {
        "max_tokens": 9,
        "think": True,
        "reasoning": {"summary": "auto"},
        "response_format": {"type": "text"},
    }
    plain, body = body_of(tools=[TIDE], **config), body_of(tools=[TIDE], extra=extra, **config)
    expected = {name: value for name, value in (plain | changed).items() if value is not ...}
    assert body == expected


# ── the output of earlier rounds ─────────────────────────────────────────────────────────────────────────

THOUGHT, SEARCH = reasoning("Hm."), server_tool("web_search_call", action={"type": "search", "query": "x"})


def details(*items: dict[str, Any]) -> ProviderDetails:
    return ProviderDetails(SOURCE, {"items": list(items)})


def text_of(size: Any, **more: Any) -> dict[str, Any]:
    return {"type": "message", "size": size, **more}


def sent_of(text: str, calls: int, *items: dict[str, Any]) -> list[dict[str, Any]]:
    asked = tuple(ToolCallRequested(f"c{number}", "tide", "{}") for number in range(calls))
    old = Message("assistant", text, tool_calls=asked, provider_details=details(*items))
    return list(body_of(ASK, old)["input"][1:])


def wire_call(number: int) -> dict[str, Any]:
    return {"type": "function_call", "call_id": f"c{number}", "name": "tide", "arguments": "{}"}


CALL = {"type": "function_call"}


def said(text: str, **more: Any) -> dict[str, Any]:
    return {"role": "assistant", "content": text, **more}


def test_opaque_items_go_back_as_they_came_and_in_their_place() -> None:
    other = reasoning(id_="rs_2")
    items = (THOUGHT, text_of(4, phase="commentary"), SEARCH, other, CALL, text_of(3), CALL)
    assert sent_of("One.Two", 2, *items) == [
        THOUGHT, said("One.", phase="commentary"), SEARCH, other, wire_call(0), said("Two"), wire_call(1),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "calls", "items", "sent"),
    [
        # Another text than the one that was measured: as a whole in the first place.
        ("Changed", 0, [THOUGHT, text_of(3), SEARCH, text_of(2)], [THOUGHT, said("Changed"), SEARCH]),
        ("Hi", 0, [THOUGHT, text_of("2")], [THOUGHT, said("Hi")]),
        ("", 1, [THOUGHT, text_of(2), CALL], [THOUGHT, wire_call(0)]),
        # Calls or texts without a place: plain.
        ("Hi", 2, [THOUGHT, text_of(2), CALL], [said("Hi"), wire_call(0), wire_call(1)]),
        ("Hi", 0, [THOUGHT, text_of(2), CALL], [said("Hi")]),
        ("Hi", 1, [THOUGHT, CALL], [said("Hi"), wire_call(0)]),
        # Reasoning that nothing follows is refused.
        ("[empty answer]", 0, [THOUGHT], [said("[empty answer]")]),
        ("Hi", 0, [text_of(2), THOUGHT], [said("Hi")]),
    ],
)
def test_what_does_not_fit_falls_back(
    text: str, calls: int, items: list[dict[str, Any]], sent: list[dict[str, Any]]
) -> None:
    assert sent_of(text, calls, *items) == sent


@pytest.mark.parametrize(
    "fields", [{}, {"items": None}, {"items": "x"}, {"items": [1]}, {"reasoning_content": "x"}]
)
def test_details_of_another_form_are_left_out(fields: dict[str, Any]) -> None:
    old = Message("assistant", "Hi", provider_details=ProviderDetails(SOURCE, fields))
    assert body_of(ASK, old)["input"][1:] == [said("Hi")]


@tool
def tide(harbour: str) -> str:
    """The tide.

    Args:
        harbour: where
    """
    return "2.4 m"


@pytest.mark.asyncio
async def test_the_reasoning_of_each_round_goes_back_in_this_turn_and_in_later_ones(
    server: ScriptedServer, adapter: OpenAIResponsesAdapter
) -> None:
    first, last = reasoning("Hm.", id_="rs_1"), reasoning(id_="rs_2")
    asked = call("tide", '{"harbour": "Vik"}')
    server.enqueue(event_stream(stream(first, asked)))
    server.enqueue(event_stream(stream(last, message("2.4 m.", phase="final_answer"))))
    server.enqueue(event_stream(stream(message("You are welcome."))))
    agent = CreateAgent(adapter, "m", tools=[tide])
    assert await (await agent.chat("How high?")) == "2.4 m."
    assert await (await agent.chat("Thanks")) == "You are welcome."
    sent = [request.json["input"] for request in server.requests]
    result = {"type": "function_call_output", "call_id": "call_1", "output": "2.4 m"}
    shown = {name: asked[name] for name in ("type", "call_id", "name", "arguments")}
    turn = [{"role": "user", "content": "How high?"}, first, shown, result]
    assert sent[1] == turn
    answer = {"role": "assistant", "content": "2.4 m.", "phase": "final_answer"}
    assert sent[2] == [*turn, last, answer, {"role": "user", "content": "Thanks"}]
    assert all(json.loads(request.body)["store"] is False for request in server.requests)


@pytest.mark.asyncio
async def test_the_request_is_one_of_the_sdks_own_types(
    server: ScriptedServer, adapter: OpenAIResponsesAdapter
) -> None:
    from openai.types.responses.response_create_params import ResponseCreateParamsStreaming
    from pydantic import TypeAdapter

    server.enqueue(event_stream(stream(message("Hi"))))
    calls = (ToolCallRequested("a", "tide", '{"at": "Vik"}'),)
    history = [
        Message("system", "Be short."),
        Message("user", [TextPart("Look"), ImagePart(png(), "image/png"), FilePart(b"%PDF", "application/pdf")]),
        Message("assistant", "Hm.", tool_calls=calls, provider_details=ProviderDetails(
            adapter.reply_source("m"), {"items": [THOUGHT, text_of(3, phase="commentary"), SEARCH, CALL]})),
        Message("tool", "2.4 m", tool_call_id="a", name="tide"),
    ]  # fmt: skip
    config = {"think": "low", "max_tokens": 9, "server_tools": ["web_search"]}
    trip = await round_trip(adapter, *history, tools=[TIDE], **config)
    assert trip.text == "Hi"
    body = server.requests[0].json
    assert body.keys() <= ResponseCreateParamsStreaming.__annotations__.keys()
    assert TypeAdapter(ResponseCreateParamsStreaming).validate_python(body)["model"] == "m"
    assert body["input"][1:3] == [THOUGHT, {"role": "assistant", "content": "Hm.", "phase": "commentary"}]
