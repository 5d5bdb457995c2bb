"""However turns end, what is kept and what is sent next is what every provider takes."""

from __future__ import annotations

import asyncio
import json
import threading
from dataclasses import dataclass
from typing import Any

import pytest
from family import Reply, ScriptedServer, delta, eventually, json_reply, ndjson, sse
from history_rules import assert_valid_history, assert_valid_request
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from createagents_nb import CreateAgent, MetricsRecorder, tool
from createagents_nb.agent.history import History
from createagents_nb.core.events import ToolCallStarted
from createagents_nb.core.messages import Message, Turn
from createagents_nb.errors import CreateAgentsError


@tool
def says(text: str = "fine") -> str:
    """Says something.

    Args:
        text: what
    """
    return text


@tool
async def waits() -> None:
    """Waits for ever."""
    await asyncio.Event().wait()


@tool
def fails() -> None:
    """Fails."""
    raise LookupError("nothing there")


CALLS: dict[str, tuple[str, str]] = {
    "ok": ("says", "{}"),
    "empty": ("says", '{"text": ""}'),
    "blank": ("says", '{"text": " \\n"}'),
    "half a pair": ("says", '{"text": "half \\ud83d"}'),
    "fails": ("fails", "{}"),
    "unknown": ("nobody", "{}"),
    "no name": ("", '{"text": "x"}'),
    "odd name": ("Sagt: «ähm» " + "x" * 80, "{}"),
    "broken": ("says", '{"text": '),
    "no object": ("says", "[1]"),
    "invalid": ("says", '{"word": "x"}'),
}
ENDS = (
    "ok",
    "empty",
    "blank",
    "half a pair",
    "refused",
    "error in the stream",
    "cut",
    "stopped before the first token",
    "stopped in the text",
    "stopped in a tool",
    "stopped at once",
    "limit",
)
MAX_TOOL_ROUNDS = 2


@dataclass(frozen=True)
class Plan:
    """A turn: the calls of each round of tools, the same id for all of a round or not, and how it ends."""

    rounds: tuple[tuple[str, ...], ...]
    end: str
    same_ids: bool = False
    at_once: int = 1


plans = st.builds(
    Plan,
    rounds=st.lists(st.lists(st.sampled_from(sorted(CALLS)), min_size=1, max_size=3).map(tuple), max_size=2).map(
        tuple
    ),
    end=st.sampled_from(ENDS),
    same_ids=st.booleans(),
    at_once=st.sampled_from([1, 1, 1, 3]),
)


def asking(calls: tuple[str, ...], *, same_ids: bool = False) -> list[bytes]:
    pieces = []
    for index, kind in enumerate(calls):
        name, arguments = CALLS[kind]
        function = {"name": name, "arguments": arguments}
        call_id = "call" if same_ids else f"call_{index}"
        pieces.append(
            delta(tool_calls=[{"index": index, "id": call_id, "type": "function", "function": function}])
        )
    return sse(delta("hm "), *pieces, delta(finish="tool_calls"))


def waiting() -> list[bytes]:
    calls = [
        {"index": index, "id": f"w{index}", "type": "function", "function": {"name": name, "arguments": "{}"}}
        for index, name in enumerate(("says", "waits"))
    ]
    return sse(delta(tool_calls=calls), delta(finish="tool_calls"))


