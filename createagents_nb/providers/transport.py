"""What the aiohttp transport under both SDKs really means: it reports refused and lost connections as timeouts."""

from __future__ import annotations

from typing import Literal

__all__ = ["what_broke"]


def what_broke(error: BaseException) -> Literal["refused", "lost", "timeout"]:
    """Look down the chain of causes for what aiohttp itself said."""
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
