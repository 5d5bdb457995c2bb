"""Providers that are not built in: objects, SDK clients, and entry points of other packages."""

from __future__ import annotations

import importlib
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import ollama
import openai
import pytest
from family import ScriptedProvider, ScriptedServer, delta, json_reply, ndjson, sse

from createagents_nb import ChatRepository, CreateAgent, MetricsRecorder
from createagents_nb.core.events import RoundEnded
from createagents_nb.errors import (
    ConfigurationError,
    TalkFileError,
    UnknownProviderError,
    UnsupportedConfigError,
)
from createagents_nb.providers import registry
from createagents_nb.providers.registry import ProviderSpec, find_provider, provider_names

KEY = "sk-secret-0123456789abcdef"


class Echo(ScriptedProvider):
    """Repeats the last message."""

    provider = "echo"
    default_model = "echo-1"
    unsupported_config = {"top_k": "leave it out"}

    async def round_trip(self, request: Any) -> Any:
        self.calls.append(request)
        yield f"{request.model}: {request.messages[-1].content}"
        yield RoundEnded("stop")


def says(*texts: str) -> list[bytes]:
    return sse(*(delta(text) for text in texts), delta(finish="stop"))


# ── objects ──────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.asyncio
async def test_an_object_serves_in_place_of_a_name(recorder: MetricsRecorder) -> None:
    echo = Echo()
    agent = CreateAgent(echo, "m", recorder=recorder, name="a")
    assert await (await agent.chat("hi")) == "m: hi"
    assert (agent.provider, agent.model, repr(agent)) == ("echo", "m", "<CreateAgent a: echo:m, 2 messages>")
    assert recorder.calls["provider"].tolist() == recorder.requests["provider"].tolist() == ["echo"]
    assert await agent.models() == ["scripted-1", "scripted-2"]
    assert await (await agent.variant(model="other").chat("again")) == "other: again"
    frame = await agent.map(["one", "two"], progress=False)
    assert frame["answer"].tolist() == ["m: one", "m: two"]
    assert CreateAgent(provider=echo).model == "echo-1"
    assert CreateAgent(echo, "llama:3b").model == "llama:3b"
    assert CreateAgent("demo", recorder=recorder).variant(echo).provider == "echo"
    assert agent.variant("demo").model == "demo"


def test_an_object_without_a_model_must_be_given_one() -> None:
    with pytest.raises(ConfigurationError, match=r"Name a model: the provider 'scripted' has no default"):
        CreateAgent(ScriptedProvider())
    with pytest.raises(ConfigurationError, match="Name a model"):
        CreateAgent(Echo(), " ")


@pytest.mark.parametrize("argument", ["api_key", "base_url", "client"])
def test_an_object_takes_no_way_to_a_server(argument: str) -> None:
    with pytest.raises(ConfigurationError, match=f"is an object, which takes no {argument}: leave {argument} out"):
        CreateAgent(Echo(), **{argument: "http://127.0.0.1:1"})


def test_an_object_with_a_blank_name_is_refused() -> None:
    provider = ScriptedProvider()
    provider.provider = " "
    with pytest.raises(ConfigurationError, match="ScriptedProvider needs a class attribute `provider`: its name"):
        CreateAgent(provider, "m")


def test_an_object_refuses_what_it_cannot_take_and_a_class_is_no_object() -> None:
    with pytest.raises(UnsupportedConfigError, match=r"echo cannot take config\['top_k'\]: leave it out"):
        CreateAgent(Echo(), config={"top_k": 3})
    with pytest.raises(UnknownProviderError, match="provider must be a name, not <class"):
        CreateAgent(Echo)  # type: ignore[arg-type]


@pytest.mark.asyncio
async def test_a_batch_uses_the_provider_without_retries(recorder: MetricsRecorder) -> None:
    class Retrying(Echo):
        def without_retries(self) -> ChatRepository:
            return once

    once = Echo()
    frame = await CreateAgent(Retrying(), recorder=recorder).map(["one"], progress=False)
    assert frame["answer"].tolist() == ["echo-1: one"]
    assert len(once.calls) == 1


