"""Where a call of a tool that needs approval waits, until somebody has decided or time is up."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from .. import bridge
from ..core.events import ApprovalDecided, ApprovalRequested, ToolCallRequested
from ..core.messages import decode_arguments
from ..errors import ApprovalError
from ..text import error_in_words
from ..tools.approval import Approval, ApprovalRequest, get_decision
from ..tools.executor import ToolExecutionResult, ToolExecutor
from ..tools.result_text import truncate

if TYPE_CHECKING:
    from ..tools.tool import BaseTool
    from .agent import Agent
    from .response import StreamingResponseDTO

__all__ = ["ApprovalGate", "with_note"]

_MAX_NOTE_CHARS = 2_000
_WAY_ON = "Go on without it, or ask what to do instead."


class ApprovalGate:
    """Decides on the calls of one turn.

    Args:
        agent: its ``approve`` decides; without one, whoever can be asked through the response.
        executor: checks arguments.
        response: where the waiting is told.
    """

    def __init__(self, agent: Agent, executor: ToolExecutor, response: StreamingResponseDTO) -> None:
        self._agent, self._executor, self._response = agent, executor, response

    async def decide(self, tool: BaseTool, call: ToolCallRequested, number: int) -> str | ToolExecutionResult:
        """The arguments to run the tool with, as JSON, or what the model is told in place of a result.

        Nobody is asked about arguments that do not fit.

        Args:
            number: of the round.
        """
        problem = self._executor.problem_with(tool, call.arguments)
        if problem is not None:
            return problem
        approve = self._agent.approve
        if approve is None and not self._response.waiting_calls.can_ask:
            return self._executor.rejected(_nobody(tool))
        request = ApprovalRequest(
            tool=tool.name,
            description=tool.description,
            arguments=decode_arguments(call.arguments),
            tool_call_id=call.tool_call_id,
            round=number,
            agent=self._agent.name,
            call_id=self._response.record.call_id,
        )
        where = (call.tool_call_id, call.name, number)
        self._response.feed(ApprovalRequested(*where, is_open=approve is None))
        try:
            decision = await self._answer(request, self._problem_with(tool), tool)
        except Exception as error:  # arguments too deep to copy, or an answer of odd objects
            decision = f"This call was rejected: {error_in_words(error)}"
        if isinstance(decision, str):
            self._response.feed(ApprovalDecided(*where, approved=False))
            return self._executor.rejected(decision)
        if decision.arguments is None:
            self._response.feed(ApprovalDecided(*where, approved=True))
            return call.arguments
        edited = json.dumps(decision.arguments, ensure_ascii=False)
        self._response.feed(ApprovalDecided(*where, approved=True, arguments=edited))
        return edited

    async def _answer(
        self, request: ApprovalRequest, problem_with: Callable[[Any], str | None], tool: BaseTool
    ) -> Approval | str:
        """The approval, or why there is none."""
        timeout_s, approve = self._agent.approval_timeout_s, self._agent.approve
        decision: Approval | None
        try:
            async with asyncio.timeout(timeout_s):
                if approve is None:
                    decision = await self._response.waiting_calls.ask(request, problem_with)
                else:
                    decision = await get_decision(approve, request)
        except TimeoutError:
            return f"This call was rejected: nobody approved it within {timeout_s:g} s. {_WAY_ON}"
        except ApprovalError as error:
            return f"This call was rejected: {error}"
        if decision is None:
            return _nobody(tool)
        if not decision.approved:
            why = f": {decision.reason}" if decision.reason else f". {_WAY_ON}"
            return f"The user rejected this call{why}"
        problem = None if decision.arguments is None else problem_with(decision.arguments)
        if problem is not None:
            return f"This call was rejected: it was approved with other arguments. {problem}"
        if decision.arguments is not None and _is_same(decision.arguments, request.arguments):
            return replace(decision, arguments=None)
        return decision

    def _problem_with(self, tool: BaseTool) -> Callable[[Any], str | None]:
        def problem_with(arguments: Any) -> str | None:
            try:
                json.dumps(arguments)
            except (TypeError, ValueError, RecursionError) as error:
                return f"Arguments must be JSON: {error}"
            problem = self._executor.problem_with(tool, arguments)
            return None if problem is None else problem.error

        return problem_with


def with_note(outcome: ToolExecutionResult, arguments: str) -> ToolExecutionResult:
    """``outcome``, in which the model reads that it is not that of the arguments it wrote."""
    changed = truncate(arguments, _MAX_NOTE_CHARS)
    return replace(outcome, text=f"The user changed the arguments to {changed}\n\n{outcome.text}")


def _is_same(edited: dict[str, Any], arguments: dict[str, Any]) -> bool:
    """As JSON, where 1 is not True, and the order of names does not count."""
    return _as_json(edited) == _as_json(arguments)


def _as_json(arguments: dict[str, Any]) -> str:
    return json.dumps(json.loads(json.dumps(arguments)), sort_keys=True)  # names in JSON are strings


def _nobody(tool: BaseTool) -> str:
    way_out = "CreateAgent(approve=…)"
    if bridge.blocks_the_loop.get():
        way_out += ", or a cell that does not block the loop as %%time and %%capture do"
    return f"This call was rejected: {tool.name} needs approval, and nobody can be asked here: {way_out}"
