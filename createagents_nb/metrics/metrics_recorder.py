"""MetricsRecorder, which stores the records of agents and turns them into frames and exports."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, SupportsIndex

from ..core.records import CallRecord, RecordSink, RequestRecord, ToolRecord
from ..errors import ConfigurationError
from ..logging_config import LoggingConfig
from .budget import Budget
from .notebook_file import read_notebook
from .observers import SettledCall
from .sdk_responses import SdkResponse, make_records, read_response, status_of
from .sink import RecorderSink

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

    from .call_details import CallDetails

__all__ = ["MetricsRecorder"]

_log = LoggingConfig.get_logger(__name__)


class MetricsRecorder(RecorderSink):
    """Every call, request and tool execution, in memory, as three DataFrames that join by ``call_id``.

    Agents in several threads and event loops may share a recorder. Recording takes a few microseconds; pandas is
    imported when the first frame is taken.

    Args:
        metrics_list: list to which each settled call is appended as well, as a dict with the columns of `calls`
            (None where unknown).
        record_content: False keeps no prompts, responses, tool arguments or tool results, neither here nor in what
            a notebook saves of an answer; of tool errors only the kind stays, other error messages stay whole. May
            be set later, for the calls that follow.
        redact: function from ``str`` to ``str`` applied to each text before it is kept, after keys and bearer
            tokens have been masked. It runs on the event loop, so it should be quick. If it fails, the text is not
            kept.

    Example:
        >>> mine = MetricsRecorder()
        >>> agent = CreateAgent(provider="demo", recorder=mine)
        >>> await agent.chat("Hello")
        >>> mine.calls[["model", "status", "latency_s", "output_tokens"]]
        >>> mine.tools.merge(mine.calls[["call_id", "model"]], on="call_id")
    """

    # Frames, records and charts.

    @property
    def calls(self) -> pd.DataFrame:
        """One row per call, running ones included; a snapshot that later calls do not change."""
        return self._calls.frame()

    @property
    def requests(self) -> pd.DataFrame:
        """One row per round trip to a provider."""
        return self._requests.frame()

    @property
    def tools(self) -> pd.DataFrame:
        """One row per tool execution."""
        return self._tools.frame()

    @property
    def call_records(self) -> list[CallRecord]:
        """The calls as records, oldest first; a copy."""
        return self._calls.records()

    @property
    def request_records(self) -> list[RequestRecord]:
        """The requests as records, oldest first; a copy."""
        return self._requests.records()

    @property
    def tool_records(self) -> list[ToolRecord]:
        """The tool executions as records, oldest first; a copy."""
        return self._tools.records()

    def summary(self, by: str | Sequence[str] | None = ("provider", "model")) -> pd.DataFrame:
        """Statistics of groups of calls, one row per group.

        Args:
            by: columns of `calls` to group by; None for all calls in one row.

        Returns:
            Columns ``calls``, ``running``, ``errors``, ``stopped`` (counts); ``latency_p50_s``, ``latency_p95_s``,
            ``ttft_p50_s``, ``ttft_p95_s``, ``tokens_per_s_p50`` (pandas' quantiles over calls that ended ``ok``;
            seconds); ``input_tokens``, ``output_tokens``, ``cached_tokens``, ``reasoning_tokens``, ``tool_calls``,
            ``cost_usd`` (sums of known values, NA if there are none); ``priced_calls`` (number of calls in
            ``cost_usd``).

        Raises:
            ConfigurationError: a column does not exist.

        Example:
            >>> recorder.summary(by=["model"])[["calls", "latency_p95_s", "cost_usd"]]
        """
        from .summary import summarize

        return summarize(self.calls, by)

    def tool_summary(self) -> pd.DataFrame:
        """Statistics of each tool, sorted by total time, longest first.

        Returns:
            Columns ``executions``, ``errors`` (failed or timed out), ``rejected`` (not approved, not executed),
            ``latency_p50_s``, ``latency_p95_s``, ``latency_sum_s``; the index is the tool's name.
        """
        from .summary import summarize_tools

        return summarize_tools(self.tools)

    def show(self, call_id: Any = -1) -> CallDetails:
        """Show a call in full: instructions, history, prompt, tools and config, then each round, then the answer.

        What a call was asked with is kept as the texts are (`record_content`, `redact`), each message once.

        Args:
            call_id: id of the call or its beginning, its row of `calls`, or its position, -1 for the last.

        Raises:
            ConfigurationError: no call matches, or more than one.
        """
        from .call_details import CallDetails

        keys = _call_keys(call_id)
        if len(keys) != 1:
            raise ConfigurationError(f"show takes one call, not {len(keys)}: recorder.timeline shows several")
        call = self._find(keys[0])
        context = self._open_contexts.get(call.call_id)
        if context is not None:  # it runs
            call = replace(call, context=context)
        return CallDetails(
            call,
            [request for request in self.request_records if request.call_id == call.call_id],
            [tool for tool in self.tool_records if tool.call_id == call.call_id],
        )

    def timeline(self, call_id: Any = None) -> Figure:
        """Plot requests and tools of calls as bars over time, to show what ran concurrently.

        Args:
            call_id: one call as in `show`, several of them, or a frame of calls; default all, of which the last 40
                are drawn.

        Returns:
            A matplotlib figure, which may be changed: ``figure.axes[0].set_title(…)``.

        Raises:
            ConfigurationError: a call does not exist, or matplotlib is not installed.
        """
        from .timeline import timeline

        call_ids = None if call_id is None else [self._find(key).call_id for key in _call_keys(call_id)]
        return timeline(self.calls, self.requests, self.tools, call_ids)

    def plot(self, kind: str = "latency") -> Figure:
        """Plot a chart of all calls.

        Args:
            kind: ``"latency"``, ``"tokens"`` or ``"cost"``.

        Returns:
            A matplotlib figure, which may be changed.

        Raises:
            ConfigurationError: the kind is unknown, or matplotlib is not installed.
        """
        from .charts import plot

        return plot(self.calls, kind)

    def _find(self, call_id: str | SupportsIndex) -> CallRecord:
        calls = self.call_records
        if not calls:
            raise ConfigurationError("no call is recorded yet")
        if isinstance(call_id, SupportsIndex):  # an int, also of NumPy
            try:
                return calls[call_id]
            except IndexError:
                raise ConfigurationError(
                    f"there is no call {call_id}: {len(calls)} are recorded, the last is -1"
                ) from None
        matches = [call for call in calls if call.call_id.startswith(str(call_id))] if call_id else []
        if len(matches) == 1:
            return matches[0]
        problem = f"{len(matches)} calls begin" if matches else "no call begins"
        raise ConfigurationError(
            f"{problem} with {call_id!r}: take an id from recorder.calls['call_id'], or -1 for the last"
        )

    def __repr__(self) -> str:
        counts = ", ".join(
            f"{count:,} {name}{'' if count == 1 else 's'}"
            for count, name in (
                (len(self._calls), "call"),
                (len(self._requests), "request"),
                (len(self._tools), "tool call"),
            )
        )
        return f"MetricsRecorder: {counts}"

    def _caption(self) -> str:
        writer = self._writer
        note = "" if writer is None else f"; not kept in a file: {writer.trouble}" if writer.trouble else ""
        return repr(self) + note

    def _repr_pretty_(self, printer: Any, cycle: bool) -> None:
        from .summary import text_summary

        printer.text(text_summary(self._caption(), self.calls, self.tools))

    def _repr_html_(self) -> str:
        from .summary import html_summary

        return html_summary(self._caption(), self.calls, self.tools)

    # Settings.

    def budget(
        self, *, cost_usd: float | None = None, tokens: int | None = None, calls: int | None = None
    ) -> Budget | None:
        """Limit spending from now on; without arguments, return the current budget.

        Once a limit is reached, the next request fails with `BudgetExceededError`: a new call at once, a running
        turn at its next round. Requests under way are not stopped, so they may exceed the limit. `no_budget`
        removes all limits. A limit warns of a model that it cannot count, whose price or tokens are not known: at
        once for models that were used before, else at their first request.

        Args:
            cost_usd: US dollars, counting requests of known cost.
            tokens: input plus output tokens.
            calls: number of turns.

        Raises:
            ConfigurationError: a limit is not a number, or below 0.

        Example:
            >>> recorder.budget(cost_usd=0.50)
            Budget: $0.0000 of $0.5000 spent
        """
        if not (cost_usd is None and tokens is None and calls is None):
            self._budget = Budget(cost_usd=cost_usd, tokens=tokens, calls=calls)
            self._warn_uncounted(self._budget)
        return self._budget

    def _warn_uncounted(self, budget: Budget) -> None:
        """Warn of models that were used so far and that a new budget cannot count."""
        requests = self.requests
        used = requests[requests["status"] == "ok"].drop_duplicates(["provider", "model"], keep="last")
        has_tokens = used["input_tokens"].notna() | used["output_tokens"].notna()
        columns = (used["provider"], used["model"], has_tokens, used["cost_usd"].notna())
        for provider, model, counts_tokens, has_cost in zip(*columns, strict=True):
            if not counts_tokens or not (has_cost or self._prices.is_own(provider, model)):
                budget.warn_uncounted(provider, model, counts_tokens=counts_tokens)

    def no_budget(self) -> None:
        """Remove the budget."""
        self._budget = None

    def set_price(
        self,
        model: str,
        *,
        input_usd: float,
        output_usd: float,
        cached_usd: float | None = None,
        provider: str | None = None,
    ) -> None:
        """Set the price of a model from now on, in US dollars per million tokens.

        It takes precedence over a published price, and may price a model that has none, such as a local one.

        Args:
            model: name as requested, or ``provider:model``.
            input_usd: price of input tokens that are not cached.
            output_usd: price of output tokens, reasoning included.
            cached_usd: price of cached input tokens; default ``input_usd``.
            provider: limit the price to this provider; default any.

        Raises:
            ConfigurationError: a price is not a number, or below 0.

        Example:
            >>> recorder.set_price("my-model", input_usd=0.15, output_usd=0.60)
        """
        self._prices.set(model, provider, input_usd=input_usd, output_usd=output_usd, cached_usd=cached_usd)

    # Files.

    def persist(self, path: str | PathLike[str] | None) -> None:
        """Write each call that settles from now on to an SQLite file, off the event loop, within half a second.

        Several notebooks may write to one file. If calls cannot be written, a `RecorderWarning` is issued once and
        recording in memory goes on.

        Args:
            path: the file, which is created or appended to. None writes what is queued and stops.

        Raises:
            ConfigurationError: ``path`` is not a path.

        Example:
            >>> recorder.persist("runs.db")
            >>> MetricsRecorder.open("runs.db").calls     # tomorrow
        """
        from .sqlite import DatabaseWriter

        if path is not None and not isinstance(path, str | PathLike):
            raise ConfigurationError(f"persist: give the path of a file, or None to stop, not {path!r}")
        if self._writer is not None:
            self._observers.remove(self._writer)
            self._writer.close()
            self._writer = None
        if path is not None:
            self._writer = DatabaseWriter(path)
            self._observers.append(self._writer)

    @classmethod
    def open(cls, path: str | PathLike[str]) -> MetricsRecorder:
        """A recorder with the calls of a file written by `persist`, which is opened for reading only.

        Raises:
            RecorderFileError: the file is missing, damaged, another program's, or from a newer version.
        """
        from .sqlite import read_database

        return cls._of(read_database(path))

    @classmethod
    def from_notebook(cls, path: str | PathLike[str]) -> MetricsRecorder:
        """A recorder with the calls whose answers are in the outputs of a saved notebook.

        Raises:
            RecorderFileError: the file is missing, not a notebook, or from a newer version.

        Example:
            >>> MetricsRecorder.from_notebook("report.ipynb").summary()
        """
        return cls._of(read_notebook(path))

    @classmethod
    def _of(cls, calls: Iterable[SettledCall]) -> MetricsRecorder:
        recorder = cls()
        for settled in calls:
            recorder._calls.put(settled.call)
            for request in settled.requests:
                recorder._requests.put(request)
            for tool in settled.tools:
                recorder._tools.put(tool)
        return recorder

    def to_json(self, path: str | PathLike[str]) -> Path:
        """Write all three frames as JSON: ``{"version": 1, "calls": […], "requests": […], "tools": […]}``.

        Returns:
            The path of the file; an existing file is replaced.

        Raises:
            ConfigurationError: the file cannot be written.
        """
        from .export import to_json

        to_json(self, path)
        return Path(path).expanduser()

    def to_prometheus(self, path: str | PathLike[str]) -> Path:
        """Write totals and histograms in Prometheus' text format 0.0.4, for a scrape or a textfile collector.

        Returns:
            The path of the file; an existing file is replaced.

        Raises:
            ConfigurationError: the file cannot be written.
        """
        from .export import to_prometheus

        to_prometheus(self, path)
        return Path(path).expanduser()

    def to_csv(self, path: str | PathLike[str]) -> list[Path]:
        """Write calls, requests and tools as CSV: ``runs.csv``, ``runs.requests.csv``, ``runs.tools.csv``.

        Returns:
            The paths of the files; existing files are replaced.

        Raises:
            ConfigurationError: a file cannot be written.
        """
        from .export import write_csv

        return write_csv(self._frames(), path)

    def to_parquet(self, path: str | PathLike[str]) -> list[Path]:
        """Write the same files as `to_csv` as Parquet, which keeps the dtypes.

        Raises:
            ConfigurationError: a file cannot be written, or pyarrow is not installed.
        """
        from .export import write_parquet

        return write_parquet(self._frames(), path)

    def _frames(self) -> dict[str, pd.DataFrame]:
        return {"calls": self.calls, "requests": self.requests, "tools": self.tools}

    # Entry points for requests made outside an agent.

    def record_success_metrics(
        self, model: str, start_time: float, response_api: object, provider_type: str | None = None
    ) -> None:
        """Record a request made outside an agent, as one call with one round.

        Args:
            model: the requested model.
            start_time: ``time.time()`` when the request was made.
            response_api: an OpenAI ``ChatCompletion``, an Ollama ``ChatResponse``, either as a dict, the text
                alone, or None. Usage is read if present.
            provider_type: name of the provider, such as ``"openai"``.

        Example:
            >>> start = time.time()
            >>> reply = await client.chat.completions.create(model="gpt-6-luna", messages=messages)
            >>> recorder.record_success_metrics(
            ...     model="gpt-6-luna", start_time=start, response_api=reply, provider_type="openai")
        """
        self._enter(lambda: make_records(model, start_time, provider_type, "ok", read_response(response_api)))

    def record_error_metrics(
        self,
        model: str,
        start_time: float,
        error: BaseException | str,
        provider_type: str | None = None,
    ) -> None:
        """Record a failed request, with status ``cancelled`` if it was stopped, else ``error``.

        Other arguments are those of `record_success_metrics`; keys in the error message are masked.
        """
        self._enter(lambda: make_records(model, start_time, provider_type, status_of(error), SdkResponse(), error))

    def _enter(self, records: Callable[[], tuple[RequestRecord, CallRecord]]) -> None:
        try:
            request, call = records()
        except Exception as error:  # such as an error whose str() raises
            _log.warning("not recorded: %r", error)
            return
        if request.cost_usd is None:
            cost_usd = self.cost_usd(request)
            request, call = replace(request, cost_usd=cost_usd), replace(call, cost_usd=cost_usd)
        self.request_settled(request)
        self.call_settled(call)

    def __len__(self) -> int:
        return len(self._calls)

    def __bool__(self) -> bool:
        return True  # so that `recorder or default` keeps an empty recorder

    def __dir__(self) -> Iterable[str]:
        return [name for name in super().__dir__() if name not in _FOR_AGENTS]


_FOR_AGENTS = frozenset(name for name in vars(RecordSink) if not name.startswith("_")) | {"redact_text"}
"""Methods hidden from completion, as users do not call them."""


def _call_keys(call_id: Any) -> list[str | SupportsIndex]:
    """Ids and positions of calls, from an id, a position, a row or a frame of `calls`, or several of them."""
    if isinstance(call_id, str | SupportsIndex):
        return [call_id]
    try:
        if "call_id" in call_id:
            return _call_keys(call_id["call_id"])
        return [key for item in call_id for key in _call_keys(item)]
    except (TypeError, RecursionError):
        raise ConfigurationError(
            f"{call_id!r} names no call: give an id from recorder.calls['call_id'], a row, or -1 for the last"
        ) from None
