"""What a server at home tells about itself: how many requests it works on at once, its context, what is loaded.

Each question is asked at most once per server and minute, and never for long. A server that does not know the
question is treated as any other.

Sources: https://github.com/ggml-org/llama.cpp/blob/master/tools/server/README.md (``/props``, ``/health``),
https://github.com/ollama/ollama/blob/main/docs/api.md (``/api/ps``, ``/api/show``),
https://docs.vllm.ai/en/stable/serving/openai_compatible_server/ (``max_model_len``).
"""

from __future__ import annotations

import asyncio
import json
import math
import re
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, TypeAlias
from urllib.parse import quote

from .error_body import error_message

__all__ = ["ASK_S", "LocalServer", "is_loading", "reset", "root_of"]

ASK_S = 1.0
"""Limit for one question, in seconds."""

_FRESH_S = 60.0
_MAX_ANSWERS = 256
_NUM_CTX = re.compile(r"(?m)^num_ctx\s+(\d+)")
_LOADING = re.compile(
    r"(?i)\bloading (?:the |its )?model\b"
    r"|\bmodel (?:\S{1,200} )?(?:is |still |currently )*(?:loading|being loaded)\b"
)
_FAILED = re.compile(
    r"(?i)\berror|\bfail|\bunable\b|\bcould not\b|\bcan ?not\b|n[o'’]t\b|out of memory|\bno such\b|invalid"
    r"|\btime(?:d|s)?[ -]?out\b|crash|abort|denied|exceed"
)

Ask: TypeAlias = Callable[[str, Mapping[str, Any] | None], Awaitable[Any]]
"""Sends a question: the whole address, and the body of a POST. Returns decoded JSON, or None."""

_answers: dict[tuple[str, str], tuple[float, Any]] = {}
_asked: dict[tuple[str, str, asyncio.AbstractEventLoop], asyncio.Future[Any]] = {}


def reset() -> None:
    """Forget all answers."""
    _answers.clear()
    _asked.clear()


def root_of(url: str) -> str:
    """Return the address below which a server tells about itself.

    >>> root_of("http://127.0.0.1:8080/v1")
    'http://127.0.0.1:8080'
    """
    return url.removesuffix("/v1").removesuffix("/api").rstrip(":" if url.startswith("unix:") else "/")


def is_loading(status: int | None, refusal: Any, *, is_at_home: bool = True) -> bool:
    """Whether a server refuses because it is still loading its model: llama.cpp's 503 ``Loading model``.

    A model that cannot be loaded is not waited for. Hosted servers only count where they say how long it takes,
    as Hugging Face's do.

    Args:
        is_at_home: whether the server is at home.

    Sources: https://github.com/ggml-org/llama.cpp/blob/master/tools/server/README.md,
    https://huggingface.co/docs/api-inference/detailed_parameters (``estimated_time``)

    >>> is_loading(503, {"error": "Loading model"}), is_loading(503, {"error": "Error loading model"})
    (True, False)
    """
    if status != 503 or not (is_at_home or _has_estimate(refusal)):
        return False
    said = error_message(refusal)
    return _LOADING.search(said) is not None and _FAILED.search(said) is None


def _has_estimate(refusal: Any) -> bool:
    estimate = _at(refusal, "estimated_time")
    return isinstance(estimate, int | float) and not isinstance(estimate, bool) and math.isfinite(estimate)


