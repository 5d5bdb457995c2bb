"""What a notebook sees: cells that wait for their answers, views that stream, bundles that stay."""

from __future__ import annotations

import threading

import pytest
from family import ScriptedServer, delta, json_reply, sse
from kernel_client import (
    BUNDLE_MIME,
    IPYKERNEL,
    PAGE,
    WIDGET_MIME,
    Execution,
    Kernel,
    answer,
    make_agent,
    shared_kernel,
    text_of,
)

pytestmark = pytest.mark.kernel

STATIC_MIMES = {"text/html", "text/markdown", "text/plain", BUNDLE_MIME}
IDLE_TASKS = "sorted(task.get_coro().__qualname__ for task in __import__('asyncio').all_tasks())"


@pytest.fixture
def kernel(server: ScriptedServer) -> Kernel:
    """The kernel, with an agent `a` whose provider is the scripted server."""
    kernel = shared_kernel()
    make_agent(kernel, server)
    return kernel


def answers_of(execution: Execution) -> list[str]:
    return [bundle["text/plain"].partition("\n\n")[0] for bundle in execution.saved if BUNDLE_MIME in bundle]


# Run All


def test_cells_asked_for_together_run_in_order_and_keep_their_outputs(
    kernel: Kernel, server: ScriptedServer
) -> None:
    hold = threading.Event()
    server.enqueue(answer("first ", hold, "answer"))
    server.enqueue(answer("second answer"))
    cells = [kernel.send(code) for code in ("%%agent a\none", "print('x')", "await a.chat('two')", "print('y')")]
    cells[0].until(lambda: server.requests, "the first request")
    hold.set()
    for cell in cells:
        cell.end()
    assert [cell.status for cell in cells] == ["ok"] * 4
    assert [answers_of(cell) for cell in cells] == [["first answer"], [], ["second answer"], []]
    assert [cell.stdout for cell in cells] == ["", "x\n", "", "y\n"]
    # Each cell's messages come before the next one's, without exception.
    order = [message["parent_header"].get("msg_id") for message in kernel.messages]
    spans = [
        (order.index(cell.msg_id), len(order) - 1 - order[::-1].index(cell.msg_id), cell.code) for cell in cells
    ]
    assert all(spans[n][1] < spans[n + 1][0] for n in range(3)), spans


def test_cell_ends_when_the_answer_does(kernel: Kernel, server: ScriptedServer) -> None:
    hold = threading.Event()
    server.enqueue(answer("Hello ", hold, "world"))
    cell = kernel.send("await a.chat('hi')", PAGE)
    cell.until(lambda: cell.widgets and cell.widgets[0].text == "Hello ", "the first token, live")
    assert not cell.idle
    hold.set()
    assert answers_of(cell.end()) == ["Hello world"]


def test_later_cell_sees_the_answer_and_what_the_cell_left(kernel: Kernel, server: ScriptedServer) -> None:
    server.enqueue(answer("forty-two"))
    first = kernel.send("%%agent a -o found\nhow many?")
    second = kernel.send("print(found, '|', _.text)")
    assert first.end().status == "ok"
    assert second.end().stdout == "forty-two | forty-two\n"


# What shows, and where


def test_last_expression_streams_once_and_shows_nothing_twice(kernel: Kernel, server: ScriptedServer) -> None:
    server.enqueue(answer("Hello"))
    cell = kernel.ok("await a.chat('hi')")
    assert len(cell.states) == 1
    assert cell.of_type("execute_result") == []


def test_gather_shows_two_views_and_nothing_else(kernel: Kernel, server: ScriptedServer) -> None:
    make_agent(kernel, server, "b")
    server.enqueue(answer("same"))
    server.enqueue(answer("same"))
    cell = kernel.ok("import asyncio\nawait asyncio.gather(a.chat('1'), b.chat('2'))", PAGE)
    assert answers_of(cell) == ["same", "same"]
    assert [widget.state["about"]["agent"] for widget in cell.widgets] == ["a", "b"]
    assert cell.of_type("execute_result", "stream") == []


