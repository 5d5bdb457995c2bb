"""Messages between the kernel and the pages that show a turn."""

from __future__ import annotations

import asyncio
import hashlib
import json
import uuid
from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

import anywidget
import traitlets

from ..agent.response import StreamingResponseDTO
from ..core.events import (
    ApprovalDecided,
    ApprovalRequested,
    Event,
    RoundEnded,
    TextWasReasoning,
    ToolCallFinished,
)
from ..errors import ApprovalError
from ..render.bundle import error_html, render_bundle
from ..render.labels import running_status, status_parts, turn_state
from ..render.snapshot import TurnSnapshot
from ..render.turn_state import TurnTracker
from ..text import shorten
from . import kernel_compat
from .view_messages import PieceWriter

__all__ = ["Frontend", "TurnChannel", "TurnWidget", "frontend_widget", "reset"]

_STATUS_EVENTS = (RoundEnded, ToolCallFinished, ApprovalRequested, ApprovalDecided)
_STATIC = Path(__file__).parent / "static"
_MAX_FINAL_DELTA_CHARS = 8_192
"""Limit for the last delta of a turn; a longer one is left out, because the saved output follows at once."""
_FIRST_VIEW_TIMEOUT_S = 30.0
"""How long a call that needs approval waits for a page to show the view before it is rejected."""
_MAX_PROBLEM_CHARS = 1_000
_MAX_RETAINED = 20
"""Maximum number of ended turns whose widgets stay open for pages that are late."""


@cache
def _source() -> str:
    return (_STATIC / "frontend.js").read_text("utf-8")


class Frontend(anywidget.AnyWidget):
    """Carries the front end's code to the page once per kernel; a widget's code is sent with every widget.

    Its module registers itself in the page under `name`, where the loaders of all turns find it.
    """

    _esm = _STATIC / "frontend.js"

    name = traitlets.Unicode().tag(sync=True)


_current_frontend: Frontend | None = None
"""The front end that this kernel has sent to its pages."""
_retained: dict[str, TurnChannel] = {}
"""Ended turns whose widgets are still open, by widget id, oldest first."""


def frontend_widget() -> Frontend:
    """Return this kernel's front end; it is sent on first use, and again after all widgets were closed."""
    global _current_frontend
    if _current_frontend is None or _current_frontend.comm is None:
        digest = hashlib.sha256(_source().encode()).hexdigest()[:12]
        _current_frontend = Frontend(name=f"createagents-nb {digest}")
    return _current_frontend


def reset() -> None:
    """Close the widgets that this module holds, and forget them."""
    global _current_frontend
    for channel in list(_retained.values()):
        channel.close()
    if _current_frontend is not None:
        with suppress(KeyError):  # a comm manager that was made later does not know it
            _current_frontend.close()
    _current_frontend = None


class TurnWidget(anywidget.AnyWidget):
    """The kernel's side of a turn's views; the page's side is built from ``frontend/src``.

    Messages to the page:

    - ``{"type": "delta", "seq": n, "pieces": […], "status": […]}``: new pieces; ``status`` only if it has changed.
    - ``{"type": "snapshot", …}``: the whole state, as in the trait `snapshot`.
    - ``{"type": "end", "ended": {…}}``: the turn has ended.
    - ``{"type": "saved", "data": {…}}``: the MIME bundle that replaces the view in the notebook.
    - ``{"type": "undecided", "attempt": …, "words": …}``: why a decision was refused.
    - ``{"type": "frontend", "source": …}``: the source of the front end.

    Messages from the page:

    - ``{"type": "hello"}``: asks for a snapshot; with ``"view": "new"`` once for each view.
    - ``{"type": "bye"}``: a view was removed.
    - ``{"type": "saved"}``: asks for the bundle, because nothing has replaced an ended view.
    - ``{"type": "stop"}``: stops the turn.
    - ``{"type": "decide", "id": tool_call_id, "round": n, "approved": bool, "attempt": …}``: decides on a call;
      with a JSON object as ``"arguments"`` if they were edited.
    - ``{"type": "frontend"}``: asks for the source, because the front end's widget cannot be loaded.
    """

    _esm = _STATIC / "loader.js"

    about = traitlets.Dict().tag(sync=True)
    """The state that is fixed during a turn: agent, whether remote images are loaded, the first status line."""
    snapshot = traitlets.Dict().tag(sync=True, to_json=lambda _, widget: widget.state_so_far())
    """``{"seq": n, "elapsed_s": s, "pieces": […], "status": […]}``: the starting point of a page that comes late.

    It is computed when the widget's state is requested: it is never stale and costs nothing in between.
    """
    interrupt = traitlets.Unicode("").tag(sync=True)
    """Id of the kernel that Stop must interrupt, where the kernel receives no messages while a cell runs."""
    frontend_id = traitlets.Unicode().tag(sync=True)
    frontend_name = traitlets.Unicode().tag(sync=True)
    widget_id = traitlets.Unicode().tag(sync=True)
    """Id of this widget's model, by which a page finds the outputs that show it."""

    def __init__(self, channel: TurnChannel, **traits: Any) -> None:
        self._channel = channel
        widget_id = uuid.uuid4().hex
        super().__init__(model_id=widget_id, widget_id=widget_id, **traits)

    def state_so_far(self) -> dict[str, Any]:
        return self._channel.state_so_far()


