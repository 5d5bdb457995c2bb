"""The base of the reply decoders. A broken reply yields the events before the break, then raises the error."""

from __future__ import annotations

import json
import re
import time
import uuid
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Literal, TypeVar

import msgspec

from ..core.events import Event, Reasoning, RoundEnded, ToolCallRequested, Usage
from ..errors import IncompleteReplyError, ProtocolError, ProviderError
from ..redaction import mask_known_keys
from ..text import one_line
from .transport import MAX_ERROR_BYTES
from .transport_errors import ForeignError, cleaned_json

__all__ = [
    "OutputClock",
    "ReplyDecoder",
    "ThinkingSplitter",
    "check_arguments",
    "excerpt",
    "incomplete_error",
    "new_tool_call",
    "redact_name",
    "repair_surrogates",
    "text_or_none",
]

T = TypeVar("T")


_HALF_A_PAIR = re.compile(rb"\\u[dD][89a-fA-F]")


_LAST_WORD = re.compile(rb"[\w.~+/=-]+$")


MAX_REPLY_BYTES = 512 * 2**20
"""Limit for an answer, which a turn keeps in memory; no model writes as much."""


MAX_SILENT_BYTES = 32 * 2**20
"""Limit for what precedes the first event of a stream."""


MAX_CALLS = 1_000
"""Limit for the tool calls in one reply."""


MAX_ARGUMENTS = 8 * 2**20
"""Limit for the arguments of one tool call, in characters."""


