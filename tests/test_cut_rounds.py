"""Rounds that a token limit, a content filter or an error ended: no call of theirs runs, and everybody is told."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from family import Reply, ScriptedServer, json_reply, ndjson, sse
from responses_script import call, event_stream, message, response, stream

from createagents_nb import CreateAgent, MetricsRecorder, tool
from createagents_nb.core.events import cut_by, ended_early, is_cut, is_failed, is_filtered
from createagents_nb.errors import ContentFilteredError, ServerError
from createagents_nb.notebook import commands
from createagents_nb.notebook.views import open_view
from createagents_nb.render.bundle import render_bundle
from createagents_nb.render.turn_state import TurnTracker

Call = tuple[str, str]
"""A tool's name, and its arguments as far as they came."""

APIS = ("chat", "responses", "ollama")
MODES = pytest.mark.parametrize("is_streamed", [True, False], ids=["streamed", "buffered"])
EVERY_API = pytest.mark.parametrize("api", APIS)


def chat_reply(is_streamed: bool, text: str, calls: Sequence[Call], reason: str) -> Reply | list[bytes]:
    asked = [
        {"index": at, "id": f"c{at}", "type": "function", "function": {"name": name, "arguments": arguments}}
        for at, (name, arguments) in enumerate(calls)
    ]
    said = {"role": "assistant", "content": text, **({"tool_calls": asked} if asked else {})}
    if is_streamed:
        return sse(
            {"choices": [{"index": 0, "delta": said, "finish_reason": None}]},
            {"choices": [{"index": 0, "delta": {}, "finish_reason": reason}]},
        )
    return json_reply({"choices": [{"index": 0, "message": said, "finish_reason": reason}]})


def responses_reply(is_streamed: bool, text: str, calls: Sequence[Call], reason: str) -> Reply | list[bytes]:
    output = [message(text)] if text else []
    output += [call(name, arguments, f"c{at}", status="incomplete") for at, (name, arguments) in enumerate(calls)]
    more: dict[str, Any] = {}
    if ended_early(reason):
        more = {"status": "incomplete", "incomplete_details": {"reason": reason}}
    return Reply(event_stream(stream(*output, **more))) if is_streamed else json_reply(response(*output, **more))


def ollama_reply(is_streamed: bool, text: str, calls: Sequence[Call], reason: str) -> Reply | list[bytes]:
    asked = [{"function": {"name": name, "arguments": json.loads(arguments)}} for name, arguments in calls]
    said = {"role": "assistant", "content": text, **({"tool_calls": asked} if asked else {})}
    end = {"model": "m", "done": True, "done_reason": reason}
    if is_streamed:
        empty = {"role": "assistant", "content": ""}
        return ndjson({"model": "m", "message": said, "done": False}, end | {"message": empty})
    return json_reply(end | {"message": said})


REPLIES = {"chat": chat_reply, "responses": responses_reply, "ollama": ollama_reply}
CUT = {"chat": "length", "responses": "max_output_tokens", "ollama": "length"}


@dataclass
class Talk:
    """An agent with a tool that must not run by accident: all its parameters have defaults."""

    server: ScriptedServer
    recorder: MetricsRecorder
    api: str = "chat"
    is_streamed: bool = True
    ran: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        @tool
        def clear_readings(days: int = 30) -> str:
            """Delete readings."""
            self.ran.append(days)
            return "deleted"

        is_ollama = self.api == "ollama"
        self.agent = CreateAgent(
            "ollama" if is_ollama else "openai",
            "m",
            base_url=self.server.url if is_ollama else self.server.openai_url,
            config={"stream": self.is_streamed} | ({} if is_ollama else {"api": self.api}),
            tools=[clear_readings],
            recorder=self.recorder,
            max_retries=0,
        )

    def replies(self, text: str = "", calls: Sequence[Call] = (), reason: str = "stop") -> None:
        self.server.enqueue(REPLIES[self.api](self.is_streamed, text, calls, reason))

    async def ask(self, prompt: str = "Go on") -> Any:
        turn = await self.agent.chat(prompt)
        await turn.wait()
        return turn


