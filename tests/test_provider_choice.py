"""Which provider and model an agent gets, and the line that says so."""

from __future__ import annotations

from typing import Any

import pytest
from family import Reply, ScriptedServer, json_reply, run_script

from createagents_nb import CreateAgent
from createagents_nb.errors import ConfigurationError, MissingKeyError, UnknownProviderError
from createagents_nb.providers.registry import adapter_class, provider_names
from createagents_nb.providers.selection import ModelChoice, notebook_default, resolve_model, set_notebook_default
from createagents_nb.providers.servers import SERVERS

HOW = "Another: %agent use openai:gpt-6-luna, or CreateAgent(provider=…, model=…)"


@pytest.fixture
def ollama(server: ScriptedServer, monkeypatch: pytest.MonkeyPatch) -> ScriptedServer:
    """A local Ollama that answers and has two models."""
    server.on("/api/tags", json_reply({"models": [{"name": "llama3.2:3b"}, {"name": "qwen3:8b"}]}))
    monkeypatch.setenv("OLLAMA_HOST", f"127.0.0.1:{server.port}")
    return server


def chosen(capsys: pytest.CaptureFixture[str], **arguments: Any) -> tuple[str, str]:
    """Provider:model of an agent that is made so, and what was printed."""
    agent = CreateAgent(**arguments)
    captured = capsys.readouterr()
    return f"{agent.provider}:{agent.model}", captured.out + captured.err


# ── asked for ────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ({"provider": "demo", "model": "demo-instant"}, "demo:demo-instant"),
        ({"provider": "demo"}, "demo:demo"),
        ({"model": "demo:demo-instant"}, "demo:demo-instant"),
        ({"model": "demo:"}, "demo:demo"),
        ({"provider": "openai", "model": "gpt-4", "api_key": "k"}, "openai:gpt-4"),
        ({"provider": "openai", "api_key": "k"}, "openai:gpt-6-luna"),
        ({"model": "openai:gpt-4.1", "api_key": "k"}, "openai:gpt-4.1"),
        ({"provider": "ollama", "model": "qwen3:8b"}, "ollama:qwen3:8b"),
        ({"model": "ollama:qwen3:8b"}, "ollama:qwen3:8b"),
        ({"model": "llama", "base_url": "http://127.0.0.1:8080/v1"}, "openai:llama"),
    ],
)
def test_what_is_asked_for_is_taken_without_a_word(
    capsys: pytest.CaptureFixture[str], arguments: dict[str, Any], expected: str
) -> None:
    assert chosen(capsys, **arguments) == (expected, "")


def test_provider_and_model_may_be_positional() -> None:
    agent = CreateAgent("demo", "demo-instant")
    assert (agent.provider, agent.model) == ("demo", "demo-instant")


def test_ollama_without_a_model_takes_the_first_it_has(
    capsys: pytest.CaptureFixture[str], ollama: ScriptedServer
) -> None:
    assert chosen(capsys, provider="ollama") == ("ollama:llama3.2:3b", "")


# ── not asked for ────────────────────────────────────────────────────────────────────────────────────


def test_nothing_there_means_the_demo_provider_and_says_so_and_how_to_choose(
    capsys: pytest.CaptureFixture[str],
) -> None:
    name, printed = chosen(capsys)
    assert name == "demo:demo"
    assert printed == f"Using the built-in demo provider, canned text and no model (no key, no Ollama)\n{HOW}\n"


