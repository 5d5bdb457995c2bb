"""Showing a response in a cell: live while it streams, static when it has ended."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any
from weakref import WeakKeyDictionary

from IPython.core.getipython import get_ipython
from IPython.core.interactiveshell import InteractiveShell
from IPython.display import display

from ..agent.stream import StreamingResponseDTO
from ..errors import TurnStopped
from .static_bundle import render_bundle
from .tracker import TurnTracker
from .views import open_view

__all__ = ["display_response", "install", "remove", "show", "show_again", "watch"]

_UPDATE_S = 0.04
_HEARTBEAT_S = 0.1

_shown_in: WeakKeyDictionary[StreamingResponseDTO, int | None] = WeakKeyDictionary()
_background: set[asyncio.Task[None]] = set()


def install(shell: InteractiveShell) -> None:
    StreamingResponseDTO.display_hook = display_response


def remove() -> None:
    StreamingResponseDTO.display_hook = None


async def show(value: Any) -> Any:
    """The value of a cell's last ``await …``, after the responses in it have streamed."""
    responses = _responses(value)
    shell = get_ipython()
    if not responses or (shell is not None and shell.displayhook.quiet()):
        return value
    await watch(*(response for response in responses if not _is_shown_here(response)))
    return value if isinstance(value, StreamingResponseDTO) else _ShownList(value)


async def watch(*responses: StreamingResponseDTO) -> None:
    """Show responses in this cell, each in a view of its own, until they have ended.

    Raises:
        TurnStopped: the cell was interrupted; the turns have been stopped and settled.
        ProviderError: a turn failed; what arrived is shown.
    """
    if not responses:
        return
    async with _heartbeat():
        following = [asyncio.create_task(_follow(response, with_error=False)) for response in responses]
        try:
            await asyncio.wait(following)
        except asyncio.CancelledError:
            await _stop(responses, following)
            raise TurnStopped("stopped by the user; what arrived is kept") from None
    for task in following:
        task.result()
    for response in responses:
        await response


def display_response(response: StreamingResponseDTO) -> None:
    """How a response shows itself as a value: not at all in the cell where it streamed."""
    if _is_shown_here(response):
        return
    show_again(response)


def show_again(response: StreamingResponseDTO) -> None:
    """Show a response in this cell, wherever it was shown before; a running one is followed in the background."""
    if response.done:
        display(render_bundle(_whole(response).snapshot()), raw=True)
        return
    try:
        loop = asyncio.get_running_loop()
    except RuntimeError:
        print(repr(response))
        return
    task = loop.create_task(_follow(response, with_error=True))
    _background.add(task)
    task.add_done_callback(_background.discard)


class _ShownList(list[StreamingResponseDTO]):
    def _ipython_display_(self) -> None:
        for response in self:
            response._ipython_display_()


def _responses(value: Any) -> list[StreamingResponseDTO]:
    if isinstance(value, StreamingResponseDTO):
        return [value]
    if isinstance(value, list) and value and all(isinstance(item, StreamingResponseDTO) for item in value):
        return value
    return []


async def _follow(response: StreamingResponseDTO, *, with_error: bool) -> None:
    _shown_in[response] = _execution_count()
    tracker = TurnTracker(response)
    view = open_view(get_ipython(), response, tracker)
    try:
        async for batch in response.batches(_UPDATE_S):
            tracker.apply(batch)
            view.update(batch)
    finally:
        view.close(_whole(response).snapshot(with_error=with_error))


async def _stop(responses: Sequence[StreamingResponseDTO], following: list[asyncio.Task[None]]) -> None:
    """Stop the turns and wait until they have settled; a second interrupt does not hurry it, a third gives up."""
    for response in responses:
        response.cancel()
    for _ in range(2):
        with suppress(asyncio.CancelledError):
            await asyncio.wait(following)
            return
    for task in following:
        task.cancel()


def _whole(response: StreamingResponseDTO) -> TurnTracker:
    tracker = TurnTracker(response)
    tracker.apply(response.events_so_far())
    return tracker


@asynccontextmanager
async def _heartbeat() -> AsyncGenerator[None, None]:
    """Keeps an idle loop turning: a kernel delivers an interrupt with the next event of its loop, not before."""
    loop = asyncio.get_running_loop()

    timers: list[asyncio.TimerHandle] = []

    def beat() -> None:
        timers[:] = [loop.call_later(_HEARTBEAT_S, beat)]

    beat()
    try:
        yield
    finally:
        timers[0].cancel()


def _is_shown_here(response: StreamingResponseDTO) -> bool:
    return response in _shown_in and _shown_in[response] == _execution_count()


def _execution_count() -> int | None:
    shell = get_ipython()
    return shell.execution_count if shell is not None else None
