"""Rows asked side by side, by a fixed number of workers; each takes the next row when it is done with one.

A server at home may have few slots, so there a `Ramp` lets few of them begin.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from numbers import Integral, Real
from typing import Any, Literal

from ..agent.agent import Agent
from ..agent.chat import ChatWithAgentUseCase
from ..agent.settings import AgentSettings
from ..core.messages import Message, MessageContent
from ..core.provider import ChatRepository
from ..core.records import CallRecord, RecordSink, RequestRecord, ToolRecord
from ..core.token_estimate import estimate_chars, estimate_tokens
from ..errors import ConfigurationError
from ..loop_shutdown import wait_until_done
from ..tools.executor import ToolExecutor
from ..wrappers.throttled import ThrottledRepository
from .ramp import Ramp
from .rate_limiter import Gate, Limiter

__all__ = ["HEARTBEAT_S", "OnError", "Options", "Pool", "Row", "RowAgent", "SettledRow"]

OnError = Literal["keep", "stop"]


@dataclass(frozen=True, slots=True)
class Options:
    """The keyword arguments of `CreateAgent.map`; see there.

    Raises:
        ConfigurationError: one of them has an invalid value.
    """

    concurrency: int
    rpm: float | None = None
    tpm: float | None = None
    on_error: OnError = "keep"
    resume: bool = False
    progress: bool = True

    def __post_init__(self) -> None:
        if not _is_number(self.concurrency, Integral) or self.concurrency < 1:
            raise ConfigurationError(
                f"concurrency must be a whole number, 1 or more (rows at the same time), not {self.concurrency!r}"
            )
        for name, what, limit in (("rpm", "requests", self.rpm), ("tpm", "tokens", self.tpm)):
            if limit is not None and not (_is_number(limit, Real) and 0 < limit < math.inf):
                raise ConfigurationError(
                    f"{name} must be {what} a minute, a number above 0, or None for no limit, not {limit!r}"
                )
        if self.on_error not in ("keep", "stop"):
            raise ConfigurationError(
                "on_error must be 'keep' (a row that fails is kept as such) or 'stop' (the first one ends the "
                f"batch), not {self.on_error!r}"
            )
        for name, value in (("resume", self.resume), ("progress", self.progress)):
            if not isinstance(value, bool):
                raise ConfigurationError(f"{name} must be True or False, not {value!r}")


def _is_number(value: Any, kind: type) -> bool:
    return isinstance(value, kind) and not isinstance(value, bool)


@dataclass(frozen=True, slots=True)
class RowAgent:
    """The agent that answers the rows, and how it reaches its provider.

    Attributes:
        agent: has no history, so that rows know nothing of each other.
        repository: the provider, without retries: the batch retries.
        executor: runs the tools.
        is_named: whether the user named the agent.
        max_retries: how often the batch sends a failed request again.
        settings: the agent's settings; None on a Dask worker.
    """

    agent: Agent
    repository: ChatRepository
    executor: ToolExecutor
    is_named: bool = True
    max_retries: int = 2
    settings: AgentSettings | None = None


HEARTBEAT_S = 0.1
"""Seconds between the wake-ups of an idle loop: a kernel's interrupt reaches it with its next event."""


Row = tuple[int, MessageContent]
"""A position in the data, and the prompt."""


@dataclass(slots=True)
class SettledRow:
    """A row that was asked, and how it ended; ``error`` is None unless it failed."""

    position: int
    call: CallRecord
    requests: tuple[RequestRecord, ...] = ()
    tools: tuple[ToolRecord, ...] = ()
    error: BaseException | None = None
    notices: tuple[str, ...] = ()


class Pool:
    """Asks rows on this event loop.

    Args:
        row_agent: the agent that answers the rows.
        sink: where the calls are recorded.
        limiter: says when a request may be sent.
        settled: called with each row that has ended.
        tick: called ten times a second while rows run.
    """

    def __init__(
        self,
        row_agent: RowAgent,
        sink: RecordSink,
        limiter: Limiter,
        settled: Callable[[SettledRow], None],
        *,
        tick: Callable[[], None] = lambda: None,
    ) -> None:
        self._row_agent, self._sink = row_agent, sink
        self._gate = Gate(limiter)
        self._settled, self._tick = settled, tick
        self._is_closed = self._is_stopped = False
        self._workers: list[asyncio.Task[None]] = []

    def close(self) -> None:
        """Start no more rows."""
        self._is_closed = True

    def stop(self) -> None:
        """Start no more rows, and stop those that run; `run` returns when they have settled."""
        self._is_closed = True
        if not self._is_stopped:  # a second cancellation would not let them settle
            self._is_stopped = True
            for worker in self._workers:
                worker.cancel()

    async def run(self, rows: Iterable[Row], concurrency: int) -> None:
        """Ask all rows; if cancelled, raise once the rows that ran have settled."""
        todo = iter(rows)
        repository = self._row_agent.repository
        limit, first = concurrency, None
        if concurrency > 1:  # one row waits for no other
            limit = min(concurrency, await repository.max_concurrency() or concurrency)
            first = await repository.first_concurrency()
        ramp = Ramp(limit, first)
        self._workers = workers = [asyncio.create_task(self._work(todo, ramp)) for _ in range(limit)]
        running = len(workers)
        finished = asyncio.get_running_loop().create_future()

        def count_end(worker: asyncio.Task[None]) -> None:
            nonlocal running
            running -= 1
            has_failed = not worker.cancelled() and worker.exception() is not None
            if (running == 0 or has_failed) and not finished.done():
                finished.set_result(None)

        for worker in workers:
            worker.add_done_callback(count_end)
        try:
            while not finished.done():
                await asyncio.wait([finished], timeout=HEARTBEAT_S)
                self._tick()
        finally:
            if running:
                self.stop()
                await wait_until_done(workers)
        for worker in workers:
            if not worker.cancelled():
                worker.result()

    async def _work(self, todo: Iterator[Row], ramp: Ramp) -> None:
        while True:
            ahead = await ramp.enter()
            try:
                row = None if self._is_closed else next(todo, None)
                if row is None:
                    return
                await self._ask(row, partial(ramp.answered, ahead), partial(ramp.was_slow, ahead))
            finally:
                ramp.leave()

    async def _ask(self, row: Row, answered: Callable[[float], None], timed_out: Callable[[], None]) -> None:
        row_agent, agent = self._row_agent, self._row_agent.agent
        position, prompt = row
        chars = len(agent.instructions or "") + estimate_chars([Message("user", prompt)])
        permit = await self._gate.enter(estimate_tokens(chars, agent.config))
        if self._is_closed:
            return
        throttled = ThrottledRepository(
            row_agent.repository,
            self._gate,
            permit,
            row_agent.max_retries,
            answered=answered,
            timed_out=timed_out,
        )
        use_case = ChatWithAgentUseCase(throttled, executor=row_agent.executor, sink=self._sink)
        response = use_case.start(agent, prompt)
        try:
            await response.wait()
        finally:
            await response.aclose()
            throttled.settle(response.requests)
            self._settled(
                SettledRow(
                    position,
                    response.record,
                    response.requests,
                    response.tools,
                    response.error,
                    response.notices,
                )
            )
