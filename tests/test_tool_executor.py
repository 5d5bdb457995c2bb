"""How a tool is run, and what becomes of whatever it does."""

from __future__ import annotations

import asyncio
import contextvars
import dataclasses
import enum
import gc
import logging
import subprocess
import sys
import textwrap
import threading
from collections.abc import AsyncIterator, Iterator
from datetime import date
from typing import Any

import aiohttp
import numpy as np
import pandas as pd
import pydantic
import pytest
from aiohttp import web

from createagents_nb.tools.executor import ToolExecutionResult, ToolExecutor
from createagents_nb.tools.result_text import as_text
from createagents_nb.tools.tool import BaseTool, tool

FOREVER = 3600.0


def failing(error: BaseException, *, in_thread: bool = True) -> BaseTool:
    @tool(name="failing", description="Fails.", in_thread=in_thread)
    def fail() -> None:
        raise error

    return fail


# Results


def test_a_result_is_made_as_the_guide_writes_it() -> None:
    good = ToolExecutionResult(success=True, result=3)
    assert (good.status, good.text, good.error, good.latency_s) == ("ok", "3", None, None)
    bad = ToolExecutionResult(success=False, error="no such row")
    assert (bad.status, bad.text, bad.result) == ("error", "Error: no such row", None)
    with pytest.raises(dataclasses.FrozenInstanceError):
        good.success = False  # type: ignore[misc]


@dataclasses.dataclass
class Reading:
    day: date
    values: list[float]


class Order(pydantic.BaseModel):
    item: str
    due: date


class Colour(enum.Enum):
    RED = "red"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("as it is\n", "as it is\n"),
        ("", ""),
        (None, "(the tool returned nothing)"),
        (3.5, "3.5"),
        ({"a": [1, "é"], "b": None}, '{"a": [1, "é"], "b": null}'),
        ([{"c": Colour.RED}], '[{"c": "red"}]'),
        (Colour.RED, "red"),
        (Reading(date(2026, 1, 2), [1.5]), '{"day": "2026-01-02", "values": [1.5]}'),
        (Order(item="x", due=date(2026, 1, 2)), '{"item": "x", "due": "2026-01-02"}'),
        ({"n": np.int64(3), "a": np.arange(2)}, '{"n": 3, "a": [0, 1]}'),
        ((1, {2}), "[1, [2]]"),
        (b"\x89PNG", "<4 bytes, starting with 89504e47>"),
        ({(1, 2): 3}, "{(1, 2): 3}"),
        ("half \ud83d", "half ?"),
    ],
)
def test_values_become_text(value: Any, text: str) -> None:
    assert as_text(value) == text


def test_tables_become_markdown_with_their_shape() -> None:
    frame = pd.DataFrame({"code": ["007"] * 50, "note": ["a|b\nc"] * 50})
    text = as_text(frame)
    assert "50 rows × 2 columns" in text
    assert "rows 0 to 19" in text
    assert "| 007" in text
    assert "a\\|b c" in text
    assert as_text(pd.Series([1, 2], name="n")).startswith("Series, 2 rows × 1 columns\ndtypes: n: int64")
    assert "and 60 more columns" in as_text(pd.DataFrame([range(100)]))
    assert "0 rows × 0 columns" in as_text(pd.DataFrame())


def test_values_that_resist_become_text_too() -> None:
    class Hostile:
        def __str__(self) -> str:
            raise RuntimeError("no")

    cyclic: list[Any] = []
    cyclic.append(cyclic)
    deep: list[Any] = []
    for _ in range(100_000):
        deep = [deep]
    assert as_text(cyclic) == "[[...]]"
    assert as_text(Hostile()) == "<Hostile>"
    assert as_text(deep)
    while deep:  # taken apart by hand: the interpreter's own way is recursive
        deep = deep[0]


def test_long_text_is_cut_with_a_note() -> None:
    text = as_text("x" * 1000, 100)
    assert text == "x" * 100 + "\n… [cut: the first 100 of 1,000 characters]"


# Running


