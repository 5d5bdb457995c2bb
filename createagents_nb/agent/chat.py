"""The only tool loop. One turn: ask the model, run the tools it asks for, ask again, until it answers."""

from __future__ import annotations

import asyncio
import json
import time
import uuid
from collections.abc import AsyncGenerator, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from typing import Any, Protocol, TypeAlias, TypeVar

from ..core.events import (
    ApprovalDecided,
    AttemptEnded,
    Event,
    Notice,
    ProviderDetails,
    Reasoning,
    RoundEnded,
    ServerToolStep,
    TextWasReasoning,
    ToolCallFinished,
    ToolCallRequested,
    ToolCallStarted,
    Usage,
    cut_by,
    is_cut,
    is_failed,
    is_filtered,
    number_or_none,
)
from ..core.messages import (
    Message,
    MessageContent,
    TextPart,
    Turn,
    has_details,
    read_parts,
    without_foreign_details,
)
from ..core.preview import RequestPreview
from ..core.provider import ChatRepository, ChatRequest, Emit, ToolSpec
from ..core.records import CallRecord, CallStatus, RecordSink, RequestRecord, ToolRecord, current_cell
from ..errors import (
    BudgetExceededError,
    ContentFilteredError,
    ContextLengthError,
    InvalidMessageError,
    InvalidRequestError,
    ProviderError,
    ServerError,
)
from ..logging_config import LoggingConfig
from ..loop_shutdown import cancel_coroutine
from ..redaction import redact
from ..text import format_error, one_line
from ..tools.approval import Approver
from ..tools.executor import ToolExecutionResult, ToolExecutor, needs_thread
from ..tools.result_text import truncate
from ..tools.tool import BaseTool
from .approval_gate import ApprovalGate, with_note
from .context import Context, request_chars
from .history import History, last_turns
from .promises import broken_promise, closing, describe, expect_end
from .response import StreamingResponseDTO
from .turn_log import TurnLog

__all__ = ["ChatWithAgentUseCase", "FollowUp", "TurnSettings", "make_request"]

_Number = TypeVar("_Number", int, float)

_logger = LoggingConfig.get_logger(__name__)

_MAX_TOOL_THREADS = 32
"""Limit for the tool threads that one turn runs at the same time."""

# Added to the text of a turn that did not end by itself, for the next request.
_MARKS = {
    "ok": "[empty answer]",
    "cancelled": "[stopped by the user before the end]",
    "error": "[failed before the end]",
    "limit": "[stopped: too many rounds of tools]",
}

_FILTERED_MARK = "[blocked by a content filter]"

_MAX_SHORTENED = 6
"""How often one request is sent again with less, where it does not fit the model's context."""
_DROP_ALL_AT = 3
"""After so many of these, all earlier turns are left out; before, half of them each time."""
_SHORT_RESULT_CHARS = 2_000
"""A tool's result that is no longer than this is not what makes a request too long."""

FollowUp: TypeAlias = Callable[[Message], Sequence[Message] | None]
"""Called with an answer; returns messages to ask again with, or None to accept it."""


class TurnSettings(Protocol):
    """The settings of an agent and its history, as far as the loop reads them."""

    name: str
    model: str
    instructions: str | None
    tools: tuple[BaseTool, ...]
    config: Mapping[str, Any]
    history: History
    max_tool_rounds: int
    remote_images: bool
    approve: Approver | None
    approval_timeout_s: float
    turn_numbers: Iterator[int]
    context: Context
    notices: set[str]


