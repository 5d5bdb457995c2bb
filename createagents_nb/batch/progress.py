"""The progress bar: tqdm, in the form that fits where the batch runs."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar, cast

from ..logging_config import LoggingConfig

__all__ = ["Progress"]

_log = LoggingConfig.get_logger(__name__)


_Method = TypeVar("_Method", bound=Callable[..., None])


def _never_raises(method: _Method) -> _Method:
    """A progress bar that fails must not cost a row."""

    @wraps(method)
    def guarded(self: Progress, *args: Any, **kwargs: Any) -> None:
        try:
            method(self, *args, **kwargs)
        except Exception as error:
            self._bar = None
            _log.warning("The progress bar failed: %s: %s", type(error).__name__, error)

    return cast(_Method, guarded)


class Progress:
    """Counts the rows that are done; tqdm is imported only if a bar is shown.

    In a notebook the bar is a widget while the batch runs and a line of text afterwards, so that a saved notebook
    has no widget that needs a kernel.

    Args:
        total: number of rows.
        is_shown: whether to show a bar.
    """

    @_never_raises
    def __init__(self, total: int, is_shown: bool) -> None:
        self._bar: Any = None
        self._display: Any = None
        self._failed, self._note = 0, ""
        if not is_shown:
            return
        from tqdm.auto import tqdm

        in_notebook = any(base.__module__ == "tqdm.notebook" for base in tqdm.__mro__)
        self._bar = tqdm(total=total, unit="row", **({"display": False} if in_notebook else {}))
        if in_notebook:
            from IPython.display import display

            self._display = display(self._bar.container, display_id=True)

    @_never_raises
    def add(self, rows: int = 1, failed: int = 0) -> None:
        """Count rows that are done, and those of them that failed."""
        if self._bar is None:
            return
        if failed:
            self._failed += failed
            self._show_note()
        self._bar.update(rows)

    @_never_raises
    def say(self, note: str) -> None:
        """Set the note beside the numbers."""
        if self._bar is not None and note != self._note:
            self._note = note
            self._show_note()
            self._bar.refresh()

    @_never_raises
    def write(self, line: str) -> None:
        """Print a line above the bar."""
        # stderr would be a red box in a notebook.
        file = sys.stdout if "ipykernel" in sys.modules else sys.stderr
        if self._bar is None:
            print(line, file=file)
        else:
            self._bar.write(line, file=file)

    @_never_raises
    def close(self) -> None:
        """Turn the bar into its last line of text."""
        if self._bar is None:
            return
        self.say("")
        line = str(self._bar)
        self._bar.close()
        if self._display is not None:
            self._display.update({"text/plain": line}, raw=True)
            for widget in (*self._bar.container.children, self._bar.container):
                for part in (widget, widget.layout, getattr(widget, "style", None)):
                    if part is not None:
                        part.close()
        self._bar = None

    def _show_note(self) -> None:
        failed = f"{self._failed:,} failed" if self._failed else ""
        self._bar.set_postfix_str(", ".join(part for part in (failed, self._note) if part), refresh=False)
