"""Replies of OpenAI's Responses API, written item by item: as the events of a stream, or as one body."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

__all__ = [
    "call",
    "event_stream",
    "events_of",
    "message",
    "reasoning",
    "refusal",
    "response",
    "server_tool",
    "stream",
]

Item = dict[str, Any]


def message(*texts: str, id_: str = "msg_1", **more: Any) -> Item:
    parts = [{"type": "output_text", "text": text, "annotations": [], "logprobs": []} for text in texts]
    return {"id": id_, "type": "message", "role": "assistant", "status": "completed", "content": parts, **more}


def refusal(text: str, id_: str = "msg_1") -> Item:
    return message(id_=id_) | {"content": [{"type": "refusal", "refusal": text}]}


def call(name: str, arguments: str, call_id: str = "call_1", **more: Any) -> Item:
    return {
        "id": f"fc_{call_id}",
        "type": "function_call",
        "status": "completed",
        "call_id": call_id,
        "name": name,
        "arguments": arguments,
        **more,
    }


def reasoning(*summary: str, encrypted: str | None = "b3BhcXVl", id_: str = "rs_1", **more: Any) -> Item:
    parts = [{"type": "summary_text", "text": text} for text in summary]
    return {"id": id_, "type": "reasoning", "summary": parts, "encrypted_content": encrypted, **more}


def server_tool(type_: str, id_: str = "st_1", status: str = "completed", **more: Any) -> Item:
    return {"id": id_, "type": type_, "status": status, **more}


def response(*output: Item, status: str = "completed", **more: Any) -> dict[str, Any]:
    usage = {
        "input_tokens": 25,
        "input_tokens_details": {"cached_tokens": 5},
        "output_tokens": 8,
        "output_tokens_details": {"reasoning_tokens": 3},
        "total_tokens": 33,
    }
    return {
        "id": "resp_1",
        "object": "response",
        "created_at": 1751370000,
        "status": status,
        "error": None,
        "incomplete_details": None,
        "model": "gpt-5.4-2026-03-05",
        "output": list(output),
        "parallel_tool_calls": True,
        "tool_choice": "auto",
        "tools": [],
        "usage": usage,
        **more,
    }


def _pieces(text: str, size: int = 5) -> list[str]:
    return [text[at : at + size] for at in range(0, len(text), size)]


def _part_events(
    kind: str, parts: Sequence[dict[str, Any]], at: dict[str, Any], index: str
) -> list[dict[str, Any]]:
    events = []
    for number, part in enumerate(parts):
        place = at | {index: number}
        name = "refusal" if part["type"] == "refusal" else kind
        field = "refusal" if name == "refusal" else "text"
        whole = part[field]
        deltas = [{"type": f"response.{name}.delta", "delta": piece, **place} for piece in _pieces(whole)]
        events += [*deltas, {"type": f"response.{name}.done", field: whole, **place}]
    return events


def events_of(item: Item, output_index: int) -> list[dict[str, Any]]:
    """The events of one item, from ``output_item.added`` to ``output_item.done``."""
    at = {"item_id": item["id"], "output_index": output_index}
    begun = dict(item)
    inner: list[dict[str, Any]] = []
    match item["type"]:
        case "message":
            begun["content"] = []
            inner = _part_events("output_text", item["content"], at, "content_index")
        case "reasoning":
            begun |= {"summary": [], "encrypted_content": "begun"}
            inner = _part_events("reasoning_summary_text", item["summary"], at, "summary_index")
            inner += _part_events("reasoning_text", item.get("content") or [], at, "content_index")
        case "function_call":
            begun["arguments"] = ""
            name = "response.function_call_arguments"
            inner = [{"type": f"{name}.delta", "delta": piece, **at} for piece in _pieces(item["arguments"])]
            inner.append({"type": f"{name}.done", "arguments": item["arguments"], "name": item["name"], **at})
        case other:
            kept = ("id", "type")
            begun = {key: value for key, value in item.items() if key in kept} | {"status": "in_progress"}
            inner = [
                {"type": f"response.{other}.in_progress", **at},
                {"type": f"response.{other}.completed", **at},
            ]
    added = {"type": "response.output_item.added", "output_index": output_index, "item": begun}
    done = {"type": "response.output_item.done", "output_index": output_index, "item": item}
    return [added, *inner, done]


def stream(*output: Item, status: str = "completed", **more: Any) -> list[dict[str, Any]]:
    """All events of a reply."""
    begun = response(status="in_progress", usage=None)
    return [
        {"type": "response.created", "response": begun},
        {"type": "response.in_progress", "response": begun},
        *(event for index, item in enumerate(output) for event in events_of(item, index)),
        {"type": f"response.{status}", "response": response(*output, status=status, **more)},
    ]


def event_stream(events: Sequence[dict[str, Any]]) -> list[bytes]:
    """Server-sent events as OpenAI writes them, one piece an event."""
    return [
        f"event: {event.get('type')}\ndata: {json.dumps({'sequence_number': number, **event})}\n\n".encode()
        for number, event in enumerate(events)
    ]
