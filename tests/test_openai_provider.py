"""Chat Completions over the real SDK and real HTTP: what is sent, and what is made of every shape of reply."""

from __future__ import annotations

import json
import threading
from typing import Any

import openai
import pytest
from family import Reply, ScriptedServer, Trip, delta, json_reply, round_trip, sse

from createagents_nb import tool
from createagents_nb.core.events import Reasoning, RoundEnded, ToolCallRequested, Usage, cost_in_usd
from createagents_nb.core.messages import Message
from createagents_nb.core.provider import ChatRequest
from createagents_nb.errors import ConfigurationError, IncompleteReplyError, MissingKeyError
from createagents_nb.providers.openai_adapter import OpenAIChatAdapter, OpenAIHandler, OpenAIStreamHandler
from createagents_nb.providers.openai_request import build_body
from createagents_nb.providers.servers import OPENAI

CHAT = "/v1/chat/completions"
DONE = delta(finish="stop")


@tool
def weather(city: str, days: int = 1) -> str:
    """The weather of a city.

    Args:
        city: its name
        days: how many
    """
    return f"{city}: sunny for {days} days"


@pytest.fixture
def adapter(server: ScriptedServer) -> OpenAIChatAdapter:
    return OpenAIChatAdapter(base_url=server.openai_url, api_key="key-1234", max_retries=0)


async def reply_to(server: ScriptedServer, *chunks: Any, done: bool = True) -> Trip:
    server.enqueue(sse(*chunks, done=done))
    return await round_trip(OpenAIChatAdapter(base_url=server.openai_url, api_key="key-1234", max_retries=0))


def call(index: int | None, id_: str | None, name: str | None, arguments: Any) -> dict[str, Any]:
    function = {key: value for key, value in (("name", name), ("arguments", arguments)) if value is not None}
    piece = {"index": index, "id": id_, "function": function, "type": "function"}
    return {key: value for key, value in piece.items() if value is not None}


# ── requests as they are sent ────────────────────────────────────────────────────────────────────────────


@pytest.mark.asyncio
async def test_a_whole_conversation_is_sent_as_the_format_has_it(
    server: ScriptedServer, adapter: OpenAIChatAdapter
) -> None:
    server.enqueue(sse(delta("ok"), DONE))
    asked = (ToolCallRequested("a", "weather", '{"city": "Oslo"}'), ToolCallRequested("b", "weather", ""))
    await round_trip(
        adapter,
        Message("system", "Be brief."),
        Message("user", "Weather?"),
        Message("assistant", "", tool_calls=asked),
        Message("tool", "rain", tool_call_id="a", name="weather"),
        Message("tool", "sun", tool_call_id="b", name="weather"),
        Message("assistant", "Rain and sun."),
        Message("user", "Thanks"),
        model="some-model",
        tools=[weather],
    )
    (request,) = server.requests
    assert (request.method, request.path) == ("POST", CHAT)
    assert request.headers["authorization"] == "Bearer key-1234"
    assert request.json == {
        "model": "some-model",
        "stream": True,
        "stream_options": {"include_usage": True},
        "messages": [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": "Weather?"},
            {
                "role": "assistant",
                "content": None,
                "tool_calls": [
                    {
                        "id": "a",
                        "type": "function",
                        "function": {"name": "weather", "arguments": '{"city": "Oslo"}'},
                    },
                    {"id": "b", "type": "function", "function": {"name": "weather", "arguments": "{}"}},
                ],
            },
            {"role": "tool", "tool_call_id": "a", "content": "rain"},
            {"role": "tool", "tool_call_id": "b", "content": "sun"},
            {"role": "assistant", "content": "Rain and sun."},
            {"role": "user", "content": "Thanks"},
        ],
        "tools": [
            {
                "type": "function",
                "function": {
                    "name": "weather",
                    "description": weather.description,
                    "parameters": dict(weather.parameters),
                },
            }
        ],
    }
    assert set(weather.parameters["properties"]) == {"city", "days"}


