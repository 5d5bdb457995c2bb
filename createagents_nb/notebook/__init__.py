"""The Jupyter extension: magics, cell hooks, and how responses are displayed."""

from __future__ import annotations

import asyncio
import importlib
import os
import threading
from contextlib import suppress
from typing import TYPE_CHECKING

from ..metrics import prices

if TYPE_CHECKING:
    from IPython.core.interactiveshell import InteractiveShell

__all__ = ["load", "unload"]


def load(shell: InteractiveShell) -> None:
    """Load the extension, as ``%load_ext createagents_nb`` does; a loaded one is unloaded first."""
    from . import cell_hooks, display, kernel_compat
    from .frontends import has_page
    from .magics import AgentMagics

    unload(shell)
    shell.register_magics(AgentMagics(shell))
    cell_hooks.install(shell)
    display.install(shell)
    if kernel_compat.has_kernel(shell):
        # The imports of a first answer take about a second: do them while the user types.
        loop = asyncio.get_running_loop() if has_page(shell) else None
        threading.Thread(target=_warm_up, args=(loop,), name="createagents-nb-warm-up", daemon=True).start()


def unload(shell: InteractiveShell) -> None:
    """Unload the extension, as ``%unload_ext createagents_nb`` does."""
    from . import cell_hooks, display, kernel_compat

    cell_hooks.remove(shell)
    display.remove(shell)
    kernel_compat.unregister_magic(shell, "agent")


def _warm_up(loop: asyncio.AbstractEventLoop | None) -> None:
    """Import what a first answer needs.

    Args:
        loop: the kernel's loop, if a page is open that should get the front end now.
    """
    package = __name__.rpartition(".")[0]
    modules = (
        *(f"{__name__}.{name}" for name in ("commands", "views", "cell_view")),
        *(f"{package}.providers.{name}" for name in ("openai_adapter", "http_client")),
        "markdown_it",
        "pygments.lexers",
    )
    for module in modules:
        importlib.import_module(module)
    if loop is not None:
        turn_channel = importlib.import_module(f"{__name__}.turn_channel")
        with suppress(RuntimeError):  # the loop is closed: the kernel is shutting down
            loop.call_soon_threadsafe(turn_channel.frontend_widget)
    if os.environ.get("OPENAI_API_KEY"):
        prices.load_published()
