"""One chat request on its way to a server, and its reply as events."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Coroutine, Mapping
from contextlib import aclosing, suppress
from dataclasses import dataclass, field, replace
from typing import Any

from ..core.events import Event, Notice, ReplySource, RoundEnded
from ..errors import ProtocolError, ProviderError
from .error_body import read_body
from .error_mapping import ErrorMapper, ErrorWords
from .local_server import is_loading
from .reply_decoder import ReplyDecoder
from .transport import MAX_LIST_BYTES, HttpReply, Transport
from .unread_calls import unread_calls_notice
from .wire_log import send

__all__ = ["ChatApi", "Connect", "Exchange", "list_models", "reply_events"]

Connect = Callable[[], Awaitable[Transport]]

_TAIL_S = 0.25
"""Limit for reading what follows a complete answer."""

_POLLS_S = (0.1, 0.25, 0.5, 1.0, 2.0)
"""The waits before a server that is loading its model is asked again; the last one from then on."""

_MAX_LOAD_S = 600.0
"""Limit for waiting until a server has loaded its model."""

_NO_ENDPOINT = re.compile(r"(?i)unexpected endpoint")
"""LM Studio says so with status 200: https://github.com/lmstudio-ai/lmstudio-bug-tracker/issues/618"""

_NAMES_S = 5.0
"""How long an error about an unknown model waits for the names of those that exist."""


@dataclass(frozen=True, slots=True)
class ChatApi:
    """A provider's HTTP interface, without I/O.

    Attributes:
        name: as in ``config["api"]``.
        chat_path, models_path: below the base address.
        words: what its errors say.
        new_decoder: called with ``streamed``, ``on_error``, ``retries`` and ``source``.
        model_names: called with the body of a model list and the base address; raises ProtocolError.
        optional: paths of the fields that a request has although no user asked for them, see `Change`.
        renames: fields that other servers know by another name.
        config_fields: fields of the body, and the key of ``config`` that each comes from.
    """

    name: str
    chat_path: str
    models_path: str
    words: ErrorWords
    new_decoder: Callable[..., ReplyDecoder]
    model_names: Callable[[bytes, str], list[str]]
    optional: tuple[str, ...] = ()
    renames: Mapping[str, str] = field(default_factory=dict)
    config_fields: tuple[tuple[str, str], ...] = ()


class Exchange:
    """One chat request on its way: what is sent, and what is sent in its place after a refusal.

    Attributes:
        api: where it is sent, and how its reply is read.
        body: sent as JSON.
        source: who writes the reply; None to leave out its opaque fields.
        adjusted: what was changed because the server refused it; None for nothing.
        is_at_home: whether the server is at home, where a model that is being loaded is waited for.
    """

    is_at_home = True

    def __init__(self, api: ChatApi, body: dict[str, Any], source: ReplySource | None = None) -> None:
        self.api, self.body, self.source = api, body, source
        self.adjusted: str | None = None

    @property
    def streamed(self) -> bool:
        """Whether the reply is expected as a stream."""
        return bool(self.body.get("stream"))

    def adjust(self, status: int, refusal: Any) -> bool:
        """Change what is sent; return whether to send it again.

        Args:
            refusal: the decoded body of the error.
        """
        return False

    def accept(self) -> None:
        """Take note that the server answers the request."""

    @property
    def slow_s(self) -> float | None:
        """After how many seconds without a reply `waits_for` is called; None for never."""
        return None

    async def waits_for(self) -> str | None:
        """Return a line for the user about what the request waits for, where it is known."""
        return None

    async def better_address(self) -> str | None:
        """Return how else to ask a server that does not know what it was asked, where it is known."""
        return None

    def hint(self, refusal: Any) -> str | None:
        """Return what to do about a refusal of something that the user asked for, where it is known."""
        return None


