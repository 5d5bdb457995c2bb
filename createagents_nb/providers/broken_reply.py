"""What both decoders share: a reply that breaks gives the events before the break, then raises the error."""

from __future__ import annotations

import asyncio
import json
import re
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from contextlib import suppress
from typing import Any, TypeVar

from ..agent.events import Event
from ..errors import IncompleteReplyError, ProtocolError, ProviderError
from .output_clock import OutputClock
from .thinking import ThinkingSplitter

__all__ = ["ReplyDecoder", "incomplete", "mended", "shown"]

T = TypeVar("T")

_HALF_A_PAIR = re.compile(rb"\\u[dD][89a-fA-F]")
_WORD_AT_THE_END = re.compile(rb"[\w.~+/=-]+$")

MAX_REPLY_BYTES = 512 * 2**20
"""An answer is kept for replay, so its size bounds what a turn holds; no model says as much as this."""
MAX_SILENT_BYTES = 32 * 2**20
"""Of a reply to a stream in which no event has come yet."""


_TAIL_S = 0.25


class ReplyDecoder(ABC):
    """Reads the payloads of one reply.

    Args:
        on_error: makes the error for an error object inside the reply.
        retries: how often the request was sent before.
    """

    def __init__(self, *, on_error: Callable[[Any], ProviderError], retries: int) -> None:
        self._on_error = on_error
        self._retries = retries
        self._thinking = ThinkingSplitter()
        self._clock = OutputClock()
        self._seen = False
        self._size = 0
        self.is_complete = False
        """Nothing that follows belongs to the answer."""

    def _weigh(self, block: bytes) -> None:
        self._size += len(block)
        if self._size > MAX_REPLY_BYTES:
            raise ProtocolError(
                f"The server sent more than {MAX_REPLY_BYTES // 2**20} MB in one answer; what arrived is kept. "
                "Limit it with config={'max_tokens': …}"
            )

    @abstractmethod
    def _read(self, payloads: list[bytes], events: list[Event]) -> None:
        """Append the events in ``payloads``; raise what breaks."""

    def _events(self, payloads: list[bytes]) -> Iterable[Event]:
        events: list[Event] = []
        failure: ProviderError | None = None
        try:
            self._read(payloads, events)
        except ProviderError as error:
            failure = error
        self._clock.heard(events)
        return events if failure is None else then_raise(events, failure)

    def _last(self, payload: bytes) -> Iterable[Event]:
        """A payload without its end: whole, or cut with the connection."""
        try:
            return list(self._events([payload]))
        except ProtocolError:
            if not is_cut(payload):
                raise
            self._seen = True
            return ()

    def _held_back(self) -> Iterator[Event]:
        for event in self._thinking.finish():
            self._clock.heard([event])
            yield event


async def read_to_the_end(blocks: AsyncIterator[bytes]) -> None:
    """What comes behind a complete answer, so that the connection can be used again.

    What breaks there takes nothing from the answer, and a server that does not end the body is not waited for.
    """
    with suppress(Exception):
        async with asyncio.timeout(_TAIL_S):
            async for _ in blocks:
                pass


def then_raise(events: Iterable[Event], error: ProviderError) -> Iterator[Event]:
    """What arrived in the same block before the error has arrived, and is kept."""
    yield from events
    raise error


def incomplete() -> IncompleteReplyError:
    return IncompleteReplyError(
        "The connection ended before the answer did; the text so far is kept. Send the message again"
    )


def broken(payload: bytes, error: Exception) -> ProtocolError:
    return ProtocolError(
        f"The server sent broken data ({error}): {shown(payload)!r}…. Check base_url, or try again"
    )


def shown(payload: bytes) -> bytes:
    """The beginning of it, for a message. No word is cut: half a key would not be known as one."""
    return payload if len(payload) <= 120 else _WORD_AT_THE_END.sub(b"", payload[:120])


def mended(decode: Callable[[bytes], T], payload: bytes, error: Exception) -> T:
    """What ``decode`` refused with ``error``, with U+FFFD for each half of a surrogate pair that stands alone.

    msgspec refuses those; servers that cut a text by its UTF-16 units send them.

    Raises:
        ProtocolError: it is broken otherwise too.
    """
    if _HALF_A_PAIR.search(payload):
        try:
            text = json.dumps(json.loads(payload), ensure_ascii=False).encode("utf-16", "surrogatepass")
            return decode(text.decode("utf-16", "replace").encode())
        except (ValueError, RecursionError):
            pass
    raise broken(payload, error) from error.with_traceback(None)


def is_cut(payload: bytes) -> bool:
    """Whether a last payload that cannot be decoded is the beginning of one that could be."""
    return payload.lstrip()[:1] == b"{"
