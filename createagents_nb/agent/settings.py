"""The settings of an agent, declared once. Code that shows, copies, saves, loads or sends them reads this list."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Mapping
from dataclasses import FrozenInstanceError, dataclass, field, fields
from typing import Any, Final, Literal, TypeAlias

from ..core.provider import ChatRepository
from ..core.records import RecordSink
from ..errors import ConfigurationError
from ..redaction import ApiKey, SecretFunction, holds_key, mask_keys
from ..tools.approval import Approver
from ..tools.result_text import MAX_RESULT_CHARS
from ..tools.tool import BaseTool

__all__ = [
    "MAX_SAVED_SECONDS",
    "SETTINGS",
    "AgentSettings",
    "Kind",
    "Setting",
    "SharedSettings",
    "Use",
    "check_arguments",
    "select",
]

Kind: TypeAlias = Literal[
    "address",
    "approver",
    "choice",
    "config",
    "count",
    "flag",
    "key",
    "name",
    "object",
    "pairs",
    "seconds",
    "text",
    "tools",
]
"""The kind of values that a setting takes. ``choice``, ``pairs`` and ``tools`` are checked where they are used."""


Use: TypeAlias = Literal["secret", "listed", "saved", "believed", "travels", "limit", "bound", "optional"]
"""A use of a setting; see `Setting`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """How a setting may be used.

    Attributes:
        kind: the kind of its values.
        secret: never shown, saved or sent.
        listed: part of `CreateAgent.get_configs`.
        saved: written to conversation files.
        believed: taken from a conversation file. False for settings that could send keys or data elsewhere.
        travels: sent to Dask workers.
        limit: passed to every provider.
        bound: meant for one server: passed to its provider, and not to another one.
        optional: a count that may be None.
    """

    kind: Kind
    secret: bool = False
    listed: bool = False
    saved: bool = False
    believed: bool = False
    travels: bool = False
    limit: bool = False
    bound: bool = False
    optional: bool = False

    def __post_init__(self) -> None:
        if self.secret and (self.listed or self.saved or self.travels):
            raise TypeError("a secret setting is neither listed, saved nor sent")


def _setting(kind: Kind, *uses: Use) -> dict[str, Setting]:
    return {"setting": Setting(kind=kind, **dict.fromkeys(uses, True))}


_EVERYWHERE: Final = ("listed", "saved", "believed", "travels")


@dataclass
class SharedSettings:
    """The settings that `Agent` and `AgentSettings` have in common: with a provider, all that a turn needs."""

    name: str = field(metadata=_setting("name", *_EVERYWHERE))
    model: str = field(metadata=_setting("choice", *_EVERYWHERE))
    instructions: str | None = field(default=None, metadata=_setting("text", *_EVERYWHERE))
    tools: tuple[BaseTool, ...] = field(default=(), metadata=_setting("tools", *_EVERYWHERE))
    config: Mapping[str, Any] = field(default_factory=dict, metadata=_setting("config", *_EVERYWHERE))
    max_tool_rounds: int = field(default=20, kw_only=True, metadata=_setting("count", *_EVERYWHERE))
    remote_images: bool = field(default=False, kw_only=True, metadata=_setting("flag", "listed", "travels"))
    approve: Approver | None = field(default=None, kw_only=True, metadata=_setting("approver"))
    approval_timeout_s: float = field(default=300.0, kw_only=True, metadata=_setting("seconds", *_EVERYWHERE))

    def __post_init__(self) -> None:
        # NumPy's strings are not JSON.
        strings = {"name": self.name, "model": self.model, "instructions": self.instructions}
        vars(self).update({key: str.__str__(text) for key, text in strings.items() if text is not None})


