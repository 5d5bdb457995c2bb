"""What blocks, in a thread of its own."""

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
    """What ``call`` returns, which must not raise; it is given the caller's context variables.

    Cancelled, this returns at once, and the thread goes on until ``call`` returns by itself.
    """
    # Not asyncio.to_thread: its pool has few threads, and the interpreter waits for them when it exits.
    loop = asyncio.get_running_loop()
    arrived: asyncio.Future[T] = loop.create_future()
    context = contextvars.copy_context()

    def deliver(outcome: T) -> None:
        if not arrived.done():
            arrived.set_result(outcome)

    def run() -> None:
        outcome = context.run(call)
        with suppress(RuntimeError):  # the loop was closed meanwhile: nobody is waiting
            loop.call_soon_threadsafe(deliver, outcome)

    threading.Thread(target=run, name=name, daemon=True).start()
    return await arrived
