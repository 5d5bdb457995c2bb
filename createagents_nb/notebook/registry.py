"""The agents of a notebook: its variables, those made with ``%agent new``, and the default agent."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from typing import Any

from ..create_agent import CreateAgent, ToolLike
from ..errors import AgentNotFoundError, MagicUsageError, UnknownToolError
from .options import is_name

__all__ = ["AgentRegistry"]

_MAX_NAMES = 10


class AgentRegistry:
    """Finds agents and tools by name.

    Args:
        namespace: the notebook's variables; looked up on each use.
    """

    def __init__(self, namespace: Mapping[str, Any]) -> None:
        self._namespace = namespace
        self._named: dict[str, CreateAgent] = {}
        self._default: CreateAgent | None = None

    def find(self, name: str | None) -> CreateAgent:
        """Return the agent with this name, or the default agent, created on first use, if ``name`` is None.

        Variables come first, then agents registered under the name, then agents that were given it.

        Raises:
            AgentNotFoundError: no agent has this name; the message lists those that exist.
        """
        if name is None:
            if self._default is None:
                self._default = CreateAgent(name="default")
            return self._default
        value = self._namespace.get(name, self._named.get(name))
        if isinstance(value, CreateAgent):
            return value
        if name in self._named:
            return self._named[name]
        by_name = next((agent for agent in self.all().values() if agent.name == name), None)
        if by_name is not None:
            return by_name
        names = sorted(self.all())
        what = f"{name!r} is a {type(value).__name__}, not an agent" if value is not None else f"No agent {name!r}"
        close = difflib.get_close_matches(name, names, n=1)
        hint = f" (did you mean {close[0]!r}?)" if close else ""
        listed = ", ".join(names[:_MAX_NAMES]) + (f", … ({len(names)} in all)" if len(names) > _MAX_NAMES else "")
        available = f"Agents here: {listed}" if names else "There are no agents here yet"
        raise AgentNotFoundError(
            f"{what}{hint}. {available}. `%agent new {name}` makes one; the prompt goes below the %%agent line"
        )

    def all(self) -> dict[str, CreateAgent]:
        """Return agents by name: registered ones, overridden by variables of the notebook."""
        variables = {
            name: value
            for name, value in self._namespace.items()
            if isinstance(value, CreateAgent) and not name.startswith("_")
        }
        return {**self._named, **variables}

    def add(self, name: str, agent: CreateAgent) -> bool:
        """Register an agent.

        Returns:
            Whether it replaces a registered agent of this name.

        Raises:
            MagicUsageError: as in `check_name`.
        """
        self.check_name(name)
        replaces, self._named[name] = name in self._named, agent
        return replaces

    def check_name(self, name: str) -> None:
        """Check that an agent registered as ``name`` could be found.

        Raises:
            MagicUsageError: ``name`` is not a valid variable name, or is a variable that holds an agent.
        """
        if not is_name(name):
            raise MagicUsageError(f"{name!r} cannot be a name: use letters, digits and _")
        if isinstance(self._namespace.get(name), CreateAgent):
            raise MagicUsageError(
                f"{name} is a variable of this notebook, and an agent: `%%agent {name}` asks that one. "
                f"Take another name, or `del {name}` first"
            )

    def forget_default(self) -> None:
        """Let the next cell that names no agent create a new default agent."""
        self._default = None

    def tools(self, names: Iterable[str]) -> list[ToolLike]:
        """Return tools by name: functions and tools of the notebook first, then built-in tools.

        Raises:
            UnknownToolError: there is no tool with one of the names.
        """
        from ..builtin_tools import BUILTIN_TOOLS

        tools: list[ToolLike] = []
        for name in names:
            value = self._namespace.get(name)
            if value is not None:
                tools.append(value)
            elif name in BUILTIN_TOOLS:
                tools.append(name)
            else:
                raise UnknownToolError(
                    f"No tool {name!r}: it is neither a function in this notebook nor a built-in "
                    f"({', '.join(BUILTIN_TOOLS)})"
                )
        return tools