@pytest.mark.asyncio
async def test_the_async_web_tool_of_the_guide_runs_as_written(caplog: pytest.LogCaptureFixture) -> None:
    class AsyncWebTool(BaseTool):
        name = "async_web_fetch"
        description = "Busca dados da web assincronamente"
        parameters = {
            "type": "object",
            "properties": {"url": {"type": "string", "description": "URL to fetch"}},
            "required": ["url"],
        }

        async def execute(self, url: str) -> str:
            async with aiohttp.ClientSession() as session, session.get(url) as response:
                return await response.text()

    async def answer(request: web.Request) -> web.Response:
        return web.Response(text="dados")

    app = web.Application()
    app.router.add_get("/", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        with caplog.at_level(logging.INFO, "createagents_nb"):
            host, port = runner.addresses[0][:2]
            outcome = await ToolExecutor().execute(AsyncWebTool(), {"url": f"http://{host}:{port}/"})
    finally:
        await runner.cleanup()
    assert (outcome.success, outcome.result, outcome.text, outcome.status) == (True, "dados", "dados", "ok")
    assert outcome.latency_s is not None
    assert outcome.latency_s > 0
    assert "Executing tool: async_web_fetch" in caplog.text


@pytest.mark.asyncio
async def test_a_blocking_tool_does_not_block_the_loop() -> None:
    freed = threading.Event()

    @tool
    def wait_for_the_loop() -> str:
        """Blocks until the loop frees it."""
        return "freed" if freed.wait(30) else "the loop was blocked"

    async def free() -> None:
        freed.set()

    outcome, _ = await asyncio.gather(ToolExecutor().execute(wait_for_the_loop, {}), free())
    assert outcome.result == "freed"


@pytest.mark.asyncio
async def test_tools_asked_for_together_run_together() -> None:
    # More than the threads of asyncio's own pool, each of which waits for all.
    meeting = threading.Barrier(40)

    @tool
    def meet() -> int:
        """Waits for the others."""
        return meeting.wait(30)

    executor = ToolExecutor()
    outcomes = await asyncio.gather(*(executor.execute(meet, {}) for _ in range(40)))
    assert sorted(outcome.result for outcome in outcomes) == list(range(40))


@pytest.mark.asyncio
async def test_where_a_tool_runs_is_its_choice() -> None:
    @tool
    def in_thread() -> bool:
        """Says where it runs."""
        return threading.current_thread() is threading.main_thread()

    @tool(in_thread=False)
    def on_loop() -> bool:
        """Says where it runs."""
        return asyncio.get_running_loop() is not None

    @tool
    def daemon() -> bool:
        """Says what kind of thread it runs in."""
        return threading.current_thread().daemon

    executor = ToolExecutor()
    assert (await executor.execute(in_thread, {})).result is False
    assert (await executor.execute(on_loop, {})).result is True
    assert (await executor.execute(daemon, {})).result is True


@pytest.mark.asyncio
async def test_context_variables_reach_a_thread() -> None:
    cell: contextvars.ContextVar[str] = contextvars.ContextVar("cell")
    cell.set("here")

    @tool
    def where() -> str:
        """Says where."""
        return cell.get()

    assert (await ToolExecutor().execute(where, {})).result == "here"


@pytest.mark.asyncio
async def test_a_sync_function_may_return_something_to_await() -> None:
    async def later(n: int) -> int:
        await asyncio.sleep(0)
        return n + 1

    @tool
    def start(n: int) -> Any:
        """Starts something."""
        return later(n)

    assert (await ToolExecutor().execute(start, {"n": 1})).result == 2


@pytest.mark.asyncio
async def test_what_generators_yield_is_collected() -> None:
    @tool
    def count(n: int) -> Iterator[int]:
        """Counts."""
        yield from range(n)

    @tool
    async def acount(n: int) -> AsyncIterator[int]:
        """Counts."""
        for i in range(n):
            await asyncio.sleep(0)
            yield i

    @tool
    def endless() -> Iterator[int]:
        """Never ends."""
        while True:
            yield 1

    executor = ToolExecutor(timeout_s=FOREVER)
    assert (await executor.execute(count, {"n": 3})).text == "[0, 1, 2]"
    assert (await executor.execute(acount, {"n": 3})).text == "[0, 1, 2]"
    assert (await executor.execute(endless, {})).error == "ValueError: the tool yielded more than 100,000 values"


# Arguments


@tool
def add(a: int, b: int = 1) -> int:
    """Adds."""
    return a + b


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("arguments", "result"),
    [
        ({"a": 1}, 2),
        ('{"a": 1, "b": 2}', 3),
        ('{"a": "3"}', 4),
        ('"{\\"a\\": 4}"', 5),
        (' {"a": 5, "b": null} ', 6),
    ],
)
async def test_arguments_are_taken_as_a_dict_or_as_json(arguments: Any, result: int) -> None:
    outcome = await ToolExecutor().execute(add, arguments)
    assert (outcome.success, outcome.result) == (True, result)


