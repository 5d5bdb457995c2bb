"""When a reply began and ended to say something."""

from __future__ import annotations

import time
from collections.abc import Sequence

from ..agent.events import Event, Reasoning

__all__ = ["OutputClock"]


class OutputClock:
    """Looks at the clock once a block of bytes, not once a token.

    Attributes:
        first_output_at: ``time.perf_counter()`` of the first text or tool call, which is what a user waits for.
    """

    def __init__(self) -> None:
        self.first_output_at: float | None = None
        self._first_at: float | None = None
        self._last_at: float | None = None

    def heard(self, events: Sequence[Event], *, tool_call: bool = False) -> None:
        """Something was generated in the block that has just been read."""
        if not events and not tool_call:
            return
        self._last_at = time.perf_counter()
        if self._first_at is None:
            self._first_at = self._last_at
        if self.first_output_at is None and (
            tool_call or any(not isinstance(event, Reasoning) for event in events)
        ):
            self.first_output_at = self._last_at

    @property
    def generation_s(self) -> float | None:
        """From the first to the last that was generated, reasoning included; None when all came at once."""
        if self._first_at is None or self._last_at is None or self._last_at == self._first_at:
            return None
        return self._last_at - self._first_at
