"""Options, names and subcommands of the magics, in a shell of this process: nothing here needs a kernel."""

from __future__ import annotations

import atexit
import builtins
import json
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from family import ScriptedServer, delta, json_reply, sse
from IPython.core.interactiveshell import InteractiveShell
from kernel_client import answer
from traitlets.config import Config

import createagents_nb
from createagents_nb import CreateAgent, MetricsRecorder, recorder
from createagents_nb.errors import (
    AgentNotFoundError,
    BudgetExceededError,
    ConfigurationError,
    MagicUsageError,
    MissingKeyError,
    ProviderError,
    UnknownProviderError,
    UnknownToolError,
)
from createagents_nb.metrics import RecorderWarning
from createagents_nb.notebook.options import cell_options, new_options
from createagents_nb.notebook.registry import AgentRegistry

Line = Callable[[str], str]


@pytest.fixture
def shell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[InteractiveShell]:
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    config = Config()
    config.HistoryManager.enabled = False
    shell = InteractiveShell.instance(config=config)
    createagents_nb.load_ipython_extension(shell)
    yield shell
    createagents_nb.unload_ipython_extension(shell)
    shell.restore_sys_module_state()
    InteractiveShell.clear_instance()
    # Else each is reset when the tests end, which takes a collection of all that they have loaded.
    atexit.unregister(shell.atexit_operations)
    for name in ("get_ipython", "display"):
        vars(builtins).pop(name, None)


@pytest.fixture
def agent(shell: InteractiveShell, server: ScriptedServer) -> CreateAgent:
    """The variable `a` of the notebook."""
    shell.user_ns["a"] = CreateAgent("openai", "m", name="a", base_url=server.openai_url, api_key="none")
    found: CreateAgent = shell.user_ns["a"]
    return found


@pytest.fixture
def line(shell: InteractiveShell, capsys: pytest.CaptureFixture[str]) -> Line:
    """Runs `%agent …` and gives what it printed."""

    def run(text: str) -> str:
        capsys.readouterr()
        shell.run_line_magic("agent", text)
        return capsys.readouterr().out

    return run


# Options


def test_every_option_of_the_cell_magic_is_understood() -> None:
    options = cell_options(
        "bob -p openai --model gpt-x -t rows,currentdate, -o answer --no-history --no-stream --raw --preview"
    )
    assert vars(options) == {
        "name": "bob",
        "provider": "openai",
        "model": "gpt-x",
        "tools": ["rows", "currentdate"],
        "output": "answer",
        "no_history": True,
        "no_stream": True,
        "raw": True,
        "preview": True,
    }


def test_empty_line_means_the_defaults_and_lines_share_nothing() -> None:
    cell_options("-t rows").tools.append("more")
    options = cell_options("")
    assert (options.name, options.tools, options.output, options.raw) == (None, [], None, False)


def test_quoted_values_stay_together() -> None:
    options = new_options("bob -i 'You are \"terse\"' --base-url http://127.0.0.1:1/v1")
    assert (options.name, options.instructions) == ("bob", 'You are "terse"')
    assert options.base_url == "http://127.0.0.1:1/v1"


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("--nope", "--nope"),
        ("--no", "--no"),
        ("--prov openai", "--prov"),
        ("-m", "-m"),
        ("one two", "two"),
        ("-o 1x", "1x"),
        ("-o a.b", "a.b"),
        ("it's", "quotation"),
    ],
)
def test_wrong_option_is_a_usage_error(text: str, word: str) -> None:
    with pytest.raises(MagicUsageError, match="%%agent") as raised:
        cell_options(text)
    assert word in str(raised.value)
    assert len(str(raised.value)) < 400


def test_manual_names_every_option(shell: InteractiveShell) -> None:
    manual = shell.find_cell_magic("agent").__doc__ or ""
    for option in ("--provider", "--model", "--tools", "--output", "--no-history", "--no-stream", "--raw", "{{"):
        assert option in manual


# Names


def test_variable_comes_before_a_registered_agent_of_the_same_name() -> None:
    variable, registered = CreateAgent("demo"), CreateAgent("demo")
    namespace: dict[str, object] = {}
    registry = AgentRegistry(namespace)
    registry.add("bob", registered)
    namespace["bob"] = variable
    assert registry.find("bob") is variable
    namespace["bob"] = 3
    assert registry.find("bob") is registered
    del namespace["bob"]
    assert registry.find("bob") is registered


