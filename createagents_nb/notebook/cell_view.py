"""The live view in a cell: a widget while the turn runs, the saved output in its place when it has ended."""

from __future__ import annotations

import uuid
from collections.abc import Sequence

from IPython.display import display, update_display

from ..agent.response import StreamingResponseDTO
from ..core.events import Event
from ..render.bundle import render_bundle
from ..render.snapshot import TurnSnapshot
from ..render.turn_state import TurnTracker
from .turn_channel import TurnChannel

__all__ = ["LiveView"]


class LiveView:
    """Shows a turn in a widget, and replaces it with the static bundle at the end."""

    def __init__(self, response: StreamingResponseDTO, tracker: TurnTracker) -> None:
        self._tracker = tracker
        self._display_id = uuid.uuid4().hex
        self._channel = TurnChannel(response, tracker)

    def open(self) -> None:
        bundle = render_bundle(self._tracker.snapshot())
        rendered = self._channel.widget._repr_mimebundle_()
        if rendered is not None:
            bundle |= rendered[0]
        display(bundle, raw=True, display_id=self._display_id)
        self._channel.open()

    def update(self, events: Sequence[Event]) -> None:
        self._channel.send(events)

    def close(self, snapshot: TurnSnapshot) -> None:
        self._channel.end(snapshot)
        update_display(render_bundle(snapshot), raw=True, display_id=self._display_id)
        self._channel.release()