def test_each_of_two_failures_in_one_cell_is_shown(kernel: Kernel, server: ScriptedServer) -> None:
    make_agent(kernel, server, "b")
    for _ in range(2):
        server.enqueue(json_reply({"error": {"message": "no such luck"}}, "400 Bad Request"))
    cell = kernel.run("import asyncio\nawait asyncio.gather(a.chat('1'), b.chat('2'))", PAGE)
    assert "no such luck" in cell.one_line_error("InvalidRequestError")
    assert [bundle["text/plain"].count("no such luck") for bundle in cell.saved] == [1, 1]


def test_assigned_response_shows_nothing_until_it_is_asked_for(kernel: Kernel, server: ScriptedServer) -> None:
    server.enqueue(answer("Hello *you*"))
    assert kernel.ok("r = await a.chat('hi')\nprint(r)").saved == []
    later = kernel.ok("r", PAGE)
    (bundle,) = later.saved
    assert set(bundle) == STATIC_MIMES
    assert "<em>you</em>" in bundle["text/html"]
    assert later.widgets == []


def test_guide_patterns_run_as_written(kernel: Kernel, server: ScriptedServer) -> None:
    for _ in range(3):
        server.enqueue(answer("to", "ken"))
    cell = kernel.ok("r = await a.chat('hi')\nasync for t in r:\n    print(t, end='|')\nprint(await r)")
    assert cell.stdout == "to|ken|token\n"
    assert kernel.ok("print(await (await a.chat('hi')))").stdout == "token\n"
    assert kernel.ok("print(await a.chat('hi'))").stdout == "token\n"


def test_semicolon_hides_the_answer(kernel: Kernel, server: ScriptedServer) -> None:
    server.enqueue(answer("Hello"))
    cell = kernel.ok("r = a\nawait r.chat('hi');")
    assert cell.saved == []
    assert kernel.value("a.get_metrics()[-1].status") == "ok"  # and the cell has waited for it


def test_show_brings_an_answer_back(kernel: Kernel, server: ScriptedServer) -> None:
    server.enqueue(answer("older"))
    server.enqueue(answer("newer"))
    kernel.ok("%%agent a\none")
    kernel.ok("%%agent a\ntwo")
    assert answers_of(kernel.ok("%agent show")) == ["newer"]
    assert answers_of(kernel.ok("%agent show -2")) == ["older"]


# The magic's options


def test_named_agent_may_be_registered_or_a_variable(kernel: Kernel, server: ScriptedServer) -> None:
    server.enqueue(answer("from the variable"))
    server.enqueue(answer("from the registered one"))
    assert answers_of(kernel.ok("%%agent a\nhi")) == ["from the variable"]
    kernel.ok(f"%agent new reg -p openai -m m2 --base-url {server.openai_url} -i 'You are terse'")
    assert answers_of(kernel.ok("%%agent reg\nhi")) == ["from the registered one"]
    assert server.requests[1].json["model"] == "m2"
    assert server.requests[1].json["messages"][0] == {"role": "system", "content": "You are terse"}


def test_tools_named_in_the_cell_are_offered_and_run(kernel: Kernel, server: ScriptedServer) -> None:
    call = {"index": 0, "id": "c1", "function": {"name": "rows", "arguments": '{"limit": 2}'}}
    server.enqueue(sse(delta(tool_calls=[call]), delta(finish="tool_calls")))
    server.enqueue(answer("two rows"))
    kernel.ok("def rows(limit: int = 5) -> str:\n    'First rows of the table.'\n    return f'{limit} rows'")
    cell = kernel.ok("%%agent a -t rows,currentdate\nshow", PAGE)
    offered = [entry["function"]["name"] for entry in server.requests[0].json["tools"]]
    assert offered == ["rows", "currentdate"]
    assert server.requests[1].json["messages"][-1]["content"] == "2 rows"
    assert "rows(limit=2)" in cell.saved[0]["text/plain"]
    assert "two rows" in cell.saved[0]["text/plain"]
    assert kernel.value("[list(t.name for t in a._agent.tools), recorder.tool_records[-1].status]") == [[], "ok"]


