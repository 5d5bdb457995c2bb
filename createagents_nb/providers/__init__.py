"""The street outside: a table of names. An adapter is imported when its provider is first used."""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Mapping
from typing import Any

from ..errors import UnknownProviderError

__all__ = ["KEY_VARIABLES", "PROVIDERS", "adapter_class"]

PROVIDERS: Mapping[str, str] = {
    "demo": "demo:DemoChatAdapter",
    "ollama": "ollama_adapter:OllamaChatAdapter",
    "openai": "openai_adapter:OpenAIChatAdapter",
}

KEY_VARIABLES: Mapping[str, str] = {"openai": "OPENAI_API_KEY", "ollama": "OLLAMA_API_KEY"}
"""Where the providers that take a key find it in the environment."""


def adapter_class(provider: str) -> Any:
    """The adapter of a provider.

    Raises:
        UnknownProviderError: no provider has this name; the known ones are listed.
    """
    try:
        module, _, name = PROVIDERS[provider].partition(":")
    except (KeyError, TypeError):
        close = difflib.get_close_matches(str(provider).strip().lower(), PROVIDERS, n=1)
        hint = f" (did you mean {close[0]!r}?)" if close else ""
        raise UnknownProviderError(
            f"Unknown provider {provider!r}{hint}. Known: {', '.join(PROVIDERS)}; "
            "for a compatible server use provider='openai' with base_url=…; a model is named as "
            "CreateAgent('openai', 'gpt-4.1-mini') or model='openai:gpt-4.1-mini'"
        ) from None
    return getattr(importlib.import_module(f".{module}", __name__), name)
