"""The user's handle on a turn: awaitable, iterable by any number of consumers, replaying when finished."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Generator, Iterator
from contextlib import contextmanager
from typing import Any

from .. import bridge
from ..core.events import ApprovalRequested, Event, Usage
from ..core.preview import RequestPreview
from ..core.records import CallRecord, CallStatus, ContentPolicy, RequestRecord, ToolRecord
from ..errors import BridgeError, ConfigurationError
from ..tools.approval import Approval, ApprovalRequest, Decision
from .turn_log import TurnLog, closed_loop_error, running_loop

__all__ = ["StreamingResponseDTO"]


class StreamingResponseDTO:
    """The answer of a turn, while it streams and afterwards; `CreateAgent.chat` returns it.

    - ``await response`` is the whole text, as often as you like.
    - ``async for token in response`` gives its pieces; every consumer starts at the beginning.
    - ``str(response)`` is the whole text too; it waits for it, so ``print(response)`` prints the answer.

    A turn that fails raises the same error to every consumer, after the tokens that arrived. A cancelled turn ends
    quietly with the text so far; `status` tells. Leaving an ``async for`` does not stop the turn. Cancelling the
    task that waits for the response, or that is inside such a loop, does, as with any awaited task, unless another
    consumer waits for it too. If the turn's event loop is closed, the turn is cancelled and its consumers get an
    error.

    Example:
        >>> response = await agent.chat("Tell me a story")
        >>> async for token in response:
        ...     print(token, end="")
        >>> text = await response
    """

    def __init__(self, log: TurnLog) -> None:
        self._log = log
        self._consumers: set[object] = set()

    # ── state ────────────────────────────────────────────────────────────────────────────────────────

    @property
    def text(self) -> str:
        """The text so far."""
        return self._log.text

    @property
    def done(self) -> bool:
        """Whether the turn has ended."""
        return self._log.done

    @property
    def status(self) -> CallStatus:
        """``running``, ``ok``, ``cancelled``, ``error``, or ``limit``: cut off, or too many rounds of tools."""
        return self._log.record.status

    @property
    def record(self) -> CallRecord:
        """The turn's record; settled once `done`."""
        return self._log.record

    @property
    def requests(self) -> tuple[RequestRecord, ...]:
        """The round trips that have settled."""
        return tuple(self._log.requests)

    @property
    def tools(self) -> tuple[ToolRecord, ...]:
        """The tool executions that have settled."""
        return tuple(self._log.tools)

    @property
    def error(self) -> BaseException | None:
        """Why the turn failed; None if it did not."""
        return self._log.error

    @property
    def remote_images(self) -> bool:
        """Whether a notebook may load the images that the answer links to; see `CreateAgent`."""
        return self._log.remote_images

    @property
    def content_policy(self) -> ContentPolicy:
        """The policy for saving the turn's content in a notebook; see `MetricsRecorder`."""
        return self._log.content_policy

    @property
    def notices(self) -> tuple[str, ...]:
        """Lines for the user that are not part of the answer, so far; see `createagents_nb.core.events.Notice`."""
        return tuple(self._log.notices)

    @property
    def usage(self) -> Usage:
        """Tokens and cost of all rounds so far; None for what the server does not report."""
        record = self._log.record
        return Usage(
            record.input_tokens,
            record.output_tokens,
            record.cached_tokens,
            record.reasoning_tokens,
            cost_usd=record.cost_usd,
        )

    @property
    def finish_reason(self) -> str | None:
        """Why the last round ended, as the server reports it: ``stop``, ``length``, ``content_filter``…"""
        return self._log.record.finish_reason

    def preview(self, round: int | None = None) -> RequestPreview:  # noqa: A002 - as in the records
        """Show a request of this turn as it was sent, while it runs and afterwards.

        Args:
            round: which request, from 1; default the last.

        Raises:
            ConfigurationError: nothing has been sent yet, or there was no such round.

        Example:
            >>> print(response.preview())
        """
        sent = self._log.sent
        if not sent:
            raise ConfigurationError(
                "This turn has sent nothing yet: agent.preview(message) shows what a message would send"
            )
        show = sent.get(max(sent) if round is None else round)
        if show is None:
            raise ConfigurationError(f"This turn has no round {round!r}: it has sent {len(sent)}, the first is 1")
        return show()

    # ── approval ─────────────────────────────────────────────────────────────────────────────────────

    @property
    def pending_approvals(self) -> tuple[ApprovalRequest, ...]:
        """The calls that wait for `decide`, oldest first; empty if ``approve=`` of the agent decides."""
        return self._log.approvals.requests

    def add_approver(self, approver: object) -> None:
        """Register an approver: from now on, calls that need approval wait for `decide`."""
        self._log.approvals.register(approver)

    def remove_approver(self, approver: object) -> None:
        """Unregister an approver; without any left, waiting calls are rejected."""
        self._log.approvals.unregister(approver)

    def decide(self, tool_call_id: str, decision: Decision) -> None:
        """Approve or reject a call that waits; the first decision holds. Safe from any thread.

        Args:
            tool_call_id: of one of `pending_approvals`.
            decision: True approves, a dict approves with these arguments, False rejects, a str rejects and says
                why; or an `Approval`.

        Raises:
            ApprovalError: no such call waits, the arguments do not fit (it goes on waiting), or the decision is
                not one of these.

        Example:
            >>> for request in response.pending_approvals:
            ...     response.decide(request.tool_call_id, "not today")
        """
        settle = self._log.approvals.check(tool_call_id, Approval.of(decision))
        if running_loop() is self._log.loop:
            settle()
        else:
            self.call_soon(settle)

    async def approvals(self) -> AsyncGenerator[ApprovalRequest, None]:
        """The calls that need a decision, as they come, until the turn ends.

        Iterating registers you as an approver: calls wait for `decide`, and are rejected if you leave the
        iteration and no other approver is left. Call it on the turn's event loop.

        Example:
            >>> response = await agent.chat("Tidy up")
            >>> async for request in response.approvals():
            ...     response.decide(request.tool_call_id, request.arguments["path"].startswith("tmp/"))
        """
        approver = object()
        self.add_approver(approver)
        try:
            async for event in self.events():
                if isinstance(event, ApprovalRequested) and event.is_open:
                    for request in self.pending_approvals:
                        if (request.tool_call_id, request.round) == (event.tool_call_id, event.round):
                            yield request
        finally:
            self.remove_approver(approver)

    # ── consumers ────────────────────────────────────────────────────────────────────────────────────

    def __await__(self) -> Generator[Any, None, str]:
        return self._whole_text().__await__()

    async def __aiter__(self) -> AsyncGenerator[str, None]:
        log = self._log
        events, position = log.events, 0
        with self._consuming():
            while True:
                while position < len(events):
                    event = events[position]
                    position += 1
                    if type(event) is str:
                        yield event
                if log.is_read(position):
                    break
                await log.wait_for_more(position)
        self._raise_error()

    async def events(self) -> AsyncGenerator[Event, None]:
        """All events from the beginning: ``str`` for text, and the records of `createagents_nb.core.events`."""
        log = self._log
        events, position = log.events, 0
        with self._consuming():
            while True:
                while position < len(events):
                    yield events[position]
                    position += 1
                if log.is_read(position):
                    break
                await log.wait_for_more(position)
        self._raise_error()

    def events_so_far(self) -> tuple[Event, ...]:
        """The events that have arrived, without waiting."""
        return tuple(self._log.events)

    async def batches(self, interval_s: float) -> AsyncGenerator[list[Event], None]:
        """All events, in lists that come at most once in ``interval_s`` seconds, as a view needs them.

        Never raises the turn's error; `TurnDone` is the last event. A view does not count as a consumer that keeps
        the turn alive.
        """
        log = self._log
        events, position = log.events, 0
        with self._consuming(counts=False):
            while not log.is_read(position):
                await log.wait_for_more(position)
                batch = events[position:]
                position += len(batch)
                yield batch
                if not log.done:
                    await asyncio.sleep(interval_s)

    async def wait(self) -> None:
        """Wait for the end of the turn; never raises the turn's error."""
        with self._consuming():
            await self._log.wait()

    async def begin(self) -> None:
        """Let the request leave now, even if the caller computes for a while before it awaits again."""
        try:
            for _ in range(3):  # steps of the loop until a request has left
                await asyncio.sleep(0)
        except asyncio.CancelledError as error:
            self.cancel()  # the caller never gets the response, so it could not be stopped later
            bridge.render_as_stopped(error)
            raise

    def cancel(self) -> None:
        """Stop the turn. The text so far is kept, and the status becomes ``cancelled``. Safe from any thread."""
        self._log.cancel()

    def call_soon(self, callback: Callable[[], None]) -> None:
        """Run ``callback`` on the turn's event loop. Safe from any thread."""
        if not self._log.loop.is_closed():
            self._log.loop.call_soon_threadsafe(callback)

    async def aclose(self) -> None:
        """Stop the turn if it is still running, and wait until everything it held is released."""
        self.cancel()
        await self.wait()

    def __str__(self) -> str:
        log = self._log
        if not log.done:
            if log.loop.is_running():
                try:
                    bridge.run(self.wait())
                except BridgeError:
                    return self.text  # the text so far; `await response` gives the rest
            elif log.loop.is_closed() or running_loop() is not None:
                return self.text  # the turn's loop no longer runs
            else:
                self._drive()
        if log.is_abandoned:
            return self.text
        self._raise_error()
        return self.text

    def _drive(self) -> None:
        """Run the turn's loop, which is idle between the cells of a terminal, until the turn has ended."""
        loop = self._log.loop
        waiting = loop.create_task(self._wait_or_stop())
        try:
            with bridge.interrupt_cancels(waiting):
                loop.run_until_complete(waiting)
        except asyncio.CancelledError:
            raise bridge.render_as_stopped(KeyboardInterrupt()) from None
        finally:
            self.cancel()  # after a second interrupt, the turn settles when the loop runs again

    async def _wait_or_stop(self) -> None:
        """Wait for the end; if cancelled, stop the turn and wait until it has ended."""
        try:
            await self.wait()
        except asyncio.CancelledError:
            await self.aclose()
            raise

    def __repr__(self) -> str:
        text = self.text
        kept = self.content_policy(text)  # a repr often is a cell's output
        shown = "not kept" if kept is None else kept if len(kept) <= 60 else kept[:59] + "…"
        hint = "" if self.done else "; `await response` for the whole text"
        return f"<StreamingResponseDTO {self.status}: {len(text)} characters {shown!r}{hint}>"

    def _ipython_display_(self) -> None:
        print(repr(self))  # the notebook extension registers a formatter that comes before this method

    async def _whole_text(self) -> str:
        await self.wait()
        self._raise_error()
        return self.text

    @contextmanager
    def _consuming(self, *, counts: bool = True) -> Iterator[None]:
        """Track a consumer: if it is cancelled while it waits, the turn stops, unless there are others."""
        consumer = object()
        if counts:
            self._consumers.add(consumer)
        task = None if running_loop() is None else asyncio.current_task()
        stops_before = bridge.stop_requests(task)
        try:
            yield
        except asyncio.CancelledError as error:
            if not self._consumers - {consumer}:
                self.cancel()
                bridge.render_as_stopped(error)
            raise
        except GeneratorExit:
            # Left early. If the consumer was stopped inside its loop's body, as by ■, the turn stops with it.
            if counts and bridge.stop_requests(task) > stops_before and not self._consumers - {consumer}:
                self.cancel()
            raise
        finally:
            self._consumers.discard(consumer)

    def _raise_error(self) -> None:
        if self._log.is_abandoned:
            raise closed_loop_error()
        error = self._log.error
        if error is not None:
            # Each consumer gets the traceback of the failure, without the frames of earlier consumers.
            raise error.with_traceback(self._log.error_traceback)
