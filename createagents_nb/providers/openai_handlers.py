"""One request to a Chat Completions server through the openai SDK, streamed or buffered.

The SDK brings the connection, the authentication and the retries; the bytes are ours (see `openai_reply`).
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from typing import Any

from ..agent.events import Event
from .openai_errors import translated
from .openai_reply import OpenAIReplyDecoder

__all__ = ["OpenAIHandler", "OpenAIStreamHandler"]


class _Handler:
    streamed: bool

    async def events(self, client: Any, arguments: Mapping[str, Any]) -> AsyncGenerator[Event, None]:
        """Everything in the reply, `RoundEnded` last.

        Args:
            client: an ``openai.AsyncOpenAI``.
            arguments: of ``client.chat.completions.create``; ``stream`` is set here.

        Raises:
            ProviderError: translated from what the SDK, the network or the server raised.
        """
        arguments = dict(arguments)
        if self.streamed:
            arguments |= {"stream": True}
        else:
            arguments.pop("stream", None)
            arguments.pop("stream_options", None)
        async with (
            translated(client, str(arguments.get("model"))) as on_error,
            client.chat.completions.with_streaming_response.create(**arguments) as reply,
        ):
            decoder = OpenAIReplyDecoder(streamed=self.streamed, on_error=on_error, retries=reply.retries_taken)
            async for block in reply.http_response.aiter_bytes():
                for event in decoder.feed(block):
                    yield event
            for event in decoder.finish():
                yield event


class OpenAIStreamHandler(_Handler):
    """Streamed replies.

    Example:
        >>> handler = OpenAIStreamHandler()
        >>> async for token in handler.handle_streaming(AsyncOpenAI(), "gpt-4.1-mini", messages):
        ...     print(token, end="")
    """

    streamed = True

    async def handle_streaming(
        self, client: Any, model: str, messages: Sequence[Mapping[str, Any]], **options: Any
    ) -> AsyncGenerator[str, None]:
        """The pieces of text of one reply.

        Args:
            client: an ``openai.AsyncOpenAI``.
            messages: in the form of Chat Completions.
            options: anything else that ``create`` takes.
        """
        arguments = {"model": model, "messages": list(messages), **options}
        async with aclosing(self.events(client, arguments)) as events:
            async for event in events:
                if type(event) is str:
                    yield event


class OpenAIHandler(_Handler):
    """Buffered replies.

    Example:
        >>> text = await OpenAIHandler().handle_non_streaming(AsyncOpenAI(), "gpt-4.1-mini", messages)
    """

    streamed = False

    async def handle_non_streaming(
        self, client: Any, model: str, messages: Sequence[Mapping[str, Any]], **options: Any
    ) -> str:
        """The text of one reply; arguments as in `OpenAIStreamHandler.handle_streaming`."""
        arguments = {"model": model, "messages": list(messages), **options}
        return "".join([event async for event in self.events(client, arguments) if isinstance(event, str)])
