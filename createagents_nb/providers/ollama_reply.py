"""Decodes the bytes of an Ollama chat reply into events. No I/O, and no SDK object per chunk."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import msgspec

from ..core.events import Event, ReplySource, ToolCallRequested, Usage, count_or_none, number_or_none
from ..errors import EmptyReplyError, ProviderError
from .reply_decoder import (
    NO_ARGUMENTS,
    NDJSONDecoder,
    ReplyDecoder,
    check_arguments,
    decode_loosely,
    incomplete_error,
    new_tool_call,
    not_repeated,
    raw_json,
    text_or_none,
)

__all__ = ["OllamaReplyDecoder"]


class _Function(msgspec.Struct):
    name: str = ""
    arguments: Any = None


class _ToolCall(msgspec.Struct):
    function: _Function
    id: Any = None


class _Message(msgspec.Struct):
    content: str | None = None
    thinking: str | None = None
    tool_calls: list[_ToolCall] | None = None


class _Chunk(msgspec.Struct):
    message: _Message | None = None
    done: bool = False
    done_reason: str | None = None
    error: msgspec.Raw = msgspec.Raw()
    # Fields that do not matter for the answer are not validated, so that none of them fails it.
    model: Any = None
    prompt_eval_count: Any = None
    eval_count: Any = None
    load_duration: Any = None
    prompt_eval_duration: Any = None
    eval_duration: Any = None
    response: Any = None


_decode = msgspec.json.Decoder(_Chunk).decode

_NO_ANSWERS = ("load", "unload")
"""Reasons for an end that is none of an answer."""


class OllamaReplyDecoder(ReplyDecoder):
    """Decodes the blocks of one reply; a buffered reply is a stream of one line.

    Args:
        on_error: makes the error for an error line, which Ollama may send after HTTP 200.

    Raises:
        ProtocolError: bytes that are not what the format promises.
        EmptyReplyError: the reply ended without a single line, or the server only loaded the model.
        IncompleteReplyError: the stream ended before a line that says ``done``.
    """

    def __init__(
        self, *, on_error: Callable[[Any], ProviderError], retries: int = 0, source: ReplySource | None = None
    ) -> None:
        self._framing = NDJSONDecoder()
        super().__init__(on_error=on_error, retries=retries, source=source)
        self._calls: list[tuple[str, str]] = []
        self._end: _Chunk | None = None

    def feed(self, block: bytes) -> Iterable[Event]:
        if self.is_complete:
            return ()
        self._count_bytes(block)
        return self._events(self._framing.feed(block))

    def finish(self) -> Iterator[Event]:
        for payload in self._framing.finish() if not self.is_complete else ():
            yield from self._unterminated(payload)
        if not self._seen:
            raise EmptyReplyError("Ollama answered without a single word. Look at `ollama ps` and its log")
        count = self._output_count
        yield from self._withheld()
        self._check_complaint(count)
        end = self._end
        if end is None:
            raise incomplete_error()
        if end.done_reason in _NO_ANSWERS and not self._output_count:
            self.only_loaded = True
            raise EmptyReplyError(
                f"Ollama only {end.done_reason}ed the model and answered nothing. Send the message again"
            )
        usage = Usage(
            input_tokens=count_or_none(end.prompt_eval_count),
            output_tokens=count_or_none(end.eval_count),
            load_s=_seconds(end.load_duration),
            prompt_eval_s=_seconds(end.prompt_eval_duration),
            eval_s=_seconds(end.eval_duration),
        )
        generation_s = usage.eval_s or self._clock.generation_s
        details = self._details({"thinking": "".join(self._thoughts_said)} if self._thoughts_said else {})
        yield self._round_ended(end.done_reason, usage, text_or_none(end.model), generation_s, details)

    def _read(self, payloads: list[bytes], events: list[Event]) -> None:
        transparent = self._thinking.transparent
        for payload in payloads:
            try:
                chunk = _decode(payload)
            except (ValueError, RecursionError) as error:
                if self._is_meaningless(payload):
                    continue
                value = self._decode_loosely(payload, error)
                if not isinstance(value, dict):
                    for each in value if isinstance(value, list) else ():
                        if isinstance(each, dict):
                            self._check(each, events)
                    continue
                chunk, transparent = _chunk_of(value), False
            self._seen = True
            if chunk.error and (failure := self._error_in(chunk.error)):
                raise failure
            message = chunk.message
            if message is None and chunk.response and isinstance(chunk.response, str):
                message = _Message(chunk.response)  # as of /api/generate
            if message is not None:
                if message.thinking:
                    self._think(message.thinking, chunk.done, events)
                if message.content:
                    if transparent and not chunk.done:
                        events.append(message.content)
                    else:
                        self._say(message.content, chunk.done, events)
                        transparent = self._thinking.transparent
                if message.tool_calls:
                    self._call(message.tool_calls, chunk.done, events)
            elif not chunk.done:
                self._check(decode_loosely(payload, ValueError()), events)
            if chunk.done:
                self._end = chunk
                self._finish_reason = chunk.done_reason
                self.is_finished = True
                # What follows an end without an answer may be the answer.
                self.is_complete = bool(events or self._output_count) or not self._thinking.is_empty
                if self.is_complete:
                    return

    def _think(self, thought: str, is_last: bool, events: list[Event]) -> None:
        if is_last:
            thought = not_repeated(thought, self._thoughts_said, has_ended=any(self._texts_so_far(events)))
        self._reason(thought, events)

    def _say(self, text: str, is_last: bool, events: list[Event]) -> None:
        if is_last:
            text = not_repeated(text, self._texts_so_far(events))
        if text:
            events += self._thinking.feed(text)

    def _call(self, calls: list[_ToolCall], is_last: bool, events: list[Event]) -> None:
        """Add calls, which the last line may repeat."""
        earlier = self._calls.copy() if is_last else []
        self._count_calls(len(calls))
        for call in calls:
            asked = _tool_call_of(call)
            if (asked.name, asked.arguments) not in earlier:
                self._calls.append((asked.name, asked.arguments))
                events.append(asked)


def _chunk_of(value: Mapping[str, Any]) -> _Chunk:
    """Return a chunk with what fits of a decoded line."""
    message, reason = value.get("message"), value.get("done_reason")
    return _Chunk(
        _message_of(message)
        if isinstance(message, dict)
        else _Message(message)
        if isinstance(message, str) and "model" in value and "done" in value
        else None,
        value.get("done") in (True, "true", "True"),
        reason if isinstance(reason, str) else None,
        raw_json(value.get("error")),
        *(value.get(name) for name in _Chunk.__struct_fields__[4:]),
    )


def _message_of(value: Mapping[str, Any]) -> _Message:
    content, thinking, calls = value.get("content"), value.get("thinking"), value.get("tool_calls")
    if isinstance(calls, dict):
        calls = [calls]
    functions = [
        (each.get("id"), each["function"])
        for each in (calls if isinstance(calls, list) else ())
        if isinstance(each, dict) and isinstance(each.get("function"), dict)
    ]
    return _Message(
        _content_of(content),
        thinking if isinstance(thinking, str) else None,
        [
            _ToolCall(_Function(function["name"], function.get("arguments")), call_id)
            for call_id, function in functions
            if isinstance(function.get("name"), str)
        ],
    )


def _content_of(value: object) -> str | None:
    if isinstance(value, list):
        texts = (part.get("text") if isinstance(part, dict) else part for part in value)
        return "".join(text for text in texts if isinstance(text, str))
    return value if isinstance(value, str) else None


def _tool_call_of(call: _ToolCall) -> ToolCallRequested:
    arguments = call.function.arguments
    text = arguments if isinstance(arguments, str) else json.dumps(arguments or {}, ensure_ascii=False)
    text = "{}" if text.strip() in NO_ARGUMENTS else text
    check_arguments(len(text))
    return new_tool_call(text_or_none(call.id), call.function.name, text)


def _seconds(nanoseconds: object) -> float | None:
    number = number_or_none(nanoseconds)
    return None if number is None else number / 1e9
