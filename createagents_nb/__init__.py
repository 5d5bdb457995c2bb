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
    from .agent.approval import Approval, ApprovalRequest
    from .agent.chat import ChatWithAgentUseCase
    from .agent.repository import ChatRepository, ChatRequest
    from .agent.stream import StreamingResponseDTO
    from .agent.tool_executor import ToolExecutionResult, ToolExecutor
    from .agent.tools import BaseTool, tool
    from .create_agent import CreateAgent
    from .errors import CreateAgentsError
    from .logging_config import LoggingConfig
    from .metrics import MetricsRecorder, recorder
    from .providers.ollama_adapter import OllamaChatAdapter
    from .providers.ollama_handlers import OllamaHandler, OllamaStreamHandler
    from .providers.openai_adapter import OpenAIChatAdapter
    from .providers.openai_handlers import OpenAIHandler, OpenAIStreamHandler

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
    "OpenAIStreamHandler",
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
    "Approval": "agent.approval",
    "ApprovalRequest": "agent.approval",
    "BaseTool": "agent.tools",
    "ChatRepository": "agent.repository",
    "ChatRequest": "agent.repository",
    "ChatWithAgentUseCase": "agent.chat",
    "CreateAgent": "create_agent",
    "CreateAgentsError": "errors",
    "LoggingConfig": "logging_config",
    "MetricsRecorder": "metrics",
    "OllamaChatAdapter": "providers.ollama_adapter",
    "OllamaHandler": "providers.ollama_handlers",
    "OllamaStreamHandler": "providers.ollama_handlers",
    "OpenAIChatAdapter": "providers.openai_adapter",
    "OpenAIHandler": "providers.openai_handlers",
    "OpenAIStreamHandler": "providers.openai_handlers",
    "StreamingResponseDTO": "agent.stream",
    "ToolExecutionResult": "agent.tool_executor",
    "ToolExecutor": "agent.tool_executor",
    "recorder": "metrics",
    "tool": "agent.tools",
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
