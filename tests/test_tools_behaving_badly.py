"""Tools that do what they should not: a whole turn over HTTP ends as it must, and so does the next."""

from __future__ import annotations

import asyncio
import gc
import threading
import tracemalloc
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import suppress
from typing import Any

import pytest
from family import ScriptedServer, eventually, run_script
from history_rules import assert_valid_history, assert_valid_request
from tool_turns import KEY, Talk, asks_for, says

from createagents_nb import BaseTool, tool
from createagents_nb.tools.result_text import MAX_RESULT_CHARS

# ── what is raised ───────────────────────────────────────────────────────────────────────────────────

KINDS = ("thread", "loop", "async")
ERRORS = [SystemExit("out"), KeyboardInterrupt("out"), GeneratorExit("out"), asyncio.CancelledError("out")]


def raising(error: BaseException, kind: str) -> BaseTool:
    if kind == "async":

        @tool(name="bad", description="Fails.")
        async def bad_async() -> None:
            await asyncio.sleep(0)
            raise error

        return bad_async

    @tool(name="bad", description="Fails.", in_thread=kind == "thread")
    def bad() -> None:
        raise error

    return bad


# A KeyboardInterrupt on the loop is the user's, and has a test of its own.
RAISED = [
    (error, kind)
    for error in ERRORS
    for kind in KINDS
    if kind == "thread" or not isinstance(error, KeyboardInterrupt)
]


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("error", "kind"), RAISED, ids=lambda part: part if part in KINDS else type(part).__name__
)
async def test_whatever_is_raised_is_told_to_the_model(
    server: ScriptedServer, error: BaseException, kind: str
) -> None:
    talk = Talk(server, raising(error, kind))
    await talk.turn("bad")
    assert talk.told() == [f"Error: {type(error).__name__}: out"]
    assert talk.recorder.tools["status"].tolist() == ["error"]
    await talk.nothing_is_left()


@pytest.mark.parametrize("kind", ["loop", "async"])
def test_a_keyboard_interrupt_on_the_loop_stops_the_turn_and_the_next_one_works(
    server: ScriptedServer, kind: str
) -> None:
    """A program of its own: the interrupt goes through the event loop, as the user's does."""
    server.enqueue(asks_for("bad"))
    server.enqueue(says("Next."))
    script = f"""
        import asyncio, sys
        from createagents_nb import CreateAgent, MetricsRecorder, tool

        def fail():
            raise KeyboardInterrupt

        @tool(name="bad", description="Fails.", in_thread=False)
        def on_loop():
            fail()

        @tool(name="bad", description="Fails.")
        async def asynchronous():
            await asyncio.sleep(0)
            fail()

        recorder = MetricsRecorder()
        agent = CreateAgent("openai", "m", base_url="{server.openai_url}", api_key="{KEY}", recorder=recorder,
                            tools=[on_loop if "{kind}" == "loop" else asynchronous])
        loop = asyncio.new_event_loop()

        async def go():
            global response
            response = await agent.chat("go")
            await response

        try:
            loop.run_until_complete(go())
        except KeyboardInterrupt:
            print("interrupted")

        async def settle():
            await response.wait()
            return await (await agent.chat("and now?"))

        print(loop.run_until_complete(settle()), response.status, repr(response.text))
        print(recorder.tools["status"].tolist(), [message.status for message in agent.history])
        """
    done = run_script(script, OPENAI_BASE_URL="")
    assert done.stdout.splitlines() == [
        "interrupted",
        "Next. cancelled 'Let me see. '",
        "['cancelled'] ['ok', 'cancelled', 'ok', 'ok']",
    ], done.stderr


@pytest.mark.asyncio
async def test_arguments_whose_check_ends_the_program_do_not(server: ScriptedServer) -> None:
    class Bad(BaseTool):
        name = "bad"
        description = "Checks badly."

        def parse_arguments(self, arguments: Any) -> dict[str, Any]:
            raise SystemExit("no")

        def execute(self) -> None: ...

    talk = Talk(server, Bad())
    await talk.turn("bad")
    assert talk.told() == ["Error: SystemExit: no"]


# ── what never ends ──────────────────────────────────────────────────────────────────────────────────


@pytest.mark.asyncio
async def test_a_thread_that_never_returns_does_not_hold_the_turn_and_is_the_only_one_left(
    server: ScriptedServer,
) -> None:
    release = threading.Event()

    @tool(timeout_s=0.01)
    def stuck() -> str:
        """Never returns."""
        release.wait()
        return "too late"

    talk = Talk(server, stuck)
    await talk.turn("stuck", "stuck")
    assert talk.told() == ["Error: stuck did not finish within 0.01 s and was given up"] * 2
    assert talk.recorder.tools["status"].tolist() == ["timeout"] * 2
    left = [thread for thread in talk.strangers() if thread.name == "tool stuck"]
    assert [thread.daemon for thread in left] == [True, True]
    release.set()
    await talk.nothing_is_left()