@pytest.mark.asyncio
async def test_config_becomes_the_keys_of_the_format(server: ScriptedServer, adapter: OpenAIChatAdapter) -> None:
    server.enqueue(sse(delta("ok"), DONE))
    config: dict[str, Any] = {
        "temperature": 0,
        "top_p": 0.5,
        "seed": 7,
        "stop": ["END"],
        "max_tokens": 9,
        "think": "low",
    }
    await round_trip(adapter, **config, extra={"top_k": 3, "metadata": {"a": 1}})
    body = server.requests[0].json
    del body["messages"], body["model"], body["stream"], body["stream_options"]
    assert body == {
        "temperature": 0,
        "top_p": 0.5,
        "seed": 7,
        "stop": ["END"],
        "max_tokens": 9,
        "reasoning_effort": "low",
        "top_k": 3,
        "metadata": {"a": 1},
    }


@pytest.mark.parametrize(("think", "effort"), [(True, "medium"), (False, "none"), ("high", "high")])
def test_think_is_called_reasoning_effort(think: bool | str, effort: str) -> None:
    request = ChatRequest("m", [Message("user", "Hello")], config={"think": think})
    assert build_body(request, OPENAI)["reasoning_effort"] == effort


def test_only_openai_itself_calls_the_limit_max_completion_tokens(server: ScriptedServer) -> None:
    request = ChatRequest("m", [Message("user", "Hello")], config={"max_tokens": 9})
    itself, other = OpenAIChatAdapter(api_key="k"), OpenAIChatAdapter(base_url=server.openai_url)
    sent = itself._body(request)
    assert (sent.get("max_completion_tokens"), sent.get("max_tokens")) == (9, None)
    sent = other._body(request)
    assert (sent.get("max_completion_tokens"), sent.get("max_tokens")) == (None, 9)


def test_a_host_that_looks_like_openai_is_not_openai() -> None:
    assert not OpenAIChatAdapter(base_url="https://api.openai.com.example.org/v1").is_openai_itself
    assert not OpenAIChatAdapter(base_url="https://example.org/api.openai.com/v1").is_openai_itself


@pytest.mark.asyncio
async def test_a_client_of_ones_own_is_used_as_it_is(server: ScriptedServer) -> None:
    server.enqueue(sse(delta("ok"), DONE))
    async with openai.AsyncOpenAI(base_url=server.openai_url, api_key="own-key") as client:
        adapter = OpenAIChatAdapter(client=client)
        assert not adapter.is_openai_itself
        trip = await round_trip(adapter, max_tokens=9)
        assert not client.is_closed()
    assert trip.text == "ok"
    assert server.requests[0].headers["authorization"] == "Bearer own-key"
    assert server.requests[0].json["max_tokens"] == 9


