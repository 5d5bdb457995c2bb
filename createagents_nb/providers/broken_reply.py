"""What both decoders do with a reply that breaks: give the events before the break, then raise the error."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from ..agent.events import Event
from ..errors import IncompleteReplyError, ProtocolError, ProviderError

__all__ = ["broken", "incomplete", "is_cut", "then_raise"]


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
        f"The server sent broken data ({error}): {payload[:120]!r}…. Check base_url, or try again"
    )


def is_cut(payload: bytes) -> bool:
    """Whether a last payload that cannot be decoded is the beginning of one that could be."""
    return payload.lstrip()[:1] == b"{"
