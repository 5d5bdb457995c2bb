"""The synchronous bridge: wait for a coroutine where the caller cannot `await`.

Used by ``str(response)``, by ``%%agent`` inside ``%%time`` or ``%%capture``, and by ``%agent models``. Everything
else is async.
"""

from __future__ import annotations

import asyncio
import signal
import threading
import time
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from types import FrameType
from typing import Any, TypeAlias, TypeVar
from weakref import WeakKeyDictionary

from .errors import BridgeError, TurnStopped

__all__ = [
    "BridgeError",
    "cell_task",
    "interrupt_cancels",
    "is_blocking_loop",
    "render_as_stopped",
    "reset",
    "run",
    "stop_requests",
]

_WATCH_INTERVAL_S = 0.1
_SETTLE_S = 0.5
"""Interrupts within this time of the first are ignored: raising them would break into cleanup code."""

_Handler: TypeAlias = "Callable[[int, FrameType | None], Any] | int | None"
T = TypeVar("T")
E = TypeVar("E", bound=BaseException)

is_blocking_loop: ContextVar[bool] = ContextVar("createagents_nb_is_blocking_loop", default=False)
"""True in a coroutine that `run` drives by re-entering a running loop: the loop's owner is blocked meanwhile."""

cell_task: ContextVar[asyncio.Task[Any] | None] = ContextVar("createagents_nb_cell_task", default=None)
"""The task of the notebook's cell. A KeyboardInterrupt raised in any other task ends the kernel's event loop."""


_interrupt_counts: WeakKeyDictionary[asyncio.Task[Any], int] = WeakKeyDictionary()
"""Interrupts received by each task while it was blocked in `run`."""


def reset() -> None:
    """Forget the interrupts counted so far. A loop that nest-asyncio has patched stays patched."""
    _interrupt_counts.clear()


def stop_requests(task: asyncio.Task[Any] | None) -> int:
    """Count the requests to stop ``task``: pending cancellations, and interrupts while it was blocked in `run`."""
    return 0 if task is None else task.cancelling() + _interrupt_counts.get(task, 0)


def run(coroutine: Coroutine[Any, Any, T]) -> T:
    """Run ``coroutine`` to completion and return its result, even while this thread's loop is running.

    A running loop is re-entered with nest-asyncio, which patches asyncio for the rest of the process.
    An interrupt cancels the coroutine, waits for its cleanup and is then raised; another one half a second or more
    later is raised immediately. In a notebook, an interrupt in a task other than the cell's cancels that task and
    the cell.

    Raises:
        BridgeError: the running loop cannot be patched.
        KeyboardInterrupt: the call was interrupted and the coroutine did not raise another error.
        asyncio.CancelledError: the same, in a task started by a notebook's cell.

    Example:
        >>> run(asyncio.sleep(0, result="done"))
        'done'
    """
    try:
        loop = asyncio.get_running_loop()
    except RuntimeError:
        # nest-asyncio replaces asyncio.run with a version that does not close its loop.
        with asyncio.Runner() as runner:
            return runner.run(coroutine)
    try:
        _nest(loop)
    except ValueError as error:
        coroutine.close()
        raise BridgeError(
            f"{type(loop).__module__} cannot wait inside a running loop: write `await …` instead"
        ) from error
    caller, cell = asyncio.current_task(), cell_task.get()
    # Outside a notebook, the interrupt is passed on to the loop's owner or to an outer `run`.
    is_in_cell = caller is cell or (cell is None and not _is_bridge_handler(signal.getsignal(signal.SIGINT)))
    # Count interrupts before creating the task: one raised in between would leave an orphaned task.
    with _loop_step_preserved(loop), _counting_interrupts(passed_on=not is_in_cell) as interrupts:
        before = is_blocking_loop.set(True)
        task = loop.create_task(coroutine)
        is_blocking_loop.reset(before)
        interrupts.cancel(task)
        try:
            with _cancelled_with_caller(task):
                return loop.run_until_complete(task)
        except (asyncio.CancelledError, KeyboardInterrupt) as error:
            if interrupts.count and caller is not None:
                _interrupt_counts[caller] = _interrupt_counts.get(caller, 0) + 1
            if not interrupts.count and isinstance(error, asyncio.CancelledError):
                render_as_stopped(error)
                raise
            raise render_as_stopped(KeyboardInterrupt() if is_in_cell else asyncio.CancelledError()) from None
        finally:
            # A later interrupt was raised in here: do not leave an orphaned task running.
            if not task.done():
                task.cancel()
                with suppress(asyncio.CancelledError):
                    loop.run_until_complete(task)


@contextmanager
def interrupt_cancels(task: asyncio.Task[Any]) -> Iterator[None]:
    """Make an interrupt cancel ``task`` instead of raising in whatever code is running, as `asyncio.run` does.

    Does nothing off the main thread.
    """
    with _counting_interrupts() as interrupts:
        interrupts.cancel(task)
        yield


