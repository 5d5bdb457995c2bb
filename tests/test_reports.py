"""Situations from public bug reports of other clients, replayed over a real socket.

The inputs are in ``../shared/data/reports`` beside a developer's checkout, and are no part of the project.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import pytest
from family import Reply, ScriptedServer, json_reply, ndjson, sse

from createagents_nb import CreateAgent, MetricsRecorder, tool
from createagents_nb.errors import (
    AuthenticationError,
    ContextLengthError,
    IncompleteReplyError,
    InvalidRequestError,
    ProviderError,
    QuotaExceededError,
    RateLimitError,
)

pytestmark = pytest.mark.once


@dataclass
class Outcome:
    """What came of a situation."""

    agent: CreateAgent
    recorder: MetricsRecorder
    server: ScriptedServer
    ran: list[tuple[str, dict[str, Any]]]
    text: str
    status: str
    error: BaseException | None

    @property
    def bodies(self) -> list[dict[str, Any]]:
        return [request.json for request in self.server.requests]


def entries(shared_data: Path, kind: str) -> list[dict[str, Any]]:
    every = json.loads((shared_data / "reports/wire.json").read_text())
    found = [entry for entry in every if entry["kind"] == kind]
    assert found, f"no situation of the kind {kind!r}"
    return found


def scripted(reply: dict[str, Any]) -> Reply | list[bytes]:
    if "events" in reply:
        events = [event for event in reply["events"] if event != "[DONE]"]
        return sse(*events, done="[DONE]" in reply["events"])
    if "lines" in reply:
        return ndjson(*reply["lines"])
    return json_reply(reply["json"], f"{reply['status']} Status")


def tools_of(ran: list[tuple[str, dict[str, Any]]]) -> list[Any]:
    @tool
    def tide(harbour: str) -> str:
        """Tide at a harbour."""
        ran.append(("tide", {"harbour": harbour}))
        return "2.4 m"

    @tool
    def gauge(station: str = "south") -> str:
        """Read a gauge."""
        ran.append(("gauge", {"station": station}))
        return "7"

    @tool
    def wind(place: str) -> str:
        """Wind at a place."""
        ran.append(("wind", {"place": place}))
        return "12 knots"

    @tool
    def clear_readings(days: int = 30) -> str:
        """Delete readings."""
        ran.append(("clear_readings", {"days": days}))
        return "deleted"

    @tool
    def open_gate(name: str) -> str:
        """Open a gate."""
        ran.append(("open_gate", {"name": name}))
        return "open"

    return [tide, gauge, wind, clear_readings, open_gate]


async def replay(
    server: ScriptedServer, recorder: MetricsRecorder, entry: dict[str, Any], prompts: int = 1
) -> Outcome:
    for reply in entry["replies"]:
        server.enqueue(scripted(reply))
    ran: list[tuple[str, dict[str, Any]]] = []
    url = server.openai_url if entry["provider"] == "openai" else server.url
    agent = CreateAgent(
        entry["provider"], "m", base_url=url, max_retries=0, recorder=recorder, tools=tools_of(ran)
    )
    for _ in range(prompts):
        response = await agent.chat("Go on")
        await response.wait()
    return Outcome(agent, recorder, server, ran, response.text, response.status, response.error)


@pytest.mark.asyncio
async def test_opaque_fields_are_echoed(shared_data: Path, recorder: MetricsRecorder) -> None:
    for entry in entries(shared_data, "opaque fields echoed"):
        with ScriptedServer() as server:
            outcome = await replay(server, recorder, entry)
            assert (outcome.text, outcome.status) == ("2.4 metres.", "ok"), entry["name"]
            sent = json.dumps(outcome.bodies[1]["messages"])
            events = [event for event in entry["replies"][0]["events"] if isinstance(event, dict)]
            deltas = [choice["delta"] for event in events for choice in event["choices"]]
            for each in deltas:
                for opaque in (each, *each.get("tool_calls", ())):
                    for name in ("reasoning_content", "extra_content"):
                        if name in opaque:
                            assert f"{json.dumps(name)}: {json.dumps(opaque[name])}" in sent


@pytest.mark.asyncio
async def test_a_parameter_that_a_server_does_not_take_is_left_out(
    shared_data: Path, recorder: MetricsRecorder
) -> None:
    for entry in entries(shared_data, "a parameter that a server does not take"):
        with ScriptedServer() as server:
            outcome = await replay(server, recorder, entry)
            assert (outcome.text, outcome.status) == ("Clear sky.", "ok")
            assert "stream_options" not in outcome.bodies[1]


@pytest.mark.asyncio
async def test_ids_of_tool_calls_are_unique(shared_data: Path, recorder: MetricsRecorder) -> None:
    for entry in entries(shared_data, "ids of tool calls"):
        with ScriptedServer() as server:
            outcome = await replay(server, recorder, entry, prompts=2)
            messages = outcome.bodies[-1]["messages"]
            asked = [call["id"] for message in messages for call in message.get("tool_calls", ())]
            assert asked == [message["tool_call_id"] for message in messages if message["role"] == "tool"]
            assert len(set(asked)) == len(asked) == 2
            assert all(len(each) == 9 and each.isalnum() for each in asked)
            assert list(recorder.tools["tool_call_id"]) == ["wind:0", "wind:0"]


def arrays(schema: Any) -> list[dict[str, Any]]:
    found = [schema] if isinstance(schema, dict) and schema.get("type") == "array" else []
    inner = schema.values() if isinstance(schema, dict) else schema if isinstance(schema, list) else ()
    return [*found, *(each for part in inner for each in arrays(part))]


@dataclass
class Area:
    """An area."""

    corners: tuple[tuple[float, float], tuple[float, float]]


def nested(window: list[tuple[int, int]]) -> str:
    return repr(window)


def optional(window: tuple[int, int] | None = None) -> str:
    return repr(window)


def plain(window: Annotated[tuple[int, int], "from, to"]) -> str:
    return repr(window)


def in_a_dataclass(area: Area) -> str:
    return repr(area.corners)


@pytest.mark.parametrize(
    ("function", "arguments", "expected"),
    [
        (plain, {"window": [1, 2]}, "(1, 2)"),
        (nested, {"window": [[1, 2], [3, 4]]}, "[(1, 2), (3, 4)]"),
        (optional, {"window": [1, 2]}, "(1, 2)"),
        (in_a_dataclass, {"area": {"corners": [[0, 0], [1, 1]]}}, "((0.0, 0.0), (1.0, 1.0))"),
    ],
)
@pytest.mark.asyncio
async def test_schemas_of_tuples_have_items(
    shared_data: Path,
    server: ScriptedServer,
    recorder: MetricsRecorder,
    function: Callable[..., str],
    arguments: dict[str, Any],
    expected: str,
) -> None:
    assert entries(shared_data, "schemas that a server refuses")
    call = {"index": 0, "id": "c1", "function": {"name": function.__name__, "arguments": json.dumps(arguments)}}
    server.enqueue(sse({"choices": [{"delta": {"tool_calls": [call]}, "finish_reason": "tool_calls"}]}))
    server.enqueue(sse({"choices": [{"delta": {"content": "ok"}, "finish_reason": "stop"}]}))
    agent = CreateAgent(
        "openai", "m", base_url=server.openai_url, recorder=recorder, tools=[tool(description="Looks.")(function)]
    )
    await agent.ask("Go on")
    schema = server.requests[0].json["tools"][0]["function"]["parameters"]
    assert arrays(schema)
    for each in arrays(schema):
        assert each["items"]
        assert "prefixItems" not in each
    assert server.requests[1].json["messages"][-1]["content"] == expected


EXPECTED_ERRORS = {  # by the situation's expectation
    "says that the model has no tools here": (InvalidRequestError, "no tools here.*Leave tools out"),
    "no credit left; agent.map": (QuotaExceededError, "no credit left.*Check billing"),
    "InvalidRequestError; not 'the key was": (InvalidRequestError, "refused what the message says"),
    "AuthenticationError": (AuthenticationError, "refused the key.*api_key="),
    "ContextLengthError": (ContextLengthError, "Shorten the prompt, or agent.clear_history"),
    "shorten the message": (ContextLengthError, "Shorten the message.*waiting alone does not help"),
    "RateLimitError with retry_after_s 2.6": (RateLimitError, "refusing more for now.*Wait"),
    "no credit left: check billing": (QuotaExceededError, "no credit left.*Check billing"),
}


@pytest.mark.asyncio
async def test_the_words_of_an_error_decide(shared_data: Path, recorder: MetricsRecorder) -> None:
    situations = entries(shared_data, "errors whose status says one thing and whose text another")
    for entry in situations:
        with ScriptedServer() as server:
            outcome = await replay(server, recorder, entry)
        kind, words = next(known for start, known in EXPECTED_ERRORS.items() if entry["expect"].startswith(start))
        assert (outcome.status, type(outcome.error)) == ("error", kind), entry["name"]
        assert re.search(words, str(outcome.error)), entry["name"]
        assert "base_url" not in str(outcome.error)
        assert isinstance(outcome.error, ProviderError)
        if "retry_after_s" in entry["expect"]:
            assert outcome.error.retry_after_s == 2.6
        if kind is QuotaExceededError:
            with ScriptedServer() as server:
                server.on("*", scripted_reply(entry["replies"][0]))
                agent = CreateAgent("openai", "m", base_url=server.openai_url, recorder=recorder)
                frame = await agent.map(["one", "two", "three"], concurrency=1, progress=False)
                assert frame["status"].tolist() == ["error", "not run", "not run"]
                assert len(server.requests) == 1


def scripted_reply(reply: dict[str, Any]) -> Reply:
    made = scripted(reply)
    return made if isinstance(made, Reply) else Reply(made)


@pytest.mark.asyncio
async def test_a_rate_limit_in_a_stream_makes_a_row_wait(shared_data: Path, recorder: MetricsRecorder) -> None:
    situations = entries(shared_data, "errors inside a stream that began with 200")
    for entry in situations:
        if not entry["expect"].startswith("RateLimitError"):
            continue
        with ScriptedServer() as server:
            for reply in entry["replies"]:
                server.enqueue(scripted(reply))
            agent = CreateAgent("openai", "m", base_url=server.openai_url, recorder=recorder)
            frame = await agent.map(["Go on"], progress=False)
            assert (frame["answer"].tolist(), len(server.requests)) == (["fine"], 2)
        with ScriptedServer() as server:
            outcome = await replay(server, recorder, entry)
            assert type(outcome.error) is RateLimitError


@pytest.mark.parametrize("reason", ["length", "content_filter"])
@pytest.mark.asyncio
async def test_calls_of_cut_rounds_do_not_run(shared_data: Path, recorder: MetricsRecorder, reason: str) -> None:
    for entry in entries(shared_data, "cut rounds"):
        text = json.dumps(entry).replace('"finish_reason": "length"', f'"finish_reason": "{reason}"')
        with ScriptedServer() as server:
            for _ in range(2):
                server.enqueue(scripted(json.loads(text)["replies"][0]))
            outcome = await replay(server, recorder, entry | {"replies": []})
        assert outcome.ran == [], entry["name"]
        assert outcome.status == ("limit" if reason == "length" else "error")
        assert len(outcome.bodies) == (2 if reason == "length" else 1)
        assert recorder.calls["finish_reason"].tolist()[-1] == reason


def streamed_and_buffered(entry: dict[str, Any]) -> list[dict[str, Any]]:
    """The situation, and the same for a request without a stream, where one chunk holds it all."""
    first = entry["replies"][0]
    payloads = [event for event in first.get("events", ()) if event != "[DONE]"]
    if len(payloads) != 1:
        return [entry]
    return [entry, entry | {"replies": [{"status": 200, "json": payloads[0]}, *entry["replies"][1:]]}]


@pytest.mark.asyncio
async def test_a_closing_that_repeats_is_said_once(shared_data: Path, recorder: MetricsRecorder) -> None:
    for entry in entries(shared_data, "cumulative closings"):
        with ScriptedServer() as server:
            outcome = await replay(server, recorder, entry)
        assert (outcome.text, outcome.status) == ("The ferry leaves at nine.", "ok")
        assert recorder.calls["output_tokens"].tolist()[-1] == 4


@pytest.mark.asyncio
async def test_a_placeholder_for_arguments_is_none(shared_data: Path, recorder: MetricsRecorder) -> None:
    for entry in entries(shared_data, "placeholder arguments"):
        with ScriptedServer() as server:
            outcome = await replay(server, recorder, entry)
        assert outcome.ran == [("gauge", {"station": "north"})]
        assert (outcome.text, outcome.status) == ("Seen.", "ok")
        (asked,) = outcome.bodies[1]["messages"][1]["tool_calls"]
        assert json.loads(asked["function"]["arguments"]) == {"station": "north"}


@pytest.mark.asyncio
async def test_an_error_in_a_stream_keeps_its_words_and_the_text(
    shared_data: Path, recorder: MetricsRecorder
) -> None:
    for kind in ("errors inside a stream that began with 200", "errors in another form"):
        for entry in entries(shared_data, kind):
            payloads = [*entry["replies"][0].get("events", ()), *entry["replies"][0].get("lines", ())]
            words = next(found for payload in reversed(payloads) if (found := words_in(payload)))
            for situation in streamed_and_buffered(entry):
                with ScriptedServer() as server:
                    outcome = await replay(server, recorder, situation | {"replies": situation["replies"][:1]})
                assert outcome.status == "error", entry["name"]
                assert isinstance(outcome.error, ProviderError)
                assert words in str(outcome.error), entry["name"]
                said = [text for payload in payloads if (text := text_in(payload))]
                assert outcome.text == "".join(said)


def words_in(payload: Any) -> str:
    """The words of the server in a payload that holds an error."""
    if not isinstance(payload, dict):
        return ""
    for holder in (payload, *payload.get("choices", ())):
        error = holder.get("error")
        if isinstance(error, dict):
            return str(error["message"])
        if holder.get("object") == "error":
            return str(holder["message"])
        for name, value in holder.items():
            if name.startswith("error"):
                return str(value)
    return ""


def text_in(payload: Any) -> str:
    if not isinstance(payload, dict):
        return ""
    holders = [payload.get("message"), *(choice.get("delta") for choice in payload.get("choices", ()))]
    return "".join(holder.get("content") or "" for holder in holders if isinstance(holder, dict))


@pytest.mark.asyncio
async def test_what_has_no_end_is_no_answer(shared_data: Path, recorder: MetricsRecorder) -> None:
    for entry in entries(shared_data, "incomplete replies"):
        with ScriptedServer() as server:
            outcome = await replay(server, recorder, entry)
        if entry["provider"] == "ollama":
            assert (outcome.text, outcome.status, len(outcome.bodies)) == ("Hi.", "ok", 2)
        else:
            assert (outcome.status, type(outcome.error)) == ("error", IncompleteReplyError)


@pytest.mark.asyncio
async def test_text_and_call_in_two_choices_are_one_message(shared_data: Path, recorder: MetricsRecorder) -> None:
    for entry in entries(shared_data, "several choices of one reply"):
        with ScriptedServer() as server:
            outcome = await replay(server, recorder, entry)
        assert outcome.ran == [("open_gate", {"name": "east"})]
        assert outcome.status == "ok"
        assert outcome.bodies[1]["messages"][1]["content"] == "I am on it."
        assert outcome.text.endswith("It is open.")
