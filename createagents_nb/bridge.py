"""The one synchronous bridge: waiting for a coroutine where the caller cannot `await`.

Used by ``str(response)``, by ``%%agent`` inside ``%%time`` or ``%%capture``, and by ``%agent models``. Everything
else is async.
"""

from __future__ import annotations

import asyncio
import signal
import threading
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from types import FrameType
from typing import Any, TypeVar

from .errors import BridgeError, TurnStopped

__all__ = ["BridgeError", "blocks_the_loop", "interrupt_cancels", "run", "shown_as_stopped"]

T = TypeVar("T")
E = TypeVar("E", bound=BaseException)

blocks_the_loop: ContextVar[bool] = ContextVar("createagents_nb_blocks_the_loop", default=False)
"""True inside `run` where a loop was running: whoever called that loop gets nothing done meanwhile."""


def run(coroutine: Coroutine[Any, Any, T]) -> T:
    """Run ``coroutine`` to its end and return its result, also while this thread's loop is running.

    A running loop is re-entered with nest-asyncio, which patches asyncio for the whole process from then on.
    An interrupt cancels the coroutine, lets it settle, and is raised then; a second one is raised at once.

    Raises:
        BridgeError: the running loop cannot be patched.
        KeyboardInterrupt: interrupted, and the coroutine did not raise an error of its own for it.

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
    before = blocks_the_loop.set(True)
    task = loop.create_task(coroutine)
    blocks_the_loop.reset(before)
    with interrupt_cancels(task) as was_interrupted:
        try:
            return loop.run_until_complete(task)
        except asyncio.CancelledError:
            if was_interrupted():
                raise shown_as_stopped(KeyboardInterrupt()) from None
            raise
        finally:
            # Left early, by a second interrupt: a task that nobody waits for would go on.
            if not task.done():
                task.cancel()
                with suppress(asyncio.CancelledError):
                    loop.run_until_complete(task)


@contextmanager
def interrupt_cancels(task: asyncio.Task[Any]) -> Iterator[Callable[[], bool]]:
    """Inside, an interrupt cancels ``task`` where else it would be raised in whatever code runs just then.

    As `asyncio.run` does it. Does nothing off the main thread. Gives a function that tells whether it happened.
    """
    loop = task.get_loop()
    interrupts = 0

    def on_interrupt(signum: int, frame: FrameType | None) -> None:
        nonlocal interrupts
        interrupts += 1
        if interrupts > 1 or task.done():
            raise KeyboardInterrupt
        task.cancel()
        loop.call_soon_threadsafe(lambda: None)  # wakes the loop

    before = signal.getsignal(signal.SIGINT)
    if threading.current_thread() is not threading.main_thread() or before is None:
        yield lambda: False
        return
    signal.signal(signal.SIGINT, on_interrupt)
    try:
        yield lambda: interrupts > 0
    finally:
        signal.signal(signal.SIGINT, before)


def shown_as_stopped(error: E) -> E:
    """``error``, as IPython will print it: one line, and not a page of frames for what the user did on purpose."""
    shown = TurnStopped("stopped by the user; what arrived is kept")
    error._render_traceback_ = shown._render_traceback_  # type: ignore[attr-defined]
    return error


def _nest(loop: asyncio.AbstractEventLoop) -> None:
    try:
        import nest_asyncio2 as nest_asyncio  # the one that Python 3.14 needs
    except ImportError:
        import nest_asyncio
    nest_asyncio.apply(loop)
