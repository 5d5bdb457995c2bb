"""An embedded server on loopback that speaks the wire formats of OpenAI and Ollama.

It lets the package run without a key or a model: the demo provider is the OpenAI provider with this address. Its
"model" returns canned, deterministic text, and says so.

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
