"""The views in which a turn shows: what is tracked, what growing updates cost, and the text of a terminal."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from family import ScriptedServer
from IPython.core.displaypub import DisplayPublisher
from IPython.core.interactiveshell import InteractiveShell
from kernel_client import BUNDLE_MIME, answer, environment, wait_until
from traitlets.config import Config

from createagents_nb.agent.response import StreamingResponseDTO
from createagents_nb.agent.turn_log import TurnLog
from createagents_nb.core.events import Reasoning, ToolCallFinished, ToolCallRequested, ToolCallStarted, TurnDone
from createagents_nb.core.records import CallRecord
from createagents_nb.core.tool_display import TableDisplay
from createagents_nb.notebook.views import View, open_view
from createagents_nb.render.snapshot import ReasoningBlock, TextBlock, ToolLine
from createagents_nb.render.turn_state import TurnTracker

RECORD = CallRecord(
    call_id="1",
    started_at=datetime.now(UTC),
    agent="a",
    provider="openai",
    model="m",
    status="running",
)


# The tracker


@pytest.mark.asyncio
async def test_blocks_come_in_the_order_in_which_they_happened() -> None:
    tracker = TurnTracker(StreamingResponseDTO(TurnLog(RECORD)))
    tracker.apply([Reasoning("Hm"), Reasoning("m. "), "Let ", "me "])
    tracker.apply(["see.", ToolCallRequested("c1", "rows", '{"limit": 3}')])
    assert tracker.blocks() == (
        ReasoningBlock("Hmm. "),
        TextBlock("Let me see."),
        ToolLine(tool_call_id="c1", name="rows", arguments='{"limit": 3}'),
    )
    tracker.apply(
        [ToolCallStarted("c1", "rows", 1), ToolCallFinished("c1", "rows", 1, "ok", 0.5, "three"), "Done"]
    )
    tracker.apply(["."])
    tool, text = tracker.blocks()[2:]
    assert isinstance(tool, ToolLine)
    assert (tool.status, tool.latency_s, tool.result) == ("ok", 0.5, "three")
    assert text == TextBlock("Done.")


@pytest.mark.asyncio
async def test_a_tool_that_was_asked_for_and_never_ran_does_not_stay_running() -> None:
    tracker = TurnTracker(StreamingResponseDTO(TurnLog(RECORD)))
    tracker.apply([ToolCallRequested("c1", "rows", "{}"), TurnDone("limit")])
    tool = tracker.tool("c1")
    assert tool is not None
    assert tool.status == "not_run"


@pytest.mark.asyncio
async def test_what_a_tool_shows_and_what_the_agent_allows_reach_the_snapshot() -> None:
    tracker = TurnTracker(StreamingResponseDTO(TurnLog(RECORD, remote_images=True)))
    table = TableDisplay(("a",), (("1",),), 1, 1)
    tracker.apply(
        [ToolCallRequested("c1", "rows", "{}"), ToolCallFinished("c1", "rows", 1, "ok", 0.5, "| a |", table)]
    )
    snapshot = tracker.snapshot()
    (tool,) = snapshot.blocks
    assert isinstance(tool, ToolLine)
    assert tool.display is table
    assert snapshot.remote_images
    assert not TurnTracker(StreamingResponseDTO(TurnLog(RECORD))).snapshot().remote_images


@pytest.mark.asyncio
async def test_the_cost_reaches_the_snapshot() -> None:
    log = TurnLog(RECORD)
    response = StreamingResponseDTO(log)
    log.settle(replace(RECORD, status="ok", cost_usd=0.0042))
    assert TurnTracker(response).snapshot().cost_usd == 0.0042


@pytest.mark.asyncio
async def test_tools_at_once_keep_their_own_lines() -> None:
    tracker = TurnTracker(StreamingResponseDTO(TurnLog(RECORD)))
    tracker.apply([ToolCallRequested(f"c{number}", "rows", "{}") for number in range(3)])
    tracker.apply([ToolCallFinished("c1", "rows", 1, "timeout", 1.0, "too slow")])
    tracker.apply([ToolCallFinished("nobody", "rows", 1, "ok", 1.0, "x")])
    assert [block.status for block in tracker.blocks() if isinstance(block, ToolLine)] == [
        "running",
        "timeout",
        "running",
    ]


@pytest.mark.asyncio
async def test_snapshot_does_not_change_when_the_turn_goes_on() -> None:
    tracker = TurnTracker(StreamingResponseDTO(TurnLog(RECORD)))
    tracker.apply(["one "])
    before = tracker.snapshot()
    tracker.apply(["two"])
    assert before.blocks == (TextBlock("one "),)
    assert tracker.snapshot().blocks == (TextBlock("one two"),)
    assert (before.status, before.agent, before.record) == ("running", "a", {})


# Growing updates


class Publisher(DisplayPublisher):
    """Keeps what is displayed, as a front end that has no widgets would."""

    def __init__(self, **arguments: Any) -> None:
        super().__init__(**arguments)
        self.bundles: list[tuple[dict[str, Any], bool]] = []

    def publish(self, data: Any, metadata: Any = None, **more: Any) -> None:
        self.bundles.append((data, more.get("update", False)))


@pytest.fixture
def published(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Publisher]:
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path))
    monkeypatch.setenv("CREATEAGENTS_NB_VIEW", "static")
    config = Config()
    config.HistoryManager.enabled = False
    shell = InteractiveShell.instance(config=config)
    shell.display_pub = Publisher(parent=shell)
    yield shell.display_pub
    shell.restore_sys_module_state()
    InteractiveShell.clear_instance()


def opened(response: StreamingResponseDTO, tracker: TurnTracker, monkeypatch: pytest.MonkeyPatch) -> View:
    view = open_view(InteractiveShell.instance(), response, tracker)
    monkeypatch.setattr(type(view), "_INTERVAL_S", 0.0)  # as if every batch came long after the one before
    return view


@pytest.mark.asyncio
async def test_growing_updates_cost_a_few_times_the_answer_and_not_its_square(
    published: Publisher, monkeypatch: pytest.MonkeyPatch
) -> None:
    response = StreamingResponseDTO(TurnLog(RECORD))
    tracker = TurnTracker(response)
    view = opened(response, tracker, monkeypatch)
    batches = [[f"word{number} ", "and on.\n\n" if number % 20 == 0 else "and "] for number in range(4_000)]
    text = "".join(piece for batch in batches for piece in batch)
    for batch in batches:
        tracker.apply(batch)
        view.update(batch)
    view.close(tracker.snapshot())
    *updates, last = [bundle["text/plain"] for bundle, _ in published.bundles]
    # Below 64,000 characters every batch is shown; above, a repaint waits for enough new text.
    assert sum(map(len, updates)) <= 4 * len(text) + 64_000 + 200 * len(updates)
    assert 5 < len(updates) < len(batches)
    assert [is_update for _, is_update in published.bundles] == [False, *[True] * len(updates)]
    assert text.strip() in last


@pytest.mark.asyncio
async def test_short_answer_grows_with_every_batch(published: Publisher, monkeypatch: pytest.MonkeyPatch) -> None:
    response = StreamingResponseDTO(TurnLog(RECORD))
    tracker = TurnTracker(response)
    view = opened(response, tracker, monkeypatch)
    for batch in (["one "], ["two "], [ToolCallRequested("c", "rows", "{}")]):
        tracker.apply(batch)
        view.update(batch)
    shown = [bundle["text/plain"].replace("\n", " ") for bundle, _ in published.bundles]
    assert len(shown) == 4
    assert "one" not in shown[0]
    assert "two" not in shown[1]
    assert "one two" in shown[2]
    assert "rows()" in shown[3]
    assert all(BUNDLE_MIME not in bundle for bundle, _ in published.bundles)


# A terminal


class Terminal:
    """IPython in a terminal, without the terminal: lines go in, what it prints is read as it comes."""

    def __init__(self, folder: Path, *arguments: str) -> None:
        command = [sys.executable, "-m", "IPython", "--no-banner", "--quick", "--no-confirm-exit", *arguments]
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            cwd=folder,
            env=environment(IPYTHONDIR=str(folder), PYTHONUNBUFFERED="1", PYTHONUTF8="1"),
            encoding="utf-8",
        )
        self.text = ""
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        while piece := self._process.stdout.read(1):
            self.text += piece

    def enter(self, cell: str) -> None:
        """Type a cell; two blank lines end a cell magic."""
        assert self._process.stdin is not None
        self._process.stdin.write(cell + ("\n\n\n" if cell.startswith("%%") else "\n"))
        self._process.stdin.flush()

    def until(self, text: str) -> None:
        wait_until(lambda: text in self.text, f"{text!r} on the terminal")

    def interrupt(self) -> None:
        self._process.send_signal(signal.SIGINT)

    def end(self) -> str:
        """Everything that was printed."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(60)
        self._reader.join(60)
        return self.text

    def kill(self) -> None:
        self._process.kill()
        self._process.wait(60)


