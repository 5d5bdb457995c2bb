"""Ollama's own API over the real SDK and real HTTP: what is sent, and what is made of every shape of reply."""

from __future__ import annotations

import json
import threading
from typing import Any

import ollama
import pytest
from family import Reply, ScriptedServer, Trip, json_reply, ndjson, round_trip

from createagents_nb import tool
from createagents_nb.core.events import Reasoning, ToolCallRequested, Usage
from createagents_nb.core.messages import Message
from createagents_nb.errors import ConfigurationError, EmptyReplyError
from createagents_nb.providers.ollama_adapter import OllamaChatAdapter, OllamaHandler, OllamaStreamHandler

END = {"model": "m", "message": {"role": "assistant", "content": ""}, "done": True, "done_reason": "stop"}
NDJSON = {"content-type": "application/x-ndjson"}


@tool
def weather(city: str) -> str:
    """The weather of a city."""
    return f"{city}: sunny"


def says(content: str = "", **more: Any) -> dict[str, Any]:
    return {"model": "m", "message": {"role": "assistant", "content": content, **more}, "done": False}


def asks(name: str, arguments: Any, **more: Any) -> dict[str, Any]:
    return {"function": {"name": name, "arguments": arguments, "index": 0}, **more}


@pytest.fixture
def adapter(server: ScriptedServer) -> OllamaChatAdapter:
    return OllamaChatAdapter(base_url=server.url, max_retries=0)


async def reply_to(server: ScriptedServer, *lines: Any) -> Trip:
    server.enqueue(Reply(ndjson(*lines), headers=NDJSON))
    return await round_trip(OllamaChatAdapter(base_url=server.url, max_retries=0))


# ── requests as they are sent ────────────────────────────────────────────────────────────────────────────


@pytest.mark.asyncio
async def test_a_whole_conversation_is_sent_as_the_format_has_it(
    server: ScriptedServer, adapter: OllamaChatAdapter
) -> None:
    server.enqueue(Reply(ndjson(says("ok"), END), headers=NDJSON))
    asked = (ToolCallRequested("a", "weather", '{"city": "Oslo"}'), ToolCallRequested("b", "weather", ""))
    await round_trip(
        adapter,
        Message("system", "Be brief."),
        Message("user", "Weather?"),
        Message("assistant", "Let me look.", tool_calls=asked),
        Message("tool", "rain", tool_call_id="a", name="weather"),
        Message("tool", "sun", tool_call_id="b", name="weather"),
        model="llama3.2",
        tools=[weather],
    )
    (request,) = server.requests
    assert (request.method, request.path) == ("POST", "/api/chat")
    assert request.headers["content-type"] == "application/json"
    assert "authorization" not in request.headers
    assert request.json == {
        "model": "llama3.2",
        "stream": True,
        "messages": [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": "Weather?"},
            {
                "role": "assistant",
                "content": "Let me look.",
                "tool_calls": [
                    {"id": "a", "function": {"name": "weather", "arguments": {"city": "Oslo"}}},
                    {"id": "b", "function": {"name": "weather", "arguments": {}}},
                ],
            },
            {"role": "tool", "content": "rain", "tool_name": "weather", "tool_call_id": "a"},
            {"role": "tool", "content": "sun", "tool_name": "weather", "tool_call_id": "b"},
        ],
        "tools": [
            {
                "type": "function",
                "function": {
                    "name": "weather",
                    "description": "The weather of a city.",
                    "parameters": dict(weather.parameters),
                },
            }
        ],
    }


@pytest.mark.parametrize(
    ("written", "sent"),
    [('{"x": ', {"invalid_json": '{"x": '}), ("[1]", {"value": [1]}), ("null", {"value": None})],
)
@pytest.mark.asyncio
async def test_arguments_go_back_as_an_object_whatever_the_model_wrote(
    server: ScriptedServer, adapter: OllamaChatAdapter, written: str, sent: dict[str, Any]
) -> None:
    server.enqueue(Reply(ndjson(says("ok"), END), headers=NDJSON))
    await round_trip(adapter, Message("assistant", "", tool_calls=(ToolCallRequested("a", "f", written),)))
    (message,) = server.requests[0].json["messages"]
    assert message["tool_calls"][0]["function"]["arguments"] == sent


