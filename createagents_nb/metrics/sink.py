"""The side of a recorder that agents use: it redacts, stores and passes on records."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import wraps
from typing import TYPE_CHECKING, Any, TypeVar

from ..core.records import (
    CallContext,
    CallRecord,
    ContentPolicy,
    RequestRecord,
    ToolRecord,
    redact_call,
    redact_error,
    redact_tool,
)
from ..errors import ConfigurationError
from ..logging_config import LoggingConfig
from ..redaction import mask_keys
from .budget import Budget
from .columns import CALLS, REQUESTS, STATUSES, STORED_CALLS, TOOLS, as_row
from .contexts import ContextKeeper
from .observers import Observer, RecorderWarning, SettledCall
from .prices import Prices
from .store import Table

if TYPE_CHECKING:
    from .sqlite import DatabaseWriter

__all__ = ["RecorderSink"]

_log = LoggingConfig.get_logger(__name__)
_Self = TypeVar("_Self", bound="RecorderSink")
_Record = TypeVar("_Record", CallRecord, RequestRecord, ToolRecord)


def _never_raises(method: Callable[[_Self, _Record], None]) -> Callable[[_Self, _Record], None]:
    """Log exceptions: a call must not fail because its metrics could not be recorded."""

    @wraps(method)
    def guarded(self: _Self, record: _Record) -> None:
        try:
            method(self, record)
        except Exception as error:
            _log.warning("%s: not recorded: %r", method.__name__, error)

    return guarded


def _keep_nothing(text: str) -> None:
    return None


class RecorderSink:
    """A `RecordSink`; arguments are those of `MetricsRecorder`."""

    def __init__(
        self,
        metrics_list: list[dict[str, Any]] | None = None,
        *,
        record_content: bool = True,
        redact: Callable[[str], str] | None = None,
    ) -> None:
        if metrics_list is not None and not callable(getattr(metrics_list, "append", None)):
            raise ConfigurationError(
                f"metrics_list must be a list, not {metrics_list!r}; recorder.persist(path) keeps calls in a file"
            )
        self._contexts = ContextKeeper()
        self.record_content = record_content
        self.redact = redact
        self._metrics_list = metrics_list
        self._prices = Prices()
        self._budget: Budget | None = None
        self._observers: list[Observer] = []
        self._writer: DatabaseWriter | None = None
        self._is_traced = False
        self._open_parts: dict[str, list[RequestRecord | ToolRecord]] = {}
        """Requests and tool executions of running calls, for observers."""
        self._open_contexts: dict[str, CallContext] = {}
        """Contexts of running calls."""
        self._without_content: set[str] = set()
        """Ids of running calls that began while `record_content` was False."""
        self.clear()

    @property
    def record_content(self) -> bool:
        """Whether the content of calls that start from now on is kept.

        Raises:
            ConfigurationError: it is set to anything but True or False.
        """
        return self._record_content

    @record_content.setter
    def record_content(self, value: bool) -> None:
        if not isinstance(value, bool):
            raise ConfigurationError(f"record_content must be True or False, not {value!r}")
        self._record_content = value

    @property
    def redact(self) -> Callable[[str], str] | None:
        """Function applied to each text before it is kept; None to mask keys only.

        Raises:
            ConfigurationError: it is set to something that is not callable.
        """
        return self._redact

    @redact.setter
    def redact(self, value: Callable[[str], str] | None) -> None:
        if value is not None and not callable(value):
            raise ConfigurationError(f"redact must be a function of a text that returns a text, not {value!r}")
        self._redact, self._redact_failed = value, False
        self._contexts.forget_policy()

    def __setattr__(self, name: str, value: object) -> None:
        # A misspelled setting must not pass silently.
        if not name.startswith("_") and not hasattr(type(self), name):
            raise ConfigurationError(f"a recorder has no setting {name!r}: it has record_content and redact")
        object.__setattr__(self, name, value)

    def clear(self) -> None:
        """Remove all records; frames taken before do not change.

        Running calls get their rows when they settle. What was spent of a budget stays spent.
        """
        self._contexts.clear()
        self._calls = Table(STORED_CALLS, CallRecord, STATUSES["calls"])
        self._requests = Table(REQUESTS, RequestRecord, STATUSES["requests"])
        self._tools = Table(TOOLS, ToolRecord, STATUSES["tools"])

    def admit(self, round_number: int) -> None:
        """Count a request that is about to be sent.

        Raises:
            BudgetExceededError: the budget is spent.
        """
        if self._budget is not None:
            self._budget.admit(round_number)

    def call_opened(self, record: CallRecord) -> None:
        """Record a started call, whose row has status ``running`` until it settles."""
        try:  # like `_never_raises`, without the cost of a wrapper
            call_id = record.call_id
            if not self._record_content:
                self._without_content.add(call_id)
            if record.prompt is not None:
                record = redact_call(record, self.redact_text)
            self._calls.put(record, call_id)
        except Exception as error:
            _log.warning("call_opened: not recorded: %r", error)

    def call_settled(self, record: CallRecord) -> None:
        """Record a call that has ended, however it ended, in place of its running row."""
        try:
            call_id = record.call_id
            context = self._open_contexts.pop(call_id, None)
            if context is not None and self._record_content:
                record = replace(record, context=context)
            if record.prompt is not None or record.response is not None or record.error is not None:
                if self._redact is not None:  # an interrupt in it must not leave the row running
                    self._calls.put(redact_call(record, _keep_nothing), call_id)
                record = redact_call(record, self._policy_of(call_id))
            self._calls.put(record, call_id)
            parts = self._open_parts.pop(call_id, ())
            self._without_content.discard(call_id)
            if self._metrics_list is not None:
                self._metrics_list.append(as_row(CALLS, record))
            if not self._is_traced and sys.modules.get("opentelemetry") is not None:
                self._trace()
            if self._observers:
                self._notify(record, parts)
        except Exception as error:
            _log.warning("call_settled: not recorded: %r", error)

    def _trace(self) -> None:
        """Report to OpenTelemetry from now on: something has imported it, as setting it up requires."""
        self._is_traced = True
        from .telemetry import Telemetry

        self._observers.append(Telemetry())

    def _notify(self, record: CallRecord, parts: Sequence[RequestRecord | ToolRecord]) -> None:
        settled = SettledCall(
            record,
            tuple(part for part in parts if isinstance(part, RequestRecord)),
            tuple(part for part in parts if isinstance(part, ToolRecord)),
        )
        for observer in self._observers:
            try:
                observer.call_settled(settled)
            except Exception as error:
                _log.warning("%s was not told of a call: %r", type(observer).__name__, error)

    @_never_raises
    def request_opened(self, record: RequestRecord) -> None:
        """Record a request that is sent to the provider, and what its call was asked with."""
        if record.request is not None:
            call_id = record.call_id
            if record.round == 1 and self._record_content and call_id not in self._without_content:
                self._open_contexts[call_id] = self._contexts.keep(record.request, self.redact_text)
            record = replace(record, request=None)
        self._requests.put(record, (record.call_id, record.round))
        self._prices.prepare(record)
        if self._budget is not None and self._prices.is_missing(record):
            self._budget.warn_uncounted(record.provider, record.model, counts_tokens=True)

    @_never_raises
    def request_settled(self, record: RequestRecord) -> None:
        """Record a finished round trip to the provider."""
        error = redact_error(record.error, self.redact_text)
        if error is not record.error:
            record = replace(record, error=error)
        self._requests.put(record, (record.call_id, record.round))
        self._open_parts.setdefault(record.call_id, []).append(record)
        if self._budget is not None:
            self._budget.spend(record)

    @_never_raises
    def tool_opened(self, record: ToolRecord) -> None:
        """Record a started tool execution."""
        self._tools.put(
            redact_tool(record, self._policy_of(record.call_id)),
            (record.call_id, record.round, record.tool_call_id),
        )

    @_never_raises
    def tool_settled(self, record: ToolRecord) -> None:
        """Record a tool execution that has ended or could not start."""
        record = redact_tool(record, self._policy_of(record.call_id))
        self._tools.put(record, (record.call_id, record.round, record.tool_call_id))
        self._open_parts.setdefault(record.call_id, []).append(record)

    def cost_usd(self, record: RequestRecord) -> float | None:
        """Cost of a request in US dollars by the prices known here; None if its model has none."""
        try:
            return self._prices.cost_usd(record)
        except Exception as error:
            _log.warning("cost of %s: not known: %r", record.model, error)
            return None

    def context_window(self, record: RequestRecord) -> int | None:
        """The published size of the context of a request's model, in tokens; None if unknown."""
        try:
            return self._prices.context_window(record)
        except Exception as error:
            _log.warning("context of %s: not known: %r", record.model, error)
            return None

    def content_policy(self) -> ContentPolicy:
        """The policy for a turn that begins now: if no content is kept at its start, none of it ever is."""
        return self.redact_text if self.record_content else _keep_nothing

    def _policy_of(self, call_id: str) -> ContentPolicy:
        return _keep_nothing if call_id in self._without_content else self.redact_text

    def redact_text(self, text: str) -> str | None:
        """``text`` with keys masked and `redact` applied; None if no content is kept or `redact` failed."""
        if not self._record_content:
            return None
        text = mask_keys(str(text))
        if self.redact is None:
            return text
        try:
            redacted = self.redact(text)
            if redacted is not None and not isinstance(redacted, str):
                raise TypeError(f"it returned {type(redacted).__name__}, not str")
            return redacted
        except Exception as error:
            if not self._redact_failed:
                self._redact_failed = True
                # The message may quote the text, as a KeyError does.
                reason = mask_keys(str(error).replace(text, "…") if text else str(error))
                warnings.warn(
                    f"redact= failed, so a text was not kept: {type(error).__name__}: {reason}",
                    RecorderWarning,
                    stacklevel=2,
                )
            return None
