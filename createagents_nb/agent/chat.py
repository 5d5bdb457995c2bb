"""The only tool loop. One turn: ask the model, run the tools it asks for, ask again, until it answers."""

from __future__ import annotations

import asyncio
import time
import uuid
from contextlib import aclosing, nullcontext
from dataclasses import replace
from datetime import UTC, datetime
from typing import TypeVar

from ..core.events import RoundEnded, ToolCallFinished, ToolCallRequested, ToolCallStarted
from ..core.messages import Message, Turn
from ..core.provider import ChatRepository, ChatRequest
from ..core.records import CallRecord, CallStatus, RecordSink, RequestRecord, ToolRecord, current_cell
from ..errors import BudgetExceededError, InvalidMessageError, ProviderError
from ..logging_config import LoggingConfig
from ..loop_shutdown import end
from ..redaction import redact
from ..tools.executor import ToolExecutionResult, ToolExecutor, needs_thread
from .agent import Agent
from .approval_gate import ApprovalGate, with_note
from .response import StreamingResponseDTO

__all__ = ["ChatWithAgentUseCase"]

_Number = TypeVar("_Number", int, float)

_logger = LoggingConfig.get_logger(__name__)

_MAX_TOOL_THREADS = 32
"""Of one turn, at the same time."""

# What the next request says of a turn that did not end by itself.
_MARKS = {
    "ok": "[empty answer]",
    "cancelled": "[stopped by the user before the end]",
    "error": "[failed before the end]",
    "limit": "[stopped: too many rounds of tools]",
}


class ChatWithAgentUseCase:
    """Runs turns of agents against one provider.

    Args:
        repository: the provider.
        executor: runs the tools; default `ToolExecutor` with its defaults.
        sink: where the records go; default nowhere.

    Example:
        >>> response = await ChatWithAgentUseCase(OpenAIChatAdapter()).execute(agent, "Hello")
        >>> text = await response
    """

    def __init__(
        self,
        repository: ChatRepository,
        *,
        executor: ToolExecutor | None = None,
        sink: RecordSink | None = None,
    ) -> None:
        self._repository = repository
        self._executor = executor or ToolExecutor()
        self._sink = sink

    async def execute(self, agent: Agent, message: str) -> StreamingResponseDTO:
        """Start a turn and return its response while it streams.

        Raises:
            InvalidMessageError: the message is empty or not a string; nothing was sent.
        """
        response = self.start(agent, message)
        await response.begin()
        return response

    def start(self, agent: Agent, message: str) -> StreamingResponseDTO:
        """As `execute`, but the turn does not begin before the caller awaits something.

        Raises:
            InvalidMessageError: as `execute`.
            RuntimeError: no event loop is running.
        """
        if not isinstance(message, str):
            raise InvalidMessageError(
                f"The message must be a string, not {type(message).__name__}: chat(str(…)) or an f-string"
            )
        message = str.__str__(message)  # NumPy's strings are no JSON
        if not message.strip():
            raise InvalidMessageError("The message is empty: write what the agent should answer")
        turn = _Turn(self._repository, self._executor, self._sink, agent, message)
        turn.response.start(turn.run(), turn.settle)
        return turn.response


