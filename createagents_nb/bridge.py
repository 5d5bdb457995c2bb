"""The one synchronous bridge: waiting for a coroutine where the caller cannot `await`.

Used by ``str(response)`` and by ``%%agent`` inside ``%%time`` or ``%%capture``. Everything else is async.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from contextlib import suppress
from typing import Any, TypeVar

from .errors import CreateAgentsError

__all__ = ["BridgeError", "run"]

T = TypeVar("T")


class BridgeError(CreateAgentsError, RuntimeError):
    """The running event loop cannot be re-entered (uvloop, for one); `await` instead."""


def run(coroutine: Coroutine[Any, Any, T]) -> T:
    """Run ``coroutine`` to its end and return its result, also while this thread's loop is running.

    A running loop is re-entered with nest-asyncio, which patches asyncio for the whole process from then on.
    An interrupt cancels the coroutine and lets it settle before it is raised.

    Raises:
        BridgeError: the running loop cannot be patched.

    Example:
        >>> run(asyncio.sleep(0, result="done"))
        'done'
    """
    try:
        loop = asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(coroutine)
    try:
        _nest(loop)
    except ValueError as error:
        coroutine.close()
        raise BridgeError(
            f"{type(loop).__module__} cannot wait inside a running loop: write `await …` instead"
        ) from error
    task = loop.create_task(coroutine)
    try:
        return loop.run_until_complete(task)
    finally:
        # Left early by an interrupt: a task that nobody waits for would go on.
        if not task.done():
            task.cancel()
            with suppress(asyncio.CancelledError):
                loop.run_until_complete(task)


def _nest(loop: asyncio.AbstractEventLoop) -> None:
    try:
        import nest_asyncio2 as nest_asyncio  # the one that Python 3.14 needs
    except ImportError:
        import nest_asyncio
    nest_asyncio.apply(loop)
