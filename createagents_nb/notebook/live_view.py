"""One widget a turn: text goes to the page as deltas, Stop comes back."""

from __future__ import annotations

import time
import uuid
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import anywidget
import ipykernel
import traitlets
from IPython.display import display, update_display

from .. import bridge
from ..agent.events import Event, Reasoning, ToolCallFinished, ToolCallRequested
from ..agent.stream import StreamingResponseDTO
from .snapshot import ReasoningBlock, TextBlock, ToolLine, TurnSnapshot
from .static_bundle import render_bundle
from .tracker import TurnTracker
from .words import TOOL_WORDS, call_of, seconds, status_parts

__all__ = ["LiveView", "TurnWidget"]

_STATIC = Path(__file__).parent / "static"
_FIRST_SNAPSHOT_S, _SNAPSHOT_S = 0.3, 1.0

Piece = tuple[str, str] | tuple[str, str, str]
"""What goes over the wire: ``("text", …)``, ``("reasoning", …)`` or ``("tool", id, line)``."""


class TurnWidget(anywidget.AnyWidget):
    """The page's half is ``static/view.js``.

    Messages to the page: ``{"type": "delta" | "snapshot", "seq": n, "pieces": [...]}``; from it:
    ``{"type": "stop"}``, and ``{"type": "hello"}``, which asks for a snapshot, with ``"view": "new"`` once a view.
    """

    _esm = _STATIC / "view.js"

    about = traitlets.Dict().tag(sync=True)
    """What the status line says of the turn: agent, provider, model, demo."""
    snapshot = traitlets.Dict().tag(sync=True)
    """``{"seq": n, "elapsed_s": s, "pieces": […]}``: where a view begins that was not there from the start.

    With ``"ended"``, the status line, for a view that is not replaced at the end.
    """
    interrupt = traitlets.Unicode("").tag(sync=True)
    """Id of the kernel that Stop must interrupt, where the kernel hears no messages while a cell runs."""


class LiveView:
    """Shows a turn in a widget, and puts the static bundle in its place at the end."""

    def __init__(self, response: StreamingResponseDTO, tracker: TurnTracker) -> None:
        self._response, self._tracker = response, tracker
        self._id = uuid.uuid4().hex
        self._seq = 0
        self._snapshot_at, self._snapshot_chars, self._chars = time.perf_counter(), 0, 0
        self._opened_at = self._snapshot_at
        self._views = 0
        record = response.record
        self.widget = TurnWidget(
            about={
                "agent": record.agent,
                "provider": record.provider,
                "model": record.model,
                "demo": record.provider == "demo",
            },
            snapshot={"seq": 0, "pieces": []},
            interrupt=_kernel_to_interrupt(),
        )
        self.widget.on_msg(self._on_message)

    def open(self) -> None:
        bundle = render_bundle(self._tracker.snapshot())
        rendered = self.widget._repr_mimebundle_()
        if rendered is not None:
            bundle |= rendered[0]
        display(bundle, raw=True, display_id=self._id)

    def update(self, events: Sequence[Event]) -> None:
        pieces = _pieces(events, self._tracker)
        if not pieces:
            return
        self._seq += 1
        self._chars += sum(len(piece[-1]) for piece in pieces)
        self.widget.send({"type": "delta", "seq": self._seq, "pieces": pieces})
        self._keep_snapshot()

    def close(self, snapshot: TurnSnapshot) -> None:
        update_display(render_bundle(snapshot), raw=True, display_id=self._id)
        if self._views < 2:
            self.widget.close()
            return
        # A page that was loaded again in mid-stream no longer hears what a cell displays: its view stays, ended.
        self.widget.snapshot = {**self._snapshot(), "ended": " · ".join(status_parts(snapshot))}

    def _keep_snapshot(self) -> None:
        # Sent when the text has doubled, so that all snapshots together are about twice the answer.
        now = time.perf_counter()
        due = _SNAPSHOT_S if self._snapshot_chars else _FIRST_SNAPSHOT_S
        if now - self._snapshot_at >= due and self._chars >= 2 * self._snapshot_chars:
            self._snapshot_at, self._snapshot_chars = now, self._chars
            self.widget.snapshot = self._snapshot()

    def _snapshot(self) -> dict[str, Any]:
        elapsed_s = round(time.perf_counter() - self._opened_at, 1)
        pieces = [_piece(block) for block in self._tracker.blocks()]
        return {"seq": self._seq, "elapsed_s": elapsed_s, "pieces": pieces}

    def _on_message(self, widget: Any, content: dict[str, Any], buffers: Any) -> None:
        # On some kernels this is another thread.
        if content.get("type") == "stop":
            self._response.cancel()
        self._views += content.get("view") == "new"
        if content.get("type") == "hello" and not self._response.done:
            self._response.call_soon(self._send_snapshot)

    def _send_snapshot(self) -> None:
        if self.widget.comm is not None:
            self.widget.send({"type": "snapshot", **self._snapshot()})


def _pieces(events: Sequence[Event], tracker: TurnTracker) -> list[Piece]:
    pieces: list[Piece] = []
    for event in events:
        if isinstance(event, str | Reasoning):
            kind, text = ("text", event) if isinstance(event, str) else ("reasoning", event.text)
            if pieces and pieces[-1][0] == kind:
                text = pieces.pop()[1] + text
            pieces.append((kind, text))
        elif isinstance(event, ToolCallRequested | ToolCallFinished):
            tool = tracker.tool(event.tool_call_id)
            if tool is not None:
                pieces.append(_piece(tool))
    return pieces


def _piece(block: TextBlock | ReasoningBlock | ToolLine) -> Piece:
    if isinstance(block, ToolLine):
        took = f" · {seconds(block.latency_s)}" if block.latency_s is not None else ""
        return "tool", block.tool_call_id, f"{call_of(block)} — {TOOL_WORDS[block.status]}{took}"
    return ("reasoning" if isinstance(block, ReasoningBlock) else "text"), block.text


def _kernel_to_interrupt() -> str:
    """Where the kernel hears no message from the page while a cell runs, the server can interrupt it.

    That is ipykernel 6, and every ipykernel while the cell waits in the bridge.
    """
    if int(version("ipykernel").partition(".")[0]) >= 7 and not bridge.blocks_the_loop.get():
        return ""
    try:
        return Path(ipykernel.get_connection_file()).stem.removeprefix("kernel-")
    except RuntimeError:
        return ""
