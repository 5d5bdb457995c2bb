"""Turns whose event loop ends under them: they are settled all the same.

asyncio tells nobody that a loop is closed. But a loop drops its timers then, and with them what they alone hold.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Generator, Iterable
from contextlib import suppress
from typing import TYPE_CHECKING, Any, TypeAlias
from weakref import WeakKeyDictionary, ref

if TYPE_CHECKING:
    from .agent.response import StreamingResponseDTO

__all__ = ["end", "ended", "settle_left_over", "turns_of"]

_NEVER_S = 10 * 365 * 86_400.0
_EXIT_S = 2.0
"""How long turns may take to settle when the process ends."""

_Turns: TypeAlias = "dict[StreamingResponseDTO, Callable[[], None]]"


class _HeldByTimer:
    """Abandons the turns of its loop when the loop lets go of it."""

    def __init__(self) -> None:
        self.turns: _Turns = {}

    def fire(self) -> None:
        """Never."""

    def __del__(self) -> None:
        for abandon in list(self.turns.values()):
            abandon()


_holders: WeakKeyDictionary[asyncio.AbstractEventLoop, ref[_HeldByTimer]] = WeakKeyDictionary()


def turns_of(loop: asyncio.AbstractEventLoop) -> _Turns:
    """The turns that run on ``loop``, each with what is called if the loop is closed before it has ended."""
    known = _holders.get(loop)
    holder = None if known is None else known()
    if holder is None:
        holder = _HeldByTimer()
        loop.call_later(_NEVER_S, holder.fire)
        _holders[loop] = ref(holder)
    return holder.turns


def end(coroutine: Coroutine[Any, Any, Any] | Generator[Any, Any, Any]) -> None:
    """Have a coroutine do what it does last, where no loop will: as if it was cancelled, and as far as it can."""
    # Not `close` alone: before Python 3.13 it does not reach through an async generator.
    with suppress(Exception, asyncio.CancelledError):
        coroutine.throw(asyncio.CancelledError())
    with suppress(Exception, asyncio.CancelledError):
        coroutine.close()


def settle_left_over() -> None:
    """At the exit of the process: stop what runs on loops that stand still, as a kernel's does."""
    for known_loop in _holders.keyrefs():
        loop = known_loop()
        known = None if loop is None else _holders.get(loop)
        holder = None if known is None else known()
        if loop is None or holder is None:
            continue
        if holder.turns and not loop.is_closed() and not loop.is_running():
            responses = list(holder.turns)
            for response in responses:
                response.cancel()
            with suppress(Exception):
                loop.run_until_complete(_all_ended(responses))


async def ended(tasks: Iterable[asyncio.Future[Any]]) -> None:
    """Wait until all have ended; a cancellation does not hurry what settles, the second gives up.

    For who was cancelled already and has its own to raise.
    """
    waiting = list(tasks)
    with suppress(asyncio.CancelledError):
        await asyncio.wait(waiting)
        return
    await asyncio.wait(waiting)


async def _all_ended(responses: list[StreamingResponseDTO]) -> None:
    async with asyncio.timeout(_EXIT_S):
        for response in responses:
            await response.wait()
