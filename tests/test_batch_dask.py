"""`CreateAgent.map` on Dask workers: processes of their own, with keys of their own."""

from __future__ import annotations

import asyncio
import os
import sys
import types
from collections.abc import Iterator
from typing import Any

import cloudpickle
import dask
import pandas as pd
import pytest
from dask.distributed import Client, LocalCluster
from echo_server import EchoServer
from family import eventually

from createagents_nb import CreateAgent, MetricsRecorder, tool
from createagents_nb.errors import BudgetExceededError, ConfigurationError, MissingKeyError, ServerError

pytestmark = pytest.mark.once

KEY = "sk-canary-0123456789abcdef"
BROKEN = (500, {})


@pytest.fixture(scope="module")
def cluster() -> Iterator[LocalCluster]:
    with pytest.MonkeyPatch.context() as patch, dask.config.set({"distributed.scheduler.allowed-failures": 0}):
        patch.setenv("OPENAI_API_KEY", KEY)  # the workers' own
        patch.setenv("NO_PROXY", "*")
        patch.delenv("OPENAI_BASE_URL", raising=False)
        with LocalCluster(processes=True, n_workers=2, threads_per_worker=1, dashboard_address=None) as running:
            yield running


@pytest.fixture(scope="module")
def client(cluster: LocalCluster) -> Iterator[Client]:
    with Client(cluster) as connected:
        yield connected


@pytest.fixture
def server() -> Iterator[EchoServer]:
    with EchoServer() as running:
        yield running


@pytest.fixture
def agent(server: EchoServer, recorder: MetricsRecorder) -> CreateAgent:
    return agent_at(server, recorder)


def agent_at(server: EchoServer, recorder: MetricsRecorder, **more: Any) -> CreateAgent:
    return CreateAgent("openai", "m", base_url=server.url, max_retries=0, recorder=recorder, **more)


async def mapped(agent: CreateAgent, data: Any, client: Client, **options: Any) -> pd.DataFrame:
    return await agent.map(data, client=client, **{"progress": False, **options})


@pytest.mark.asyncio
async def test_workers_answer_and_the_records_come_back(
    server: EchoServer, recorder: MetricsRecorder, client: Client
) -> None:
    offset = 40

    @tool
    def look(number: int = 2) -> str:
        """Looks."""
        return f"seen {number + offset} in {os.getpid()}"

    recorder.set_price("m", input_usd=1e6, output_usd=2e6)
    agent = agent_at(server, recorder, tools=[look], name="far", instructions="Be brief.")
    await (await agent.chat("use it here first"))  # what a schema is made of does not travel
    recorder.clear()
    data = pd.Series(["use it", *(f"row {n}" for n in range(30)), None], index=range(100, 132))
    frame = await mapped(agent, data, client, concurrency=4)
    assert frame.index.equals(data.index)
    assert frame["answer"].tolist()[1:-1] == [f"echo row {n}" for n in range(30)]
    said = frame["answer"].iloc[0]
    assert said.startswith("echo seen 42 in ")
    assert not said.endswith(str(os.getpid()))
    assert frame["status"].tolist() == ["ok"] * 31 + ["error"]
    assert frame["cost_usd"].tolist()[:2] == [22.0, 11.0]
    calls = recorder.calls
    assert set(calls["call_id"]) == set(frame["call_id"].dropna())
    assert (calls["status"].eq("ok") & calls["agent"].eq("far") & calls["prompt"].notna()).all()
    assert (len(recorder.requests), recorder.tools["tool"].tolist()) == (32, ["look"])
    assert recorder.requests["cost_usd"].eq(11.0).all()
    assert recorder.requests["server"].eq("127.0.0.1").all()
    assert {call.context.system for call in recorder.call_records if call.context} == {"Be brief."}
    assert len({id(call.context) for call in recorder.call_records}) == 1
    assert len(agent.get_metrics()) == 31
    assert agent.history[0].content == "use it here first"
    assert {body["messages"][0]["content"] for body in server.bodies} == {"Be brief."}
    assert server.most_in_flight <= 4