@pytest.mark.asyncio
async def test_a_talk_with_an_object_is_loaded_with_an_object(tmp_path: Path, recorder: MetricsRecorder) -> None:
    agent = CreateAgent(Echo(), recorder=recorder)
    await (await agent.chat("hi"))
    file = agent.save(tmp_path / "talk.json")
    with pytest.raises(TalkFileError, match=r"Unknown provider 'echo'.*give it again: CreateAgent.load\(…, prov"):
        CreateAgent.load(file)
    again = CreateAgent.load(file, provider=Echo())
    assert (again.history, again.model, again.provider) == (agent.history, "echo-1", "echo")


# ── clients of SDKs ──────────────────────────────────────────────────────────────────────────────────


@pytest.mark.asyncio
@pytest.mark.parametrize("kind", ["openai", "azure"])
async def test_a_client_of_openai_is_used_as_it_is(
    server: ScriptedServer, recorder: MetricsRecorder, kind: str
) -> None:
    client: openai.AsyncOpenAI
    if kind == "openai":
        client = openai.AsyncOpenAI(api_key=KEY, base_url=server.openai_url, default_headers={"x-mine": "1"})
    else:
        client = openai.AsyncAzureOpenAI(
            api_key=KEY, azure_endpoint=server.url, api_version="2024-10-21", default_headers={"x-mine": "1"}
        )
    async with client:
        agent = CreateAgent(client=client, model="m", recorder=recorder)
        assert (agent.provider, agent.model) == ("openai", "m")
        server.enqueue(says("Hello", " there"))
        assert await (await agent.chat("hi")) == "Hello there"
        server.enqueue(says("again"))
        assert await (await agent.variant(config={"seed": 1}).chat("hi")) == "again"
    for request in server.requests:
        assert request.headers["x-mine"] == "1"
        assert KEY in (request.headers.get("authorization", "") + request.headers.get("api-key", ""))
    assert recorder.requests["server"].tolist() == ["127.0.0.1"] * 2
    assert KEY not in f"{agent!r} {agent.get_configs()} {vars(agent)}"


@pytest.mark.asyncio
async def test_a_client_of_ollama_is_used_as_it_is(server: ScriptedServer, recorder: MetricsRecorder) -> None:
    client = ollama.AsyncClient(host=server.url, headers={"x-mine": "1"})
    agent = CreateAgent("ollama", "m", client=client, recorder=recorder)
    server.enqueue(ndjson({"message": {"content": "Hello"}}, {"message": {"content": ""}, "done": True}))
    assert await (await agent.chat("hi")) == "Hello"
    assert server.requests[0].headers["x-mine"] == "1"
    with pytest.raises(ConfigurationError, match="Name a model: the provider 'ollama' has no default"):
        CreateAgent(client=client)


@pytest.mark.asyncio
async def test_in_a_batch_the_client_does_not_retry(server: ScriptedServer, recorder: MetricsRecorder) -> None:
    server.on(
        "*", json_reply({"error": {"message": "no"}}, "500 Internal Server Error", **{"retry-after-ms": "1"})
    )
    for retries, sent in ((0, 1), (1, 2), (5, 3)):  # the batch retries, and no more often than either would
        server.requests.clear()
        async with openai.AsyncOpenAI(api_key=KEY, base_url=server.openai_url, max_retries=retries) as client:
            frame = await CreateAgent(client=client, model="m", recorder=recorder).map(["one"], progress=False)
        assert (frame["status"].tolist(), len(server.requests)) == (["error"], sent)


@pytest.fixture
def client(server: ScriptedServer) -> openai.AsyncOpenAI:
    return openai.AsyncOpenAI(api_key="a key that looks like none", base_url=server.openai_url)


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"api_key": KEY}, "takes no api_key: leave api_key out"),
        ({"api_key": KEY, "base_url": "http://x"}, "takes no api_key and no base_url: leave api_key and base_url"),
        ({"provider": "ollama"}, r"client=AsyncOpenAI\(…\) is for the provider 'openai', not 'ollama'"),
        ({"model": "demo:demo"}, "is for the provider 'openai', not 'demo'"),
    ],
)
def test_a_client_excludes_what_it_has(client: openai.AsyncOpenAI, more: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigurationError, match=words):
        CreateAgent(client=client, **more)


