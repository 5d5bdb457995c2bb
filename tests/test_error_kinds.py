"""Errors whose status says one thing and whose words another: the words decide on the type and on the way out.

The bodies are those of public bug reports, made anew.
"""

from __future__ import annotations

import json
from typing import Any

import pytest
from family import Reply, ScriptedServer, delta, json_reply, ndjson, round_trip, sse

from createagents_nb import CreateAgent, MetricsRecorder, tool
from createagents_nb.errors import (
    AuthenticationError,
    ContentFilteredError,
    ContextLengthError,
    InvalidRequestError,
    ModelNotFoundError,
    ProviderError,
    QuotaExceededError,
    RateLimitError,
    ServerError,
)
from createagents_nb.providers.error_body import asked_wait_s, error_message, error_words, status_in
from createagents_nb.providers.error_kinds import find_kind
from createagents_nb.providers.ollama_adapter import OllamaChatAdapter
from createagents_nb.providers.openai_adapter import OpenAIChatAdapter, OpenAIResponsesAdapter

KEY = "zz-very-secret-0123456789"
FINE = sse(delta("fine"), delta(finish="stop"))


@tool
def open_gate() -> str:
    """Open the gate."""
    return "open"


Case = tuple[int, Any, type[ProviderError], str]


def said(message: str, **more: Any) -> dict[str, Any]:
    return {"error": {"message": message, **more}}


def google(code: int, message: str, status: str, *details: Any) -> list[Any]:
    return [{"error": {"code": code, "message": message, "status": status, "details": list(details)}}]


CREDIT = "no credit left.*Check billing.*waiting does not help"
SHORTER = r"longer than the model's context.*Shorten the prompt, or agent\.clear_history\(\)"
FEWER = "fewer tokens a minute.*Shorten the message.*waiting alone does not help"
BLOCKED = "blocked the message by its content filter.*Change its wording"
MODERATED = "refused what the message says.*Change its wording"
KEY_HINT = "refused the key.*api_key="
REGION = "not offered in your country or region.*Choose another server or model"
NO_TOOLS = "model has no tools here.*Leave tools out, or choose another model"
TOOLS_OFF = "started without tools.*Start it with the option"

