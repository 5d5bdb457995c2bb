"""When a request to Ollama is sent again: by the rules of the openai SDK, so that both providers behave alike."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncGenerator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager

from .error_mapping import ErrorMaker, retry_after_s
from .ollama_endpoint import Endpoint, Reply
from .transport_errors import classify_error, root_cause

__all__ = ["answered"]

_TRY_AGAIN = frozenset({408, 409, 429})
_LONGEST_WAIT_S = 120.0
"""A server that asks for more is not asked again."""


@asynccontextmanager
async def answered(
    endpoint: Endpoint, path: str, body: bytes, on_error: ErrorMaker, *, max_retries: int
) -> AsyncGenerator[Reply, None]:
    """The reply to a request that is sent again, up to ``max_retries`` times, while nothing of a reply has come.

    After 408, 409, 429 and from 500 on, and where the connection was lost or nothing came for too long. A refused
    connection is not tried again: nothing listens there, and to start Ollama takes a person. Between two attempts
    it waits for as long as the server asks, else half a second, one, two… up to eight, a quarter of it by chance.
    """
    for attempt in range(max_retries + 1):
        on_error.retries = attempt
        is_last = attempt == max_retries
        asked_s = None
        async with AsyncExitStack() as stack:
            try:
                reply = await stack.enter_async_context(endpoint.request("POST", path, body))
            except Exception as error:
                passes = classify_error(error) == "connection" and root_cause(error) in ("lost", "timeout")
                if is_last or not passes:
                    raise
            else:
                asked_s = retry_after_s(reply.headers)
                if is_last or not _may_pass(reply.status, reply.headers) or (asked_s or 0) > _LONGEST_WAIT_S:
                    yield reply
                    return
        await asyncio.sleep(asked_s or min(0.5 * 2**attempt, 8.0) * random.uniform(0.75, 1.0))


def _may_pass(status: int, headers: Mapping[str, str]) -> bool:
    if status == 200:
        return False
    said = headers.get("x-should-retry")
    return said == "true" or (said != "false" and (status in _TRY_AGAIN or status >= 500))
