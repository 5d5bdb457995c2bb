"""The log of a turn: its events, its records and its end. Readers on any thread wait here for more."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from contextlib import suppress
from types import TracebackType
from typing import Any

from ..core.events import Event, Reasoning, TextWasReasoning, TurnDone
from ..core.preview import RequestPreview
from ..core.records import CallRecord, ContentPolicy, RequestRecord, ToolRecord
from ..errors import CreateAgentsError
from ..loop_shutdown import Running, cancel_coroutine, register
from ..tools.approval import PendingApprovals

__all__ = ["TurnLog", "closed_loop_error", "running_loop"]


_PATIENCE_S = 10.0
"""How long a provider may take to end when its turn is stopped, until it is told again."""


class TurnLog:
    """The state of a turn that a `StreamingResponseDTO` shows; only the tool loop writes to it.

    Every event is kept for replay, so memory is bounded by the size of the answer, not by the slowest reader.

    Args:
        record: the turn's record, opened.
        content_policy: what may be kept of the turn's content.
        remote_images: whether a notebook may load the images that the answer links to.
    """

    def __init__(
        self, record: CallRecord, *, content_policy: ContentPolicy = str, remote_images: bool = False
    ) -> None:
        self.record = record
        self.content_policy, self.remote_images = content_policy, remote_images
        self.loop = asyncio.get_running_loop()
        self.events: list[Event] = []
        self.sent: dict[int, Callable[[], RequestPreview]] = {}
        """By round, what shows its request. Each keeps its request, and requests share their messages."""
        self.notices: list[str] = []
        self.requests: list[RequestRecord] = []
        self.tools: list[ToolRecord] = []
        self.approvals = PendingApprovals()
        self.error: BaseException | None = None
        self.error_traceback: TracebackType | None = None
        self.done = False
        self.is_abandoned = False
        """Whether the event loop was closed while the turn ran."""
        self.is_asking = False
        """Whether the turn waits for the provider."""
        self._task: asyncio.Task[None] | None = None
        self._telling_again: asyncio.TimerHandle | None = None
        self._readers: list[asyncio.Future[None]] = []
        self._waiters: list[asyncio.Future[None]] = []
        self._text = ("", 0)  # the text of the first n events; one value, since several threads may ask at once

    # ── the tool loop writes ─────────────────────────────────────────────────────────────────────────

    def start(self, turn: Coroutine[Any, Any, None], settle: Callable[[], None]) -> None:
        """Run ``turn`` as a task. ``settle`` is called when it has ended, even if it never began."""
        task = self._task = self.loop.create_task(turn)

        def end(task: asyncio.Task[None] | None = None) -> None:
            if task is not None and not task.cancelled():
                task.exception()  # retrieved: it reaches readers through `settle`
            unregister()
            settle()
            self._task = None
            if self._telling_again is not None:
                self._telling_again.cancel()

        def abandon() -> None:
            self.is_abandoned = True
            cancel_coroutine(turn)
            end()

        unregister = register(self.loop, Running(abandon, self.cancel, self.wait))
        task.add_done_callback(end)

    def feed(self, event: Event) -> None:
        """Append an event and wake its readers."""
        self.events.append(event)
        if self._readers:
            self._wake(self._readers)

    def take_back(self, event: TextWasReasoning, position: int) -> None:
        """Make the text that follows the first ``position`` events reasoning, and append the event.

        What comes late sees no text, at the places where it was. What has read it is told by the event.
        """
        reasoning = event.reasoning
        for at in range(position, len(self.events)):
            if type(self.events[at]) is str:
                self.events[at], reasoning = Reasoning(reasoning), ""
        self._text = ("", 0)
        self.feed(event)

    def update(self, record: CallRecord, settled: RequestRecord | ToolRecord) -> None:
        """Append a settled request or tool execution, and replace the turn's record."""
        self.record = record
        if isinstance(settled, RequestRecord):
            self.requests.append(settled)
        else:
            self.tools.append(settled)

    def settle(self, record: CallRecord, error: BaseException | None = None) -> None:
        """End the turn and wake all readers; no event follows."""
        if self.done:
            return
        self.record, self.error = record, error
        self.error_traceback = None if error is None else error.__traceback__
        self.events.append(TurnDone(record.status, error))
        self.done = True
        self._wake(self._readers)
        self._wake(self._waiters)

    # ── readers wait ─────────────────────────────────────────────────────────────────────────────────

    @property
    def text(self) -> str:
        """The text so far."""
        text, position = self._text
        end = len(self.events)
        if end > position:
            text += "".join([event for event in self.events[position:end] if type(event) is str])
            self._text = text, end
        return text

    def is_read(self, position: int) -> bool:
        """Whether nothing comes after the first ``position`` events."""
        # In this order: a producer on another thread appends first, and is done then.
        return self.done and position >= len(self.events)

    async def wait_for_more(self, position: int) -> None:
        """Wait until there are more than ``position`` events, or the end."""
        await self._wait(self._readers, lambda: self.done or len(self.events) > position)

    async def wait(self) -> None:
        """Wait for the end."""
        await self._wait(self._waiters, lambda: self.done)

    def cancel(self) -> None:
        """Stop the turn. Safe from any thread."""
        task = self._task
        if self.done or task is None or self.loop.is_closed():
            return
        if running_loop() is self.loop:
            self._cancel()
        else:
            self.loop.call_soon_threadsafe(self._cancel)

    def _cancel(self) -> None:
        if self._task is not None:
            self._task.cancel()
            if self.is_asking:  # a tool may take its time; a provider may wait in a `finally` for ever
                self._telling_again = self.loop.call_later(_PATIENCE_S, self._cancel_again)

    def _cancel_again(self) -> None:
        if self.is_asking and self._task is not None:
            self._task.cancel()

    async def _wait(self, waiting: list[asyncio.Future[None]], is_ready: Callable[[], bool]) -> None:
        while not is_ready():
            if self.loop.is_closed():
                raise closed_loop_error()
            future = asyncio.get_running_loop().create_future()
            waiting.append(future)
            try:
                # Asked again: a reader on another thread's loop may have missed the wake-up just now.
                if not is_ready():
                    await future
            finally:
                with suppress(ValueError):  # it was woken
                    waiting.remove(future)

    def _wake(self, waiting: list[asyncio.Future[None]]) -> None:
        woken, waiting[:] = waiting[:], []
        for future in woken:
            loop = future.get_loop()
            if loop.is_closed():
                continue
            if loop is self.loop:
                _resolve(future)
            else:
                loop.call_soon_threadsafe(_resolve, future)


def closed_loop_error() -> CreateAgentsError:
    """The error for readers of a turn whose event loop was closed."""
    return CreateAgentsError(
        "The event loop in which this turn ran was closed before the turn ended: `response.text` has "
        "what arrived. Await responses inside the function that asyncio.run() is given"
    )


def running_loop() -> asyncio.AbstractEventLoop | None:
    """The loop that runs in this thread, or None."""
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None


def _resolve(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
