"""Approval in a real kernel: what the page is told of a call that waits, and what its buttons say."""

from __future__ import annotations

import json
from typing import Any

import pytest
from family import ScriptedServer, delta, sse
from kernel_client import IPYKERNEL, PAGE, Execution, Kernel, Widget, answer, make_agent, shared_kernel

pytestmark = pytest.mark.kernel

needs_a_page_that_is_heard = pytest.mark.skipif(
    IPYKERNEL < 7, reason="ipykernel 6 hears no page while a cell runs"
)

TOOL = """
from createagents_nb import tool
deleted = []
@tool(requires_approval=True)
def delete(path: str) -> str:
    "Deletes a file."
    deleted.append(path)
    return f"deleted {path}"
"""


@pytest.fixture
def kernel(server: ScriptedServer) -> Kernel:
    """The kernel, with an agent `a` that has a tool which needs approval, and whose provider is the server."""
    kernel = shared_kernel()
    make_agent(kernel, server)
    kernel.ok(TOOL + "a = a.variant(tools=[delete])")
    kernel.messages.clear()
    return kernel


def script(server: ScriptedServer, *rounds: dict[str, Any]) -> None:
    """Rounds of a call each, with the same id as some servers give it, and then an answer."""
    for arguments in rounds:
        function = {"name": "delete", "arguments": json.dumps(arguments)}
        call = delta(tool_calls=[{"index": 0, "id": "call_1", "function": function}])
        server.enqueue(sse(call, delta(finish="tool_calls")))
    server.enqueue(answer("Done."))


def pieces(widget: Widget, kind: str) -> list[list[Any]]:
    return [piece for delta in widget.deltas for piece in delta["pieces"] if piece[0] == kind]


def waiting(cell: Execution, count: int = 1) -> Widget:
    """The view, when it has asked so often."""
    cell.until(lambda: cell.widgets and len(pieces(cell.widgets[0], "ask")) == count, "the question")
    widget = cell.widgets[0]
    widget.send({"type": "hello", "view": "new"})
    return widget


def decide(widget: Widget, approved: Any, round_number: Any = 1, **more: Any) -> None:
    widget.send(
        {"type": "decide", "id": "call_1", "round": round_number, "approved": approved, "attempt": "x"} | more
    )


def told(server: ScriptedServer) -> str:
    """What the model was told last of a call."""
    messages = server.requests[-1].json["messages"]
    return [str(message["content"]) for message in messages if message["role"] == "tool"][-1]


@pytest.mark.parametrize("code", ["%%agent a\nTidy", "await a.chat('Tidy')"])
def test_in_a_runner_without_a_page_a_call_is_rejected_at_once(
    kernel: Kernel, server: ScriptedServer, code: str
) -> None:
    script(server, {"path": "a"})
    (bundle,) = kernel.ok(code).saved
    assert "delete needs approval, and nobody can be asked here: CreateAgent(approve=…)" in told(server)
    assert "rejected: not approved" in bundle["text/plain"]
    assert "needs approval" in bundle["text/html"]
    assert kernel.value("deleted") == []


def test_a_cell_that_blocks_the_loop_is_told_why_nobody_is_asked(kernel: Kernel, server: ScriptedServer) -> None:
    script(server, {"path": "a"})
    cell = kernel.run("%%time\n%%agent a\nTidy", PAGE)
    assert cell.status == "ok", cell.error
    assert "a cell that does not block the loop as %%time and %%capture do" in told(server)
    assert kernel.value("deleted") == []


@pytest.mark.skipif(IPYKERNEL >= 7, reason="later ones hear the page")
def test_a_page_that_is_not_heard_is_not_asked(kernel: Kernel, server: ScriptedServer) -> None:
    script(server, {"path": "a"})
    kernel.ok("await a.chat('Tidy')", PAGE)
    assert "nobody can be asked here" in told(server)


@needs_a_page_that_is_heard
def test_approve_lets_the_tool_run(kernel: Kernel, server: ScriptedServer) -> None:
    script(server, {"path": "a\u200b\u202e"})
    cell = kernel.send("await a.chat('Tidy')", PAGE)
    widget = waiting(cell)
    (question,) = pieces(widget, "ask")
    key, about = question[1:]
    assert about == {
        "id": "call_1",
        "round": 1,
        "tool": "delete",
        "arguments": '{\n  "path": "a\\u200b\\u202e"\n}',
    }
    card = pieces(widget, "tool")[-1]
    assert card[1] == key
    assert "waiting for approval" in card[2]
    assert "a\\u200b\\u202e" in card[2]
    decide(widget, True)
    assert cell.end().status == "ok"
    assert kernel.value("deleted") == ["a\u200b\u202e"]
    (bundle,) = cell.saved
    assert "→ done" in bundle["text/markdown"]


@needs_a_page_that_is_heard
def test_reject_is_told_to_the_model(kernel: Kernel, server: ScriptedServer) -> None:
    script(server, {"path": "a"})
    cell = kernel.send("await a.chat('Tidy')", PAGE)
    decide(waiting(cell), False)
    (bundle,) = cell.end().saved
    assert "The user rejected this call." in told(server)
    assert "rejected: not approved" in bundle["text/plain"]
    assert kernel.value("deleted") == []
    assert kernel.value("list(recorder.tools['status'])[-1]") == "rejected"