@pytest.mark.asyncio
async def test_address_and_key_come_from_the_environment(
    server: ScriptedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_BASE_URL", server.openai_url + "/")
    monkeypatch.setenv("OPENAI_API_KEY", "environment-key\n")
    server.enqueue(sse(delta("ok"), DONE))
    assert (await round_trip(OpenAIChatAdapter())).text == "ok"
    assert server.requests[0].headers["authorization"] == "Bearer environment-key"
    server.enqueue(sse(delta("ok"), DONE))
    await round_trip(OpenAIChatAdapter(api_key="argument-key"))
    assert server.requests[1].headers["authorization"] == "Bearer argument-key"


def test_openai_itself_needs_a_key_and_says_where_it_goes() -> None:
    with pytest.raises(MissingKeyError, match=r"OPENAI_API_KEY.*api_key=.*demo.*ollama"):
        OpenAIChatAdapter()


@pytest.mark.parametrize("key", ["clé-1234", "key\x00-1234", "key\n-1234", "“key-1234”"])
def test_a_key_that_cannot_travel_in_a_header_is_refused_without_being_shown(key: str) -> None:
    with pytest.raises(ConfigurationError, match="copy it again") as caught:
        OpenAIChatAdapter(api_key=key)
    assert key not in str(caught.value)


@pytest.mark.parametrize("url", ["127.0.0.1:8080/v1", "ftp://example.org", "http://", "example.org"])
def test_an_address_that_is_none_is_refused(url: str) -> None:
    with pytest.raises(ConfigurationError, match="base_url must be like http://"):
        OpenAIChatAdapter(base_url=url)


def test_neither_repr_nor_attributes_in_it_show_the_key() -> None:
    assert "key-1234" not in repr(OpenAIChatAdapter(api_key="key-1234"))


@pytest.mark.asyncio
async def test_half_a_surrogate_pair_can_be_sent(server: ScriptedServer, adapter: OpenAIChatAdapter) -> None:
    server.enqueue(sse(delta("ok"), DONE))
    trip = await round_trip(
        adapter,
        Message("user", "file \udcff"),
        Message("assistant", "", tool_calls=(ToolCallRequested("a", "f", '{"x": "\ud83d"}'),)),
        Message("tool", "\ud83d", tool_call_id="a"),
    )
    assert trip.text == "ok"
    assert [message["content"] for message in server.requests[0].json["messages"]] == ["file ?", None, "?"]


# ── buffered ─────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.asyncio
async def test_stream_false_sends_and_reads_a_buffered_request(
    server: ScriptedServer, adapter: OpenAIChatAdapter
) -> None:
    message = {
        "role": "assistant",
        "content": "Hi",
        "reasoning_content": "hm",
        "tool_calls": [call(None, "a", "weather", '{"city": "Oslo"}')],
    }
    usage = {
        "prompt_tokens": 5,
        "completion_tokens": 4,
        "prompt_tokens_details": {"cached_tokens": 3},
        "completion_tokens_details": {"reasoning_tokens": 2},
    }
    body = {"model": "real", "choices": [{"message": message, "finish_reason": "tool_calls"}], "usage": usage}
    server.enqueue(json_reply(body))
    trip = await round_trip(adapter, stream=False)
    assert "stream" not in server.requests[0].json
    assert "stream_options" not in server.requests[0].json
    assert (trip.text, trip.reasoning) == ("Hi", "hm")
    assert trip.calls == [ToolCallRequested("a", "weather", '{"city": "Oslo"}')]
    assert trip.end.usage == Usage(5, 4, 3, 2)
    assert (trip.end.finish_reason, trip.end.model) == ("tool_calls", "real")


@pytest.mark.parametrize("indent", [None, 2])
@pytest.mark.asyncio
async def test_a_buffered_reply_to_a_stream_is_read(
    server: ScriptedServer, adapter: OpenAIChatAdapter, indent: int | None
) -> None:
    body = {"choices": [{"message": {"content": "<think>hm</think>Hi"}, "finish_reason": "stop"}]}
    server.enqueue(json_reply(json.dumps(body, indent=indent).replace("\n", "\n\n").encode()))
    trip = await round_trip(adapter)
    assert server.requests[0].json["stream"] is True
    assert (trip.text, trip.reasoning, trip.end.finish_reason) == ("Hi", "hm", "stop")


@pytest.mark.asyncio
async def test_content_in_parts_is_text(server: ScriptedServer) -> None:
    parts = [{"type": "text", "text": "Hi "}, {"type": "image"}, {"type": "text", "text": "there"}, {"text": None}]
    assert (await reply_to(server, delta("I say: "), delta(parts), DONE)).text == "I say: Hi there"  # type: ignore[arg-type]


@pytest.mark.asyncio
async def test_a_refusal_is_text(server: ScriptedServer) -> None:
    assert (await reply_to(server, delta(refusal="I will not."), DONE)).text == "I will not."


# ── first and last chunks ────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "first",
    [
        [{"choices": [{"delta": {"role": "assistant", "content": None}}]}],
        [delta("", role="assistant")],
        [delta(role="assistant")],
        [delta(role="assistant", content="")],
        [{"choices": [{"delta": None}]}],
        [{"choices": [{}]}],
        [{"choices": []}],
        [{"choices": None}],
        [{}],
        [{"id": "a", "choices": [{"delta": {"role": "assistant"}, "finish_reason": ""}], "service_tier": "x"}],
        [],
    ],
)
@pytest.mark.asyncio
async def test_first_chunks_of_every_shape(server: ScriptedServer, first: list[Any]) -> None:
    trip = await reply_to(server, *first, delta("Hel"), delta("lo"), DONE)
    assert (trip.text, trip.reasoning, trip.end.finish_reason) == ("Hello", "", "stop")
    assert len([event for event in trip.events if isinstance(event, str)]) == 2