CASES: dict[str, Case] = {
    # the key
    "Google: key": (400, google(400, "API key not valid.", "INVALID_ARGUMENT"), AuthenticationError, KEY_HINT),
    "Google: reason": (
        400,
        google(400, "Bad.", "INVALID_ARGUMENT", {"reason": "API_KEY_INVALID", "domain": "googleapis.com"}),
        AuthenticationError,
        KEY_HINT,
    ),
    "Google: expired": (
        400,
        google(400, "API key expired. Please renew the API key.", "INVALID_ARGUMENT"),
        AuthenticationError,
        KEY_HINT,
    ),
    "proxy: key": (
        400,
        said("litellm.AuthenticationError: Incorrect API key provided"),
        AuthenticationError,
        KEY_HINT,
    ),
    # credit
    "402": (402, said("Insufficient Balance", code="invalid_request_error"), QuotaExceededError, CREDIT),
    "402 without words": (402, b"", QuotaExceededError, CREDIT),
    "OpenRouter: credit": (
        402,
        said("This request requires more credits, or fewer max_tokens.", code=402),
        QuotaExceededError,
        CREDIT,
    ),
    "OpenAI: quota": (
        429,
        said("You exceeded your current quota, please check your plan and billing.", code="insufficient_quota"),
        QuotaExceededError,
        CREDIT,
    ),
    "quota without code": (429, said("You exceeded your current quota."), QuotaExceededError, CREDIT),
    "Anthropic: credit": (
        400,
        {"type": "error", "error": {"type": "invalid_request_error", "message": "Your credit balance is too low"}},
        QuotaExceededError,
        CREDIT,
    ),
    "xAI: credit": (
        403,
        {"code": "permission-denied", "error": "Your team has used all available credits."},
        QuotaExceededError,
        CREDIT,
    ),
    "Moonshot: credit": (
        429,
        said("Your account is suspended.", type="exceeded_current_quota_error"),
        QuotaExceededError,
        CREDIT,
    ),
    "MiniMax: credit": (
        400,
        {"base_resp": {"status_code": 1008, "status_msg": "insufficient balance"}},
        QuotaExceededError,
        CREDIT,
    ),
    "spending limit": (400, said("Hard limit", code="billing_hard_limit_reached"), QuotaExceededError, CREDIT),
    # what was said
    "OpenRouter: moderation": (
        403,
        said("m requires moderation. Your input was flagged for violence.", metadata={"reasons": ["violence"]}),
        InvalidRequestError,
        MODERATED,
    ),
    "OpenAI: usage policy": (
        400,
        said("Your prompt was flagged as potentially violating our usage policy.", code="invalid_prompt"),
        InvalidRequestError,
        MODERATED,
    ),
    "Azure: filter": (
        400,
        {
            "error": {
                "message": "The response was filtered.",
                "code": "content_filter",
                "innererror": {"code": "ResponsibleAIPolicyViolation"},
            }
        },
        ContentFilteredError,
        BLOCKED,
    ),
    "DashScope: filter": (
        400,
        {"code": "data_inspection_failed", "message": "Input data may contain inappropriate content."},
        ContentFilteredError,
        BLOCKED,
    ),
    # the country
    "OpenAI: country": (
        403,
        said("Country not supported", code="unsupported_country_region_territory"),
        InvalidRequestError,
        REGION,
    ),
    "not in your region": (403, said("This model is not available in your region."), InvalidRequestError, REGION),
    "Google: location": (
        400,
        google(400, "User location is not supported for the API use.", "FAILED_PRECONDITION"),
        InvalidRequestError,
        REGION,
    ),
    # tools and images
    "OpenRouter: tools": (
        404,
        said('No endpoints found that support tool use. Try disabling "wind".', code=404),
        InvalidRequestError,
        NO_TOOLS,
    ),
    "Ollama: tools": (400, {"error": "library/tiny does not support tools"}, InvalidRequestError, NO_TOOLS),
    "Together: tools": (
        400,
        said("Function calling is not enabled for this model"),
        InvalidRequestError,
        NO_TOOLS,
    ),
    "vLLM: tools": (
        400,
        {"object": "error", "message": '"auto" tool choice requires --enable-auto-tool-choice', "code": 400},
        InvalidRequestError,
        TOOLS_OFF,
    ),
    "llama.cpp: tools": (
        500,
        said("tools param requires --jinja flag", type="server_error"),
        InvalidRequestError,
        TOOLS_OFF,
    ),
    "OpenRouter: images": (
        404,
        said("No endpoints found that support image input", code=404),
        InvalidRequestError,
        "takes no images here.*Send text alone",
    ),
    "OpenRouter: policy": (
        404,
        said("No endpoints found matching your data policy.", code=404),
        InvalidRequestError,
        "has none that takes this request.*Look at the model",
    ),
    # tokens a minute
    "Groq: too large": (
        413,
        said(
            "Request too large for model `m` on tokens per minute (TPM): Limit 6000, Requested 9111",
            type="tokens",
            code="rate_limit_exceeded",
        ),
        ContextLengthError,
        FEWER,
    ),
    "OpenAI: too large": (
        429,
        said("Request too large for m on tokens per min (TPM): Limit 10000, Requested 12000.", type="tokens"),
        ContextLengthError,
        FEWER,
    ),
    # for now
    "Google: for now": (
        429,
        google(
            429,
            "You exceeded your current quota, please check your plan and billing details.",
            "RESOURCE_EXHAUSTED",
            {"retryDelay": "2.6s"},
        ),
        RateLimitError,
        "refusing more for now.*Wait",
    ),
    "tokens for now": (
        429,
        said("Rate limit reached for m on tokens per min (TPM): Limit 9, Used 8, Requested 2. Try again in 6s"),
        RateLimitError,
        "refusing more for now.*Wait",
    ),
    "Bedrock: throttled": (
        429,
        {"message": "Too many tokens, please wait before trying again.", "type": "ThrottlingException, throttled"},
        RateLimitError,
        "refusing more for now.*Wait",
    ),
    "403 for now": (403, said("API rate limit exceeded"), RateLimitError, "refusing more for now.*Wait"),
    "DashScope: for now": (
        429,
        {"code": "insufficient_quota", "message": "Allocated quota exceeded, please increase your quota limit."},
        RateLimitError,
        "refusing more for now.*Wait",
    ),
}

