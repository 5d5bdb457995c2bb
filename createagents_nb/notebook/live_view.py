"""One widget a turn: what happens goes to the page as deltas, Stop comes back."""

from __future__ import annotations

import asyncio
import hashlib
import uuid
from collections.abc import Sequence
from datetime import UTC, datetime
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import anywidget
import ipykernel
import traitlets
from IPython.display import display, update_display

from .. import bridge
from ..agent.response import StreamingResponseDTO
from ..core.events import ApprovalDecided, ApprovalRequested, Event, RoundEnded, ToolCallFinished
from ..core.messages import decode_arguments
from ..errors import ApprovalError
from ..render.bundle import error_html, render_bundle
from ..render.labels import CALL_WORDS, running_status, status_parts
from ..render.snapshot import TurnSnapshot
from ..render.turn_state import TurnTracker
from ..text import shorten
from .view_messages import PieceWriter

__all__ = ["Frontend", "LiveView", "TurnWidget", "frontend"]

_STATUS_EVENTS = (RoundEnded, ToolCallFinished, ApprovalRequested, ApprovalDecided)
_STATIC = Path(__file__).parent / "static"
_FOLLOWS_AT_ONCE = 8_192
"""A last piece of more characters, of a stream that no eye can follow, is not sent before the whole is."""
_PAGE_ANSWERS_S = 30.0
"""A page that has not shown the view by then will not: a call that needs approval is rejected."""
_MAX_PROBLEM_CHARS = 1_000


@cache
def _source() -> str:
    return (_STATIC / "frontend.js").read_text("utf-8")


class Frontend(anywidget.AnyWidget):
    """Carries the front end's code to the page, once a kernel: a widget's code travels with every widget.

    Its module makes itself known to the page under `name`, where the loaders of all turns find it.
    """

    _esm = _STATIC / "frontend.js"

    name = traitlets.Unicode().tag(sync=True)


_frontends: list[Frontend] = []


def frontend() -> Frontend:
    """This kernel's, sent when it is first asked for; another one when somebody has closed all widgets."""
    if not _frontends or _frontends[-1].comm is None:
        digest = hashlib.sha256(_source().encode()).hexdigest()[:12]
        _frontends[:] = [Frontend(name=f"createagents-nb {digest}")]
    return _frontends[-1]


class TurnWidget(anywidget.AnyWidget):
    """The page's half is built from ``frontend/src``.

    Messages to the page: ``{"type": "delta", "seq": n, "pieces": […], "status": […]}``, where ``status`` is there
    when it has changed; ``{"type": "snapshot", …}`` with all that there is; ``{"type": "end", "ended": {…}}``, the
    last; ``{"type": "frontend", "source": …}``; ``{"type": "undecided", "attempt": …, "words": …}``: what is wrong
    with a decision. From it: ``{"type": "stop"}``; ``{"type": "hello"}``, which asks for a snapshot, with
    ``"view": "new"`` once a view; ``{"type": "frontend"}``, when it cannot get the front end; ``{"type": "decide",
    "id": tool_call_id, "round": n, "approved": bool, "attempt": …}``, with JSON as ``"arguments"`` if they were
    edited.
    """

    _esm = _STATIC / "loader.js"

    about = traitlets.Dict().tag(sync=True)
    """What does not change in a turn: agent, whether remote images are loaded, the first status line."""
    snapshot = traitlets.Dict().tag(sync=True, to_json=lambda _, widget: widget.text_so_far())
    """``{"seq": n, "elapsed_s": s, "pieces": […], "status": […]}``: where a page begins that was not there before.

    It is made when somebody asks for the widget's state, so that it is never old and costs nothing in between.
    """
    interrupt = traitlets.Unicode("").tag(sync=True)
    """Id of the kernel that Stop must interrupt, where the kernel hears no messages while a cell runs."""
    frontend_id = traitlets.Unicode().tag(sync=True)
    frontend_name = traitlets.Unicode().tag(sync=True)

    def __init__(self, view: LiveView, **traits: Any) -> None:
        self._live_view = view
        super().__init__(**traits)

    def text_so_far(self) -> dict[str, Any]:
        return self._live_view.so_far()