class _Interrupts:
    """A SIGINT handler that cancels a task on the first interrupt and raises on a late one."""

    def __init__(self) -> None:
        self.count, self._first_at = 0, 0.0
        self.previous: _Handler = None
        self.is_over = self.is_passed_on = False
        self._task: asyncio.Task[Any] | None = None

    def cancel(self, task: asyncio.Task[Any]) -> None:
        """Cancel ``task`` on the first interrupt, including one already received."""
        self._task = task
        if self.count:
            task.cancel()

    def on_interrupt(self, signum: int, frame: FrameType | None) -> None:
        if self.is_over:  # reinstalled by a cell that began inside the context and ended after it
            signal.signal(signal.SIGINT, self.previous)
            if callable(self.previous):
                self.previous(signum, frame)
            elif self.previous == signal.SIG_DFL:
                signal.raise_signal(signum)
            return
        self.count += 1
        task, now = self._task, time.monotonic()
        if self.count == 1:
            self._first_at = now
        if now - self._first_at >= _SETTLE_S or (task is not None and task.done()):
            raise KeyboardInterrupt
        if task is not None and self.count == 1:
            task.cancel()
            task.get_loop().call_soon_threadsafe(_noop)  # wakes the loop
        passes_on = self.is_passed_on and self.count == 1 and self.previous is not signal.default_int_handler
        if passes_on and callable(self.previous):
            self.previous(signum, frame)


@contextmanager
def _counting_interrupts(*, passed_on: bool = False) -> Iterator[_Interrupts]:
    """Count interrupts instead of raising them.

    With ``passed_on``, the first also goes to the previous handler, unless that is Python's default, which raises.
    """
    previous = signal.getsignal(signal.SIGINT)
    interrupts = _Interrupts()
    interrupts.previous, interrupts.is_passed_on = previous, passed_on
    if threading.current_thread() is not threading.main_thread() or previous is None:
        yield interrupts
        return
    handler = interrupts.on_interrupt
    signal.signal(signal.SIGINT, handler)
    try:
        yield interrupts
    finally:
        interrupts.is_over = True
        # A cell that began in here and is still running has its own handler installed: leave it.
        if signal.getsignal(signal.SIGINT) == handler:
            signal.signal(signal.SIGINT, previous)


def _is_bridge_handler(handler: _Handler) -> bool:
    return isinstance(getattr(handler, "__self__", None), _Interrupts)


@contextmanager
def _loop_step_preserved(loop: asyncio.AbstractEventLoop) -> Iterator[None]:
    """Refill the ready queue of ``loop`` after it is re-entered in the middle of a step.

    `BaseEventLoop._run_once` counts the ready callbacks once and then pops that many. The nested steps have run
    some of them, so without placeholders the outer step would end in an IndexError.
    https://github.com/python/cpython/blob/3.13/Lib/asyncio/base_events.py
    """
    ready = getattr(loop, "_ready", ())  # only asyncio's own loops have it
    count = len(ready)
    try:
        yield
    finally:
        for _ in range(count - len(ready)):
            loop.call_soon(_noop)


def _noop() -> None:
    pass


@contextmanager
def _cancelled_with_caller(task: asyncio.Task[Any]) -> Iterator[None]:
    """Cancel ``task`` when the blocked caller is cancelled, as a kernel does for an interrupt that arrives early.

    The caller's cancellation is then withdrawn: left pending until its next await, it would end the kernel if the
    cell ends first. Before Python 3.13, `uncancel` does not clear a pending cancellation, and the flag of a C task
    is read-only. https://github.com/python/cpython/pull/117407
    """
    caller, loop = asyncio.current_task(), task.get_loop()
    if caller is None:
        yield
        return
    cancellations = caller.cancelling()
    next_watch = loop.call_later(_WATCH_INTERVAL_S, lambda: watch())

    def watch() -> None:
        nonlocal next_watch
        if caller.cancelling() > cancellations:
            task.cancel()
        else:
            next_watch = loop.call_later(_WATCH_INTERVAL_S, watch)

    try:
        yield
    finally:
        next_watch.cancel()
        while caller.cancelling() > cancellations:
            caller.uncancel()
        if getattr(caller, "_must_cancel", False):
            with suppress(AttributeError):
                caller._must_cancel = False  # type: ignore[attr-defined]


def render_as_stopped(error: E, where: str = "") -> E:
    """Make IPython print ``error`` as one line: the user stopped the cell on purpose and needs no traceback.

    Args:
        error: the exception to mark; it is returned.
        where: appended to the line, to say where the results are.
    """
    stopped = TurnStopped(f"stopped by the user; what arrived is kept{where}")
    error._render_traceback_ = stopped._render_traceback_  # type: ignore[attr-defined]
    return error


def _nest(loop: asyncio.AbstractEventLoop) -> None:
    try:
        import nest_asyncio2 as nest_asyncio  # required by Python 3.14
    except ImportError:
        import nest_asyncio
    nest_asyncio.apply(loop)
