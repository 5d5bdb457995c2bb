"""The promises of a provider object, which may be a user's own: each broken one is a single typed error."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

from ..core.events import Event
from ..core.provider import ChatRepository
from ..errors import ConfigurationError, ProtocolError
from ..text import format_error

__all__ = [
    "broken_promise",
    "check_provider",
    "closing",
    "describe",
    "expect_end",
    "listed_models",
]

_END_S = 10.0
"""Limit for how long a provider may take to end, once its answer is complete or no longer wanted."""
_HELP = "See createagents_nb.core.events for what it may yield"


def broken_promise(repository: ChatRepository, what: str, way_out: str = _HELP) -> ProtocolError:
    """Return the error for a promise that a provider broke.

    Args:
        what: completes "The provider 'name' …".
    """
    return ProtocolError(f"The provider {repository.provider!r} {what}. {way_out}", provider=repository.provider)


def check_provider(repository: ChatRepository) -> None:
    """Check the attributes of a provider.

    Raises:
        ConfigurationError: one has the wrong type, or cannot be read.
    """
    for name in ("server", "base_url", "price_provider", "telemetry_provider", "unsupported_config"):
        is_mapping = name == "unsupported_config"
        try:
            value = getattr(repository, name)
        except Exception as error:
            raise ConfigurationError(
                f"{type(repository).__name__}.{name} cannot be read: {format_error(error)}"
            ) from error
        if not isinstance(value, Mapping if is_mapping else str | None):
            right = "a dict of config keys and texts" if is_mapping else "a string or None"
            raise ConfigurationError(
                f"{type(repository).__name__}.{name} must be {right}, not {type(value).__name__}"
            )


async def listed_models(repository: ChatRepository) -> list[str]:
    """Return the models of a provider.

    Raises:
        ProviderError: as `ChatRepository.models`, or it returns something else than names.
    """
    way_out = "It must be `async def models(self)` and return a list of names"
    names: Any = repository.models()
    if not inspect.isawaitable(names):
        raise broken_promise(repository, "has a models() that is not async", way_out)
    names = await names
    if not isinstance(names, list | tuple) or not all(isinstance(name, str) for name in names):
        raise broken_promise(repository, "has a models() that returns no list of names", way_out)
    return [*names]


@asynccontextmanager
async def closing(
    repository: ChatRepository, events: AsyncGenerator[Event, None]
) -> AsyncIterator[AsyncGenerator[Event, None]]:
    """As `contextlib.aclosing`, but it does not wait for ever.

    Raises:
        ProtocolError: the generator does not close.
    """
    try:
        yield events
    finally:
        async with _limit(repository, "does not close its reply"):
            await events.aclose()


async def expect_end(repository: ChatRepository, events: AsyncGenerator[Event, None]) -> None:
    """Let a provider end after `RoundEnded`.

    Raises:
        ProtocolError: it yields more, or does not end.
    """
    async with _limit(repository, "does not end after RoundEnded"):
        async for event in events:
            raise broken_promise(repository, f"yielded {describe(event)} after RoundEnded, which must be the last")


def describe(event: object) -> str:
    """Return what was yielded, without its content."""
    return f"the class {event.__name__}" if isinstance(event, type) else type(event).__name__


@asynccontextmanager
async def _limit(repository: ChatRepository, what: str) -> AsyncIterator[None]:
    if not _is_in_task():  # its loop was closed: nobody waits
        yield
        return
    try:
        # Two: the first may be caught in a `finally` that waits, too.
        async with asyncio.timeout(_END_S * 1.2) as last, asyncio.timeout(_END_S) as first:
            yield
    except TimeoutError as error:
        if not (first.expired() or last.expired()):
            raise
        way_out = "It must not wait in a `finally` without a limit"
        raise broken_promise(repository, f"{what} within {_END_S:g} s", way_out) from error


def _is_in_task() -> bool:
    try:
        return asyncio.current_task() is not None
    except RuntimeError:
        return False