def test_names_are_looked_up_when_they_are_used() -> None:
    namespace: dict[str, object] = {}
    registry = AgentRegistry(namespace)
    with pytest.raises(AgentNotFoundError, match="no agents here yet"):
        registry.find("bob")
    namespace |= {"bob": CreateAgent("demo"), "_hidden": CreateAgent("demo"), "n": 3}
    assert list(registry.all()) == ["bob"]
    with pytest.raises(AgentNotFoundError, match=r"'n' is a int, not an agent.*Agents here: bob"):
        registry.find("n")
    with pytest.raises(AgentNotFoundError, match="did you mean 'bob'"):
        registry.find("bobb")


def test_error_about_a_name_stays_short_among_many_agents() -> None:
    demo = CreateAgent("demo")
    registry = AgentRegistry({f"agent_number_{number}": demo for number in range(300)})
    with pytest.raises(AgentNotFoundError, match="300 in all") as raised:
        registry.find("nobody")
    assert len(str(raised.value)) < 500


def test_default_agent_is_made_once_and_can_be_forgotten() -> None:
    registry = AgentRegistry({})
    first = registry.find(None)
    assert registry.find(None) is first
    assert first.provider == "demo"
    registry.forget_default()
    assert registry.find(None) is not first


def test_tools_are_functions_of_the_notebook_or_built_in() -> None:
    def rows() -> str:
        """First rows."""
        return ""

    registry = AgentRegistry({"rows": rows})
    assert registry.tools(["rows", "currentdate"]) == [rows, "currentdate"]
    with pytest.raises(UnknownToolError, match="currentdate"):
        registry.tools(["nope"])


# Cells, through the bridge


def test_answer_is_printed_in_a_terminal_and_is_the_value(
    shell: InteractiveShell, agent: CreateAgent, server: ScriptedServer, capsys: pytest.CaptureFixture[str]
) -> None:
    server.enqueue(answer("Hello ", "world"))
    response = shell.run_cell_magic("agent", "a -o kept", "hi {{1 + 1}} {x} $y\n")
    assert response.text == shell.user_ns["kept"] == "Hello world"
    assert capsys.readouterr().out.splitlines()[0] == "Hello world"
    assert server.requests[0].json["messages"][-1]["content"] == "hi 2 {x} $y"


def test_options_of_one_cell_do_not_change_the_agent(
    shell: InteractiveShell, agent: CreateAgent, server: ScriptedServer
) -> None:
    for _ in range(2):
        server.enqueue(answer("x"))
    shell.run_cell_magic("agent", "a -m other -t currentdate --no-history", "hi")
    shell.run_cell_magic("agent", "a", "hi")
    sent = [request.json for request in server.requests]
    assert [body["model"] for body in sent] == ["other", "m"]
    assert ["tools" in body for body in sent] == [True, False]
    assert len(agent.history) == 2


def test_output_variable_stays_as_it_is_when_nothing_arrived(
    shell: InteractiveShell, agent: CreateAgent, server: ScriptedServer
) -> None:
    shell.user_ns["kept"] = "good"
    server.enqueue(json_reply({"error": {"message": "no"}}, "400 Bad Request"))
    with pytest.raises(ProviderError):
        shell.run_cell_magic("agent", "a -o kept", "hi")
    assert shell.user_ns["kept"] == "good"


def test_model_of_another_provider_is_refused_by_the_demo_before_anything_is_sent(shell: InteractiveShell) -> None:
    shell.user_ns["bob"] = CreateAgent("demo")
    calls = len(recorder.calls)
    for name in ("", "bob "):
        with pytest.raises(ConfigurationError, match=r"no model 'gpt-4.1'.*-m openai:gpt-4.1"):
            shell.run_cell_magic("agent", f"{name}-m gpt-4.1", "hi")
    assert len(recorder.calls) == calls
    assert shell.run_cell_magic("agent", "-m demo-instant", "hi").record.model == "demo-instant"


@pytest.mark.parametrize("body", ["\n", "  \n\t\n"])
def test_empty_body_sends_nothing(
    shell: InteractiveShell, agent: CreateAgent, server: ScriptedServer, body: str
) -> None:
    with pytest.raises(MagicUsageError, match="empty"):
        shell.run_cell_magic("agent", "a", body)
    assert server.requests == []


# Subcommands


def test_line_magic_alone_is_the_status(line: Line, agent: CreateAgent) -> None:
    assert line("") == line("status")
    assert "demo:demo" in line("status")
    assert "agents: a" in line("")


