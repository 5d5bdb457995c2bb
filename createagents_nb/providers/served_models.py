"""The models that a server at home serves, asked without an event loop: one short request, never by a proxy."""

from __future__ import annotations

import json
import socket
from collections.abc import Mapping
from contextlib import closing
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from .local_server import root_of
from .sockets import http_url, socket_path
from .transport import MAX_ERROR_BYTES

if TYPE_CHECKING:
    import http.client

__all__ = ["RefusedError", "fetch_json", "served_models"]

_PROBE_S = 0.3
_ASK_S = 2.0
_MAX_BYTES = 4 * 2**20


class RefusedError(ValueError):
    """A reply without success.

    Attributes:
        status: of HTTP.
        body: the first bytes of it.
    """

    def __init__(self, status: int, body: bytes) -> None:
        super().__init__(f"status {status}")
        self.status, self.body = status, body


def served_models(url: str, headers: Mapping[str, str], query: str = "") -> list[str] | None:
    """Return the models of a server that speaks OpenAI's API; None if none answers, or in another way.

    Those that are loaded count alone, where the server says which (llama.cpp's router, LM Studio).

    Args:
        url: the base address.
        headers: sent with the request.
        query: appended, without the question mark.

    Raises:
        RefusedError: it refuses to say.
    """
    ending = f"?{query}" if query else ""
    try:
        states = _states(fetch_json(f"{url}/models{ending}", headers, _ASK_S))
    except RefusedError:
        raise
    except (OSError, ValueError):
        return None
    if states is None or len(states) < 2:
        return None if states is None else list(states)
    loaded = [name for name, state in states.items() if isinstance(state, dict) and state.get("value") == "loaded"]
    return loaded or _loaded_in_lm_studio(url, headers) or list(states)


def _states(listed: Any) -> dict[str, Any] | None:
    """Return the models of a list in any form that servers send, each once, with its status; None for no list."""
    if isinstance(listed, dict):
        listed = listed.get("data") or listed.get("models", listed.get("data"))
    if not isinstance(listed, list):
        return None
    states: dict[str, Any] = {}
    for entry in listed:
        fields = entry if isinstance(entry, dict) else {"id": entry}
        name = next((name for key in ("id", "name", "model") if (name := fields.get(key))), None)
        if isinstance(name, str | int):
            states.setdefault(str(name), fields.get("status"))
    return states


def _loaded_in_lm_studio(url: str, headers: Mapping[str, str]) -> list[str]:
    try:
        entries = fetch_json(f"{root_of(url)}/api/v0/models", headers, _PROBE_S)["data"]
        return [
            str(entry["id"])
            for entry in entries
            if entry.get("state") == "loaded" and entry.get("type") != "embeddings"
        ]
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return []


def fetch_json(url: str, headers: Mapping[str, str] | None = None, timeout_s: float = _PROBE_S) -> Any:
    """Return the JSON at an address.

    Args:
        timeout_s: limit for each wait, in seconds.

    Raises:
        OSError: nothing answers there.
        RefusedError: the answer has no status of success.
        ValueError: it is no JSON.
    """
    import http.client

    parts = urlsplit(http_url(url))
    path = f"{parts.path or '/'}{'?' if parts.query else ''}{parts.query}"
    sent = {name: str.__str__(value) for name, value in (headers or {}).items()}
    try:
        with closing(_connection(url, timeout_s)) as connection:
            connection.request("GET", path, headers=sent)
            reply = connection.getresponse()
            body = reply.read(_MAX_BYTES)
    except http.client.HTTPException as error:
        raise ValueError(f"no HTTP: {type(error).__name__}") from None
    if not 200 <= reply.status < 300:
        raise RefusedError(reply.status, body[:MAX_ERROR_BYTES])
    return json.loads(body)


def _connection(url: str, timeout_s: float) -> http.client.HTTPConnection:
    import http.client

    parts = urlsplit(http_url(url))
    file = socket_path(url)
    if parts.scheme == "https":
        from .http_client import tls_context

        return http.client.HTTPSConnection(
            parts.hostname or "", parts.port, timeout=timeout_s, context=tls_context()
        )
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=timeout_s)
    if file is not None:
        connection.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        connection.sock.settimeout(timeout_s)
        connection.sock.connect(file)
    return connection
