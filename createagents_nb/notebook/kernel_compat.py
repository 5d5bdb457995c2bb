"""Everything in the notebook room that relies on undocumented parts of IPython, ipykernel, Jupyter or asyncio.

Each function names what it relies on and where that is defined or discussed upstream, and does nothing where it is
missing. Tested with IPython 9.18 and ipykernel 6.31 and 7.4.
"""

from __future__ import annotations

import asyncio
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import wraps
from importlib.metadata import version
from pathlib import Path
from types import CodeType
from typing import Any

from IPython.core.displaypub import CapturingDisplayPublisher
from IPython.core.interactiveshell import ExecutionResult, InteractiveShell

from .. import bridge

__all__ = [
    "execution_count",
    "has_kernel",
    "hears_page",
    "is_capturing",
    "kernel_to_interrupt",
    "queue_abort_protected",
    "rewrite_cell_magic",
    "running_task",
    "settled_cancellation",
    "unregister_magic",
]


def has_kernel(shell: InteractiveShell | None) -> bool:
    """Whether ``shell`` belongs to a Jupyter kernel rather than a terminal.

    ``kernel`` is an attribute of ipykernel's `ZMQInteractiveShell` only.
    https://github.com/ipython/ipykernel/blob/main/ipykernel/zmqshell.py
    """
    return getattr(shell, "kernel", None) is not None


def hears_page() -> bool:
    """Whether the kernel handles widget messages while the running cell awaits.

    ipykernel 6 handles none until the cell ends, and no version does while the cell blocks in the bridge.
    https://github.com/ipython/ipykernel/issues/646
    """
    return int(version("ipykernel").partition(".")[0]) >= 7 and not bridge.is_blocking_loop.get()


def kernel_to_interrupt() -> str:
    """Return the id of the kernel that a page must interrupt to stop the cell; empty if the kernel hears the page.

    The only trace of the id inside a kernel is the name that Jupyter's servers give to its connection file,
    ``kernel-<id>.json``. https://github.com/jupyter/jupyter_client/blob/main/jupyter_client/multikernelmanager.py
    """
    if hears_page():
        return ""
    import ipykernel

    try:
        return Path(ipykernel.get_connection_file()).stem.removeprefix("kernel-")
    except RuntimeError:  # not in a kernel
        return ""


def is_capturing(shell: InteractiveShell | None) -> bool:
    """Whether ``%%capture`` or `capture_output` collects what is displayed, so that updates would be lost.

    Both replace ``display_pub`` of the shell. https://github.com/ipython/ipython/blob/main/IPython/utils/capture.py
    """
    return isinstance(getattr(shell, "display_pub", None), CapturingDisplayPublisher)


def execution_count(shell: InteractiveShell) -> int:
    """Return the number of the cell that is about to run.

    In `pre_run_cell`, ``shell.execution_count`` is that number or the next one, depending on IPython's version.
    `HistoryManager.input_hist_parsed`, which begins with an empty entry, never holds the cell yet.
    https://github.com/ipython/ipython/blob/main/IPython/core/interactiveshell.py (``run_cell_async``)
    """
    history = shell.history_manager
    return len(history.input_hist_parsed) if history is not None else shell.execution_count


def rewrite_cell_magic(lines: list[str], name: str, call: str) -> list[str]:
    """Replace the call that IPython generates for a leading ``%%name`` with ``call``.

    Args:
        lines: source after IPython's own transformations.
        name: name of the cell magic.
        call: expression to call with the line and the body of the magic.

    Relies on the text that IPython's ``cell_magic`` transformer generates; there is no public way to make a magic
    awaitable. https://github.com/ipython/ipython/issues/11314
    """
    source = "".join(lines)
    generated = f"get_ipython().run_cell_magic({name!r}, "
    if not source.startswith(generated):
        return lines
    return f"{call}({source.removeprefix(generated)}".splitlines(keepends=True)


def unregister_magic(shell: InteractiveShell, name: str) -> None:
    """Remove a magic from ``shell``; IPython can register magics only.

    https://github.com/ipython/ipython/blob/main/IPython/core/magic.py (``MagicsManager``)
    """
    for kind in ("line", "cell"):
        shell.magics_manager.magics[kind].pop(name, None)


def running_task() -> asyncio.Task[Any] | None:
    """Return the current task; None where no loop is running, as in a synchronous cell of a terminal."""
    try:
        return asyncio.current_task()
    except RuntimeError:
        return None


@contextmanager
def settled_cancellation(shell: InteractiveShell, is_outermost: Callable[[], bool]) -> Iterator[None]:
    """Deliver a pending cancellation of a cell's task before the cell returns to the kernel.

    On an interrupt, ipykernel cancels the task of a cell, even one that is about to block the loop, as in
    ``print(response)``. The bridge then ends, but the cancellation waits for the next await. In a cell without one
    it would cancel the kernel's own task, and with it the kernel.

    Args:
        shell: its ``run_cell_async``, which ipykernel awaits in a task, is wrapped.
        is_outermost: whether the cell that ends was run by the kernel, and not by another cell.

    Relies on `asyncio.Task._must_cancel`, present in all supported versions of CPython and absent from other
    implementations of tasks. https://github.com/python/cpython/issues/116720
    """
    run_cell_async = shell.run_cell_async

    @wraps(run_cell_async)
    async def run_cell_and_settle(*args: Any, **options: Any) -> ExecutionResult:
        result = await run_cell_async(*args, **options)
        if is_outermost() and getattr(_task_running(code), "_must_cancel", False):
            with suppress(asyncio.CancelledError):
                await asyncio.sleep(0)
        return result

    code: CodeType = run_cell_and_settle.__code__  # type: ignore[attr-defined]
    shell.run_cell_async = run_cell_and_settle  # type: ignore[method-assign]
    try:
        yield
    finally:
        del shell.run_cell_async


def _task_running(code: CodeType) -> asyncio.Task[Any] | None:
    """Return the current task if its coroutine runs ``code``. IPython also drives cells without a task."""
    task = running_task()
    return task if task is not None and getattr(task.get_coro(), "cr_code", None) is code else None


@contextmanager
def queue_abort_protected(shell: InteractiveShell) -> Iterator[None]:
    """Ignore interrupts while the kernel starts to abort the cells queued behind a failed one.

    `Kernel._abort_queues` sets a flag and schedules its removal. An interrupt in between leaves the flag set, and
    the kernel aborts every later cell. https://github.com/ipython/ipykernel/blob/main/ipykernel/kernelbase.py
    """
    kernel = getattr(shell, "kernel", None)
    abort_queues = getattr(kernel, "_abort_queues", None)
    if kernel is None or abort_queues is None:
        yield
        return

    @wraps(abort_queues)
    def abort_uninterrupted(*args: Any, **options: Any) -> Any:
        with _interrupts_ignored():
            return abort_queues(*args, **options)

    kernel._abort_queues = abort_uninterrupted
    try:
        yield
    finally:
        del kernel._abort_queues


@contextmanager
def _interrupts_ignored() -> Iterator[None]:
    """Ignore SIGINT; off the main thread, where none arrives, do nothing."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