@pytest.mark.asyncio
async def test_text_in_the_first_chunk_and_reasoning_before_the_role(
    server: ScriptedServer,
) -> None:
    assert (await reply_to(server, delta("Hello", role="assistant"), DONE)).text == "Hello"
    trip = await reply_to(server, delta(reasoning_content="hm"), delta("", role="assistant"), delta("Hi"), DONE)
    assert (trip.text, trip.reasoning) == ("Hi", "hm")


@pytest.mark.asyncio
async def test_chunks_without_finish_reason_and_with_fields_of_their_own(server: ScriptedServer) -> None:
    bare = [{"choices": [{"delta": {"content": text}}], "token_ids": [1], "timings": {"n": 1}} for text in "Hi"]
    trip = await reply_to(server, *bare, {"choices": [{"delta": {}, "finish_reason": "length"}]})
    assert (trip.text, trip.end.finish_reason) == ("Hi", "length")


@pytest.mark.asyncio
async def test_no_done_mark_is_no_error_after_a_finish_reason(server: ScriptedServer) -> None:
    assert (await reply_to(server, delta("Hi"), DONE, done=False)).end.finish_reason == "stop"


@pytest.mark.asyncio
async def test_no_finish_reason_is_no_error_after_a_done_mark(server: ScriptedServer) -> None:
    trip = await reply_to(server, {"choices": [{"index": 0, "delta": {"content": "Hi"}}]})
    assert (trip.text, trip.end.finish_reason) == ("Hi", None)


@pytest.mark.asyncio
async def test_a_finish_reason_that_stays_null_ends_no_answer(server: ScriptedServer) -> None:
    trip = await reply_to(server, delta("Hi"))
    assert (trip.text, type(trip.failure)) == ("Hi", IncompleteReplyError)


@pytest.mark.asyncio
async def test_the_model_that_answers_may_have_another_name(server: ScriptedServer) -> None:
    trip = await reply_to(server, delta("Hi") | {"model": "real-1"}, DONE | {"model": "real-2"})
    assert trip.end.model == "real-1"


@pytest.mark.asyncio
async def test_the_first_output_is_the_first_text_or_tool_call(server: ScriptedServer) -> None:
    assert (await reply_to(server, delta(reasoning="hm"), DONE)).end.first_output_at is None
    assert (
        await reply_to(server, delta(tool_calls=[call(0, "a", "f", "{}")]), DONE)
    ).end.first_output_at is not None
    assert (await reply_to(server, delta("Hi"), DONE)).end.first_output_at is not None
    assert (await reply_to(server, delta("<th"), DONE)).end.first_output_at is not None


@pytest.mark.asyncio
async def test_a_rate_needs_tokens_that_came_one_after_another(server: ScriptedServer) -> None:
    held = threading.Event()
    server.enqueue([*sse(delta(reasoning="hm"), done=False), held, *sse(delta("Hi"), DONE)])
    adapter = OpenAIChatAdapter(base_url=server.openai_url)
    events = adapter.round_trip(ChatRequest(model="m", messages=[Message("user", "hi")]))
    assert await anext(events) == Reasoning("hm")
    held.set()
    *_, end = [event async for event in events]
    assert isinstance(end, RoundEnded)
    assert end.generation_s is not None
    server.enqueue(json_reply({"choices": [{"message": {"content": "Hi"}, "finish_reason": "stop"}]}))
    buffered = await round_trip(adapter, stream=False)
    assert buffered.end.generation_s is None


# ── usage ────────────────────────────────────────────────────────────────────────────────────────────────

COUNTS = {"prompt_tokens": 5, "completion_tokens": 4, "total_tokens": 9}


