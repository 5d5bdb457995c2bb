"""The porch: magics, cell runner, live view, and the static bundle that a notebook keeps."""

from __future__ import annotations

import importlib
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from IPython.core.interactiveshell import InteractiveShell

__all__ = ["load", "unload"]


def load(shell: InteractiveShell) -> None:
    """What ``%load_ext createagents_nb`` does; doing it again starts afresh."""
    from . import cell_hooks, display
    from .magics import AgentMagics

    unload(shell)
    shell.register_magics(AgentMagics(shell))
    cell_hooks.install(shell)
    display.install()
    if getattr(shell, "kernel", None) is not None:
        # The SDK takes a second or so to import: while the user types, not in the first answer.
        threading.Thread(target=_warm_up, name="createagents-nb-warm-up", daemon=True).start()


def unload(shell: InteractiveShell) -> None:
    """What ``%unload_ext createagents_nb`` does."""
    from . import cell_hooks, display

    cell_hooks.remove(shell)
    display.remove()
    for kind in ("line", "cell"):
        shell.magics_manager.magics[kind].pop("agent", None)


def _warm_up() -> None:
    ours = ("commands", "views", "live_view")
    theirs = ("openai", "aiohttp", "markdown_it", "pygments.lexers")
    for module in (*(f"{__name__}.{name}" for name in ours), *theirs):
        importlib.import_module(module)
