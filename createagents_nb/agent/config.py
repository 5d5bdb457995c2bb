"""The options in ``config``: which keys exist, and what their values must be."""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Collection, Iterable, Mapping
from enum import Enum
from typing import Any
from uuid import UUID

from ..errors import UnknownConfigKeyError, UnsupportedConfigError
from ..redaction import Secret, is_secret_name
from ..tools.tool import BaseTool

__all__ = ["CONFIG_KEYS", "check_tool_choice", "validate_config"]

_SCHEMA = frozenset({"type", "$ref", "anyOf", "oneOf", "allOf", "enum", "const"})
"""Keywords that mark a JSON Schema: the schema of an argument named ``token`` is not a secret."""
_SCHEMES = ("basic", "bearer")
"""Authentication schemes before a key in a header; they are not secret."""
_MAX_DEPTH = 40
"""Limit for the nesting of ``extra``; a little below the limit for files of `CreateAgent.save`."""


def _number(low: float, high: float = float("inf")) -> Any:
    return lambda value: type(value) in (int, float) and low <= value <= high


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


def _is_stop(value: object) -> bool:
    return isinstance(value, str) or (
        isinstance(value, list | tuple) and all(isinstance(item, str) for item in value)
    )


def _is_tool(value: object) -> bool:
    return (isinstance(value, str) and bool(value)) or (
        isinstance(value, Mapping) and isinstance(value.get("type"), str)
    )


def _is_choice(value: object) -> bool:
    return isinstance(value, str) and bool(value.strip())


CONFIG_KEYS: Mapping[str, tuple[str, Any]] = {
    "api": ("'responses' or 'chat'", lambda value: value in ("responses", "chat")),
    "extra": ("a dict that is passed to the provider as it is", lambda value: isinstance(value, Mapping)),
    "max_tokens": ("a whole number above 0", _is_count),
    "num_ctx": ("a whole number above 0", _is_count),
    "parallel_tool_calls": ("True or False", lambda value: isinstance(value, bool)),
    "reasoning": ("a dict such as {'effort': 'low', 'summary': 'auto'}", lambda value: isinstance(value, Mapping)),
    "response_format": (
        "a dict such as {'type': 'json_object'}",
        lambda value: isinstance(value, Mapping) and isinstance(value.get("type"), str),
    ),
    "seed": (
        "a whole number",
        lambda value: isinstance(value, int) and not isinstance(value, bool),
    ),
    "server_tools": (
        "a list of names such as 'web_search', or dicts with a 'type'",
        lambda value: isinstance(value, list | tuple) and all(map(_is_tool, value)),
    ),
    "service_tier": ("a string such as 'flex'", _is_choice),
    "stop": ("a string or a list of strings", _is_stop),
    "stream": ("True or False", lambda value: isinstance(value, bool)),
    "temperature": ("a number of 0 or more", _number(0)),
    "think": ("True, False or a level such as 'low'", lambda value: isinstance(value, bool | str)),
    "tool_choice": ("'auto', 'required', 'none' or a tool's name", _is_choice),
    "top_k": ("a whole number above 0", _is_count),
    "top_p": ("a number from 0 to 1", _number(0, 1)),
}
"""For each key, a description of its valid values and a check."""

_CONVERSATION = "the agent keeps the conversation: messages go to agent.chat(…), a system prompt to instructions=…"
_NOT_IN_EXTRA: Mapping[str, str] = {
    "input": _CONVERSATION,
    "instructions": "they are the agent's: CreateAgent(…, instructions='…')",
    "messages": _CONVERSATION,
    "model": "name it as CreateAgent(provider, model) or agent.variant(model=…)",
    "stream": "it is a key of its own: config={'stream': False}",
}
"""Fields of a request that ``extra`` may not replace, and the place where each belongs."""


def validate_config(
    config: Mapping[str, Any] | None, *, provider: str, unsupported: Mapping[str, str]
) -> dict[str, Any]:
    """Check ``config`` and return a copy in JSON types, without the keys whose value is None.

    Strings under a name of keys or passwords become `Secret`.

    Args:
        unsupported: keys that this provider cannot take, and what to do instead.

    Raises:
        UnknownConfigKeyError: an unknown key (the message lists the known ones), or a value that is invalid or
            cannot be sent.
        UnsupportedConfigError: a key that ``provider`` cannot take; it is never dropped silently.
    """
    if config is None:
        return {}
    if not isinstance(config, Mapping):
        raise UnknownConfigKeyError(f"config must be a dict, not {type(config).__name__}")
    checked: dict[str, Any] = {}
    for key, value in config.items():
        if key not in CONFIG_KEYS:
            raise UnknownConfigKeyError(
                f"Unknown config key {key!r}{_did_you_mean(str(key), CONFIG_KEYS)}. "
                f"Known: {', '.join(CONFIG_KEYS)}. Anything else goes into extra={{…}}"
            )
        if value is None:
            continue
        expected, is_valid = CONFIG_KEYS[key]
        if not is_valid(value):
            raise UnknownConfigKeyError(f"config[{key!r}] must be {expected}, not {value!r}")
        if key in unsupported:
            raise UnsupportedConfigError(f"{provider} cannot take config[{key!r}]: {unsupported[key]}")
        if key == "extra":
            _check_extra(value)
        try:
            checked[key] = _sendable(value)
        except ValueError as error:
            raise UnknownConfigKeyError(f"config[{key!r}] cannot be sent as JSON: {error}") from None
    return checked