@pytest.mark.asyncio
async def test_config_becomes_options_and_extra_is_passed_through(
    server: ScriptedServer, adapter: OllamaChatAdapter
) -> None:
    server.enqueue(Reply(ndjson(says("ok"), END), headers=NDJSON))
    config: dict[str, Any] = {
        "temperature": 0,
        "top_p": 0.5,
        "top_k": 3,
        "seed": 7,
        "stop": "END",
        "num_ctx": 2048,
    }
    extra = {"keep_alive": "5m", "truncate": False, "options": {"num_gpu": 1, "top_k": 4}}
    await round_trip(adapter, **config, max_tokens=9, think="high", extra=extra)
    body = server.requests[0].json
    del body["messages"], body["model"], body["stream"]
    assert body == {
        "think": "high",
        "keep_alive": "5m",
        "truncate": False,
        "options": {
            "temperature": 0,
            "top_p": 0.5,
            "top_k": 4,
            "seed": 7,
            "stop": ["END"],
            "num_ctx": 2048,
            "num_predict": 9,
            "num_gpu": 1,
        },
    }


@pytest.mark.parametrize("think", [True, False])
@pytest.mark.asyncio
async def test_think_is_sent_only_when_asked_for(
    server: ScriptedServer, adapter: OllamaChatAdapter, think: bool
) -> None:
    for config in ({"think": think}, {}):
        server.enqueue(Reply(ndjson(says("ok"), END), headers=NDJSON))
        await round_trip(adapter, **config)  # type: ignore[arg-type]
    assert server.requests[0].json["think"] is think
    assert "think" not in server.requests[1].json
    assert "options" not in server.requests[1].json


@pytest.mark.asyncio
async def test_half_a_surrogate_pair_can_be_sent(server: ScriptedServer, adapter: OllamaChatAdapter) -> None:
    server.enqueue(Reply(ndjson(says("ok"), END), headers=NDJSON))
    asked = (ToolCallRequested("a", "f", '{"x": "\\ud83d"}'),)
    trip = await round_trip(adapter, Message("user", "file \udcff é"), Message("assistant", "", tool_calls=asked))
    assert trip.text == "ok"
    assert server.requests[0].json["messages"][0]["content"] == "file \udcff é"


