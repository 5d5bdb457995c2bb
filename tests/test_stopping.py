"""Every way to stop a turn, at every moment: it settles, keeps its text, lets go of all; the next turn works."""

from __future__ import annotations

import asyncio
import gc
import sqlite3
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import aclosing, asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from family import ScriptedServer, delta, eventually, run_script, sse

from createagents_nb import CreateAgent, CreateAgentsError, MetricsRecorder, StreamingResponseDTO, tool

MOMENTS = {
    "before the first token": ("", ["cancelled"], []),
    "in mid-stream": ("Hello ", ["cancelled"], []),
    "in a sync tool": ("Let me see. ", ["ok"], ["cancelled"]),
    "in an async tool": ("Let me see. ", ["ok"], ["cancelled"]),
    "between rounds": ("Let me see. ", ["ok", "cancelled"], ["ok"]),
}
"""Each with the text so far, and the statuses of the requests and tools."""


class Stage:
    """A turn that gets as far as a moment, and no further by itself."""

    def __init__(self, server: ScriptedServer, moment: str) -> None:
        self.server, self.moment = server, moment
        self.recorder = MetricsRecorder()
        self.hold, self.in_tool = threading.Event(), threading.Event()
        self.agent = CreateAgent(
            "openai",
            "m",
            base_url=server.openai_url,
            api_key="none",
            recorder=self.recorder,
            tools=[self._blocks(), self._waits(), self._quick()],
            max_retries=0,
        )
        asked = {"in a sync tool": "blocks", "in an async tool": "waits", "between rounds": "quick"}
        if moment in asked:
            call = {"index": 0, "id": "c1", "function": {"name": asked[moment], "arguments": "{}"}}
            server.enqueue(sse(delta("Let me see. ", tool_calls=[call]), delta(finish="tool_calls")))
        if not moment.endswith("tool"):
            begun = sse(delta("Hello "), done=False) if moment == "in mid-stream" else []
            server.enqueue([*begun, self.hold, *sse(delta("never"), delta(finish="stop"))])

    def _blocks(self) -> Any:
        @tool
        def blocks() -> str:
            """Blocks."""
            self.in_tool.set()
            self.hold.wait(10)
            return "late"

        return blocks

    def _waits(self) -> Any:
        @tool
        async def waits() -> str:
            """Waits for ever."""
            self.in_tool.set()
            await asyncio.Event().wait()
            return "never"

        return waits

    def _quick(self) -> Any:
        @tool
        def quick() -> str:
            """Answers."""
            return "quick"

        return quick

    def is_reached(self, response: StreamingResponseDTO | None = None) -> bool:
        text, requests, _ = MOMENTS[self.moment]
        if self.moment.endswith("tool"):
            return self.in_tool.is_set()
        is_sent = len(self.server.requests) == len(requests)
        return is_sent and (response is None or response.text == text)

    async def chat(self) -> StreamingResponseDTO:
        """The response of the turn, which has come to the moment."""
        response = await self.agent.chat("hi")
        await eventually(lambda: self.is_reached(response))
        return response

    def assert_settled(self) -> None:
        text, requests, tools = MOMENTS[self.moment]
        (call,) = self.recorder.call_records
        assert (call.status, call.response, call.error) == ("cancelled", text, None)
        assert call.latency_s is not None
        assert [record.status for record in self.recorder.request_records] == requests
        assert [record.status for record in self.recorder.tool_records] == tools
        last = self.agent.history[-1]
        assert (last.role, last.status) == ("assistant", "cancelled")
        kept = "" if self.moment == "between rounds" else text  # the round that ended stands before
        assert last.content.startswith(kept)
        assert "stopped by the user" in last.content

    async def assert_the_next_turn_works(self) -> None:
        self.server.enqueue(sse(delta("healthy"), delta(finish="stop")))
        assert await (await self.agent.chat("still there?")) == "healthy"
        roles = [message["role"] for message in self.server.requests[-1].json["messages"]]
        done = ["assistant", "tool"] if self.moment == "between rounds" else []
        assert roles == ["user", *done, "assistant", "user"]


@pytest.fixture
def stage(server: ScriptedServer, moment: str) -> Iterator[Stage]:
    stage = Stage(server, moment)
    yield stage
    stage.hold.set()


# ── ways ─────────────────────────────────────────────────────────────────────────────────────────────


async def by_cancel(stage: Stage) -> StreamingResponseDTO:
    response = await stage.chat()
    response.cancel()
    return response


async def by_cancel_twice(stage: Stage) -> StreamingResponseDTO:
    response = await stage.chat()
    response.cancel()
    await asyncio.sleep(0)
    response.cancel()
    return response


async def by_cancel_from_a_thread(stage: Stage) -> StreamingResponseDTO:
    response = await stage.chat()
    thread = threading.Thread(target=response.cancel)
    thread.start()
    thread.join(10)
    return response


async def by_aclose(stage: Stage) -> StreamingResponseDTO:
    response = await stage.chat()
    await response.aclose()
    assert response.done
    return response


