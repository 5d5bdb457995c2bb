"""What a server at home tells about itself: its context, its timings, the model that it serves."""

from __future__ import annotations

from typing import Any

import pytest
from family import Reply, ScriptedServer, delta, json_reply, round_trip, sse

from createagents_nb import CreateAgent, MetricsRecorder
from createagents_nb.errors import ConfigurationError
from createagents_nb.providers.addresses import is_private_address
from createagents_nb.providers.ollama_adapter import OllamaChatAdapter
from createagents_nb.providers.openai_adapter import OpenAIAdapter

PROPS = {"total_slots": 4, "default_generation_settings": {"n_ctx": 8192}, "model_path": "m.gguf"}
TIMINGS = {
    "cache_n": 20,
    "prompt_n": 11,
    "prompt_ms": 250.0,
    "predicted_n": 40,
    "predicted_ms": 2000.0,
    "predicted_per_second": 20.0,
}


def paths(server: ScriptedServer) -> list[str]:
    return [request.path for request in server.requests]


# ── the context ──────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.asyncio
async def test_llama_cpp_says_its_context_once_a_minute(server: ScriptedServer) -> None:
    server.on("/props", json_reply(PROPS))
    for _ in range(3):
        assert await OpenAIAdapter(base_url=server.openai_url).context_window("m") == 8192
    assert paths(server) == ["/props"]


@pytest.mark.asyncio
async def test_a_router_says_the_context_of_each_model(server: ScriptedServer) -> None:
    server.on("/props", json_reply({"role": "router", "default_generation_settings": {"n_ctx": 0}}))
    server.on("/props?model=a/b&autoload=false", json_reply(PROPS))
    assert await OpenAIAdapter(base_url=server.openai_url).context_window("a/b") == 8192


@pytest.mark.asyncio
async def test_vllm_says_its_context_in_the_list_of_models(server: ScriptedServer) -> None:
    server.on("/v1/models", json_reply({"data": [{"id": "other"}, {"id": "m", "max_model_len": 4096}]}))
    adapter = OpenAIAdapter(base_url=server.openai_url)
    assert await adapter.context_window("m") == 4096
    assert await adapter.context_window("other") is None


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("running", "shown", "tokens"),
    [
        ([{"name": "m:latest", "context_length": 4096}], {}, 4096),
        ([{"name": "other", "context_length": 1}], {"parameters": "stop  x\nnum_ctx    16384"}, 16384),
        ([], {"model_info": {"llama.context_length": 131072, "llama.block_count": 3}}, 131072),
        ([], {"model_info": None, "parameters": 3}, None),
        (None, {}, None),
    ],
    ids=["loaded", "parameter", "model", "nonsense", "nothing"],
)
async def test_ollama_says_its_context(
    server: ScriptedServer, running: Any, shown: dict[str, Any], tokens: int | None
) -> None:
    server.on("/api/ps", json_reply({"models": running}))
    server.on("/api/show", json_reply(shown))
    assert await OllamaChatAdapter(base_url=server.url).context_window("m") == tokens


@pytest.mark.asyncio
@pytest.mark.parametrize(
    "answer", [b"[", b"null", b"[1]", b'{"default_generation_settings": {"n_ctx": "many"}}', b'{"n_ctx": true}']
)
async def test_a_server_that_says_nothing_usable_has_no_known_context(
    server: ScriptedServer, answer: bytes
) -> None:
    for path in ("/props", "/v1/models", "/api/ps", "/api/show"):
        server.on(path, json_reply(answer))
    assert await OpenAIAdapter(base_url=server.openai_url).context_window("m") is None
    assert await OllamaChatAdapter(base_url=server.url).context_window("m") is None


@pytest.mark.asyncio
async def test_a_hosted_server_is_not_asked_about_itself() -> None:
    adapter = OpenAIAdapter(base_url="https://llm.invalid/v1")
    assert await adapter.context_window("m") is None
    assert await adapter.first_concurrency() is None


