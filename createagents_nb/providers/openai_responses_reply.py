"""Decodes the bytes of a Responses reply into events."""

from __future__ import annotations

from .openai_reply import OpenAIReplyDecoder

__all__ = ["ResponsesReplyDecoder"]


class ResponsesReplyDecoder(OpenAIReplyDecoder):
    """To come."""
