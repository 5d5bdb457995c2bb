"""The embedded default: the OpenAI provider, at the address of the server in this process."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from .. import demo
from ..core.provider import ChatRequest
from .openai_adapter import OpenAIChatAdapter
from .openai_request import UNSUPPORTED

__all__ = ["DemoChatAdapter"]


class DemoChatAdapter(OpenAIChatAdapter):
    """Chat Completions against `createagents_nb.demo`; the server starts with the first request.

    Args:
        timeout_s: as in `OpenAIChatAdapter`.
        max_retries: as in `OpenAIChatAdapter`.
        headers: as in `OpenAIChatAdapter`.
        query: as in `OpenAIChatAdapter`.
    """

    provider = "demo"
    price_provider = ""
    default_model = "demo"
    unsupported_config = UNSUPPORTED | {"api": "it has one; leave it out"}
    _uses_proxies = False
    _may_queue = False

    def __init__(
        self,
        *,
        timeout_s: float = 120.0,
        max_retries: int = 2,
        headers: Mapping[str, str | None] | None = None,
        query: Mapping[str, str] | None = None,
        **ignored: object,
    ) -> None:
        super().__init__(
            api_key="demo",
            base_url="http://127.0.0.1/v1",
            timeout_s=timeout_s,
            max_retries=max_retries,
            headers=headers,
            query=query,
        )
        self.base_url = None

    def _body(self, request: ChatRequest) -> dict[str, Any]:
        """Send the tools' own schemas: the demo reads constraints, and no descriptions of them."""
        body = super()._body(request)
        if isinstance(body.get("tools"), list):  # ours come first
            for sent, tool in zip(body["tools"], request.tools, strict=False):
                sent["function"]["parameters"] = dict(tool.parameters)
        return body

    async def _address(self) -> str:
        # Its imports and its thread take some tenths of a second: not on the loop.
        server = await asyncio.to_thread(demo.start)
        return server.openai_url