@pytest.mark.parametrize(
    "last",
    [
        [DONE, {"choices": [], "usage": COUNTS}],
        [DONE, {"usage": COUNTS}],
        [DONE, delta() | {"usage": COUNTS}],
        [DONE | {"usage": COUNTS}],
        [DONE | {"usage": COUNTS | {"prompt_tokens_details": None, "completion_tokens_details": {}}}],
        [delta("") | {"usage": {"prompt_tokens": 5, "completion_tokens": 1}}, DONE | {"usage": COUNTS}],
        [DONE | {"usage": COUNTS}, {"choices": [], "usage": None}],
    ],
)
@pytest.mark.asyncio
async def test_usage_is_found_wherever_it_stands(server: ScriptedServer, last: list[Any]) -> None:
    assert (await reply_to(server, delta("Hi"), *last)).end.usage == Usage(5, 4)


@pytest.mark.parametrize(
    ("cost", "cost_usd"),
    [
        ("0.00423", 0.00423),
        ("0", 0.0),
        ("2", 2.0),
        ("-0.5", None),
        ("null", None),
        ("true", None),
        ('"0.1"', None),
        ('{"total_cost": 0.1}', None),
    ],
)
@pytest.mark.asyncio
async def test_the_cost_is_taken_where_it_is_a_number_of_dollars(
    server: ScriptedServer, cost: str, cost_usd: float | None
) -> None:
    usage = f'{{"choices": [], "usage": {{"prompt_tokens": 5, "completion_tokens": 4, "cost": {cost}}}}}'
    assert (await reply_to(server, delta("Hi"), DONE, usage)).end.usage == Usage(5, 4, cost_usd=cost_usd)


@pytest.mark.parametrize("odd", [float("nan"), float("inf"), -1, True, "1", None, 10**400])
def test_what_cannot_be_a_cost_is_unknown(odd: object) -> None:
    assert cost_in_usd(odd) is None


@pytest.mark.asyncio
async def test_usage_that_never_comes_is_unknown_and_not_zero(server: ScriptedServer) -> None:
    assert (await reply_to(server, delta("Hi"), DONE)).end.usage == Usage()


# ── tool calls ───────────────────────────────────────────────────────────────────────────────────────────


