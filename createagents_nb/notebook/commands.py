"""The subcommands of ``%agent``."""

from __future__ import annotations

import difflib
import getpass
import os
import re
from collections.abc import Callable, Coroutine, Mapping, Sequence
from types import FunctionType
from typing import TYPE_CHECKING, Any

from IPython.core.error import StdinNotImplementedError
from IPython.core.interactiveshell import InteractiveShell

from .. import bridge
from ..builtin_tools import BUILTIN_TOOLS
from ..core.messages import Message
from ..core.records import ContentPolicy, unescape_json
from ..create_agent import CreateAgent
from ..errors import ConfigurationError, MagicUsageError
from ..metrics import recorder
from ..providers.addresses import checked_key
from ..providers.presets import check_key
from ..providers.registry import (
    DEFAULT_PROVIDER,
    find_provider,
    has_key,
    is_provider,
    key_variables,
    make_repository,
    provider_names,
)
from ..providers.selection import (
    ModelChoice,
    is_address,
    notebook_default,
    provider_at,
    resolve_model,
    set_notebook_default,
)
from ..providers.servers import SERVERS
from ..text import format_dollars, one_line
from . import display
from .interpolation import interpolate
from .options import new_options
from .registry import AgentRegistry

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["LINE_MANUAL", "Commands"]


