"""Who lets a tool run: what is asked, what may be answered, and the calls of a turn that wait for it."""

from __future__ import annotations

import asyncio
import copy
import inspect
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from ..errors import ApprovalError
from ..text import error_in_words
from .threads import run_in_thread

__all__ = ["Approval", "ApprovalRequest", "Approver", "Decision", "PendingApprovals", "get_decision"]

_CANCEL_GRACE_S = 1.0
"""How long an async ``approve`` may take to clean up after it was cancelled."""


@dataclass(frozen=True, slots=True)
class Approval:
    """A decision on a call: `Approval.approve` and `Approval.reject` make one.

    Attributes:
        approved: whether the tool may run.
        arguments: those to run it with in place of the model's; None for the model's own.
        reason: why not, as the model is told it.

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
        """Run the tool, with other arguments where they are given."""
        return cls(True, None if arguments is None else dict(arguments))

    @classmethod
    def reject(cls, reason: str = "") -> Approval:
        """Do not run the tool; the model is told why."""
        return cls(False, None, reason)

    @classmethod
    def of(cls, answer: Decision) -> Approval:
        """What an answer means: True approves, a dict approves with these arguments, False and a str reject.

        Raises:
            ApprovalError: it means nothing, and so it approves nothing.
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
"""True approves, a dict approves with other arguments, False rejects, a str rejects and says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ApprovalRequest:
    """A call that needs approval.

    Attributes:
        tool: its name.
        description: as the model reads it.
        arguments: the JSON object that the model wrote, checked against the tool's schema. A copy: to change
            arguments, answer with the ones to use.
        tool_call_id: of the call; `StreamingResponseDTO.decide` takes it.
        round: of the turn, from 1.
        agent: the name of the agent.
        call_id: of the turn, as in ``recorder.calls``.
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
    """The calls of one turn that wait for whoever can be asked: a view in a page, or code of the user's."""

    def __init__(self) -> None:
        self._askable: set[object] = set()
        self._waiting: dict[str, _PendingCall] = {}

    @property
    def requests(self) -> tuple[ApprovalRequest, ...]:
        """What waits, oldest first."""
        return tuple(waiting.request for waiting in self._waiting.copy().values())

    @property
    def can_ask(self) -> bool:
        return bool(self._askable)

    def join(self, somebody: object) -> None:
        """From now on ``somebody`` can be asked."""
        self._askable.add(somebody)

    def leave(self, somebody: object) -> None:
        """When nobody is left, what waits is not decided any more."""
        self._askable.discard(somebody)
        if not self._askable:
            for waiting in self._waiting.values():
                waiting.settle(None)

    async def ask(self, request: ApprovalRequest, problem_with: Callable[[Any], str | None]) -> Approval | None:
        """The decision, or None when nobody is left who could be asked.

        Args:
            problem_with: says what is wrong with edited arguments; such a decision is not taken.
        """
        waiting = self._waiting[request.tool_call_id] = _PendingCall(request, problem_with)
        try:
            return await waiting.decided
        finally:
            del self._waiting[request.tool_call_id]

    def check(self, tool_call_id: str, approval: Approval) -> Callable[[], None]:
        """A function that makes the decision known; it is to be called on the turn's event loop.

        Raises:
            ApprovalError: no such call waits, or the arguments do not fit.
        """
        waiting = self._waiting.get(tool_call_id)
        if waiting is None:
            known = ", ".join(repr(known) for known in self._waiting.copy()) or "none"
            raise ApprovalError(f"No call {tool_call_id!r} waits for approval; waiting: {known}")
        problem = waiting.problem_with(approval.arguments) if approval.arguments is not None else None
        if problem is not None:
            raise ApprovalError(f"The call still waits. {problem}")
        return lambda: waiting.settle(approval)


class _PendingCall:
    def __init__(self, request: ApprovalRequest, problem_with: Callable[[Any], str | None]) -> None:
        self.request, self.problem_with = request, problem_with
        self.decided: asyncio.Future[Approval | None] = asyncio.get_running_loop().create_future()

    def settle(self, approval: Approval | None) -> None:
        """The first decision holds."""
        if not self.decided.done():
            self.decided.set_result(approval)


async def get_decision(approve: Approver, request: ApprovalRequest) -> Approval:
    """What ``approve`` decides; a synchronous one runs off the event loop.

    Raises:
        ApprovalError: it raised something, or what it returned is no decision.
    """
    request_of_its_own = copy.deepcopy(request)
    outcome = await _call_approver(approve, request_of_its_own)
    if isinstance(outcome, ApprovalError):
        raise outcome
    if isinstance(outcome, BaseException):
        raise ApprovalError(f"approve= failed with {error_in_words(outcome)}") from outcome
    return Approval.of(outcome)


async def _call_approver(approve: Approver, request: ApprovalRequest) -> Any:
    def call() -> Any:
        try:
            return approve(request)
        except BaseException as error:  # raised here, it would end a thread that nobody listens to
            return error

    is_async = inspect.iscoroutinefunction(approve) or inspect.iscoroutinefunction(type(approve).__call__)
    outcome = call() if is_async else await run_in_thread(call, f"approve {request.tool}")
    if not inspect.isawaitable(outcome):
        return outcome
    # A task of its own: what it cancels in there is its failure, and not the turn's end.
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
    except SystemExit as error:  # the event loop would raise it
        return error
