"""The gate at which a call of a tool that needs approval waits for its decision."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from .. import bridge
from ..core.events import ApprovalDecided, ApprovalRequested, ToolCallRequested
from ..core.messages import decode_arguments
from ..core.provider import Emit
from ..errors import ApprovalError
from ..text import format_error
from ..tools.approval import Approval, ApprovalRequest, Approver, PendingApprovals, get_decision
from ..tools.executor import ToolExecutionResult, ToolExecutor
from ..tools.result_text import truncate
from ..tools.tool import BaseTool

__all__ = ["ApprovalGate", "with_note"]

_MAX_NOTE_CHARS = 2_000
_WAY_ON = "Go on without it, or ask what to do instead."


class ApprovalGate:
    """Decides on the calls of one turn.

    Args:
        agent, call_id: as in `ApprovalRequest`.
        approve: makes the decision; None to ask the approvers registered with ``pending``.
        timeout_s: how long a call waits for a decision, in seconds.
        executor: checks arguments.
        pending: the calls that wait.
    """

    def __init__(
        self,
        *,
        agent: str,
        call_id: str,
        approve: Approver | None,
        timeout_s: float,
        executor: ToolExecutor,
        pending: PendingApprovals,
    ) -> None:
        self._agent, self._call_id = agent, call_id
        self._approve, self._timeout_s = approve, timeout_s
        self._executor, self._pending = executor, pending

    async def decide(
        self, tool: BaseTool, call: ToolCallRequested, round_number: int, emit: Emit
    ) -> str | ToolExecutionResult:
        """The arguments to run the tool with, as JSON, or the result of a call that is not run.

        Invalid arguments are refused without asking.
        """
        problem = self._executor.problem_with(tool, call.arguments)
        if problem is not None:
            return problem
        approve = self._approve
        if approve is None and not self._pending.can_ask:
            return self._executor.rejected(_no_approver(tool))
        request = ApprovalRequest(
            tool=tool.name,
            description=tool.description,
            arguments=decode_arguments(call.arguments),
            tool_call_id=call.tool_call_id,
            round=round_number,
            agent=self._agent,
            call_id=self._call_id,
        )
        where = (call.tool_call_id, call.name, round_number)
        emit(ApprovalRequested(*where, is_open=approve is None))
        try:
            decision = await self._get_approval(request, tool)
        except Exception as error:  # arguments too deep to copy, or an answer of odd objects
            decision = f"This call was rejected: {format_error(error)}"
        if isinstance(decision, str):
            emit(ApprovalDecided(*where, approved=False))
            return self._executor.rejected(decision)
        if decision.arguments is None:
            emit(ApprovalDecided(*where, approved=True))
            return call.arguments
        edited = json.dumps(decision.arguments, ensure_ascii=False)
        emit(ApprovalDecided(*where, approved=True, arguments=edited))
        return edited

    async def _get_approval(self, request: ApprovalRequest, tool: BaseTool) -> Approval | str:
        """The approval, or the reason why the call is rejected."""
        problem_with = self._problem_finder(tool)
        decision: Approval | None
        try:
            async with asyncio.timeout(self._timeout_s):
                if self._approve is None:
                    decision = await self._pending.ask(request, problem_with)
                else:
                    decision = await get_decision(self._approve, request)
        except TimeoutError:
            return f"This call was rejected: nobody approved it within {self._timeout_s:g} s. {_WAY_ON}"
        except ApprovalError as error:
            return f"This call was rejected: {error}"
        if decision is None:
            return _no_approver(tool)
        if not decision.approved:
            why = f": {decision.reason}" if decision.reason else f". {_WAY_ON}"
            return f"The user rejected this call{why}"
        problem = None if decision.arguments is None else problem_with(decision.arguments)
        if problem is not None:
            return f"This call was rejected: it was approved with other arguments. {problem}"
        if decision.arguments is not None and _is_same(decision.arguments, request.arguments):
            return replace(decision, arguments=None)
        return decision

    def _problem_finder(self, tool: BaseTool) -> Callable[[Any], str | None]:
        def problem_with(arguments: Any) -> str | None:
            try:
                json.dumps(arguments)
            except (TypeError, ValueError, RecursionError) as error:
                return f"Arguments must be JSON: {error}"
            problem = self._executor.problem_with(tool, arguments)
            return None if problem is None else problem.error

        return problem_with


def with_note(outcome: ToolExecutionResult, arguments: str) -> ToolExecutionResult:
    """``outcome``, with a note to the model that it belongs to other arguments than it wrote."""
    changed = truncate(arguments, _MAX_NOTE_CHARS)
    return replace(outcome, text=f"The user changed the arguments to {changed}\n\n{outcome.text}")


def _is_same(edited: dict[str, Any], arguments: dict[str, Any]) -> bool:
    """Whether both are the same JSON: 1 is not True, and the order of keys does not matter."""
    return _as_json(edited) == _as_json(arguments)


def _as_json(arguments: dict[str, Any]) -> str:
    return json.dumps(json.loads(json.dumps(arguments)), sort_keys=True)  # keys in JSON are strings


def _no_approver(tool: BaseTool) -> str:
    way_out = "CreateAgent(approve=…)"
    if bridge.is_blocking_loop.get():
        way_out += ", or a cell that does not block the loop as %%time and %%capture do"
    return f"This call was rejected: {tool.name} needs approval, and nobody can be asked here: {way_out}"
