"""From the bytes of a reply to its payloads (SSE and NDJSON), and the base of the decoders that read them.

A broken reply yields the events before the break, then raises the error. No I/O.
"""

from __future__ import annotations

import json
import re
import time
import uuid
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Literal, TypeVar

import msgspec

from ..core.events import (
    Event,
    ProviderDetails,
    Reasoning,
    ReplySource,
    RoundEnded,
    ServerToolStep,
    ToolCallRequested,
    Usage,
)
from ..errors import EmptyReplyError, IncompleteReplyError, ProtocolError, ProviderError
from ..redaction import mask_known_keys
from ..text import one_line
from .transport import MAX_ERROR_BYTES
from .transport_errors import ForeignError, cleaned_json

__all__ = [
    "BOM",
    "EventStreamReplyDecoder",
    "NDJSONDecoder",
    "OutputClock",
    "ReplyDecoder",
    "SSEDecoder",
    "ThinkingSplitter",
    "check_arguments",
    "decode_raw",
    "decode_whole",
    "excerpt",
    "incomplete_error",
    "new_tool_call",
    "not_json",
    "redact_name",
    "repair_surrogates",
    "text_or_none",
]

_MAX_PENDING = 16 * 2**20
"""Limit for one payload; decoded it may take 25 times as much."""

BOM = b"\xef\xbb\xbf"

# ── framing: blocks, cut anywhere, into payloads ─────────────────────────────────────────────────────────


class _Splitter:
    """Splits at a separator, and keeps what follows the last one.

    A payload that arrives in many blocks is joined once, when it ends: joining and searching it again with each
    block would be quadratic in its length.
    """

    def __init__(self, separator: bytes) -> None:
        self._separator = separator
        self._rest: bytes | bytearray = b""

    def _split(self, block: bytes) -> list[bytes]:
        rest, separator = self._rest, self._separator
        if rest:
            if separator not in block and separator not in rest[-1:] + block[:1]:
                if type(rest) is not bytearray:
                    self._rest = rest = bytearray(rest)
                rest += block
                _check_size(rest)
                return []
            block = bytes(rest) + block
        parts = block.split(separator)
        self._rest = parts.pop()
        _check_size(self._rest)
        return parts

    def _take_rest(self) -> bytes:
        rest, self._rest = bytes(self._rest), b""
        return rest


class NDJSONDecoder(_Splitter):
    """NDJSON: one payload per line. Skips empty lines, and a byte order mark before the first.

    Raises:
        ProtocolError: more than 16 MB without a line end.
    """

    def __init__(self) -> None:
        super().__init__(b"\n")
        self._has_begun = False

    def feed(self, block: bytes) -> list[bytes]:
        lines = self._split(block)
        if lines and not self._has_begun:
            self._has_begun = True
            lines[0] = lines[0].removeprefix(BOM)
        return [line for line in lines if line and not line.isspace()]

    def finish(self) -> list[bytes]:
        """Return a last line without a line end."""
        rest = self._take_rest()
        if not self._has_begun:
            rest = rest.removeprefix(BOM)
        return [rest] if rest.strip() else []


class SSEDecoder(_Splitter):
    """Server-sent events: the data of each event (WHATWG HTML, "Interpreting an event stream").

    One deviation, because some servers close too early: a last event without its blank line counts.

    Raises:
        ProtocolError: more than 16 MB in one event.
    """

    def __init__(self) -> None:
        super().__init__(b"\n\n")
        self._has_begun = False
        self._after_cr = False

    def feed(self, block: bytes) -> list[bytes]:
        if not self._has_begun:
            block = self._take_rest() + block
            if len(block) < len(BOM) and BOM.startswith(block):
                self._rest = block
                return []
            self._has_begun = True
            block = block.removeprefix(BOM)
        if self._after_cr and block:
            block = block.removeprefix(b"\n")
            self._after_cr = False
        if b"\r" in block:
            # A CR at the end of a block ends a line now; the LF that may follow belongs to it.
            self._after_cr = block.endswith(b"\r")
            block = block.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        # Nearly all events are one line, `data: …`.
        return [
            data
            for event in self._split(block)
            if (data := event[6:] if event.startswith(b"data: ") and b"\n" not in event else _data(event))
        ]

    def finish(self) -> list[bytes]:
        data = _data(self._take_rest())
        return [data] if data else []


def _data(event: bytes) -> bytes:
    name, _, line = event.partition(b"\n")
    if name.startswith(b"event:") and line.startswith(b"data: ") and b"\n" not in line:
        return line[6:]  # as OpenAI's Responses API sends them
    lines = []
    for line in event.split(b"\n"):
        field, _, value = line.partition(b":")
        if field == b"data":
            lines.append(value.removeprefix(b" "))
    return b"\n".join(lines)


def _check_size(pending: bytes | bytearray) -> None:
    if len(pending) > _MAX_PENDING:
        raise ProtocolError(f"The server sent more than {_MAX_PENDING // 2**20} MB without ending the event")


T = TypeVar("T")


