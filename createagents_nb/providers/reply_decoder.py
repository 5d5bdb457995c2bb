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
from itertools import chain
from typing import Any, Literal, TypeVar

import msgspec

from ..core.events import (
    Event,
    ProviderDetails,
    Reasoning,
    ReplySource,
    RoundEnded,
    ServerToolStep,
    TextWasReasoning,
    ToolCallRequested,
    Usage,
    cost_in_usd,
    count_or_none,
)
from ..errors import EmptyReplyError, IncompleteReplyError, ProtocolError, ProviderError
from ..redaction import mask_known_keys
from ..text import one_line
from .transport import MAX_ERROR_BYTES
from .transport_errors import ForeignError, cleaned_json

__all__ = [
    "BOM",
    "NO_ARGUMENTS",
    "ErrorData",
    "EventStreamReplyDecoder",
    "NDJSONDecoder",
    "OutputClock",
    "ReplyDecoder",
    "SSEDecoder",
    "SurrogateJoiner",
    "ThinkingSplitter",
    "check_arguments",
    "decode_loosely",
    "decode_raw",
    "excerpt",
    "incomplete_error",
    "new_tool_call",
    "not_json",
    "not_repeated",
    "raw_json",
    "redact_name",
    "repair_surrogates",
    "reported_usage",
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


class ErrorData(bytes):
    """The data of an event that is named ``error``."""


class SSEDecoder(_Splitter):
    """Server-sent events: the data of each event (WHATWG HTML, "Interpreting an event stream").

    The data of an event with the name ``error`` is `ErrorData`, and counts even if it is empty.

    One deviation, because some servers close too early: a last event without its blank line counts.

    Attributes:
        has_error: there was an event with the name ``error``.

    Raises:
        ProtocolError: more than 16 MB in one event.
    """

    def __init__(self) -> None:
        super().__init__(b"\n\n")
        self.has_error = False
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
            if (data := event[6:] if event.startswith(b"data: ") and b"\n" not in event else self._data(event))
            or type(data) is ErrorData
        ]

    def finish(self) -> list[bytes]:
        data = self._data(self._take_rest())
        return [data] if data or type(data) is ErrorData else []

    def _data(self, event: bytes) -> bytes:
        name, _, line = event.partition(b"\n")
        is_pair = name.startswith(b"event:") and line.startswith(b"data: ") and b"\n" not in line
        if is_pair and not name.endswith(b"error"):
            return line[6:]  # as OpenAI's Responses API sends them
        lines, name = [], b""
        for line in event.split(b"\n"):
            field, _, value = line.partition(b":")
            if field == b"data":
                lines.append(value.removeprefix(b" "))
            elif field == b"event":
                name = value.strip()
        data = b"\n".join(lines)
        if name == b"error":
            self.has_error = True
            return ErrorData(data)
        return data


def _check_size(pending: bytes | bytearray) -> None:
    if len(pending) > _MAX_PENDING:
        raise ProtocolError(f"The server sent more than {_MAX_PENDING // 2**20} MB without ending the event")


T = TypeVar("T")


# ── decoding: payloads into events ───────────────────────────────────────────────────────────────────────

_HALF_A_PAIR = re.compile(rb"\\u[dD][89a-fA-F]")
_HALF_A_PAIR_IN_TEXT = re.compile(r"\\u[dD][89a-fA-F]")
_HALF = re.compile("[\ud800-\udfff]")


_LAST_WORD = re.compile(rb"[\w.~+/=-]+$")


MAX_REPLY_BYTES = 512 * 2**20
"""Limit for an answer, which a turn keeps in memory; no model writes as much."""


MAX_SILENT_BYTES = 32 * 2**20
"""Limit for what precedes the first event of a stream."""


_MIN_REPEATED = 16
"""Length of a text that a last piece does not repeat by chance, in characters."""


