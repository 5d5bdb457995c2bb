"""What calls were asked with, as it is kept: each message, set of tools and config is stored once."""

from __future__ import annotations

import json
import weakref
from collections.abc import Mapping
from hashlib import blake2b
from typing import Any

from ..core.messages import Message
from ..core.preview import describe_message, mask_json
from ..core.provider import ChatRequest, describe_tools
from ..core.records import CallContext, ContentPolicy, ContextMessage, unescape_json

__all__ = ["ContextKeeper", "message_from_json", "message_json"]

_NOT_KEPT = "(not kept)"


class ContextKeeper:
    """Makes a `CallContext` of the first request of each call.

    Equal parts are one object: a conversation of N turns holds N messages, and calls with the same tools, config
    and history, as those of a batch, share one context.
    """

    def __init__(self) -> None:
        self.clear()

    def clear(self) -> None:
        """Forget everything; contexts that were made stay valid."""
        self._contexts: dict[CallContext, CallContext] = {}
        self._messages: dict[ContextMessage, ContextMessage] = {}
        self.forget_policy()

    def forget_policy(self) -> None:
        """Apply the content policy anew to what comes again."""
        self._seen: dict[int, tuple[weakref.ref[Message], ContextMessage]] = {}
        """Messages that still exist, by id: a history comes again with each turn."""
        self._shared: dict[bytes, str | None] = {}
        """Instructions, tools and configs as they are kept, by a digest of the original, which may hold a key."""

    def keep(self, request: ChatRequest, policy: ContentPolicy) -> CallContext:
        """The context of a call.

        Args:
            request: of its first round: instructions, history, prompt.
            policy: what may be kept of a text.
        """
        *history, _ = request.messages
        system = history.pop(0) if history and history[0].role == "system" else None
        config: dict[str, Any] = dict(request.config)
        if request.output_schema is not None:
            config["output_schema"] = request.output_schema
        if request.tool_choice is not None:
            config["tool_choice"] = request.tool_choice
        tools = [(tool.name, tool.description, tool.parameters) for tool in request.tools]
        context = CallContext(
            system=None if system is None else self._once(system.description, policy),
            history=tuple([self._message(message, policy) for message in history]),
            tools=self._once(_encode(tools), lambda _: _dump(describe_tools(request.tools), policy))
            if tools
            else None,
            config=self._once(_encode(config), lambda _: _dump(config, policy)) if config else None,
        )
        return self._contexts.setdefault(context, context)

    def _once(self, original: str, keep: ContentPolicy) -> str | None:
        """What is kept of a text that calls have in common."""
        digest = blake2b(original.encode("utf-8", "surrogatepass"), digest_size=16).digest()
        if digest not in self._shared:
            self._shared[digest] = keep(original)
        return self._shared[digest]

    def _message(self, message: Message, policy: ContentPolicy) -> ContextMessage:
        seen = self._seen.get(id(message))
        if seen is not None and seen[0]() is message:
            return seen[1]
        described = describe_message(message)
        role, content = described.pop("role"), described.pop("content")
        for call in described.get("tool_calls", ()):
            call["arguments"] = unescape_json(call["arguments"])
        kept = ContextMessage(role, policy(content), _dump(described, policy) if described else None)
        kept = self._messages.setdefault(kept, kept)
        key, seen_here = id(message), self._seen

        def forget(_: object) -> None:
            seen_here.pop(key, None)

        seen_here[key] = weakref.ref(message, forget), kept
        return kept


def _as_json(value: Any) -> Any:
    return dict(value) if isinstance(value, Mapping) else str(value)


_encode = json.JSONEncoder(default=_as_json).encode


def _dump(value: Any, policy: ContentPolicy) -> str:
    def mask(text: str) -> str:
        kept = policy(text)
        return _NOT_KEPT if kept is None else kept

    return json.dumps(mask_json(value, mask), ensure_ascii=False, default=str)


def message_json(message: ContextMessage) -> str:
    """A message as JSON, as files have it."""
    more = json.loads(message.more) if message.more else {}
    return json.dumps({"role": message.role, "content": message.content} | more, ensure_ascii=False)


def message_from_json(text: str) -> ContextMessage:
    """A message of a file.

    Raises:
        ValueError: it is not one.
    """
    value = json.loads(text)
    if not isinstance(value, dict) or not isinstance(value.get("role"), str):
        raise ValueError("no message")
    role, content = value.pop("role"), value.pop("content", None)
    more = json.dumps(value, ensure_ascii=False) if value else None
    return ContextMessage(role, content if isinstance(content, str) else None, more)
