"""One batch: asks the rows that have no answer yet, here or on Dask workers."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Protocol

import pandas as pd

from .. import bridge
from ..errors import BudgetExceededError, InvalidMessageError, QuotaExceededError
from ..metrics import MetricsRecorder
from ..text import format_error, one_line
from .pool import Options, Pool, Row, RowAgent, SettledRow
from .progress import Progress
from .prompts import read_prompts
from .rate_limiter import Limiter
from .results import Results, earlier_answers

__all__ = ["Batch"]


class _RowRunner(Protocol):
    """Asks rows: a `Pool`, or Dask workers with a pool each."""

    async def run(self, rows: list[Row], concurrency: int) -> None: ...
    def close(self) -> None: ...
    def stop(self) -> None: ...


class Batch:
    """The rows of one `CreateAgent.map`.

    Args:
        row_agent: the agent that answers the rows.
        recorder: where calls are recorded, and found again.
        data, template, options: see `CreateAgent.map`.
        client: a Dask client whose workers ask; None for this process.
        asked: called with the id of each call that was made.

    Raises:
        ConfigurationError: an argument is invalid; nothing was sent.
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
        self._earlier = earlier_answers(recorder, row_agent, self._texts) if options.resume else {}
        self._results = Results(self._index)
        self._failure: tuple[int, BaseException] | None = None
        self._not_run: str | None = None
        self._frame: pd.DataFrame | None = None
        self._notices: set[str] = set()
        self._ended = asyncio.Event()
        self._runner: _RowRunner
        self._limiter: Limiter | None = None
        if client is None:
            self._limiter = Limiter(rpm=options.rpm, tpm=options.tpm)
            self._runner = Pool(row_agent, recorder, self._limiter, self._settled, tick=self._show_pause)
        else:
            from .dask_pool import DaskPool

            self._runner = DaskPool(
                row_agent, recorder, client, options, self._settled, failed=self._failed, exhausted=self._close
            )

    async def run(self) -> pd.DataFrame:
        """Ask the rows that have no answer yet.

        Raises:
            BaseException: with ``on_error="stop"``, the error of the first row that failed.
            asyncio.CancelledError: the batch was stopped; all its rows have settled.
        """
        self._progress = Progress(len(self._texts), self._options.progress)
        try:
            todo = self._rows_to_ask()
            if todo and self._failure is None:
                await self._runner.run(todo, min(self._options.concurrency, len(todo)))
        except asyncio.CancelledError as error:
            raise bridge.render_as_stopped(error, " in agent.last_map, and map(…, resume=True) goes on") from None
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
        """Stop the rows that run, start no more, and wait until all have settled; `run` returns the frame."""
        self._runner.stop()
        await self._ended.wait()

    def frame(self) -> pd.DataFrame:
        """The rows so far; after the end always the same frame."""
        if self._frame is None or not self._ended.is_set():
            self._frame = self._results.frame(self._not_run)
        return self._frame

    def _rows_to_ask(self) -> list[Row]:
        """Enter the rows without a prompt and those that were answered before; return the others."""
        todo: list[Row] = []
        for position, text in enumerate(self._texts):
            if isinstance(text, InvalidMessageError):
                self._failed(position, text)
            elif position in self._earlier:
                self._results.put(position, **self._earlier[position])
            else:
                todo.append((position, text))
        self._progress.add(len(self._earlier))
        return todo

    def _show_pause(self) -> None:
        paused_s = 0.0 if self._limiter is None else self._limiter.paused_s
        self._progress.say(f"refused (429), again in {paused_s:.0f} s" if paused_s >= 0.5 else "")

    def _settled(self, row: SettledRow) -> None:
        self._asked(row.call.call_id)
        self._results.put_call(row.position, row.call)
        for text in row.notices:
            self._notify(text)
        failed = row.call.status == "error"
        self._progress.add(failed=failed)
        if not failed:
            return
        gives_up = self._limiter is not None and self._limiter.gives_up
        is_spent = isinstance(row.error, BudgetExceededError | QuotaExceededError)
        if row.error is not None and (gives_up or is_spent):
            self._close(row.error)
        self._stop_at(row.position, row.error)

    def _notify(self, text: str) -> None:
        """Show a notice once: each Dask worker has its own."""
        if text not in self._notices:
            self._notices.add(text)
            self._progress.write(one_line(text, 500))

    def _failed(self, position: int, error: BaseException) -> None:
        """Enter a row that failed before it was asked."""
        self._results.put_error(position, error)
        self._progress.add(failed=1)
        self._stop_at(position, error)

    def _stop_at(self, position: int, error: BaseException | None) -> None:
        if self._options.on_error == "stop" and self._failure is None and error is not None:
            self._failure = position, error
            self._runner.stop()

    def _close(self, reason: BaseException) -> None:
        """Start no more rows: the budget or the quota is used up."""
        self._not_run = self._not_run or format_error(reason)
        self._runner.close()