class Commands:
    """One method per subcommand; the docstring of each is its line in the manual."""

    def __init__(self, shell: InteractiveShell, registry: AgentRegistry) -> None:
        self._shell, self._registry = shell, registry
        self._commands: dict[str, Callable[[str], Any]] = {
            name: getattr(self, name) for name in sorted(_subcommands(type(self)))
        }

    def run(self, line: str) -> Any:
        """Run a ``%agent`` line; return what the cell shows as its value, if anything.

        Raises:
            MagicUsageError: the subcommand does not exist; the message lists those that do.
        """
        name, _, rest = line.strip().partition(" ")
        command = self._commands.get(name or "status")
        if command is None:
            close = difflib.get_close_matches(name, self._commands, n=1)
            hint = f" (did you mean {close[0]!r}?)" if close else ""
            raise MagicUsageError(
                f"%agent has no {name!r}{hint}. It has: {', '.join(self._commands)}. To ask an agent, use %%agent "
                "with the prompt on the lines below"
            )
        return command(rest.strip())

    def help(self, rest: str) -> None:
        """help — this text"""
        print(LINE_MANUAL)

    def status(self, rest: str) -> None:
        """status — which provider and model a new agent gets, and what this notebook has"""
        default = notebook_default()
        chosen = default or resolve_model(None, None)
        how = "chosen with %agent use" if default else "found" if chosen.why else "from CREATEAGENTS_NB_MODEL"
        print(f"default: {chosen.provider}:{chosen.model} ({how})")
        print(f"agents: {', '.join(self._registry.all()) or 'none yet besides the default'}")
        print(repr(recorder))

    def list(self, rest: str) -> None:
        """list — the agents of this notebook, and the providers: which of them have a key"""
        agents = self._registry.all()
        if not agents:
            print("No agents yet: `%agent new NAME`, or agent = CreateAgent(…)")
        for name, agent in agents.items():
            print(f"{name}: {agent!r}")
        print("\n".join(_provider_lines()))

    def use(self, rest: str) -> None:
        """use PROVIDER:MODEL | ADDRESS [MODEL] | NAME — what new agents get from now on (auto: as found)"""
        if not rest:
            raise MagicUsageError(
                "%agent use: name a provider, an address or an agent: `%agent use openai:gpt-6-luna`, or "
                "`%agent use http://127.0.0.1:8080/v1`"
            )
        if rest == "auto":
            set_notebook_default(None)
        else:
            before = notebook_default()
            set_notebook_default(None)  # `use demo` means that provider's default, not the model chosen before
            try:
                choice = self._choice(rest)
                # Raises now if the key is missing.
                CreateAgent(choice.provider, choice.model, base_url=choice.base_url)
            except ConfigurationError:
                set_notebook_default(before)
                raise
            set_notebook_default(choice)
        self._registry.forget_default()
        chosen = notebook_default() or resolve_model(None, None)
        at = f" at {chosen.base_url}" if chosen.base_url else ""
        print(f"New agents use {chosen.provider}:{chosen.model}{at}")

    def _choice(self, rest: str) -> ModelChoice:
        """The provider, model and address that a user names: ``openai:gpt-6-luna``, an address, or an agent."""
        if is_address(rest):
            address, _, model = rest.partition(" ")
            provider = provider_at(address)
            chosen = resolve_model(provider, model.strip() or None, base_url=address)
            return ModelChoice(chosen.provider, chosen.model, base_url=address)
        provider, _, model = rest.partition(":")
        agent = None if is_provider(provider) else self._registry.all().get(rest)
        if agent is None:
            return resolve_model(provider, model or None)
        if not is_provider(agent.provider):
            raise MagicUsageError(
                f"%agent use: {rest} has a provider of its own ({agent.provider}), which new agents cannot have. "
                "Give it to them: CreateAgent(provider, model)"
            )
        return ModelChoice(agent.provider, agent.model, base_url=agent.get_configs()["base_url"])

    def key(self, rest: str) -> None:
        """key [PROVIDER] — ask for its API key (OpenAI's): it stays in this kernel, and out of the notebook"""
        variables = key_variables()
        provider = rest or DEFAULT_PROVIDER
        variable = variables.get(provider)
        if variable is None:  # ``rest`` may be the key itself, so the message does not repeat it
            raise MagicUsageError(
                f"%agent key: name a provider ({', '.join(variables)}), and nothing else; the key is asked for"
            )
        try:
            key = checked_key(getpass.getpass(f"{variable}: "))
        except (EOFError, StdinNotImplementedError):
            raise MagicUsageError(
                f"%agent key: nobody can be asked here. Set {variable} in the environment of the kernel"
            ) from None
        if key is None:
            print("Nothing was entered; nothing has changed")
            return
        if provider in SERVERS:
            check_key(SERVERS[provider], key, SERVERS[provider].base_url or "")
        os.environ[variable] = str(key)
        self._registry.forget_default()
        print(f"{variable} is set for new agents and %%agent, in this kernel until it ends")

    def new(self, rest: str) -> None:
        """new NAME [-p PROVIDER] [-m MODEL] [-t F,G] [-i INSTRUCTIONS] [--base-url URL] — for `%%agent NAME`"""
        options = new_options(rest)
        self._registry.check_name(options.name)
        agent = CreateAgent(
            options.provider,
            options.model,
            name=options.name,
            instructions=options.instructions,
            tools=self._registry.tools(options.tools),
            base_url=options.base_url,
        )
        replaces = self._registry.add(options.name, agent)
        print(f"{options.name}{' (replaces the earlier one)' if replaces else ''}: {agent!r}")
        print(
            f"To ask it: `%%agent {options.name}`, with the prompt on the lines below. "
            f"To have it as a variable instead: {options.name} = CreateAgent(…)"
        )

    def tools(self, rest: str) -> None:
        """tools [NAME] — an agent's tools, and the built-ins that it could have"""
        built_in = {name: make().description for name, make in BUILTIN_TOOLS.items()}
        if not rest:
            _print_tools(built_in)
            return
        agent = self._registry.find(rest)
        others = agent.get_all_available_tools()
        own = {name: others.pop(name) for name in agent.get_configs()["tools"]}
        print(f"{rest} has:" if own else f"{rest} has no tools")
        _print_tools(own)
        if others:
            print(f"{rest} does not have:")
            _print_tools(others)

    def models(self, rest: str) -> None:
        """models [PROVIDER | ADDRESS | NAME] — what the provider offers, the server there, or that of an agent"""
        print("\n".join(map(one_line, bridge.run(self._listed(rest)))))

    def _listed(self, rest: str) -> Coroutine[Any, Any, Sequence[str]]:
        if is_address(rest):
            return make_repository(provider_at(rest), base_url=rest).models()
        provider = rest.partition(":")[0]
        if provider and not is_provider(provider) and rest in self._registry.all():
            return self._registry.find(rest).models()
        chosen = ModelChoice(provider, "") if provider else resolve_model(None, None)
        return make_repository(chosen.provider, base_url=chosen.base_url).models()

    def history(self, rest: str) -> None:
        """history [NAME] — what the agent remembers"""
        agent = self._registry.find(rest or None)
        content_policy = agent._recorder.content_policy()  # what is printed is saved with the notebook
        lines = [_history_line(message, content_policy) for message in agent.history]
        print("\n".join(lines) or "nothing yet")

    def reset(self, rest: str) -> None:
        """reset [NAME] — forget the conversation"""
        self._registry.find(rest or None).clear_history()
        print("The conversation is forgotten")

    def metrics(self, rest: str) -> Any:
        """metrics [NAME] — what the session cost, or an agent, and its calls as a DataFrame"""
        calls = self._registry.find(rest).metrics if rest else recorder.calls
        print(_cost_line(calls))
        return calls

    def budget(self, rest: str) -> None:
        """budget [cost_usd=0.50] [tokens=100000] [calls=20] | off — limit what is spent from now on, or see it"""
        if rest == "off":
            recorder.no_budget()
        elif rest:
            recorder.budget(**_limits(rest))
        print(recorder.budget() or "No budget: `%agent budget cost_usd=0.50 tokens=100000 calls=20` sets one")

    def show(self, rest: str) -> None:
        """show [-1] — an earlier answer again; -1 is the last, -2 the one before"""
        responses = display.shown_responses
        if not responses:
            raise MagicUsageError(
                "%agent show: no cell has shown an answer yet; a response in a variable shows itself"
            )
        try:
            response = responses[int(rest or -1)]
        except (ValueError, IndexError):
            raise MagicUsageError(
                f"%agent show: {rest!r} is not one of the last {len(responses)} answers; -1 is the last"
            ) from None
        display.show_again(response)

    def preview(self, rest: str) -> None:
        """preview TEXT — TEXT with every {{…}} filled in, and its whole request (of a cell: %%agent --preview)"""
        if not rest.strip():
            raise MagicUsageError("%agent preview: write the prompt behind it; in a cell: %%agent --preview")
        display.show_preview(interpolate(rest, self._shell.user_ns), lambda: self._registry.find(None))


