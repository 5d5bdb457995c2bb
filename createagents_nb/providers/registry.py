"""The table of providers: one row for each built-in one; other packages add theirs by an entry point.

To add a server that speaks OpenAI's API, add one row to `createagents_nb.providers.servers`. To add another
provider, write one module with a `ChatRepository` and add one row to ``_BUILT_IN``. In another package, declare an
entry point with the provider's name, whose object is a `ProviderSpec` or the class itself::

    [project.entry-points."createagents_nb.providers"]
    mine = "my_package.adapter:MyChatAdapter"

An adapter is imported when its provider is first used, and a spec also when all are asked for their variables and
clients. One that is broken affects no other.
"""

from __future__ import annotations

import difflib
import importlib
import inspect
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from importlib import metadata
from typing import Any

from ..core.provider import ChatRepository
from ..errors import ConfigurationError, CreateAgentsError, UnknownProviderError
from ..redaction import Secret
from ..text import format_error
from .servers import SERVERS, ServerFacts

__all__ = [
    "DEFAULT_PROVIDER",
    "ENTRY_POINT_GROUP",
    "ProviderSpec",
    "adapter_class",
    "default_model",
    "find_provider",
    "has_key",
    "is_preset",
    "is_provider",
    "key_variables",
    "keys_in_environment",
    "local_models",
    "make_repository",
    "provider_names",
    "provider_of_client",
    "reset",
    "takes_address",
]

ENTRY_POINT_GROUP = "createagents_nb.providers"

DEFAULT_PROVIDER = "openai"
"""The provider of an address or a key that comes without a provider's name."""


@dataclass(frozen=True, slots=True)
class ProviderSpec:
    """One provider.

    Attributes:
        name: how users name it; the adapter's ``provider`` must be the same.
        adapter: its `ChatRepository`, as a class or as ``"module:Class"``, imported when it is first used. It is
            made with those of ``api_key``, ``base_url``, ``timeout_s`` (seconds), ``max_retries`` and
            ``client`` that its constructor takes.
        key_variable: the environment variable with the API key.
        other_key_variables: those that count where that one is not set.
        address_variable: the environment variable with the server's address.
        client: ``"package:Class"`` of the SDK's asynchronous client, if the adapter takes one as ``client=``.
        local_models: ``"module:function"`` that returns the models of a server on this machine, without an
            argument; empty if none answers.
        embedded: whether it runs in this process, at a fixed address and without a key.
        default_model: the model of an agent that names none; None for the adapter's.
        options: further arguments that the adapter is made with.

    Example:
        >>> ProviderSpec("mine", "my_package.adapter:MyChatAdapter", key_variable="MINE_API_KEY")
    """

    name: str
    adapter: str | type[ChatRepository]
    key_variable: str | None = None
    address_variable: str | None = None
    client: str | None = None
    local_models: str | None = None
    embedded: bool = False
    other_key_variables: tuple[str, ...] = ()
    default_model: str | None = None
    options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def key_variables(self) -> tuple[str, ...]:
        """All environment variables with its key; the first that is set counts."""
        return (*filter(None, (self.key_variable,)), *self.other_key_variables)

    @property
    def address(self) -> str | None:
        """The server's address as the environment names it, or None."""
        return os.environ.get(self.address_variable or "", "").strip().strip("\"'").strip() or None


def _spec_of(row: ServerFacts) -> ProviderSpec:
    return ProviderSpec(
        row.name,
        f"{__package__}.openai_adapter:OpenAIAdapter",
        key_variable=next(iter(row.key_variables), None),
        other_key_variables=row.key_variables[1:],
        address_variable=row.address_variable,
        client="openai:AsyncOpenAI",
        default_model=row.default_model,
        options={"server": row.name},
    )


_BUILT_IN: Mapping[str, ProviderSpec] = {
    spec.name: spec
    for spec in (
        *map(_spec_of, SERVERS.values()),
        ProviderSpec(
            "ollama",
            f"{__package__}.ollama_adapter:OllamaChatAdapter",
            key_variable="OLLAMA_API_KEY",
            address_variable="OLLAMA_HOST",
            client="ollama:AsyncClient",
            local_models=f"{__package__}.ollama_models:local_models",
        ),
        ProviderSpec("demo", f"{__package__}.demo:DemoChatAdapter", embedded=True),
    )
}

_entry_points: dict[str, metadata.EntryPoint] | None = None
"""Entry points of other packages by name; None until they are first looked for."""
_loaded: dict[str, ProviderSpec] = {}
"""The entry points that have been loaded."""
_unusable: set[str] = set()
"""Names of the entry points that could not be loaded for a listing; `find_provider` tries them again."""


