"""What is kept of what was said: nothing, or without keys, or as the user's own function leaves it."""

from __future__ import annotations

import json
from typing import Any

import pytest
from family import ScriptedProvider

from createagents_nb.agent.agent import Agent
from createagents_nb.agent.chat import ChatWithAgentUseCase
from createagents_nb.agent.events import Reasoning, RoundEnded, ToolCallRequested
from createagents_nb.agent.stream import StreamingResponseDTO
from createagents_nb.agent.tools import resolve_tools
from createagents_nb.metrics import MetricsRecorder, RecorderWarning
from createagents_nb.metrics.export import to_json, to_prometheus
from createagents_nb.notebook.static_bundle import NOT_KEPT, render_bundle
from createagents_nb.notebook.tracker import TurnTracker

CANARY = "canary"
KEY = "sk-abcdefgh12345678"


def table(name: str) -> Any:
    """A table.

    Args:
        name: its name
    """
    import pandas as pd

    return pd.DataFrame({CANARY: [name]})


def fail(name: str) -> str:
    """Fails.

    Args:
        name: its name
    """
    raise LookupError(f"{CANARY} {name}")


async def turn(recorder: MetricsRecorder, said: str = CANARY) -> StreamingResponseDTO:
    provider = ScriptedProvider()
    arguments = json.dumps({"name": said})
    provider.enqueue(
        Reasoning(f"{said} I think"),
        f"{said} **first** ",
        ToolCallRequested("t1", "table", arguments),
        ToolCallRequested("t2", "fail", arguments),
        ToolCallRequested("t3", "table", json.dumps({said: 1})),
        ToolCallRequested("t4", f"no-such-tool-{said}", arguments),
    )
    provider.enqueue(f"`{said}` last", RoundEnded("stop"))
    agent = Agent(name="a", model="m", tools=resolve_tools([table, fail], {}))
    response = await ChatWithAgentUseCase(provider, sink=recorder).execute(agent, f"{said}?")
    assert said in await response
    return response


def bundle_of(response: StreamingResponseDTO) -> dict[str, Any]:
    tracker = TurnTracker(response)
    tracker.apply(response.events_so_far())
    return render_bundle(tracker.snapshot())


def everything(recorder: MetricsRecorder, response: StreamingResponseDTO, rows: list[Any]) -> str:
    """All that a recorder and a notebook keep of a turn."""
    frames = [frame.to_csv() for frame in (recorder.calls, recorder.requests, recorder.tools)]
    records = [recorder.call_records, recorder.request_records, recorder.tool_records]
    shown = [repr(recorder.show()), recorder.show()._repr_html_(), recorder._repr_html_()]
    return repr((frames, records, shown, rows, to_json(recorder), to_prometheus(recorder), bundle_of(response)))


@pytest.mark.asyncio
async def test_without_content_nothing_that_was_said_is_kept_anywhere() -> None:
    rows: list[Any] = []
    recorder = MetricsRecorder(rows, record_content=False)
    response = await turn(recorder)
    kept = everything(recorder, response, rows)
    # A tool's name is no content: it is what the tools' figures are counted by.
    assert CANARY not in kept.replace(f"no-such-tool-{CANARY}", "")
    assert recorder.tools["status"].tolist() == ["ok", "error", "invalid_arguments", "unknown_tool"]
    assert recorder.tools["error"].tolist()[1] == "LookupError"
    assert recorder.calls["tool_calls"].tolist() == [4]
    bundle = bundle_of(response)
    for kind in ("text/html", "text/plain"):
        assert NOT_KEPT in bundle[kind]
        assert "table" in bundle[kind]
    assert CANARY in response.text  # who holds the response has the answer


@pytest.mark.asyncio
async def test_content_may_be_turned_off_between_calls() -> None:
    recorder = MetricsRecorder()
    await turn(recorder, "one")
    recorder.record_content = False
    await turn(recorder, "two")
    assert recorder.calls["prompt"].tolist()[0] == "one?"
    assert recorder.calls["prompt"].isna().tolist() == [False, True]


@pytest.mark.asyncio
async def test_keys_and_bearer_tokens_are_masked_in_all_that_is_kept() -> None:
    rows: list[Any] = []
    recorder = MetricsRecorder(rows)
    kept = everything(recorder, response := await turn(recorder, KEY), rows)
    assert KEY not in kept.replace(f"no-such-tool-{KEY}", "")
    assert recorder.calls["prompt"].tolist() == ["***?"]
    assert recorder.tools["arguments"].tolist()[0] == '{"name": "***"}'
    assert "<strong>first</strong>" in bundle_of(response)["text/html"]
    other = MetricsRecorder()
    await turn(other, token := "Authorization: Bearer abcdef.123456")
    assert token not in repr((other.call_records, other.tool_records)).replace(f"no-such-tool-{token}", "")


@pytest.mark.asyncio
async def test_ones_own_function_masks_what_is_kept() -> None:
    rows: list[Any] = []
    recorder = MetricsRecorder(rows, redact=lambda text: text.replace(CANARY, "[bird]"))
    response = await turn(recorder)
    kept = everything(recorder, response, rows)
    assert CANARY not in kept.replace(f"no-such-tool-{CANARY}", "")
    assert recorder.calls["response"].tolist()[0].startswith("[bird] **first**")
    assert "[bird]" in bundle_of(response)["text/html"]


@pytest.mark.asyncio
async def test_a_function_that_fails_keeps_nothing_and_is_told_of_once() -> None:
    def broken(text: str) -> str:
        raise ValueError("no idea")

    recorder = MetricsRecorder(redact=broken)
    said = r"redact= failed, so a text was not kept: ValueError: no idea"
    with pytest.warns(RecorderWarning, match=said) as told:
        response = await turn(recorder)
    kept = everything(recorder, response, [])
    assert len(told) == 1
    assert CANARY not in kept.replace(f"no-such-tool-{CANARY}", "")
