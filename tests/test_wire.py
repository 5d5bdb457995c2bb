"""From bytes to events: framing, thinking, reply decoders. However a stream is cut, the events are the same."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest
from family import delta, ndjson, sse
from hypothesis import given, settings
from hypothesis import strategies as st

from createagents_nb.core.events import Event, Reasoning, RoundEnded, TextWasReasoning, ToolCallRequested, Usage
from createagents_nb.errors import (
    ContextLengthError,
    EmptyReplyError,
    IncompleteReplyError,
    ProtocolError,
    ProviderError,
    ServerError,
)
from createagents_nb.providers import reply_decoder
from createagents_nb.providers.ollama_reply import OllamaReplyDecoder
from createagents_nb.providers.openai_reply import OpenAIReplyDecoder
from createagents_nb.providers.reply_decoder import NDJSONDecoder, SSEDecoder, ThinkingSplitter

pytestmark = pytest.mark.once

few = settings(max_examples=25)
cuts = st.lists(st.integers(0, 4000), max_size=12)


def pieces(data: bytes, at: Iterable[int]) -> list[bytes]:
    places = [0, *sorted({place % (len(data) + 1) for place in at}), len(data)]
    return [data[start:end] for start, end in pairwise(places)]


def one_by_one(data: bytes) -> list[bytes]:
    return [data[place : place + 1] for place in range(len(data))]


def split(splitter: SSEDecoder | NDJSONDecoder, blocks: Iterable[bytes]) -> list[bytes]:
    found = [payload for block in blocks for payload in splitter.feed(block)]
    return found + splitter.finish()


def error_line(body: Any) -> ProviderError:
    return ServerError(f"the server said {body}")


def decode(decoder: OpenAIReplyDecoder | OllamaReplyDecoder, blocks: Iterable[bytes]) -> list[Event | Exception]:
    """Events with neighbouring text and reasoning joined, clocks and made-up ids removed, and the error if any.

    Text that was reasoning is reasoning.
    """
    events: list[Any] = []
    try:
        for block in blocks:
            events.extend(decoder.feed(block))
        events.extend(decoder.finish())
    except ProviderError as error:
        events.append(error)
    joined: list[Any] = []
    for event in events:
        if isinstance(event, str) and joined and isinstance(joined[-1], str):
            joined[-1] += event
        elif isinstance(event, Reasoning) and joined and isinstance(joined[-1], Reasoning):
            joined[-1] = Reasoning(joined[-1].text + event.text)
        elif isinstance(event, TextWasReasoning):
            joined = [*(each for each in joined if not isinstance(each, str)), Reasoning(event.reasoning)]
        elif isinstance(event, RoundEnded):
            joined.append(replace(event, first_output_at=None, generation_s=None))
        elif isinstance(event, ToolCallRequested):
            joined.append((event.name, event.arguments))
        elif isinstance(event, Exception):
            joined.append((type(event), str(event)))
        else:
            joined.append(event)
    return joined


def openai(blocks: Iterable[bytes], *, streamed: bool = True) -> list[Any]:
    return decode(OpenAIReplyDecoder(streamed=streamed, on_error=error_line), blocks)


def ollama(blocks: Iterable[bytes]) -> list[Any]:
    return decode(OllamaReplyDecoder(on_error=error_line), blocks)


def kinds(events: Sequence[Any]) -> list[Any]:
    return [event[0] if isinstance(event, tuple) and isinstance(event[0], type) else event for event in events]


# ── framing ──────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("stream", "payloads"),
    [
        (b"data: a\n\ndata: b\n\n", [b"a", b"b"]),
        (b"data:a\n\n", [b"a"]),
        (b"data:  a\n\n", [b" a"]),
        (b"data: a\r\n\r\ndata: b\r\n\r\n", [b"a", b"b"]),
        (b"data: a\r\rdata: b\r\r", [b"a", b"b"]),
        (b"data: a\n\r\ndata: b\r\n\n", [b"a", b"b"]),
        (b"data: a\ndata: b\n\n", [b"a\nb"]),
        (b": ping\n\ndata: a\n\n: ping\n\n", [b"a"]),
        (b"event: x\nid: 7\nretry: 3\ndata: a\n\n", [b"a"]),
        (b"\n\n\n\ndata: a\n\n\n\n\ndata: b\n\n", [b"a", b"b"]),
        (b"\xef\xbb\xbfdata: a\n\n", [b"a"]),
        (b"data: a\n\ndata: b", [b"a", b"b"]),
        (b"data: a\n\ndata: b\n", [b"a", b"b"]),
        (b"data\n\ndata:\n\ndata: a\n\n", [b"a"]),
        (b"datax: no\n\n", []),
        (b"\xef\xbb", []),
        (b"", []),
    ],
)
def test_server_sent_events_are_framed_as_the_standard_says(stream: bytes, payloads: list[bytes]) -> None:
    assert split(SSEDecoder(), [stream]) == payloads
    assert split(SSEDecoder(), one_by_one(stream)) == payloads


@few
@given(
    st.lists(st.sampled_from(["data: é🎉", "data: b\ndata: c", ": ping", "event: x\ndata: y", "data:"])),
    st.sampled_from(["\n", "\r\n", "\r"]),
    st.booleans(),
    cuts,
)
def test_any_cut_of_an_event_stream_gives_the_same_payloads(
    events: list[str], line_end: str, has_bom: bool, at: list[int]
) -> None:
    text = "".join(event.replace("\n", line_end) + line_end * 2 for event in events)
    stream = (b"\xef\xbb\xbf" if has_bom else b"") + text.encode()
    assert split(SSEDecoder(), pieces(stream, at)) == split(SSEDecoder(), [stream])


@few
@given(st.lists(st.sampled_from([b'{"a":1}', "é🎉".encode(), b"", b"  "])), st.booleans(), cuts)
def test_any_cut_of_lines_gives_the_same_payloads(lines: list[bytes], has_last_end: bool, at: list[int]) -> None:
    stream = b"\n".join(lines) + (b"\n" if has_last_end else b"")
    expected = [line for line in lines if line.strip()]
    assert split(NDJSONDecoder(), [stream]) == expected
    assert split(NDJSONDecoder(), pieces(stream, at)) == expected


@pytest.mark.parametrize("splitter", [SSEDecoder, NDJSONDecoder])
def test_an_event_without_end_does_not_fill_the_memory(
    splitter: type[SSEDecoder | NDJSONDecoder], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reply_decoder, "_MAX_PENDING", 2**20)
    running = splitter()
    running.feed(b"data: " + b"x" * 2**19)
    with pytest.raises(ProtocolError, match="1 MB without ending"):
        running.feed(b"x" * 2**20)


# ── thinking ─────────────────────────────────────────────────────────────────────────────────────────────


def think(texts: Iterable[str]) -> tuple[str, str]:
    splitter = ThinkingSplitter()
    events = [event for text in texts for event in splitter.feed(text)] + splitter.finish()
    reasoning = "".join(event.text for event in events if isinstance(event, Reasoning))
    return reasoning, "".join(event for event in events if isinstance(event, str))


THINKING = [
    ("<think>why</think>so", "why", "so"),
    ("\n <think>\nwhy\n</think>\n\nso <think>not</think>", "\nwhy\n", "so <think>not</think>"),
    ("<think></think>so", "", "so"),
    ("<think>never closed", "never closed", ""),
    ("<think>a < b </thin </think>so", "a < b </thin ", "so"),
    ("<think>cut </thi", "cut </thi", ""),
    ("<think>only</think>\n", "only", ""),
    ("so <think>not</think>", "", "so <think>not</think>"),
    ("<thinking>why</thinking>so", "why", "so"),
    ("<thought>why </think> </thought>\nso", "why </think> ", "so"),
    ("<thinker>not</thinker>", "", "<thinker>not</thinker>"),
    ("</think>\n\nso", "", "so"),
    ("<th", "", "<th"),
    ("  \n so", "", "  \n so"),
    (" \n", "", " \n"),
    ("", "", ""),
]


@pytest.mark.parametrize(("whole", "reasoning", "text"), THINKING)
def test_a_think_tag_at_the_beginning_is_reasoning(whole: str, reasoning: str, text: str) -> None:
    assert think([whole]) == (reasoning, text)
    assert think(whole) == (reasoning, text)


@few
@given(
    st.lists(
        st.sampled_from(["<think>", "</think>", "<", ">", "think", "/", " ", "\n", "word", "é"]), max_size=12
    ),
    st.lists(st.integers(0, 60), max_size=8),
)
def test_any_cut_of_a_text_is_thought_the_same(parts: list[str], at: list[int]) -> None:
    whole = "".join(parts)
    places = [0, *sorted({place % (len(whole) + 1) for place in at}), len(whole)]
    assert think([whole[a:b] for a, b in pairwise(places)]) == think([whole])


def test_text_passes_untouched_once_it_cannot_be_reasoning() -> None:
    splitter = ThinkingSplitter()
    assert splitter.feed("He") == ["He"]
    assert splitter.transparent
    assert splitter.feed("<think>") == ["<think>"]


# ── whole streams, cut anywhere ──────────────────────────────────────────────────────────────────────────

CALL = {"index": 0, "id": "a", "function": {"name": "f", "arguments": '{"é": 1}'}}
USAGE = {"choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 2}}
OPENAI_STREAMS = {
    "text": sse(delta("Caf"), delta("é "), delta("🎉"), delta(finish="stop"), USAGE),
    "no [DONE]": sse(delta("Hi", finish="stop"), done=False),
    "thinking": sse(delta("<th"), delta("ink>é"), delta("</think>\n"), delta("so"), delta(finish="stop")),
    "tool": sse(delta(tool_calls=[CALL]), delta(finish="tool_calls")),
    "thinking that the template opened": sse(
        delta("é <b>. "), delta("</th"), delta("ink>"), delta("\n\nso", "stop")
    ),
    "error": sse(delta("so far"), {"error": {"message": "overloaded"}}, done=False),
    "cut": sse(delta("so far"), done=False),
    "cut in an event": [*sse(delta("so far"), done=False), b'data: {"choices": [{"del'],
    "broken": sse(delta("so far"), "{broken}", delta("never")),
    "buffered": [json.dumps({"choices": [{"message": {"content": "é🎉"}, "finish_reason": "stop"}]}).encode()],
    "silence": [b": ping\n\n: ping\n\n"],
    "nothing": [b"data: [DONE]\n\n"],
    "page": [b"<html>\n\n<h1>Hi</h1></html>"],
    "\\u escapes": sse(r'{"choices":[{"delta":{"content":"\u003cb\u003e \ud83c\udf89"},"finish_reason":"stop"}]}'),
}
END = {"done": True, "done_reason": "stop", "eval_count": 2, "load_duration": 1_500_000_000}
OLLAMA_STREAMS = {
    "text": ndjson({"message": {"content": "Café"}}, {"message": {"content": " 🎉"}}, END),
    "thinking": ndjson({"message": {"thinking": "é"}}, {"message": {"content": "so"}}, END),
    "raw thinking": ndjson({"message": {"content": "<think>é</"}}, {"message": {"content": "think>so"}}, END),
    "tool": ndjson({"message": {"tool_calls": [{"function": {"name": "f", "arguments": {"é": 1}}}]}}, END),
    "error": ndjson({"message": {"content": "so far"}}, {"error": "it broke"}),
    "cut": ndjson({"message": {"content": "so far"}}),
    "cut in a line": [*ndjson({"message": {"content": "so far"}}), b'{"message": {"cont'],
    "broken": ndjson({"message": {"content": "so far"}}, "{broken}", END),
    "nothing": [b"\n"],
    "page": [b"Ollama is running"],
}


@pytest.mark.parametrize("name", OPENAI_STREAMS)
@few
@given(at=cuts)
def test_any_cut_of_a_chat_completions_stream_gives_the_same_events(name: str, at: list[int]) -> None:
    stream = b"".join(OPENAI_STREAMS[name])
    assert openai(pieces(stream, at)) == openai([stream])


@pytest.mark.parametrize("name", OLLAMA_STREAMS)
@few
@given(at=cuts)
def test_any_cut_of_an_ollama_stream_gives_the_same_events(name: str, at: list[int]) -> None:
    stream = b"".join(OLLAMA_STREAMS[name])
    assert ollama(pieces(stream, at)) == ollama([stream])


def test_a_stream_that_comes_byte_by_byte_gives_the_same_events() -> None:
    for stream in map(b"".join, OPENAI_STREAMS.values()):
        assert openai(one_by_one(stream)) == openai([stream])
    for stream in map(b"".join, OLLAMA_STREAMS.values()):
        assert ollama(one_by_one(stream)) == ollama([stream])


def test_what_the_chat_completions_streams_say() -> None:
    said = {name: kinds(openai(blocks)) for name, blocks in OPENAI_STREAMS.items()}
    assert said == {
        "text": ["Café 🎉", RoundEnded("stop", Usage(3, 2), model="m")],
        "no [DONE]": ["Hi", RoundEnded("stop", model="m")],
        "thinking": [Reasoning("é"), "so", RoundEnded("stop", model="m")],
        "thinking that the template opened": [Reasoning("é <b>. "), "so", RoundEnded("stop", model="m")],
        "tool": [("f", '{"é": 1}'), RoundEnded("tool_calls", model="m")],
        "error": ["so far", ServerError],
        "cut": ["so far", IncompleteReplyError],
        "cut in an event": ["so far", IncompleteReplyError],
        "broken": ["so far", ProtocolError],
        "buffered": ["é🎉", RoundEnded("stop")],
        "silence": [EmptyReplyError],
        "nothing": [EmptyReplyError],
        "page": [ProtocolError],
        "\\u escapes": ["<b> 🎉", RoundEnded("stop")],
    }


def test_what_the_ollama_streams_say() -> None:
    said = {name: kinds(ollama(blocks)) for name, blocks in OLLAMA_STREAMS.items()}
    end = RoundEnded("stop", Usage(output_tokens=2, load_s=1.5))
    assert said == {
        "text": ["Café 🎉", end],
        "thinking": [Reasoning("é"), "so", end],
        "raw thinking": [Reasoning("é"), "so", end],
        "tool": [("f", '{"é": 1}'), end],
        "error": ["so far", ServerError],
        "cut": ["so far", IncompleteReplyError],
        "cut in a line": ["so far", IncompleteReplyError],
        "broken": ["so far", ProtocolError],
        "nothing": [EmptyReplyError],
        "page": [ProtocolError],
    }


@few
@given(st.binary(max_size=200), cuts)
def test_noise_is_a_typed_error_or_nothing_worse(noise: bytes, at: list[int]) -> None:
    for blocks in ([noise], pieces(b"data: " + noise + b"\n\n", at), [b'data: {"choices": ' + noise]):
        openai(blocks)
        ollama(blocks)
        openai(blocks, streamed=False)


def test_text_that_is_not_utf_8_is_a_protocol_error() -> None:
    assert kinds(openai([b'data: {"choices": [{"delta": {"content": "\xff"}}]}\n\n'])) == [ProtocolError]
    assert kinds(openai([b'{"choices": [{"message": {"content": "\xff"}}]}'], streamed=False)) == [ProtocolError]
    assert kinds(ollama([b'{"message": {"content": "\xff"}}\n'])) == [ProtocolError]


def test_text_held_back_for_a_tag_is_kept_when_the_stream_is_cut() -> None:
    assert kinds(openai(sse(delta("<th"), done=False))) == ["<th", IncompleteReplyError]
    assert kinds(ollama(ndjson({"message": {"content": "<th"}}))) == ["<th", IncompleteReplyError]


def test_a_usage_chunk_that_is_cut_does_not_undo_a_finished_answer() -> None:
    stream = [*sse(delta("Hi", finish="stop"), done=False), b'data: {"choices": [], "usa']
    assert openai(stream) == ["Hi", RoundEnded("stop", model="m")]


def test_a_last_event_without_its_blank_line_counts() -> None:
    whole = b"".join(sse(delta("Hi"), delta(" there", finish="stop"), done=False))
    assert openai([whole.rstrip()]) == ["Hi there", RoundEnded("stop", model="m")]
    assert ollama([b"".join(OLLAMA_STREAMS["text"]).rstrip()]) == ollama(OLLAMA_STREAMS["text"])


def test_a_done_mark_with_blanks_around_it_is_one() -> None:
    said = sse({"choices": [{"index": 0, "delta": {"content": "Hi"}}], "model": "m"}, done=False)
    assert openai([*said, b"data:  [DONE] \n\n"]) == ["Hi", RoundEnded(model="m")]


def test_an_error_maker_decides_what_an_error_is() -> None:
    decoder = OpenAIReplyDecoder(streamed=True, on_error=lambda body: ContextLengthError(str(body)))
    assert kinds(decode(decoder, sse({"error": "too long"}))) == [ContextLengthError]


@pytest.mark.parametrize("chunk", ["openai", "ollama"])
def test_an_answer_without_an_end_ends_in_an_error(chunk: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reply_decoder, "MAX_REPLY_BYTES", 2**20)
    made: Any = {
        "openai": (OpenAIReplyDecoder(streamed=True, on_error=error_line), sse(delta("x" * 1000), done=False)),
        "ollama": (OllamaReplyDecoder(on_error=error_line), ndjson({"message": {"content": "x" * 1000}})),
    }
    decoder, (block, *_) = made[chunk]
    texts: list[str] = []

    def endless() -> None:
        for _ in range(2_000):
            texts.extend(event for event in decoder.feed(block) if isinstance(event, str))

    with pytest.raises(ProtocolError, match=r"more than 1 MB in one answer.*max_tokens"):
        endless()
    assert 900 < len(texts) < 1_100