TOOL_CALLS: dict[str, tuple[list[list[Any]], list[tuple[str | None, str, str]]]] = {
    "in pieces": (
        [[call(0, "a", "f", "")], [call(0, None, None, '{"x":')], [call(0, None, None, " 1}")]],
        [("a", "f", '{"x": 1}')],
    ),
    "whole": ([[call(0, "a", "f", '{"x": 1}')]], [("a", "f", '{"x": 1}')]),
    "first piece without arguments": (
        [[call(0, "a", "f", None)], [call(0, None, None, '{"x": 1}')]],
        [("a", "f", '{"x": 1}')],
    ),
    "without any arguments": ([[call(0, "a", "f", None)]], [("a", "f", "")]),
    "two, by index": (
        [
            [call(0, "a", "f", "")],
            [call(1, "b", "g", "")],
            [call(0, None, None, "{}")],
            [call(1, None, None, '{"y": 2}')],
        ],
        [("a", "f", "{}"), ("b", "g", '{"y": 2}')],
    ),
    "two whole ones that share index 0": (
        [[call(0, "a", "f", '{"x": 1}')], [call(0, "b", "f", '{"x": 2}')]],
        [("a", "f", '{"x": 1}'), ("b", "f", '{"x": 2}')],
    ),
    "two in pieces that share index 0": (
        [
            [call(0, "a", "f", '{"x"')],
            [call(0, None, None, ": 1}")],
            [call(0, "b", "f", '{"x"')],
            [call(0, None, None, ": 2}")],
        ],
        [("a", "f", '{"x": 1}'), ("b", "f", '{"x": 2}')],
    ),
    "two that share index 0, every piece with its id": (
        [
            [call(0, "a", "f", '{"x"'), call(0, "b", "g", '{"y"')],
            [call(0, "a", None, ": 1}"), call(0, "b", None, ": 2}")],
        ],
        [("a", "f", '{"x": 1}'), ("b", "g", '{"y": 2}')],
    ),
    "one delta, two entries of one index": (
        [[call(0, "a", "f", ""), call(0, None, None, '{"x": 1}')]],
        [("a", "f", '{"x": 1}')],
    ),
    "every piece with an id made up for it": (
        [[call(0, "a", "f", "")], [call(0, "b", None, '{"x":')], [call(0, "c", None, " 1}")]],
        [("a", "f", '{"x": 1}')],
    ),
    "the id comes late": (
        [[call(0, None, "f", "")], [call(0, "a", None, '{"x": 1}')]],
        [("a", "f", '{"x": 1}')],
    ),
    "the name comes late": (
        [[call(0, "a", None, "")], [call(0, None, "f", '{"x": 1}')]],
        [("a", "f", '{"x": 1}')],
    ),
    "the name in every piece": (
        [[call(0, "a", "f", '{"x"')], [call(0, "a", "f", ": 1}")], [call(0, "a", "f", "")]],
        [("a", "f", '{"x": 1}')],
    ),
    "empty ids": ([[call(0, "", "f", '{"x"')], [call(0, "", "", ": 1}")]], [(None, "f", '{"x": 1}')]),
    "missing ids": (
        [[call(0, None, "f", "{}"), call(1, None, "f", "{}")]],
        [(None, "f", "{}"), (None, "f", "{}")],
    ),
    "no ids and no indices": (
        [[call(None, None, "f", '{"x": 1}')], [call(None, None, "f", '{"x": 2}')]],
        [(None, "f", '{"x": 1}'), (None, "f", '{"x": 2}')],
    ),
    "no ids, no indices, no arguments": (
        [[call(None, None, "f", None), call(None, None, "g", None)]],
        [(None, "f", ""), (None, "g", "")],
    ),
    "no ids, whole, sharing index 0": (
        [[call(0, None, "f", "{}")], [call(0, None, "f", '{"x": 2}')]],
        [(None, "f", "{}"), (None, "f", '{"x": 2}')],
    ),
    "two of one id": (
        [[call(0, "a", "f", "{}")], [call(1, "a", "g", "{}")]],
        [("a", "f", "{}"), (None, "g", "{}")],
    ),
    "two of one id in pieces": (
        [
            [call(0, "a", "f", "")],
            [call(1, "a", "g", "")],
            [call(0, None, None, "{}")],
            [call(1, "a", None, '{"x": ')],
            [call(1, None, None, "1}")],
        ],
        [("a", "f", "{}"), (None, "g", '{"x": 1}')],
    ),
    "arguments as an object": ([[call(0, "a", "f", {"x": "é"})]], [("a", "f", '{"x": "é"}')]),
    "broken JSON": ([[call(0, "a", "f", '{"x": ')]], [("a", "f", '{"x": ')]),
    "an empty piece": ([[{}], [call(0, "a", "f", "{}")]], [("a", "f", "{}")]),
}


@pytest.mark.parametrize("finish", ["tool_calls", "stop"])
@pytest.mark.parametrize("shape", TOOL_CALLS)
@pytest.mark.asyncio
async def test_tool_calls_of_every_shape(server: ScriptedServer, shape: str, finish: str) -> None:
    deltas, expected = TOOL_CALLS[shape]
    chunks = [delta(tool_calls=pieces) | {"id": f"chunk-{number}"} for number, pieces in enumerate(deltas)]
    trip = await reply_to(server, delta("So: "), *chunks, delta(finish=finish))
    assert [(known.name, known.arguments) for known in trip.calls] == [(name, text) for _, name, text in expected]
    for got, (id_, _, _) in zip(trip.calls, expected, strict=True):
        assert got.tool_call_id == id_ or (id_ is None and got.tool_call_id)
    assert len({known.tool_call_id for known in trip.calls}) == len(expected)
    assert (trip.text, trip.end.finish_reason) == ("So: ", finish)


@pytest.mark.asyncio
async def test_a_call_that_the_server_left_in_the_text_stays_there(server: ScriptedServer) -> None:
    text = '<tool_call>{"name": "f", "arguments": {}}</tool_call>'
    trip = await reply_to(server, *(delta(sign) for sign in text), DONE)
    assert (trip.text, trip.calls) == (text, [])


