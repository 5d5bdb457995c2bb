"""Tools that need approval: who is asked, what an answer does, and what model, records and history keep of it."""

from __future__ import annotations

import asyncio
import json
import pickle
import threading
from collections.abc import Callable
from typing import Any

import pytest
from family import ScriptedServer, delta, eventually, sse

from createagents_nb import (
    Approval,
    ApprovalRequest,
    BaseTool,
    ChatWithAgentUseCase,
    CreateAgent,
    MetricsRecorder,
    StreamingResponseDTO,
    tool,
)
from createagents_nb.batch.dask_worker import AgentPlan
from createagents_nb.core.events import ApprovalDecided, ApprovalRequested, ToolCallFinished, ToolCallStarted
from createagents_nb.errors import ApprovalError, ConfigurationError, InvalidToolError

pytestmark = pytest.mark.asyncio


class Shelf:
    """Files that a tool deletes, so that a test can see what has run."""

    def __init__(self) -> None:
        self.deleted: list[str] = []

        @tool(requires_approval=True)
        def delete(path: str) -> str:
            """Deletes a file."""
            self.deleted.append(path)
            return f"deleted {path}"

        self.tool = delete


@pytest.fixture
def shelf() -> Shelf:
    return Shelf()


def call(at: int = 0, name: str = "delete", arguments: Any = None, call_id: str | None = None) -> dict[str, Any]:
    text = arguments if isinstance(arguments, str) else json.dumps(arguments or {"path": "a.csv"})
    function = {"name": name, "arguments": text}
    return delta(
        tool_calls=[{"index": at, "id": call_id or f"call_{at}", "type": "function", "function": function}]
    )


def script(server: ScriptedServer, *rounds: list[dict[str, Any]]) -> None:
    """Rounds of calls, and then an answer."""
    for calls in rounds:
        server.enqueue(sse(*calls, delta(finish="tool_calls")))
    server.enqueue(sse(delta("Done."), delta(finish="stop")))


Agents = Callable[..., CreateAgent]


@pytest.fixture
def make(server: ScriptedServer, recorder: MetricsRecorder, shelf: Shelf) -> Agents:
    def make(**more: Any) -> CreateAgent:
        options = {"tools": [shelf.tool], "name": "clerk", "recorder": recorder} | more
        return CreateAgent("openai", "m", base_url=server.openai_url, api_key="none", **options)

    return make


def told(server: ScriptedServer, request: int = -1) -> dict[str, str]:
    """What the model was told of each call, by id."""
    messages = server.requests[request].json["messages"]
    return {message["tool_call_id"]: message["content"] for message in messages if message["role"] == "tool"}


async def ask(agent: CreateAgent) -> StreamingResponseDTO:
    response = await agent.chat("Tidy up")
    await response
    return response


def row(recorder: MetricsRecorder, at: int = 0) -> dict[str, Any]:
    found: dict[str, Any] = recorder.tools.iloc[at].to_dict()
    return found


# ── approve= ─────────────────────────────────────────────────────────────────────────────────────────


async def test_approve_is_given_the_call_and_lets_it_run(
    server: ScriptedServer, recorder: MetricsRecorder, shelf: Shelf, make: Agents
) -> None:
    asked: list[ApprovalRequest] = []
    script(server, [call()])
    response = await ask(make(approve=lambda request: asked.append(request) or True))
    assert shelf.deleted == ["a.csv"]
    assert told(server) == {"call_0": "deleted a.csv"}
    assert asked == [
        ApprovalRequest(
            tool="delete",
            description="Deletes a file.",
            arguments={"path": "a.csv"},
            tool_call_id="call_0",
            round=1,
            agent="clerk",
            call_id=response.record.call_id,
        )
    ]
    assert row(recorder)["status"] == "ok"
    assert row(recorder)["latency_s"] >= 0


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (False, "The user rejected this call. Go on without it, or ask what to do instead."),
        ("it is still needed", "The user rejected this call: it is still needed"),
        (Approval.reject("no"), "The user rejected this call: no"),
        (None, "This call was rejected: None is no decision: True or a dict"),
        (1, "This call was rejected: int is no decision"),
        (Approval(approved=1), "must be True or False, not 1"),
        ({"path": [3]}, "other arguments. Invalid arguments for delete: path"),
        ({"path": {1, 2}}, "other arguments. Arguments must be JSON"),
    ],
)
async def test_all_that_is_no_approval_is_a_rejection_that_the_model_is_told(
    server: ScriptedServer, recorder: MetricsRecorder, shelf: Shelf, make: Agents, answer: Any, reason: str
) -> None:
    script(server, [call()])
    agent = make(approve=lambda request: answer)
    response = await ask(agent)
    assert response.status == "ok"
    assert shelf.deleted == []
    assert reason in told(server)["call_0"]
    found = row(recorder)
    assert (found["status"], found["arguments"]) == ("rejected", '{"path": "a.csv"}')
    assert found["error"] == told(server)["call_0"]
    assert recorder.tools["latency_s"].isna().all()
    assert recorder.tool_summary()[["executions", "errors", "rejected"]].to_numpy().tolist() == [[0, 0, 1]]
    assert [message.role for message in agent.history] == ["user", "assistant", "tool", "assistant"]


