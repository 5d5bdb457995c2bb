"""Lines for the user that are not part of the answer: shown once, in every view, and never sent."""

from __future__ import annotations

import pytest
from family import ScriptedProvider

from createagents_nb import CreateAgent, MetricsRecorder
from createagents_nb.core.events import Notice, RoundEnded
from createagents_nb.notebook.view_messages import PieceWriter
from createagents_nb.notebook.views import open_view
from createagents_nb.render.bundle import render_bundle
from createagents_nb.render.turn_state import TurnTracker

pytestmark = pytest.mark.asyncio

LOADING = Notice("The server loads its <b>model</b>")


async def test_a_notice_is_passed_on_once_per_agent(provider: ScriptedProvider, recorder: MetricsRecorder) -> None:
    agent = CreateAgent(provider, "m", recorder=recorder)
    for _ in range(2):
        provider.enqueue(LOADING, "Hi", LOADING, RoundEnded("stop"))
    first, second = await agent.chat("a"), await agent.chat("b")
    assert (await first, await second) == ("Hi", "Hi")
    assert [event for event in first.events_so_far() if isinstance(event, Notice)] == [LOADING]
    assert not any(isinstance(event, Notice) for event in second.events_so_far())
    provider.enqueue("Hi")
    variant = agent.variant(model="n")
    await variant.ask("c")
    assert "loads" not in "".join(message.text for message in variant.history)


async def test_every_view_shows_a_notice(
    provider: ScriptedProvider, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    provider.enqueue("Be", LOADING, "fore", RoundEnded("stop"))
    response = await CreateAgent(provider, "m").chat("a")
    await response.wait()
    events = response.events_so_far()
    tracker = TurnTracker(response)
    tracker.apply(events)
    bundle = render_bundle(tracker.snapshot())
    line = "The server loads its &lt;b&gt;model&lt;/b&gt;</div>"
    assert 'class="createagents-notice"' in bundle["text/html"]
    assert line in bundle["text/html"]
    assert "[notice] The server loads its <b>model</b>" in bundle["text/plain"]
    assert "<b>" not in bundle["text/markdown"]
    assert "loads its" in bundle["text/markdown"]
    pieces = PieceWriter(response).write(events)
    assert [piece[0] for piece in pieces] == ["text", "tool", "text"]
    assert line in str(pieces[1])
    monkeypatch.setenv("CREATEAGENTS_NB_VIEW", "text")
    view = open_view(None, response, tracker)
    view.update(events)
    assert "Be\n[notice] The server loads its <b>model</b>\nfore" in capsys.readouterr().out
