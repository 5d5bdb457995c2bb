"""LLM agents in Jupyter: ``%%agent`` streams into the cell, tools run visibly, every call is a DataFrame row.

    %load_ext createagents_nb

    from createagents_nb import CreateAgent, recorder
    agent = CreateAgent()
    await agent.chat("Hello")
    recorder.calls

Importing this package loads nothing heavy: names are looked up when they are first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from IPython.core.interactiveshell import InteractiveShell

    from .agent.agent import Agent
    from .agent.chat import ChatWithAgentUseCase
    from .agent.response import StreamingResponseDTO
    from .core.provider import ChatRepository, ChatRequest
    from .create_agent import CreateAgent
    from .errors import CreateAgentsError
    from .logging_config import LoggingConfig
    from .metrics import MetricsRecorder, recorder
    from .providers.ollama_adapter import OllamaChatAdapter, OllamaHandler, OllamaStreamHandler
    from .providers.openai_adapter import (
        OpenAIChatAdapter,
        OpenAIHandler,
        OpenAIResponsesAdapter,
        OpenAIStreamHandler,
    )
    from .providers.registry import ProviderSpec
    from .tools.approval import Approval, ApprovalRequest
    from .tools.executor import ToolExecutionResult, ToolExecutor
    from .tools.tool import BaseTool, tool

__version__ = "0.1.0"

__all__ = [
    "Agent",
    "Approval",
    "ApprovalRequest",
    "BaseTool",
    "ChatRepository",
    "ChatRequest",
    "ChatWithAgentUseCase",
    "CreateAgent",
    "CreateAgentsError",
    "LoggingConfig",
    "MetricsRecorder",
    "OllamaChatAdapter",
    "OllamaHandler",
    "OllamaStreamHandler",
    "OpenAIChatAdapter",
    "OpenAIHandler",
    "OpenAIResponsesAdapter",
    "OpenAIStreamHandler",
    "ProviderSpec",
    "StreamingResponseDTO",
    "ToolExecutionResult",
    "ToolExecutor",
    "load_ipython_extension",
    "recorder",
    "tool",
    "unload_ipython_extension",
]

_HOMES = {
    "Agent": "agent.agent",
    "Approval": "tools.approval",
    "ApprovalRequest": "tools.approval",
    "BaseTool": "tools.tool",
    "ChatRepository": "core.provider",
    "ChatRequest": "core.provider",
    "ChatWithAgentUseCase": "agent.chat",
    "CreateAgent": "create_agent",
    "CreateAgentsError": "errors",
    "LoggingConfig": "logging_config",
    "MetricsRecorder": "metrics",
    "OllamaChatAdapter": "providers.ollama_adapter",
    "OllamaHandler": "providers.ollama_adapter",
    "OllamaStreamHandler": "providers.ollama_adapter",
    "OpenAIChatAdapter": "providers.openai_adapter",
    "OpenAIResponsesAdapter": "providers.openai_adapter",
    "OpenAIHandler": "providers.openai_adapter",
    "OpenAIStreamHandler": "providers.openai_adapter",
    "ProviderSpec": "providers.registry",
    "StreamingResponseDTO": "agent.response",
    "ToolExecutionResult": "tools.executor",
    "ToolExecutor": "tools.executor",
    "recorder": "metrics",
    "tool": "tools.tool",
}


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f".{home}", __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


def load_ipython_extension(ipython: InteractiveShell) -> None:
    """``%load_ext createagents_nb``: the magics, and responses that show themselves."""
    from . import notebook

    notebook.load(ipython)


def unload_ipython_extension(ipython: InteractiveShell) -> None:
    """``%unload_ext createagents_nb``."""
    from . import notebook

    notebook.unload(ipython)
