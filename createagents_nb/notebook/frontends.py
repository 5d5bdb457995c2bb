"""The frontend that shows the output of a cell: a notebook page, a kernel without one, or a terminal."""

from __future__ import annotations

import sys
from typing import Any, Literal

from . import kernel_compat

__all__ = ["fitting_view", "has_page"]


def fitting_view(shell: Any) -> Literal["widget", "static", "text"]:
    """Return the kind of view that can show an answer in this cell."""
    if not kernel_compat.has_kernel(shell):
        return "text"
    # A notebook page sends the id of the cell; headless runners (nbclient, papermill, nbval) and consoles, which
    # have no widget manager, do not.
    parent = shell.get_parent() if hasattr(shell, "get_parent") else {}
    metadata = parent.get("metadata") or {}
    return "widget" if metadata.get("cellId") or "google.colab" in sys.modules else "static"


def has_page(shell: Any) -> bool:
    """Return whether a notebook page shows the output of this cell, even after the cell has ended."""
    return fitting_view(shell) == "widget"