class TurnChannel:
    """Sends a turn to its views as deltas, and takes what the reader does: Stop, and decisions on tool calls.

    The widget of an ended turn stays open until its views are gone: a busy page may not have asked for it yet,
    and so may a page that was reloaded during the turn. At most `_MAX_RETAINED` are kept in this way.
    """

    def __init__(self, response: StreamingResponseDTO, tracker: TurnTracker) -> None:
        self._response, self._tracker = response, tracker
        self._writer = PieceWriter(response)
        self._sent = (0, 0)  # messages, and the events in them: one value, because threads read it
        self._status: list[str | None] = running_status(tracker.snapshot())
        self._ended: dict[str, Any] | None = None
        self._final: TurnSnapshot | None = None
        self._views = self._removed_views = 0
        self._first_view_timer: asyncio.TimerHandle | None = None
        frontend = frontend_widget()
        self.widget = TurnWidget(
            self,
            about={
                "agent": response.record.agent,
                "remote_images": response.remote_images,
                "status": self._status,
            },
            interrupt=kernel_compat.kernel_to_interrupt(),
            frontend_id=frontend.model_id,
            frontend_name=frontend.name,
        )
        self.widget.on_msg(self._on_message)

    def open(self) -> None:
        """Offer the views for decisions on tool calls, where the kernel can receive them."""
        if kernel_compat.hears_page():
            self._response.add_approver(self)

    def send(self, events: Sequence[Event]) -> None:
        self._expect_view(events)
        pieces = self._writer.write(events)
        seq, count = self._sent
        if self._is_left_to_saved_output(events):
            self._sent = seq, count + len(events)
            return
        status = self._new_status(events, is_first=seq == 0)
        takes_back = any(isinstance(event, TextWasReasoning) for event in events)
        if not pieces and status is None and not takes_back:
            self._sent = seq, count + len(events)
            return
        self._sent = seq + 1, count + len(events)
        if takes_back:  # pages hold it as text
            self._writer = PieceWriter(self._response)
            self._writer.write(self._response.events_so_far()[: count + len(events)])
            self.widget.send({"type": "snapshot", **self.state_so_far()})
            return
        message = {"type": "delta", "seq": seq + 1, "pieces": pieces}
        self.widget.send(message if status is None else {**message, "status": status})

    def end(self, snapshot: TurnSnapshot) -> None:
        """Tell the views that the turn has ended, before the saved output replaces them."""
        self._response.remove_approver(self)
        if self._first_view_timer is not None:
            self._first_view_timer.cancel()
        self._final = snapshot
        self._ended = {
            "status": " · ".join(status_parts(snapshot)),
            "words": turn_state(snapshot),
            "error": error_html(snapshot),
        }
        self.widget.send({"type": "end", "ended": self._ended})

    def release(self) -> None:
        """Close the widget once all views are gone; the saved output has taken their place."""
        if self._views and self._removed_views >= self._views:
            self.close()
            return
        _retained[self.widget.widget_id] = self
        while len(_retained) > _MAX_RETAINED:
            next(iter(_retained.values())).close()

    def close(self) -> None:
        _retained.pop(self.widget.widget_id, None)
        self.widget.layout.close()
        self.widget.close()

    def state_so_far(self) -> dict[str, Any]:
        """Everything that the views have been sent. Safe from any thread."""
        seq, count = self._sent
        pieces = PieceWriter(self._response).write(self._response.events_so_far()[:count])
        if self._ended is not None and not self._is_kept_whole():
            pieces = []  # a page may save the state of a widget
        state = {
            "seq": seq,
            "elapsed_s": round((datetime.now(UTC) - self._response.record.started_at).total_seconds(), 1),
            "pieces": pieces,
            "status": self._status,
        }
        return state if self._ended is None else {**state, "ended": self._ended}

    def _is_kept_whole(self) -> bool:
        return self._response.content_policy(self._response.text) == self._response.text

    def _is_left_to_saved_output(self, events: Sequence[Event]) -> bool:
        if not self._response.done or self._views > 1:  # a reloaded page gets the saved output later
            return False
        return sum(len(event) for event in events if type(event) is str) > _MAX_FINAL_DELTA_CHARS

    def _new_status(self, events: Sequence[Event], *, is_first: bool) -> list[str | None] | None:
        changes = is_first or any(isinstance(event, _STATUS_EVENTS) for event in events)
        if not changes or self._response.done:  # the end brings the final status
            return None
        status = running_status(self._tracker.snapshot())
        if status == self._status:
            return None
        self._status = status
        return status

    def _on_message(self, widget: Any, content: dict[str, Any], buffers: Any) -> None:
        # Some kernels call this on another thread.
        kind = content.get("type")
        if kind == "stop":
            self._response.cancel()
        elif kind == "decide":
            self._response.call_soon(lambda: self._decide(content))
        elif kind == "frontend":
            self._response.call_soon(lambda: self._reply({"type": "frontend", "source": _source()}))
        elif kind == "saved":
            self._response.call_soon(self._send_saved)
        elif kind == "bye":
            self._response.call_soon(self._remove_view)
        elif kind == "hello":
            is_new = content.get("view") == "new"
            self._views += is_new
            if self._views > 1 or not is_new:  # else the widget's own state was the beginning
                self._response.call_soon(lambda: self._reply({"type": "snapshot", **self.state_so_far()}))

    def _remove_view(self) -> None:
        self._removed_views += 1
        if self.widget.widget_id in _retained and self._removed_views >= self._views:
            self.close()

    def _send_saved(self) -> None:
        if self._final is not None:
            self._reply({"type": "saved", "data": render_bundle(self._final)})

    def _expect_view(self, events: Sequence[Event]) -> None:
        """Reject calls that need approval if no view appears: a runner may look like a page and have no reader."""
        asks = any(isinstance(event, ApprovalRequested) for event in events)
        if not asks or self._views or self._first_view_timer is not None:
            return

        def leave() -> None:
            if not self._views:
                self._response.remove_approver(self)

        self._first_view_timer = asyncio.get_running_loop().call_later(_FIRST_VIEW_TIMEOUT_S, leave)

    def _decide(self, content: dict[str, Any]) -> None:
        """Apply a decision. A late one matches no waiting call, even if a server uses the same id again."""
        tool_call_id, approved = content.get("id"), content.get("approved")
        waiting = [(request.tool_call_id, request.round) for request in self._response.pending_approvals]
        if not isinstance(tool_call_id, str) or (tool_call_id, content.get("round")) not in waiting:
            return
        try:
            if approved is False:
                self._response.decide(tool_call_id, False)
            elif approved is True and "arguments" not in content:
                self._response.decide(tool_call_id, True)
            elif approved is True:
                self._response.decide(tool_call_id, _edited_arguments(content["arguments"]))
        except (ValueError, ApprovalError) as error:
            words = shorten(str(error), _MAX_PROBLEM_CHARS)[0]
            self._reply({"type": "undecided", "attempt": content.get("attempt"), "words": words})

    def _reply(self, message: dict[str, Any]) -> None:
        if self.widget.comm is not None:
            self.widget.send(message)


def _edited_arguments(arguments: object) -> dict[str, Any]:
    """Parse edited arguments strictly: unlike a model's, empty text and ``null`` do not mean an empty object.

    Raises:
        ValueError: not the JSON text of an object.
    """
    if not isinstance(arguments, str) or not arguments.strip():
        found = "nothing" if arguments is None or isinstance(arguments, str) else type(arguments).__name__
        raise ValueError(f"expected a JSON object, got {found}")
    try:
        value = json.loads(arguments, strict=False)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"not valid JSON ({error})") from None
    if not isinstance(value, dict):
        raise ValueError(f"expected a JSON object, got {'null' if value is None else type(value).__name__}")
    return value
