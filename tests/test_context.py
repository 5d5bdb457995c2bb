"""Conversations that outgrow the model's context, and messages that a server refuses as such."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from family import Reply, ScriptedProvider, ScriptedServer, delta, json_reply, png, sse

from createagents_nb import CreateAgent, MetricsRecorder, tool
from createagents_nb.agent.context import Context
from createagents_nb.agent.history import History
from createagents_nb.core.events import Event, Notice, RoundEnded, ToolCallRequested, Usage
from createagents_nb.core.messages import ImagePart, Message, Turn
from createagents_nb.core.provider import ChatRequest
from createagents_nb.core.records import RequestRecord
from createagents_nb.errors import (
    ConfigurationError,
    ContentFilteredError,
    ContextLengthError,
    InvalidRequestError,
    ProviderConnectionError,
)
from createagents_nb.wrappers.base import ProviderWrapper

TOO_LONG = json_reply(
    {"error": {"message": "too many tokens", "code": "context_length_exceeded", "type": "invalid_request_error"}},
    "400 Bad Request",
)


def says(text: str, prompt_tokens: int | None = None) -> Reply:
    counts = {"prompt_tokens": prompt_tokens, "completion_tokens": 5}
    usage = [] if prompt_tokens is None else [{"choices": [], "usage": counts}]
    return Reply(sse(delta(text), delta(finish="stop"), *usage))


def agent_at(server: ScriptedServer, recorder: MetricsRecorder, **more: Any) -> CreateAgent:
    return CreateAgent("openai", "m", base_url=server.openai_url, recorder=recorder, max_retries=0, **more)


def sent(server: ScriptedServer) -> list[str]:
    return [each["content"] for each in server.requests[-1].json["messages"]]


async def settled(agent: CreateAgent, message: Any) -> Any:
    turn = await agent.chat(message)
    await turn.wait()
    return turn


def notices(turn: Any) -> list[str]:
    return [event.text for event in turn.events_so_far() if isinstance(event, Notice)]


# What a server refuses as such.


@pytest.mark.asyncio
async def test_a_message_that_is_too_long_is_not_sent_again(
    server: ScriptedServer, recorder: MetricsRecorder, tmp_path: Path
) -> None:
    agent = agent_at(server, recorder)
    server.enqueue(TOO_LONG)
    turn = await settled(agent, "x" * 1_000)
    assert isinstance(turn.error, ContextLengthError)
    assert len(server.requests) == 1
    assert [each.left_out for each in agent.history] == [True, True]
    assert agent.history[-1].status == "error"
    again = CreateAgent.load(agent.save(tmp_path / "talk.json"), recorder=recorder)
    assert again.history == agent.history
    for each in (agent, again):
        server.enqueue(says("Hello."))
        assert await each.ask("Hi") == "Hello."
        assert sent(server) == ["Hi"]
        assert each.preview("Hi").body["messages"][0]["content"] == "Hi"


@pytest.mark.asyncio
async def test_the_past_stays_when_a_message_alone_is_too_long(
    server: ScriptedServer, recorder: MetricsRecorder
) -> None:
    agent = agent_at(server, recorder)
    for text in ("one", "two", "three"):
        server.enqueue(says(text))
        await agent.ask(text)
    for _ in range(3):
        server.enqueue(TOO_LONG)
    turn = await settled(agent, "a long text")
    assert isinstance(turn.error, ContextLengthError)
    assert sent(server) == ["a long text"]
    assert notices(turn) == []
    server.enqueue(says("Hello."))
    await agent.ask("Hi")
    assert sent(server) == ["one", "one", "two", "two", "three", "three", "Hi"]


@pytest.mark.asyncio
async def test_a_filtered_message_is_not_sent_again(provider: ScriptedProvider) -> None:
    agent = CreateAgent(provider, "m")
    provider.enqueue(ContentFilteredError("The prompt was blocked"))
    turn = await settled(agent, "something")
    assert agent.history[-1].text == "[blocked by a content filter]"
    assert (turn.status, turn.text) == ("error", "")
    provider.enqueue("Hello.")
    assert await agent.ask("Hi") == "Hello."
    assert [each.text for each in provider.calls[-1].messages] == ["Hi"]


@pytest.mark.asyncio
async def test_a_message_that_is_refused_for_another_reason_does_not_end_the_conversation(
    server: ScriptedServer, recorder: MetricsRecorder
) -> None:
    agent = agent_at(server, recorder)
    server.enqueue(says("one"))
    await agent.ask("one")
    refused = json_reply({"error": {"message": "this model does not take images"}}, "400 Bad Request")
    server.enqueue(refused)
    turn = await settled(agent, ["Look", ImagePart(png(), "image/png")])
    assert isinstance(turn.error, InvalidRequestError)
    server.enqueue(refused)
    server.enqueue(says("Hello."))
    assert await agent.ask("Hi") == "Hello."
    assert sent(server) == ["one", "one", "Hi"]
    assert [each.left_out for each in agent.history] == [False, False, True, True, False, False]
    server.enqueue(says("Bye."))
    await agent.ask("Bye")
    assert len(server.requests) == 5


@pytest.mark.asyncio
async def test_a_message_that_was_not_answered_for_another_reason_is_sent(provider: ScriptedProvider) -> None:
    agent = CreateAgent(provider, "m")
    provider.enqueue(ProviderConnectionError("no server"))
    await settled(agent, "first")
    provider.enqueue("Hello.")
    await agent.ask("Hi")
    assert [each.text for each in provider.calls[-1].messages] == ["first", "[failed before the end]", "Hi"]


# A conversation that grows.


@pytest.mark.asyncio
async def test_the_oldest_turns_are_left_out_and_one_line_says_so(
    server: ScriptedServer, recorder: MetricsRecorder
) -> None:
    agent = agent_at(server, recorder, instructions="Be brief.")
    for number in range(4):
        server.enqueue(says(f"a{number}"))
        await agent.ask(f"q{number}")
    server.enqueue(TOO_LONG)
    server.enqueue(TOO_LONG)
    server.enqueue(says("Hello."))
    turn = await settled(agent, "Hi")
    assert (turn.status, turn.text) == ("ok", "Hello.")
    assert sent(server) == ["Be brief.", "q3", "a3", "Hi"]
    assert notices(turn) == [
        "The conversation no longer fits the model's context: the oldest 3 turns were left out"
    ]
    assert [each.text for each in agent.history] == ["q3", "a3", "Hi", "Hello."]
    assert [record.status for record in turn.requests] == ["error", "error", "ok"]
    rows = recorder.requests.tail(3)
    assert rows["round"].tolist() == [1, 2, 3]
    assert rows["error_type"].tolist()[:2] == ["ContextLengthError"] * 2
    assert recorder.calls["rounds"].tolist()[-1] == 3


@pytest.mark.asyncio
async def test_a_request_is_shortened_a_bounded_number_of_times(
    server: ScriptedServer, recorder: MetricsRecorder
) -> None:
    agent = agent_at(server, recorder, history_max_size=200)
    for number in range(40):
        server.enqueue(says(f"a{number}"))
        await agent.ask(f"q{number}")
    server.on("*", TOO_LONG)
    turn = await settled(agent, "Hi")
    assert isinstance(turn.error, ContextLengthError)
    assert len(server.requests) - 40 <= 6
    assert len(agent.history) == 82


def wants(name: str) -> Reply:
    call = {"index": 0, "id": "c1", "type": "function", "function": {"name": name, "arguments": "{}"}}
    return Reply(sse(delta(tool_calls=[call]), delta(finish="tool_calls")))


@tool
def read_all() -> str:
    """Read everything."""
    return "row\n" * 10_000


@pytest.mark.asyncio
async def test_a_result_that_makes_a_request_too_long_is_shortened(
    server: ScriptedServer, recorder: MetricsRecorder
) -> None:
    agent = agent_at(server, recorder, tools=[read_all])
    server.enqueue(wants("read_all"))
    server.enqueue(TOO_LONG)
    server.enqueue(says("Many rows."))
    turn = await settled(agent, "How many rows?")
    assert (turn.status, turn.text) == ("ok", "Many rows.")
    before, after = (request.json["messages"][-1]["content"] for request in server.requests[1:])
    assert len(before) == 40_000
    assert after.startswith("row\n")
    assert len(after) < 11_000
    assert "[cut: the first 10,000 of 40,000 characters]" in after
    assert len(recorder.tools["result"][0]) == 40_000


@pytest.mark.asyncio
async def test_a_result_that_is_too_long_at_any_length_does_not_end_the_conversation(
    server: ScriptedServer, recorder: MetricsRecorder
) -> None:
    agent = agent_at(server, recorder, tools=[read_all])
    server.enqueue(wants("read_all"))
    for _ in range(7):
        server.enqueue(TOO_LONG)
    turn = await settled(agent, "How many rows?")
    assert isinstance(turn.error, ContextLengthError)
    server._replies.clear()
    server.enqueue(says("Hello."))
    assert await agent.ask("Hi") == "Hello."
    assert sent(server) == ["Hi"]


# By tokens.


class Sized(ScriptedProvider):
    """Says how large its model's context is, and counts a token for four characters."""

    def __init__(self, window: int | Exception | None) -> None:
        super().__init__()
        self.window, self.asked = window, 0

    async def context_window(self, model: str) -> int | None:
        self.asked += 1
        if isinstance(self.window, Exception):
            raise self.window
        return self.window

    async def round_trip(self, request: ChatRequest) -> AsyncGenerator[Event, None]:
        self.calls.append(request)
        chars = sum(len(message.text) for message in request.messages)
        yield "a" * 400
        yield RoundEnded("stop", Usage(input_tokens=chars // 4, output_tokens=100))


async def grow(agent: CreateAgent, turns: int) -> list[Any]:
    return [await settled(agent, f"{number:03}" + "q" * 397) for number in range(turns)]


@pytest.mark.parametrize("is_wrapped", [False, True])
@pytest.mark.asyncio
async def test_turns_are_left_out_by_tokens_where_the_context_is_known(
    recorder: MetricsRecorder, is_wrapped: bool
) -> None:
    provider = Sized(8_000)
    agent = CreateAgent(
        ProviderWrapper(provider) if is_wrapped else provider, "m", recorder=recorder, config={"max_tokens": 200}
    )
    turns = await grow(agent, 60)
    assert all(turn.status == "ok" for turn in turns)
    largest = max(record.input_tokens for turn in turns for record in turn.requests)
    assert 7_000 < largest <= 8_000 - 200
    assert 60 < len(agent.history) < 80
    told = [text for turn in turns for text in notices(turn)]
    assert told == ["The conversation no longer fits the model's context: the oldest turn was left out"]
    assert provider.asked == 1
    assert recorder.requests["context_window"].tolist()[-1] == 8_000
    assert agent.history[0].role == "user"


@pytest.mark.parametrize("window", [None, RuntimeError("no answer"), 0, "8000"])
@pytest.mark.asyncio
async def test_twenty_messages_are_kept_where_the_context_is_not_known(
    recorder: MetricsRecorder, window: Any
) -> None:
    provider = Sized(window)
    agent = CreateAgent(provider, "m", recorder=recorder)
    await grow(agent, 30)
    assert len(agent.history) == 20
    assert provider.asked == 1
    assert recorder.requests["context_window"].isna().all()


@pytest.mark.parametrize("size", [0, 6, 40])
@pytest.mark.asyncio
async def test_a_size_in_messages_is_kept_to_as_it_is(recorder: MetricsRecorder, size: int) -> None:
    provider = Sized(2_000)
    agent = CreateAgent(provider, "m", recorder=recorder, history_max_size=size)
    await grow(agent, 30)
    assert (len(agent.history), provider.asked) == (size, 0)
    assert agent.get_configs()["history_max_size"] == size


@pytest.mark.asyncio
async def test_num_ctx_is_the_context_that_counts(recorder: MetricsRecorder) -> None:
    provider = Sized(100_000)
    agent = CreateAgent(provider, "m", recorder=recorder, config={"num_ctx": 2_048})
    turns = await grow(agent, 20)
    assert max(record.input_tokens for turn in turns for record in turn.requests) <= 2_048 - 512
    assert recorder.requests["context_window"].tolist()[-1] == 2_048


@pytest.mark.asyncio
async def test_short_conversations_ask_nobody(recorder: MetricsRecorder) -> None:
    provider = Sized(8_000)
    agent = CreateAgent(provider, "m", recorder=recorder)
    await grow(agent, 3)
    assert provider.asked == 0


@pytest.mark.asyncio
async def test_a_variant_with_another_model_asks_for_its_own_context(recorder: MetricsRecorder) -> None:
    provider = Sized(8_000)
    agent = CreateAgent(provider, "m", recorder=recorder)
    await grow(agent, 12)
    variant = agent.variant(model="n")
    await variant.ask("Hi")
    assert provider.asked == 2


@pytest.mark.asyncio
async def test_the_default_is_saved_and_loaded(tmp_path: Path) -> None:
    agent = CreateAgent("demo", max_tool_result_chars=500)
    file = agent.save(tmp_path / "talk.json")
    assert "history_max_size" not in json.loads(file.read_text("utf-8"))
    again = CreateAgent.load(file)
    assert again.get_configs() == agent.get_configs()
    assert again.get_configs()["history_max_size"] is None


@pytest.mark.parametrize("window", [None, 100_000])
@pytest.mark.asyncio
async def test_a_long_conversation_that_was_saved_goes_on(
    recorder: MetricsRecorder, tmp_path: Path, window: int | None
) -> None:
    agent = CreateAgent(Sized(100_000), "m", recorder=recorder)
    await grow(agent, 30)
    file = agent.save(tmp_path / "talk.json")
    provider = Sized(window)
    again = CreateAgent.load(file, provider=provider, recorder=recorder)
    assert len(again.history) == 60
    await again.ask("Where were we?")
    assert len(provider.calls[0].messages) == (61 if window else 21)
    assert len(again.history) == (62 if window else 20)


def test_a_history_in_tokens_does_not_count_messages() -> None:
    history = History()
    history.is_measured = True
    for number in range(30):
        history.add(Turn(number, (Message("user", "q"), Message("assistant", "a"))))
    assert len(history) == 60
    history.remove({0, 1})
    assert [turn.number for turn in history.turns][:2] == [2, 3]


def test_tokens_are_those_counted_last_and_the_rest_by_characters() -> None:
    context = Context()
    assert context.tokens(400) == 100
    context.measured = 90, 200  # a short request: most of it is the model's template
    assert context.tokens(600) == 190
    context.measured = 8_000, 10_000  # a language with more tokens
    assert context.tokens(15_000) == 12_000
    assert Context.room(8_000, {}) == 7_000
    assert Context.room(2_000, {}) == 1_500
    assert Context.room(8_000, {"max_tokens": 500}) == 7_500
    assert Context.room(8_000, {"max_tokens": 50_000}) == 4_000


@pytest.mark.parametrize(
    ("server", "price_provider", "model", "window"),
    [
        ("api.openai.com", "openai", "gpt-4o", 128_000),
        ("api.openai.com", None, "gpt-4o", 128_000),
        ("api.openai.com", "openai", "no-such-model", None),
        ("127.0.0.1", None, "gpt-4o", None),
        ("localhost", "", "gpt-4o", None),
    ],
)
def test_the_context_of_published_models_is_known(
    recorder: MetricsRecorder, server: str, price_provider: str | None, model: str, window: int | None
) -> None:
    record = RequestRecord(
        call_id="1",
        round=1,
        started_at=datetime.now(UTC),
        provider="openai",
        model=model,
        server=server,
        status="ok",
        price_provider=price_provider,
    )
    assert recorder.context_window(record) == window


# The size of a tool's result.


@pytest.mark.asyncio
async def test_the_size_of_a_tools_result_is_a_setting(provider: ScriptedProvider) -> None:
    agent = CreateAgent(provider, "m", tools=[read_all], max_tool_result_chars=100)
    provider.enqueue(ToolCallRequested("c1", "read_all", "{}"), RoundEnded("tool_calls"))
    provider.enqueue("Fine.")
    await agent.ask("Read")
    assert provider.calls[1].messages[-1].text == "row\n" * 25 + "\n… [cut: the first 100 of 40,000 characters]"
    with pytest.raises(ConfigurationError, match="max_tool_result_chars"):
        CreateAgent("demo", max_tool_result_chars=0)


# Rates.


@pytest.mark.parametrize(
    ("usage", "rate"),
    [(Usage(1, 11), 5.0), (Usage(1, 11, eval_s=2.0), 5.5), (Usage(1, 1), None), (Usage(1, None), None)],
)
@pytest.mark.asyncio
async def test_a_rate_by_arrival_is_over_the_tokens_after_the_first(
    provider: ScriptedProvider, usage: Usage, rate: float | None
) -> None:
    provider.enqueue("a", RoundEnded("stop", usage, generation_s=2.0))
    turn = await settled(CreateAgent(provider, "m"), "Hi")
    assert (turn.requests[0].tokens_per_s, turn.record.tokens_per_s) == (rate, rate)
