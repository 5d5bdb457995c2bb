"""Running a tool: arguments validated, off the event loop, with a timeout. Failures become text for the model."""

from __future__ import annotations

import asyncio
import difflib
import inspect
import sys
import threading
import time
from collections.abc import AsyncGenerator, Iterable, Mapping
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from typing import Any

from ..core.messages import decode_arguments
from ..core.records import ToolStatus
from ..core.threads import run_in_thread
from ..core.tool_display import ToolDisplay
from ..errors import InvalidToolError
from ..logging_config import LoggingConfig
from ..redaction import mask_known_keys, redact
from ..text import format_error
from .json_schema import describe_parameters
from .result_text import BLANK_RESULT, MAX_RESULT_CHARS, text_and_display, truncate
from .tool import BaseTool

__all__ = ["ToolExecutionResult", "ToolExecutor", "needs_thread"]

_logger = LoggingConfig.get_logger(__name__)

_MAX_YIELDED_ITEMS = 100_000
"""Limit for a generator: one that never ends would exhaust memory before its timeout."""


_MAX_YIELDED_BYTES = 100_000_000
"""Limit for the sum of ``sys.getsizeof`` over what a generator yields; the items of containers are not counted."""


_CANCEL_GRACE_S = 1.0
"""Limit for the cleanup of an async tool that was cancelled."""


_CHEAP_TYPES = (str, bytes, bool, int, float, type(None))
"""Types that are converted to text without a thread, because that is quick."""


@dataclass(frozen=True, slots=True)
class ToolExecutionResult:
    """Outcome of running a tool.

    Attributes:
        success: whether the tool returned.
        result: value that the tool returned; None after a failure.
        error: description of the failure, such as ``"ValueError: no such row"``; None after a success.
        status: ``ok``, ``error`` (default for a failure), ``timeout``, ``unknown_tool``, ``invalid_arguments``,
            ``rejected`` (not approved) or ``cancelled``.
        latency_s: seconds from start to end; None if the tool was not started.
        text: text for the model; default made from ``result`` or ``error``.
        display: table or image for the user; made together with ``text``.

    Example:
        >>> ToolExecutionResult(success=True, result={"rows": 3}).text
        '{"rows": 3}'
    """

    success: bool
    result: Any = field(default=None, compare=False)
    error: str | None = None
    status: ToolStatus = "ok"
    latency_s: float | None = None
    text: str = ""
    display: ToolDisplay | None = None

    def __post_init__(self) -> None:
        if not self.success and self.status == "ok":
            object.__setattr__(self, "status", "error")
        if not self.text:
            failure = (f"Error: {self.error or 'the tool failed'}", None)
            text, display = text_and_display(self.result) if self.success else failure
            object.__setattr__(self, "text", text)
            object.__setattr__(self, "display", self.display or display)
        if not self.text.strip():  # some servers reject an empty message
            object.__setattr__(self, "text", BLANK_RESULT)