NO_ARGUMENTS = frozenset({"null", "[]", '""', "None"})
"""What models and servers write in place of an empty object."""


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
        call_count: how many tool calls there have been, of the server's own tools too.
        only_loaded: the server did something else than answer; the same request may be answered now.
        asked_for_several: the request asks for several answers, of which the first counts.
    """

    def __init__(
        self, *, on_error: Callable[[Any], ProviderError], retries: int, source: ReplySource | None = None
    ) -> None:
        self._on_error = on_error
        self._retries = retries
        self._source = source
        self._thinking = ThinkingSplitter()
        self.asked_for_several = self.only_loaded = False
        self._reasoning_halves = SurrogateJoiner()
        self._late = _LateThinking()
        self._texts_said: list[str] = []
        self._thoughts_said: list[str] = []
        self._complaint: tuple[Any, int] | None = None
        self._clock = OutputClock()
        self._seen = False
        self._finish_reason: str | None = None
        self._size = 0
        self.is_complete = False
        self.is_finished = False
        self.call_count = 0

    def _count_bytes(self, block: bytes) -> None:
        self._size += len(block)
        if self._size > MAX_REPLY_BYTES:
            raise ProtocolError(
                f"The server sent more than {MAX_REPLY_BYTES // 2**20} MB in one answer; what arrived is kept. "
                "Limit it with config={'max_tokens': …}"
            )

    def _count_calls(self, more: int = 1) -> None:
        self.call_count += more
        if self.call_count > MAX_CALLS:
            raise ProtocolError(f"The model asked for more than {MAX_CALLS:,} tools at once. Try again")

    def _error_in(self, body: msgspec.Raw) -> ProviderError | None:
        """Return the error for an error object in a reply; None for an empty one."""
        raw = bytes(body)
        error: Any = raw[:MAX_ERROR_BYTES]
        if raw == error:
            error = cleaned_json(decode_raw(body), str)
        return self._on_error(error) if _says_something(error) else None

    def _check(self, value: Mapping[str, Any], events: Sequence[Event]) -> None:
        """Raise the error that a payload without an answer is; keep what only may be one for the end."""
        body, is_sure = _error_in_payload(value)
        if body is None:
            return
        body = cleaned_json(body, str)
        if is_sure:
            raise self._on_error(body)
        if self.is_finished and (self._output_count or events):
            return
        self._complaint = body, self._output_count + sum(type(event) is str for event in events)

    def _is_meaningless(self, words: bytes) -> bool:
        words = words.strip()
        return bool(
            words.lower() in _PINGS or _MARK.fullmatch(words) or (self.is_finished and words[:1].isalpha())
        )

    def _check_text(self, payload: bytes) -> bool:
        """Raise the error for a payload that is a bare text; return whether it says nothing."""
        words = payload.strip()
        if self._is_meaningless(words):
            return True
        if words[:1].isalpha() and not words.startswith(_LITERALS):
            raise self._on_error(cleaned_json(words[:MAX_ERROR_BYTES].decode("utf-8", "replace"), str))
        return False

    def _decode_loosely(self, payload: bytes, error: Exception, *, is_whole: bool = False) -> Any:
        """Decode as `decode_loosely`; None for what cannot be read after the end of the answer."""
        try:
            return decode_loosely(payload, error, is_whole=is_whole)
        except ProviderError:
            if self.is_finished:
                return None
            raise

    def _check_complaint(self, output_count: int | None = None) -> None:
        """Raise what a payload complained of, if nothing was said after it and the answer did not end.

        Args:
            output_count: how much there was before what was held back; default: all there is.
        """
        said = self._output_count if output_count is None else output_count
        has_ended = said > 0 and self._finish_reason is not None
        if self._complaint is not None and self._complaint[1] >= said and not has_ended:
            raise self._on_error(self._complaint[0])

    def _texts_so_far(self, events: Sequence[Event]) -> Iterator[str]:
        """Yield the pieces of text so far; ``events`` are those of the block that is being read."""
        yield from self._texts_said
        for event in events:
            if type(event) is str:
                yield event

    def _reason(self, text: str, events: list[Event]) -> None:
        """Append a piece of reasoning."""
        if self._reasoning_halves.pending or not text.isascii():
            text = self._reasoning_halves.feed(text)
        if text:
            self._thoughts_said.append(text)
            events.append(Reasoning(text))

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
            events += self._thinking.finish()
        self._clock.record(events)
        if len(events) == 1 and type(text := events[0]) is str:
            if self._late.is_watching and ("<" in text or self._late.tail):
                events = self._recast(events, text)
            self._texts_said.append(text)
        elif events:
            events = self._note(events)
        return events if failure is None else _then_raise(events, failure)

    def _note(self, events: list[Event]) -> list[Event]:
        """Remember what a block says; return its events, or others in their place."""
        texts = [event for event in events if type(event) is str]
        text = "".join(texts)
        if self._late.is_watching and text and ("<" in text or self._late.tail):
            events = self._recast(events, text)
        self._texts_said += texts
        return events

    def _recast(self, events: list[Event], text: str) -> list[Event]:
        return self._late.read(events, text, self._texts_said, self._thinking, bool(self._thoughts_said))

    @property
    def text(self) -> str:
        """The text of the blocks that have been read."""
        return "".join(self._texts_said)

    @property
    def _has_stopped(self) -> bool:
        """Whether the model ended the answer by itself."""
        return self._finish_reason == "stop"

    @property
    def _output_count(self) -> int:
        """How many texts, pieces of reasoning and calls there have been, in the blocks before this one."""
        return len(self._texts_said) + len(self._thoughts_said) + self.call_count

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
        rest = self._reasoning_halves.rest()
        for event in [*_reasoning(rest), *self._thinking.finish()]:
            self._clock.record([event])
            yield from self._note([event])
        yield from self._late.at_end(self._texts_said, bool(self._thoughts_said))
        if (
            self._has_stopped
            and not self._texts_said
            and not self.call_count
            and (text := self._thinking.unclosed)
        ):
            yield from self._note([text])  # an answer that begins with the name of the tag

    def _details(self, fields: Mapping[str, Any]) -> ProviderDetails | None:
        """Return opaque fields with their source; None without any."""
        if self._source is None or not fields:
            return None
        written = json.dumps(fields, ensure_ascii=False)
        if not written.isascii() and _HALF.search(written):
            fields = json.loads(_whole_pairs(written))
        return ProviderDetails(self._source, fields)

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
        if self._framing is not None and self._framing.has_error:
            return self._events_before_error(payloads)
        return self._events(payloads)

    def finish(self) -> Iterator[Event]:
        for payload in self._framing.finish() if self._framing is not None and not self.is_complete else ():
            yield from (
                self._events_before_error([payload]) if type(payload) is ErrorData else self._unterminated(payload)
            )
        if not self._seen:
            yield from self._buffered()
        count = self._output_count
        yield from self._withheld()
        self._check_complaint(count)
        if not self.is_finished:
            raise incomplete_error()
        yield from self._ending()

    def _events_before_error(self, payloads: list[bytes]) -> Iterable[Event]:
        """Return the events in payloads up to one of an event that is named ``error``, whatever is in it.

        After the end of the answer one without a word is skipped.
        """
        at = next((at for at, payload in enumerate(payloads) if type(payload) is ErrorData), None)
        if at is None:
            return self._events(payloads)
        events = self._events(payloads[:at])
        if self.is_complete:
            return events
        self._seen = True
        body: Any = bytes(payloads[at][:MAX_ERROR_BYTES])
        try:
            body = json.loads(body)
        except (ValueError, RecursionError):
            body = body.decode("utf-8", "replace")
        if isinstance(body, dict) and body.get("error"):
            body = body["error"]
        if self.is_finished and not _says_something(body):
            return chain(events, self._events_before_error(payloads[at + 1 :]))
        return _then_raise(events, self._on_error(cleaned_json(body, str) or "an error without a word"))

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


def not_repeated(text: str, pieces: Iterable[str], *, has_ended: bool = False) -> str:
    """Return what a last piece adds to those before it; one that begins with all of them repeats them.

    Args:
        has_ended: something else came after the pieces.
    """
    at = count = 0
    for piece in pieces:
        if not text.startswith(piece, at):
            return text
        at += len(piece)
        count += 1
    is_sure = has_ended or at >= _MIN_REPEATED or (count > 1 and at == len(text))
    return text[at:] if is_sure else text


def not_json(body: bytes) -> ProtocolError:
    return ProtocolError(f"The server did not answer in JSON: {excerpt(body)!r}…. Check base_url")


def decode_loosely(payload: bytes, error: Exception, *, is_whole: bool = False) -> Any:
    """Decode what a typed decoder refused with ``error``; lone halves of surrogate pairs stay in it.

    Args:
        is_whole: the payload is all there is of the reply.

    Raises:
        IncompleteReplyError: it is a whole reply, and cut.
        ProtocolError: it is broken in another way.
    """
    try:
        return json.loads(payload.decode("utf-8", "surrogatepass"))
    except (ValueError, RecursionError):
        if is_whole and "truncated" in str(error):
            raise incomplete_error() from ForeignError.of(error)
        raise _broken(payload, error) from ForeignError.of(error)


def raw_json(value: Any) -> msgspec.Raw:
    """Return a decoded value as a part of a payload; None as an absent one."""
    return msgspec.Raw() if value is None else msgspec.Raw(json.dumps(value).encode())


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


_SUCCESS = frozenset(
    {"", "0", "200", "success", "successful", "succeeded", "ok", "okay", "null", "none", "undefined", "false"}
)
"""Words and codes in place of an error that say that there is none; in lower case."""
_PROGRESS = ("ok", "done", "processing", "connected", "start", "started", "end", "eof", "completed", "finished")
_PINGS = frozenset(
    f"ping|pong|keepalive|keep-alive|keep_alive|keep alive|heartbeat|{'|'.join(_PROGRESS)}".encode().split(b"|")
)
"""What servers and gateways send in place of JSON, without a meaning; in lower case."""
_MARK = re.compile(rb"\[\w+\]|[\d:.TZ+/ -]+")
"""A word in brackets, or a time: as meaningless."""
_CODES = ("code", "status", "status_code", "statusCode")
_LITERALS = (b"true", b"false", b"null", b"NaN", b"Infinity")
_ERROR_WORDS = ("message", "msg", "error_message", "error_msg", "errorMessage")


def _says_something(error: Any) -> bool:
    if isinstance(error, dict):
        return any(map(_says_something, error.values()))
    return bool(error) and not _is_success(error)


def _is_success(word: object) -> bool:
    return isinstance(word, str | int) and str(word).strip(" .!").lower() in _SUCCESS


def _error_in_payload(value: Mapping[str, Any]) -> tuple[Any, bool]:
    """Find the error in a payload that is no piece of an answer.

    Returns:
        The body for `on_error`, None without one; and whether it can be nothing else.
    """
    error = value.get("error")
    if _says_something(error):
        return error, True
    if "error" in (value.get("object"), value.get("type"), value.get("status")) or value.get("success") is False:
        return dict(value), True
    state = value.get("base_resp")  # MiniMax's: https://platform.minimax.io/docs/api-reference/errorcode
    if isinstance(state, dict) and state.get("status_code") not in (None, 0, "0", ""):
        return {"message": state.get("status_msg"), "code": state["status_code"], "base_resp": state}, True
    if value.get("choices") or value.get("usage") or value.get("type") in ("ping", "keepalive", "heartbeat"):
        return None, False
    codes = [str(code) for name in _CODES if (code := value.get(name)) is not None]
    is_sure = any(code[:1] in ("4", "5") and len(code) == 3 and code.isdecimal() for code in codes)
    if (value.get("detail") or value.get("errors")) and (
        is_sure or not (value.get("object") or value.get("type"))
    ):
        return dict(value), True
    for name, words in value.items():
        if name.lower().startswith("error ") and words and isinstance(words, str):  # Ollama's
            return {"message": f"{name}: {words}"}, True
    told = [value[name] for name in _ERROR_WORDS if value.get(name) and isinstance(value[name], str)]
    if is_sure and (told or value.get("title")):
        return dict(value), True
    states = [*codes, *told, str(value.get("event") or "")]
    is_good = any(state and (_is_success(state) or state.lower() in _PROGRESS) for state in states)
    return (dict(value), False) if told and not is_good else (None, False)


def redact_name(name: str) -> str:
    """Return a name from a server as it may be recorded and shown: without keys, on one line."""
    return mask_known_keys(one_line(name))


def reported_usage(reported: Mapping[str, Any], input_name: str, output_name: str) -> Usage:
    """Return the usage of a reply in one of OpenAI's forms.

    Args:
        reported: the object ``usage``; its values may be anything.
        input_name, output_name: what the form calls the tokens, as in ``prompt`` and ``completion``.
    """

    def count(name: str, details: str | None = None) -> int | None:
        counts = reported if details is None else reported.get(details)
        return count_or_none(counts.get(name)) if isinstance(counts, Mapping) else None

    return Usage(
        input_tokens=count(f"{input_name}_tokens"),
        output_tokens=count(f"{output_name}_tokens"),
        cached_tokens=count("cached_tokens", f"{input_name}_tokens_details"),
        reasoning_tokens=count("reasoning_tokens", f"{output_name}_tokens_details"),
        cost_usd=cost_in_usd(reported.get("cost")),  # OpenRouter's; elsewhere it may be anything
    )


def text_or_none(value: object) -> str | None:
    """Return a name or an id, which may be a number; None for anything else."""
    return str(value) if isinstance(value, str | int) else None


def new_tool_call(
    call_id: str | None, name: str, arguments: str, details: ProviderDetails | None = None
) -> ToolCallRequested:
    """Return a tool call, with a new id if its own is blank or holds a key."""
    if not (call_id and call_id.strip()) or mask_known_keys(call_id) != call_id:
        call_id = f"call_{uuid.uuid4().hex[:12]}"
    return ToolCallRequested(call_id, mask_known_keys(name), _sendable(arguments), details)


def _sendable(arguments: str) -> str:
    """Return arguments without lone halves of surrogate pairs, which no server takes back."""
    arguments = _whole_pairs(arguments)
    if _HALF_A_PAIR_IN_TEXT.search(arguments):
        try:
            decoded = json.dumps(json.loads(arguments), ensure_ascii=False)
        except (ValueError, RecursionError):
            return arguments
        if not decoded.isascii() and _HALF.search(decoded):
            return _whole_pairs(decoded)
    return arguments


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


_TAGS = {"<think>": "</think>", "<thinking>": "</thinking>", "<thought>": "</thought>"}
_CLOSE = "</think>"
"""The tag that comes alone where the model's template has opened it."""


