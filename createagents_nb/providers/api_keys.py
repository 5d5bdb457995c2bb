"""Keys that come from a function, such as tokens that expire: called for each request, and never for long."""

from __future__ import annotations

import asyncio
import hashlib
import inspect
from collections.abc import Callable, Mapping
from typing import Any

from ..core.threads import run_in_thread
from ..errors import AuthenticationError, ConfigurationError, ProviderError, ProviderTimeoutError
from ..redaction import Secret, SecretFunction, as_secret, holds_key
from .addresses import checked_key
from .transport_errors import ForeignError

__all__ = ["checked_api_key", "fingerprint_of", "key_from_function"]

_MAX_S = 60.0
_MAX_CHARS = 200
_WAY_OUT = "Check that function: each request calls it, and it must return the key as a string"

_Outcome = tuple[Any, ForeignError | None]
"""What a function returned, and a summary of what it raised. Both are hidden in the frames of a traceback."""


def checked_api_key(key: Any) -> Secret | SecretFunction | None:
    """Return a key as it can be sent, see `checked_key`, or the function that returns one."""
    return key if isinstance(key, SecretFunction) else checked_key(key)


def fingerprint_of(key: Secret | SecretFunction | None, *pairs: Mapping[str, str | None]) -> str:
    """Return what tells keys from others; the same for all functions: tokens change, and the account stays.

    Args:
        pairs: headers or a query, whose keys count, too.
    """
    keys = [str(key)] if isinstance(key, Secret) else []
    for each in pairs:
        keys += sorted(f"{name.lower()}:{value}" for name, value in each.items() if holds_key(name, value))
    digest = hashlib.sha256("\n".join(keys).encode()).hexdigest() if keys else ""
    return f"function {digest}".strip() if isinstance(key, SecretFunction) else digest


async def key_from_function(source: SecretFunction, provider: str, timeout_s: float) -> Secret:
    """Call a function for the key of one request. From now on the key is masked.

    A sync function runs in a daemon thread. One that takes longer than ``timeout_s``, at most 60 seconds, is left
    alone, and so is one whose caller is cancelled.

    Args:
        source: returns a string, or an awaitable of one.
        provider: its name in the records.

    Raises:
        AuthenticationError: the function raised, or returned no usable key.
        ProviderTimeoutError: it did not return in time.
    """
    limit_s = min(timeout_s, _MAX_S)
    # Not asyncio.timeout: a coroutine that ignores its cancellation would hold the turn.
    call = asyncio.ensure_future(_outcome(source.function))
    try:
        await asyncio.wait({call}, timeout=limit_s)
    finally:
        call.cancel()
    if not call.done():
        raise ProviderTimeoutError(
            f"The function in api_key=… has not returned a key within {limit_s:g} s. {_WAY_OUT}", provider=provider
        )
    result = _checked((None, ForeignError("CancelledError")) if call.cancelled() else call.result(), provider)
    if isinstance(result, ProviderError):
        raise result
    return result


async def _outcome(function: Callable[[], Any]) -> _Outcome:
    """Call a function; what it raises is returned, so that no event loop reports or re-raises it."""
    try:
        if inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(type(function).__call__):
            result, error = function(), None
        else:
            result, error = await run_in_thread(lambda: _attempt(function), "api_key")
        while error is None and inspect.isawaitable(result):
            result = await result
    except (Exception, SystemExit) as caught:
        return None, _summary(caught)
    return as_secret(result), error


def _attempt(function: Callable[[], Any]) -> _Outcome:
    try:
        return function(), None
    except BaseException as error:
        return None, _summary(error)


def _summary(error: BaseException) -> ForeignError:
    return ForeignError.of(error) if isinstance(error, Exception) else ForeignError(type(error).__name__)


def _checked(outcome: _Outcome, provider: str) -> Secret | ProviderError:
    key, cause = outcome
    if cause is not None:
        flaw = f"raised {_one_line(str(cause))}"
    elif not isinstance(key, str):
        flaw = f"returned {type(key).__name__}, not a string"
    else:
        try:
            checked = checked_key(key)
        except ConfigurationError:
            flaw = "returned a text with characters that no key has"
        else:
            if checked:
                return checked
            flaw = "returned an empty string"
    failure = AuthenticationError(f"The function in api_key=… {flaw}. {_WAY_OUT}", provider=provider)
    failure.__cause__ = cause
    return failure


def _one_line(text: str) -> str:
    line = " ".join(text.split())
    return (line if len(line) <= _MAX_CHARS else f"{line[: _MAX_CHARS - 1]}…").rstrip(".")
