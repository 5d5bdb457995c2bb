"""Replies that real servers sent, replayed over HTTP: what a client makes of each of them."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from family import ScriptedServer, Trip, json_reply, recorded, round_trip

from createagents_nb.errors import (
    AuthenticationError,
    ContextLengthError,
    EmptyReplyError,
    InvalidRequestError,
    ModelNotFoundError,
    ProtocolError,
    ProviderError,
    ServerError,
)
from createagents_nb.providers.ollama_adapter import OllamaChatAdapter
from createagents_nb.providers.openai_adapter import OpenAIChatAdapter

pytestmark = pytest.mark.once

HELLO = "Hello, this is a scripted reply.\nSecond line."
CODE = 'Try:\n\n```python\nprint("hi")\n```\n'
PARIS = ("get_weather", {"city": "Paris", "days": 3})
OSLO = ("get_weather", {"city": "Oslo", "days": 3})


@dataclass(frozen=True)
class Reply:
    """What a client should make of a reply."""

    text: str = ""
    calls: tuple[tuple[str, dict[str, Any]], ...] = ()
    reasoning: str = ""
    finish: str = "stop"
    tokens: tuple[int | None, int | None, int | None] = (None, None, None)  # input, output, cached


@dataclass(frozen=True)
class Error:
    kind: type[ProviderError]
    status: int | None
    words: str


def tokens(reply: Reply, *counts: int | None) -> Reply:
    known: Any = (*counts, None, None)[:3]
    return Reply(reply.text, reply.calls, reply.reasoning, reply.finish, known)


hello, length = Reply(HELLO), Reply("tick tock tick tock tick", finish="length")
thought = Reply("Answer: 42", reasoning="First I think.\n")
one_call = Reply(calls=(PARIS,), finish="tool_calls")
two_calls = Reply(calls=(PARIS, OSLO), finish="tool_calls")
say_then_call = Reply("Let me look.\n", (PARIS,), finish="tool_calls")
loaded = Error(EmptyReplyError, None, "only (un)?loaded the model")
overlong = Error(ContextLengthError, 400, r"longer than the model's context .*1024 tokens")

LLAMA_SERVER: dict[str, Reply | Error] = {
    "code_stream": Reply(CODE),
    "emoji_stream": Reply("Café 🎉 done"),
    "empty_stream": Reply(),
    "length_plain": tokens(length, 24, 5, 23),
    "length_stream": length,
    "malformed_json": Error(ServerError, 500, "unexpected end of input"),
    "missing_messages": Error(InvalidRequestError, 400, "'messages' is required"),
    "models": Error(ProtocolError, None, "no choices.*Check base_url"),
    "overlong_plain": overlong,
    "overlong_stream": overlong,
    "plain": tokens(hello, 22, 12, 21),
    "stream": hello,
    "stream_usage": tokens(hello, 22, 12, 21),
    "think_plain": tokens(thought, 25, 10, 24),
    "think_stream": thought,
    "tool_result_stream": Reply("It is sunny in Paris."),
    "tools_bad_tool_stream": one_call,
    "tools_plain": tokens(one_call, 476, 13, 475),
    "tools_required_stream": one_call,
    "tools_say_then_call_stream": say_then_call,
    "tools_stream": one_call,
    "tools_two_calls_stream": two_calls,
    "unknown_model_plain": tokens(hello, 22, 12, 21),
    "unknown_model_stream": hello,
    "unknown_role": hello,
    "wrong_method": Error(InvalidRequestError, 404, "File Not Found.*Check base_url"),
    "wrong_path": Error(InvalidRequestError, 404, "File Not Found.*Check base_url"),
    "wrong_type": Error(InvalidRequestError, 400, "Expected 'messages' to be an array"),
}
no_model = Error(ModelNotFoundError, 404, "no model 'm'.*Available: tiny-plain, tiny-scripted")
OLLAMA_V1: dict[str, Reply | Error] = {
    "code_stream": Reply(CODE),
    "emoji_stream": Reply("Café 🎉 done"),
    "empty_stream": Reply(),
    "length_plain": tokens(length, 25, 5),
    "length_stream": length,
    "malformed_json": Error(InvalidRequestError, 400, "unexpected EOF"),
    "missing_messages": Error(InvalidRequestError, 400, "too short - 'messages'"),
    "models": Error(ProtocolError, None, "no choices.*Check base_url"),
    "overlong_plain": tokens(hello, 515, 12),
    "overlong_stream": hello,
    "plain": tokens(hello, 23, 12),
    "stream": hello,
    "stream_usage": tokens(hello, 23, 12),
    "think_plain": tokens(thought, 26, 10),
    "think_stream": thought,
    "tool_result_stream": Reply("It is sunny in Paris."),
    "tools_bad_tool_stream": Reply(),
    "tools_plain": tokens(one_call, 338, 13),
    "tools_required_stream": one_call,
    "tools_say_then_call_stream": say_then_call,
    "tools_stream": one_call,
    "tools_two_calls_stream": two_calls,
    "unknown_model_plain": no_model,
    "unknown_model_stream": no_model,
    "unknown_role": hello,
    "wrong_method": Error(InvalidRequestError, 405, "405 method not allowed"),
    "wrong_path": Error(InvalidRequestError, 404, "404 page not found.*Check base_url"),
    "wrong_type": Error(InvalidRequestError, 400, "cannot unmarshal string"),
}


def stopped(reply: Reply) -> Reply:
    """Ollama's own API says ``stop`` for tool calls too."""
    return Reply(reply.text, reply.calls, reply.reasoning, "stop" if reply.calls else reply.finish)


