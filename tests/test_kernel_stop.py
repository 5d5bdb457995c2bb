"""Stop in the view ends the answer and not the notebook; ■ ends the cell, at once, whatever it waits for."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest
from family import ScriptedServer, delta, sse
from kernel_client import (
    BUNDLE_MIME,
    IPYKERNEL,
    PAGE,
    WIDGET_MIME,
    Kernel,
    Widget,
    answer,
    make_agent,
    shared_kernel,
    wait_until,
)

pytestmark = pytest.mark.kernel

HEARS_STOP = IPYKERNEL >= 7
"""ipykernel 6 hears no message while a cell runs: there the view interrupts the kernel, and so the cell."""
LAST_STATUS = "recorder.call_records[-1].status"
IDLE_TASKS = "sorted(task.get_coro().__qualname__ for task in __import__('asyncio').all_tasks())"


@pytest.fixture
def kernel(server: ScriptedServer) -> Kernel:
    """The kernel, with an agent `a` whose provider is the scripted server."""
    kernel = shared_kernel()
    make_agent(kernel, server)
    return kernel


@pytest.fixture
def hold() -> Iterator[threading.Event]:
    """What the server holds back until this is set, which is never while a test runs unless it says so."""
    event = threading.Event()
    yield event
    event.set()


def assert_healthy(kernel: Kernel, server: ScriptedServer) -> None:
    server.enqueue(answer("healthy"))
    assert "healthy" in kernel.ok("%%agent a\nstill there?").saved[0]["text/plain"]


def press_stop(widget: Widget) -> None:
    """What the page does when Stop is pressed; a message that is not heard comes when the cell is over."""
    widget.send({"type": "stop"})
    if widget.state["interrupt"]:
        assert widget.state["interrupt"] == widget.execution.kernel.kernel_id
        widget.execution.kernel.interrupt()


# Stop in the view


@pytest.mark.parametrize("code", ["%%agent a\nhi", "await a.chat('hi')"])
def test_stop_ends_the_answer_and_keeps_its_text(
    kernel: Kernel, server: ScriptedServer, hold: threading.Event, code: str
) -> None:
    server.enqueue(answer("Hello **you", hold, "never"))
    cells = [kernel.send(code, PAGE), kernel.send("print('next')")]
    cells[0].until(lambda: cells[0].widgets and cells[0].widgets[0].text, "the first token")
    (widget,) = cells[0].widgets
    assert bool(widget.state["interrupt"]) is not HEARS_STOP
    press_stop(widget)
    expected = ["ok", "ok"] if HEARS_STOP else ["error", "aborted"]
    assert [cell.end().status for cell in cells] == expected
    (bundle,) = cells[0].saved
    assert WIDGET_MIME not in bundle
    assert "Hello **you" in bundle["text/plain"]
    assert "stopped" in bundle["text/html"]
    assert bundle[BUNDLE_MIME]["call"]["status"] == "cancelled"
    assert kernel.value(LAST_STATUS) == "cancelled"
    last = kernel.value("[a.history[-1].role, a.history[-1].status, a.history[-1].content]")
    assert last[:2] == ["assistant", "cancelled"]
    assert last[2].startswith("Hello **you")
    wait_until(lambda: server.open_connections == 0, "the connection is closed")
    assert_healthy(kernel, server)


def test_stop_before_the_first_token(kernel: Kernel, server: ScriptedServer, hold: threading.Event) -> None:
    server.enqueue(answer(hold, "never"))
    cell = kernel.send("await a.chat('hi')", PAGE)
    cell.until(lambda: cell.widgets and server.requests, "the view and the request")
    press_stop(cell.widgets[0])
    assert cell.end().status == ("ok" if HEARS_STOP else "error")
    assert kernel.value(LAST_STATUS) == "cancelled"


def test_stop_pressed_twice_or_too_late_is_harmless(
    kernel: Kernel, server: ScriptedServer, hold: threading.Event
) -> None:
    server.enqueue(answer("Hello ", hold, "never"))
    cell = kernel.send("await a.chat('hi')", PAGE)
    cell.until(lambda: cell.widgets and cell.widgets[0].text, "the first token")
    for _ in range(3):
        cell.widgets[0].send({"type": "stop"})
    if not HEARS_STOP:
        kernel.interrupt()
    cell.end()
    cell.widgets[0].send({"type": "stop"})
    assert_healthy(kernel, server)


def test_each_view_has_its_own_stop_where_the_kernel_hears_it(
    kernel: Kernel, server: ScriptedServer, hold: threading.Event
) -> None:
    make_agent(kernel, server, "b")
    for _ in range(2):
        server.enqueue(answer("part ", hold, "rest"))
    cell = kernel.send("import asyncio\nawait asyncio.gather(a.chat('1'), b.chat('2'))", PAGE)
    cell.until(lambda: len(cell.widgets) == 2 and all(widget.text for widget in cell.widgets), "both begin")
    first, second = cell.widgets
    press_stop(first)
    cell.until(lambda: first.ends, "the first view has ended")
    if HEARS_STOP:
        assert not second.ends
        assert not cell.idle
        hold.set()
    cell.end()
    expected = ["cancelled", "ok"] if HEARS_STOP else ["cancelled", "cancelled"]
    assert [bundle[BUNDLE_MIME]["call"]["status"] for bundle in cell.saved] == expected
    assert cell.saved[0]["text/plain"].startswith("part \n")
    assert cell.saved[1]["text/plain"].startswith("part rest\n" if HEARS_STOP else "part \n")
    assert cell.status == ("ok" if HEARS_STOP else "error")


def test_stop_in_a_cell_that_blocks_the_loop_interrupts_on_every_ipykernel(
    kernel: Kernel, server: ScriptedServer, hold: threading.Event
) -> None:
    server.enqueue(answer("Hello ", hold, "never"))
    cell = kernel.send("%%time\n%%agent a\nhi", PAGE)
    cell.until(lambda: cell.widgets and cell.widgets[0].text, "the first token")
    assert cell.widgets[0].state["interrupt"]
    press_stop(cell.widgets[0])
    cell.end().one_line_error("TurnStopped")
    assert "Hello" in cell.saved[0]["text/plain"]
    assert kernel.value(LAST_STATUS) == "cancelled"
    assert_healthy(kernel, server)


# ■


WAITING_CELLS = {
    "magic": ("%%agent a\nhi", "TurnStopped"),
    "last expression": ("await a.chat('hi')", "TurnStopped"),
    "gather": ("import asyncio\nawait asyncio.gather(a.chat('hi'))", "TurnStopped"),
    "bridge": ("%%time\n%%agent a\nhi", "TurnStopped"),
    "awaited text": ("text = await (await a.chat('hi'))", "CancelledError"),
    "async for": ("async for token in await a.chat('hi'):\n    pass", "CancelledError"),
    "gathered texts": ("import asyncio\nx = await asyncio.gather(await a.chat('hi'))", "CancelledError"),
    "print": ("print(await a.chat('hi'))", "KeyboardInterrupt"),
}
"""Each with the error that Python raises there; what the cell shows is one line that says what happened."""
BLOCKING_CELLS = [WAITING_CELLS[name][0] for name in ("bridge", "print")]


@pytest.mark.parametrize("begun", [False, True], ids=["before the first token", "in mid-stream"])
@pytest.mark.parametrize(("code", "kind"), WAITING_CELLS.values(), ids=WAITING_CELLS)
def test_interrupt_stops_the_cell_while_the_server_holds_back(
    kernel: Kernel, server: ScriptedServer, hold: threading.Event, code: str, kind: str, begun: bool
) -> None:
    rows, tasks = kernel.value("len(recorder)"), kernel.value(IDLE_TASKS)
    server.enqueue(answer("Hello ", hold, "never") if begun else answer(hold, "never"))
    cells = [kernel.send(code, PAGE), kernel.send("print('two')"), kernel.send("print('three')")]
    wait_until(lambda: server.requests, "the request")
    if begun and kind == "TurnStopped":  # the others have no view that would tell
        cells[0].until(lambda: cells[0].widgets and cells[0].widgets[0].text, "the first token")
    kernel.interrupt()
    cells[0].end().one_line_error(kind)
    assert "TurnStopped" in cells[0].error_text
    assert "CancelledError" not in cells[0].error_text + cells[0].stdout + cells[0].stderr
    assert not hold.is_set()
    if code not in BLOCKING_CELLS:  # Run All does not go on
        assert {cell.end().status for cell in cells[1:]} == {"aborted"}
        assert [cell.end().stdout for cell in cells[1:]] == ["", ""]
    cells[-1].end()
    assert [kernel.value("len(recorder)"), kernel.value(LAST_STATUS)] == [rows + 1, "cancelled"]
    wait_until(lambda: server.open_connections == 0, "the connection is closed")
    for bundle in cells[0].saved:
        assert bundle[BUNDLE_MIME]["call"]["status"] == "cancelled"
        assert WIDGET_MIME not in bundle
        assert ("Hello" in bundle["text/plain"]) is begun
    assert kernel.value(IDLE_TASKS) == tasks
    assert_healthy(kernel, server)


@pytest.mark.parametrize("code", BLOCKING_CELLS, ids=["bridge", "print"])
def test_run_all_does_not_go_on_after_a_cell_that_blocked(
    kernel: Kernel, server: ScriptedServer, hold: threading.Event, code: str
) -> None:
    """On a busy machine, ipykernel 7 forgets once in fifty times to drop what waits, when nest-asyncio has entered
    its loop. It does not five times in a row.
    """
    for attempt in range(1, 6):
        server.enqueue(answer(hold, "never"))
        cells = [kernel.send(code, PAGE), kernel.send("print('two')"), kernel.send("print('three')")]
        wait_until(lambda attempt=attempt: len(server.requests) == attempt, "the request")
        kernel.interrupt()
        statuses = [cell.end().status for cell in cells]
        assert statuses[0] == "error"
        if statuses[1:] == ["aborted", "aborted"]:
            return
    pytest.fail(f"the cells behind it ran: {statuses}")


IN_ANOTHER_TASK = {
    "gather": "await asyncio.gather(ask())",
    "a task": "await asyncio.create_task(ask())",
    "a task group": "async with asyncio.TaskGroup() as group:\n    group.create_task(ask())",
    "two": "await asyncio.gather(ask(), ask())",
    "a task that the cell leaves behind": "behind = asyncio.create_task(ask())",
}


@pytest.mark.parametrize("code", IN_ANOTHER_TASK.values(), ids=IN_ANOTHER_TASK)
def test_interrupt_while_another_task_of_the_cell_prints_an_answer(
    kernel: Kernel, server: ScriptedServer, hold: threading.Event, code: str
) -> None:
    """Raised there, a KeyboardInterrupt would end the kernel's event loop."""
    rows, tasks = kernel.value("len(recorder)"), kernel.value(IDLE_TASKS)
    asked = code.count("ask()")
    for _ in range(asked):
        server.enqueue(answer("Hello ", hold, "never"))
    kernel.ok("import asyncio\nasync def ask():\n    print(await a.chat('hi'))")
    cell = kernel.send(code)
    wait_until(lambda: len(server.requests) == asked, "the requests")
    kernel.interrupt()
    leaves_behind = code.startswith("behind")
    assert cell.end().status == ("ok" if leaves_behind else "error")
    wait_until(lambda: server.open_connections == 0, "the connections are closed")
    if leaves_behind:
        assert kernel.value("behind.cancelled()")
    statuses = kernel.value("[record.status for record in recorder.call_records]")[rows:]
    assert statuses == ["cancelled"] * asked
    assert kernel.value(IDLE_TASKS) == tasks
    assert_healthy(kernel, server)


