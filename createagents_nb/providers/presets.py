"""What is missing for a server of the table, or wrong: its address, and its own key."""

from __future__ import annotations

from ..errors import ConfigurationError, MissingKeyError
from .servers import OPENAI, SERVERS, ServerFacts

__all__ = ["check_key", "missing_address", "missing_key"]


def missing_address(row: ServerFacts) -> ConfigurationError:
    """Return the error for a server whose address each user has to give."""
    return ConfigurationError(
        f"{row.label} has an address of your own: set {row.address_variable}, or pass base_url=…, as in "
        f"https://NAME{row.hosts[0]}{row.address_suffix}"
    )


def missing_key(row: ServerFacts, model: str | None = None) -> MissingKeyError:
    """Return the error for a server that needs a key and got none.

    Args:
        model: names the server before a colon, and may be a model of Ollama's instead.
    """
    command = "%agent key" if row is OPENAI else f"%agent key {row.name}"
    others = "; without one, provider='demo' or a local provider='ollama' work" if row is OPENAI else ""
    if model is not None:
        others = f"; as a model of Ollama's it is 'ollama:{model}'"
    return MissingKeyError(
        f"{row.label} needs a key: `{command}` asks for it in a notebook; else set {_variables(row)} in the "
        f"environment, or pass api_key=…{others}"
    )


def check_key(row: ServerFacts, key: object, url: str) -> None:
    """Check that a server gets its own key, if ``url`` is its own address: a gateway may take any, or none.

    Args:
        key: a string, or anything else that stands for a key that is not known yet; None for none.

    Raises:
        MissingKeyError: it needs a key and there is none.
        ConfigurationError: the key is another server's. The message does not repeat it.
    """
    if not row.is_at(url):
        return
    if not key:
        if row.needs_key:
            raise missing_key(row)
        return
    owner = _owner(key) if isinstance(key, str) else None
    if owner is not None and owner is not row:
        raise ConfigurationError(
            f"This is a key of {owner.label}, and the address is {row.label}'s, so it was not sent. Use "
            f"provider={owner.name!r}, or give {row.label}'s key: {_variables(row)}, or api_key=…"
        )


_OPENAI_MARK = "T3BlbkFJ"
"""A part of each of OpenAI's keys, its name in base64. Source: the rules of https://github.com/gitleaks/gitleaks"""


def _owner(key: str) -> ServerFacts | None:
    """The server whose keys look like this one."""
    if _OPENAI_MARK in key:
        return OPENAI
    return next((row for row in SERVERS.values() if row.key_prefixes and key.startswith(row.key_prefixes)), None)


def _variables(row: ServerFacts) -> str:
    return " or ".join(row.key_variables)
