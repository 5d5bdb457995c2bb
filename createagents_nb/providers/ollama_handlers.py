"""One request to Ollama through the ollama SDK's client, streamed or buffered.

The SDK brings the address, the headers and the connection. Its ``chat`` builds a pydantic object per chunk, so
the request goes through the HTTP client inside it, and the bytes are ours (see `ollama_reply`).
"""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from typing import Any

import msgspec

from ..agent.events import Event
from .ollama_errors import http_client, translated
from .ollama_reply import OllamaReplyDecoder

__all__ = ["OllamaHandler", "OllamaStreamHandler"]


class _Handler:
    streamed: bool

    async def events(
        self, client: Any, body: Mapping[str, Any], *, retries: int = 0
    ) -> AsyncGenerator[Event, None]:
        """Everything in the reply, `RoundEnded` last.

        Args:
            client: an ``ollama.AsyncClient``.
            body: of ``POST /api/chat``; ``stream`` is set here.
            retries: how often it was sent before, for the record.

        Raises:
            ProviderError: translated from what the network or the server raised.
        """
        content = _encoded({**body, "stream": self.streamed})
        async with (
            translated(client, str(body.get("model"))) as on_error,
            http_client(client).stream("POST", "/api/chat", content=content) as reply,
        ):
            if reply.status_code != 200:
                raise on_error(await reply.aread(), reply.status_code)
            decoder = OllamaReplyDecoder(on_error=on_error, retries=retries)
            async for block in reply.aiter_bytes():
                for event in decoder.feed(block):
                    yield event
            for event in decoder.finish():
                yield event


def _encoded(body: dict[str, Any]) -> bytes:
    try:
        return msgspec.json.encode(body)
    except UnicodeEncodeError:  # half a surrogate pair, as in a file's name that is not UTF-8: sent as an escape
        return json.dumps(body).encode()


class OllamaStreamHandler(_Handler):
    """Streamed replies.

    Example:
        >>> handler = OllamaStreamHandler()
        >>> async for token in handler.handle_streaming(AsyncClient(), "llama3.2", messages):
        ...     print(token, end="")
    """

    streamed = True

    async def handle_streaming(
        self, client: Any, model: str, messages: Sequence[Mapping[str, Any]], **options: Any
    ) -> AsyncGenerator[str, None]:
        """The pieces of text of one reply.

        Args:
            client: an ``ollama.AsyncClient``.
            messages: in Ollama's form.
            options: anything else in the body of ``POST /api/chat``.
        """
        body = {"model": model, "messages": list(messages), **options}
        async with aclosing(self.events(client, body)) as events:
            async for event in events:
                if type(event) is str:
                    yield event


class OllamaHandler(_Handler):
    """Buffered replies.

    Example:
        >>> text = await OllamaHandler().handle_non_streaming(AsyncClient(), "llama3.2", messages)
    """

    streamed = False

    async def handle_non_streaming(
        self, client: Any, model: str, messages: Sequence[Mapping[str, Any]], **options: Any
    ) -> str:
        """The text of one reply; arguments as in `OllamaStreamHandler.handle_streaming`."""
        body = {"model": model, "messages": list(messages), **options}
        return "".join([event async for event in self.events(client, body) if isinstance(event, str)])
