"""The routes of the server: access checks, parsing, and replies at the pace of the model."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, Final

from aiohttp import web

from ..logging_config import LoggingConfig
from . import model, ollama_reply, ollama_request, openai_reply, openai_request
from .conversation import canonical_model
from .ollama_request import OllamaError
from .openai_error import OpenAIError, model_not_found
from .tokens import Generation, Token, generate, token_delays_s

__all__ = ["MAX_BODY_BYTES", "make_app"]

MAX_BODY_BYTES: Final = 8 * 2**20
_LOOPBACK = ("127.0.0.1", "localhost", "[::1]")
_NO_KEY = (
    "You didn't provide an API key. You need to provide your API key in an Authorization header using Bearer auth "
    "(i.e. Authorization: Bearer YOUR_KEY). This demo server takes any key, such as 'demo'."
)
_logger = LoggingConfig.get_logger(__name__)

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def make_app(tokens_per_s: float) -> web.Application:
    """Make the application; ``tokens_per_s`` is the pace of the models that have one."""
    app = web.Application(middlewares=[_error_middleware, _loopback_middleware], client_max_size=MAX_BODY_BYTES)
    chat_routes = _ChatRoutes(tokens_per_s)
    app.add_routes(
        [
            web.get("/", _root),
            web.get("/api/version", _version),
            web.get("/api/tags", _tags),
            web.get("/api/ps", _ps),
            web.post("/api/show", _show),
            web.post("/api/chat", chat_routes.ollama_chat),
            web.get("/v1/models", _models),
            web.get("/v1/models/{name:.+}", _model),
            web.post("/v1/chat/completions", chat_routes.openai_chat),
        ]
    )
    return app


def _json_response(body: Any, status: int = 200) -> web.Response:
    return web.json_response(body, status=status, dumps=lambda value: json.dumps(value, ensure_ascii=False))


@web.middleware
async def _error_middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Return every error in the format of the API that was called."""
    try:
        return await handler(request)
    except (OpenAIError, OllamaError) as error:
        return _json_response(error.body, error.status)
    except web.HTTPException as error:
        return _http_error_response(request, error)
    except OSError:  # the client disconnected
        raise
    except Exception as error:
        _logger.exception("The demo server failed on %s %s", request.method, request.path)
        message = f"The demo server failed: {type(error).__name__}"
        if request.path.startswith("/v1"):
            body: Any = {"error": {"message": message, "type": "server_error", "param": None, "code": None}}
        else:
            body = {"error": message}
        return _json_response(body, 500)


def _http_error_response(request: web.Request, error: web.HTTPException) -> web.Response:
    if error.status == 413:
        message = f"The request is larger than {MAX_BODY_BYTES:,} bytes."
        too_large = OpenAIError(413, message) if request.path.startswith("/v1") else OllamaError(413, message)
        return _json_response(too_large.body, 413)
    if request.path.startswith("/v1"):
        if error.status == 405:
            message = f"Not allowed to {request.method} on {request.path}."
            return _json_response(OpenAIError(405, message, code="method_not_supported").body, 405)
        return _json_response(
            OpenAIError(error.status, f"Invalid URL ({request.method} {request.path})").body, error.status
        )
    texts = {404: "404 page not found", 405: "405 method not allowed"}
    return web.Response(text=texts.get(error.status, error.reason), status=error.status)


