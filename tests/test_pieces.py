"""What a live view is told adds up to what will be saved."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from itertools import pairwise
from typing import Any

import pytest
from family import ScriptedProvider
from hypothesis import given
from hypothesis import strategies as st

from createagents_nb import CreateAgent
from createagents_nb.agent.response import StreamingResponseDTO
from createagents_nb.agent.turn_log import TurnLog
from createagents_nb.core.events import (
    Event,
    Reasoning,
    RoundEnded,
    TextWasReasoning,
    ToolCallFinished,
    ToolCallRequested,
    ToolCallStarted,
    TurnDone,
)
from createagents_nb.core.records import CallRecord
from createagents_nb.notebook import view_messages as pieces_module
from createagents_nb.notebook.turn_channel import TurnChannel
from createagents_nb.notebook.view_messages import Piece, PieceWriter
from createagents_nb.render.bundle import tool_card_html
from createagents_nb.render.labels import pretty_arguments
from createagents_nb.render.snapshot import ToolLine
from createagents_nb.render.turn_state import TurnTracker
from createagents_nb.text import TextCleaner, clean_text

RECORD = CallRecord(
    call_id="1", started_at=datetime.now(UTC), agent="a", provider="openai", model="m", status="running"
)
ESCAPES = [
    "\x1b",
    "[",
    "]",
    "3",
    "1m",
    ";",
    "\x07",
    "\\",
    "\x9b",
    "\x9c",
    "\x90",
    "\r",
    "\n",
    "a",
    " ",
    "\u200b",
    "P",
]


@given(st.lists(st.sampled_from(ESCAPES), max_size=30), st.lists(st.integers(0, 60), max_size=8))
def test_text_that_is_cleaned_in_pieces_is_what_it_is_as_a_whole(parts: list[str], cuts: list[int]) -> None:
    text = "".join(parts)
    places = sorted({0, len(text), *(cut for cut in cuts if cut < len(text))})
    cleaner = TextCleaner()
    pieces = [cleaner.feed(text[start:end]) for start, end in pairwise(places)]
    assert "".join(pieces) + cleaner.rest() == clean_text(text)


def test_an_escape_that_never_ends_is_held_back_only_so_far() -> None:
    cleaner = TextCleaner()
    assert "x" in cleaner.feed("\x1b]" + "x" * 5_000)


def writer() -> PieceWriter:
    return PieceWriter(StreamingResponseDTO(TurnLog(RECORD)))


def texts(pieces: list[Piece]) -> list[tuple[str, ...]]:
    return [piece for piece in pieces if piece[0] != "tool"]


@pytest.mark.asyncio
async def test_what_comes_together_is_one_piece_and_a_held_back_end_comes_before_what_follows() -> None:
    events: list[Event] = ["Hel", "lo\r", Reasoning("Hm"), Reasoning("m\x1b[3"), "And \x1b[3", "1mon"]
    assert writer().write(events) == [("text", "Hello\n"), ("reasoning", "Hmm3"), ("text", "And on")]
    one_by_one = writer()
    assert [one_by_one.write([event]) for event in events[:3]] == [
        [("text", "Hel")],
        [("text", "lo")],
        [("text", "\n"), ("reasoning", "Hm")],
    ]


@pytest.mark.asyncio
async def test_a_card_is_told_when_it_changes_and_every_card_when_there_are_rounds() -> None:
    told = writer()
    asked = told.write(["Let me see", ToolCallRequested("1", "rows", "{}"), ToolCallStarted("1", "rows", 1)])
    running = ToolLine(tool_call_id="1", name="rows", arguments="{}")
    assert asked == [("text", "Let me see"), ("tool", "0", tool_card_html(running, False))]
    (ended,) = told.write([ToolCallFinished("1", "rows", 1, "ok", 0.5, "three")])
    assert "done · 0.50 s" in ended[2]
    second = told.write([ToolCallRequested("2", "rows", "{}"), ToolCallStarted("2", "rows", 2)])
    assert [(piece[1], "round" in piece[2]) for piece in second] == [("1", False), ("0", True), ("1", True)]


@pytest.mark.asyncio
async def test_a_tool_that_never_ran_is_told_at_the_end() -> None:
    told = writer()
    told.write([ToolCallRequested("1", "rows", "{}")])
    (piece,) = told.write([TurnDone("limit")])
    assert "not run" in piece[2]


@pytest.mark.asyncio
async def test_an_id_that_comes_again_is_another_card() -> None:
    told = writer()
    told.write([ToolCallRequested("1", "rows", "{}"), ToolCallFinished("1", "rows", 1, "ok", 0.5, "three")])
    (piece,) = told.write([ToolCallRequested("1", "columns", "{}")])
    assert piece[:2] == ("tool", "1")
    assert "columns()" in piece[2]


@pytest.mark.asyncio
async def test_many_calls_are_told_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[str] = []
    monkeypatch.setattr(pieces_module, "tool_card_html", lambda line, _: drawn.append(line.name) or line.name)
    told = writer()
    for number in range(200):
        told.write([ToolCallRequested(f"{number}", f"tool{number}", "{}")])
    assert len(drawn) == 200


def test_arguments_that_nest_too_deep_are_not_indented() -> None:
    text = '{"a":' + "[" * 900 + "]" * 900 + "}"
    assert pretty_arguments(text) == text
    assert pretty_arguments('{"a":[1]}') == '{\n  "a": [\n    1\n  ]\n}'


def test_escapes_that_never_end_cost_no_more_than_their_length() -> None:
    assert clean_text("\x9d" * 200_000) == ""
    assert clean_text(("\x90" + "a" * 10) * 50_000) == "a" * 500_000


@pytest.mark.asyncio
async def test_a_page_is_sent_all_anew_when_text_is_taken_back(provider: ScriptedProvider) -> None:
    gate = asyncio.Event()
    provider.enqueue("They want ", gate, TextWasReasoning("They want it."), "So.", RoundEnded("stop"))
    response = await CreateAgent(provider, "m").chat("Go")
    tracker = TurnTracker(response)
    channel = TurnChannel(response, tracker)
    sent: list[dict[str, Any]] = []
    channel.widget.send = sent.append
    async for event in response.events():
        tracker.apply([event])
        channel.send([event])
        gate.set()
    channel.close()
    assert [(message["type"], message["pieces"]) for message in sent if message["pieces"]] == [
        ("delta", [("text", "They want ")]),
        ("snapshot", [("reasoning", "They want it.")]),
        ("delta", [("text", "So.")]),
    ]
