"""The part of a batch on Dask workers: it makes the agent, with keys from their environment, and asks rows."""

from __future__ import annotations

import asyncio
import pickle
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

from ..agent.agent import Agent
from ..agent.history import History
from ..agent.settings import AgentSettings
from ..core.records import CallRecord, ContentPolicy, RequestRecord, ToolRecord
from ..errors import ApprovalError, ConfigurationError, QuotaExceededError, WorkerError
from ..providers.registry import make_repository
from ..text import format_error
from ..tools.approval import Approval, ApprovalRequest
from ..tools.executor import ToolExecutor
from .pool import Pool, Row, RowAgent, SettledRow
from .rate_limiter import Limiter

__all__ = ["AgentPlan", "Chunk", "ChunkResult", "run_chunk", "stop_batch"]

_MAX_REMEMBERED = 256
"""Limit for the batches and their limiters that a worker remembers."""


@dataclass(frozen=True, slots=True)
class AgentPlan:
    """The settings from which a worker makes the agent.

    Attributes:
        settings: arguments of `AgentSettings`, without keys and objects that do not travel.
    """

    settings: Mapping[str, Any]

    def make(self) -> RowAgent:
        """The agent, with the key of this process's environment.

        Raises:
            ConfigurationError: there is no key, or no such provider here.
        """
        settings = AgentSettings(**self.settings)
        options = settings.select("limit") | settings.select("bound")
        repository = make_repository(settings.provider_name, **options).without_retries()
        agent = Agent(**settings.shared() | {"approve": _cannot_ask}, history=History(0))
        executor = ToolExecutor(max_result_chars=settings.max_tool_result_chars)
        return RowAgent(agent, repository, executor, max_retries=settings.max_retries)


async def _cannot_ask(request: ApprovalRequest) -> Approval:
    """Reject a call: ``approve=`` does not travel."""
    raise ApprovalError(
        "nobody can be asked on a Dask worker: leave client= away, then approve= of the agent decides"
    )


@dataclass(frozen=True, slots=True)
class Chunk:
    """Some rows, and their share of the limits.

    Attributes:
        batch_id: the argument of `stop_batch`.
        lane: chunks of one lane run one after another, and share a limiter.
        rpm, tpm: requests and tokens per minute; None for no limit.
        stop_at_error: whether the first row that fails ends the chunk.
    """

    batch_id: str
    lane: int
    rows: list[Row]
    concurrency: int
    rpm: float | None
    tpm: float | None
    stop_at_error: bool


@dataclass(slots=True)
class ChunkResult:
    """The rows that were asked; ``gave_up`` if the server refuses everything from now on."""

    rows: list[SettledRow] = field(default_factory=list)
    gave_up: bool = False


class _NoSink:
    """Drops records: they travel with their rows, and are recorded where the batch was started."""

    def admit(self, round_number: int) -> None: ...
    def call_opened(self, record: CallRecord) -> None: ...
    def call_settled(self, record: CallRecord) -> None: ...
    def request_opened(self, record: RequestRecord) -> None: ...
    def request_settled(self, record: RequestRecord) -> None: ...
    def tool_opened(self, record: ToolRecord) -> None: ...
    def tool_settled(self, record: ToolRecord) -> None: ...

    def cost_usd(self, record: RequestRecord) -> float | None:
        return None

    def context_window(self, record: RequestRecord) -> int | None:
        return None

    def content_policy(self) -> ContentPolicy:
        return str


def run_chunk(plan: bytes, chunk: bytes) -> ChunkResult:
    """Ask the rows of a pickled `Chunk`, in the thread in which Dask runs it.

    Raises:
        ConfigurationError: the agent cannot be made on this worker.
    """
    return asyncio.run(_run(_agent(plan), pickle.loads(chunk)))


def _agent(plan: bytes) -> RowAgent:
    try:
        made: AgentPlan = pickle.loads(plan)
        return made.make()
    except ConfigurationError as error:
        raise type(error)(f"On the Dask worker {_address()}: {error}. {_WHERE}") from error
    except Exception as error:  # such as a module of the user's that is not installed there
        raise ConfigurationError(
            f"The agent's tools cannot be loaded on the Dask worker {_address()}: {type(error).__name__}: "
            f"{error}. Install there what they import"
        ) from error


_WHERE = (
    "Keys come from each worker's own environment: set the variable where workers are started, as in "
    "LocalCluster(env={…})"
)


async def _run(row_agent: RowAgent, chunk: Chunk) -> ChunkResult:
    result = ChunkResult()
    limiter = _limiter(chunk)

    def settled(row: SettledRow) -> None:
        if row.error is not None:
            row.error = _sendable(row.error)
            if chunk.stop_at_error:
                pool.stop()
            elif limiter.gives_up or isinstance(row.error, QuotaExceededError):
                result.gave_up = True
                pool.close()
        result.rows.append(row)

    pool = Pool(row_agent, _NoSink(), limiter, settled)
    loop = asyncio.get_running_loop()
    with _stoppable(chunk.batch_id, lambda: loop.call_soon_threadsafe(pool.stop)):
        await pool.run(chunk.rows, min(chunk.concurrency, len(chunk.rows)))
    return result


def _sendable(error: BaseException) -> BaseException:
    """The error itself, or a `WorkerError` in its words if it cannot be pickled."""
    with suppress(Exception):
        if type(pickle.loads(pickle.dumps(error))) is type(error):
            return error
    return WorkerError(format_error(error))


def _address() -> str:
    from distributed import get_worker

    try:
        return str(get_worker().address)
    except ValueError:
        return "(unknown)"


# ── state of a worker, shared by its chunks ──────────────────────────────────────────────────────────

_lock = threading.Lock()
_limiters: OrderedDict[tuple[str, int], Limiter] = OrderedDict()
"""Limiters by batch and lane."""
_stopped: OrderedDict[str, None] = OrderedDict()
"""Batches that were stopped: their chunks that arrive later stop at once."""
_stoppers: dict[str, list[Callable[[], object]]] = {}
"""By batch, what stops each of its chunks that run."""


def reset() -> None:
    """Forget limiters and stopped batches."""
    with _lock:
        _limiters.clear()
        _stopped.clear()


def stop_batch(batch_id: str) -> None:
    """Stop the chunks of a batch on this worker, those to come included. Safe from any thread."""
    with _lock:
        _remember(_stopped, batch_id, None)
        stoppers = list(_stoppers.get(batch_id, ()))
        for stop in stoppers:
            stop()


@contextmanager
def _stoppable(batch_id: str, stop: Callable[[], object]) -> Iterator[None]:
    with _lock:
        _stoppers.setdefault(batch_id, []).append(stop)
        if batch_id in _stopped:
            stop()
    try:
        yield
    finally:
        with _lock:  # the loop is closed next
            stoppers = _stoppers[batch_id]
            stoppers.remove(stop)
            if not stoppers:
                del _stoppers[batch_id]


def _limiter(chunk: Chunk) -> Limiter:
    key = chunk.batch_id, chunk.lane
    with _lock:
        limiter = _limiters.get(key) or Limiter(rpm=chunk.rpm, tpm=chunk.tpm)
        _remember(_limiters, key, limiter)
        return limiter


def _remember(entries: OrderedDict[Any, Any], key: Any, value: Any) -> None:
    entries[key] = value
    entries.move_to_end(key)
    while len(entries) > _MAX_REMEMBERED:
        entries.popitem(last=False)