@pytest.mark.asyncio
@pytest.mark.parametrize("nothing", ["", "  ", "{}", "null", {}])
async def test_no_arguments_may_be_written_in_many_ways(nothing: Any) -> None:
    @tool
    def ready() -> str:
        """Says yes."""
        return "yes"

    assert (await ToolExecutor().execute(ready, nothing)).result == "yes"


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ('{"a": 1', "not valid JSON"),
        ('{"a": ' + "9" * 5000 + "}", "not valid JSON"),
        ("[" * 100_000, "not valid JSON"),
        ("[1]", "expected a JSON object, got list"),
        ("3", "expected a JSON object, got int"),
        ({1: 2}, "expected a JSON object"),
        ('{"a": "many"}', "a: Input should be a valid integer"),
        ("{}", "a: Field required"),
        ('{"a": 1, "c": 2}', "c: there is no such parameter"),
    ],
)
async def test_wrong_arguments_are_answered_with_what_to_write(arguments: Any, says: str) -> None:
    outcome = await ToolExecutor().execute(add, arguments)
    assert (outcome.success, outcome.status, outcome.latency_s) == (False, "invalid_arguments", None)
    assert says in outcome.text
    assert "a (integer, required), b (integer)" in outcome.text


@pytest.mark.asyncio
async def test_a_tool_whose_schema_is_broken_is_an_error_and_no_crash() -> None:
    class Broken(BaseTool):
        name = "broken"
        description = "d"
        parameters = {"type": "object", "properties": {"a": {"type": "nonsense"}}}

        def execute(self, a: int) -> int:
            return a

    @tool
    def lost(value: NowhereDefined) -> None:  # type: ignore[name-defined]  # noqa: F821
        """Takes what is nowhere."""

    for broken in (Broken(), lost):
        outcome = await ToolExecutor().execute(broken, {"a": 1})
        assert outcome.status == "error"


def test_an_unknown_tool_is_answered_with_the_names_closest_first() -> None:
    outcome = ToolExecutor().unknown("Row", ["currentdate", "rows"])
    assert (outcome.status, outcome.success) == ("unknown_tool", False)
    assert outcome.text == "Error: There is no tool 'Row'; available: rows, currentdate"
    assert "there are no tools" in ToolExecutor().unknown("x", []).text


# Failures


@pytest.mark.asyncio
@pytest.mark.parametrize("in_thread", [True, False])
@pytest.mark.parametrize(
    ("error", "text"),
    [
        (ValueError("no such row"), "ValueError: no such row"),
        (KeyError("x"), "KeyError: 'x'"),
        (RuntimeError(), "RuntimeError"),
        (StopIteration(3), "StopIteration: 3"),
        (SystemExit(2), "SystemExit: 2"),
        (asyncio.CancelledError("mine"), "CancelledError: mine"),
        (RuntimeError("Authorization: Bearer abcdef123456"), "RuntimeError: Authorization: Bearer ***"),
    ],
)
async def test_whatever_a_tool_raises_is_told(error: BaseException, text: str, in_thread: bool) -> None:
    outcome = await ToolExecutor().execute(failing(error, in_thread=in_thread), {})
    assert (outcome.success, outcome.status, outcome.error) == (False, "error", text)
    assert outcome.text == f"Error: {text}"


@pytest.mark.asyncio
async def test_a_keyboard_interrupt_raised_in_a_thread_is_the_tools() -> None:
    outcome = await ToolExecutor().execute(failing(KeyboardInterrupt(), in_thread=True), {})
    assert (outcome.status, outcome.error) == ("error", "KeyboardInterrupt")


def test_a_keyboard_interrupt_on_the_loop_is_the_users() -> None:
    with pytest.raises(KeyboardInterrupt):
        asyncio.run(ToolExecutor().execute(failing(KeyboardInterrupt(), in_thread=False), {}))


@pytest.mark.asyncio
@pytest.mark.parametrize("error", [ValueError("x"), SystemExit("x"), asyncio.CancelledError("x")])
async def test_whatever_an_async_tool_raises_is_told(error: BaseException) -> None:
    @tool
    async def fail() -> None:
        """Fails."""
        await asyncio.sleep(0)
        raise error

    outcome = await ToolExecutor().execute(fail, {})
    assert outcome.error == f"{type(error).__name__}: x"