def reset() -> None:
    """Forget the entry points: packages that were installed meanwhile are found."""
    global _entry_points
    _entry_points = None
    _loaded.clear()
    _unusable.clear()


def provider_names() -> list[str]:
    """All names, sorted; no entry point is loaded for it."""
    return sorted({*_BUILT_IN, *_discovered()})


def is_provider(name: object) -> bool:
    """Whether a provider has this name."""
    return isinstance(name, str) and (name in _BUILT_IN or name in _discovered())


def is_preset(name: str) -> bool:
    """Whether a provider is a server of the table, other than OpenAI."""
    return name in SERVERS and name != DEFAULT_PROVIDER


def has_key(name: str) -> bool:
    """Whether the environment has a key for a provider.

    Raises:
        UnknownProviderError, ConfigurationError: as for `find_provider`.
    """
    return any(map(os.environ.get, find_provider(name).key_variables))


def find_provider(name: str) -> ProviderSpec:
    """The provider of this name.

    Raises:
        UnknownProviderError: no provider has this name; the message lists those that exist.
        ConfigurationError: the entry point of another package is broken; the message names the package.
    """
    if name in _BUILT_IN:
        return _BUILT_IN[name]
    if name not in _discovered():
        names = provider_names()
        close = difflib.get_close_matches(str(name).strip().lower(), names, n=1)
        hint = f" (did you mean {close[0]!r}?)" if close else ""
        raise UnknownProviderError(
            f"Unknown provider {name!r}{hint}. Known: {', '.join(names)}; "
            "for a compatible server use provider='openai' with base_url=…; a model is named as "
            "CreateAgent('openai', 'gpt-6-luna') or model='openai:gpt-6-luna'"
        )
    if name not in _loaded:
        _loaded[name] = _load_entry_point(name)
    return _loaded[name]


def adapter_class(name: str) -> type[ChatRepository]:
    """The adapter of a provider, imported.

    Raises:
        UnknownProviderError, ConfigurationError: as for `find_provider`.
    """
    spec = find_provider(name)
    adapter: Any = spec.adapter
    if isinstance(adapter, str):
        try:
            adapter = _load_object(adapter)
        except (Exception, SystemExit) as error:
            if name in _BUILT_IN:
                raise
            raise _broken(name, f"cannot be loaded: {format_error(error)}") from error
    if not (isinstance(adapter, type) and issubclass(adapter, ChatRepository)):
        raise _broken(name, f"has no ChatRepository as its adapter, but {adapter!r}")
    return adapter


def make_repository(name: str, **arguments: Any) -> ChatRepository:
    """The provider, ready to be asked.

    Args:
        arguments: of the adapter. ``timeout_s`` and ``max_retries`` are left out if its constructor does not take
            them, and so are arguments that are None.

    Raises:
        ConfigurationError: its constructor does not take an argument; or as its constructor and `find_provider`.
    """
    adapter = adapter_class(name)
    try:
        accepted = _parameters_of(adapter)
    except (TypeError, ValueError) as error:
        raise _broken(name, f"has a constructor that cannot be read: {format_error(error)}") from error
    if accepted is not None:
        for argument, value in arguments.items():
            if value is not None and argument not in accepted and argument not in ("timeout_s", "max_retries"):
                raise ConfigurationError(f"The provider {name!r} takes no {argument}")
        arguments = {key: value for key, value in arguments.items() if key in accepted}
    try:
        repository = adapter(**arguments, **find_provider(name).options)
        own_name = getattr(repository, "provider", None)
    except CreateAgentsError:
        raise
    except (Exception, SystemExit) as error:
        if name in _BUILT_IN:
            raise
        raise _broken(name, f"cannot be made: {format_error(error)}") from error
    if own_name != name:
        calls_itself = "has no name" if own_name is None else f"calls itself {own_name!r}"
        raise _broken(name, f"{calls_itself}: its adapter's `provider` must be {name!r}")
    return repository


def default_model(name: str) -> str | None:
    """The model of an agent of this provider that names none; None if one must be named.

    Raises:
        UnknownProviderError, ConfigurationError: as for `adapter_class`.
    """
    model: Any = find_provider(name).default_model
    if model is None and not is_preset(name):
        model = adapter_class(name).default_model
    if model is not None and not _is_text(model):
        raise _broken(name, f"has default_model={model!r}: it must be a name or None")
    return str(model) if model is not None else None


