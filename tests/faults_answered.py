"""Faults with an answer: of the wrong kind, a refusal, a busy server, an odd one that is fine all the same."""

from __future__ import annotations

import asyncio
import gzip
from typing import Any

from family import delta, ndjson, sse
from fault_kit import LONG_LINE, SOON, fault, keep_alive
from fault_server import Exchange, Serve, http_date, said

# ── something else ───────────────────────────────────────────────────────────────────────────────────────

ELSE = "Something else than an answer"
PAGE = b"<!DOCTYPE html>\n<html><head><title>Log in</title></head>\n\n<body>Log in first</body></html>\n"


@fault(
    ELSE,
    "page with 200",
    "A page of HTML, with status 200.",
    "ProtocolError",
    differs={"openai": {"caused": False}},
)
async def html(exchange: Exchange) -> None:
    await exchange.reply(PAGE, content_type="text/html")


@fault(ELSE, "error with 200", "An error object, with status 200.", "ServerError", caused=False)
async def error_with_200(exchange: Exchange) -> None:
    await exchange.json({"error": "the model crashed"})


@fault(ELSE, "no HTTP", "The server speaks another protocol.", "ProtocolError")
async def other_protocol(exchange: Exchange) -> None:
    await exchange.send(b"SSH-2.0-OpenSSH_9.9\r\n")
    exchange.close()


@fault(ELSE, "redirect without end", "The server redirects to itself, again and again.", "ProtocolError")
async def redirect_to_itself(exchange: Exchange) -> None:
    await exchange.reply(b"", "307 Temporary Redirect", location=exchange.request.path)


@fault(ELSE, "redirect to no address", "The server redirects to what is no http address.", "ProtocolError")
async def redirect_to_nowhere(exchange: Exchange) -> None:
    await exchange.reply(b"", "307 Temporary Redirect", location="ftp://example.com/")


# ── statuses ─────────────────────────────────────────────────────────────────────────────────────────────

STATUSES = {
    "400 Bad Request": "InvalidRequestError",
    "401 Unauthorized": "AuthenticationError",
    "403 Forbidden": "AuthenticationError",
    "404 Not Found": "InvalidRequestError",
    "408 Request Timeout": "InvalidRequestError",
    "409 Conflict": "InvalidRequestError",
    "413 Content Too Large": "InvalidRequestError",
    "422 Unprocessable Content": "InvalidRequestError",
    "429 Too Many Requests": "RateLimitError",
    "500 Internal Server Error": "ServerError",
    "502 Bad Gateway": "ServerError",
    "503 Service Unavailable": "ServerError",
    "529 Site Overloaded": "ServerError",
}
BODIES = {"JSON": b'{"error": {"message": "here is why"}}', "an empty body": b"", "HTML": PAGE}
STATUS = "Statuses"


def refuses(status: str, body: bytes) -> Serve:
    async def serve(exchange: Exchange) -> None:
        kind = "application/json" if body.startswith(b"{") else "text/html"
        await exchange.reply(body, status, content_type=kind)

    return serve


for _status, _error in STATUSES.items():
    for _name, _body in BODIES.items():
        _told = f"Status {_status}, explained in {_name}." if _body else f"Status {_status}, not explained."
        fault(STATUS, f"{_status[:3]} with {_name}", _told, _error, caused=False)(refuses(_status, _body))


# ── words ────────────────────────────────────────────────────────────────────────────────────────────────

WORDS = "Words that say more than the status"


def says(message: str, http: str = "200 OK", /, **more: object) -> Serve:
    async def serve(exchange: Exchange) -> None:
        await exchange.json({"error": {"message": message, **more}}, http)

    return serve


def worded(name: str, description: str, error: str, serve: Serve) -> None:
    fault(WORDS, name, description, error, max_retries=2, caused=False)(serve)


