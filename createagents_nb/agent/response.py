"""The response of a turn: awaitable, iterable by any number of consumers, replaying when finished."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Coroutine, Generator, Iterator
from contextlib import contextmanager, suppress
from types import TracebackType
from typing import Any, ClassVar

from .. import bridge
from ..core.events import ApprovalRequested, Event, RoundEnded, TurnDone, Usage
from ..core.records import CallRecord, CallStatus, ContentPolicy, RequestRecord, ToolRecord
from ..errors import BridgeError, CreateAgentsError
from ..loop_shutdown import end, turns_of
from ..tools.approval import Approval, ApprovalRequest, Decision, PendingApprovals

__all__ = ["StreamingResponseDTO"]


class StreamingResponseDTO:
    """What `CreateAgent.chat` returns, while the answer is still streaming.

    - ``await response`` is the whole text, as often as you like.
    - ``async for token in response`` gives its pieces; every consumer starts at the beginning.
    - ``str(response)`` is the whole text too; it waits for it, so ``print(response)`` prints the answer.

    A turn that fails raises the same error to every consumer, after the tokens that arrived. A cancelled turn
    ends quietly with the text so far; `status` tells. Leaving an ``async for`` does not stop the turn. Cancelling
    the task that waits for the response, or that is inside such a loop, does, as with any awaited task, unless
    somebody else waits for it too.
    A turn whose event loop is closed under it is cancelled, and who still waits for it is told.

    Every event is kept for replay, so memory is bounded by the size of the answer, not by the slowest reader.

    Example:
        >>> response = await agent.chat("Tell me a story")
        >>> async for token in response:
        ...     print(token, end="")
        >>> text = await response
    """

    display_hook: ClassVar[Callable[[StreamingResponseDTO], None] | None] = None
    """How a notebook shows a response; set by the extension."""

    def __init__(
        self,
        record: CallRecord,
        *,
        remote_images: bool = False,
        content_policy: ContentPolicy = str,
    ) -> None:
        self._record = record
        self._remote_images = remote_images
        self._content_policy = content_policy
        self._requests: list[RequestRecord] = []
        self._tools: list[ToolRecord] = []
        self._loop = asyncio.get_running_loop()
        self._task: asyncio.Task[None] | None = None
        self._events: list[Event] = []
        self._readers: list[asyncio.Future[None]] = []
        self._waiters: list[asyncio.Future[None]] = []
        self._consumers: set[object] = set()
        self.waiting_calls = PendingApprovals()
        self._done = self._is_abandoned = False
        self._error: BaseException | None = None
        self._error_traceback: TracebackType | None = None
        self._joined = ("", 0)  # the text of so many events; one value, since threads may ask at once

    # ── what is known ────────────────────────────────────────────────────────────────────────────────

    @property
    def text(self) -> str:
        """The text so far."""
        text, at = self._joined
        upto = len(self._events)
        if upto > at:
            text += "".join([event for event in self._events[at:upto] if type(event) is str])
            self._joined = text, upto
        return text

    @property
    def done(self) -> bool:
        return self._done

    @property
    def status(self) -> CallStatus:
        """``running``, ``ok``, ``cancelled``, ``error`` or ``limit`` (of tool rounds)."""
        return self._record.status

    @property
    def record(self) -> CallRecord:
        """The call's record; settled once `done`."""
        return self._record

    @property
    def requests(self) -> tuple[RequestRecord, ...]:
        """The round trips that have settled."""
        return tuple(self._requests)

    @property
    def tools(self) -> tuple[ToolRecord, ...]:
        """The tool executions that have settled."""
        return tuple(self._tools)

    @property
    def error(self) -> BaseException | None:
        return self._error

    @property
    def remote_images(self) -> bool:
        """Whether a notebook may load the images that the answer links to; see `CreateAgent`."""
        return self._remote_images

    @property
    def content_policy(self) -> ContentPolicy:
        """What a notebook may save of something that was said; None: nothing. See `MetricsRecorder`."""
        return self._content_policy

    @property
    def usage(self) -> Usage:
        """Tokens and cost of all rounds so far; None where the server does not say."""
        record = self._record
        return Usage(
            record.input_tokens,
            record.output_tokens,
            record.cached_tokens,
            record.reasoning_tokens,
            cost_usd=record.cost_usd,
        )

    @property
    def finish_reason(self) -> str | None:
        """Why the model stopped, as the server said it: ``stop``, ``length``, ``content_filter``…"""
        ends = [event for event in self._events if isinstance(event, RoundEnded)]
        return ends[-1].finish_reason if ends else None

    # ── approval ─────────────────────────────────────────────────────────────────────────────────────

    @property
    def pending_approvals(self) -> tuple[ApprovalRequest, ...]:
        """The calls that wait for `decide`, oldest first; none while ``approve=`` of the agent decides."""
        return self.waiting_calls.requests

    def decide(self, tool_call_id: str, decision: Decision) -> None:
        """Approve or reject a call that waits; the first decision holds. Safe from any thread.

        Args:
            tool_call_id: of one of `pending_approvals`.
            decision: True approves, a dict approves with these arguments, False rejects, a str rejects and says
                why; or an `Approval`.

        Raises:
            ApprovalError: no such call waits, the arguments do not fit (it waits on), or that is no decision.

        Example:
            >>> for request in response.pending_approvals:
            ...     response.decide(request.tool_call_id, "not today")
        """
        settle = self.waiting_calls.check(tool_call_id, Approval.of(decision))
        if _running_loop() is self._loop:
            settle()
        else:
            self.call_soon(settle)

    async def approvals(self) -> AsyncGenerator[ApprovalRequest, None]:
        """The calls that need a decision, as they come, until the turn ends.

        Who iterates over them can be asked: calls wait for `decide`, and are rejected if the iteration is left and
        nobody else can be asked. To be called on the turn's event loop.

        Example:
            >>> response = await agent.chat("Tidy up")
            >>> async for request in response.approvals():
            ...     response.decide(request.tool_call_id, request.arguments["path"].startswith("tmp/"))
        """
        somebody = object()
        self.waiting_calls.join(somebody)
        try:
            async for event in self.events():
                if isinstance(event, ApprovalRequested) and event.is_open:
                    for request in self.pending_approvals:
                        if (request.tool_call_id, request.round) == (event.tool_call_id, event.round):
                            yield request
        finally:
            self.waiting_calls.leave(somebody)

    # ── consumers ────────────────────────────────────────────────────────────────────────────────────

    def __await__(self) -> Generator[Any, None, str]:
        return self._whole_text().__await__()

    async def __aiter__(self) -> AsyncGenerator[str, None]:
        events, at = self._events, 0
        with self._consuming():
            while True:
                while at < len(events):
                    event = events[at]
                    at += 1
                    if type(event) is str:
                        yield event
                if self._is_read(at):
                    break
                await self._wait(self._readers, at)
        self._raise_error()

    async def events(self) -> AsyncGenerator[Event, None]:
        """All events from the beginning: ``str`` for text, and the records of `createagents_nb.core.events`."""
        events, at = self._events, 0
        with self._consuming():
            while True:
                while at < len(events):
                    yield events[at]
                    at += 1
                if self._is_read(at):
                    break
                await self._wait(self._readers, at)
        self._raise_error()

    def events_so_far(self) -> tuple[Event, ...]:
        """What has arrived, without waiting."""
        return tuple(self._events)

    async def batches(self, interval_s: float) -> AsyncGenerator[list[Event], None]:
        """All events, in lists that come at most once in ``interval_s`` seconds: what a view needs.

        Raises nothing of the turn's own; `TurnDone` is the last event. A view does not count as
        somebody who waits.
        """
        events, at = self._events, 0
        with self._consuming(counts=False):
            while not self._is_read(at):
                await self._wait(self._readers, at)
                batch = events[at:]
                at += len(batch)
                yield batch
                if not self._done:
                    await asyncio.sleep(interval_s)

    async def wait(self) -> None:
        """Wait for the end, whatever it is; raises nothing of the turn's own."""
        with self._consuming():
            await self._wait(self._waiters, None)

    async def begin(self) -> None:
        """Let the request leave now, even if the caller computes for a while before it awaits again."""
        try:
            for _ in range(3):  # steps of the loop until a request has left
                await asyncio.sleep(0)
        except asyncio.CancelledError as error:
            self.cancel()  # nobody has the response, so nobody could stop it later
            bridge.shown_as_stopped(error)
            raise

    def cancel(self) -> None:
        """Stop the turn. The text so far is kept, and the status becomes ``cancelled``. Safe from any thread."""
        task = self._task
        if self._done or task is None or self._loop.is_closed():
            return
        if _running_loop() is self._loop:
            task.cancel()
        else:
            self._loop.call_soon_threadsafe(task.cancel)

    def call_soon(self, callback: Callable[[], None]) -> None:
        """Run ``callback`` on the turn's event loop. Safe from any thread."""
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(callback)

    async def aclose(self) -> None:
        """Stop the turn if it is still running, and wait until everything it held is released."""
        self.cancel()
        await self.wait()

    def __str__(self) -> str:
        if not self._done:
            if self._loop.is_running():
                try:
                    bridge.run(self.wait())
                except BridgeError:
                    return self.text  # what there is; `await response` is the way to the rest
            elif self._loop.is_closed() or _running_loop() is not None:
                return self.text  # nobody drives the turn any more
            else:
                self._drive()
        if self._is_abandoned:
            return self.text
        self._raise_error()
        return self.text

    def _drive(self) -> None:
        """Run the turn's loop, which stands still between the cells of a terminal, until the turn has ended."""
        waiting = self._loop.create_task(self._settled())
        try:
            with bridge.interrupt_cancels(waiting):
                self._loop.run_until_complete(waiting)
        except asyncio.CancelledError:
            raise bridge.shown_as_stopped(KeyboardInterrupt()) from None
        finally:
            self.cancel()  # a later interrupt breaks in: it settles when the loop runs again

    async def _settled(self) -> None:
        """Wait for the end; cancelled, stop the turn and wait all the same."""
        try:
            await self.wait()
        except asyncio.CancelledError:
            await self.aclose()
            raise

    def __repr__(self) -> str:
        text = self.text
        kept = self._content_policy(text)  # a repr is a cell's output, as a rule
        shown = "not kept" if kept is None else kept if len(kept) <= 60 else kept[:59] + "…"
        hint = "" if self._done else "; `await response` for the whole text"
        return f"<StreamingResponseDTO {self.status}: {len(text)} characters {shown!r}{hint}>"

    def _ipython_display_(self) -> None:
        hook = type(self).display_hook
        if hook is None:
            print(repr(self))
        else:
            hook(self)

    async def _whole_text(self) -> str:
        await self.wait()
        self._raise_error()
        return self.text

    async def _wait(self, waiting: list[asyncio.Future[None]], seen: int | None) -> None:
        """Until there are more than ``seen`` events (None: no number of them will do), or the end."""
        while not self._is_ready(seen):
            if self._loop.is_closed():
                raise _loop_closed()
            future = asyncio.get_running_loop().create_future()
            waiting.append(future)
            try:
                # Asked again: a consumer on another thread's loop may have missed the wake-up just now.
                if not self._is_ready(seen):
                    await future
            finally:
                with suppress(ValueError):  # it was woken
                    waiting.remove(future)

    @contextmanager
    def _consuming(self, *, counts: bool = True) -> Iterator[None]:
        """Around the life of a consumer: cancelled while it waits, it stops the turn unless there are others."""
        consumer = object()
        if counts:
            self._consumers.add(consumer)
        task = None if _running_loop() is None else asyncio.current_task()
        known = bridge.stops(task)
        try:
            yield
        except asyncio.CancelledError as error:
            if not self._consumers - {consumer}:
                self.cancel()
                bridge.shown_as_stopped(error)
            raise
        except GeneratorExit:
            # Left early. Cancelled while it does something else with what it was given, as by ■, is no leaving.
            if counts and bridge.stops(task) > known and not self._consumers - {consumer}:
                self.cancel()
            raise
        finally:
            self._consumers.discard(consumer)

    def _is_ready(self, seen: int | None) -> bool:
        return self._done or (seen is not None and len(self._events) > seen)

    def _is_read(self, at: int) -> bool:
        # In this order: a producer on another thread appends first, and is done then.
        return self._done and at >= len(self._events)

    def _raise_error(self) -> None:
        if self._is_abandoned:
            raise _loop_closed()
        if self._error is not None:
            raise self._error.with_traceback(self._error_traceback)

    # ── the producer: the tool loop, and nobody else ─────────────────────────────────────────────────

    def start(self, turn: Coroutine[Any, Any, None], settle: Callable[[], None]) -> None:
        """Run ``turn`` as a task. ``settle`` is called when it has ended, also if it has not begun by then."""
        self._task = self._loop.create_task(turn)
        turns = turns_of(self._loop)

        def ended(task: asyncio.Task[None] | None = None) -> None:
            if task is not None and not task.cancelled():
                task.exception()  # seen: it reaches the consumers through `settle`
            turns.pop(self, None)
            settle()
            self._task = None

        def abandon() -> None:
            self._is_abandoned = True
            end(turn)
            ended()

        self._task.add_done_callback(ended)
        turns[self] = abandon

    def feed(self, event: Event) -> None:
        self._events.append(event)
        if self._readers:
            self._wake(self._readers)

    def update(self, record: CallRecord, settled: RequestRecord | ToolRecord) -> None:
        self._record = record
        if isinstance(settled, RequestRecord):
            self._requests.append(settled)
        else:
            self._tools.append(settled)

    def settle(self, record: CallRecord, error: BaseException | None = None) -> None:
        """The end: everybody who waits is woken, nothing is fed any more."""
        if self._done:
            return
        self._record = record
        self._error = error
        self._error_traceback = error.__traceback__ if error is not None else None
        self._events.append(TurnDone(record.status, error))
        self._done = True
        self._wake(self._readers)
        self._wake(self._waiters)

    @property
    def is_abandoned(self) -> bool:
        """Whether the event loop was closed under the turn."""
        return self._is_abandoned

    def _wake(self, waiting: list[asyncio.Future[None]]) -> None:
        woken, waiting[:] = waiting[:], []
        for future in woken:
            loop = future.get_loop()
            if loop.is_closed():
                continue
            if loop is self._loop:
                _resolve(future)
            else:
                loop.call_soon_threadsafe(_resolve, future)


def _resolve(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


def _loop_closed() -> CreateAgentsError:
    return CreateAgentsError(
        "The event loop in which this turn ran was closed before the turn ended: `response.text` has "
        "what arrived. Await responses inside the function that asyncio.run() is given"
    )


def _running_loop() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None
