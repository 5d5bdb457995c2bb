"""The progress bar: tqdm's, as it fits where the batch runs."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar, cast

from ..logging_config import LoggingConfig

__all__ = ["Progress"]

_log = LoggingConfig.get_logger(__name__)


_Told = TypeVar("_Told", bound=Callable[..., None])


def _never_raises(method: _Told) -> _Told:
    """A bar that fails is no reason to lose a row."""

    @wraps(method)
    def guarded(self: Progress, *args: Any, **kwargs: Any) -> None:
        try:
            method(self, *args, **kwargs)
        except Exception as error:
            self._bar = None
            _log.warning("The progress bar failed: %s: %s", type(error).__name__, error)

    return cast(_Told, guarded)


class Progress:
    """Rows that are done, of how many; nothing is shown, or imported, when it is not wanted.

    In a notebook the bar is a widget while the batch runs and a line of text from then on: a saved notebook has no
    widget that needs a kernel.

    Args:
        total: rows.
        is_wanted: show it.
    """

    @_never_raises
    def __init__(self, total: int, is_wanted: bool) -> None:
        self._bar: Any = None
        self._shown: Any = None
        self._failed, self._note = 0, ""
        if not is_wanted:
            return
        from tqdm.auto import tqdm

        in_notebook = any(base.__module__ == "tqdm.notebook" for base in tqdm.__mro__)
        self._bar = tqdm(total=total, unit="row", **({"display": False} if in_notebook else {}))
        if in_notebook:
            from IPython.display import display

            self._shown = display(self._bar.container, display_id=True)

    @_never_raises
    def add(self, rows: int = 1, failed: int = 0) -> None:
        """So many more rows are done, and so many of them failed."""
        if self._bar is None:
            return
        if failed:
            self._failed += failed
            self._show_note()
        self._bar.update(rows)

    @_never_raises
    def say(self, note: str) -> None:
        """What the bar says beside the numbers."""
        if self._bar is not None and note != self._note:
            self._note = note
            self._show_note()
            self._bar.refresh()

    @_never_raises
    def close(self) -> None:
        """Leave the bar as it stands."""
        if self._bar is None:
            return
        self.say("")
        line = str(self._bar)
        self._bar.close()
        if self._shown is not None:
            self._shown.update({"text/plain": line}, raw=True)
            for widget in (*self._bar.container.children, self._bar.container):
                for part in (widget, widget.layout, getattr(widget, "style", None)):
                    if part is not None:
                        part.close()
        self._bar = None

    def _show_note(self) -> None:
        failed = f"{self._failed:,} failed" if self._failed else ""
        self._bar.set_postfix_str(", ".join(part for part in (failed, self._note) if part), refresh=False)