@pytest.fixture
def printing(kernel: Kernel, server: ScriptedServer, hold: threading.Event) -> Kernel:
    """The kernel, while a task that an earlier cell has left behind prints an answer that is held back."""
    server.enqueue(answer("Hello ", hold, "there"))
    kernel.ok(
        "import asyncio\nasync def ask():\n    print(await a.chat('hi'))\nbehind = asyncio.create_task(ask())"
    )
    wait_until(lambda: server.requests, "the request")
    return kernel


def test_interrupt_of_an_idle_kernel_is_harmless_after_a_cell_that_began_in_the_bridge(
    printing: Kernel, server: ScriptedServer, hold: threading.Event
) -> None:
    """At its end a cell puts back the handler that it has found, when the bridge has gone."""
    cell = printing.send("print('begun')\nawait behind")
    cell.until(lambda: "begun" in cell.stdout, "the cell's begin")
    hold.set()
    assert cell.end().status == "ok"
    printing.interrupt()
    assert_healthy(printing, server)
    printing.interrupt()
    assert_healthy(printing, server)


def test_interrupt_reaches_a_cell_that_began_in_the_bridge_and_goes_on(
    printing: Kernel, server: ScriptedServer, hold: threading.Event
) -> None:
    cell = printing.send("print('begun')\nawait behind\nprint('over')\nawait asyncio.Event().wait()")
    cell.until(lambda: "begun" in cell.stdout, "the cell's begin")
    hold.set()
    cell.until(lambda: "over" in cell.stdout, "the end of the bridge")
    printing.interrupt()
    assert cell.end().status == "error"
    assert_healthy(printing, server)


