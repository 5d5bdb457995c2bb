"""When requests are sent: rates over a clock of the test's, and pauses after a refusal."""

from __future__ import annotations

import asyncio
import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from createagents_nb.batch.rate_limiter import Gate, Limiter
from createagents_nb.providers.retries import retry_after_s


class Clock:
    """Time that passes when somebody sleeps."""

    def __init__(self) -> None:
        self.now = 100.0
        self.slept: list[float] = []

    def __call__(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"retry-after": "7"}, 7),
        ({"retry-after": "0.5"}, 0.5),
        ({"retry-after": "-3"}, 0),
        ({"retry-after-ms": "250", "retry-after": "9"}, 0.25),
        ({"retry-after": "Wed, 21 Oct 2015 07:28:00 GMT"}, 0),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "inf"}, None),
        ({}, None),
    ],
)
def test_how_long_a_server_asks_to_wait(headers: dict[str, str], seconds: float | None) -> None:
    assert retry_after_s(headers) == seconds


def test_without_limits_nothing_waits() -> None:
    limiter = Limiter(clock=Clock())
    for _ in range(1000):
        assert limiter.wait_s() == 0
        limiter.ended(limiter.send(1e6), 10**6)


@given(st.floats(0.5, 10_000), st.integers(1, 40))
def test_no_minute_has_more_than_rpm_requests(rpm: float, requests: int) -> None:
    clock = Clock()
    gate = Gate(Limiter(rpm=rpm, clock=clock), clock.sleep)
    times = []

    async def one() -> None:
        await gate.enter(1)
        times.append(clock.now)

    async def all_at_once() -> None:
        await asyncio.gather(*(one() for _ in range(requests)))

    asyncio.run(all_at_once())
    gaps = [later - earlier for earlier, later in itertools.pairwise(times)]
    assert gaps == pytest.approx([60 / rpm] * (requests - 1))


def test_tokens_wait_for_what_requests_took_so_far() -> None:
    clock = Clock()
    limiter = Limiter(tpm=600, clock=clock)  # ten a second
    limiter.ended(limiter.send(estimate=50), tokens=100)
    assert limiter.wait_s() == pytest.approx(10)
    clock.now += 10
    assert limiter.wait_s() == 0
    sent = limiter.send(estimate=50)  # 100, as the last
    assert limiter.wait_s() == pytest.approx(10)
    limiter.ended(sent, tokens=40)
    assert limiter.wait_s() == pytest.approx(4)


def test_an_unknown_number_of_tokens_stays_the_guess() -> None:
    limiter = Limiter(tpm=60, clock=Clock())
    limiter.ended(limiter.send(estimate=5), None)
    assert limiter.wait_s() == pytest.approx(5)


def test_a_request_that_failed_took_no_tokens() -> None:
    limiter = Limiter(tpm=60, clock=Clock())
    limiter.not_answered(limiter.send(estimate=5))
    assert limiter.wait_s() == 0


@given(st.lists(st.integers(1, 2_000), min_size=2, max_size=60))
def test_tokens_stay_below_tpm_over_time(taken: list[int]) -> None:
    clock = Clock()
    limiter = Limiter(tpm=6_000, clock=clock)
    gate = Gate(limiter, clock.sleep)

    async def one_by_one() -> None:
        for tokens in taken:
            limiter.ended(await gate.enter(100), tokens)

    asyncio.run(one_by_one())
    assert sum(taken[:-1]) <= (clock.now - 100) * 100 + 1e-6


def test_everybody_waits_as_long_as_the_server_asks() -> None:
    clock = Clock()
    limiter = Limiter(clock=clock)
    gate = Gate(limiter, clock.sleep)

    async def three() -> list[float]:
        limiter.refused(await gate.enter(1), retry_after_s=30)
        assert limiter.paused_s == 30
        times = []

        async def one() -> None:
            await gate.enter(1)
            times.append(clock.now)

        await asyncio.gather(one(), one(), one())
        return times

    assert asyncio.run(three()) == [130, 130, 130]
    assert clock.slept == [30]


def test_a_pause_may_become_longer_while_it_is_waited_for() -> None:
    clock = Clock()
    limiter = Limiter(clock=clock)
    first, second = limiter.send(1), limiter.send(1)
    limiter.refused(first, 10)
    limiter.refused(second, 25)
    assert limiter.wait_s() == 25


def test_pauses_of_unknown_length_double_until_something_is_answered() -> None:
    clock = Clock()
    limiter = Limiter(clock=clock)
    waits = []
    for _ in range(8):
        assert not limiter.gives_up
        limiter.refused(limiter.send(1), None)
        waits.append(limiter.wait_s())
        clock.now += limiter.wait_s()
    assert waits == [1, 2, 4, 8, 16, 32, 60, 60]
    assert limiter.gives_up
    limiter.answered()
    assert not limiter.gives_up
    limiter.refused(limiter.send(1), None)
    assert limiter.wait_s() == 1


def test_many_refusals_at_once_are_one() -> None:
    limiter = Limiter(clock=Clock())
    for sent in [limiter.send(1) for _ in range(50)]:
        limiter.refused(sent, None)
    assert limiter.wait_s() == 1
    assert not limiter.gives_up


def test_who_stops_waiting_lets_the_next_one_wait() -> None:
    clock = Clock()

    async def never(seconds: float) -> None:
        await asyncio.Event().wait()

    async def check() -> None:
        limiter = Limiter(clock=clock)
        gate = Gate(limiter, never)
        limiter.refused(await gate.enter(1), 5)
        waiting = asyncio.create_task(gate.enter(1))
        await asyncio.sleep(0)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        clock.now += 5
        await gate.enter(1)

    asyncio.run(check())
