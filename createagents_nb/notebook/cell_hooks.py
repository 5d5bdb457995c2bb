"""How a cell waits for an answer: it is rewritten to await it, so that the event loop is never blocked.

IPython does not await a magic, and a blocked loop would hear neither Stop nor the page. So a top-level ``%%agent``
becomes ``await …``, and the value of a last expression ``await …`` passes through `display.show`, which streams
responses. Inside ``%%time``, ``%%capture`` or ``ip.run_cell`` the code is compiled as synchronous: there the magic
goes through the bridge.
"""

from __future__ import annotations

import ast
import asyncio
from contextlib import ExitStack, suppress

from IPython.core.interactiveshell import ExecutionInfo, ExecutionResult, InteractiveShell

from .. import bridge
from ..core.records import CellRef, current_cell
from . import kernel_compat

__all__ = ["install", "remove"]

_AWAITED_CALL = "await get_ipython().find_cell_magic('agent').__self__.run"
_SHOW = "__import__('createagents_nb.notebook.display', fromlist=['show']).show"
_HEARTBEAT_S = 0.1


class _CellHooks:
    """The hooks installed in one shell."""

    def __init__(self, shell: InteractiveShell) -> None:
        self.shell = shell
        self._running_cells: list[object] = []
        self._show_last_await = _ShowLastAwait()
        self._undo = ExitStack()

    def install(self) -> None:
        shell, undo = self.shell, self._undo
        for event, hook in (("pre_run_cell", self.pre_run_cell), ("post_run_cell", self.post_run_cell)):
            shell.events.register(event, hook)
            undo.callback(shell.events.unregister, event, hook)
        shell.input_transformers_post.append(self.await_magic)
        undo.callback(shell.input_transformers_post.remove, self.await_magic)
        shell.ast_transformers.append(self._show_last_await)
        undo.callback(shell.ast_transformers.remove, self._show_last_await)
        undo.enter_context(kernel_compat.settled_cancellation(shell, self.is_outermost))
        undo.enter_context(kernel_compat.queue_abort_protected(shell))

    def remove(self) -> None:
        self._undo.close()

    def is_outermost(self) -> bool:
        """Whether exactly one cell is running: not a cell run by another, as in ``%%capture``."""
        return len(self._running_cells) == 1

    def pre_run_cell(self, info: ExecutionInfo) -> None:
        cell = object()
        self._running_cells.append(cell)
        self._keep_awake(cell)
        if self.is_outermost():
            bridge.cell_task.set(kernel_compat.running_task())
            current_cell.set(CellRef(info.cell_id, kernel_compat.execution_count(self.shell)))

    def post_run_cell(self, result: ExecutionResult) -> None:
        if self._running_cells:  # the extension may have been loaded in this cell
            self._running_cells.pop()

    def _keep_awake(self, cell: object) -> None:
        """Wake the loop regularly: a kernel delivers an interrupt with the loop's next event only.

        https://github.com/ipython/ipykernel/issues/881
        """
        if cell not in self._running_cells:
            return
        with suppress(RuntimeError):  # no loop: a synchronous cell in a terminal
            asyncio.get_running_loop().call_later(_HEARTBEAT_S, self._keep_awake, cell)

    def await_magic(self, lines: list[str]) -> list[str]:
        """Input transformer: make ``%%agent`` at the top of a cell awaited, except in code that a cell runs."""
        if self._running_cells or not self.shell.autoawait:
            return lines
        return kernel_compat.rewrite_cell_magic(lines, "agent", _AWAITED_CALL)


class _ShowLastAwait(ast.NodeTransformer):
    """AST transformer: a last expression ``await x`` becomes ``await show(await x)``."""

    def visit_Module(self, module: ast.Module) -> ast.Module:
        last = module.body[-1] if module.body else None
        if isinstance(last, ast.Expr) and isinstance(last.value, ast.Await):
            show = ast.parse(_SHOW, mode="eval").body
            for node in ast.walk(show):
                ast.copy_location(node, last.value)
            call = ast.copy_location(ast.Call(func=show, args=[last.value], keywords=[]), last.value)
            last.value = ast.copy_location(ast.Await(value=call), call)
        return module


_installed: _CellHooks | None = None
"""The hooks of the shell that has loaded the extension; reset by `remove`."""


def install(shell: InteractiveShell) -> None:
    """Install the hooks in ``shell``."""
    global _installed
    _installed = _CellHooks(shell)
    _installed.install()


def remove(shell: InteractiveShell) -> None:
    """Undo `install`; do nothing if the hooks of ``shell`` are not installed."""
    global _installed
    if _installed is not None and _installed.shell is shell:
        _installed.remove()
        _installed = None
