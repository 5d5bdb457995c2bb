"""The proxy for an address, from the environment or the system's settings.

aiohttp's own ``trust_env`` is not used: it ignores ALL_PROXY, drops https proxies, and reads passwords from netrc.
"""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import unquote, urlsplit

from ..errors import ConfigurationError
from ..redaction import Secret

__all__ = ["Proxy", "proxy_for", "unusable_proxy"]

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