class ReplyDecoder(ABC):
    """Decodes one reply.

    Args:
        on_error: makes the error for an error object inside the reply.
        retries: how often the request was sent again before this reply.

    Attributes:
        is_complete: nothing that follows belongs to the answer.
        is_finished: the server has said that the answer ended; a usage may follow.
    """

    def __init__(self, *, on_error: Callable[[Any], ProviderError], retries: int) -> None:
        self._on_error = on_error
        self._retries = retries
        self._thinking = ThinkingSplitter()
        self._clock = OutputClock()
        self._seen = False
        self._size = 0
        self.is_complete = False
        self.is_finished = False
        self._call_count = 0

    def _count_bytes(self, block: bytes) -> None:
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

    def _error_in(self, body: msgspec.Raw) -> ProviderError | None:
        """Return the error for an error object in a reply; None for an empty one."""
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
        self._clock.record(events)
        return events if failure is None else _then_raise(events, failure)

    def _unterminated(self, payload: bytes) -> Iterable[Event]:
        """Return the events of a last payload without its terminator, which may be cut."""
        try:
            return list(self._events([payload]))
        except ProtocolError:
            if not _is_cut(payload):
                raise
            self._seen = True
            return ()

    def _withheld(self) -> Iterator[Event]:
        for event in self._thinking.finish():
            self._clock.record([event])
            yield event

    def _round_ended(
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
    """Return a name from a server as it may be recorded and shown: without keys, on one line."""
    return mask_known_keys(one_line(name))


def text_or_none(value: object) -> str | None:
    """Return a name or an id, which may be a number; None for anything else."""
    return str(value) if isinstance(value, str | int) else None


def new_tool_call(call_id: str | None, name: str, arguments: str) -> ToolCallRequested:
    """Return a tool call, with a new id if its own is blank or holds a key."""
    if not (call_id and call_id.strip()) or mask_known_keys(call_id) != call_id:
        call_id = f"call_{uuid.uuid4().hex[:12]}"
    return ToolCallRequested(call_id, mask_known_keys(name), arguments)


def check_arguments(size: int) -> None:
    """Raise ProtocolError if the arguments of a call, ``size`` characters, are longer than any tool takes."""
    if size > MAX_ARGUMENTS:
        raise ProtocolError(
            f"The model sent more than {MAX_ARGUMENTS // 2**20} MB of arguments for one tool. Try again"
        )


def _then_raise(events: Iterable[Event], error: ProviderError) -> Iterator[Event]:
    """Yield what arrived in the same block before an error, then raise it."""
    yield from events
    raise error


def incomplete_error() -> IncompleteReplyError:
    return IncompleteReplyError(
        "The connection ended before the answer did; the text so far is kept. Send the message again"
    )


def _broken(payload: bytes, error: Exception) -> ProtocolError:
    return ProtocolError(
        f"The server sent broken data ({error}): {excerpt(payload)!r}…. Check base_url, or try again"
    )


def excerpt(payload: bytes) -> bytes:
    """Return its beginning, for a message. No word is cut: half a key is not recognized as one."""
    return payload if len(payload) <= 120 else _LAST_WORD.sub(b"", payload[:120])


def repair_surrogates(decode: Callable[[bytes], T], payload: bytes, error: Exception) -> T:
    """Decode what ``decode`` refused with ``error``, with U+FFFD for each lone half of a surrogate pair.

    msgspec refuses those, and servers that cut text by UTF-16 units send them.

    Raises:
        ProtocolError: it is broken in another way.
    """
    if _HALF_A_PAIR.search(payload):
        try:
            text = json.dumps(json.loads(payload), ensure_ascii=False).encode("utf-16", "surrogatepass")
            return decode(text.decode("utf-16", "replace").encode())
        except (ValueError, RecursionError):
            pass
    raise _broken(payload, error) from ForeignError.of(error)


def _is_cut(payload: bytes) -> bool:
    """Return whether a last payload that cannot be decoded is the beginning of one that could be."""
    return payload.lstrip()[:1] == b"{" or b"[DONE]".startswith(payload.strip())


class OutputClock:
    """When output was generated. Reads the clock once per block of bytes, not once per token.

    Attributes:
        first_output_at: ``time.perf_counter()`` at the first text or tool call, which is what a user waits for.
    """

    def __init__(self) -> None:
        self.first_output_at: float | None = None
        self._first_at: float | None = None
        self._last_at: float | None = None

    def record(self, events: Sequence[Event], *, tool_call: bool = False) -> None:
        """Note that the block that was just read holds output."""
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
        """Seconds from the first to the last output, reasoning included; None if all came at once."""
        if self._first_at is None or self._last_at is None or self._last_at == self._first_at:
            return None
        return self._last_at - self._first_at


_THINK_OPEN, _THINK_CLOSE = "<think>", "</think>"


_MAX_BLANKS_BEFORE_THINK = 1_000
"""Limit for blanks before the tag; with each piece, all that is held back is searched again."""


class ThinkingSplitter:
    """Turns text as it arrives into text and `Reasoning`.

    Only a tag at the beginning counts, after a thousand blanks at most: later ones are text about tags.

    Attributes:
        transparent: nothing that follows can be reasoning.
    """

    def __init__(self) -> None:
        self.transparent = False
        self._phase: Literal["before", "inside", "after"] = "before"
        self._held = ""

    def feed(self, text: str) -> list[Event]:
        if self.transparent:
            return [text]
        self._held += text
        if self._phase == "before":
            start = self._held.lstrip()
            if len(self._held) - len(start) > _MAX_BLANKS_BEFORE_THINK:
                return self._rest()
            if not start.startswith(_THINK_OPEN):
                return [] if _THINK_OPEN.startswith(start) else self._rest()  # [] while not yet known
            self._phase, self._held = "inside", start[len(_THINK_OPEN) :]
        reasoning: list[Event] = []
        if self._phase == "inside":
            before, close, after = self._held.partition(_THINK_CLOSE)
            if not close:
                keep = _overlap(self._held)
                piece, self._held = self._held[: len(self._held) - keep], self._held[len(self._held) - keep :]
                return _reasoning(piece)
            self._phase, self._held = "after", after
            reasoning = _reasoning(before)
        self._held = self._held.lstrip()
        return [*reasoning, *self._rest()] if self._held else reasoning

    def finish(self) -> list[Event]:
        """Return what was held back until the text ended."""
        if self._phase == "inside":
            held, self._held = self._held, ""
            return _reasoning(held)
        return self._rest()

    def _rest(self) -> list[Event]:
        held, self._held, self.transparent = self._held, "", True
        return [held] if held else []


def _reasoning(text: str) -> list[Event]:
    return [Reasoning(text)] if text else []


def _overlap(text: str) -> int:
    """Return how many characters at the end of ``text`` may begin the closing tag."""
    return next((n for n in range(len(_THINK_CLOSE) - 1, 0, -1) if text.endswith(_THINK_CLOSE[:n])), 0)
