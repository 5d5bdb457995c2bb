"""Addresses of servers on Unix sockets.

Users write ``unix:///run/model.sock``, with ``:/v1`` behind it for a path on the server, or
``http+unix://%2Frun%2Fmodel.sock/v1``. The first form is kept and shown.
"""

from __future__ import annotations

import re
import sys
from urllib.parse import quote, unquote

from ..errors import ConfigurationError

__all__ = ["checked_socket", "http_url", "is_socket", "socket_origin", "socket_path"]

_FORM = re.compile(
    r"unix:(?://)?(?P<file>/[^?#]*?)(?P<path>:(?:/[^?#]*)?)?"
    r"|http\+unix://(?P<quoted>[^/?#]+)(?P<quoted_path>/[^?#]*)?",
    re.IGNORECASE,
)
_HAS_SOCKETS = sys.platform != "win32"


def is_socket(address: str) -> bool:
    """Whether an address is meant to be a socket's."""
    return address.lower().startswith(("unix:", "http+unix:"))


def checked_socket(address: str, default_path: str) -> str:
    """Return the address of a socket as it is kept: ``unix:///run/model.sock:/v1``.

    Args:
        default_path: on the server, for an address ``unix:///run/model.sock`` that names none.

    Raises:
        ConfigurationError: it names no socket, or this is Windows.

    Example:
        >>> checked_socket("http+unix://%2Frun%2Fmodel.sock/v1", "")
        'unix:///run/model.sock:/v1'
    """
    found = _FORM.fullmatch(address)
    file = "" if found is None else unquote(found["file"] or found["quoted"])
    if found is None or not file.startswith("/") or file.endswith("/") or "\0" in file:
        raise ConfigurationError(
            "The address of a Unix socket (base_url) must be like unix:///run/model.sock, or "
            "unix:///run/model.sock:/v1 with a path on the server"
        )
    if not _HAS_SOCKETS:
        raise ConfigurationError(
            "Servers on Unix sockets cannot be reached from Windows. Let the server listen on a port, and give "
            "base_url=http://127.0.0.1:…"
        )
    if found["file"]:
        path = default_path if found["path"] is None else found["path"].removeprefix(":")
    else:
        path = found["quoted_path"] or ""
    path = path.rstrip("/")
    return f"unix://{quote(file)}:{path}" if path else f"unix://{quote(file)}"


def socket_origin(url: str) -> str:
    """Return the part of a socket's address before the path on the server."""
    return "unix://" + url.removeprefix("unix://").partition(":")[0]  # one in the name is encoded


def socket_path(url: str) -> str | None:
    """Return the file of a socket; None for the address of another server."""
    return unquote(socket_origin(url).removeprefix("unix://")) if url.startswith("unix:") else None


def http_url(url: str) -> str:
    """Return the base address to put into a request: a server on a socket is called ``localhost``."""
    if not url.startswith("unix:"):
        return url
    return f"http://localhost{url[len(socket_origin(url)) :].removeprefix(':')}"