not_ollama_chat = Error(ProtocolError, None, "")
OLLAMA: dict[str, Reply | Error] = {
    "bad_option": Error(ServerError, 500, "must be of type float32"),
    "code_stream": tokens(Reply(CODE), 25, 10),
    "emoji_stream": tokens(Reply("Café 🎉 done"), 26, 10),
    "empty_body": Error(InvalidRequestError, 400, "missing request body"),
    "empty_stream": tokens(Reply(), 26, 1),
    "length_stream": tokens(length, 25, 5),
    "malformed_json": Error(InvalidRequestError, 400, "unexpected EOF"),
    "missing_model": Error(InvalidRequestError, 400, "model is required"),
    "no_messages": loaded,
    "overlong_no_truncate_plain": overlong,
    "overlong_no_truncate_stream": overlong,
    "overlong_plain": tokens(hello, 515, 12),
    "overlong_stream": tokens(hello, 515, 12),
    "plain": tokens(hello, 23, 12),
    "ps": not_ollama_chat,
    "root": Error(ProtocolError, None, "Ollama is running"),
    "show": not_ollama_chat,
    "show_unknown": no_model,
    "stream": tokens(hello, 23, 12),
    "tags": not_ollama_chat,
    # Asked not to think, the model did all the same: the tags are in the text.
    "think_False_stream": tokens(Reply("Answer: 42", reasoning="\nFirst I think.\n"), 26, 10),
    "think_None_stream": tokens(thought, 26, 10),
    "think_True_stream": tokens(thought, 26, 10),
    "think_unsupported": Error(InvalidRequestError, 400, "does not support thinking"),
    "tool_result_stream": tokens(Reply("It is sunny in Paris."), 464, 5),
    "tool_result_string_arguments": Error(InvalidRequestError, 400, "can't find closing"),
    "tools_bad_tool_stream": tokens(Reply(), 339, 4),
    "tools_plain": tokens(stopped(one_call), 338, 13),
    "tools_say_then_call_stream": tokens(stopped(say_then_call), 344, 9),
    "tools_stream": tokens(stopped(one_call), 338, 13),
    "tools_two_calls_stream": tokens(stopped(two_calls), 340, 16),
    "tools_unsupported": Error(InvalidRequestError, 400, "does not support tools"),
    "unknown_model_plain": no_model,
    "unknown_model_stream": no_model,
    "unknown_role": tokens(hello, 25, 12),
    "unload": loaded,
    "version": not_ollama_chat,
    "wrong_method": Error(InvalidRequestError, 405, "405 method not allowed"),
    "wrong_path": Error(InvalidRequestError, 404, "404 page not found.*Check base_url"),
    "wrong_type": Error(InvalidRequestError, 400, "cannot unmarshal string"),
}
OLLAMA_JINJA: dict[str, Reply | Error] = OLLAMA | {
    "code_stream": tokens(Reply(CODE), 24, 10),
    "emoji_stream": tokens(Reply("Café 🎉 done"), 25, 10),
    "empty_stream": tokens(Reply(), 25, 1),
    "length_stream": tokens(length, 24, 5),
    "overlong_plain": overlong,
    "overlong_stream": overlong,
    "plain": tokens(hello, 22, 12),
    "stream": tokens(hello, 22, 12),
    "think_False_stream": tokens(thought, 25, 10),
    "think_None_stream": tokens(thought, 25, 10),
    "think_True_stream": tokens(thought, 25, 10),
    "tool_result_stream": tokens(Reply("It is sunny in Paris."), 611, 5),
    "tools_bad_tool_stream": tokens(stopped(one_call), 477, 10),
    "tools_plain": tokens(stopped(one_call), 476, 13),
    "tools_say_then_call_stream": tokens(stopped(say_then_call), 482, 9),
    "tools_stream": tokens(stopped(one_call), 476, 13),
    "tools_two_calls_stream": tokens(stopped(two_calls), 478, 16),
    "unknown_role": tokens(hello, 24, 12),
}
refused = Error(AuthenticationError, 401, "Invalid API Key.*OPENAI_API_KEY")
SERVERS: dict[str, dict[str, Reply | Error]] = {
    "llama-server": LLAMA_SERVER,
    "llama-server-api-key": {"plain": refused, "stream": refused},
    "ollama": OLLAMA,
    "ollama-jinja": OLLAMA_JINJA,
    "ollama-v1": OLLAMA_V1,
}
CASES = [(name, case) for name, cases in SERVERS.items() for case in cases]


