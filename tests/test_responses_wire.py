"""OpenAI's Responses API over real HTTP: what is made of each reply, and that the SDK reads the same in it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from family import Reply, ScriptedServer, Trip, json_reply, round_trip
from hypothesis import given, settings
from hypothesis import strategies as st
from responses_script import (
    call,
    event_stream,
    events_of,
    message,
    reasoning,
    refusal,
    response,
    server_tool,
    stream,
)
from test_wire import cuts, few, kinds, one_by_one, pieces

from createagents_nb.core.events import (
    Reasoning,
    ReplySource,
    RoundEnded,
    ServerToolStep,
    ToolCallRequested,
    Usage,
)
from createagents_nb.errors import (
    ContextLengthError,
    EmptyReplyError,
    IncompleteReplyError,
    ProtocolError,
    ProviderError,
    ServerError,
)
from createagents_nb.providers.openai_adapter import OpenAIResponsesAdapter
from createagents_nb.providers.openai_responses_reply import ResponsesReplyDecoder

pytestmark = pytest.mark.once

USAGE = Usage(input_tokens=25, output_tokens=8, cached_tokens=5, reasoning_tokens=3)
SOURCE = ReplySource("https://api.openai.com", "m")


@pytest.fixture
def adapter(server: ScriptedServer) -> OpenAIResponsesAdapter:
    return OpenAIResponsesAdapter(base_url=server.openai_url, api_key="key-1234", max_retries=0)


async def reply_to(server: ScriptedServer, adapter: OpenAIResponsesAdapter, *events: dict[str, Any]) -> Trip:
    server.enqueue(event_stream(events))
    return await round_trip(adapter)


def calls_of(trip: Trip) -> list[tuple[str, str, str]]:
    return [(each.tool_call_id, each.name, each.arguments) for each in trip.calls]


def steps_of(trip: Trip) -> list[ServerToolStep]:
    return [event for event in trip.events if isinstance(event, ServerToolStep)]


def decode(blocks: Sequence[bytes], *, streamed: bool = True, source: ReplySource | None = None) -> list[Any]:
    """Events with neighboring text and reasoning joined, clocks removed, and the error if any."""
    decoder = ResponsesReplyDecoder(
        streamed=streamed, on_error=lambda body: ServerError(f"the server said {body}"), source=source
    )
    events: list[Any] = []
    try:
        for block in blocks:
            events.extend(decoder.feed(block))
        events.extend(decoder.finish())
    except ProviderError as error:
        events.append((type(error), str(error)))
    joined: list[Any] = []
    for event in events:
        last = joined[-1] if joined else None
        if isinstance(event, str) and isinstance(last, str):
            joined[-1] = last + event
        elif isinstance(event, Reasoning) and isinstance(last, Reasoning):
            joined[-1] = Reasoning(last.text + event.text)
        elif isinstance(event, RoundEnded):
            joined.append(replace(event, first_output_at=None, generation_s=None))
        elif isinstance(event, ToolCallRequested):
            joined.append((event.name, event.arguments))
        else:
            joined.append(event)
    return joined


def said(*events: dict[str, Any]) -> list[Any]:
    """What a stream gives besides its end, which is checked to be one."""
    found = decode(event_stream(events))
    assert isinstance(found.pop(), RoundEnded)
    return found


# ── the same as the SDK reads ────────────────────────────────────────────────────────────────────────────


def interleaved() -> list[dict[str, Any]]:
    """Two calls whose pieces take turns, and a text between them."""
    first, second = (
        call("tide", '{"harbour": "Vik"}', "call_a"),
        call("wind", '{"at": "Vik", "days": 2}', "call_b"),
    )
    text = message("Both, then.")
    a, b = events_of(first, 0), events_of(second, 2)
    mixed = [event for pair in zip(a[1:-1], b[1:-1], strict=False) for event in pair]
    rest = [event for event in (*a[1:-1], *b[1:-1]) if event not in mixed]
    whole = [a[0], *events_of(text, 1), b[0], *mixed, *rest, b[-1], a[-1]]
    start, end = stream(first, text, second)[:2], stream(first, text, second)[-1:]
    return [*start, *whole, *end]


SEARCH = server_tool(
    "web_search_call", action={"type": "search", "query": "tide Vik", "queries": ["tide Vik"], "sources": None}
)

SCRIPTS: dict[str, list[dict[str, Any]]] = {
    "text": stream(message("The ferry leaves at nine.")),
    "several parts and messages": stream(message("One. ", "Two. "), message("Three — ‘ø’ 😀.", id_="msg_2")),
    "interleaved calls": interleaved(),
    "reasoning summary and calls": stream(
        reasoning("**Looking it up**\n\nThe tide.", "**Then the wind**"),
        call("tide", '{"harbour": "Vik"}', "call_a"),
        call("wind", "{}", "call_b"),
    ),
    "refusal": stream(refusal("I cannot help with that.")),
    "incomplete": stream(
        message("The ferry lea", status="incomplete"),
        status="incomplete",
        incomplete_details={"reason": "max_output_tokens"},
    ),
    "server tool": stream(reasoning(), SEARCH, message("High tide is at four.", phase="final_answer")),
}


async def sdk_reads(url: str) -> tuple[str, str, list[tuple[str, str, str]], tuple[int, int, int, int]]:
    import openai

    text, thought = "", {}
    calls: list[tuple[str, str, str]] = []
    usage: Any = None
    async with openai.AsyncOpenAI(base_url=url, api_key="key-1234", max_retries=0) as client:
        async for event in await client.responses.create(model="m", input="Hello", stream=True):
            if event.type in ("response.output_text.delta", "response.refusal.delta"):
                text += event.delta
            elif event.type == "response.reasoning_summary_text.done":
                thought[event.output_index, event.summary_index] = event.text
            elif event.type in ("response.completed", "response.incomplete"):
                usage = event.response.usage
                called = [item for item in event.response.output if item.type == "function_call"]
                calls = [(item.call_id, item.name, item.arguments) for item in called]
    counts = (
        usage.input_tokens,
        usage.output_tokens,
        usage.input_tokens_details.cached_tokens,
        usage.output_tokens_details.reasoning_tokens,
    )
    return text, "\n\n".join(thought.values()), calls, counts


@pytest.mark.asyncio
@pytest.mark.parametrize("name", SCRIPTS)
async def test_text_calls_and_usage_are_those_that_the_sdk_reads(
    name: str, server: ScriptedServer, adapter: OpenAIResponsesAdapter
) -> None:
    server.on("/v1/responses", Reply(event_stream(SCRIPTS[name])))
    trip = await round_trip(adapter)
    usage = trip.end.usage
    counts = (usage.input_tokens, usage.output_tokens, usage.cached_tokens, usage.reasoning_tokens)
    assert (trip.text, trip.reasoning, calls_of(trip), counts) == await sdk_reads(server.openai_url)
    assert [request.path for request in server.requests] == ["/v1/responses"] * 2


@pytest.mark.asyncio
@pytest.mark.parametrize("name", SCRIPTS)
async def test_a_buffered_reply_gives_what_the_stream_gives(
    name: str, server: ScriptedServer, adapter: OpenAIResponsesAdapter
) -> None:
    server.enqueue(event_stream(SCRIPTS[name]))
    streamed = await round_trip(adapter)
    server.enqueue(json_reply(SCRIPTS[name][-1]["response"]))
    buffered = await round_trip(adapter, stream=False)
    assert (buffered.text, buffered.reasoning, calls_of(buffered)) == (
        streamed.text,
        streamed.reasoning,
        calls_of(streamed),
    )
    ends = [replace(trip.end, first_output_at=None, generation_s=None) for trip in (streamed, buffered)]
    assert ends[0] == ends[1]
    assert [step for step in steps_of(streamed) if step.status != "running"] == steps_of(buffered)
    assert "stream" not in server.requests[1].json


@few
@given(st.sampled_from([*SCRIPTS]), cuts)
def test_a_stream_is_read_the_same_however_it_is_cut(name: str, at: list[int]) -> None:
    data = b"".join(event_stream(SCRIPTS[name]))
    whole = decode([data], source=SOURCE)
    assert isinstance(whole[-1], RoundEnded)
    assert decode(pieces(data, at), source=SOURCE) == whole
    assert decode(one_by_one(data), source=SOURCE) == whole


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_stream_that_ends_early_is_an_error_after_the_text_so_far(name: str) -> None:
    events = SCRIPTS[name][:-1]
    found = decode(event_stream(events))
    assert found[-1][0] is IncompleteReplyError
    assert [event for event in found if isinstance(event, str)] == [
        event for event in said(*SCRIPTS[name]) if isinstance(event, str)
    ]
    assert kinds(decode([*event_stream(events), b"data: [DONE]\n\n"]))[-1] is IncompleteReplyError


# ── how an answer ends ───────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("events", "reason"),
    [
        (SCRIPTS["text"], "stop"),
        (SCRIPTS["reasoning summary and calls"], "tool_calls"),
        (SCRIPTS["incomplete"], "max_output_tokens"),
        (
            stream(message("x"), status="incomplete", incomplete_details={"reason": "content_filter"}),
            "content_filter",
        ),
        (stream(message("x"), status="incomplete"), "incomplete"),
        ([{"type": "response.completed", "response": None}], "stop"),
        ([{"type": "response.completed"}], "stop"),
    ],
)
def test_the_reason_of_the_end_is_the_servers_word(events: list[dict[str, Any]], reason: str) -> None:
    (end,) = (event for event in decode(event_stream(events)) if isinstance(event, RoundEnded))
    assert end.finish_reason == reason


@pytest.mark.asyncio
async def test_usage_and_model_are_reported(server: ScriptedServer, adapter: OpenAIResponsesAdapter) -> None:
    trip = await reply_to(server, adapter, *SCRIPTS["text"])
    assert (trip.end.usage, trip.end.model) == (USAGE, "gpt-5.4-2026-03-05")


FAILURES: dict[str, list[dict[str, Any]]] = {
    "response.failed": stream(
        message("The fer"), status="failed", error={"code": "server_error", "message": "It broke"}
    ),
    "error at the top": [
        *stream(message("The fer"))[:-1],
        {"type": "error", "code": "server_error", "message": "It broke", "param": None},
    ],
    "error inside": [
        *stream(message("The fer"))[:-1],
        {"type": "error", "error": {"type": "server_error", "code": "x", "message": "It broke"}},
    ],
    "error without a type": [*stream(message("The fer"))[:-1], {"error": {"message": "It broke"}}],
}


@pytest.mark.asyncio
@pytest.mark.parametrize("name", FAILURES)
async def test_an_error_in_the_stream_is_raised_after_the_text_so_far(
    name: str, server: ScriptedServer, adapter: OpenAIResponsesAdapter
) -> None:
    trip = await reply_to(server, adapter, *FAILURES[name])
    assert trip.text == "The fer"
    assert isinstance(trip.failure, ServerError)
    assert "It broke" in str(trip.failure)


@pytest.mark.asyncio
async def test_a_failure_is_classified_by_what_the_server_says(
    server: ScriptedServer, adapter: OpenAIResponsesAdapter
) -> None:
    error = {"code": "context_length_exceeded", "message": "Your input exceeds the context window of this model."}
    trip = await reply_to(server, adapter, *stream(status="failed", error=error))
    assert isinstance(trip.failure, ContextLengthError)
    server.enqueue(json_reply(response(status="failed", error=error)))
    assert isinstance((await round_trip(adapter, stream=False)).failure, ContextLengthError)
    trip = await reply_to(server, adapter, *stream(status="failed"))
    assert "without a reason" in str(trip.failure)


# ── the same text in four places, and other habits of servers ────────────────────────────────────────────

TEXT = SCRIPTS["text"]


def without(events: Sequence[dict[str, Any]], *types: str) -> list[dict[str, Any]]:
    return [event for event in events if event["type"].removeprefix("response.") not in types]


@pytest.mark.parametrize(
    "events",
    [
        without(TEXT, "output_text.delta"),
        without(TEXT, "output_text.delta", "output_text.done"),
        without(TEXT, "output_text.delta", "output_text.done", "output_item.done"),
        without(TEXT, "output_item.added"),
        without(TEXT, "output_item.added", "output_item.done", "output_text.done"),
        [TEXT[-1]],
        [*TEXT[:-1], {"type": "response.completed", "response": response()}],
        [*TEXT[:-1], {"type": "response.completed", "response": {"output": None, "usage": None}}],
        [*TEXT, *TEXT],
        [{"type": "keepalive"}, {"type": "response.queued"}, {"type": "response.new.thing", "delta": {}}, *TEXT],
        [{key: value for key, value in event.items() if key != "item_id"} for event in TEXT],
        [{key: value for key, value in event.items() if key != "output_index"} for event in TEXT],
        [{key: value for key, value in event.items() if key != "content_index"} for event in TEXT],
        # A gateway that makes up another id for each event.
        [event | ({"item_id": f"id{number}"} if "item_id" in event else {}) for number, event in enumerate(TEXT)],
        [event | {"unknown": None, "error": None} for event in TEXT],
    ],
)
def test_text_is_said_once_wherever_it_is(events: list[dict[str, Any]]) -> None:
    assert said(*events) == ["The ferry leaves at nine."]


def test_what_is_no_event_is_skipped() -> None:
    parts = event_stream(TEXT)
    noise = [b": ping\n\n", b"event: keepalive\ndata: {}\n\n", b"data: keepalive\n\n", b"data: [DONE]\n\n"]
    assert decode([part for each in parts for part in (*noise, each)]) == decode(parts)


def test_two_items_with_one_output_index_are_told_apart_by_their_ids() -> None:
    events = [
        *events_of(reasoning("Hm."), 0),
        *events_of(message("One."), 0),
        *events_of(call("tide", "{}", "call_a"), 0),
        *events_of(call("wind", '{"a": 1}', "call_b"), 0),
        {"type": "response.completed", "response": response()},
    ]
    assert said(*events) == [Reasoning("Hm."), "One.", ("tide", "{}"), ("wind", '{"a": 1}')]


TIDE = call("tide", '{"harbour": "Vik"}')
TIDES = stream(TIDE)
ARGUMENTS = "function_call_arguments"


@pytest.mark.parametrize(
    "events",
    [
        TIDES,
        without(TIDES, f"{ARGUMENTS}.delta"),
        without(TIDES, f"{ARGUMENTS}.delta", f"{ARGUMENTS}.done"),
        without(TIDES, f"{ARGUMENTS}.done", "output_item.done"),
        without(TIDES, "output_item.added"),
        [TIDES[-1]],
        [*TIDES[:-1], {"type": "response.completed", "response": response()}],
        [*TIDES[:-1], {"type": "response.completed", "response": response(TIDE | {"id": "other"})}],
        # Arguments in `added` alone.
        [{"type": "response.output_item.added", "output_index": 0, "item": TIDE}, {"type": "response.completed"}],
        # The complete item wins over its pieces.
        [
            event | ({"delta": '{"x"'} if event["type"] == f"response.{ARGUMENTS}.delta" else {})
            for event in without(TIDES, f"{ARGUMENTS}.done")
        ],
        [event | ({"item_id": f"id{number}"} if "item_id" in event else {}) for number, event in enumerate(TIDES)],
        [{key: value for key, value in event.items() if key != "output_index"} for event in TIDES],
        [*TIDES[:-1], *events_of(TIDE, 7), TIDES[-1]],
    ],
)
def test_a_call_is_asked_for_once_wherever_it_is(events: list[dict[str, Any]]) -> None:
    assert said(*events) == [("tide", '{"harbour": "Vik"}')]


def test_arguments_as_an_object_and_none_at_all() -> None:
    events = stream(call("a", "", "call_a"))
    whole = response(call("a", "", "call_a"), call("b", "", "call_b") | {"arguments": {"x": "é"}})
    assert said(*events[:-1], {"type": "response.completed", "response": whole}) == [("a", ""), ("b", '{"x":"é"}')]


@pytest.mark.asyncio
async def test_the_id_of_a_call_is_its_call_id(server: ScriptedServer, adapter: OpenAIResponsesAdapter) -> None:
    trip = await reply_to(server, adapter, *TIDES)
    assert calls_of(trip) == [("call_1", "tide", '{"harbour": "Vik"}')]


def test_reasoning_of_open_models_is_shown_and_parts_are_apart() -> None:
    item = reasoning("Short.", encrypted=None, content=[{"type": "reasoning_text", "text": "Long."}])
    assert said(*stream(item, message("Done."))) == [Reasoning("Short.\n\nLong."), "Done."]
    assert said(stream(item, message("Done."))[-1]) == [Reasoning("Short.\n\nLong."), "Done."]
    two = [reasoning("One.", "Two."), reasoning("Three.", id_="rs_2"), message("Done.")]
    assert said(*stream(*two)) == [Reasoning("One.\n\nTwo.\n\nThree."), "Done."]


def test_thinking_in_the_text_is_reasoning() -> None:
    assert said(*stream(message("<think>Hm.</think>Yes."))) == [Reasoning("Hm."), "Yes."]


# ── replies that are not what was asked for ──────────────────────────────────────────────────────────────


@pytest.mark.asyncio
async def test_a_body_in_place_of_a_stream_and_the_other_way_round(
    server: ScriptedServer, adapter: OpenAIResponsesAdapter
) -> None:
    server.enqueue(json_reply(TEXT[-1]["response"]))
    assert (await round_trip(adapter)).text == "The ferry leaves at nine."
    server.enqueue(event_stream(SCRIPTS["reasoning summary and calls"]))
    trip = await round_trip(adapter, stream=False)
    assert ([each.name for each in trip.calls], trip.end.finish_reason) == (["tide", "wind"], "tool_calls")


@pytest.mark.asyncio
@pytest.mark.parametrize("streamed", [True, False])
@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (b"", EmptyReplyError),
        (b": ping\n\n", EmptyReplyError),
        (b"<html>", ProtocolError),
        (b'{"choices": []}', ProtocolError),
        (b'{"object": "response", "output": [', IncompleteReplyError),
        (json.dumps(response(status="queued")).encode(), IncompleteReplyError),
        (b'{"error": {"message": "no"}}', ServerError),
    ],
)
async def test_what_is_no_reply_is_one_typed_error(
    server: ScriptedServer, adapter: OpenAIResponsesAdapter, body: bytes, kind: type[Exception], streamed: bool
) -> None:
    if body.startswith(b":") and not streamed:
        kind = ProtocolError
    server.enqueue(Reply([body]))
    trip = await round_trip(adapter, stream=streamed)
    assert type(trip.failure) is kind
    assert not trip.events


@pytest.mark.parametrize(
    ("escaped", "text"), [(r"\ud83d", "\ufffd"), (r"\ud83d\ude00", "😀"), (r"a\ude00", "a\ufffd")]
)
def test_half_a_surrogate_pair_does_not_fail_a_turn(escaped: str, text: str) -> None:
    part = '{"type": "message", "content": [{"type": "output_text", "text": "' + escaped + '"}]}'
    deltas = [
        '{"type": "response.output_text.delta", "delta": "' + escaped + '"}',
        '{"type": "response.completed", "response": {"output": [' + part + "]}}",
    ]
    assert decode([f"data: {line}\n\n".encode() for line in deltas])[0] == text
    assert decode([f"data: {deltas[1]}\n\n".encode()])[0] == text
    assert decode([('{"output": [' + part + "]}").encode()], streamed=False)[0] == text


NAMES = ["type", "delta", "item", "item_id", "output_index", "response", "output", "content", "text", "arguments"]
TYPES = sorted({event["type"] for script in SCRIPTS.values() for event in script})
VALUES = st.none() | st.booleans() | st.integers() | st.text(max_size=4)
VALUES |= st.sampled_from(["message", "function_call", "reasoning", "web_search_call", *TYPES])
JSONS = st.recursive(
    VALUES,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(NAMES), inner, max_size=5),
    max_leaves=14,
)
EVENTS = st.tuples(st.sampled_from(TYPES), st.dictionaries(st.sampled_from(NAMES), JSONS, max_size=6)).map(
    lambda pair: pair[1] | {"type": pair[0]}
)


@settings(max_examples=300)
@given(st.lists(EVENTS | JSONS.filter(lambda value: isinstance(value, dict)), max_size=5), cuts)
def test_any_events_at_all_end_in_a_typed_error_or_an_end(events: list[dict[str, Any]], at: list[int]) -> None:
    data = b"".join(event_stream(events))
    whole = decode([data], source=SOURCE)
    assert whole
    last = whole[-1]
    assert isinstance(last, RoundEnded) or (isinstance(last, tuple) and issubclass(last[0], ProviderError))
    again = decode(pieces(data, at), source=SOURCE)
    assert kinds(again)[-1:] == kinds(whole)[-1:] or isinstance(last, RoundEnded)
    decode([json.dumps(event).encode() for event in events[:1]], streamed=False, source=SOURCE)


@pytest.mark.parametrize("name", ["function_call", "message", "reasoning", "web_search_call"])
def test_more_items_than_any_model_sends_are_an_error(name: str) -> None:
    events = [
        {"type": "response.output_item.added", "item": {"type": name, "id": str(number), "name": "f"}}
        for number in range(5_001)
    ]
    assert kinds(decode(event_stream(events)))[-1] is ProtocolError


# ── steps of the provider's own tools ────────────────────────────────────────────────────────────────────

STEPS: dict[str, tuple[dict[str, Any], ServerToolStep]] = {
    "web search": (
        server_tool(
            "web_search_call",
            action={
                "type": "search",
                "query": "tide",
                "sources": [
                    {"type": "url", "url": "https://a.example"},
                    {"type": "url", "url": "https://b.example"},
                ],
            },
        ),
        ServerToolStep(
            "st_1",
            "web_search",
            "ok",
            '{"type":"search","query":"tide"}',
            "https://a.example\nhttps://b.example",
        ),
    ),
    "file search": (
        server_tool("file_search_call", queries=["tide"], results=[{"filename": "a.md", "text": "At four."}]),
        ServerToolStep("st_1", "file_search", "ok", '{"queries":["tide"]}', "a.md: At four."),
    ),
    "code": (
        server_tool(
            "code_interpreter_call",
            code="print(1)",
            container_id="c",
            outputs=[{"type": "logs", "logs": "1"}, {"type": "image", "url": "https://x"}],
        ),
        ServerToolStep("st_1", "code_interpreter", "ok", '{"code":"print(1)"}', "1\n<image>"),
    ),
    "image": (
        server_tool("image_generation_call", result="QUJD", revised_prompt="A tide", output_format="webp"),
        ServerToolStep(
            "st_1",
            "image_generation",
            "ok",
            '{"revised_prompt":"A tide","output_format":"webp"}',
            "<image/webp>",
        ),
    ),
    "mcp": (
        server_tool(
            "mcp_call", name="tide", server_label="sea", arguments='{"at":"Vik"}', output="2.4 m", error=None
        ),
        ServerToolStep(
            "st_1", "mcp", "ok", '{"name":"tide","server_label":"sea","arguments":{"at":"Vik"}}', "2.4 m"
        ),
    ),
    "mcp that failed": (
        server_tool("mcp_call", name="tide", arguments="{", output=None, error={"message": "no such tide"}),
        ServerToolStep("st_1", "mcp", "error", '{"name":"tide","arguments":"{"}', "no such tide"),
    ),
    "failed": (
        server_tool("web_search_call", status="failed", action=None),
        ServerToolStep("st_1", "web_search", "error"),
    ),
    "unknown": (
        server_tool("new_thing_call", call_id="c1", action="dig", output=[{"stdout": "ore"}]),
        ServerToolStep("st_1", "new_thing", "ok", '{"action":"dig"}', "ore"),
    ),
}


@pytest.mark.asyncio
@pytest.mark.parametrize("name", STEPS)
async def test_a_step_of_the_providers_own_tool_is_shown_when_it_begins_and_when_it_ends(
    name: str, server: ScriptedServer, adapter: OpenAIResponsesAdapter
) -> None:
    item, step = STEPS[name]
    trip = await reply_to(server, adapter, *stream(item, message("Done.")))
    assert steps_of(trip) == [ServerToolStep(step.tool_call_id, step.name, "running"), step]
    assert trip.calls == []
    assert trip.end.finish_reason == "stop"
    server.enqueue(json_reply(response(item, message("Done."))))
    assert steps_of(await round_trip(adapter, stream=False)) == [step]


def test_a_step_whose_end_is_not_told_ends_with_the_answer() -> None:
    events = without(stream(SEARCH, message("Done.")), "output_item.done")
    events[-1] = {"type": "response.completed", "response": response()}
    assert [event.status for event in said(*events) if isinstance(event, ServerToolStep)] == ["running", "ok"]


def test_a_tool_of_ours_is_no_step() -> None:
    custom = {"type": "custom_tool_call", "id": "c", "call_id": "c", "name": "f", "input": "x"}
    assert said(*stream(custom, message("Done."))) == ["Done."]


# ── what goes back ───────────────────────────────────────────────────────────────────────────────────────


def items_of(*output: dict[str, Any], **more: Any) -> Any:
    ends = []
    for blocks, streamed in (
        (event_stream(stream(*output, **more)), True),
        ([json.dumps(response(*output, **more)).encode()], False),
    ):
        end = decode(blocks, streamed=streamed, source=SOURCE)[-1]
        assert isinstance(end, RoundEnded)
        ends.append(end.provider_details)
    assert ends[0] == ends[1]
    assert decode(event_stream(stream(*output, **more)))[-1].provider_details is None
    if ends[0] is None:
        return None
    assert ends[0].source == SOURCE
    return ends[0].fields["items"]


def test_the_output_is_kept_in_order_with_opaque_items_as_they_came() -> None:
    thought = reasoning("Hm.")
    assert items_of(
        thought, SEARCH, message("One", "Two", phase="commentary"), TIDE, message("End", id_="m2")
    ) == [
        thought,
        SEARCH,
        {"type": "message", "size": 6, "phase": "commentary"},
        {"type": "function_call"},
        {"type": "message", "size": 3},
    ]


@pytest.mark.parametrize(
    "output",
    [
        [message("Hi")],
        [TIDE],
        [reasoning("Hm.", encrypted=None), message("Hi"), TIDE],
        [message("Hi", phase=None)],
    ],
)
def test_nothing_is_kept_of_an_output_without_opaque_items(output: list[dict[str, Any]]) -> None:
    assert items_of(*output) is None


def test_a_phase_alone_is_kept_and_reasoning_without_its_content_is_not() -> None:
    output = (reasoning(encrypted=None), message("Hi", phase="final_answer"))
    assert items_of(*output) == [{"type": "message", "size": 2, "phase": "final_answer"}]


def test_other_items_of_the_provider_go_back_too() -> None:
    listed = {"type": "mcp_list_tools", "id": "l", "server_label": "sea", "tools": []}
    assert items_of(listed, message("Hi")) == [listed, {"type": "message", "size": 2}]