class LiveView:
    """Shows a turn in a widget, and puts the static bundle in its place at the end."""

    def __init__(self, response: StreamingResponseDTO, tracker: TurnTracker) -> None:
        self._response, self._tracker = response, tracker
        self._id = uuid.uuid4().hex
        self._writer = PieceWriter(response)
        self._sent = (0, 0)  # messages, and the events that were in them: one value, for threads
        self._status: list[str | None] = running_status(tracker.snapshot())
        self._ended: dict[str, Any] | None = None
        self._views = 0
        self._patience: asyncio.TimerHandle | None = None
        code = frontend()
        self.widget = TurnWidget(
            self,
            about={
                "agent": response.record.agent,
                "remote_images": response.remote_images,
                "status": self._status,
            },
            interrupt=_kernel_to_interrupt(),
            frontend_id=code.model_id,
            frontend_name=code.name,
        )
        self.widget.on_msg(self._on_message)

    def open(self) -> None:
        bundle = render_bundle(self._tracker.snapshot())
        rendered = self.widget._repr_mimebundle_()
        if rendered is not None:
            bundle |= rendered[0]
        display(bundle, raw=True, display_id=self._id)
        if not _is_deaf():
            self._response.add_approver(self)

    def update(self, events: Sequence[Event]) -> None:
        self._expect_a_page(events)
        pieces = self._writer.write(events)
        seq, count = self._sent
        if self._whole_follows(events):
            self._sent = seq, count + len(events)
            return
        status = self._new_status(events, is_first=seq == 0)
        if not pieces and status is None:
            self._sent = seq, count + len(events)
            return
        self._sent = seq + 1, count + len(events)
        message = {"type": "delta", "seq": seq + 1, "pieces": pieces}
        self.widget.send(message if status is None else {**message, "status": status})

    def close(self, snapshot: TurnSnapshot) -> None:
        self._response.remove_approver(self)
        if self._patience is not None:
            self._patience.cancel()
        self._ended = {
            "status": " · ".join(status_parts(snapshot)),
            "words": CALL_WORDS[snapshot.status],
            "error": error_html(snapshot),
        }
        self.widget.send({"type": "end", "ended": self._ended})
        update_display(render_bundle(snapshot), raw=True, display_id=self._id)
        # A page that was loaded again in mid-stream no longer hears what a cell displays: its view stays, ended.
        if self._views < 2:
            self.widget.layout.close()
            self.widget.close()

    def so_far(self) -> dict[str, Any]:
        """All that the page has been told until now. Safe from any thread."""
        seq, count = self._sent
        pieces = PieceWriter(self._response).write(self._response.events_so_far()[:count])
        if self._ended is not None and not self._is_kept_whole():
            pieces = []  # a page may save what it is told of a widget
        state = {
            "seq": seq,
            "elapsed_s": round((datetime.now(UTC) - self._response.record.started_at).total_seconds(), 1),
            "pieces": pieces,
            "status": self._status,
        }
        return state if self._ended is None else {**state, "ended": self._ended}

    def _is_kept_whole(self) -> bool:
        return self._response.content_policy(self._response.text) == self._response.text

    def _whole_follows(self, events: Sequence[Event]) -> bool:
        if not self._response.done or self._views > 1:  # see `close`
            return False
        return sum(len(event) for event in events if type(event) is str) > _FOLLOWS_AT_ONCE

    def _new_status(self, events: Sequence[Event], *, is_first: bool) -> list[str | None] | None:
        changes = is_first or any(isinstance(event, _STATUS_EVENTS) for event in events)
        if not changes or self._response.done:  # the end says it all
            return None
        status = running_status(self._tracker.snapshot())
        if status == self._status:
            return None
        self._status = status
        return status

    def _on_message(self, widget: Any, content: dict[str, Any], buffers: Any) -> None:
        # On some kernels this is another thread.
        kind = content.get("type")
        if kind == "stop":
            self._response.cancel()
        elif kind == "decide":
            self._response.call_soon(lambda: self._decide(content))
        elif kind == "frontend":
            self._response.call_soon(lambda: self._send({"type": "frontend", "source": _source()}))
        elif kind == "hello":
            self._views += content.get("view") == "new"
            if self._views > 1 or content.get("view") != "new":
                self._response.call_soon(lambda: self._send({"type": "snapshot", **self.so_far()}))

    def _expect_a_page(self, events: Sequence[Event]) -> None:
        """A runner may say that it is a page and have none: nobody would ever decide."""
        asks = any(isinstance(event, ApprovalRequested) for event in events)
        if not asks or self._views or self._patience is not None:
            return

        def leave() -> None:
            if not self._views:
                self._response.remove_approver(self)

        self._patience = asyncio.get_running_loop().call_later(_PAGE_ANSWERS_S, leave)

    def _decide(self, content: dict[str, Any]) -> None:
        """What a button says. A decision that comes late is on no call, also if its id is used again."""
        tool_call_id, approved, arguments = (content.get(key) for key in ("id", "approved", "arguments"))
        waiting = [(request.tool_call_id, request.round) for request in self._response.pending_approvals]
        if not isinstance(tool_call_id, str) or (tool_call_id, content.get("round")) not in waiting:
            return
        try:
            if approved is False:
                self._response.decide(tool_call_id, False)
            elif approved is True and arguments is None:
                self._response.decide(tool_call_id, True)
            elif approved is True and isinstance(arguments, str):
                self._response.decide(tool_call_id, decode_arguments(arguments))
        except (ValueError, ApprovalError) as error:
            words = shorten(str(error), _MAX_PROBLEM_CHARS)[0]
            self._send({"type": "undecided", "attempt": content.get("attempt"), "words": words})

    def _send(self, message: dict[str, Any]) -> None:
        if self.widget.comm is not None:
            self.widget.send(message)


def _is_deaf() -> bool:
    """Whether the kernel hears no message from the page while the cell runs.

    That is ipykernel 6, and every ipykernel while the cell waits in the bridge.
    """
    return int(version("ipykernel").partition(".")[0]) < 7 or bridge.is_blocking_loop.get()


def _kernel_to_interrupt() -> str:
    """The kernel that the server must interrupt, since it would not hear Stop."""
    if not _is_deaf():
        return ""
    try:
        return Path(ipykernel.get_connection_file()).stem.removeprefix("kernel-")
    except RuntimeError:
        return ""
