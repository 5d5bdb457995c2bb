"""Tools that ship with the package and may be named by a string: ``tools=["currentdate"]``."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

from ..agent.tools import BaseTool
from .current_date import CurrentDateTool
from .read_local_file import ReadLocalFileTool

__all__ = ["BUILTIN_TOOLS", "CurrentDateTool", "ReadLocalFileTool"]

BUILTIN_TOOLS: Mapping[str, Callable[[], BaseTool]] = MappingProxyType(
    {CurrentDateTool.name: CurrentDateTool, ReadLocalFileTool.name: ReadLocalFileTool}
)
