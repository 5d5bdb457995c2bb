"""What a recorder says of calls to servers whose delays and counts are known.

A server holds its reply back until it is told to go on, so that what lies between is known from both sides: at
least as long as it was held, and no longer than the client's own clock has seen. No bound depends on the machine.
"""

from __future__ import annotations

import asyncio
import threading
import time
from contextlib import suppress
from typing import Any

import pandas as pd
import pytest
from family import ScriptedServer, delta, eventually, ndjson, sse

from createagents_nb import CreateAgent, MetricsRecorder, tool
from createagents_nb.errors import CreateAgentsError

HELD_S = 0.15


@tool
async def wait_a_little(what: str) -> str:
    """Wait.

    Args:
        what: for what
    """
    await asyncio.sleep(HELD_S)
    return what


def openai_agent(server: ScriptedServer, recorder: MetricsRecorder, **more: Any) -> CreateAgent:
    return CreateAgent("openai", "m", base_url=server.openai_url, api_key="none", recorder=recorder, **more)


def usage(**known: Any) -> dict[str, Any]:
    return {"choices": [], "usage": known}


def calls_for(*names: str) -> dict[str, Any]:
    return delta(
        finish="tool_calls",
        tool_calls=[
            {
                "index": at,
                "id": f"t{at}",
                "function": {"name": "wait_a_little", "arguments": f'{{"what": "{name}"}}'},
            }
            for at, name in enumerate(names)
        ],
    )


@pytest.mark.asyncio
async def test_latency_first_token_and_rate_are_those_of_the_wire(server: ScriptedServer) -> None:
    recorder = MetricsRecorder()
    agent = openai_agent(server, recorder)
    server.enqueue(sse(delta("warm"), delta(finish="stop")))
    await (await agent.chat("the SDK's import is not what is measured"))
    gates = [threading.Event() for _ in range(2)]
    server.enqueue(
        [
            *sse(delta("", role="assistant"), done=False),  # no text that a user could see
            gates[0],
            *sse(delta("Hello"), done=False),
            gates[1],
            *sse(delta(" you"), delta(finish="stop"), usage(prompt_tokens=11, completion_tokens=30)),
        ]
    )
    started = time.perf_counter()
    response = await agent.chat("Hello")
    await asyncio.sleep(HELD_S)
    gates[0].set()
    tokens = aiter(response)
    await anext(tokens)
    seen = time.perf_counter()
    await asyncio.sleep(HELD_S)
    gates[1].set()
    await response
    ended = time.perf_counter()
    row = recorder.calls.iloc[-1]
    assert HELD_S <= row["ttft_s"] <= seen - started
    assert row["ttft_s"] + HELD_S <= row["latency_s"] <= ended - started
    # The 29 tokens after the first, and not over the waiting before them.
    assert 29 / (ended - started - row["ttft_s"]) <= row["tokens_per_s"] <= 29 / HELD_S
    request = recorder.requests.iloc[-1]
    assert request["ttft_s"] <= row["ttft_s"]
    assert request["latency_s"] <= row["latency_s"]


@pytest.mark.asyncio
async def test_a_tool_call_is_a_first_token_and_tools_are_not_generation(
    server: ScriptedServer,
) -> None:
    recorder = MetricsRecorder()
    agent = openai_agent(server, recorder, tools=[wait_a_little])
    gates = [threading.Event() for _ in range(2)]
    server.enqueue([*sse(calls_for("one", "two"), done=False), gates[0], *sse(usage(completion_tokens=4))])
    server.enqueue(
        [
            *sse(delta("so"), done=False),
            gates[1],
            *sse(delta("!"), delta(finish="stop"), usage(prompt_tokens=20, completion_tokens=8)),
        ]
    )
    response = await agent.chat("Hello")
    await asyncio.sleep(HELD_S)
    gates[0].set()
    await eventually(lambda: response.text)
    await asyncio.sleep(HELD_S)
    gates[1].set()
    await response
    call, (first, second), tools = recorder.calls.iloc[-1], recorder.requests.itertuples(), recorder.tools
    assert call["rounds"] == 2
    assert (first.finish_reason, second.finish_reason) == ("tool_calls", "stop")
    assert call["ttft_s"] <= call["latency_s"] - tools["latency_s"].max() - second.latency_s
    assert (tools["latency_s"] >= HELD_S).all()
    # Asked for together, they run together: each starts before another has ended.
    assert tools["started_at"].max() < (tools["started_at"] + pd.to_timedelta(tools["latency_s"], unit="s")).min()
    assert call["latency_s"] >= first.latency_s + tools["latency_s"].max() + second.latency_s
    assert second.tokens_per_s <= 8 / HELD_S
    # The rate of a call is over the generation of its rounds: not below that of all tokens in all its time.
    assert call["tokens_per_s"] >= 8 / call["latency_s"]


