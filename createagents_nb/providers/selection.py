"""Which provider and model an agent gets when its maker does not say."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from urllib.parse import urlsplit

from ..errors import ConfigurationError, UnknownProviderError
from . import PROVIDERS, adapter_class

__all__ = [
    "ModelChoice",
    "check_model",
    "is_new_message",
    "notebook_default",
    "resolve_model",
    "set_notebook_default",
    "split_model",
]

ENVIRONMENT = "CREATEAGENTS_NB_MODEL"
_PROBE_TIMEOUT_S = 0.3


@dataclass(frozen=True, slots=True)
class ModelChoice:
    """A provider and a model; ``why`` is a line for the user where neither was asked for."""

    provider: str
    model: str
    why: str | None = None


_notebook: ModelChoice | None = None
_said: str | None = None


def notebook_default() -> ModelChoice | None:
    return _notebook


def set_notebook_default(choice: ModelChoice | None) -> None:
    """What `resolve_model` falls back to first; ``%agent use`` sets it."""
    global _notebook, _said
    _notebook, _said = choice, None


def is_new_message(why: str) -> bool:
    """Whether this line was not the last one said: it is said once, until the choice changes."""
    global _said
    is_new, _said = why != _said, why
    return is_new


def resolve_model(provider: str | None, model: str | None, *, base_url: str | None = None) -> ModelChoice:
    """Provider and model, from the arguments or from what is there.

    In this order: the arguments (``model="openai:gpt-4.1-mini"`` names both), what ``%agent use`` set, the
    environment variable ``CREATEAGENTS_NB_MODEL``, OpenAI when its key is set, a local Ollama that answers, the
    demo provider.

    Raises:
        UnknownProviderError: no provider has this name.
        ConfigurationError: a model must be named, is not a string, or is none of the demo provider's, where that
            is what is there.
    """
    for name, value in (("provider", provider), ("model", model)):
        if value is not None and not (isinstance(value, str) and value.strip()):
            kind = UnknownProviderError if name == "provider" else ConfigurationError
            raise kind(f"{name} must be a name, not {value!r}. Providers: {', '.join(PROVIDERS)}")
    provider, model = split_model(provider, model)
    if provider is None and base_url is not None:
        provider = "openai"
    if provider == "demo" and base_url is not None:
        raise ConfigurationError(
            "The demo provider has its own address: leave base_url out, or use provider='openai' with it"
        )
    if provider is not None:
        return ModelChoice(provider, model or _default_model(provider))
    if _notebook is not None:
        check_model(_notebook.provider, model)
        return ModelChoice(_notebook.provider, model or _notebook.model)
    if os.environ.get(ENVIRONMENT):
        return _from_environment(model)
    return _from_what_is_there(model)


def check_model(provider: str, model: str | None) -> None:
    """That a provider which was not named can have this model: a demo that others took for OpenAI cannot.

    Raises:
        ConfigurationError: it cannot; the message names the way out.
    """
    from ..demo.conversation import MODELS, canonical_model  # needed only where a model alone is named

    if provider == "demo" and model is not None and canonical_model(model) is None:
        raise ConfigurationError(
            f"The demo provider is in use here, and has no model {model!r} (it has {', '.join(MODELS)}). Name the "
            f"provider, too: 'openai:{model}', in a cell `%%agent -m openai:{model}` or `-p openai`"
        )


def split_model(provider: str | None, model: str | None) -> tuple[str | None, str | None]:
    """Provider and model, where one of them names both: ``"openai:gpt-4.1-mini"``.

    A model's own colon is left alone: Ollama may have a model ``demo:latest``.
    """
    if model is None and provider is not None and provider.partition(":")[0] in PROVIDERS:
        prefix, _, rest = provider.partition(":")
        return prefix, rest or None
    prefix, colon, rest = (model or "").partition(":")
    if colon and prefix in PROVIDERS and provider in (None, prefix):
        return prefix, rest or None
    return provider, model


def _default_model(provider: str) -> str:
    if _notebook is not None and _notebook.provider == provider:
        return _notebook.model
    model: str | None = adapter_class(provider).default_model
    if model is None and provider == "ollama":
        names = _ollama_models()
        model = names[0] if names else None
    if model is None:
        raise ConfigurationError(
            f"Name a model: CreateAgent({provider!r}, 'llama3.2'). `ollama list` shows what is there; "
            "if Ollama does not run, start it with `ollama serve`"
        )
    return model


def _from_environment(model: str | None) -> ModelChoice:
    named = os.environ[ENVIRONMENT]
    prefix, colon, rest = named.partition(":")
    if not colon or prefix not in PROVIDERS:
        raise UnknownProviderError(
            f"{ENVIRONMENT}={named!r} must be PROVIDER:MODEL, with a provider of {', '.join(PROVIDERS)}"
        )
    check_model(prefix, model)
    return ModelChoice(prefix, model or rest or _default_model(prefix))


def _from_what_is_there(model: str | None) -> ModelChoice:
    how = "Another: %agent use openai:gpt-4.1-mini, or CreateAgent(provider=…, model=…)"
    if os.environ.get("OPENAI_API_KEY"):
        model = model or _default_model("openai")
        return ModelChoice("openai", model, f"Using openai:{model} (OPENAI_API_KEY is set)\n{how}")
    names = _ollama_models()
    if names:
        model = model or names[0]
        return ModelChoice("ollama", model, f"Using ollama:{model} (a local Ollama answers)\n{how}")
    if model is not None:
        raise ConfigurationError(
            f"Nobody here can serve {model!r}: set OPENAI_API_KEY, start Ollama (`ollama serve`), or give "
            "provider= and base_url="
        )
    model = _default_model("demo")
    return ModelChoice(
        "demo", model, f"Using the built-in demo provider, canned text and no model (no key, no Ollama)\n{how}"
    )


def _ollama_models() -> list[str]:
    """What a local Ollama offers; empty when none answers within a third of a second."""
    host = os.environ.get("OLLAMA_HOST") or "127.0.0.1:11434"
    url = host if "://" in host else f"http://{host}"
    import http.client  # needed only where nothing else was chosen
    import urllib.request

    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        parts = urlsplit(url)
        address = (parts.hostname or "127.0.0.1").replace("0.0.0.0", "127.0.0.1")
        address = f"[{address}]" if ":" in address else address
        port = parts.port or (11434 if "://" not in host else {"https": 443}.get(parts.scheme, 80))
        with opener.open(f"{parts.scheme}://{address}:{port}/api/tags", timeout=_PROBE_TIMEOUT_S) as reply:
            return [str(entry["name"]) for entry in json.load(reply)["models"]]
    except (OSError, ValueError, KeyError, TypeError, http.client.HTTPException):
        return []  # nobody answers, or somebody else
