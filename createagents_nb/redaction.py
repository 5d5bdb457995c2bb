"""Keys and passwords: strings that do not print themselves, and texts in which they are masked as ``***``.

Three levels of masking: `mask_known_keys` (only keys that agents of this process use), `mask_keys` (also what can
only be a key; for prompts, answers and code), `redact` (also what looks like a key; for errors and logs).
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any, NoReturn, SupportsIndex, TypeAlias

__all__ = [
    "ApiKey",
    "Secret",
    "SecretBytes",
    "SecretFunction",
    "as_api_key",
    "as_secret",
    "as_secret_values",
    "holds_key",
    "is_secret_name",
    "mask_keys",
    "mask_known_keys",
    "redact",
    "reset",
]

_known_keys: tuple[str, ...] = ()
"""Keys that agents of this process use, longest first; `Secret.mask` adds to them, `reset` forgets them."""

# Excludes placeholders such as "lm-studio", "not-needed" and "sk-no-key-required", which are also ordinary text.
_MASKABLE_KEY = re.compile(r"(?s)(?=.*\d).{12,}|.{20,}")

_MIN_SECRET_CHARS = 8
"""Shorter secrets are placeholders and may be words of the text."""

# Formats in which API keys are known to appear.
_SECRET_PATTERN = re.compile(
    r"(?i)(\bbearer\s+)[\w.~+/=-]{6,}"
    r"|\b(?:sk|pk|rk|gsk|xai|hf|AIza)[-_][\w-]{8,}"
    r"|((?:api[-_ ]?key|authorization|x-api-key|token)[\"']?\s*[:=]\s*[\"']?)(?!bearer\b)[\w.~+/=-]{8,}"
)

# Endings of the names of settings that hold secrets, letters only: `x-api-key`, `accessToken`.
_SECRET_ENDINGS = ("key", "authorization", "token", "secret", "password", "passwd", "cookie", "credentials")

_SECRET_HEADER_ENDINGS = ("auth", "credential", "jwt", "passphrase", "pwd", "signature")
"""More endings of the names of headers, and of parts of a query, that hold secrets."""
_SECRET_QUERIES = frozenset({"code", "sig"})
"""Parts of a query that hold secrets, as in addresses of Azure."""

# Settings of requests that end like secrets and are not: `prompt_cache_key`, `eos_token`.
_HARMLESS_ENDINGS = (
    *(f"{word}key" for word in ("cache", "sort", "primary", "partition", "group")),
    *(f"{word}token" for word in ("eos", "bos", "pad", "sep", "unk", "mask", "stop", "start", "end")),
)


class Secret(str):
    """A key: a string whose ``repr`` is ``***``, so that tracebacks and logs do not show it. It cannot be pickled.

    >>> Secret("sk-abcdefgh12345678")
    ***
    """

    __slots__ = ()

    def __repr__(self) -> str:
        return "***"

    def __getitem__(self, index: SupportsIndex | slice) -> Secret:
        return Secret(super().__getitem__(index))  # rich shows the repr of the first 80 characters

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        raise TypeError(
            "A key would travel, and it is never pickled. Make the agent where it is needed, with the key in that "
            "place's environment"
        )

    def __copy__(self) -> Secret:
        return self

    def __deepcopy__(self, memo: object) -> Secret:
        return self

    def mask(self) -> Secret:
        """Make this key known to `redact`, `mask_keys` and `mask_known_keys`, and return it.

        Strings that are likely to be placeholders are left alone: those shorter than 12 characters, and those
        shorter than 20 without a digit.
        """
        global _known_keys
        if self not in _known_keys and _MASKABLE_KEY.fullmatch(self):
            _known_keys = _longest_first({*_known_keys, str(self)})
        return self


ApiKey: TypeAlias = str | Callable[[], str | Awaitable[str]]
"""A key, or a function that returns one, such as ``azure.identity``'s ``get_bearer_token_provider(…)``."""


