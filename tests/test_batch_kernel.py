"""A batch in a notebook: its bar while it runs and once saved, and ■."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from echo_server import EchoServer
from kernel_client import WIDGET_MIME, Kernel, shared_kernel

pytestmark = pytest.mark.kernel


@pytest.fixture
def server() -> Iterator[EchoServer]:
    with EchoServer() as running:
        yield running


@pytest.fixture
def kernel(server: EchoServer) -> Kernel:
    """The kernel, with an agent `b` whose provider is the server."""
    kernel = shared_kernel()
    made = f"CreateAgent('openai', 'm', base_url={server.url!r}, api_key='none')"
    kernel.ok(f"from createagents_nb import CreateAgent, recorder\nb = {made}")
    return kernel


def test_the_bar_is_a_widget_that_leaves_a_line_of_text(kernel: Kernel) -> None:
    cell = kernel.ok("await b.map(['one', 'two'])")
    bar, frame = cell.states
    assert WIDGET_MIME in bar[0]
    assert list(bar[-1]) == ["text/plain"]
    assert "2/2" in bar[-1]["text/plain"]
    assert "echo one" in frame[-1]["text/html"]
    assert cell.stderr == ""


def test_a_stopped_batch_ends_its_cell_in_one_line_and_keeps_what_is_done(
    kernel: Kernel, server: EchoServer
) -> None:
    cell = kernel.send("frame = await b.map(['one', 'held', 'never'], concurrency=1)")
    cell.until(lambda: server.in_flight == 1 and server.prompts[-1:] == ["held"], "the row that waits")
    kernel.interrupt()
    cell.end()
    assert cell.status == "error"
    assert "stopped by the user" in cell.error_text
    assert len(cell.error_text) < 200
    assert kernel.value("list(b.last_map['status'])") == ["ok", "cancelled", "not run"]
    assert kernel.value("list(recorder.calls['status'])[-2:]") == ["ok", "cancelled"]
    server.release()
    assert (
        kernel.ok("print(list((await b.map(['three'], progress=False))['answer']))").stdout == "['echo three']\n"
    )
