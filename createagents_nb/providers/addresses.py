"""Addresses of servers and proxies, and keys, as users give them: checked, and shown without a password.

Imports nothing heavy.
"""

from __future__ import annotations

import hashlib
import ipaddress
import re
from contextlib import suppress
from dataclasses import dataclass
from urllib.parse import unquote, urlsplit

from ..errors import ConfigurationError
from ..redaction import Secret
from .sockets import checked_socket, is_socket, socket_origin

__all__ = [
    "Proxy",
    "can_be_header",
    "checked_address",
    "checked_key",
    "is_private_address",
    "mask_header",
    "origin_of",
    "place_of",
    "proxy_for",
    "unusable_proxy",
    "without_password",
]


def checked_address(base_url: str, example: str, *, socket_path: str = "") -> str:
    """Return an http(s) address, or that of a Unix socket, without a trailing slash.

    Args:
        example: shown to the user in an error.
        socket_path: the path on a server on a socket, where the address names none.

    Raises:
        ConfigurationError: not such an address, or it holds a user name, a password, a query or a fragment.
    """
    if is_socket(base_url):
        return checked_socket(base_url, socket_path)
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
        return f"base_url must end with its path, as in {example}: without #…, and with query={{…}} in place of ?…"
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
    """Return scheme, host and port of an address, without the path and query in which some carry a key.

    For a Unix socket, ``unix:///run/model.sock``.
    """
    if address.startswith("unix:"):
        return socket_origin(address)
    parts = urlsplit(address if "://" in address else f"http://{address}")
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"


_PRIVATE_ENDINGS = (".local", ".localhost", ".lan", ".internal", ".home.arpa")


def is_private_address(url: str) -> bool:
    """Whether a server is on this machine or in its own network, as far as its address says.

    >>> is_private_address("http://192.168.1.7:8080/v1"), is_private_address("http://gpu-box:8000/v1")
    (True, True)
    """
    if is_socket(url):
        return True
    host = urlsplit(url).hostname or ""
    with suppress(ValueError):
        return not ipaddress.ip_address(host).is_global
    return "." not in host or host.endswith(_PRIVATE_ENDINGS)


def place_of(address: str) -> str:
    """Return what tells a server from others, as in `ReplySource`: its origin, and a digest of an unusual path.

    A gateway may have a server at each path; a path may hold a key.

    >>> place_of("http://box/v1"), place_of("http://box/deepseek/v1")
    ('http://box', 'http://box/~6ca8c2d5')
    """
    if address.startswith("unix:"):  # one server has one socket
        return socket_origin(address)
    path = urlsplit(address if "://" in address else f"http://{address}").path.rstrip("/")
    digest = "" if path in ("", "/v1") else f"/~{hashlib.sha256(path.encode()).hexdigest()[:8]}"
    return origin_of(address) + digest


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


_CONTROLS = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")


def can_be_header(text: str) -> bool:
    """Whether a header may hold this text: a line end in it would begin another header."""
    return _CONTROLS.search(text) is None


def mask_header(value: str) -> Secret:
    """Mask the value of a header that holds a key, with its scheme (``Bearer``) and without, and return it."""
    _, _, key = value.strip().partition(" ")
    Secret(key.strip()).mask()
    for part in re.split(r"[;,]", value):  # cookies, and parameters of an Authorization header
        Secret(part.partition("=")[2].strip(' "')).mask()
    return Secret(value).mask()


_SOCKS = ("socks", "socks4", "socks4a", "socks5", "socks5h")


@dataclass(frozen=True, slots=True)
class Proxy:
    """A proxy; the credentials are not part of its address."""

    scheme: str
    host: str
    port: int
    user: Secret
    password: Secret

    @property
    def is_socks(self) -> bool:
        return self.scheme in _SOCKS

    @property
    def url(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}:{self.port}"


def proxy_for(url: str) -> Proxy | None:
    """Return the proxy that HTTP_PROXY, HTTPS_PROXY, ALL_PROXY or the system names for ``url``.

    Raises:
        ConfigurationError: it cannot be used.
    """
    if is_socket(url):
        return None
    address = _address(url)
    if address is None:
        return None
    proxy = _parsed(address)
    if proxy is None:
        raise unusable_proxy("not an http, https or socks address")
    return proxy


def unusable_proxy(reason: str) -> ConfigurationError:
    return ConfigurationError(
        f"The proxy that HTTP_PROXY, HTTPS_PROXY or ALL_PROXY names cannot be used ({reason}). Give it as "
        "http://proxy:3128, or name this server in NO_PROXY"
    )


def _address(url: str) -> Secret | None:
    from urllib.request import getproxies, proxy_bypass  # slow to import, and aiohttp imports it anyway

    parts = urlsplit(url)
    host = parts.hostname or ""
    proxies = getproxies()
    address = proxies.get(parts.scheme) or proxies.get("all")
    if not address or proxy_bypass(host) or (parts.port is not None and proxy_bypass(f"{host}:{parts.port}")):
        return None
    return Secret(address)


def _parsed(address: Secret) -> Proxy | None:
    # In a frame of its own: no traceback shows the parts of the address, one of which may be a password.
    try:
        parts = urlsplit(str(address) if "://" in address else f"http://{address}")
        scheme = parts.scheme.lower()
        if not parts.hostname or scheme not in ("http", "https", *_SOCKS):
            return None
        port = parts.port or {"http": 80, "https": 443}.get(scheme, 1080)
        parts.hostname.encode("idna")
    except ValueError:
        return None
    return Proxy(
        scheme, parts.hostname, port, Secret(unquote(parts.username or "")), Secret(unquote(parts.password or ""))
    )
