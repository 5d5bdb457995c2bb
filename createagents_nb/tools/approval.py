"""Approval of tool calls: requests, decisions, and the calls of a turn that are waiting for one."""

from __future__ import annotations

import asyncio
import copy
import inspect
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from ..core.threads import run_in_thread
from ..errors import ApprovalError
from ..text import format_error

__all__ = ["Approval", "ApprovalRequest", "Approver", "Decision", "PendingApprovals", "get_decision"]

_CANCEL_GRACE_S = 1.0
"""Limit for the cleanup of an async ``approve`` that was cancelled."""


@dataclass(frozen=True, slots=True)
class Approval:
    """A decision on a tool call, made with `Approval.approve` or `Approval.reject`.

    Attributes:
        approved: whether the tool may run.
        arguments: arguments to use instead of the model's; None to keep them.
        reason: reason for a rejection, sent to the model.

    Example:
        >>> Approval.approve({"path": "copy.csv"})
        Approval(approved=True, arguments={'path': 'copy.csv'}, reason='')
        >>> Approval.reject("that file is still needed").approved
        False
    """

    approved: bool
    arguments: dict[str, Any] | None = None
    reason: str = ""

    @classmethod
    def approve(cls, arguments: Mapping[str, Any] | None = None) -> Approval:
        """Run the tool, with ``arguments`` instead of the model's if given."""
        return cls(True, None if arguments is None else dict(arguments))

    @classmethod
    def reject(cls, reason: str = "") -> Approval:
        """Do not run the tool; send the reason to the model."""
        return cls(False, None, reason)

    @classmethod
    def of(cls, answer: Decision) -> Approval:
        """Convert a `Decision`: True approves, a dict approves with these arguments, False and a str reject.

        Raises:
            ApprovalError: ``answer`` is anything else.
        """
        if isinstance(answer, Approval):
            if answer.approved is not True and answer.approved is not False:
                raise ApprovalError(f"Approval(approved=…) must be True or False, not {answer.approved!r}")
            return answer
        if answer is True:
            return cls.approve()
        if answer is False:
            return cls.reject()
        if isinstance(answer, str):
            return cls.reject(answer)
        if isinstance(answer, Mapping):
            return cls.approve(answer)
        kind = "None" if answer is None else type(answer).__name__
        raise ApprovalError(
            f"{kind} is no decision: True or a dict of arguments approves, False or a reason rejects, "
            "and so do Approval.approve() and Approval.reject(…)"
        )


Decision: TypeAlias = "bool | str | Mapping[str, Any] | Approval"
"""True approves, a dict approves with other arguments, False rejects, a str rejects with this reason."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ApprovalRequest:
    """A tool call that needs approval.

    Attributes:
        tool: name of the tool.
        description: description of the tool, as sent to the model.
        arguments: copy of the model's arguments, valid against the tool's schema. To change them, return a dict
            as the decision.
        tool_call_id: id of the call, for `StreamingResponseDTO.decide`.
        round: round of the turn, from 1.
        agent: name of the agent.
        call_id: id of the turn, as in ``recorder.calls``.
    """

    tool: str
    description: str
    arguments: dict[str, Any]
    tool_call_id: str
    round: int
    agent: str
    call_id: str


Approver: TypeAlias = "Callable[[ApprovalRequest], Decision | Awaitable[Decision]]"
"""Decides on calls; sync or async."""


class PendingApprovals:
    """The calls of one turn that wait for a decision by a registered approver: a view, or the user's code."""

    def __init__(self) -> None:
        self._approvers: set[object] = set()
        self._pending: dict[str, _PendingCall] = {}

    @property
    def requests(self) -> tuple[ApprovalRequest, ...]:
        """Pending requests, oldest first."""
        return tuple(call.request for call in self._pending.copy().values())

    @property
    def can_ask(self) -> bool:
        """Whether an approver is registered."""
        return bool(self._approvers)

    def register(self, approver: object) -> None:
        """Register an approver."""
        self._approvers.add(approver)

    def unregister(self, approver: object) -> None:
        """Unregister an approver. Without any left, pending calls are settled with None."""
        self._approvers.discard(approver)
        if not self._approvers:
            for call in self._pending.values():
                call.settle(None)

    async def ask(self, request: ApprovalRequest, problem_with: Callable[[Any], str | None]) -> Approval | None:
        """Wait for the decision; None if no approver is left.

        Args:
            request: the call.
            problem_with: describes what is wrong with edited arguments, or returns None; a decision with invalid
                arguments is rejected by `check`.
        """
        call = self._pending[request.tool_call_id] = _PendingCall(request, problem_with)
        try:
            return await call.decided
        finally:
            del self._pending[request.tool_call_id]

    def check(self, tool_call_id: str, approval: Approval) -> Callable[[], None]:
        """Check a decision and return a function that applies it, to be called on the turn's event loop.

        Raises:
            ApprovalError: no such call is pending, or the arguments are invalid.
        """
        call = self._pending.get(tool_call_id)
        if call is None:
            pending = ", ".join(map(repr, self._pending.copy())) or "none"
            raise ApprovalError(f"No call {tool_call_id!r} waits for approval; waiting: {pending}")
        problem = call.problem_with(approval.arguments) if approval.arguments is not None else None
        if problem is not None:
            raise ApprovalError(f"The call still waits. {problem}")
        return lambda: call.settle(approval)


class _PendingCall:
    def __init__(self, request: ApprovalRequest, problem_with: Callable[[Any], str | None]) -> None:
        self.request, self.problem_with = request, problem_with
        self.decided: asyncio.Future[Approval | None] = asyncio.get_running_loop().create_future()

    def settle(self, approval: Approval | None) -> None:
        """Set the decision; later ones are ignored."""
        if not self.decided.done():
            self.decided.set_result(approval)


async def get_decision(approve: Approver, request: ApprovalRequest) -> Approval:
    """Call ``approve`` with a copy of the request, in a thread if it is synchronous.

    Raises:
        ApprovalError: it raised, or returned something that is not a decision.
    """
    outcome = await _call_approver(approve, copy.deepcopy(request))
    if isinstance(outcome, ApprovalError):
        raise outcome
    if isinstance(outcome, BaseException):
        raise ApprovalError(f"approve= failed with {format_error(outcome)}") from outcome
    return Approval.of(outcome)


async def _call_approver(approve: Approver, request: ApprovalRequest) -> Any:
    def call() -> Any:
        try:
            return approve(request)
        except BaseException as error:  # in a thread, it would be lost
            return error

    is_async = inspect.iscoroutinefunction(approve) or inspect.iscoroutinefunction(type(approve).__call__)
    outcome = call() if is_async else await run_in_thread(call, f"approve {request.tool}")
    if not inspect.isawaitable(outcome):
        return outcome
    # In a separate task, so that a cancellation inside it is its failure and does not end the turn.
    task = asyncio.ensure_future(_await_decision(outcome))
    try:
        await asyncio.wait({task})
        return asyncio.CancelledError() if task.cancelled() else task.exception() or task.result()
    finally:
        if not task.done():
            task.cancel()
            await asyncio.wait({task}, timeout=_CANCEL_GRACE_S)


async def _await_decision(outcome: Awaitable[Any]) -> Any:
    try:
        return await outcome
    except SystemExit as error:  # otherwise raised by the event loop
        return error