@EVERY_API
@MODES
@pytest.mark.parametrize("arguments", ["{}", '{"days": 3}'])
@pytest.mark.asyncio
async def test_calls_of_a_cut_round_do_not_run_and_the_model_is_told_once(
    server: ScriptedServer, recorder: MetricsRecorder, api: str, is_streamed: bool, arguments: str
) -> None:
    talk = Talk(server, recorder, api, is_streamed)
    talk.replies("Let me", [("clear_readings", arguments)], CUT[api])
    talk.replies("Nothing was deleted.")
    turn = await talk.ask()
    assert talk.ran == []
    assert (turn.status, turn.text) == ("ok", "Let meNothing was deleted.")
    assert len(server.requests) == 2
    told = json.dumps(server.requests[1].json)
    assert "not run: the reply was cut off by max_tokens" in told
    assert recorder.requests["finish_reason"].tolist()[0] == CUT[api]
    assert recorder.tools.empty


@EVERY_API
@MODES
@pytest.mark.asyncio
async def test_a_model_that_is_cut_again_and_again_is_asked_once_more_at_most(
    server: ScriptedServer, recorder: MetricsRecorder, api: str, is_streamed: bool
) -> None:
    talk = Talk(server, recorder, api, is_streamed)
    for _ in range(2):
        talk.replies("", [("clear_readings", "{}")], CUT[api])
    turn = await talk.ask()
    assert (turn.status, turn.finish_reason, talk.ran) == ("limit", CUT[api], [])
    assert len(server.requests) == 2
    talk.replies("Here I am.")
    assert (await talk.ask()).text == "Here I am."
    assert talk.agent.history[-3].text == "[cut off: max_tokens]"


@pytest.mark.parametrize("api", ["chat", "responses"])
@MODES
@pytest.mark.asyncio
async def test_arguments_that_were_cut_in_the_middle_go_back_as_json(
    server: ScriptedServer, recorder: MetricsRecorder, api: str, is_streamed: bool
) -> None:
    talk = Talk(server, recorder, api, is_streamed)
    talk.replies("", [("clear_readings", "{}"), ("clear_readings", '{"days": 3')], CUT[api])
    talk.replies("Fine.")
    turn = await talk.ask()
    assert (turn.status, talk.ran) == ("ok", [])
    body = server.requests[1].json
    if api == "chat":
        calls = [each["function"] for each in body["messages"][-3]["tool_calls"]]
        answers = [each for each in body["messages"] if each["role"] == "tool"]
    else:
        calls = [each for each in body["input"] if each.get("type") == "function_call"]
        answers = [each for each in body["input"] if each.get("type") == "function_call_output"]
    assert all(isinstance(json.loads(each["arguments"]), dict) for each in calls)
    assert len(answers) == len(calls) > 0


@EVERY_API
@MODES
@pytest.mark.asyncio
async def test_cut_text_is_a_limit_and_nobody_is_asked_again(
    server: ScriptedServer, recorder: MetricsRecorder, api: str, is_streamed: bool
) -> None:
    talk = Talk(server, recorder, api, is_streamed)
    talk.replies("The tide is", (), CUT[api])
    turn = await talk.ask()
    assert (turn.status, turn.text, turn.error) == ("limit", "The tide is", None)
    assert len(server.requests) == 1
    row = recorder.calls.iloc[0]
    assert (row["status"], row["finish_reason"]) == ("limit", CUT[api])
    assert talk.agent.history[-1].text == "The tide is\n\n[cut off: max_tokens]"
    assert talk.agent.history[-1].status == "limit"


@pytest.mark.parametrize(
    "reason", ["content_filter", "SAFETY", "content-filter", "sensitive", "content_filter: X"]
)
@pytest.mark.parametrize("calls", [[], [("clear_readings", "{}")]], ids=["text", "call"])
@MODES
@pytest.mark.asyncio
async def test_a_filtered_answer_is_an_error_and_the_next_turn_goes_without_it(
    server: ScriptedServer, recorder: MetricsRecorder, is_streamed: bool, calls: list[Call], reason: str
) -> None:
    talk = Talk(server, recorder, "chat", is_streamed)
    talk.replies("Once upon", calls, reason)
    turn = await talk.ask("A story")
    assert (turn.status, turn.text, turn.finish_reason) == ("error", "Once upon", reason)
    assert isinstance(turn.error, ContentFilteredError)
    assert (len(server.requests), talk.ran) == (1, [])
    row = recorder.calls.iloc[0]
    assert (row["status"], row["error_type"], row["finish_reason"]) == ("error", "ContentFilteredError", reason)
    question, answer = talk.agent.history
    assert (question.left_out, answer.left_out, answer.status) == (True, True, "error")
    assert answer.text == "Once upon\n\n[blocked by a content filter]"
    talk.replies("Hello.")
    assert (await talk.ask("Hi")).text == "Hello."
    assert [each["content"] for each in server.requests[1].json["messages"]] == ["Hi"]


