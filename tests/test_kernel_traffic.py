"""What a turn costs on iopub: deltas that are put together, and bytes that grow with the answer and not faster."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from typing import Any

import pytest
from family import ScriptedServer, delta, sse
from kernel_client import IPYKERNEL, PAGE, WIDGET_MIME, Kernel, answer, make_agent, shared_kernel, text_of

from createagents_nb.render.bundle import MAX_MARKDOWN_CHARS

pytestmark = pytest.mark.kernel


@pytest.fixture
def kernel(server: ScriptedServer) -> Kernel:
    """The kernel, with an agent `a` whose provider is the scripted server. It has sent the front end's code."""
    kernel = shared_kernel()
    make_agent(kernel, server)
    server.enqueue(answer("code"))
    kernel.ok("%%agent a --no-history\nhi", PAGE)
    return kernel


def long_answer(tokens: int) -> tuple[str, list[bytes]]:
    """Prose in paragraphs, a hundred tokens to a packet."""
    words = [f"word{number % 89}" + (" " if number % 40 else ".\n\n") for number in range(tokens)]
    events = sse(*[delta(word) for word in words], done=False)
    packets = [b"".join(events[at : at + 100]) for at in range(0, tokens, 100)]
    return "".join(words), [*packets, *sse(delta(finish="stop"))]


BOUNDS = {"widget": (PAGE, 4.3, 20_000), "static": ({}, 15.3, 250_000)}
"""The last bundle is the text as HTML, Markdown and plain text: 3 times, or 2 above 100,000 characters, without
Markdown. The widget adds deltas, which is once, and what frames them; growing updates may add 4 times the text, in
three formats."""


@pytest.mark.parametrize("view", BOUNDS)
def test_bytes_grow_linearly_with_the_answer(kernel: Kernel, server: ScriptedServer, view: str) -> None:
    metadata, factor, constant = BOUNDS[view]
    for tokens in (500, 5_000, 20_000):
        text, reply = long_answer(tokens)
        server.enqueue(reply)
        cell = kernel.ok("%%agent a --no-history\nhi", metadata)
        assert cell.size <= (factor - (len(text) > MAX_MARKDOWN_CHARS)) * len(text) + constant
        # Nothing was lost on the way.
        (bundle,) = cell.saved
        assert text.strip() in bundle["text/plain"]
        assert bundle["text/html"].count("<p>") == text.count("\n\n") + (0 if text.endswith("\n\n") else 1)
        for widget in cell.widgets:
            assert text.startswith(widget.text)  # a large last piece comes with the whole
            assert len(widget.deltas) <= tokens / 10


def test_tokens_that_come_together_go_as_one_delta(kernel: Kernel, server: ScriptedServer) -> None:
    chunks = [[f"{number}.{part} " for part in range(5)] for number in range(30)]
    holds = [threading.Event() for _ in chunks]
    pieces: list[bytes | threading.Event] = []
    for chunk, hold in zip(chunks, holds, strict=True):
        pieces += [b"".join(sse(*[delta(token) for token in chunk], done=False)), hold]
    server.enqueue([*pieces, *sse(delta(finish="stop"))])
    cell = kernel.send("%%agent a --no-history\nhi", PAGE)
    for chunk, hold in zip(chunks, holds, strict=True):
        cell.until(lambda last=chunk[-1]: cell.widgets and cell.widgets[0].text.endswith(last), "the chunk")
        hold.set()
    cell.end()
    (widget,) = cell.widgets
    assert widget.text == "".join(token for chunk in chunks for token in chunk)
    assert [delta["seq"] for delta in widget.deltas] == list(range(1, len(widget.deltas) + 1))
    assert len(widget.deltas) <= 2 * len(chunks)
    assert widget.synced == set()


@pytest.mark.skipif(IPYKERNEL < 7, reason="ipykernel 6 hears nothing from the page while a cell runs")
def test_page_loaded_again_in_mid_stream_is_told_the_text_so_far(kernel: Kernel, server: ScriptedServer) -> None:
    holds = [threading.Event() for _ in range(2)]
    server.enqueue(answer("One, ", "two, ", holds[0], "three, ", holds[1], "four."))
    cell = kernel.send("%%agent a --no-history\nhi", PAGE)
    for hold, so_far in zip(holds, ["One, two, ", "One, two, three, "], strict=True):
        cell.until(lambda text=so_far: cell.widgets and cell.widgets[0].text == text, "the text")
        (widget,) = cell.widgets
        snapshot = kernel.request_states()[widget.comm_id]["snapshot"]
        assert text_of(snapshot) == so_far
        assert snapshot["seq"] == widget.deltas[-1]["seq"]  # where the deltas go on that the page will hear
        assert snapshot["status"][:3] == ["a", "openai/m", "streaming…"]
        hold.set()
    cell.end()
    assert widget.text == "One, two, three, four."
    assert widget.synced == set()


def test_front_ends_code_goes_to_the_page_once_a_kernel(kernel: Kernel, server: ScriptedServer) -> None:
    def with_code(states: Iterable[dict[str, Any]]) -> int:
        return sum(len(state.get("_esm", "")) > 100_000 for state in states)

    for _ in range(3):
        server.enqueue(answer("text"))
        cell = kernel.ok("%%agent a --no-history\nhi", PAGE)
        assert cell.size < 15_000
    assert with_code(content["data"]["state"] for content in kernel.contents("comm_open")) <= 1
    assert with_code(kernel.request_states().values()) == 1