class ChatWithAgentUseCase:
    """Runs turns of agents against one provider.

    Args:
        repository: the provider, or a wrapper around one.
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

    async def execute(self, agent: TurnSettings, message: MessageContent) -> StreamingResponseDTO:
        """Start a turn and return its response while it streams.

        Raises:
            InvalidMessageError: the message is empty or not a string; nothing was sent.
        """
        response = self.start(agent, message)
        await response.begin()
        return response

    def start(
        self, agent: TurnSettings, message: MessageContent, *, follow_up: FollowUp | None = None
    ) -> StreamingResponseDTO:
        """As `execute`, but the turn does not begin before the caller awaits something.

        Args:
            follow_up: may ask again after an answer. That counts as a round, and does not enter the history.

        Raises:
            InvalidMessageError: as `execute`.
            RuntimeError: no event loop is running.
        """
        turn = _Turn(self._repository, self._executor, self._sink, agent, _user_message(message), follow_up)
        turn.log.start(turn.run(), turn.settle)
        return StreamingResponseDTO(turn.log)

    def preview(self, agent: TurnSettings, message: MessageContent) -> RequestPreview:
        """Show what `start` would send first; nothing is sent.

        Raises:
            InvalidMessageError: as `execute`.
        """
        messages = (*_messages_of(agent.history.sent), _user_message(message))
        return self._repository.preview(make_request(agent, self._repository, messages))


def make_request(
    agent: TurnSettings,
    repository: ChatRepository,
    messages: Sequence[Message],
    *,
    turn_id: str | None = None,
    number: int = 1,
    is_first: bool = True,
) -> ChatRequest:
    """The request of a round.

    Args:
        messages: the past and those of the turn, without the instructions.
        turn_id, number: see `ChatRequest`.
        is_first: whether the turn has no answer yet.
    """
    system = [Message("system", agent.instructions)] if agent.instructions else []
    messages = (*system, *messages)
    if any(map(has_details, messages)):  # few have them, and sources are made of hashes
        messages = without_foreign_details(messages, repository.reply_sources(agent.model))
    return ChatRequest(
        model=agent.model,
        messages=messages,
        tools=[ToolSpec(tool.name, tool.description, tool.parameters) for tool in agent.tools],
        config=agent.config,
        # Once: a choice that forces a call would never let the turn end.
        tool_choice=agent.config.get("tool_choice") if is_first else None,
        turn_id=turn_id,
        round=number,
    )


def _user_message(content: MessageContent) -> Message:
    flaw: str | None = None
    try:
        parts = read_parts(content)
    except TypeError as error:
        parts, flaw = (), str(error)
    # A list of nothing but strings is more often a mistake than a message.
    if isinstance(content, list | tuple) and content and all(isinstance(part, str) for part in content):
        flaw = type(content).__name__
    if flaw is not None:
        raise InvalidMessageError(f"The message must be a string, not {flaw}: chat(str(…)) or an f-string")
    message = Message("user", parts=parts)
    if message.is_blank:
        raise InvalidMessageError("The message is empty: write what the agent should answer")
    return message


class _Turn:
    """The state of one turn. Turns share only the agent's history, which is changed when a turn ends."""

    def __init__(
        self,
        repository: ChatRepository,
        executor: ToolExecutor,
        sink: RecordSink | None,
        agent: TurnSettings,
        message: Message,
        follow_up: FollowUp | None,
    ) -> None:
        self.repository, self.executor, self.sink, self.agent = repository, executor, sink, agent
        self.follow_up = follow_up
        self.tools = {tool.name: tool for tool in agent.tools}
        self.number = next(agent.turn_numbers)
        self.started = time.perf_counter()
        self.past = agent.history.sent
        self.left_out: list[Turn] = []  # turns of the past that the context has no room for
        self.refused: list[Turn] = []  # turns of the past without which the request is sent again
        self.request_count = 0
        self.finish_reason: str | None = None
        self.messages = [message]
        self.not_remembered: list[Message] = []  # some of `messages`: the exchanges of follow-ups
        self.round_text_from = 0
        self.answer_details: ProviderDetails | None = None
        self.own_ids: dict[str, str] = {}  # of tool calls, as the server wrote them
        self.thread_slots = asyncio.Semaphore(_MAX_TOOL_THREADS)
        # Totals of the rounds whose rate is known.
        self.generated, self.generation_s = 0, 0.0
        # Until the turn has ended otherwise, so that an interrupted one settles as such.
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
            prompt=message.description,
            cell_id=cell.cell_id,
            execution_count=cell.execution_count,
        )
        content_policy = str if sink is None else sink.content_policy()
        self.log = TurnLog(self.record, content_policy=content_policy, remote_images=agent.remote_images)
        self.run_call = repository.wrap_tools(self._run_call, self.record.call_id)
        if sink is not None:
            sink.call_opened(self.record)

    async def run(self) -> None:
        try:
            self.status = await self._rounds()
        except Exception as error:
            if self.log.is_abandoned:  # it fails because its loop is closed
                raise
            _logger.warning("Turn of %s failed: %s: %s", self.agent.name, type(error).__name__, error)
            self.status, self.error = "error", error
        finally:
            self.settle()

    async def _rounds(self) -> CallStatus:
        was_cut = False
        for number in range(1, self.agent.max_tool_rounds + 2):
            calls = await self._ask(is_first=number == 1)
            reason = self.finish_reason
            if is_filtered(reason) or is_failed(reason):
                raise _early_end(reason, self.repository.provider)
            if is_cut(reason):
                # A model that was told once and is cut again would be cut for ever.
                if not calls or was_cut or number > self.agent.max_tool_rounds:
                    return "limit"
                was_cut = True
                self._add_exchange(calls, [_not_run(call, reason) for call in calls])
                continue
            was_cut = False
            if not calls:
                if number > self.agent.max_tool_rounds or not self._asks_again():
                    return "ok"
            elif number <= self.agent.max_tool_rounds:
                self._add_exchange(calls, await self._run_tools(calls, self.request_count))
        return "limit"

    def _add_exchange(self, calls: Sequence[ToolCallRequested], results: Sequence[Message]) -> None:
        """Add calls and their answers together: a history never holds a call without its answer."""
        asked = Message(
            "assistant", self._round_text(), tool_calls=tuple(calls), provider_details=self.answer_details
        )
        self.messages += [asked, *results]
        self.round_text_from = len(self.log.text)

    async def _ask(self, *, is_first: bool) -> list[ToolCallRequested]:
        """Send a request, and again with less of the conversation if the server refuses it."""
        for shortened in range(_MAX_SHORTENED + 1):
            seen = len(self.log.events)
            try:
                return await self._round_trip(is_first=is_first)
            except (InvalidRequestError, ContentFilteredError) as error:
                has_output = any(not isinstance(event, AttemptEnded | Notice) for event in self.log.events[seen:])
                is_shortened = (
                    not has_output
                    and shortened < _MAX_SHORTENED
                    and (
                        self._shorten(shortened)
                        if isinstance(error, ContextLengthError)
                        else self._leave_out_refused(is_about_words=error.refuses_message)
                    )
                )
                if not is_shortened:
                    raise
        raise AssertionError  # pragma: no cover - the last one returns or raises

    def _shorten(self, shortened: int) -> bool:
        """Leave out earlier turns, else cut the longest result of a tool; return False if there is neither."""
        if self.past:
            self._leave_out(len(self.past) if shortened >= _DROP_ALL_AT else (len(self.past) + 1) // 2)
            return True
        results = [at for at, message in enumerate(self.messages) if message.role == "tool"]
        longest = max(results, key=lambda at: len(self.messages[at].text), default=None)
        if longest is None or len(self.messages[longest].text) <= _SHORT_RESULT_CHARS:
            return False
        text = self.messages[longest].text
        shorter = truncate(text, max(len(text) // 4, _SHORT_RESULT_CHARS // 2))
        self.messages[longest] = replace(self.messages[longest], parts=(TextPart(shorter),))
        return True

    def _leave_out_refused(self, *, is_about_words: bool) -> bool:
        """Leave out earlier turns that the server may refuse; return False if there are none.

        They are those that failed; all of them, if what was said is refused in the second turn in a row: then the
        past has what is refused.
        """
        turns = self.agent.history.turns
        refuses_all = is_about_words and bool(turns) and not turns[-1].is_sent
        refused = [turn for turn in self.past if refuses_all or turn.messages[-1].status == "error"]
        self.refused += refused
        self.past = tuple(turn for turn in self.past if turn not in refused)
        return bool(refused)

    def _leave_out(self, count: int) -> None:
        self.left_out += self.past[:count]
        self.past = self.past[count:]

    async def _fit(self, is_first: bool, opened: RequestRecord) -> tuple[ChatRequest, RequestRecord]:
        """Make a request and its record; the oldest turns are left out where they are known not to fit."""
        agent, context = self.agent, self.agent.context
        request = self._request(is_first)
        window = agent.config.get("num_ctx") or context.window
        if agent.history.max_size is None:
            chars = request_chars(request)
            if context.may_matter(len(request.messages) + 1, chars):
                await context.ask(self.repository, agent.model)
                window = window or context.window
                if window is None and self.sink is not None:
                    window = self.sink.context_window(opened)
            if window is not None:
                agent.history.is_measured = True
                room = context.room(window, agent.config)
                while self.past and context.tokens(chars) > room:
                    self._leave_out(1)
                    request = self._request(is_first)
                    chars = request_chars(request)
            elif self.past:
                self.past = last_turns(self.past)
                request = self._request(is_first)
        return request, replace(opened, context_window=window, request=request)

    def _request(self, is_first: bool) -> ChatRequest:
        return make_request(
            self.agent,
            self.repository,
            (*_messages_of(self.past), *self.messages),
            turn_id=self.record.call_id,
            number=self.request_count,
            is_first=is_first,
        )

    def _forget_left_out(self) -> None:
        """Forget the turns that did not fit, now that a request without them is answered."""
        if self.refused:
            self.agent.history.leave_out({turn.number for turn in self.refused})
            if any(turn.messages[-1].status == "ok" for turn in self.refused):
                self._notify("The server refuses what was said earlier: these turns are not sent again")
            self.refused = []
        if self.left_out:
            self.agent.history.remove({turn.number for turn in self.left_out})
            count = len(self.left_out)
            self.left_out = []
            turns = "oldest turn was" if count == 1 else f"oldest {count:,} turns were"
            self._notify(f"The conversation no longer fits the model's context: the {turns} left out")

    def _asks_again(self) -> bool:
        if self.follow_up is None:
            return False
        answer = Message("assistant", self._round_text(), provider_details=self.answer_details)
        more = self.follow_up(answer)
        if more is None:
            return False
        exchange = [*([] if answer.is_blank else [answer]), *more]
        self.messages += exchange
        self.not_remembered += exchange
        self.round_text_from = len(self.log.text)
        return True

    async def _round_trip(self, *, is_first: bool) -> list[ToolCallRequested]:
        if self.sink is not None:
            self.sink.admit(self.request_count + 1)
        self.request_count += 1
        number = self.request_count
        record = RequestRecord(
            call_id=self.record.call_id,
            round=number,
            started_at=datetime.now(UTC),
            provider=self.repository.provider,
            model=self.agent.model,
            server=self.repository.server,
            status="running",
            price_provider=self.repository.price_provider,
            telemetry_provider=self.repository.telemetry_provider,
        )
        request, record = await self._fit(is_first, record)
        if self.sink is not None:
            self.sink.request_opened(record)
        self.log.sent[number] = partial(self.repository.preview, request)
        status: CallStatus = "cancelled"
        failure: Exception | None = None
        started = time.perf_counter()
        calls: list[ToolCallRequested] = []
        step_ids: dict[str, str] = {}
        end = RoundEnded()
        first: float | None = None
        feed, position = self.log.feed, len(self.log.events)
        self.finish_reason = None
        self.log.is_asking = True
        try:
            reply = self.repository.round_trip(request)
            if not isinstance(reply, AsyncGenerator):
                close = getattr(reply, "close", None)
                if close is not None:  # a coroutine, which would warn that nobody awaited it
                    close()
                raise broken_promise(self.repository, "has a round_trip() without a yield")
            async with closing(self.repository, reply) as events:
                async for event in events:
                    if type(event) is str:
                        if first is None:
                            first = time.perf_counter()
                            self._forget_left_out()
                        feed(event)
                        continue
                    if isinstance(event, ToolCallRequested):
                        event = _checked_call(event)
                        own_id = event.tool_call_id
                        if own_id in self.own_ids:
                            event = replace(event, tool_call_id=self._unused_id(own_id))
                        is_repeated = any(self.own_ids[call.tool_call_id] == own_id for call in calls)
                        self.own_ids[event.tool_call_id] = event.tool_call_id if is_repeated else own_id
                        calls.append(event)
                        self._forget_left_out()
                    elif isinstance(event, RoundEnded):
                        end = event
                        self._forget_left_out()
                    elif isinstance(event, ServerToolStep):
                        if not _is_step(event):
                            raise broken_promise(self.repository, f"yielded an invalid {type(event).__name__}")
                        step_id = event.tool_call_id
                        if step_id not in step_ids:
                            step_ids[step_id] = self._unused_id(step_id)
                            self.own_ids[step_ids[step_id]] = step_id
                        event = replace(event, tool_call_id=step_ids[step_id], round=number)
                    elif isinstance(event, str):
                        event = str.__str__(event)
                        first = first or time.perf_counter()
                    elif isinstance(event, AttemptEnded):
                        record = replace(
                            record,
                            provider=event.provider,
                            model=event.model,
                            server=event.server,
                            price_provider=event.price_provider,
                            telemetry_provider=event.telemetry_provider,
                            replayed=event.replayed,
                        )
                    elif isinstance(event, Notice):
                        self._notify(event.text)
                        continue
                    elif isinstance(event, TextWasReasoning):
                        self.log.take_back(event, position)
                        continue
                    elif not isinstance(event, Reasoning):
                        raise broken_promise(self.repository, f"yielded {describe(event)}, not an event")
                    feed(event)
                    if isinstance(event, RoundEnded):
                        await expect_end(self.repository, events)
                        break
                else:
                    raise broken_promise(self.repository, "ended a round without RoundEnded, which must be last")
            status = "ok"
        except Exception as error:
            if not self.log.is_abandoned:
                status, failure = "error", error
            raise
        finally:
            self.log.is_asking = False
            self.answer_details = end.provider_details
            self.finish_reason = end.finish_reason if isinstance(end.finish_reason, str) else None
            input_tokens = end.usage.checked().input_tokens if isinstance(end.usage, Usage) else None
            if input_tokens and self.agent.history.max_size is None:
                self.agent.context.measured = input_tokens, request_chars(request)
            # An interrupted reply has no `RoundEnded`, which has the exact time.
            self._settle_request(record, status, failure, started, end.first_output_at or first, end)
        return calls

    def _notify(self, text: str) -> None:
        """Pass on a notice, once per agent."""
        if isinstance(text, str) and text.strip() and text not in self.agent.notices:
            self.agent.notices.add(text)
            self.log.notices.append(text)
            self.log.feed(Notice(text))

    def _unused_id(self, tool_call_id: str) -> str:
        """Return an id that no call of the turn has: some servers repeat ids, and an approval is for one call."""
        while tool_call_id in self.own_ids:
            tool_call_id = f"{tool_call_id}-{len(self.own_ids)}"
        return tool_call_id

    async def _run_tools(self, calls: list[ToolCallRequested], number: int) -> list[Message]:
        running: list[asyncio.Task[ToolCallFinished]] = []
        try:
            async with asyncio.TaskGroup() as group:
                running += [group.create_task(self._record_call(call, number)) for call in calls]
        except KeyboardInterrupt as error:
            if any(task.done() and not task.cancelled() and task.exception() is error for task in running):
                raise asyncio.CancelledError from None  # the loop has raised it already
            raise
        except BaseException as error:
            if self.log.is_abandoned:
                for task in running:
                    cancel_coroutine(task.get_coro())
            if isinstance(error, ExceptionGroup):  # tools do not raise, so the recorder did; it names itself
                raise error.exceptions[0] from None
            raise
        return [
            Message("tool", task.result().result, tool_call_id=call.tool_call_id, name=call.name)
            for call, task in zip(calls, running, strict=True)
        ]

    async def _record_call(self, call: ToolCallRequested, number: int) -> ToolCallFinished:
        """Run a call, through the wrappers around the provider, and settle its record."""
        self.log.feed(ToolCallStarted(call.tool_call_id, call.name, number))
        record = ToolRecord(
            call_id=self.record.call_id,
            tool_call_id=self.own_ids[call.tool_call_id],
            round=number,
            tool=call.name,
            arguments=call.arguments,
            status="running",
            started_at=datetime.now(UTC),
        )
        if self.sink is not None:
            self.sink.tool_opened(record)
        stopped = ToolExecutionResult(success=False, error="stopped", status="cancelled")
        finished = _finished(call, number, stopped, None)

        def emit(event: Event) -> None:
            nonlocal record, finished
            if isinstance(event, ToolCallFinished):
                finished = event  # fed when it is settled, below
                return
            if isinstance(event, ApprovalDecided):  # the wait for approval does not count
                record = replace(
                    record, started_at=datetime.now(UTC), arguments=event.arguments or record.arguments
                )
            self.log.feed(event)

        try:
            result = await self.run_call(call, number, emit)
            if not isinstance(result, ToolCallFinished):
                raise broken_promise(self.repository, f"ended a tool call with {type(result).__name__}")
            finished = replace(result, tool_call_id=call.tool_call_id, name=call.name, round=number)
            return finished
        except Exception as error:  # a wrapper's own: tools do not raise
            if not self.log.is_abandoned:
                failed = ToolExecutionResult(success=False, error=format_error(error), status="error")
                finished = _finished(call, number, failed, None)
            raise
        finally:
            self.log.feed(finished)
            record = replace(
                record,
                status=finished.status,
                latency_s=finished.latency_s,
                result=finished.result if finished.status == "ok" else None,
                error=finished.error,
            )
            self.record = replace(self.record, tool_calls=self.record.tool_calls + 1)
            self.log.update(self.record, record)
            if self.sink is not None:
                self.sink.tool_settled(record)

    async def _run_call(self, call: ToolCallRequested, round_number: int, emit: Emit) -> ToolCallFinished:
        """Get approval for a call if its tool needs it, and run it."""
        started: float | None = None
        outcome = ToolExecutionResult(success=False, error="stopped", status="cancelled")
        try:
            tool = self.tools.get(call.name)
            arguments: str | ToolExecutionResult = call.arguments
            if tool is not None and tool.requires_approval:
                arguments = await self._gate().decide(tool, call, round_number, emit)
            if tool is None:
                outcome = self.executor.unknown(call.name, list(self.tools))
            elif isinstance(arguments, ToolExecutionResult):
                outcome = arguments
            else:
                # 500 calls in one reply would be 500 threads.
                async with self.thread_slots if needs_thread(tool) else nullcontext():
                    started = time.perf_counter()
                    outcome = await self.executor.execute(tool, arguments)
                if arguments is not call.arguments:
                    outcome = with_note(outcome, arguments)
        except BaseException:
            # Waiting for a thread or for approval does not count.
            latency_s = None if started is None else time.perf_counter() - started
            emit(_finished(call, round_number, outcome, latency_s))
            raise
        return _finished(call, round_number, outcome, outcome.latency_s)

    def _gate(self) -> ApprovalGate:
        return ApprovalGate(
            agent=self.agent.name,
            call_id=self.record.call_id,
            approve=self.agent.approve,
            timeout_s=self.agent.approval_timeout_s,
            executor=self.executor,
            pending=self.log.approvals,
        )

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
        usage = end.usage.checked() if isinstance(end.usage, Usage) else Usage()
        if opened.replayed:  # it cost nothing, and its clock was that of another process
            usage, first = replace(usage, cost_usd=0.0), None
        generation_s = number_or_none(end.generation_s)
        # The first token is there when the clock of arrivals starts; a server's own clock counts it, too.
        is_by_server = bool(usage.eval_s) and generation_s == usage.eval_s
        generated = max((usage.output_tokens or 0) - (not is_by_server), 0)
        last = failure if isinstance(failure, ProviderError) else end
        record = replace(
            opened,
            status=status,
            response_model=end.model,
            finish_reason=end.finish_reason,
            latency_s=now - started,
            ttft_s=first - started if first is not None else None,
            tokens_per_s=_rate(generated, generation_s),
            input_tokens=usage.input_tokens,
            output_tokens=usage.output_tokens,
            cached_tokens=usage.cached_tokens,
            reasoning_tokens=usage.reasoning_tokens,
            cost_usd=usage.cost_usd,
            load_s=usage.load_s,
            prompt_eval_s=usage.prompt_eval_s,
            eval_s=usage.eval_s,
            retries=last.retries,
            error_type=None if failure is None else type(failure).__name__,
            error=None if failure is None else redact(str(failure)),
            adjusted=last.adjusted if isinstance(last.adjusted, str) else None,
            request=None,
        )
        if record.cost_usd is None and self.sink is not None:
            cost_usd = self.sink.cost_usd(record)
            if cost_usd is not None:
                record = replace(record, cost_usd=cost_usd)
        if record.context_window is None and record.input_tokens is not None and self.sink is not None:
            record = replace(record, context_window=self.sink.context_window(record))
        if record.tokens_per_s is not None:
            self.generated += generated
            self.generation_s += generation_s or 0.0
        turn = self.record
        self.record = replace(
            turn,
            rounds=record.round,
            ttft_s=first - self.started if turn.ttft_s is None and first is not None else turn.ttft_s,
            input_tokens=_sum(turn.input_tokens, usage.input_tokens),
            output_tokens=_sum(turn.output_tokens, usage.output_tokens),
            cached_tokens=_sum(turn.cached_tokens, usage.cached_tokens),
            reasoning_tokens=_sum(turn.reasoning_tokens, usage.reasoning_tokens),
            cost_usd=_sum(turn.cost_usd, record.cost_usd),
            finish_reason=self.finish_reason,
        )
        self.log.update(self.record, record)
        if self.sink is not None:
            self.sink.request_settled(record)

    def settle(self) -> None:
        """Settle the turn, however it ended; a second call does nothing."""
        if self.log.done:
            return
        error = self.error
        self.record = replace(
            self.record,
            status=self.status,
            latency_s=time.perf_counter() - self.started,
            tokens_per_s=_rate(self.generated, self.generation_s),
            error_type=type(error).__name__ if error is not None else None,
            error=redact(str(error)) if error is not None else None,
            response=self.log.text,
        )
        self._remember()
        try:
            if self.sink is not None:
                self.sink.call_settled(self.record)
        finally:
            self.log.settle(self.record, error)

    def _remember(self) -> None:
        was_sent = self.record.rounds > 1 or not isinstance(self.error, InvalidMessageError)
        if not was_sent or (isinstance(self.error, BudgetExceededError) and not self.record.rounds):
            return
        error = self.error
        left_out = isinstance(error, ProviderError) and error.refuses_message
        text = self._round_text()
        if self.status != "ok" or not text.strip():
            text = f"{text}\n\n{self._mark()}".strip()
        details = self.answer_details if self.status == "ok" else None
        answer = Message("assistant", text, status=self.status, provider_details=details)
        forgotten = set(map(id, self.not_remembered))
        messages = (*(message for message in self.messages if id(message) not in forgotten), answer)
        turn = Turn(self.number, messages)
        self.agent.history.add(turn.as_left_out() if left_out else turn)

    def _mark(self) -> str:
        if isinstance(self.error, ContentFilteredError):
            return _FILTERED_MARK
        if self.status == "limit" and is_cut(self.finish_reason):
            return f"[cut off: {cut_by(self.finish_reason)}]"
        return _MARKS[self.status]

    def _round_text(self) -> str:
        return self.log.text[self.round_text_from :]


def _messages_of(turns: Iterable[Turn]) -> Iterator[Message]:
    return (message for turn in turns for message in turn.messages)


def _not_run(call: ToolCallRequested, reason: str | None) -> Message:
    text = (
        f"not run: the reply was cut off by {cut_by(reason)} before it was complete; ask again with less, or "
        "answer without"
    )
    return Message("tool", text, tool_call_id=call.tool_call_id, name=call.name)


def _early_end(reason: str | None, provider: str) -> ProviderError:
    """The error for a round that a filter or an error ended."""
    word = one_line(str(reason), 60)
    if is_filtered(reason):
        return ContentFilteredError(
            f"The provider's content filter ended the answer (finish_reason {word!r}). What arrived is kept, and "
            "the message is not sent again: ask in other words",
            provider=provider,
        )
    return ServerError(
        f"The server ended its answer with an error (finish_reason {word!r}). What arrived is kept: ask again",
        provider=provider,
    )


def _checked_call(call: ToolCallRequested) -> ToolCallRequested:
    """A call as the loop needs it, whatever a provider object makes of it: text, and an id of its own."""
    tool_call_id = call.tool_call_id if isinstance(call.tool_call_id, str) and call.tool_call_id else None
    arguments = call.arguments if isinstance(call.arguments, str) else json.dumps(call.arguments, default=str)
    details = call.provider_details if isinstance(call.provider_details, ProviderDetails) else None
    is_fine = (tool_call_id, arguments, details) == (call.tool_call_id, call.arguments, call.provider_details)
    if is_fine and isinstance(call.name, str):
        return call
    return ToolCallRequested(
        tool_call_id or f"call_{uuid.uuid4().hex[:12]}", str(call.name), arguments, provider_details=details
    )


def _is_step(step: ServerToolStep) -> bool:
    texts = (step.tool_call_id, step.name, step.arguments, step.result)
    return all(isinstance(text, str) for text in texts) and step.status in ("running", "ok", "error")


def _finished(
    call: ToolCallRequested, number: int, outcome: ToolExecutionResult, latency_s: float | None
) -> ToolCallFinished:
    return ToolCallFinished(
        call.tool_call_id,
        call.name,
        number,
        outcome.status,
        latency_s,
        outcome.text,
        outcome.display,
        outcome.error,
    )


def _sum(total: _Number | None, more: _Number | None) -> _Number | None:
    return total if more is None else (total or 0) + more


def _rate(tokens: int | None, seconds: float | None) -> float | None:
    return tokens / seconds if tokens and seconds else None
