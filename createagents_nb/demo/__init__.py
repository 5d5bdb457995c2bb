"""An embedded server, on loopback only, that speaks the wire formats of OpenAI and of Ollama.

It is what makes the package run without a key and without a model: the demo provider *is* the OpenAI or
Ollama path with this address. Its "model" is canned, deterministic text, and says so.

Example:
    >>> from createagents_nb import demo
    >>> server = demo.start()
    >>> server.openai_url, server.ollama_url, server.models
    ('http://127.0.0.1:40513/v1', 'http://127.0.0.1:40513', ('demo', 'demo-instant', 'demo-thinking'))

For other programs: ``python -m createagents_nb.demo --port 8765``.
"""

from __future__ import annotations

from .server import DemoServer, start

__all__ = ["DemoServer", "start"]
