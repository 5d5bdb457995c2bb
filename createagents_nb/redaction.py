"""Our logger and nobody else's: silent by default, secrets redacted."""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import Any, NoReturn, SupportsIndex

__all__ = ["Secret", "SecretBytes", "as_secret", "is_secret_name", "mask_keys", "mask_known_keys", "redact"]

# The shapes under which API keys are known to travel.
_SECRET_PATTERN = re.compile(
    r"(?i)(\bbearer\s+)[\w.~+/=-]{6,}"
    r"|\b(?:sk|pk|rk|gsk|xai|hf|AIza)[-_][\w-]{8,}"
    r"|((?:api[-_ ]?key|authorization|x-api-key|token)[\"']?\s*[:=]\s*[\"']?)(?!bearer\b)[\w.~+/=-]{8,}"
)


_known_keys: frozenset[str] = frozenset()


# "lm-studio", "not-needed" and "sk-no-key-required" are placeholders, and words of the text that they stand in.
_MASKABLE_KEY = re.compile(r"(?s)(?=.*\d).{12,}|.{20,}")


# How the name of a setting that holds a secret ends, its letters alone: `x-api-key`, `accessToken`.
_SECRET_ENDINGS = ("key", "authorization", "token", "secret", "password", "passwd", "cookie", "credentials")


# And what is called so in requests and is none: `prompt_cache_key`, `eos_token`.
_HARMLESS_ENDINGS = (
    *(f"{word}key" for word in ("cache", "sort", "primary", "partition", "group")),
    *(f"{word}token" for word in ("eos", "bos", "pad", "sep", "unk", "mask", "stop", "start", "end")),
)


class Secret(str):
    """A key: a string that no traceback, log or frame shows, and that cannot be pickled.

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
        """From now on `redact` and `mask_keys` know it, whatever it looks like; itself."""
        global _known_keys
        if self not in _known_keys and _MASKABLE_KEY.fullmatch(self):
            _known_keys |= {str(self)}
        return self


class SecretBytes(bytes):
    """Bytes in which a key may be: no traceback shows them."""

    def __repr__(self) -> str:
        return "***"


def as_secret(key: Any) -> Any:
    """An argument that may be a key, as a `Secret`: no frame keeps it in the clear.

    What is no string is refused soon: until then something of the same type's name stands in for it.
    """
    if key is None or isinstance(key, str):
        return key if key is None else Secret(key)
    return type(type(key).__name__, (), {"__repr__": lambda self: "***"})()


def is_secret_name(name: object) -> bool:
    """Whether a setting called so holds a key or a password.

    >>> names_a_secret("X-Api-Key"), names_a_secret("max_tokens")
    (True, False)
    """
    letters = re.sub("[^a-z]", "", name.lower()) if isinstance(name, str) else ""
    return letters.endswith(_SECRET_ENDINGS) and not letters.endswith(_HARMLESS_ENDINGS)


def redact(text: str, *secrets: str | None) -> str:
    """``text`` without keys: the ``secrets`` given, those in use, and whatever looks like one.

    >>> redact("Authorization: Bearer abcdef123456")
    'Authorization: Bearer ***'
    """
    # Shorter ones are placeholders, and words of the message.
    text = _replace_keys(text, {secret for secret in (*secrets, *_known_keys) if secret and len(secret) >= 8})
    return _SECRET_PATTERN.sub(lambda found: f"{found[1] or found[2] or ''}***", text)


# The same in what people and models write, where `token = tokenizer.decode(ids)` is code: only shapes that nothing
# else has, with a digit in them, and what is quoted after the name of a key. They go by how they begin: most texts
# have none of these, and to look for a word takes a hundredth of what a pattern takes.
_HAS_DIGIT = r"(?=[\w.~+/=-]{0,40}\d)"


_QUOTED_VALUE = r"\\?[\"']?\s*[:=]\s*\\?[\"'])" + _HAS_DIGIT + r"[\w.~+/=-]{12,}"


_KEY_PREFIXES = (
    *((start, _HAS_DIGIT + r"[\w-]{16,}") for start in ("sk-", "sk_", "pk-", "pk_", "rk-", "rk_")),
    *((start, _HAS_DIGIT + r"[A-Za-z0-9]{20,}") for start in ("gsk_", "hf_", "xai-")),
    *((start, r"[A-Za-z0-9]{20,}") for start in ("ghp_", "gho_", "ghu_", "ghs_", "ghr_")),
    ("github_pat_", r"\w{20,}"),
    ("AIza", r"[\w-]{30,}"),
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


def mask_known_keys(text: str) -> str:
    """``text`` without the keys that agents of this process use; what only looks like a key stays.

    >>> without_keys_in_use("sk-abcdefgh12345678")
    'sk-abcdefgh12345678'
    """
    return _replace_keys(text, _known_keys)


def _replace_keys(text: str, secrets: Collection[str]) -> str:
    for secret in sorted(secrets, key=len, reverse=True):  # one may begin with another
        text = text.replace(secret, "***")
    return text


def mask_keys(text: str) -> str:
    """``text`` as it may be kept: API keys, bearer tokens and passwords in addresses are ``***``, code stays code.

    >>> mask_keys("key sk-abcdefgh12345678, token = tokenizer.decode(ids)")
    'key ***, token = tokenizer.decode(ids)'
    """
    text = mask_known_keys(text)
    for start, pattern in _KEY_PATTERNS:
        if start in text:
            text = pattern.sub(_mask_match, text)
    return text


def _mask_match(found: re.Match[str]) -> str:
    return f"{found[1]}***" if found.re.groups else "***"
