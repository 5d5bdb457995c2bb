"""How much of a model's context a conversation fills, as far as that is known."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ..core.provider import ChatRepository, ChatRequest, describe_tools
from ..core.token_estimate import CHARS_PER_TOKEN, estimate_chars
from ..logging_config import LoggingConfig

__all__ = ["MAX_UNMEASURED", "Context", "request_chars"]

MAX_UNMEASURED = 20
"""Limit for the messages of a history where the model's context is not known."""
_LOOK_FROM_TOKENS = 1_000
"""Shorter conversations fit every model, so no server is asked."""
_ANSWER_TOKENS = 1_000
"""Room for an answer without a ``max_tokens``; at most a quarter of the context."""
_DENSITY_FROM_CHARS = 2_000
"""Shorter requests do not tell how many characters a token has: templates and tools are most of them."""
_PATIENCE_S = 5.0

_logger = LoggingConfig.get_logger(__name__)


@dataclass
class Context:
    """The context of one model, as an agent learns about it.

    Attributes:
        window: its size in tokens, prompt and answer together; None if it is not known.
        is_asked: whether the provider was asked.
        measured: the tokens of the last request that was counted, and its characters.
    """

    window: int | None = None
    is_asked: bool = False
    measured: tuple[int, int] | None = None

    def may_matter(self, message_count: int, chars: int) -> bool:
        """Whether a conversation is so long that the size of the context is worth asking for."""
        return message_count > MAX_UNMEASURED or self.tokens(chars) >= _LOOK_FROM_TOKENS

    async def ask(self, repository: ChatRepository, model: str) -> None:
        """Ask the provider for the size, once; a failure counts as not known."""
        if self.is_asked:
            return
        self.is_asked = True
        try:
            async with asyncio.timeout(_PATIENCE_S):
                window = await repository.context_window(model)
        except Exception as error:
            _logger.info("The context of %s is not known: %s", model, type(error).__name__)
            return
        if isinstance(window, int) and not isinstance(window, bool) and window > 0:
            self.window = window

    def tokens(self, chars: int) -> float:
        """Estimate the tokens of a request: those counted last, and the difference by its characters."""
        if self.measured is None:
            return chars / CHARS_PER_TOKEN
        tokens, measured_chars = self.measured
        density = 1 / CHARS_PER_TOKEN
        if measured_chars >= _DENSITY_FROM_CHARS:
            density = min(max(tokens / measured_chars, density / 2), 1.0)
        return max(tokens + (chars - measured_chars) * density, 0.0)

    @staticmethod
    def room(window: int, config: Mapping[str, Any]) -> float:
        """The tokens that a request may have, so that the answer fits, too."""
        max_tokens = config.get("max_tokens")
        return window - (min(max_tokens, window // 2) if max_tokens else min(_ANSWER_TOKENS, window // 4))


def request_chars(request: ChatRequest) -> int:
    """The characters of a request that fill the context: its messages, and its tools."""
    tools = json.dumps(describe_tools(request.tools), default=str) if request.tools else ""
    return estimate_chars(request.messages) + len(tools)