TOO_LONG: list[tuple[int, str]] = [
    (400, "The input token count (1200293) exceeds the maximum number of tokens allowed (1048576)."),
    (400, "This model's maximum prompt length is 131072 but the request contains 201734 tokens."),
    (422, "`inputs` tokens + `max_new_tokens` must be <= 4096. Given: 3900 `inputs` tokens"),
    (422, "`inputs` must have less than 4095 tokens. Given: 5000"),
    (400, "too many tokens: total number of tokens in the prompt cannot exceed 4081"),
    (400, "Your input exceeds the context window of this model."),
    (400, "prompt is too long: 213462 tokens > 200000 maximum"),
    (400, "Please reduce the length of the messages or completion."),
    (400, "the request exceeds the available context size, try increasing it"),
    (500, "Context size has been exceeded."),
    (500, "prompt tokens: 5000, n_ctx: 4096"),
    (413, "This model's maximum context length is 8192 tokens."),
    (400, "Input is too long for requested model."),
    (400, "Input tokens exceed the configured limit of 272000 tokens."),
    (400, "prompt token count of 200000 exceeds the limit of 128000"),
    (400, "Your request exceeded model token limit: 8192"),
    (400, "The decoder prompt (length 5000) is longer than the maximum model length of 2048"),
    (400, "The number of tokens to keep is greater than the context length"),
    (400, "Prompt contains 40000 tokens, too large for model with 32768 maximum context length"),
    (400, "Range of input length should be [1, 30720]"),
    (500, "the prompt is larger than the maximum size of the KV cache"),
    (503, "KV cache is full"),
    (400, "input length and `max_tokens` exceed context limit: 190000 + 20000 > 200000"),
    (400, "context window exceeds limit (2013)"),
    (400, "Invalid 'messages[0].content': string too long. Expected a string with maximum length 1048576"),
    (400, "Invalid 'input[2].content[0].text': string too long. Expected a string with maximum length 10485760"),
    (400, "Invalid 'input': string too long. Expected a string with maximum length 10485760"),
    (
        400,
        "max_tokens is too large: 900. The maximum context length is 4096 and your request has 4000 input tokens",
    ),
    (400, "prompt tokens (5000) + completion tokens (1000) exceed the limit of 4096"),
    (500, "The context size is too small for this conversation"),
    (400, "The prompt does not fit into the context window"),
]
for _status, _words in TOO_LONG:
    CASES[f"too long: {_words[:50]}"] = (_status, said(_words), ContextLengthError, SHORTER)

SIZE = r"takes no request of this size.*Shorten the message, or agent\.clear_history\(\)"
MORE: list[tuple[int, str, type[ProviderError], str]] = [
    (413, "request_too_large: Request exceeds the maximum size", ContextLengthError, SIZE),
    (413, "Request Entity Too Large", ContextLengthError, SIZE),
    (413, "Request body too large for m. Max size: 8000 tokens.", ContextLengthError, SIZE),
    (400, "Prompt exceeds max length", ContextLengthError, SHORTER),
    (400, "the input token count is 40000 but the model only supports up to 32767", ContextLengthError, SHORTER),
    (400, "Prompt length 5000 is greater than max_seq_len 4096", ContextLengthError, SHORTER),
    (400, "prompt has 5000 tokens, larger than the model input length limit 4096", ContextLengthError, SHORTER),
    (400, "Input length 5000 exceeds maximum allowed token size 4096", ContextLengthError, SHORTER),
    (400, "model_max_prompt_tokens_exceeded", ContextLengthError, SHORTER),
    (400, "the number of input tokens 5000 cannot exceed the limit 4096", ContextLengthError, SHORTER),
    (400, "Requested tokens (5000) exceed context window of 4096", ContextLengthError, SHORTER),
    (400, "API Key not found. Please pass a valid API key.", AuthenticationError, KEY_HINT),
    (500, "litellm.AuthenticationError: no", AuthenticationError, KEY_HINT),
    (400, "Budget has been exceeded! Max budget: 0.9", QuotaExceededError, CREDIT),
    (403, "Key limit exceeded (total limit).", QuotaExceededError, CREDIT),
    (400, "You have reached your specified API usage limits.", QuotaExceededError, CREDIT),
    (
        403,
        "Your newly created team doesn't have any credits or licenses yet. You can purchase those on the console.",
        QuotaExceededError,
        CREDIT,
    ),
    (403, "Your team does not have enough credits", QuotaExceededError, CREDIT),
    (400, "The prompt does not comply with our usage policies", InvalidRequestError, MODERATED),
    (429, "Your prepayment credits are depleted.", QuotaExceededError, CREDIT),
    (412, "Account suspended, possibly due to the monthly spending limit", QuotaExceededError, CREDIT),
    (403, "This API method requires billing to be enabled.", QuotaExceededError, CREDIT),
    (429, "Account balance is not enough", QuotaExceededError, CREDIT),
    (400, "Content Exists Risk", ContentFilteredError, BLOCKED),
    (400, "It may contain unsafe or sensitive content", ContentFilteredError, BLOCKED),
    (403, "prohibited due to a violation of provider Terms Of Service", InvalidRequestError, MODERATED),
    (400, "Your request was rejected as a result of our safety system", InvalidRequestError, MODERATED),
    (451, "Unavailable For Legal Reasons", InvalidRequestError, REGION),
    (403, "Your country is not supported", InvalidRequestError, REGION),
    (400, "`tool calling` is not supported with this model", InvalidRequestError, NO_TOOLS),
    (400, "This model doesn't support tool use in streaming mode.", InvalidRequestError, NO_TOOLS),
    (500, "Unsupported param: tools", InvalidRequestError, NO_TOOLS),
    (500, "litellm.RateLimitError: slow down", RateLimitError, "Wait"),
]
for _status, _words, _kind, _way in MORE:
    CASES[_words] = (_status, said(_words), _kind, _way)

