"""The one thing a provider implements: a round trip, request in, events out."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from .events import Event
from .messages import Message

if TYPE_CHECKING:
    from ..agent.agent import Agent
    from ..tools.tool import BaseTool

__all__ = ["ChatRepository", "ChatRequest"]


@dataclass(frozen=True, slots=True)
class ChatRequest:
    """One request to a model, provider-neutral.

    Attributes:
        model: the model's name as the provider knows it.
        messages: the whole conversation, instructions first.
        tools: what the model may ask for.
        config: validated options, see `createagents_nb.create_agent.CreateAgent`.
    """

    model: str
    messages: Sequence[Message]
    tools: Sequence[BaseTool] = ()
    config: Mapping[str, Any] = field(default_factory=dict)


class ChatRepository(ABC):
    """A provider. Holds no state of a stream: one instance serves any number of turns at once."""

    provider: str
    """Name of the provider, as it stands in the recorder."""
    server: str | None = None
    """Host name of the server that is asked, as it stands in the recorder."""

    @abstractmethod
    def round_trip(self, request: ChatRequest) -> AsyncGenerator[Event, None]:
        """Send one request; text as it comes, other events, and `RoundEnded` last.

        Raises:
            ProviderError: translated from whatever the SDK, the network or the server raised.
        """

    @abstractmethod
    async def models(self) -> list[str]:
        """Names of the models the server offers.

        Raises:
            ProviderError: the server cannot be asked.
        """

    async def chat(self, agent: Agent, message: str) -> AsyncGenerator[str, None]:
        """The text of a whole turn, tools included, piece by piece; closing the generator stops the turn.

        Example:
            >>> async for token in OpenAIChatAdapter().chat(agent, "Hello"):
            ...     print(token, end="")
        """
        from ..agent.chat import ChatWithAgentUseCase  # the loop needs this interface, so it is imported late

        response = await ChatWithAgentUseCase(self).execute(agent, message)
        try:
            async for token in response:
                yield token
        finally:
            await response.aclose()
