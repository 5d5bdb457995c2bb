"""Decodes the bytes of a reply of OpenAI's Responses API into events. No I/O, and no SDK object per event.

Format: https://platform.openai.com/docs/api-reference/responses-streaming. Servers repeat the same text in up to
four events, and identify items in their own ways: one ``output_index`` for several items, a new ``item_id`` in
each event, no ``output_item.added``, an empty ``output`` at the end. All of them are read.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from typing import Any, Literal

import msgspec

from ..core.events import Event, ServerToolStep, ended_early
from ..errors import ProtocolError, ProviderError
from .error_mapping import error_message
from .reply_decoder import (
    NO_ARGUMENTS,
    EventStreamReplyDecoder,
    SSEDecoder,
    check_arguments,
    decode_loosely,
    decode_raw,
    excerpt,
    new_tool_call,
    not_json,
    raw_json,
    redact_name,
    reported_usage,
    text_or_none,
)
from .tool_call_pieces import is_object
from .transport_errors import cleaned_json

__all__ = ["ResponsesReplyDecoder"]

_MAX_ITEMS = 5_000
"""Limit for the items of one output; long answers with many tools have some hundred."""

_MAX_RESULT_CHARS = 2_000
"""Limit for the result of a step that is shown."""


# Fields that do not matter for the answer are not validated, so that none of them fails it.


class _Event(msgspec.Struct, gc=False):
    type: Any = None
    delta: Any = None
    item_id: Any = None
    output_index: Any = None
    content_index: Any = None
    summary_index: Any = None
    text: msgspec.Raw = msgspec.Raw()
    refusal: msgspec.Raw = msgspec.Raw()
    arguments: msgspec.Raw = msgspec.Raw()
    item: msgspec.Raw = msgspec.Raw()
    response: msgspec.Raw = msgspec.Raw()
    error: msgspec.Raw = msgspec.Raw()
    message: Any = None
    code: Any = None
    param: Any = None


class _Response(msgspec.Struct):
    status: Any = None
    model: Any = None
    output: msgspec.Raw = msgspec.Raw()
    usage: Any = None
    incomplete_details: Any = None
    error: msgspec.Raw = msgspec.Raw()
    output_text: Any = None


_RAW = ("text", "refusal", "arguments", "item", "response", "error", "output")
_decode = msgspec.json.Decoder(_Event).decode
_decode_response = msgspec.json.Decoder(_Response).decode

_Kind = Literal["content", "summary", "reasoning"]

_PIECES: Mapping[str, _Kind] = {
    "response.output_text.delta": "content",
    "response.refusal.delta": "content",
    "response.reasoning_summary_text.delta": "summary",
    "response.reasoning_text.delta": "reasoning",
}
_WHOLE_PARTS: Mapping[str, _Kind] = {
    "response.output_text.done": "content",
    "response.refusal.done": "content",
    "response.reasoning_summary_text.done": "summary",
    "response.reasoning_text.done": "reasoning",
}
_ENDS = frozenset(
    {"response.completed", "response.incomplete", "response.failed", "response.cancelled", "response.done"}
)
_FAILURES = frozenset({"failed", "cancelled"})
_OURS = frozenset(
    {
        "message",
        "function_call",
        "function_call_output",
        "reasoning",
        "custom_tool_call",
        "custom_tool_call_output",
    }
)
"""Types of items that are ours to say, to run, or to leave out; all others are the provider's."""
_NO_ARGUMENTS = frozenset(
    {
        "id",
        "type",
        "status",
        "call_id",
        "container_id",
        "error",
        "output",
        "outputs",
        "result",
        "results",
        "sources",
    }
)


class _Part:
    """A part of an item, a text or a piece of reasoning, and how its last event was addressed."""

    __slots__ = ("content_index", "item_id", "output_index", "size")

    def __init__(self) -> None:
        self.item_id = self.output_index = self.content_index = None
        self.size = 0


