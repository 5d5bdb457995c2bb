"""The base class of wrappers around a provider: throttling, recorded answers, fallbacks."""

from __future__ import annotations

import copy
from collections.abc import AsyncGenerator
from typing import Self

from ..core.events import Event, ReplySource
from ..core.preview import RequestPreview
from ..core.provider import ChatRepository, ChatRequest, ToolCallRunner

__all__ = ["ProviderWrapper"]


class ProviderWrapper(ChatRepository):
    """A provider that passes everything on to another one. Subclasses override what they change.

    `round_trip` sees each request of a turn and every event of its answer; `wrap_tools` sees each tool call with
    the decision on its approval. A wrapper that overrides both can record whole turns and replay them.
    `ChatRequest` says which turn and round it belongs to, so one wrapper serves any number of turns at once.

    A wrapper that changes requests overrides `preview`, too, which shows what is sent.

    Only a call that somebody was asked about has an `ApprovalDecided`; others that are rejected just finish with
    that status. `CreateAgent.map` asks a shallow copy (`without_retries`), so share what you count in an object.
    The wrapper belongs to its agent: a variant with another provider, and a saved conversation that is loaded, are
    without it.

    Args:
        inner: the provider, or another wrapper.

    Example:
        >>> class Logged(ProviderWrapper):
        ...     async def round_trip(self, request):
        ...         print("asks", request.model)
        ...         async with aclosing(self.inner.round_trip(request)) as events:
        ...             async for event in events:
        ...                 yield event
        >>> agent = CreateAgent(Logged(make_repository("openai")), "gpt-6-luna")
    """

    def __init__(self, inner: ChatRepository) -> None:
        self.inner = inner
        self.provider, self.server, self.base_url = inner.provider, inner.server, inner.base_url
        self.default_model, self.unsupported_config = inner.default_model, inner.unsupported_config
        self.price_provider, self.telemetry_provider = inner.price_provider, inner.telemetry_provider

    def round_trip(self, request: ChatRequest) -> AsyncGenerator[Event, None]:
        return self.inner.round_trip(request)

    def preview(self, request: ChatRequest) -> RequestPreview:
        return self.inner.preview(request)

    async def models(self) -> list[str]:
        return await self.inner.models()

    async def context_window(self, model: str) -> int | None:
        return await self.inner.context_window(model)

    async def first_concurrency(self) -> int | None:
        return await self.inner.first_concurrency()

    async def max_concurrency(self) -> int | None:
        return await self.inner.max_concurrency()

    def without_retries(self) -> Self:
        """This wrapper around the provider without its own retries."""
        other = copy.copy(self)
        other.inner = self.inner.without_retries()
        return other

    def reply_sources(self, model: str) -> frozenset[ReplySource]:
        return self.inner.reply_sources(model)

    def wrap_tools(self, run: ToolCallRunner, turn_id: str) -> ToolCallRunner:
        return self.inner.wrap_tools(run, turn_id)