@pytest.fixture
def terminal(tmp_path: Path, server: ScriptedServer) -> Iterator[Terminal]:
    terminal = Terminal(tmp_path, "--simple-prompt")
    terminal.enter("%load_ext createagents_nb")
    terminal.enter("from createagents_nb import CreateAgent, recorder")
    terminal.enter(f"a = CreateAgent('openai', 'm', name='a', base_url={server.openai_url!r}, api_key='none')")
    yield terminal
    terminal.kill()


def test_terminal_shows_text_as_it_comes_and_nothing_twice(terminal: Terminal, server: ScriptedServer) -> None:
    hold = threading.Event()
    server.enqueue(answer("Hello **you** \x1b[31m", hold, " over\rthere"))
    server.enqueue(answer("assigned"))
    server.enqueue(answer("expression"))
    terminal.enter("%%agent a -o kept\nhi")
    terminal.until("Hello **you**")
    assert "there" not in terminal.text
    hold.set()
    terminal.enter("r = await a.chat('hi')")
    terminal.enter("r")
    terminal.enter("await a.chat('hi')")
    terminal.enter("%%agent nobody\nhi")
    terminal.enter("print('kept', len(kept))")
    text = terminal.end()
    assert [text.count(word) for word in ("Hello", "assigned", "expression")] == [1, 1, 1]
    assert text.count("a · openai/m · done") == 3
    assert text.count("AgentNotFoundError") == 1
    assert "Traceback" not in text
    assert "\x1b[31m over" not in text
    assert "\r" not in text.replace("\r\n", "\n")
    assert "kept 30" in text