# ── decoding: payloads into events ───────────────────────────────────────────────────────────────────────

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
        source: who writes the reply; None to leave out the opaque fields that its server wants back.

    Attributes:
        is_complete: nothing that follows belongs to the answer.
        is_finished: the server has said that the answer ended; a usage may follow.
    """

    def __init__(
        self, *, on_error: Callable[[Any], ProviderError], retries: int, source: ReplySource | None = None
    ) -> None:
        self._on_error = on_error
        self._retries = retries
        self._source = source
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
            error = cleaned_json(decode_raw(body), str)
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

    def _details(self, fields: Mapping[str, Any]) -> ProviderDetails | None:
        """Return opaque fields with their source; None without any."""
        return ProviderDetails(self._source, fields) if self._source is not None and fields else None

    def _round_ended(
        self,
        finish_reason: str | None,
        usage: Usage,
        model: str | None,
        generation_s: float | None,
        details: ProviderDetails | None = None,
    ) -> RoundEnded:
        return RoundEnded(
            finish_reason and redact_name(finish_reason),
            usage,
            self._clock.first_output_at,
            generation_s,
            model and redact_name(model),
            self._retries,
            details,
        )


class EventStreamReplyDecoder(ReplyDecoder):
    """Decodes one reply in server-sent events, or in one JSON object that came in their place.

    Args:
        streamed: the reply is an event stream; otherwise one JSON object.
        on_error, retries, source: as for `ReplyDecoder`.

    Raises:
        ProtocolError: bytes that are not what the format promises.
        EmptyReplyError: the reply ended without a single event.
        IncompleteReplyError: the stream ended without its end marker.
    """

    def __init__(
        self,
        *,
        streamed: bool,
        on_error: Callable[[Any], ProviderError],
        retries: int = 0,
        source: ReplySource | None = None,
    ) -> None:
        self._framing = SSEDecoder() if streamed else None
        super().__init__(on_error=on_error, retries=retries, source=source)
        self._body = bytearray()  # kept until the first event: it may be one JSON object

    def feed(self, block: bytes) -> Iterable[Event]:
        if self.is_complete:
            return ()
        self._count_bytes(block)
        payloads = self._framing.feed(block) if self._framing is not None else []
        if not self._seen:
            self._body += block
            if len(self._body) > MAX_SILENT_BYTES and not payloads:
                raise ProtocolError(
                    f"The server sent {MAX_SILENT_BYTES // 2**20} MB without an answer in them. Check base_url"
                )
        return self._events(payloads)

    def finish(self) -> Iterator[Event]:
        for payload in self._framing.finish() if self._framing is not None and not self.is_complete else ():
            yield from self._unterminated(payload)
        if not self._seen:
            yield from self._buffered()
        yield from self._withheld()
        if not self.is_finished:
            raise incomplete_error()
        yield from self._ending()

    def _buffered(self) -> Iterable[Event]:
        body = bytes(self._body).removeprefix(BOM).strip()
        if not body or self.is_finished or (self._framing is not None and _is_silent(body)):
            raise EmptyReplyError(
                "The server answered without a single word. Often the prompt is longer than the model's context: "
                "shorten it, or agent.clear_history()"
            )
        return self._whole(body)

    @abstractmethod
    def _whole(self, body: bytes) -> Iterable[Event]:
        """Return the events of a reply that came in one piece; raise ProtocolError if it is none."""

    @abstractmethod
    def _ending(self) -> Iterator[Event]:
        """Yield what is known once the reply has ended, `RoundEnded` last."""


def not_json(body: bytes) -> ProtocolError:
    return ProtocolError(f"The server did not answer in JSON: {excerpt(body)!r}…. Check base_url")


def decode_whole(decode: Callable[[bytes], T], body: bytes) -> T:
    """Decode a reply in one JSON object.

    Raises:
        IncompleteReplyError: it is cut.
        ProtocolError: it is broken in another way.
    """
    try:
        return decode(body)
    except (ValueError, RecursionError) as error:
        try:
            return repair_surrogates(decode, body, error)
        except ProtocolError:
            if "truncated" in str(error):
                raise incomplete_error() from ForeignError.of(error)
            raise


def decode_raw(value: msgspec.Raw, decode: Callable[[bytes], T] = msgspec.json.decode) -> T:
    """Decode a part of a payload."""
    raw = bytes(value)
    try:
        return decode(raw)
    except (ValueError, RecursionError) as error:
        return repair_surrogates(decode, raw, error)


def _is_silent(body: bytes) -> bool:
    """Return whether a body holds only comments (keep-alives) and fields without data."""
    return all(line.startswith((b":", b"event:", b"id:", b"retry:")) for line in body.splitlines() if line.strip())


def redact_name(name: str) -> str:
    """Return a name from a server as it may be recorded and shown: without keys, on one line."""
    return mask_known_keys(one_line(name))


def text_or_none(value: object) -> str | None:
    """Return a name or an id, which may be a number; None for anything else."""
    return str(value) if isinstance(value, str | int) else None


def new_tool_call(
    call_id: str | None, name: str, arguments: str, details: ProviderDetails | None = None
) -> ToolCallRequested:
    """Return a tool call, with a new id if its own is blank or holds a key."""
    if not (call_id and call_id.strip()) or mask_known_keys(call_id) != call_id:
        call_id = f"call_{uuid.uuid4().hex[:12]}"
    return ToolCallRequested(call_id, mask_known_keys(name), arguments, details)


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
            tool_call or any(not isinstance(event, Reasoning | ServerToolStep) for event in events)
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
