"""The guide's handlers, for any provider: the text of one request over a client of the provider's SDK."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from typing import Any, ClassVar

from ..core.events import Event

__all__ = ["BufferedHandler", "Handler", "StreamHandler"]


class Handler(ABC):
    """One request and its reply. Holds no state."""

    streamed: ClassVar[bool]

    @abstractmethod
    def events(self, client: Any, request: Mapping[str, Any]) -> AsyncGenerator[Event, None]:
        """Yield everything in the reply, `RoundEnded` last.

        Args:
            client: an async client of the provider's SDK.
            request: in the provider's own form; ``stream`` is set here.

        Raises:
            ProviderError: translated from what the SDK, the network or the server raised.
        """

    async def _texts(
        self, client: Any, model: str, messages: Sequence[Mapping[str, Any]], options: Mapping[str, Any]
    ) -> AsyncGenerator[str, None]:
        request = {"model": model, "messages": list(messages), **options}
        async with aclosing(self.events(client, request)) as events:
            async for event in events:
                if type(event) is str:
                    yield event


class StreamHandler(Handler):
    """Streamed replies."""

    streamed = True

    async def handle_streaming(
        self, client: Any, model: str, messages: Sequence[Mapping[str, Any]], **options: Any
    ) -> AsyncGenerator[str, None]:
        """Yield the text of one reply as it arrives.

        Args:
            client: an async client of the provider's SDK.
            messages: in the provider's own form.
            options: anything else in the provider's request.

        Raises:
            ProviderError: as for `Handler.events`.
        """
        async with aclosing(self._texts(client, model, messages, options)) as texts:
            async for text in texts:
                yield text


class BufferedHandler(Handler):
    """Buffered replies."""

    streamed = False

    async def handle_non_streaming(
        self, client: Any, model: str, messages: Sequence[Mapping[str, Any]], **options: Any
    ) -> str:
        """Return the text of one reply; arguments and errors as for `StreamHandler.handle_streaming`."""
        return "".join([text async for text in self._texts(client, model, messages, options)])
