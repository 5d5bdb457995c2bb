"""A probe of the local Ollama and its models: one short request without the adapter."""

from __future__ import annotations

import json
import os
from urllib.parse import urlsplit

__all__ = ["local_models"]

_TIMEOUT_S = 0.3


def local_models() -> list[str]:
    """The models of the Ollama at ``OLLAMA_HOST``, its default first; empty if none answers in 0.3 seconds."""
    host = os.environ.get("OLLAMA_HOST") or "127.0.0.1:11434"
    url = host if "://" in host else f"http://{host}"
    import http.client  # needed only if no provider is named
    import urllib.request

    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        parts = urlsplit(url)
        address = (parts.hostname or "127.0.0.1").replace("0.0.0.0", "127.0.0.1")
        address = f"[{address}]" if ":" in address else address
        port = parts.port or (11434 if "://" not in host else {"https": 443}.get(parts.scheme, 80))
        with opener.open(f"{parts.scheme}://{address}:{port}/api/tags", timeout=_TIMEOUT_S) as reply:
            return [str(entry["name"]) for entry in json.load(reply)["models"]]
    except (OSError, ValueError, KeyError, TypeError, http.client.HTTPException):
        return []  # nothing listens there, or it is not Ollama