def test_every_recorded_reply_is_replayed(shared_data: Path) -> None:
    files = [(file.parent.name, file.stem) for file in (shared_data / "wire").glob("*/*.txt")]
    assert sorted(files) == sorted(CASES)


def is_buffered(reply: bytes) -> bool:
    """One JSON object: what the server sends when no stream was asked for, or when it refuses."""
    return b"event-stream" not in reply and b"ndjson" not in reply


@pytest.mark.parametrize(("name", "case"), CASES)
@pytest.mark.asyncio
async def test_recorded_reply(name: str, case: str, shared_data: Path, server: ScriptedServer) -> None:
    file = shared_data / "wire" / name / f"{case}.txt"
    models = ["tiny-scripted", "tiny-plain"]
    server.on("/v1/models", json_reply({"data": [{"id": model} for model in models]}))
    server.on("/api/tags", json_reply({"models": [{"name": model} for model in models]}))
    adapter: OllamaChatAdapter | OpenAIChatAdapter
    if name in ("ollama", "ollama-jinja"):
        adapter = OllamaChatAdapter(base_url=server.url, max_retries=0)
    else:
        adapter = OpenAIChatAdapter(base_url=server.openai_url, api_key="key-1234", max_retries=0)
    # A stream that was not asked for is no case of these servers; a buffered reply to a stream is.
    for stream in (True, False) if is_buffered(file.read_bytes()) else (True,):
        expected = SERVERS[name][case]
        for _ in range(2 if expected is loaded else 1):  # asked for again
            server.enqueue(recorded(file))
        trip = await round_trip(adapter, stream=stream)
        if isinstance(expected, Error):
            check_error(trip, expected)
        else:
            timings = timings_in(file.read_bytes())
            has_load = name.startswith("ollama") and name != "ollama-v1"
            check_reply(trip, expected, timings, has_load=has_load, has_times=has_load or timings is not None)


def check_error(trip: Trip, expected: Error) -> None:
    error = trip.failure
    assert isinstance(error, expected.kind)
    assert error.status_code == expected.status
    assert error.provider in ("openai", "ollama")
    assert re.search(expected.words, str(error)), str(error)
    assert trip.events == []


def timings_in(reply: bytes) -> dict[str, int] | None:
    """The last ``timings`` of a reply of llama.cpp's."""
    found = re.findall(rb'"timings":\s*(\{[^}]*\})', reply)
    return json.loads(found[-1]) if found else None


def check_reply(
    trip: Trip, expected: Reply, timings: dict[str, int] | None, *, has_load: bool, has_times: bool
) -> None:
    end, usage = trip.end, trip.end.usage
    assert (trip.text, trip.reasoning, end.finish_reason) == (expected.text, expected.reasoning, expected.finish)
    assert tuple((call.name, json.loads(call.arguments)) for call in trip.calls) == expected.calls
    assert len({call.tool_call_id for call in trip.calls}) == len(expected.calls)
    assert all(call.tool_call_id for call in trip.calls)
    tokens = expected.tokens
    if timings is not None and tokens == (None, None, None):
        read, written = timings["prompt_n"] + timings["cache_n"], timings["predicted_n"]
        tokens = read, written, timings["cache_n"]
    assert (usage.input_tokens, usage.output_tokens, usage.cached_tokens) == tokens
    assert end.model == "tiny-scripted"
    assert (end.first_output_at is not None) == bool(expected.text or expected.calls)
    is_timed = has_times and expected.finish not in ("load", "unload")
    assert all((seconds is not None) == is_timed for seconds in (usage.prompt_eval_s, usage.eval_s))
    assert (usage.load_s is not None) == (has_load and is_timed)
