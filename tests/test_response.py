"""StreamingResponseDTO: awaitable, iterable by many, replaying, and what stops a turn."""

from __future__ import annotations

import asyncio
import gc
import weakref
from collections.abc import AsyncIterator

import pytest
from family import Ledger, ScriptedProvider

from createagents_nb import Agent, ChatWithAgentUseCase, CreateAgentsError, StreamingResponseDTO
from createagents_nb.core.events import Event, Reasoning, RoundEnded, TurnDone, Usage
from createagents_nb.errors import ServerError


def use_case(provider: ScriptedProvider, sink: Ledger | None = None) -> ChatWithAgentUseCase:
    return ChatWithAgentUseCase(provider, sink=sink)


def agent() -> Agent:
    return Agent(name="reader", model="scripted-1")


async def ask(provider: ScriptedProvider, sink: Ledger | None = None) -> StreamingResponseDTO:
    return await use_case(provider, sink).execute(agent(), "hello")


async def whole(response: StreamingResponseDTO) -> str:
    return await response


async def pieces(response: StreamingResponseDTO) -> list[str]:
    return [token async for token in response]


# ── reading ──────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.asyncio
async def test_awaiting_gives_the_text_as_often_as_asked(provider: ScriptedProvider) -> None:
    provider.enqueue("Hel", "lo")
    response = await ask(provider)
    assert [await response, await response, str(response)] == ["Hello"] * 3
    assert len(provider.calls) == 1


@pytest.mark.asyncio
async def test_several_awaiters_all_get_the_text(provider: ScriptedProvider) -> None:
    gate = asyncio.Event()
    provider.enqueue("a", gate, "b")
    response = await ask(provider)
    waiting = asyncio.gather(response, response, pieces(response))
    gate.set()
    assert list(await waiting) == ["ab", "ab", ["a", "b"]]


@pytest.mark.asyncio
async def test_each_consumer_starts_at_the_beginning_with_its_own_cursor(provider: ScriptedProvider) -> None:
    gate = asyncio.Event()
    provider.enqueue("a", "b", gate, "c")
    response = await ask(provider)
    early = aiter(response)
    assert [await anext(early), await anext(early)] == ["a", "b"]
    late = aiter(response)
    assert await anext(late) == "a"
    gate.set()
    assert await anext(early) == "c"
    assert [token async for token in late] == ["b", "c"]
    assert [token async for token in early] == []


@pytest.mark.asyncio
async def test_a_finished_response_replays(provider: ScriptedProvider) -> None:
    provider.enqueue("a", Reasoning("hm"), "b")
    response = await ask(provider)
    first = [event async for event in response.events()]
    assert await pieces(response) == await pieces(response) == ["a", "b"]
    assert [event async for event in response.events()] == first == list(response.events_so_far())


@pytest.mark.asyncio
async def test_leaving_an_async_for_early_does_not_stop_the_turn(provider: ScriptedProvider) -> None:
    gate = asyncio.Event()
    provider.enqueue("a", gate, "b")
    response = await ask(provider)
    async for _ in response:
        break
    gate.set()
    assert await response == "ab"
    assert response.status == "ok"


@pytest.mark.asyncio
async def test_events_are_text_and_records_in_the_order_they_came(provider: ScriptedProvider) -> None:
    end = RoundEnded("stop", Usage(input_tokens=3))
    provider.enqueue(Reasoning("think"), "a", "b", end)
    response = await ask(provider)
    events = [event async for event in response.events()]
    assert events == [Reasoning("think"), "a", "b", end, TurnDone("ok")]


@pytest.mark.asyncio
async def test_batches_hold_every_event_once_and_end_with_the_turn(provider: ScriptedProvider) -> None:
    gate = asyncio.Event()
    provider.enqueue("a", "b", gate, "c")
    response = await ask(provider)
    batches: list[list[Event]] = []
    async for batch in response.batches(0.0):
        batches.append(batch)
        gate.set()
    assert batches[0] == ["a", "b"]
    assert [event for batch in batches for event in batch] == list(response.events_so_far())
    assert batches[-1][-1] == TurnDone("ok")