async def reply_events(connect: Connect, exchange: Exchange) -> AsyncGenerator[Event, None]:
    """Send a chat request and yield everything in its reply, `RoundEnded` last.

    Args:
        connect: returns the transport to the server.

    Raises:
        ProviderError: translated from what the HTTP library, the SDK or the server reported.
    """
    transport = await connect()
    loading_since: float | None = None
    polls = 0
    asked_again = False
    while True:
        api = exchange.api
        errors = ErrorMapper(api.words, transport.url, transport.secret, str(exchange.body.get("model")))
        errors.adjusted = exchange.adjusted
        decoder: ReplyDecoder | None = None
        failure: ProviderError | None = None
        is_adjusted = has_begun = loads = False
        block = b""
        try:
            sending = send(transport, "POST", api.chat_path, exchange.body, errors)
            if exchange.slow_s is None:
                reply = await sending
            else:
                async with aclosing(_watched(sending, exchange, exchange.slow_s)) as watched:
                    async for item in watched:
                        if isinstance(item, Notice):
                            yield item
                        else:
                            reply = item
            try:
                if reply.is_success:
                    decoder = api.new_decoder(
                        streamed=exchange.streamed,
                        on_error=errors.from_body,
                        retries=errors.retries + asked_again,
                        source=exchange.source,
                    )
                    decoder.asked_for_several = exchange.body.get("n") not in (None, 1)
                    try:
                        async for block in reply.blocks:
                            for event in decoder.feed(block):
                                if not has_begun:
                                    has_begun = True
                                    exchange.accept()
                                yield event
                            if decoder.is_complete:
                                await _read_to_end(reply.blocks)
                                break
                    except Exception as error:
                        # A connection that breaks after the end of the answer does not fail it.
                        if not decoder.is_finished or transport.summary(error) is None:
                            raise
                    exchange.accept()
                    for event in decoder.finish():
                        has_begun = True
                        if isinstance(event, RoundEnded) and exchange.body.get("tools") and not decoder.call_count:
                            notice = unread_calls_notice(decoder.text, api.words.provider)
                            if notice is not None:
                                yield Notice(notice)
                        if exchange.adjusted is not None and isinstance(event, RoundEnded):
                            event = replace(event, adjusted=exchange.adjusted)
                        yield event
                else:
                    failure = await errors.from_reply(reply, exchange.hint)
                    is_adjusted = exchange.adjust(reply.status, errors.refusal)
                    if is_loading(reply.status, errors.refusal, is_at_home=exchange.is_at_home):
                        now = asyncio.get_running_loop().time()
                        loading_since = now if loading_since is None else loading_since
                        loads = now - loading_since < _MAX_LOAD_S
            finally:
                await reply.aclose()
        except Exception as error:
            failure = errors.from_exception(error, transport.summary(error))
            if failure is None:
                raise
            if errors.refusal is not None and not has_begun:  # inside a reply that began with success
                is_adjusted = exchange.adjust(failure.status_code or 400, errors.refusal)
            if decoder is not None and decoder.only_loaded:
                is_adjusted, asked_again = not asked_again, True
        finally:
            del block  # a traceback shows this frame, and a server may repeat the key
        if loads:
            if not polls:
                yield Notice(f"{api.words.label(transport.url)} is loading its model. The request waits for it")
            await asyncio.sleep(_POLLS_S[min(polls, len(_POLLS_S) - 1)])
            polls += 1
        elif not is_adjusted:  # nothing else is to be sent
            break
    if failure is not None:
        if not errors.is_unknown_model and not has_begun and _may_be_lost(failure):
            way = await exchange.better_address()
            if way is not None:
                said, end, _ = str(failure).rpartition("). ")  # what to do follows
                failure.args = (f"{said}{end}{way}" if end else f"{failure}. {way}",)
        if errors.is_unknown_model:
            failure = errors.unknown_model(await _names(api, transport), failure)
        try:
            raise failure  # not in an except clause, whose exception would be its context
        finally:
            del failure, errors  # or they would refer to each other by its traceback


def _may_be_lost(failure: ProviderError) -> bool:
    """Whether a request may have gone to a server that speaks another API."""
    return (
        failure.status_code in (404, 405)
        or _NO_ENDPOINT.search(str(failure)) is not None
        # llama.cpp answers below Ollama's paths, in OpenAI's form.
        or (isinstance(failure, ProtocolError) and "b'data: " in str(failure))
    )


async def _begun(sending: Coroutine[Any, Any, HttpReply]) -> HttpReply:
    """Return a reply once its first block is here.

    It is read without delay: aiohttp drops what it has when a connection breaks before it is read.
    """
    reply = await sending
    if not reply.is_success:
        return reply
    first: bytes | Exception | None
    try:
        first = await anext(reply.blocks, None)
    except Exception as error:
        first = error
    except BaseException:
        await reply.aclose()
        raise
    return replace(reply, blocks=_joined(first, reply.blocks))


async def _joined(first: bytes | Exception | None, rest: AsyncIterator[bytes]) -> AsyncGenerator[bytes, None]:
    try:
        if isinstance(first, Exception):
            raise first
        if first is None:
            return
        yield first
    finally:
        del first
    async for block in rest:
        yield block


async def _watched(
    sending: Coroutine[Any, Any, HttpReply], exchange: Exchange, slow_s: float
) -> AsyncGenerator[Notice | HttpReply, None]:
    """Yield the reply, once its body has begun; before it, what a slow server is doing."""
    task = asyncio.create_task(_begun(sending))
    is_taken = False
    try:
        await asyncio.wait({task}, timeout=slow_s)
        if not task.done():
            text = await exchange.waits_for()
            if text is not None and not task.done():
                yield Notice(text)
        reply = await task
        is_taken = True
        yield reply
    finally:
        if not is_taken:
            task.cancel()
            await asyncio.wait({task})
            if not task.cancelled() and task.exception() is None:
                await task.result().aclose()


async def list_models(api: ChatApi, transport: Transport) -> list[str]:
    """Return the names of the models the server lists, sorted.

    Raises:
        ProviderError: as for `reply_events`.
    """
    errors = ErrorMapper(api.words, transport.url, transport.secret)
    failure: ProviderError | None = None
    names: list[str] = []
    try:
        reply = await send(transport, "GET", api.models_path, None, errors)
        try:
            if reply.is_success:
                names = api.model_names(await read_body(reply.blocks, MAX_LIST_BYTES), transport.url)
            else:
                failure = await errors.from_reply(reply)
        finally:
            await reply.aclose()
    except Exception as error:
        failure = errors.from_exception(error, transport.summary(error))
        if failure is None:
            raise
    if failure is not None:
        raise failure
    return sorted(names)


async def _names(api: ChatApi, transport: Transport) -> list[str]:
    try:
        async with asyncio.timeout(_NAMES_S):
            return await list_models(api, transport)
    except (ProviderError, TimeoutError):
        return []


async def _read_to_end(blocks: AsyncIterator[bytes]) -> None:
    """Read what follows a complete answer, so that the connection can be used again.

    Errors are ignored, and a body that does not end soon is not read to its end.
    """
    with suppress(Exception):
        async with asyncio.timeout(_TAIL_S):
            async for _ in blocks:
                pass
