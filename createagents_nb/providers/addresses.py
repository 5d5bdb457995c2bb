"""Addresses and keys as users give them: checked, and shown without a password. Imports nothing heavy."""

from __future__ import annotations

import re
from urllib.parse import urlsplit

from ..errors import ConfigurationError
from ..redaction import Secret

__all__ = ["checked_address", "checked_key", "origin_of", "without_password"]


def checked_address(base_url: str, example: str) -> str:
    """Return an http(s) address without a trailing slash.

    Args:
        example: shown to the user in an error.

    Raises:
        ConfigurationError: not an http(s) address, or it holds a user name, a password, a query or a fragment.
    """
    flaw = _flaw(base_url, example)  # found in a frame of its own, so that a traceback of this one shows no parts
    if flaw is not None:
        raise ConfigurationError(flaw)
    return base_url.rstrip("/")


def _flaw(base_url: str, example: str) -> str | None:
    try:
        parts = urlsplit(base_url)
        usable = parts.scheme in ("http", "https") and parts.hostname and (parts.port or 1)
        (parts.hostname or "").encode("idna")
    except ValueError:
        usable = False
    if not usable:
        return f"base_url must be like {example}, not {without_password(base_url)!r}"
    if parts.username or parts.password:
        return "base_url must not carry a user name or password: give the key as api_key=…"
    if parts.query or parts.fragment:
        return f"base_url must end with its path, as in {example}: without ?… and #…"
    return None


def without_password(address: str) -> str:
    """Return what an error may repeat of an invalid address: nothing before an ``@``, and no query.

    >>> without_password("user:hunter2@host/v1?key=1")
    '***@host/v1'
    """
    head = re.split("[?#]", address, maxsplit=1)[0]
    if "@" in address[len(head) :]:
        return "***"  # a password may contain ? and #
    _, at, host = head.rpartition("@")
    return f"***@{host}" if at else head


def origin_of(address: str) -> str:
    """Return scheme, host and port of an address, without the path and query in which some carry a key."""
    parts = urlsplit(address if "://" in address else f"http://{address}")
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"


def checked_key(key: str | None) -> Secret | None:
    """Return the key as it can be sent in a header, without the line end that a copied key often brings.

    From now on it is masked wherever text is shown, logged or recorded.

    Raises:
        ConfigurationError: it contains characters that no key has.
    """
    if key is None:
        return None
    if not isinstance(key, str):
        raise ConfigurationError(f"api_key must be a string, not {type(key).__name__}")
    key = Secret(key.strip())
    if not (key.isascii() and key.isprintable()):
        raise ConfigurationError("api_key has characters that no key has; copy it again, without quotes or spaces")
    return key.mask() if key else None