ADAPTERS: dict[str, Any] = {
    "chat": OpenAIChatAdapter,
    "responses": OpenAIResponsesAdapter,
    "ollama": OllamaChatAdapter,
}


def adapter_of(api: str, server: ScriptedServer, **more: Any) -> Any:
    url = server.url if api == "ollama" else server.openai_url
    return ADAPTERS[api](base_url=url, **{"api_key": KEY, "max_retries": 0, **more})


async def failing(api: str, server: ScriptedServer, reply: Reply | list[bytes], **more: Any) -> ProviderError:
    server.enqueue(reply)
    error = (await round_trip(adapter_of(api, server), **more)).failure
    assert isinstance(error, ProviderError)
    return error


def in_stream(api: str, body: Any) -> list[bytes]:
    """The error object as an event of a stream that began with success."""
    outer = body[0] if isinstance(body, list) else body
    inner = outer.get("error", outer) if isinstance(outer, dict) else outer
    if api == "ollama":
        return ndjson({"error": inner})
    if api == "responses":
        return sse({"type": "error", "error": inner}, done=False)
    return sse({"error": inner}, done=False)


def check(error: ProviderError, kind: type[ProviderError], words: str) -> None:
    assert type(error) is kind, str(error)
    with pytest.raises(kind, match=words):
        raise error
    assert len(str(error)) < 500
    assert "base_url" not in str(error)
    assert (kind is AuthenticationError) == ("refused the key" in str(error))


@pytest.mark.parametrize("streamed", [True, False])
@pytest.mark.parametrize("api", ADAPTERS)
@pytest.mark.parametrize("name", CASES)
@pytest.mark.asyncio
async def test_the_words_decide(server: ScriptedServer, name: str, api: str, streamed: bool) -> None:
    status, body, kind, words = CASES[name]
    error = await failing(api, server, json_reply(body, f"{status} Status"), stream=streamed)
    check(error, kind, words)
    assert error.status_code == status
    assert error.refuses_message == (kind in (ContextLengthError, ContentFilteredError) or words == MODERATED)


@pytest.mark.parametrize("api", ADAPTERS)
@pytest.mark.parametrize("name", [name for name, case in CASES.items() if case[1]])
@pytest.mark.asyncio
async def test_the_words_decide_inside_a_reply_that_began_with_success(
    server: ScriptedServer, name: str, api: str
) -> None:
    _, body, kind, words = CASES[name]
    if name == "402":
        body = said("Insufficient Balance")
    check(await failing(api, server, in_stream(api, body)), kind, words)


