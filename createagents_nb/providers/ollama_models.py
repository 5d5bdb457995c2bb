"""A probe of the local Ollama and its models: one short request without the adapter."""

from __future__ import annotations

from collections.abc import Mapping

from .ollama_host import DEFAULT_URL, host_in_environment, url_of
from .served_models import fetch_json

__all__ = ["is_ollama_at", "local_models", "models_at"]


def local_models() -> list[str]:
    """The models of the Ollama at ``OLLAMA_HOST``, its default first; empty if none answers in 0.3 seconds."""
    try:
        url = url_of(host_in_environment() or DEFAULT_URL)
    except ValueError:
        return []  # not an address
    return models_at(url)


def models_at(url: str, headers: Mapping[str, str] | None = None) -> list[str]:
    """The models of the Ollama at an address; empty if none answers in 0.3 seconds."""
    try:
        return [str(entry["name"]) for entry in fetch_json(f"{url}/api/tags", headers)["models"]]
    except (OSError, ValueError, KeyError, TypeError):
        return []  # nothing listens there, or it is not Ollama


def is_ollama_at(url: str) -> bool:
    """Whether Ollama answers at an address within 0.3 seconds."""
    try:
        listed = fetch_json(f"{url.rstrip('/')}/api/tags")
        return "models" in listed and "object" not in listed  # llama.cpp has a list in OpenAI's form besides
    except (OSError, ValueError, TypeError):
        return False
