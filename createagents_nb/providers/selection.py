"""Which provider and model an agent gets, from its arguments or from what this machine has."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from ..core.provider import ChatRepository
from ..errors import ConfigurationError, ProviderError, UnknownProviderError
from ..redaction import Secret
from .addresses import is_private_address
from .ollama_models import is_ollama_at
from .presets import missing_key
from .registry import (
    DEFAULT_PROVIDER,
    default_model,
    find_provider,
    has_key,
    is_preset,
    is_provider,
    local_models,
    make_repository,
    provider_names,
    provider_of_client,
    takes_address,
)
from .servers import SERVERS, ServerFacts
from .sockets import is_socket

__all__ = [
    "Connection",
    "ModelChoice",
    "check_model",
    "connect",
    "is_address",
    "is_new_message",
    "notebook_default",
    "provider_at",
    "reset",
    "resolve_model",
    "set_notebook_default",
    "split_model",
]

ENVIRONMENT = "CREATEAGENTS_NB_MODEL"


@dataclass(frozen=True, slots=True)
class ModelChoice:
    """A provider and a model; ``why`` is a line for the user if neither was asked for.

    Attributes:
        base_url: the server's address, if it was chosen, too.
    """

    provider: str
    model: str
    why: str | None = None
    base_url: str | None = None


@dataclass(frozen=True, slots=True)
class Connection:
    """A provider that can be asked.

    Attributes:
        repository: the provider.
        provider: its name, or ``repository`` if the user made that.
        model: the model to ask.
        base_url: the server's address, if the user or the environment names it.
        why: a line for the user if neither provider nor model was asked for.
    """

    repository: ChatRepository
    provider: str | ChatRepository
    model: str
    base_url: str | None = None
    why: str | None = None


_notebook: ModelChoice | None = None
"""The choice of ``%agent use``."""
_last_message: str | None = None
"""The last line about a choice that was shown."""


def reset() -> None:
    """Forget the choice for the notebook, and the last line about a choice."""
    set_notebook_default(None)


def notebook_default() -> ModelChoice | None:
    return _notebook


def set_notebook_default(choice: ModelChoice | None) -> None:
    """Set what `resolve_model` falls back to first; ``%agent use`` does."""
    global _notebook, _last_message
    _notebook, _last_message = choice, None


def is_new_message(why: str) -> bool:
    """Whether this line differs from the last one: it is shown once, until the choice changes."""
    global _last_message
    is_new, _last_message = why != _last_message, why
    return is_new


def connect(
    provider: str | ChatRepository | None,
    model: str | None,
    *,
    limits: Mapping[str, Any],
    base_url: str | None = None,
    client: Any = None,
    **bound: Any,
) -> Connection:
    """Make the provider that the arguments of `CreateAgent` ask for.

    Args:
        limits: ``timeout_s`` (seconds) and ``max_retries``.
        bound: other arguments meant for one server: ``api_key``.

    Raises:
        ConfigurationError: arguments that exclude each other, or an object without a model; and as `resolve_model`
            and the provider's constructor.
    """
    if isinstance(provider, ChatRepository):
        _check_excluded("provider=… is an object, which", base_url=base_url, client=client, **bound)
        name = getattr(provider, "provider", None)
        if not (isinstance(name, str) and name.strip()):
            raise ConfigurationError(f"{type(provider).__name__} needs a class attribute `provider`: its name")
        return Connection(provider, provider, _model_of(provider, model), provider.base_url)
    if client is not None:
        _check_excluded("client=… is made with its own key and address, so it", **bound, base_url=base_url)
        name = provider_of_client(client)
        provider, model = split_model(provider, model)
        if provider is not None and find_provider(provider).client != find_provider(name).client:
            raise ConfigurationError(
                f"client={type(client).__name__}(…) is for the provider {name!r}, not {provider!r}"
            )
        name = provider or name
        key = getattr(client, "api_key", None)
        if isinstance(key, str):
            Secret(key).mask()
        repository = make_repository(name, client=client, **limits)
        return Connection(repository, name, _model_of(repository, model), repository.base_url)
    choice = resolve_model(provider, model, base_url=base_url, **bound)
    base_url = base_url or choice.base_url
    repository = make_repository(choice.provider, base_url=base_url, **limits, **bound)
    # An address that the environment names counts only for a provider that takes one.
    address = base_url or (find_provider(choice.provider).address if takes_address(choice.provider) else None)
    # The provider has checked it, so it is not secret anymore.
    return Connection(repository, choice.provider, choice.model, address and str.__str__(address), choice.why)


def _check_excluded(reason: str, **arguments: Any) -> None:
    given = [name for name, value in arguments.items() if value is not None]
    if given:
        raise ConfigurationError(f"{reason} takes no {' and no '.join(given)}: leave {' and '.join(given)} out")


def _model_of(repository: ChatRepository, model: str | None) -> str:
    model = repository.default_model if model is None else model
    if not (isinstance(model, str) and model.strip()):
        raise ConfigurationError(
            f"Name a model: the provider {repository.provider!r} has no default, as in CreateAgent(…, model='…')"
        )
    return model


def resolve_model(
    provider: str | None, model: str | None, *, base_url: str | None = None, **bound: Any
) -> ModelChoice:
    """Provider and model, from the arguments or from what this machine has.

    In this order: the arguments (``model="openai:gpt-6-luna"`` names both), what ``%agent use`` set, the
    environment variable ``CREATEAGENTS_NB_MODEL``, OpenAI when its key or ``OPENAI_BASE_URL`` is set, a local
    Ollama that answers, the one server of the table whose key is set, the demo provider. Where no model is named,
    a server at home is asked which it serves.

    Args:
        bound: other arguments meant for one server: ``api_key``, ``headers``, ``query``.

    Raises:
        UnknownProviderError: no provider has this name.
        MissingKeyError: the model names a server whose key is not set, and would go to one that cannot have it.
        ConfigurationError: a model must be named, is not a string, or the demo provider would be asked for a model
            that it does not have.
    """
    named = _named_server(model) if isinstance(model, str) else None
    if base_url is not None and provider is None and named is not None and named.needs_key:
        provider = DEFAULT_PROVIDER  # the address says where, so that this is the name of a model, as Ollama's are
    else:
        provider, model = split_model(provider, model)
    if provider is None and base_url is not None:
        provider = DEFAULT_PROVIDER
    if provider is not None:
        if base_url is not None and find_provider(provider).embedded:
            raise ConfigurationError(
                "The demo provider has its own address: leave base_url out, or use provider='openai' with it"
            )
        return ModelChoice(provider, model or _default_model(provider, base_url, **bound))
    if _notebook is not None:
        check_model(_notebook.provider, model, _notebook.base_url)
        return ModelChoice(_notebook.provider, model or _notebook.model, base_url=_notebook.base_url)
    if os.environ.get(ENVIRONMENT):
        return _from_environment(model)
    return _from_machine(model)


def is_address(text: str) -> bool:
    """Whether a text is meant as a server's address and not as a provider's name."""
    return "://" in text.partition(" ")[0] or is_socket(text)


def provider_at(address: str) -> str:
    """The provider for a server of which only the address is known: Ollama where it answers as such, else OpenAI.

    An address that ends in ``/v1`` is that of OpenAI's API, which Ollama has, too.
    """
    path = urlsplit(address).path.strip("/") if "://" in address else ""
    return "ollama" if not path and is_private_address(address) and is_ollama_at(address) else DEFAULT_PROVIDER


def check_model(provider: str, model: str | None, base_url: str | None = None) -> None:
    """Check a model for a provider that was not named: a model of OpenAI's may not go to the demo provider.

    Args:
        base_url: the address of a server that may have any model.

    Raises:
        MissingKeyError: it names another server, whose key is not set.
        ConfigurationError: the provider does not have it; the message says what to do.
    """
    named, asked = _named_server(model), SERVERS.get(provider)
    if named is not None and (
        provider == "demo"
        or (asked is not None and asked.needs_key and not (base_url or find_provider(provider).address))
    ):
        raise missing_key(named, model)
    if model is None or provider != "demo":
        return
    from ..demo.conversation import MODELS, canonical_model  # needed only if a model alone is named

    if canonical_model(model) is None:
        raise ConfigurationError(
            f"The demo provider is in use here, and has no model {model!r} (it has {', '.join(MODELS)}). Name the "
            f"provider, too: 'openai:{model}', in a cell `%%agent -m openai:{model}` or `-p openai`"
        )


def split_model(provider: str | None, model: str | None) -> tuple[str | None, str | None]:
    """Provider and model, if one of them names both: ``"openai:gpt-6-luna"``.

    A model's own colon is left alone: Ollama may have a model ``demo:latest``. A model names a server of the table
    only if that server's key is set, or if it needs none: ``mistral:7b`` is a model of Ollama's, too.

    Raises:
        UnknownProviderError, ConfigurationError: the provider or the model is not a name.
    """
    for name, value in (("provider", provider), ("model", model)):
        if value is not None and not (isinstance(value, str) and value.strip()):
            kind = UnknownProviderError if name == "provider" else ConfigurationError
            raise kind(f"{name} must be a name, not {value!r}. Providers: {', '.join(provider_names())}")
    if model is None and provider is not None and is_provider(provider.partition(":")[0]):
        prefix, _, rest = provider.partition(":")
        return prefix, rest or None
    prefix, colon, rest = (model or "").partition(":")
    if colon and is_provider(prefix) and (provider == prefix or (provider is None and _is_meant(prefix))):
        return prefix, rest or None
    return provider, model


def _named_server(model: str | None) -> ServerFacts | None:
    """The server of the table that a model names; maybe it only begins like one."""
    prefix, colon, _ = (model or "").partition(":")
    return SERVERS[prefix] if colon and is_preset(prefix) else None


def _is_meant(prefix: str) -> bool:
    """Whether a provider's name before a model's is one, where the provider is not named apart."""
    return not is_preset(prefix) or not SERVERS[prefix].needs_key or has_key(prefix)


def _default_model(provider: str, base_url: str | None = None, **bound: Any) -> str:
    if _notebook is not None and _notebook.provider == provider and base_url is None:
        return _notebook.model
    served = _served_model(provider, base_url, **bound)
    if served is not None:
        return served
    model = default_model(provider)
    if model is not None:
        return model
    names = local_models(provider)
    if names:
        return names[0]
    if find_provider(provider).local_models is None:
        raise ConfigurationError(
            f"Name a model: CreateAgent({provider!r}, '…'); `%agent models {provider}` lists what is there"
        )
    raise ConfigurationError(
        f"Name a model: CreateAgent({provider!r}, 'llama3.2'). `ollama list` shows what is there; "
        "if Ollama does not run, start it with `ollama serve`"
    )


def _served_model(provider: str, base_url: str | None, **bound: Any) -> str | None:
    """The model of a server at home; None if it is no such server, or if there is a default besides.

    Raises:
        ConfigurationError: it has several, refuses to say, or does not answer.
    """
    row = SERVERS.get(provider)
    if provider == DEFAULT_PROVIDER:
        is_asked = bool(base_url or find_provider(provider).address)
    else:
        is_asked = base_url is not None if row is None else row.runs_at_home
    if not is_asked:
        return None
    repository = make_repository(provider, base_url=base_url, **bound)
    refusal = None
    try:
        names = repository.served_models()
    except ProviderError as error:
        names, refusal = [], str(error)
    if names is None:
        return None
    if len(names) == 1 or (names and provider == "ollama"):
        return names[0]
    fallback = default_model(provider)
    if fallback is not None and (fallback in names or (base_url is None and has_key(provider))):
        return None
    at = repository.base_url or (row.base_url if row is not None else None)
    if names:
        shown = ", ".join(names[:12]) + (f", … ({len(names)} in all)" if len(names) > 12 else "")
        raise ConfigurationError(f"The server at {at} has several models: {shown}. Name one, with model=…")
    if refusal is not None:
        raise ConfigurationError(refusal)
    if base_url is None and provider != DEFAULT_PROVIDER:
        raise ConfigurationError(
            f"Name a model: CreateAgent({provider!r}, '…'); `%agent models {provider}` lists what is there. "
            f"No server answers at {at} now"
        )
    raise ConfigurationError(
        f"No server at {at} says which model it serves. Start it, correct base_url, or name a model with model=…"
    )


def _from_environment(model: str | None) -> ModelChoice:
    named = os.environ[ENVIRONMENT]
    prefix, colon, rest = named.partition(":")
    if not colon or not is_provider(prefix):
        raise UnknownProviderError(
            f"{ENVIRONMENT}={named!r} must be PROVIDER:MODEL, with a provider of {', '.join(provider_names())}"
        )
    check_model(prefix, model)
    return ModelChoice(prefix, model or rest or _default_model(prefix))


def _from_machine(model: str | None) -> ModelChoice:
    how = "Another: %agent use openai:gpt-6-luna, or CreateAgent(provider=…, model=…)"
    if model is not None and _named_server(model) is not None and model in local_models("ollama"):
        return ModelChoice("ollama", model, f"Using ollama:{model} (the local Ollama has it)\n{how}")
    variable = next(filter(os.environ.get, ("OPENAI_API_KEY", "OPENAI_BASE_URL")), None)
    if variable is not None:
        check_model("openai", model)
        model = model or _default_model("openai")
        return ModelChoice("openai", model, f"Using openai:{model} ({variable} is set)\n{how}")
    names = local_models("ollama")
    if names:
        model = model or names[0]
        return ModelChoice("ollama", model, f"Using ollama:{model} (a local Ollama answers)\n{how}")
    presets = [row for row in SERVERS.values() if row.default_model is not None and has_key(row.name)]
    if len(presets) == 1:
        (row,) = presets
        check_model(row.name, model)
        model = model or _default_model(row.name)
        variable = next(name for name in row.key_variables if os.environ.get(name))
        return ModelChoice(row.name, model, f"Using {row.name}:{model} ({variable} is set)\n{how}")
    if model is not None:
        named = _named_server(model)
        raise (
            missing_key(named, model)
            if named is not None
            else ConfigurationError(
                f"Nobody here can serve {model!r}: set OPENAI_API_KEY, start Ollama (`ollama serve`), or give "
                "provider= and base_url="
            )
        )
    model = _default_model("demo")
    reason = f"keys of {', '.join(row.name for row in presets)}: name one" if presets else "no key, no Ollama"
    return ModelChoice(
        "demo", model, f"Using the built-in demo provider, canned text and no model ({reason})\n{how}"
    )
