"""Facts about known servers that speak OpenAI's API: one row per server, each with its source.

A row is found by its name, where the user names it as the provider, else by the host of the address. What no row
knows is learned from refusals, see `createagents_nb.providers.refusals`.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Final
from urllib.parse import urlsplit

from ..redaction import Secret, as_secret
from .wire_format import CallIds

__all__ = ["OPENAI", "SERVERS", "UNKNOWN", "ServerFacts", "facts_of"]

_NOTHING: Mapping[str, Any] = MappingProxyType({})


def _effort(think: bool | str) -> dict[str, Any]:
    return {"reasoning_effort": think if isinstance(think, str) else "medium" if think else "none"}


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerFacts:
    """One server.

    Attributes:
        name: how users name it as a provider.
        label: its name in messages.
        source: the address of the documentation that the facts come from.
        base_url: its address; None where each user has an own one.
        hosts: host names of its addresses; one that begins with a dot stands for all that end in it.
        key_variables: environment variables with its key; the first is the one to tell users.
        address_variable: the environment variable with its address.
        address_suffix: added to an address from that variable that lacks it.
        needs_key: whether it refuses requests without a key.
        key_prefixes: how its keys begin, as far as no other server's do.
        default_model: the model of an agent that names none.
        max_tokens: the field that limits the tokens of an answer.
        stream_usage: whether ``stream_options`` asks for the usage of a stream.
        think: makes fields of the body from ``config["think"]``.
        takes_reasoning: whether Chat Completions takes an object ``reasoning``, as OpenRouter's does.
        reasoning_required: a field that it wants, not empty, on every assistant message.
        foreign_call_fields: fields for tool calls that another server wrote.
        call_ids: which ids of tool calls it takes, see `createagents_nb.providers.wire_format.WireIds`.
        has_responses: whether requests go to the Responses API by default.
        price_provider: its id in genai-prices; None to find it by the host, empty for none.

    Example:
        >>> facts_of(None, "https://api.deepseek.com/v1").name
        'deepseek'
    """

    name: str
    label: str
    source: str
    base_url: str | None
    hosts: tuple[str, ...] = ()
    key_variables: tuple[str, ...] = ()
    address_variable: str | None = None
    address_suffix: str = ""
    needs_key: bool = True
    key_prefixes: tuple[str, ...] = ()
    default_model: str | None = None
    max_tokens: str = "max_tokens"
    stream_usage: bool = True
    think: Callable[[bool | str], Mapping[str, Any]] = _effort
    takes_reasoning: bool = False
    reasoning_required: str | None = None
    foreign_call_fields: Mapping[str, Any] = field(default_factory=lambda: _NOTHING)
    call_ids: CallIds = "usual"
    has_responses: bool = False
    price_provider: str | None = None

    @property
    def key(self) -> Secret | None:
        """The key in the environment, or None."""
        return next(filter(None, (as_secret(os.environ.get(name)) for name in self.key_variables)), None)

    @property
    def address(self) -> Secret | None:
        """The address in the environment, or None."""
        address = as_secret(os.environ.get(self.address_variable or ""))
        if address and self.address_suffix and not address.rstrip("/").endswith(self.address_suffix):
            address = Secret(address.rstrip("/") + self.address_suffix)
        return address or None


OPENAI: Final = ServerFacts(
    name="openai",
    label="OpenAI",
    source="https://platform.openai.com/docs/api-reference",
    base_url="https://api.openai.com/v1",
    hosts=("api.openai.com", ".api.openai.com"),
    key_variables=("OPENAI_API_KEY",),
    address_variable="OPENAI_BASE_URL",
    default_model="gpt-4.1-mini",
    max_tokens="max_completion_tokens",
    has_responses=True,
)

UNKNOWN: Final = ServerFacts(
    name="openai",
    label="",
    source="https://platform.openai.com/docs/api-reference/chat",
    base_url=None,
    needs_key=False,
)
"""What is assumed of a server that no row describes."""

SERVERS: Mapping[str, ServerFacts] = {row.name: row for row in (OPENAI,)}
"""The rows by their names."""


def facts_of(name: str | None, url: str) -> ServerFacts:
    """Return the facts about a server.

    Args:
        name: the provider that the user named; ``"openai"`` stands for any server that speaks its API.
        url: its address.
    """
    if name is not None and name in SERVERS and name != OPENAI.name:
        return SERVERS[name]
    host = urlsplit(url).hostname or ""
    for row in SERVERS.values():
        if any(host.endswith(known) if known.startswith(".") else host == known for known in row.hosts):
            return row
    return UNKNOWN