def test_view_is_told_of_the_end_before_the_saved_output_takes_its_place(
    kernel: Kernel, server: ScriptedServer
) -> None:
    server.enqueue(answer("text"))
    cell = kernel.ok("%%agent a --no-history\nhi", PAGE)
    (widget,) = cell.widgets
    (end,) = widget.ends
    assert widget.messages[-1]["content"] == end
    assert end["ended"]["words"] == "done"
    assert end["ended"]["status"] == cell.saved[0]["text/plain"].splitlines()[-1]
    # The kernel keeps the widgets of twenty turns, so this turn may close those of an older one.
    kinds = [message["msg_type"] for message in cell.messages if message["msg_type"] != "comm_close"]
    assert kinds[-3:] == ["comm_msg", "update_display_data", "status"]
    assert WIDGET_MIME not in cell.saved[0]


# A page that is late


def test_widget_of_an_ended_turn_is_closed_when_its_views_are_gone(kernel: Kernel, server: ScriptedServer) -> None:
    server.enqueue(answer("text"))
    cell = kernel.ok("%%agent a --no-history\nhi", PAGE)
    (widget,) = cell.widgets
    for message in ({"type": "hello", "view": "new"}, {"type": "hello", "view": "new"}, {"type": "bye"}):
        widget.send(message)
    kernel.ok("1")
    assert not widget.closed
    widget.send({"type": "bye"})
    cell.until(lambda: widget.closed, "the widget is closed")
    assert widget.comm_id not in kernel.request_states()


def test_a_page_that_comes_when_the_turn_has_ended_is_told_the_answer(
    kernel: Kernel, server: ScriptedServer
) -> None:
    server.enqueue(answer("the ", "answer"))
    cell = kernel.ok("%%agent a --no-history\nhi", PAGE)
    (widget,) = cell.widgets
    snapshot = kernel.request_states()[widget.comm_id]["snapshot"]
    assert text_of(snapshot) == "the answer"
    assert snapshot["ended"] == widget.ends[0]["ended"]
    widget.send({"type": "hello"})
    cell.until(lambda: widget.snapshots, "the answer to a late view")
    assert text_of(widget.snapshots[0]) == "the answer"
    widget.send({"type": "saved"})
    cell.until(lambda: widget._custom("saved"), "the saved output")
    assert widget._custom("saved")[0]["data"] == cell.saved[0]


def test_the_widgets_of_few_ended_turns_are_kept(kernel: Kernel, server: ScriptedServer) -> None:
    before = len(kernel.request_states())
    widgets = []
    for _ in range(25):
        server.enqueue(answer("text"))
        widgets += kernel.ok("%%agent a --no-history\nhi", PAGE).widgets
    assert [widget.closed for widget in widgets] == [True] * 5 + [False] * 20
    assert len(kernel.request_states()) <= before + 2 * 20  # with the layout of each
    module = "__import__('createagents_nb.notebook.turn_channel', fromlist=['*'])"
    kernel.ok(f"{module}.reset()")
    assert all(widget.closed for widget in widgets)


def test_view_says_what_is_asked_before_the_first_token(kernel: Kernel, server: ScriptedServer) -> None:
    hold = threading.Event()
    server.enqueue(answer(hold, "text"))
    cell = kernel.send("%%agent a\nhi", PAGE)
    cell.until(lambda: cell.widgets, "the view")
    state = cell.widgets[0].state
    status = ["a", "openai/m", "streaming…", None]
    assert state["about"] == {"agent": "a", "remote_images": False, "status": status}
    assert (state["snapshot"]["seq"], state["snapshot"]["pieces"]) == (0, [])
    hold.set()
    cell.end()


def test_static_view_is_there_at_once_and_whole_at_the_end(kernel: Kernel, server: ScriptedServer) -> None:
    hold = threading.Event()
    server.enqueue(answer(hold, "text"))
    cell = kernel.send("%%agent a\nhi")
    cell.until(lambda: cell.states, "the display")
    assert "streaming" in cell.states[0][0]["text/plain"]
    hold.set()
    cell.end()
    assert "text" in cell.saved[0]["text/plain"]
    assert cell.of_type("comm_open", "comm_msg") == []


def test_environment_decides_how_an_answer_is_shown(kernel: Kernel, server: ScriptedServer) -> None:
    kernel.ok("%env CREATEAGENTS_NB_VIEW=static")
    server.enqueue(answer("static"))
    assert kernel.ok("%%agent a\nhi", PAGE).widgets == []
    kernel.ok("%env CREATEAGENTS_NB_VIEW=text")
    server.enqueue(answer("plain"))
    cell = kernel.ok("%%agent a\nhi", PAGE)
    assert (cell.saved, cell.stdout.splitlines()[0]) == ([], "plain")
    kernel.ok("import os\nos.environ.pop('CREATEAGENTS_NB_VIEW')")
    server.enqueue(answer("live"))
    assert len(kernel.ok("%%agent a\nhi", PAGE).widgets) == 1