class LocalServer:
    """One server.

    Args:
        url: its base address.
        ask: sends a question.
        is_ollama: whether it is asked in Ollama's own API.

    Example:
        >>> LocalServer("http://127.0.0.1:8080/v1", ask)
    """

    def __init__(self, url: str, ask: Ask, *, is_ollama: bool = False) -> None:
        self._root, self._url, self._ask, self._is_ollama = root_of(url), url, ask, is_ollama
        self._question = "/api/ps" if is_ollama else "/props"

    async def slots(self) -> int | None:
        """Return how many requests it works on at once; None where it does not say."""
        if self._is_ollama:
            return None
        return _count(_at(await self._props(), "total_slots"))

    async def is_known(self) -> bool:
        """Whether it says that it is llama.cpp or Ollama, where a request may wait for others."""
        await self._answer(self._question)
        return self.was_known

    @property
    def was_known(self) -> bool:
        """The same, as far as it has been asked."""
        _, answer = _answers.get((self._root + self._question, "null"), (0.0, None))
        if self._is_ollama:
            return isinstance(_at(answer, "models"), list)
        return _count(_at(answer, "total_slots")) is not None or _at(answer, "role") == "router"

    async def is_cold(self, model: str) -> bool:
        """Whether the model is not in Ollama's memory yet, so that a request waits; False if it does not say."""
        if not self._is_ollama:
            return False
        listed = _at(await self._answer("/api/ps"), "models")
        return isinstance(listed, list) and not any(
            _is_named(model, _at(entry, "name"), _at(entry, "model")) for entry in listed
        )

    async def better_address(self) -> str | None:
        """Say how else it is to be asked, for a server that does not know what it was asked; None if unknown."""
        openai = f"{self._root}/v1"
        tags = await self._answer("/api/tags")
        # llama.cpp answers there, too, with a list in OpenAI's form besides.
        speaks_ollama = isinstance(_at(tags, "models"), list) and _at(tags, "object") is None
        speaks_openai = isinstance(_at(await self._answer("/v1/models"), "data"), list)
        if self._is_ollama:
            if speaks_openai and not speaks_ollama:
                return f"This server speaks OpenAI's API: use provider='openai' with base_url={openai!r}"
        elif self._url != openai:
            if speaks_ollama:
                return (
                    f"This is Ollama: use provider='ollama' with base_url={self._root!r}, or base_url={openai!r} "
                    "for its compatible API"
                )
            if speaks_openai:
                return f"This server speaks OpenAI's API below /v1: use base_url={openai!r}"
        return None

    async def context_window(self, model: str) -> int | None:
        """Return the size of the context in tokens, input and answer; None where it is not known."""
        if self._is_ollama:
            return await self._ollama_context(model)
        props = await self._props()
        if _at(props, "role") == "router":
            props = await self._answer(f"/props?model={quote(model, safe='')}&autoload=false")
        size = _count(_at(props, "default_generation_settings", "n_ctx"))
        if size is not None:
            return size
        listed = _at(await self._answer("/models", of=self._url), "data")
        return next(
            (_count(_at(entry, "max_model_len")) for entry in _list(listed) if _at(entry, "id") == model), None
        )

    async def _ollama_context(self, model: str) -> int | None:
        # A loaded model says its context itself: num_ctx of the request, or the server's default, else unknown.
        for entry in _list(_at(await self._answer("/api/ps"), "models")):
            if _is_named(model, _at(entry, "name"), _at(entry, "model")):
                size = _count(_at(entry, "context_length"))
                if size is not None:
                    return size
        shown = await self._answer("/api/show", {"model": model})
        parameters = _at(shown, "parameters")
        found = _NUM_CTX.search(parameters) if isinstance(parameters, str) else None
        if found is not None:
            return _count(int(found[1]))
        info = _at(shown, "model_info")
        sizes = [value for name, value in info.items() if name.endswith(".context_length")] if info else []
        return _count(sizes[0]) if sizes else None

    async def _props(self) -> Any:
        return await self._answer("/props")

    async def _answer(self, path: str, body: Mapping[str, Any] | None = None, *, of: str | None = None) -> Any:
        """Return the answer to a question, at most a minute old."""
        url = (self._root if of is None else of) + path
        key = url, json.dumps(body)
        asked_at, answer = _answers.get(key, (-_FRESH_S, None))
        if time.monotonic() - asked_at < _FRESH_S:
            return answer
        loop = asyncio.get_running_loop()
        question = _asked.get((*key, loop))
        if question is None:
            question = _asked[*key, loop] = asyncio.ensure_future(self._ask(url, body))
            question.add_done_callback(lambda done: _keep(key, loop, done))
        return await asyncio.shield(question)


def _keep(key: tuple[str, str], loop: asyncio.AbstractEventLoop, question: asyncio.Future[Any]) -> None:
    _asked.pop((*key, loop), None)
    failed = question.cancelled() or question.exception() is not None
    while len(_answers) >= _MAX_ANSWERS:
        del _answers[next(iter(_answers))]
    _answers[key] = time.monotonic(), None if failed else question.result()


def _at(value: Any, *names: str) -> Any:
    for name in names:
        value = value.get(name) if isinstance(value, dict) else None
    return value


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _count(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 < value < 2**31 else None


def _is_named(model: str, *names: Any) -> bool:
    return any(name in (model, f"{model}:latest") for name in names)