def test_interrupt_in_a_terminal_stops_the_turn_and_not_ipython(
    terminal: Terminal, server: ScriptedServer
) -> None:
    hold = threading.Event()
    server.enqueue(answer("Hello ", hold, "never"))
    server.enqueue(answer(hold, "never"))
    server.enqueue(answer("fine"))
    terminal.enter("%%agent a\nhi")
    terminal.until("Hello")
    terminal.interrupt()
    terminal.until("stopped by the user")
    terminal.enter("await a.chat('hi')")
    wait_until(lambda: len(server.requests) == 2, "the second request")
    terminal.interrupt()
    wait_until(lambda: server.open_connections == 0, "the connections are closed")
    terminal.enter("await a.chat('hi')")
    terminal.enter("print([call.status for call in recorder.call_records])")
    text = terminal.end()
    assert "['cancelled', 'cancelled', 'ok']" in text
    assert text.count("TurnStopped") == 2
    assert "Traceback" not in text
    assert "CancelledError" not in text
    assert "never" not in text


def test_one_command_waits_for_its_answer(tmp_path: Path, server: ScriptedServer) -> None:
    server.enqueue(answer("from one command"))
    code = (
        "%load_ext createagents_nb\nfrom createagents_nb import CreateAgent\n"
        f"await CreateAgent('openai', 'm', base_url={server.openai_url!r}, api_key='none').chat('hi')"
    )
    assert "from one command" in Terminal(tmp_path, "-c", code).end()