# ── address and key ──────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.asyncio
async def test_the_address_comes_from_the_environment_as_it_is_now(
    server: ScriptedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    with ScriptedServer() as second:
        for each, host in ((server, f"127.0.0.1:{server.port}"), (second, second.url + "/")):
            monkeypatch.setenv("OLLAMA_HOST", host)
            each.enqueue(Reply(ndjson(says("ok"), END), headers=NDJSON))
            assert (await round_trip(OllamaChatAdapter())).text == "ok"
        assert (len(server.requests), len(second.requests)) == (1, 1)


@pytest.mark.asyncio
async def test_the_argument_goes_before_the_environment(server: ScriptedServer) -> None:
    assert "127.0.0.1:1" in repr(OllamaChatAdapter())
    assert (await reply_to(server, says("ok"), END)).text == "ok"


@pytest.mark.asyncio
async def test_a_path_in_the_address_is_kept(server: ScriptedServer) -> None:
    server.enqueue(Reply(ndjson(says("ok"), END), headers=NDJSON))
    assert (await round_trip(OllamaChatAdapter(base_url=server.url + "/box/"))).text == "ok"
    assert server.requests[0].path == "/box/api/chat"


@pytest.mark.parametrize("host", ["ftp://box", "http://box:port", "a box", "http://[::1"])
def test_an_address_that_is_none_is_refused(host: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigurationError, match=r"OLLAMA_HOST.*must be like http://127.0.0.1:11434"):
        OllamaChatAdapter(base_url=host)
    monkeypatch.setenv("OLLAMA_HOST", host)
    with pytest.raises(ConfigurationError, match="OLLAMA_HOST"):
        OllamaChatAdapter()


@pytest.mark.asyncio
async def test_a_key_is_sent_from_the_argument_or_the_environment(
    server: ScriptedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OLLAMA_API_KEY", "environment-key\n")
    for key, sent in ((None, "environment-key"), ("argument-key", "argument-key")):
        server.enqueue(Reply(ndjson(says("ok"), END), headers=NDJSON))
        adapter = OllamaChatAdapter(base_url=server.url, api_key=key)
        await round_trip(adapter)
        assert server.requests[-1].headers["authorization"] == f"Bearer {sent}"
        assert sent not in repr(adapter)


@pytest.mark.asyncio
async def test_a_client_of_ones_own_is_used_as_it_is(server: ScriptedServer) -> None:
    server.enqueue(Reply(ndjson(says("ok"), END), headers=NDJSON))
    async with ollama.AsyncClient(host=server.url, headers={"x-mine": "yes"}) as client:
        assert (await round_trip(OllamaChatAdapter(client=client))).text == "ok"
    assert server.requests[0].headers["x-mine"] == "yes"


# ── replies ──────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.asyncio
async def test_stream_false_sends_and_reads_a_buffered_request(
    server: ScriptedServer, adapter: OllamaChatAdapter
) -> None:
    message = {"content": "Hi", "thinking": "hm", "tool_calls": [asks("weather", {"city": "Oslo"}, id="a")]}
    server.enqueue(json_reply(END | {"message": message, "eval_count": 4}))
    trip = await round_trip(adapter, stream=False)
    assert server.requests[0].json["stream"] is False
    assert (trip.text, trip.reasoning) == ("Hi", "hm")
    assert trip.calls == [ToolCallRequested("a", "weather", '{"city": "Oslo"}')]
    assert trip.end.usage == Usage(output_tokens=4)


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.asyncio
async def test_a_server_that_ignores_stream_is_read(
    server: ScriptedServer, adapter: OllamaChatAdapter, stream: bool
) -> None:
    server.enqueue(
        Reply(ndjson(says("H"), says("i"), END)) if not stream else json_reply(END | says("Hi") | {"done": True})
    )
    trip = await round_trip(adapter, stream=stream)
    assert (trip.text, trip.end.finish_reason) == ("Hi", "stop")


@pytest.mark.asyncio
async def test_counts_and_durations_are_kept_in_tokens_and_seconds(server: ScriptedServer) -> None:
    counts = {"prompt_eval_count": 26, "eval_count": 282}
    durations = {"load_duration": 1_500_000_000, "prompt_eval_duration": 250_000_000, "eval_duration": 4_000_000}
    trip = await reply_to(
        server, says("Hi"), END | counts | durations | {"total_duration": 5, "done_reason": "length"}
    )
    assert trip.end.usage == Usage(26, 282, load_s=1.5, prompt_eval_s=0.25, eval_s=0.004)
    assert (trip.end.finish_reason, trip.end.model) == ("length", "m")


@pytest.mark.asyncio
async def test_usage_that_never_comes_is_unknown_and_not_zero(server: ScriptedServer) -> None:
    assert (await reply_to(server, says("Hi"), END)).end.usage == Usage()


@pytest.mark.asyncio
async def test_a_reply_that_only_loads_the_model_is_asked_for_again_once(
    server: ScriptedServer, adapter: OllamaChatAdapter
) -> None:
    loaded = json_reply(END | {"done_reason": "load"})
    for reply in (loaded, ndjson(says("Hi"), END), loaded, loaded):
        server.enqueue(reply)
    trip = await round_trip(adapter)
    assert (trip.text, trip.end.retries, len(server.requests)) == ("Hi", 1, 2)
    trip = await round_trip(adapter)
    assert (trip.text, type(trip.failure), len(server.requests)) == ("", EmptyReplyError, 4)
    assert "only loaded the model" in str(trip.failure)


TOOL_CALLS: dict[str, tuple[list[Any], list[tuple[str | None, str, str]]]] = {
    "in a chunk of its own": (
        [says(tool_calls=[asks("f", {"x": 1}, id="a")]), END],
        [("a", "f", '{"x": 1}')],
    ),
    "in the done chunk": (
        [END | {"message": {"content": "", "tool_calls": [asks("f", {"x": 1}, id="a")]}}],
        [("a", "f", '{"x": 1}')],
    ),
    "two in two chunks": (
        [says(tool_calls=[asks("f", {}, id="a")]), says(tool_calls=[asks("g", {}, id="b")]), END],
        [("a", "f", "{}"), ("b", "g", "{}")],
    ),
    "two in one chunk": (
        [says(tool_calls=[asks("f", {"x": 1}, id="a"), asks("f", {"x": 2}, id="b")]), END],
        [("a", "f", '{"x": 1}'), ("b", "f", '{"x": 2}')],
    ),
    "without ids": (
        [says(tool_calls=[asks("f", {}), asks("f", {}, id="")]), END],
        [(None, "f", "{}"), (None, "f", "{}")],
    ),
    "without arguments": ([says(tool_calls=[{"function": {"name": "f"}}]), END], [(None, "f", "{}")]),
    "arguments as a string": (
        [says(tool_calls=[asks("f", '{"x": 1}', id="a")]), END],
        [("a", "f", '{"x": 1}')],
    ),
    "arguments that are not ASCII": (
        [says(tool_calls=[asks("f", {"x": "é🎉"}, id="a")]), END],
        [("a", "f", '{"x": "é🎉"}')],
    ),
    "none after all": ([says(tool_calls=[]), says(tool_calls=None), END], []),
}


@pytest.mark.parametrize("shape", TOOL_CALLS)
@pytest.mark.asyncio
async def test_tool_calls_of_every_shape(server: ScriptedServer, shape: str) -> None:
    lines, expected = TOOL_CALLS[shape]
    trip = await reply_to(server, says("So: "), *lines)
    assert [(call.name, call.arguments) for call in trip.calls] == [(name, text) for _, name, text in expected]
    for call, (id_, _, _) in zip(trip.calls, expected, strict=True):
        assert call.tool_call_id == id_ or (id_ is None and call.tool_call_id)
    assert len({call.tool_call_id for call in trip.calls}) == len(expected)
    assert (trip.text, trip.end.finish_reason) == ("So: ", "stop")


@pytest.mark.asyncio
async def test_thinking_is_reasoning(server: ScriptedServer) -> None:
    trip = await reply_to(server, says(thinking="h"), says("Hi", thinking="m"), END)
    assert trip.events[:3] == [Reasoning("h"), Reasoning("m"), "Hi"]


@pytest.mark.asyncio
async def test_raw_think_tags_are_taken_out_of_the_text(server: ScriptedServer) -> None:
    pieces = ("<think>", "\nh", "m", "\n</think>", "\n\n", "Hi", " <think>")
    trip = await reply_to(server, *(says(piece) for piece in pieces), END)
    assert (trip.text, trip.reasoning) == ("Hi <think>", "\nhm\n")


@pytest.mark.asyncio
async def test_the_first_output_is_the_first_text_or_tool_call(server: ScriptedServer) -> None:
    assert (await reply_to(server, says(thinking="hm"), END)).end.first_output_at is None
    assert (await reply_to(server, says(tool_calls=[asks("f", {})]), END)).end.first_output_at is not None
    assert (await reply_to(server, says("Hi"), END)).end.first_output_at is not None
    assert (await reply_to(server, says("<th"), END)).end.first_output_at is not None


@pytest.mark.asyncio
async def test_the_generation_time_is_what_the_server_says(server: ScriptedServer) -> None:
    end = END | {"eval_count": 8, "eval_duration": 95_000_000}
    assert (await reply_to(server, says(tool_calls=[asks("f", {})]), end)).end.generation_s == 0.095


@pytest.mark.asyncio
async def test_characters_cut_between_two_packets(server: ScriptedServer, adapter: OllamaChatAdapter) -> None:
    line = json.dumps(says("é🎉"), ensure_ascii=False).encode()
    place = line.index("🎉".encode()) + 2
    rest = threading.Event()
    server.enqueue(Reply([line[:place], rest, line[place:] + b"\n", *ndjson(END)], headers=NDJSON))
    threading.Timer(0.02, rest.set).start()
    assert (await round_trip(adapter)).text == "é🎉"


@pytest.mark.asyncio
async def test_escapes_are_decoded(server: ScriptedServer) -> None:
    line = r'{"message":{"content":"\u003cb\u003e \ud83c\udf89 \u00e9"},"done":false}'
    assert (await reply_to(server, line, END)).text == "<b> 🎉 é"


# ── handlers and models ──────────────────────────────────────────────────────────────────────────────────


@pytest.mark.asyncio
async def test_the_handlers_work_with_a_client_of_the_sdk(server: ScriptedServer) -> None:
    messages = [{"role": "user", "content": "Hello"}]
    async with ollama.AsyncClient(host=server.url) as client:
        server.enqueue(Reply(ndjson(says(thinking="hm"), says("H"), says("i"), END), headers=NDJSON))
        streamed = OllamaStreamHandler().handle_streaming(client, "m", messages, options={"seed": 1})
        assert [token async for token in streamed] == ["H", "i"]
        server.enqueue(json_reply(END | {"message": {"content": "Hi"}}))
        assert await OllamaHandler().handle_non_streaming(client, "m", messages) == "Hi"
    assert server.requests[0].json == {"model": "m", "messages": messages, "options": {"seed": 1}, "stream": True}
    assert server.requests[1].json == {"model": "m", "messages": messages, "stream": False}


@pytest.mark.asyncio
async def test_models_are_listed_sorted(server: ScriptedServer, adapter: OllamaChatAdapter) -> None:
    server.enqueue(json_reply({"models": [{"name": "b:latest", "size": 1}, {"name": "a:1b"}]}))
    assert await adapter.models() == ["a:1b", "b:latest"]
    assert (server.requests[0].method, server.requests[0].path) == ("GET", "/api/tags")
