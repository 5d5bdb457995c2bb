"""The tool loop: rounds, tools, ends, and what the records and the history keep of each."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing, suppress
from enum import Enum
from typing import Any

import numpy as np
import pytest
from family import Ledger, ScriptedProvider, png

from createagents_nb import Agent, BaseTool, ChatWithAgentUseCase, StreamingResponseDTO, ToolExecutor, tool
from createagents_nb.agent.history import History
from createagents_nb.core.events import (
    RoundEnded,
    ToolCallFinished,
    ToolCallRequested,
    ToolCallStarted,
    TurnDone,
    Usage,
)
from createagents_nb.core.messages import Message
from createagents_nb.core.records import CallRecord, CellRef, ToolRecord, current_cell
from createagents_nb.core.tool_display import ImageDisplay
from createagents_nb.errors import InvalidMessageError, ProviderError, RateLimitError


def wants(name: str, arguments: dict[str, Any] | str = "{}", call_id: str = "call_1") -> ToolCallRequested:
    return ToolCallRequested(call_id, name, arguments if isinstance(arguments, str) else json.dumps(arguments))


def agent(*tools: BaseTool, **more: Any) -> Agent:
    return Agent(name="worker", model="scripted-1", tools=tools, **more)


async def ask(
    provider: ScriptedProvider,
    who: Agent,
    message: str = "go",
    *,
    sink: Ledger | None = None,
    executor: ToolExecutor | None = None,
) -> StreamingResponseDTO:
    return await ChatWithAgentUseCase(provider, sink=sink, executor=executor).execute(who, message)


@tool
def double(number: int) -> int:
    """Twice the number."""
    return 2 * number


@tool
async def shout(text: str) -> str:
    """The text in capitals."""
    return text.upper()


@tool
def broken(what: str = "it") -> str:
    """Fails."""
    raise LookupError(f"{what} is not there")


# ── rounds ───────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.asyncio
async def test_a_turn_without_tools_is_one_request(provider: ScriptedProvider) -> None:
    provider.enqueue("Hello", " there")
    who = agent(instructions="Be brief.", config={"seed": 1})
    assert await (await ask(provider, who, "hi")) == "Hello there"
    (request,) = provider.calls
    assert request.model == "scripted-1"
    assert list(request.messages) == [Message("system", "Be brief."), Message("user", "hi")]
    assert (request.tools, request.config) == ((), {"seed": 1})


@pytest.mark.asyncio
async def test_a_tool_runs_and_its_result_goes_back_with_its_call(provider: ScriptedProvider) -> None:
    request = wants("double", {"number": 21})
    provider.enqueue("Let me see. ", request)
    provider.enqueue("It is 42.")
    who = agent(double)
    response = await ask(provider, who)
    assert await response == "Let me see. It is 42."
    answered = [
        Message("user", "go"),
        Message("assistant", "Let me see. ", tool_calls=(request,)),
        Message("tool", "42", tool_call_id="call_1", name="double"),
    ]
    assert list(provider.calls[1].messages) == answered
    assert list(who.history.messages) == [*answered, Message("assistant", "It is 42.")]


@pytest.mark.asyncio
async def test_the_events_of_a_turn_with_a_tool_tell_its_story(provider: ScriptedProvider) -> None:
    request = wants("double", {"number": 4})
    provider.enqueue(request)
    provider.enqueue("8")
    response = await ask(provider, agent(double))
    events = [event async for event in response.events()]
    finished = events[3]
    assert isinstance(finished, ToolCallFinished)
    assert events == [
        request,
        RoundEnded("stop"),
        ToolCallStarted("call_1", "double", 1),
        ToolCallFinished("call_1", "double", 1, "ok", finished.latency_s, "8"),
        "8",
        RoundEnded("stop"),
        TurnDone("ok"),
    ]
    assert finished.latency_s > 0


@pytest.mark.asyncio
async def test_tools_asked_for_together_overlap(provider: ScriptedProvider) -> None:
    """Each waits for the other to have begun: one after the other would never end."""
    both = threading.Barrier(3)
    here, there = asyncio.Event(), asyncio.Event()

    @tool
    def in_a_thread(name: str) -> str:
        """Blocks."""
        both.wait(10)
        return name

    @tool
    async def first() -> str:
        """Waits for the second."""
        here.set()
        await there.wait()
        await asyncio.to_thread(both.wait, 10)
        return "first"

    @tool
    async def second() -> str:
        """Waits for the first."""
        there.set()
        await here.wait()
        return "second"

    provider.enqueue(
        wants("in_a_thread", {"name": "x"}, "1"),
        wants("first", call_id="2"),
        wants("second", call_id="3"),
        wants("in_a_thread", {"name": "y"}, "4"),
    )
    provider.enqueue("done")
    assert await (await ask(provider, agent(in_a_thread, first, second))) == "done"
    told = [(message.tool_call_id, message.content) for message in provider.calls[1].messages[2:]]
    assert told == [("1", "x"), ("2", "first"), ("3", "second"), ("4", "y")]


@pytest.mark.asyncio
async def test_results_are_told_in_the_order_of_the_calls_whatever_order_they_end_in(
    provider: ScriptedProvider,
) -> None:
    quick_is_done = asyncio.Event()

    @tool
    async def slow() -> str:
        """Waits for quick."""
        await quick_is_done.wait()
        return "slow"

    @tool
    async def quick() -> str:
        """Does not wait."""
        quick_is_done.set()
        return "quick"

    provider.enqueue(wants("slow", call_id="a"), wants("quick", call_id="b"))
    provider.enqueue("done")
    response = await ask(provider, agent(slow, quick))
    await response
    assert [message.content for message in provider.calls[1].messages[2:]] == ["slow", "quick"]
    assert [record.tool for record in response.tools] == ["quick", "slow"]


@pytest.mark.asyncio
async def test_several_rounds_each_see_what_came_before(provider: ScriptedProvider) -> None:
    provider.enqueue("One. ", wants("double", {"number": 1}, "a"))
    provider.enqueue("Two. ", wants("double", {"number": 2}, "b"))
    provider.enqueue("Done.")
    response = await ask(provider, agent(double))
    assert await response == "One. Two. Done."
    roles = [[message.role for message in request.messages] for request in provider.calls]
    assert roles == [
        ["user"],
        ["user", "assistant", "tool"],
        ["user", "assistant", "tool", "assistant", "tool"],
    ]
    assert [message.content for message in provider.calls[2].messages] == ["go", "One. ", "2", "Two. ", "4"]
    assert (response.record.rounds, response.record.tool_calls) == (3, 2)


@pytest.mark.asyncio
@pytest.mark.parametrize("limit", [0, 1, 2])
async def test_the_loop_ends_at_max_tool_rounds_with_status_limit(provider: ScriptedProvider, limit: int) -> None:
    for number in range(limit + 1):
        provider.enqueue(f"{number} ", wants("double", {"number": number}, f"call_{number}"))
    ledger, who = Ledger(), agent(double, max_tool_rounds=limit)
    response = await ask(provider, who, sink=ledger)
    assert await response == "".join(f"{number} " for number in range(limit + 1))
    assert (response.status, response.error) == ("limit", None)
    assert (len(ledger.requests), len(ledger.tools)) == (limit + 1, limit)
    assert who.history.messages[-1].status == "limit"
    assert "too many rounds" in who.history.messages[-1].content
    provider.enqueue("fine")
    assert await (await ask(provider, who, "again")) == "fine"
    assert_valid(provider.calls[-1].messages)


# ── tools that fail ──────────────────────────────────────────────────────────────────────────────────


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("request_", "status", "told"),
    [
        (
            wants("duoble", {"number": 1}),
            "unknown_tool",
            ["There is no tool 'duoble'", "available: double, broken"],
        ),
        (wants("double", '{"number": 1'), "invalid_arguments", ["not valid JSON", "number"]),
        (wants("double", '["number"]'), "invalid_arguments", ["JSON object"]),
        (wants("double", {"number": "many"}), "invalid_arguments", ["number", "integer"]),
        (wants("double", "{}"), "invalid_arguments", ["number"]),
        (wants("broken", {"what": "the row"}), "error", ["LookupError", "the row is not there"]),
        (wants("waits"), "timeout", ["waits", "0.01 s"]),
    ],
)
async def test_a_tool_that_fails_tells_the_model_and_the_recorder(
    provider: ScriptedProvider, request_: ToolCallRequested, status: str, told: list[str]
) -> None:
    @tool(timeout_s=0.01)
    async def waits() -> None:
        """Waits for ever."""
        await asyncio.Event().wait()

    ledger = Ledger()
    provider.enqueue(request_)
    provider.enqueue("I see.")
    response = await ask(provider, agent(double, broken, waits), sink=ledger)
    assert await response == "I see."
    message = provider.calls[1].messages[-1]
    assert (message.role, message.tool_call_id) == ("tool", "call_1")
    assert all(words in message.content for words in told), message.content
    (record,) = ledger.tools
    assert (record.status, record.result, record.arguments) == (status, None, request_.arguments)
    assert record.error is not None
    assert record.error in message.content
    assert response.status == "ok"
    (finished,) = [event for event in response.events_so_far() if isinstance(event, ToolCallFinished)]
    assert (finished.status, finished.result) == (status, message.content)


@pytest.mark.asyncio
async def test_one_tool_that_fails_does_not_disturb_the_others(provider: ScriptedProvider) -> None:
    provider.enqueue(
        wants("broken", call_id="a"), wants("double", {"number": 3}, "b"), wants("nobody", call_id="c")
    )
    provider.enqueue("fine")
    ledger = Ledger()
    assert await (await ask(provider, agent(double, broken), sink=ledger)) == "fine"
    assert {record.tool_call_id: record.status for record in ledger.tools} == {
        "a": "error",
        "b": "ok",
        "c": "unknown_tool",
    }


@pytest.mark.asyncio
async def test_a_blocking_tool_does_not_block_the_loop(provider: ScriptedProvider) -> None:
    begun, released = threading.Event(), threading.Event()

    @tool
    def blocks() -> str:
        """Blocks until the loop releases it."""
        begun.set()
        return "released" if released.wait(10) else "the loop was blocked"

    provider.enqueue(wants("blocks"))
    provider.enqueue("done")
    response = await ask(provider, agent(blocks))
    assert await asyncio.to_thread(begun.wait, 10)
    asyncio.get_running_loop().call_soon(released.set)
    assert await response == "done"
    assert provider.calls[1].messages[-1].content == "released"


# ── ends and records ─────────────────────────────────────────────────────────────────────────────────


async def _ok(provider: ScriptedProvider, ledger: Ledger, who: Agent) -> None:
    provider.enqueue("a", wants("double", {"number": 1}))
    provider.enqueue("b")
    await (await ask(provider, who, sink=ledger))


async def _error(provider: ScriptedProvider, ledger: Ledger, who: Agent) -> None:
    provider.enqueue("a", wants("double", {"number": 1}))
    provider.enqueue("b", RateLimitError("429: Bearer abcdef1234567890 is over its quota", status_code=429))
    with pytest.raises(RateLimitError):
        await (await ask(provider, who, sink=ledger))


async def _foreign_error(provider: ScriptedProvider, ledger: Ledger, who: Agent) -> None:
    provider.enqueue("a", wants("double", {"number": 1}))
    provider.enqueue("b", ZeroDivisionError("a bug in a provider"))
    with pytest.raises(ZeroDivisionError):
        await (await ask(provider, who, sink=ledger))


async def _stopped_in_the_stream(provider: ScriptedProvider, ledger: Ledger, who: Agent) -> None:
    reached = asyncio.Event()
    provider.enqueue("a", wants("double", {"number": 1}))
    provider.enqueue("b", reached.set, asyncio.Event())
    response = await ask(provider, who, sink=ledger)
    await reached.wait()
    await response.aclose()


async def _stopped_before_the_first_token(provider: ScriptedProvider, ledger: Ledger, who: Agent) -> None:
    reached = asyncio.Event()
    provider.enqueue(reached.set, asyncio.Event())
    response = await ask(provider, who, sink=ledger)
    await reached.wait()
    await response.aclose()


async def _stopped_in_a_tool(provider: ScriptedProvider, ledger: Ledger, who: Agent) -> None:
    provider.enqueue("a", wants("hangs", call_id="x"), wants("hangs", call_id="y"))
    response = await ask(provider, who, sink=ledger)
    async for event in response.events():
        if isinstance(event, ToolCallStarted) and event.tool_call_id == "y":
            break
    await response.aclose()


async def _stopped_before_it_began(provider: ScriptedProvider, ledger: Ledger, who: Agent) -> None:
    response = ChatWithAgentUseCase(provider, sink=ledger).start(who, "go")
    await response.aclose()


async def _limit(provider: ScriptedProvider, ledger: Ledger, who: Agent) -> None:
    provider.enqueue("a", wants("double", {"number": 1}, "a"))
    provider.enqueue("b", wants("double", {"number": 2}, "b"))
    await (await ask(provider, who, sink=ledger))


ENDS: list[tuple[Callable[..., Any], str, list[str], list[str], str]] = [
    (_ok, "ok", ["ok", "ok"], ["ok"], "ab"),
    (_error, "error", ["ok", "error"], ["ok"], "ab"),
    (_foreign_error, "error", ["ok", "error"], ["ok"], "ab"),
    (_stopped_in_the_stream, "cancelled", ["ok", "cancelled"], ["ok"], "ab"),
    (_stopped_before_the_first_token, "cancelled", ["cancelled"], [], ""),
    (_stopped_in_a_tool, "cancelled", ["ok"], ["cancelled", "cancelled"], "a"),
    (_stopped_before_it_began, "cancelled", [], [], ""),
    (_limit, "limit", ["ok", "ok"], ["ok"], "ab"),
]


@pytest.mark.asyncio
@pytest.mark.parametrize(("end", "status", "requests", "tools", "text"), ENDS)
async def test_every_end_settles_every_record_once_and_leaves_a_history_that_works(
    provider: ScriptedProvider,
    end: Callable[[ScriptedProvider, Ledger, Agent], Any],
    status: str,
    requests: list[str],
    tools: list[str],
    text: str,
) -> None:
    @tool
    async def hangs() -> None:
        """Waits for ever."""
        await asyncio.Event().wait()

    before, ledger = asyncio.all_tasks(), Ledger()
    who = agent(double, hangs, max_tool_rounds=1)
    await end(provider, ledger, who)
    await asyncio.sleep(0)
    assert asyncio.all_tasks() == before
    assert provider.closed == len(provider.calls)

    (opened,), (settled,) = ledger.opened, ledger.settled
    assert (opened.status, settled.status) == ("running", status)
    assert opened.call_id == settled.call_id
    assert (settled.response, settled.prompt, settled.agent) == (text, "go", "worker")
    assert settled.latency_s is not None
    assert [record.status for record in ledger.requests] == requests
    assert [record.round for record in ledger.requests] == list(range(1, len(requests) + 1))
    assert [record.status for record in ledger.tools] == tools
    assert (settled.rounds, settled.tool_calls) == (len(requests), len(tools))
    assert all(record.call_id == settled.call_id for record in ledger.requests)
    assert all(record.call_id == settled.call_id for record in ledger.tools)

    assert who.history.messages[0] == Message("user", "go")
    last = who.history.messages[-1]
    assert (last.role, last.status) == ("assistant", status)
    provider.enqueue("next")
    assert await (await ask(provider, who, "again")) == "next"
    assert_valid(provider.calls[-1].messages)


@pytest.mark.asyncio
async def test_an_error_is_recorded_by_type_and_without_its_keys(provider: ScriptedProvider) -> None:
    ledger = Ledger()
    await _error(provider, ledger, agent(double))
    for record in (ledger.settled[0], ledger.requests[1]):
        assert record.error_type == "RateLimitError"
        assert record.error == "429: Bearer *** is over its quota"


@pytest.mark.asyncio
async def test_usage_is_summed_over_rounds_and_unknown_stays_none(provider: ScriptedProvider) -> None:
    ledger = Ledger()
    provider.enqueue("a", wants("double", {"number": 1}), RoundEnded("tool_calls", Usage(10, 2, None, None)))
    provider.enqueue("b", RoundEnded("stop", Usage(14, 3, 8, None), model="scripted-1-2026", retries=2))
    response = await ask(provider, agent(double), sink=ledger)
    await response
    assert response.usage == Usage(24, 5, 8, None)
    (record,) = ledger.settled
    counts = (record.input_tokens, record.output_tokens, record.cached_tokens, record.reasoning_tokens)
    assert counts == (24, 5, 8, None)
    first, second = ledger.requests
    assert (first.input_tokens, first.cached_tokens, first.finish_reason) == (10, None, "tool_calls")
    assert (second.response_model, second.retries) == ("scripted-1-2026", 2)
    assert (first.load_s, first.prompt_eval_s, first.eval_s) == (None, None, None)
    assert response.requests == (first, second)


@pytest.mark.asyncio
async def test_what_was_adjusted_in_a_request_is_recorded_whether_it_was_answered_or_not(
    provider: ScriptedProvider,
) -> None:
    ledger = Ledger()
    refused = ProviderError("400: no such model")
    refused.adjusted = "max_tokens as max_completion_tokens"
    provider.enqueue("a", RoundEnded("stop", adjusted="without stream_options"))
    provider.enqueue("b")
    provider.enqueue(refused)
    for _ in range(3):
        await (await ask(provider, agent(), sink=ledger)).wait()
    adjusted = [request.adjusted for request in ledger.requests]
    assert adjusted == ["without stream_options", None, "max_tokens as max_completion_tokens"]


@pytest.mark.asyncio
async def test_cost_is_summed_over_the_rounds_that_report_it(provider: ScriptedProvider) -> None:
    ledger = Ledger()
    for number, cost in enumerate((0.25, None, 0.5)):
        call = [] if number == 2 else [wants("double", {"number": 1}, f"call_{number}")]
        provider.enqueue("a", *call, RoundEnded("stop", Usage(cost_usd=cost)))
    response = await ask(provider, agent(double), sink=ledger)
    await response
    assert response.usage == Usage(cost_usd=0.75)
    assert ledger.settled[0].cost_usd == 0.75
    assert [request.cost_usd for request in ledger.requests] == [0.25, None, 0.5]


@pytest.mark.asyncio
async def test_what_a_tool_shows_comes_with_its_end(provider: ScriptedProvider) -> None:
    @tool
    def plot() -> bytes:
        """A plot."""
        return png()

    provider.enqueue(wants("plot"))
    provider.enqueue("There.")
    response = await ask(provider, agent(plot))
    finished = [event async for event in response.events() if isinstance(event, ToolCallFinished)]
    assert [event.display for event in finished] == [ImageDisplay("image/png", png())]
    assert "shown to the user" in provider.calls[1].messages[-1].content


@pytest.mark.asyncio
async def test_what_is_not_known_is_none_and_never_zero(provider: ScriptedProvider) -> None:
    ledger = Ledger()
    provider.enqueue(RoundEnded("stop"))
    await (await ask(provider, agent(), sink=ledger))
    (call,), (request,) = ledger.settled, ledger.requests
    for record in (call, request):
        known = (record.ttft_s, record.tokens_per_s, record.input_tokens, record.output_tokens, record.error)
        assert known == (None, None, None, None, None)


@pytest.mark.asyncio
async def test_ttft_is_that_of_the_first_round_and_never_more_than_the_latency(provider: ScriptedProvider) -> None:
    ledger = Ledger()
    provider.enqueue("a", wants("double", {"number": 1}), RoundEnded("tool_calls", Usage(1, 4)))
    provider.enqueue("b", RoundEnded("stop", Usage(1, 4)))
    await (await ask(provider, agent(double), sink=ledger))
    (call,), (first, second) = ledger.settled, ledger.requests
    assert call.ttft_s is not None
    assert call.latency_s is not None
    assert first.ttft_s is not None
    assert second.ttft_s is not None
    assert 0 < first.ttft_s <= call.ttft_s < call.latency_s


@pytest.mark.asyncio
async def test_the_rate_is_over_generation_time_and_leaves_out_rounds_in_which_it_is_unknown(
    provider: ScriptedProvider,
) -> None:
    ledger = Ledger()
    buffered = RoundEnded("tool_calls", Usage(1, 400), generation_s=None)
    provider.enqueue("a", wants("double", {"number": 1}), buffered)
    provider.enqueue("b", wants("double", {"number": 1}), RoundEnded("tool_calls", Usage(1, 30), generation_s=2.0))
    provider.enqueue("c", RoundEnded("stop", Usage(1, 30), generation_s=1.0))
    await (await ask(provider, agent(double), sink=ledger))
    assert [request.tokens_per_s for request in ledger.requests] == [None, 14.5, 29.0]
    assert ledger.settled[0].tokens_per_s == pytest.approx(58 / 3)


@pytest.mark.asyncio
async def test_the_cell_in_which_a_call_was_made_is_recorded(provider: ScriptedProvider) -> None:
    token = current_cell.set(CellRef("cell-7", 12))
    try:
        provider.enqueue("a")
        response = await ask(provider, agent())
    finally:
        current_cell.reset(token)
    await response
    assert (response.record.cell_id, response.record.execution_count) == ("cell-7", 12)


@pytest.mark.asyncio
async def test_calls_that_a_server_gives_the_same_id_are_told_apart(provider: ScriptedProvider) -> None:
    provider.enqueue(*(ToolCallRequested("call_0", "echo", json.dumps({"text": text})) for text in "abc"))
    provider.enqueue("done")
    ledger = Ledger()
    response = await ask(provider, agent(), sink=ledger)
    await response
    ids = [record.tool_call_id for record in ledger.tools]
    assert len(set(ids)) == 3
    assert ids[0] == "call_0"
    asked, *answers = provider.calls[1].messages[-4:]
    assert [call.tool_call_id for call in asked.tool_calls] == [message.tool_call_id for message in answers]
    assert {
        event.tool_call_id for event in response.events_so_far() if isinstance(event, ToolCallFinished)
    } == set(ids)


@pytest.mark.asyncio
async def test_a_sink_that_breaks_its_promise_does_not_hang_the_response(provider: ScriptedProvider) -> None:
    class Breaks(Ledger):
        def call_settled(self, record: CallRecord) -> None:
            raise OSError("disk full")

    provider.enqueue("a")
    response = await ask(provider, agent(), sink=Breaks())
    assert await response == "a"


@pytest.mark.asyncio
async def test_a_sink_that_breaks_its_promise_about_a_tool_is_the_error_of_the_turn(
    provider: ScriptedProvider,
) -> None:
    class Breaks(Ledger):
        def tool_settled(self, record: ToolRecord) -> None:
            raise OSError("disk full")

    provider.enqueue(ToolCallRequested("c1", "nothing", "{}"))
    response = await ask(provider, agent(), sink=Breaks())
    with pytest.raises(OSError, match="disk full"):
        await response
    assert response.record.error_type == "OSError"


# ── history ──────────────────────────────────────────────────────────────────────────────────────────


def assert_valid(messages: Any) -> None:
    """Every result follows its call, every call has its result, no message is empty."""
    waiting: list[str | None] = []
    for message in messages:
        if message.role == "tool":
            assert message.tool_call_id in waiting
            waiting.remove(message.tool_call_id)
            continue
        assert waiting == []
        waiting = [call.tool_call_id for call in message.tool_calls]
        assert message.content.strip() or message.tool_calls
    assert waiting == []


@pytest.mark.asyncio
async def test_the_next_turn_sees_the_last_one(provider: ScriptedProvider) -> None:
    provider.enqueue("first answer")
    provider.enqueue("second answer")
    who = agent()
    await (await ask(provider, who, "first"))
    await (await ask(provider, who, "second"))
    assert [message.content for message in provider.calls[1].messages] == ["first", "first answer", "second"]


@pytest.mark.asyncio
@pytest.mark.parametrize(("stopped", "mark"), [(True, "stopped by the user"), (False, "failed")])
async def test_a_stopped_or_failed_turn_leaves_its_question_and_marked_text(
    provider: ScriptedProvider, stopped: bool, mark: str
) -> None:
    who, reached = agent(), asyncio.Event()
    provider.enqueue("half an ans", reached.set, asyncio.Event() if stopped else RateLimitError("later"))
    response = await ask(provider, who, "first")
    await reached.wait()
    if stopped:
        response.cancel()
    await response.wait()
    provider.enqueue("fine")
    await (await ask(provider, who, "second"))
    question, answer, again = provider.calls[1].messages
    assert (question.content, again.content) == ("first", "second")
    assert answer.content.startswith("half an ans")
    assert mark in answer.content


@pytest.mark.asyncio
async def test_an_answer_without_a_word_is_not_an_empty_message(provider: ScriptedProvider) -> None:
    who = agent()
    provider.enqueue(RoundEnded("stop"))
    provider.enqueue("fine")
    assert await (await ask(provider, who)) == ""
    await (await ask(provider, who))
    assert_valid(provider.calls[1].messages)


@pytest.mark.asyncio
async def test_turns_at_once_see_the_history_as_it_was_and_enter_it_as_they_started(
    provider: ScriptedProvider,
) -> None:
    who = agent(history=History(20))
    provider.enqueue("zero")
    await (await ask(provider, who, "q0"))
    gates = [asyncio.Event() for _ in range(3)]
    for number, gate in enumerate(gates, 1):
        provider.enqueue(gate, f"answer {number}")
    responses = [await ask(provider, who, f"q{number}") for number in (1, 2, 3)]
    for number, request in enumerate(provider.calls[1:], 1):
        assert [message.content for message in request.messages] == ["q0", "zero", f"q{number}"]
    for at in (2, 0, 1):
        gates[at].set()
        await responses[at]
        questions = [message.content for message in who.history.messages if message.role == "user"]
        assert questions == sorted(questions)
    contents = [message.content for message in who.history.messages]
    assert contents == ["q0", "zero", "q1", "answer 1", "q2", "answer 2", "q3", "answer 3"]


@pytest.mark.asyncio
async def test_chats_gathered_on_one_agent_run_at_the_same_time(provider: ScriptedProvider) -> None:
    """Nobody answers before all have been asked: one after the other would never end."""
    all_asked = asyncio.Event()

    def one_more() -> None:
        if len(provider.calls) == 3:
            all_asked.set()

    for number in range(3):
        provider.enqueue(one_more, all_asked, f"answer {number}")
    who = agent()
    responses = await asyncio.gather(*(ask(provider, who, f"q{number}") for number in range(3)))
    assert [await response for response in responses] == ["answer 0", "answer 1", "answer 2"]


@pytest.mark.asyncio
async def test_messages_of_a_turn_enter_together_when_it_ends(provider: ScriptedProvider) -> None:
    gate = asyncio.Event()
    provider.enqueue(wants("double", {"number": 1}))
    provider.enqueue("a", gate, "b")
    who = agent(double)
    response = await ask(provider, who)
    async for _ in response:
        break
    assert len(who.history) == 0
    gate.set()
    await response
    assert [message.role for message in who.history.messages] == ["user", "assistant", "tool", "assistant"]


@pytest.mark.asyncio
@pytest.mark.parametrize("size", range(9))
async def test_a_bounded_history_never_holds_a_result_without_its_call(
    provider: ScriptedProvider, size: int
) -> None:
    who = agent(double, history=History(size))
    for turn in range(4):
        for number in range(turn % 3):
            provider.enqueue("hm", *(wants("double", {"number": n}, f"{turn}.{number}.{n}") for n in range(2)))
        provider.enqueue("answer")
        await (await ask(provider, who, f"q{turn}"))
        assert len(who.history) <= size
    for request in provider.calls:
        assert_valid(request.messages)
    if size >= 2:
        assert who.history.messages[-1].content == "answer"
        assert who.history.messages[0].role == "user"


# ── bad input ────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.asyncio
@pytest.mark.parametrize("message", ["", "  \n\t", None, 7, b"hello", ["hello"]])
async def test_a_message_that_is_none_is_refused_before_anything_is_sent_or_recorded(
    provider: ScriptedProvider, message: Any
) -> None:
    ledger, who = Ledger(), agent()
    with pytest.raises(InvalidMessageError, match=r"must be a string|is empty: write what"):
        await ask(provider, who, message, sink=ledger)
    assert (provider.calls, ledger.opened, who.history.messages) == ([], [], ())
    provider.enqueue("fine")
    assert await (await ask(provider, who)) == "fine"


class Greeting(str, Enum):  # noqa: UP042 - its str() is not its text
    HELLO = "hello"


@pytest.mark.asyncio
@pytest.mark.parametrize("message", [np.array(["hello"])[0], Greeting.HELLO])
async def test_a_message_is_the_text_of_any_kind_of_string(provider: ScriptedProvider, message: str) -> None:
    provider.enqueue("fine")
    assert await (await ask(provider, agent(instructions=message), message)) == "fine"
    for sent in provider.calls[0].messages:
        assert (type(sent.content), sent.content) == (str, "hello")


# ── ChatRepository.chat ──────────────────────────────────────────────────────────────────────────────


@pytest.mark.asyncio
async def test_the_chat_of_a_repository_is_the_text_of_a_whole_turn_with_tools(provider: ScriptedProvider) -> None:
    provider.enqueue("Let me see. ", wants("shout", {"text": "hey"}))
    provider.enqueue("It is ", "HEY.")
    stream = provider.chat(agent(shout), "go")
    assert isinstance(stream, AsyncGenerator)
    assert [token async for token in stream] == ["Let me see. ", "It is ", "HEY."]
    assert provider.calls[1].messages[-1].content == "HEY"


@pytest.mark.asyncio
async def test_closing_the_chat_of_a_repository_stops_its_turn(provider: ScriptedProvider) -> None:
    before = asyncio.all_tasks()
    provider.enqueue("a", asyncio.Event(), "never")
    who = agent()
    async with aclosing(provider.chat(who, "go")) as stream:
        async for token in stream:
            assert token == "a"
            break
    assert provider.closed == 1
    assert who.history.messages[-1].status == "cancelled"
    await asyncio.sleep(0)
    assert asyncio.all_tasks() == before


@pytest.mark.asyncio
async def test_cancelling_who_reads_the_chat_of_a_repository_stops_its_turn(provider: ScriptedProvider) -> None:
    provider.enqueue("a", asyncio.Event())
    who, seen = agent(), asyncio.Event()

    async def read() -> None:
        async for _ in provider.chat(who, "go"):
            seen.set()

    task = asyncio.create_task(read())
    await seen.wait()
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task
    assert (provider.closed, who.history.messages[-1].status) == (1, "cancelled")


@pytest.mark.asyncio
async def test_the_chat_of_a_repository_raises_after_the_tokens_that_arrived(provider: ScriptedProvider) -> None:
    provider.enqueue("a", RateLimitError("later"))
    stream = provider.chat(agent(), "go")
    assert await anext(stream) == "a"
    with pytest.raises(RateLimitError):
        await anext(stream)