class _Item:
    """An item of the output, as far as it has arrived."""

    __slots__ = (
        "call_id",
        "first_arguments",
        "id",
        "name",
        "parts",
        "phase",
        "pieces",
        "pieces_size",
        "step",
        "type",
        "value",
        "whole_arguments",
    )

    def __init__(self, type_: str, item_id: str | None) -> None:
        self.type, self.id = type_, item_id
        self.parts: dict[tuple[_Kind, object], _Part] = {}
        self.phase: str | None = None
        self.name = ""
        self.call_id: str | None = None
        self.pieces: list[str] = []
        self.pieces_size = 0
        self.first_arguments = self.whole_arguments = ""
        self.step: ServerToolStep | None = None
        self.value: dict[str, Any] | None = None  # once it is complete

    @property
    def is_server_tool(self) -> bool:
        return self.type.endswith("_call") and self.type not in _OURS

    @property
    def size(self) -> int:
        return sum(part.size for part in self.parts.values())

    @property
    def final_arguments(self) -> str:
        return self.whole_arguments or "".join(self.pieces) or self.first_arguments

    @property
    def is_cut(self) -> bool:
        """Whether it is a call without the end of its arguments, in a response that may be complete."""
        status = self.value.get("status") if self.value is not None else None
        return status == "incomplete" and not is_object(self.final_arguments)

    def part(self, kind: _Kind, index: object) -> _Part:
        return self.parts.setdefault((kind, _index(index) or 0), _Part())

    def can_be(self, value: Mapping[str, Any]) -> bool:
        """Return whether ``value`` may be this item: no other call, unless it says the same under a new id."""
        is_open = self.value is None and bool(self.pieces) and self.name == value.get("name")
        if is_open and value.get("arguments") == self.final_arguments:
            return True
        return None in (self.call_id, value.get("call_id")) or self.call_id == text_or_none(value.get("call_id"))

    def describe(self, value: Mapping[str, Any]) -> None:
        for name in ("name", "phase"):
            if value.get(name) and isinstance(value[name], str):
                setattr(self, name, value[name])
        self.call_id = self.call_id or text_or_none(value.get("call_id"))

    def add_arguments(self, piece: str) -> None:
        self.pieces_size += len(piece)
        check_arguments(self.pieces_size)
        self.pieces.append(piece)

    def set_arguments(self, arguments: str) -> None:
        check_arguments(len(arguments))
        self.whole_arguments = arguments or self.whole_arguments


