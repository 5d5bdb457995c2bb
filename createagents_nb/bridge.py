"""The one synchronous bridge: waiting for a coroutine where the caller cannot `await`.

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
    "run",
    "stop_requests",
]

_WATCH_INTERVAL_S = 0.1
_SETTLE_S = 0.5
"""So long after the first interrupt, others mean the same: raised, they would break into what settles."""

_Handler: TypeAlias = "Callable[[int, FrameType | None], Any] | int | None"
T = TypeVar("T")
E = TypeVar("E", bound=BaseException)

is_blocking_loop: ContextVar[bool] = ContextVar("createagents_nb_blocks_the_loop", default=False)
"""True inside `run` where a loop was running: whoever called that loop gets nothing done meanwhile."""

cell_task: ContextVar[asyncio.Task[Any] | None] = ContextVar("createagents_nb_cell_task", default=None)
"""In a notebook, the task of the cell: a KeyboardInterrupt that is raised in any other ends the kernel's loop."""


_interrupt_counts: WeakKeyDictionary[asyncio.Task[Any], int] = WeakKeyDictionary()


def stop_requests(task: asyncio.Task[Any] | None) -> int:
    """How often ``task`` was told to stop: cancelled, and not taken back, or interrupted while it was in `run`."""
    return 0 if task is None else task.cancelling() + _interrupt_counts.get(task, 0)


def run(coroutine: Coroutine[Any, Any, T]) -> T:
    """Run ``coroutine`` to its end and return its result, also while this thread's loop is running.

    A running loop is re-entered with nest-asyncio, which patches asyncio for the whole process from then on.
    An interrupt cancels the coroutine, lets it settle, and is raised then; one that comes half a second later or
    more is raised at once. In a notebook, a task that is not the cell's is cancelled by it, and so is the cell.

    Raises:
        BridgeError: the running loop cannot be patched.
        KeyboardInterrupt: interrupted, and the coroutine did not raise an error of its own for it.
        asyncio.CancelledError: the same, in a task that a notebook's cell has started.

    Example:
        >>> run(asyncio.sleep(0, result="done"))
        'done'
    """
    try:
        loop = asyncio.get_running_loop()
    except RuntimeError:
        # Not asyncio.run: nest-asyncio replaces it with one that leaves its loop open.
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
    # Without a notebook, whoever drives the loop, or blocks it further out, is told of an interrupt.
    is_in_cell = caller is cell or (cell is None and not _is_bridge_handler(signal.getsignal(signal.SIGINT)))
    # In this order: raised between the two, an interrupt would leave a task that nobody waits for.
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
            # Left early, by a second interrupt: a task that nobody waits for would go on.
            if not task.done():
                task.cancel()
                with suppress(asyncio.CancelledError):
                    loop.run_until_complete(task)


@contextmanager
def interrupt_cancels(task: asyncio.Task[Any]) -> Iterator[None]:
    """Inside, an interrupt cancels ``task`` where else it would be raised in whatever code runs just then.

    As `asyncio.run` does it. Does nothing off the main thread.
    """
    with _counting_interrupts() as interrupts:
        interrupts.cancel(task)
        yield


class _Interrupts:
    def __init__(self) -> None:
        self.count, self._first_at = 0, 0.0
        self.before: _Handler = None
        self.is_over = self.is_passed_on = False
        self._task: asyncio.Task[Any] | None = None

    def cancel(self, task: asyncio.Task[Any]) -> None:
        """The first interrupt cancels ``task``, also one that has been."""
        self._task = task
        if self.count:
            task.cancel()

    def on_interrupt(self, signum: int, frame: FrameType | None) -> None:
        if self.is_over:  # a cell that began inside and ended outside has put it back
            signal.signal(signal.SIGINT, self.before)
            if callable(self.before):
                self.before(signum, frame)
            elif self.before == signal.SIG_DFL:
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
        tells = self.is_passed_on and self.count == 1 and self.before is not signal.default_int_handler
        if tells and callable(self.before):
            self.before(signum, frame)


@contextmanager
def _counting_interrupts(*, passed_on: bool = False) -> Iterator[_Interrupts]:
    """Inside, interrupts are counted; the first is passed on to who heard it before, if that raises nothing."""
    before = signal.getsignal(signal.SIGINT)
    interrupts = _Interrupts()
    interrupts.before, interrupts.is_passed_on = before, passed_on
    if threading.current_thread() is not threading.main_thread() or before is None:
        yield interrupts
        return
    installed = interrupts.on_interrupt
    signal.signal(signal.SIGINT, installed)
    try:
        yield interrupts
    finally:
        interrupts.is_over = True
        # A cell may have begun inside and go on: it keeps its own.
        if signal.getsignal(signal.SIGINT) == installed:
            signal.signal(signal.SIGINT, before)


def _is_bridge_handler(handler: _Handler) -> bool:
    return isinstance(getattr(handler, "__self__", None), _Interrupts)


@contextmanager
def _loop_step_preserved(loop: asyncio.AbstractEventLoop) -> Iterator[None]:
    """Around what re-enters ``loop`` in the middle of one of its steps.

    asyncio counts the callbacks of a step and then takes as many; those that the inner steps have run would be
    missing, and the loop would end with an IndexError.
    """
    ready = getattr(loop, "_ready", ())
    left = len(ready)
    try:
        yield
    finally:
        for _ in range(left - len(ready)):
            loop.call_soon(_noop)


def _noop() -> None:
    pass


@contextmanager
def _cancelled_with_caller(task: asyncio.Task[Any]) -> Iterator[None]:
    """Inside, ``task`` is cancelled when the task that blocks here is: a kernel may do so, when ■ came early.

    That cancellation is taken back then. It would wait for the caller's next await, and a cell that ends with one
    before it takes its kernel with it. Before Python 3.13 not every task can take one back.
    """
    caller, loop = asyncio.current_task(), task.get_loop()
    if caller is None:
        yield
        return
    known = caller.cancelling()
    next_watch = loop.call_later(_WATCH_INTERVAL_S, lambda: watch())

    def watch() -> None:
        nonlocal next_watch
        if caller.cancelling() > known:
            task.cancel()
        else:
            next_watch = loop.call_later(_WATCH_INTERVAL_S, watch)

    try:
        yield
    finally:
        next_watch.cancel()
        while caller.cancelling() > known:
            caller.uncancel()
        if getattr(caller, "_must_cancel", False):
            with suppress(AttributeError):
                caller._must_cancel = False  # type: ignore[attr-defined]


def render_as_stopped(error: E, where: str = "") -> E:
    """``error``, as IPython will print it: one line, and not a page of frames for what the user did on purpose."""
    shown = TurnStopped(f"stopped by the user; what arrived is kept{where}")
    error._render_traceback_ = shown._render_traceback_  # type: ignore[attr-defined]
    return error


def _nest(loop: asyncio.AbstractEventLoop) -> None:
    try:
        import nest_asyncio2 as nest_asyncio  # the one that Python 3.14 needs
    except ImportError:
        import nest_asyncio
    nest_asyncio.apply(loop)
