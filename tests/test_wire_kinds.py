"""Replies of every kind that servers were reported to send, streamed and buffered, over a real socket."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterable
from typing import Any

import pytest
from family import Reply, ScriptedServer, Trip, delta, json_reply, ndjson, round_trip, sse

from createagents_nb import CreateAgent, MetricsRecorder, tool
from createagents_nb.core.events import Notice, Reasoning, TextWasReasoning, ended_early
from createagents_nb.errors import EmptyReplyError, IncompleteReplyError, ProviderError
from createagents_nb.notebook.view_messages import PieceWriter
from createagents_nb.providers.ollama_adapter import OllamaChatAdapter
from createagents_nb.providers.openai_adapter import OpenAIChatAdapter, OpenAIResponsesAdapter
from createagents_nb.render.snapshot import ReasoningBlock, TextBlock
from createagents_nb.render.turn_state import TurnTracker

pytestmark = pytest.mark.once

STOP = delta(finish="stop")
CALLS = delta(finish="tool_calls")


async def asked(server: ScriptedServer, reply: Reply | Iterable[bytes], kind: str = "chat", **more: Any) -> Trip:
    """One reply to a request by an API: ``chat``, ``responses`` or ``ollama``."""
    server.enqueue(reply if isinstance(reply, Reply) else list(reply))
    if kind == "ollama":
        return await round_trip(OllamaChatAdapter(base_url=server.url, max_retries=0), **more)
    adapter = OpenAIResponsesAdapter if kind == "responses" else OpenAIChatAdapter
    return await round_trip(adapter(base_url=server.openai_url, max_retries=0), **more)


def choice(index: Any = 0, finish: Any = None, **more: Any) -> dict[str, Any]:
    return {"index": index, "finish_reason": finish, **more}


def chunk(*choices: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"choices": list(choices), **more}


def call(
    arguments: Any = None, name: str | None = None, call_id: str | None = None, index: Any = 0
) -> dict[str, Any]:
    piece: dict[str, Any] = {"index": index, "function": {"arguments": arguments}}
    if name is not None:
        piece["function"]["name"] = name
    return piece if call_id is None else piece | {"id": call_id}


def calling(*pieces: dict[str, Any]) -> dict[str, Any]:
    return delta(tool_calls=list(pieces))


def calls_of(trip: Trip) -> list[tuple[str, Any]]:
    return [(each.name, json.loads(each.arguments) if each.arguments else {}) for each in trip.calls]


# ── a last chunk that repeats ──

FERRY = "The ferry leaves at nine."
WHOLE_CALL = {"id": "c", "type": "function", "function": {"name": "f", "arguments": '{"a":1}'}}

CLOSINGS: dict[str, tuple[list[Any], str, str, list[Any]]] = {
    "text as message": (
        [delta("The ferry "), delta("leaves at nine."), chunk(choice(finish="stop", message={"content": FERRY}))],
        FERRY,
        "",
        [],
    ),
    "text as message beside an empty delta": (
        [delta(FERRY), chunk(choice(finish="stop", delta={}, message={"role": "assistant", "content": FERRY}))],
        FERRY,
        "",
        [],
    ),
    "a message that has more": (
        [delta("The ferry "), chunk(choice(finish="stop", message={"content": FERRY}))],
        FERRY,
        "",
        [],
    ),
    "a message without the blanks": (
        [
            delta("\n The ferry "),
            delta("leaves at nine.\n"),
            chunk(choice(finish="stop", message={"content": FERRY})),
        ],
        f"\n {FERRY}\n",
        "",
        [],
    ),
    "a message in every chunk, growing": (
        [
            chunk(choice(delta={"content": "The "}, message={"content": "The "})),
            chunk(choice(delta={"content": "ferry"}, message={"content": "The ferry"})),
            chunk(choice(finish="stop", delta={"content": "."}, message={"content": "The ferry."})),
        ],
        "The ferry.",
        "",
        [],
    ),
    "messages in place of deltas, growing": (
        [
            chunk(choice(message={"content": "The "})),
            chunk(choice(finish="stop", message={"content": "The ferry"})),
        ],
        "The ferry",
        "",
        [],
    ),
    "messages in place of deltas, in pieces": (
        [chunk(choice(message={"content": "The "})), chunk(choice(finish="stop", message={"content": "ferry"}))],
        "The ferry",
        "",
        [],
    ),
    "text as delta": ([delta("The ferry "), delta("leaves at nine."), delta(FERRY, finish="stop")], FERRY, "", []),
    "a short text as delta": ([delta("O"), delta("K"), delta("OK", finish="stop")], "OK", "", []),
    "a last piece like the first": ([delta("ha"), delta("ha", finish="stop")], "haha", "", []),
    "reasoning and text": (
        [
            delta(reasoning_content="It is "),
            delta(reasoning_content="early."),
            delta(FERRY),
            chunk(choice(finish="stop", message={"reasoning_content": "It is early.", "content": FERRY})),
        ],
        FERRY,
        "It is early.",
        [],
    ),
    "reasoning in tags": (
        [
            delta("<think>It is"),
            delta(" early.</think>\n\n"),
            delta(FERRY),
            chunk(choice(finish="stop", message={"content": f"<think>It is early.</think>\n\n{FERRY}"})),
        ],
        FERRY,
        "It is early.",
        [],
    ),
    "a call as message": (
        [
            calling(call("", "f", "c")),
            calling(call('{"a"')),
            calling(call(": 1}")),
            chunk(choice(finish="tool_calls", message={"tool_calls": [WHOLE_CALL]})),
        ],
        "",
        "",
        [("f", {"a": 1})],
    ),
    "a call as message, under another id": (
        [
            calling(call('{"a": 1}', "f", "x")),
            chunk(choice(finish="tool_calls", message={"tool_calls": [WHOLE_CALL]})),
        ],
        "",
        "",
        [("f", {"a": 1})],
    ),
    "a call only in the message": (
        [delta("So:"), chunk(choice(finish="tool_calls", delta={}, message={"tool_calls": [WHOLE_CALL]}))],
        "So:",
        "",
        [("f", {"a": 1})],
    ),
    "two like calls, repeated": (
        [
            calling(call('{"a":1}', "f", "x", 0), call('{"a":1}', "f", "y", 1)),
            chunk(
                choice(
                    finish="tool_calls",
                    message={"tool_calls": [WHOLE_CALL | {"id": "x"}, WHOLE_CALL | {"id": "y"}]},
                )
            ),
        ],
        "",
        "",
        [("f", {"a": 1}), ("f", {"a": 1})],
    ),
}


@pytest.mark.parametrize("name", CLOSINGS)
@pytest.mark.asyncio
async def test_what_a_last_chunk_repeats_is_said_once(server: ScriptedServer, name: str) -> None:
    chunks, text, reasoning, calls = CLOSINGS[name]
    last = chunks[-1] | {"usage": {"prompt_tokens": 9, "completion_tokens": 4}}
    trip = await asked(server, sse(*chunks[:-1], last))
    assert (trip.text, trip.reasoning, calls_of(trip)) == (text, reasoning, calls)
    assert trip.end.usage.output_tokens == 4


@pytest.mark.asyncio
async def test_a_last_line_of_ollama_that_repeats_is_said_once(server: ScriptedServer) -> None:
    asks = {"function": {"name": "f", "arguments": {"a": 1}}}
    lines = [{"message": {"thinking": "It is early."}}, {"message": {"content": "The ferry "}}]
    lines += [{"message": {"content": "leaves at nine.", "tool_calls": [asks]}}]
    whole = {"thinking": "It is early.", "content": FERRY, "tool_calls": [asks]}
    end = {"message": whole, "done": True, "done_reason": "stop", "eval_count": 4}
    trip = await asked(server, ndjson(*lines, end), "ollama")
    assert (trip.text, trip.reasoning, calls_of(trip)) == (FERRY, "It is early.", [("f", {"a": 1})])
    assert trip.end.usage.output_tokens == 4


# ── calls in pieces ──

PIECES: dict[str, tuple[list[dict[str, Any]], list[tuple[str, Any]]]] = {
    "a name in pieces": (
        [call("", "ga", "c"), call("", "uge"), call('{"a": 1}')],
        [("gauge", {"a": 1})],
    ),
    "a name that grows": ([call("", "ga", "c"), call('{"a": 1}', "gauge")], [("gauge", {"a": 1})]),
    "name and id in every piece": (
        [call('{"a"', "f", "c"), call(": 1", "f", "c"), call("}", "f", "c")],
        [("f", {"a": 1})],
    ),
    "name and a new id in every piece": (
        [call("", "f", "x"), call('{"a"', "f", "y"), call(": 1}", "f", "z")],
        [("f", {"a": 1})],
    ),
    "name and a new id in every piece, without index": (
        [call('{"a"', "f", "x", None), call(": 1}", "f", "y", None)],
        [("f", {"a": 1})],
    ),
    "a placeholder first": ([call("{}", "f", "c"), call('{"a"'), call(": 1}")], [("f", {"a": 1})]),
    "a placeholder first, with name and id again": (
        [call("{}", "f", "c"), call('{"a"', "f", "c"), call(": 1}", "f", "c")],
        [("f", {"a": 1})],
    ),
    "a placeholder, then the whole": ([call("{}", "f", "c"), call('{"a": 1}', "f", "c")], [("f", {"a": 1})]),
    "a placeholder of null": ([call("null", "f", "c"), call('{"a": 1}')], [("f", {"a": 1})]),
    "the whole again": ([call('{"a"', "f", "c"), call(": 1}"), call('{"a": 1}')], [("f", {"a": 1})]),
    "the whole again, with name and id": (
        [call('{"a"', "f", "c"), call(": 1}"), call('{"a":1}', "f", "c")],
        [("f", {"a": 1})],
    ),
    "the whole again, as an object": ([call('{"a": 1}', "f", "c"), call({"a": 1})], [("f", {"a": 1})]),
    "arguments that grow": (
        [call('{"a"', "f", "c"), call('{"a": 1'), call('{"a": 1}')],
        [("f", {"a": 1})],
    ),
    "an empty object alone": ([call("{}", "f", "c")], [("f", {})]),
    "an empty text alone": ([call("", "f", "c")], [("f", {})]),
    "null alone": ([call(None, "f", "c")], [("f", {})]),
    "the word null alone": ([call("null", "f", "c")], [("f", {})]),
    "a list for none": ([call([], "f", "c")], [("f", {})]),
    "a list in words for none": ([call("[]", "f", "c")], [("f", {})]),
    "two calls in a row": (
        [call('{"a": 1}', "f", "x", 0), call('{"a": 1}', "f", "y", 1)],
        [("f", {"a": 1}), ("f", {"a": 1})],
    ),
}


@pytest.mark.parametrize("name", PIECES)
@pytest.mark.asyncio
async def test_a_call_in_any_pieces_is_one_call(server: ScriptedServer, name: str) -> None:
    pieces, calls = PIECES[name]
    assert calls_of(await asked(server, sse(*(calling(piece) for piece in pieces), CALLS))) == calls


@pytest.mark.asyncio
async def test_different_objects_in_one_call_are_not_guessed_at(server: ScriptedServer) -> None:
    trip = await asked(server, sse(calling(call('{"a": 1}', "f", "c")), calling(call('{"a": 2}')), CALLS))
    assert [each.arguments for each in trip.calls] == ['{"a": 1}{"a": 2}']


@pytest.mark.asyncio
async def test_calls_in_the_field_of_before_are_calls(server: ScriptedServer) -> None:
    pieces = [{"name": "f", "arguments": ""}, {"arguments": '{"a"'}, {"arguments": ": 1}"}]
    trip = await asked(
        server, sse(*(delta(function_call=piece) for piece in pieces), delta(finish="function_call"))
    )
    assert calls_of(trip) == [("f", {"a": 1})]
    message = {"content": None, "function_call": {"name": "f", "arguments": '{"a": 1}'}}
    trip = await asked(server, json_reply(chunk(choice(finish="function_call", message=message))))
    assert calls_of(trip) == [("f", {"a": 1})]


@pytest.mark.parametrize("none", [[], None, {}, "", "[]", [None], [{}], 7, True])
@pytest.mark.asyncio
async def test_what_stands_for_no_calls_is_none(server: ScriptedServer, none: Any) -> None:
    trip = await asked(server, sse(delta("Hi", tool_calls=none, function_call=None), STOP))
    assert (trip.text, trip.calls, trip.end.finish_reason) == ("Hi", [], "stop")
    trip = await asked(
        server, json_reply(chunk(choice(finish="stop", message={"content": "Hi", "tool_calls": none})))
    )
    assert (trip.text, trip.calls, trip.end.finish_reason) == ("Hi", [], "stop")
    line = {"message": {"content": "Hi", "tool_calls": none}, "done": True, "done_reason": "stop"}
    trip = await asked(server, ndjson(line), "ollama")
    assert (trip.text, trip.calls, trip.end.finish_reason) == ("Hi", [], "stop")


# ── choices ──

OPEN = [{"id": "c", "function": {"name": "open", "arguments": '{"gate": "east"}'}}]
CHOICES: dict[str, tuple[list[Any], str, list[Any]]] = {
    "text in one, the call in the next": (
        [
            delta("On it."),
            chunk(choice(delta={}), choice(finish="tool_calls", delta={"tool_calls": [call("{}", "open", "c")]})),
        ],
        "On it.",
        [("open", {})],
    ),
    "by index, in chunks of their own": (
        [delta("On it."), chunk(choice(1, delta={"tool_calls": [call("{}", "open", "c")]}, finish="tool_calls"))],
        "On it.",
        [("open", {})],
    ),
    "a sole choice with another index": (
        [chunk(choice(1, delta={"content": "On "})), chunk(choice(1, "stop", delta={"content": "it."}))],
        "On it.",
        [],
    ),
    "an index that is a text": (
        [chunk(choice("0", delta={"content": "On "})), chunk(choice(0, "stop", delta={"content": "it."}))],
        "On it.",
        [],
    ),
    "choices without index": (
        [
            chunk({"delta": {"content": "On it."}}),
            chunk({"delta": {"tool_calls": [call("{}", "open", "c")]}, "finish_reason": "tool_calls"}),
        ],
        "On it.",
        [("open", {})],
    ),
    "choices as an object": (
        [{"choices": {"index": 0, "delta": {"content": "On it."}, "finish_reason": "stop"}}],
        "On it.",
        [],
    ),
}


@pytest.mark.parametrize("name", CHOICES)
@pytest.mark.asyncio
async def test_several_choices_are_one_message(server: ScriptedServer, name: str) -> None:
    chunks, text, calls = CHOICES[name]
    trip = await asked(server, sse(*chunks))
    assert (trip.text, calls_of(trip)) == (text, calls)
    assert trip.end.finish_reason


@pytest.mark.parametrize("indices", [(0, 1), (0, 0), (1, 2), (None, None)])
@pytest.mark.asyncio
async def test_several_choices_of_a_buffered_reply_are_one_message(
    server: ScriptedServer, indices: tuple[Any, Any]
) -> None:
    said = choice(indices[0], "tool_calls", message={"content": "On it."})
    asking = choice(indices[1], "tool_calls", message={"content": None, "tool_calls": OPEN})
    for choices in ((said, asking), (asking, said)):
        trip = await asked(server, json_reply(chunk(*choices)), stream=False)
        assert (trip.text, calls_of(trip)) == ("On it.", [("open", {"gate": "east"})])


@pytest.mark.asyncio
async def test_where_several_answers_were_asked_for_the_first_counts(server: ScriptedServer) -> None:
    answers = [choice(index, "tool_calls", message={"content": "Hi", "tool_calls": OPEN}) for index in (0, 1)]
    answers[1]["message"] = {"content": "no", "tool_calls": [call("{}", "shut", "d")]}
    trip = await asked(server, json_reply(chunk(*answers)), extra={"n": 2})
    assert (trip.text, calls_of(trip)) == ("Hi", [("open", {"gate": "east"})])


# ── errors inside a reply that began with 200 ──

WORDS = "The engine stalled at 7"
ERRORS: dict[str, list[Any]] = {
    "error": [{"error": {"message": WORDS, "code": 500}}],
    "a text as error": [{"error": WORDS}],
    "in the choice": [chunk(choice(finish="error", delta={"content": ""}, error={"code": 502, "message": WORDS}))],
    "in the choice, without a reason": [chunk(choice(delta={}, error={"message": WORDS}))],
    "in the choice, without a delta": [chunk(choice(error={"message": WORDS}))],
    "beside the choice": [chunk(choice(finish="error", delta={"content": ""}), error={"message": WORDS})],
    "after a choice that ended with an error": [
        chunk(choice(finish="error", delta={})),
        {"error": {"message": WORDS}},
    ],
    "object: error": [{"object": "error", "message": WORDS, "type": "InternalServerError", "code": 500}],
    "type: error": [{"type": "error", "error": {"type": "overloaded_error", "message": WORDS}}],
    "detail": [{"detail": WORDS}],
    "details of FastAPI": [{"detail": [{"loc": ["body", "messages"], "msg": WORDS, "type": "value_error"}]}],
    "base_resp": [{"choices": None, "base_resp": {"status_code": 1013, "status_msg": WORDS}}],
    "base_resp beside a choice": [
        chunk(choice(finish="stop", delta={}), base_resp={"status_code": 1027, "status_msg": WORDS})
    ],
    "a list": [[{"error": {"code": 503, "message": WORDS, "status": "UNAVAILABLE"}}]],
    "a code beside the message": [{"code": 503, "message": WORDS}],
    "a message alone": [{"message": WORDS, "request_id": "r1"}],
    "a bare text": ["%" + WORDS],
    "a bare text in JSON": ['"' + WORDS + '"'],
}


def written(payloads: list[Any]) -> list[bytes]:
    return sse(*(each.removeprefix("%") if isinstance(each, str) else each for each in payloads), done=False)


@pytest.mark.parametrize("end", [b"", b"data: [DONE]\n\n"])
@pytest.mark.parametrize("so_far", ["", "The first half", "<th"])
@pytest.mark.parametrize("name", ERRORS)
@pytest.mark.asyncio
async def test_an_error_in_a_stream_fails_in_the_words_of_the_server(
    server: ScriptedServer, name: str, so_far: str, end: bytes
) -> None:
    begun = sse(delta(so_far), done=False) if so_far else []
    trip = await asked(server, [*begun, *written(ERRORS[name]), end])
    assert trip.text == so_far
    assert isinstance(trip.failure, ProviderError)
    assert WORDS in str(trip.failure)


@pytest.mark.parametrize("kind", ["chat", "responses"])
@pytest.mark.parametrize(
    "data",
    [
        f'data: {{"error": {{"message": "{WORDS}"}}}}',
        f'data: {{"message": "{WORDS}"}}',
        f"data: {WORDS}",
        f'data: "{WORDS}"',
        f"data: one line\ndata: {WORDS}",
    ],
)
@pytest.mark.asyncio
async def test_the_data_of_an_error_event_is_an_error_whatever_it_is(
    server: ScriptedServer, data: str, kind: str
) -> None:
    trip = await asked(server, [f"event: error\n{data}\n\n".encode()], kind)
    assert WORDS in str(trip.failure)
    trip = await asked(server, [f"id: 1\nevent:error\n{data}".encode()], kind)
    assert WORDS in str(trip.failure)


@pytest.mark.asyncio
async def test_an_error_event_without_data_is_an_error(server: ScriptedServer) -> None:
    trip = await asked(server, [*sse(delta("Hi"), done=False), b"event: error\ndata:\n\n", *sse(STOP)])
    assert trip.text == "Hi"
    assert isinstance(trip.failure, ProviderError)


@pytest.mark.parametrize("name", [name for name in ERRORS if name not in ("a bare text", "a bare text in JSON")])
@pytest.mark.asyncio
async def test_an_error_in_place_of_a_buffered_answer_fails_in_the_words_of_the_server(
    server: ScriptedServer, name: str
) -> None:
    trip = await asked(server, json_reply(ERRORS[name][-1]), stream=False)
    assert WORDS in str(trip.failure)


@pytest.mark.parametrize(
    "name", ["error", "a text as error", "object: error", "detail", "base_resp", "a list", "a bare text"]
)
@pytest.mark.asyncio
async def test_an_error_in_a_stream_of_responses_fails_in_the_words_of_the_server(
    server: ScriptedServer, name: str
) -> None:
    begun = sse({"type": "response.output_text.delta", "item_id": "m", "delta": "So far"}, done=False)
    trip = await asked(server, [*begun, *written(ERRORS[name])], "responses")
    assert trip.text == "So far"
    assert WORDS in str(trip.failure)


@pytest.mark.parametrize(
    "line",
    [
        {"error": WORDS},
        {"error parsing tool call": WORDS},
        {"error": {"message": WORDS}},
        {"detail": WORDS},
        {"StatusCode": 500, "Status": "500", "error": WORDS},
        {"message": WORDS, "code": 500},
        [{"error": WORDS}],
    ],
)
@pytest.mark.asyncio
async def test_an_error_of_ollama_fails_in_its_words(server: ScriptedServer, line: Any) -> None:
    trip = await asked(server, ndjson({"message": {"content": "So far"}, "done": False}, line), "ollama")
    assert trip.text == "So far"
    assert WORDS in str(trip.failure)


@pytest.mark.parametrize(
    "odd",
    [
        {"error": None},
        {"error": {}},
        {"error": ""},
        {"error": {"message": "", "code": None}},
        {"base_resp": {"status_code": 0, "status_msg": ""}},
        {"detail": None, "message": ""},
        {"object": "chat.completion.chunk", "system_fingerprint": "error"},
    ],
)
@pytest.mark.asyncio
async def test_what_looks_like_an_error_and_is_none_does_not_fail(
    server: ScriptedServer, odd: dict[str, Any]
) -> None:
    text = '{"error": "not mine"} event: error'
    for chunks in ([delta(text) | odd, STOP | odd], [odd, delta(text), odd, STOP], [delta(text), STOP, odd]):
        trip = await asked(server, sse(*chunks))
        assert (trip.text, trip.end.finish_reason) == (text, "stop")
    whole = chunk(choice(finish="stop", message={"content": text}), **odd)
    assert (await asked(server, json_reply(whole), stream=False)).end.finish_reason == "stop"


@pytest.mark.asyncio
async def test_a_message_of_progress_before_the_answer_is_no_error(server: ScriptedServer) -> None:
    trip = await asked(server, sse({"status": "queued", "message": "place 3"}, delta("Hi"), STOP))
    assert (trip.text, trip.end.finish_reason) == ("Hi", "stop")


@pytest.mark.parametrize("more", [{"message": "bye"}, "%bye"])
@pytest.mark.asyncio
async def test_what_follows_a_finished_answer_without_being_an_error_is_skipped(
    server: ScriptedServer, more: Any
) -> None:
    trip = await asked(server, [*sse(delta("Hi"), STOP, done=False), *written([more])])
    assert (trip.text, trip.end.finish_reason) == ("Hi", "stop")


# ── reasoning ──

THOUGHT, ANSWER = "They want the tide.", "2.4 metres."


def part(**fields: Any) -> list[dict[str, Any]]:
    return [fields]


REASONING: dict[str, list[dict[str, Any]]] = {
    **{
        name: [delta(**{name: "They want "}), delta(**{name: "the tide."}), delta(ANSWER)]
        for name in ("reasoning_content", "reasoning", "thinking", "thought", "reasoning_text")
    },
    "under two names": [delta(reasoning=THOUGHT, reasoning_content=THOUGHT), delta(ANSWER)],
    "as details beside the text": [
        delta(reasoning=THOUGHT, reasoning_details=part(type="reasoning.text", text=THOUGHT)),
        delta(ANSWER),
    ],
    "as details alone": [
        delta(reasoning_details=part(type="reasoning.text", text="They want ", index=0)),
        delta(reasoning_details=part(type="reasoning.summary", summary="the tide.", index=1)),
        delta(reasoning_details=part(type="reasoning.encrypted", data="b3Bh", index=2)),
        delta(ANSWER),
    ],
    "as an object": [delta(reasoning={"content": THOUGHT}), delta(ANSWER)],
    "as parts of Mistral": [
        delta(part(type="thinking", thinking=[{"type": "text", "text": "They want "}])),  # type: ignore[arg-type]
        delta(part(type="thinking", thinking=[{"type": "text", "text": "the tide."}], closed=True)),  # type: ignore[arg-type]
        delta(part(type="text", text=ANSWER)),  # type: ignore[arg-type]
    ],
    "as parts of Anthropic": [
        delta([{"type": "thinking", "thinking": THOUGHT, "signature": "s"}, {"type": "text", "text": ANSWER}])  # type: ignore[arg-type]
    ],
    "as a part of text that is reasoning": [
        delta([{"type": "reasoning", "text": THOUGHT}, {"type": "output_text", "text": ANSWER}])  # type: ignore[arg-type]
    ],
    **{
        f"in <{name}>": [
            delta(f"<{name[:3]}"),
            delta(f"{name[3:]}>They want "),
            delta(f"the tide.</{name}>{ANSWER}"),
        ]
        for name in ("think", "thinking", "thought")
    },
    "in <think> that the template opened": [
        delta("They want "),
        delta("the tide."),
        delta("</think>"),
        delta(ANSWER),
    ],
    "the same, with lines": [delta("They want "), delta("the tide."), delta("</think>\n\n"), delta(ANSWER)],
    "the same, in pieces": [
        delta("They want "),
        *(delta(sign) for sign in "the tide.</think>"),
        *(delta(sign) for sign in ANSWER),
    ],
}


@pytest.mark.parametrize("name", REASONING)
@pytest.mark.asyncio
async def test_reasoning_in_any_form_is_reasoning_once(
    server: ScriptedServer, recorder: MetricsRecorder, name: str
) -> None:
    server.enqueue(sse(*REASONING[name], STOP))
    server.enqueue(sse(delta("Yes."), STOP))
    agent = CreateAgent("openai", "m", base_url=server.openai_url, recorder=recorder)
    response = await agent.chat("How high?")
    assert await response == ANSWER
    events = [event async for event in response.events()]
    assert "".join(event.text for event in events if isinstance(event, Reasoning)) == THOUGHT
    assert "".join(event for event in events if isinstance(event, str)) == ANSWER
    await agent.ask("Sure?")
    assert server.requests[1].json["messages"][1]["content"] == ANSWER
    assert list(recorder.calls["response"]) == [ANSWER, "Yes."]


@pytest.mark.parametrize("name", REASONING)
@pytest.mark.asyncio
async def test_reasoning_of_a_buffered_reply_is_reasoning_once(server: ScriptedServer, name: str) -> None:
    fields: dict[str, Any] = {}
    for each in REASONING[name]:
        for key, value in each["choices"][0]["delta"].items():
            fields[key] = value if fields.get(key) is None else fields[key] + value
    trip = await asked(server, json_reply(chunk(choice(finish="stop", message=fields))), stream=False)
    assert (trip.reasoning, trip.text) == (THOUGHT, ANSWER)


@pytest.mark.asyncio
async def test_a_closing_tag_alone_takes_back_what_was_said(
    server: ScriptedServer, recorder: MetricsRecorder
) -> None:
    gate = threading.Event()
    begin = sse(delta("They want "), delta("the tide."), done=False)
    server.enqueue([*begin, gate, *sse(delta("\n</think>\n\n"), delta(ANSWER), STOP)])
    agent = CreateAgent("openai", "m", base_url=server.openai_url, recorder=recorder)
    response = await agent.chat("How high?")
    tracker, writer = TurnTracker(response), PieceWriter(response)
    seen: list[Any] = []
    async for event in response.events():
        seen.append(event)
        tracker.apply([event])
        writer.write([event])
        if event == "the tide.":
            assert response.text == "They want the tide."
            gate.set()
    assert seen[:3] == ["They want ", "the tide.", TextWasReasoning("They want the tide.\n")]
    assert response.text == ANSWER
    late = TurnTracker(response)
    late.apply(response.events_so_far())
    assert tracker.blocks() == late.blocks() == (ReasoningBlock("They want the tide.\n"), TextBlock(ANSWER))
    pieces = PieceWriter(response).write(response.events_so_far())
    assert pieces == [("reasoning", "They want the tide.\n"), ("text", ANSWER)]


@pytest.mark.parametrize(
    "text",
    [
        "Models end their thoughts with `</think>`, and then answer.",
        'The tag "</think>" ends it.',
        "Write <think> before and </think> after.",
        "A tag like </think> ends it.",
        "```\nThey want the tide.\n</think>\n```",
        "a < b and c </ d",
        "Here is JavaScript:\n\n```js\nconst parts = `${text}</think>${rest}`;\n```\nDone.",
        "Stop sequences:\n\n1. </think>\n2. </answer>",
        "DeepSeek ends its thoughts with </think>\n\nEverything after is the answer.",
        "Use\n\n    </think>\n\nto end.",
        "~~~\nThey want it.\n</think>\n\nSo.\n~~~",
        "````\n```\nThey want it.\n```\n\n</think>\n\nSo.\n````",
        'if x.endswith("</think>\n"): pass',
        "The token [</think>] ends it.",
        "|Tag|\n|</think>|",
        "<code></think></code>",
        "Do you mean </think>?",
        "stop word:</think>.",
        "The closing tag is\n</think>",
        "The closing tag is:\n</think>\n\nIt ends the thoughts.",
        "<think> is a tag that R1 writes.",
        "<thought> elements hold what Gemma thinks.",
        "</think> is the closing tag.",
        "</think>, as R1 writes it, is a tag.",
    ],
)
@pytest.mark.asyncio
async def test_an_answer_about_the_tag_stays_an_answer(server: ScriptedServer, text: str) -> None:
    for texts in ([text], list(text)):
        trip = await asked(server, sse(*map(delta, texts), STOP))
        assert (trip.text, [event for event in trip.events if isinstance(event, TextWasReasoning)]) == (text, [])
    trip = await asked(server, json_reply(chunk(choice(finish="stop", message={"content": text}))), stream=False)
    assert trip.text == text
    end = {"done": True, "done_reason": "stop"}
    assert (await asked(server, ndjson({"message": {"content": text}}, end), "ollama")).text == text


@pytest.mark.parametrize(
    "thought",
    [
        "One.\n",
        "```py\nx = `1`\n```\nSo x.\n",
        "It is 42\n",
        "Use `x`.\n\n- one\n- two\n",
        "One.",
        "One. ",
        "一。",
        "So (2)\n",
    ],
)
@pytest.mark.asyncio
async def test_a_tag_that_stands_alone_ends_the_thoughts(server: ScriptedServer, thought: str) -> None:
    for texts in ([f"{thought}</think>\n\n{ANSWER}"], [*thought, *"</think>", "\n", "\n", ANSWER]):
        trip = await asked(server, sse(*map(delta, texts), STOP))
        (told,) = [event for event in trip.events if isinstance(event, TextWasReasoning | Reasoning)]
        assert thought == (told.text if isinstance(told, Reasoning) else told.reasoning)
        assert trip.text.endswith(ANSWER)


@pytest.mark.asyncio
async def test_a_thought_that_was_cut_stays_a_thought(server: ScriptedServer) -> None:
    trip = await asked(server, sse(delta("<think>They want"), delta(finish="length")))
    assert (trip.reasoning, trip.text) == ("They want", "")


# ── halves of an emoji ──


def halves(write: Callable[[str], str]) -> list[str]:
    return [write("a\\ud83d"), write("\\ude00b")]


@pytest.mark.asyncio
async def test_halves_of_an_emoji_in_two_events_are_joined(server: ScriptedServer) -> None:
    for field in ("content", "reasoning_content"):
        pieces = halves(lambda half, field=field: f'{{"choices":[{{"delta":{{"{field}":"{half}"}}}}]}}')  # type: ignore[misc]
        trip = await asked(server, sse(delta("Hi "), *pieces, delta("."), STOP))
        assert trip.text + trip.reasoning == ("Hi a😀b." if field == "content" else "Hi .a😀b")
    pieces = halves(lambda half: f'{{"message":{{"content":"{half}"}}}}')
    assert (await asked(server, ndjson(*pieces, {"done": True}), "ollama")).text == "a😀b"
    pieces = halves(lambda half: f'{{"message":{{"thinking":"{half}"}}}}')
    assert (await asked(server, ndjson(*pieces, {"done": True}), "ollama")).reasoning == "a😀b"
    for kind in ("output_text", "reasoning_text"):
        pieces = halves(
            lambda half, kind=kind: f'{{"type":"response.{kind}.delta","item_id":"m","delta":"{half}"}}'
        )  # type: ignore[misc]
        end = {"type": "response.completed", "response": {"status": "completed", "output": []}}
        trip = await asked(server, sse(*pieces, end), "responses")
        assert trip.text + trip.reasoning == "a😀b"


@pytest.mark.asyncio
async def test_a_half_that_stays_alone_is_replaced(server: ScriptedServer) -> None:
    first, second = halves(lambda half: f'{{"choices":[{{"delta":{{"content":"{half}"}}}}]}}')
    assert (await asked(server, sse(first, delta("c"), STOP))).text == "a\ufffdc"
    assert (await asked(server, sse(first, STOP))).text == "a\ufffd"
    assert (await asked(server, sse(second, STOP))).text == "\ufffdb"


@pytest.mark.parametrize("kind", ["openai", "ollama"])
@pytest.mark.parametrize("halves_in", ["\\ud83d", "a\\ud83d\\ude00 \\ude00"])
@pytest.mark.asyncio
async def test_half_an_emoji_in_arguments_goes_back_as_text(
    server: ScriptedServer, recorder: MetricsRecorder, kind: str, halves_in: str
) -> None:
    seen: list[str] = []

    @tool
    def note(text: str) -> str:
        """Write down."""
        seen.append(text)
        return text

    arguments = f'{{"text": "{halves_in}"}}'
    if kind == "openai":
        server.enqueue(sse(calling(call(arguments, "note", "c")), CALLS))
        server.enqueue(sse(delta("Done."), STOP))
    else:
        asks = f'{{"message":{{"tool_calls":[{{"function":{{"name":"note","arguments":{arguments}}}}}]}}}}'
        server.enqueue(ndjson(asks, {"done": True}))
        server.enqueue(ndjson({"message": {"content": "Done."}}, {"done": True}))
    url = server.openai_url if kind == "openai" else server.url
    agent = CreateAgent(kind, "m", base_url=url, recorder=recorder, tools=[note])
    assert await agent.ask("Go") == "Done."
    assert seen == ["\ufffd" if halves_in == "\\ud83d" else "a😀 \ufffd"]
    assert b'\\ud83d"' not in server.requests[1].body


@pytest.mark.asyncio
async def test_halves_in_two_pieces_of_arguments_are_joined(server: ScriptedServer) -> None:
    for first, second in (("\\ud83d", "\\ude00"), ("\\\\ud83d", "\\\\ude00")):
        pieces = [
            f'{{"choices":[{{"delta":{{"tool_calls":[{{"index":0,"function":{{{piece}}}}}]}}}}]}}'
            for piece in (
                f'"name":"f","arguments":"{{\\"a\\": \\"{first}"',
                f'"arguments":"{second}\\"}}"',
            )
        ]
        assert calls_of(await asked(server, sse(*pieces, CALLS))) == [("f", {"a": "😀"})]


# ── values where something else belongs ──

ODD_CHUNKS: dict[str, Any] = {
    "null": "null",
    "a number": "7",
    "true": "true",
    "an empty object": "{}",
    "a list of nothing": "[]",
    "null content": delta(content=None),
    "a number as content": {"choices": [{"index": 0, "delta": {"content": 7}}]},
    "an object as content": {"choices": [{"index": 0, "delta": {"content": {"a": 1}}}]},
    "false as content": {"choices": [{"index": 0, "delta": {"content": False}}]},
    "a number as delta": {"choices": [{"index": 0, "delta": 7}]},
    "a number as choices": {"choices": 7},
    "numbers as choices": {"choices": [7, None]},
    "an empty object as choices": {"choices": {}},
    "false as finish_reason": {"choices": [{"index": 0, "delta": {}, "finish_reason": False}]},
    "a number as reasoning": {"choices": [{"index": 0, "delta": {"reasoning_content": 7, "thought": True}}]},
    "a number as refusal": {"choices": [{"index": 0, "delta": {"refusal": 0}}]},
    "a text as usage": {"choices": [], "usage": "none"},
    "a list as model": {"choices": [], "model": ["m"]},
    "a ping": {"type": "ping"},
    "a ping without JSON": "%ping",
    "a keepalive without JSON": "%keepalive",
}


@pytest.mark.parametrize("name", ODD_CHUNKS)
@pytest.mark.asyncio
async def test_what_cannot_be_read_is_skipped(server: ScriptedServer, name: str) -> None:
    odd = written([ODD_CHUNKS[name]])
    said, rest = sse(delta("Clear "), done=False), sse(delta("sky."), STOP)
    for stream in ([*odd, *said, *rest], [*said, *odd, *rest]):
        trip = await asked(server, stream)
        assert (trip.text, trip.end.finish_reason, trip.end.model) == ("Clear sky.", "stop", "m")


@pytest.mark.parametrize(
    "noise", [b": ping\n\n", b"event: ping\ndata: {}\n\n", b"data:\n\n", b"event: ping\n\n", b"\n\n"]
)
@pytest.mark.asyncio
async def test_pings_are_nothing(server: ScriptedServer, noise: bytes) -> None:
    trip = await asked(server, [noise, *sse(delta("Hi"), done=False), noise, *sse(STOP), noise])
    assert (trip.text, trip.end.finish_reason) == ("Hi", "stop")


@pytest.mark.parametrize(
    "line",
    [
        "null",
        "7",
        {},
        {"message": None},
        {"message": "7 of 9"},
        {"message": {"content": None}},
        {"message": {"content": 7}},
        {"message": {"content": {"a": 1}}},
        {"message": {"thinking": 7, "tool_calls": {}}},
        {"message": {"content": ""}, "done": None},
        {"message": {"content": ""}, "done_reason": 7},
    ],
)
@pytest.mark.asyncio
async def test_what_cannot_be_read_of_ollama_is_skipped(server: ScriptedServer, line: Any) -> None:
    said = (
        {"message": {"content": "Clear "}},
        {"message": {"content": "sky."}, "done": True, "done_reason": "stop"},
    )
    for lines in ((line, *said), (said[0], line, said[1])):
        trip = await asked(server, ndjson(*lines), "ollama")
        assert (trip.text, trip.end.finish_reason) == ("Clear sky.", "stop")


@pytest.mark.parametrize("event", ["null", "7", "[]", {}, {"type": 7}, {"type": "ping"}, "%keepalive"])
@pytest.mark.asyncio
async def test_what_cannot_be_read_of_responses_is_skipped(server: ScriptedServer, event: Any) -> None:
    said = sse({"type": "response.output_text.delta", "item_id": "m", "delta": "Clear sky."}, done=False)
    end = sse({"type": "response.completed", "response": {"status": "completed", "output": []}})
    for stream in ([*written([event]), *said, *end], [*said, *written([event]), *end]):
        trip = await asked(server, stream, "responses")
        assert (trip.text, trip.end.finish_reason) == ("Clear sky.", "stop")


# ── incomplete replies ──


@pytest.mark.parametrize("said", [(), ("Half of ",)])
@pytest.mark.asyncio
async def test_a_finish_reason_that_stays_null_is_no_end(server: ScriptedServer, said: tuple[str, ...]) -> None:
    chunks = [delta(role="assistant"), *map(delta, said)]
    trip = await asked(server, sse(*chunks))
    assert trip.text == "".join(said)
    assert isinstance(trip.failure, IncompleteReplyError)
    trip = await asked(server, sse(*chunks, {"choices": [], "usage": {"completion_tokens": 1}}))
    assert isinstance(trip.failure, IncompleteReplyError)


@pytest.mark.asyncio
async def test_a_server_that_names_no_finish_reason_ends_with_its_mark(server: ScriptedServer) -> None:
    said = {"choices": [{"index": 0, "delta": {"content": "Hi"}}]}
    assert (await asked(server, sse(said))).end.finish_reason is None
    assert isinstance((await asked(server, sse(said, done=False))).failure, IncompleteReplyError)


@pytest.mark.asyncio
async def test_a_buffered_reply_with_nothing_in_it_and_no_end_is_incomplete(server: ScriptedServer) -> None:
    whole = chunk(choice(message={"role": "assistant", "content": ""}))
    assert isinstance((await asked(server, json_reply(whole), stream=False)).failure, IncompleteReplyError)
    whole = chunk(choice(message={"role": "assistant", "content": "Hi"}))
    assert (await asked(server, json_reply(whole), stream=False)).end.finish_reason is None


@pytest.mark.asyncio
async def test_text_after_an_end_without_one_is_the_answer(server: ScriptedServer) -> None:
    done = {"message": {"content": ""}, "done": True, "done_reason": "stop"}
    trip = await asked(server, ndjson(done, {"message": {"content": "Hi"}}, done), "ollama")
    assert (trip.text, trip.end.finish_reason) == ("Hi", "stop")


@pytest.mark.asyncio
async def test_a_model_that_was_only_loaded_twice_is_an_error(server: ScriptedServer) -> None:
    loaded = {"message": {"content": ""}, "done": True, "done_reason": "load"}
    server.enqueue(ndjson(loaded))
    trip = await asked(server, ndjson(loaded), "ollama")
    assert isinstance(trip.failure, EmptyReplyError)
    assert len(server.requests) == 2


# ── calls that a server leaves in the text ──


def gauge(station: str = "south") -> str:
    """Read a gauge."""
    return station


MARKUP = [
    '<tool_call>\n{"name": "gauge", "arguments": {}}\n</tool_call>',
    '[TOOL_CALLS][{"name": "gauge", "arguments": {}}]',
    '<|python_tag|>{"name": "gauge", "parameters": {}}',
    "<function=gauge>{}</function>",
    "<tool_call>gauge\n<arg_key>station</arg_key>\n<arg_value>north</arg_value>\n</tool_call>",
    "<tool_call>gauge\n</tool_call>",
    '<minimax:tool_call>\n<invoke name="gauge">\n</invoke>\n</minimax:tool_call>',
    '<function_calls>\n<invoke name="gauge">\n</invoke>\n</function_calls>',
    'functools[{"name": "gauge", "arguments": {}}]',
    '`now`<tool_call>{"name": "gauge", "arguments": {"station": "`s`"}}</tool_call>',
    'First:\n```python\nx\n```\n<tool_call>{"name": "gauge", "arguments": {}}</tool_call>',
]
MENTIONED = [
    "Hermes writes `<tool_call>{` and a tag.",
    'In Hermes, `<tool_call>{"name": …}</tool_call>` is the format.',
    'In Hermes, `say <tool_call>{"name": …}` is the format.',
    'In Hermes, ``<tool_call>{"name": "`ls`"}`` is the format.',
    'Hermes:\n```xml\n<tool_call>\n{"name": "gauge", "arguments": {}}\n</tool_call>\n```\nThat is all.',
    'Hermes:\n~~~\n<tool_call>{"name": "gauge"}\n~~~',
    'Hermes:\n````\n```\n<tool_call>{"name": "gauge"}\n```\n````',
    '- Hermes:\n  ```xml\n  <tool_call>\n  {"name": "gauge"}',
    "`functools[{` and\n```\nfunctools[{}]\n```",
    "from functools import cache; functools[0]",
    "The <tool_call> tag and the <function_calls> tag.",
]


async def notices(agent: CreateAgent) -> list[str]:
    response = await agent.chat("Go")
    return [event.text async for event in response.events() if isinstance(event, Notice)]


@pytest.mark.parametrize("markup", MARKUP)
@pytest.mark.asyncio
async def test_a_call_left_in_the_text_names_the_option_of_the_server_once(
    server: ScriptedServer, recorder: MetricsRecorder, markup: str
) -> None:
    for _ in range(2):
        server.enqueue(sse(*map(delta, markup), STOP))
    agent = CreateAgent("openai", "m", base_url=server.openai_url, recorder=recorder, tools=[tool(gauge)])
    (line,) = await notices(agent)
    assert "--jinja" in line
    assert "--enable-auto-tool-choice --tool-call-parser" in line
    assert await notices(agent) == []


@pytest.mark.parametrize(("preset", "option"), [("llamacpp", "--jinja"), ("vllm", "--enable-auto-tool-choice")])
@pytest.mark.asyncio
async def test_a_call_left_in_the_text_of_a_known_server_names_its_option(
    server: ScriptedServer, recorder: MetricsRecorder, preset: str, option: str
) -> None:
    server.enqueue(sse(delta(MARKUP[0]), STOP))
    agent = CreateAgent(preset, "m", base_url=server.openai_url, recorder=recorder, tools=[tool(gauge)])
    (line,) = await notices(agent)
    assert option in line
    assert ("--jinja" in line) == (preset == "llamacpp")


@pytest.mark.parametrize("mentioned", MENTIONED)
@pytest.mark.asyncio
async def test_an_answer_about_the_markup_or_without_tools_has_no_notice(
    server: ScriptedServer, recorder: MetricsRecorder, mentioned: str
) -> None:
    server.enqueue(sse(delta(mentioned), STOP))
    agent = CreateAgent("openai", "m", base_url=server.openai_url, recorder=recorder, tools=[tool(gauge)])
    assert await notices(agent) == []
    server.enqueue(sse(delta(MARKUP[0]), STOP))
    assert await notices(CreateAgent("openai", "m", base_url=server.openai_url, recorder=recorder)) == []


# ── rounds that ended early ──


def item(**fields: Any) -> dict[str, Any]:
    return {"type": "function_call", "id": "f1", "call_id": "c1", "name": "f", "arguments": '{"a":1}'} | fields


def response(*output: Any, **fields: Any) -> dict[str, Any]:
    return {"object": "response", "status": "completed", "output": list(output)} | fields


def completed(*output: Any, **fields: Any) -> dict[str, Any]:
    return {"type": "response.completed", "response": response(*output, **fields)}


EARLY: dict[str, list[Any]] = {
    "a limit, then a stop": [calling(WHOLE_CALL), delta(finish="length"), STOP],
    "a limit, then a stop in the same chunk": [
        calling(WHOLE_CALL),
        chunk(choice(finish="length"), choice(finish="stop")),
    ],
    "a limit of another choice with the calls": [
        chunk(
            choice(delta={"content": "Hi"}, finish="stop"),
            choice(1, delta={"tool_calls": [WHOLE_CALL]}, finish="length"),
        )
    ],
    "a filter of another choice with the calls": [
        chunk(choice(1, delta={"tool_calls": [WHOLE_CALL]}, finish="content_filter")),
        chunk(choice(delta={"content": "Hi"}, finish="stop")),
    ],
    "a limit of another choice with the text": [
        chunk(
            choice(delta={"tool_calls": [WHOLE_CALL]}, finish="tool_calls"),
            choice(1, delta={"content": "Hi"}, finish="length"),
        )
    ],
    "a limit in the server's own word": [
        calling(WHOLE_CALL),
        chunk(choice(delta={}, finish="tool_calls", native_finish_reason="MAX_TOKENS")),
    ],
}


@pytest.mark.parametrize("name", EARLY)
@pytest.mark.asyncio
async def test_an_early_end_is_not_forgotten(server: ScriptedServer, name: str) -> None:
    assert ended_early((await asked(server, sse(*EARLY[name]))).end.finish_reason)


@pytest.mark.asyncio
async def test_an_early_end_of_a_choice_that_does_not_count_is_left_out(server: ScriptedServer) -> None:
    chunks = chunk(
        choice(delta={"content": "Hi"}, finish="stop"), choice(1, delta={"content": "Ho"}, finish="length")
    )
    assert (await asked(server, sse(chunks))).end.finish_reason == "stop"
    native = chunk(choice(delta={"content": "Hi"}, finish="stop", native_finish_reason="STOP"))
    assert (await asked(server, sse(native))).end.finish_reason == "stop"


@pytest.mark.parametrize(
    "end",
    [
        response(item(), status="incomplete", incomplete_details={"reason": "timeout"}),
        response(item(), status="incomplete", incomplete_details=None),
        response(item(status="incomplete", arguments="")),
        response(item(status="incomplete", arguments='{"a":')),
    ],
)
@pytest.mark.asyncio
async def test_a_response_that_ended_early_says_so(server: ScriptedServer, end: dict[str, Any]) -> None:
    assert ended_early((await asked(server, json_reply(end), "responses", stream=False)).end.finish_reason)
    streamed = {"type": f"response.{end['status']}", "response": end}
    assert ended_early((await asked(server, sse(streamed), "responses")).end.finish_reason)


# ── what is no error, and no answer ──

NO_ERRORS = [
    {"code": 0, "message": "Success", "sid": "x"},
    {"code": 0, "message": "Success", "sid": "x", "choices": []},
    {"code": 200, "msg": "success"},
    {"event": "done", "message": "completed"},
    {"status": "ok", "message": "stream finished"},
    {"title": "Conversation about ferries"},
    {"object": "metrics", "detail": "latency 3ms"},
    {"type": "meta", "detail": {"latency": 3}},
    {"choices": [], "error": {"code": 0, "message": "success"}},
    {"choices": [], "error": "success"},
    {"choices": [], "error": "null"},
]
NO_JSON = [
    "[PING]",
    "[HEARTBEAT]",
    "[KEEPALIVE]",
    "[START]",
    "[END]",
    "[EOF]",
    "keep alive",
    "ok",
    "done",
    "DONE",
    "processing",
    "connected",
    "1764454721",
    "2026-11-29T22:18:41.5Z",
    "ping",
]


@pytest.mark.parametrize("extra", [*NO_ERRORS, *NO_JSON], ids=str)
@pytest.mark.asyncio
async def test_what_is_no_error_and_no_answer_is_skipped(server: ScriptedServer, extra: Any) -> None:
    orders = [(extra, delta(FERRY), STOP), (delta(FERRY), extra, STOP), (delta(FERRY), STOP, extra)]
    for payloads in orders:
        trip = await asked(server, sse(*payloads))
        assert (trip.text, trip.end.finish_reason) == (FERRY, "stop")
    said = {"type": "response.output_text.delta", "delta": FERRY}
    for payloads in (extra, said, completed()), (said, extra, completed()), (said, completed(), extra):
        trip = await asked(server, sse(*payloads), "responses")
        assert (trip.text, trip.end.finish_reason) == (FERRY, "stop")
    line, end = {"message": {"content": FERRY}}, {"done": True, "done_reason": "stop"}
    for payloads in (extra, line, end), (line, extra, end), (line, end, extra):
        trip = await asked(server, ndjson(*payloads), "ollama")
        assert (trip.text, trip.end.finish_reason) == (FERRY, "stop")


@pytest.mark.parametrize("extra", ["{broken", "[1,", "<html>", "event: error\ndata: null"])
@pytest.mark.asyncio
async def test_what_cannot_be_read_after_the_end_is_skipped(server: ScriptedServer, extra: str) -> None:
    block = f"{extra}\n\n" if extra.startswith("event") else f"data: {extra}\n\n"
    usage = {"choices": [], "usage": {"prompt_tokens": 3}}
    trip = await asked(server, [*sse(delta(FERRY), STOP, done=False), block.encode(), *sse(usage)])
    assert (trip.text, trip.end.usage.input_tokens) == (FERRY, 3)
    failed = await asked(server, [*sse(delta(FERRY), done=False), block.encode(), *sse(STOP)])
    assert isinstance(failed.error, ProviderError)


# ── answers in other places ──

HI = [
    [chunk(choice(text="The ferry ")), chunk(choice(text="leaves at nine.", finish="stop"))],
    [chunk(choice(at, delta={"content": word})) for at, word in enumerate(["The ferry ", "leaves ", "at nine."])]
    + [chunk(choice(3, delta={}, finish="stop"))],
    [delta([{"type": "text", "text": {"value": FERRY}}], "stop")],  # type: ignore[arg-type]
    [chunk(choice(delta={"content": FERRY}, finish=1))],
    [chunk(choice(delta={"content": FERRY}, finish=["stop"]))],
    [chunk(choice(delta={"content": FERRY}, finish={"reason": "stop"}))],
]


@pytest.mark.parametrize("chunks", HI, ids=range(len(HI)))
@pytest.mark.asyncio
async def test_an_answer_in_another_place_is_found(server: ScriptedServer, chunks: list[Any]) -> None:
    trip = await asked(server, sse(*chunks))
    assert (trip.text, trip.end.finish_reason) == (FERRY, "stop")


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({"text": FERRY}, FERRY),
        ({"message": {"content": 42}}, "42"),
        ({"message": {"content": {"answer": "Hi"}}}, '{"answer": "Hi"}'),
        ({"message": {"content": [{"type": "text", "text": {"value": "Hi"}}]}}, "Hi"),
    ],
)
@pytest.mark.asyncio
async def test_a_buffered_answer_of_another_form_is_found(
    server: ScriptedServer, fields: dict[str, Any], text: str
) -> None:
    assert (await asked(server, json_reply(chunk(choice(finish="stop", **fields))), stream=False)).text == text


@pytest.mark.parametrize("place", ["delta", "message"])
@pytest.mark.asyncio
async def test_an_error_inside_a_message_is_raised(server: ScriptedServer, place: str) -> None:
    error = chunk(choice(finish="stop", **{place: {"error": {"message": "overloaded"}}}))
    assert "overloaded" in str((await asked(server, sse(error))).failure)


def said(text: Any) -> dict[str, Any]:
    return {"type": "response.output_text.delta", "item_id": "m", "output_index": 0, "delta": text}


@pytest.mark.parametrize(
    "events",
    [
        [said({"text": FERRY}), completed()],
        [completed({"type": "message", "id": "m", "content": FERRY})],
        [completed(output_text=FERRY)],
        [said(FERRY[:9]), completed({"type": "message", "id": "m", "content": [{"text": FERRY}]})],
    ],
)
@pytest.mark.asyncio
async def test_a_response_of_another_form_is_found(server: ScriptedServer, events: list[Any]) -> None:
    assert (await asked(server, sse(*events), "responses")).text == FERRY


@pytest.mark.parametrize(
    "line",
    [
        {"message": {"content": [{"type": "text", "text": FERRY}]}},
        {"response": FERRY},
        {"message": FERRY, "model": "m", "done": False},
    ],
)
@pytest.mark.parametrize("done", [True, 1, "true"])
@pytest.mark.asyncio
async def test_lines_of_ollama_of_another_form_are_found(
    server: ScriptedServer, line: dict[str, Any], done: Any
) -> None:
    assert (await asked(server, ndjson(line, {"done": done}), "ollama")).text == FERRY
    assert (await asked(server, json_reply(line | {"done": done}), "ollama", stream=False)).text == FERRY


CALL_FORMS: dict[str, list[Any]] = {
    "a placeholder first": [calling(call("[]", "f", "c")), calling(call('{"a": 1}'))],
    "in both fields": [delta(tool_calls=[WHOLE_CALL], function_call={"name": "f", "arguments": '{"a":1}'})],
}


@pytest.mark.parametrize("name", CALL_FORMS)
@pytest.mark.asyncio
async def test_a_call_in_two_forms_is_one(server: ScriptedServer, name: str) -> None:
    assert calls_of(await asked(server, sse(*CALL_FORMS[name], CALLS))) == [("f", {"a": 1})]


@pytest.mark.asyncio
async def test_an_empty_list_as_arguments_of_a_response_is_no_argument(server: ScriptedServer) -> None:
    assert calls_of(await asked(server, sse(completed(item(arguments="[]"))), "responses")) == [("f", {})]


@pytest.mark.parametrize("field", ["reasoning_content", "reasoning_details", "extra_content"])
@pytest.mark.asyncio
async def test_no_half_of_an_emoji_goes_back(
    server: ScriptedServer, recorder: MetricsRecorder, field: str
) -> None:
    value = {
        "reasoning_content": '"a\\ud83d"',
        "reasoning_details": '[{"type":"reasoning.text","text":"a\\ud83d"}]',
        "extra_content": '{"a":"a\\ud83d"}',
    }[field]
    server.enqueue(sse(f'{{"choices":[{{"delta":{{"{field}":{value}}}}}]}}', delta("Hi"), STOP))
    server.enqueue(sse(delta("Yes."), STOP))
    agent = CreateAgent("openai", "m", base_url=server.openai_url, recorder=recorder)
    assert await agent.ask("Go") == "Hi"
    assert await agent.ask("Sure?") == "Yes."
    assert "\\ud83d" not in json.dumps(server.requests[1].json)


@pytest.mark.asyncio
async def test_a_call_of_a_response_that_comes_again_under_a_new_id_is_one(server: ScriptedServer) -> None:
    events = [
        {"type": "response.output_item.added", "output_index": 0, "item": item(arguments="")},
        {"type": "response.function_call_arguments.delta", "output_index": 0, "delta": '{"a":1}'},
        {"type": "response.output_item.done", "output_index": 0, "item": item(call_id="c2")},
    ]
    assert calls_of(await asked(server, sse(*events, completed()), "responses")) == [("f", {"a": 1})]
