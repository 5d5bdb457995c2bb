"""Arguments that `CreateAgent` does not have, and the place where each belongs.

Users bring the names from other libraries and from the providers' own APIs.
"""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any, TypeVar

from ..errors import UnknownArgumentError
from .config import CONFIG_KEYS

__all__ = ["hide_misplaced", "misplaced_error"]

_Init = TypeVar("_Init", bound=Callable[..., None])

_IN_CONFIG: Mapping[str, str] = {
    "max_completion_tokens": "max_tokens",
    "max_output_tokens": "max_tokens",
    "n_ctx": "num_ctx",
    "num_predict": "max_tokens",
    "reasoning_effort": "think",
    "stop_sequences": "stop",
    "streaming": "stream",
    "thinking": "think",
}
"""Other names of keys of ``config``."""

_IN_EXTRA = (
    "frequency_penalty",
    "keep_alive",
    "logit_bias",
    "logprobs",
    "metadata",
    "min_p",
    "presence_penalty",
    "repeat_penalty",
    "store",
    "top_logprobs",
    "user",
    "verbosity",
)
"""Fields of requests that go into ``config`` as they are."""

_PLACES: Mapping[str, tuple[str, ...]] = {
    "instructions='…'": (
        "system",
        "system_instruction",
        "system_message",
        "system_prompt",
        "instruction",
        "developer",
        "role",
        "persona",
    ),
    "await agent.chat('…')": ("input", "message", "messages", "prompt", "question"),
    "tools=[…]": ("functions", "function", "tool", "plugins", "skills"),
    "config={'tool_choice': …}": ("tool_choice", "function_call"),
    "config={'parallel_tool_calls': …}": ("parallel_tool_calls",),
    "config={'service_tier': …}": ("service_tier",),
    "config={'response_format': …}": ("response_format", "response_schema", "output_schema"),
    "config={'reasoning': …}": ("reasoning",),
    "config={'api': …}": ("api",),
    "config={'server_tools': …}": ("server_tools",),
    "config={'extra': {…}}": ("extra", "extra_body", "model_kwargs", "options"),
    "headers={…}": ("extra_headers", "default_headers", "header", "http_headers"),
    "query={…}": ("extra_query", "default_query", "params"),
    "query={'api-version': '…'}": ("api_version",),
    "headers={'OpenAI-Organization': '…'}": ("organization",),
    "headers={'OpenAI-Project': '…'}": ("project",),
    "timeout_s=…": ("timeout", "request_timeout", "read_timeout"),
    "max_retries=…": ("retries", "num_retries", "max_retry", "retry"),
    "max_tool_rounds=…": ("max_iterations", "max_rounds", "max_steps", "max_turns", "max_tool_calls"),
    "api_key='…'": ("key", "token", "apikey", "api_token", "openai_api_key", "secret", "auth"),
    "api_key=that function": ("azure_ad_token_provider", "token_provider", "api_key_provider"),
    "base_url='…'": (
        "url",
        "address",
        "api_base",
        "azure_endpoint",
        "endpoint",
        "host",
        "openai_api_base",
        "server",
        "uds",
    ),
    "client=…": ("http_client", "async_client", "openai_client"),
    "model='…'": ("azure_deployment", "deployment", "engine", "llm", "model_id", "model_name"),
    "history_max_size=…": ("history", "history_size", "max_history", "memory", "memory_size"),
    "the environment variable HTTPS_PROXY": ("proxy", "proxies"),
    "the environment variable SSL_CERT_FILE": ("verify", "ssl", "ca_certs"),
}


def misplaced_error(names: Iterable[str], known: Collection[str]) -> UnknownArgumentError:
    """Return the error for arguments that `CreateAgent` does not have. Their values are never shown.

    Args:
        known: the names of its arguments.
    """
    return UnknownArgumentError("; ".join(_line(name, known) for name in names))


def _line(name: str, known: Collection[str]) -> str:
    place = _place(name)
    if place is not None:
        return f"CreateAgent has no argument {name!r}: use {place}"
    close = difflib.get_close_matches(name, [*known, *CONFIG_KEYS], n=1)
    if not close:
        return f"CreateAgent has no argument {name!r}. It has {', '.join(known)}"
    right = f"config={{{close[0]!r}: …}}" if close[0] in CONFIG_KEYS else f"{close[0]}=…"
    return f"CreateAgent has no argument {name!r}: did you mean {right}?"


def _place(name: str) -> str | None:
    for place, names in _PLACES.items():
        if name in names:
            return place
    if name in _IN_EXTRA:
        return f"config={{'extra': {{{name!r}: …}}}}"
    key = _IN_CONFIG.get(name, name)
    return f"config={{{key!r}: …}}" if key in CONFIG_KEYS else None


def hide_misplaced(init: _Init) -> _Init:
    """Leave the parameter that takes misplaced arguments out of what help and completion show."""
    signature = inspect.signature(init)
    parameters: list[Any] = [each for each in signature.parameters.values() if each.kind is not each.VAR_KEYWORD]
    vars(init)["__signature__"] = signature.replace(parameters=parameters)
    return init