def test_provider_and_model_options_choose_for_one_cell(kernel: Kernel, server: ScriptedServer) -> None:
    server.enqueue(answer("other model"))
    kernel.ok("%%agent a -m m3\nhi")
    assert server.requests[0].json["model"] == "m3"
    demo = kernel.ok("%%agent a -p demo -m demo-instant\nhello")
    assert "Demo provider" in demo.saved[0]["text/plain"]
    assert kernel.value("[a.provider, a.model]") == ["openai", "m"]


def test_no_history_neither_sees_nor_enters_the_conversation(kernel: Kernel, server: ScriptedServer) -> None:
    for text in ("one", "two", "three"):
        server.enqueue(answer(text))
    kernel.ok("%%agent a\nfirst")
    kernel.ok("%%agent a --no-history\nsecond")
    kernel.ok("%%agent a\nthird")
    sent = [[message["content"] for message in request.json["messages"]] for request in server.requests]
    assert sent == [["first"], ["second"], ["first", "one", "third"]]


def test_no_stream_asks_for_one_piece_and_looks_the_same(kernel: Kernel, server: ScriptedServer) -> None:
    body = {"choices": [{"message": {"role": "assistant", "content": "buffered"}, "finish_reason": "stop"}]}
    server.enqueue(json_reply(body))
    cell = kernel.ok("%%agent a --no-stream\nhi", PAGE)
    assert not server.requests[0].json.get("stream")
    assert answers_of(cell) == ["buffered"]


def test_prompt_is_filled_in_unless_it_is_raw(kernel: Kernel, server: ScriptedServer) -> None:
    server.enqueue(answer("ok"))
    server.enqueue(answer("ok"))
    kernel.ok("n = 3")
    assert kernel.ok("%%agent a --preview\n{{n + 1}} and {n} and $n").stdout == "4 and {n} and $n\n"
    (preview,) = kernel.ok("%%agent a --preview\n{{n + 1}}").saved
    assert preview["text/plain"].startswith(f"POST {server.openai_url}/chat/completions\n")
    assert '<div class="createagents-request' in preview["text/html"]
    kernel.ok("%%agent a\n{{n + 1}} and {n} and $n")
    kernel.ok("%%agent a --raw\n{{n + 1}}")
    assert [request.json["messages"][-1]["content"] for request in server.requests] == [
        "4 and {n} and $n",
        "{{n + 1}}",
    ]


# Through the bridge


@pytest.mark.parametrize(
    "code",
    [
        "%%time\n%%agent a -o kept\nhi",
        "%%capture out\n%%agent a -o kept\nhi",
        "get_ipython().run_cell_magic('agent', 'a -o kept', 'hi')",
        "get_ipython().run_cell('%%agent a -o kept\\nhi')",
        "r = get_ipython().run_cell_magic('agent', 'a -o kept', 'hi')",
    ],
)
@pytest.mark.parametrize("metadata", [{}, PAGE], ids=["headless", "page"])
def test_synchronous_callers_wait_in_the_bridge(
    kernel: Kernel, server: ScriptedServer, code: str, metadata: dict[str, str]
) -> None:
    for text in ("through the bridge", "and on"):
        server.enqueue(answer(text))
    cell = kernel.ok(code, metadata)
    assert kernel.value("kept") == "through the bridge"
    if "capture" in code:
        assert cell.saved == []
        cell = kernel.ok("out.show()")
    assert answers_of(cell) == ["through the bridge"]
    # Awaiting and tasks still work after the loop was entered again.
    assert answers_of(kernel.ok("%%agent a\nmore")) == ["and on"]
    assert kernel.ok("import asyncio\nprint(await asyncio.gather(asyncio.sleep(0, 1)))").stdout == "[1]\n"


def test_str_of_a_running_response_waits_in_the_bridge(kernel: Kernel, server: ScriptedServer) -> None:
    hold = threading.Event()
    server.enqueue(answer("all ", hold, "of it"))
    cells = [kernel.send("r = await a.chat('hi')\nprint(f'<{r}>')"), kernel.send("print('next')")]
    cells[0].until(lambda: server.requests, "the request")
    hold.set()
    assert [cell.end().stdout for cell in cells] == ["<all of it>\n", "next\n"]


# What is kept


