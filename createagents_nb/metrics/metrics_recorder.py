"""MetricsRecorder: keeps the records that agents hand over, and turns them into frames when asked."""

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
from .sdk_responses import Reply, read_reply, records_of, status_of
from .sink import RecorderSink

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

    from .call_details import CallDetails

__all__ = ["MetricsRecorder"]

_log = LoggingConfig.get_logger(__name__)


class MetricsRecorder(RecorderSink):
    """Every call, request and tool execution, in memory, as three DataFrames that join by ``call_id``.

    Agents in several threads and event loops may share one. Recording costs a few microseconds; pandas is
    imported when the first frame is taken.

    Args:
        metrics_list: each settled call is also appended to it, as a plain dict with the columns of `calls`
            (None where unknown).
        record_content: False keeps no prompt, response, tool arguments or tool result, here and in what a notebook
            saves of an answer; of a tool's error the kind stays, other error messages stay whole. May be set
            later, for what follows.
        redact: each text that was said goes through it before it is kept, after keys and bearer tokens have been
            masked: ``str`` in, ``str`` out, on the event loop, so it should be quick. When it fails, the text is
            not kept.

    Example:
        >>> mine = MetricsRecorder()
        >>> agent = CreateAgent(provider="demo", recorder=mine)
        >>> await agent.chat("Hello")
        >>> mine.calls[["model", "status", "latency_s", "output_tokens"]]
        >>> mine.tools.merge(mine.calls[["call_id", "model"]], on="call_id")
    """

    # What people look at.

    @property
    def calls(self) -> pd.DataFrame:
        """One row a call, a running one included; a snapshot that later calls do not change."""
        return self._calls.frame()

    @property
    def requests(self) -> pd.DataFrame:
        """One row a round trip to a provider."""
        return self._requests.frame()

    @property
    def tools(self) -> pd.DataFrame:
        """One row a tool execution."""
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
        """Figures of groups of calls, a row each.

        Args:
            by: columns of `calls` that make a group; None for all calls in one row.

        Returns:
            Columns ``calls``, ``running``, ``errors``, ``stopped`` (how many); ``latency_p50_s``,
            ``latency_p95_s``, ``ttft_p50_s``, ``ttft_p95_s``, ``tokens_per_s_p50`` (quantiles, as pandas computes
            them, of the calls that ended ``ok``; seconds); ``input_tokens``, ``output_tokens``, ``cached_tokens``,
            ``reasoning_tokens``, ``tool_calls``, ``cost_usd`` (sums of what is known, NA where nothing is);
            ``priced_calls``: how many calls ``cost_usd`` adds up.

        Raises:
            ConfigurationError: no such column.

        Example:
            >>> recorder.summary(by=["model"])[["calls", "latency_p95_s", "cost_usd"]]
        """
        from .summary import summarize

        return summarize(self.calls, by)

    def tool_summary(self) -> pd.DataFrame:
        """Figures of each tool, the one that took longest in all first.

        Returns:
            Columns ``executions``, ``errors`` (failed or timed out), ``rejected`` (not approved, so not executed),
            ``latency_p50_s``, ``latency_p95_s``, ``latency_sum_s``; the index is the tool's name.
        """
        from .summary import summarize_tools

        return summarize_tools(self.tools)

    def show(self, call_id: Any = -1) -> CallDetails:
        """A call in full: prompt, each round with its tools, answer.

        Args:
            call_id: its id, or the beginning of it; its row of `calls`; or a number, -1 for the last.

        Raises:
            ConfigurationError: there is no such call, or more than one.
        """
        from .call_details import CallDetails

        wanted = _named(call_id)
        if len(wanted) != 1:
            raise ConfigurationError(f"show takes one call, not {len(wanted)}: recorder.timeline shows several")
        call = self._find(wanted[0])
        return CallDetails(
            call,
            [one for one in self.request_records if one.call_id == call.call_id],
            [one for one in self.tool_records if one.call_id == call.call_id],
        )

    def timeline(self, call_id: Any = None) -> Figure:
        """The requests and tools of calls as bars over time, so that it is seen what ran at the same time.

        Args:
            call_id: one call or several, named as in `show`, or a frame of them; default all, of which the last 40
                are drawn.

        Returns:
            A matplotlib figure, which may be changed: ``figure.axes[0].set_title(…)``.

        Raises:
            ConfigurationError: there is no such call, or matplotlib is not installed.
        """
        from .timeline import timeline

        wanted = None if call_id is None else [self._find(one).call_id for one in _named(call_id)]
        return timeline(self.calls, self.requests, self.tools, wanted)

    def plot(self, kind: str = "latency") -> Figure:
        """A chart of all calls.

        Args:
            kind: ``"latency"``, ``"tokens"`` or ``"cost"``.

        Returns:
            A matplotlib figure, which may be changed.

        Raises:
            ConfigurationError: no such chart, or matplotlib is not installed.
        """
        from .charts import plot

        return plot(self.calls, kind)

    def _find(self, call_id: str | SupportsIndex) -> CallRecord:
        calls = self.call_records
        if not calls:
            raise ConfigurationError("no call is recorded yet")
        if isinstance(call_id, SupportsIndex):  # an int, NumPy's too
            try:
                return calls[call_id]
            except IndexError:
                raise ConfigurationError(
                    f"there is no call {call_id}: {len(calls)} are recorded, the last is -1"
                ) from None
        found = [call for call in calls if call.call_id.startswith(str(call_id))] if call_id else []
        if len(found) == 1:
            return found[0]
        what = f"{len(found)} calls begin" if found else "no call begins"
        raise ConfigurationError(
            f"{what} with {call_id!r}: take an id from recorder.calls['call_id'], or -1 for the last"
        )

    def __repr__(self) -> str:
        counted = ", ".join(
            f"{count:,} {name}{'' if count == 1 else 's'}"
            for count, name in (
                (len(self._calls), "call"),
                (len(self._requests), "request"),
                (len(self._tools), "tool call"),
            )
        )
        return f"MetricsRecorder: {counted}"

    def _caption(self) -> str:
        writer = self._writer
        kept = "" if writer is None else f"; not kept in a file: {writer.trouble}" if writer.trouble else ""
        return repr(self) + kept

    def _repr_pretty_(self, printer: Any, cycle: bool) -> None:
        from .summary import text_summary

        printer.text(text_summary(self._caption(), self.calls, self.tools))

    def _repr_html_(self) -> str:
        from .summary import html_summary

        return html_summary(self._caption(), self.calls, self.tools)

    # What users set.

    def budget(
        self, *, cost_usd: float | None = None, tokens: int | None = None, calls: int | None = None
    ) -> Budget | None:
        """Limit what is spent from now on; without arguments, the budget as it stands.

        When something is spent, the next request is refused with `BudgetExceededError`: a new call at once, a turn
        that is running at its next round. A request that is under way is not stopped, so that the last ones may go
        over. `no_budget` takes the limit away.

        Args:
            cost_usd: US dollars, of requests whose cost is known.
            tokens: input and output.
            calls: turns.

        Raises:
            ConfigurationError: a limit is no number, or below 0.

        Example:
            >>> recorder.budget(cost_usd=0.50)
            Budget: $0.0000 of $0.5000 spent
        """
        if not (cost_usd is None and tokens is None and calls is None):
            self._budget = Budget(cost_usd=cost_usd, tokens=tokens, calls=calls)
        return self._budget

    def no_budget(self) -> None:
        """Spend without a limit again."""
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
        """The price of a model from now on, in US dollars for a million tokens.

        It goes before the published prices, and before none: those of a model that runs here, say.

        Args:
            model: as it is asked for.
            input_usd: of input tokens that were not cached.
            output_usd: of output tokens, reasoning included.
            cached_usd: of cached input tokens; default ``input_usd``.
            provider: only when asked of this provider; default any.

        Raises:
            ConfigurationError: a price is no number, or below 0.

        Example:
            >>> recorder.set_price("my-model", input_usd=0.15, output_usd=0.60)
        """
        self._prices.set(model, provider, input_usd=input_usd, output_usd=output_usd, cached_usd=cached_usd)

    # Keeping it.

    def persist(self, path: str | PathLike[str] | None) -> None:
        """Write every call that settles from now on to an SQLite file, off the event loop, within half a second.

        Several notebooks may write to one file. What cannot be kept is said once, as a `RecorderWarning`;
        recording in memory goes on.

        Args:
            path: the file; it is made, or added to. None writes what waits, and stops.

        Raises:
            ConfigurationError: that is no path.

        Example:
            >>> recorder.persist("runs.db")
            >>> MetricsRecorder.open("runs.db").calls     # tomorrow
        """
        from .sqlite import DatabaseWriter

        if path is not None and not isinstance(path, str | PathLike):
            raise ConfigurationError(f"persist: give the path of a file, or None to stop, not {path!r}")
        if self._writer is not None:
            self._followers.remove(self._writer)
            self._writer.close()
            self._writer = None
        if path is not None:
            self._writer = DatabaseWriter(path)
            self._followers.append(self._writer)

    @classmethod
    def open(cls, path: str | PathLike[str]) -> MetricsRecorder:
        """A recorder with the calls of a file that `persist` wrote; the file is only read.

        Raises:
            RecorderFileError: there is no such file, it is not one of ours, from a newer version, or broken.
        """
        from .sqlite import read_database

        return cls._of(read_database(path))

    @classmethod
    def from_notebook(cls, path: str | PathLike[str]) -> MetricsRecorder:
        """A recorder with the calls whose answers a notebook shows, as far as it was saved.

        Raises:
            RecorderFileError: there is no such file, it is no notebook, or from a newer version.

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
        """All three frames as JSON: ``{"version": 1, "calls": […], "requests": […], "tools": […]}``.

        Returns:
            The path that was written; a file that was there is replaced.

        Raises:
            ConfigurationError: the file cannot be written.
        """
        from .export import to_json

        to_json(self, path)
        return Path(path).expanduser()

    def to_prometheus(self, path: str | PathLike[str]) -> Path:
        """Totals and histograms in Prometheus' text format 0.0.4, for a scrape or a textfile collector.

        Returns:
            The path that was written; a file that was there is replaced.

        Raises:
            ConfigurationError: the file cannot be written.
        """
        from .export import to_prometheus

        to_prometheus(self, path)
        return Path(path).expanduser()

    def to_csv(self, path: str | PathLike[str]) -> list[Path]:
        """The calls as CSV; requests and tools beside them, as in ``runs.csv``, ``runs.requests.csv``, …

        Returns:
            The paths that were written; files that were there are replaced.

        Raises:
            ConfigurationError: a file cannot be written.
        """
        from .export import write_csv

        return write_csv(self._frames(), path)

    def to_parquet(self, path: str | PathLike[str]) -> list[Path]:
        """As `to_csv`, in Parquet, which keeps the dtypes.

        Raises:
            ConfigurationError: a file cannot be written, or pyarrow is not installed.
        """
        from .export import write_parquet

        return write_parquet(self._frames(), path)

    def _frames(self) -> dict[str, pd.DataFrame]:
        return {"calls": self.calls, "requests": self.requests, "tools": self.tools}

    # What a handler written by hand calls.

    def record_success_metrics(
        self, model: str, start_time: float, response_api: object, provider_type: str | None = None
    ) -> None:
        """Enter a request that was made outside an agent, as one request and one call of one round.

        Args:
            model: the model that was asked for.
            start_time: ``time.time()`` when the request was made.
            response_api: an OpenAI ``ChatCompletion``, an Ollama ``ChatResponse``, either as a dict, the text
                alone, or None. Usage is read where it is.
            provider_type: name of the provider, such as ``"openai"``.

        Example:
            >>> start = time.time()
            >>> reply = await client.chat.completions.create(model="gpt-4.1-mini", messages=messages)
            >>> recorder.record_success_metrics(
            ...     model="gpt-4.1-mini", start_time=start, response_api=reply, provider_type="openai")
        """
        self._enter(lambda: records_of(model, start_time, provider_type, "ok", read_reply(response_api)))

    def record_error_metrics(
        self,
        model: str,
        start_time: float,
        error: BaseException | str,
        provider_type: str | None = None,
    ) -> None:
        """Enter a request that failed; its status is ``cancelled`` when it was stopped, else ``error``.

        Arguments are those of `record_success_metrics`; keys in the error's message are masked.
        """
        self._enter(lambda: records_of(model, start_time, provider_type, status_of(error), Reply(), error))

    def _enter(self, records: Callable[[], tuple[RequestRecord, CallRecord]]) -> None:
        try:
            request, call = records()
        except Exception as error:  # an exception that cannot say what it is, for one
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
        return True  # `recorder or default` must not lose a recorder that is still empty

    def __dir__(self) -> Iterable[str]:
        return [name for name in super().__dir__() if name not in _FOR_AGENTS]


_FOR_AGENTS = frozenset(name for name in vars(RecordSink) if not name.startswith("_")) | {"keep"}
"""What no user calls is not offered to them."""


def _named(call_id: Any) -> list[str | SupportsIndex]:
    """The calls that are meant: an id, a number, a row or a frame of `calls`, or several of them."""
    if isinstance(call_id, str | SupportsIndex):
        return [call_id]
    try:
        if "call_id" in call_id:
            return _named(call_id["call_id"])
        return [one for several in call_id for one in _named(several)]
    except (TypeError, RecursionError):
        raise ConfigurationError(
            f"{call_id!r} names no call: give an id from recorder.calls['call_id'], a row, or -1 for the last"
        ) from None
