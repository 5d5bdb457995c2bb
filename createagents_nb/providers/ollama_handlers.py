"""One request to Ollama, streamed or buffered: its bytes are ours (see `ollama_reply`)."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from typing import Any

from ..core.events import Event
from ..errors import ProviderError
from .handlers import BufferedHandler, Handler, StreamHandler
from .ollama_endpoint import Endpoint, SdkEndpoint
from .ollama_errors import refusal, translated
from .ollama_reply import OllamaReplyDecoder
from .reply_decoder import finished_anyway, read_to_the_end
from .retries import answered
from .wire_format import encoded

__all__ = ["OllamaHandler", "OllamaStreamHandler"]


class _Requests(Handler):
    async def events(
        self, client: Any, request: Mapping[str, Any], *, max_retries: int = 0
    ) -> AsyncGenerator[Event, None]:
        """Everything in the reply, `RoundEnded` last.

        Args:
            client: an ``ollama.AsyncClient``, or an `Endpoint`.
            request: body of ``POST /api/chat``; ``stream`` is set here.
            max_retries: how often it is sent again when it was not answered.

        Raises:
            ProviderError: translated from what the network or the server raised.
        """
        content = encoded({**request, "stream": self.streamed})
        endpoint = client if isinstance(client, Endpoint) else SdkEndpoint(client)
        async with (
            translated(endpoint, str(request.get("model"))) as on_error,
            answered(endpoint, "/api/chat", content, on_error, max_retries=max_retries) as reply,
        ):
            if reply.status != 200:
                raise await refusal(reply, on_error)
            decoder = OllamaReplyDecoder(on_error=on_error, retries=on_error.retries)
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


class OllamaStreamHandler(_Requests, StreamHandler):
    """Streamed replies.

    Example:
        >>> handler = OllamaStreamHandler()
        >>> async for token in handler.handle_streaming(AsyncClient(), "llama3.2", messages):
        ...     print(token, end="")
    """


class OllamaHandler(_Requests, BufferedHandler):
    """Buffered replies.

    Example:
        >>> text = await OllamaHandler().handle_non_streaming(AsyncClient(), "llama3.2", messages)
    """
