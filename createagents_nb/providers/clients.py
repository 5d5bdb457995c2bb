"""One HTTP client, one TLS context and one connection pool a process, event loop and endpoint."""

from __future__ import annotations

import asyncio
import atexit
import hashlib
import importlib
import os
import re
import ssl
import sys
from collections.abc import AsyncGenerator, Awaitable, Callable, Hashable
from functools import cache
from typing import TYPE_CHECKING, Any, TypeVar, cast
from urllib.parse import urlsplit
from weakref import WeakKeyDictionary

from ..errors import ConfigurationError
from ..loop_shutdown import settle_all
from ..redaction import Secret

if TYPE_CHECKING:
    from .straight import Straight

__all__ = [
    "CONNECT_TIMEOUT_S",
    "KEEPALIVE_S",
    "MAX_LIST_BYTES",
    "checked_address",
    "checked_key",
    "endpoint_of",
    "fingerprint",
    "forget_closed_loops",
    "has_proxy",
    "load",
    "loaded",
    "shared",
    "straight",
    "through_proxy",
    "tls_context",
    "without_password",
]

CONNECT_TIMEOUT_S = 10.0
KEEPALIVE_S = 60.0
MAX_LIST_BYTES = 32 * 2**20
"""Of a list of models; the largest known have some megabytes."""

T = TypeVar("T")
_PROCESS = os.getpid()
_Pool = dict[Hashable, tuple[Any, AsyncGenerator[None, None]]]
_pools: WeakKeyDictionary[asyncio.AbstractEventLoop, _Pool] = WeakKeyDictionary()


def checked_address(base_url: str, example: str) -> str:
    """An http(s) address without a password and without a slash at its end.

    Raises:
        ConfigurationError: it is none, or it carries a user name or password.
    """
    flaw = _flaw(base_url, example)  # found in a frame of its own: a traceback of this one shows no parts
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
    """What an error may repeat of an address that is none: nothing before an ``@``, and no query.

    >>> without_password("user:hunter2@host/v1?key=1")
    '***@host/v1'
    """
    head = re.split("[?#]", address, maxsplit=1)[0]
    if "@" in address[len(head) :]:
        return "***"  # a password may have any sign
    _, at, host = head.rpartition("@")
    return f"***@{host}" if at else head


def endpoint_of(base_url: str) -> str:
    """The server in an address, for people: without path and query, in which some carry a key."""
    parts = urlsplit(base_url if "://" in base_url else f"http://{base_url}")
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"


def checked_key(key: str | None) -> Secret | None:
    """The key as it can travel in a header, without the line end that a copied key often brings.

    From now on it is masked in all that is shown, logged and kept.

    Raises:
        ConfigurationError: it has characters that no key has.
    """
    if key is None:
        return None
    if not isinstance(key, str):
        raise ConfigurationError(f"api_key must be a string, not {type(key).__name__}")
    key = Secret(key.strip())
    if not (key.isascii() and key.isprintable()):
        raise ConfigurationError("api_key has characters that no key has; copy it again, without quotes or spaces")
    return key.mask() if key else None


@cache
def tls_context() -> ssl.SSLContext:
    """Building one costs tens of milliseconds; all clients share it."""
    import httpx2

    return httpx2.create_ssl_context()


async def load(*modules: str) -> None:
    """Import what takes a second or so away from the loop, so that other turns and Stop go on."""
    if any(loaded(module) is None for module in modules):
        await asyncio.to_thread(_load, modules)


def loaded(name: str) -> Any:
    """A module that has been imported; None also while another thread is about it: half of it would be missing."""
    module = sys.modules.get(name)
    return None if getattr(getattr(module, "__spec__", None), "_initializing", False) else module


def _load(modules: tuple[str, ...]) -> None:
    for module in modules:
        importlib.import_module(module)


def forget_closed_loops(clients: WeakKeyDictionary[asyncio.AbstractEventLoop, Any]) -> None:
    """A client holds its loop, so a weak key alone never goes."""
    for known in clients.keyrefs():  # a copy: other threads have loops, too
        loop = known()
        if loop is not None and loop.is_closed():
            clients.pop(loop, None)


def fingerprint(key: str | None) -> bytes:
    """What tells keys apart and is no key."""
    return hashlib.sha256((key or "").encode()).digest()


def has_proxy(base_url: str) -> bool:
    """Whether the environment, or the system's settings, put a proxy before this address."""
    from urllib.request import getproxies, proxy_bypass  # slow to import, and aiohttp does it anyway

    parts = urlsplit(base_url)
    return bool(getproxies().keys() & {parts.scheme, "all"}) and not proxy_bypass(parts.hostname or "")


def through_proxy(build: Callable[[], T]) -> T:
    """A client that goes by way of the environment's proxy.

    Raises:
        ConfigurationError: the proxy cannot be used.
    """
    try:
        return build()
    except ModuleNotFoundError:
        raise
    except ImportError:
        reason = "for SOCKS: pip install 'httpx[socks]'"
    except Exception as error:
        reason = type(error).__name__
    # Not from the error, and not below it: a password is in the proxy's address, and that in its frames.
    raise ConfigurationError(
        f"The proxy that HTTP_PROXY, HTTPS_PROXY or ALL_PROXY names cannot be used ({reason}). Give it as "
        "http://proxy:3128, or name this server in NO_PROXY"
    )


async def shared(key: Hashable, build: Callable[[], T], close: Callable[[T], Awaitable[None]]) -> T:
    """The client of this key in the running loop, built when it is first asked for.

    It is closed with the loop: `asyncio.run` shuts down async generators before it closes the loop, and
    ours closes the client.
    """
    loop = asyncio.get_running_loop()
    forget_closed_loops(_pools)
    pool = _pools.setdefault(loop, {})
    if key not in pool:
        client = build()
        content_policy = _keep(client, close, pool, key)
        pool[key] = client, content_policy
        await content_policy.asend(None)
    return cast(T, pool[key][0])


async def straight(base_url: str) -> Straight:
    """The way over aiohttp to this server, shared by all who ask it."""
    await load("aiohttp", f"{__package__}.straight")
    if base_url.startswith("https"):
        await asyncio.to_thread(tls_context)
    from .straight import Straight

    return await shared(("aiohttp", base_url), lambda: Straight(base_url), lambda opened: opened.aclose())


async def _keep(
    client: T, close: Callable[[T], Awaitable[None]], pool: _Pool, key: Hashable
) -> AsyncGenerator[None, None]:
    try:
        yield
    finally:
        pool.pop(key, None)
        await close(client)


@atexit.register
def _close_left_over() -> None:
    if os.getpid() != _PROCESS:
        return  # a fork: loops, and what they wait for, are the parent's
    # A kernel stops its loop without shutting it down.
    settle_all()
    for loop, pool in list(_pools.items()):
        if not loop.is_closed() and not loop.is_running():
            for _, content_policy in list(pool.values()):
                loop.run_until_complete(content_policy.aclose())
