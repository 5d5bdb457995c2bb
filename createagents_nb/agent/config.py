"""Options of a request: which keys exist, what their values must be."""

from __future__ import annotations

import copy
import difflib
from collections.abc import Collection, Mapping
from typing import Any

from ..errors import UnknownConfigKeyError, UnsupportedConfigError

__all__ = ["CONFIG_KEYS", "validate_config"]


def _number(low: float, high: float = float("inf")) -> Any:
    return lambda value: type(value) in (int, float) and low <= value <= high


def _count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


def _stops(value: object) -> bool:
    return isinstance(value, str) or (
        isinstance(value, list | tuple) and all(isinstance(item, str) for item in value)
    )


# key -> (what a value must be, in words; the check)
CONFIG_KEYS: Mapping[str, tuple[str, Any]] = {
    "extra": ("a dict that is passed to the provider as it is", lambda value: isinstance(value, Mapping)),
    "max_tokens": ("a whole number above 0", _count),
    "num_ctx": ("a whole number above 0", _count),
    "seed": (
        "a whole number",
        lambda value: isinstance(value, int) and not isinstance(value, bool),
    ),
    "stop": ("a string or a list of strings", _stops),
    "stream": ("True or False", lambda value: isinstance(value, bool)),
    "temperature": ("a number of 0 or more", _number(0)),
    "think": ("True, False or a level such as 'low'", lambda value: isinstance(value, bool | str)),
    "top_k": ("a whole number above 0", _count),
    "top_p": ("a number from 0 to 1", _number(0, 1)),
}


def validate_config(
    config: Mapping[str, Any] | None, *, provider: str, unsupported: Mapping[str, str]
) -> dict[str, Any]:
    """A copy of ``config`` without the keys whose value is None.

    Args:
        unsupported: keys that this provider cannot take -> the way out.

    Raises:
        UnknownConfigKeyError: an unknown key (the known ones are listed) or a value that cannot be.
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
        words, is_fine = CONFIG_KEYS[key]
        if not is_fine(value):
            raise UnknownConfigKeyError(f"config[{key!r}] must be {words}, not {value!r}")
        if key in unsupported:
            raise UnsupportedConfigError(f"{provider} cannot take config[{key!r}]: {unsupported[key]}")
        checked[key] = copy.deepcopy(value)
    return checked


def _did_you_mean(name: str, known: Collection[str]) -> str:
    close = difflib.get_close_matches(name, known, n=1)
    return f" (did you mean {close[0]!r}?)" if close else ""