@pytest.mark.asyncio
async def test_batches_of_a_failed_turn_raise_nothing_and_end_with_its_error(provider: ScriptedProvider) -> None:
    broken = ServerError("broken")
    provider.enqueue("a", broken)
    response = await ask(provider)
    events = [event async for batch in response.batches(0.0) for event in batch]
    assert events == ["a", TurnDone("error", broken)]
    assert [event async for batch in response.batches(0.0) for event in batch] == events


@pytest.mark.asyncio
async def test_what_is_known_while_it_runs_and_after(provider: ScriptedProvider) -> None:
    gate = asyncio.Event()
    provider.enqueue("Hel", gate, "lo", RoundEnded("length", Usage(4, 2, 1, None)))
    response = await ask(provider)
    assert (response.text, response.done, response.status) == ("Hel", False, "running")
    assert response.usage == Usage()
    assert (response.error, response.finish_reason, response.requests) == (None, None, ())
    assert (response.record.status, response.record.prompt) == ("running", "hello")
    gate.set()
    await response.wait()
    assert (response.text, response.done, response.status) == ("Hello", True, "limit")
    assert response.usage == Usage(4, 2, 1, None)
    assert response.finish_reason == "length"
    assert (response.record.status, response.record.response) == ("limit", "Hello")
    assert [request.round for request in response.requests] == [1]


@pytest.mark.asyncio
async def test_repr_never_waits_and_says_how_to(provider: ScriptedProvider) -> None:
    gate = asyncio.Event()
    provider.enqueue("x" * 100, gate)
    response = await ask(provider)
    assert repr(response).startswith("<StreamingResponseDTO running: 100 characters 'xxxxx")
    assert "`await response`" in repr(response)
    assert len(repr(response)) < 200
    gate.set()
    await response
    assert repr(response).startswith("<StreamingResponseDTO ok: ")
    assert "await" not in repr(response)


# ── failing ──────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.asyncio
async def test_every_consumer_gets_the_same_error_every_time_after_the_tokens(provider: ScriptedProvider) -> None:
    gate, broken = asyncio.Event(), ServerError("The server failed (500). Try again")
    provider.enqueue("a", "b", gate, broken)
    response = await ask(provider)

    async def read(stream: AsyncIterator[Event]) -> tuple[list[Event], BaseException | None]:
        seen: list[Event] = []
        try:
            async for event in stream:
                seen.append(event)  # noqa: PERF401 - what came before the error is what counts
        except ServerError as error:
            return seen, error
        return seen, None

    during = asyncio.gather(*(read(stream) for stream in (aiter(response), aiter(response), response.events())))
    gate.set()
    for seen, error in [*await during, await read(aiter(response)), await read(response.events())]:
        assert seen[:2] == ["a", "b"]
        assert error is broken
    for _ in range(2):
        with pytest.raises(ServerError) as raised:
            await response
        assert raised.value is broken
        with pytest.raises(ServerError):
            str(response)
    assert (response.status, response.text, response.error) == ("error", "ab", broken)


@pytest.mark.asyncio
async def test_an_error_that_is_raised_again_and_again_does_not_grow(provider: ScriptedProvider) -> None:
    provider.enqueue(ServerError("broken"))
    response = await ask(provider)

    async def depth() -> int:
        try:
            await response
        except ServerError as error:
            trace, frames = error.__traceback__, 0
            while trace is not None:
                trace, frames = trace.tb_next, frames + 1
            return frames
        return 0

    assert await depth() == await depth() > 0


@pytest.mark.asyncio
async def test_a_failed_response_that_nobody_reads_complains_to_nobody(
    provider: ScriptedProvider, caplog: pytest.LogCaptureFixture
) -> None:
    provider.enqueue(ServerError("broken"))
    response = await ask(provider)
    await response.wait()
    del response
    gc.collect()
    assert [record for record in caplog.records if record.name == "asyncio"] == []