_MAX_BLANKS_BEFORE_THINK = 1_000
"""Limit for blanks before the tag; with each piece, all that is held back is searched again."""


class SurrogateJoiner:
    """Puts halves of surrogate pairs together that came in two pieces; lone ones become U+FFFD."""

    def __init__(self) -> None:
        self.pending = ""

    def feed(self, text: str) -> str:
        if not self.pending and (text.isascii() or not _HALF.search(text)):
            return text
        text = self.pending + text
        self.pending = text[-1] if "\ud800" <= text[-1:] <= "\udbff" else ""
        return _whole_pairs(text[: len(text) - len(self.pending)])

    def rest(self) -> str:
        pending, self.pending = self.pending, ""
        return "\ufffd" if pending else ""


def _whole_pairs(text: str) -> str:
    if text.isascii() or not _HALF.search(text):
        return text
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


class ThinkingSplitter:
    """Turns text as it arrives into text and `Reasoning`.

    Only a tag at the beginning counts, after a thousand blanks at most: later ones are text about tags. A closing
    tag at the beginning is left out, unless a sentence goes on after it: the model's template had opened it, and
    the model thought nothing.

    Attributes:
        transparent: text passes as it is.
        has_opened: there was a tag at the beginning.
    """

    def __init__(self) -> None:
        self.transparent = self.has_opened = False
        self._phase: Literal["before", "inside", "after", "through"] = "before"
        self._opening = ""
        self._close = _CLOSE
        self._held = self._gap = ""
        self._inside: list[str] = []
        self._halves = SurrogateJoiner()

    def feed(self, text: str) -> list[Event]:
        if self.transparent and text.isascii():
            return [text]
        events = self._split(self._halves.feed(text))
        self.transparent = self._phase == "through" and not self._halves.pending
        return events

    def _split(self, text: str) -> list[Event]:
        if self._phase == "through":
            return [text] if text else []
        self._held += text
        if self._phase == "before":
            start = self._held.lstrip()
            if len(self._held) - len(start) > _MAX_BLANKS_BEFORE_THINK:
                return self._rest()
            opening = next((tag for tag in (*_TAGS, _CLOSE) if start.startswith(tag)), None)
            if opening is None:
                is_known = not any(tag.startswith(start) for tag in (*_TAGS, _CLOSE))
                return self._rest() if is_known else []
            self.has_opened, self._opening = True, opening
            self._close = _TAGS.get(opening, _CLOSE)
            self._phase, self._held = "inside" if opening in _TAGS else "after", start[len(opening) :]
        reasoning: list[Event] = []
        if self._phase == "inside":
            before, close, after = self._held.partition(self._close)
            if not close:
                keep = _overlap(self._held, self._close)
                piece, self._held = self._held[: len(self._held) - keep], self._held[len(self._held) - keep :]
                self._inside.append(piece)
                return _reasoning(piece)
            self._phase, self._held = "after", after
            reasoning = _reasoning(before)
        text = self._held.lstrip()
        if self._opening == _CLOSE:
            self._gap += self._held[: len(self._held) - len(text)]
            if text and _goes_on(self._gap, text):
                text = _CLOSE + self._gap + text
        self._held = text
        return [*reasoning, *self._rest()] if self._held else reasoning

    @property
    def has_half(self) -> bool:
        """Whether the text ended with the first half of a surrogate pair."""
        return bool(self._halves.pending)

    @property
    def is_empty(self) -> bool:
        """Whether nothing is held back."""
        return not self._held

    @property
    def unclosed(self) -> str:
        """The text with a tag at its beginning that nothing closed; empty without one."""
        return self._opening + "".join(self._inside) if self._phase == "inside" else ""

    def expect_answer(self) -> None:
        """Leave out the blanks that follow: what has been said was the reasoning."""
        self.transparent, self._phase = False, "after"

    def finish(self) -> list[Event]:
        """Return what was held back until the text ended."""
        events = self._split(self._halves.rest())
        if self._phase == "inside":
            held, self._held = self._held, ""
            self._inside.append(held)
            return [*events, *_reasoning(held)]
        return [*events, *self._rest()]

    def _rest(self) -> list[Event]:
        held, self._held, self._phase = self._held, "", "through"
        self.transparent = not self._halves.pending
        return [held] if held else []