@MODES
@pytest.mark.asyncio
async def test_a_filtered_reply_of_the_responses_api_is_an_error(
    server: ScriptedServer, recorder: MetricsRecorder, is_streamed: bool
) -> None:
    talk = Talk(server, recorder, "responses", is_streamed)
    talk.replies("Once", [("clear_readings", "{}")], "content_filter")
    turn = await talk.ask()
    assert isinstance(turn.error, ContentFilteredError)
    assert (turn.text, talk.ran) == ("Once", [])


@EVERY_API
@MODES
@pytest.mark.parametrize("is_filtered", [False, True], ids=["cut", "filtered"])
@pytest.mark.asyncio
async def test_an_end_without_a_word_before_it_is_told_as_such(
    server: ScriptedServer, recorder: MetricsRecorder, api: str, is_streamed: bool, is_filtered: bool
) -> None:
    talk = Talk(server, recorder, api, is_streamed)
    talk.replies("", (), "content_filter" if is_filtered else CUT[api])
    turn = await talk.ask()
    assert (turn.status, turn.text) == ("error" if is_filtered else "limit", "")
    assert isinstance(turn.error, ContentFilteredError) is is_filtered
    mark = "[blocked by a content filter]" if is_filtered else "[cut off: max_tokens]"
    assert talk.agent.history[-1].text == mark


@pytest.mark.parametrize("reason", ["error", "abort", "insufficient_system_resource", "network_error"])
@pytest.mark.asyncio
async def test_calls_of_a_round_that_an_error_ended_do_not_run(
    server: ScriptedServer, recorder: MetricsRecorder, reason: str
) -> None:
    talk = Talk(server, recorder)
    talk.replies("Half", [("clear_readings", "{}")], reason)
    turn = await talk.ask()
    assert (turn.status, turn.text, talk.ran) == ("error", "Half", [])
    assert isinstance(turn.error, ServerError)


@pytest.mark.asyncio
async def test_a_round_after_a_cut_one_may_use_tools_and_be_cut_again(
    server: ScriptedServer, recorder: MetricsRecorder
) -> None:
    talk = Talk(server, recorder)
    talk.replies("", [("clear_readings", "{}")], "length")
    talk.replies("", [("clear_readings", '{"days": 1}')], "tool_calls")
    talk.replies("", [("clear_readings", "{}")], "length")
    talk.replies("Done.")
    turn = await talk.ask()
    assert (turn.status, turn.text, talk.ran) == ("ok", "Done.", [1])
    assert [record.round for record in turn.requests] == [1, 2, 3, 4]


@pytest.mark.asyncio
async def test_the_limit_of_tool_rounds_has_its_own_words(
    server: ScriptedServer, recorder: MetricsRecorder
) -> None:
    talk = Talk(server, recorder)
    talk.agent = CreateAgent(
        "openai", "m", base_url=server.openai_url, tools=talk.agent._settings.tools, max_tool_rounds=1
    )
    for _ in range(2):
        talk.replies("", [("clear_readings", "{}")], "tool_calls")
    turn = await talk.ask()
    assert (turn.status, turn.finish_reason) == ("limit", "tool_calls")
    assert "tool limit reached" in shown(turn)["text/plain"]
    assert talk.agent.history[-1].text == "[stopped: too many rounds of tools]"


def shown(turn: Any) -> dict[str, Any]:
    tracker = TurnTracker(turn)
    tracker.apply(turn.events_so_far())
    return render_bundle(tracker.snapshot())


@pytest.mark.parametrize(
    ("reason", "words"),
    [("length", "cut off by max_tokens"), ("model_length", "cut off by the model&#x27;s context")],
)
@pytest.mark.asyncio
async def test_the_cell_says_what_cut_the_answer(
    server: ScriptedServer, recorder: MetricsRecorder, reason: str, words: str
) -> None:
    talk = Talk(server, recorder)
    talk.replies("The tide", (), reason)
    bundle = shown(await talk.ask())
    assert words in bundle["text/html"]
    assert "done" not in bundle["text/plain"]
    assert recorder.show(recorder.calls["call_id"].iloc[0]) is not None