def test_help_has_one_line_a_subcommand(line: Line) -> None:
    text = line("help")
    names = [
        "status",
        "list",
        "use",
        "new",
        "tools",
        "models",
        "history",
        "reset",
        "metrics",
        "budget",
        "show",
        "preview",
        "help",
    ]
    assert all(f"%agent {name}" in text for name in names)
    assert "%%agent?" in text


def test_unknown_subcommand_suggests_one(line: Line) -> None:
    with pytest.raises(MagicUsageError, match="did you mean 'history'"):
        line("histroy")
    with pytest.raises(MagicUsageError, match="To ask an agent, use %%agent with the prompt on the lines below"):
        line("What is a swift?")


def test_new_agents_can_be_listed_and_used(line: Line, server: ScriptedServer, shell: InteractiveShell) -> None:
    assert "No agents yet" in line("list")
    said = line(f"new bob -p openai -m m2 -t currentdate -i 'Be {{brief}}' --base-url {server.openai_url}")
    assert "openai:m2" in said
    assert "bob: <CreateAgent bob: openai:m2, tools=[currentdate]" in line("list")
    server.enqueue(answer("x"))
    shell.run_cell_magic("agent", "bob", "hi")
    assert server.requests[0].json["messages"][0] == {"role": "system", "content": "Be {brief}"}


def test_new_says_how_to_ask_and_what_it_replaces(line: Line) -> None:
    said = line("new bob -p demo")
    assert "`%%agent bob`, with the prompt on the lines below" in said
    assert "bob = CreateAgent(…)" in said
    assert "replaces" not in said
    assert "bob (replaces the earlier one): <CreateAgent bob" in line("new bob -p demo")


def test_new_refuses_a_name_under_which_another_agent_is_found(line: Line, shell: InteractiveShell) -> None:
    shell.user_ns |= {"bob": CreateAgent("demo"), "n": 3}
    with pytest.raises(MagicUsageError, match=r"bob is a variable.*`%%agent bob` asks that one.*`del bob` first"):
        line("new bob -p demo")
    assert "n: <CreateAgent n" in line("new n -p demo")


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("new", MagicUsageError),
        ("new 1x -p demo", MagicUsageError),
        ("new bob -p nope", UnknownProviderError),
        ("new bob -t nope", UnknownToolError),
        ("new bob -p demo --base-url nowhere", ConfigurationError),
        ("new bob -p openai", MissingKeyError),
        ("use", MagicUsageError),
        ("use nope", UnknownProviderError),
        ("use openai:m", MissingKeyError),
        ("history nobody", AgentNotFoundError),
        ("reset nobody", AgentNotFoundError),
        ("tools nobody", AgentNotFoundError),
        ("metrics nobody", AgentNotFoundError),
        ("models nope", UnknownProviderError),
        ("show", MagicUsageError),
        ("show x", MagicUsageError),
    ],
)
def test_mistake_in_a_subcommand_is_typed_and_changes_nothing(
    line: Line, text: str, kind: type[Exception]
) -> None:
    before = line("status")
    with pytest.raises(kind):
        line(text)
    assert line("status") == before
    assert "No agents yet" in line("list")


def test_use_decides_for_new_agents(line: Line, shell: InteractiveShell) -> None:
    assert "demo:demo-instant" in line("use demo:demo-instant")
    assert "chosen with %agent use" in line("status")
    assert CreateAgent().model == "demo-instant"
    response = shell.run_cell_magic("agent", "", "hello")
    assert response.record.model == "demo-instant"
    assert "demo:demo" in line("use auto")
    assert "chosen with" not in line("status")


def test_tools_tells_built_in_from_yours(line: Line, shell: InteractiveShell) -> None:
    def rows() -> str:
        """First rows of the table.

        More words.
        """
        return ""

    shell.user_ns["bob"] = CreateAgent("demo", tools=[rows])
    assert "currentdate (built-in): " in line("tools")
    assert "rows (yours): First rows of the table." in line("tools bob")
    assert "More words" not in line("tools bob")


def test_tools_of_an_agent_are_told_from_those_it_could_have(line: Line, shell: InteractiveShell) -> None:
    shell.user_ns |= {"bob": CreateAgent("demo", tools=["currentdate"]), "bare": CreateAgent("demo")}
    has, _, has_not = line("tools bob").partition("bob does not have:")
    assert has.startswith("bob has:\n  currentdate (built-in): ")
    assert "readlocalfile" not in has
    assert "readlocalfile (built-in): " in has_not
    assert "currentdate" not in has_not
    assert line("tools bare").startswith("bare has no tools\nbare does not have:")


