"""Whole turns with tools over real HTTP, and what must be true after each."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence
from typing import Any

from family import ScriptedServer, delta, eventually, sse
from history_rules import assert_valid_history, assert_valid_request

from createagents_nb import CreateAgent, MetricsRecorder, StreamingResponseDTO, ToolExecutor

KEY = "sk-secret-0123456789abcdef"


def asks_for(*names: str, arguments: str | Sequence[str] = "{}") -> list[bytes]:
    """Calls of these tools, all with the same arguments or each with its own."""
    each = [arguments] * len(names) if isinstance(arguments, str) else arguments
    calls = [
        {"index": at, "id": f"c{at}", "type": "function", "function": {"name": name, "arguments": text}}
        for at, (name, text) in enumerate(zip(names, each, strict=True))
    ]
    return sse(delta("Let me see. "), delta(tool_calls=calls), delta(finish="tool_calls"))


def says(text: str) -> list[bytes]:
    return sse(delta(text), delta(finish="stop"))


class Talk:
    """An agent with tools at a server, and what must be true after each turn."""

    def __init__(self, server: ScriptedServer, *tools: Any, timeout_s: float | None = 60.0, **more: Any) -> None:
        self.server, self.recorder = server, MetricsRecorder()
        self.agent = CreateAgent(
            "openai",
            "m",
            base_url=server.openai_url,
            api_key=KEY,
            recorder=self.recorder,
            max_retries=0,
            tools=tools,
            **more,
        )
        self.agent._executor = ToolExecutor(timeout_s=timeout_s)
        self.tasks, self.threads = asyncio.all_tasks(), set(threading.enumerate())

    async def turn(self, *names: str, arguments: str | Sequence[str] = "{}") -> StreamingResponseDTO:
        """One round of these tools, and the answer; the turn must end well."""
        self.server.enqueue(asks_for(*names, arguments=arguments))
        self.server.enqueue(says("Done."))
        response = await self.agent.chat("go")
        assert await response == "Let me see. Done."
        await self.check(response, tools=len(names))
        return response

    async def check(self, response: StreamingResponseDTO, *, status: str = "ok", tools: int = 1) -> None:
        """The end of a turn, and that the next one works."""
        assert response.status == status
        call = self.recorder.calls.iloc[-1]
        assert (call["status"], call["tool_calls"], call["response"]) == (status, tools, response.text)
        mine = self.recorder.tools[self.recorder.tools["call_id"] == response.record.call_id]
        assert (len(mine), len(response.tools)) == (tools, tools)
        assert not (mine["status"] == "running").any()
        assert (self.recorder.requests["status"] != "running").all()
        self.server.enqueue(says("Next."))
        assert await (await self.agent.chat("and now?")) == "Next."
        assert_valid_history(self.agent.history, 20)
        for request in self.server.requests:
            assert_valid_request(request.json, 10_000)

    def told(self) -> list[str]:
        """What the model was told by the tools of the turn before the last one."""
        return [
            message["content"]
            for message in self.server.requests[-2].json["messages"]
            if message["role"] == "tool"
        ]

    async def nothing_is_left(self) -> None:
        await eventually(lambda: asyncio.all_tasks() == self.tasks)
        await eventually(lambda: not [thread for thread in self.strangers() if thread.name.startswith("tool ")])

    def strangers(self) -> set[threading.Thread]:
        return set(threading.enumerate()) - self.threads