class Conversation:
    """An agent at a server that answers as it is told."""

    def __init__(self, server: ScriptedServer, size: int) -> None:
        self.server, self.size = server, size
        self.agent = CreateAgent(
            "openai",
            "m",
            base_url=server.openai_url,
            api_key="sk-secret-0123456789abcdef",
            recorder=MetricsRecorder(),
            instructions="Be brief.",
            tools=[says, waits, fails],
            history_max_size=size,
            max_retries=0,
            max_tool_rounds=MAX_TOOL_ROUNDS,
        )

    async def turn(self, plan: Plan) -> None:
        if plan.at_once > 1:
            await self._at_once(plan.at_once)
        else:
            await self._one(plan)
        assert_valid_history(self.agent.history, self.size)
        for request in self.server.requests:
            assert_valid_request(request.json, self.size)
            assert "\ud83d" not in str(request.json)

    async def _at_once(self, count: int) -> None:
        for number in range(count):
            self.server.enqueue(sse(delta(f"answer {number}"), delta(finish="stop")))
        responses = await asyncio.gather(*(self.agent.chat(f"question {number}") for number in range(count)))
        responses[1].cancel()
        for response in responses:
            await response.wait()
        await self._taken()

    async def _one(self, plan: Plan) -> None:
        rounds, asked = list(plan.rounds), len(self.server.requests)
        if plan.end == "stopped in a tool":
            del rounds[MAX_TOOL_ROUNDS - 1 :]
        elif plan.end == "limit":
            rounds += [("ok",)] * (MAX_TOOL_ROUNDS + 1 - len(rounds))
        for calls in rounds:
            self.server.enqueue(asking(calls, same_ids=plan.same_ids))
        hold = threading.Event()
        reply = self._last(plan.end, hold)
        if reply is not None:
            self.server.enqueue(reply)
        response = await self.agent.chat("go")
        match plan.end:
            case "stopped at once":
                response.cancel()
            case "stopped before the first token":
                await eventually(lambda: len(self.server.requests) > asked + len(rounds))
                response.cancel()
            case "stopped in the text":
                async for text in response:
                    if text == "half an ans":
                        response.cancel()
            case "stopped in a tool":
                async for event in response.events():
                    if isinstance(event, ToolCallStarted) and event.name == "waits":
                        response.cancel()
        await response.wait()
        hold.set()
        await self._taken()
        expected = {"limit": "limit", "refused": "error", "error in the stream": "error", "cut": "error"}
        expected |= dict.fromkeys((end for end in ENDS if end.startswith("stopped")), "cancelled")
        assert response.status == expected.get(plan.end, "ok")

    async def _taken(self) -> None:
        """Replies of a turn that was stopped early are not the next one's."""
        await eventually(lambda: self.server.open_connections == 0)
        self.server._replies.clear()

    def _last(self, end: str, hold: threading.Event) -> Reply | list[bytes | threading.Event] | None:
        match end:
            case "limit":
                return None
            case "stopped in a tool":
                return [*waiting()]
            case "refused":
                return json_reply({"error": {"message": "no"}}, "500 Internal Server Error")
            case "error in the stream":
                return [*sse(delta("half "), {"error": {"message": "no", "type": "server_error"}}, done=False)]
            case "cut":
                return Reply([*sse(delta("half "), done=False)], headers={"content-length": "100000"})
            case "stopped before the first token":
                return [hold]
            case "stopped in the text":
                return [*sse(delta("half an ans"), done=False), hold]
        text = {"empty": "", "blank": " \n ", "half a pair": "half \ud83d"}.get(end, "answer")
        return [*sse(delta(text), delta(finish="stop"))]


async def converse(turns: list[Plan], size: int) -> None:
    with ScriptedServer() as server:
        before = asyncio.all_tasks()
        conversation = Conversation(server, size)
        for plan in turns:
            await conversation.turn(plan)
        await conversation.turn(Plan((), "ok"))
        await conversation.turn(Plan((("ok",),), "ok"))
        assert asyncio.all_tasks() == before


@settings(max_examples=25, suppress_health_check=[HealthCheck.too_slow])
@given(turns=st.lists(plans, min_size=1, max_size=4), size=st.integers(0, 7))
@example(turns=[Plan((("no name", "odd name"),), "ok")], size=7)
@example(turns=[Plan((("empty", "blank", "half a pair"),), "blank")], size=7)
@example(turns=[Plan((("ok", "ok", "ok"),) * 2, "stopped in a tool", same_ids=True)], size=2)
def test_whatever_happens_the_history_is_one_that_a_provider_takes(turns: list[Plan], size: int) -> None:
    asyncio.run(converse(turns, size))