@pytest.mark.asyncio
async def test_an_exception_that_cannot_be_printed_is_still_told() -> None:
    class MuteError(Exception):
        def __str__(self) -> str:
            raise RuntimeError("no")

    assert (await ToolExecutor().execute(failing(MuteError()), {})).error == "MuteError"


@pytest.mark.asyncio
async def test_a_long_error_is_cut() -> None:
    outcome = await ToolExecutor(max_result_chars=50).execute(failing(ValueError("x" * 1000)), {})
    assert "cut: the first 50" in outcome.text


# Time


@pytest.mark.asyncio
async def test_an_async_tool_is_cancelled_when_its_time_is_up() -> None:
    ended: list[str] = []

    @tool(timeout_s=0.01)
    async def slow() -> None:
        """Takes for ever."""
        try:
            await asyncio.sleep(FOREVER)
        finally:
            ended.append("cleaned up")

    outcome = await ToolExecutor(timeout_s=FOREVER).execute(slow, {})
    assert (outcome.status, ended) == ("timeout", ["cleaned up"])
    assert outcome.text == "Error: slow did not finish within 0.01 s and was given up"


@pytest.mark.asyncio
async def test_a_tool_that_swallows_its_cancellation_does_not_hold_the_turn(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("createagents_nb.tools.executor._CANCEL_GRACE_S", 0.01)
    let_go = asyncio.Event()

    @tool(timeout_s=0.01)
    async def stubborn() -> None:
        """Does not listen."""
        while not let_go.is_set():
            try:
                await let_go.wait()
            except asyncio.CancelledError:
                continue

    assert (await ToolExecutor().execute(stubborn, {})).status == "timeout"
    let_go.set()


@pytest.mark.asyncio
async def test_a_sync_tool_is_left_behind_when_its_time_is_up() -> None:
    release, returned = threading.Event(), threading.Event()

    @tool
    def stuck() -> str:
        """Takes for ever."""
        release.wait(30)
        returned.set()
        return "too late"

    outcome = await ToolExecutor(timeout_s=0.01).execute(stuck, {})
    assert (outcome.status, outcome.result) == ("timeout", None)
    release.set()
    assert await asyncio.to_thread(returned.wait, 30)


@pytest.mark.asyncio
async def test_a_generator_in_a_thread_ends_when_its_time_is_up() -> None:
    closed = threading.Event()

    @tool
    def drip() -> Iterator[int]:
        """Yields slowly, for ever."""
        try:
            while True:
                closed.wait(0.001)
                yield 1
        finally:
            closed.set()

    assert (await ToolExecutor(timeout_s=0.05).execute(drip, {})).status == "timeout"
    gc.collect()
    assert await asyncio.to_thread(closed.wait, 30)


@pytest.mark.asyncio
@pytest.mark.parametrize("kind", ["sync", "async"])
async def test_cancelling_the_caller_passes_and_ends_the_tool(kind: str) -> None:
    started, release = asyncio.Event(), threading.Event()
    loop = asyncio.get_running_loop()
    ended: list[str] = []

    @tool(name="slow")
    def slow_sync() -> None:
        """Takes for ever."""
        loop.call_soon_threadsafe(started.set)
        release.wait(30)

    @tool(name="slow")
    async def slow_async() -> None:
        """Takes for ever."""
        started.set()
        try:
            await asyncio.sleep(FOREVER)
        finally:
            ended.append("cleaned up")

    chosen: BaseTool = slow_sync if kind == "sync" else slow_async
    task = asyncio.create_task(ToolExecutor().execute(chosen, {}))
    await started.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert ended == (["cleaned up"] if kind == "async" else [])
    release.set()


def test_a_tool_that_never_returns_does_not_hold_the_process() -> None:
    script = textwrap.dedent(
        """
        import asyncio, threading
        from createagents_nb.tools.executor import ToolExecutor
        from createagents_nb.tools.tool import tool

        @tool
        def stuck():
            '''Never returns.'''
            threading.Event().wait()

        print(asyncio.run(ToolExecutor(timeout_s=0.05).execute(stuck, {})).status)
        """
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True)
    assert (done.stdout, done.stderr) == ("timeout\n", "")


@pytest.mark.parametrize("limits", [{"timeout_s": 0}, {"timeout_s": -1}, {"max_result_chars": 0}])
def test_limits_must_be_above_zero(limits: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="above 0"):
        ToolExecutor(**limits)


@pytest.mark.asyncio
async def test_no_limit_is_a_limit_too() -> None:
    assert (await ToolExecutor(timeout_s=None).execute(add, {"a": 1})).result == 2