class _LateThinking:
    """Finds a ``</think>`` without its beginning, which the model's template had opened.

    Nothing is held back for it. The text before the tag has been said as the answer; when the tag comes,
    `TextWasReasoning` takes it back. Only the first tag counts, in no code, quotes or sentence, and in no reply
    that has reasoning of another form.

    Attributes:
        tail: the end of the text, if a tag may begin in it.
    """

    def __init__(self) -> None:
        self.is_watching = True
        self.tail = ""

    def read(
        self,
        events: list[Event],
        new: str,
        earlier: Sequence[str],
        thinking: ThinkingSplitter,
        has_reasoning: bool,
    ) -> list[Event]:
        """Return the events of a block, or others in their place.

        Args:
            new: the text of the block.
            earlier: the texts of the blocks before it.
            has_reasoning: there is reasoning of another form.
        """
        if thinking.has_opened:
            self.is_watching = False
            return events
        recent = self.tail + new
        _, tag, after = recent.partition(_CLOSE)
        if not after:  # what follows the tag tells whether it is one
            at = recent.rfind("<")
            self.tail = recent[at:] if at >= 0 and (tag or _CLOSE.startswith(recent[at:])) else ""
            return events
        self.is_watching, self.tail = False, ""
        before, _, after = ("".join(earlier) + new).partition(_CLOSE)
        if has_reasoning or not _is_reasoning(before, after):
            return events
        thinking.expect_answer()
        others = [event for event in events if type(event) is not str]
        taken_back: Event = TextWasReasoning(before) if earlier else Reasoning(before)
        return [*others, taken_back, *thinking.feed(after)]

    def at_end(self, said: Sequence[str], has_reasoning: bool) -> list[Event]:
        """Return what takes back a text that ends with the tag."""
        before = "".join(said).removesuffix(_CLOSE)
        is_all = self.is_watching and self.tail == _CLOSE and not has_reasoning and before.endswith("\n")
        is_all = is_all and before.rstrip().endswith(_SENTENCE_ENDS)
        return [TextWasReasoning(before)] if is_all and _is_reasoning(before, "\n") else []