class SecretFunction:
    """A function that returns a key. It cannot be pickled, and its ``repr`` does not show what is bound to it."""

    __slots__ = ("__weakref__", "function")

    def __init__(self, function: Callable[[], Any]) -> None:
        self.function = function

    def __repr__(self) -> str:
        return "***"

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        raise TypeError("A function that returns a key is never pickled. Make the agent where it is needed")


class SecretBytes(bytes):
    """Bytes that may contain a key; their ``repr`` is ``***``."""

    def __repr__(self) -> str:
        return "***"


def reset() -> None:
    """Forget the keys that agents of this process used. For tests."""
    global _known_keys
    _known_keys = ()


def as_secret(key: Any) -> Any:
    """Convert an argument that may be a key to a `Secret`, so that no stack frame holds it in the clear.

    None stays None. Any other value becomes an object that shows only its type, for the check that rejects it.
    """
    if key is None or isinstance(key, str):
        return key if key is None else Secret(key)
    # Empty and iterable: reprlib, which asyncio uses, goes by the name of a type.
    hidden = {"__repr__": lambda self: "***", "__len__": lambda self: 0, "__iter__": lambda self: iter(())}
    return type(type(key).__name__, (), {**hidden, "__bool__": lambda self: True})()


def as_api_key(key: Any) -> Any:
    """As `as_secret`, but a function becomes a `SecretFunction`."""
    if isinstance(key, SecretFunction):
        return key
    return SecretFunction(key) if callable(key) else as_secret(key)


def as_secret_values(values: Any) -> Any:
    """Convert an argument with headers or a query to a dict whose values no stack frame shows; see `holds_key`.

    None and an empty mapping become None. What is of a wrong type shows only its type, for the check that rejects
    it; a name that no header has is a `Secret`, too: it may be a whole line.
    """
    if not isinstance(values, Mapping):
        return as_secret(values)
    return {_unshown_name(name): as_secret(value) for name, value in values.items()} or None


def _unshown_name(name: Any) -> Any:
    return name if not isinstance(name, str) or re.fullmatch(r"[\w.-]+", name) else Secret(name)


def holds_key(name: str, value: str | None) -> bool:
    """Whether a header, or a part of a query, is a key: by its name, or because it looks like one.

    >>> holds_key("X-Api-Key", "abc"), holds_key("X-Team", "blue")
    (True, False)
    """
    letters = re.sub("[^a-z]", "", name.lower())
    is_secret = is_secret_name(name) or letters.endswith(_SECRET_HEADER_ENDINGS) or letters in _SECRET_QUERIES
    return bool(value) and (is_secret or mask_keys(str(value)) != str(value))


def is_secret_name(name: object) -> bool:
    """Whether a setting of this name holds a key or a password.

    >>> is_secret_name("X-Api-Key"), is_secret_name("max_tokens")
    (True, False)
    """
    letters = re.sub("[^a-z]", "", name.lower()) if isinstance(name, str) else ""
    return letters.endswith(_SECRET_ENDINGS) and not letters.endswith(_HARMLESS_ENDINGS)


def redact(text: str, *secrets: str | None) -> str:
    """Mask everything in ``text`` that is or looks like a key, including ``secrets``.

    For errors and logs. It may mask harmless text too; `mask_keys` does not.

    >>> redact("Authorization: Bearer abcdef123456")
    'Authorization: Bearer ***'
    """
    given = {secret for secret in secrets if secret and len(secret) >= _MIN_SECRET_CHARS}
    if given:
        text = _replace_keys(text, _longest_first({*given, *_known_keys}))
    text = mask_keys(text)
    return _SECRET_PATTERN.sub(lambda match: f"{match[1] or match[2] or ''}***", text)


def mask_known_keys(text: str) -> str:
    """Mask the keys that agents of this process use; text that only looks like a key stays.

    >>> mask_known_keys("sk-abcdefgh12345678")
    'sk-abcdefgh12345678'
    """
    return _replace_keys(text, _known_keys)