@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("size", [0, 2, 7])
@pytest.mark.asyncio
async def test_after_every_end_the_next_turn_is_one_that_a_provider_takes(end: str, size: int) -> None:
    await converse([Plan((("ok", "fails"),), end), Plan((), end)], size)


@pytest.mark.asyncio
async def test_ids_that_a_server_gives_twice_are_told_apart_whatever_they_look_like(
    server: ScriptedServer,
) -> None:
    calls = [
        {"index": index, "id": call_id, "type": "function", "function": {"name": "says", "arguments": "{}"}}
        for index, call_id in enumerate(["a-2", "a", "b", "a"])
    ]
    ollama = [{"id": call["id"], "function": {"name": "says", "arguments": {}}} for call in calls]
    server.enqueue(ndjson({"message": {"role": "assistant", "content": "", "tool_calls": ollama}, "done": True}))
    server.enqueue(ndjson({"message": {"role": "assistant", "content": "fine"}, "done": True}))
    agent = CreateAgent("ollama", "m", base_url=server.url, tools=[says], recorder=MetricsRecorder())
    assert await (await agent.chat("go")) == "fine"
    assert_valid_history(agent.history, 20)
    assert_valid_request(server.requests[-1].json, 20)


@pytest.mark.asyncio
async def test_ollama_is_sent_what_it_takes_whatever_was_said(server: ScriptedServer) -> None:
    agent = CreateAgent("ollama", "m", base_url=server.url, tools=[says, fails], recorder=MetricsRecorder())
    for name, arguments in CALLS.values():
        try:
            parsed: Any = json.loads(arguments)
        except ValueError:
            parsed = {"text": arguments}
        call = {"function": {"name": name, "arguments": parsed if isinstance(parsed, dict) else {}}}
        server.enqueue(
            ndjson({"message": {"role": "assistant", "content": "", "tool_calls": [call]}, "done": True})
        )
        server.enqueue(ndjson({"message": {"role": "assistant", "content": "half \ud83d"}, "done": True}))
        await (await agent.chat("go \ud83d"))
        assert_valid_history(agent.history, 20)
        assert_valid_request(server.requests[-1].json, 20)


@pytest.mark.asyncio
async def test_a_turn_that_ended_with_an_error_says_so_to_the_model_and_not_to_the_next_turn(
    server: ScriptedServer,
) -> None:
    conversation = Conversation(server, 7)
    server.enqueue(json_reply({"error": {"message": "no"}}, "400 Bad Request"))
    with pytest.raises(CreateAgentsError):
        await (await conversation.agent.chat("first"))
    await conversation.turn(Plan((), "ok"))
    told = [message["content"] for message in server.requests[-1].json["messages"]]
    assert told == ["Be brief.", "first", "[failed before the end]", "go"]


def test_a_history_that_is_cleared_while_a_turn_enters_it_stays_one() -> None:
    """As a tool does that goes on in its thread."""
    history, done = History(6), threading.Event()

    def clear() -> None:
        while not done.is_set():
            history.clear()

    clearing = threading.Thread(target=clear)
    clearing.start()
    try:
        for number in range(3000):
            history.add(Turn(number, (Message("user", f"q{number}"), Message("assistant", "a"))))
            assert_valid_history(history.messages, 6)
    finally:
        done.set()
        clearing.join()


def test_a_conversation_that_is_put_back_is_cut_as_it_would_have_been() -> None:
    turns = [(Message("user", f"q{number}"), Message("assistant", f"a{number}")) for number in range(5)]
    history = History(5)
    history.add(Turn(7, turns[0]))
    assert history.restore(turns) == 5
    assert [message.content for message in history.messages] == ["q3", "a3", "q4", "a4"]
    assert [turn.number for turn in history.turns] == [3, 4]
