"""What a soak complains about: texts, rows and histories in which something is missing, left or another turn's."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from soak_server import planned_text

from createagents_nb import MetricsRecorder, StreamingResponseDTO

__all__ = ["Planned", "complaints", "complaints_about_history", "complaints_about_rows"]

_MARK = re.compile(r"m\d+x\d+")


@dataclass(frozen=True)
class Planned:
    """A turn; see `soak_server.prompt_of` for its rounds, and `soak.WAYS` for its way."""

    agent: int
    mark: str
    rounds: tuple[tuple[str, str], ...]
    way: str
    stop_s: float


def _strangers(mark: str, *texts: str | None) -> set[str]:
    return {found for text in texts for found in _MARK.findall(text or "")} - {mark}


def complaints(planned: Planned, response: StreamingResponseDTO) -> list[str]:
    found = []
    whole = planned_text(planned.mark, planned.rounds)
    if not whole.startswith(response.text) or (response.status == "ok" and response.text != whole):
        found.append(f"{planned}: {response.status} with the text {response.text!r}")
    if response.record.response != response.text:
        found.append(f"{planned}: the row has another text: {response.record.response!r}")
    if response.status not in {"ok", "error", "cancelled"}:
        found.append(f"{planned}: {response.status}")
    is_stopped = planned.way not in {"await", "iterate", "drop"}
    if response.status == "cancelled" and not is_stopped:
        found.append(f"{planned}: nobody stopped it")
    breaks = any(fault in {"reset", "truncated", "500"} for fault, _ in planned.rounds)
    if response.status == "error" and not breaks:
        found.append(f"{planned}: {response.error!r}")
    events = [
        str(getattr(event, name, "")) for event in response.events_so_far() for name in ("arguments", "result")
    ]
    if strangers := _strangers(planned.mark, response.text, *events, str(response.error or "")):
        found.append(f"{planned}: it heard of {strangers}")
    return found


def complaints_about_rows(recorder: MetricsRecorder, turns: int) -> list[str]:
    found = []
    calls = recorder.call_records
    if len(calls) != turns or len({record.call_id for record in calls}) != turns:
        found.append(f"{len(calls)} rows for {turns} turns")
    marks = {}
    for call in calls:
        marks[call.call_id] = mark = (call.prompt or "").partition(" ")[0]
        if strangers := _strangers(mark, call.prompt, call.response, call.error):
            found.append(f"the row of {mark} has {strangers}")
        whole = planned_text(mark, json.loads((call.prompt or "").partition(" ")[2])["rounds"])
        if not whole.startswith(call.response or "") or (call.status == "ok" and call.response != whole):
            found.append(f"the row of {mark} is {call.status} with the text {call.response!r}")
        if call.agent != f"agent {mark[1:].partition('x')[0]}":
            found.append(f"the row of {mark} is {call.agent}'s")
    for tool_row in recorder.tool_records:
        mark = marks.get(tool_row.call_id, "")
        if strangers := _strangers(mark, str(tool_row.arguments), tool_row.result, tool_row.error):
            found.append(f"a tool of {mark} has {strangers}")
    rows = [*calls, *recorder.request_records, *recorder.tool_records]
    found += [f"a row still runs: {row}" for row in rows if row.status == "running"]
    return found


def complaints_about_history(agent: int, messages: Sequence[Any]) -> list[str]:
    found: list[str] = []
    waiting: list[str | None] = []
    numbers = []
    mark = ""
    for message in messages:
        if message.role == "user":
            mark = message.content.partition(" ")[0]
            numbers.append(int(mark.partition("x")[2]))
        if message.role == "tool":
            if message.tool_call_id not in waiting:
                found.append(f"agent {agent}: a result without its call: {message}")
            else:
                waiting.remove(message.tool_call_id)
        else:
            if waiting:
                found.append(f"agent {agent}: a call without its result before {message}")
            waiting = [call.tool_call_id for call in message.tool_calls]
        texts = [message.content, *(str(call.arguments) for call in message.tool_calls)]
        if _strangers(mark, *texts) or not mark.startswith(f"m{agent}x"):
            found.append(f"agent {agent}: a stranger in its history: {message}")
    if numbers != sorted(numbers):
        found.append(f"agent {agent}: its turns are not in their order: {numbers}")
    return found