def local_models(name: str) -> list[str]:
    """The models of a server of this provider on this machine; empty if none answers.

    Raises:
        UnknownProviderError, ConfigurationError: as for `find_provider`, or they cannot be listed.
    """
    function = find_provider(name).local_models
    if function is None:
        return []
    try:
        models = list(_load_object(function)())
    except (Exception, SystemExit) as error:
        raise _broken(name, f"cannot list its local models: {format_error(error)}") from error
    if not all(map(_is_text, models)):
        raise _broken(name, f"lists local models that are not names: {models!r}")
    return models


def _is_text(value: object) -> bool:
    return isinstance(value, str) and bool(value.strip())


def takes_address(name: str) -> bool:
    """Whether a provider can be given the address of its server."""
    accepted = _parameters_of(adapter_class(name))
    return accepted is None or "base_url" in accepted


@lru_cache(64)
def _parameters_of(adapter: type[ChatRepository]) -> frozenset[str] | None:
    """The names of the constructor's parameters; None if it takes any."""
    parameters = inspect.signature(adapter).parameters.values()
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters):
        return None
    return frozenset(parameter.name for parameter in parameters)


def provider_of_client(client: object) -> str:
    """The provider whose SDK ``client`` comes from; no SDK is imported for it.

    Raises:
        ConfigurationError: no provider takes such a client.
    """
    classes = [(kind.__module__.partition(".")[0], kind.__qualname__) for kind in type(client).__mro__]
    known = []
    for spec in _specs():
        if spec.client is not None:
            if tuple(spec.client.split(":")) in classes:
                return spec.name
            known.append(spec.client.replace(":", "."))
    raise ConfigurationError(
        f"client must be an asynchronous client of an SDK ({', '.join(dict.fromkeys(known))}), not "
        f"{type(client).__module__}.{type(client).__qualname__}"
    )


def key_variables() -> dict[str, str]:
    """The environment variables with API keys, by provider: the first of each."""
    return {spec.name: spec.key_variable for spec in _specs() if spec.key_variable is not None}


def keys_in_environment() -> list[Secret]:
    """All keys of providers that the environment has."""
    variables = {variable for spec in _specs() for variable in spec.key_variables}
    return [Secret(key) for key in map(os.environ.get, variables) if key]


def _load_object(path: str) -> Any:
    """The object at ``"module:name"``."""
    module, _, name = path.partition(":")
    return getattr(importlib.import_module(module), name)


def _specs() -> Iterator[ProviderSpec]:
    """All providers, the built-in ones first; those of other packages are loaded, and broken ones left out."""
    yield from _BUILT_IN.values()
    for name in _discovered():
        if name not in _unusable:
            try:
                spec = find_provider(name)
            except ConfigurationError:
                _unusable.add(name)
            else:
                yield spec


def _discovered() -> Mapping[str, metadata.EntryPoint]:
    global _entry_points
    if _entry_points is None:
        found: dict[str, metadata.EntryPoint] = {}
        for distribution in metadata.distributions():
            try:
                declared = list(distribution.entry_points.select(group=ENTRY_POINT_GROUP))
            except Exception:  # a package with broken metadata
                continue
            for entry_point in declared:
                found.setdefault(entry_point.name, entry_point)
        _entry_points = {name: entry_point for name, entry_point in found.items() if name not in _BUILT_IN}
    return _entry_points


def _load_entry_point(name: str) -> ProviderSpec:
    try:
        loaded = _discovered()[name].load()
    except (Exception, SystemExit) as error:
        raise _broken(name, f"cannot be loaded: {format_error(error)}") from error
    if isinstance(loaded, ProviderSpec):
        for attribute in ("key_variable", "address_variable", "client", "local_models", "default_model"):
            value = getattr(loaded, attribute)
            if value is not None and not _is_text(value):
                raise _broken(name, f"declares {attribute}={value!r}: it must be a name or None")
        return replace(loaded, name=name)
    if isinstance(loaded, type) and issubclass(loaded, ChatRepository):
        return ProviderSpec(name, loaded)
    raise _broken(name, f"must be a ProviderSpec or a subclass of ChatRepository, not {loaded!r}")


def _broken(name: str, why: str) -> ConfigurationError:
    entry_point = _discovered().get(name)
    if entry_point is None:
        return ConfigurationError(f"The provider {name!r} {why}")
    distribution = entry_point.dist
    package = entry_point.value if distribution is None else distribution.metadata["Name"]
    return ConfigurationError(
        f"The provider {name!r} of the package {package!r} {why}. Upgrade or uninstall {package}; the other "
        "providers work without it"
    )