# ── reasoning and text ───────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("field", ["reasoning_content", "reasoning", "thinking"])
@pytest.mark.asyncio
async def test_reasoning_under_each_of_its_names(server: ScriptedServer, field: str) -> None:
    trip = await reply_to(server, delta("", **{field: "h"}), delta(**{field: "m"}), delta("Hi"), DONE)
    assert trip.events[:3] == [Reasoning("h"), Reasoning("m"), "Hi"]


@pytest.mark.asyncio
async def test_reasoning_sent_under_two_names_is_taken_once(server: ScriptedServer) -> None:
    assert (await reply_to(server, delta(reasoning="hm", reasoning_content="hm"), DONE)).reasoning == "hm"


@pytest.mark.asyncio
async def test_the_delta_in_which_reasoning_ends_and_text_begins(server: ScriptedServer) -> None:
    trip = await reply_to(server, delta(reasoning_content="h"), delta("Hi", reasoning_content="m"), DONE)
    assert trip.events[:3] == [Reasoning("h"), Reasoning("m"), "Hi"]


@pytest.mark.asyncio
async def test_raw_think_tags_are_taken_out_of_the_text(server: ScriptedServer) -> None:
    trip = await reply_to(
        server, *(delta(piece) for piece in ("<thi", "nk>h", "m</", "think>\n", "\nHi <b>")), DONE
    )
    assert (trip.text, trip.reasoning) == ("Hi <b>", "hm")


@pytest.mark.asyncio
async def test_characters_cut_between_two_packets(server: ScriptedServer, adapter: OpenAIChatAdapter) -> None:
    chunk = json.dumps(delta("é🎉"), ensure_ascii=False).encode()
    place = chunk.index("🎉".encode()) + 2
    rest = threading.Event()
    server.enqueue([b"data: " + chunk[:place], rest, chunk[place:] + b"\n\n", *sse(DONE)])
    threading.Timer(0.02, rest.set).start()
    assert (await round_trip(adapter)).text == "é🎉"


@pytest.mark.asyncio
async def test_escapes_are_decoded(server: ScriptedServer) -> None:
    escaped = r'{"choices":[{"delta":{"content":"\u003cb\u003e \ud83c\udf89 \u00e9"}}]}'
    assert (await reply_to(server, delta("I say "), escaped, DONE)).text == "I say <b> 🎉 é"


# ── handlers and models ──────────────────────────────────────────────────────────────────────────────────


@pytest.mark.asyncio
async def test_the_handlers_work_with_a_client_of_the_sdk(server: ScriptedServer) -> None:
    messages = [{"role": "user", "content": "Hello"}]
    async with openai.AsyncOpenAI(base_url=server.openai_url, api_key="k", max_retries=0) as client:
        server.enqueue(sse(delta(reasoning="hm"), delta("H"), delta("i"), DONE))
        streamed = OpenAIStreamHandler().handle_streaming(client, "m", messages, temperature=0)
        assert [token async for token in streamed] == ["H", "i"]
        server.enqueue(json_reply({"choices": [{"message": {"content": "Hi"}, "finish_reason": "stop"}]}))
        assert await OpenAIHandler().handle_non_streaming(client, "m", messages, stream=True) == "Hi"
    assert server.requests[0].json == {"model": "m", "messages": messages, "temperature": 0, "stream": True}
    assert server.requests[1].json == {"model": "m", "messages": messages}


@pytest.mark.asyncio
async def test_models_are_listed_sorted(server: ScriptedServer, adapter: OpenAIChatAdapter) -> None:
    server.enqueue(json_reply({"object": "list", "data": [{"id": "b", "extra": 1}, {"id": "a"}]}))
    assert await adapter.models() == ["a", "b"]
    assert (server.requests[0].method, server.requests[0].path) == ("GET", "/v1/models")


@pytest.mark.asyncio
async def test_a_stream_of_known_length_is_read(server: ScriptedServer, adapter: OpenAIChatAdapter) -> None:
    body = b"".join(sse(delta("Hi"), DONE))
    server.enqueue(Reply([body], headers={"content-type": "text/event-stream", "content-length": str(len(body))}))
    assert (await round_trip(adapter)).text == "Hi"
