"""What is changed in IPython and ipykernel is put back, and where their internals are missing nothing happens."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from createagents_nb import bridge
from createagents_nb.notebook import kernel_compat


class Kernel:
    """A kernel whose queue can be aborted."""

    def _abort_queues(self, subshell_id: str | None = None) -> str:
        return f"aborted {subshell_id}"


class Shell:
    """As much of a shell as is touched."""

    def __init__(self, kernel: Any = None) -> None:
        self.kernel = kernel

    async def run_cell_async(self, code: str) -> str:
        return f"ran {code}"


@pytest.mark.parametrize("shell", [None, Shell(), object()])
def test_a_terminal_has_no_kernel_and_captures_nothing(shell: Any) -> None:
    assert not kernel_compat.has_kernel(shell)
    assert not kernel_compat.is_capturing(shell)


def test_a_wrapped_kernel_still_aborts_and_is_put_back() -> None:
    kernel = Kernel()
    with kernel_compat.queue_abort_protected(Shell(kernel)):  # type: ignore[arg-type]
        assert "_abort_queues" in vars(kernel)
        assert kernel._abort_queues("s") == "aborted s"
    assert vars(kernel) == {}


@pytest.mark.parametrize("kernel", [None, SimpleNamespace()])
def test_a_kernel_without_that_method_is_left_alone(kernel: Any) -> None:
    with kernel_compat.queue_abort_protected(Shell(kernel)):  # type: ignore[arg-type]
        assert not hasattr(kernel, "_abort_queues")


def test_a_wrapped_shell_runs_cells_and_is_put_back() -> None:
    shell = Shell()
    with kernel_compat.settled_cancellation(shell, lambda: True):  # type: ignore[arg-type]
        assert "run_cell_async" in vars(shell)
        assert bridge.run(shell.run_cell_async("1")) == "ran 1"
    assert "run_cell_async" not in vars(shell)


def test_only_the_named_magic_at_the_start_of_a_cell_is_rewritten() -> None:
    call = "get_ipython().run_cell_magic('agent', 'a', 'hi')\n"
    assert kernel_compat.rewrite_cell_magic([call], "agent", "await run") == ["await run('a', 'hi')\n"]
    for lines in ([], ["x = 1\n", call], [call.replace("agent", "time")]):
        assert kernel_compat.rewrite_cell_magic(lines, "agent", "await run") == lines


def test_a_kernel_does_not_hear_the_page_while_its_loop_is_blocked() -> None:
    token = bridge.is_blocking_loop.set(True)
    try:
        assert not kernel_compat.hears_page()
    finally:
        bridge.is_blocking_loop.reset(token)