@pytest.mark.parametrize("kind", [ValueError, SystemExit, asyncio.CancelledError])
@pytest.mark.parametrize("is_async", [True, False])
async def test_what_approve_raises_is_a_rejection(
    server: ScriptedServer, shelf: Shelf, make: Agents, kind: type[BaseException], is_async: bool
) -> None:
    def approve(request: ApprovalRequest) -> bool:
        raise kind("out of order")

    async def approve_later(request: ApprovalRequest) -> bool:
        await asyncio.sleep(0)
        raise kind("out of order")

    script(server, [call()])
    response = await ask(make(approve=approve_later if is_async else approve))
    assert response.status == "ok"
    assert shelf.deleted == []
    assert "This call was rejected: approve= failed with " in told(server)["call_0"]


class NoText:
    def __str__(self) -> str:
        raise ValueError("no text")


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (Approval(False, None, NoText()), "rejected: ValueError: no text"),  # type: ignore[arg-type]
        (Approval(True, {"path": {1: "a", "b": 2}}), "other arguments. Invalid arguments for delete"),
    ],
)
async def test_an_answer_of_odd_objects_is_a_rejection_and_not_the_end_of_the_turn(
    server: ScriptedServer, shelf: Shelf, make: Agents, answer: Any, reason: str
) -> None:
    script(server, [call()])
    response = await ask(make(approve=lambda request: answer))
    assert response.status == "ok"
    assert shelf.deleted == []
    assert reason in told(server)["call_0"]


async def test_arguments_too_deep_to_be_shown_to_who_decides_are_rejected(
    server: ScriptedServer, make: Agents
) -> None:
    @tool(requires_approval=True)
    def arrange(plan: dict[str, Any]) -> str:
        """Arranges."""
        return "arranged"

    script(server, [call(name="arrange", arguments='{"plan": ' + '{"a":' * 600 + "1" + "}" * 601)])
    response = await ask(make(approve=lambda request: True, tools=[arrange]))
    assert response.status == "ok"
    assert "This call was rejected: RecursionError" in told(server)["call_0"]


@pytest.mark.parametrize("answer", [{"path": "b.csv"}, Approval.approve({"path": "b.csv"})])
async def test_edited_arguments_are_run_recorded_and_told(
    server: ScriptedServer, recorder: MetricsRecorder, shelf: Shelf, make: Agents, answer: Any
) -> None:
    script(server, [call()])
    response = await ask(make(approve=lambda request: answer))
    assert shelf.deleted == ["b.csv"]
    assert told(server) == {"call_0": 'The user changed the arguments to {"path": "b.csv"}\n\ndeleted b.csv'}
    assert row(recorder)["arguments"] == '{"path": "b.csv"}'
    (decided,) = [event for event in response.events_so_far() if isinstance(event, ApprovalDecided)]
    assert decided == ApprovalDecided("call_0", "delete", 1, True, '{"path": "b.csv"}')


async def test_changing_the_request_changes_nothing(server: ScriptedServer, shelf: Shelf, make: Agents) -> None:
    def approve(request: ApprovalRequest) -> bool:
        request.arguments["path"] = "other.csv"
        return True

    script(server, [call()])
    await ask(make(approve=approve))
    assert shelf.deleted == ["a.csv"]