class _Turn:
    """The state of one turn. Nothing here is shared with another turn but the agent's history, at the end."""

    def __init__(
        self,
        repository: ChatRepository,
        executor: ToolExecutor,
        sink: RecordSink | None,
        agent: Agent,
        message: str,
    ) -> None:
        self.repository, self.executor, self.sink, self.agent = repository, executor, sink, agent
        self.tools = {tool.name: tool for tool in agent.tools}
        self.number = next(agent.turn_numbers)
        self.started = time.perf_counter()
        self.past = agent.history.messages
        self.messages = [Message("user", message)]
        self.round_text_from = 0
        self.tool_call_ids: set[str] = set()
        self.places = asyncio.Semaphore(_MAX_TOOL_THREADS)
        # Of the rounds whose rate is known.
        self.generated, self.generation_s = 0, 0.0
        # Opened as interrupted: whatever happens from here on, there is a row to settle.
        self.status: CallStatus = "cancelled"
        self.error: BaseException | None = None
        cell = current_cell.get()
        self.record = CallRecord(
            call_id=uuid.uuid4().hex,
            started_at=datetime.now(UTC),
            agent=agent.name,
            provider=repository.provider,
            model=agent.model,
            status="running",
            prompt=message,
            cell_id=cell.cell_id,
            execution_count=cell.execution_count,
        )
        content_policy = str if sink is None else sink.content_policy()
        self.response = StreamingResponseDTO(
            self.record, remote_images=agent.remote_images, content_policy=content_policy
        )
        self.gate = ApprovalGate(agent, executor, self.response)
        if sink is not None:
            sink.call_opened(self.record)

    async def run(self) -> None:
        try:
            self.status = await self._rounds()
        except Exception as error:
            if self.response.is_abandoned:  # it fails because there is no loop any more
                raise
            _logger.warning("Turn of %s failed: %s: %s", self.agent.name, type(error).__name__, error)
            self.status, self.error = "error", error
        finally:
            self.settle()

    async def _rounds(self) -> CallStatus:
        for number in range(1, self.agent.max_tool_rounds + 2):
            calls = await self._round_trip(number)
            if not calls:
                return "ok"
            if number <= self.agent.max_tool_rounds:
                text = self._round_text()
                results = await self._run_tools(calls, number)
                # Entered together: a history never holds a call without its answer.
                self.messages.append(Message("assistant", text, tool_calls=tuple(calls)))
                self.messages.extend(results)
                self.round_text_from = len(self.response.text)
        return "limit"

    async def _round_trip(self, number: int) -> list[ToolCallRequested]:
        if self.sink is not None:
            self.sink.admit(number)
        system = [Message("system", self.agent.instructions)] if self.agent.instructions else []
        request = ChatRequest(
            model=self.agent.model,
            messages=[*system, *self.past, *self.messages],
            tools=self.agent.tools,
            config=self.agent.config,
        )
        record = RequestRecord(
            call_id=self.record.call_id,
            round=number,
            started_at=datetime.now(UTC),
            provider=self.repository.provider,
            model=self.agent.model,
            server=self.repository.server,
            status="running",
        )
        if self.sink is not None:
            self.sink.request_opened(record)
        status: CallStatus = "cancelled"
        failure: Exception | None = None
        started = time.perf_counter()
        calls: list[ToolCallRequested] = []
        end = RoundEnded()
        first: float | None = None
        feed = self.response.feed
        try:
            async with aclosing(self.repository.round_trip(request)) as events:
                async for event in events:
                    if type(event) is str:
                        if first is None:
                            first = time.perf_counter()
                        feed(event)
                        continue
                    if isinstance(event, ToolCallRequested):
                        # Some servers give one twice, or again in the next round: a decision is for one call.
                        while event.tool_call_id in self.tool_call_ids:
                            event = replace(event, tool_call_id=f"{event.tool_call_id}-{len(self.tool_call_ids)}")
                        self.tool_call_ids.add(event.tool_call_id)
                        calls.append(event)
                    elif isinstance(event, RoundEnded):
                        end = event
                    feed(event)
            status = "ok"
        except Exception as error:
            if not self.response.is_abandoned:
                status, failure = "error", error
            raise
        finally:
            # An interrupted reply has no end that tells when it began.
            self._settle_request(record, status, failure, started, end.first_output_at or first, end)
        return calls

    async def _run_tools(self, calls: list[ToolCallRequested], number: int) -> list[Message]:
        running: list[asyncio.Task[ToolExecutionResult]] = []
        try:
            async with asyncio.TaskGroup() as group:
                running += [group.create_task(self._run_tool(call, number)) for call in calls]
        except KeyboardInterrupt as error:
            if any(task.done() and not task.cancelled() and task.exception() is error for task in running):
                raise asyncio.CancelledError from None  # the loop has raised it already
            raise
        except BaseException as error:
            if self.response.is_abandoned:
                for task in running:
                    end(task.get_coro())
            if isinstance(error, ExceptionGroup):  # tools do not raise, so it is the recorder's; it names itself
                raise error.exceptions[0] from None
            raise
        return [
            Message("tool", task.result().text, tool_call_id=call.tool_call_id, name=call.name)
            for call, task in zip(calls, running, strict=True)
        ]

    async def _run_tool(self, call: ToolCallRequested, number: int) -> ToolExecutionResult:
        self.response.feed(ToolCallStarted(call.tool_call_id, call.name, number))
        record = ToolRecord(
            call_id=self.record.call_id,
            tool_call_id=call.tool_call_id,
            round=number,
            tool=call.name,
            arguments=call.arguments,
            status="running",
            started_at=datetime.now(UTC),
        )
        if self.sink is not None:
            self.sink.tool_opened(record)
        started: float | None = None
        outcome = ToolExecutionResult(success=False, error="stopped", status="cancelled")
        try:
            tool = self.tools.get(call.name)
            arguments: str | ToolExecutionResult = call.arguments
            if tool is not None and tool.requires_approval:
                try:
                    arguments = await self.gate.decide(tool, call, number)
                finally:
                    record = replace(record, started_at=datetime.now(UTC))
            if tool is None:
                outcome = self.executor.unknown(call.name, list(self.tools))
            elif isinstance(arguments, ToolExecutionResult):
                outcome = arguments
            else:
                record = replace(record, arguments=arguments)
                # 500 calls in one reply would be 500 threads.
                async with self.places if needs_thread(tool) else nullcontext():
                    started = time.perf_counter()
                    outcome = await self.executor.execute(tool, arguments)
                if arguments is not call.arguments:
                    outcome = with_note(outcome, arguments)
            return outcome
        finally:
            # Waiting is no part of it, for a place or for approval.
            latency_s = outcome.latency_s
            if latency_s is None and started is not None and outcome.status == "cancelled":
                latency_s = time.perf_counter() - started
            self.response.feed(
                ToolCallFinished(
                    call.tool_call_id,
                    call.name,
                    number,
                    outcome.status,
                    latency_s,
                    outcome.text,
                    outcome.display,
                )
            )
            record = replace(
                record,
                status=outcome.status,
                latency_s=latency_s,
                result=outcome.text if outcome.success else None,
                error=outcome.error,
            )
            self.record = replace(self.record, tool_calls=self.record.tool_calls + 1)
            self.response.update(self.record, record)
            if self.sink is not None:
                self.sink.tool_settled(record)

    def _settle_request(
        self,
        opened: RequestRecord,
        status: CallStatus,
        failure: Exception | None,
        started: float,
        first: float | None,
        end: RoundEnded,
    ) -> None:
        now = time.perf_counter()
        usage = end.usage.checked()
        record = replace(
            opened,
            status=status,
            response_model=end.model,
            finish_reason=end.finish_reason,
            latency_s=now - started,
            ttft_s=first - started if first is not None else None,
            tokens_per_s=_rate(usage.output_tokens, end.generation_s),
            input_tokens=usage.input_tokens,
            output_tokens=usage.output_tokens,
            cached_tokens=usage.cached_tokens,
            reasoning_tokens=usage.reasoning_tokens,
            cost_usd=usage.cost_usd,
            load_s=usage.load_s,
            prompt_eval_s=usage.prompt_eval_s,
            eval_s=usage.eval_s,
            retries=failure.retries if isinstance(failure, ProviderError) else end.retries,
            error_type=None if failure is None else type(failure).__name__,
            error=None if failure is None else redact(str(failure)),
        )
        if record.cost_usd is None and self.sink is not None:
            cost_usd = self.sink.cost_usd(record)
            if cost_usd is not None:
                record = replace(record, cost_usd=cost_usd)
        if record.tokens_per_s is not None:
            self.generated += usage.output_tokens or 0
            self.generation_s += end.generation_s or 0.0
        known = self.record
        self.record = replace(
            known,
            rounds=record.round,
            ttft_s=first - self.started if known.ttft_s is None and first is not None else known.ttft_s,
            input_tokens=_sum(known.input_tokens, usage.input_tokens),
            output_tokens=_sum(known.output_tokens, usage.output_tokens),
            cached_tokens=_sum(known.cached_tokens, usage.cached_tokens),
            reasoning_tokens=_sum(known.reasoning_tokens, usage.reasoning_tokens),
            cost_usd=_sum(known.cost_usd, record.cost_usd),
        )
        self.response.update(self.record, record)
        if self.sink is not None:
            self.sink.request_settled(record)

    def settle(self) -> None:
        """The end of the turn, however it ends; the second call does nothing."""
        if self.response.done:
            return
        error = self.error
        self.record = replace(
            self.record,
            status=self.status,
            latency_s=time.perf_counter() - self.started,
            tokens_per_s=_rate(self.generated, self.generation_s),
            error_type=type(error).__name__ if error is not None else None,
            error=redact(str(error)) if error is not None else None,
            response=self.response.text,
        )
        self._remember()
        try:
            if self.sink is not None:
                self.sink.call_settled(self.record)
        finally:
            self.response.settle(self.record, error)

    def _remember(self) -> None:
        if isinstance(self.error, BudgetExceededError) and not self.record.rounds:
            return  # nothing was sent
        text = self._round_text()
        if self.status != "ok" or not text.strip():
            text = f"{text}\n\n{_MARKS[self.status]}".strip()
        self.agent.history.add(Turn(self.number, (*self.messages, Message("assistant", text, status=self.status))))

    def _round_text(self) -> str:
        return self.response.text[self.round_text_from :]


def _sum(known: _Number | None, more: _Number | None) -> _Number | None:
    return known if more is None else (known or 0) + more


def _rate(tokens: int | None, seconds: float | None) -> float | None:
    return tokens / seconds if tokens and seconds else None