@pytest.mark.parametrize("code", ["%%agent a\nhi", "await a.chat('hi')", "%%time\n%%agent a\nhi"])
def test_last_state_is_static_and_the_comm_is_closed(kernel: Kernel, server: ScriptedServer, code: str) -> None:
    server.enqueue(answer("# Title\n\n", "Some **bold** text"))
    cell = kernel.ok(code, PAGE)
    (states,) = cell.states
    assert WIDGET_MIME in states[0]
    assert set(states[-1]) == STATIC_MIMES
    assert all(WIDGET_MIME not in state for state in states[1:])
    assert "<strong>bold</strong>" in states[-1]["text/html"]
    record = states[-1][BUNDLE_MIME]
    assert (record["call"]["status"], record["call"]["prompt"], record["version"]) == ("ok", "hi", 1)
    (widget,) = cell.widgets
    for kind in ("hello", "bye"):
        widget.send({"type": kind, "view": "new"})
    cell.until(lambda: widget.closed, "the widget is closed")
    assert widget.text == "# Title\n\nSome **bold** text"


def test_no_task_is_left_behind(kernel: Kernel, server: ScriptedServer) -> None:
    before = kernel.value(IDLE_TASKS)
    for text in ("one", "two", "three", "four"):
        server.enqueue(answer(text))
    kernel.ok("%%agent a\nhi", PAGE)
    kernel.ok("await a.chat('hi')")
    kernel.ok("%%time\n%%agent a\nhi", PAGE)
    kernel.ok("print(await a.chat('hi'))")
    assert kernel.value(IDLE_TASKS) == before
    assert server.open_connections == 0


def test_cell_is_in_the_record(kernel: Kernel, server: ScriptedServer) -> None:
    server.enqueue(answer("x"))
    server.enqueue(answer("y"))
    cell = kernel.ok("%%agent a\nhi", {"cellId": "the-cell"})
    inner = kernel.ok("%%capture\n%%agent a\nhi", {"cellId": "the-outer-cell"})
    rows = "[[call.cell_id, call.execution_count] for call in recorder.call_records[-2:]]"
    counts = [found.reply["content"]["execution_count"] for found in (cell, inner)]
    assert kernel.value(rows) == [["the-cell", counts[0]], ["the-outer-cell", counts[1]]]


def test_view_that_comes_late_is_told_the_text_so_far(kernel: Kernel, server: ScriptedServer) -> None:
    hold = threading.Event()
    server.enqueue(answer("Hello ", hold, "world"))
    cell = kernel.send("await a.chat('hi')", PAGE)
    cell.until(lambda: cell.widgets and cell.widgets[0].text, "the first token")
    (widget,) = cell.widgets
    if IPYKERNEL >= 7:
        widget.send({"type": "hello"})
        cell.until(lambda: widget.snapshots, "the answer to a new view")
        assert text_of(widget.snapshots[0]) == "Hello "
        assert widget.snapshots[0]["seq"] == widget.deltas[-1]["seq"]
    hold.set()
    cell.end()
    # A hello that comes when all is over is no error.
    widget.send({"type": "hello"})
    assert kernel.ok("1 + 1").saved == [{"text/plain": "2"}]


# The extension itself


def test_extension_can_be_loaded_again_and_unloaded(kernel: Kernel, server: ScriptedServer) -> None:
    hooks = "[len(ip.input_transformers_post), len(ip.ast_transformers), len(ip.events.callbacks['pre_run_cell'])]"
    kernel.ok("ip = get_ipython()")
    loaded = kernel.value(hooks)
    assert kernel.ok("%reload_ext createagents_nb").of_type("stream") == []
    kernel.ok("import createagents_nb\ncreateagents_nb.load_ipython_extension(ip)")
    assert kernel.value(hooks) == loaded
    kernel.ok("%unload_ext createagents_nb")
    assert kernel.value(hooks) == [count - 1 for count in loaded]
    assert "not found" in kernel.run("%%agent a\nhi").stderr
    server.enqueue(answer("plain"))
    assert "plain" in kernel.ok("r = await a.chat('hi')\nawait r\nr").stdout
    assert kernel.ok("%load_ext createagents_nb").of_type("stream") == []
    server.enqueue(answer("back"))
    assert answers_of(kernel.ok("%%agent a\nhi")) == ["back"]