@pytest.mark.parametrize("body", ["print(await a.chat('and?'))", "print(response)"])
def test_interrupt_in_the_bridge_in_the_body_of_a_loop_stops_the_loops_turn_too(
    kernel: Kernel, server: ScriptedServer, hold: threading.Event, body: str
) -> None:
    rows, asked = kernel.value("len(recorder)"), 1 + body.count("chat")
    for _ in range(asked):
        server.enqueue(answer("Hello ", hold, "never"))
    cell = kernel.send(f"response = await a.chat('hi')\nasync for token in response:\n    {body}")
    wait_until(lambda: len(server.requests) == asked, "the requests")
    kernel.interrupt()
    assert cell.end().status == "error"
    wait_until(lambda: server.open_connections == 0, "the connections are closed")
    statuses = kernel.value("[record.status for record in recorder.call_records]")[rows:]
    assert statuses == ["cancelled"] * asked
    assert_healthy(kernel, server)


def test_interrupt_while_an_asynchronous_tool_prints_another_agents_answer(
    kernel: Kernel, server: ScriptedServer, hold: threading.Event
) -> None:
    call = {"index": 0, "id": "c1", "function": {"name": "ask", "arguments": "{}"}}
    server.enqueue(sse(delta(tool_calls=[call]), delta(finish="tool_calls")))
    server.enqueue(answer("Hello ", hold, "never"))
    kernel.ok("async def ask() -> str:\n    'Asks.'\n    return str(await b.chat('hi'))\nb = a.variant()")
    rows = kernel.value("len(recorder)")
    cell = kernel.send("%%agent a -t ask\nhi", PAGE)
    wait_until(lambda: len(server.requests) == 2, "the tool's request")
    kernel.interrupt()
    cell.end().one_line_error("TurnStopped")
    assert kernel.value("[record.status for record in recorder.call_records]")[rows:] == ["cancelled"] * 2
    wait_until(lambda: server.open_connections == 0, "the connections are closed")
    assert_healthy(kernel, server)


