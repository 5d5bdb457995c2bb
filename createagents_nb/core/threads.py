"""Running blocking code in a daemon thread."""

from __future__ import annotations

import asyncio
import contextvars
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import TypeVar

__all__ = ["run_in_thread"]

T = TypeVar("T")


async def run_in_thread(call: Callable[[], T], name: str) -> T:
    """Run ``call`` in a new daemon thread with the caller's context variables, and return its result.

    ``call`` must not raise. If this coroutine is cancelled, the thread continues until ``call`` returns.

    Args:
        call: the blocking function.
        name: name of the thread.
    """
    # Not asyncio.to_thread: its pool is small, and the interpreter waits for its threads at exit.
    loop = asyncio.get_running_loop()
    result: asyncio.Future[T] = loop.create_future()
    context = contextvars.copy_context()

    def deliver(outcome: T) -> None:
        if not result.done():
            result.set_result(outcome)

    def run() -> None:
        outcome = context.run(call)
        with suppress(RuntimeError):  # the loop was closed meanwhile
            loop.call_soon_threadsafe(deliver, outcome)

    threading.Thread(target=run, name=name, daemon=True).start()
    return await result