@pytest.mark.parametrize("arguments", ['{"path": [3]}', '{"path": "a', "{}"])
async def test_nobody_is_asked_about_arguments_that_do_not_fit(
    server: ScriptedServer, recorder: MetricsRecorder, make: Agents, arguments: str
) -> None:
    asked: list[ApprovalRequest] = []
    script(server, [call(arguments=arguments)])
    await ask(make(approve=lambda request: asked.append(request) or True))
    assert asked == []
    assert row(recorder)["status"] == "invalid_arguments"


async def test_a_decision_that_does_not_come_is_a_rejection(
    server: ScriptedServer, recorder: MetricsRecorder, shelf: Shelf, make: Agents
) -> None:
    ended = asyncio.Event()

    async def approve(request: ApprovalRequest) -> bool:
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()
        return True

    script(server, [call()])
    await ask(make(approve=approve, approval_timeout_s=0.02))
    assert "nobody approved it within 0.02 s" in told(server)["call_0"]
    assert ended.is_set()
    assert shelf.deleted == []
    assert row(recorder)["status"] == "rejected"


async def test_a_synchronous_approve_blocks_nobody_and_its_time_is_not_the_tools(
    server: ScriptedServer, recorder: MetricsRecorder, make: Agents
) -> None:
    """It waits for a turn that ends meanwhile; the tool's own timeout is shorter than that."""
    may = threading.Event()

    @tool(requires_approval=True, timeout_s=0.5)
    def careful() -> str:
        """Acts."""
        return "acted"

    asked = threading.Event()

    def approve(request: ApprovalRequest) -> bool:
        asked.set()
        may.wait(10)
        return True

    server.enqueue(sse(call(name="careful", arguments="{}"), delta(finish="tool_calls")))
    script(server)
    script(server)
    agent = make(tools=[careful], approve=approve)
    waiting = await agent.chat("Act")
    await eventually(asked.is_set)
    assert await (await agent.chat("Hello")) == "Done."
    assert not waiting.done
    waited_from = waiting.record.started_at
    may.set()
    assert await waiting == "Done."
    (settled,) = waiting.tools
    assert settled.status == "ok"
    assert settled.started_at > waited_from
    assert recorder.tools["latency_s"].iloc[0] < waiting.record.latency_s


async def test_two_calls_at_once_are_decided_one_by_one(
    server: ScriptedServer, recorder: MetricsRecorder, shelf: Shelf, make: Agents
) -> None:
    both = threading.Barrier(2)

    def approve(request: ApprovalRequest) -> bool:
        both.wait(10)  # they are asked together
        return request.arguments["path"] == "b.csv"

    script(server, [call(0), call(1, arguments={"path": "b.csv"})])
    agent = make(approve=approve)
    await ask(agent)
    assert shelf.deleted == ["b.csv"]
    assert told(server)["call_1"] == "deleted b.csv"
    assert told(server)["call_0"].startswith("The user rejected this call")
    assert sorted(recorder.tools["status"]) == ["ok", "rejected"]
    # The next turn is sent the whole of it, each call with its answer.
    script(server)
    await ask(agent)
    assert list(told(server)) == ["call_0", "call_1"]


async def test_tools_without_the_mark_ask_nobody(server: ScriptedServer, make: Agents) -> None:
    @tool
    def look() -> str:
        """Looks."""
        return "seen"

    def approve(request: ApprovalRequest) -> bool:
        raise AssertionError("asked")

    script(server, [call(name="look", arguments="{}")])
    await ask(make(tools=[look], approve=approve))
    assert told(server) == {"call_0": "seen"}


async def test_rows_of_a_batch_are_decided_by_approve_and_else_rejected(
    server: ScriptedServer, recorder: MetricsRecorder, shelf: Shelf, make: Agents
) -> None:
    for options in ({"approve": lambda request: True}, {}):
        script(server, [call()])
        frame = await make(**options).map(["Tidy up"], progress=False)
        assert frame["status"].tolist() == ["ok"]
    assert recorder.tools["status"].tolist() == ["ok", "rejected"]
    assert shelf.deleted == ["a.csv"]