@needs_a_page_that_is_heard
def test_edited_arguments_are_checked_and_then_run(kernel: Kernel, server: ScriptedServer) -> None:
    script(server, {"path": "a"})
    cell = kernel.send("await a.chat('Tidy')", PAGE)
    widget = waiting(cell)
    for number, bad in enumerate(['{"path": [1]}', '{"path": ', "[1]"], 1):
        decide(widget, True, arguments=bad, attempt=f"{number}")
        cell.until(lambda number=number: len(widget._custom("undecided")) == number, "what is wrong")
    words = [message["words"] for message in widget._custom("undecided")]
    assert "Invalid arguments for delete: path" in words[0]
    assert "not valid JSON" in words[1]
    assert "expected a JSON object" in words[2]
    assert [message["attempt"] for message in widget._custom("undecided")] == ["1", "2", "3"]
    decide(widget, True, arguments='{"path": "b"}')
    (bundle,) = cell.end().saved
    assert kernel.value("deleted") == ["b"]
    assert "done edited by the user" in bundle["text/plain"]
    assert 'delete(path="b")' in bundle["text/plain"]


@needs_a_page_that_is_heard
@pytest.mark.parametrize("edited", ["", " \n", "null", '""', "[]", None, {"path": "b"}])
def test_an_edit_that_is_no_object_is_refused_and_the_call_waits(
    kernel: Kernel, server: ScriptedServer, edited: Any
) -> None:
    """A model may leave out its arguments; a reader who empties the field has not approved a call without them."""
    script(server, {"path": "a"})
    kernel.ok(
        "@tool(requires_approval=True)\ndef delete(path: str = 'everything') -> str:\n"
        "    'Deletes.'\n    deleted.append(path)\n    return 'deleted'\na = a.variant(tools=[delete])"
    )
    cell = kernel.send("r = await a.chat('Tidy')\nr", PAGE)
    widget = waiting(cell)
    decide(widget, True, arguments=edited)
    cell.until(lambda: widget._custom("undecided"), "what is wrong")
    (refusal,) = widget._custom("undecided")
    assert refusal["attempt"] == "x"
    assert "expected a JSON object, got" in refusal["words"]
    assert kernel.value("[len(r.pending_approvals), deleted]") == [1, []]
    decide(widget, True, arguments="{}")
    cell.until(lambda: widget.ends, "the end")
    assert kernel.value("deleted") == ["everything"]


@needs_a_page_that_is_heard
def test_what_is_no_decision_on_this_call_decides_nothing(kernel: Kernel, server: ScriptedServer) -> None:
    """The same id comes again in the second round: a click on the first card must not approve that call."""
    script(server, {"path": "a"}, {"path": "b"})
    cell = kernel.send("await a.chat('Tidy')", PAGE)
    widget = waiting(cell)
    for approved in (None, 1, "true", {}):
        decide(widget, approved)
    for more in ({"id": ["call_1"]}, {"id": None}, {"arguments": {"path": "c"}}, {"round": {}}, {"round": 2}):
        decide(widget, True, **more)
    decide(widget, True)
    cell.until(lambda: len(pieces(widget, "ask")) == 2, "the second question")
    decide(widget, True)
    decide(widget, False, 2)
    second = pieces(widget, "ask")[1][2]["id"]
    assert second != "call_1"
    decide(widget, False, 2, id=second)
    assert cell.end().status == "ok"
    assert kernel.value("deleted") == ["a"]


@needs_a_page_that_is_heard
def test_a_page_that_comes_later_is_asked_too(kernel: Kernel, server: ScriptedServer) -> None:
    script(server, {"path": "a"})
    cell = kernel.send("await a.chat('Tidy')", PAGE)
    widget = waiting(cell)
    widget.send({"type": "hello", "view": "new"})
    cell.until(lambda: widget.snapshots, "the snapshot")
    kinds = [piece[0] for piece in widget.snapshots[-1]["pieces"]]
    assert kinds[-2:] == ["tool", "ask"]
    decide(widget, False)
    cell.end()


@needs_a_page_that_is_heard
def test_stop_while_a_call_waits(kernel: Kernel, server: ScriptedServer) -> None:
    script(server, {"path": "a"})
    cell = kernel.send("await a.chat('Tidy')", PAGE)
    waiting(cell).send({"type": "stop"})
    (bundle,) = cell.end().saved
    assert cell.status == "ok"
    assert 'delete(path="a") -> stopped' in bundle["text/plain"]
    assert kernel.value("deleted") == []


@needs_a_page_that_is_heard
def test_another_cell_decides_on_a_turn_in_the_background(kernel: Kernel, server: ScriptedServer) -> None:
    script(server, {"path": "a"})
    cell = kernel.send("r = await a.chat('Tidy')\nr", PAGE)
    widget = waiting(cell)
    cell.end()
    kernel.ok("for request in r.pending_approvals:\n    r.decide(request.tool_call_id, {'path': 'b'})\nawait r")
    cell.until(lambda: widget.ends, "the end")
    assert kernel.value("deleted") == ["b"]


@needs_a_page_that_is_heard
def test_a_page_that_never_shows_the_view_is_given_up(kernel: Kernel, server: ScriptedServer) -> None:
    """A runner may say which cell it runs, as a page does, and have nobody to press a button."""
    patience = "__import__('createagents_nb.notebook.turn_channel', fromlist=['*'])"
    script(server, {"path": "a"})
    kernel.ok(f"{patience}._FIRST_VIEW_TIMEOUT_S, before = 0.05, {patience}._FIRST_VIEW_TIMEOUT_S")
    try:
        cell = kernel.run("await a.chat('Tidy')", PAGE)
    finally:
        kernel.ok(f"{patience}._FIRST_VIEW_TIMEOUT_S = before")
    assert cell.status == "ok"
    assert "nobody can be asked here" in told(server)
    assert kernel.value("deleted") == []