@pytest.mark.parametrize("shape", [lambda body: [body], json.dumps, lambda body: {"error": json.dumps(body)}])
@pytest.mark.parametrize("name", ["Azure: filter", "OpenRouter: tools", "Groq: too large", "Google: reason"])
@pytest.mark.asyncio
async def test_lists_and_json_in_texts_are_read(server: ScriptedServer, name: str, shape: Any) -> None:
    status, body, kind, words = CASES[name]
    check(await failing("chat", server, json_reply(shape(body), f"{status} Status")), kind, words)


ORDINARY: list[tuple[int, Any, type[ProviderError]]] = [
    (400, said("max_tokens is too large: 100000. This model supports at most 16384"), InvalidRequestError),
    (400, said("max_tokens (32768) exceeds the maximum allowed (8192)"), InvalidRequestError),
    (400, said("Parallel tool calls are not supported"), InvalidRequestError),
    (
        400,
        {"detail": [{"loc": ["body"], "msg": "bad", "input": "prompt is too long, says a user"}]},
        InvalidRequestError,
    ),
    (401, said("The moderation of this key: invalid api key"), AuthenticationError),
    (403, said("Forbidden"), AuthenticationError),
    (404, said("not here"), InvalidRequestError),
    (429, said("Too many tokens per minute"), RateLimitError),
    (429, said("prompt is too long, or so"), RateLimitError),
    (500, said("out of memory"), ServerError),
    (
        400,
        said("Invalid 'tools[0].function.name': string too long.", code="string_above_max_length"),
        InvalidRequestError,
    ),
    (400, said("Invalid 'metadata.trip': string too long.", code="string_above_max_length"), InvalidRequestError),
    (400, said("Invalid 'user': string too long.", code="string_above_max_length"), InvalidRequestError),
    (
        400,
        said("Invalid 'input[2].name': string too long.", code="string_above_max_length"),
        InvalidRequestError,
    ),
    (
        400,
        said("Invalid 'messages[1].name': string too long.", code="string_above_max_length"),
        InvalidRequestError,
    ),
    (500, said("KV cache is full, please try again later"), ServerError),
    (503, said("KV cache is full. Retry later"), ServerError),
    (504, said("prompt evaluation exceeded 60 s"), ServerError),
    (500, said("prompt evaluation exceeded 60 s"), ServerError),
    (500, said("prompt evaluation exceeded the limit of 1.5 minutes"), ServerError),
    (500, said("prompt processing time exceeded"), ServerError),
    (503, said("input processing timed out: limit exceeded"), ServerError),
    (408, said("input read timeout exceeded"), InvalidRequestError),
    (408, said("The prompt is too long to be read in time"), InvalidRequestError),
    (504, said("The context window is exceeded"), ServerError),
    (400, said("The maximum number of output tokens exceeds the allowed limit of 8192"), InvalidRequestError),
    (400, said("Number of completion tokens requested exceeds the limit of 4096"), InvalidRequestError),
    (400, said("max_output_tokens exceeds the model's context window"), InvalidRequestError),
    (400, said("Error: `max_tokens` is greater than the maximum context length"), InvalidRequestError),
    (400, said("stop sequences: too many tokens"), InvalidRequestError),
    (404, said("context size route not found"), InvalidRequestError),
    (400, said("context size route not found"), InvalidRequestError),
    (400, said("num_ctx must be less than the context length"), InvalidRequestError),
    (400, said("Unrecognized field: context_length_exceeded"), InvalidRequestError),
    (400, said("Unknown parameter: 'content_filter'."), InvalidRequestError),
    (400, said("Unknown parameter: 'content_filter'.", code="unknown_parameter"), InvalidRequestError),
    (403, said("Access denied by your organization's usage policies"), AuthenticationError),
    (400, said("Set the usage policy first"), InvalidRequestError),
    (503, said("overloaded"), ServerError),
]


@pytest.mark.parametrize(("status", "body", "kind"), ORDINARY)
@pytest.mark.asyncio
async def test_where_the_words_say_nothing_else_the_status_decides(
    server: ScriptedServer, status: int, body: Any, kind: type[ProviderError]
) -> None:
    error = await failing("chat", server, json_reply(body, f"{status} Status"))
    assert type(error) is kind
    assert not error.refuses_message


@pytest.mark.parametrize(
    "field", ["input[2].call_id", "input[0].name", "tools[0].name", "messages[3].tool_calls[0].id"]
)
def test_a_field_that_is_too_long_is_no_conversation_that_is(field: str) -> None:
    assert find_kind(400, f"Invalid '{field}': string too long.\nstring_above_max_length") is None


