"""How many tokens a conversation has, as far as that is known without the model's tokenizer."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from .messages import ImagePart, Message, TextPart

__all__ = ["CHARS_PER_TOKEN", "estimate_chars", "estimate_tokens"]

CHARS_PER_TOKEN = 4
_TYPICAL_ANSWER_TOKENS = 300
"""Estimate for an answer without a ``max_tokens``."""
_MAX_FILE_CHARS = 40_000
"""Limit for the estimate of a file: how much text is in it is not known."""
_IMAGE_TOKENS = 765
"""Tokens of an image of 1,024 × 1,024 pixels in high detail (OpenAI's vision guide)."""


def estimate_chars(messages: Iterable[Message]) -> int:
    """The length of a conversation in characters; an image counts as the text that costs as many tokens."""
    chars = 0
    for message in messages:
        chars += sum(len(call.name) + len(call.arguments) for call in message.tool_calls)
        for part in message.parts:
            if isinstance(part, TextPart):
                chars += len(part.text)
            elif isinstance(part, ImagePart):
                chars += _IMAGE_TOKENS * CHARS_PER_TOKEN
            else:
                chars += min(len(part.data or b""), _MAX_FILE_CHARS)
    return chars


def estimate_tokens(chars: int, config: Mapping[str, Any]) -> float:
    """Tokens of a request and its answer, before any have been counted: four characters are one token."""
    return chars / CHARS_PER_TOKEN + (config.get("max_tokens") or _TYPICAL_ANSWER_TOKENS)
