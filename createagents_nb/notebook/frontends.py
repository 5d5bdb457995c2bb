"""Where a cell runs: before a page, in a kernel without one, or in a terminal."""

from __future__ import annotations

import sys
from typing import Any, Literal

__all__ = ["fitting_view", "has_page"]


def fitting_view(shell: Any) -> Literal["widget", "static", "text"]:
    """How this cell can show an answer."""
    if getattr(shell, "kernel", None) is None:
        return "text"
    # A notebook page says which cell it runs; headless runners (nbclient, papermill, nbval) and consoles,
    # which have no widget manager, do not.
    parent = shell.get_parent() if hasattr(shell, "get_parent") else {}
    metadata = parent.get("metadata") or {}
    return "widget" if metadata.get("cellId") or "google.colab" in sys.modules else "static"


def has_page(shell: Any) -> bool:
    """Whether a notebook page shows the output of this cell, also after the cell has ended."""
    return fitting_view(shell) == "widget"
