"""The one seam: a request is a value, a wrapper sees whole turns, and a hook may ask again."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from dataclasses import FrozenInstanceError, replace
from typing import Any

import pytest
from family import Ledger, ScriptedProvider, png

from createagents_nb import Agent, ApprovalRequest, ChatWithAgentUseCase, CreateAgent, MetricsRecorder, tool
from createagents_nb.core.events import (
    AttemptEnded,
    Event,
    ProviderDetails,
    ReplySource,
    RoundEnded,
    ToolCallFinished,
    ToolCallRequested,
)
from createagents_nb.core.messages import ImagePart, Message
from createagents_nb.core.provider import ChatRepository, ChatRequest, Emit, ToolCallRunner, ToolSpec
from createagents_nb.errors import ProtocolError, RateLimitError, ServerError
from createagents_nb.redaction import Secret
from createagents_nb.wrappers.base import ProviderWrapper

SPEC = ToolSpec("rows", "First rows.", {"type": "object", "properties": {"limit": {"type": "integer"}}})


def request(*messages: Message, **more: Any) -> ChatRequest:
    return ChatRequest("m", messages or (Message("user", "Hello"),), **more)


# A request


def test_a_request_is_frozen_and_holds_tuples() -> None:
    asked = ChatRequest("m", [Message("user", "Hello")], [SPEC])
    assert (type(asked.messages), type(asked.tools)) == (tuple, tuple)
    with pytest.raises(FrozenInstanceError):
        asked.model = "other"  # type: ignore[misc]


def test_requests_are_equal_if_they_ask_the_same() -> None:
    assert request() == request(turn_id="t", round=3)
    assert hash(request()) == hash(request(turn_id="t"))
    different = [
        request(Message("user", "Hello!")),
        request(Message("system", "Hello")),
        request(tools=[SPEC]),
        request(config={"seed": 1}),
        request(output_schema={"type": "object"}),
        request(tool_choice="none"),
        replace(request(), model="n"),
    ]
    assert len({request(), *different}) == len(different) + 1
    assert len({asked.fingerprint() for asked in different}) == len(different)


def test_the_canonical_form_ignores_ids_details_and_keys() -> None:
    def conversation(first: str, second: str, details: ProviderDetails | None) -> ChatRequest:
        calls = (ToolCallRequested(first, "rows", "{}", details), ToolCallRequested(second, "rows", "{}"))
        return request(
            Message("user", "Hello"),
            Message("assistant", "", calls, provider_details=details),
            Message("tool", "1", tool_call_id=first, name="rows"),
            Message("tool", "2", tool_call_id=second, name="rows"),
            config={"extra": {"api_key": Secret(f"sk-{first}")}},
        )

    details = ProviderDetails(ReplySource("https://a.example", "m"), {"signature": "opaque"})
    asked = conversation("call_1", "call_2", details)
    assert asked == conversation("x", "y", None)
    assert not any(word in asked.canonical_json() for word in ("opaque", "call_1", "sk-call_1"))
    swapped = replace(asked, messages=[*asked.messages[:2], asked.messages[3], asked.messages[2]])
    assert asked != swapped


def test_bytes_are_their_sha_256_in_the_canonical_form() -> None:
    data = png(2_000, 1_000)
    one, same, other = (
        request(Message("user", ["Look", ImagePart(image, "image/png")])) for image in (data, data[:], data + b"x")
    )
    assert one == same != other
    assert len(one.canonical_json()) < 500


def test_the_canonical_form_does_not_depend_on_the_order_of_keys() -> None:
    assert request(config={"seed": 1, "top_p": 0.5}) == request(config={"top_p": 0.5, "seed": 1})


@pytest.mark.asyncio
async def test_a_provider_is_asked_with_specs_and_told_turn_and_round(provider: ScriptedProvider) -> None:
    @tool
    def rows(limit: int = 5) -> str:
        """First rows."""
        return "…"

    provider.enqueue(ToolCallRequested("a", "rows", "{}"))
    provider.enqueue("Done.")
    response = await ChatWithAgentUseCase(provider).execute(Agent(name="a", model="m", tools=(rows,)), "go")
    await response
    assert [asked.round for asked in provider.calls] == [1, 2]
    assert {asked.turn_id for asked in provider.calls} == {response.record.call_id}
    (spec,) = provider.calls[0].tools
    assert (type(spec), spec.name, spec.description) == (ToolSpec, "rows", "First rows.")
    assert "limit" in spec.parameters["properties"]


# Wrappers


class Recording(ProviderWrapper):
    """Keeps every event of a turn, and how each of its calls ended."""

    def __init__(self, inner: ChatRepository) -> None:
        super().__init__(inner)
        self.rounds: dict[str, list[Event]] = {}
        self.calls: dict[tuple[int, str], list[Event]] = {}

    async def round_trip(self, request: ChatRequest) -> AsyncGenerator[Event, None]:
        kept = self.rounds.setdefault(request.fingerprint(), [])
        async for event in self.inner.round_trip(request):
            kept.append(event)
            yield event

    def wrap_tools(self, run: ToolCallRunner, turn_id: str) -> ToolCallRunner:
        async def recorded(call: ToolCallRequested, round_number: int, emit: Emit) -> ToolCallFinished:
            kept = self.calls.setdefault((round_number, call.tool_call_id), [])

            def keep(event: Event) -> None:
                kept.append(event)
                emit(event)

            finished = await run(call, round_number, keep)
            kept.append(finished)
            return finished

        return recorded


class Replaying(ProviderWrapper):
    """Answers from what a `Recording` kept; neither the provider nor a tool is asked."""

    def __init__(self, recording: Recording) -> None:
        super().__init__(recording.inner)
        self.recording = recording

    async def round_trip(self, request: ChatRequest) -> AsyncGenerator[Event, None]:
        events = self.recording.rounds[request.fingerprint()]
        yield AttemptEnded(provider="recorded", model="m", server="disk", replayed=True)
        for event in events:
            yield event

    def wrap_tools(self, run: ToolCallRunner, turn_id: str) -> ToolCallRunner:
        async def replayed(call: ToolCallRequested, round_number: int, emit: Emit) -> ToolCallFinished:
            *before, finished = self.recording.calls[round_number, call.tool_call_id]
            for event in before:
                emit(event)
            assert isinstance(finished, ToolCallFinished)
            return finished

        return replayed


@pytest.mark.asyncio
async def test_a_wrapper_can_record_a_whole_turn_and_replay_it(provider: ScriptedProvider) -> None:
    ran: list[str] = []
    asked: list[ApprovalRequest] = []

    @tool(requires_approval=True)
    def delete(path: str) -> str:
        """Deletes a file."""
        ran.append(path)
        return f"deleted {path}"

    def approve(approval: ApprovalRequest) -> dict[str, Any] | bool:
        asked.append(approval)
        return {"path": "copy.csv"} if approval.arguments["path"] == "a.csv" else False

    def worker() -> Agent:
        return Agent(name="a", model="m", tools=(delete,), approve=approve)

    provider.enqueue(
        ToolCallRequested("1", "delete", '{"path": "a.csv"}'),
        ToolCallRequested("2", "delete", '{"path": "b.csv"}'),
        ToolCallRequested("3", "no_such_tool", "{}"),
    )
    provider.enqueue("All ", "done.")
    recording, first, second = Recording(provider), Ledger(), Ledger()
    original = await ChatWithAgentUseCase(recording, sink=first).execute(worker(), "tidy up")
    await original
    assert (ran, len(asked), len(provider.calls)) == (["copy.csv"], 2, 2)

    replayed = await ChatWithAgentUseCase(Replaying(recording), sink=second).execute(worker(), "tidy up")
    assert await replayed == "All done."
    assert (ran, len(asked), len(provider.calls)) == (["copy.csv"], 2, 2), "nothing was asked or run again"

    def told(ledger: Ledger) -> list[tuple[Any, ...]]:
        return sorted(
            (tool.tool_call_id, tool.arguments, tool.status, tool.result, tool.error, tool.latency_s)
            for tool in ledger.tools
        )

    assert told(first) == told(second)
    assert [status for _, _, status, *_ in told(second)] == ["ok", "rejected", "unknown_tool"]
    assert {(row.provider, row.server, row.replayed) for row in second.requests} == {("recorded", "disk", True)}
    assert {row.cost_usd for row in second.requests} == {0.0}, "a recorded answer costs nothing"
    events = [event for event in replayed.events_so_far() if not isinstance(event, AttemptEnded)]
    assert len(events) == len(original.events_so_far())


@pytest.mark.asyncio
async def test_the_record_of_a_request_names_who_answered(provider: ScriptedProvider) -> None:
    provider.enqueue(
        AttemptEnded(provider="first", model="big", server="a.example", error=ServerError("down")),
        AttemptEnded(provider="second", model="small", server="b.example"),
        "Hello",
    )
    ledger = Ledger()
    response = await ChatWithAgentUseCase(provider, sink=ledger).execute(Agent(name="a", model="big"), "hi")
    assert await response == "Hello"
    (row,) = ledger.requests
    assert (row.provider, row.model, row.server, row.status) == ("second", "small", "b.example", "ok")


@pytest.mark.asyncio
async def test_a_wrapper_passes_on_what_it_does_not_change(provider: ScriptedProvider) -> None:
    class Shouting(ProviderWrapper):
        async def round_trip(self, request: ChatRequest) -> AsyncGenerator[Event, None]:
            async for event in self.inner.round_trip(request):
                yield event.upper() if isinstance(event, str) else event

    provider.enqueue("Hello")
    wrapped = Shouting(ProviderWrapper(provider))
    assert (wrapped.provider, await wrapped.models()) == (provider.provider, await provider.models())
    assert isinstance(wrapped.without_retries(), Shouting)
    agent = Agent(name="a", model="m")
    assert [token async for token in wrapped.chat(agent, "hi")] == ["HELLO"]


# The hook


@pytest.mark.asyncio
async def test_a_hook_may_ask_again_after_an_answer(provider: ScriptedProvider) -> None:
    provider.enqueue("not a number")
    provider.enqueue("42")
    provider.enqueue("Next.")
    answers: list[str] = []

    def follow_up(answer: Message) -> Sequence[Message] | None:
        answers.append(answer.text)
        return None if answer.text.isdigit() else [Message("user", "A number, please.")]

    agent, ledger = Agent(name="a", model="m"), Ledger()
    chat = ChatWithAgentUseCase(provider, sink=ledger)
    response = chat.start(agent, "How many?", follow_up=follow_up)
    await response.wait()
    assert (answers, response.status, response.record.rounds) == (["not a number", "42"], "ok", 2)
    second = [(message.role, message.text) for message in provider.calls[1].messages]
    assert second[1:] == [("assistant", "not a number"), ("user", "A number, please.")]
    assert [message.text for message in agent.history.messages] == ["How many?", "42"]


@pytest.mark.asyncio
async def test_a_hook_that_is_never_content_ends_with_the_rounds(provider: ScriptedProvider) -> None:
    for _ in range(3):
        provider.enqueue("no")
    agent = Agent(name="a", model="m", max_tool_rounds=2)
    response = ChatWithAgentUseCase(provider).start(
        agent, "go", follow_up=lambda _: [Message("user", "Try again.")]
    )
    await response.wait()
    assert (len(provider.calls), response.status) == (3, "ok")


@pytest.mark.asyncio
async def test_an_exchange_that_is_not_remembered_keeps_its_place_before_later_tools(
    provider: ScriptedProvider,
) -> None:
    @tool
    def count() -> int:
        """Counts."""
        return 42

    provider.enqueue("many")
    provider.enqueue(ToolCallRequested("a", "count", "{}"))
    provider.enqueue("42")

    def follow_up(answer: Message) -> Sequence[Message] | None:
        return None if answer.text.isdigit() else [Message("user", "A number, please.")]

    agent = Agent(name="a", model="m", tools=(count,))
    response = ChatWithAgentUseCase(provider).start(agent, "How many?", follow_up=follow_up)
    await response.wait()
    roles = [(message.role, message.text) for message in provider.calls[2].messages]
    assert roles == [
        ("user", "How many?"),
        ("assistant", "many"),
        ("user", "A number, please."),
        ("assistant", ""),
        ("tool", "42"),
    ]
    assert [message.role for message in agent.history.messages] == ["user", "assistant", "tool", "assistant"]


# Provider objects that break their promises


class Text(str):
    """Text of another type."""


@pytest.mark.asyncio
async def test_text_of_another_type_is_text(provider: ScriptedProvider) -> None:
    provider.enqueue(Text("Hello"), " there")
    response = await ChatWithAgentUseCase(provider).execute(Agent(name="a", model="m"), "hi")
    assert await response == "Hello there"
    assert {type(event) for event in response.events_so_far()[:2]} == {str}


@pytest.mark.asyncio
async def test_what_is_no_event_is_an_error_that_names_the_provider(provider: ScriptedProvider) -> None:
    provider.enqueue("Hello", b"bytes")
    ledger = Ledger()
    response = await ChatWithAgentUseCase(provider, sink=ledger).execute(Agent(name="a", model="m"), "hi")
    with pytest.raises(ProtocolError, match="'scripted' yielded bytes"):
        await response
    assert (response.text, ledger.requests[0].status) == ("Hello", "error")


@pytest.mark.asyncio
async def test_odd_ends_and_calls_are_recorded_all_the_same(provider: ScriptedProvider) -> None:
    odd: Any = {"usage": None, "generation_s": "long"}
    provider.enqueue(ToolCallRequested("", "look", {"a": 1}), RoundEnded(**odd))  # type: ignore[arg-type]
    provider.enqueue("Done.")
    ledger = Ledger()
    response = await ChatWithAgentUseCase(provider, sink=ledger).execute(Agent(name="a", model="m"), "hi")
    assert await response == "Done."
    assert [row.status for row in ledger.requests] == ["ok", "ok"]
    assert (ledger.tools[0].arguments, bool(ledger.tools[0].tool_call_id)) == ('{"a": 1}', True)


@pytest.mark.asyncio
async def test_a_wrapper_that_ends_a_call_wrongly_leaves_no_record_open(provider: ScriptedProvider) -> None:
    class Odd(ProviderWrapper):
        ends: Any = None

        def wrap_tools(self, run: ToolCallRunner, turn_id: str) -> ToolCallRunner:
            async def odd(call: ToolCallRequested, round_number: int, emit: Emit) -> ToolCallFinished:
                return self.ends  # type: ignore[no-any-return]

            return odd

    ledger, wrapped = Ledger(), Odd(provider)
    provider.enqueue(ToolCallRequested("a", "look", "{}"))
    response = await ChatWithAgentUseCase(wrapped, sink=ledger).execute(Agent(name="a", model="m"), "hi")
    with pytest.raises(ProtocolError, match="ended a tool call with NoneType"):
        await response
    assert [(row.status, row.error is not None) for row in ledger.tools] == [("error", True)]

    wrapped.ends = ToolCallFinished("other", "other", 9, "ok", 0.1, "seen")
    provider.enqueue(ToolCallRequested("a", "look", "{}"))
    provider.enqueue("Done.")
    response = await ChatWithAgentUseCase(wrapped).execute(Agent(name="a", model="m"), "hi")
    await response
    (finished,) = (event for event in response.events_so_far() if isinstance(event, ToolCallFinished))
    assert (finished.tool_call_id, finished.name, finished.round) == ("a", "look", 1)


@pytest.mark.asyncio
async def test_a_batch_retries_behind_a_wrapper_that_tells_of_attempts(provider: ScriptedProvider) -> None:
    provider.enqueue(AttemptEnded(provider="a", model="m", error=ServerError("down")), RateLimitError("slow down"))
    provider.enqueue("answer")
    frame = await CreateAgent(provider, "m", recorder=MetricsRecorder()).map(["one"], progress=False)
    assert (frame["answer"].tolist(), len(provider.calls)) == (["answer"], 2)
