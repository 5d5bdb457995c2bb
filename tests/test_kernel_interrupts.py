"""■ at random moments of turns of all kinds, many times in one kernel: everything settles and nothing is left."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
from family import Reply, ScriptedServer
from interrupt_plan import interrupt, plan, prepare, resources
from kernel_client import IPYKERNEL, answer, make_agent, running_kernel, shared_kernel, wait_until
from soak_server import SoakServer

pytestmark = pytest.mark.kernel

COUNT = 200 if IPYKERNEL >= 7 else 60


@pytest.mark.timeout(400)
def test_interrupts_at_random_moments_lose_nothing_and_leave_nothing(tmp_path: Path) -> None:
    with SoakServer() as server, running_kernel(tmp_path) as kernel:
        before = prepare(kernel, server)
        outcomes = [interrupt(kernel, server, planned) for planned in plan(COUNT, seed=1)]
        assert [(outcome.planned, outcome.complaints) for outcome in outcomes if outcome.complaints] == []
        assert any(outcome.status == "error" for outcome in outcomes)
        wait_until(lambda: resources(kernel) == before, "the tasks and threads are those of the start")
        assert server.busy == 0
        kernel.ok("await a.aclose()")
    wait_until(lambda: server.open_connections == 0, "the connections are closed")


def test_an_interrupt_just_before_a_cell_blocks_leaves_the_kernel_alive(
    server: ScriptedServer,
) -> None:
    kernel, hold = shared_kernel(), threading.Event()
    make_agent(kernel, server)
    server.on("*", Reply(answer("Hello ", hold, "never")))
    for _ in range(2):  # the second time, asyncio has been patched
        cell = kernel.run(
            "import asyncio, os, signal\nresponse = await a.chat('hi')\nos.kill(os.getpid(), signal.SIGINT)\n"
            "print(response)"
        )
        assert "TurnStopped" in cell.error_text
        assert kernel.value("response.status") == "cancelled"
        assert kernel.ok("print(1 + 1)").stdout == "2\n"
    hold.set()