# ── stopping ─────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.asyncio
async def test_cancel_keeps_the_text_and_ends_every_consumer_quietly(provider: ScriptedProvider) -> None:
    provider.enqueue("a", asyncio.Event(), "never")
    response = await ask(provider)
    reading = asyncio.gather(response, pieces(response))
    await asyncio.sleep(0)
    response.cancel()
    assert list(await reading) == ["a", ["a"]]
    assert (response.status, response.text, response.error) == ("cancelled", "a", None)
    assert response.events_so_far()[-1] == TurnDone("cancelled")
    assert provider.closed == 1


@pytest.mark.asyncio
async def test_cancel_after_the_end_does_nothing(provider: ScriptedProvider) -> None:
    provider.enqueue("a")
    response = await ask(provider)
    await response
    response.cancel()
    await response.aclose()
    assert (response.status, await response) == ("ok", "a")


@pytest.mark.asyncio
async def test_cancel_from_another_thread(provider: ScriptedProvider) -> None:
    provider.enqueue("a", asyncio.Event())
    response = await ask(provider)
    await asyncio.to_thread(response.cancel)
    assert await response == "a"
    assert response.status == "cancelled"


@pytest.mark.asyncio
async def test_cancel_before_the_turn_began_sends_nothing_and_settles(provider: ScriptedProvider) -> None:
    provider.enqueue("never")
    ledger, who = Ledger(), agent()
    response = use_case(provider, ledger).start(who, "hello")
    response.cancel()
    assert await response == ""
    assert (response.status, provider.calls) == ("cancelled", [])
    assert [record.status for record in ledger.settled] == ["cancelled"]
    assert [message.role for message in who.history.messages] == ["user", "assistant"]


@pytest.mark.asyncio
async def test_aclose_returns_when_everything_is_released(provider: ScriptedProvider) -> None:
    before = asyncio.all_tasks()
    provider.enqueue("a", asyncio.Event())
    response = await ask(provider)
    await response.aclose()
    assert (response.done, provider.closed) == (True, 1)
    await asyncio.sleep(0)
    assert asyncio.all_tasks() == before


@pytest.mark.asyncio
@pytest.mark.parametrize("consume", [whole, pieces])
async def test_cancelling_the_task_that_waits_stops_the_turn(provider: ScriptedProvider, consume: object) -> None:
    provider.enqueue("a", asyncio.Event())
    response = await ask(provider)
    assert callable(consume)
    task = asyncio.create_task(consume(response))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await response.wait()
    assert response.status == "cancelled"


@pytest.mark.asyncio
async def test_cancelling_one_of_two_who_wait_does_not_stop_the_turn(provider: ScriptedProvider) -> None:
    gate = asyncio.Event()
    provider.enqueue("a", gate, "b")
    response = await ask(provider)
    leaving, staying = asyncio.create_task(whole(response)), asyncio.create_task(pieces(response))
    await asyncio.sleep(0)
    leaving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await leaving
    gate.set()
    assert await staying == ["a", "b"]
    assert response.status == "ok"


@pytest.mark.asyncio
async def test_a_reader_that_is_busy_with_a_token_counts_as_waiting(provider: ScriptedProvider) -> None:
    gate, busy = asyncio.Event(), asyncio.Event()
    provider.enqueue("a", gate, "b")
    response = await ask(provider)

    async def slowly() -> list[str]:
        seen = []
        async for token in response:
            seen.append(token)
            await busy.wait()
        return seen

    staying, leaving = asyncio.create_task(slowly()), asyncio.create_task(whole(response))
    await asyncio.sleep(0)
    leaving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await leaving
    gate.set()
    busy.set()
    assert await staying == ["a", "b"]


@pytest.mark.asyncio
async def test_a_view_does_not_keep_a_turn_running_that_nobody_waits_for(provider: ScriptedProvider) -> None:
    provider.enqueue(asyncio.Event())
    response = await ask(provider)

    async def view() -> list[Event]:
        return [event async for batch in response.batches(0.0) for event in batch]

    watching, waiting = asyncio.create_task(view()), asyncio.create_task(whole(response))
    await asyncio.sleep(0)
    waiting.cancel()
    assert await watching == [TurnDone("cancelled")]