async def by_cancelling_who_awaits(stage: Stage) -> StreamingResponseDTO:
    return await _cancelling(stage, _text)


async def by_cancelling_who_iterates(stage: Stage) -> StreamingResponseDTO:
    return await _cancelling(stage, _pieces)


async def by_cancelling_who_does_something_else_with_a_token(stage: Stage) -> StreamingResponseDTO:
    response = await _cancelling(stage, _pieces_that_take_for_ever)
    await asyncio.sleep(0)  # nobody else waits for it while the loop that was left is closed
    return response


async def by_a_timeout(stage: Stage) -> StreamingResponseDTO:
    response = await stage.chat()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0):
            await response
    return response


async def by_a_task_group_that_fails(stage: Stage) -> StreamingResponseDTO:
    response = await stage.chat()

    async def fails() -> None:
        raise LookupError("another task")

    with suppress(ExceptionGroup):
        async with asyncio.TaskGroup() as group:
            group.create_task(_text(response))
            await asyncio.sleep(0)
            group.create_task(fails())
    return response


async def by_leaving_the_loop_and_closing_the_agent(stage: Stage) -> StreamingResponseDTO:
    response = await stage.chat()
    if response.text:
        async for _ in response:
            break
    assert response.status == "running"  # leaving an `async for` stops nothing
    await stage.agent.aclose()
    return response


async def by_dropping_it_and_leaving_the_agent(stage: Stage) -> None:
    async with stage.agent:
        await stage.chat()
        gc.collect()


WAYS: dict[str, Callable[[Stage], Awaitable[StreamingResponseDTO | None]]] = {
    name.removeprefix("by_").replace("_", " "): way for name, way in list(globals().items()) if name[:3] == "by_"
}


async def _text(response: StreamingResponseDTO) -> str:
    return await response


async def _pieces(response: StreamingResponseDTO) -> list[str]:
    return [token async for token in response]


async def _pieces_that_take_for_ever(response: StreamingResponseDTO) -> None:
    async for _ in response:
        await asyncio.Event().wait()


async def _cancelling(stage: Stage, consume: Callable[[StreamingResponseDTO], Any]) -> StreamingResponseDTO:
    response = await stage.chat()
    task = asyncio.create_task(consume(response))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    return response


@asynccontextmanager
async def nothing_left(server: ScriptedServer) -> AsyncIterator[None]:
    """At the end no task is left, and the server has seen its connections closed."""
    before = asyncio.all_tasks()
    yield
    await eventually(lambda: asyncio.all_tasks() == before)
    await eventually(lambda: server.open_connections == 0)


@pytest.mark.asyncio
@pytest.mark.parametrize("moment", MOMENTS)
@pytest.mark.parametrize("way", WAYS)
async def test_a_stopped_turn_settles_and_lets_go_of_everything(
    server: ScriptedServer, stage: Stage, moment: str, way: str
) -> None:
    async with nothing_left(server):
        response = await WAYS[way](stage)
        if response is not None:
            await response.wait()
            assert (response.status, response.text, response.error) == ("cancelled", MOMENTS[moment][0], None)
            assert await response == response.text
        await eventually(lambda: stage.recorder.call_records[0].status != "running")
        stage.assert_settled()
        assert not stage.hold.is_set()
    await stage.assert_the_next_turn_works()
    stage.hold.set()
    await eventually(lambda: not [thread for thread in threading.enumerate() if thread.name == "tool blocks"])


@pytest.mark.asyncio
@pytest.mark.parametrize("moment", MOMENTS)
async def test_closing_the_chat_of_a_repository_lets_go_of_everything(
    server: ScriptedServer, stage: Stage, moment: str
) -> None:
    repository, core = stage.agent._repository, stage.agent._agent
    async with nothing_left(server):
        stream = repository.chat(core, "hi")
        reading = asyncio.create_task(_last(stream))
        await eventually(stage.is_reached)
        reading.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reading
        await stream.aclose()
        await eventually(lambda: len(stage.agent.history) > 0)
    assert stage.agent.history[-1].status == "cancelled"


async def _last(stream: Any) -> None:
    async with aclosing(stream) as tokens:
        async for _ in tokens:
            pass


# ── the loop ends ────────────────────────────────────────────────────────────────────────────────────


def _loops() -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
    loops: dict[str, Callable[[], asyncio.AbstractEventLoop]] = {"asyncio": asyncio.new_event_loop}
    with suppress(ImportError):
        import uvloop

        loops["uvloop"] = uvloop.new_event_loop
    return loops


LOOPS = _loops()


@pytest.mark.parametrize("moment", MOMENTS)
def test_the_end_of_asyncio_run_stops_what_runs(server: ScriptedServer, stage: Stage, moment: str) -> None:
    response = asyncio.run(stage.chat())
    assert (response.status, response.text) == ("cancelled", MOMENTS[moment][0])
    stage.assert_settled()
    asyncio.run(eventually(lambda: server.open_connections == 0))
    asyncio.run(stage.assert_the_next_turn_works())


