"""Decodes the bytes of an Ollama chat reply into events. No I/O, and no SDK object per chunk."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import msgspec

from ..core.events import Event, Reasoning, ReplySource, ToolCallRequested, Usage, count_or_none, number_or_none
from ..errors import EmptyReplyError, ProviderError
from .reply_decoder import (
    NDJSONDecoder,
    ReplyDecoder,
    check_arguments,
    incomplete_error,
    new_tool_call,
    repair_surrogates,
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


_decode = msgspec.json.Decoder(_Chunk).decode


class OllamaReplyDecoder(ReplyDecoder):
    """Decodes the blocks of one reply; a buffered reply is a stream of one line.

    Args:
        on_error: makes the error for an error line, which Ollama may send after HTTP 200.

    Raises:
        ProtocolError: bytes that are not what the format promises.
        EmptyReplyError: the reply ended without a single line.
        IncompleteReplyError: the stream ended before a line that says ``done``.
    """

    def __init__(
        self, *, on_error: Callable[[Any], ProviderError], retries: int = 0, source: ReplySource | None = None
    ) -> None:
        self._framing = NDJSONDecoder()
        super().__init__(on_error=on_error, retries=retries, source=source)
        self._thoughts: list[str] = []
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
        yield from self._withheld()
        end = self._end
        if end is None:
            raise incomplete_error()
        usage = Usage(
            input_tokens=count_or_none(end.prompt_eval_count),
            output_tokens=count_or_none(end.eval_count),
            load_s=_seconds(end.load_duration),
            prompt_eval_s=_seconds(end.prompt_eval_duration),
            eval_s=_seconds(end.eval_duration),
        )
        generation_s = usage.eval_s or self._clock.generation_s
        details = self._details({"thinking": "".join(self._thoughts)} if self._thoughts else {})
        yield self._round_ended(end.done_reason, usage, text_or_none(end.model), generation_s, details)

    def _read(self, payloads: list[bytes], events: list[Event]) -> None:
        transparent = self._thinking.transparent
        for payload in payloads:
            try:
                chunk = _decode(payload)
            except (ValueError, RecursionError) as error:
                chunk = repair_surrogates(_decode, payload, error)
            self._seen = True
            if chunk.error and (failure := self._error_in(chunk.error)):
                raise failure
            message = chunk.message
            if message is not None:
                if message.thinking:
                    events.append(Reasoning(message.thinking))
                    self._thoughts.append(message.thinking)
                if message.content:
                    if transparent:
                        events.append(message.content)
                    else:
                        events += self._thinking.feed(message.content)
                        transparent = self._thinking.transparent
                if message.tool_calls:
                    self._count_calls(len(message.tool_calls))
                    events += [_tool_call_of(call) for call in message.tool_calls]
            if chunk.done:
                self._end = chunk
                self.is_complete = self.is_finished = True
                return


def _tool_call_of(call: _ToolCall) -> ToolCallRequested:
    arguments = call.function.arguments
    text = arguments if isinstance(arguments, str) else json.dumps(arguments or {}, ensure_ascii=False)
    check_arguments(len(text))
    return new_tool_call(text_or_none(call.id), call.function.name, text)


def _seconds(nanoseconds: object) -> float | None:
    number = number_or_none(nanoseconds)
    return None if number is None else number / 1e9
