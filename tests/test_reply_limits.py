"""A reply costs in proportion to its length, and what has no weight in it takes nothing from the answer."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from itertools import pairwise
from typing import Any

import pytest
from family import delta, ndjson, sse
from hypothesis import given
from test_wire import cuts, error_line, few, kinds, ollama, one_by_one, openai, pieces
from test_wire_variants import called, chunk, piece

from createagents_nb.core.events import Event, Reasoning, RoundEnded, Usage
from createagents_nb.errors import EmptyReplyError, IncompleteReplyError, ProtocolError, ProviderError, ServerError
from createagents_nb.providers import reply_decoder, tool_call_pieces
from createagents_nb.providers.error_mapping import status_error
from createagents_nb.providers.ollama_reply import OllamaReplyDecoder
from createagents_nb.providers.openai_reply import OpenAIReplyDecoder
from createagents_nb.providers.reply_decoder import ThinkingSplitter
from createagents_nb.providers.transport_errors import cleaned_json

pytestmark = pytest.mark.once

HI = chunk(content="Hi", finish="stop")
DONE = {"message": {"content": "Hi"}, "done": True, "done_reason": "stop"}

# ── tool calls ───────────────────────────────────────────────────────────────────────────────────────────


class Parsed:
    """Stands in for ``json`` in the decoder, and counts what it is given."""

    def __init__(self) -> None:
        self.characters = self.calls = 0

    def loads(self, text: str) -> Any:
        self.characters += len(text)
        self.calls += 1
        return json.loads(text)

    dumps = staticmethod(json.dumps)


@pytest.fixture
def parsed(monkeypatch: pytest.MonkeyPatch) -> Parsed:
    counter = Parsed()
    monkeypatch.setattr(tool_call_pieces, "json", counter)
    return counter


@pytest.mark.parametrize("end", ["x", "}", '"}'])
def test_arguments_that_come_with_a_name_in_every_piece_are_not_parsed_again_and_again(
    end: str, parsed: Parsed
) -> None:
    text = '{"a": "' + "x" * 1_000
    calls = called(piece(text, "f", index=0, id="x"), *[piece(end, "f", index=0, id="x")] * 500)
    assert "".join(arguments for _, arguments in calls).startswith(text + end)
    assert parsed.characters < 3 * len(text)


def test_arguments_are_parsed_once_where_they_close(parsed: Parsed) -> None:
    text = json.dumps({"a": [{"b": "} \\"}, {"c": '"{'}], "d": "\\"})
    assert called(*(piece(sign, "f", index=0) for sign in text)) == [("f", text)]
    assert called(*(piece(sign, "f") for sign in text + text)) == [("f", text)] * 2
    assert parsed.calls <= 2


@pytest.mark.parametrize("text", ["[{}]", "1{}", "{}}", '"{}"', "{x}", "{} x"])
def test_what_is_no_object_is_no_whole_call(text: str) -> None:
    assert called(piece(text, "f"), piece("{}", "f")) == [("f", text + "{}")]


@pytest.mark.parametrize("blanks", ["", " ", "\n\t"])
def test_blanks_behind_whole_arguments_are_part_of_them(blanks: str) -> None:
    pieces_ = [piece('{"a": 1}', "f"), piece(blanks), piece(blanks, "f"), piece("{}", "f")]
    assert called(*pieces_) == [("f", '{"a": 1}' + blanks * 2), ("f", "{}")]


def test_the_call_of_a_piece_is_looked_up_and_not_looked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    looked_at = 0

    class Watched(tool_call_pieces.PendingCall):
        def __getattribute__(self, name: str) -> Any:
            nonlocal looked_at
            looked_at += 1
            return super().__getattribute__(name)

    monkeypatch.setattr(tool_call_pieces, "PendingCall", Watched)
    whole = [piece("{}", "f", id=f"id{number}", index=number) for number in range(500)]
    more = [{"id": "unknown"}, {"id": "id7"}, {"index": 7}, {"index": 7, "id": "id8"}] * 500
    assert called(*whole, *more) == [("f", "{}")] * 500
    assert looked_at < 20 * (len(whole) + len(more))


def test_the_arguments_of_one_call_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reply_decoder, "MAX_ARGUMENTS", 1_000)
    fine = piece("x" * 900, "f", id="x")
    assert called(fine, piece("y" * 900, "g", id="y")) == [("f", "x" * 900), ("g", "y" * 900)]
    long = openai(sse(*(chunk(tool_calls=[one]) for one in (fine, piece("x" * 101, id="x")))))
    assert kinds(long) == [ProtocolError]
    assert re.search("arguments.*Try again", long[0][1])
    arguments = {"text": "x" * 1_000}
    line = {"message": {"tool_calls": [{"function": {"name": "f", "arguments": arguments}}]}, "done": True}
    assert kinds(ollama(ndjson(line))) == [ProtocolError]


def test_arguments_of_a_megabyte_are_fine() -> None:
    text = json.dumps({"text": "x" * 2**20})
    assert called(piece(text[:100], "f", index=0), piece(text[100:], index=0)) == [("f", text)]


def test_pieces_in_which_nothing_is_are_not_kept() -> None:
    decoder = OpenAIReplyDecoder(streamed=True, on_error=error_line)
    empty = b"".join(sse(*[chunk(tool_calls=[piece("", "f", index=0, id="x")])] * 1_000, done=False))
    list(decoder.feed(empty))
    assert decoder._calls[0].calls[0].pieces == []


def test_ollama_asks_for_no_more_tools_than_any_model_does() -> None:
    call = {"function": {"name": "f", "arguments": {}}}
    assert ollama(ndjson({"message": {"tool_calls": [call] * 1_000}}, DONE))[:-2] == [("f", "{}")] * 1_000
    assert kinds(ollama(ndjson({"message": {"tool_calls": [call] * 1_001}}, DONE))) == [ProtocolError]
    lines = ndjson(*[{"message": {"tool_calls": [call]}}] * 1_001, DONE)
    assert kinds(ollama(lines)) == [("f", "{}")] * 1_000 + [ProtocolError]


# ── blanks ───────────────────────────────────────────────────────────────────────────────────────────────


def test_blanks_without_end_are_text() -> None:
    splitter = ThinkingSplitter()
    texts = [event for _ in range(2_000) for event in splitter.feed(" ")]
    assert splitter.transparent
    assert "".join(map(str, texts)) == " " * 2_000


@pytest.mark.parametrize("blanks", [1, 999, 1_000, 1_001, 5_000])
@pytest.mark.parametrize("rest", ["<think>why</think>so", "so", "<th"])
@few
@given(at=cuts)
def test_blanks_before_a_text_are_told_the_same_however_it_is_cut(blanks: int, rest: str, at: list[int]) -> None:
    whole = openai(sse(delta(" " * blanks + rest, finish="stop")))
    text = " " * blanks + rest
    places = sorted({0, len(text), *(place % len(text) for place in at)})
    parts = [text[start:end] for start, end in pairwise(places)]
    assert openai(sse(*map(delta, parts), delta(finish="stop"))) == whole
    assert isinstance(whole[0], Reasoning) == (rest.startswith("<think>") and blanks <= 1_000)


# ── behind the end mark ──────────────────────────────────────────────────────────────────────────────────

BEHIND: list[Any] = [
    "{broken}",
    chunk(content=" more"),
    {"error": "late"},
    {"choices": [], "usage": {"prompt_tokens": 3}},
    chunk(tool_calls=[piece("{}", "f", id="x")]),
    "[DONE]",
]


@pytest.mark.parametrize("behind", BEHIND, ids=str)
@few
@given(at=cuts)
def test_what_follows_the_done_mark_is_nothing(behind: Any, at: list[int]) -> None:
    for before, expected in (([HI], ["Hi", RoundEnded("stop")]), ([], None)):
        stream = b"".join([*sse(*before), *sse(behind)])
        for blocks in (pieces(stream, at), [stream], one_by_one(stream), [stream.rstrip()]):
            assert openai(blocks) == expected if expected else kinds(openai(blocks)) == [EmptyReplyError]


OLLAMA_BEHIND: list[Any] = [
    "{broken}",
    {"message": {"content": " more"}},
    {"error": "late"},
    {**DONE, "done_reason": "length"},
    {"message": {"tool_calls": [{"function": {"name": "f"}}]}},
]


@pytest.mark.parametrize("behind", OLLAMA_BEHIND, ids=str)
@few
@given(at=cuts)
def test_what_follows_ollamas_last_line_is_nothing(behind: Any, at: list[int]) -> None:
    stream = b"".join(ndjson(DONE, behind))
    for blocks in (pieces(stream, at), [stream], one_by_one(stream), [stream.rstrip()]):
        assert ollama(blocks) == ["Hi", RoundEnded("stop")]


@pytest.mark.parametrize("end", [b"data: [", b"data: [DO", b"data: [DONE", b"dat", b"data: "])
def test_a_done_mark_that_is_cut_takes_nothing_from_a_finished_answer(end: bytes) -> None:
    assert openai([*sse(HI, done=False), end]) == ["Hi", RoundEnded("stop")]
    assert kinds(openai([*sse(chunk(content="Hi"), done=False), end])) == ["Hi", IncompleteReplyError]


# ── fields of no weight ──────────────────────────────────────────────────────────────────────────────────

ODD: list[Any] = [3.5, "3", [], {}, {"a": 1}, [1], True, None, "", -1, 10**400]


def said(events: Iterable[Any]) -> tuple[Any, ...]:
    *texts, end = events
    assert isinstance(end, RoundEnded), end
    return (*texts, end.finish_reason)


@pytest.mark.parametrize("odd", ODD, ids=lambda odd: str(odd)[:10])
def test_an_odd_field_of_no_weight_takes_nothing_from_the_answer(odd: Any) -> None:
    usages = [
        odd,
        {"prompt_tokens": odd, "completion_tokens": odd},
        {"prompt_tokens_details": odd, "completion_tokens_details": odd},
        {"prompt_tokens_details": {"cached_tokens": odd}, "completion_tokens_details": {"reasoning_tokens": odd}},
    ]
    for more in ({"model": odd}, *({"usage": usage} for usage in usages)):
        events = openai(sse({**HI, **more}))
        assert said(events) == ("Hi", "stop")
        assert events[-1].usage == Usage()
    for field in ("reasoning", "reasoning_content", "thinking", "refusal"):
        if not isinstance(odd, str):
            assert said(openai(sse(chunk(content="Hi", finish="stop", **{field: odd})))) == ("Hi", "stop")
    for field in ("index", "id"):
        assert called({**piece("{}", "f"), field: odd}) == [("f", "{}")]
    names = ("prompt_eval_count", "eval_count", "load_duration", "prompt_eval_duration", "eval_duration", "model")
    for name in names:
        events = ollama(ndjson({**DONE, name: odd}))
        assert said(events) == ("Hi", "stop")
        assert events[-1].usage.output_tokens is None
    call = {"id": odd, "function": {"name": "f", "arguments": {}}}
    assert said(ollama(ndjson({**DONE, "message": {"tool_calls": [call]}}))) == (("f", "{}"), "stop")


def test_whole_numbers_with_a_point_are_counts() -> None:
    usage = {"prompt_tokens": 3.0, "completion_tokens": 2, "prompt_tokens_details": {"cached_tokens": 1.0}}
    assert openai(sse({**HI, "usage": usage}))[-1] == RoundEnded("stop", Usage(3, 2, 1))
    assert ollama(ndjson({**DONE, "eval_count": 3.0}))[-1] == RoundEnded("stop", Usage(output_tokens=3))


def test_a_usage_of_no_use_does_not_undo_the_one_before() -> None:
    usage = {"choices": [], "usage": {"prompt_tokens": 3}}
    assert openai(sse(HI, usage, {"choices": [], "usage": []}))[-1] == RoundEnded("stop", Usage(3))


@pytest.mark.parametrize("kind", [int, str, float])
def test_the_index_of_a_call_is_of_any_type(kind: type) -> None:
    first, second = kind(0), kind(1)
    pieces_ = [
        piece('{"a"', "f", index=first),
        piece('{"b"', "g", index=second),
        piece(": 1}", index=first),
        piece(": 2}", index=second),
    ]
    assert called(*pieces_) == [("f", '{"a": 1}'), ("g", '{"b": 2}')]


def test_the_number_of_a_call_is_its_id() -> None:
    decoder = OllamaReplyDecoder(on_error=error_line)
    call = {"id": 7, "function": {"name": "f", "arguments": {}}}
    (requested,) = decoder.feed(ndjson({"message": {"tool_calls": [call]}})[0])
    assert requested.tool_call_id == "7"  # type: ignore[union-attr]
    assert called({**piece('{"a"', "f"), "id": 7}, {**piece(": 1}"), "id": 7}) == [("f", '{"a": 1}')]


# ── several choices ──────────────────────────────────────────────────────────────────────────────────────


def test_of_several_choices_the_first_is_the_answer() -> None:
    def other(**more: Any) -> dict[str, Any]:
        return {"index": 1, "delta": {"content": "B"}, "finish_reason": None} | more

    first, last = chunk(content="A1 "), chunk(content="A2", finish="stop")
    ended = other(finish_reason="length")
    both = {"choices": [other(), *first["choices"]]}
    whole = ["A1 A2", RoundEnded("stop")]
    assert openai(sse({"choices": [other()]}, first, {"choices": [ended]}, last)) == whole
    assert openai(sse(both, {"choices": [*last["choices"], ended]})) == whole
    assert kinds(openai(sse(first, {"choices": [ended]}, done=False))) == ["A1 ", IncompleteReplyError]
    for index in (None, "0", 0.0):
        assert openai(sse({"choices": [{**HI["choices"][0], "index": index}]})) == ["Hi", RoundEnded("stop")]
    message = {"index": 0, "message": {"content": "Hi"}, "finish_reason": "stop"}
    body = json.dumps({"choices": [other(), message]}).encode()
    assert openai([body], streamed=False) == ["Hi", RoundEnded("stop")]


# ── a byte order mark ────────────────────────────────────────────────────────────────────────────────────


def test_a_byte_order_mark_before_json_is_nothing() -> None:
    bom = b"\xef\xbb\xbf"
    body = json.dumps({"choices": [{"message": {"content": "Hi"}, "finish_reason": "stop"}]}).encode()
    for streamed in (True, False):
        assert openai([bom + body], streamed=streamed) == ["Hi", RoundEnded("stop")]
    lines = bom + b"".join(ndjson(DONE))
    for blocks in ([lines], one_by_one(lines), [lines.rstrip()], one_by_one(lines.rstrip())):
        assert ollama(blocks) == ["Hi", RoundEnded("stop")]
    assert kinds(ollama([b"".join(ndjson({"message": {"content": "Hi"}})) + lines])) == ["Hi", ProtocolError]


# ── errors of any shape ──────────────────────────────────────────────────────────────────────────────────


def as_it_is_made(body: Any) -> ProviderError:
    return status_error(None, body, provider="openai", label="X", url="http://x/v1", key_hint="")


@pytest.mark.parametrize("depth", [5, 100, 500, 900, 1_200, 5_000, 9_900])
@pytest.mark.parametrize("shape", ["[%s]", '{"error":%s}', '{"message":%s}', '{"code":%s}', '{"x":%s}'])
def test_an_error_of_any_depth_is_an_error_of_ours(depth: int, shape: str) -> None:
    start, _, end = shape.partition("%s")
    body = '{"error":' + start * depth + '"no"' + end * depth + "}"
    for decoder, block in (
        (OpenAIReplyDecoder(streamed=True, on_error=as_it_is_made), sse(body)[0]),
        (OllamaReplyDecoder(on_error=as_it_is_made), ndjson(body)[0]),
    ):
        with pytest.raises(ProviderError):
            list(decoder.feed(block))


def test_what_is_nested_without_end_is_cut_when_it_is_cleaned() -> None:
    deep: Any = "key"
    for _ in range(50_000):
        deep = [deep]
    shallow = json.dumps(cleaned_json({"a": ["key"], "b": deep}, lambda text: text.replace("key", "***")))
    assert shallow.startswith('{"a": ["***"], "b": [[')
    assert "key" not in shallow
    while isinstance(deep, list):  # apart: to let go of all at once is a recursion, too
        deep = deep[0]


@pytest.mark.parametrize("value", ["null", "false", '""', "{}", "[]", "0", " \n null "])
def test_an_error_in_which_nothing_is_is_none(value: str) -> None:
    assert openai(sse(json.dumps(HI)[:-1] + f', "error": {value}}}'.replace("\n", " "))) == [
        "Hi",
        RoundEnded("stop"),
    ]
    assert ollama(ndjson(json.dumps(DONE)[:-1] + f', "error": {value}}}'.replace("\n", " "))) == [
        "Hi",
        RoundEnded("stop"),
    ]


def test_of_a_long_error_object_the_beginning_is_read() -> None:
    told: list[Any] = []

    def maker(body: Any) -> ProviderError:
        told.append(body)
        return ServerError("long")

    body = '{"error": {"message": "too long", "detail": [' + "[]," * 2**20 + "[]]}}"
    for decoder, block in (
        (OpenAIReplyDecoder(streamed=True, on_error=maker), sse(body)[0]),
        (OllamaReplyDecoder(on_error=maker), ndjson(body)[0]),
    ):
        events: Iterable[Event] = decoder.feed(block)
        with pytest.raises(ServerError):
            list(events)
    assert all(isinstance(text, bytes) and len(text) <= 2**20 for text in told)
    assert all(text.startswith(b'{"message": "too long"') for text in told)


def test_a_buffered_reply_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reply_decoder, "MAX_SILENT_BYTES", 2**20)
    blocks = [b'{"choices":['] + [b"{}," * 1_000] * 1_000
    assert kinds(openai(blocks, streamed=False)) == [ProtocolError]