worded(
    "key with 400",
    "400, as Google says that the key is wrong.",
    "AuthenticationError",
    says("API key not valid. Please pass a valid API key.", "400 Bad Request", status="INVALID_ARGUMENT"),
)
worded(
    "no tools with 404",
    "404, because the model takes no tools there.",
    "InvalidRequestError",
    says("No endpoints found that support tool use.", "404 Not Found", code=404),
)
worded(
    "no credit with 402",
    "402; it is not sent again.",
    "QuotaExceededError",
    says("Insufficient Balance", "402 Payment Required", code="invalid_request_error"),
)
worded(
    "no credit with 429",
    "429 with `insufficient_quota`; it is not sent again.",
    "QuotaExceededError",
    says("You exceeded your current quota.", "429 Too Many Requests", code="insufficient_quota"),
)
worded(
    "no credit with 200",
    "An error object with `insufficient_quota`, with status 200.",
    "QuotaExceededError",
    says("You exceeded your current quota.", code="insufficient_quota"),
)
worded(
    "moderation with 403",
    "403, because of what the message says.",
    "InvalidRequestError",
    says("m requires moderation. Your input was flagged.", "403 Forbidden", code=403),
)
worded(
    "content filter with 400",
    "400, from a content filter.",
    "ContentFilteredError",
    says("The response was filtered.", "400 Bad Request", code="content_filter"),
)
worded(
    "country with 403",
    "403, because of where you are.",
    "InvalidRequestError",
    says("Not supported there", "403 Forbidden", code="unsupported_country_region_territory"),
)
worded(
    "too long with 422",
    "422, because the prompt is too long.",
    "ContextLengthError",
    says("`inputs` tokens + `max_new_tokens` must be <= 4096", "422 Unprocessable Content"),
)
worded(
    "too long with 500",
    "500, because the prompt is too long; it is not sent again.",
    "ContextLengthError",
    says("Context size has been exceeded.", "500 Internal Server Error"),
)
worded(
    "more tokens than a minute has",
    "413 or 429, because the message alone is above the limit.",
    "ContextLengthError",
    says(
        "Request too large on tokens per minute (TPM): Limit 6000, Requested 9111",
        "413 Content Too Large",
        code="rate_limit_exceeded",
    ),
)
worded(
    "the provider behind a router",
    "400 from a router, in the words of the provider behind it.",
    "ContextLengthError",
    says(
        "Provider returned error",
        "400 Bad Request",
        metadata={"raw": '{"error": {"message": "prompt is too long"}}', "provider_name": "Inner"},
    ),
)


@fault(
    WORDS,
    "a wait in the body",
    "429, and “try again in 20ms” in its words.",
    None,
    kept="fine",
    max_retries=1,
    retries=1,
)
async def wait_in_the_body(exchange: Exchange) -> None:
    if exchange.number == 1:
        await exchange.json({"error": {"message": "Please try again in 20ms."}}, "429 Too Many Requests")
    else:
        await exchange.answer("fine")


# ── tried again ──────────────────────────────────────────────────────────────────────────────────────────

AGAIN = "Busy"


def busy(times: int, status: str = "503 Service Unavailable", **headers: str) -> Serve:
    async def serve(exchange: Exchange) -> None:
        if exchange.number <= times:
            await exchange.json({"error": "busy"}, status, **headers)
        else:
            await exchange.answer("fine")

    return serve


fault(
    AGAIN,
    "busy twice, then fine",
    "503 and `Retry-After: 0.001` two times.",
    None,
    kept="fine",
    max_retries=2,
    retries=2,
)(busy(2, **SOON))
fault(
    AGAIN, "500 once, then fine", "500 and `Retry-After: 0.001` once.", None, kept="fine", max_retries=2, retries=1
)(busy(1, "500 Internal Server Error", **SOON))
fault(
    AGAIN,
    "busy too often",
    "503 three times, and `max_retries=2`.",
    "ServerError",
    max_retries=2,
    retries=2,
    caused=False,
)(busy(9, **SOON))
fault(
    AGAIN,
    "refuses more for an hour",
    "429 and `Retry-After: 3600`.",
    "RateLimitError",
    max_retries=2,
    caused=False,
)(busy(9, "429 Too Many Requests", retry_after="3600"))
fault(
    AGAIN,
    "refuses, and says not to ask again",
    "503 and `x-should-retry: false`.",
    "ServerError",
    max_retries=2,
    caused=False,
)(busy(9, x_should_retry="false"))
fault(
    AGAIN,
    "400 is not retried",
    "400, and `max_retries=2`.",
    "InvalidRequestError",
    max_retries=2,
    caused=False,
)(busy(9, "400 Bad Request", **SOON))


@fault(
    AGAIN,
    "Retry-After as a date",
    "429, with the time from which to ask again.",
    None,
    kept="fine",
    max_retries=1,
    retries=1,
)
async def until_a_date(exchange: Exchange) -> None:
    if exchange.number == 1:
        await exchange.json({"error": "busy"}, "429 Too Many Requests", retry_after=http_date(1))
    else:
        await exchange.answer("fine")


# ── slow and odd, and still an answer ────────────────────────────────────────────────────────────────────

ODD = "Odd, and still an answer"