class ToolExecutor:
    """Runs tools; one executor serves any number of turns at once.

    An async ``execute`` runs in a separate task. A synchronous one runs in a daemon thread with the caller's
    context variables, so it blocks neither the event loop nor the exit of the process. Python cannot stop a
    thread: after a timeout, or when the turn is stopped, the tool continues in the background and its result is
    discarded. A tool with ``in_thread = False`` runs on the event loop, where no timeout applies. An async tool
    that ignores its cancellation is abandoned after one second. One turn runs at most 32 tools in threads at the
    same time; abandoned ones do not count, and waiting for a free thread does not count toward a tool's timeout.

    Args:
        timeout_s: default timeout of a tool in seconds; None for no limit.
        max_result_chars: limit for the text sent to the model.

    Raises:
        ValueError: a limit is not above 0.

    Example:
        >>> outcome = await ToolExecutor().execute(rows, {"limit": 3})
        >>> outcome.success, outcome.text
    """

    def __init__(self, *, timeout_s: float | None = 60.0, max_result_chars: int = MAX_RESULT_CHARS) -> None:
        if timeout_s is not None and not timeout_s > 0:
            raise ValueError(f"timeout_s must be seconds above 0, or None for no limit, not {timeout_s!r}")
        if not max_result_chars > 0:
            raise ValueError(f"max_result_chars must be above 0, not {max_result_chars!r}")
        self._timeout_s = timeout_s
        self._max_result_chars = max_result_chars
        self._abandoned_tasks: set[asyncio.Task[Any]] = set()

    async def execute(self, tool: BaseTool, arguments: Mapping[str, Any] | str) -> ToolExecutionResult:
        """Run ``tool``; a failure of the tool is returned, never raised.

        Args:
            tool: the tool.
            arguments: a dict, or the JSON text that the model wrote; empty text means no arguments.

        Raises:
            asyncio.CancelledError: the caller was cancelled; a cancellation inside the tool is a failure of the
            tool.
        """
        _logger.info("Executing tool: %s", tool.name)
        values = self._parse_arguments(tool, arguments)
        if isinstance(values, ToolExecutionResult):
            return values
        timeout_s = self._timeout_s if tool.timeout_s is None else tool.timeout_s
        started = time.perf_counter()
        outcome = await self._run(tool, values, timeout_s)
        latency_s = time.perf_counter() - started
        if outcome is None:
            return self._make_failure(
                "timeout", f"{tool.name} did not finish within {timeout_s:g} s and was given up", latency_s
            )
        if outcome.error is not None:
            return self._make_failure("error", format_error(outcome.error), latency_s)
        return ToolExecutionResult(
            True,
            outcome.value,
            latency_s=latency_s,
            text=mask_known_keys(outcome.text) or BLANK_RESULT,
            display=outcome.display,
        )

    def unknown(self, name: str, available: Iterable[str]) -> ToolExecutionResult:
        """Make the result for a tool that does not exist; it lists the available names, closest first."""
        names = sorted(
            available,
            key=lambda other: difflib.SequenceMatcher(a=name[:100].lower(), b=other.lower()).ratio(),
            reverse=True,
        )
        hint = f"available: {', '.join(names)}" if names else "there are no tools, answer without"
        return self._make_failure("unknown_tool", f"There is no tool {truncate(name, 100)!r}; {hint}")

    def problem_with(self, tool: BaseTool, arguments: Mapping[str, Any] | str) -> ToolExecutionResult | None:
        """Return the failure that `execute` would return for invalid arguments; None if they are valid."""
        values = self._parse_arguments(tool, arguments)
        return values if isinstance(values, ToolExecutionResult) else None

    def rejected(self, reason: str) -> ToolExecutionResult:
        """Make the result for a call that was not approved."""
        result = self._make_failure("rejected", reason)
        return replace(result, text=result.error or "")

    def _parse_arguments(
        self, tool: BaseTool, arguments: Mapping[str, Any] | str
    ) -> dict[str, Any] | ToolExecutionResult:
        try:
            return tool.parse_arguments(decode_arguments(arguments))
        except InvalidToolError as error:
            return self._make_failure("error", str(error))
        except ValueError as error:
            return self._make_failure(
                "invalid_arguments", f"Invalid arguments for {tool.name}: {error}. {_usage_hint(tool)}"
            )
        except (Exception, SystemExit, asyncio.CancelledError) as error:  # from the user's validator
            return self._make_failure("error", format_error(error))

    async def _run(self, tool: BaseTool, arguments: dict[str, Any], timeout_s: float | None) -> _Outcome | None:
        """Return the outcome, or None after a timeout."""
        abandoned = threading.Event()
        task = asyncio.create_task(self._run_tool(tool, arguments, abandoned), name=f"tool {tool.name}")
        # Retrieved, so that asyncio does not log it: the loop itself raises a KeyboardInterrupt.
        task.add_done_callback(lambda task: task.cancelled() or task.exception())
        try:
            # Not wait_for: a tool that suppresses its cancellation must not block the turn.
            done, _ = await asyncio.wait({task}, timeout=timeout_s)
            return task.result() if done else None
        except KeyboardInterrupt:
            # The loop has raised it already; raised again, it would end whatever runs the loop next.
            raise asyncio.CancelledError from None
        finally:
            abandoned.set()
            if not task.done():
                self._abandoned_tasks.add(task)
                task.add_done_callback(self._abandoned_tasks.discard)
                task.cancel()
                await asyncio.wait({task}, timeout=_CANCEL_GRACE_S)

    async def _run_tool(self, tool: BaseTool, arguments: dict[str, Any], abandoned: threading.Event) -> _Outcome:
        def call() -> _Outcome:
            try:
                value = tool.execute(**arguments)
                if inspect.isgenerator(value):
                    value = _collect(value, abandoned)
                if inspect.isawaitable(value) or inspect.isasyncgen(value):
                    return _Outcome(value)
                return _Outcome(value, *text_and_display(value, self._max_result_chars))
            except KeyboardInterrupt as error:
                if threading.current_thread() is threading.main_thread():
                    raise  # the user's interrupt, not the tool's
                return _Outcome(error=error)
            except BaseException as error:  # including SystemExit
                return _Outcome(error=error)

        try:
            outcome = await run_in_thread(call, f"tool {tool.name}") if needs_thread(tool) else call()
            value = outcome.value
            while inspect.isawaitable(value):  # a coroutine may return another agent's response
                value = await value
            if inspect.isasyncgen(value):
                value = await _collect_async(value)
            if value is outcome.value:
                return outcome
            if type(value) in _CHEAP_TYPES:
                return _Outcome(value, *text_and_display(value, self._max_result_chars))
            # Converting a large structure, an image or a user's object must not block the loop.
            return await run_in_thread(lambda: self._render(value), f"tool {tool.name}: result")
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # including a CancelledError from inside the tool
            return _Outcome(error=error)

    def _render(self, value: Any) -> _Outcome:
        try:
            return _Outcome(value, *text_and_display(value, self._max_result_chars))
        except BaseException as error:  # its __str__ may raise anything
            return _Outcome(error=error)

    def _make_failure(
        self, status: ToolStatus, message: str, latency_s: float | None = None
    ) -> ToolExecutionResult:
        error = truncate(redact(message), self._max_result_chars)
        _logger.info("Tool failed (%s): %s", status, error)
        return ToolExecutionResult(False, error=error, status=status, latency_s=latency_s)


