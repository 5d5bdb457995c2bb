"""Faults before and in an answer: no connection, silence, a stream that breaks."""

from __future__ import annotations

from fault_kit import TIMEOUT_S, fault, keep_alive
from fault_server import Exchange, said

# ── no connection ────────────────────────────────────────────────────────────────────────────────────────

WAY = "No connection"
CONNECTION, TIMEOUT = "ProviderConnectionError", "ProviderTimeoutError"


@fault(WAY, "no TLS", "The address begins with https, and the server speaks HTTP.", CONNECTION, way="no tls")
@fault(
    WAY,
    "certificate of another",
    "The certificate is trusted, and is another server's.",
    CONNECTION,
    way="other name",
)
@fault(
    WAY,
    "certificate of nobody",
    "The certificate is signed by nobody that is trusted.",
    CONNECTION,
    way="untrusted",
)
@fault(WAY, "no such host", "The name of the server is not known.", CONNECTION, way="nowhere")
@fault(
    WAY,
    "refused, and may be retried",
    "The same, with `max_retries=2`.",
    CONNECTION,
    way="deaf",
    max_retries=2,
    retries=2,
    differs={"ollama": {"retries": 0}},
)
@fault(WAY, "refused", "Nothing listens at the address.", CONNECTION, way="deaf")
async def never(exchange: Exchange) -> None:
    raise AssertionError("no request should have come")


# ── no answer ────────────────────────────────────────────────────────────────────────────────────────────

SILENCE = "No answer"


@fault(SILENCE, "reset before the headers", "The connection is cut before anything has come.", CONNECTION)
async def reset_at_once(exchange: Exchange) -> None:
    exchange.reset()


@fault(SILENCE, "closed before the headers", "The connection is closed before anything has come.", CONNECTION)
async def close_at_once(exchange: Exchange) -> None:
    exchange.close()


@fault(
    SILENCE,
    "reset once, then fine",
    "The first attempt is cut, the second is answered.",
    None,
    kept="fine",
    max_retries=1,
    retries=1,
)
async def reset_once(exchange: Exchange) -> None:
    if exchange.number == 1:
        exchange.reset()
    else:
        await exchange.answer("fine")


@fault(
    SILENCE,
    "reset after the headers",
    "The connection is cut between the headers and the first token.",
    CONNECTION,
)
async def reset_after_headers(exchange: Exchange) -> None:
    await exchange.head(transfer_encoding="chunked")
    exchange.reset()


@fault(SILENCE, "silence before the headers", "No byte comes for `timeout_s`.", TIMEOUT, timeout_s=TIMEOUT_S)
async def stall_before_headers(exchange: Exchange) -> None:
    await exchange.stall()


@fault(
    SILENCE,
    "silence once, then fine",
    "The first attempt is left waiting, the second is answered.",
    None,
    kept="fine",
    timeout_s=1.0,
    max_retries=1,
    retries=1,
)
async def stall_once(exchange: Exchange) -> None:
    if exchange.number == 1:
        await exchange.stall()
    await exchange.answer("fine")


@fault(
    SILENCE,
    "silence after the headers",
    "The headers come, and then no byte for `timeout_s`.",
    TIMEOUT,
    timeout_s=TIMEOUT_S,
)
async def stall_after_headers(exchange: Exchange) -> None:
    await exchange.head(transfer_encoding="chunked")
    await exchange.stall()


@fault(SILENCE, "nothing with 200", "Status 200 and an empty body.", "EmptyReplyError", caused=False)
async def be_empty(exchange: Exchange) -> None:
    await exchange.reply(b"")


@fault(SILENCE, "only comments", "Keep-alives, and the end of the stream.", "EmptyReplyError", caused=False)
async def only_comments(exchange: Exchange) -> None:
    await exchange.reply(keep_alive(exchange.provider) * 3)


# ── an answer that breaks ────────────────────────────────────────────────────────────────────────────────

BREAKS = "An answer that breaks"


@fault(
    BREAKS,
    "reset after a tool has run",
    "The same in the second round.",
    CONNECTION,
    kept="Let me look. so far",
    has_tool=True,
)
@fault(BREAKS, "reset after the first token", "The connection is cut in mid-answer.", CONNECTION, kept="so far")
async def reset_in_mid_stream(exchange: Exchange) -> None:
    await exchange.begin()
    await exchange.until_seen()
    exchange.reset()


@fault(
    BREAKS,
    "silence after a tool has run",
    "The same in the second round.",
    TIMEOUT,
    kept="Let me look. so far",
    timeout_s=TIMEOUT_S,
    has_tool=True,
)
@fault(
    BREAKS,
    "silence in mid-stream",
    "After the first token no byte comes for `timeout_s`.",
    TIMEOUT,
    kept="so far",
    timeout_s=TIMEOUT_S,
)
async def stall_in_mid_stream(exchange: Exchange) -> None:
    await exchange.begin()
    await exchange.stall()


@fault(
    BREAKS, "shorter than promised", "The body is shorter than its `Content-Length`.", CONNECTION, kept="so far"
)
async def too_short(exchange: Exchange) -> None:
    await exchange.head(content_length="9999")
    await exchange.send(*said(exchange.provider, "so far", finished=False))
    exchange.close()


@fault(BREAKS, "chunks cut", "The connection is closed before the last chunk.", CONNECTION, kept="so far")
async def chunks_cut(exchange: Exchange) -> None:
    await exchange.begin()
    await exchange.send(b"ff\r\nhalf of")
    exchange.close()


@fault(
    BREAKS,
    "no end",
    "The body ends well, the answer in it does not.",
    "IncompleteReplyError",
    kept="so far",
    caused=False,
)
async def no_end(exchange: Exchange) -> None:
    await exchange.reply(b"".join(said(exchange.provider, "so far", finished=False)))


@fault(
    BREAKS,
    "error in mid-stream",
    "An error object comes after the first token.",
    "ServerError",
    kept="so far",
    caused=False,
)
async def error_in_mid_stream(exchange: Exchange) -> None:
    body = b'{"error": "the model crashed"}'
    body = b"data: %s\n\n" % body if exchange.provider == "openai" else body + b"\n"
    await exchange.reply(b"".join(said(exchange.provider, "so far", finished=False)) + body)


@fault(BREAKS, "broken JSON", "What comes after the first token is no JSON.", "ProtocolError", kept="so far")
async def broken_json(exchange: Exchange) -> None:
    body = b"data: {broken}\n\n" if exchange.provider == "openai" else b"{broken}\n"
    await exchange.reply(b"".join(said(exchange.provider, "so far", finished=False)) + body)


@fault(BREAKS, "broken gzip", "The body is not packed as its headers say.", CONNECTION)
async def broken_gzip(exchange: Exchange) -> None:
    await exchange.reply(b"no gzip at all", content_encoding="gzip")