@web.middleware
async def _loopback_middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Reject requests from pages of other sites, including those that use a DNS name for this machine."""
    if request.transport is None:
        raise ConnectionResetError("the client is gone")
    port = request.transport.get_extra_info("sockname")[1]
    own = {f"{name}:{port}" for name in _LOOPBACK}
    hosts = request.headers.getall("Host", [])
    if len(hosts) != 1 or hosts[0].lower() not in own:
        return _forbidden_response(
            request, f"This server answers under its own address only: use http://127.0.0.1:{port}"
        )
    if any(origin not in {f"http://{host}" for host in own} for origin in request.headers.getall("Origin", [])):
        return _forbidden_response(request, "This server does not answer the pages of other sites")
    return await handler(request)


def _forbidden_response(request: web.Request, message: str) -> web.Response:
    error = OpenAIError(403, message) if request.path.startswith("/v1") else OllamaError(403, message)
    return _json_response(error.body, 403)


async def _read_body(request: web.Request, make_error: Callable[[str], Exception]) -> Any:
    raw = await request.read()
    if not raw.strip():
        raise make_error("missing request body")
    try:
        return json.loads(raw)
    except json.JSONDecodeError as error:
        if error.pos >= len(error.doc.rstrip()) or error.msg.startswith("Unterminated"):
            raise make_error("unexpected EOF") from None
        raise make_error(f"invalid character {error.doc[error.pos]!r} looking for beginning of value") from None
    except (ValueError, RecursionError):
        raise make_error("invalid JSON") from None


def _openai_body_error(reason: str) -> OpenAIError:
    return OpenAIError(400, f"We could not parse the JSON body of your request: {reason}.")


def _ollama_body_error(reason: str) -> OllamaError:
    return OllamaError(400, reason)


def _check_key(request: web.Request) -> None:
    scheme, _, key = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not key.strip():
        raise OpenAIError(401, _NO_KEY)


async def _root(_: web.Request) -> web.Response:
    return web.Response(text="Ollama is running")


async def _version(_: web.Request) -> web.Response:
    return _json_response({"version": ollama_reply.VERSION})


async def _tags(_: web.Request) -> web.Response:
    return _json_response(ollama_reply.tags())


async def _ps(_: web.Request) -> web.Response:
    return _json_response(ollama_reply.loaded_models())


async def _show(request: web.Request) -> web.Response:
    body = await _read_body(request, _ollama_body_error)
    field = "model" if isinstance(body, dict) and body.get("model") else "name"
    return _json_response(ollama_reply.show(ollama_request.parse_model(body, field)))


async def _models(request: web.Request) -> web.Response:
    _check_key(request)
    return _json_response(openai_reply.model_list())


async def _model(request: web.Request) -> web.Response:
    _check_key(request)
    name = request.match_info["name"]
    if canonical_model(name) is None:
        raise model_not_found(name)
    return _json_response(openai_reply.model_card(name))


class _ChatRoutes:
    def __init__(self, tokens_per_s: float) -> None:
        self._tokens_per_s = tokens_per_s

    async def _pace(self, name: str, generation: Generation) -> AsyncIterator[Token]:
        """Yield each token when it is due."""
        if canonical_model(name) == "demo-instant":
            for token in generation.tokens:
                yield token
            return
        loop = asyncio.get_running_loop()
        due = loop.time()
        for token, delay_s in zip(generation.tokens, token_delays_s(self._tokens_per_s), strict=False):
            due += delay_s
            await asyncio.sleep(max(0.0, due - loop.time()))
            yield token

    async def openai_chat(self, request: web.Request) -> web.StreamResponse:
        _check_key(request)
        chat = openai_request.parse_request(await _read_body(request, _openai_body_error))
        reply = model.answer(chat.messages, chat.tools, chat.options)
        arguments = openai_reply.arguments_text(reply)
        generation = generate(reply, arguments, max_tokens=chat.options.max_tokens, stop=chat.options.stop)
        writer = openai_reply.OpenAIReplyWriter(chat, reply, generation)
        if not chat.stream:
            async for _ in self._pace(chat.model, generation):
                pass
            return _json_response(writer.body())
        response = web.StreamResponse(
            headers={"Content-Type": "text/event-stream; charset=utf-8", "Cache-Control": "no-cache"}
        )
        await response.prepare(request)
        await response.write(writer.format_start())
        async for token in self._pace(chat.model, generation):
            await response.write(writer.format_token(token))
        await response.write(writer.format_end())
        await response.write_eof()
        return response

    async def ollama_chat(self, request: web.Request) -> web.StreamResponse:
        received_ns = time.perf_counter_ns()
        body = await _read_body(request, _ollama_body_error)
        chat = ollama_request.parse_request(body)
        if not chat.messages:
            reason = "unload" if body.get("keep_alive") in (0, "0", "0s") else "load"
            return _json_response(ollama_reply.load_response(chat.model, reason))
        reply = model.answer(chat.messages, chat.tools, chat.options)
        arguments = ollama_reply.arguments_text(reply)
        generation = generate(reply, arguments, max_tokens=chat.options.max_tokens, stop=chat.options.stop)
        writer = ollama_reply.OllamaReplyWriter(chat, reply, generation, received_ns)
        if not chat.stream:
            async for _ in self._pace(chat.model, generation):
                writer.mark_first_token()
            return _json_response(writer.body())
        response = web.StreamResponse(headers={"Content-Type": "application/x-ndjson"})
        await response.prepare(request)
        tokens = generation.tokens
        count = 0
        async for token in self._pace(chat.model, generation):
            count += 1
            line = writer.format_token(token, ends_call=count == len(tokens) or tokens[count].call != token.call)
            if line:
                await response.write(line)
        await response.write(writer.format_end())
        await response.write_eof()
        return response