_SENTENCE_ENDS = tuple(".!?…。！？")
_NAMES_WHAT_FOLLOWS = re.compile(
    r"(?:[:,;=(\[{>-]|\b(?:a|an|and|as|by|is|like|of|or|tag|tags|the|to|use|with|write|writes))\Z"
)
_LIST_MARK = re.compile(r"\s*(?:\d{1,3}|\w)\.\s*")
_FENCE = re.compile(r" {0,3}(`{3,}|~{3,})(.*)")


def _is_reasoning(before: str, after: str) -> bool:
    """Return whether a closing tag between two texts ends what a model thought, and is not written about.

    It stands on a line of its own, or between the end of a sentence and a line break or a capital letter; in no
    code, and after no sentence that announces it. In doubt it is text.
    """
    thought = before.rstrip()
    if not thought or any(tag in before for tag in _TAGS) or _is_in_code(before):
        return False
    if not after.startswith(("\n", "\r")) and (not after[:1].isalnum() or after[:1].islower()):
        return False
    if before.endswith("\n"):
        return not _NAMES_WHAT_FOLLOWS.search(thought)
    is_item = _LIST_MARK.fullmatch(before[before.rfind("\n") + 1 :]) is not None
    return before.removesuffix(" ").endswith(_SENTENCE_ENDS) and not is_item


def _is_in_code(before: str) -> bool:
    """Return whether what follows a text is in a fenced block, or in a span of code."""
    fence, paragraph = "", ""
    for line in before.split("\n"):
        marks = _FENCE.match(line)
        if marks is None:
            paragraph = "" if fence or not line.strip() else paragraph + line
        elif not fence:
            fence = marks[1] if marks[1][0] == "~" or "`" not in marks[2] else ""
            paragraph = "" if fence else paragraph + line
        elif marks[1].startswith(fence) and not marks[2].strip():
            fence = ""
    return bool(fence) or paragraph.count("`") % 2 == 1


def _goes_on(gap: str, text: str) -> bool:
    """Return whether a text goes on with the sentence that a tag began, after blanks."""
    if "\n" in gap or "\r" in gap:
        return False
    return not text[0].isalnum() or text[0].islower() if gap else text[0] in ".,:;?!)]}\"'`"


def _reasoning(text: str) -> list[Event]:
    return [Reasoning(text)] if text else []


def _overlap(text: str, tag: str) -> int:
    """Return how many characters at the end of ``text`` may begin the tag."""
    return next((n for n in range(len(tag) - 1, 0, -1) if text.endswith(tag[:n])), 0)