@dataclass(frozen=True, slots=True)
class _Outcome:
    value: Any = None
    text: str = ""
    display: ToolDisplay | None = None
    error: BaseException | None = None


def needs_thread(tool: BaseTool) -> bool:
    """Whether `ToolExecutor.execute` runs ``tool`` in a thread."""
    asynchronous = inspect.iscoroutinefunction(tool.execute) or inspect.isasyncgenfunction(tool.execute)
    return tool.in_thread and not asynchronous


class _BoundedList:
    """A list that raises ValueError when it grows too large."""

    def __init__(self) -> None:
        self.items: list[Any] = []
        self._bytes = 0

    def append(self, item: Any) -> None:
        self.items.append(item)
        self._bytes += sys.getsizeof(item, 0)
        if len(self.items) > _MAX_YIELDED_ITEMS:
            raise ValueError(f"the tool yielded more than {_MAX_YIELDED_ITEMS:,} values")
        if self._bytes > _MAX_YIELDED_BYTES:
            raise ValueError(f"the tool yielded more than {_MAX_YIELDED_BYTES:,} bytes")


def _collect(items: Iterable[Any], abandoned: threading.Event) -> list[Any]:
    result = _BoundedList()
    for item in items:
        if abandoned.is_set():
            break
        result.append(item)
    return result.items


async def _collect_async(items: AsyncGenerator[Any, Any]) -> list[Any]:
    result = _BoundedList()
    async with aclosing(items):
        async for item in items:
            result.append(item)
    return result.items


def _usage_hint(tool: BaseTool) -> str:
    return f"Call it with a JSON object; parameters: {describe_parameters(tool.parameters)}"