@pytest.mark.asyncio
async def test_a_key_never_travels(
    server: EchoServer,
    agent: CreateAgent,
    client: Client,
    cluster: LocalCluster,
    monkeypatch: pytest.MonkeyPatch,
    recorder: MetricsRecorder,
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    agent = agent_at(server, recorder)
    running = asyncio.create_task(mapped(agent, [f"held {n}" for n in range(4)], client, concurrency=4))
    await eventually(lambda: server.in_flight == 4)
    tasks = cluster.scheduler.tasks.values()
    graph = cloudpickle.dumps([(task.key, task.run_spec, task.annotations) for task in tasks])
    server.release()
    assert (await running)["status"].eq("ok").all()
    assert b"held 3" in graph
    assert b"canary" not in graph
    assert set(server.keys) == {f"Bearer {KEY}"}


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"api_key": KEY}, "leave api_key out"),
        ({"instructions": f"Say {KEY}"}, "A key would travel"),
        ({"config": {"extra": {"extra_headers": {"Authorization": "Bearer abcdef1234567890"}}}}, "A key would"),
    ],
)
async def test_an_agent_that_holds_a_key_stays_here(
    server: EchoServer,
    recorder: MetricsRecorder,
    client: Client,
    monkeypatch: pytest.MonkeyPatch,
    more: dict[str, Any],
    words: str,
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    with pytest.raises(ConfigurationError, match=words) as raised:
        await mapped(agent_at(server, recorder, **more), ["one"], client)
    assert KEY not in str(raised.value)
    assert server.prompts == []


@pytest.mark.asyncio
async def test_a_worker_without_a_key_says_which_and_what_to_do(
    client: Client, recorder: MetricsRecorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    agent = CreateAgent("openai", "m", recorder=recorder)

    def set_key(key: str) -> None:
        os.environ["OPENAI_API_KEY"] = key

    await asyncio.to_thread(client.run, set_key, "")
    try:
        with pytest.raises(MissingKeyError, match=r"Dask worker tcp://.*set OPENAI_API_KEY.*where workers are"):
            await mapped(agent, ["one"], client)
    finally:
        await asyncio.to_thread(client.run, set_key, KEY)
    assert len(recorder.calls) == 0
    assert agent.last_map is not None
    assert agent.last_map["status"].tolist() == ["not run"]


@pytest.mark.asyncio
async def test_a_tool_whose_module_the_workers_lack_is_said(
    server: EchoServer, recorder: MetricsRecorder, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = types.ModuleType("only_here")
    exec('def look() -> str:\n    "Looks."\n    return "seen"', module.__dict__)
    monkeypatch.setitem(sys.modules, "only_here", module)
    with pytest.raises(ConfigurationError, match=r"cannot be loaded on the Dask worker .*only_here"):
        await mapped(agent_at(server, recorder, tools=[module.look]), ["one"], client)


@pytest.mark.asyncio
async def test_a_tool_that_cannot_travel_is_said(
    server: EchoServer, recorder: MetricsRecorder, client: Client
) -> None:
    frames = (frame for frame in ())

    def look() -> str:
        """Looks."""
        return str(frames)

    with pytest.raises(ConfigurationError, match="cannot travel to Dask workers: TypeError"):
        await mapped(agent_at(server, recorder, tools=[look]), ["one"], client)


@pytest.mark.asyncio
async def test_the_rules_of_the_recorder_hold_for_what_comes_back(server: EchoServer, client: Client) -> None:
    recorder = MetricsRecorder(record_content=False)
    frame = await mapped(agent_at(server, recorder), ["one", "two"], client)
    assert frame["answer"].tolist() == ["echo one", "echo two"]
    assert recorder.calls[["prompt", "response"]].isna().all(axis=None)
    masking = MetricsRecorder(redact=str.upper)
    await mapped(agent_at(server, masking), ["one"], client)
    assert masking.calls.loc[0, ["prompt", "response"]].tolist() == ["ONE", "ECHO ONE"]
    with pytest.raises(ConfigurationError, match="record_content=False"):
        await mapped(agent_at(server, recorder), ["one"], client, resume=True)


@pytest.mark.asyncio
async def test_failures_are_kept_and_the_others_resumed(
    server: EchoServer, agent: CreateAgent, client: Client
) -> None:
    server.refuse = lambda prompt, times: BROKEN if prompt == "two" and times == 1 else None
    frame = await mapped(agent, ["one", "two", "three"], client)
    assert frame["status"].tolist() == ["ok", "error", "ok"]
    assert "500: no two" in frame["error"].iloc[1]
    again = await mapped(agent, ["one", "two", "three"], client, resume=True)
    assert again["status"].eq("ok").all()
    assert sorted(server.prompts) == ["one", "three", "two", "two"]


@pytest.mark.asyncio
async def test_the_first_failure_stops_all_workers(server: EchoServer, agent: CreateAgent, client: Client) -> None:
    server.refuse = lambda prompt, times: BROKEN if prompt == "bad" else None
    data = ["held 0", "held 1", "bad", "later"]  # a chunk of two for each worker
    with pytest.raises(ServerError, match="no bad") as raised:
        await mapped(agent, data, client, concurrency=2, on_error="stop")
    assert "Row 2" in raised.value.__notes__[0]
    assert agent.last_map is not None
    assert agent.last_map["status"].tolist() == ["cancelled", "not run", "error", "not run"]
    await eventually(lambda: server.in_flight == 0)


@pytest.mark.asyncio
async def test_a_batch_that_is_stopped_keeps_what_its_workers_have_done(
    server: EchoServer, agent: CreateAgent, recorder: MetricsRecorder, client: Client, cluster: LocalCluster
) -> None:
    data = ["one", "held 1", "two", "held 2", "held 3", "never"]
    running = asyncio.create_task(mapped(agent, data, client, concurrency=2))
    await eventually(lambda: server.in_flight == 2 and {"one", "held 1", "held 2"} <= set(server.prompts))
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert agent.last_map is not None
    status = agent.last_map["status"].tolist()
    assert status == ["ok", "cancelled", "not run", "cancelled", "not run", "not run"]
    assert sorted(recorder.calls["status"]) == ["cancelled", "cancelled", "ok"]
    assert asyncio.all_tasks() == {asyncio.current_task()}
    await eventually(lambda: server.in_flight == 0 and not cluster.scheduler.tasks)


@pytest.mark.asyncio
async def test_a_budget_is_asked_before_rows_leave(
    server: EchoServer, agent: CreateAgent, recorder: MetricsRecorder, client: Client
) -> None:
    budget = recorder.budget(calls=3)
    frame = await mapped(agent, ["one"] * 8, client, concurrency=2)
    assert frame["status"].tolist() == ["ok"] * 3 + ["error"] + ["not run"] * 4
    assert frame["error"].iloc[3:].str.contains("budget is spent").all()
    assert len(server.prompts) == 3
    assert budget is not None
    assert (budget.spent_calls, budget.spent_tokens) == (3, 21)
    with pytest.raises(BudgetExceededError):
        await mapped(agent, ["one"], client, on_error="stop")


@pytest.mark.asyncio
async def test_refusals_and_rates_are_the_workers_part(
    server: EchoServer, agent: CreateAgent, client: Client
) -> None:
    server.refuse = lambda prompt, times: (429, {"retry-after": "0"}) if times < 3 or prompt == "never" else None
    frame = await mapped(agent, ["one", "two", "three"], client, rpm=60_000, tpm=10_000_000, concurrency=2)
    assert frame["answer"].tolist() == ["echo one", "echo two", "echo three"]
    frame = await mapped(agent, ["never", "later"], client, concurrency=1)
    assert frame["status"].tolist() == ["error", "not run"]
    assert frame["error"].str.contains("RateLimitError").all()


@pytest.mark.asyncio
async def test_no_credit_ends_a_batch_on_workers_at_once(
    server: EchoServer, agent: CreateAgent, client: Client
) -> None:
    server.refuse = lambda prompt, times: (402, {})
    frame = await mapped(agent, ["one"] * 40, client, concurrency=1)
    assert frame["status"].tolist() == ["error"] + ["not run"] * 39
    assert frame["error"].str.startswith("QuotaExceededError: ").all()
    assert server.prompts == ["one"]


@pytest.mark.asyncio
async def test_a_client_of_this_loop_does_as_well(
    server: EchoServer, agent: CreateAgent, cluster: LocalCluster
) -> None:
    async with Client(cluster.scheduler_address, asynchronous=True) as client:
        frame = await mapped(agent, ["one", "two"], client)
        assert frame["answer"].tolist() == ["echo one", "echo two"]
    with pytest.raises(ConfigurationError, match="must be a connected"):
        await mapped(agent, ["one"], client)


@pytest.mark.asyncio
async def test_rows_of_a_worker_that_dies_have_failed_and_the_others_go_on(
    server: EchoServer, recorder: MetricsRecorder, client: Client
) -> None:
    @tool
    def die() -> None:
        """Ends its worker."""
        os._exit(1)

    agent = agent_at(server, recorder, tools=[die])
    frame = await mapped(agent, ["use it", "one"], client, concurrency=2)
    assert frame["status"].tolist() == ["error", "ok"]
    assert frame["error"].iloc[0].startswith("WorkerError: A Dask worker could not do its rows: KilledWorker")
    await asyncio.to_thread(client.wait_for_workers, 2, 30)
