"""The routes: who may ask, what is asked, and the answer at its pace."""

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
from .tokens import Generation, Piece, delays_s, generate

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
    """The application; ``tokens_per_s`` is the pace of the models that have one."""
    app = web.Application(middlewares=[_errors, _local_only], client_max_size=MAX_BODY_BYTES)
    server = _Server(tokens_per_s)
    app.add_routes(
        [
            web.get("/", _root),
            web.get("/api/version", _version),
            web.get("/api/tags", _tags),
            web.get("/api/ps", _ps),
            web.post("/api/show", _show),
            web.post("/api/chat", server.ollama_chat),
            web.get("/v1/models", _models),
            web.get("/v1/models/{name:.+}", _model),
            web.post("/v1/chat/completions", server.openai_chat),
        ]
    )
    return app


def _json(body: Any, status: int = 200) -> web.Response:
    return web.json_response(body, status=status, dumps=lambda value: json.dumps(value, ensure_ascii=False))


@web.middleware
async def _errors(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Whatever goes wrong, in the words of the API that was called."""
    try:
        return await handler(request)
    except (OpenAIError, OllamaError) as error:
        return _json(error.body, error.status)
    except web.HTTPException as error:
        return _refusal(request, error)
    except OSError:  # the client is gone
        raise
    except Exception as error:
        _logger.exception("The demo server failed on %s %s", request.method, request.path)
        message = f"The demo server failed: {type(error).__name__}"
        if request.path.startswith("/v1"):
            body: Any = {"error": {"message": message, "type": "server_error", "param": None, "code": None}}
        else:
            body = {"error": message}
        return _json(body, 500)


def _refusal(request: web.Request, error: web.HTTPException) -> web.Response:
    if error.status == 413:
        message = f"The request is larger than {MAX_BODY_BYTES:,} bytes."
        large = OpenAIError(413, message) if request.path.startswith("/v1") else OllamaError(413, message)
        return _json(large.body, 413)
    if request.path.startswith("/v1"):
        if error.status == 405:
            message = f"Not allowed to {request.method} on {request.path}."
            return _json(OpenAIError(405, message, code="method_not_supported").body, 405)
        return _json(
            OpenAIError(error.status, f"Invalid URL ({request.method} {request.path})").body, error.status
        )
    words = {404: "404 page not found", 405: "405 method not allowed"}
    return web.Response(text=words.get(error.status, error.reason), status=error.status)


@web.middleware
async def _local_only(request: web.Request, handler: Handler) -> web.StreamResponse:
    """No page of another site gets an answer, not even through a name that resolves to this machine."""
    if request.transport is None:
        raise ConnectionResetError("the client is gone")
    port = request.transport.get_extra_info("sockname")[1]
    own = {f"{name}:{port}" for name in _LOOPBACK}
    hosts = request.headers.getall("Host", [])
    if len(hosts) != 1 or hosts[0].lower() not in own:
        return _forbidden(request, f"This server answers under its own address only: use http://127.0.0.1:{port}")
    if any(origin not in {f"http://{host}" for host in own} for origin in request.headers.getall("Origin", [])):
        return _forbidden(request, "This server does not answer the pages of other sites")
    return await handler(request)


def _forbidden(request: web.Request, message: str) -> web.Response:
    error = OpenAIError(403, message) if request.path.startswith("/v1") else OllamaError(403, message)
    return _json(error.body, 403)


async def _body(request: web.Request, fail: Callable[[str], Exception]) -> Any:
    raw = await request.read()
    if not raw.strip():
        raise fail("missing request body")
    try:
        return json.loads(raw)
    except json.JSONDecodeError as error:
        if error.pos >= len(error.doc.rstrip()) or error.msg.startswith("Unterminated"):
            raise fail("unexpected EOF") from None
        raise fail(f"invalid character {error.doc[error.pos]!r} looking for beginning of value") from None
    except (ValueError, RecursionError):
        raise fail("invalid JSON") from None


def _openai_failure(reason: str) -> OpenAIError:
    return OpenAIError(400, f"We could not parse the JSON body of your request: {reason}.")


def _ollama_failure(reason: str) -> OllamaError:
    return OllamaError(400, reason)


def _check_key(request: web.Request) -> None:
    scheme, _, key = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not key.strip():
        raise OpenAIError(401, _NO_KEY)


async def _root(_: web.Request) -> web.Response:
    return web.Response(text="Ollama is running")


async def _version(_: web.Request) -> web.Response:
    return _json({"version": ollama_reply.VERSION})


async def _tags(_: web.Request) -> web.Response:
    return _json(ollama_reply.tags())


async def _ps(_: web.Request) -> web.Response:
    return _json(ollama_reply.running())


async def _show(request: web.Request) -> web.Response:
    body = await _body(request, _ollama_failure)
    field = "model" if isinstance(body, dict) and body.get("model") else "name"
    return _json(ollama_reply.show(ollama_request.read_model(body, field)))


async def _models(request: web.Request) -> web.Response:
    _check_key(request)
    return _json(openai_reply.model_list())


async def _model(request: web.Request) -> web.Response:
    _check_key(request)
    name = request.match_info["name"]
    if canonical_model(name) is None:
        raise model_not_found(name)
    return _json(openai_reply.model_card(name))


class _Server:
    def __init__(self, tokens_per_s: float) -> None:
        self._tokens_per_s = tokens_per_s

    async def _paced(self, name: str, generation: Generation) -> AsyncIterator[Piece]:
        """The tokens, each when it is due."""
        if canonical_model(name) == "demo-instant":
            for piece in generation.pieces:
                yield piece
            return
        loop = asyncio.get_running_loop()
        due = loop.time()
        for piece, delay_s in zip(generation.pieces, delays_s(self._tokens_per_s), strict=False):
            due += delay_s
            await asyncio.sleep(max(0.0, due - loop.time()))
            yield piece

    async def openai_chat(self, request: web.Request) -> web.StreamResponse:
        _check_key(request)
        call = openai_request.read_request(await _body(request, _openai_failure))
        reply = model.answer(call.messages, call.tools, call.options)
        arguments = openai_reply.arguments_text(reply)
        generation = generate(reply, arguments, max_tokens=call.options.max_tokens, stop=call.options.stop)
        writer = openai_reply.OpenAIReply(call, reply, generation)
        if not call.stream:
            async for _ in self._paced(call.model, generation):
                pass
            return _json(writer.whole())
        response = web.StreamResponse(
            headers={"Content-Type": "text/event-stream; charset=utf-8", "Cache-Control": "no-cache"}
        )
        await response.prepare(request)
        await response.write(writer.first())
        async for piece in self._paced(call.model, generation):
            await response.write(writer.piece(piece))
        await response.write(writer.last())
        await response.write_eof()
        return response

    async def ollama_chat(self, request: web.Request) -> web.StreamResponse:
        received_ns = time.perf_counter_ns()
        body = await _body(request, _ollama_failure)
        call = ollama_request.read_request(body)
        if not call.messages:
            return _json(
                ollama_reply.loaded(call.model, "unload" if body.get("keep_alive") in (0, "0", "0s") else "load")
            )
        reply = model.answer(call.messages, call.tools, call.options)
        arguments = ollama_reply.arguments_text(reply)
        generation = generate(reply, arguments, max_tokens=call.options.max_tokens, stop=call.options.stop)
        writer = ollama_reply.OllamaReply(call, reply, generation, received_ns)
        if not call.stream:
            async for _ in self._paced(call.model, generation):
                writer.mark_first()
            return _json(writer.whole())
        response = web.StreamResponse(headers={"Content-Type": "application/x-ndjson"})
        await response.prepare(request)
        pieces = generation.pieces
        at = 0
        async for piece in self._paced(call.model, generation):
            at += 1
            line = writer.piece(piece, ends_call=at == len(pieces) or pieces[at].call != piece.call)
            if line:
                await response.write(line)
        await response.write(writer.last())
        await response.write_eof()
        return response