@pytest.mark.asyncio
async def test_a_server_behind_a_proxy_is_not_asked_about_itself(
    server: ScriptedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("NO_PROXY")
    monkeypatch.setenv("HTTP_PROXY", server.url)
    assert await OpenAIAdapter(base_url="http://10.0.0.7:8080/v1").context_window("m") is None
    assert not server.requests


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("http://127.0.0.1:8080/v1", True),
        ("http://localhost:8080/v1", True),
        ("http://[::1]:8080/v1", True),
        ("http://192.168.1.7/v1", True),
        ("http://gpu-box:8000/v1", True),
        ("http://gpu.local:8000/v1", True),
        ("unix:///run/model.sock:/v1", True),
        ("https://api.openai.com/v1", False),
        ("http://8.8.8.8/v1", False),
    ],
)
def test_which_addresses_are_at_home(url: str, expected: bool) -> None:
    assert is_private_address(url) is expected


# ── timings ──────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.asyncio
@pytest.mark.parametrize("stream", [True, False], ids=["streamed", "whole"])
@pytest.mark.parametrize("usage", [None, {"prompt_tokens": 31, "completion_tokens": 41}], ids=["alone", "usage"])
async def test_the_timings_of_llama_cpp_are_recorded(
    server: ScriptedServer, recorder: MetricsRecorder, stream: bool, usage: dict[str, int] | None
) -> None:
    more = {"timings": TIMINGS} | ({"usage": usage} if usage else {})
    if stream:
        server.enqueue(sse(delta("Hello"), delta(" you"), delta(finish="stop") | more))
    else:
        choice = {"index": 0, "message": {"role": "assistant", "content": "Hello"}, "finish_reason": "stop"}
        server.enqueue(json_reply({"choices": [choice], "model": "m", **more}))
    agent = CreateAgent("openai", "m", base_url=server.openai_url, recorder=recorder, config={"stream": stream})
    response = await agent.chat("hello")
    await response.wait()
    row = recorder.requests.iloc[-1]
    assert (row["eval_s"], row["prompt_eval_s"]) == (2.0, 0.25)
    assert (row["input_tokens"], row["cached_tokens"]) == (31, 20)
    assert row["output_tokens"] == (41 if usage else 40)


@pytest.mark.asyncio
@pytest.mark.parametrize("timings", [None, "fast", [], {"prompt_ms": "x", "predicted_n": -1, "cache_n": 1.5}])
async def test_timings_that_cannot_be_read_are_left_out(server: ScriptedServer, timings: Any) -> None:
    server.enqueue(sse(delta("Hello"), delta(finish="stop") | {"timings": timings}))
    trip = await round_trip(OpenAIAdapter(base_url=server.openai_url))
    assert trip.text == "Hello"
    assert (trip.end.usage.eval_s, trip.end.usage.output_tokens, trip.end.usage.cached_tokens) == (
        None,
        None,
        None,
    )


# ── the model that is served ─────────────────────────────────────────────────────────────────────────


def listed(*names: str, **more: Any) -> Any:
    return json_reply({"object": "list", "data": [{"id": name} | more for name in names]})


def test_a_base_url_without_a_model_takes_the_one_that_is_served(server: ScriptedServer) -> None:
    server.on("/v1/models", listed("tiny.gguf"))
    agent = CreateAgent(base_url=server.openai_url, api_key="key-123456", headers={"X-Team": "trains"})
    assert (agent.provider, agent.model) == ("openai", "tiny.gguf")
    sent = server.requests[0].headers
    assert (sent["authorization"], sent["x-team"]) == ("Bearer key-123456", "trains")


@pytest.mark.parametrize("name", ["llamacpp", "lmstudio", "vllm", "sglang", "litellm"])
def test_a_server_at_home_by_its_name_takes_the_model_that_is_served(server: ScriptedServer, name: str) -> None:
    server.on("/v1/models", listed("tiny"))
    assert CreateAgent(name, base_url=server.openai_url).model == "tiny"


def test_of_several_models_the_loaded_one_is_taken(server: ScriptedServer) -> None:
    states = {"a": "unloaded", "b": "loaded", "c": "unloaded"}
    data = [{"id": name, "status": {"value": state}} for name, state in states.items()]
    server.on("/v1/models", json_reply({"data": data}))
    assert CreateAgent(base_url=server.openai_url).model == "b"


