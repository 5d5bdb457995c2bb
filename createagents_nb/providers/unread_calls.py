"""Tool calls that a server left in the text, in the model's own markup, and how to make it read them."""

from __future__ import annotations

import re
from collections.abc import Mapping

__all__ = ["unread_calls_notice"]

_MARKUP = re.compile(
    r"(?<!`)(?:<tool_call>\s*(?:[{<]|[\w.-]+\s*<(?:arg_key|/tool_call)>)|<(?:\w+:)?(?:function_calls|tool_call)>\s*<invoke\b"
    r"|\bfunctools\[\s*\{|\[TOOL_CALLS\]\s*[\[{\w]|<\|python_tag\|>\s*[{\w]|<function=\w[\w.-]*>"
    r"|<\|tool_call(?:s_section_begin)?\|>|<｜tool▁calls?▁begin｜>)"
)
"""Hermes' and Qwen's, GLM's, MiniMax', Phi's, Mistral's, Llama's twice, Granite's or Kimi's, DeepSeek's.

Source: https://docs.vllm.ai/en/stable/features/tool_calling/
"""
_CODE = re.compile(
    r"(?ms)^[ \t]*(?P<fence>`{3,}|~{3,})[^\n]*$.*?(?:^[ \t]*(?P=fence)[`~]*[ \t\r]*$|\Z)"
    r"|(?<!`)(?P<ticks>`{1,2})(?!`)[^\n]*?(?<!`)(?P=ticks)(?!`)"
)
"""Code in Markdown, in which a model explains such a markup."""

_LLAMA_CPP = "llama.cpp's server reads calls with --jinja"
_VLLM = "vLLM with --enable-auto-tool-choice --tool-call-parser … (hermes, mistral, llama3_json…)"
_WAYS: Mapping[str, str] = {
    # https://github.com/ggml-org/llama.cpp/blob/master/docs/function-calling.md
    "llamacpp": _LLAMA_CPP,
    "vllm": _VLLM[0].upper() + _VLLM[1:].replace(" with", " reads calls with", 1),
    # https://docs.sglang.io/advanced_features/tool_parser.html
    "sglang": "SGLang reads calls with --tool-call-parser … (qwen25, mistral, llama3…)",
    # https://ollama.com/search?c=tools
    "ollama": "The model's template in Ollama may have no tools: `ollama show` lists what a model can do",
}


def unread_calls_notice(text: str, provider: str) -> str | None:
    """Return a line for the user if a call was left in the text of a reply; None if not.

    Args:
        text: of a reply without calls, to a request with tools.
        provider: as in the records.
    """
    if not _MARKUP.search(_CODE.sub(" ", text)):
        return None
    way = _WAYS.get(provider, f"{_LLAMA_CPP}, {_VLLM}")
    return f"The server left a tool call in the text, and no tool was run. {way}"