WAITS: list[tuple[Any, float | None]] = [
    ([{"error": {"message": "no", "details": [{"retryDelay": "2.6s"}]}}], 2.6),
    (said("You exceeded your current quota. Please retry in 2.639s."), 2.639),
    (said("Rate limit reached. Please try again in 1m12s. Visit the page"), 72.0),
    (said("Rate limit reached. Please try again in 20ms."), 0.02),
    (said("Limit 100000, Used 99000, Requested 2000. Please try again in 27m30.5s."), 1650.5),
    (said("Try again in 1h2m"), 3720.0),
    (said("Please retry after 30 seconds."), 30.0),
    (said("Retry after 5 Seconds"), 5.0),
    ({"message": "slow down", "retry_after": 4}, 4.0),
    (said("no", metadata={"retry_after_seconds": "12"}), 12.0),
    (said("Provider returned error", metadata={"raw": '{"error": {"message": "try again in 3s"}}'}), 3.0),
    (said("Please wait 1 minute and 12 seconds."), 72.0),
    (said("Your quota will reset after 26s."), 26.0),
    (said("Try again later, 5 of you"), None),
    (said("Try again in a while"), None),
    ({"retry_after": True}, None),
    ({"retry_after": "soon"}, None),
    ("", None),
]


@pytest.mark.parametrize(("body", "seconds"), WAITS)
@pytest.mark.asyncio
async def test_the_wait_that_a_body_asks_for(server: ScriptedServer, body: Any, seconds: float | None) -> None:
    assert asked_wait_s(body) == (None if seconds is None else pytest.approx(seconds))
    error = await failing("chat", server, json_reply(body, "429 Too Many Requests"))
    assert type(error) is RateLimitError
    assert error.retry_after_s == (None if seconds is None else pytest.approx(seconds))


@pytest.mark.asyncio
async def test_the_wait_of_a_header_comes_first(server: ScriptedServer) -> None:
    reply = json_reply(said("try again in 9s"), "429 Too Many Requests", **{"retry-after": "2"})
    assert (await failing("chat", server, reply)).retry_after_s == 2.0


@pytest.mark.parametrize("raw", [{"error": {"message": "it has no seats"}}, "it has no seats"])
@pytest.mark.parametrize("in_reply", [True, False])
@pytest.mark.asyncio
async def test_the_words_of_the_provider_behind_a_router_are_shown(
    server: ScriptedServer, raw: Any, in_reply: bool
) -> None:
    text = raw if isinstance(raw, str) else json.dumps(raw)
    body = said("Provider returned error", code=502, metadata={"raw": text, "provider_name": "Inner"})
    reply = in_stream("chat", body) if in_reply else json_reply(body, "502 Bad Gateway")
    error = await failing("chat", server, reply)
    assert type(error) is ServerError
    assert "502: Inner: it has no seats" in str(error)
    assert "Provider returned error" not in str(error)


@pytest.mark.asyncio
async def test_an_option_that_an_error_names_comes_first(server: ScriptedServer) -> None:
    body = said("No endpoints found that support the provided 'tool_choice' value.", code=404)
    server.enqueue(json_reply(body, "404 Not Found"))
    agent = CreateAgent(
        "openai", "m", base_url=server.openai_url, config={"tool_choice": "auto"}, tools=[open_gate], max_retries=0
    )
    with pytest.raises(InvalidRequestError, match=r"That is config\['tool_choice'\]"):
        await agent.ask("Hello")


@pytest.mark.asyncio
async def test_the_words_behind_a_router_decide(server: ScriptedServer) -> None:
    raw = json.dumps(said("prompt is too long: 9 tokens > 8"))
    body = said("Provider returned error", code=400, metadata={"raw": raw, "provider_name": "Inner"})
    check(await failing("chat", server, json_reply(body, "400 Bad Request")), ContextLengthError, SHORTER)


