"""How a cell comes to wait for an answer: it is rewritten so that it awaits, and nothing blocks the loop.

IPython does not await a magic. A blocked loop would hear neither Stop nor the page. So a top-level ``%%agent``
becomes ``await …``, and the value of a last expression ``await …`` passes through `display.show`, which lets a
response stream. Inside ``%%time``, ``%%capture`` or ``ip.run_cell`` the text is compiled as synchronous code:
there the magic goes through the bridge.
"""

from __future__ import annotations

import ast
import asyncio
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import wraps
from types import CodeType
from typing import Any, ClassVar

from IPython.core.interactiveshell import ExecutionInfo, ExecutionResult, InteractiveShell

from .. import bridge
from ..core.records import CellRef, current_cell

__all__ = ["install", "remove"]

_MAGIC = "get_ipython().run_cell_magic('agent', "
_DISPLAY = "createagents_nb.notebook.display"
_AWAITED = "await get_ipython().find_cell_magic('agent').__self__.run("
_HEARTBEAT_S = 0.1


class _CellHooks:
    installed: ClassVar[_CellHooks | None] = None

    def __init__(self, shell: InteractiveShell) -> None:
        self.shell = shell
        self.running_cells: list[object] = []

    def pre_run_cell(self, info: ExecutionInfo) -> None:
        cell = object()
        self.running_cells.append(cell)
        self.keep_awake(cell)
        if len(self.running_cells) == 1:  # and not a cell that a cell runs, as %%capture does
            bridge.cell_task.set(_current_task())
            current_cell.set(CellRef(getattr(info, "cell_id", None), _execution_count(self.shell)))

    def post_run_cell(self, result: ExecutionResult) -> None:
        if self.running_cells:
            self.running_cells.pop()

    def keep_awake(self, cell: object) -> None:
        """A kernel delivers an interrupt with its loop's next event; before the first token there is none."""
        if cell not in self.running_cells:
            return
        with suppress(RuntimeError):  # no loop: a synchronous cell in a terminal
            asyncio.get_running_loop().call_later(_HEARTBEAT_S, self.keep_awake, cell)

    def settle_cells(self) -> None:
        """For ■ a kernel cancels its cell, also one that is about to block the loop, as ``print(response)`` does.

        The bridge is stopped then. The cancellation itself waits for the cell's next await; in a cell that ends
        without one it would end the task that runs the kernel's cells, and with it the kernel.
        """
        run_cell_async = self.shell.run_cell_async

        @wraps(run_cell_async)
        async def run_cell_and_settle(*args: Any, **options: Any) -> ExecutionResult:
            result = await run_cell_async(*args, **options)
            # In a task of its own: where IPython runs a cell without one it cannot await.
            if len(self.running_cells) == 1 and getattr(_task_of(code), "_must_cancel", False):
                with suppress(asyncio.CancelledError):
                    await asyncio.sleep(0)
            return result

        code: CodeType = run_cell_and_settle.__code__  # type: ignore[attr-defined]
        self.shell.run_cell_async = run_cell_and_settle  # type: ignore[method-assign]

    def drop_unbroken(self) -> None:
        """Behind a cell that fails a kernel drops what waits, until it is told to go on.

        A second ■ that breaks in between would leave it dropping every cell from then on.
        """
        kernel = getattr(self.shell, "kernel", None)
        abort_queues = getattr(kernel, "_abort_queues", None)
        if abort_queues is None:
            return

        @wraps(abort_queues)
        def abort_unbroken(*args: Any, **options: Any) -> Any:
            with _deaf():
                return abort_queues(*args, **options)

        kernel._abort_queues = abort_unbroken  # type: ignore[union-attr]

    def undo(self) -> None:
        del self.shell.run_cell_async
        with suppress(AttributeError):  # a terminal has no kernel
            del self.shell.kernel._abort_queues  # type: ignore[attr-defined]

    def await_magic(self, lines: list[str]) -> list[str]:
        """``%%agent`` at the top of a cell, and not inside another cell's code."""
        text = "".join(lines)
        if self.running_cells or not self.shell.autoawait or not text.startswith(_MAGIC):
            return lines
        return (_AWAITED + text.removeprefix(_MAGIC)).splitlines(keepends=True)


@contextmanager
def _deaf() -> Iterator[None]:
    """Inside, an interrupt is not heard."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _task_of(code: CodeType) -> asyncio.Task[Any] | None:
    """The running task, if it is one of a coroutine of ``code``."""
    task = _current_task()
    return task if task is not None and getattr(task.get_coro(), "cr_code", None) is code else None


def _current_task() -> asyncio.Task[Any] | None:
    try:
        return asyncio.current_task()
    except RuntimeError:  # no loop: a synchronous cell in a terminal
        return None


def _execution_count(shell: InteractiveShell) -> int:
    # `In[n]` is the input of cell n, and is not there yet. Some IPythons have counted on by now, some have not.
    history = shell.history_manager
    return len(history.input_hist_parsed) if history is not None else shell.execution_count


class _ShowLastAwait(ast.NodeTransformer):
    def visit_Module(self, module: ast.Module) -> ast.Module:
        last = module.body[-1] if module.body else None
        if isinstance(last, ast.Expr) and isinstance(last.value, ast.Await):
            show = ast.parse(f"__import__({_DISPLAY!r}, fromlist=['show']).show", mode="eval").body
            for node in ast.walk(show):
                ast.copy_location(node, last.value)
            call = ast.copy_location(ast.Call(func=show, args=[last.value], keywords=[]), last.value)
            last.value = ast.copy_location(ast.Await(value=call), call)
        return module


def install(shell: InteractiveShell) -> None:
    hooks = _CellHooks(shell)
    _CellHooks.installed = hooks
    shell.events.register("pre_run_cell", hooks.pre_run_cell)
    shell.events.register("post_run_cell", hooks.post_run_cell)
    hooks.settle_cells()
    hooks.drop_unbroken()
    shell.input_transformers_post.append(hooks.await_magic)
    shell.ast_transformers.append(_ShowLastAwait())


def remove(shell: InteractiveShell) -> None:
    hooks, _CellHooks.installed = _CellHooks.installed, None
    if hooks is None or hooks.shell is not shell:
        return
    shell.events.unregister("pre_run_cell", hooks.pre_run_cell)
    shell.events.unregister("post_run_cell", hooks.post_run_cell)
    hooks.undo()
    shell.input_transformers_post.remove(hooks.await_magic)
    shell.ast_transformers[:] = [
        known for known in shell.ast_transformers if not isinstance(known, _ShowLastAwait)
    ]
