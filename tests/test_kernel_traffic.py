"""What a turn costs on iopub: deltas that are put together, and bytes that grow with the answer and not faster."""

from __future__ import annotations

import threading

import pytest
from family import ScriptedServer, delta, sse
from kernel_client import PAGE, Kernel, answer, make_agent, shared_kernel, text_of

pytestmark = pytest.mark.kernel


@pytest.fixture
def kernel(server: ScriptedServer) -> Kernel:
    """The kernel, with an agent `a` whose provider is the scripted server."""
    kernel = shared_kernel()
    make_agent(kernel, server)
    return kernel


def long_answer(tokens: int) -> tuple[str, list[bytes]]:
    """Prose in paragraphs, a hundred tokens to a packet."""
    words = [f"word{number % 89}" + (" " if number % 40 else ".\n\n") for number in range(tokens)]
    events = sse(*[delta(word) for word in words], done=False)
    packets = [b"".join(events[at : at + 100]) for at in range(0, tokens, 100)]
    return "".join(words), [*packets, *sse(delta(finish="stop"))]


BOUNDS = {"widget": (PAGE, 8, 40_000), "static": ({}, 17, 250_000)}
"""The last bundle is the text as HTML, Markdown, plain text and in the record: about 4 times. The widget adds
deltas (once) and snapshots (at most twice); growing updates may add 4 times the text, in three formats."""


@pytest.mark.parametrize("view", BOUNDS)
def test_bytes_grow_linearly_with_the_answer(kernel: Kernel, server: ScriptedServer, view: str) -> None:
    metadata, factor, constant = BOUNDS[view]
    for tokens in (500, 5_000, 20_000):
        text, reply = long_answer(tokens)
        server.enqueue(reply)
        cell = kernel.ok("%%agent a --no-history\nhi", metadata)
        assert cell.size <= factor * len(text) + constant
        # Nothing was lost on the way.
        (bundle,) = cell.saved
        assert text.strip() in bundle["text/plain"]
        assert bundle["text/html"].count("<p>") == text.count("\n\n") + (0 if text.endswith("\n\n") else 1)
        for widget in cell.widgets:
            assert widget.text == text
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
    # A page that is reloaded in mid-stream begins with the last of these and takes the deltas that follow.
    assert widget.synced
    for snapshot in widget.synced:
        before = [delta for delta in widget.deltas if delta["seq"] <= snapshot["seq"]]
        assert text_of(snapshot) == "".join(text_of(delta) for delta in before)
    assert sum(len(text_of(snapshot)) for snapshot in widget.synced) <= 2 * len(widget.text)


def test_view_says_what_is_asked_before_the_first_token(kernel: Kernel, server: ScriptedServer) -> None:
    hold = threading.Event()
    server.enqueue(answer(hold, "text"))
    cell = kernel.send("%%agent a\nhi", PAGE)
    cell.until(lambda: cell.widgets, "the view")
    assert cell.widgets[0].state["about"] == {"agent": "a", "provider": "openai", "model": "m", "demo": False}
    assert cell.widgets[0].state["snapshot"] == {"seq": 0, "pieces": []}
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