@pytest.mark.parametrize(
    "make",
    [lambda: openai.OpenAI(api_key="k"), ollama.Client, lambda: "client", object],
    ids=["openai", "ollama", "text", "object"],
)
def test_what_is_no_asynchronous_client_is_refused(make: Callable[[], Any]) -> None:
    with pytest.raises(ConfigurationError, match=r"asynchronous client of an SDK \(openai.AsyncOpenAI, ollama.A"):
        CreateAgent(client=make())


def test_the_model_of_a_client_may_name_its_provider(client: openai.AsyncOpenAI) -> None:
    assert CreateAgent(client=client, model="openai:gpt-4").model == "gpt-4"
    assert CreateAgent("openai", client=client).model == "gpt-6-luna"
    assert CreateAgent(client=client).variant("demo").provider == "demo"


@pytest.mark.parametrize(
    ("limits", "words"),
    [
        ({"timeout_s": 5}, r"takes no timeout_s: set it there, as in AsyncOpenAI\(timeout=5\)"),
        ({"max_retries": 0}, r"takes no max_retries: set it there, as in AsyncOpenAI\(max_retries=0\)"),
        (
            {"timeout_s": 5.0, "max_retries": 3},
            r"no timeout_s and no max_retries: set them .*\(timeout=5.0, max_retries=3",
        ),
    ],
)
def test_a_client_has_limits_of_its_own(client: openai.AsyncOpenAI, limits: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigurationError, match=words):
        CreateAgent(client=client, **limits)


def test_a_client_of_ollama_has_a_timeout_and_no_retries_of_its_own() -> None:
    with pytest.raises(ConfigurationError, match=r"no timeout_s: set it there, as in AsyncClient\(timeout=5\)"):
        CreateAgent(client=ollama.AsyncClient(), model="m", timeout_s=5)
    assert CreateAgent(client=ollama.AsyncClient(), model="m", max_retries=0).get_configs()["max_retries"] == 0


def test_limits_of_a_talk_are_not_those_of_a_client(client: openai.AsyncOpenAI, tmp_path: Path) -> None:
    path = CreateAgent("demo", timeout_s=5.0, max_retries=0).save(tmp_path / "talk.json")
    assert CreateAgent.load(path, client=client).get_configs()["timeout_s"] == 120.0
    with pytest.raises(ConfigurationError, match="takes no timeout_s"):
        CreateAgent.load(path, client=client, timeout_s=5.0)


def test_the_model_of_a_client_is_a_name(client: openai.AsyncOpenAI) -> None:
    with pytest.raises(ConfigurationError, match="model must be a name, not 5"):
        CreateAgent(client=client, model=5)  # type: ignore[arg-type]


def test_the_key_of_a_client_is_in_no_file(client: openai.AsyncOpenAI, tmp_path: Path) -> None:
    agent = CreateAgent(client=client, model="m", instructions=f"Use {client.api_key}")
    assert client.api_key not in agent.save(tmp_path / "talk.json").read_text("utf-8")
    again = CreateAgent.load(tmp_path / "talk.json", client=client)
    assert (again.provider, again.model) == ("openai", "m")


# ── entry points ─────────────────────────────────────────────────────────────────────────────────────

PACKAGE = """
from createagents_nb.core.events import RoundEnded
from createagents_nb.core.provider import ChatRepository
from createagents_nb.providers.registry import ProviderSpec


class Mine(ChatRepository):
    provider = "mine"
    default_model = "mine-1"

    def __init__(self, *, api_key=None, timeout_s=1.0):
        self.api_key, self.timeout_s = api_key, timeout_s

    async def round_trip(self, request):
        yield f"{request.model} at {self.timeout_s}"
        yield RoundEnded("stop")

    async def models(self):
        return ["mine-1", "mine-2"]


class Bare(ChatRepository):
    provider = "bare"
    round_trip, models = Mine.round_trip, Mine.models
    timeout_s = 0


class Misnamed(Bare):
    provider = "another"


class Fails(Bare):
    provider = "fails"

    def __init__(self):
        raise OSError("no card")


class Client:
    pass


spec = ProviderSpec(
    "any name", f"{__name__}:Mine", "MINE_API_KEY", "MINE_URL", client="their_package:Client"
)
no_adapter = ProviderSpec("no_adapter", "no_such_module:Nobody")
exits = ProviderSpec("exits", "package_that_exits:Adapter")
odd_spec = ProviderSpec("odd_spec", Mine, key_variable=5)
odd_model = ProviderSpec("odd_model", type("OddModel", (Bare,), {"provider": "odd_model", "default_model": 5}))
NoList = type("NoList", (Bare,), {"provider": "no_list"})
no_list = ProviderSpec("no_list", NoList, local_models=f"{__name__}:no_list_of_models")
unreadable = type("Unreadable", (Bare,), {"__signature__": 5})


def no_list_of_models():
    raise OSError("no disk")


class Nameless(ChatRepository):
    round_trip, models = Mine.round_trip, Mine.models


class Exits(Bare):
    def __init__(self):
        raise SystemExit(3)


nothing = {"adapter": 3}
"""