class ResponsesReplyDecoder(EventStreamReplyDecoder):
    """Decodes the blocks of one reply, streamed or buffered.

    Its end markers are ``response.completed`` and ``response.incomplete``.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._items: list[_Item] = []
        self._by_id: dict[str, _Item] = {}
        self._by_index: dict[object, _Item] = {}  # the last item with each index
        self._part = _Part()  # of the last piece of text
        self._reasoning_part: _Part | None = None
        self._usage: dict[str, Any] = {}
        self._model: str | None = None

    def _ending(self) -> Iterator[Event]:
        for item in self._items:
            arguments = item.final_arguments
            arguments = "{}" if arguments.strip() in NO_ARGUMENTS else arguments
            if item.type == "function_call" and (item.name or arguments):
                yield new_tool_call(item.call_id or item.id, item.name, arguments)
        yield self._round_ended(
            self._finish_reason,
            reported_usage(self._usage, "input", "output"),
            self._model,
            self._clock.generation_s,
            self._details(self._skeleton()),
        )

    def _whole(self, body: bytes) -> Iterable[Event]:
        if self._framing is None and not body.startswith(b"{"):  # a stream, though none was asked for
            framing = SSEDecoder()
            payloads = [*framing.feed(body), *framing.finish()]
            if payloads:
                return self._events(payloads)
        if not body.startswith((b"{", b"[")):
            raise not_json(body)
        try:
            response = _decode_response(body)
        except (ValueError, RecursionError) as error:
            value = decode_loosely(body, error, is_whole=True)
            response = _response_of(value)
            body = json.dumps(value).encode()
        if not (response.output or response.output_text or (response.error and self._error_in(response.error))):
            self._check_loosely(decode_loosely(body, ValueError()), [])
            self._check_complaint()
            raise ProtocolError(f"The server's answer has no output: {excerpt(body)!r}…. Check base_url")
        return self._events([b'{"type":"response.done","response":' + body + b"}"])

    def _read(self, payloads: list[bytes], events: list[Event]) -> None:
        transparent = self._thinking.transparent
        part = self._part
        for payload in payloads:
            try:
                event = _decode(payload)
            except (ValueError, RecursionError) as error:
                if self._check_text(payload):
                    continue
                value = decode_loosely(payload, error)
                if not isinstance(value, dict):
                    self._check_loosely(value, events)
                    self._see()
                    continue
                event, transparent = _event_of(value), False
            if not self._seen:
                self._see()
            text = event.delta
            if event.type == "response.output_text.delta" and transparent and type(text) is str:
                if (
                    event.item_id != part.item_id
                    or event.content_index != part.content_index
                    or event.output_index != part.output_index
                ):
                    part = self._part = self._part_of(event, "content")
                part.size += len(text)
                if text:
                    events.append(text)
                continue
            if not (isinstance(event.type, str) and event.type.startswith(("response.", "error"))):
                self._check_loosely(decode_loosely(payload, ValueError()), events)
            self._other(event, events)
            transparent, part = self._thinking.transparent, self._part
            if self.is_complete:
                return

    def _see(self) -> None:
        self._seen = True
        self._body.clear()

    def _check_loosely(self, value: Any, events: list[Event]) -> None:
        """Raise the error in a payload that is no event."""
        if isinstance(value, str) and value.strip():
            self._check_text(value.encode("utf-8", "replace"))
        for each in value if isinstance(value, list) else [value]:
            if isinstance(each, dict):
                self._check(each, events)

    def _other(self, event: _Event, events: list[Event]) -> None:
        """Read an event that is not plain text."""
        type_ = event.type if isinstance(event.type, str) else ""
        if type_ in _PIECES:
            text = event.delta.get("text") if isinstance(event.delta, dict) else event.delta
            if text and isinstance(text, str):
                self._say(self._part_of(event, _PIECES[type_]), _PIECES[type_], text, events)
        elif type_ in _WHOLE_PARTS:
            part = self._part_of(event, _WHOLE_PARTS[type_])
            if not part.size:
                self._say(part, _WHOLE_PARTS[type_], _text_of(event.text or event.refusal), events)
        elif type_ == "response.function_call_arguments.delta":
            if event.delta and isinstance(event.delta, str):
                self._item_of(event, "function_call").add_arguments(event.delta)
                self._clock.record((), tool_call=True)
        elif type_ == "response.function_call_arguments.done":
            self._item_of(event, "function_call").set_arguments(_text_of(event.arguments))
        elif type_ in ("response.output_item.added", "response.output_item.done"):
            value = _decoded(event.item)
            if isinstance(value, dict) and isinstance(value.get("type"), str):
                self._read_item(value, event, events)
        elif type_ in _ENDS:
            self._end(type_, event, events)
        elif type_ == "error":
            raise self._failure(event)
        elif event.error and (failure := self._error_in(event.error)):
            raise failure
        elif event.response and self._model is None:
            self._model = _named_model(_response_in(event))

    # ── which item an event belongs to ──

    def _part_of(self, event: _Event, kind: _Kind) -> _Part:
        item = self._item_of(event, "message" if kind == "content" else "reasoning")
        part = item.part(kind, event.summary_index if kind == "summary" else event.content_index)
        if kind == "content":
            part.item_id, part.output_index, part.content_index = (
                event.item_id,
                event.output_index,
                event.content_index,
            )
            self._part = part
        return part

    def _item_of(self, event: _Event, type_: str) -> _Item:
        """Return the item of this type that a piece belongs to: by its id, else its index, else the last."""
        item_id, index = text_or_none(event.item_id), _index(event.output_index)
        item = self._by_id.get(item_id) if item_id else None
        if item is None or item.type != type_:
            item = self._by_index.get(index) if index is not None else self._last_open(type_)
        if item is None or item.type != type_:
            item = self._new_item(type_, item_id, index)
        return item

    def _last_open(self, type_: str) -> _Item | None:
        return next((item for item in reversed(self._items) if item.type == type_ and item.value is None), None)

    def _new_item(self, type_: str, item_id: str | None, index: object) -> _Item:
        if len(self._items) >= _MAX_ITEMS:
            raise ProtocolError(f"The server sent more than {_MAX_ITEMS:,} items in one answer. Try again")
        item = _Item(type_, item_id)
        if item.is_server_tool or type_ == "function_call":
            self._count_calls()
        self._items.append(item)
        if item_id:
            self._by_id[item_id] = item
        if index is not None:
            self._by_index[index] = item
        return item

    def _read_item(self, value: dict[str, Any], event: _Event, events: list[Event]) -> None:
        is_whole = event.type == "response.output_item.done"
        type_, item_id, index = value["type"], text_or_none(value.get("id")), _index(event.output_index)
        item = self._find(value)
        if item is None and is_whole:
            item = self._by_index.get(index) if index is not None else self._last_open(type_)
            if item is not None and (item.type != type_ or item.value is not None or not item.can_be(value)):
                item = None
        if item is None:
            item = self._new_item(type_, item_id, index)
        if is_whole:
            if item.value is None:
                self._complete(item, value, events)
        else:
            self._begin(item, value, events)

    def _find(self, value: dict[str, Any]) -> _Item | None:
        """Return the item with the id of ``value``, or the function call with its ``call_id``."""
        type_, item_id, call_id = value["type"], text_or_none(value.get("id")), text_or_none(value.get("call_id"))
        item = self._by_id.get(item_id) if item_id else None
        if item is not None and item.type == type_ and item.can_be(value):
            return item
        if type_ != "function_call" or not call_id:
            return None
        return next((item for item in self._items if item.type == type_ and item.call_id == call_id), None)

    # ── what is in an item ──

    def _begin(self, item: _Item, value: dict[str, Any], events: list[Event]) -> None:
        item.describe(value)
        if item.type == "function_call":
            item.first_arguments = _arguments(value.get("arguments"))
            self._clock.record((), tool_call=True)
        elif item.is_server_tool and item.step is None:
            self._take_step(item, value, "running", events)

    def _complete(self, item: _Item, value: dict[str, Any], events: list[Event]) -> None:
        item.describe(value)
        item.value = value
        if item.type == "function_call":
            item.set_arguments(_arguments(value.get("arguments")))
            self._clock.record((), tool_call=True)
        elif item.type == "message":
            self._say_missing(item, {"content": _texts(value.get("content"))}, events)
        elif item.type == "reasoning":
            parts: dict[_Kind, list[str]] = {
                "summary": _texts(value.get("summary")),
                "reasoning": _texts(value.get("content")),
            }
            self._say_missing(item, parts, events)
        elif item.is_server_tool:
            failed = value.get("status") in ("failed", "incomplete") or bool(value.get("error"))
            self._take_step(item, value, "error" if failed else "ok", events)

    def _say_missing(self, item: _Item, parts: Mapping[_Kind, list[str]], events: list[Event]) -> None:
        """Say those parts of a complete item that no event before held; a server may number them as it likes."""
        missing = [
            (kind, index, text)
            for kind, texts in parts.items()
            for index, text in enumerate(texts)
            if text and not item.part(kind, index).size
        ]
        texts = parts.get("content", [])
        part = item.part("content", 0) if len(texts) == 1 else None
        if part is not None and 0 < part.size < len(texts[0]) and self._thinking.transparent:
            said = "".join(self._texts_so_far(events))
            if item.size == part.size and said.endswith(texts[0][: part.size]):
                self._say(part, "content", texts[0][part.size :], events)
                return
        total = sum(len(text) for texts in parts.values() for text in texts)
        if item.size + sum(len(text) for _, _, text in missing) <= total:
            for kind, index, text in missing:
                self._say(item.part(kind, index), kind, text, events)

    def _say(self, part: _Part, kind: _Kind, text: str, events: list[Event]) -> None:
        if not text:
            return
        if kind == "content":
            is_second_half = self._thinking.has_half and "\udc00" <= text[0] <= "\udfff"
            part.size += len(text) - is_second_half
            events += self._thinking.feed(text)
            return
        part.size += len(text)
        if self._reasoning_part not in (None, part):
            text = "\n\n" + text
        self._reasoning_part = part
        self._reason(text, events)

    def _take_step(
        self, item: _Item, value: dict[str, Any], status: Literal["running", "ok", "error"], events: list[Event]
    ) -> None:
        """Add a step of a tool that the provider runs, unless it has been told."""
        if item.step is not None and item.step.status != "running":
            return
        name = redact_name(item.type.removesuffix("_call"))
        step_id = item.step.tool_call_id if item.step is not None else item.id or item.call_id
        arguments = _step_arguments(value)
        if arguments == "{}" and item.step is not None:
            arguments = item.step.arguments
        result = "" if status == "running" else _step_result(value)
        item.step = ServerToolStep(step_id or f"{name}_{len(self._items)}", name, status, arguments, result)
        events.append(item.step)

    # ── the end ──

    def _end(self, type_: str, event: _Event, events: list[Event]) -> None:
        response = _response_in(event)
        self._model = self._model or _named_model(response)
        if isinstance(response.usage, dict):
            self._usage = response.usage
        failure = self._error_in(response.error) if response.error else None
        if failure is None and {type_.removeprefix("response."), str(response.status)} & _FAILURES:
            failure = self._on_error({"message": "the response failed, without a reason"})
        if failure is not None:
            raise failure
        if type_ == "response.done" and response.status in ("queued", "in_progress"):
            return
        self._take_output(_decoded(response.output), events)
        if isinstance(response.output_text, str) and not any(item.size for item in self._items):
            self._say(self._part_of(event, "content"), "content", response.output_text, events)
        if type_ == "response.incomplete" or response.status == "incomplete":
            details = response.incomplete_details
            reason = details.get("reason") if isinstance(details, dict) else None
            self._finish_reason = reason if isinstance(reason, str) and ended_early(reason) else "incomplete"
        else:
            calls = [item for item in self._items if item.type == "function_call"]
            is_cut = any(call.is_cut for call in calls)
            self._finish_reason = "incomplete" if is_cut else "tool_calls" if calls else "stop"
        self.is_finished = self.is_complete = True

    def _take_output(self, output: object, events: list[Event]) -> None:
        """Complete the items by the list of all that ends a reply, which some servers leave empty."""
        values = [
            value
            for value in (output if isinstance(output, list) else ())
            if isinstance(value, dict) and isinstance(value.get("type"), str)
        ]
        waiting = {id(item): item for item in self._items}
        ordered: list[_Item] = []
        for value in values:
            item = self._find(value)
            if item is None or id(item) not in waiting:
                same = (item for item in waiting.values() if item.type == value["type"] and item.can_be(value))
                item = next(same, None)
            if item is None:
                item = self._new_item(value["type"], text_or_none(value.get("id")), None)
            else:
                del waiting[id(item)]
            ordered.append(item)
            if item.value is None:
                self._complete(item, value, events)
        self._items = [*ordered, *waiting.values()]
        for item in self._items:
            if item.step is not None and item.step.status == "running":
                self._take_step(item, {}, "ok", events)

    def _failure(self, event: _Event) -> ProviderError:
        error = self._error_in(event.error) if event.error else None
        if error is not None:
            return error
        body = {"code": event.code, "message": event.message, "param": event.param}
        return self._on_error(
            cleaned_json({name: value for name, value in body.items() if value is not None}, str)
        )

    def _skeleton(self) -> dict[str, Any]:
        """Return the output in order, in the form that goes back: opaque items as they came, places for ours."""
        items: list[dict[str, Any]] = []
        is_opaque = False
        for item in self._items:
            if item.type == "message":
                if item.size:
                    items.append(
                        {"type": "message", "size": item.size} | ({"phase": item.phase} if item.phase else {})
                    )
                    is_opaque = is_opaque or item.phase is not None
            elif item.type == "function_call":
                if item.name or item.final_arguments:
                    items.append({"type": "function_call"})
            elif item.value is not None and (
                item.value.get("encrypted_content") or item.value.get("content")
                if item.type == "reasoning"
                else item.type not in _OURS
            ):
                items.append(item.value)
                is_opaque = True
        return {"items": items} if is_opaque else {}


def _event_of(value: Mapping[str, Any]) -> _Event:
    """Return an event of a decoded payload."""
    return _Event(**_fields(value, _Event.__struct_fields__))


def _response_of(value: Any) -> _Response:
    return _Response(**_fields(value, _Response.__struct_fields__)) if isinstance(value, dict) else _Response()


def _fields(value: Mapping[str, Any], names: tuple[str, ...]) -> dict[str, Any]:
    return {name: raw_json(value.get(name)) if name in _RAW else value.get(name) for name in names}


def _decoded(value: msgspec.Raw) -> Any:
    return decode_raw(value) if value else None


def _response_in(event: _Event) -> _Response:
    return _Response() if bytes(event.response) in (b"", b"null") else decode_raw(event.response, _decode_response)


def _index(value: object) -> object:
    return value if isinstance(value, int | float | str) else None


def _named_model(response: _Response) -> str | None:
    return response.model if response.model and isinstance(response.model, str) else None


def _text_of(value: msgspec.Raw) -> str:
    text = _decoded(value)
    return text if isinstance(text, str) else ""


def _texts(parts: object) -> list[str]:
    """Return the texts and refusals in the parts of an item."""
    if isinstance(parts, str):
        return [parts]
    found = []
    for part in parts if isinstance(parts, list) else ():
        text = (part.get("text") or part.get("refusal")) if isinstance(part, dict) else None
        found.append(text if isinstance(text, str) else "")
    return found


def _arguments(value: object) -> str:
    return value if isinstance(value, str) else _json(value) if isinstance(value, dict) and value else ""


def _json(value: Any) -> str:
    return msgspec.json.encode(value).decode()


def _step_arguments(value: Mapping[str, Any]) -> str:
    """Return what a tool was asked: all that its item says besides its result."""
    told = {name: item for name, item in value.items() if name not in _NO_ARGUMENTS}
    if isinstance(told.get("action"), dict):  # what to search, which page to open
        told |= {name: item for name, item in told.pop("action").items() if name not in ("status", "sources")}
    if isinstance(told.get("arguments"), str):  # of an MCP server's tool
        with suppress(ValueError, RecursionError):
            told["arguments"] = msgspec.json.decode(told["arguments"])
    return _json({name: item for name, item in told.items() if item not in (None, "", [], {})})


def _step_result(value: Mapping[str, Any]) -> str:
    """Return the result of a tool in a few words, where its item has one."""
    if value.get("error"):
        text = error_message(value["error"])
    elif value.get("type") == "image_generation_call":
        text = f"<image/{value.get('output_format') or 'png'}>" if value.get("result") else ""
    else:
        action = value.get("action")
        sources = action.get("sources") if isinstance(action, dict) else None
        found = [value.get("output"), value.get("result"), value.get("outputs"), value.get("results"), sources]
        text = "\n".join(_short_texts(found))
    return text if len(text) <= _MAX_RESULT_CHARS else text[: _MAX_RESULT_CHARS - 1] + "…"


def _short_texts(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, list):
        for item in value:
            yield from _short_texts(item)
    elif isinstance(value, dict):
        if value.get("type") == "image":
            yield "<image>"
        else:
            words = (value.get(name) for name in ("filename", "logs", "text", "stdout", "stderr", "url"))
            yield ": ".join(word for word in words if word and isinstance(word, str))