def test_openai_when_its_key_is_set(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-very-secret-key")
    name, printed = chosen(capsys)
    assert name == "openai:gpt-6-luna"
    assert printed == f"Using openai:gpt-6-luna (OPENAI_API_KEY is set)\n{HOW}\n"


def test_an_ollama_that_answers(capsys: pytest.CaptureFixture[str], ollama: ScriptedServer) -> None:
    assert chosen(capsys) == ("ollama:llama3.2:3b", f"Using ollama:llama3.2:3b (a local Ollama answers)\n{HOW}\n")
    assert [request.path for request in ollama.requests] == ["/api/tags"]


@pytest.mark.parametrize("form", ["127.0.0.1:{}", "http://127.0.0.1:{}", "http://127.0.0.1:{}/", "0.0.0.0:{}"])
def test_every_form_of_ollama_host_is_understood(
    ollama: ScriptedServer, monkeypatch: pytest.MonkeyPatch, form: str
) -> None:
    monkeypatch.setenv("OLLAMA_HOST", form.format(ollama.port))
    assert resolve_model(None, None).provider == "ollama"


def test_the_key_goes_before_ollama(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, ollama: ScriptedServer
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "k")
    assert chosen(capsys)[0] == "openai:gpt-6-luna"
    assert ollama.requests == []


def test_the_environment_goes_before_what_is_there(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "k")
    monkeypatch.setenv("CREATEAGENTS_NB_MODEL", "demo:demo-instant")
    assert chosen(capsys) == ("demo:demo-instant", "")
    assert chosen(capsys, model="demo-thinking") == ("demo:demo-thinking", "")


def test_what_agent_use_set_goes_before_the_environment(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CREATEAGENTS_NB_MODEL", "openai:gpt-4")
    set_notebook_default(ModelChoice("demo", "demo-instant"))
    assert notebook_default() == ModelChoice("demo", "demo-instant")
    assert chosen(capsys) == ("demo:demo-instant", "")
    assert chosen(capsys, provider="demo") == ("demo:demo-instant", "")
    assert chosen(capsys, model="demo-thinking") == ("demo:demo-thinking", "")
    assert chosen(capsys, provider="openai", api_key="k") == ("openai:gpt-6-luna", "")
    set_notebook_default(None)
    assert resolve_model(None, None) == ModelChoice("openai", "gpt-4")


def test_a_model_alone_goes_to_who_is_there(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, ollama: ScriptedServer
) -> None:
    assert chosen(capsys, model="qwen3:8b")[0] == "ollama:qwen3:8b"
    monkeypatch.setenv("OPENAI_API_KEY", "k")
    assert chosen(capsys, model="gpt-4")[0] == "openai:gpt-4"


@pytest.mark.parametrize(
    "reply",
    [
        json_reply({"models": []}),
        json_reply({"hello": "world"}),
        json_reply(["models"]),
        json_reply({"error": "no"}, "500 Internal Server Error"),
        Reply([b"<html>"], headers={"content-type": "text/html"}),
        Reply([b""], status="not a status"),
    ],
    ids=["no models", "another service", "a list", "an error", "a page", "no HTTP"],
)
def test_what_answers_in_ollamas_place_and_is_none_is_passed_by(
    server: ScriptedServer, monkeypatch: pytest.MonkeyPatch, reply: Reply
) -> None:
    server.on("/api/tags", reply)
    monkeypatch.setenv("OLLAMA_HOST", f"127.0.0.1:{server.port}")
    assert resolve_model(None, None).provider == "demo"


@pytest.mark.parametrize("host", ["127.0.0.1:port", "[::1]:1", "http://", "::", "no such host:1", ":1"])
def test_an_address_that_cannot_be_is_passed_by(monkeypatch: pytest.MonkeyPatch, host: str) -> None:
    monkeypatch.setenv("OLLAMA_HOST", host)
    assert resolve_model("demo", None).provider == "demo"
    with pytest.raises(ConfigurationError, match="Name a model"):
        resolve_model("ollama", None)


def test_a_script_reads_the_line_on_stderr_and_a_notebook_on_stdout() -> None:
    make = "from createagents_nb import CreateAgent; CreateAgent()"
    script, notebook = run_script(make), run_script(f"import ipykernel; {make}")
    assert (script.stdout, notebook.stderr) == ("", "")
    assert script.stderr == notebook.stdout
    assert "demo provider" in script.stderr


# ── bad input ────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("provider", ["opanai", "OpenAI ", "gpt-4"])
def test_an_unknown_provider_lists_the_known_ones(provider: str) -> None:
    with pytest.raises(
        UnknownProviderError, match=r"Known: .*\bdemo, .*\bgemini, .*\bollama, openai, .*; for a compatible server"
    ) as raised:
        CreateAgent(provider, "m")
    assert repr(provider) in str(raised.value)


@pytest.mark.parametrize("provider", ["OpenAI", "OPENAI ", "opanai"])
def test_a_provider_in_other_letters_is_told_how_it_is_written(provider: str) -> None:
    with pytest.raises(UnknownProviderError, match=r"\(did you mean 'openai'\?\)"):
        CreateAgent(provider, "m")


@pytest.mark.parametrize("where", ["notebook", "environment"])
def test_a_model_alone_that_the_demo_has_not_is_refused_with_the_way_out(
    monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    if where == "notebook":
        set_notebook_default(ModelChoice("demo", "demo"))
    else:
        monkeypatch.setenv("CREATEAGENTS_NB_MODEL", "demo:demo")
    with pytest.raises(
        ConfigurationError, match=r"no model 'gpt-4.1' \(it has demo, .*'openai:gpt-4.1'.*-p openai"
    ):
        CreateAgent(model="gpt-4.1")
    assert CreateAgent(model="demo-instant").model == "demo-instant"


@pytest.mark.parametrize(
    ("arguments", "kind"),
    [
        ({"provider": ""}, UnknownProviderError),
        ({"provider": 3}, UnknownProviderError),
        ({"model": " "}, ConfigurationError),
        ({"model": ["gpt-4"]}, ConfigurationError),
    ],
)
def test_a_name_that_is_none_is_an_error(arguments: dict[str, Any], kind: type[Exception]) -> None:
    with pytest.raises(kind, match=r"must be a name, not .* Providers: .*\bdemo, .*\bollama, openai, "):
        CreateAgent(**arguments)


def test_no_key_says_where_one_goes_and_what_works_without() -> None:
    with pytest.raises(MissingKeyError) as raised:
        CreateAgent("openai", "gpt-4")
    assert all(words in str(raised.value) for words in ("OPENAI_API_KEY", "api_key=", "demo", "ollama"))


def test_a_compatible_server_needs_no_key(monkeypatch: pytest.MonkeyPatch) -> None:
    CreateAgent("openai", "m", base_url="http://127.0.0.1:8080/v1")
    monkeypatch.setenv("OPENAI_BASE_URL", "http://127.0.0.1:8080/v1")
    CreateAgent("openai", "m")


def test_ollama_without_a_model_and_without_a_server_says_how_to_start_it() -> None:
    with pytest.raises(ConfigurationError, match=r"Name a model.*`ollama list`.*`ollama serve`"):
        CreateAgent("ollama")


def test_a_model_that_nobody_here_can_serve(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(
        ConfigurationError, match=r"Nobody here can serve 'gpt-4': set OPENAI_API_KEY, start Ollama"
    ):
        CreateAgent(model="gpt-4")


@pytest.mark.parametrize("value", ["gpt-4", "nope:gpt-4", ":"])
def test_an_environment_variable_that_names_no_provider(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("CREATEAGENTS_NB_MODEL", value)
    with pytest.raises(UnknownProviderError, match=r"CREATEAGENTS_NB_MODEL=.* must be PROVIDER:MODEL"):
        CreateAgent()


@pytest.mark.parametrize("base_url", ["127.0.0.1:8080", "ftp://host/v1", "http://", "localhost"])
def test_a_base_url_that_is_none_shows_how_one_looks(base_url: str) -> None:
    with pytest.raises(ConfigurationError, match=r"base_url must be like http://127\.0\.0\.1:8080/v1"):
        CreateAgent("openai", "m", base_url=base_url)


def test_the_demo_provider_takes_no_base_url() -> None:
    with pytest.raises(ConfigurationError, match="use provider='openai'"):
        CreateAgent("demo", base_url="http://127.0.0.1:8080/v1")


def test_the_table_of_providers_leads_to_adapters_of_these_names() -> None:
    own = {"demo": "demo", "ollama": "ollama"} | dict.fromkeys(SERVERS, "openai")
    assert {name: adapter_class(name).provider for name in provider_names()} == own
