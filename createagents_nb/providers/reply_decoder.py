"""What both decoders share: a reply that breaks gives the events before the break, then raises the error."""

from __future__ import annotations

import json
import re
import time
import uuid
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, TypeVar

import msgspec

from ..core.events import Event, Reasoning, RoundEnded, ToolCallRequested, Usage
from ..errors import IncompleteReplyError, ProtocolError, ProviderError
from ..redaction import mask_known_keys
from ..text import one_line
from .thinking import ThinkingSplitter
from .transport import MAX_ERROR_BYTES
from .transport_errors import ForeignError, cleaned_json

__all__ = [
    "OutputClock",
    "ReplyDecoder",
    "check_arguments",
    "excerpt",
    "incomplete",
    "redact_name",
    "repair_surrogates",
    "requested",
    "text_or_none",
]

T = TypeVar("T")


_HALF_A_PAIR = re.compile(rb"\\u[dD][89a-fA-F]")


_WORD_AT_THE_END = re.compile(rb"[\w.~+/=-]+$")


MAX_REPLY_BYTES = 512 * 2**20
"""An answer is kept for replay, so its size bounds what a turn holds; no model says as much as this."""


MAX_SILENT_BYTES = 32 * 2**20
"""Of a reply to a stream in which no event has come yet."""


MAX_CALLS = 1_000


MAX_ARGUMENTS = 8 * 2**20
"""Characters, of one call."""


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
        self.is_finished = False
        """It has been said that the answer ended; a usage may follow."""
        self._call_count = 0

    def _weigh(self, block: bytes) -> None:
        self._size += len(block)
        if self._size > MAX_REPLY_BYTES:
            raise ProtocolError(
                f"The server sent more than {MAX_REPLY_BYTES // 2**20} MB in one answer; what arrived is kept. "
                "Limit it with config={'max_tokens': …}"
            )

    def _count_calls(self, more: int = 1) -> None:
        self._call_count += more
        if self._call_count > MAX_CALLS:
            raise ProtocolError(f"The model asked for more than {MAX_CALLS:,} tools at once. Try again")

    def _refused(self, body: msgspec.Raw) -> ProviderError | None:
        """The error for the error object in a reply; None for one in which nothing is."""
        raw = bytes(body)
        error: Any = raw[:MAX_ERROR_BYTES]
        if raw == error:
            try:
                error = msgspec.json.decode(raw)
            except (ValueError, RecursionError) as reason:
                error = repair_surrogates(msgspec.json.decode, raw, reason)
            error = cleaned_json(error, str)
        return self._on_error(error) if error else None

    @abstractmethod
    def feed(self, block: bytes) -> Iterable[Event]:
        """Return the events in a block. An error in it is raised when the events before it have been taken."""

    @abstractmethod
    def finish(self) -> Iterator[Event]:
        """Yield what was held back until the body ended, `RoundEnded` last."""

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

    def _ended(
        self, finish_reason: str | None, usage: Usage, model: str | None, generation_s: float | None
    ) -> RoundEnded:
        return RoundEnded(
            finish_reason and redact_name(finish_reason),
            usage,
            self._clock.first_output_at,
            generation_s,
            model and redact_name(model),
            self._retries,
        )


def redact_name(name: str) -> str:
    """A name that a server says, as it may be kept and shown: it may be the key."""
    return mask_known_keys(one_line(name))


def text_or_none(said: object) -> str | None:
    """A name or an id, a number too; None for what cannot be one."""
    return str(said) if isinstance(said, str | int) else None


def requested(call_id: str | None, name: str, arguments: str) -> ToolCallRequested:
    """A tool call under its own id, if that can be kept, else under one that is made up."""
    if not (call_id and call_id.strip()) or mask_known_keys(call_id) != call_id:
        call_id = f"call_{uuid.uuid4().hex[:12]}"
    return ToolCallRequested(call_id, mask_known_keys(name), arguments)


def check_arguments(size: int) -> None:
    """Raises ProtocolError where one call has more arguments, in characters, than any tool takes."""
    if size > MAX_ARGUMENTS:
        raise ProtocolError(
            f"The model sent more than {MAX_ARGUMENTS // 2**20} MB of arguments for one tool. Try again"
        )


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
        f"The server sent broken data ({error}): {excerpt(payload)!r}…. Check base_url, or try again"
    )


def excerpt(payload: bytes) -> bytes:
    """The beginning of it, for a message. No word is cut: half a key would not be known as one."""
    return payload if len(payload) <= 120 else _WORD_AT_THE_END.sub(b"", payload[:120])


def repair_surrogates(decode: Callable[[bytes], T], payload: bytes, error: Exception) -> T:
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
    raise broken(payload, error) from ForeignError.of(error)


def is_cut(payload: bytes) -> bool:
    """Whether a last payload that cannot be decoded is the beginning of one that could be."""
    return payload.lstrip()[:1] == b"{" or b"[DONE]".startswith(payload.strip())


class OutputClock:
    """Looks at the clock once a block of bytes, not once a token.

    Attributes:
        first_output_at: ``time.perf_counter()`` of the first text or tool call, which is what a user waits for.
    """

    def __init__(self) -> None:
        self.first_output_at: float | None = None
        self._first_at: float | None = None
        self._last_at: float | None = None

    def heard(self, events: Sequence[Event], *, tool_call: bool = False) -> None:
        """Something was generated in the block that has just been read."""
        if not events and not tool_call:
            return
        self._last_at = time.perf_counter()
        if self._first_at is None:
            self._first_at = self._last_at
        if self.first_output_at is None and (
            tool_call or any(not isinstance(event, Reasoning) for event in events)
        ):
            self.first_output_at = self._last_at

    @property
    def generation_s(self) -> float | None:
        """From the first to the last that was generated, reasoning included; None when all came at once."""
        if self._first_at is None or self._last_at is None or self._last_at == self._first_at:
            return None
        return self._last_at - self._first_at