def check_tool_choice(config: Mapping[str, Any], tools: Iterable[BaseTool]) -> None:
    """Check that ``config["tool_choice"]`` can be fulfilled.

    Raises:
        UnknownConfigKeyError: the agent has no such tool.
    """
    choice = config.get("tool_choice", "auto")
    if choice in ("auto", "none"):
        return
    others = [*config.get("server_tools", ()), *(config.get("extra", {}).get("tools") or ())]
    names = [tool.name for tool in tools]
    names += [tool if isinstance(tool, str) else str(tool.get("name", tool.get("type"))) for tool in others]
    if choice not in names and not (choice == "required" and names):
        raise UnknownConfigKeyError(
            f"config['tool_choice'] is {choice!r}, but the agent has {', '.join(names) or 'no tools'}. "
            "Use 'auto', 'required', 'none' or the name of one of its tools"
        )


def _check_extra(extra: Mapping[str, Any]) -> None:
    for name in extra:
        if isinstance(name, str) and name in _NOT_IN_EXTRA:
            raise UnknownConfigKeyError(f"config['extra'] cannot have {name!r}: {_NOT_IN_EXTRA[name]}")
    tools = extra.get("tools")
    is_list = isinstance(tools, list | tuple) and all(isinstance(each, Mapping) for each in tools)
    if tools is not None and not is_list:
        raise UnknownConfigKeyError(
            "config['extra']['tools'] must be a list of dicts, as the provider has them; functions go to tools=[…]"
        )


def _sendable(value: Any, around: tuple[Any, ...] = (), *, is_secret: bool = False) -> Any:
    """Convert ``value`` to the types that JSON has; subclasses of them are not kept.

    Args:
        around: the dicts and lists that contain it.

    Raises:
        ValueError: it has other types, or is nested too deeply.
    """
    if len(around) > _MAX_DEPTH or any(value is outer for outer in around):
        raise ValueError(f"it is nested more than {_MAX_DEPTH} deep, or holds itself")
    if isinstance(value, str):
        text = str.__str__(value)  # for an enum, its value and not its name
        text.encode()  # half a surrogate pair cannot be sent
        return _masked(text) if text and (is_secret or isinstance(value, Secret)) else text
    if isinstance(value, Mapping):
        return {
            name: _sendable(part, (*around, value), is_secret=is_secret or _is_secret(name, part))
            for name, part in zip(map(_name, value), value.values(), strict=True)
        }
    if isinstance(value, list | tuple):
        return [_sendable(part, (*around, value), is_secret=is_secret) for part in value]
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int):
        return int(value)
    if isinstance(value, float) and math.isfinite(value):
        return float(value)
    if isinstance(value, float):
        raise ValueError(f"it has {value}, and JSON has not")
    if isinstance(value, Enum):
        return _sendable(value.value, (*around, value), is_secret=is_secret)
    if isinstance(value, UUID):
        return str(value)
    raise ValueError(f"it has a value of type {type(value).__name__}: use str, int, float, bool, list or dict")


def _name(key: object) -> str:
    if isinstance(key, str):
        return str.__str__(key)
    if isinstance(key, int) and not isinstance(key, bool):  # a token's number, as in `logit_bias`
        return str(int(key))
    raise ValueError("each key of a dict in it must be a string")


def _is_secret(key: str, part: Any) -> bool:
    if key.lower().endswith("headers") and isinstance(part, Mapping):  # of a server of tools
        return True
    if key.endswith("url") and isinstance(part, str) and re.search(r"//[^/]*@|[?&]\w*(?:key|token|sig)\w*=", part):
        return True
    is_schema = isinstance(part, Mapping) and not _SCHEMA.isdisjoint(part)
    return is_secret_name(key) and not is_schema


def _masked(text: str) -> Secret:
    scheme, _, key = text.rpartition(" ")
    Secret(key).mask()  # a server may repeat it without the first word
    return Secret(text) if scheme.lower() in _SCHEMES else Secret(text).mask()


def _did_you_mean(name: str, known: Collection[str]) -> str:
    close = difflib.get_close_matches(name, known, n=1)
    return f" (did you mean {close[0]!r}?)" if close else ""
