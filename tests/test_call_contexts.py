"""What calls were asked with, as the recorder keeps it: whole, once, by its rules, in memory and in files."""

from __future__ import annotations

import asyncio
import gc
import json
import sqlite3
import weakref
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from echo_server import EchoServer
from family import ScriptedProvider, png
from html_whitelist import read_strictly

from createagents_nb import CreateAgent, MetricsRecorder, tool
from createagents_nb.core.events import ToolCallRequested
from createagents_nb.core.messages import ImagePart, Message
from createagents_nb.metrics.export import to_json

KEY = "ghp_0123456789abcdef0123456789"


@tool
def weather(city: str) -> str:
    """The weather of a city that Anna knows."""
    return f"{city}: sunny"


@pytest.fixture
def echo() -> Iterator[EchoServer]:
    with EchoServer() as running:
        yield running


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "runs.db"


def made(server: EchoServer, recorder: MetricsRecorder, **options: Any) -> CreateAgent:
    known: dict[str, Any] = {
        "instructions": "Be brief.",
        "tools": [weather],
        "config": {"temperature": 0.5, "extra": {"metadata": {"password": "correct horse battery"}}},
    }
    return CreateAgent("openai", "m", base_url=server.url, api_key="none", recorder=recorder, **known | options)


async def ask(agent: CreateAgent, *prompts: str) -> None:
    for prompt in prompts:
        await (await agent.chat(prompt)).wait()


def history(recorder: MetricsRecorder, call: int = -1) -> list[tuple[str, str | None]]:
    context = recorder.call_records[call].context
    assert context is not None
    return [(message.role, message.content) for message in context.history]


# ── what is shown ────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.asyncio
async def test_a_call_is_shown_with_all_that_was_sent(echo: EchoServer, recorder: MetricsRecorder) -> None:
    await ask(made(echo, recorder), "one", "two", "use it")
    sent = echo.bodies[-1]
    assert [message["role"] for message in sent["messages"][:5]] == [
        "system",
        "user",
        "assistant",
        "user",
        "assistant",
    ]
    text = str(recorder.show())
    parts = ["System", "Be brief.", "History of 4 messages", "user: one", "assistant: echo one", "user: two"]
    parts += ["Prompt", "use it", "Tools: weather", '"city"', "Config", '"temperature": 0.5', "Round 1", "Answer"]
    places = [text.index(part) for part in parts]
    assert places == sorted(places)
    assert '"password": "***"' in text
    html = recorder.show()._repr_html_()
    for part in ("History of 4 messages", "user: one", "Tools: weather", "Config"):
        assert part in html


@pytest.mark.asyncio
async def test_what_a_history_has_of_tools_is_shown(provider: ScriptedProvider, recorder: MetricsRecorder) -> None:
    provider.enqueue(ToolCallRequested("c1", "weather", '{"city": "Bel\\u00e9m"}'))
    provider.enqueue("Sunny.")
    provider.enqueue("Yes.")
    await ask(CreateAgent(provider, "m", tools=[weather], recorder=recorder), "Where?", "Sure?")
    text = str(recorder.show())
    assert '-> weather({"city": "Belém"})' in text
    assert "tool weather: Belém: sunny" in text


@pytest.mark.asyncio
async def test_a_call_that_runs_is_shown_with_what_was_sent(
    provider: ScriptedProvider, recorder: MetricsRecorder
) -> None:
    held = asyncio.Event()
    provider.enqueue("a", held)
    response = await CreateAgent(provider, "m", instructions="Be brief.", recorder=recorder).chat("Hi")
    assert "Be brief." in str(recorder.show())
    held.set()
    await response.wait()


@pytest.mark.asyncio
async def test_what_is_hostile_in_a_context_stays_text(
    provider: ScriptedProvider, recorder: MetricsRecorder
) -> None:
    evil = "</code></pre><script>alert(1)</script>\n\n\u202e\x1b[31m"
    provider.enqueue(ToolCallRequested("c", evil, evil), evil)
    provider.enqueue(evil)
    provider.enqueue("ok")
    agent = CreateAgent(provider, "m", instructions=evil, config={"extra": {"x": evil}}, recorder=recorder)
    await ask(agent, evil, "more")
    details = recorder.show()
    html = details._repr_html_()
    html = html.replace("createagents-call", "createagents-turn", 1).replace(
        "createagents-context", "createagents-tool"
    )
    read_strictly(html)
    for shown in (html, str(details)):
        assert not {"\u202e", "\x1b"} & set(shown)
    assert "<script" not in html


