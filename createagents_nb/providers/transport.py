"""What an error of aiohttp, or of the HTTP client of an SDK over it, really means."""

from __future__ import annotations

import sys
from typing import Literal

__all__ = ["what_broke", "what_failed"]


def what_failed(error: Exception) -> Literal["connection", "protocol"] | None:
    """The way to the server, or what came over it; None for an error of neither aiohttp, httpx nor httpx2."""
    for name in ("httpx", "httpx2"):
        http = sys.modules.get(name)  # which has raised nothing if it was not imported
        if http is not None and isinstance(error, http.TransportError):
            return "connection"
        if http is not None and isinstance(error, (http.HTTPError, http.InvalidURL)):
            return "protocol"
    if isinstance(error, TimeoutError):
        return "connection"
    aiohttp = sys.modules.get("aiohttp")
    if aiohttp is None or not isinstance(error, aiohttp.ClientError):
        return None
    lost = (aiohttp.ClientConnectionError, aiohttp.ClientPayloadError)
    return "connection" if isinstance(error, lost) else "protocol"


def what_broke(error: BaseException) -> Literal["refused", "lost", "timeout"]:
    """Look down the chain of causes for what aiohttp itself said: the SDKs report lost connections as timeouts."""
    import aiohttp

    cause: BaseException | None = error
    seen: set[int] = set()
    while cause is not None and id(cause) not in seen:
        seen.add(id(cause))
        if isinstance(cause, TimeoutError):
            return "timeout"
        if isinstance(cause, aiohttp.ClientConnectorError):
            return "refused"
        if isinstance(cause, aiohttp.ClientConnectionError | aiohttp.ClientPayloadError):
            return "lost"
        cause = cause.__cause__ or cause.__context__
    name = type(error).__name__
    return "timeout" if "Timeout" in name else "refused" if name == "ConnectError" else "lost"