@pytest.fixture
def no_garbage() -> Iterator[None]:
    """What a closed loop held goes here: asyncio says so of each task."""
    yield
    gc.collect()


def _closed_under(stage: Stage, loop: asyncio.AbstractEventLoop) -> None:
    response = loop.run_until_complete(stage.chat())
    loop.close()
    text = MOMENTS[stage.moment][0]
    assert (response.done, response.status, response.text, str(response)) == (True, "cancelled", text, text)
    stage.assert_settled()
    with pytest.raises(CreateAgentsError, match="loop in which this turn ran was closed"):
        asyncio.run(_text(response))
    asyncio.run(stage.assert_the_next_turn_works())


@pytest.mark.usefixtures("no_garbage")
@pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")  # asyncio's, and true: the loop was closed first
@pytest.mark.parametrize("kind", LOOPS)
@pytest.mark.parametrize("moment", MOMENTS)
def test_a_loop_that_is_closed_under_a_turn_settles_it(server: ScriptedServer, moment: str, kind: str) -> None:
    stage = Stage(server, moment)
    hold = stage.hold
    try:
        _closed_under(stage, LOOPS[kind]())
        del stage
        gc.collect()  # a closed loop closes no connection: that is done with the last of what belonged to it
        asyncio.run(eventually(lambda: server.open_connections == 0))
    finally:
        hold.set()


@pytest.mark.usefixtures("no_garbage")
def test_a_loop_that_is_closed_before_a_turn_began_settles_it() -> None:
    recorder = MetricsRecorder()
    agent = CreateAgent("openai", "m", base_url="http://127.0.0.1:1/v1", api_key="none", recorder=recorder)
    loop = asyncio.new_event_loop()
    loop.run_until_complete(agent.chat("hi"))
    loop.close()
    assert [record.status for record in recorder.call_records] == ["cancelled"]
    assert agent.history[-1].status == "cancelled"


@pytest.mark.parametrize("ends", ["", "loop.close()", "raise SystemExit(3)", "signal.raise_signal(signal.SIGINT)"])
def test_a_program_that_ends_in_a_turn_leaves_its_row_in_the_file(
    server: ScriptedServer, tmp_path: Path, ends: str
) -> None:
    hold = threading.Event()
    server.enqueue([*sse(delta("Hello "), done=False), hold])
    path = tmp_path / "calls.db"
    done = run_script(f"""
        import asyncio, signal
        from createagents_nb import CreateAgent, recorder
        recorder.persist({str(path)!r})
        agent = CreateAgent("openai", "m", base_url={server.openai_url!r}, api_key="none")
        async def main():
            response = await agent.chat("hi")
            async for token in response:
                return response
        loop = asyncio.new_event_loop()
        kept = loop.run_until_complete(main())
        {ends}
    """)
    hold.set()
    assert done.stdout == ""
    with sqlite3.connect(path) as database:
        rows = database.execute("SELECT status, response FROM calls").fetchall()
        requests = database.execute("SELECT status FROM requests").fetchall()
    database.close()
    assert (rows, requests) == ([("cancelled", "Hello ")], [("cancelled",)])


def test_an_interrupt_of_a_program_settles_its_turn_with_what_arrived(server: ScriptedServer) -> None:
    hold = threading.Event()
    server.enqueue([*sse(delta("Hello "), done=False), hold])
    done = run_script(f"""
        import asyncio, signal
        from createagents_nb import CreateAgent, recorder
        agent = CreateAgent("openai", "m", base_url={server.openai_url!r}, api_key="none")
        async def main():
            async for token in await agent.chat("hi"):
                signal.raise_signal(signal.SIGINT)
        try:
            asyncio.run(main())
        except KeyboardInterrupt:
            (row,) = recorder.call_records
            print(row.status, repr(row.response), agent.history[-1].status)
    """)
    hold.set()
    assert (done.stdout, done.stderr) == ("cancelled 'Hello ' cancelled\n", "")


def test_an_interrupt_while_print_drives_a_loop_that_stood_still_stops_the_turn(server: ScriptedServer) -> None:
    """As between the cells of a terminal."""
    hold = threading.Event()
    server.enqueue([*sse(delta("Hello "), done=False), hold])
    done = run_script(f"""
        import asyncio, signal
        from createagents_nb import CreateAgent, recorder
        agent = CreateAgent("openai", "m", base_url={server.openai_url!r}, api_key="none")
        loop = asyncio.new_event_loop()
        response = loop.run_until_complete(agent.chat("hi"))
        async def interrupt():
            async for token in response.events():
                signal.raise_signal(signal.SIGINT)
        interrupting = loop.create_task(interrupt())
        try:
            print(response)
        except KeyboardInterrupt:
            (row,) = recorder.call_records
            interrupting.cancel()
            loop.run_until_complete(asyncio.sleep(0))
            print(row.status, repr(row.response), response.done, asyncio.all_tasks(loop))
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.close()
    """)
    hold.set()
    assert (done.stdout, done.stderr) == ("cancelled 'Hello ' True set()\n", "")