# ── once ─────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.asyncio
async def test_a_conversation_keeps_each_message_once(echo: EchoServer, recorder: MetricsRecorder) -> None:
    await ask(made(echo, recorder), *(f"question {number}" for number in range(10)))
    contexts = [call.context for call in recorder.call_records]
    assert [len(context.history) for context in contexts if context] == list(range(0, 20, 2))
    messages = {id(message) for context in contexts if context for message in context.history}
    assert len(messages) == 18
    assert len({id(context.tools) for context in contexts if context}) == 1
    # Not even the texts are copies.
    assert history(recorder)[0][1] is recorder.call_records[0].prompt


@pytest.mark.asyncio
async def test_the_rows_of_a_batch_share_one_context(echo: EchoServer, recorder: MetricsRecorder) -> None:
    await made(echo, recorder).map([f"row {number}" for number in range(30)], progress=False)
    (context,) = {id(call.context): call.context for call in recorder.call_records}.values()
    assert context is not None
    assert (context.system, context.history) == ("Be brief.", ())


@pytest.mark.asyncio
async def test_images_are_described_and_no_message_is_held(
    provider: ScriptedProvider, recorder: MetricsRecorder
) -> None:
    agent = CreateAgent(provider, "m", recorder=recorder)
    for _ in range(2):
        provider.enqueue("ok")
    await (await agent.chat(["Look", ImagePart(png(640, 480), "image/png")])).wait()
    await ask(agent, "And?")
    assert history(recorder)[0] == ("user", "Look\n<image/png, 640 × 480, 67 bytes>")
    message: weakref.ref[Message] = weakref.ref(agent.history[0])
    provider.calls.clear()
    del agent
    gc.collect()
    assert message() is None


# ── the rules of the recorder ────────────────────────────────────────────────────────────────────────────


@pytest.mark.asyncio
async def test_without_content_nothing_of_it_is_kept(echo: EchoServer, recorder: MetricsRecorder) -> None:
    agent = made(echo, recorder)
    await ask(agent, "one")
    recorder.record_content = False
    await ask(agent, "two")
    assert recorder.call_records[-1].context is None
    assert "Be brief." not in str(recorder.show())
    recorder.record_content = True
    await ask(agent, "three")
    assert history(recorder)[2] == ("user", "two")


@pytest.mark.asyncio
async def test_content_that_is_turned_off_while_a_call_runs_is_not_kept(
    provider: ScriptedProvider, recorder: MetricsRecorder
) -> None:
    held = asyncio.Event()
    provider.enqueue("a", held)
    response = await CreateAgent(provider, "m", instructions="Be brief.", recorder=recorder).chat("Hi")
    recorder.record_content = False
    held.set()
    await response.wait()
    assert recorder.call_records[0].context is None


@pytest.mark.asyncio
async def test_keys_are_masked_and_the_own_function_sees_every_text(echo: EchoServer) -> None:
    recorder = MetricsRecorder(redact=lambda text: text.replace("Anna", "A."))
    agent = made(echo, recorder, instructions=f"Anna's key is {KEY}")
    await ask(agent, f"Anna, {KEY}", "use Anna", "more")
    kept = str(recorder.show()) + recorder.show()._repr_html_() + to_json(recorder)
    assert "Anna" not in kept
    assert KEY not in kept
    assert "A.'s key is ***" in kept
    assert "a city that A. knows" in kept
    recorder.redact = lambda text: text.replace("more", "less")
    await ask(agent, "again")
    assert history(recorder)[-2] == ("user", "less")
    assert history(recorder)[0] == ("user", "Anna, ***")


