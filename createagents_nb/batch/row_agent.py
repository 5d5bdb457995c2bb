"""What answers the rows of a batch."""

from __future__ import annotations

from dataclasses import dataclass

from ..agent.agent import Agent
from ..agent.repository import ChatRepository
from ..agent.tool_executor import ToolExecutor

__all__ = ["RowAgent"]


@dataclass(frozen=True, slots=True)
class RowAgent:
    """An agent without a past, and how it reaches its provider.

    Attributes:
        agent: its history holds nothing, so that rows know nothing of each other.
        repository: a provider that sends no request again by itself: the batch does.
        executor: runs the tools.
        is_named: the user gave the agent its name.
        timeout_s, max_retries: as in `CreateAgent`.
        base_url: the server's address, None for the provider's own.
        has_own_key: the key was given in code.
    """

    agent: Agent
    repository: ChatRepository
    executor: ToolExecutor
    is_named: bool = True
    timeout_s: float = 120.0
    max_retries: int = 2
    base_url: str | None = None
    has_own_key: bool = False
