"""The agents of a notebook: its variables, the ones made with ``%agent new``, and the default one."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from typing import Any

from ..create_agent import CreateAgent, ToolLike
from ..errors import AgentNotFoundError, MagicUsageError, UnknownToolError
from .options import is_name

__all__ = ["AgentRegistry"]

_LISTED = 10


class AgentRegistry:
    """Finds agents and tools by name.

    Args:
        namespace: the notebook's variables, live.
    """

    def __init__(self, namespace: Mapping[str, Any]) -> None:
        self._namespace = namespace
        self._named: dict[str, CreateAgent] = {}
        self._default: CreateAgent | None = None

    def find(self, name: str | None) -> CreateAgent:
        """The agent of this name; without one the default, made when it is first needed.

        Raises:
            AgentNotFoundError: the name is not an agent; the ones that are, are listed.
        """
        if name is None:
            if self._default is None:
                self._default = CreateAgent(name="default")
            return self._default
        found = self._namespace.get(name, self._named.get(name))
        if isinstance(found, CreateAgent):
            return found
        if name in self._named:
            return self._named[name]
        by_name = next((agent for agent in self.all().values() if agent.name == name), None)
        if by_name is not None:
            return by_name
        names = sorted(self.all())
        what = f"{name!r} is a {type(found).__name__}, not an agent" if found is not None else f"No agent {name!r}"
        close = difflib.get_close_matches(name, names, n=1)
        hint = f" (did you mean {close[0]!r}?)" if close else ""
        listed = ", ".join(names[:_LISTED]) + (f", … ({len(names)} in all)" if len(names) > _LISTED else "")
        known = f"Agents here: {listed}" if names else "There are no agents here yet"
        raise AgentNotFoundError(
            f"{what}{hint}. {known}. `%agent new {name}` makes one; the prompt goes below the %%agent line"
        )

    def all(self) -> dict[str, CreateAgent]:
        """Agents by name: registered ones, then variables of the notebook."""
        variables = {
            name: value
            for name, value in self._namespace.items()
            if isinstance(value, CreateAgent) and not name.startswith("_")
        }
        return {**self._named, **variables}

    def add(self, name: str, agent: CreateAgent) -> bool:
        """Register an agent.

        Returns:
            Whether it replaces one of this name.

        Raises:
            MagicUsageError: as `check_name`.
        """
        self.check_name(name)
        replaces, self._named[name] = name in self._named, agent
        return replaces

    def check_name(self, name: str) -> None:
        """Whether an agent of this name could be found.

        Raises:
            MagicUsageError: it is not a Python name, or is an agent's already that is found first.
        """
        if not is_name(name):
            raise MagicUsageError(f"{name!r} cannot be a name: use letters, digits and _")
        if isinstance(self._namespace.get(name), CreateAgent):
            raise MagicUsageError(
                f"{name} is a variable of this notebook, and an agent: `%%agent {name}` asks that one. "
                f"Take another name, or `del {name}` first"
            )

    def forget_default(self) -> None:
        """The next cell without a name starts a new default agent."""
        self._default = None

    def tools(self, names: Iterable[str]) -> list[ToolLike]:
        """Tools by name: functions and tools of the notebook first, then built-ins.

        Raises:
            UnknownToolError: neither has this name.
        """
        from ..builtin_tools import BUILTIN_TOOLS

        found: list[ToolLike] = []
        for name in names:
            value = self._namespace.get(name)
            if value is not None:
                found.append(value)
            elif name in BUILTIN_TOOLS:
                found.append(name)
            else:
                raise UnknownToolError(
                    f"No tool {name!r}: it is neither a function in this notebook nor a built-in "
                    f"({', '.join(BUILTIN_TOOLS)})"
                )
        return found