def test_the_model_that_lm_studio_has_loaded_is_taken(server: ScriptedServer) -> None:
    server.on("/v1/models", listed("a", "b", "embed"))
    states = [("a", "not-loaded", "llm"), ("b", "loaded", "llm"), ("embed", "loaded", "embeddings")]
    data = [{"id": name, "state": state, "type": kind} for name, state, kind in states]
    server.on("/api/v0/models", json_reply({"data": data}))
    assert CreateAgent("lmstudio", base_url=server.openai_url).model == "b"


def test_several_models_are_listed_in_an_error(server: ScriptedServer) -> None:
    server.on("/v1/models", listed("a", "b"))
    with pytest.raises(ConfigurationError, match=r"has several models: a, b\. Name one, with model="):
        CreateAgent(base_url=server.openai_url)


def test_a_server_that_does_not_answer_is_an_error() -> None:
    with pytest.raises(ConfigurationError, match=r"No server at http://127\.0\.0\.1:1/v1 says which model it"):
        CreateAgent(base_url="http://127.0.0.1:1/v1")
    with pytest.raises(ConfigurationError, match=r"No server answers at http://127\.0\.0\.1:8080/v1 now"):
        CreateAgent("llamacpp")


@pytest.mark.parametrize(
    "body",
    [
        [{"id": "q"}],
        ["q"],
        {"models": [{"name": "q"}]},
        {"models": [{"model": "q"}, None, {"size": 1}]},
        {"data": [], "models": [{"name": "q"}]},
        {"data": [{"id": "q"}, {"id": "q"}]},
        {"data": [{"id": "q"}, {"object": "model"}]},
        {"data": [{"id": "q"}], "models": [{"name": "other"}]},
    ],
)
def test_a_list_of_models_is_read_in_any_form(server: ScriptedServer, body: Any) -> None:
    server.on("/v1/models", json_reply(body))
    assert CreateAgent(base_url=server.openai_url).model == "q"


@pytest.mark.parametrize("body", [[], {}, None, "q", 3, {"data": {"id": "q"}}, {"data": [None]}, {"data": [{}]}])
def test_a_list_without_models_is_an_error(server: ScriptedServer, body: Any) -> None:
    server.on("/v1/models", json_reply(body))
    with pytest.raises(ConfigurationError, match="says which model it serves"):
        CreateAgent(base_url=server.openai_url)


@pytest.mark.parametrize(
    ("status", "message", "words"),
    [
        (
            401,
            "Invalid API key zz-secret-12345",
            r"refused the key \(401: Invalid API key \*\*\*\).*OPENAI_API_KEY",
        ),
        (403, "Forbidden", r"refused the key \(403: Forbidden\)"),
        (503, "Loading model", r"is loading its model\. Try again when it has, or name the model"),
        (503, "overloaded", r"failed \(503: overloaded\)\. Try again"),
        (500, "Error loading model", r"failed \(500: Error loading model\)"),
        (429, "slow down", r"refusing more for now \(429: slow down\)"),
        (404, "not here", "says which model it serves"),
        (405, "not so", "says which model it serves"),
    ],
)
def test_a_server_that_refuses_to_list_its_models_says_why(
    server: ScriptedServer, status: int, message: str, words: str
) -> None:
    server.on("/v1/models", json_reply({"error": {"message": message}}, f"{status} Status"))
    with pytest.raises(ConfigurationError, match=words) as raised:
        CreateAgent(base_url=server.openai_url, api_key="zz-secret-12345")
    assert "zz-secret" not in str(raised.value)


def test_ollama_at_an_address_takes_its_first_model(server: ScriptedServer) -> None:
    server.on("/api/tags", json_reply({"models": [{"name": "llama3.2"}, {"name": "other"}]}))
    assert CreateAgent("ollama", base_url=server.url).model == "llama3.2"


