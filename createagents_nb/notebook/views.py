"""The views in which a cell can show a turn. Each is opened once, updated while the turn runs, and closed once."""

from __future__ import annotations

import os
import sys
import time
import uuid
from collections.abc import Sequence
from typing import Protocol

from IPython.core.interactiveshell import InteractiveShell
from IPython.display import display, update_display

from ..agent.response import StreamingResponseDTO
from ..core.events import (
    ApprovalRequested,
    Event,
    Notice,
    RoundEnded,
    ServerToolStep,
    TextWasReasoning,
    ToolCallFinished,
    ToolCallRequested,
    TurnDone,
)
from ..core.tool_display import ImageDisplay
from ..errors import ConfigurationError
from ..render.bundle import MAX_NOTICE_CHARS, render_bundle
from ..render.labels import TOOL_WORDS, call_of, plain_state, status_parts
from ..render.snapshot import TurnSnapshot
from ..render.turn_state import TurnTracker
from ..text import one_line
from . import kernel_compat
from .frontends import fitting_view

__all__ = ["View", "open_view"]

ENVIRONMENT = "CREATEAGENTS_NB_VIEW"


class View(Protocol):
    def open(self) -> None: ...

    def update(self, events: Sequence[Event]) -> None:
        """Show new events, which the tracker has already applied."""

    def close(self, snapshot: TurnSnapshot) -> None: ...


def open_view(shell: InteractiveShell | None, response: StreamingResponseDTO, tracker: TurnTracker) -> View:
    """Open the view that fits the front end of this cell.

    The environment variable ``CREATEAGENTS_NB_VIEW`` (``widget``, ``static`` or ``text``) overrides the choice.

    Raises:
        ConfigurationError: the variable has another value.
    """
    view: View
    kind = os.environ.get(ENVIRONMENT) or fitting_view(shell)
    if kind not in ("widget", "static", "text"):
        raise ConfigurationError(f"{ENVIRONMENT} must be widget, static or text, not {kind!r}")
    if kernel_compat.is_capturing(shell):
        view = _FinalView()
    elif kind == "text":
        view = _TextView(tracker)
    elif kind == "static":
        view = _GrowingView(tracker)
    else:
        from .cell_view import LiveView  # imports ipywidgets and anywidget, which only a page needs

        view = LiveView(response, tracker)
    view.open()
    return view


class _FinalView:
    """Shows the static bundle once, at the end; for captured output."""

    def open(self) -> None: ...

    def update(self, events: Sequence[Event]) -> None: ...

    def close(self, snapshot: TurnSnapshot) -> None:
        display(render_bundle(snapshot), raw=True)


class _GrowingView:
    """Updates the static bundle repeatedly; for front ends without a widget manager.

    The total size of the updates is limited to a few times the answer: each update needs enough new text.
    """

    _INTERVAL_S = 0.5
    _MAX_FACTOR = 4
    """Limit for the total size of the updates, as a multiple of the answer."""
    _FREE_CHARS = 64_000
    """Characters of updates on top of that limit."""

    def __init__(self, tracker: TurnTracker) -> None:
        self._tracker = tracker
        self._id = uuid.uuid4().hex
        self._received_chars = self._sent_chars = 0
        self._last_update = time.perf_counter()

    def open(self) -> None:
        display(render_bundle(self._tracker.snapshot()), raw=True, display_id=self._id)

    def update(self, events: Sequence[Event]) -> None:
        self._received_chars += sum(_size(event) for event in events)
        now = time.perf_counter()
        affordable = (
            self._sent_chars + self._received_chars <= self._MAX_FACTOR * self._received_chars + self._FREE_CHARS
        )
        ended = bool(events) and isinstance(events[-1], TurnDone)  # `close` follows at once
        if now - self._last_update >= self._INTERVAL_S and affordable and not ended:
            self._last_update = now
            self._sent_chars += self._received_chars
            update_display(render_bundle(self._tracker.snapshot()), raw=True, display_id=self._id)

    def close(self, snapshot: TurnSnapshot) -> None:
        update_display(render_bundle(snapshot), raw=True, display_id=self._id)


def _size(event: Event) -> int:
    """Return the number of characters that an event adds to the bundle."""
    if isinstance(event, str):
        return len(event)
    if isinstance(event, ToolCallFinished) and isinstance(event.display, ImageDisplay):
        return len(event.display.data) * 4 // 3
    return len(getattr(event, "text", "") or getattr(event, "result", "") or "")


class _TextView:
    """Prints text as it arrives; for a terminal."""

    def __init__(self, tracker: TurnTracker) -> None:
        self._tracker = tracker
        self._at_line_start = True
        self._asked: list[str] = []

    def open(self) -> None: ...

    def update(self, events: Sequence[Event]) -> None:
        for event in events:
            if isinstance(event, str):
                self._write(event)
            elif isinstance(event, TextWasReasoning):
                self._write_line("[so far this was reasoning]")
            elif isinstance(event, Notice):
                self._write_line(f"[notice] {one_line(event.text, MAX_NOTICE_CHARS)}")
            elif isinstance(event, ToolCallRequested):
                self._asked.append(event.tool_call_id)
            elif isinstance(event, RoundEnded):
                self._write_not_run()
            elif isinstance(event, ApprovalRequested):
                tool = self._tracker.tool(event.tool_call_id)
                if tool is not None:
                    self._write_line(f"[tool] {call_of(tool)} → {TOOL_WORDS['waiting']}")
            elif isinstance(event, ToolCallFinished) or (
                isinstance(event, ServerToolStep) and event.status != "running"
            ):
                tool = self._tracker.tool(event.tool_call_id)
                if tool is not None:
                    self._write_line(f"[tool] {call_of(tool)} → {plain_state(tool)}")

    def close(self, snapshot: TurnSnapshot) -> None:
        if snapshot.error_text:
            self._write_line(f"{snapshot.error_type}: {snapshot.error_text}")
        self._write_line(" · ".join(status_parts(snapshot)))

    def _write_not_run(self) -> None:
        """Print the calls of a round that ended too early for them to run."""
        asked, self._asked = self._asked, []
        for tool in map(self._tracker.tool, asked):
            if tool is not None and tool.status == "not_run":
                self._write_line(f"[tool] {call_of(tool)} → {plain_state(tool)}")

    def _write_line(self, text: str) -> None:
        self._write(("" if self._at_line_start else "\n") + text + "\n")

    def _write(self, text: str) -> None:
        from ..text import clean_text

        text = clean_text(text)
        if text:
            self._at_line_start = text.endswith("\n")
            sys.stdout.write(text)
            sys.stdout.flush()
