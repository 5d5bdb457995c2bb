"""Hands chunks of a batch's rows to Dask workers, and takes their answers and records."""

from __future__ import annotations

import asyncio
import math
import pickle
import uuid
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import Any

from ..agent.chat import make_request
from ..core.messages import Message
from ..core.records import current_cell
from ..errors import BudgetExceededError, ConfigurationError, WorkerError
from ..logging_config import LoggingConfig
from ..loop_shutdown import wait_until_done
from ..metrics import MetricsRecorder
from ..providers.registry import find_provider, keys_in_environment
from ..redaction import holds_key, mask_keys
from .dask_worker import AgentPlan, Chunk, ChunkResult, run_chunk, stop_batch
from .pool import HEARTBEAT_S, Options, Row, RowAgent, SettledRow

__all__ = ["DaskPool", "packed_plan"]

_ROWS_PER_SLOT = 20
"""Rows of a chunk per row that runs at the same time: slots are idle while the last rows of a chunk end."""
_MAX_CHUNK = 500
"""Limit for the rows of a chunk."""
_STOP_S = 10.0
"""Limit for how long workers take to stop."""

_log = LoggingConfig.get_logger(__name__)


def packed_plan(row_agent: RowAgent) -> bytes:
    """Pickle what workers make the agent from.

    Raises:
        ConfigurationError: its provider is an object, a key would travel with it, or a tool cannot.
    """
    import cloudpickle

    settings = row_agent.settings
    if settings is None or settings.client is not None or not isinstance(settings.provider, str):
        raise ConfigurationError(
            "This agent's provider is an object, and objects do not travel to Dask workers: make the agent with "
            "the name of a provider, or call map without client="
        )
    if settings.api_key and not find_provider(settings.provider).embedded:
        raise ConfigurationError(
            "This agent was given its key in code, and keys do not travel to Dask workers: leave api_key out, and "
            "set the provider's environment variable here and where workers are started"
        )
    for name in ("headers", "query"):
        pairs: Mapping[str, str | None] = getattr(settings, name) or {}
        secret = next((each for each, value in pairs.items() if holds_key(each, value)), None)
        if secret is not None:
            raise ConfigurationError(
                f"The agent has a key in {name} ({secret}), and keys do not travel to Dask workers. Leave it out, "
                "and set the provider's environment variable, or OPENAI_CUSTOM_HEADERS, where workers start"
            )
    try:
        packed: bytes = cloudpickle.dumps(AgentPlan(settings.travelling()))
    except Exception as error:
        raise ConfigurationError(
            f"The agent's tools cannot travel to Dask workers: {type(error).__name__}: {error}. A tool may not "
            "hold an open file, a connection or a lock: open it inside the function"
        ) from error
    text = f"{settings.config!r} {settings.base_url}"
    keys = [key.encode() for key in keys_in_environment() if len(key) >= 8]
    if any(key in packed for key in keys) or mask_keys(text) != text:
        raise ConfigurationError(
            "A key would travel to Dask workers with this agent (in config, base_url, headers, query, "
            "instructions or a tool): let the worker read it from its environment"
        )
    return packed