def _longest_first(keys: Iterable[str]) -> tuple[str, ...]:
    """Sort keys so that one that begins with another is replaced before it."""
    return tuple(sorted(keys, key=len, reverse=True))


def _replace_keys(text: str, keys: Iterable[str]) -> str:
    for key in keys:
        text = text.replace(key, "***")
    return text


# Patterns for prompts, answers and code, where `token = tokenizer.decode(ids)` must stay: only formats of keys
# alone, with a digit in them, and quoted values after the name of a key. Each is paired with the text it begins
# with: most texts contain none of these, and searching for a substring is a hundred times as fast as matching a
# pattern.
_HAS_DIGIT = r"(?=[\w.~+/=-]{0,40}\d)"

_QUOTED_VALUE = r"\\?[\"']?\s*[:=]\s*\\?[\"'])" + _HAS_DIGIT + r"[\w.~+/=-]{12,}"

_KEY_PREFIXES = (
    *((start, _HAS_DIGIT + r"[\w-]{16,}") for start in ("sk-", "sk_", "pk-", "pk_", "rk-", "rk_")),
    *((start, _HAS_DIGIT + r"[A-Za-z0-9]{20,}") for start in ("gsk_", "hf_", "xai-")),
    *((start, r"[A-Za-z0-9]{20,}") for start in ("ghp_", "gho_", "ghu_", "ghs_", "ghr_")),
    ("github_pat_", r"\w{20,}"),
    ("AIza", r"[\w-]{30,}"),
    *((start, _HAS_DIGIT + r"[\w-]{20,}") for start in ("nvapi-", "csk-")),
    ("AKIA", r"[A-Z0-9]{16}\b"),
    *((start, r"[\w-]{10,}") for start in ("xoxa-", "xoxb-", "xoxp-", "xoxs-")),
    ("eyJ", r"[\w-]{10,}+\.eyJ[\w-]{10,}+\.[\w-]*+"),
)

_NAMED_KEYS = (
    *((word, r"\s+)" + _HAS_DIGIT + r"[\w.~+/=-]{10,}") for word in ("Bearer", "bearer")),
    *((word, r"\s+)(?=[A-Za-z0-9+/]{0,40}\d)[A-Za-z0-9+/]{16,}={0,2}") for word in ("Basic", "basic")),
    *((word, r"[-_ ]?key" + _QUOTED_VALUE) for word in ("api", "Api")),
    *((word, r"[-_ ]?KEY" + _QUOTED_VALUE) for word in ("API",)),
    *((word, _QUOTED_VALUE) for word in ("token", "secret", "password", "authorization")),
    *((word, _QUOTED_VALUE) for word in ("TOKEN", "SECRET", "PASSWORD", "Authorization")),
)

_KEY_PATTERNS = (
    *((start, re.compile(rf"{start}(?<![\w-]{start}){rest}")) for start, rest in _KEY_PREFIXES),
    *((word, re.compile(rf"({word}(?<!\w{word}){rest}")) for word, rest in _NAMED_KEYS),
    ("://", re.compile(r"(://[^\s/:@]{1,100}:)[^\s/:@]{1,200}(?=@)")),
)


def mask_keys(text: str) -> str:
    """Mask API keys, bearer tokens and passwords in URLs, but nothing that could be code.

    For prompts, answers and tool results that are stored.

    >>> mask_keys("key sk-abcdefgh12345678, token = tokenizer.decode(ids)")
    'key ***, token = tokenizer.decode(ids)'
    """
    text = mask_known_keys(text)
    for start, pattern in _KEY_PATTERNS:
        if start in text:
            text = pattern.sub(_mask_match, text)
    return text


def _mask_match(match: re.Match[str]) -> str:
    return f"{match[1]}***" if match.re.groups else "***"