def test_list_says_which_providers_have_a_key(line: Line, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GOOGLE_API_KEY", "a-key-0123456789")
    agents, with_key, without, free, how = line("list").splitlines()
    assert "No agents yet" in agents
    assert with_key == "With a key: gemini (GOOGLE_API_KEY)"
    assert without.startswith("Without one: anthropic (ANTHROPIC_API_KEY), azure (AZURE_OPENAI_API_KEY), ")
    assert "openai (OPENAI_API_KEY)" in without
    assert free == "No key needed: demo, litellm, llamacpp, lmstudio, ollama, sglang, vllm"
    assert "%agent use NAME:MODEL" in how


def test_key_is_asked_for_by_the_name_of_the_server(line: Line, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GROQ_API_KEY", "")
    questions = []
    typed = iter(["gsk_0123456789abcdef0123", "sk-ant-0123456789abcdef0123"])
    monkeypatch.setattr("getpass.getpass", lambda question: questions.append(question) or next(typed))
    assert line("key groq") == "GROQ_API_KEY is set for new agents and %%agent, in this kernel until it ends\n"
    assert "With a key: groq (GROQ_API_KEY)" in line("list")
    with pytest.raises(ConfigurationError, match=r"key of Anthropic, .*Groq's") as raised:
        line("key groq")
    assert "0123456789" not in str(raised.value)
    assert questions == ["GROQ_API_KEY: ", "GROQ_API_KEY: "]
    assert os.environ["GROQ_API_KEY"] == "gsk_0123456789abcdef0123"


def test_use_names_a_server_of_the_table(line: Line, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(MissingKeyError, match="`%agent key gemini`"):
        line("use gemini:gemini-3.8-flash")
    monkeypatch.setenv("GEMINI_API_KEY", "a-key-0123456789")
    assert line("use gemini") == "New agents use gemini:gemini-3.8-flash\n"
    assert "default: gemini:gemini-3.8-flash (chosen with %agent use)" in line("status")
    assert "gemini:other" in line("new bob -p gemini -m other")
    assert "gemini:other" in line("new bob -m gemini:other")


def test_a_cell_names_a_server_by_option_or_model(
    shell: InteractiveShell, server: ScriptedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(MissingKeyError, match="GEMINI_API_KEY"):
        shell.run_cell_magic("agent", "-m gemini:gemini-3.8-flash", "Hello")
    monkeypatch.setenv("LITELLM_PROXY_API_BASE", server.openai_url)
    for options in ("-p litellm -m m", "-m litellm:m", "-p litellm:m"):
        server.enqueue(answer("Clear sky."))
        shell.run_cell_magic("agent", f"{options} -o text", "Weather?")
        assert shell.user_ns.pop("text") == "Clear sky."
    assert [request.json["model"] for request in server.requests] == ["m", "m", "m"]


def test_models_of_a_server_without_a_default_model_are_listed(
    line: Line, server: ScriptedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LITELLM_PROXY_API_BASE", server.openai_url)
    server.on("/v1/models", json_reply({"object": "list", "data": [{"id": "b"}, {"id": "a"}]}))
    assert line("models litellm").split() == ["a", "b"]


def test_models_asks_the_provider(line: Line) -> None:
    assert line("models demo").split() == ["demo", "demo-instant", "demo-thinking"]


def test_history_is_shown_and_forgotten(
    line: Line, shell: InteractiveShell, agent: CreateAgent, server: ScriptedServer
) -> None:
    assert line("history a") == "nothing yet\n"
    server.enqueue(answer("It is\n\n", "a bird. " * 100))
    shell.run_cell_magic("agent", "a", "What is a swift?")
    user, assistant = line("history a").splitlines()
    assert user == "user: What is a swift?"
    assert assistant.startswith("assistant: It is a bird. ")
    assert len(assistant) < 250
    line("reset a")
    assert agent.history == ()
    assert line("history a") == "nothing yet\n"


def test_history_masks_keys_as_saved_output_does(
    line: Line, shell: InteractiveShell, agent: CreateAgent, server: ScriptedServer
) -> None:
    key = "sk-proj-abcdef1234567890"
    arguments = json.dumps({"header": f"Bearer {key}"})
    call = {"index": 0, "id": "c1", "function": {"name": "currentdate", "arguments": arguments}}
    server.enqueue(sse(delta(tool_calls=[call]), delta(finish="tool_calls")))
    server.enqueue(answer("x" * 185, f" Yours is {key[:9]}", key[9:]))
    shell.run_cell_magic("agent", "a -t currentdate", f"Is {key} a key?")
    assert key in "".join(message.content for message in agent.history)
    shown = line("history a")
    assert shown.splitlines()[0] == "user: Is *** a key?"
    assert "currentdate({" in shown
    assert "sk-" not in shown
    assert "abcdef" not in shown


def test_history_says_when_the_recorder_keeps_no_content(
    line: Line, shell: InteractiveShell, server: ScriptedServer
) -> None:
    quiet = MetricsRecorder(record_content=False)
    shell.user_ns["a"] = CreateAgent("openai", "m", base_url=server.openai_url, api_key="none", recorder=quiet)
    server.enqueue(answer("a secret"))
    shell.run_cell_magic("agent", "a", "hi")
    assert line("history a") == "user: not kept\nassistant: not kept\n"


def test_metrics_are_frames_and_what_they_cost(
    shell: InteractiveShell, agent: CreateAgent, server: ScriptedServer, capsys: pytest.CaptureFixture[str]
) -> None:
    server.enqueue(answer("x"))
    shell.run_cell_magic("agent", "a", "hi")
    capsys.readouterr()
    mine = shell.run_line_magic("agent", "metrics a")
    assert re.fullmatch(r"1 call · \d+ → \d+ tokens · cost unknown\n", capsys.readouterr().out)
    assert list(mine["status"]) == ["ok"]
    everybody = shell.run_line_magic("agent", "metrics")
    assert list(everybody.columns) == list(mine.columns)
    assert len(everybody) >= 1


@pytest.fixture
def unlimited() -> Iterator[None]:
    yield
    recorder.no_budget()


@pytest.mark.usefixtures("unlimited")
def test_a_budget_is_set_seen_reached_and_taken_away(
    line: Line, shell: InteractiveShell, agent: CreateAgent, server: ScriptedServer
) -> None:
    assert "No budget" in line("budget")
    assert line("budget calls=1, tokens=10_000") == "Budget: 0 of 10,000 tokens, 0 of 1 calls\n"
    server.enqueue(answer("x"))
    shell.run_cell_magic("agent", "a", "hi")
    assert "1 of 1 calls" in line("budget")
    with pytest.raises(BudgetExceededError, match="%agent budget off"):
        shell.run_cell_magic("agent", "a", "hi")
    assert "No budget" in line("budget off")
    server.enqueue(answer("y"))
    shell.run_cell_magic("agent", "a", "hi")
    with pytest.warns(RecorderWarning):  # the answers had no usage
        told = line("budget tokens=100,000 calls = 5, cost_usd=$1e-1")
    assert told.startswith("Budget: $0.0000 of $0.1000")
    assert "0 of 100,000 tokens, 0 of 5 calls" in line("budget")
    for wrong in ("calls=many", "cost=1", "5", "calls=1 calls=2"):
        with pytest.raises(MagicUsageError, match="%agent budget"):
            line(f"budget {wrong}")


def test_show_counts_from_the_last_answer(
    line: Line, shell: InteractiveShell, agent: CreateAgent, server: ScriptedServer
) -> None:
    for text in ("older", "newer"):
        server.enqueue(answer(text))
        shell.run_cell_magic("agent", "a", "hi")
    assert "newer" in line("show")
    assert "newer" in line("show -1")
    assert "older" in line("show -2")
    with pytest.raises(MagicUsageError, match="last 2 answers"):
        line("show -3")


def test_preview_fills_in_and_sends_nothing(line: Line, shell: InteractiveShell, server: ScriptedServer) -> None:
    shell.user_ns["n"] = 3
    printed = line("preview {{n + 1}} of {n} and $n")
    assert printed.startswith("4 of {n} and $n\n")
    assert '"content": "4 of {n} and $n"' in printed
    assert server.requests == []


def test_preview_of_a_cell_shows_the_prompt_then_the_whole_request_of_that_cell(
    shell: InteractiveShell, agent: CreateAgent, server: ScriptedServer, capsys: pytest.CaptureFixture[str]
) -> None:
    shell.user_ns["city"] = "Oslo"
    shell.run_cell_magic("agent", "a -t currentdate -m other --no-stream --preview", "Time in {{city}}?\n")
    printed = capsys.readouterr().out
    head, text = printed.split("\n\n", 1)
    assert head.startswith(f"Time in Oslo?\nPOST {server.openai_url}/chat/completions\n")
    assert "\nAuthorization: Bearer ***" in head
    body = json.loads(text)
    assert (body["model"], body["messages"]) == ("other", [{"role": "user", "content": "Time in Oslo?"}])
    assert [each["function"]["name"] for each in body["tools"]] == ["currentdate"]
    assert "stream" not in body
    assert (server.requests, len(agent.history), len(recorder)) == ([], 0, 0)


def test_preview_of_raw_text_and_of_an_agent_without_a_key(
    shell: InteractiveShell, agent: CreateAgent, capsys: pytest.CaptureFixture[str]
) -> None:
    shell.run_cell_magic("agent", "a --raw --preview", "{{n}}")
    assert capsys.readouterr().out.startswith("{{n}}\nPOST ")
    with pytest.raises(MissingKeyError):
        shell.run_cell_magic("agent", "-p openai --preview", "The prompt")
    assert capsys.readouterr().out.startswith("The prompt\n")


def test_a_preview_is_html_in_a_page_while_the_extension_is_loaded(
    shell: InteractiveShell, agent: CreateAgent
) -> None:
    def shown() -> dict[str, str]:
        assert shell.display_formatter is not None
        data, _ = shell.display_formatter.format(agent.preview("<b>Hi</b>"))
        return data

    # A terminal's shell asks for text only.
    shell.display_formatter.active_types = ["text/plain", "text/html"]
    assert shown().keys() == {"text/plain", "text/html"}
    assert "&lt;b&gt;Hi" in shown()["text/html"]
    createagents_nb.unload_ipython_extension(shell)
    assert shown().keys() == {"text/plain"}
    createagents_nb.load_ipython_extension(shell)


# The extension


def test_loading_twice_and_unloading_leave_the_shell_as_it_was(shell: InteractiveShell) -> None:
    def hooks() -> list[int]:
        return [
            len(shell.input_transformers_post),
            len(shell.ast_transformers),
            len(shell.events.callbacks["pre_run_cell"]),
            len(shell.events.callbacks["post_run_cell"]),
        ]

    loaded = hooks()
    createagents_nb.load_ipython_extension(shell)
    assert hooks() == loaded
    createagents_nb.unload_ipython_extension(shell)
    createagents_nb.unload_ipython_extension(shell)
    assert hooks() == [count - 1 for count in loaded]
    assert shell.find_cell_magic("agent") is None
    createagents_nb.load_ipython_extension(shell)
    assert hooks() == loaded


def test_only_a_cell_that_begins_with_the_magic_is_rewritten(shell: InteractiveShell) -> None:
    assert shell.transform_cell("%%agent a\nhi\n").startswith("await ")
    assert shell.transform_cell("%%agent\nsay '''x''' and \\n\n").startswith("await ")
    for cell in ("%%time\n%%agent a\nhi\n", "x = 1\n", "print('%%agent')\n", "%agent status\n"):
        assert "await" not in shell.transform_cell(cell)


# A server's address in place of a provider's name


def test_an_address_is_used_by_new_agents(shell: InteractiveShell, line: Line, server: ScriptedServer) -> None:
    server.on("/v1/models", json_reply({"data": [{"id": "tiny"}]}))
    assert line(f"use {server.openai_url}") == f"New agents use openai:tiny at {server.openai_url}\n"
    agent = CreateAgent()
    assert (agent.model, agent.get_configs()["base_url"]) == ("tiny", server.openai_url)
    assert line(f"use {server.openai_url} other") == f"New agents use openai:other at {server.openai_url}\n"


def test_the_address_of_an_ollama_is_used_as_such(line: Line, server: ScriptedServer) -> None:
    server.on("/api/tags", json_reply({"models": [{"name": "llama3.2"}]}))
    assert line(f"use {server.url}") == f"New agents use ollama:llama3.2 at {server.url}\n"
    assert line(f"models {server.url}") == "llama3.2\n"


def test_an_agents_model_is_used_by_new_agents(line: Line, agent: CreateAgent, server: ScriptedServer) -> None:
    assert line("use a") == f"New agents use openai:m at {server.openai_url}\n"
    assert CreateAgent().get_configs()["base_url"] == server.openai_url


def test_the_models_of_an_address_or_an_agent_are_listed(
    line: Line, agent: CreateAgent, server: ScriptedServer
) -> None:
    server.on("/v1/models", json_reply({"data": [{"id": "tiny"}, {"id": "big"}]}))
    assert line(f"models {server.openai_url}") == "big\ntiny\n"
    assert line("models a") == "big\ntiny\n"
