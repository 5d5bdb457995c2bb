"""Steps of tools that the provider runs: passed on by the loop, shown as cards, kept as other content is."""

from __future__ import annotations

from typing import Any

import pytest
from family import Ledger, ScriptedProvider
from hostile import HOSTILE, aimed, turn_of
from test_markdown_safety import assert_harmless

from createagents_nb.agent.agent import Agent
from createagents_nb.agent.chat import ChatWithAgentUseCase
from createagents_nb.agent.response import StreamingResponseDTO
from createagents_nb.core.events import ServerToolStep, ToolCallRequested
from createagents_nb.errors import ProtocolError
from createagents_nb.metrics import MetricsRecorder
from createagents_nb.notebook.view_messages import PieceWriter
from createagents_nb.notebook.views import _TextView
from createagents_nb.render.bundle import render_bundle, tool_card_html
from createagents_nb.render.snapshot import TextBlock, ToolLine
from createagents_nb.render.turn_state import TurnTracker
from createagents_nb.tools.tool import tool

BEGUN = ServerToolStep("ws_1", "web_search", "running")
FOUND = ServerToolStep("ws_1", "web_search", "ok", '{"query": "tide at <Vik>"}', "https://a.example")
CARD = ToolLine(
    tool_call_id="ws_1",
    name="web_search",
    arguments='{"query": "tide at <Vik>"}',
    status="ok",
    result="https://a.example",
    by_provider=True,
)


@tool
def gauge() -> str:
    """Reads the gauge."""
    return "2.4 m"


async def run(provider: ScriptedProvider, **more: Any) -> StreamingResponseDTO:
    agent = Agent(name="a", model="m", tools=[gauge])
    response = await ChatWithAgentUseCase(provider, **more).execute(agent, "How high?")
    await response
    return response


def tracked(response: StreamingResponseDTO) -> TurnTracker:
    tracker = TurnTracker(response)
    tracker.apply(response.events_so_far())
    return tracker


@pytest.mark.asyncio
async def test_a_step_passes_through_the_loop_and_nothing_runs(provider: ScriptedProvider) -> None:
    ledger = Ledger()
    provider.enqueue(BEGUN, FOUND, "High.")
    response = await run(provider, sink=ledger)
    assert [event for event in response.events_so_far() if isinstance(event, ServerToolStep)] == [BEGUN, FOUND]
    assert (response.text, ledger.tools, response.record.tool_calls, len(provider.calls)) == ("High.", [], 0, 1)
    assert tracked(response).blocks() == (CARD, TextBlock("High."))
    assert [message.role for message in provider.calls[0].messages] == ["user"]


@pytest.mark.asyncio
async def test_ids_that_come_again_are_other_steps(provider: ScriptedProvider) -> None:
    provider.enqueue(BEGUN, FOUND, ToolCallRequested("ws_1", "gauge", "{}"))
    provider.enqueue(BEGUN, FOUND, "High.")
    response = await run(provider)
    cards = [block for block in tracked(response).blocks() if isinstance(block, ToolLine)]
    assert [(card.name, card.status, card.round, card.by_provider) for card in cards] == [
        ("web_search", "ok", 1, True),
        ("gauge", "ok", 1, False),
        ("web_search", "ok", 2, True),
    ]
    assert len({card.tool_call_id for card in cards}) == 3


@pytest.mark.asyncio
@pytest.mark.parametrize(
    "step",
    [
        ServerToolStep(1, "f", "ok"),  # type: ignore[arg-type]
        ServerToolStep("1", "f", "fine"),  # type: ignore[arg-type]
        ServerToolStep("1", "f", "ok", {}),  # type: ignore[arg-type]
        ServerToolStep("1", "f", "ok", "{}", None),  # type: ignore[arg-type]
    ],
)
async def test_a_step_that_is_none_is_one_typed_error(provider: ScriptedProvider, step: ServerToolStep) -> None:
    provider.enqueue(step)
    with pytest.raises(ProtocolError, match="yielded an invalid ServerToolStep"):
        await run(provider)