async def test_on_a_dask_worker_nobody_can_be_asked(
    server: ScriptedServer, shelf: Shelf, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "none")
    plan = AgentPlan(
        {
            "provider": "openai",
            "model": "m",
            "name": "clerk",
            "tools": (shelf.tool,),
            "base_url": server.openai_url,
            "max_retries": 0,
        }
    )
    row_agent = plan.make()
    script(server, [call()])
    use_case = ChatWithAgentUseCase(row_agent.repository, executor=row_agent.executor)
    assert await (await use_case.execute(row_agent.agent, "Tidy up")) == "Done."
    assert "This call was rejected: nobody can be asked on a Dask worker" in told(server)["call_0"]
    assert shelf.deleted == []


async def test_variants_ask_the_same(server: ScriptedServer, shelf: Shelf, make: Agents) -> None:
    script(server, [call()])
    await ask(make(approve=lambda request: True).variant(config={"seed": 1}))
    assert shelf.deleted == ["a.csv"]


# ── decided through the response ─────────────────────────────────────────────────────────────────────


async def test_where_nobody_can_be_asked_a_call_is_rejected_at_once(
    server: ScriptedServer, recorder: MetricsRecorder, shelf: Shelf, make: Agents
) -> None:
    script(server, [call()])
    response = await ask(make())
    reason = "delete needs approval, and nobody can be asked here: CreateAgent(approve=…)"
    assert told(server) == {"call_0": f"This call was rejected: {reason}"}
    assert shelf.deleted == []
    assert row(recorder)["status"] == "rejected"
    assert not any(isinstance(event, ApprovalRequested) for event in response.events_so_far())


async def test_who_iterates_over_the_approvals_is_asked(
    server: ScriptedServer, shelf: Shelf, make: Agents
) -> None:
    script(server, [call(0), call(1, arguments={"path": "b.csv"})], [call(0, arguments={"path": "c.csv"})])
    response = await make().chat("Tidy up")
    seen = []
    async for request in response.approvals():
        seen.append((request.round, request.arguments["path"]))
        response.decide(request.tool_call_id, request.arguments["path"] != "a.csv")
    assert seen == [(1, "a.csv"), (1, "b.csv"), (2, "c.csv")]
    assert sorted(shelf.deleted) == ["b.csv", "c.csv"]
    assert response.pending_approvals == ()


async def test_a_decision_may_come_from_another_thread_and_the_first_one_holds(
    server: ScriptedServer, shelf: Shelf, make: Agents
) -> None:
    script(server, [call()])
    response = await make().chat("Tidy up")
    async for request in response.approvals():
        response.decide(request.tool_call_id, "first")
        response.decide(request.tool_call_id, True)
        assert shelf.deleted == []
    assert "first" in told(server)["call_0"]

    script(server, [call()])
    response = await make().chat("Tidy up")
    async for request in response.approvals():
        await asyncio.to_thread(response.decide, request.tool_call_id, {"path": "z.csv"})
    assert shelf.deleted == ["z.csv"]


async def test_a_decision_that_cannot_be_taken_leaves_the_call_waiting(
    server: ScriptedServer, shelf: Shelf, make: Agents
) -> None:
    script(server, [call()])
    response = await make().chat("Tidy up")
    async for request in response.approvals():
        with pytest.raises(ApprovalError, match=r"The call still waits\. Invalid arguments for delete: path"):
            response.decide(request.tool_call_id, {"path": [3]})
        with pytest.raises(ApprovalError, match="None is no decision"):
            response.decide(request.tool_call_id, None)  # type: ignore[arg-type]
        with pytest.raises(ApprovalError, match="No call 'call_9' waits for approval; waiting: 'call_0'"):
            response.decide("call_9", True)
        assert response.pending_approvals == (request,)
        response.decide(request.tool_call_id, {"path": "b.csv"})
    assert shelf.deleted == ["b.csv"]


async def test_when_the_last_who_could_decide_leaves_the_call_is_rejected(
    server: ScriptedServer, shelf: Shelf, make: Agents
) -> None:
    script(server, [call()])
    response = await make().chat("Tidy up")
    async for _ in response.approvals():
        break
    assert await response == "Done."
    assert "nobody can be asked here" in told(server)["call_0"]
    assert shelf.deleted == []


