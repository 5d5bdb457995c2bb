"""One batch: what is left to ask is asked, here or on Dask workers, and every row has its entry in the end."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Protocol

import pandas as pd

from .. import bridge
from ..errors import BudgetExceededError, InvalidMessageError
from ..metrics import MetricsRecorder
from ..text import error_in_words
from .pool import Options, Pool, Row, RowAgent, SettledRow
from .progress import Progress
from .prompts import read_prompts
from .rate_limiter import Limiter
from .results import Results, earlier_answers

__all__ = ["Batch"]


class _Askers(Protocol):
    """Who asks the rows: a `Pool`, or Dask workers with one each."""

    async def run(self, rows: list[Row], concurrency: int) -> None: ...
    def close(self) -> None: ...
    def stop(self) -> None: ...


class Batch:
    """The rows of one `CreateAgent.map`.

    Args:
        row_agent: who answers.
        recorder: where calls are recorded, and found again.
        data, template: see `CreateAgent.map`.
        options: how.
        client: a Dask client whose workers ask; None: this process does.
        asked: called with the id of each call that was made.

    Raises:
        ConfigurationError: something of it cannot be; nothing was sent.
    """

    def __init__(
        self,
        row_agent: RowAgent,
        recorder: MetricsRecorder,
        data: Any,
        template: str | None,
        options: Options,
        *,
        client: Any = None,
        asked: Callable[[str], None],
    ) -> None:
        prompts = read_prompts(data, template)
        self._options, self._asked = options, asked
        self._texts, self._index = prompts.texts, prompts.index
        self._known = earlier_answers(recorder, row_agent, self._texts) if options.resume else {}
        self._results = Results(self._index)
        self._failure: tuple[int, BaseException] | None = None
        self._not_run: str | None = None
        self._frame: pd.DataFrame | None = None
        self._ended = asyncio.Event()
        self._askers: _Askers
        self._limiter: Limiter | None = None
        if client is None:
            self._limiter = Limiter(rpm=options.rpm, tpm=options.tpm)
            self._askers = Pool(row_agent, recorder, self._limiter, self._settled, tick=self._say_pause)
        else:
            from .dask_pool import DaskPool

            self._askers = DaskPool(
                row_agent, recorder, client, options, self._settled, failed=self._failed, exhausted=self._close
            )

    async def run(self) -> pd.DataFrame:
        """Ask what is left to ask.

        Raises:
            BaseException: with ``on_error="stop"``, what the first row to fail failed with.
            asyncio.CancelledError: it was stopped; what ran has settled.
        """
        self._progress = Progress(len(self._texts), self._options.progress)
        try:
            todo = self._without_asking()
            if todo and self._failure is None:
                await self._askers.run(todo, min(self._options.concurrency, len(todo)))
        except asyncio.CancelledError as error:
            raise bridge.shown_as_stopped(error, " in agent.last_map, and map(…, resume=True) goes on") from None
        finally:
            self._ended.set()
            self._progress.close()
        if self._failure is not None:
            position, failure = self._failure
            failure.add_note(
                f"Row {self._index[position]!r} of agent.map failed (on_error='stop'); agent.last_map has the rest"
            )
            raise failure
        return self.frame()

    async def stop(self) -> None:
        """Stop the rows that run, begin no more, and wait until all has settled; `run` returns the frame."""
        self._askers.stop()
        await self._ended.wait()

    def frame(self) -> pd.DataFrame:
        """The rows as they are; from the end on always the same frame."""
        if self._frame is None or not self._ended.is_set():
            self._frame = self._results.frame(self._not_run)
        return self._frame

    def _without_asking(self) -> list[Row]:
        """Enter the rows that have no prompt and those that were answered before; the others are to be asked."""
        todo: list[Row] = []
        for position, text in enumerate(self._texts):
            if isinstance(text, InvalidMessageError):
                self._failed(position, text)
            elif position in self._known:
                self._results.put(position, **self._known[position])
            else:
                todo.append((position, text))
        self._progress.add(len(self._known))
        return todo

    def _say_pause(self) -> None:
        paused_s = 0.0 if self._limiter is None else self._limiter.paused_s
        self._progress.say(f"refused (429), again in {paused_s:.0f} s" if paused_s >= 0.5 else "")

    def _settled(self, row: SettledRow) -> None:
        self._asked(row.call.call_id)
        self._results.put_call(row.position, row.call)
        failed = row.call.status == "error"
        self._progress.add(failed=failed)
        if not failed:
            return
        gives_up = self._limiter is not None and self._limiter.gives_up
        if row.error is not None and (gives_up or isinstance(row.error, BudgetExceededError)):
            self._close(row.error)
        self._stop_at(row.position, row.error)

    def _failed(self, position: int, error: BaseException) -> None:
        """A row has failed that was not asked."""
        self._results.put_error(position, error)
        self._progress.add(failed=1)
        self._stop_at(position, error)

    def _stop_at(self, position: int, error: BaseException | None) -> None:
        if self._options.on_error == "stop" and self._failure is None and error is not None:
            self._failure = position, error
            self._askers.stop()

    def _close(self, reason: BaseException) -> None:
        """No row that follows could be answered: the budget or the quota is used up."""
        self._not_run = self._not_run or error_in_words(reason)
        self._askers.close()
