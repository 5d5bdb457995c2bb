"""Work that must settle when its event loop ends.

asyncio has no callback for a closed loop. But a loop drops its timers when it is closed, and with them the
objects that only a timer refers to. This module knows callables, not turns.
"""

from __future__ import annotations

import asyncio
import atexit
import os
from collections.abc import Awaitable, Callable, Coroutine, Generator, Iterable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary, ref

__all__ = ["Running", "cancel_coroutine", "register", "settle_all", "wait_until_done"]

_NEVER_S = 10 * 365 * 86_400.0
_EXIT_S = 2.0
"""How long running work may take to settle when the process exits, in seconds."""


@dataclass(frozen=True, slots=True, eq=False)
class Running:
    """Something that runs on a loop.

    Attributes:
        abandon: settles it without the loop, which is closed.
        cancel: asks it to stop, on a loop that can still run.
        wait: waits until it has stopped.
    """

    abandon: Callable[[], None]
    cancel: Callable[[], None]
    wait: Callable[[], Awaitable[None]]


class _HeldByTimer:
    """Abandons the work on a loop when the loop drops the timer that holds this object."""

    def __init__(self) -> None:
        self.running: dict[Running, None] = {}

    def fire(self) -> None:
        """The timer's callback; it never fires."""

    def __del__(self) -> None:
        for running in list(self.running):
            running.abandon()


_holders: WeakKeyDictionary[asyncio.AbstractEventLoop, ref[_HeldByTimer]] = WeakKeyDictionary()


def register(loop: asyncio.AbstractEventLoop, running: Running) -> Callable[[], None]:
    """Abandon ``running`` if ``loop`` is closed; the function returned takes that back once it has ended."""
    reference = _holders.get(loop)
    holder = None if reference is None else reference()
    if holder is None:
        holder = _HeldByTimer()
        loop.call_later(_NEVER_S, holder.fire)
        _holders[loop] = ref(holder)
    entries = holder.running  # not the holder: it must go with the loop's timer
    entries[running] = None
    return lambda: entries.pop(running, None)


def reset() -> None:
    """Forget the loops; what runs on them is abandoned when they are closed, but no longer settled at exit."""
    _holders.clear()


def cancel_coroutine(coroutine: Coroutine[Any, Any, Any] | Generator[Any, Any, Any]) -> None:
    """Run a coroutine's cleanup without a loop, as if it was cancelled, as far as that goes."""
    # Not `close` alone: before Python 3.13 it does not reach through an async generator.
    with suppress(Exception, asyncio.CancelledError):
        coroutine.throw(asyncio.CancelledError())
    with suppress(Exception, asyncio.CancelledError):
        coroutine.close()


def settle_all() -> None:
    """At exit: stop what runs on loops that are neither running nor closed, as a kernel's is."""
    for loop_reference in _holders.keyrefs():
        loop = loop_reference()
        reference = None if loop is None else _holders.get(loop)
        holder = None if reference is None else reference()
        if loop is None or holder is None:
            continue
        if holder.running and not loop.is_closed() and not loop.is_running():
            entries = list(holder.running)
            for running in entries:
                running.cancel()
            with suppress(Exception):
                loop.run_until_complete(_wait_for_all(entries))


_PROCESS = os.getpid()


@atexit.register
def _settle_at_exit() -> None:
    if os.getpid() == _PROCESS:  # in a fork the loops belong to the parent
        settle_all()


async def wait_until_done(tasks: Iterable[asyncio.Future[Any]]) -> None:
    """Wait until all have ended. A first cancellation does not interrupt the wait, a second one does.

    For callers that were cancelled already and will raise that.
    """
    waiting = list(tasks)
    with suppress(asyncio.CancelledError):
        await asyncio.wait(waiting)
        return
    await asyncio.wait(waiting)


async def _wait_for_all(entries: list[Running]) -> None:
    async with asyncio.timeout(_EXIT_S):
        for running in entries:
            await running.wait()