@pytest.mark.asyncio
async def test_counts_of_the_rounds_add_up_and_what_one_does_not_tell_stays_unknown(
    server: ScriptedServer,
) -> None:
    recorder = MetricsRecorder()
    agent = openai_agent(server, recorder, tools=[wait_a_little])
    details = {"prompt_tokens_details": {"cached_tokens": 5}}
    server.enqueue(sse(calls_for("one"), usage(prompt_tokens=10, completion_tokens=3, **details)))
    reasoning = {"completion_tokens_details": {"reasoning_tokens": 2}}
    server.enqueue(
        sse(
            delta("so"), delta(finish="stop"), usage(prompt_tokens=20, completion_tokens=4, cost=0.25, **reasoning)
        )
    )
    await (await agent.chat("Hello"))
    server.enqueue(sse(delta("no usage"), delta(finish="stop")))
    await (await agent.chat("Hello"))
    figures = ["input_tokens", "output_tokens", "cached_tokens", "reasoning_tokens", "cost_usd"]
    assert recorder.requests[figures].fillna(-1).values.tolist() == [
        [10, 3, 5, -1, -1],
        [20, 4, -1, 2, 0.25],
        [-1, -1, -1, -1, -1],
    ]
    assert recorder.calls[figures].fillna(-1).values.tolist() == [[30, 7, 5, 2, 0.25], [-1, -1, -1, -1, -1]]
    assert recorder.calls["tokens_per_s"].isna().tolist()[1]


@pytest.mark.asyncio
async def test_ollamas_own_seconds_are_in_the_requests(server: ScriptedServer) -> None:
    recorder = MetricsRecorder()
    agent = CreateAgent("ollama", "m", base_url=server.url, recorder=recorder)
    end = {
        "model": "m",
        "done": True,
        "done_reason": "stop",
        "message": {"role": "assistant", "content": ""},
        "total_duration": 4_000_000_000,
        "load_duration": 1_500_000_000,
        "prompt_eval_count": 26,
        "prompt_eval_duration": 250_000_000,
        "eval_count": 50,
        "eval_duration": 1_250_000_000,
    }
    server.enqueue(ndjson({"model": "m", "message": {"role": "assistant", "content": "Hi"}, "done": False}, end))
    await (await agent.chat("Hello"))
    request, call = recorder.requests.iloc[0], recorder.calls.iloc[0]
    assert (request["load_s"], request["prompt_eval_s"], request["eval_s"]) == (1.5, 0.25, 1.25)
    assert request["tokens_per_s"] == call["tokens_per_s"] == 40.0
    assert (call["input_tokens"], call["output_tokens"]) == (26, 50)
    assert pd.isna(call["cached_tokens"])
    assert request["server"] == "127.0.0.1"


@pytest.mark.asyncio
async def test_rows_of_calls_requests_and_tools_are_there_while_they_run(server: ScriptedServer) -> None:
    recorder = MetricsRecorder()
    reached, go_on = asyncio.Event(), asyncio.Event()

    @tool
    async def hold() -> str:
        """Hold."""
        reached.set()
        await go_on.wait()
        return "held"

    agent = openai_agent(server, recorder, tools=[hold])
    gate = threading.Event()
    asked = {"index": 0, "id": "t", "function": {"name": "hold", "arguments": "{}"}}
    server.enqueue([gate, *sse(delta(finish="tool_calls", tool_calls=[asked]))])
    server.enqueue(sse(delta("done"), delta(finish="stop")))
    response = await agent.chat("Hello")

    def statuses() -> list[list[str]]:
        return [frame["status"].tolist() for frame in (recorder.calls, recorder.requests, recorder.tools)]

    await eventually(lambda: server.requests)
    assert statuses() == [["running"], ["running"], []]
    assert recorder.requests.iloc[0][["latency_s", "ttft_s", "input_tokens"]].isna().all()
    gate.set()
    await reached.wait()
    assert statuses() == [["running"], ["ok"], ["running"]]
    assert recorder.tools.iloc[0]["tool"] == "hold"
    assert pd.isna(recorder.tools.iloc[0]["latency_s"])
    go_on.set()
    await response
    assert statuses() == [["ok"], ["ok", "ok"], ["ok"]]


@pytest.mark.asyncio
@pytest.mark.parametrize("end", ["cancel", "aclose", "task", "error", "limit", "tool"])
async def test_no_row_is_left_running_whatever_the_end(end: str, server: ScriptedServer) -> None:
    recorder = MetricsRecorder()
    in_tool = asyncio.Event()

    @tool
    async def hold() -> str:
        """Hold."""
        in_tool.set()
        if end != "limit":
            await asyncio.Event().wait()
        return "held"

    agent = openai_agent(server, recorder, tools=[hold], max_tool_rounds=1, max_retries=0)
    asked = {"index": 0, "id": "t", "function": {"name": "hold", "arguments": "{}"}}
    asks = sse(delta("x", finish="tool_calls", tool_calls=[asked]))
    if end in ("tool", "limit"):
        server.enqueue(asks)
        server.enqueue(asks)
    elif end == "error":
        server.enqueue(sse(delta("x"), '{"error": {"message": "broken"}}'))
    else:
        server.enqueue([*sse(delta("x"), done=False), threading.Event()])
    response = await agent.chat("Hello")
    await eventually(lambda: response.text or response.done)
    if end == "cancel":
        response.cancel()
        await response.wait()
    elif end == "aclose":
        await agent.aclose()
    elif end == "task":
        waiting = asyncio.ensure_future(response.wait())
        await asyncio.sleep(0)
        assert response._log._task is not None
        response._log._task.cancel()
        await waiting
    elif end == "tool":
        await in_tool.wait()
        response.cancel()
        await response.wait()
    else:
        with suppress(CreateAgentsError):
            await response
    frames = (recorder.calls, recorder.requests, recorder.tools)
    assert not any(frame["status"].eq("running").any() for frame in frames)
    expected = {"error": "error", "limit": "limit"}.get(end, "cancelled")
    assert recorder.calls["status"].tolist() == [expected]
    assert recorder.calls["response"].tolist()[0].startswith("x")