class DaskPool:
    """Asks rows on the workers that a client has at the start.

    Rows go in chunks. Each worker runs two chunks at a time if it has the threads for it; each of these lanes has
    its share of concurrency, ``rpm`` and ``tpm``.

    Args:
        row_agent: answers the rows.
        recorder: takes the records that come back; its budget is checked before each chunk leaves.
        client: a ``distributed.Client``.
        options: of the batch.
        settled: called with each row that was asked.
        failed: called with each row that could not be asked.
        exhausted: called with the reason when no further row can be answered.

    Raises:
        ConfigurationError: the client is not connected, or the agent cannot travel.
    """

    def __init__(
        self,
        row_agent: RowAgent,
        recorder: MetricsRecorder,
        client: Any,
        options: Options,
        settled: Callable[[SettledRow], None],
        *,
        failed: Callable[[int, BaseException], None],
        exhausted: Callable[[BaseException], None],
    ) -> None:
        try:
            from distributed import Client
        except ImportError:
            raise ConfigurationError("client= needs Dask: pip install 'createagents-nb[dask]'") from None
        if not isinstance(client, Client) or client.status != "running":
            raise ConfigurationError(f"client must be a connected dask.distributed.Client, not {client!r}")
        self._client, self._recorder, self._options = client, recorder, options
        self._settled, self._failed, self._exhausted = settled, failed, exhausted
        self._plan = packed_plan(row_agent)
        self._batch_id = uuid.uuid4().hex
        self._todo: deque[Row] = deque()
        self._fair_share = _MAX_CHUNK
        self._lanes: list[asyncio.Task[None]] = []
        self._is_closed = False
        self._stopping: asyncio.Task[None] | None = None
        self._cell = current_cell.get()
        self._asked = make_request(row_agent.agent, row_agent.repository, [Message("user", "a row's prompt")])

    def close(self) -> None:
        """Hand out no more rows."""
        self._is_closed = True

    def stop(self) -> None:
        """Hand out no more rows, and stop the workers; `run` returns when they have stopped."""
        self._is_closed = True
        if self._stopping is None and self._lanes:
            self._stopping = asyncio.create_task(self._stop())

    async def run(self, rows: list[Row], concurrency: int) -> None:
        """Ask all rows. If it is cancelled, it raises when the workers have stopped.

        Raises:
            ConfigurationError: there are no workers, or the agent cannot be made there.
        """
        self._todo.extend(rows)
        workers = await self._workers()
        shares = [share for share in _shares(concurrency, len(workers)) if share]
        self._fair_share = math.ceil(len(rows) / len(shares))
        self._lanes = [
            asyncio.create_task(self._lane(lane, worker, share, share / concurrency))
            for lane, (worker, share) in enumerate(zip(workers, shares, strict=False))
        ]
        try:
            running: set[asyncio.Task[None]] = set(self._lanes)
            while running:
                done, running = await asyncio.wait(
                    running, timeout=HEARTBEAT_S, return_when=asyncio.FIRST_EXCEPTION
                )
                for lane in done:
                    if not lane.cancelled():
                        lane.result()
        finally:
            if not all(lane.done() for lane in self._lanes):
                self.stop()
            if self._stopping is not None:
                await wait_until_done([self._stopping])

    async def _workers(self) -> list[str]:
        """The address of a worker for each lane, such that neighbors are on different workers."""
        with suppress(TimeoutError):
            await self._call(self._client.wait_for_workers, 1, 30)
        threads: dict[str, int] = await self._call(self._client.nthreads)
        if not threads:
            raise ConfigurationError("The Dask cluster has no worker: start one, as in cluster.scale(2)")
        return [*threads, *(worker for worker, count in threads.items() if count > 1)]

    async def _call(self, method: Callable[..., Any], *arguments: Any) -> Any:
        """Call a method of the client, which blocks or is a coroutine function."""
        if self._client.asynchronous:
            return await method(*arguments)
        return await asyncio.to_thread(method, *arguments)

    async def _lane(self, lane: int, worker: str, share: int, fraction: float) -> None:
        rpm, tpm = self._options.rpm, self._options.tpm
        while rows := self._next_rows(share):
            chunk = Chunk(
                batch_id=self._batch_id,
                lane=lane,
                rows=rows,
                concurrency=share,
                rpm=None if rpm is None else rpm * fraction,
                tpm=None if tpm is None else tpm * fraction,
                stop_at_error=self._options.on_error == "stop",
            )
            future = self._client.submit(
                run_chunk,
                self._plan,
                pickle.dumps(chunk),
                key=f"createagents-nb-{self._batch_id}-{rows[0][0]}",
                workers=[worker],
                allow_other_workers=True,  # this one may be gone
                pure=False,
            )
            try:
                result = await self._result(future)
            except ConfigurationError:
                raise
            except Exception as error:
                lost = WorkerError(f"A Dask worker could not do its rows: {type(error).__name__}: {error}")
                for position, _ in rows:
                    self._failed(position, lost)
                continue
            finally:
                future.release()  # type: ignore[no-untyped-call]
            self._record_all(result)

    def _next_rows(self, share: int) -> list[Row]:
        """The rows of the next chunk, as many as the budget allows; empty at the end or after `close`."""
        # Few if there is a budget: the cost of a chunk is known only when it comes back.
        limit = share if self._recorder.budget() else min(share * _ROWS_PER_SLOT, self._fair_share, _MAX_CHUNK)
        rows: list[Row] = []
        while self._todo and len(rows) < limit and not self._is_closed:
            position, prompt = self._todo.popleft()
            try:
                self._recorder.admit(1)
            except BudgetExceededError as error:
                self._failed(position, error)
                self._exhausted(error)
                break
            rows.append((position, prompt))
        return rows

    async def _result(self, future: Any) -> ChunkResult:
        loop = asyncio.get_running_loop()
        ended: asyncio.Future[None] = loop.create_future()

        def end() -> None:
            if not ended.done():
                ended.set_result(None)

        def wake(_: object) -> None:
            with suppress(RuntimeError):  # the loop was closed meanwhile
                loop.call_soon_threadsafe(end)

        future.add_done_callback(wake)  # not a thread for each lane, which would use up the loop's threads
        await ended
        if future.cancelled():
            raise WorkerError("its task was cancelled, or the scheduler was lost")
        result: ChunkResult = await self._call(future.result)
        return result

    def _record_all(self, result: ChunkResult) -> None:
        for row in result.rows:
            self._record(row)
            self._settled(row)
        if result.gave_up:
            errors = [row.error for row in result.rows if row.error is not None]
            if errors:
                self._exhausted(errors[-1])

    def _record(self, row: SettledRow) -> None:
        """Record a row as if it had been asked here: by the rules of this recorder, with its prices."""
        recorder, cost_usd = self._recorder, row.call.cost_usd
        requests = []
        for request in row.requests:
            if request.cost_usd is None and (price := recorder.cost_usd(request)) is not None:
                request = replace(request, cost_usd=price)
                cost_usd = (cost_usd or 0.0) + price
            requests.append(request)
        cell = self._cell
        row.call = replace(row.call, cost_usd=cost_usd, cell_id=cell.cell_id, execution_count=cell.execution_count)
        recorder.call_opened(replace(row.call, status="running", response=None, error=None, error_type=None))
        for request in requests:
            if request.round == 1:  # with the instructions, tools and config of the batch
                recorder.request_opened(replace(request, status="running", request=self._asked))
            recorder.request_settled(request)
        for tool in row.tools:
            recorder.tool_settled(tool)
        recorder.call_settled(row.call)

    async def _stop(self) -> None:
        """Stop the workers: chunks that run come back with the rows that are done, the others empty."""
        try:
            async with asyncio.timeout(_STOP_S):
                await self._call(partial(self._client.run, on_error="ignore"), stop_batch, self._batch_id)
                await asyncio.wait(self._lanes)
        except Exception as error:  # the caller must not wait for a worker that does not answer
            _log.warning("Dask workers did not stop in time: %r", error)
        for lane in self._lanes:
            lane.cancel()
        await asyncio.wait(self._lanes)


def _shares(concurrency: int, lanes: int) -> list[int]:
    """Divide ``concurrency`` into ``lanes`` parts that differ by at most one."""
    quotient, remainder = divmod(concurrency, lanes)
    return [quotient + (lane < remainder) for lane in range(lanes)]