def test_a_second_interrupt_while_a_kernel_drops_cells_does_not_let_it_drop_them_for_ever(
    kernel: Kernel, server: ScriptedServer
) -> None:
    kernel.ok(
        "import os, signal\n"
        "def again(change):\n"
        "    if change.new: os.kill(os.getpid(), signal.SIGINT)\n"
        "get_ipython().kernel.observe(again, '_aborting')"
    )
    assert kernel.run("1 / 0").status == "error"
    wait_until(lambda: kernel.run("print('two')").status == "ok", "a cell that is not dropped", timeout_s=10)
    kernel.ok("get_ipython().kernel.unobserve(again, '_aborting')")
    assert_healthy(kernel, server)


def test_interrupt_reaches_a_tool_that_runs(kernel: Kernel, server: ScriptedServer) -> None:
    call = {"index": 0, "id": "c1", "function": {"name": "slow", "arguments": "{}"}}
    server.enqueue(sse(delta("Let me see. ", tool_calls=[call]), delta(finish="tool_calls")))
    kernel.ok("import asyncio\nasync def slow() -> str:\n    'Never ends.'\n    await asyncio.Event().wait()")
    cell = kernel.send("%%agent a -t slow\nhi", PAGE)
    cell.until(lambda: any("tool" in str(delta) for w in cell.widgets for delta in w.deltas), "the tool")
    kernel.interrupt()
    cell.end().one_line_error("TurnStopped")
    assert "slow()" in cell.saved[0]["text/plain"]
    assert "stopped" in cell.saved[0]["text/plain"]
    assert kernel.value("[recorder.tool_records[-1].status, recorder.call_records[-1].status]") == [
        "cancelled",
        "cancelled",
    ]
    assert_healthy(kernel, server)


def test_interrupted_magic_leaves_what_arrived(
    kernel: Kernel, server: ScriptedServer, hold: threading.Event
) -> None:
    server.enqueue(answer("Hello ", hold, "never"))
    cell = kernel.send("%%agent a -o kept\nhi", PAGE)
    cell.until(lambda: cell.widgets and cell.widgets[0].text, "the first token")
    kernel.interrupt()
    cell.end()
    assert kernel.value("kept") == "Hello "
    server.enqueue(answer("again"))
    kernel.ok("%%agent a\nand?")
    sent = server.requests[-1].json["messages"]
    assert [message["role"] for message in sent] == ["user", "assistant", "user"]
    assert sent[1]["content"].startswith("Hello ")


def test_interrupt_of_an_idle_kernel_is_harmless(kernel: Kernel, server: ScriptedServer) -> None:
    kernel.interrupt()
    assert_healthy(kernel, server)