def test_the_address_of_the_environment_is_a_choice_without_a_key(
    server: ScriptedServer, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    server.on("/v1/models", listed("tiny"))
    monkeypatch.setenv("OPENAI_BASE_URL", server.openai_url)
    agent = CreateAgent()
    assert (agent.provider, agent.model) == ("openai", "tiny")
    assert "Using openai:tiny (OPENAI_BASE_URL is set)" in "".join(capsys.readouterr())


# ── OLLAMA_HOST ──────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("host", "url"),
    [
        ("0.0.0.0", "http://127.0.0.1:11434"),
        ("0.0.0.0:8080", "http://127.0.0.1:8080"),
        ("http://0.0.0.0", "http://127.0.0.1:80"),
        ("[::]", "http://[::1]:11434"),
        ("[::]:8080", "http://[::1]:8080"),
        ("::1", "http://[::1]:11434"),
        (":8080", "http://127.0.0.1:8080"),
        ('"box"', "http://box:11434"),
        (" 'http://box:1234/' ", "http://box:1234"),
        ("https://box/ollama/", "https://box:443/ollama"),
        ("  ", "http://127.0.0.1:11434"),
        ('""', "http://127.0.0.1:11434"),
    ],
)
def test_the_host_of_the_environment_is_read_as_ollama_reads_it(
    monkeypatch: pytest.MonkeyPatch, host: str, url: str
) -> None:
    monkeypatch.setenv("OLLAMA_HOST", host)
    assert OllamaChatAdapter()._url == url


def test_a_local_ollama_is_found_at_an_address_in_quotes(
    server: ScriptedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.on("/api/tags", json_reply({"models": [{"name": "llama3.2"}]}))
    monkeypatch.setenv("OLLAMA_HOST", f' "0.0.0.0:{server.port}" ')
    assert CreateAgent().model == "llama3.2"


# ── the wrong API ────────────────────────────────────────────────────────────────────────────────────

NOT_FOUND = json_reply({"error": {"message": "File Not Found"}}, "404 Not Found")
UNEXPECTED = {"error": "Unexpected endpoint or method. (POST /chat/completions)"}
TAGS = json_reply({"models": [{"name": "llama3.2"}]})


@pytest.mark.asyncio
async def test_ollamas_api_at_a_server_of_openais_is_told(server: ScriptedServer) -> None:
    server.on("/api/chat", NOT_FOUND)
    server.on("/api/tags", NOT_FOUND)
    server.on("/v1/models", listed("m"))
    failure = (await round_trip(OllamaChatAdapter(base_url=server.url))).failure
    way = f"This server speaks OpenAI's API: use provider='openai' with base_url='{server.openai_url}'"
    assert str(failure).endswith(way)
    assert "404: File Not Found" in str(failure)


@pytest.mark.asyncio
async def test_ollamas_api_at_llama_cpp_is_told(server: ScriptedServer) -> None:
    server.on("/api/chat", Reply(sse(delta("Hello"), delta(finish="stop"))))
    server.on("/api/tags", json_reply({"models": [{"name": "m"}], "object": "list", "data": [{"id": "m"}]}))
    server.on("/v1/models", listed("m"))
    failure = (await round_trip(OllamaChatAdapter(base_url=server.url))).failure
    assert f"use provider='openai' with base_url='{server.openai_url}'" in str(failure)


@pytest.mark.asyncio
async def test_openais_api_at_ollama_without_v1_is_told(server: ScriptedServer) -> None:
    server.on("/chat/completions", Reply([b"404 page not found"], "404 Not Found", {"content-type": "text/plain"}))
    server.on("/api/tags", TAGS)
    server.on("/v1/models", listed("m"))
    failure = (await round_trip(OpenAIAdapter(base_url=server.url))).failure
    assert f"use provider='ollama' with base_url='{server.url}', or base_url='{server.openai_url}'" in str(failure)


@pytest.mark.asyncio
@pytest.mark.parametrize("reply", [NOT_FOUND, json_reply(UNEXPECTED)], ids=["404", "LM Studio"])
@pytest.mark.parametrize("stream", [True, False], ids=["streamed", "whole"])
async def test_a_missing_v1_is_told(server: ScriptedServer, reply: Reply, stream: bool) -> None:
    server.on("/chat/completions", reply)
    server.on("/api/tags", json_reply(UNEXPECTED))
    server.on("/v1/models", listed("m"))
    failure = (await round_trip(OpenAIAdapter(base_url=server.url), stream=stream)).failure
    way = f"This server speaks OpenAI's API below /v1: use base_url='{server.openai_url}'"
    assert str(failure).endswith(way)