@fault(
    ODD,
    "slow drip",
    "A token comes just before `timeout_s` is over, and again.",
    None,
    kept="so far " * 4,
    timeout_s=0.8,
)
async def drip(exchange: Exchange) -> None:
    await exchange.head(transfer_encoding="chunked")
    for _ in range(4):
        await exchange.chunk(*said(exchange.provider, "so far ", finished=False))
        await asyncio.sleep(0.25)
    await exchange.chunk(*said(exchange.provider), b"")


@fault(
    ODD,
    "comments for a while",
    "Keep-alives for longer than `timeout_s`, then the answer.",
    None,
    kept="fine",
    timeout_s=0.8,
)
async def comments_for_a_while(exchange: Exchange) -> None:
    await exchange.head(transfer_encoding="chunked")
    for _ in range(4):
        await exchange.chunk(keep_alive(exchange.provider))
        await asyncio.sleep(0.25)
    await exchange.chunk(*said(exchange.provider, "fine"), b"")


@fault(ODD, "wrong content type", "The answer says that it is `text/html`.", None, kept="fine")
async def wrong_type(exchange: Exchange) -> None:
    await exchange.answer("fine", content_type="text/html")


@fault(ODD, "gzip", "The answer is packed, though nobody asked for it.", None, kept="fine")
async def packed(exchange: Exchange) -> None:
    body = gzip.compress(b"".join(said(exchange.provider, "fine")))
    await exchange.reply(body, content_encoding="gzip")


@fault(ODD, "a line of 10 MB", "One event with 10 MB of text.", None, kept="x" * LONG_LINE)
async def long_line(exchange: Exchange) -> None:
    await exchange.answer("x" * LONG_LINE)


@fault(ODD, "redirect on the same server", "307 to another path.", None, kept="fine")
async def redirect(exchange: Exchange) -> None:
    if exchange.number == 1:
        await exchange.reply(b"", "307 Temporary Redirect", location="/moved/chat")
    else:
        await exchange.answer("fine")


@fault(ODD, "redirect to another host", "307 to another server; the key stays at home.", None, kept="fine")
async def redirect_away(exchange: Exchange) -> None:
    if exchange.number == 1:
        elsewhere = f"http://localhost:{exchange.server.port}/moved/chat"
        await exchange.reply(b"", "307 Temporary Redirect", location=elsewhere)
    else:
        assert "authorization" not in exchange.request.headers
        await exchange.answer("fine")


# ── forms ────────────────────────────────────────────────────────────────────────────────────────────────

FORMS = "Replies in other forms than the standard's"


def streams(openai: list[Any], ollama: list[Any]) -> Serve:
    """The events of OpenAI's API, or the lines of Ollama's."""

    async def serve(exchange: Exchange) -> None:
        blocks = sse(*openai) if exchange.provider == "openai" else ndjson(*ollama)
        await exchange.reply(b"".join(blocks))

    return serve


def line(content: str = "", /, **more: object) -> dict[str, Any]:
    return {"message": {"role": "assistant", "content": content}, "done": False} | more


OVER = line(done=True, done_reason="stop")


def formed(name: str, description: str, openai: list[Any], ollama: list[Any], **more: object) -> None:
    outcome: dict[str, Any] = {"error": None, "kept": "fine"} | more
    fault(FORMS, name, description, outcome.pop("error"), **outcome)(streams(openai, ollama))


formed(
    "closing repeats",
    "The last event repeats the whole text; it is said once.",
    [delta("fi"), delta("ne"), {"choices": [{"message": {"content": "fine"}, "finish_reason": "stop"}]}],
    [line("fi"), line("ne"), line("fine", done=True, done_reason="stop")],
)
formed(
    "several choices",
    "The text is in a choice with another index than 0.",
    [{"choices": [{"index": 3, "delta": {"content": "fine"}, "finish_reason": "stop"}]}],
    [line("fine"), OVER],
)
formed(
    "thinking in the text",
    "The model's thinking stands as `<think>` before the text.",
    [delta("<think>Hm.</think>fine"), delta(finish="stop")],
    [line("<think>Hm.</think>fine"), OVER],
)
formed(
    "pings",
    "`null`, empty objects and pings stand between the events.",
    [None, delta("fine"), {}, {"type": "ping"}, delta(finish="stop")],
    [{}, line("fine"), OVER],
)
formed(
    "error in another form",
    "An error after the first words, beside a choice or under another key.",
    [delta("fine"), {"choices": [{"delta": {}, "finish_reason": "error", "error": {"message": "out of memory"}}]}],
    [line("fine"), {"error parsing tool call": "out of memory"}],
    error="ServerError",
    caused=False,
)
