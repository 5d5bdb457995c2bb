"""Runs one tool: arguments checked, off the event loop, with a timeout; a failure becomes text for the model."""

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
from ..core.tool_display import ToolDisplay
from ..errors import InvalidToolError
from ..logging_config import LoggingConfig
from ..redaction import mask_known_keys, redact
from ..text import error_in_words
from .json_schema import describe_parameters
from .result_text import BLANK_RESULT, MAX_RESULT_CHARS, text_and_display, truncate
from .threads import run_in_thread
from .tool import BaseTool

__all__ = ["ToolExecutionResult", "ToolExecutor", "needs_thread"]

_MAX_YIELDED_ITEMS = 100_000
"""What a generator may yield: one that never ends would fill the memory before its timeout."""


_MAX_YIELDED_BYTES = 100_000_000
"""What all that a generator yields may take in memory, in bytes; what is inside of containers is not counted."""


_CANCEL_GRACE_S = 1.0
"""How long an async tool may take to clean up after it was cancelled."""


_CHEAP_TYPES = (str, bytes, bool, int, float, type(None))
"""What becomes text at once."""


@dataclass(frozen=True, slots=True)
class ToolExecutionResult:
    """How an execution went.

    Attributes:
        success: whether there is a result.
        result: what the tool returned; None after a failure.
        error: what went wrong, as ``"ValueError: no such row"``; None after a success.
        status: ``ok``, ``error`` (default of a failure), ``timeout``, ``unknown_tool``, ``invalid_arguments``,
            ``rejected`` (not approved) or ``cancelled``.
        latency_s: from the start of the execution to its end, None if it was not started.
        text: what the model is told; made from ``result`` or ``error`` when not given.
        display: the table or image that the user may be shown, as the tool returned it; made with ``text``.

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
            told = (f"Error: {self.error or 'the tool failed'}", None)
            text, display = text_and_display(self.result) if self.success else told
            object.__setattr__(self, "text", text)
            object.__setattr__(self, "display", self.display or display)
        if not self.text.strip():  # some servers refuse an empty message
            object.__setattr__(self, "text", BLANK_RESULT)


class ToolExecutor:
    """Executes tools; one serves any number of turns at once.

    An async ``execute`` runs in a task of its own. A synchronous one runs in a daemon thread of its own, with
    the caller's context variables, so that it blocks neither the event loop nor the exit of the process.
    Python cannot stop a thread: when its time is up, or the turn is stopped, the tool goes on in the
    background until it returns by itself, and its result is thrown away. A tool with ``in_thread = False`` runs on
    the loop, where no timeout can reach it. An async tool that does not end when it is cancelled is left behind,
    too, one second later. In one turn, 32 tools at most are in threads at the same time; those that were left
    behind do not count, and waiting for a place is no part of a tool's time.

    Args:
        timeout_s: seconds a tool may take unless it says otherwise itself; None for no limit.
        max_result_chars: where the text for the model is cut.

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
        self._left_behind: set[asyncio.Task[Any]] = set()
        self._logger = LoggingConfig.get_logger(__name__)

    async def execute(self, tool: BaseTool, arguments: Mapping[str, Any] | str) -> ToolExecutionResult:
        """Run ``tool``; never raises for its failure, whatever that is.

        Args:
            tool: the tool.
            arguments: as a dict, or the JSON text that a model wrote; empty text is no arguments.

        Raises:
            asyncio.CancelledError: the caller was cancelled; the tool's own cancellations are its failures.
        """
        self._logger.info("Executing tool: %s", tool.name)
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
            return self._make_failure("error", error_in_words(outcome.error), latency_s)
        return ToolExecutionResult(
            True,
            outcome.value,
            latency_s=latency_s,
            text=mask_known_keys(outcome.text) or BLANK_RESULT,
            display=outcome.display,
        )

    def unknown(self, name: str, available: Iterable[str]) -> ToolExecutionResult:
        """What the model is told when it asks for a tool that does not exist: the names that do, closest first."""
        names = sorted(
            available,
            key=lambda known: difflib.SequenceMatcher(a=name[:100].lower(), b=known.lower()).ratio(),
            reverse=True,
        )
        known = f"available: {', '.join(names)}" if names else "there are no tools, answer without"
        return self._make_failure("unknown_tool", f"There is no tool {truncate(name, 100)!r}; {known}")

    def problem_with(self, tool: BaseTool, arguments: Mapping[str, Any] | str) -> ToolExecutionResult | None:
        """How `execute` would fail before it runs anything; None if the arguments are what the tool takes."""
        values = self._parse_arguments(tool, arguments)
        return values if isinstance(values, ToolExecutionResult) else None

    def rejected(self, reason: str) -> ToolExecutionResult:
        """What the model is told of a call that was not approved."""
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
        except (Exception, SystemExit, asyncio.CancelledError) as error:  # a validator of the user's
            return self._make_failure("error", error_in_words(error))

    async def _run(self, tool: BaseTool, arguments: dict[str, Any], timeout_s: float | None) -> _Outcome | None:
        """The outcome, or None when time was up."""
        given_up = threading.Event()
        task = asyncio.create_task(self._run_tool(tool, arguments, given_up), name=f"tool {tool.name}")
        # Seen: of a KeyboardInterrupt the loop has told.
        task.add_done_callback(lambda task: task.cancelled() or task.exception())
        try:
            # Not wait_for: a tool that swallows its cancellation must not hold the turn.
            done, _ = await asyncio.wait({task}, timeout=timeout_s)
            return task.result() if done else None
        except KeyboardInterrupt:
            # The loop has raised it already. Raised once more, it would end whatever runs the loop then.
            raise asyncio.CancelledError from None
        finally:
            given_up.set()
            if not task.done():
                self._left_behind.add(task)
                task.add_done_callback(self._left_behind.discard)
                task.cancel()
                await asyncio.wait({task}, timeout=_CANCEL_GRACE_S)

    async def _run_tool(self, tool: BaseTool, arguments: dict[str, Any], given_up: threading.Event) -> _Outcome:
        def call() -> _Outcome:
            try:
                value = tool.execute(**arguments)
                if inspect.isgenerator(value):
                    value = _collect(value, given_up)
                if inspect.isawaitable(value) or inspect.isasyncgen(value):
                    return _Outcome(value)
                return _Outcome(value, *text_and_display(value, self._max_result_chars))
            except KeyboardInterrupt as error:
                if threading.current_thread() is threading.main_thread():
                    raise  # the user's interrupt, and not the tool's
                return _Outcome(error=error)
            except BaseException as error:  # sys.exit() in a tool is the tool's failure and not ours
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
            # A large structure, a picture, or code of the user's, which must not hold the loop.
            return await run_in_thread(lambda: self._render(value), f"tool {tool.name}: result")
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # so is a CancelledError of something it waited for
            return _Outcome(error=error)

    def _render(self, value: Any) -> _Outcome:
        try:
            return _Outcome(value, *text_and_display(value, self._max_result_chars))
        except BaseException as error:  # its __str__ may do anything; nobody interrupts a thread
            return _Outcome(error=error)

    def _make_failure(
        self, status: ToolStatus, message: str, latency_s: float | None = None
    ) -> ToolExecutionResult:
        error = truncate(redact(message), self._max_result_chars)
        self._logger.info("Tool failed (%s): %s", status, error)
        return ToolExecutionResult(False, error=error, status=status, latency_s=latency_s)


@dataclass(frozen=True, slots=True)
class _Outcome:
    value: Any = None
    text: str = ""
    display: ToolDisplay | None = None
    error: BaseException | None = None


def needs_thread(tool: BaseTool) -> bool:
    """Whether `ToolExecutor.execute` runs it in a thread of its own."""
    asynchronous = inspect.iscoroutinefunction(tool.execute) or inspect.isasyncgenfunction(tool.execute)
    return tool.in_thread and not asynchronous


class _BoundedList:
    """What a generator yielded so far."""

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


def _collect(items: Iterable[Any], given_up: threading.Event) -> list[Any]:
    found = _BoundedList()
    for item in items:
        if given_up.is_set():
            break
        found.append(item)
    return found.items


async def _collect_async(items: AsyncGenerator[Any, Any]) -> list[Any]:
    found = _BoundedList()
    async with aclosing(items):
        async for item in items:
            found.append(item)
    return found.items


def _usage_hint(tool: BaseTool) -> str:
    return f"Call it with a JSON object; parameters: {describe_parameters(tool.parameters)}"
