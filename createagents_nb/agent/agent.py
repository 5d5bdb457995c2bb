"""What an agent is: a name, instructions, tools, options and a bounded history. No I/O."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from ..core.messages import MessageContent
from ..core.provider import ChatRepository
from ..tools.approval import Approver
from ..tools.tool import BaseTool
from .chat import ChatWithAgentUseCase
from .history import History
from .response import StreamingResponseDTO

__all__ = ["Agent"]


@dataclass
class Agent:
    """The state of one agent.

    Attributes:
        name: how it is called in the recorder and in the notebook.
        model: the model's name as its provider knows it.
        instructions: the system message, None for none.
        tools: what the model may ask for; names are unique.
        config: validated options of a request.
        history: whole turns, oldest first.
        max_tool_rounds: how often in one turn tools are run and the model is asked again.
        remote_images: whether a notebook may load the images that an answer links to.
        approve: decides on calls of tools that need approval, None for whoever can be asked.
        approval_timeout_s: how long a call waits for that, in seconds.

    Example:
        >>> agent = Agent(name="helper", model="gpt-4.1-mini", instructions="Answer briefly.")
    """

    name: str
    model: str
    instructions: str | None = None
    tools: tuple[BaseTool, ...] = ()
    config: Mapping[str, Any] = field(default_factory=dict)
    history: History = field(default_factory=History)
    max_tool_rounds: int = 20
    remote_images: bool = False
    approve: Approver | None = None
    approval_timeout_s: float = 300.0
    turn_numbers: Iterator[int] = field(default_factory=itertools.count, repr=False)

    def __post_init__(self) -> None:
        # NumPy's strings are no JSON.
        self.name, self.model = str.__str__(self.name), str.__str__(self.model)
        if self.instructions is not None:
            self.instructions = str.__str__(self.instructions)

    async def start_turn(self, repository: ChatRepository, message: MessageContent) -> StreamingResponseDTO:
        """Start a turn with ``repository``; `ChatRepository.chat` calls this.

        Raises:
            InvalidMessageError: the message is empty or not a string; nothing was sent.
        """
        return await ChatWithAgentUseCase(repository).execute(self, message)