@pytest.mark.asyncio
async def test_a_call_of_a_cut_round_is_shown_as_not_run(
    server: ScriptedServer,
    recorder: MetricsRecorder,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    talk = Talk(server, recorder)
    talk.replies("", [("clear_readings", "{}")], "length")
    talk.replies("Fine.")
    turn = await talk.ask()
    assert "[tool] clear_readings() -> not run" in shown(turn)["text/plain"]
    monkeypatch.setenv("CREATEAGENTS_NB_VIEW", "text")
    tracker = TurnTracker(turn)
    view = open_view(None, turn, tracker)
    for event in turn.events_so_far():
        tracker.apply([event])
        view.update([event])
    assert capsys.readouterr().out == "[tool] clear_readings() → not run\nFine."


@pytest.mark.asyncio
async def test_a_map_says_why_and_resume_asks_again(server: ScriptedServer, recorder: MetricsRecorder) -> None:
    talk = Talk(server, recorder)
    for text, reason in (("one", "stop"), ("two", "length"), ("three", "content_filter")):
        talk.replies(text, (), reason)
    rows = ["a", "b", "c"]
    frame = await talk.agent.map(rows, concurrency=1, progress=False)
    assert list(frame.columns)[-1] == "finish_reason"
    assert frame["finish_reason"].tolist() == ["stop", "length", "content_filter"]
    assert frame["status"].tolist() == ["ok", "limit", "error"]
    assert frame["answer"].isna().tolist() == [False, True, True]
    assert frame["error"].tolist()[1] == "cut off by max_tokens"
    for text in ("two", "three"):
        talk.replies(text)
    again = await talk.agent.map(rows, concurrency=1, progress=False, resume=True)
    assert len(server.requests) == 5
    assert again["answer"].tolist() == ["one", "two", "three"]
    assert again["finish_reason"].tolist() == ["stop"] * 3


@pytest.mark.asyncio
async def test_history_and_saved_conversations_keep_the_marks(
    server: ScriptedServer, recorder: MetricsRecorder, tmp_path: Path
) -> None:
    talk = Talk(server, recorder)
    talk.replies("The tide", (), "length")
    talk.replies("Once", (), "content_filter")
    await talk.ask("Tide?")
    await talk.ask("A story")
    lines = [commands._history_line(each, str) for each in talk.agent.history]
    assert lines == [
        "user: Tide?",
        "assistant [limit]: The tide [cut off: max_tokens]",
        "user [not sent]: A story",
        "assistant [error, not sent]: Once [blocked by a content filter]",
    ]
    file = talk.agent.save(tmp_path / "talk.json")
    again = CreateAgent.load(file, tools=talk.agent._settings.tools, recorder=recorder)
    assert again.history == talk.agent.history
    talk.agent = again
    talk.replies("Hello.")
    assert (await talk.ask("Hi")).text == "Hello."
    sent = [each["content"] for each in server.requests[-1].json["messages"]]
    assert sent == ["Tide?", "The tide\n\n[cut off: max_tokens]", "Hi"]


@pytest.mark.asyncio
async def test_a_refusal_in_words_is_an_answer(server: ScriptedServer, recorder: MetricsRecorder) -> None:
    talk = Talk(server, recorder)
    server.enqueue(
        sse({"choices": [{"index": 0, "delta": {"refusal": "I cannot help."}, "finish_reason": "stop"}]})
    )
    turn = await talk.ask()
    assert (turn.status, turn.text) == ("ok", "I cannot help.")


@pytest.mark.parametrize(
    ("reason", "kind"),
    [
        *(
            (reason, "cut")
            for reason in ("length", "MAX_TOKENS", "max_output_tokens", "model_length", "incomplete")
        ),
        *((reason, "filtered") for reason in ("content_filter", "SAFETY", "recitation", "refusal", "moderation")),
        *((reason, "failed") for reason in ("error", "abort", "malformed_function_call")),
        *((reason, None) for reason in ("stop", "tool_calls", "eos", "weird", "", None, 3)),
    ],
)
def test_words_of_servers_for_an_end(reason: object, kind: str | None) -> None:
    found = [
        name
        for name, test in {"cut": is_cut, "filtered": is_filtered, "failed": is_failed}.items()
        if test(reason)
    ]
    assert found == ([kind] if kind else [])
    assert ended_early(reason) is bool(kind)
    assert cut_by("MAX_TOKENS") == "max_tokens"