@pytest.mark.parametrize(
    ("body", "sentence"),
    [
        ({"statusCode": 400, "error": "Bad Request", "message": "it is bad"}, "Bad Request: it is bad"),
        ({"error": True, "message": "it is bad"}, "it is bad"),
        ({"error": "it is bad", "message": "it is bad"}, "it is bad"),
        ({"code": "Client error", "error": "it is bad"}, "it is bad"),
        ({"error": ["it is bad", "and worse"]}, "it is bad; and worse"),
        ({"base_resp": {"status_code": 1, "status_msg": "it is bad"}}, "it is bad"),
        (
            said("m was flagged", metadata={"raw": "by us", "provider_name": "Inner"}),
            "m was flagged: Inner: by us",
        ),
        (said("it is bad", metadata=None), "it is bad"),
        ({"fault": {"faultstring": "it is bad", "detail": {"errorcode": "policies.ratelimit"}}}, "it is bad"),
        ({"fault": "it is bad"}, "it is bad"),
        ({"Error": {"Code": "E1", "Message": "it is bad"}}, "it is bad"),
        ({"Message": "it is bad"}, "it is bad"),
        ({"err": "it is bad"}, "it is bad"),
        ({"err": {"msg": "it is bad"}}, "it is bad"),
        ({"exception": {"message": "it is bad"}}, "it is bad"),
        ({"error": None, "exception": "it is bad"}, "it is bad"),
        ({"error": "invalid_grant", "error_description": "it is bad"}, "invalid_grant: it is bad"),
        ({"error": {}, "message": "it is bad"}, "it is bad"),
        ({"status": "failed"}, '{"status": "failed"}'),
    ],
)
def test_the_sentence_of_a_body(body: Any, sentence: str) -> None:
    assert error_message(body) == sentence


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (said("x", code=429), 429),
        ([said("x", code="429")], 429),
        ({"error": "x", "code": 503}, 503),
        ({"error": json.dumps(said("x", status="RESOURCE_EXHAUSTED"))}, 429),
        ({"object": "error", "type": "RateLimitError", "message": "x"}, 429),
        ({"type": "error", "error": {"type": "overloaded_error", "message": "x"}}, 529),
        ({"Error": {"code": 429, "Message": "x"}}, 429),
        ({"fault": {"status": "UNAVAILABLE", "faultstring": "x"}}, 503),
        (said("x", code=40001), None),
        ("x", None),
        (None, None),
    ],
)
def test_the_status_that_an_error_object_names(body: Any, status: int | None) -> None:
    assert status_in(body) == status


def test_what_a_server_repeats_of_the_request_is_not_searched() -> None:
    assert error_words({"detail": [{"msg": "bad", "input": {"messages": "prompt is too long"}}]}) == "bad"


def test_a_body_of_any_depth_and_size_is_read_soon() -> None:
    deep: Any = "try again in 5s"
    for _ in range(200):
        deep = {"error": [deep]}
    for body in (deep, {"error": "token " * 200_000}, ["request too large "] * 50_000, "kv cache " * 100_000):
        error_words(body)
        error_message(body)
        asked_wait_s(body)
        status_in(body)


@pytest.mark.parametrize("api", ADAPTERS)
@pytest.mark.asyncio
async def test_a_key_in_the_words_is_shown_once_and_masked(server: ScriptedServer, api: str) -> None:
    body = google(400, f"API key not valid: {KEY}", "INVALID_ARGUMENT")
    error = await failing(api, server, json_reply(body, "400 Bad Request"))
    assert type(error) is AuthenticationError
    assert str(error).count("API key not valid: ***") == 1
    assert KEY not in repr(error)


@pytest.mark.parametrize("reply", [in_stream("chat", said("gone", code="model_not_found"))])
@pytest.mark.asyncio
async def test_a_model_that_is_missing_inside_a_reply(server: ScriptedServer, reply: list[bytes]) -> None:
    error = await failing("chat", server, reply, model="mm")
    assert type(error) is ModelNotFoundError
    assert "has no model 'mm'" in str(error)


# ── what is sent again ───────────────────────────────────────────────────────────────────────────────────

HOPELESS = ["OpenAI: quota", "OpenAI: too large", "llama.cpp: tools", "too long: Context size has been exceeded."]


@pytest.mark.parametrize("api", ["chat", "ollama"])
@pytest.mark.parametrize("name", HOPELESS)
@pytest.mark.asyncio
async def test_a_request_that_is_refused_for_good_is_not_sent_again(
    server: ScriptedServer, name: str, api: str
) -> None:
    status, body, kind, words = CASES[name]
    server.on("*", json_reply(body, f"{status} Status"))
    error = (await round_trip(adapter_of(api, server, max_retries=2))).failure
    check(error, kind, words)
    assert (len(server.requests), error.retries) == (1, 0)


