"""Showing a response in a cell: live while it streams, static when it has ended."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from IPython.core.getipython import get_ipython
from IPython.display import display

from .. import bridge
from ..agent.response import StreamingResponseDTO
from ..core.records import CellRef, current_cell
from ..errors import TurnStopped
from ..loop_shutdown import wait_until_done
from . import kernel_compat
from .frontends import has_page

if TYPE_CHECKING:
    from IPython.core.interactiveshell import InteractiveShell

    from ..render.turn_state import TurnTracker

__all__ = ["display_response", "install", "remove", "show", "show_again", "watch"]

_UPDATE_S = 0.045
"""A little over 20 messages a second: each costs as many bytes as 150 tokens."""

_shown_in: WeakKeyDictionary[StreamingResponseDTO, CellRef] = WeakKeyDictionary()
_KEPT = 100
answers: deque[StreamingResponseDTO] = deque(maxlen=_KEPT)
"""What the cells of this notebook have shown, oldest first: for ``%agent show``."""
_background: set[asyncio.Task[None]] = set()


def install(shell: InteractiveShell) -> None:
    """Make ``shell`` display responses with `display_response`, and forget earlier answers."""
    formatter = shell.display_formatter
    if formatter is not None:
        formatter.ipython_display_formatter.for_type(StreamingResponseDTO, display_response)
    answers.clear()


def remove(shell: InteractiveShell) -> None:
    """Undo `install`; do nothing if it was not called."""
    formatter = shell.display_formatter
    if formatter is not None:
        formatter.ipython_display_formatter.pop(StreamingResponseDTO, None)


async def show(value: Any) -> Any:
    """The value of a cell's last ``await …``, after the responses in it have streamed."""
    responses = _responses(value)
    shell = get_ipython()
    if not responses:
        return value
    if shell is not None and shell.displayhook.quiet():  # a trailing `;`: wait, and show nothing
        for response in responses:
            await response
        return value
    await watch(*(response for response in responses if not _is_shown_here(response)))
    return _ShownList(value) if isinstance(value, list) and len(responses) == len(value) else value


async def watch(*responses: StreamingResponseDTO) -> None:
    """Show responses in this cell, each in a view of its own, until they have ended.

    Raises:
        TurnStopped: the cell was interrupted; the turns have been stopped and settled.
        ProviderError: a turn failed; what arrived is shown.
    """
    if not responses:
        return
    with _interruptible():
        following = [
            asyncio.create_task(_follow(response, with_error=len(responses) > 1)) for response in responses
        ]
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
    """Show a response in this cell, wherever it was shown before; in a page, a running one is followed."""
    if not response.done and has_page(get_ipython()):
        _follow_in_background(response)
        return
    if not response.done:
        # A terminal's loop stands still between cells, and a headless runner takes no output of a cell that has
        # ended: here the cell waits.
        with suppress(Exception):  # it is shown with the rest
            str(response)
    from ..render.bundle import render_bundle

    display(render_bundle(_whole(response).snapshot()), raw=True)


def _follow_in_background(response: StreamingResponseDTO) -> None:
    try:
        loop = asyncio.get_running_loop()
    except RuntimeError:  # another thread than the kernel's
        print(repr(response))
        return
    task = loop.create_task(_follow(response, with_error=True))
    _background.add(task)
    task.add_done_callback(_background.discard)


class _ShownList(list[StreamingResponseDTO]):
    def _ipython_display_(self) -> None:
        for response in self:
            display_response(response)


def _responses(value: Any) -> list[StreamingResponseDTO]:
    if isinstance(value, StreamingResponseDTO):
        return [value]
    if isinstance(value, list | tuple):
        return [item for item in value if isinstance(item, StreamingResponseDTO)]
    return []


async def _follow(response: StreamingResponseDTO, *, with_error: bool) -> None:
    from ..render.turn_state import (
        TurnTracker,  # rendering is loaded when something is shown: %load_ext stays quick
    )
    from .views import open_view

    _shown_in[response] = current_cell.get()
    if response not in answers:
        answers.append(response)
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
    try:
        await wait_until_done(following)
    except asyncio.CancelledError:
        for task in following:
            task.cancel()


def _whole(response: StreamingResponseDTO) -> TurnTracker:
    from ..render.turn_state import TurnTracker

    tracker = TurnTracker(response)
    tracker.apply(response.events_so_far())
    return tracker


@contextmanager
def _interruptible() -> Iterator[None]:
    """A kernel makes an interrupt a cancellation; in a terminal it would be raised somewhere in the loop."""
    task = asyncio.current_task()
    if task is None or kernel_compat.has_kernel(get_ipython()):
        yield
        return
    with bridge.interrupt_cancels(task):
        yield


def _is_shown_here(response: StreamingResponseDTO) -> bool:
    return _shown_in.get(response) is current_cell.get()
