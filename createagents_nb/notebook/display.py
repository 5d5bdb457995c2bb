"""Displays responses in cells: live while they stream, static when they have ended."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from IPython.core.getipython import get_ipython
from IPython.display import display

from .. import bridge
from ..agent.response import StreamingResponseDTO
from ..core.preview import RequestPreview
from ..core.records import CellRef, current_cell
from ..errors import TurnStopped
from ..loop_shutdown import wait_until_done
from . import kernel_compat
from .frontends import has_page

if TYPE_CHECKING:
    from IPython.core.interactiveshell import InteractiveShell

    from ..create_agent import CreateAgent
    from ..render.turn_state import TurnTracker

__all__ = [
    "display_response",
    "install",
    "remove",
    "reset",
    "show",
    "show_again",
    "show_preview",
    "shown_responses",
    "watch",
]

_UPDATE_S = 0.045
"""Interval between updates. A message has an overhead of about 150 tokens."""

_MAX_SHOWN = 100

shown_responses: deque[StreamingResponseDTO] = deque(maxlen=_MAX_SHOWN)
"""The responses that cells of this notebook have shown, oldest first; for ``%agent show``."""
_last_cells: WeakKeyDictionary[StreamingResponseDTO, CellRef] = WeakKeyDictionary()
"""The cell in which each response was last shown live."""
_background_tasks: set[asyncio.Task[None]] = set()
"""Views of running responses that no cell waits for."""


def install(shell: InteractiveShell) -> None:
    """Make ``shell`` display responses with `display_response` and previews as HTML; forget earlier answers."""
    formatter = shell.display_formatter
    if formatter is not None:
        formatter.ipython_display_formatter.for_type(StreamingResponseDTO, display_response)
        formatter.formatters["text/html"].for_type(RequestPreview, _request_html)
    shown_responses.clear()


def remove(shell: InteractiveShell) -> None:
    """Undo `install`; do nothing if it was not called."""
    formatter = shell.display_formatter
    if formatter is not None:
        formatter.ipython_display_formatter.pop(StreamingResponseDTO, None)
        formatter.formatters["text/html"].pop(RequestPreview, None)


def reset() -> None:
    """End the views in the background, and forget which responses were shown."""
    shown_responses.clear()
    _last_cells.clear()
    for task in list(_background_tasks):
        task.cancel()
    _background_tasks.clear()


def _request_html(preview: RequestPreview) -> str:
    from ..render.request import request_html  # late, to keep %load_ext quick

    return request_html(preview)


async def show(value: Any) -> Any:
    """Show the responses in the value of a cell's last ``await …``, and return the value."""
    responses = _responses(value)
    shell = get_ipython()
    if not responses:
        return value
    if shell is not None and shell.displayhook.quiet():  # a trailing `;`: wait without showing anything
        for response in responses:
            await response
        return value
    await watch(*(response for response in responses if not _is_shown_here(response)))
    return _ShownList(value) if isinstance(value, list) and len(responses) == len(value) else value


async def watch(*responses: StreamingResponseDTO) -> None:
    """Show responses in this cell, one view each, until they have ended.

    Raises:
        TurnStopped: the cell was interrupted; the turns have been stopped and settled.
        ProviderError: a turn failed; the text that arrived is shown.
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
    """Show a response that is the value of a cell, unless it was streamed in this cell."""
    if _is_shown_here(response):
        return
    show_again(response)


def show_again(response: StreamingResponseDTO) -> None:
    """Show a response in this cell, even if it was shown before; in a page, a running one is followed."""
    if not response.done and has_page(get_ipython()):
        _follow_in_background(response)
        return
    if not response.done:
        # A terminal's event loop does not run between cells, and a headless runner ignores output of ended cells:
        # the cell waits.
        with suppress(Exception):  # shown with the response
            str(response)
    from ..render.bundle import render_bundle

    display(render_bundle(_full_tracker(response).snapshot()), raw=True)


def show_preview(prompt: str, find_agent: Callable[[], CreateAgent]) -> None:
    """Print a prompt, then show the whole request that an agent would send with it; nothing is sent.

    Args:
        find_agent: called after the prompt is printed; what it raises, such as a missing key, is raised here.
    """
    print(prompt)
    if prompt.strip():
        display(find_agent().preview(prompt))


def _follow_in_background(response: StreamingResponseDTO) -> None:
    try:
        loop = asyncio.get_running_loop()
    except RuntimeError:  # not the kernel's thread
        print(repr(response))
        return
    task = loop.create_task(_follow(response, with_error=True))
    _background_tasks.add(task)
    task.add_done_callback(_background_tasks.discard)


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
    # Imported late to keep %load_ext quick.
    from ..render.turn_state import TurnTracker
    from .views import open_view

    _last_cells[response] = current_cell.get()
    if response not in shown_responses:
        shown_responses.append(response)
    tracker = TurnTracker(response)
    view = open_view(get_ipython(), response, tracker)
    try:
        async for batch in response.batches(_UPDATE_S):
            tracker.apply(batch)
            view.update(batch)
    finally:
        view.close(_full_tracker(response).snapshot(with_error=with_error))


async def _stop(responses: Sequence[StreamingResponseDTO], following: list[asyncio.Task[None]]) -> None:
    """Stop the turns and wait until they have settled; a second interrupt is ignored, a third gives up."""
    for response in responses:
        response.cancel()
    try:
        await wait_until_done(following)
    except asyncio.CancelledError:
        for task in following:
            task.cancel()


def _full_tracker(response: StreamingResponseDTO) -> TurnTracker:
    from ..render.turn_state import TurnTracker

    tracker = TurnTracker(response)
    tracker.apply(response.events_so_far())
    return tracker


@contextmanager
def _interruptible() -> Iterator[None]:
    """Turn an interrupt into a cancellation in a terminal too, where it would be raised inside the event loop."""
    task = asyncio.current_task()
    if task is None or kernel_compat.has_kernel(get_ipython()):
        yield
        return
    with bridge.interrupt_cancels(task):
        yield


def _is_shown_here(response: StreamingResponseDTO) -> bool:
    return _last_cells.get(response) is current_cell.get()