@pytest.mark.asyncio
async def test_the_wait_of_a_body_is_kept_before_a_request_is_sent_again(server: ScriptedServer) -> None:
    server.enqueue(json_reply(said("slow down: try again in 20ms"), "429 Too Many Requests"))
    server.enqueue(FINE)
    assert (await round_trip(adapter_of("chat", server, max_retries=1))).text == "fine"
    server.enqueue(json_reply(said("slow down: try again in 1h"), "429 Too Many Requests"))
    error = (await round_trip(adapter_of("chat", server, max_retries=1))).failure
    assert (type(error), error.retries, error.retry_after_s) == (RateLimitError, 0, 3600.0)
    assert len(server.requests) == 3


# ── a batch ──────────────────────────────────────────────────────────────────────────────────────────────


def agent_at(server: ScriptedServer, provider: str = "openai") -> CreateAgent:
    url = server.openai_url if provider == "openai" else server.url
    return CreateAgent(provider, "m", base_url=url, api_key=KEY, recorder=MetricsRecorder())


@pytest.mark.parametrize("provider", ["openai", "ollama"])
@pytest.mark.parametrize("in_reply", [True, False])
@pytest.mark.parametrize("name", ["402", "OpenAI: quota", "xAI: credit"])
@pytest.mark.asyncio
async def test_no_credit_ends_a_batch_at_once(
    server: ScriptedServer, name: str, in_reply: bool, provider: str
) -> None:
    status, body, _, words = CASES[name]
    api = "ollama" if provider == "ollama" else "chat"
    server.on("*", Reply(in_stream(api, body)) if in_reply else json_reply(body, f"{status} Status"))
    frame = await agent_at(server, provider).map([f"row {n}" for n in range(20)], concurrency=1, progress=False)
    assert frame["status"].tolist() == ["error"] + ["not run"] * 19
    assert len(server.requests) == 1
    assert frame["error"].str.contains(words).all()
    assert frame["error"].nunique() == 1


@pytest.mark.asyncio
async def test_rows_that_run_when_the_credit_ends_are_the_last(server: ScriptedServer) -> None:
    server.on("*", json_reply(CASES["402"][1], "402 Payment Required"))
    frame = await agent_at(server).map([f"row {n}" for n in range(20)], concurrency=3, progress=False)
    assert len(server.requests) == 3
    assert frame["status"].tolist() == ["error"] * 3 + ["not run"] * 17


@pytest.mark.asyncio
async def test_a_row_whose_stream_begins_with_a_rate_limit_is_sent_again(server: ScriptedServer) -> None:
    server.enqueue(in_stream("chat", said("Rate limit reached. Please try again in 20ms.", type="tokens")))
    server.enqueue(FINE)
    frame = await agent_at(server).map(["one"], progress=False)
    assert frame["answer"].tolist() == ["fine"]
    assert len(server.requests) == 2


@pytest.mark.asyncio
async def test_a_rate_limit_after_the_first_token_fails_its_row_and_not_the_next(server: ScriptedServer) -> None:
    limit = said("Rate limit reached. Please try again in 20ms.")
    server.enqueue(sse(delta("so far"), limit, done=False))
    server.enqueue(FINE)
    frame = await agent_at(server).map(["one", "two"], concurrency=1, progress=False)
    assert frame["status"].tolist() == ["error", "ok"]
    assert frame["error"][0].startswith("RateLimitError: ")


@pytest.mark.parametrize("name", [name for name in HOPELESS if name != "OpenAI: quota"])
@pytest.mark.asyncio
async def test_a_row_that_is_refused_for_good_is_sent_once(server: ScriptedServer, name: str) -> None:
    status, body, kind, _ = CASES[name]
    server.on("*", json_reply(body, f"{status} Status"))
    frame = await agent_at(server).map(["one"], progress=False)
    assert frame["error"][0].startswith(f"{kind.__name__}: ")
    assert len(server.requests) == 1


@pytest.mark.asyncio
async def test_clauses_for_rate_limits_catch_a_spent_quota_too(server: ScriptedServer) -> None:
    server.enqueue(json_reply(CASES["402"][1], "402 Payment Required"))
    with pytest.raises(RateLimitError):
        await agent_at(server).ask("Hello")