ENTRY_POINTS = {
    "mine": "their_package:spec",
    "bare": "their_package:Bare",
    "gone": "no_such_package.at_all:Adapter",
    "nothing": "their_package:nothing",
    "unnamed": "their_package:no_such_name",
    "no_adapter": "their_package:no_adapter",
    "another": "their_package:Misnamed",
    "misnamed": "their_package:Misnamed",
    "fails": "their_package:Fails",
    "exits": "their_package:exits",
    "exits_when_made": "their_package:Exits",
    "odd_spec": "their_package:odd_spec",
    "odd_model": "their_package:odd_model",
    "no_list": "their_package:no_list",
    "unreadable": "their_package:unreadable",
    "nameless": "their_package:Nameless",
    "demo": "their_package:Mine",
}


def install(folder: Path, package: str, entry_points: dict[str, str]) -> None:
    """What an installer leaves of a package."""
    info = folder / f"{package.replace('-', '_')}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n")
    lines = [f"{name} = {value}" for name, value in entry_points.items()]
    (info / "entry_points.txt").write_text("\n".join(["[createagents_nb.providers]", *lines]))


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    (tmp_path / "their_package.py").write_text(textwrap.dedent(PACKAGE))
    (tmp_path / "package_that_exits.py").write_text("import sys\n\nsys.exit('bye')\n")
    install(tmp_path, "their-package", ENTRY_POINTS)
    monkeypatch.syspath_prepend(str(tmp_path))
    importlib.invalidate_caches()
    registry.reset()
    yield tmp_path
    sys.modules.pop("their_package", None)


@pytest.mark.asyncio
@pytest.mark.usefixtures("installed")
async def test_another_package_adds_a_provider(recorder: MetricsRecorder, tmp_path: Path) -> None:
    assert "their_package" not in sys.modules
    assert set(provider_names()) >= {"openai", "ollama", *ENTRY_POINTS}
    assert "their_package" not in sys.modules  # it is loaded when it is asked for
    agent = CreateAgent("mine", timeout_s=3.0, api_key="k", recorder=recorder)
    assert await (await agent.chat("hi")) == "mine-1 at 3.0"
    assert recorder.calls["provider"].tolist() == ["mine"]
    assert await agent.models() == ["mine-1", "mine-2"]
    assert (CreateAgent(model="mine:m").provider, CreateAgent("mine:m").model) == ("mine", "m")
    assert CreateAgent("demo").variant("mine").model == "mine-1"
    again = CreateAgent.load(agent.save(tmp_path / "talk.json"))
    assert (again.provider, again.history) == ("mine", agent.history)
    frame = await agent.map(["one"], progress=False)
    assert frame["answer"].tolist() == ["mine-1 at 3.0"]