@pytest.mark.asyncio
@pytest.mark.filterwarnings("ignore:redact= failed")
async def test_a_text_that_the_own_function_fails_with_is_not_kept(echo: EchoServer) -> None:
    def redact(text: str) -> str:
        if "Anna" in text:
            raise ValueError(text)
        return text

    recorder = MetricsRecorder(redact=redact)
    await ask(made(echo, recorder), "Anna", "two")
    assert history(recorder)[0] == ("user", None)
    text = str(recorder.show())
    assert "user: not kept" in text
    assert '"description": "(not kept)"' in text
    assert "Anna" not in text


@pytest.mark.asyncio
async def test_a_recorder_that_is_cleared_keeps_none(echo: EchoServer, recorder: MetricsRecorder) -> None:
    agent = made(echo, recorder)
    await ask(agent, "one", "two")
    recorder.clear()
    await ask(agent, "three")
    assert len(history(recorder)) == 4


# ── files ────────────────────────────────────────────────────────────────────────────────────────────────


def rows_of(path: Path, statement: str) -> list[Any]:
    with closing(sqlite3.connect(path)) as connection:
        found = connection.execute(statement).fetchall()
        connection.commit()
    return found


async def persisted(echo: EchoServer, path: Path) -> MetricsRecorder:
    recorder = MetricsRecorder()
    recorder.persist(path)
    agent = made(echo, recorder)
    await ask(agent, "one", "two", "use it", "three")
    await agent.map([f"row {number}" for number in range(40)], progress=False)
    recorder.persist(None)
    return recorder


@pytest.mark.asyncio
async def test_a_file_has_each_text_once_and_gives_back_what_was_kept(echo: EchoServer, path: Path) -> None:
    recorder = await persisted(echo, path)
    opened = MetricsRecorder.open(path)
    before = {call.call_id: call.context for call in recorder.call_records}
    after = {call.call_id: call.context for call in opened.call_records}
    assert before == after
    assert None not in after.values()
    assert len({id(context) for context in after.values()}) == 4  # that of the first call is the rows', too
    # Two texts a turn, two for its tools, the contexts, and the instructions, tools and config.
    assert rows_of(path, "SELECT count(*) FROM texts") == [(8 + 4 + 3,)]
    assert rows_of(path, "SELECT count(*) FROM contexts") == [(44,)]
    assert str(opened.show(0)) == str(recorder.show(0))


@pytest.mark.asyncio
async def test_a_file_without_contexts_is_read_and_added_to(echo: EchoServer, path: Path) -> None:
    await persisted(echo, path)
    for table in ("texts", "contexts"):
        rows_of(path, f"DROP TABLE {table}")
    assert {call.context for call in MetricsRecorder.open(path).call_records} == {None}
    await persisted(echo, path)
    assert [call.context is None for call in MetricsRecorder.open(path).call_records] == [True] * 44 + [False] * 44


@pytest.mark.asyncio
@pytest.mark.parametrize("text", ["no JSON", "[]", '{"system": "gone"}', '{"history": [1]}', '{"tools": {}}'])
async def test_a_context_that_other_tools_have_spoilt_is_not_shown(
    echo: EchoServer, path: Path, text: str
) -> None:
    await persisted(echo, path)
    changed = f"UPDATE texts SET text = '{text}' WHERE key IN (SELECT key FROM contexts)"
    rows_of(path, changed)
    opened = MetricsRecorder.open(path)
    assert len(opened) == 44
    assert {call.context for call in opened.call_records} == {None}


@pytest.mark.asyncio
async def test_json_has_each_text_once(echo: EchoServer, recorder: MetricsRecorder) -> None:
    await ask(made(echo, recorder), "one", "two", "three")
    document = json.loads(to_json(recorder))
    last, texts = document["contexts"][-1], document["texts"]
    assert last["call_ids"] == [recorder.call_records[-1].call_id]
    assert texts[last["system"]] == "Be brief."
    assert [texts[place]["content"] for place in last["history"]] == ["one", "echo one", "two", "echo two"]
    assert (texts[last["tools"]][0]["name"], texts[last["config"]]["temperature"]) == ("weather", 0.5)
    assert len(texts) == len({json.dumps(text) for text in texts}) == 7