def _print_tools(tools: Mapping[str, str]) -> None:
    for name, description in tools.items():
        kind = "built-in" if name in BUILTIN_TOOLS else "yours"
        print(f"  {name} ({kind}): {description.strip().partition(chr(10))[0]}")


def _provider_lines() -> list[str]:
    """Say which providers there are. Nothing is sent to find out: a local server may run or not."""
    variables = key_variables()
    needs_none = {name for name, row in SERVERS.items() if not row.needs_key} | {"ollama"}
    keyed, missing, free = [], [], []
    for name in provider_names():
        if name in variables and has_key(name):
            variable = next(filter(os.environ.get, find_provider(name).key_variables))
            keyed.append(f"{name} ({variable})")
        elif name in variables and name not in needs_none:
            missing.append(f"{name} ({variables[name]})")
        else:
            free.append(name)
    groups = {"With a key": keyed, "Without one": missing, "No key needed": free}
    return [f"{title}: {', '.join(names)}" for title, names in groups.items() if names] + [
        "`%agent use NAME:MODEL` chooses one, `%agent key NAME` asks for its key"
    ]


def _subcommands(commands: type[Commands]) -> dict[str, str]:
    """The methods that are subcommands, each with its line of the manual, its docstring: ``name ARGS — what``."""
    return {
        name: method.__doc__ or ""
        for name, method in vars(commands).items()
        if isinstance(method, FunctionType) and "—" in (method.__doc__ or "")
    }


LINE_MANUAL = "\n".join(
    [
        "%%agent [NAME] [options] — ask an agent; %%agent? is its manual",
        *(f"%agent {line}" for line in _subcommands(Commands).values()),
    ]
)


def _limits(rest: str) -> dict[str, Any]:
    """Parse ``cost_usd=0.50, tokens=100,000 calls = 5``."""
    limits: dict[str, Any] = {}
    rest = re.sub(r"(?<=\d)[,_](?=\d)", "", re.sub(r"\s*=\s*", "=", rest))
    for part in rest.replace(",", " ").split():
        name, _, value = part.partition("=")
        if name not in ("cost_usd", "tokens", "calls") or name in limits:
            raise MagicUsageError(
                f"%agent budget: {part!r} is not one of cost_usd=…, tokens=…, calls=…, each once, or off"
            )
        try:
            limits[name] = float(value.removeprefix("$"))
        except ValueError:
            raise MagicUsageError(f"%agent budget: {value!r} is not a number, in {part!r}") from None
    return limits


def _cost_line(calls: pd.DataFrame) -> str:
    """Summarize calls: ``12 calls · 3,400 → 560 tokens · $0.0042 (2 of unknown cost)``."""
    costs = calls["cost_usd"].dropna()
    tokens = [f"{int(calls[column].sum()):,}" for column in ("input_tokens", "output_tokens")]
    unpriced = len(calls) - len(costs)
    cost = format_dollars(float(costs.sum())) if len(costs) else "cost unknown"
    note = f" ({unpriced:,} of unknown cost)" if len(costs) and unpriced else ""
    count = f"{len(calls):,} call{'' if len(calls) == 1 else 's'}"
    return f"{count} · {' → '.join(tokens)} tokens · {cost}{note}"


def _history_line(message: Message, content_policy: ContentPolicy) -> str:
    """Return a message on one line, with what may be saved of its content."""

    def saved(text: str) -> str:
        kept = content_policy(text) if text else ""
        return "not kept" if kept is None else kept

    text = one_line(saved(message.description))
    calls = ", ".join(f"{call.name}({saved(unescape_json(call.arguments))})" for call in message.tool_calls)
    states = [*([message.status] if message.status != "ok" else []), *(["not sent"] if message.left_out else [])]
    state = f" [{', '.join(states)}]" if states else ""
    return f"{message.role}{state}: {text}{' → ' if text and calls else ''}{calls}"