async def test_a_decision_that_comes_late_is_not_for_a_call_of_the_next_round(
    server: ScriptedServer, shelf: Shelf, make: Agents
) -> None:
    script(server, [call(arguments={"path": "tmp/a"})], [call(arguments={"path": "everything"})])  # one id twice
    response = await make().chat("Tidy up")
    asked = []
    async for request in response.approvals():
        asked.append(request.tool_call_id)
        if len(asked) == 2:
            with pytest.raises(ApprovalError):
                response.decide(asked[0], True)  # a second click
            response.decide(request.tool_call_id, "not that")
        else:
            response.decide(request.tool_call_id, True)
    assert await response == "Done."
    assert len(set(asked)) == 2
    assert shelf.deleted == ["tmp/a"]


async def test_the_events_tell_of_the_waiting(server: ScriptedServer, make: Agents) -> None:
    script(server, [call()])
    response = await make().chat("Tidy up")
    async for request in response.approvals():
        response.decide(request.tool_call_id, True)
    kinds = (ToolCallStarted, ApprovalRequested, ApprovalDecided, ToolCallFinished)
    events = [event for event in response.events_so_far() if isinstance(event, kinds)]
    assert events[:3] == [
        ToolCallStarted("call_0", "delete", 1),
        ApprovalRequested("call_0", "delete", 1, is_open=True),
        ApprovalDecided("call_0", "delete", 1, approved=True),
    ]
    assert [type(event) for event in events[3:]] == [ToolCallFinished]


async def test_a_turn_stopped_while_a_call_waits_is_settled_and_the_next_works(
    server: ScriptedServer, recorder: MetricsRecorder, shelf: Shelf, make: Agents
) -> None:
    before = asyncio.all_tasks()
    agent = make()
    script(server, [call()])
    response = await agent.chat("Tidy up")
    async for _ in response.approvals():
        response.cancel()
    await response.aclose()
    assert response.status == "cancelled"
    assert response.pending_approvals == ()
    assert shelf.deleted == []
    assert row(recorder)["status"] == "cancelled"
    assert recorder.tools["latency_s"].isna().all()
    assert [message.role for message in agent.history] == ["user", "assistant"]
    assert await (await agent.chat("And now?")) == "Done."
    await eventually(lambda: asyncio.all_tasks() <= before)


async def test_a_turn_stopped_while_approve_decides_stops_that_too(
    server: ScriptedServer, shelf: Shelf, make: Agents
) -> None:
    asked, stopped = asyncio.Event(), asyncio.Event()

    async def approve(request: ApprovalRequest) -> bool:
        asked.set()
        try:
            await asyncio.Event().wait()
        finally:
            stopped.set()
        return True

    script(server, [call()])
    response = await make(approve=approve).chat("Tidy up")
    await asked.wait()
    await response.aclose()
    assert stopped.is_set()
    assert (response.status, shelf.deleted) == ("cancelled", [])


# ── how it is said ───────────────────────────────────────────────────────────────────────────────────


async def test_a_tool_class_says_it_by_an_attribute(server: ScriptedServer, make: Agents) -> None:
    class Launch(BaseTool):
        name = "launch"
        description = "Launches."
        requires_approval = True

        def execute(self) -> str:
            return "launched"

    script(server, [call(name="launch", arguments="{}")])
    await ask(make(tools=[Launch]))
    assert "needs approval" in told(server)["call_0"]


async def test_the_mark_stays_with_methods_and_with_pickled_tools(shelf: Shelf) -> None:
    class Desk:
        @tool(requires_approval=True)
        def clear(self) -> str:
            """Clears the desk."""
            return "cleared"

    assert Desk().clear.requires_approval
    marked = tool(requires_approval=True)(can_be_pickled)
    assert pickle.loads(pickle.dumps(marked)).requires_approval
    assert not pickle.loads(pickle.dumps(tool(can_be_pickled))).requires_approval


def can_be_pickled() -> str:
    """Is known by its name."""
    return ""


async def test_what_is_set_wrongly_is_said_at_once(make: Agents) -> None:
    with pytest.raises(ConfigurationError, match="approve must be a function"):
        make(approve=True)
    for timeout_s in (0, -1, True, "5"):
        with pytest.raises(ConfigurationError, match="approval_timeout_s must be a number of seconds above 0"):
            make(approval_timeout_s=timeout_s)
    with pytest.raises(InvalidToolError, match="requires_approval of tool 'look' must be True or False"):

        @tool(requires_approval="no")  # type: ignore[call-overload]
        def look() -> str:
            """Looks."""
            return ""
