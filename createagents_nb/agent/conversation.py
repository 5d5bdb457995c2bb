"""A conversation that can be saved: the settings of its agent and its messages, without keys and code."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any
from urllib.parse import urlsplit

from ..core.events import ProviderDetails
from ..core.messages import Message
from ..errors import ConfigurationError
from ..redaction import is_secret_name, mask_keys, mask_known_keys, redact
from ..tools.tool import BaseTool
from .history import History
from .settings import SETTINGS, AgentSettings

__all__ = ["Conversation"]

_MIN_SECRET = 8
"""Shorter keys are placeholders and may be words of the text."""


@dataclass(frozen=True, slots=True)
class Conversation:
    """An agent's settings and its messages, as in a file.

    Attributes:
        settings: the saved ones by name, as JSON has them; ``tools`` are names. Those that are None are left out.
        own_tools: the names of tools that are not built-ins as they come.
        masked: ``config`` or ``base_url``, if a key was left out of it.
        turns: the messages of each turn, oldest first.
    """

    settings: Mapping[str, Any]
    own_tools: tuple[str, ...] = ()
    masked: tuple[str, ...] = ()
    turns: tuple[tuple[Message, ...], ...] = field(default=(), repr=False)

    @classmethod
    def of(cls, settings: AgentSettings, history: History, is_stock: Callable[[BaseTool], bool]) -> Conversation:
        """The conversation of an agent; ``is_stock`` says whether a tool can be made from its name alone."""
        return cls(
            settings.saved(),
            own_tools=tuple(tool.name for tool in settings.tools if not is_stock(tool)),
            turns=tuple(turn.messages for turn in history.turns),
        )

    @property
    def provider(self) -> str:
        return str(self.settings["provider"])

    def without_keys(self, *secrets: str | None) -> Conversation:
        """A copy with ``***`` for the ``secrets``, and for what looks like a key, in the settings.

        Messages stay as they are, but provider details with a key that is in use are left out: they are opaque,
        and would be useless with a part replaced.
        """
        given = [secret for secret in secrets if secret and len(secret) >= _MIN_SECRET]
        masked = {name: _mask_setting(name, value, given) for name, value in self.settings.items()}
        if not masked.get("name", "").strip():
            masked["name"] = "agent"  # a file with a blank one is refused
        return replace(
            self,
            settings=masked,
            masked=tuple(
                name for name in ("config", "base_url") if name in masked and masked[name] != self.settings[name]
            ),
            turns=tuple(tuple(_without_leaks(message, given) for message in turn) for turn in self.turns),
        )

    def tools_with(
        self, given: Sequence[BaseTool], builtins: Mapping[str, Callable[[], BaseTool]]
    ) -> list[BaseTool]:
        """The tools of the conversation, from those ``given`` and the built-ins, followed by the others given.

        Raises:
            ConfigurationError: some are missing; it names them.
        """
        by_name = {tool.name: tool for tool in given}
        names: Sequence[str] = self.settings.get("tools", ())
        own = {*self.own_tools, *(name for name in names if name not in builtins)}
        missing = [name for name in names if name in own and name not in by_name]
        if missing:
            raise ConfigurationError(
                f"This talk had the tools {', '.join(missing)}, and a file holds only their names: "
                f"CreateAgent.load(…, tools=[{', '.join(missing)}])"
            )
        return [
            *(by_name[name] if name in by_name else builtins[name]() for name in names),
            *(tool for tool in given if tool.name not in names),
        ]

    def arguments(self, options: Mapping[str, Any], *, address: str | None) -> dict[str, Any]:
        """Arguments for an agent, without ``tools``: ``options``, and the file's settings that are believed.

        Args:
            options: from the user.
            address: the server that the environment names.

        Raises:
            ConfigurationError: a key was left out of a setting that is needed; or the server is not on this
                machine, and a file must not choose where a key is sent.
        """
        is_elsewhere = not options.keys().isdisjoint({"provider", "client"})  # so the file's address is not meant
        for name in self.masked:
            if name not in options and not (is_elsewhere and name == "base_url"):
                raise ConfigurationError(
                    f"A key stood in {name}, and keys are not saved: give it again, CreateAgent.load(…, {name}=…)"
                )
        base_url = self.settings.get("base_url")
        if is_elsewhere or base_url == address:
            base_url = None
        if base_url is not None and "base_url" not in options and not _is_local(base_url):
            raise ConfigurationError(
                f"This talk was held with the server {base_url!r}. A file cannot say where your key is sent: if "
                f"you trust that server, CreateAgent.load(…, base_url={base_url!r})"
            )
        believed = {
            name: value for name, value in self.settings.items() if SETTINGS[name].believed and name != "tools"
        }
        if "client" in options:
            del believed["provider"]  # the client's
        return {**believed, "base_url": base_url, **options}


def _mask_setting(name: str, value: Any, secrets: Sequence[str]) -> Any:
    if name == "config":
        return {key: _mask_config(part, secrets) for key, part in value.items()}
    if name == "base_url":
        return redact(mask_keys(value), *secrets)
    if name == "instructions":
        for secret in secrets:
            value = value.replace(secret, "***")
        return mask_keys(value)  # text with code in it, so not `redact`
    return value


def _mask_config(value: Any, secrets: Sequence[str], *, is_secret: bool = False) -> Any:
    if isinstance(value, str):
        return "***" if is_secret and value else redact(mask_keys(value), *secrets)
    if isinstance(value, Mapping):
        return {
            _mask_config(key, secrets): _mask_config(part, secrets, is_secret=is_secret or is_secret_name(key))
            for key, part in value.items()
        }
    if isinstance(value, list | tuple):
        parts = [_mask_config(part, secrets, is_secret=is_secret) for part in value]
        return parts if isinstance(value, list) else tuple(parts)  # another type would count as a key left out
    return value


def _without_leaks(message: Message, secrets: Sequence[str]) -> Message:
    def clean(details: ProviderDetails | None) -> ProviderDetails | None:
        return None if details is None or _leaks(details, secrets) else details

    calls = message.tool_calls
    if any(clean(call.provider_details) is not call.provider_details for call in calls):
        calls = tuple(replace(call, provider_details=clean(call.provider_details)) for call in calls)
    details = clean(message.provider_details)
    if calls is message.tool_calls and details is message.provider_details:
        return message
    return replace(message, tool_calls=calls, provider_details=details)


def _leaks(details: ProviderDetails, secrets: Sequence[str]) -> bool:
    return any(
        mask_known_keys(text) != text or any(secret in text for secret in secrets)
        for text in _strings([details.source.server, details.source.model, details.fields])
    )


def _strings(value: Any) -> Iterator[str]:
    """All strings in a JSON value, keys of objects included."""
    waiting = [value]
    while waiting:  # not recursive: a server may nest as deeply as it likes
        part = waiting.pop()
        if isinstance(part, str):
            yield part
        elif isinstance(part, Mapping):
            waiting += [*part, *part.values()]
        elif isinstance(part, Iterable) and not isinstance(part, bytes):
            waiting += part


def _is_local(url: str) -> bool:
    """Whether the address is on this machine."""
    if url.startswith(("unix:", "http+unix:")):
        return True
    try:
        host = urlsplit(url if "://" in url else f"http://{url}").hostname or ""
    except ValueError:
        return False
    return host in ("localhost", "::1") or re.fullmatch(r"127(\.\d{1,3}){3}", host) is not None
