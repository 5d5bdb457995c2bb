"""One request to a Chat Completions server, streamed or buffered: its bytes are ours (see `openai_reply`)."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from typing import Any

from ..core.events import Event
from ..errors import ProviderError
from .handlers import BufferedHandler, Handler, StreamHandler
from .openai_endpoint import Endpoint, SdkEndpoint
from .openai_errors import translated
from .openai_reply import OpenAIReplyDecoder
from .reply_decoder import finished_anyway, read_to_the_end

__all__ = ["OpenAIHandler", "OpenAIStreamHandler"]


class _Requests(Handler):
    async def events(self, client: Any, request: Mapping[str, Any]) -> AsyncGenerator[Event, None]:
        """Everything in the reply, `RoundEnded` last.

        Args:
            client: an ``openai.AsyncOpenAI``, or an `Endpoint`.
            request: arguments of ``client.chat.completions.create``; ``stream`` is set here.

        Raises:
            ProviderError: translated from what the SDK, the network or the server raised.
        """
        arguments = dict(request)
        if self.streamed:
            arguments |= {"stream": True}
        else:
            arguments.pop("stream", None)
            arguments.pop("stream_options", None)
        endpoint = client if isinstance(client, Endpoint) else SdkEndpoint(client)
        async with (
            translated(endpoint, str(arguments.get("model"))) as on_error,
            endpoint.post(arguments) as reply,
        ):
            on_error.retries = reply.retries
            decoder = OpenAIReplyDecoder(streamed=self.streamed, on_error=on_error, retries=reply.retries)
            block = b""
            try:
                with finished_anyway(decoder):
                    async for block in reply.blocks:
                        for event in decoder.feed(block):
                            yield event
                        if decoder.is_complete:
                            await read_to_the_end(reply.blocks)
                            break
                for event in decoder.finish():
                    yield event
            except ProviderError as error:
                error.__traceback__ = None
                raise
            finally:
                del block  # nor any other frame that a traceback shows: a server may repeat the key


class OpenAIStreamHandler(_Requests, StreamHandler):
    """Streamed replies.

    Example:
        >>> handler = OpenAIStreamHandler()
        >>> async for token in handler.handle_streaming(AsyncOpenAI(), "gpt-4.1-mini", messages):
        ...     print(token, end="")
    """


class OpenAIHandler(_Requests, BufferedHandler):
    """Buffered replies.

    Example:
        >>> text = await OpenAIHandler().handle_non_streaming(AsyncOpenAI(), "gpt-4.1-mini", messages)
    """
