"""Turns on uvloop, where the user's loop is one."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest
from family import ScriptedServer, delta, ndjson, round_trip, sse
from fault_server import FaultServer
from test_provider_retries import adapter_of, ends

from createagents_nb import CreateAgent, MetricsRecorder

uvloop = pytest.importorskip("uvloop", reason="uvloop does not run here")


def answer(provider: str) -> list[bytes]:
    if provider == "openai":
        return sse(delta("one "), delta("two"), delta(finish="stop"))
    says: dict[str, Any] = {"message": {"role": "assistant", "content": "one two"}, "done": False}
    return ndjson(says, says | {"message": {"content": ""}, "done": True})


@pytest.mark.parametrize("provider", ["openai", "ollama"])
def test_turns_run_at_once_and_one_is_stopped(server: ScriptedServer, provider: str) -> None:
    recorder = MetricsRecorder()
    url = server.openai_url if provider == "openai" else server.url

    async def talk() -> list[str]:
        agent = CreateAgent(provider, "m", base_url=url, recorder=recorder)
        for _ in range(3):
            server.enqueue(answer(provider))
        texts = await asyncio.gather(*[(await agent.chat("Hello")) for _ in range(3)])
        server.enqueue([*answer(provider)[:1], threading.Event()])
        stopped = await agent.chat("Hello")
        async for _ in stopped:
            break
        await stopped.aclose()
        return [*texts, stopped.status]

    assert uvloop.run(talk()) == ["one two"] * 3 + ["cancelled"]
    assert recorder.calls["status"].tolist() == ["ok"] * 3 + ["cancelled"]
    assert recorder.requests["status"].tolist() == ["ok"] * 3 + ["cancelled"]


@pytest.mark.parametrize("how", ["closed", "reset"])
@pytest.mark.parametrize("provider", ["openai", "ollama"])
def test_a_reused_connection_that_ends_is_replaced(provider: str, how: str) -> None:
    async def ask(origin: str) -> list[tuple[str, int]]:
        adapter = adapter_of(provider, origin, max_retries=0)
        trips = [await round_trip(adapter) for _ in range(2)]
        return [(trip.text, trip.end.retries) for trip in trips]

    with FaultServer(provider, ends(how)) as server:
        server.listen()
        assert uvloop.run(ask(server.origin)) == [("fine", 0), ("fine", 0)]


@pytest.mark.parametrize("provider", ["openai", "ollama"])
def test_a_reused_connection_that_ends_within_a_reply_is_not_replaced(provider: str) -> None:
    async def ask(origin: str) -> None:
        adapter = adapter_of(provider, origin, max_retries=0)
        assert (await round_trip(adapter)).text == "fine"
        assert (await round_trip(adapter)).failure is not None

    with FaultServer(provider, ends("within")) as server:
        server.listen()
        uvloop.run(ask(server.origin))
        assert len(server.requests) == 2
