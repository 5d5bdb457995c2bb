"""The porch: magics, cell runner, live view, and the static bundle that a notebook keeps."""

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
    """What ``%load_ext createagents_nb`` does; doing it again starts afresh."""
    from . import cell_hooks, display
    from .frontends import has_page
    from .magics import AgentMagics

    unload(shell)
    shell.register_magics(AgentMagics(shell))
    cell_hooks.install(shell)
    display.install()
    if getattr(shell, "kernel", None) is not None:
        # What a first answer needs takes a second or so to import: while the user types, not in the answer.
        loop = asyncio.get_running_loop() if has_page(shell) else None
        threading.Thread(target=_warm_up, args=(loop,), name="createagents-nb-warm-up", daemon=True).start()


def unload(shell: InteractiveShell) -> None:
    """What ``%unload_ext createagents_nb`` does."""
    from . import cell_hooks, display

    cell_hooks.remove(shell)
    display.remove()
    for kind in ("line", "cell"):
        shell.magics_manager.magics[kind].pop("agent", None)


def _warm_up(loop: asyncio.AbstractEventLoop | None) -> None:
    """Import what a first answer needs; ``loop`` is the kernel's where there is a page to be made ready, too."""
    ours = ("commands", "views", "live_view")
    providers = ("openai_adapter", "straight")
    theirs = ("markdown_it", "pygments.lexers")
    package = __name__.rpartition(".")[0]
    ways = (f"{package}.providers.{name}" for name in providers)
    for module in (*(f"{__name__}.{name}" for name in ours), *ways, *theirs):
        importlib.import_module(module)
    if loop is not None:
        live_view = importlib.import_module(f"{__name__}.live_view")
        with suppress(RuntimeError):  # the loop was closed: the kernel ends
            loop.call_soon_threadsafe(live_view.frontend)
    if os.environ.get("OPENAI_API_KEY"):
        prices.load_published()