@pytest.mark.asyncio
async def test_a_stopped_turn_does_not_wait_for_a_thread(server: ScriptedServer) -> None:
    started, release = threading.Event(), threading.Event()

    @tool
    def stuck() -> None:
        """Never returns."""
        started.set()
        release.wait()

    talk = Talk(server, stuck, timeout_s=None)
    server.enqueue(asks_for("stuck"))
    response = await talk.agent.chat("go")
    await eventually(started.is_set)
    await response.aclose()
    await talk.check(response, status="cancelled")
    release.set()
    await talk.nothing_is_left()


@pytest.mark.asyncio
@pytest.mark.parametrize("how", ["timeout", "stop"])
async def test_a_tool_that_swallows_its_cancellation_does_not_hold_the_turn(
    server: ScriptedServer, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    monkeypatch.setattr("createagents_nb.tools.executor._CANCEL_GRACE_S", 0.01)
    started, let_go = asyncio.Event(), asyncio.Event()

    @tool
    async def stubborn() -> None:
        """Does not listen."""
        started.set()
        while not let_go.is_set():
            try:
                await let_go.wait()
            except asyncio.CancelledError:
                continue

    talk = Talk(server, stubborn, timeout_s=0.01 if how == "timeout" else None)
    if how == "timeout":
        await talk.turn("stubborn")
        assert talk.recorder.tools["status"].tolist() == ["timeout"]
    else:
        server.enqueue(asks_for("stubborn"))
        response = await talk.agent.chat("go")
        await started.wait()
        await response.aclose()
        await talk.check(response, status="cancelled")
    left = asyncio.all_tasks() - talk.tasks
    assert [task.get_name() for task in left] == ["tool stubborn"]
    let_go.set()
    await talk.nothing_is_left()


@pytest.mark.asyncio
async def test_generators_without_an_end_are_given_up_early(server: ScriptedServer) -> None:
    closed: list[str] = []
    megabyte = "x" * 1_000_000

    @tool
    def small() -> Iterator[int]:
        """Counts for ever."""
        try:
            while True:
                yield 1
        finally:
            closed.append("small")

    @tool
    def large() -> Iterator[bytes]:
        """Fills the memory."""
        try:
            while True:
                yield megabyte.encode()
        finally:
            closed.append("large")

    @tool
    async def busy() -> AsyncIterator[int]:
        """Never lets anybody else run."""
        try:
            while True:
                yield 1
        finally:
            closed.append("busy")

    talk = Talk(server, small, large, busy, timeout_s=None)
    await talk.turn("small", "large", "busy")
    small_told, large_told, busy_told = talk.told()
    assert small_told == busy_told == "Error: ValueError: the tool yielded more than 100,000 values"
    assert large_told == "Error: ValueError: the tool yielded more than 100,000,000 bytes"
    gc.collect()
    assert sorted(closed) == ["busy", "large", "small"]
    await talk.nothing_is_left()


@pytest.mark.asyncio
async def test_the_same_call_for_ever_ends_at_the_limit(server: ScriptedServer) -> None:
    @tool
    def again() -> str:
        """Says to call it again."""
        return "call me again"

    talk = Talk(server, again, max_tool_rounds=3)
    for _ in range(4):
        server.enqueue(asks_for("again"))
    response = await talk.agent.chat("go")
    assert await response == "Let me see. " * 4
    await talk.check(response, status="limit", tools=3)
    assert len(talk.recorder.requests) == 5
    await talk.nothing_is_left()


# ── what is returned ─────────────────────────────────────────────────────────────────────────────────


class Odd:
    """What it does when it is asked for its text."""

    def __init__(self, act: Callable[[], Any]) -> None:
        self._act = act

    def __str__(self) -> str:
        return self._act()  # type: ignore[no-any-return]

    __repr__ = __str__


class Dumps(Odd):
    def model_dump(self, **_: Any) -> Any:
        return self._act()


def raises(error: BaseException) -> Callable[[], Any]:
    def act() -> Any:
        raise error

    return act


def deeper() -> str:
    return str(Odd(deeper))


def again() -> Any:
    return {"more": Dumps(again)}


def cyclic() -> Any:
    value: list[Any] = []
    value.append({"again": value})
    return value


RESULTS: dict[str, tuple[Callable[[], Any], str]] = {
    "__str__ raises": (lambda: Odd(raises(RuntimeError("no"))), "<Odd>"),
    "__str__ returns no text": (lambda: Odd(lambda: 3), "<Odd>"),
    "__str__ exits": (lambda: Odd(raises(SystemExit("no"))), "Error: SystemExit: no"),
    "__str__ interrupts": (lambda: Odd(raises(KeyboardInterrupt("no"))), "Error: KeyboardInterrupt: no"),
    "__str__ cancels": (lambda: Odd(raises(asyncio.CancelledError("no"))), "Error: CancelledError: no"),
    "__str__ recurses": (lambda: Odd(deeper), "<Odd>"),
    "model_dump raises": (lambda: Dumps(raises(RuntimeError("no"))), "<Dumps>"),
    "model_dump recurses": (lambda: Dumps(again), "<Dumps>"),
    "cyclic": (cyclic, "[{'again': [...]}]"),
    "no word": (lambda: " \n", "(the tool returned a text without a word)"),
    "a coroutine function": (lambda: asyncio.sleep, "<function sleep"),
    "an endless iterator": (lambda: iter(int, 1), "<callable_iterator"),
    "half a pair": (lambda: {"a": "\ud83d"}, '{"a": "?"}'),
    "binary": (lambda: b"\x00\xff" * 8, "<16 bytes, starting with 00ff"),
}


@pytest.mark.asyncio
@pytest.mark.parametrize("kind", ["sync", "async"])
@pytest.mark.parametrize("result", RESULTS)
async def test_results_that_resist_become_text_or_an_error(server: ScriptedServer, result: str, kind: str) -> None:
    make, text = RESULTS[result]

    @tool(name="odd", description="Returns something odd.")
    def odd() -> Any:
        return make()

    @tool(name="odd", description="Returns something odd.")
    async def odd_async() -> Any:
        return make()

    talk = Talk(server, odd if kind == "sync" else odd_async)
    await talk.turn("odd")
    (told,) = talk.told()
    assert told.startswith(text)
    await talk.nothing_is_left()


@pytest.mark.asyncio
async def test_a_text_that_never_comes_is_given_up(server: ScriptedServer) -> None:
    release = threading.Event()

    @tool(timeout_s=0.05)
    async def slow() -> Any:
        """Returns what has no text."""
        return Odd(lambda: str(release.wait()))

    talk = Talk(server, slow)
    await talk.turn("slow")
    assert talk.recorder.tools["status"].tolist() == ["timeout"]
    release.set()
    await talk.nothing_is_left()


@pytest.mark.asyncio
@pytest.mark.parametrize("kind", ["text", "bytes", "bytearray", "list"])
async def test_huge_results_are_cut_and_not_copied_again_and_again(server: ScriptedServer, kind: str) -> None:
    size = 100_000_000
    huge: Any = "x" * size if kind == "text" else b"\x00" * size
    huge = {"bytearray": bytearray, "list": lambda data: [data] * 1000}.get(kind, lambda data: data)(huge)

    @tool
    def much() -> Any:
        """Returns much."""
        return huge

    talk = Talk(server, much)
    tracemalloc.start()
    try:
        await talk.turn("much")
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 1.5 * size
    (told,) = talk.told()
    assert len(told) <= MAX_RESULT_CHARS + 100
    assert ("cut: the first 100,000 of 100,000,000 characters" in told) is (kind == "text")


# ── how many ─────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.asyncio
async def test_500_calls_in_one_reply_are_all_answered_by_a_few_threads(server: ScriptedServer) -> None:
    lock, running, most = threading.Lock(), 0, 0
    all_places = threading.Barrier(32)

    @tool
    def counted() -> str:
        """Counts who runs with it."""
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        with suppress(threading.BrokenBarrierError):  # the first 32 wait for each other: so many do run together
            all_places.wait(10)
            all_places.abort()
        with lock:
            running -= 1
        return "fine"

    talk = Talk(server, counted)
    await talk.turn(*["counted"] * 500)
    assert talk.told() == ["fine"] * 500
    assert most == 32
    assert talk.recorder.tools["status"].tolist() == ["ok"] * 500
    await talk.nothing_is_left()


@pytest.mark.asyncio
async def test_tools_that_wait_for_a_place_are_stopped_with_the_turn(server: ScriptedServer) -> None:
    started, release = threading.Semaphore(0), threading.Event()

    @tool
    def stuck() -> None:
        """Never returns."""
        started.release()
        release.wait()

    talk = Talk(server, stuck, timeout_s=None)
    server.enqueue(asks_for(*["stuck"] * 100))
    response = await talk.agent.chat("go")
    for _ in range(32):
        assert await asyncio.to_thread(started.acquire, timeout=10)
    await response.aclose()
    await talk.check(response, status="cancelled", tools=100)
    assert set(talk.recorder.tools["status"]) == {"cancelled"}
    assert not started.acquire(blocking=False)
    release.set()
    await talk.nothing_is_left()


@pytest.mark.asyncio
async def test_stuck_tools_give_their_places_to_those_that_wait(server: ScriptedServer) -> None:
    release = threading.Event()

    @tool(timeout_s=0.01)
    def stuck() -> None:
        """Never returns."""
        release.wait()

    @tool
    def fine() -> str:
        """Works."""
        return "fine"

    talk = Talk(server, stuck, fine)
    await talk.turn(*["stuck"] * 40, "fine")
    assert talk.told()[-1] == "fine"
    assert talk.recorder.tools["status"].tolist().count("timeout") == 40
    release.set()
    await talk.nothing_is_left()


# ── tools and their agent ────────────────────────────────────────────────────────────────────────────


@pytest.mark.asyncio
@pytest.mark.parametrize("kind", ["async", "thread", "returned"])
async def test_a_tool_that_asks_its_own_agent_does_not_wait_for_ever(server: ScriptedServer, kind: str) -> None:
    @tool
    async def ask() -> str:
        """Asks the agent."""
        return await (await talk.agent.chat("inner?"))

    @tool(name="ask")
    async def ask_returned() -> Any:
        """Asks the agent."""
        return await talk.agent.chat("inner?")

    @tool(name="ask")
    def ask_in_thread() -> str:
        """Asks the agent, on a loop of its own."""

        async def inner() -> str:
            return await (await talk.agent.chat("inner?"))

        return asyncio.run(inner())

    talk = Talk(server, {"async": ask, "thread": ask_in_thread, "returned": ask_returned}[kind])
    server.enqueue(asks_for("ask"))
    server.enqueue(says("Inner."))
    server.enqueue(says("Done."))
    response = await talk.agent.chat("go")
    assert await response == "Let me see. Done."
    assert server.requests[2].json["messages"][-1]["content"] == "Inner."
    questions = [message.content for message in talk.agent.history if message.role == "user"]
    assert questions == ["go", "inner?"]
    assert talk.recorder.calls["status"].tolist() == ["ok", "ok"]
    server.enqueue(says("Next."))
    assert await (await talk.agent.chat("and now?")) == "Next."
    assert_valid_history(talk.agent.history, 20)
    for request in server.requests:
        assert_valid_request(request.json, 20)
    await talk.nothing_is_left()


@pytest.mark.asyncio
@pytest.mark.parametrize("in_thread", [True, False])
async def test_a_tool_that_clears_the_history_forgets_what_came_before_its_turn(
    server: ScriptedServer, in_thread: bool
) -> None:
    @tool(in_thread=in_thread)
    def forget() -> str:
        """Forgets."""
        talk.agent.clear_history()
        return "forgotten"

    talk = Talk(server, forget)
    server.enqueue(says("First."))
    await (await talk.agent.chat("first"))
    await talk.turn("forget")
    questions = [message.content for message in talk.agent.history if message.role == "user"]
    assert questions == ["go", "and now?"]


@pytest.mark.asyncio
async def test_a_tool_cannot_change_what_was_said(server: ScriptedServer) -> None:
    @tool
    def meddle() -> None:
        """Changes the history."""
        talk.agent.history[0].content = "You must obey."  # type: ignore[misc]

    talk = Talk(server, meddle)
    server.enqueue(says("First."))
    await (await talk.agent.chat("first"))
    await talk.turn("meddle")
    assert "FrozenInstanceError" in talk.told()[-1]
    assert talk.agent.history[0].content == "first"


@pytest.mark.asyncio
async def test_a_tool_that_stops_its_own_turn_ends_it(server: ScriptedServer) -> None:
    @tool
    async def stop() -> str:
        """Stops."""
        await talk.agent.aclose()
        return "never told"

    talk = Talk(server, stop)
    server.enqueue(asks_for("stop"))
    response = await talk.agent.chat("go")
    assert await response == "Let me see. "
    await talk.check(response, status="cancelled")
    await talk.nothing_is_left()


@pytest.mark.asyncio
async def test_what_a_name_or_arguments_are_does_not_matter(server: ScriptedServer) -> None:
    @tool
    def add(a: int) -> int:
        """Adds one."""
        return a + 1

    talk = Talk(server, add)
    for arguments, status in [
        ('{"a": "' + "9" * 1_000_000 + '"}', "invalid_arguments"),
        ('{"a": ' + "[" * 50_000 + "]" * 50_000 + "}", "invalid_arguments"),
        ('{"a": NaN}', "invalid_arguments"),
        ('{"a": 1, "\\ud83d": 2}', "invalid_arguments"),
        ('{"a": 1, "a": 2}', "ok"),
        ("\x00", "invalid_arguments"),
    ]:
        await talk.turn("add", arguments=arguments)
        assert talk.recorder.tools["status"].tolist()[-1] == status
        talk.agent.clear_history()
    await talk.turn("x" * 1_000_000)
    assert talk.recorder.tools["status"].tolist()[-1] == "unknown_tool"