def test_the_card_says_that_the_provider_ran_the_tool() -> None:
    html = tool_card_html(CARD, show_round=False)
    assert "web_search(query=&quot;tide at &lt;Vik&gt;&quot;)" in html
    assert "— done · run by the provider" in html
    assert "https://a.example" in html
    bundle = render_bundle(turn_of("", blocks=(CARD,)))
    assert '[tool] web_search(query="tide at <Vik>") -> done, run by the provider' in bundle["text/plain"]
    assert "done, run by the provider" in bundle["text/markdown"]
    mine = ToolLine(tool_call_id="1", name="f", arguments="{}", status="ok", result="x")
    assert "provider" not in tool_card_html(mine, show_round=False)


@pytest.mark.asyncio
async def test_a_step_that_does_not_end_is_shown_as_stopped(provider: ScriptedProvider) -> None:
    provider.enqueue(BEGUN, ServerToolStep("ws_2", "web_search", "error"), "High.")
    response = await run(provider)
    cards = [block for block in tracked(response).blocks() if isinstance(block, ToolLine)]
    assert [(card.status, card.result) for card in cards] == [("cancelled", None), ("error", None)]
    plain = render_bundle(tracked(response).snapshot())["text/plain"]
    assert "[tool] web_search() -> stopped, run by the provider" in plain
    assert "[tool] web_search() -> failed, run by the provider" in plain


@pytest.mark.asyncio
async def test_a_page_is_told_of_a_step_when_it_begins_and_when_it_ends(provider: ScriptedProvider) -> None:
    provider.enqueue(BEGUN, FOUND, ToolCallRequested("c", "gauge", "{}"))
    provider.enqueue("High.")
    response = await run(provider)
    told = PieceWriter(response).write(response.events_so_far())
    cards = [(piece[1], piece[2]) for piece in told if piece[0] == "tool"]
    assert [key for key, _ in cards] == ["0", "0", "1", "1"]
    assert "running… · run by the provider" in cards[0][1]
    assert cards[1][1] == tool_card_html(CARD, show_round=False)


@pytest.mark.asyncio
async def test_a_terminal_prints_a_step_when_it_has_ended(
    provider: ScriptedProvider, capsys: pytest.CaptureFixture[str]
) -> None:
    provider.enqueue(BEGUN, FOUND, "High.")
    response = await run(provider)
    _TextView(tracked(response)).update(response.events_so_far())
    assert capsys.readouterr().out == (
        '[tool] web_search(query="tide at <Vik>") → done, run by the provider\nHigh.'
    )


@pytest.mark.asyncio
async def test_what_may_be_kept_of_a_tool_holds_for_steps(provider: ScriptedProvider) -> None:
    recorder = MetricsRecorder(redact=lambda text: text.replace("Vik", "[harbor]").replace("a.example", "[site]"))
    provider.enqueue(BEGUN, FOUND, "High.")
    snapshot = tracked(await run(provider, sink=recorder)).snapshot()
    (card, _) = snapshot.blocks
    assert isinstance(card, ToolLine)
    assert (card.arguments, card.result) == ('{"query": "tide at <[harbor]>"}', "https://[site]")
    provider.enqueue(BEGUN, FOUND, "High.")
    response = await run(provider, sink=MetricsRecorder(record_content=False))
    bundle = render_bundle(tracked(response).snapshot())
    assert "Vik" not in str(bundle)
    assert "web_search" in bundle["text/html"]


@pytest.mark.once
@pytest.mark.parametrize("payload", [aimed(payload) for payload in HOSTILE])
def test_nothing_hostile_survives_in_the_card_of_a_step(payload: str) -> None:
    card = ToolLine(
        tool_call_id=payload, name=payload, arguments=payload, status="ok", result=payload, by_provider=True
    )
    assert_harmless(turn_of("x", blocks=(card,)))
