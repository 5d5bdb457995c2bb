"""Rows asked side by side: a fixed number of workers, each of which takes the next row when it has done one."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from ..agent.call_record import CallRecord, RecordSink, RequestRecord, ToolRecord
from ..agent.chat import ChatWithAgentUseCase
from ..agent.loop_end import ended
from .limits import Gate, Limiter
from .paced import PacedRequests, guessed_tokens
from .row_agent import RowAgent

__all__ = ["HEARTBEAT_S", "Pool", "Row", "SettledRow"]

HEARTBEAT_S = 0.1
"""A kernel's interrupt reaches a loop that has nothing to do with its next event: there is one so often."""

Row = tuple[int, str]
"""Where it stands in the data, and its prompt."""


@dataclass(slots=True)
class SettledRow:
    """A row that was asked, and how it ended; ``error`` where it failed."""

    position: int
    call: CallRecord
    requests: tuple[RequestRecord, ...] = ()
    tools: tuple[ToolRecord, ...] = ()
    error: BaseException | None = None


class Pool:
    """Asks rows on this event loop.

    Args:
        row_agent: who answers.
        sink: where the calls are recorded.
        limiter: when a request may be sent.
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
        self._tell, self._tick = settled, tick
        self._is_closed = self._is_stopped = False
        self._workers: list[asyncio.Task[None]] = []

    def close(self) -> None:
        """Begin no more rows."""
        self._is_closed = True

    def stop(self) -> None:
        """Begin no more rows, and stop those that run; `run` returns when they have settled."""
        self._is_closed = True
        if not self._is_stopped:  # a second cancellation would not let them settle
            self._is_stopped = True
            for worker in self._workers:
                worker.cancel()

    async def run(self, rows: Iterable[Row], concurrency: int) -> None:
        """Ask all of them; cancelled, it raises when the rows that ran have settled."""
        todo = iter(rows)
        self._workers = workers = [asyncio.create_task(self._work(todo)) for _ in range(concurrency)]
        left = len(workers)
        over = asyncio.get_running_loop().create_future()

        def note_end(worker: asyncio.Task[None]) -> None:
            nonlocal left
            left -= 1
            is_broken = not worker.cancelled() and worker.exception() is not None
            if (left == 0 or is_broken) and not over.done():
                over.set_result(None)

        for worker in workers:
            worker.add_done_callback(note_end)
        try:
            while not over.done():
                await asyncio.wait([over], timeout=HEARTBEAT_S)
                self._tick()
        finally:
            if left:
                self.stop()
                await ended(workers)
        for worker in workers:
            if not worker.cancelled():
                worker.result()

    async def _work(self, todo: Iterator[Row]) -> None:
        agent = self._row_agent.agent
        instructions = len(agent.instructions or "")
        for position, prompt in todo:
            if self._is_closed:
                return
            turn = await self._gate.enter(guessed_tokens(instructions + len(prompt), agent.config))
            if self._is_closed:
                return
            requests = PacedRequests(self._row_agent.repository, self._gate, turn, self._row_agent.max_retries)
            use_case = ChatWithAgentUseCase(requests, executor=self._row_agent.executor, sink=self._sink)
            response = use_case.start(agent, prompt)
            try:
                await response.wait()
            finally:
                await response.aclose()
                requests.settle(response.requests)
                self._tell(
                    SettledRow(position, response.record, response.requests, response.tools, response.error)
                )
