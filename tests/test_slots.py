"""Servers with few slots: rows that wait in a queue, models that load, and what is never sent twice."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pandas as pd
import pytest
from family import Reply, ScriptedServer, eventually, json_reply, ndjson
from slot_server import SlotServer

from createagents_nb import CreateAgent, MetricsRecorder
from createagents_nb.batch.ramp import Ramp
from createagents_nb.core.events import Notice
from createagents_nb.errors import ProviderTimeoutError, ServerError
from createagents_nb.providers.local_server import is_loading

PROPS = {"total_slots": 2, "default_generation_settings": {"n_ctx": 4096}}
ROWS = [f"row {number}" for number in range(20)]


def agent_at(server: SlotServer, **more: Any) -> CreateAgent:
    options: dict[str, Any] = {"base_url": server.url, "recorder": MetricsRecorder()}
    return CreateAgent("openai", "m", **options | more)


async def mapped(agent: CreateAgent, data: Any, **options: Any) -> pd.DataFrame:
    return await agent.map(data, progress=False, **options)


@pytest.mark.asyncio
@pytest.mark.parametrize("streams", [True, False], ids=["streamed", "whole"])
@pytest.mark.parametrize("props", [PROPS, None], ids=["says its slots", "says nothing"])
async def test_rows_that_wait_for_a_slot_are_answered_and_sent_once(
    props: dict[str, Any] | None, streams: bool
) -> None:
    with SlotServer(2, work_s=0.3, props=props, streams=streams) as server:
        frame = await mapped(agent_at(server, timeout_s=0.45), ROWS)
    assert frame["answer"].tolist() == [f"echo {row}" for row in ROWS]
    assert set(server.prompts.values()) == {1}
    assert server.left == 0


@pytest.mark.asyncio
async def test_twenty_turns_at_once_wait_for_two_slots() -> None:
    with SlotServer(2, work_s=0.15) as server:
        agents = [agent_at(server, timeout_s=0.3) for _ in range(20)]
        answers = await asyncio.gather(*(_text(agent, row) for agent, row in zip(agents, ROWS, strict=True)))
    assert answers == [f"echo {row}" for row in ROWS]
    assert set(server.prompts.values()) == {1}
    assert server.most > 2


@pytest.mark.asyncio
async def test_no_more_rows_run_than_the_server_has_slots() -> None:
    with SlotServer(2, work_s=0.02, props=PROPS) as server:
        frame = await mapped(agent_at(server), ROWS)
    assert frame["status"].eq("ok").all()
    assert server.most == 2
    assert server.questions == ["/props"]


@pytest.mark.asyncio
async def test_few_rows_begin_where_nothing_is_known_of_the_server() -> None:
    with SlotServer(2, work_s=None, streams=False) as server:
        running = asyncio.create_task(mapped(agent_at(server), ROWS))
        await eventually(lambda: server.now == 2)
        server.release()
        assert (await running)["status"].eq("ok").all()
    assert set(server.prompts.values()) == {1}


@pytest.mark.asyncio
async def test_more_rows_run_where_they_are_answered_at_once() -> None:
    with SlotServer(20, work_s=None) as server:
        running = asyncio.create_task(mapped(agent_at(server), ROWS))
        await eventually(lambda: server.now == 20)  # two at first: each first token lets another one begin
        server.release()
        assert (await running)["status"].eq("ok").all()


def test_a_slow_row_shows_how_many_the_server_works_on() -> None:
    ramp = Ramp(20, first=2)
    for ahead in range(6):
        ramp.answered(ahead, 0.1)
    assert ramp.allowed == 8
    ramp.answered(4, 5.0)
    assert ramp.allowed == 4
    ramp.answered(3, 0.1)
    assert ramp.allowed == 4  # with caution from now on
    for _ in range(3):
        ramp.answered(3, 0.1)
    assert ramp.allowed == 5


def test_a_limit_of_few_rows_is_begun_with_at_once() -> None:
    assert Ramp(8, first=2).allowed == 8
    assert Ramp(9, first=2).allowed == 2
    assert Ramp(50).allowed == 50


@pytest.mark.asyncio
async def test_a_request_that_the_server_may_be_working_on_is_not_sent_twice() -> None:
    with SlotServer(1, work_s=None, props=PROPS | {"total_slots": 1}, streams=False) as server:
        response = await agent_at(server, timeout_s=0.2, max_retries=2).chat("slow")
        await response.wait()
        assert isinstance(response.error, ProviderTimeoutError)
        assert response.error.may_be_running
        assert "the request was not sent again" in str(response.error)
        assert server.prompts == {"slow": 1}
        server.release()


@pytest.mark.asyncio
async def test_a_row_that_gets_no_byte_in_time_is_not_sent_twice() -> None:
    with SlotServer(2, work_s=None, props=PROPS, streams=False) as server:
        frame = await mapped(agent_at(server, timeout_s=0.2, max_retries=2), ["one", "two"])
        assert frame["status"].tolist() == ["error", "error"]
        assert server.prompts == {"one": 1, "two": 1}
        server.release()


@pytest.mark.asyncio
async def test_a_model_that_is_being_loaded_is_waited_for_and_this_is_said() -> None:
    with SlotServer(work_s=0, loading=5) as server:
        response = await agent_at(server, max_retries=0).chat("hello")
        events = [event async for event in response.events()]
    assert response.text == "echo hello"
    assert [event.text for event in events if isinstance(event, Notice)] == [
        f"The server at {server.url} is loading its model. The request waits for it"
    ]


@pytest.mark.parametrize(
    "words",
    [
        "Error loading model llama: out of memory",
        "Failed loading model: file not found",
        "Unable to go on: loading the model took too much memory",
        "Could not finish loading model",
        "Loading model timed out",
        "The model is not loading",
    ],
)
@pytest.mark.asyncio
async def test_a_model_that_cannot_be_loaded_is_not_waited_for(server: ScriptedServer, words: str) -> None:
    server.on("*", json_reply({"error": words}, "503 Service Unavailable"))
    response = await CreateAgent("openai", "m", base_url=server.openai_url, max_retries=0).chat("hello")
    with pytest.raises(ServerError, match=words):
        await response
    assert len(server.requests) == 1


@pytest.mark.parametrize(
    ("refusal", "at_home", "hosted"),
    [
        ({"error": {"code": 503, "message": "Loading model", "type": "unavailable_error"}}, True, False),
        ({"error": "Model x/y is currently loading", "estimated_time": 20}, True, True),
        ({"error": "Model x/y is currently loading", "estimated_time": True}, True, False),
        ({"error": "The model is still being loaded"}, True, False),
        ({"error": "Error loading model", "estimated_time": 20}, False, False),
        ({"error": "No models are currently loaded"}, False, False),
        ({"error": "The model is loaded and busy"}, False, False),
        (b"", False, False),
        (None, False, False),
    ],
)
def test_which_refusals_say_that_a_model_is_being_loaded(refusal: Any, at_home: bool, hosted: bool) -> None:
    assert (is_loading(503, refusal), is_loading(503, refusal, is_at_home=False)) == (at_home, hosted)
    assert not is_loading(500, refusal)


@pytest.mark.asyncio
async def test_rows_wait_for_a_model_that_is_being_loaded() -> None:
    with SlotServer(work_s=0, loading=7) as server:
        frame = await mapped(agent_at(server, max_retries=0), ROWS[:4])
    assert frame["status"].eq("ok").all()
    assert set(server.prompts.values()) == {1}


@pytest.mark.asyncio
async def test_ollama_says_that_it_loads_and_is_waited_for_beyond_the_limit(server: ScriptedServer) -> None:
    loaded = threading.Event()
    said: list[str] = []
    end = {"message": {"content": "Hello"}, "done": True, "done_reason": "stop"}
    server.on("/api/ps", json_reply({"models": []}))
    server.enqueue(Reply(ndjson(end), held=loaded))
    agent = CreateAgent("ollama", "big", base_url=server.url, timeout_s=1.0, max_retries=0)
    response = await agent.chat("hello")
    async for event in response.events():
        if isinstance(event, Notice):
            said.append(event.text)
            asyncio.get_running_loop().call_later(1.2, loaded.set)  # beyond timeout_s
    assert response.text == "Hello"
    assert said == ["Ollama is loading big. The answer begins when it is loaded"]


async def _text(agent: CreateAgent, prompt: str) -> str:
    response = await agent.chat(prompt)
    await response.wait()
    assert response.error is None
    return response.text
