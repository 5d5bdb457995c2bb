"""Servers that have a name: their keys, addresses and habits, through scripted servers on loopback."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import openai
import pytest
from family import ScriptedServer, delta, json_reply, sse

from createagents_nb import CreateAgent, MetricsRecorder, tool
from createagents_nb.errors import (
    AuthenticationError,
    ConfigurationError,
    MissingKeyError,
    UnknownProviderError,
)
from createagents_nb.providers.openai_request import CHAT_FIELDS
from createagents_nb.providers.selection import ModelChoice, resolve_model, set_notebook_default
from createagents_nb.providers.servers import OPENAI, SERVERS, UNKNOWN, ServerFacts, facts_of

PRESETS = [name for name in SERVERS if name != "openai"]
HOSTED = [name for name in PRESETS if SERVERS[name].needs_key]
LOCAL = [name for name in PRESETS if not SERVERS[name].needs_key]
KEY = "a-key-of-that-server-0123456789"
ANSWER = sse(delta("Clear sky."), delta(finish="stop"))
ROOT = Path(__file__).resolve().parents[1]


def has_model(provider: str, model: str) -> bool:
    """Whether genai-prices knows a model of a provider."""
    from genai_prices import Usage, calc_price

    try:
        calc_price(Usage(input_tokens=1, output_tokens=1), model, provider_id=provider)
    except LookupError:
        return False
    return True


def address_of(row: ServerFacts) -> str:
    return row.base_url or f"https://mine{row.hosts[0]}{row.address_suffix}"


def own_address(monkeypatch: pytest.MonkeyPatch, name: str, server: ScriptedServer) -> None:
    """Make a scripted server the own address of a server of the table."""
    row = replace(SERVERS[name], base_url=server.openai_url, hosts=("127.0.0.1",))
    monkeypatch.setitem(SERVERS, name, row)  # type: ignore[arg-type]


@tool
def wind(place: str) -> str:
    """Wind at a place.

    Args:
        place: where
    """
    return f"12 knots at {place}"


# ── the table ──


@pytest.mark.parametrize("name", SERVERS)
def test_a_row_is_whole_and_is_found_by_its_name_and_by_its_hosts(name: str) -> None:
    row = SERVERS[name]
    assert row.name == name
    assert row.label
    assert row.source.startswith("https://")
    assert row.max_tokens in ("max_tokens", "max_completion_tokens")
    if row.needs_key:
        assert row.key_variables
        assert urlsplit(address_of(row)).scheme == "https"
        assert facts_of("openai", address_of(row)) is facts_of(None, address_of(row)) is row
    else:
        assert urlsplit(row.base_url or "").hostname == "127.0.0.1"
        assert facts_of("openai", row.base_url or "") is UNKNOWN
    assert facts_of(name, "https://gateway.example/v1") is (UNKNOWN if row is OPENAI else row)


def test_a_host_that_only_ends_like_a_known_one_is_another() -> None:
    for url in (
        "https://notapi.openai.com/v1",
        "https://api.deepseek.com.example/v1",
        "https://openai.azure.com.x/",
    ):
        assert facts_of(None, url) is UNKNOWN
    assert facts_of(None, "https://eu.api.openai.com/v1") is OPENAI


def test_no_key_can_be_taken_for_one_of_two_servers() -> None:
    prefixes = [prefix for row in SERVERS.values() for prefix in row.key_prefixes]
    assert not [(a, b) for a in prefixes for b in prefixes if a is not b and a.startswith(b)]


@pytest.mark.parametrize("name", [name for name in SERVERS if SERVERS[name].default_model is not None])
def test_the_default_model_of_a_server_is_one_with_a_published_price(name: str) -> None:
    row = SERVERS[name]
    assert row.default_model is not None
    assert has_model(row.price_provider or "", row.default_model)


@pytest.mark.parametrize(
    "path", ["README.md", *sorted(f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md"))]
)
def test_every_model_that_the_documentation_names_has_a_published_price(path: str) -> None:
    text = (ROOT / path).read_text(encoding="utf-8")
    pattern = rf"\b({'|'.join(SERVERS)}):([\w./-]+[\w])|CreateAgent\(\"({'|'.join(SERVERS)})\", \"([^\"]+)\""
    named = {(m[1] or m[3], m[2] or m[4]) for m in re.finditer(pattern, text)}
    named |= {("openai", name) for name in re.findall(r"\bgpt-\d[\w.]*(?:-[a-z]\w*)*", text) if "oss" not in name}
    named = {(name, model) for name, model in named if SERVERS[name].price_provider}
    unknown = {each for each in named if not has_model(SERVERS[each[0]].price_provider or "", each[1])}
    placeholders = {("azure", "my-deployment"), ("mistral", "7b"), ("openai", "my-alias")}
    assert unknown - placeholders == set()


@pytest.mark.parametrize("name", SERVERS)
@pytest.mark.parametrize("think", [True, False, "low"])
def test_thinking_becomes_fields_that_a_refusal_leads_back_to_it(name: str, think: bool | str) -> None:
    fields = SERVERS[name].think(think)
    assert fields
    assert fields.keys() <= {field for field, key in CHAT_FIELDS if key == "think"}


@pytest.mark.parametrize(
    ("name", "off", "level"),
    [
        ("gemini", {"reasoning_effort": "none"}, {"reasoning_effort": "low"}),
        ("mistral", {"reasoning_effort": "none"}, {"reasoning_effort": "low"}),
        (
            "deepseek",
            {"thinking": {"type": "disabled"}},
            {"thinking": {"type": "enabled"}, "reasoning_effort": "low"},
        ),
        ("zai", {"thinking": {"type": "disabled"}}, {"thinking": {"type": "enabled"}, "reasoning_effort": "low"}),
        ("moonshot", {"thinking": {"type": "disabled"}}, {"reasoning_effort": "low"}),
        ("openrouter", {"reasoning": {"enabled": False}}, {"reasoning": {"effort": "low"}}),
        ("together", {"reasoning": {"enabled": False}}, {"reasoning_effort": "low"}),
        ("qwen", {"enable_thinking": False}, {"enable_thinking": True, "reasoning_effort": "low"}),
        (
            "vllm",
            {"chat_template_kwargs": {"enable_thinking": False, "thinking": False}},
            {"chat_template_kwargs": {"enable_thinking": True, "thinking": True}, "reasoning_effort": "low"},
        ),
    ],
)
@pytest.mark.asyncio
async def test_thinking_is_sent_in_the_words_of_the_server(
    server: ScriptedServer, name: str, off: dict[str, Any], level: dict[str, Any]
) -> None:
    plain = await body_at(server, name)
    assert {
        key: value for key, value in (await body_at(server, name, think=False)).items() if key not in plain
    } == off
    assert {k: value for k, value in (await body_at(server, name, think="low")).items() if k not in plain} == level


async def body_at(server: ScriptedServer, name: str, **config: Any) -> dict[str, Any]:
    """What is sent to a server of the table that is reached at another address."""
    server.enqueue(ANSWER)
    agent = CreateAgent(name, "m", base_url=server.openai_url, api_key=KEY, config={"api": "chat", **config})
    assert await agent.ask("Weather?") == "Clear sky."
    body: dict[str, Any] = server.requests[-1].json
    return body


# ── requests ──


@pytest.mark.parametrize("name", PRESETS)
@pytest.mark.asyncio
async def test_a_server_of_the_table_is_asked_in_its_words_wherever_it_is(
    server: ScriptedServer, recorder: MetricsRecorder, name: str
) -> None:
    row = SERVERS[name]
    server.enqueue(ANSWER)
    agent = CreateAgent(
        f"{name}:m",
        base_url=server.openai_url,
        api_key=KEY,
        config={"max_tokens": 9, "api": "chat"},
        recorder=recorder,
    )
    assert (agent.provider, agent.model) == (name, "m")
    assert await agent.ask("Weather?") == "Clear sky."
    (request,) = server.requests
    assert request.path == "/v1/chat/completions"
    assert request.headers["authorization"] == f"Bearer {KEY}"
    assert request.json[row.max_tokens] == 9
    assert ("stream_options" in request.json) is row.stream_usage
    assert recorder.requests["provider"].tolist() == [name]
    assert recorder.calls["provider"].tolist() == [name]


@pytest.mark.asyncio
async def test_calls_of_another_model_get_the_fields_that_a_server_wants(
    server: ScriptedServer, tmp_path: Path
) -> None:
    bodies = {}
    for name in ("gemini", "deepseek", "moonshot", "groq", "mistral"):
        pieces = [
            {"index": 0, "id": "functions.wind:0", "function": {"name": "wind", "arguments": '{"place":"X"}'}}
        ]
        server.enqueue(sse(delta(tool_calls=pieces), delta(finish="tool_calls")))
        server.enqueue(ANSWER)
        server.enqueue(ANSWER)
        agent = CreateAgent("openai", "m", base_url=server.openai_url, tools=[wind])
        await agent.ask("Weather?")
        agent.save(tmp_path / "talk.json")
        there: dict[str, Any] = {"provider": name, "base_url": server.openai_url, "api_key": KEY}
        other = CreateAgent.load(tmp_path / "talk.json", tools=[wind], **there)
        assert await other.ask("And now?") == "Clear sky."
        bodies[name] = server.requests[-1].json["messages"]
    calls = {name: messages[1]["tool_calls"][0] for name, messages in bodies.items()}
    signature = {"google": {"thought_signature": "skip_thought_signature_validator"}}
    assert calls["gemini"]["extra_content"] == signature
    assert [name for name, call in calls.items() if "extra_content" in call] == ["gemini"]
    assert calls["moonshot"]["id"] == "functions.wind:0"
    assert re.fullmatch("[a-zA-Z0-9]{9}", calls["mistral"]["id"])
    for name, messages in bodies.items():
        wanted = [message for message in messages if message["role"] == "assistant"]
        blank = " " if SERVERS[name].reasoning_required else None
        assert {message.get("reasoning_content") for message in wanted} == {blank}


@pytest.mark.asyncio
async def test_the_first_of_the_variables_that_is_set_has_the_key(
    server: ScriptedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    own_address(monkeypatch, "gemini", server)
    for variable, key in (("GOOGLE_API_KEY", "of-google-0123456789"), ("GEMINI_API_KEY", "of-gemini-0123456789")):
        monkeypatch.setenv(variable, key)
        server.enqueue(ANSWER)
        await CreateAgent("gemini").ask("Weather?")
        assert server.requests[-1].headers["authorization"] == f"Bearer {key}"
    server.enqueue(ANSWER)
    await CreateAgent("gemini", api_key="given-0123456789").ask("Weather?")
    assert server.requests[-1].headers["authorization"] == "Bearer given-0123456789"


@pytest.mark.asyncio
async def test_a_refused_key_is_told_by_the_name_of_the_server_and_of_its_variable(
    server: ScriptedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    own_address(monkeypatch, "groq", server)
    server.enqueue(json_reply({"error": {"message": f"Invalid API Key {KEY}"}}, "401 Unauthorized"))
    with pytest.raises(AuthenticationError, match=r"^Groq refused the key.*GROQ_API_KEY") as raised:
        await CreateAgent("groq", api_key=KEY).ask("Weather?")
    assert KEY not in str(raised.value)


@pytest.mark.asyncio
async def test_openai_at_the_address_of_another_server_is_that_server(
    server: ScriptedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    own_address(monkeypatch, "deepseek", server)
    monkeypatch.setenv("OPENAI_API_KEY", "of-openai-0123456789")
    monkeypatch.setenv("DEEPSEEK_API_KEY", KEY)
    server.enqueue(ANSWER)
    agent = CreateAgent("openai", "m", base_url=server.openai_url, config={"think": False})
    await agent.ask("Weather?")
    assert agent.provider == "openai"
    assert server.requests[-1].json["thinking"] == {"type": "disabled"}
    assert server.requests[-1].headers["authorization"] == f"Bearer {KEY}"


@pytest.mark.asyncio
async def test_a_client_of_the_sdk_serves_a_server_of_the_table(server: ScriptedServer) -> None:
    client = openai.AsyncOpenAI(base_url=server.openai_url, api_key=KEY, max_retries=0)
    server.enqueue(ANSWER)
    agent = CreateAgent("deepseek", client=client, config={"think": False})
    assert (agent.provider, agent.model) == ("deepseek", "deepseek-flash")
    assert await agent.ask("Weather?") == "Clear sky."
    assert server.requests[-1].json["thinking"] == {"type": "disabled"}
    with pytest.raises(ConfigurationError, match="Name a model: the provider 'azure' has no default"):
        CreateAgent("azure", client=client)
    with pytest.raises(
        ConfigurationError, match=r"client=AsyncOpenAI\(…\) is for the provider 'openai', not 'ollama'"
    ):
        CreateAgent("ollama", "m", client=client)


@pytest.mark.parametrize(
    ("endpoint", "address"),
    [
        ("https://mine.openai.azure.com", "https://mine.openai.azure.com/openai/v1"),
        ("https://mine.openai.azure.com/", "https://mine.openai.azure.com/openai/v1"),
        ("https://mine.openai.azure.com/openai/v1/", "https://mine.openai.azure.com/openai/v1"),
        (
            "https://mine.openai.azure.com/openai/deployments/d",
            "https://mine.openai.azure.com/openai/deployments/d",
        ),
    ],
)
def test_an_azure_resource_is_known_by_its_host(
    monkeypatch: pytest.MonkeyPatch, endpoint: str, address: str
) -> None:
    monkeypatch.setenv("AZURE_OPENAI_API_KEY", KEY)
    given = CreateAgent("azure", "my-deployment", base_url=endpoint)
    monkeypatch.setenv("AZURE_OPENAI_ENDPOINT", endpoint)
    named = CreateAgent("azure", "my-deployment")
    assert named._repository.base_url == given._repository.base_url == address
    assert named.get_configs()["base_url"] == given.get_configs()["base_url"] == endpoint


@pytest.mark.asyncio
async def test_azure_is_asked_by_the_responses_api(
    server: ScriptedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AZURE_OPENAI_ENDPOINT", server.url)
    server.enqueue(json_reply({"error": {"message": "no such path"}}, "404 Not Found"))
    server.enqueue(ANSWER)
    assert await CreateAgent("azure", "my-deployment", api_key=KEY).ask("Weather?") == "Clear sky."
    assert [r.path for r in server.requests] == ["/openai/v1/responses", "/openai/v1/chat/completions"]


def test_no_price_of_a_server_is_claimed_for_a_gateway() -> None:
    assert CreateAgent("deepseek", api_key=KEY)._repository.price_provider == "deepseek"
    gateway = CreateAgent("deepseek", api_key=KEY, base_url="http://127.0.0.1:1/v1")
    assert gateway._repository.price_provider is None
    assert CreateAgent("vllm", "m")._repository.price_provider == ""


@pytest.mark.parametrize(("name", "known"), [("gemini", "gcp.gemini"), ("xai", "x_ai"), ("groq", None)])
def test_opentelemetry_has_names_of_its_own_for_some_servers(name: str, known: str | None) -> None:
    assert CreateAgent(name, api_key=KEY)._repository.telemetry_provider == known


# ── which server a name means ──


@pytest.mark.parametrize("name", HOSTED)
def test_a_name_before_a_model_counts_where_the_key_is_set(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    set_notebook_default(ModelChoice("ollama", "llama3.2"))
    assert resolve_model(None, f"{name}:7b") == ModelChoice("ollama", f"{name}:7b")
    for variable in SERVERS[name].key_variables:
        monkeypatch.setenv(variable, KEY)
        assert resolve_model(None, f"{name}:7b") == ModelChoice(name, "7b")
        monkeypatch.delenv(variable)
    assert resolve_model(name, "7b") == resolve_model(name, f"{name}:7b") == ModelChoice(name, "7b")
    assert resolve_model(f"{name}:7b", None) == ModelChoice(name, "7b")


@pytest.mark.parametrize("name", LOCAL)
def test_a_server_that_needs_no_key_is_meant_by_its_name(name: str) -> None:
    assert resolve_model(None, f"{name}:qwen3:8b") == ModelChoice(name, "qwen3:8b")
    assert CreateAgent(name, "m").get_configs()["base_url"] is None


def test_a_model_at_an_address_keeps_its_name() -> None:
    agent = CreateAgent(model="mistral:7b", base_url="http://127.0.0.1:8080/v1")
    assert (agent.provider, agent.model) == ("openai", "mistral:7b")


def test_the_environment_names_a_server_whatever_its_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CREATEAGENTS_NB_MODEL", "mistral:mistral-small-latest")
    assert resolve_model(None, None) == ModelChoice("mistral", "mistral-small-latest")
    with pytest.raises(MissingKeyError, match="MISTRAL_API_KEY"):
        CreateAgent()
    monkeypatch.setenv("CREATEAGENTS_NB_MODEL", "mistral:")
    assert resolve_model(None, None) == ModelChoice("mistral", "mistral-small-latest")


@pytest.mark.parametrize("where", ["nothing", "openai", "demo", "groq", "environment"])
def test_a_model_of_a_server_without_key_goes_to_no_other(monkeypatch: pytest.MonkeyPatch, where: str) -> None:
    if where == "openai":
        monkeypatch.setenv("OPENAI_API_KEY", KEY)
    elif where == "environment":
        monkeypatch.setenv("CREATEAGENTS_NB_MODEL", "openai:gpt-6-luna")
    elif where != "nothing":
        set_notebook_default(ModelChoice(where, "m"))
    with pytest.raises(MissingKeyError, match=r"Google Gemini needs a key: `%agent key gemini`.*GEMINI_API_KEY"):
        CreateAgent(model="gemini:gemini-3.8-flash")


def test_a_variant_for_a_server_without_key_says_which_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    agent = CreateAgent("openai", api_key=KEY)
    with pytest.raises(MissingKeyError, match="GEMINI_API_KEY"):
        agent.variant(model="gemini:gemini-3.8-flash")
    at_a_gateway = CreateAgent("openai", "m", base_url="http://127.0.0.1:1/v1")
    assert at_a_gateway.variant(model="mistral:7b").model == "mistral:7b"
    monkeypatch.setenv("GEMINI_API_KEY", KEY)
    other = agent.variant(model="gemini:gemini-3.8-flash")
    assert (other.provider, other.model) == ("gemini", "gemini-3.8-flash")


def test_the_only_key_there_is_used_and_said(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GOOGLE_API_KEY", KEY)
    agent = CreateAgent()
    printed = "".join(capsys.readouterr())
    assert f"{agent.provider}:{agent.model}" == "gemini:gemini-3.8-flash"
    assert printed.startswith("Using gemini:gemini-3.8-flash (GOOGLE_API_KEY is set)\nAnother: ")
    assert CreateAgent(model="gemini-3.5-flash").provider == "gemini"
    monkeypatch.setenv("GROQ_API_KEY", KEY)
    assert CreateAgent().provider == "demo"
    assert "(keys of gemini, groq: name one)" in "".join(capsys.readouterr())
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    assert CreateAgent().provider == "openai"


@pytest.mark.parametrize("variable", ["GITHUB_TOKEN", "HF_TOKEN", "AZURE_OPENAI_API_KEY", "VLLM_API_KEY"])
def test_a_key_that_many_have_for_other_ends_chooses_no_server(
    monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    monkeypatch.setenv(variable, KEY)
    assert resolve_model(None, None).provider == "demo"


# ── bad input ──


@pytest.mark.parametrize("name", [name for name in HOSTED if SERVERS[name].base_url is not None])
def test_no_key_names_the_variable_and_the_ways_to_give_one(name: str) -> None:
    row = SERVERS[name]
    with pytest.raises(MissingKeyError) as raised:
        CreateAgent(name, "m")
    assert str(raised.value).startswith(f"{row.label} needs a key: `%agent key {name}`")
    assert all(words in str(raised.value) for words in (*row.key_variables, "api_key=…"))


def test_a_gateway_in_front_of_a_server_may_need_no_key() -> None:
    assert CreateAgent("deepseek", "m", base_url="http://127.0.0.1:1/v1").provider == "deepseek"


def test_azure_without_an_address_says_where_it_goes() -> None:
    with pytest.raises(
        ConfigurationError, match=r"Azure OpenAI has .*AZURE_OPENAI_ENDPOINT, or pass base_url=…, as in "
    ):
        CreateAgent("azure", "my-deployment", api_key=KEY)


@pytest.mark.parametrize(
    ("name", "key", "owner"),
    [
        ("gemini", "sk-ant-api03-0123456789abcdef", "anthropic"),
        ("openai", "sk-ant-api03-0123456789abcdef", "anthropic"),
        ("deepseek", "sk-proj-0123456789abcdef0123", "openai"),
        ("anthropic", "sk-or-v1-0123456789abcdef0123", "openrouter"),
        ("openai", "AIzaSy0123456789abcdef0123456789", "gemini"),
        ("mistral", "gsk_0123456789abcdef0123456789", "groq"),
    ],
)
@pytest.mark.parametrize("given", ["argument", "environment"])
@pytest.mark.asyncio
async def test_a_key_of_another_server_is_neither_sent_nor_shown(
    server: ScriptedServer, monkeypatch: pytest.MonkeyPatch, name: str, key: str, owner: str, given: str
) -> None:
    own_address(monkeypatch, name, server)
    if given == "environment":
        monkeypatch.setenv(SERVERS[name].key_variables[0], key)
    with pytest.raises(ConfigurationError) as raised:
        await CreateAgent(name, "m", api_key=key if given == "argument" else None).ask("Weather?")
    for words in (
        SERVERS[name].label,
        SERVERS[owner].label,
        f"provider={owner!r}",
        SERVERS[name].key_variables[0],
    ):
        assert words in str(raised.value)
    assert key[:12] not in str(raised.value)
    assert server.requests == []


@pytest.mark.parametrize("name", HOSTED)
def test_the_own_key_of_a_server_is_taken(name: str) -> None:
    row = SERVERS[name]
    for prefix in row.key_prefixes or ("sk-",):
        CreateAgent(name, "m", api_key=f"{prefix}0123456789abcdef0123", base_url=row.base_url or address_of(row))


@pytest.mark.parametrize(
    ("written", "meant"), [("gemni", "gemini"), ("Deepseek", "deepseek"), ("open-router", "openrouter")]
)
def test_a_name_that_is_nearly_one_is_told_the_right_one(written: str, meant: str) -> None:
    with pytest.raises(UnknownProviderError, match=rf"\(did you mean '{meant}'\?\)"):
        CreateAgent(written, "m")


@pytest.mark.parametrize("name", ["azure", "qwen", "vllm"])
def test_a_server_without_a_default_model_says_how_to_name_one(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    with pytest.raises(
        ConfigurationError, match=rf"Name a model: CreateAgent\('{name}', '…'\); `%agent models {name}`"
    ):
        CreateAgent(name, api_key=KEY)


# ── the documentation ──


def documented(row: ServerFacts) -> str:
    """A server's line in docs/servers.md."""
    variables = " or ".join(f"`{name}`" for name in row.key_variables)
    key = variables or "none" if row.needs_key else f"none, or {variables}" if variables else "none"
    address = f"`{row.base_url}`" if row.base_url else f"`https://NAME{row.hosts[0]}{row.address_suffix}`"
    address += f" or `{row.address_variable}`" if row.address_variable else ""
    model = f"`{row.default_model}`" if row.default_model else ""
    off = ", ".join(f"`{name}: {json.dumps(value)}`" for name, value in row.think(False).items())
    return f"| `{row.name}` | [{row.label}]({row.source}) | {key} | {address} | {model} | {off} |"


def test_the_table_of_the_documentation_is_that_of_the_code() -> None:
    lines = (ROOT / "docs/servers.md").read_text(encoding="utf-8").splitlines()
    assert [line for line in lines if re.match(r"\| `\w+` \| \[", line)] == [*map(documented, SERVERS.values())]


def test_the_readme_leads_to_the_page_of_servers() -> None:
    assert "(docs/servers.md)" in (ROOT / "README.md").read_text(encoding="utf-8")
