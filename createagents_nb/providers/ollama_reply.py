"""From the bytes of an Ollama chat reply to events. No I/O, and no SDK object per chunk."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import msgspec

from ..agent.events import Event, Reasoning, RoundEnded, ToolCallRequested, Usage
from ..errors import EmptyReplyError, ProviderError
from .broken_reply import ReplyDecoder, incomplete, mended
from .wire import LineSplitter

__all__ = ["OllamaReplyDecoder"]


class _Function(msgspec.Struct):
    name: str = ""
    arguments: Any = None


class _ToolCall(msgspec.Struct):
    function: _Function
    id: str | None = None


class _Message(msgspec.Struct):
    content: str | None = None
    thinking: str | None = None
    tool_calls: list[_ToolCall] | None = None


class _Chunk(msgspec.Struct):
    message: _Message | None = None
    done: bool = False
    done_reason: str | None = None
    model: str | None = None
    error: Any = None
    prompt_eval_count: int | None = None
    eval_count: int | None = None
    load_duration: int | None = None
    prompt_eval_duration: int | None = None
    eval_duration: int | None = None


_decode = msgspec.json.Decoder(_Chunk).decode


class OllamaReplyDecoder(ReplyDecoder):
    """Feed it the blocks of one reply; a buffered reply is a stream of one line.

    Args:
        on_error: makes the error for an error line, which Ollama may send after HTTP 200.

    Raises:
        ProtocolError: bytes that are not what the format promises.
        EmptyReplyError: the reply ended without a single line.
        IncompleteReplyError: the stream ended before a line that says ``done``.
    """

    def __init__(self, *, on_error: Callable[[Any], ProviderError], retries: int = 0) -> None:
        self._splitter = LineSplitter()
        super().__init__(on_error=on_error, retries=retries)
        self._end: _Chunk | None = None

    def feed(self, block: bytes) -> Iterable[Event]:
        """The events in a block. An error in it is raised when the events before it have been taken."""
        self._weigh(block)
        return self._events(self._splitter.feed(block))

    def finish(self) -> Iterator[Event]:
        """The end of the body: what was held back, and `RoundEnded`."""
        for payload in self._splitter.finish():
            yield from self._last(payload)
        if not self._seen:
            raise EmptyReplyError("Ollama answered without a single word. Look at `ollama ps` and its log")
        yield from self._held_back()
        end = self._end
        if end is None:
            raise incomplete()
        usage = Usage(
            input_tokens=end.prompt_eval_count,
            output_tokens=end.eval_count,
            load_s=_seconds(end.load_duration),
            prompt_eval_s=_seconds(end.prompt_eval_duration),
            eval_s=_seconds(end.eval_duration),
        )
        clock = self._clock
        generation_s = usage.eval_s or clock.generation_s
        yield RoundEnded(end.done_reason, usage, clock.first_output_at, generation_s, end.model, self._retries)

    def _read(self, payloads: list[bytes], events: list[Event]) -> None:
        transparent = self._thinking.transparent
        for payload in payloads:
            try:
                chunk = _decode(payload)
            except (ValueError, RecursionError) as error:
                chunk = mended(_decode, payload, error)
            self._seen = True
            if chunk.error:
                raise self._on_error(chunk.error)
            message = chunk.message
            if message is not None:
                if message.thinking:
                    events.append(Reasoning(message.thinking))
                if message.content:
                    if transparent:
                        events.append(message.content)
                    else:
                        events += self._thinking.feed(message.content)
                        transparent = self._thinking.transparent
                if message.tool_calls:
                    events += [_requested(call) for call in message.tool_calls]
            if chunk.done:
                self._end = chunk
                self.is_complete = True


def _requested(call: _ToolCall) -> ToolCallRequested:
    arguments = call.function.arguments
    text = arguments if isinstance(arguments, str) else json.dumps(arguments or {}, ensure_ascii=False)
    return ToolCallRequested(call.id or f"call_{uuid.uuid4().hex[:12]}", call.function.name, text)


def _seconds(nanoseconds: int | None) -> float | None:
    return None if nanoseconds is None else nanoseconds / 1e9