@pytest.mark.asyncio
async def test_a_timeout_around_a_response_stops_it(provider: ScriptedProvider) -> None:
    provider.enqueue("a", asyncio.Event())
    response = await ask(provider)
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(whole(response), 0.001)
    await response.wait()
    assert (response.status, response.text) == ("cancelled", "a")


@pytest.mark.asyncio
async def test_a_chat_cancelled_before_it_returned_stops_its_turn(provider: ScriptedProvider) -> None:
    before = asyncio.all_tasks()
    provider.enqueue("a", asyncio.Event())
    ledger = Ledger()
    task = asyncio.create_task(ask(provider, ledger))
    await asyncio.sleep(0)
    assert len(ledger.opened) == 1
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await asyncio.gather(*asyncio.all_tasks() - before, return_exceptions=True)
    assert [record.status for record in ledger.settled] == ["cancelled"]


@pytest.mark.asyncio
async def test_a_dropped_response_leaves_no_task_and_no_memory(provider: ScriptedProvider) -> None:
    before, gate, ledger = asyncio.all_tasks(), asyncio.Event(), Ledger()
    provider.enqueue("a", gate, "b")
    response = await ask(provider, ledger)
    known = weakref.ref(response)
    del response
    gc.collect()
    gate.set()
    await asyncio.wait(asyncio.all_tasks() - before)
    assert [record.status for record in ledger.settled] == ["ok"]
    await asyncio.sleep(0)
    gc.collect()
    assert asyncio.all_tasks() == before
    assert known() is None
    assert provider.closed == 1


# ── other loops and other threads ────────────────────────────────────────────────────────────────────


@pytest.mark.asyncio
async def test_str_in_another_thread_waits_for_the_whole_text(provider: ScriptedProvider) -> None:
    gate = asyncio.Event()
    provider.enqueue("a", gate, "b")
    response = await ask(provider)
    printing = asyncio.create_task(asyncio.to_thread(str, response))
    await asyncio.sleep(0)
    gate.set()
    assert await printing == "ab"


@pytest.mark.asyncio
async def test_a_loop_in_another_thread_can_read_along(provider: ScriptedProvider) -> None:
    gate = asyncio.Event()
    provider.enqueue("a", gate, "b")
    response = await ask(provider)
    reading = asyncio.create_task(asyncio.to_thread(lambda: asyncio.run(pieces(response))))
    viewing = asyncio.create_task(asyncio.to_thread(lambda: asyncio.run(_viewed(response))))
    await asyncio.sleep(0)
    gate.set()
    assert await reading == ["a", "b"]
    assert await viewing == "ab"


async def _viewed(response: StreamingResponseDTO) -> str:
    events = [event async for batch in response.batches(0.0) for event in batch]
    return "".join(event for event in events if isinstance(event, str))


def test_str_after_asyncio_run_gives_what_there_is(provider: ScriptedProvider) -> None:
    async def main() -> tuple[StreamingResponseDTO, StreamingResponseDTO]:
        provider.enqueue("whole")
        finished = await ask(provider)
        await finished
        provider.enqueue("half", asyncio.Event())
        return finished, await ask(provider)

    finished, stopped = asyncio.run(main())
    assert (str(finished), str(stopped)) == ("whole", "half")
    assert stopped.status == "cancelled"
    assert asyncio.run(whole(stopped)) == "half"


def test_str_drives_a_loop_that_is_only_paused(provider: ScriptedProvider) -> None:
    loop = asyncio.new_event_loop()
    provider.enqueue("a", "b")
    response = loop.run_until_complete(use_case(provider).execute(agent(), "hello"))
    assert str(response) == "ab"
    loop.close()


def test_a_loop_closed_under_a_running_turn_is_an_error_and_no_endless_wait(provider: ScriptedProvider) -> None:
    loop, gate = asyncio.new_event_loop(), asyncio.Event()
    provider.enqueue("a", gate, "b")
    response = loop.run_until_complete(ask(provider))
    loop.close()
    assert str(response) == "a"
    response.cancel()
    with pytest.raises(CreateAgentsError, match="loop in which this turn ran was closed"):
        asyncio.run(whole(response))
