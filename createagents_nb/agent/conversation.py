"""A conversation that can be kept: how its agent is set up, and what was said. No key, no code."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any
from urllib.parse import urlsplit

from ..core.messages import Message
from ..errors import ConfigurationError
from ..redaction import is_secret_name, mask_keys, redact
from ..tools.tool import BaseTool

__all__ = ["Conversation"]


@dataclass(frozen=True, slots=True)
class Conversation:
    """An agent's settings and its conversation, as they stand in a file.

    Attributes:
        base_url: where it was said.
        tools: names, in the order in which they were given.
        own_tools: those of ``tools`` that are not built-ins as they come.
        masked: ``config`` or ``base_url``, where a key was left out of it.
        turns: the messages of each turn, oldest first.
    """

    provider: str
    model: str
    name: str
    instructions: str | None = None
    config: Mapping[str, Any] = field(default_factory=dict)
    history_max_size: int = 20
    base_url: str | None = None
    tools: tuple[str, ...] = ()
    own_tools: tuple[str, ...] = ()
    masked: tuple[str, ...] = ()
    turns: tuple[tuple[Message, ...], ...] = ()

    def without_keys(self, *secrets: str | None) -> Conversation:
        """The same with ``***`` for the ``secrets``, and for what looks like a key, in the settings.

        What was said stays as it is.
        """
        config = {key: _masked(value, secrets) for key, value in self.config.items()}
        base_url = None if self.base_url is None else redact(mask_keys(self.base_url), *secrets)
        instructions = self.instructions
        if instructions is not None:
            for secret in secrets:
                instructions = instructions.replace(secret, "***") if secret and len(secret) >= 8 else instructions
            instructions = mask_keys(instructions)  # a text with code in it, so not `redact`
        changed = {"config": config != self.config, "base_url": base_url != self.base_url}
        return replace(
            self,
            name=self.name if self.name.strip() else "agent",  # a file with a blank one is refused
            instructions=instructions,
            config=config,
            base_url=base_url,
            masked=tuple(name for name, is_changed in changed.items() if is_changed),
        )

    def tools_with(
        self, given: Sequence[BaseTool], builtins: Mapping[str, Callable[[], BaseTool]]
    ) -> list[BaseTool]:
        """The tools of the talk, from those that were ``given`` and the built-ins; then what else was given.

        Raises:
            ConfigurationError: some are missing; it names them.
        """
        by_name = {tool.name: tool for tool in given}
        own = {*self.own_tools, *(name for name in self.tools if name not in builtins)}
        missing = [name for name in self.tools if name in own and name not in by_name]
        if missing:
            raise ConfigurationError(
                f"This talk had the tools {', '.join(missing)}, and a file holds only their names: "
                f"CreateAgent.load(…, tools=[{', '.join(missing)}])"
            )
        return [
            *(by_name[name] if name in by_name else builtins[name]() for name in self.tools),
            *(tool for tool in given if tool.name not in self.tools),
        ]

    def settings(self, options: Mapping[str, Any], *, address: str | None) -> dict[str, Any]:
        """Arguments for an agent: ``options``, and the file's where they say nothing.

        Args:
            options: what the user says.
            address: the server that the environment names.

        Raises:
            ConfigurationError: a key was left out of a setting that is needed; or the talk was held with a server
                elsewhere, to which a key would be sent that the file did not bring.
        """
        is_elsewhere = "provider" in options  # so the file's address is not meant
        for name in self.masked:
            if name not in options and not (is_elsewhere and name == "base_url"):
                raise ConfigurationError(
                    f"A key stood in {name}, and keys are not saved: give it again, CreateAgent.load(…, {name}=…)"
                )
        base_url = None if is_elsewhere or self.base_url == address else self.base_url
        if base_url is not None and "base_url" not in options and not _is_here(base_url):
            raise ConfigurationError(
                f"This talk was held with the server {base_url!r}. A file cannot say where your key is sent: if "
                f"you trust that server, CreateAgent.load(…, base_url={base_url!r})"
            )
        return {
            "provider": self.provider,
            "model": self.model,
            "name": self.name,
            "instructions": self.instructions,
            "config": self.config,
            "history_max_size": self.history_max_size,
            "base_url": base_url,
        } | dict(options)


def _masked(value: Any, secrets: tuple[str | None, ...], *, is_secret: bool = False) -> Any:
    if isinstance(value, str):
        return "***" if is_secret and value else redact(mask_keys(value), *secrets)
    if isinstance(value, Mapping):
        return {
            _masked(key, secrets): _masked(part, secrets, is_secret=is_secret or is_secret_name(key))
            for key, part in value.items()
        }
    if isinstance(value, list | tuple):
        parts = [_masked(part, secrets, is_secret=is_secret) for part in value]
        return parts if isinstance(value, list) else tuple(parts)  # a change of kind would count as a key
    return value


def _is_here(url: str) -> bool:
    """On this machine."""
    try:
        host = urlsplit(url if "://" in url else f"http://{url}").hostname or ""
    except ValueError:
        return False
    return host in ("localhost", "::1") or re.fullmatch(r"127(\.\d{1,3}){3}", host) is not None
