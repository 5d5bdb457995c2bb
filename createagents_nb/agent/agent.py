"""The state of one agent: its settings, its history and the count of its turns. No I/O."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, field

from ..core.messages import MessageContent
from ..core.provider import ChatRepository
from .chat import ChatWithAgentUseCase
from .context import Context
from .history import History
from .response import StreamingResponseDTO
from .settings import SharedSettings

__all__ = ["Agent"]


@dataclass
class Agent(SharedSettings):
    """The state of one agent.

    Attributes:
        name: shown in the recorder and the notebook.
        model: the model's name as the provider knows it.
        instructions: the system message; None for none.
        tools: what the model may ask for; names are unique.
        config: validated options of a request.
        history: whole turns, oldest first.
        max_tool_rounds: how often tools run in one turn before it ends with status ``limit``.
        remote_images: whether a notebook may load the images that an answer links to.
        approve: decides on calls of tools that need approval; None for the buttons in the cell.
        approval_timeout_s: seconds until a call that was not decided is rejected.
        turn_numbers: counts the turns, in the order in which they start.
        context: what is known of the context of the model.
        notices: texts of the notices that were passed on.

    Example:
        >>> agent = Agent(name="helper", model="gpt-6-luna", instructions="Answer briefly.")
    """

    history: History = field(default_factory=History)
    turn_numbers: Iterator[int] = field(default_factory=itertools.count, repr=False, kw_only=True)
    context: Context = field(default_factory=Context, init=False, repr=False)
    notices: set[str] = field(default_factory=set, init=False, repr=False)

    async def start_turn(self, repository: ChatRepository, message: MessageContent) -> StreamingResponseDTO:
        """Start a turn with ``repository``; `ChatRepository.chat` calls this.

        Raises:
            InvalidMessageError: the message is empty or not a string; nothing was sent.
        """
        return await ChatWithAgentUseCase(repository).execute(self, message)