@dataclass(kw_only=True, repr=False)
class AgentSettings(SharedSettings):
    """All settings of a `CreateAgent`. Frozen: `dataclasses.replace` makes a changed copy.

    Attributes are the arguments of `CreateAgent`, checked and resolved: ``name``, ``provider`` and ``model`` are
    chosen, ``tools`` are `BaseTool` objects, ``base_url`` is also the address that the environment names.
    ``recorder`` is None for the notebook's.
    """

    provider: str | ChatRepository = field(metadata=_setting("choice", *_EVERYWHERE))
    history_max_size: int | None = field(
        default=None, metadata=_setting("count", "optional", "listed", "saved", "believed")
    )
    max_tool_result_chars: int = field(default=MAX_RESULT_CHARS, metadata=_setting("count", *_EVERYWHERE))
    base_url: str | None = field(default=None, metadata=_setting("address", "listed", "saved", "travels", "bound"))
    timeout_s: float = field(default=120.0, metadata=_setting("seconds", *_EVERYWHERE, "limit"))
    max_retries: int = field(default=2, metadata=_setting("count", *_EVERYWHERE, "limit"))
    # Not saved: many hold a key, and some say where a request goes.
    headers: Mapping[str, str | None] | None = field(
        default=None, metadata=_setting("pairs", "listed", "travels", "bound")
    )
    query: Mapping[str, str] | None = field(default=None, metadata=_setting("pairs", "listed", "travels", "bound"))
    api_key: ApiKey | SecretFunction | None = field(default=None, metadata=_setting("key", "secret", "bound"))
    client: Any = field(default=None, metadata=_setting("object", "secret", "bound"))
    recorder: RecordSink | None = field(default=None, metadata=_setting("object"))

    def __setattr__(self, name: str, value: Any) -> None:
        # Not `dataclass(frozen=True)`: `Agent`, which has the same base, may be changed.
        if name in vars(self):
            raise FrozenInstanceError(f"cannot assign to field {name!r}")
        super().__setattr__(name, value)

    @property
    def provider_name(self) -> str:
        return self.provider if isinstance(self.provider, str) else self.provider.provider

    def shared(self) -> dict[str, Any]:
        """The settings that an `Agent` takes."""
        return {shared.name: getattr(self, shared.name) for shared in fields(SharedSettings)}

    def listed(self) -> dict[str, Any]:
        """The settings as `CreateAgent.get_configs` returns them."""
        listed = {name: self._as_data(name) for name in self.select("listed")}
        listed = {name: value for name, value in listed.items() if value is not None or name not in _IF_GIVEN}
        if listed["base_url"] is not None:
            listed["base_url"] = mask_keys(listed["base_url"])
        return dict.fromkeys(_FIRST_LISTED) | listed

    def saved(self) -> dict[str, Any]:
        """The settings that are saved in a conversation file, as JSON values; those that are None are left out."""
        saved = {name: self._as_data(name) for name in self.select("saved")}
        endless = [name for name in saved if SETTINGS[name].kind == "seconds" and saved[name] > MAX_SAVED_SECONDS]
        return {name: value for name, value in saved.items() if value is not None and name not in endless}

    def travelling(self) -> dict[str, Any]:
        """The settings that are sent to Dask workers, to make `AgentSettings` from."""
        plain = {name: self._as_data(name) for name in SETTINGS if SETTINGS[name].kind == "pairs"}
        return self.select("travels") | plain | {"provider": self.provider_name}

    def select(self, use: Use) -> dict[str, Any]:
        """The settings with this use, by their names."""
        return select({name: getattr(self, name) for name in SETTINGS}, use)

    def _as_data(self, name: str) -> Any:
        if name == "provider":
            return self.provider_name
        value = getattr(self, name)
        convert = _AS_DATA.get(SETTINGS[name].kind)
        return value if convert is None else convert(value)


SETTINGS: Mapping[str, Setting] = {each.name: each.metadata["setting"] for each in fields(AgentSettings)}
"""How each setting may be used, by its name."""

MAX_SAVED_SECONDS = 10**9
"""Limit for a timeout in a file, some thirty years. Longer ones are not saved: JSON has no infinity."""

_FIRST_LISTED = (
    "name",
    "provider",
    "model",
    "instructions",
    "config",
    "tools",
    "history_max_size",
    "max_tool_rounds",
)
"""The order of the first keys in `CreateAgent.get_configs`; the others follow."""

_IF_GIVEN = ("headers", "query")
"""Settings that `CreateAgent.get_configs` leaves out where there are none."""


def _names_of(tools: Iterable[BaseTool]) -> list[str]:
    return [tool.name for tool in tools]


def _shown(name: str, value: str | None) -> str | None:
    return "***" if holds_key(name, value) else value and str(value)


_AS_DATA: Mapping[Kind, Callable[[Any], Any]] = {
    "config": lambda config: copy.deepcopy(dict(config)),
    "pairs": lambda pairs: None if pairs is None else {str(name): _shown(name, pairs[name]) for name in pairs},
    "tools": _names_of,
}


def select(settings: Mapping[str, Any], use: Use) -> dict[str, Any]:
    """The entries of ``settings`` that have this use."""
    return {name: value for name, value in settings.items() if getattr(SETTINGS[name], use)}


def check_arguments(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """The settings among ``arguments``, each checked by its kind.

    Raises:
        ConfigurationError: a value has the wrong type or is out of range; the message names the argument.
    """
    checked = {name: value for name, value in arguments.items() if name in SETTINGS}
    for name, value in checked.items():
        check = _CHECKS.get(SETTINGS[name].kind)
        if check is not None and not (value is None and SETTINGS[name].optional):
            check(name, value)
    return checked


def _check_text(name: str, value: object) -> None:
    if value is not None and not isinstance(value, str):
        raise ConfigurationError(f"{name} must be a string, not {type(value).__name__}")


def _check_key(name: str, value: object) -> None:
    if value is not None and not isinstance(value, str | SecretFunction):
        raise ConfigurationError(f"{name} must be a string, not {type(value).__name__}")


def _check_count(name: str, value: object) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise ConfigurationError(f"{name} must be a whole number, 0 or more, not {value!r}")


def _check_seconds(name: str, value: object) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not value > 0:
        raise ConfigurationError(f"{name} must be a number of seconds above 0, not {value!r}")


def _check_flag(name: str, value: object) -> None:
    if not isinstance(value, bool):
        raise ConfigurationError(f"{name} must be True or False, not {value!r}")


def _check_approver(name: str, value: object) -> None:
    if value is not None and not callable(value):
        raise ConfigurationError(f"{name} must be a function that is given the request, not {value!r}")


_CHECKS: Mapping[Kind, Callable[[str, object], None]] = {
    "address": _check_text,
    "approver": _check_approver,
    "count": _check_count,
    "flag": _check_flag,
    "key": _check_key,
    "name": _check_text,
    "seconds": _check_seconds,
    "text": _check_text,
}