@pytest.mark.usefixtures("installed")
def test_a_row_of_another_package_has_its_variables(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("MINE_URL", "https://mine.example")
    monkeypatch.setenv("MINE_API_KEY", "what looks like no key")
    spec = find_provider("mine")
    assert (spec.name, spec.key_variable, spec.address) == ("mine", "MINE_API_KEY", "https://mine.example")
    assert registry.key_variables()["mine"] == "MINE_API_KEY"
    agent = CreateAgent("mine", instructions="Say what looks like no key")
    text = agent.save(tmp_path / "talk.json").read_text("utf-8")
    assert "looks like no key" not in text
    # Its adapter takes no address, so the one in the environment is no setting of the agent.
    assert CreateAgent.load(tmp_path / "talk.json").get_configs()["base_url"] is None


@pytest.mark.asyncio
@pytest.mark.usefixtures("installed")
async def test_a_class_alone_takes_no_arguments_and_says_so() -> None:
    agent = CreateAgent("bare", "m")
    assert await (await agent.chat("hi")) == "m at 0"
    with pytest.raises(ConfigurationError, match="Name a model"):
        CreateAgent("bare")
    for argument in ("api_key", "base_url"):
        with pytest.raises(ConfigurationError, match=f"The provider 'bare' takes no {argument}"):
            CreateAgent("bare", "m", **{argument: "x"})


@pytest.mark.usefixtures("installed")
def test_built_in_names_win() -> None:
    assert type(CreateAgent("demo")._repository).__module__ == "createagents_nb.providers.demo"


@pytest.mark.usefixtures("installed")
@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("gone", "cannot be loaded: ModuleNotFoundError: No module named 'no_such_package'"),
        ("unnamed", "cannot be loaded: AttributeError"),
        ("nothing", "must be a ProviderSpec or a subclass of ChatRepository, not {'adapter': 3}"),
        ("no_adapter", "cannot be loaded: ModuleNotFoundError"),
        ("misnamed", "calls itself 'another'"),
        ("fails", "cannot be made: OSError: no card"),
        ("exits", "cannot be loaded: SystemExit: bye"),
        ("exits_when_made", "cannot be made: SystemExit: 3"),
        ("odd_spec", "declares key_variable=5: it must be a name or None"),
        ("unreadable", "has a constructor that cannot be read: TypeError"),
        ("nameless", "has no name: its adapter's `provider` must be 'nameless'"),
    ],
)
def test_a_broken_entry_point_names_its_package_and_breaks_no_other(name: str, words: str) -> None:
    with pytest.raises(ConfigurationError) as raised:
        CreateAgent(name, "m")
    assert f"The provider {name!r} of the package 'their-package' {words}" in str(raised.value)
    assert CreateAgent("mine").provider == "mine"


@pytest.mark.usefixtures("installed")
def test_a_default_that_cannot_be_found_names_its_package() -> None:
    for name, words in (
        ("odd_model", "has default_model=5: it must be a name or None"),
        ("no_list", "cannot list its local models: OSError: no disk"),
    ):
        with pytest.raises(
            ConfigurationError, match=f"The provider '{name}' of the package 'their-package' {words}"
        ):
            CreateAgent(name)
        assert CreateAgent(name, "m").model == "m"


@pytest.mark.usefixtures("installed")
def test_an_unknown_provider_lists_those_of_other_packages() -> None:
    with pytest.raises(
        UnknownProviderError, match=r"did you mean 'mine'.*Known: another, .*\bbare, .*\bdemo, .*mine, "
    ):
        CreateAgent("mino", "m")


def test_a_package_with_broken_metadata_hides_no_other(installed: Path) -> None:
    broken = installed / "broken-1.0.dist-info"
    broken.mkdir()
    (broken / "METADATA").write_bytes(b"\xff\xfe")
    (broken / "entry_points.txt").write_bytes(b"\xff\xfe[")
    install(installed, "aaa-later", {"mine": "nowhere:at_all", "later": "their_package:Bare"})
    registry.reset()
    assert "later" in provider_names()


def test_packages_installed_meanwhile_are_found_after_a_reset(installed: Path) -> None:
    provider_names()
    install(installed, "newer", {"newer": "their_package:Bare"})
    assert "newer" not in provider_names()
    registry.reset()
    importlib.invalidate_caches()
    assert "newer" in provider_names()


def test_a_spec_shows_how_it_is_made() -> None:
    assert ProviderSpec("mine", "m:A", key_variable="K") == ProviderSpec("mine", "m:A", "K")


@pytest.mark.usefixtures("installed")
def test_what_a_row_declares_does_not_depend_on_an_earlier_use() -> None:
    assert registry.key_variables()["mine"] == "MINE_API_KEY"
    registry.reset()
    client = importlib.import_module("their_package").Client()
    assert registry.provider_of_client(client) == "mine"
    with pytest.raises(
        ConfigurationError, match=r"openai\.AsyncOpenAI, ollama\.AsyncClient, their_package\.Client"
    ):
        registry.provider_of_client(object())


@pytest.mark.usefixtures("installed")
def test_a_client_of_a_built_in_provider_loads_no_other_package() -> None:
    assert registry.provider_of_client(openai.AsyncOpenAI(api_key="k")) == "openai"
    assert "their_package" not in sys.modules
