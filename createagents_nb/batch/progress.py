"""The progress bar: tqdm's, as it fits where the batch runs."""

from __future__ import annotations

from typing import Any

__all__ = ["Progress"]


class Progress:
    """Rows that are done, of how many; nothing is shown, or imported, when it is not wanted.

    In a notebook the bar is a widget while the batch runs and a line of text from then on: a saved notebook has no
    widget that needs a kernel.

    Args:
        total: rows.
        is_wanted: show it.
    """

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

    def add(self, rows: int = 1, failed: int = 0) -> None:
        """So many more rows are done, and so many of them failed."""
        if self._bar is None:
            return
        if failed:
            self._failed += failed
            self._show_note()
        self._bar.update(rows)

    def say(self, note: str) -> None:
        """What the bar says beside the numbers."""
        if self._bar is not None and note != self._note:
            self._note = note
            self._show_note()
            self._bar.refresh()

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
