"""What else the standard allows and servers send: odd frames, chunks and tool calls, long lines, noise."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

import pytest
from family import ndjson, sse
from hypothesis import given, settings
from hypothesis import strategies as st
from test_wire import (
    OLLAMA_STREAMS,
    OPENAI_STREAMS,
    cuts,
    few,
    kinds,
    ollama,
    one_by_one,
    openai,
    pieces,
    split,
)

from createagents_nb.core.events import RoundEnded, Usage
from createagents_nb.errors import IncompleteReplyError, ProtocolError, ProviderError
from createagents_nb.providers import reply_decoder
from createagents_nb.providers.reply_decoder import NDJSONDecoder, SSEDecoder

pytestmark = pytest.mark.once

# ── frames ──


@pytest.mark.parametrize(
    ("stream", "payloads"),
    [
        (b"data: a\rdata: b\r\n\n", [b"a\nb"]),
        (b"data: a\r\ndata: b\n\r\n", [b"a\nb"]),
        (b":\n\ndata: a\n\n:\r\n\r\n", [b"a"]),
        (b"data\ndata: a\n\n", [b"\na"]),
        (b"nonsense without a colon\ndata: a\n\n", [b"a"]),
        (b" data: a\n\ndata : b\n\nDATA: c\n\ndata: d\n\n", [b"d"]),
        (b"data: \xef\xbb\xbfa\n\n", [b"\xef\xbb\xbfa"]),
        (b"\xef\xbb\xbf\xef\xbb\xbfdata: a\n\ndata: b\n\n", [b"b"]),
        (b"data: a\x00b\x0bc\xe2\x80\xa8d\n\n", [b"a\x00b\x0bc\xe2\x80\xa8d"]),
        (b"data: a\r", [b"a"]),
        (b"data: a\r\n\r", [b"a"]),
        (b"data: a:b: c\n\n", [b"a:b: c"]),
        (b"event: error\ndata: a\nid\nretry: x\n\n", [b"a"]),
    ],
)
def test_the_odder_parts_of_an_event_stream(stream: bytes, payloads: list[bytes]) -> None:
    assert split(SSEDecoder(), [stream]) == payloads
    assert split(SSEDecoder(), one_by_one(stream)) == payloads


def chunk(**delta_or_finish: Any) -> dict[str, Any]:
    finish = delta_or_finish.pop("finish", None)
    return {"choices": [{"index": 0, "delta": delta_or_finish, "finish_reason": finish}]}


def called(*pieces: dict[str, Any]) -> list[Any]:
    events = openai(sse(*(chunk(tool_calls=[piece]) for piece in pieces), chunk(finish="tool_calls")))
    assert isinstance(events.pop(), RoundEnded)
    return events


def piece(arguments: Any = None, name: str | None = None, **more: Any) -> dict[str, Any]:
    return {"function": {"name": name, "arguments": arguments}, **more}


CHUNKS: dict[str, tuple[list[Any], list[Any]]] = {
    "null content": ([chunk(content=None), chunk(content="Hi"), chunk(finish="stop")], ["Hi"]),
    "empty content": ([chunk(content=""), chunk(content="Hi"), chunk(content="", finish="stop")], ["Hi"]),
    "role alone": ([chunk(role="assistant"), chunk(content="Hi", finish="stop")], ["Hi"]),
    "role with null": ([chunk(role="assistant", content=None), chunk(content="Hi", finish="stop")], ["Hi"]),
    "no choices at first": (
        [{"choices": [], "prompt_filter_results": []}, chunk(content="Hi", finish="stop")],
        ["Hi"],
    ),
    "null choices": ([{"choices": None}, chunk(content="Hi", finish="stop")], ["Hi"]),
    "a choice without delta": ([{"choices": [{"index": 0}]}, chunk(content="Hi", finish="stop")], ["Hi"]),
    "null delta": ([{"choices": [{"delta": None}]}, chunk(content="Hi", finish="stop")], ["Hi"]),
    "unknown fields": (
        [{"object": 7, "timings": {"a": [1]}, **chunk(content="Hi", finish="stop", audio={"id": None})}],
        ["Hi"],
    ),
    "null error": ([{"error": None, **chunk(content="Hi", finish="stop")}], ["Hi"]),
    "two choices": (
        [{"choices": [{"delta": {"content": "Hi"}, "finish_reason": "stop"}, {"delta": {"content": "no"}}]}],
        ["Hi"],
    ),
    "parts": ([chunk(content=[{"type": "text", "text": "Hi"}, {"type": "x"}], finish="stop")], ["Hi"]),
    "empty text at last": ([chunk(content="Hi"), chunk(content="", finish="stop"), chunk()], ["Hi"]),
}


@pytest.mark.parametrize("name", CHUNKS)
def test_chunks_as_servers_send_them(name: str) -> None:
    chunks, said = CHUNKS[name]
    assert openai(sse(*chunks)) == [*said, RoundEnded("stop")]


@pytest.mark.parametrize(
    "reason", ["stop", "length", "tool_calls", "function_call", "content_filter", "eos", "abort", "error", "weird"]
)
def test_every_finish_reason_ends_an_answer_and_is_told(reason: str) -> None:
    assert openai(sse(chunk(content="Hi", finish=reason), done=False)) == ["Hi", RoundEnded(reason)]
    line = {"message": {"content": "Hi"}, "done": True, "done_reason": reason}
    assert ollama(ndjson(line)) == ["Hi", RoundEnded(reason)]


@pytest.mark.parametrize(
    ("usage", "expected"),
    [
        (None, Usage()),
        ({}, Usage()),
        ({"prompt_tokens": None}, Usage()),
        ({"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}, Usage(3, 2)),
        ({"prompt_tokens": 3, "prompt_tokens_details": {"cached_tokens": 1}}, Usage(3, cached_tokens=1)),
        ({"prompt_tokens": 3, "prompt_tokens_details": None}, Usage(3)),
        ({"completion_tokens": 2, "completion_tokens_details": {"reasoning_tokens": 1}}, Usage(None, 2, None, 1)),
    ],
)
def test_usage_wherever_it_is(usage: Any, expected: Usage) -> None:
    said, end = chunk(content="Hi"), chunk(finish="stop")
    assert openai(sse(said, end, {"choices": [], "usage": usage})) == ["Hi", RoundEnded("stop", expected)]
    assert openai(sse(said, {**end, "usage": usage})) == ["Hi", RoundEnded("stop", expected)]
    assert openai(sse({**said, "usage": None}, end, {"usage": usage})) == ["Hi", RoundEnded("stop", expected)]


CALLS: dict[str, tuple[list[dict[str, Any]], list[Any]]] = {
    "whole": ([piece('{"a": 1}', "f", index=0, id="x")], [("f", '{"a": 1}')]),
    "in pieces": (
        [piece("", "f", index=0, id="x"), piece('{"a"', index=0), piece(": 1}", index=0)],
        [("f", '{"a": 1}')],
    ),
    "without index": (
        [piece("", "f", id="x"), piece('{"a"'), piece(": 1}"), piece("{}", "g", id="y")],
        [("f", '{"a": 1}'), ("g", "{}")],
    ),
    "without id": (
        [piece('{"a"', "f", index=0), piece(": 1}", index=0), piece("{}", "g", index=1)],
        [("f", '{"a": 1}'), ("g", "{}")],
    ),
    "without index and id": ([piece("{}", "f"), piece('{"b": 2}', "g")], [("f", "{}"), ("g", '{"b": 2}')]),
    "the same tool twice, with nothing to tell apart": (
        [piece('{"a": 1}', "f"), piece('{"a": 2}', "f")],
        [("f", '{"a": 1}'), ("f", '{"a": 2}')],
    ),
    "interleaved": (
        [
            piece("", "f", index=0, id="x"),
            piece("", "g", index=1, id="y"),
            piece('{"a"', index=0),
            piece('{"b"', index=1),
            piece(": 1}", index=0),
            piece(": 2}", index=1),
        ],
        [("f", '{"a": 1}'), ("g", '{"b": 2}')],
    ),
    "one index, told apart by id": (
        [piece("{}", "f", index=0, id="x"), piece("{}", "g", index=0, id="y")],
        [("f", "{}"), ("g", "{}")],
    ),
    "a name in every piece": (
        [piece('{"a"', "f", index=0, id="x"), piece(": 1}", "f", index=0, id="x")],
        [("f", '{"a": 1}')],
    ),
    "invalid JSON": ([piece('{"a": ', "f", index=0, id="x")], [("f", '{"a": ')]),
    "arguments as an object": ([piece({"a": "é"}, "f", index=0, id="x")], [("f", '{"a": "é"}')]),
    "null arguments": ([piece(None, "f", index=0, id="x")], [("f", "")]),
    "null function": ([{"index": 0, "id": "x", "function": None}, piece("{}", "f", index=0)], [("f", "{}")]),
    "nothing in it": ([{"index": 0}], []),
}


@pytest.mark.parametrize("name", CALLS)
def test_tool_calls_as_servers_send_them(name: str) -> None:
    pieces, calls = CALLS[name]
    assert called(*pieces) == calls


def test_arguments_in_very_many_pieces_are_put_together_once() -> None:
    text = json.dumps({"text": "x" * 30_000})
    (call,) = called(piece("", "f", index=0, id="x"), *(piece(sign, index=0) for sign in text))
    assert call == ("f", text)


def test_more_tools_than_any_model_asks_for_are_an_error() -> None:
    assert called(*(piece("{}", "f", id=f"id{number}") for number in range(100))) == [("f", "{}")] * 100
    stream = sse(*(chunk(tool_calls=[piece("{}", "f", id=f"id{number}")]) for number in range(1_001)))
    assert kinds(openai(stream)) == [ProtocolError]


@pytest.mark.parametrize(
    ("escaped", "text"),
    [
        (r"\ud83d", "\ufffd"),
        (r"\ude00", "\ufffd"),
        (r"a\ud83dz", "a\ufffdz"),
        (r"\ud83d\ud83d\ude00", "\ufffd😀"),
        (r"\ude00\ud83d", "\ufffd\ufffd"),
        (r"\ud83d\u0041", "\ufffdA"),
        (r"\uD83D \n \"", '\ufffd \n "'),
        (r"\\ud83d \ud83d\ude00", "\\ud83d 😀"),
    ],
)
def test_half_a_surrogate_pair_does_not_fail_a_turn(escaped: str, text: str) -> None:
    stream = sse('{"choices":[{"delta":{"content":"<' + escaped + '>"},"finish_reason":"stop"}]}')
    assert openai(stream) == [f"<{text}>", RoundEnded("stop")]
    line = '{"message":{"content":"<' + escaped + '>"},"done":true,"done_reason":"stop"}'
    assert ollama(ndjson(line)) == [f"<{text}>", RoundEnded("stop")]
    whole = '{"choices":[{"message":{"content":"<' + escaped + '>"},"finish_reason":"stop"}]}'
    assert openai([whole.encode()], streamed=False) == [f"<{text}>", RoundEnded("stop")]
    text.encode()


def test_a_text_with_half_a_pair_that_is_broken_otherwise_is_still_an_error() -> None:
    assert kinds(openai(sse(r'{"choices":[{"delta":{"content":"\ud83d"}', done=False))) == [ProtocolError]
    assert kinds(openai([rb'{"choices":[{"message":{"content":"\ud83d'], streamed=False)) == [IncompleteReplyError]


@pytest.mark.parametrize(
    "deep", ['{"error":' + "[" * 100_000, '{"x":' * 100_000, r'{"a":"\ud83d","error":' + "[" * 100_000]
)
def test_what_is_nested_without_end_is_an_error_of_ours(deep: str) -> None:
    assert kinds(openai(sse(deep, done=False))) == [ProtocolError]
    assert kinds(ollama(ndjson(deep))) == [ProtocolError]
    assert kinds(openai([deep.encode()], streamed=False)) in ([ProtocolError], [IncompleteReplyError])


def test_keep_alive_comments_anywhere_are_nothing() -> None:
    ping = b": OPENROUTER PROCESSING\n\n"
    stream = [part for part in OPENAI_STREAMS["text"] for part in (ping, part)]
    assert openai([ping * 3, *stream, ping]) == openai(OPENAI_STREAMS["text"])
    assert ollama([b"\n", *OLLAMA_STREAMS["text"], b"\n \n"]) == ollama(OLLAMA_STREAMS["text"])


# ── long lines, and much of anything ─────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("splitter", [SSEDecoder, NDJSONDecoder])
def test_a_line_of_10_mb_is_whole_however_it_comes(splitter: type[SSEDecoder | NDJSONDecoder]) -> None:
    text = b"x" * (10 * 2**20)
    stream = b"data: " + text + b"\n\n" + b"data: more\n\n"
    payloads = [text, b"more"] if splitter is SSEDecoder else [b"data: " + text, b"data: more"]
    for size in (2**16, 1_400, len(stream)):
        blocks = [stream[at : at + size] for at in range(0, len(stream), size)]
        assert split(splitter(), blocks) == payloads


@pytest.mark.parametrize("splitter", [SSEDecoder, NDJSONDecoder])
def test_the_pieces_of_a_long_line_are_put_together_once(splitter: type[SSEDecoder | NDJSONDecoder]) -> None:
    running = splitter()
    running.feed(b"data: ")
    rests = set()
    for _ in range(1_000):
        running.feed(b"x" * 1_000)
        rests.add(id(running._rest))
    assert len(rests) <= 2  # it grows where it is


@few
@given(
    st.lists(
        st.sampled_from([b"\n", b"\r", b"\r\n", b"data: a", b"data:", b":", b"x", b"\xef\xbb\xbf"]), max_size=30
    ),
    cuts,
)
def test_any_cut_of_any_lines_gives_the_same_payloads(parts: list[bytes], at: list[int]) -> None:
    stream = b"".join(parts)
    for splitter in (SSEDecoder, NDJSONDecoder):
        assert split(splitter(), pieces(stream, at)) == split(splitter(), [stream])
        assert split(splitter(), one_by_one(stream)) == split(splitter(), [stream])


NAMES = [  # of fields in either format
    "choices",
    "delta",
    "message",
    "content",
    "tool_calls",
    "function",
    "name",
    "arguments",
    "index",
    "id",
    "usage",
    "error",
    "finish_reason",
    "prompt_tokens",
    "prompt_tokens_details",
    "model",
    "reasoning",
    "done",
    "done_reason",
    "thinking",
    "eval_count",
]
JSONS = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(NAMES), inner, max_size=4),
    max_leaves=12,
)


@settings(max_examples=150)
@given(st.lists(JSONS, max_size=4), cuts)
def test_any_json_at_all_ends_in_a_typed_error_or_an_end(payloads: list[Any], at: list[int]) -> None:
    for stream, decode_ in ((b"".join(sse(*payloads)), openai), (b"".join(ndjson(*payloads)), ollama)):
        whole = decode_([stream])
        assert whole
        last = whole[-1]
        assert isinstance(last, RoundEnded) or (isinstance(last, tuple) and issubclass(last[0], ProviderError))
        assert kinds(decode_(pieces(stream, at))) == kinds(whole)


@few
@given(st.sampled_from([*OPENAI_STREAMS]), st.integers(0, 4000), st.binary(min_size=1, max_size=4), cuts)
def test_a_stream_with_garbage_in_it_is_read_the_same_however_it_is_cut(
    name: str, place: int, garbage: bytes, at: list[int]
) -> None:
    stream = b"".join(OPENAI_STREAMS[name])
    place %= len(stream) + 1
    stream = stream[:place] + garbage + stream[place:]
    assert openai(pieces(stream, at)) == openai([stream])


def test_a_stream_that_says_nothing_for_ever_ends_in_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reply_decoder, "MAX_SILENT_BYTES", 2**20)

    def pings() -> Iterable[bytes]:
        while True:
            yield b": ping\n\n" * 1_000

    assert kinds(openai(pings())) == [ProtocolError]
