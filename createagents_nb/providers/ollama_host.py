"""Ollama's address, in the forms that Ollama's own clients take. Imports nothing heavy.

Sources: https://github.com/ollama/ollama/blob/main/envconfig/config.go (blanks and quotes around ``OLLAMA_HOST``,
ports by scheme, IPv6 without brackets) and https://github.com/ollama/ollama-python/blob/main/ollama/_client.py.
"""

from __future__ import annotations

import ipaddress
import os
from urllib.parse import urlsplit

from ..redaction import Secret, as_secret
from .sockets import is_socket

__all__ = ["DEFAULT_URL", "host_in_environment", "url_of"]

DEFAULT_URL = "http://127.0.0.1:11434"

_PORTS = {"http": 80, "https": 443}
_ANY_ADDRESS = {"0.0.0.0": "127.0.0.1", "::": "::1"}
"""Addresses on which a server listens to all; a client reaches it at these."""


def host_in_environment() -> Secret | None:
    """Return ``OLLAMA_HOST`` without the blanks and quotes around it; None if it is not set."""
    host = as_secret(os.environ.get("OLLAMA_HOST", "").strip().strip("\"'").strip())
    return host or None


def url_of(host: str) -> str:
    """Return the address of a host as Ollama's clients read it.

    Raises:
        ValueError: it is no host, or the port is no number.

    Example:
        >>> [url_of(host) for host in ("box", "0.0.0.0", "[::]:8080", "http://box/")]
        ['http://box:11434', 'http://127.0.0.1:11434', 'http://[::1]:8080', 'http://box:80']
    """
    if is_socket(host):
        return host
    if host == "ollama.com":
        return "https://ollama.com:443"
    is_address = "://" in host
    parts = urlsplit(host if is_address else f"http://{_bracketed(host)}")
    name = parts.hostname or "127.0.0.1"
    name = _ANY_ADDRESS.get(name, name)
    name = f"[{name}]" if ":" in name else name
    port = parts.port or (_PORTS.get(parts.scheme, 80) if is_address else 11434)
    return f"{parts.scheme}://{name}:{port}{parts.path}".rstrip("/")


def _bracketed(host: str) -> str:
    try:
        return f"[{ipaddress.IPv6Address(host)}]"
    except ValueError:
        return host
