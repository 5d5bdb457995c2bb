"""Turns on uvloop, where the user's loop is one."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest
from family import ScriptedServer, delta, ndjson, sse

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
